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
"""Buckets of InfluxDB 2.x, by /api/v2/buckets."""

import logging

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets import shards
from gnocchi_influxdb.buckets.policy import Bucket, spelled
from gnocchi_influxdb.client import client as influxdb_client

LOG = logging.getLogger(__name__)


class Buckets:
    """Buckets as the server keeps them."""

    def __init__(self, client: influxdb_client.Client) -> None:
        self._client = client

    def find(self, bucket: str) -> Bucket | None:
        """The bucket of that name, if there is one that the token may see."""
        for found in self._client.control.buckets(name=bucket):
            # None: kept for ever, in shards as the server likes.
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

    def find_or_make(self, bucket: str, wanted: int) -> Bucket | None:
        """The bucket as it was found; None: it is as it should be.

        :param wanted: retention of one that is made.
        :raises AccessError: it is not there and the token may not make it.
        """
        return self.find(bucket) or self._make(bucket, wanted)

    def lengthen(self, found: Bucket, wanted: int) -> None:
        """Change how long a bucket keeps its points.

        :raises AccessError: the token may not.
        :raises RefusedError: it can't be.
        """
        self._client.control.change_bucket(
            found.id, found.name, wanted, shards.duration(wanted)
        )

    def to_make(self, bucket: str, wanted: int) -> str:
        """What makes a bucket by hand."""
        return (
            f"influx bucket create --org {self._client.org} --name {bucket}"
            f" --retention {wanted}s --shard-group-duration"
            f" {shards.duration(wanted)}s; and let the token read and write it"
        )

    def to_lengthen(self, found: Bucket, wanted: int) -> str:
        """What changes the retention of a bucket by hand."""
        return (
            f"influx bucket update --id {found.id} --retention {wanted}s"
            f" --shard-group-duration {shards.duration(wanted)}s"
        )

    def to_clear(self, found: Bucket, start: str, stop: str) -> str:
        """What deletes a shard of a bucket by hand."""
        return (
            f"influx delete --org {self._client.org} --bucket {found.name}"
            f" --start {start} --stop {stop} --predicate '_measurement="
            f'"{schema.MEASUREMENT}"\''
        )

    def _make(self, bucket: str, wanted: int) -> Bucket | None:
        try:
            self._client.control.make_bucket(
                bucket,
                "Measures of a Gnocchi archive policy",
                wanted,
                shards.duration(wanted),
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
                spelled(wanted),
            )
        return None

    def _require_by_hand(self, bucket: str, wanted: int) -> None:
        try:
            self._client.probe(bucket)
        except (
            exceptions.ForbiddenError,
            exceptions.BucketNotFoundError,
        ):
            raise exceptions.ForbiddenError(
                f"InfluxDB at {self._client.url} has no bucket {bucket!r}"
                " that the token in [storage] influxdb_token may write to,"
                " and the token may not make one. Make it with:"
                f" {self.to_make(bucket, wanted)}"
            ) from None
