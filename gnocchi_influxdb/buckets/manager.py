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
"""An archive policy is a bucket, or on InfluxDB 1.x a retention policy.

Its name is a prefix and the policy's name, its retention the policy's longest
timespan, and it is made when the first measure for the policy arrives.
"""

import time
from typing import Any, NamedTuple

import daiquiri

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.buckets import visibility
from gnocchi_influxdb.buckets.api_1x import RetentionPolicyAPI
from gnocchi_influxdb.buckets.api_2x import BucketAPI
from gnocchi_influxdb.buckets.policy import (
    Bucket,
    PolicyBucket,
    longer,
    name,
    retention,
    spelled,
)
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


class Buckets:
    """The buckets of one server, made and kept up as policies need them.

    Threads may share it.

    :param expire: whether points expire; if not, they are kept for ever.
    :ivar client: of the server.
    :ivar prefix: of the names of buckets.
    :ivar server: the API that the server has for them.
    """

    def __init__(self, client: Client, prefix: str, expire: bool) -> None:
        self.client = client
        self.prefix = prefix
        self._expire = expire
        self.server: BucketAPI | RetentionPolicyAPI
        if client.capabilities.buckets:
            self.server = BucketAPI(client)
        else:
            self.server = RetentionPolicyAPI(client)
        # No lock: it would have to be held while the server is asked, and
        # when that does not answer one would wait for all the others. Making
        # a bucket twice is harmless.
        self._known: dict[str, _Known] = {}

    def of(self, policy: Any) -> PolicyBucket:
        """The bucket that an archive policy asks for. Does no I/O."""
        return PolicyBucket(
            policy.name, self.name(policy), self.retention(policy)
        )

    def name(self, policy: Any) -> str:
        """Name of the bucket of an archive policy."""
        return name(self.prefix, policy.name)

    def retention(self, policy: Any) -> int:
        """Retention that an archive policy asks for, seconds (0: for ever)."""
        return retention(policy.definition) if self._expire else 0

    def kept(self, policy: Any) -> int:
        """Retention last seen on the server, else the policy's own.

        :return: seconds, 0 for ever. Does no I/O.
        """
        known = self._known.get(self.name(policy))
        return self.retention(policy) if known is None else known.retention

    def forget(self, bucket: str) -> None:
        """Look at the bucket again before the next write to it."""
        self._known.pop(bucket, None)

    def ensure(self, policy: Any) -> str:
        """Make sure that the policy's bucket is there and keeps enough.

        A bucket that keeps points for longer than the policy asks is left as
        it is: another process may know a newer definition than this one.

        :return: its name.
        :raises AccessError: it is not there and the token may not make it.
        """
        wanted = self.of(policy)
        known = self._known.get(wanted.name)
        if (
            known is None
            or longer(wanted.retention, known.retention)
            or time.monotonic() - known.seen >= LOOK_AGAIN
        ):
            if known and not longer(wanted.retention, known.retention):
                # Other threads need not look, too.
                self._remember(wanted.name, known.retention)
            try:
                self._remember(wanted.name, self._bring_about(wanted))
            except BaseException:
                self.forget(wanted.name)
                raise
        return wanted.name

    def find(self, bucket: str) -> Bucket | None:
        """The bucket of that name, None if the token sees none."""
        return self.server.find(bucket)

    def _remember(self, bucket: str, retention: int) -> None:
        self._known[bucket] = _Known(retention, time.monotonic())

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
                or not self._lengthen(found, wanted.retention)
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

    def _lengthen(self, found: Bucket, retention: int) -> bool:
        try:
            self.server.lengthen(found, retention)
        except (exceptions.AccessError, exceptions.RefusedError) as e:
            LOG.warning(
                "Bucket %s keeps its points for %s, its archive policy asks"
                " for %s, and that can't be changed: %s. Change it with: %s",
                found.name,
                spelled(found.retention),
                spelled(retention),
                e,
                self.server.to_lengthen(found, retention),
            )
            return False
        LOG.info(
            "Bucket %s of %s now keeps its points for %s",
            found.name,
            self.client,
            spelled(retention),
        )
        return True
