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
"""Retention policies of InfluxDB 1.x, by InfluxQL.

https://docs.influxdata.com/influxdb/v1/query_language/manage-database/
"""

import logging
import re
from typing import Any

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.buckets import shards
from gnocchi_influxdb.buckets.policy import Bucket, spelled
from gnocchi_influxdb.client import api
from gnocchi_influxdb.client import client as influxdb_client
from gnocchi_influxdb.wire import influxql, influxql_rows

LOG = logging.getLogger(__name__)

# As Go spells a duration: 720h0m0s.
_PART = re.compile(r"(\d+(?:\.\d*)?)(h|m|s)")
_SECONDS = {"h": 3600, "m": 60, "s": 1}


class Policies:
    """Retention policies as the server keeps them.

    A bucket's name is that of the database, a slash and the policy's.
    """

    def __init__(self, client: influxdb_client.Client) -> None:
        self._client = client

    def find(self, bucket: str) -> Bucket | None:
        """The retention policy of that name.

        :raises AccessError: the token may not read the database.
        """
        database, name = api.names(bucket)
        try:
            found = influxql_rows.series(
                self._ask(bucket, influxql.show_policies(database))
            )
        except exceptions.BucketNotFoundError:
            return None  # Nor is the database.
        for series in found:
            for row in series.get("values") or ():
                one = dict(zip(series["columns"], row, strict=True))
                if one["name"] == name:
                    return Bucket(
                        id=name,
                        name=bucket,
                        retention=seconds(one["duration"]),
                        shard_duration=seconds(one["shardGroupDuration"]),
                        replication=int(one["replicaN"]),
                    )
        return None

    def find_or_make(self, bucket: str, wanted: int) -> Bucket | None:
        """The retention policy as it was found; None: it is as it should be.

        :param wanted: retention of one that is made.
        :raises AccessError: it is not there and the token may not make it.
        """
        try:
            return self.find(bucket) or self._make(bucket, wanted)
        except exceptions.ForbiddenError as e:
            # It may be one that the token can write to and not see.
            try:
                self._client.probe(bucket)
            except (
                exceptions.ForbiddenError,
                exceptions.BucketNotFoundError,
            ):
                raise exceptions.ForbiddenError(
                    f"{e}. If there is no retention policy {bucket!r}, make"
                    f" it with: {self.to_make(bucket, wanted)}"
                ) from None
            return None

    def lengthen(self, found: Bucket, wanted: int) -> None:
        """Change how long a retention policy keeps its points.

        :raises AccessError: the token may not.
        :raises RefusedError: it can't be.
        """
        try:
            self._ask(found.name, self._alter(found, wanted))
        except exceptions.QueryError as e:
            raise exceptions.RefusedError(str(e), 200, str(e)) from None

    def to_make(self, bucket: str, wanted: int) -> str:
        """What makes a retention policy by hand."""
        database, _ = api.names(bucket)
        return (
            f"{influxql.create_database(database)};"
            f" {self._create(bucket, wanted)};"
            f" GRANT ALL ON {influxql.identifier(database)} TO the user of"
            " the token"
        )

    def to_lengthen(self, found: Bucket, wanted: int) -> str:
        """What changes the retention by hand."""
        return self._alter(found, wanted)

    def to_clear(self, found: Bucket, start: str, stop: str) -> str:
        """What deletes a shard of a retention policy by hand."""
        # A DELETE would reach the other policies of the database, too.
        database, name = api.names(found.name)
        return (
            f"SHOW SHARDS, and DROP SHARD with the id of each one of database"
            f" {database} and retention policy {name} from {start} to {stop}"
        )

    def _make(self, bucket: str, wanted: int) -> Bucket | None:
        create = self._create(bucket, wanted)
        try:
            try:
                self._ask(bucket, create)
            except exceptions.BucketNotFoundError:
                database, _ = api.names(bucket)
                self._ask(bucket, influxql.create_database(database))
                self._ask(bucket, create)
        except exceptions.QueryError:
            # Another process was faster, with a definition that may be
            # another.
            found = self.find(bucket)
            if found is None:
                raise
            return found
        LOG.info(
            "Made retention policy %s in %s, duration %s",
            bucket,
            self._client,
            spelled(wanted),
        )
        return None

    def _create(self, bucket: str, wanted: int) -> str:
        database, name = api.names(bucket)
        return influxql.create_policy(
            database,
            name,
            wanted,
            shards.duration(wanted),
            self._client.replication,
        )

    def _alter(self, found: Bucket, wanted: int) -> str:
        database, name = api.names(found.name)
        return influxql.alter_policy(
            database, name, wanted, shards.duration(wanted)
        )

    def _ask(self, bucket: str, statement: str) -> bytes:
        body = self._client.influxql(bucket, statement)
        influxql_rows.check(body)
        return body


def seconds(duration: Any) -> int:
    """Seconds of a duration as Go spells it, 0 for infinite."""
    return int(
        sum(
            float(number) * _SECONDS[unit]
            for number, unit in _PART.findall(str(duration))
        )
    )
