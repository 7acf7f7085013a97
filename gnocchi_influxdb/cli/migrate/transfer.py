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
"""Moving the history of metrics into InfluxDB."""

import dataclasses
import uuid
from collections.abc import Sequence
from typing import Any

import daiquiri
import numpy

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets.manager import Buckets
from gnocchi_influxdb.cli.migrate import history, source
from gnocchi_influxdb.client.client import Client
from gnocchi_influxdb.read import coalescing, fetcher, query
from gnocchi_influxdb.write import batch, writer

LOG = daiquiri.getLogger(__name__)

_NS = 10**9
#: Seconds by which a point must be younger than the bucket's retention: some
#: time passes until it arrives at the server.
_MARGIN = 60


@dataclasses.dataclass
class Moved:
    """Counts of what became of some metrics.

    :ivar points: number of points by metric, without metrics that have no
        history.
    :ivar measures: how many of the points are measures.
    :ivar empty: metrics that have no history.
    :ivar too_old: points that are older than the bucket's retention.
    :ivar not_finite: points that are NaN or infinite.
    :ivar occupied: windows that have measures in InfluxDB already.
    :ivar refused: points that InfluxDB refused, see the log.
    :ivar failed: metrics that could not be read.
    """

    points: dict[uuid.UUID, int] = dataclasses.field(default_factory=dict)
    measures: int = 0
    empty: int = 0
    too_old: int = 0
    not_finite: int = 0
    occupied: int = 0
    refused: int = 0
    failed: list[uuid.UUID] = dataclasses.field(default_factory=list)

    def add(self, other: "Moved") -> None:
        """Add the counts of others, all but `points`."""
        for name in (
            "measures",
            "empty",
            "too_old",
            "not_finite",
            "occupied",
            "refused",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failed += other.failed


class Transfer:
    """Moves metrics. Threads may share it.

    :param conf: ``conf.storage``.
    :param dry_run: read everything, write nothing.
    """

    def __init__(
        self,
        origin: source.Source,
        client: Client,
        buckets: Buckets,
        conf: Any,
        dry_run: bool,
    ) -> None:
        self._origin = origin
        self._client = client
        self._buckets = buckets
        self._batch_size = conf.influxdb_batch_size
        self._timeout = conf.influxdb_timeout
        self._fetcher = fetcher.Fetcher(
            client,
            buckets,
            conf.influxdb_query_language,
        )
        self._dry_run = dry_run

    def move(self, policy: Any, metrics: Sequence[Any]) -> Moved:
        """Move some metrics of one archive policy.

        A metric that can't be read is logged and counted as failed.

        :param policy: gnocchi.archive_policy.ArchivePolicy.
        :param metrics: gnocchi.indexer.Metric.
        :raises InfluxDBError: some may not be moved.
        """
        moved = Moved()
        found: dict[uuid.UUID, history.HistoryPoints] = {}
        for metric in metrics:
            try:
                here = self.planned(metric)
            except exceptions.InfluxDBError:
                raise
            except source.NO_METRIC:
                moved.empty += 1
                continue
            except Exception as e:
                # It must not hold up the others.
                LOG.error("Metric %s can't be read: %r", metric.id, e)
                moved.failed.append(metric.id)
                continue
            points, too_old, not_finite = history.storable(
                here, self.oldest(policy)
            )
            moved.too_old += too_old
            moved.not_finite += not_finite
            found[metric.id] = points
        self._leave_occupied(policy, found, moved)
        # Some points may have expired while dozens of metrics were read.
        for id_, points in found.items():
            found[id_], too_old, _ = history.storable(
                points, self.oldest(policy)
            )
            moved.too_old += too_old
        for id_, points in found.items():
            moved.points[id_] = len(points)
            moved.measures += int((points.every == history.MEASURE).sum())
        if not self._dry_run:
            self._write(policy, found, moved)
        return moved

    def planned(self, metric: Any) -> history.HistoryPoints:
        """The points that a metric becomes.

        :raises gnocchi.storage.MetricDoesNotExist: it has no history.
        """
        policy = metric.archive_policy
        method = history.method(policy.aggregation_methods)
        return history.points(self._origin.levels(metric, method))

    def oldest(self, policy: Any) -> int:
        """ns; the bucket of a policy does not keep what lies before it."""
        kept = self._buckets.retention(policy)
        now = self._buckets.client.clock.now_ns()
        return now - (kept - _MARGIN) * _NS if kept else 0

    def stored(
        self, policy: Any, ids: Sequence[uuid.UUID], start: int, stop: int
    ) -> coalescing.Rows:
        """Points from `start` and before `stop` (ns) in InfluxDB, by metric.

        :raises InfluxDBError: they can't be read.
        """
        asked = query.PointsQuery(self._buckets.name(policy), start, stop)
        (rows,) = self._fetcher.fetch([(asked, ids)])
        return rows

    def _leave_occupied(
        self,
        policy: Any,
        found: dict[uuid.UUID, history.HistoryPoints],
        moved: Moved,
    ) -> None:
        windows = {
            id_: points.where(points.every != history.MEASURE)
            for id_, points in found.items()
        }
        windows = {
            id_: points for id_, points in windows.items() if len(points)
        }
        if not windows:
            return
        start = min(int(points.times[0]) for points in windows.values())
        stop = max(
            int((points.times + points.every).max())
            for points in windows.values()
        )
        there = self.stored(policy, list(windows), start, stop)
        for id_, rows in there.items():
            free = history.unoccupied(
                found[id_], source.as_ns(rows["timestamps"]), rows["values"]
            )
            moved.occupied += int((~free).sum())
            found[id_] = found[id_].where(free)

    def _write(
        self,
        policy: Any,
        found: dict[uuid.UUID, history.HistoryPoints],
        moved: Moved,
    ) -> None:
        def refused(number: int) -> None:
            moved.refused += number

        arrays = []
        for points in found.values():
            array = numpy.empty(len(points), dtype=schema.DTYPE)
            array["timestamps"] = points.times.astype("datetime64[ns]")
            array["values"] = points.values
            arrays.append(array)
        ready, _ = batch.clean(list(found), arrays)
        if len(ready):
            writer.BatchWriter(
                self._client,
                self._buckets,
                self._batch_size,
                self._timeout,
                refused,
            ).write(batch.Batch(policy, self._buckets.name(policy), ready))
