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
"""An archive policy is a bucket.

Its name is a prefix and the policy's name, its retention the policy's longest
timespan, and it is made when the first measure for the policy arrives.
"""

import logging
import re
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from gnocchi_influxdb import aggregates, exceptions, shards
from gnocchi_influxdb import client as influxdb_client

LOG = logging.getLogger(__name__)

_HOUR = 3600

#: What InfluxDB's time.Duration can hold, in seconds. One of the releases
#: answers 500 to more, and wraps silently far beyond.
_LONGEST_RETENTION = 9223372036
_SHORTEST_RETENTION = _HOUR

#: Seconds after which a bucket that is known is looked at again. InfluxDB
#: has no way to change one only if it is as it was seen, so a process with an
#: older definition may undo what another has just lengthened; InfluxDB looks
#: every 30 minutes for what has expired.
LOOK_AGAIN = 600
_LENGTHEN_TRIES = 3

_UNSAFE = re.compile(rb"[^A-Za-z0-9_.-]")


class Bucket(NamedTuple):
    """A bucket as the server describes it; durations in seconds.

    A `retention` of 0 is infinite.
    """

    id: str
    name: str
    retention: int
    shard_duration: int


class _Known(NamedTuple):
    retention: int
    seen: float


def name(prefix: str, policy: str) -> str:
    """Name of the bucket of an archive policy.

    What is not a letter, a digit or one of ``_.-`` becomes ``%`` and its
    UTF-8 bytes in hexadecimal, so that different policies never share a
    bucket.
    """
    escaped = _UNSAFE.sub(
        lambda match: b"%%%02X" % ord(match.group()),
        policy.encode("utf-8", "surrogatepass"),
    ).decode()
    if not prefix and escaped.startswith("_"):
        # InfluxDB keeps such names for itself.
        escaped = "%5F" + escaped[1:]
    return prefix + escaped


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
        granularity = aggregates.ns_of(item.granularity)
        # The timespan is 64 bits wide and may have overflown.
        longest = max(longest, granularity * item.points)
        coarsest = max(coarsest, granularity)
    seconds = -(-(longest + coarsest) // 10**9)
    if seconds > _LONGEST_RETENTION:
        return 0
    return max(seconds, _SHORTEST_RETENTION)


def longer(one: int, other: int) -> bool:
    """Whether a retention is longer than another; 0 is infinite."""
    return other != 0 and (one == 0 or one > other)


class Buckets:
    """The buckets of one server, made and kept up as policies need them."""

    def __init__(
        self, client: influxdb_client.Client, prefix: str, expire: bool
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._expire = expire
        # No lock: it would have to be held while the server is asked, and
        # when that does not answer one would wait for all the others. Making
        # a bucket twice is harmless.
        self._known: dict[str, _Known] = {}

    def name(self, policy: Any) -> str:
        """Name of the bucket of an archive policy."""
        return name(self._prefix, policy.name)

    def retention(self, policy: Any) -> int:
        """Retention that the bucket of an archive policy should have."""
        return retention(policy.definition) if self._expire else 0

    def forget(self, bucket: str) -> None:
        """Look at the bucket again before the next write to it."""
        self._known.pop(bucket, None)

    def ensure(self, policy: Any) -> str:
        """See that the policy's bucket is there and keeps enough.

        A bucket that keeps points for longer than the policy asks is left as
        it is: another process may know a newer definition than this one.

        :return: its name.
        :raises AccessError: it is not there and the token may not make it.
        """
        bucket = self.name(policy)
        wanted = self.retention(policy)
        known = self._known.get(bucket)
        if (
            known is None
            or longer(wanted, known.retention)
            or time.monotonic() - known.seen >= LOOK_AGAIN
        ):
            if known is not None and not longer(wanted, known.retention):
                # Other threads need not look, too.
                self._remember(bucket, known.retention)
            try:
                self._remember(bucket, self._bring_about(bucket, wanted))
            except BaseException:
                self.forget(bucket)
                raise
        return bucket

    def _remember(self, bucket: str, retention: int) -> None:
        self._known[bucket] = _Known(retention, time.monotonic())

    def _bring_about(self, bucket: str, wanted: int) -> int:
        """Make or lengthen a bucket.

        :return: the retention to be content with until the next look.
        """
        found = self.find(bucket)
        if found is None:
            found = self._create(bucket, wanted)
        tries = _LENGTHEN_TRIES
        while found is not None and longer(wanted, found.retention) and tries:
            tries -= 1
            if not self._lengthen(found, wanted):
                break
            # Somebody else may have changed it at the same moment.
            found = self.find(bucket)
        if found is None or longer(wanted, found.retention):
            return wanted
        return found.retention

    def find(self, bucket: str) -> Bucket | None:
        """The bucket of that name, if there is one that the token may see."""
        # A token may see buckets of other organizations, of the same name.
        try:
            found = self._client.get_json(
                "buckets", name=bucket, org=self._client.org
            ).get("buckets")
        except exceptions.BucketNotFoundError:
            return None
        if not found:
            return None
        rules = found[0].get("retentionRules") or [{}]
        return Bucket(
            id=found[0]["id"],
            name=found[0]["name"],
            retention=int(rules[0].get("everySeconds") or 0),
            shard_duration=int(rules[0].get("shardGroupDurationSeconds") or 0),
        )

    def _create(self, bucket: str, wanted: int) -> Bucket | None:
        try:
            self._client.send_json(
                "POST",
                "buckets",
                {
                    "orgID": self._client.org_id(),
                    "name": bucket,
                    "description": "Measures of a Gnocchi archive policy",
                    "retentionRules": _rules(wanted),
                },
            )
        except exceptions.RefusedError as e:
            if e.status != 422:
                raise
            # Another process was faster, with a definition that may be
            # another.
            found = self.find(bucket)
            if found is None:
                raise
            return found
        except exceptions.AccessError:
            # It may be one that the token can write to and not see.
            self._require_by_hand(bucket, wanted)
        else:
            LOG.info(
                "Made bucket %s in %s, retention %s",
                bucket,
                self._client,
                _spelled(wanted),
            )
        return None

    def _require_by_hand(self, bucket: str, wanted: int) -> None:
        try:
            self._client.probe(bucket)
        except (
            exceptions.AccessError,
            exceptions.BucketNotFoundError,
        ):
            raise exceptions.AccessError(
                f"InfluxDB at {self._client.url} has no bucket {bucket!r}"
                " that the token in [storage] influxdb_token may write to,"
                " and the token may not make one. Make it with: influx"
                f" bucket create --org {self._client.org} --name {bucket}"
                f" --retention {wanted}s --shard-group-duration"
                f" {shards.duration(wanted)}s; and let the token read and"
                " write it"
            ) from None

    def _lengthen(self, found: Bucket, wanted: int) -> bool:
        try:
            # A change keeps what it does not name, the shards' duration too.
            self._client.send_json(
                "PATCH",
                f"buckets/{found.id}",
                {"retentionRules": _rules(wanted)},
            )
        except (exceptions.AccessError, exceptions.RefusedError) as e:
            LOG.warning(
                "Bucket %s keeps its points for %s, its archive policy asks"
                " for %s, and that can't be changed: %s. Change it with:"
                " influx bucket update --id %s --retention %ds"
                " --shard-group-duration %ds",
                found.name,
                _spelled(found.retention),
                _spelled(wanted),
                e,
                found.id,
                wanted,
                shards.duration(wanted),
            )
            return False
        LOG.info(
            "Bucket %s of %s now keeps its points for %s",
            found.name,
            self._client,
            _spelled(wanted),
        )
        return True


def _rules(seconds: int) -> list[dict[str, Any]]:
    return [
        {
            "type": "expire",
            "everySeconds": seconds,
            "shardGroupDurationSeconds": shards.duration(seconds),
        }
    ]


def _spelled(seconds: int) -> str:
    return f"{seconds} s" if seconds else "for ever"
