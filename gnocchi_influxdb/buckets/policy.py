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
"""The bucket that an archive policy asks for: its name and retention."""

import dataclasses
import hashlib
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from gnocchi_influxdb import schema
from gnocchi_influxdb.buckets import shards

_HOUR = 3600

#: What InfluxDB's time.Duration can hold, in seconds. One of the releases
#: answers 500 to more, and wraps silently far beyond.
_LONGEST_RETENTION = 9223372036
_SHORTEST_RETENTION = _HOUR

_LONGEST_NAME = 255  # of a retention policy

_UNSAFE = re.compile(rb"[^A-Za-z0-9_.-]")


@dataclasses.dataclass(frozen=True, slots=True)
class PolicyBucket:
    """The bucket that an archive policy asks for.

    :ivar policy: name of the archive policy.
    :ivar name: of the bucket.
    :ivar retention: seconds, 0 for ever.
    """

    policy: str
    name: str
    retention: int

    @property
    def shard_duration(self) -> int:
        """Seconds that a shard should span."""
        return shards.duration(self.retention)


class Bucket(NamedTuple):
    """A bucket as the server describes it; durations in seconds.

    A `retention` of 0 is infinite. The `id` of a retention policy is its
    name; a bucket of InfluxDB 2.x has one copy of each point.
    """

    id: str
    name: str
    retention: int
    shard_duration: int
    replication: int = 1


def name(prefix: str, policy: str) -> str:
    """Name of the bucket of an archive policy.

    What is not a letter, a digit or one of ``_.-`` becomes ``%`` and its
    UTF-8 bytes in hexadecimal, so that different policies never share a
    bucket. The end of a name that is too long for InfluxDB 1.x becomes ``%``
    and the SHA-256 of the policy's name.
    """
    escaped = _UNSAFE.sub(
        lambda match: b"%%%02X" % ord(match.group()),
        policy.encode("utf-8", "surrogatepass"),
    ).decode()
    if not prefix and escaped.startswith("_"):
        # InfluxDB keeps such names for itself.
        escaped = "%5F" + escaped[1:]
    elif "/" in prefix:
        return _policy_name(prefix, policy, escaped)
    return prefix + escaped


def _policy_name(prefix: str, policy: str, escaped: str) -> str:
    # The name of a retention policy is that of a directory.
    database, _, start = prefix.partition("/")
    name = start + escaped
    if not name.strip("."):
        name = name.replace(".", "%2E") or "%"
    if len(name) > _LONGEST_NAME:
        digest = hashlib.sha256(policy.encode("utf-8", "surrogatepass"))
        kept = _LONGEST_NAME - 1 - 2 * digest.digest_size
        name = f"{name[:kept]}%{digest.hexdigest()}"
    return f"{database}/{name}"


def retention(definition: Iterable[Any]) -> int:
    """Seconds that the points of an archive policy are kept, 0 for ever.

    The longest timespan, and the coarsest granularity for the window that
    has begun to fall out of it.

    :param definition: items with `timespan`, `granularity`
        (numpy.timedelta64; a timespan of None is infinite) and `points`.
    """
    longest = coarsest = 0
    for item in definition:
        if item.timespan is None:
            return 0
        granularity = schema.ns_of(item.granularity)
        # The timespan is 64 bits wide and may have overflown.
        longest = max(longest, granularity * item.points)
        coarsest = max(coarsest, granularity)
    seconds = -(-(longest + coarsest) // 10**9)
    if seconds > _LONGEST_RETENTION:
        return 0
    return max(seconds, _SHORTEST_RETENTION)


def longer(one: int, other: int) -> bool:
    """Whether a retention (seconds) is longer than another; 0: for ever."""
    return other != 0 and (one == 0 or one > other)


def spelled(seconds: int) -> str:
    """A retention (seconds), to be read in a message."""
    return f"{seconds} s" if seconds else "for ever"
