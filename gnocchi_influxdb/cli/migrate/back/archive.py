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
"""Reading the history that InfluxDB has."""

import contextlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation.span import Span
from gnocchi_influxdb.cli.deployment import Deployment
from gnocchi_influxdb.cli.migrate import source
from gnocchi_influxdb.cli.migrate.back import holding
from gnocchi_influxdb.read import fetcher, query, reader
from gnocchi_influxdb.schema import Array

# By how much (ns) a measure may lie ahead of InfluxDB's clock. Gnocchi's other
# drivers drop all that lies a timespan before the newest measure.
_AHEAD = 3600 * schema.SECOND

# ns by which points may expire earlier than they ought to.
_MARGIN = 60 * schema.SECOND

#: By metric, by aggregation: windows, a structured array.
Answered = dict[Any, dict[Any, Array]]


class Archive:
    """The history that InfluxDB has. Threads may share it."""

    def __init__(self, deployment: Deployment) -> None:
        self._buckets = deployment.buckets
        self._fetcher = fetcher.Fetcher(
            deployment.client,
            deployment.buckets,
            deployment.conf.storage.influxdb_query_language,
        )
        self._reader = reader.Reader(self._fetcher, deployment.buckets)

    def newest(self, metrics: Sequence[Any]) -> dict[uuid.UUID, int | None]:
        """Time (ns) of the newest measure of each metric; None: it has none.

        :raises InfluxDBError: InfluxDB can't be read.
        """
        return self._fetcher.newest(metrics)

    def answers(self, policy: Any, metrics: Sequence[Any]) -> Answered:
        """What is answered of metrics of one policy.

        :return: without metrics that have no measure.
        :raises InfluxDBError: InfluxDB can't be read.
        """
        found: dict[Any, dict[Any, Any]] = {}
        try:
            found = self._read(policy, metrics)
        except source.NO_METRIC:
            # One has just been deleted, say.
            for metric in metrics:
                with contextlib.suppress(source.NO_METRIC):
                    found |= self._read(policy, [metric])
        return {
            metric: {a: series.ts for a, series in of_metric.items()}
            for metric, of_metric in found.items()
        }

    def _read(self, policy: Any, metrics: Sequence[Any]) -> Any:
        wanted = dict.fromkeys(metrics, policy.aggregations)
        return self._reader.read(wanted, Span(None, None)) if wanted else {}

    def points(
        self, policy: Any, starts: Mapping[uuid.UUID, int]
    ) -> dict[uuid.UUID, Array]:
        """Points of metrics of one policy.

        :param starts: from when on, by metric, ns.
        :raises InfluxDBError: InfluxDB can't be read.
        """
        ids: dict[int, list[uuid.UUID]] = {}
        for id_, since in starts.items():
            ids.setdefault(since, []).append(id_)
        bucket = self._buckets.name(policy)
        found = dict.fromkeys(starts, holding.NOTHING)
        for rows in self._fetcher.fetch(
            [
                (query.PointsQuery(bucket, since, None), of_one)
                for since, of_one in ids.items()
            ]
        ):
            found |= rows
        return found

    def kept(self, policy: Any) -> int:
        """From when on no point has expired, ns since the epoch."""
        return self._buckets.points_since(policy, _MARGIN)

    def ahead(self) -> int:
        """What is dated later (ns) is left out."""
        return self._buckets.client.clock.now_ns() + _AHEAD
