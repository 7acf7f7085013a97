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
"""Queries for windows of points that InfluxDB aggregates."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy

from gnocchi_influxdb.aggregation import few_points, rates, windows
from gnocchi_influxdb.aggregation.windows import Bounds
from gnocchi_influxdb.read import cost
from gnocchi_influxdb.read.coalescing import Rows
from gnocchi_influxdb.read.query.base import Ids, Query
from gnocchi_influxdb.schema import Array
from gnocchi_influxdb.wire import flux, influxql


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

    def statements(self, metrics: Ids, counts: bool) -> list[tuple[str, str]]:
        """Without an end: windows up to the present, and later points.

        InfluxQL counts the windows of a range, with a point or without, and
        a server may have a limit for them.
        """
        if self.stop is not None:
            return super().statements(metrics, counts)
        stop = cost.after_present(self.start, self.every)
        return [
            dataclasses.replace(self, stop=stop).influxql(metrics, counts),
            (influxql.points(metrics, stop, None), influxql.POINTS),
        ]

    def from_statements(self, rows: Sequence[Rows]) -> Rows:
        """The windows, and those of points after the present."""
        found, *later = rows
        for metric, made in self.from_points(
            later[0] if later else {}
        ).items():
            found[metric] = (
                numpy.concatenate([found[metric], made])
                if metric in found
                else made
            )
        return found

    def few_points(self, metrics: int) -> tuple[int, int]:
        """As many as are read sooner than InfluxDB aggregates."""
        size = self._size(metrics)
        most = size.points_a_window()
        return most, size.limit(self.every, most)

    def from_points(self, points: Rows) -> Rows:
        """The same windows, aggregated here."""
        return _aggregated(points, self.every, self.function)

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

    def end(self, function: str) -> WindowsQuery:
        """The query for one of the three."""
        return WindowsQuery(
            self.bucket,
            self.start,
            self.stop,
            every=self.every,
            function=function,
            most=self.most,
        )

    def few_points(self, metrics: int) -> tuple[int, int]:
        """As many as are read sooner than three times windows."""
        size = self._size(metrics)
        most = size.points_an_end()
        return most, size.limit(self.every, most)

    def from_points(self, points: Rows) -> Rows:
        """The three arrays of `rates.ENDS`."""
        first, last, count = (
            _aggregated(points, self.every, function)
            for function in rates.ENDS
        )
        return {m: (first[m], last[m], count[m]) for m in points}

    def windows(self, aggregation: Any, rows: Any, within: Bounds) -> Array:
        """Windows of a rate, from the three ends."""
        # What lies before it was read for the differences only.
        first, last, count = rows
        series = rates.from_ends(first, last, count, aggregation)
        return windows.cut(series.ts, within[0], None)


def _aggregated(points: Rows, every: int, function: str) -> Rows:
    if not points:
        return {}
    found = few_points.aggregate([*points.values()], every, function)
    return dict(zip(points, found, strict=True))
