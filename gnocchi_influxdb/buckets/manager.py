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
"""An archive policy is a bucket of points, or on InfluxDB 1.x a retention
policy; and each of its definitions but the finest one of downsampled windows.

Their names are a prefix, the policy's name and, for windows, their length; and
they are made when the first measure for the policy arrives.
"""

import time
from typing import Any, NamedTuple

import daiquiri

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets import policy as policies
from gnocchi_influxdb.buckets import visibility
from gnocchi_influxdb.buckets.api_1x import RetentionPolicyAPI
from gnocchi_influxdb.buckets.api_2x import BucketAPI
from gnocchi_influxdb.buckets.overdue import Overdue
from gnocchi_influxdb.buckets.policy import (
    Bucket,
    Lengthened,
    PolicyBucket,
    PolicyBuckets,
    longer,
    spelled,
)
from gnocchi_influxdb.buckets.watermark import Watermarks
from gnocchi_influxdb.client.client import Client

__all__ = ["LOOK_AGAIN", "Bucket", "Buckets"]

LOG = daiquiri.getLogger(__name__)

#: Seconds after which a bucket that is known is looked at again. InfluxDB
#: has no way to change one only if it is as it was seen, so a process with an
#: older definition may undo what another has just lengthened; InfluxDB looks
#: every 30 minutes for what has expired.
LOOK_AGAIN = 600
_LENGTHEN_TRIES = 3


class _Known(NamedTuple):
    retention: int
    seen: float
    note: Lengthened | None = None


