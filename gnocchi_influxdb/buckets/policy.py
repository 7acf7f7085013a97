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
"""The buckets that an archive policy asks for: their names and retention.

One bucket holds the points. Where there is downsampling, each definition but
the finest has a bucket of its own for its windows, and points expire after
the finest definition's timespan.
"""

import dataclasses
import functools
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
    """A bucket that an archive policy asks for.

    :ivar policy: name of the archive policy.
    :ivar name: of the bucket.
    :ivar retention: seconds, 0 for ever.
    :ivar every: length of the windows that it holds, ns; 0: points.
    :ivar shards: how many it may have.
    """

    policy: str
    name: str
    retention: int
    every: int = 0
    shards: int = shards.MANY

    @property
    def shard_duration(self) -> int:
        """Seconds that a shard should span."""
        return shards.duration(self.retention, self.shards)

    @property
    def description(self) -> str:
        """What InfluxDB shows beside its name."""
        if self.every:
            return "Downsampled windows of a Gnocchi archive policy"
        return "Measures of a Gnocchi archive policy"


class Lengthened(NamedTuple):
    """That points are not there for all of a bucket's retention.

    :ivar before: the retention (s, 0: for ever) to go back to when windows
        are no longer overdue.
    :ivar lengthened: the retention that this is about, s.
    :ivar complete: no point is missing from then on, ns since the epoch.
    :ivar since: when that was found, ns.
    """

    before: int
    lengthened: int
    complete: int
    since: int


@dataclasses.dataclass(frozen=True, slots=True)
class PolicyBuckets:
    """All buckets that an archive policy asks for.

    :ivar points: the bucket of its points.
    :ivar windows: of the definitions that metricd downsamples, the finest
        first; empty for a policy with one definition or where there is no
        downsampling.
    :ivar moved: of the finest definition's windows. Only a migration makes
        it, for what there was before it.
    :ivar taken: the age (ns) from which on measures are too old; 0: the
        server may decide.
    :ivar rates: whether a window needs the points of the one before.
    """

    points: PolicyBucket
    windows: tuple[PolicyBucket, ...]
    moved: PolicyBucket
    taken: int
    rates: bool = False

    def oldest_taken(self, now: int, note: Lengthened | None) -> int:
        """Time (ns) from which on windows of measures can be computed.

        :param now: ns since the epoch.
        :param note: about the bucket of points as it is.
        """
        age = self.taken
        if not note or not self.windows:
            return now - age if age else 0
        # As long as points are kept for longer, measures may be older, too.
        age += max(note.lengthened - self.points.retention, 0) * schema.SECOND
        every = max(one.every for one in self.windows)
        whole = schema.ceil(note.complete, every) + every * self.rates
        return max(now - age if self.taken else 0, whole)


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


def name(prefix: str, policy: str, suffix: str = "") -> str:
    """Name of the bucket of an archive policy.

    What is not a letter, a digit or one of ``_.-`` becomes ``%`` and its
    UTF-8 bytes in hexadecimal, so that different policies never share a
    bucket. The end of a name that is too long for InfluxDB 1.x becomes ``%``
    and the SHA-256 of the policy's name.

    :param suffix: what follows the policy's name.
    """
    escaped = _UNSAFE.sub(
        lambda match: b"%%%02X" % ord(match.group()),
        policy.encode("utf-8", "surrogatepass"),
    ).decode()
    if not prefix and escaped.startswith("_"):
        # InfluxDB keeps such names for itself.
        escaped = "%5F" + escaped[1:]
    elif "/" in prefix:
        return _policy_name(prefix, policy, escaped, suffix)
    return prefix + escaped + suffix


def _policy_name(prefix: str, policy: str, escaped: str, suffix: str) -> str:
    # The name of a retention policy is that of a directory.
    database, _, start = prefix.partition("/")
    name = start + escaped
    if not name.strip("."):
        name = name.replace(".", "%2E") or "%"
    if len(name) + len(suffix) > _LONGEST_NAME:
        digest = hashlib.sha256(policy.encode("utf-8", "surrogatepass"))
        kept = _LONGEST_NAME - 1 - 2 * digest.digest_size - len(suffix)
        name = f"{name[:kept]}%{digest.hexdigest()}"
    return f"{database}/{name}{suffix}"


