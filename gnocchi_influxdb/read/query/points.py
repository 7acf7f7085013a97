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
"""Queries for points of measures."""

import dataclasses
from typing import Any

import numpy

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import windows
from gnocchi_influxdb.aggregation.windows import Bounds
from gnocchi_influxdb.read import cost
from gnocchi_influxdb.read.coalescing import Rows
from gnocchi_influxdb.read.query.base import Ids, Query
from gnocchi_influxdb.schema import Array
from gnocchi_influxdb.wire import flux, influxql


@dataclasses.dataclass(frozen=True)
class PointsQuery(Query):
    """The points themselves: rows are a structured array.

    :ivar limit: points of each metric that are enough, the oldest ones.
    :ivar is_elsewhere: whether it is asked in a request to another bucket.
    """

    limit: int | None = None
    is_elsewhere: bool = False

    def flux(self, metrics: Ids) -> str:
        """The oldest points, `limit` of each metric at most."""
        return flux.points(
            self.bucket, metrics, self.start, self.stop, limit=self.limit
        )

    def influxql(self, metrics: Ids, counts: bool = True) -> tuple[str, str]:
        """The oldest points, `limit` of each metric at most."""
        return (
            influxql.points(
                metrics,
                self.start,
                self.stop,
                self.limit,
                bucket=self.bucket if self.is_elsewhere else None,
            ),
            influxql.POINTS,
        )

    def suits_influxql(self, metrics: int) -> bool:
        """Yes with a limit, or for what is read in time."""
        return self.limit is not None or self._size(metrics).is_little

    def few_points(self, metrics: int) -> tuple[int, int]:
        """As many as an answer in InfluxQL may have."""
        most = self._size(metrics).most_points()
        return most, most

    def from_points(self, points: Rows) -> Rows:
        """The points themselves."""
        return points

    def windows(self, aggregation: Any, rows: Any, within: Bounds) -> Array:
        """Windows of one metric, aggregated here."""
        return windows.from_points(aggregation, rows, within)

    def windows_by_metric(
        self, aggregation: Any, rows: Rows, within: Bounds
    ) -> Rows:
        """Windows of each metric, aggregated at once if not too many."""
        if len(rows) < 2 or (
            sum(map(len, rows.values())) > cost.POINTS_TOGETHER
        ):
            return super().windows_by_metric(aggregation, rows, within)
        found, owners = windows.from_points_of_all(
            aggregation, list(rows.values()), within
        )
        bounds = owners.searchsorted(numpy.arange(1, len(rows)))
        return dict(zip(rows, numpy.split(found, bounds), strict=True))


@dataclasses.dataclass(frozen=True)
class NewestQuery(Query):
    """The newest point of each metric: rows are an array of one point.

    :ivar measurement: of the points.
    :ivar field: of the points.
    """

    measurement: str = schema.MEASUREMENT
    field: str = schema.FIELD

    def flux(self, metrics: Ids) -> str:
        """The newest point, of all times."""
        return flux.newest(self.bucket, metrics, self.measurement, self.field)

    def influxql(self, metrics: Ids, counts: bool = True) -> tuple[str, str]:
        """The newest point, of all times."""
        return influxql.newest(metrics, self.measurement, self.field), "last"
