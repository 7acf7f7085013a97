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
"""What is asked of InfluxDB, in its two languages (pure).

Each kind of query is a class, and knows how it is rendered, which way to its
answer is the quicker one, and how its rows become windows of an aggregation.
"""

import dataclasses
import uuid
from collections.abc import Sequence
from typing import Any

from gnocchi_influxdb.aggregation import few_points, rates, windows
from gnocchi_influxdb.aggregation.windows import Bounds
from gnocchi_influxdb.read import cost
from gnocchi_influxdb.schema import Array
from gnocchi_influxdb.wire import flux, influxql

Ids = Sequence[uuid.UUID]


@dataclasses.dataclass(frozen=True)
class Query:
    """A question about a bucket and a range, for whatever metrics.

    Equal queries have the same answer, so they are the keys of `coalescing`.
    A kind leaves out what nobody asks of it: only windows and points are
    aggregated, and the ends of a rate are rendered as windows.

    :ivar start: ns since the epoch, None: from the first point.
    :ivar stop: ns since the epoch, exclusive, None: to the last point.
    """

    bucket: str
    start: int | None = None
    stop: int | None = None

    #: Length of a window, ns; 0 where there are none.
    every = 0
    #: Whether it can be rendered, and asked as it is.
    is_one_request = True

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

    def suits_influxql(self, metrics: int) -> bool:
        """Whether InfluxQL is the quicker language for so many metrics."""
        return self._size(metrics).suits_influxql(self.every)

    def few_points(self, metrics: int) -> tuple[int, int]:
        """Up to how many points to read them first, in InfluxQL.

        :return: points a window that are few, and points of a metric that
            are too many for the whole range. 0: do not try.
        """
        return 0, 0

    def from_points(self, points: Array) -> Any:
        """The rows of one metric from its points in the range."""
        raise NotImplementedError

    def windows(self, aggregation: Any, rows: Any, within: Bounds) -> Array:
        """Windows of an aggregation from the rows of one metric.

        :param within: the windows that are wanted.
        :return: a structured array, sorted.
        """
        raise NotImplementedError

    def windows_of_all(
        self, aggregation: Any, rows: Sequence[Any], within: Bounds
    ) -> tuple[Array, Array]:
        """Windows of several metrics, one metric behind the other.

        :param rows: of each metric, at least one.
        :return: a structured array, and for each window the position of its
            metric in `rows`.
        """
        return windows.joined(
            [self.windows(aggregation, of, within) for of in rows]
        )

    def _size(self, metrics: int) -> cost.Size:
        return cost.Size(metrics, self.start, self.stop)


@dataclasses.dataclass(frozen=True)
class PointsQuery(Query):
    """The points themselves: rows are a structured array.

    :ivar limit: points of each metric that are enough, the oldest ones. It
        holds in InfluxQL; Flux answers all.
    """

    limit: int | None = None

    def flux(self, metrics: Ids) -> str:
        """All points in the range: `limit` is not heeded."""
        return flux.points(self.bucket, metrics, self.start, self.stop)

    def influxql(self, metrics: Ids, counts: bool = True) -> tuple[str, str]:
        """The oldest points, `limit` of each metric at most."""
        return (
            influxql.points(metrics, self.start, self.stop, self.limit),
            influxql.POINTS,
        )

    def suits_influxql(self, metrics: int) -> bool:
        """Yes with a limit, or for what is read in time."""
        return self.limit is not None or self._size(metrics).is_little

    def few_points(self, metrics: int) -> tuple[int, int]:
        """As many as an answer in InfluxQL may have."""
        most = self._size(metrics).most_points()
        return most, most

    def from_points(self, points: Array) -> Array:
        """The points themselves."""
        return points

    def windows(self, aggregation: Any, rows: Any, within: Bounds) -> Array:
        """Windows of one metric, aggregated here."""
        return windows.from_points(aggregation, rows, within)

    def windows_of_all(
        self, aggregation: Any, rows: Sequence[Any], within: Bounds
    ) -> tuple[Array, Array]:
        """Windows of several metrics, aggregated at once if not too many."""
        if sum(map(len, rows)) > cost.POINTS_TOGETHER:
            return super().windows_of_all(aggregation, rows, within)
        return windows.from_points_of_all(aggregation, rows, within)


@dataclasses.dataclass(frozen=True)
class NewestQuery(Query):
    """The newest point of each metric: rows are an array of one point."""

    def flux(self, metrics: Ids) -> str:
        """The newest point, of all times."""
        return flux.newest(self.bucket, metrics)

    def influxql(self, metrics: Ids, counts: bool = True) -> tuple[str, str]:
        """The newest point, of all times."""
        return influxql.newest(metrics), "last"


@dataclasses.dataclass(frozen=True)
class WindowsQuery(Query):
    """One value a window: rows are a structured array.

    :ivar every: length of a window, ns; `start` and `stop` are multiples.
    :ivar function: one of `schema.WINDOW_FUNCTIONS`.
    """

    every: int = dataclasses.field(kw_only=True)
    function: str = dataclasses.field(kw_only=True)

    def flux(self, metrics: Ids) -> str:
        """Windows, aggregated in InfluxDB's storage engine."""
        return flux.windows(
            self.bucket,
            metrics,
            self.start,
            self.stop,
            self.every,
            self.function,
        )

    def influxql(self, metrics: Ids, counts: bool = True) -> tuple[str, str]:
        """Windows; the column has the function's name."""
        return (
            influxql.windows(
                metrics,
                self.start,
                self.stop,
                self.every,
                self.function,
                counts,
            ),
            self.function,
        )

    def few_points(self, metrics: int) -> tuple[int, int]:
        """As many as are read sooner than InfluxDB aggregates."""
        size = self._size(metrics)
        most = size.points_a_window()
        return most, size.limit(self.every, most)

    def from_points(self, points: Array) -> Array:
        """The same windows, aggregated here."""
        return few_points.aggregate(points, self.every, self.function)

    def windows(self, aggregation: Any, rows: Any, within: Bounds) -> Array:
        """The rows: InfluxDB has computed the aggregation."""
        found: Array = rows
        return found


@dataclasses.dataclass(frozen=True)
class RateEndsQuery(Query):
    """What a rate is computed from: rows are three arrays, `rates.ENDS`.

    It is not rendered itself, but asked as several `WindowsQuery`.

    :ivar every: length of a window, ns; `start` and `stop` are multiples.
    """

    every: int = dataclasses.field(kw_only=True)
    is_one_request = False

    def end(self, function: str) -> WindowsQuery:
        """The query for one of the three."""
        return WindowsQuery(
            self.bucket,
            self.start,
            self.stop,
            every=self.every,
            function=function,
        )

    def few_points(self, metrics: int) -> tuple[int, int]:
        """As many as are read sooner than three times windows."""
        size = self._size(metrics)
        most = size.points_an_end()
        return most, size.limit(self.every, most)

    def from_points(self, points: Array) -> tuple[Array, ...]:
        """The three arrays of `rates.ENDS`."""
        return tuple(
            few_points.aggregate(points, self.every, function)
            for function in rates.ENDS
        )

    def windows(self, aggregation: Any, rows: Any, within: Bounds) -> Array:
        """Windows of a rate, from the three ends."""
        # What lies before it was read for the differences only.
        first, last, count = rows
        series = rates.from_ends(first, last, count, aggregation)
        return windows.cut(series.ts, within[0], None)
