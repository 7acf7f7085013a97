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
"""Values of another type, written to our buckets by somebody else.

In each shard a field has one type. Where a foreign integer, say, came first,
InfluxDB refuses all of Gnocchi's floats, of all metrics, that belong there.
And a Flux read ends before such a shard without a word: what lies in later
ones, though stored as it should be, is missing in the answer. (One of windows
goes on behind a single such shard if it had points before it, which is luck:
storage/reads/array_cursor.go of InfluxDB's source.) InfluxQL reads all.
"""

import threading

import daiquiri
import numpy

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets import shards
from gnocchi_influxdb.buckets.api_1x import RetentionPolicyAPI
from gnocchi_influxdb.buckets.api_2x import BucketAPI
from gnocchi_influxdb.buckets.policy import Bucket
from gnocchi_influxdb.client.client import Client
from gnocchi_influxdb.wire import influxql, influxql_rows

LOG = daiquiri.getLogger(__name__)

_TYPE = "float"


def cure(
    server: BucketAPI | RetentionPolicyAPI, bucket: Bucket, time: int
) -> str:
    """The end of a message: what to do about a shard of another type.

    :param bucket: the bucket, with the duration of its shards.
    :param time: of a point that the shard refused, ns since the epoch.
    """
    start, stop = (
        f"{numpy.datetime64(edge, 's')}Z"
        for edge in shards.span(time, bucket.shard_duration)
    )
    return (
        f". Somebody else has written the other type to bucket {bucket.name}:"
        f" its shard from {start} to {stop} takes no measure until that is"
        " deleted. Look at what is there, stop whoever writes it, then:"
        f" {server.to_clear(bucket, start, stop)}"
    )


class Watch:
    """Looks for values in buckets that Gnocchi did not write.

    Logs an error when a bucket begins to have some. Threads may share it.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._told: set[str] = set()
        self._lock = threading.Lock()
        self._can_look = True

    def other_types(self, bucket: str) -> list[str]:
        """Types other than float that our field has in some shard.

        Costs as much as the smallest query.

        :return: sorted; empty, too, if the bucket is absent or InfluxQL
            can't be asked.
        :raises InfluxDBError: the server failed, or did not say it.
        """
        if not self._can_look:
            return []
        try:
            body = self._client.influxql(bucket, influxql.FIELD_TYPES)
        except exceptions.ConfigurationError:
            self._can_look = False  # No /query.
            return []
        except exceptions.BucketNotFoundError:
            return []
        found = sorted(_types(body) - {_TYPE})
        # Queries for the same bucket run side by side.
        with self._lock:
            is_new = bool(found) and bucket not in self._told
            (self._told.add if found else self._told.discard)(bucket)
        if is_new:
            LOG.error(
                "In some shards of bucket %s the field %s of measurement %s"
                " is of type %s, which Gnocchi does not write: InfluxDB"
                " refuses measures there, and reads in Flux return less than"
                " there is. See where measures were refused, and delete what"
                " was written by others",
                bucket,
                schema.FIELD,
                schema.MEASUREMENT,
                " and ".join(found),
            )
        return found


def _types(body: bytes) -> set[str]:
    """Types of our field in an answer to `influxql.FIELD_TYPES`."""
    return {
        kind
        for series in influxql_rows.series(body)
        for field, kind in series["values"]
        if field == schema.FIELD
    }