def downsampled_name(prefix: str, policy: str, every: int) -> str:
    """Name of the bucket of a definition.

    No policy's bucket has it: their names have no ``@``.

    :param every: length of the windows, ns.
    """
    seconds = f"{every // schema.SECOND}.{every % schema.SECOND:09d}"
    return name(prefix, policy, f"@{seconds.rstrip('0').rstrip('.')}s")


def retention(definition: Iterable[Any]) -> int:
    """Seconds that the values of some definitions are kept, 0 for ever.

    The longest timespan, and the coarsest granularity for the window that
    has begun to fall out of it.

    :param definition: items with `timespan`, `granularity`
        (numpy.timedelta64; a timespan of None is infinite) and `points`.
    """
    longest = coarsest = 0
    for item in definition:
        if item.timespan is None:
            return 0
        longest = max(longest, timespan(item))
        coarsest = max(coarsest, schema.ns_of(item.granularity))
    return _storable(longest + coarsest)


class Definition(NamedTuple):
    """What of a definition its bucket depends on.

    :ivar granularity: ns.
    :ivar points: number of windows.
    :ivar timespan: None is infinite.
    """

    granularity: int
    points: int
    timespan: Any


def definitions(policy: Any) -> tuple[Definition, ...]:
    """The definitions of an archive policy, the finest first."""
    return tuple(
        sorted(
            Definition(
                schema.ns_of(item.granularity),
                int(item.points or 0),
                item.timespan,
            )
            for item in policy.definition
        )
    )


@functools.lru_cache(maxsize=4096)
def buckets(
    prefix: str,
    policy: str,
    definition: tuple[Definition, ...],
    rates: bool,
    expire: bool,
    slack: int | None,
) -> PolicyBuckets:
    """The buckets that an archive policy asks for.

    A window can be computed while its points are there and, for a rate, those
    of the window before it. Half of `slack` is for measures that are late,
    the other half to compute their windows once more.

    :param definition: the finest first.
    :param rates: whether the policy has any.
    :param expire: whether anything expires.
    :param slack: s; None: there is no downsampling.
    """
    windows = [
        PolicyBucket(
            policy,
            downsampled_name(prefix, policy, item.granularity),
            retention([item]) if expire else 0,
            item.granularity,
            shards.FEW,
        )
        for item in definition
    ]
    points = PolicyBucket(
        policy, name(prefix, policy), retention(definition) if expire else 0
    )
    moved, *coarser = windows
    if slack is None or not coarser:
        return PolicyBuckets(points, (), moved, 0)
    finest, coarsest = definition[0], definition[-1]
    kept = taken = 0
    if expire and finest.timespan is not None:
        reach = coarsest.granularity * (2 if rates else 1)
        kept = _storable(timespan(finest) + reach + slack * schema.SECOND)
        taken = timespan(finest) + slack * schema.SECOND // 2 if kept else 0
    points = dataclasses.replace(points, retention=kept, shards=shards.FEW)
    return PolicyBuckets(points, tuple(coarser), moved, taken, rates)


def timespan(item: Any) -> int:
    """Timespan of a definition that has one, ns."""
    # As timedelta64 it is 64 bits wide and may have overflown.
    return schema.ns_of(item.granularity) * int(item.points)


def _storable(ns: int) -> int:
    seconds = -(-ns // schema.SECOND)
    if seconds > _LONGEST_RETENTION:
        return 0
    return max(seconds, _SHORTEST_RETENTION)


def longer(one: int, other: int) -> bool:
    """Whether a retention (seconds) is longer than another; 0: for ever."""
    return other != 0 and (one == 0 or one > other)


def spelled(seconds: int) -> str:
    """A retention (seconds), to be read in a message."""
    return f"{seconds} s" if seconds else "for ever"
