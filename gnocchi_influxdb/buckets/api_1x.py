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

import re
from typing import Any

import daiquiri

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.buckets.policy import Bucket, PolicyBucket, spelled
from gnocchi_influxdb.client import api
from gnocchi_influxdb.client.client import Client
from gnocchi_influxdb.wire import influxql, influxql_rows

LOG = daiquiri.getLogger(__name__)

# As Go spells a duration: 720h0m0s.
_PART = re.compile(r"(\d+(?:\.\d*)?)(h|m|s)")
_SECONDS = {"h": 3600, "m": 60, "s": 1}


class RetentionPolicyAPI:
    """Retention policies as the server has them. Threads may share it.

    The name of a bucket is the database, a slash and the retention policy.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def find(self, bucket: str) -> Bucket | None:
        """The retention policy of that name, None if there is none.

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

    def make(self, wanted: PolicyBucket) -> Bucket | None:
        """Make a retention policy, and its database if there is none.

        :return: None, or the one that another process made meanwhile.
        :raises AccessError: the token may not.
        """
        create = self._create(wanted)
        try:
            try:
                self._ask(wanted.name, create)
            except exceptions.BucketNotFoundError:
                database, _ = api.names(wanted.name)
                self._ask(wanted.name, influxql.create_database(database))
                self._ask(wanted.name, create)
        except exceptions.QueryError:
            found = self.find(wanted.name)
            if found is None:
                raise
            return found
        LOG.info(
            "Made retention policy %s in %s, duration %s",
            wanted.name,
            self._client,
            spelled(wanted.retention),
        )
        return None

    def may_make(self) -> bool:
        """Whether the token is an administrator's, who may."""
        try:
            self._client.influxql("/", influxql.SHOW_USERS)
        except exceptions.ForbiddenError:
            return False
        return True

    def change(self, found: Bucket, wanted: PolicyBucket) -> None:
        """Change how long a retention policy keeps its points.

        :raises AccessError: the token may not.
        :raises RefusedError: it can't be.
        """
        try:
            self._ask(found.name, self.to_change(found, wanted))
        except exceptions.QueryError as e:
            raise exceptions.RefusedError(str(e), 200, str(e)) from None

    def to_make(self, wanted: PolicyBucket) -> str:
        """The statements that make a retention policy by hand."""
        database, _ = api.names(wanted.name)
        return (
            f"{influxql.create_database(database)};"
            f" {self._create(wanted)};"
            f" GRANT ALL ON {influxql.identifier(database)} TO the user of"
            " the token"
        )

    def to_change(self, found: Bucket, wanted: PolicyBucket) -> str:
        """The statement that changes the retention."""
        database, name = api.names(found.name)
        return influxql.alter_policy(
            database, name, wanted.retention, wanted.shard_duration
        )

    def to_clear(self, found: Bucket, start: str, stop: str) -> str:
        """What to do by hand to delete a shard of a retention policy."""
        # A DELETE would reach the other policies of the database, too.
        database, name = api.names(found.name)
        return (
            f"SHOW SHARDS, and DROP SHARD with the id of each one of database"
            f" {database} and retention policy {name} from {start} to {stop}"
        )

    def _create(self, wanted: PolicyBucket) -> str:
        database, name = api.names(wanted.name)
        return influxql.create_policy(
            database,
            name,
            wanted.retention,
            wanted.shard_duration,
            self._client.replication,
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