class Buckets:
    """The buckets of one server, made and kept up as policies need them.

    Threads may share it.

    :param conf: the group of options that the client was made with.
    :ivar client: of the server.
    :ivar prefix: of the names of buckets.
    :ivar server: the API that the server has for them.
    :ivar watermarks: how far they are downsampled.
    :ivar overdue: whether that is far enough.
    """

    def __init__(self, client: Client, conf: Any) -> None:
        self.client = client
        self.prefix: str = conf.influxdb_bucket_prefix
        self._expire: bool = conf.influxdb_retention
        self._slack: int | None = None
        if conf.influxdb_downsampling:
            self._slack = conf.influxdb_raw_slack
        self.server: BucketAPI | RetentionPolicyAPI
        if client.capabilities.buckets:
            self.server = BucketAPI(client)
        else:
            self.server = RetentionPolicyAPI(client)
        self.watermarks = Watermarks(client)
        self.overdue = Overdue(
            self.server,
            self.watermarks,
            client.clock,
            conf.influxdb_raw_slack,
        )
        # No lock: all would wait while the server is asked and does not
        # answer. Making a bucket twice is harmless.
        self._known: dict[str, _Known] = {}
        # By name of a policy: its definition, whether copies may lag, and the
        # buckets that these ask for.
        self._asked: dict[str, tuple[Any, bool, PolicyBuckets]] = {}
        self._told: set[str] = set()

    def all_of(self, policy: Any) -> PolicyBuckets:
        """The buckets that an archive policy asks for."""
        # A cluster does not downsample: its copies may differ for a while, and
        # a window that was computed from one that is behind would stay.
        self.client.identify()
        lags = self.client.capabilities.may_lag
        definition = policy.definition
        asked = self._asked.get(policy.name)
        # Each write asks several times, of the same object; it takes 20 us.
        if asked is None or asked[0] is not definition or asked[1] != lags:
            wanted = policies.buckets(
                self.prefix,
                policy.name,
                policies.definitions(policy),
                any(m.startswith("rate:") for m in policy.aggregation_methods),
                self._expire,
                None if lags else self._slack,
            )
            asked = definition, lags, wanted
            self._asked[policy.name] = asked
        return asked[2]

    def of(self, policy: Any) -> PolicyBucket:
        """The bucket of points that an archive policy asks for."""
        return self.all_of(policy).points

    def downsampled(self, policy: Any) -> tuple[PolicyBucket, ...]:
        """The buckets of windows that metricd fills."""
        return self.all_of(policy).windows

    def name(self, policy: Any) -> str:
        """Name of the bucket of points of an archive policy."""
        return policies.name(self.prefix, policy.name)

    def names(self, policy: Any) -> list[str]:
        """Names of all buckets in which a policy may have something.

        :return: that of its points first, then of windows of each of its
            definitions, whether there is downsampling now or not.
        """
        return [
            self.name(policy),
            *(
                policies.downsampled_name(
                    self.prefix, policy.name, schema.ns_of(item.granularity)
                )
                for item in policy.definition
            ),
        ]

    def oldest_taken(self, policy: Any) -> int:
        """Time (ns) from which on measures are taken.

        :return: 0: the server may decide. Does no I/O.
        """
        known = self._known.get(self.name(policy))
        now = self.client.clock.now_ns()
        return self.all_of(policy).oldest_taken(now, known and known.note)

    def points_since(self, policy: Any, margin: int) -> int:
        """Time (ns) from which on no point is missing. Does no I/O.

        :param margin: none will expire for so long, ns.
        :return: 0: none ever expires.
        """
        known = self._known.get(self.name(policy))
        kept = known.retention if known else self.of(policy).retention
        since = known.note.complete if known and known.note else 0
        if not kept:
            return since
        now = self.client.clock.now_ns()
        return max(now - kept * schema.SECOND + margin, since)

    def forget(self, bucket: str) -> None:
        """Look at the bucket again before the next write to it."""
        self._known.pop(bucket, None)

    def ensure(self, policy: Any) -> str:
        """Make sure that the policy's buckets are there and keep enough.

        A bucket that keeps points for longer than the policy asks is left as
        it is: another process may know a newer definition than this one.

        :return: name of the bucket of points.
        :raises AccessError: it is not there and the token may not make it.
        """
        wanted = self.of(policy)
        if self._is_due(wanted):
            downsampled = self.downsampled(policy)
            for one in downsampled:
                self._ensure_downsampled(one)
            wanted = self.overdue.lengthened(wanted, downsampled)
            self._ensure(wanted, noted=bool(downsampled))
        return wanted.name

    def ensure_moved(self, policy: Any) -> None:
        """Make sure that there is the bucket that a migration fills.

        :raises AccessError: it is not there and the token may not make it.
        """
        self._ensure(self.all_of(policy).moved)

    def _ensure_downsampled(self, wanted: PolicyBucket) -> None:
        # Points are worth more: they are there until they expire.
        try:
            self._ensure(wanted)
        except exceptions.OF_ONE_BUCKET as e:
            if wanted.name not in self._told:
                self._told.add(wanted.name)
                text = "Archive policy %s can't be downsampled, and its points"
                LOG.error(text + " expire: %s", wanted.policy, e)

    def _is_due(self, wanted: PolicyBucket) -> bool:
        known = self._known.get(wanted.name)
        return (
            known is None
            or longer(wanted.retention, known.retention)
            or time.monotonic() - known.seen >= LOOK_AGAIN
        )

    def _ensure(self, wanted: PolicyBucket, noted: bool = False) -> None:
        known = self._known.get(wanted.name)
        # Other threads need not look, too.
        if known and not longer(wanted.retention, known.retention):
            self._known[wanted.name] = known._replace(seen=time.monotonic())
        try:
            retention = self._bring_about(wanted)
            note = noted and self.overdue.seen(wanted.name, retention)
            seen = time.monotonic()
            self._known[wanted.name] = _Known(retention, seen, note or None)
        except BaseException:
            self.forget(wanted.name)
            raise

    def shorten(self, policy: Any) -> None:
        """Take back what was done while windows were overdue, if one may."""
        found = self.find(self.name(policy))
        before = found and self.overdue.take_back(self.of(policy), found)
        if found and before and self._change(found, before):
            self.forget(found.name)

    def find(self, bucket: str) -> Bucket | None:
        """The bucket of that name, None if the token sees none."""
        return self.server.find(bucket)

    def _bring_about(self, wanted: PolicyBucket) -> int:
        """Make or lengthen a bucket.

        :return: retention to remember until the next look, seconds (0: for
            ever): the wanted one, too, if the bucket stays shorter.
        """
        found = self._find_or_make(wanted)
        for _ in range(_LENGTHEN_TRIES):
            if (
                found is None
                or not longer(wanted.retention, found.retention)
                or not self._change(found, wanted)
            ):
                break
            # Somebody else may have changed it at the same moment.
            found = self.find(wanted.name)
        if found is None or longer(wanted.retention, found.retention):
            return wanted.retention
        return found.retention

    def _find_or_make(self, wanted: PolicyBucket) -> Bucket | None:
        """The bucket as it was found; None: it is as it should be."""
        try:
            return self.find(wanted.name) or self.server.make(wanted)
        except exceptions.AccessError as e:
            # It may be one that the token can write to and not see.
            if visibility.takes_writes(self.client, wanted.name):
                return None
            raise exceptions.ForbiddenError(
                f"InfluxDB at {self.client.url} has no bucket {wanted.name!r}"
                " that the token in [storage] influxdb_token may write to,"
                f" and the token may not make one: {e}. Make it with:"
                f" {self.server.to_make(wanted)}"
            ) from None

    def _change(self, found: Bucket, wanted: PolicyBucket) -> bool:
        try:
            self.server.change(found, wanted)
        except (exceptions.AccessError, exceptions.RefusedError) as e:
            LOG.warning(
                "Bucket %s keeps its points for %s, its archive policy asks"
                " for %s, and that can't be changed: %s. Change it with: %s",
                found.name,
                spelled(found.retention),
                spelled(wanted.retention),
                e,
                self.server.to_change(found, wanted),
            )
            return False
        LOG.info(
            "Bucket %s of %s now keeps its points for %s",
            found.name,
            self.client,
            spelled(wanted.retention),
        )
        return True
