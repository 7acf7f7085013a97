# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.
"""The shards into which InfluxDB cuts the time of a bucket. No I/O."""

from typing import Any

_HOUR = 3600
_DAY = 24 * _HOUR

# Durations of shards, seconds.
_SHARD_DURATIONS = (_HOUR, 6 * _HOUR, _DAY, 7 * _DAY, 28 * _DAY, 84 * _DAY)

#: How many shards a bucket may have. A read without bounds opens every shard,
#: 0.1 ms each, so there should not be hundreds; whole shards expire, so there
#: should not be three. Of a policy that has several buckets each has few: a
#: series takes 0.6 KB of the server's memory in each shard, and a shard some
#: ten open files.
MANY = 60
FEW = 14

_YEAR_1_TO_1970 = 62135596800  # s


def duration(seconds: int, most: int = MANY) -> int:
    """Seconds that a shard of a bucket should span.

    :param seconds: the bucket's retention, 0 for infinite.
    :param most: how many shards it may have.
    """
    for duration in _SHARD_DURATIONS:
        if seconds and seconds <= duration * most:
            return duration
    return _SHARD_DURATIONS[-1]


def starts(times: Any, duration: int) -> Any:
    """Start of the shard that each time falls into.

    InfluxDB cuts time from year 1 on, as Go's time.Truncate does
    (RetentionPolicyInfo.CreateShardGroup of its source).

    :param times: int64 array, ns since 1970.
    :param duration: of the shards, seconds.
    :return: int64 array, seconds since year 1.
    """
    seconds = times // 10**9 + _YEAR_1_TO_1970
    return seconds // duration * duration


def bounds(times: Any, duration: int) -> list[int]:
    """Positions at which sorted times enter another shard.

    :param times: int64 array, ns since 1970, sorted, not empty.
    :param duration: of the shards, seconds.
    :return: 0, those positions, and the number of times.
    """
    shard = starts(times, duration)
    changes = (shard[1:] != shard[:-1]).nonzero()[0] + 1
    return [0, *changes.tolist(), len(times)]


def span(time: int, duration: int) -> tuple[int, int]:
    """Start and end of the shard that a time falls into.

    :param time: ns since 1970.
    :param duration: of the shards, seconds.
    :return: seconds since 1970.
    """
    start = int(starts(time, duration)) - _YEAR_1_TO_1970
    return start, start + duration
