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
"""Buckets of InfluxDB 2.x."""

import shlex

import daiquiri

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets.policy import Bucket, PolicyBucket, spelled
from gnocchi_influxdb.client import control_plane
from gnocchi_influxdb.client.client import Client

LOG = daiquiri.getLogger(__name__)

# InfluxDB keeps such names for itself, so nothing is made; and it refuses
# them in other words than a token that may not make any.
_RESERVED = "_monitoring"


class BucketAPI:
    """Buckets as the server has them. Threads may share it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def find(self, bucket: str) -> Bucket | None:
        """The bucket of that name, None if the token sees none."""
        for found in self._client.control.buckets(name=bucket):
            # No rule: kept for ever, in shards as the server likes.
            rules = found.retention_rules
            return Bucket(
                id=str(found.id),
                name=str(found.name),
                retention=rules[0].every_seconds if rules else 0,
                shard_duration=(
                    rules[0].shard_group_duration_seconds or 0 if rules else 0
                ),
            )
        return None

    def make(self, wanted: PolicyBucket) -> Bucket | None:
        """Make a bucket.

        :return: None, or the bucket that another process made meanwhile.
        :raises AccessError: the token may not.
        """
        try:
            self._client.control.make_bucket(
                wanted.name,
                wanted.description,
                wanted.retention,
                wanted.shard_duration,
            )
        except exceptions.RefusedError as e:
            found = self.find(wanted.name) if e.status == 422 else None
            if found is None:
                raise
            return found
        LOG.info(
            "Made bucket %s in %s, retention %s",
            wanted.name,
            self._client,
            spelled(wanted.retention),
        )
        return None

    def may_make(self) -> bool:
        """Whether the token has the right to; nothing is made."""
        try:
            self._client.control.make_bucket(_RESERVED, "", 0, 0)
        except exceptions.AccessError:
            return False
        except exceptions.RefusedError:
            pass
        return True

    def change(self, found: Bucket, wanted: PolicyBucket) -> None:
        """Change how long a bucket keeps its points.

        :raises AccessError: the token may not.
        :raises RefusedError: it can't be.
        """
        self._client.control.change_bucket(
            found.id, found.name, wanted.retention, wanted.shard_duration
        )

    def to_make(self, wanted: PolicyBucket) -> str:
        """The command that makes a bucket by hand."""
        return (
            f"influx bucket create --org {shlex.quote(self._client.org)}"
            f" --name {shlex.quote(wanted.name)}"
            f" --retention {wanted.retention}s"
            f" --shard-group-duration {wanted.shard_duration}s; if the token"
            " may not read and write it:"
            f" {control_plane.to_make_token(self._client.org)}"
        )

    def to_change(self, found: Bucket, wanted: PolicyBucket) -> str:
        """The command that changes the retention of a bucket by hand."""
        return (
            f"influx bucket update --id {found.id} --retention"
            f" {wanted.retention}s --shard-group-duration"
            f" {wanted.shard_duration}s"
        )

    def to_clear(self, found: Bucket, start: str, stop: str) -> str:
        """The command that deletes a shard of a bucket by hand."""
        return (
            f"influx delete --org {shlex.quote(self._client.org)}"
            f" --bucket {shlex.quote(found.name)}"
            f" --start {start} --stop {stop} --predicate '_measurement="
            f'"{schema.MEASUREMENT}"\''
        )
