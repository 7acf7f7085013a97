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
"""What all kinds of queries have in common."""

import dataclasses
import uuid
from collections.abc import Sequence
from typing import Any

from gnocchi_influxdb.aggregation.windows import Bounds
from gnocchi_influxdb.read import cost
from gnocchi_influxdb.read.coalescing import Rows
from gnocchi_influxdb.schema import Array

Ids = Sequence[uuid.UUID]


@dataclasses.dataclass(frozen=True)
class Query:
    """A question about a bucket and a range, for whatever metrics.

    Equal queries have the same answer, so they are the keys of `coalescing`.
    A kind leaves out what nobody asks of it: only windows and points are
    aggregated, and the ends of a rate are rendered as windows.

    :ivar start: ns since the epoch, None: from the first point.
    :ivar stop: ns since the epoch, exclusive, None: to the last point.
    :ivar most: metrics in one request, see `cost.metrics_per_query`.
    """

    bucket: str
    start: int | None = None
    stop: int | None = None
    most: int = dataclasses.field(
        default=cost.METRICS_PER_QUERY, kw_only=True, compare=False
    )

    #: Length of a window, ns; 0 where there are none.
    every = 0

    @property
    def parts(self) -> "tuple[Query, ...]":
        """The queries that are rendered; in InfluxQL in one request."""
        return (self,)

    def joined(self, rows: Sequence[Rows]) -> Rows:
        """The rows from those of each part."""
        (found,) = rows
        return found

    def is_empty(self) -> bool:
        """Whether nothing lies in its range; InfluxDB takes that amiss."""
        return self.stop is not None and (self.start or 0) >= self.stop

    def flux(self, metrics: Ids) -> str:
        """The query in Flux."""
        raise NotImplementedError

    def influxql(self, metrics: Ids, counts: bool = True) -> tuple[str, str]:
        """The query in InfluxQL, and the column of its answer.

        :param counts: whether the server can be trusted with a count, see
            `influxql.windows`.
        """
        raise NotImplementedError

    def statements(self, metrics: Ids, counts: bool) -> list[tuple[str, str]]:
        """The query as statements of InfluxQL, see `influxql`."""
        return [self.influxql(metrics, counts)]

    def from_statements(self, rows: Sequence[Rows]) -> Rows:
        """The rows from those of each of the `statements`."""
        found: Rows = {}
        for of_one in rows:
            found |= of_one
        return found

    def suits_influxql(self, metrics: int) -> bool:
        """Whether InfluxQL is the quicker language for so many metrics."""
        return self._size(metrics).suits_influxql(self.every)

    def per_request(self, metrics: int) -> int:
        """How many of so many metrics to ask for in one request."""
        return self.most

    def few_points(self, metrics: int) -> tuple[int, int]:
        """Up to how many points to read them first, in InfluxQL.

        :return: points a window that are few, and points of a metric that
            are too many for the whole range. 0: do not try.
        """
        return 0, 0

    def from_points(self, points: Rows) -> Rows:
        """The rows of each metric from its points in the range."""
        raise NotImplementedError

    def windows(self, aggregation: Any, rows: Any, within: Bounds) -> Array:
        """Windows of an aggregation from the rows of one metric.

        :param within: the windows that are wanted.
        :return: a structured array, sorted.
        """
        raise NotImplementedError

    def windows_by_metric(
        self, aggregation: Any, rows: Rows, within: Bounds
    ) -> Rows:
        """Windows of an aggregation, of each metric: see `windows`."""
        return {
            metric: self.windows(aggregation, of_one, within)
            for metric, of_one in rows.items()
        }

    def _size(self, metrics: int) -> cost.Size:
        return cost.Size(metrics, self.start, self.stop)
