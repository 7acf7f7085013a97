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

import logging
import time
from typing import Any, NamedTuple

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.buckets import api_1x, api_2x
from gnocchi_influxdb.buckets.policy import (
    Bucket,
    longer,
    name,
    retention,
    spelled,
)
from gnocchi_influxdb.client import client as influxdb_client

__all__ = ["LOOK_AGAIN", "Bucket", "Buckets", "longer", "name", "retention"]

LOG = logging.getLogger(__name__)

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

    :ivar client: of the server.
    :ivar prefix: of their names.
    :ivar server: how the server is asked about them.
    """

    def __init__(
        self, client: influxdb_client.Client, prefix: str, expire: bool
    ) -> None:
        self.client = client
        self.prefix = prefix
        self._expire = expire
        self.server: api_2x.Buckets | api_1x.Policies
        if client.capabilities.buckets:
            self.server = api_2x.Buckets(client)
        else:
            self.server = api_1x.Policies(client)
        # No lock: it would have to be held while the server is asked, and
        # when that does not answer one would wait for all the others. Making
        # a bucket twice is harmless.
        self._known: dict[str, _Known] = {}

    def name(self, policy: Any) -> str:
        """Name of the bucket of an archive policy."""
        return name(self.prefix, policy.name)

    def retention(self, policy: Any) -> int:
        """Retention that the bucket of an archive policy should have."""
        return retention(policy.definition) if self._expire else 0

    def kept(self, policy: Any) -> int:
        """Retention that the bucket is known to have, else should have."""
        known = self._known.get(self.name(policy))
        return self.retention(policy) if known is None else known.retention

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

    def find(self, bucket: str) -> Bucket | None:
        """The bucket of that name, if there is one that the token may see."""
        return self.server.find(bucket)

    def _remember(self, bucket: str, retention: int) -> None:
        self._known[bucket] = _Known(retention, time.monotonic())

    def _bring_about(self, bucket: str, wanted: int) -> int:
        """Make or lengthen a bucket.

        :return: the retention to be content with until the next look.
        """
        found = self.server.find_or_make(bucket, wanted)
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

    def _lengthen(self, found: Bucket, wanted: int) -> bool:
        try:
            self.server.lengthen(found, wanted)
        except (exceptions.AccessError, exceptions.RefusedError) as e:
            LOG.warning(
                "Bucket %s keeps its points for %s, its archive policy asks"
                " for %s, and that can't be changed: %s. Change it with: %s",
                found.name,
                spelled(found.retention),
                spelled(wanted),
                e,
                self.server.to_lengthen(found, wanted),
            )
            return False
        LOG.info(
            "Bucket %s of %s now keeps its points for %s",
            found.name,
            self.client,
            spelled(wanted),
        )
        return True
