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
"""Comparing the moved history with the former storage.

Each point must be equal, and so must each aggregate that the points of its
window still determine. Other aggregates may differ, since Gnocchi has kept one
value of a window and dropped its measures. A window can't be compared if
InfluxDB has received other measures in it, or does not answer that far back.
"""

import dataclasses
from typing import Any

import numpy

from gnocchi_influxdb import schema, storage
from gnocchi_influxdb.aggregation import methods
from gnocchi_influxdb.aggregation.span import Span
from gnocchi_influxdb.cli.migrate import history, source, transfer
from gnocchi_influxdb.schema import Array

#: Relative difference that comes from the order of additions.
_TOLERANCE = 1e-9


@dataclasses.dataclass
class Compared:
    """Counts of windows of one granularity and method.

    :ivar windows: all of them.
    :ivar equal: the values are equal.
    :ivar unavoidable: the values differ, and may.
    :ivar absent: InfluxDB has no value, and need not have one.
    :ivar wrong: the values differ or one is absent, and must not.
    :ivar own: not compared, since InfluxDB has other measures there.
    :ivar worst: largest relative difference of the unavoidable windows.
    """

    windows: int = 0
    equal: int = 0
    unavoidable: int = 0
    absent: int = 0
    wrong: int = 0
    own: int = 0
    worst: float = 0.0

    def add(self, other: "Compared") -> None:
        """Add the counts of others."""
        self.windows += other.windows
        self.equal += other.equal
        self.unavoidable += other.unavoidable
        self.absent += other.absent
        self.wrong += other.wrong
        self.own += other.own
        self.worst = max(self.worst, other.worst)


#: By granularity, ns, and method. A granularity of 0 are the points.
Result = dict[tuple[int, str], Compared]

POINTS = (0, "points")


class Verifier:
    """Compares metrics. Threads may share it.

    :param conf: ``conf.storage``.
    """

    def __init__(
        self, origin: source.Source, moving: transfer.Transfer, conf: Any
    ) -> None:
        self._origin = origin
        self._moving = moving
        self._target = storage.InfluxDBStorage(conf)

    def compare(self, metric: Any) -> Result:
        """Compare all points and aggregates of a metric.

        :raises InfluxDBError: InfluxDB can't be read.
        """
        policy = metric.archive_policy
        try:
            planned = self._moving.planned(metric)
        except source.NO_METRIC:
            return {}
        oldest = self._moving.oldest(policy)
        planned, _, _ = history.storable(planned, oldest)
        if not len(planned):
            return {}
        rows = self._moving.stored(
            policy, [metric.id], 0, schema.MAX_TIME
        ).get(metric.id)
        if rows is None:
            missing = Compared(len(planned), wrong=len(planned))
            return {POINTS: missing}
        there = history.HistoryPoints(
            source.as_ns(rows["timestamps"]),
            rows["values"],
            numpy.zeros(len(rows), dtype="int64"),
        )
        result: Result = {POINTS: _points(planned, there)}
        aggregations = policy.aggregations
        before = self._origin.aggregated(metric, aggregations)
        # Below the place where an error becomes an answer to a client.
        after = self._target.reader.read(
            {metric: aggregations}, Span(None, None)
        )[metric]
        method = history.method(policy.aggregation_methods)
        for aggregation in aggregations:
            result[
                schema.ns_of(aggregation.granularity), aggregation.method
            ] = _aggregation(
                aggregation,
                method,
                planned,
                there,
                before[aggregation],
                after[aggregation],
                oldest,
            )
        return result


def _points(
    planned: history.HistoryPoints, there: history.HistoryPoints
) -> Compared:
    """Compare the planned points with those in InfluxDB."""
    equal, own = _fate(planned, there)
    return Compared(
        len(planned),
        equal=int(equal.sum()),
        wrong=int((~equal & ~own).sum()),
        own=int(own.sum()),
    )


def _fate(
    planned: history.HistoryPoints, there: history.HistoryPoints
) -> tuple[Array, Array]:
    """Which points are in InfluxDB, and which gave way to measures.

    A point with another value, alone in its window, is neither: a measure
    would have to have come for just that nanosecond.

    :return: two boolean masks.
    """
    at = numpy.searchsorted(there.times, planned.times)
    after = numpy.searchsorted(there.times, planned.times + planned.every)
    alone = after - at <= 1
    at = numpy.minimum(at, len(there) - 1)
    present = there.times[at] == planned.times
    equal = present & (there.values[at] == planned.values)
    free = history.unoccupied(planned, there.times, there.values)
    return equal, ~equal & ~free & ~(present & alone)


def _aggregation(
    aggregation: Any,
    method: str | None,
    planned: history.HistoryPoints,
    there: history.HistoryPoints,
    before: Any,
    after: Any,
    oldest: int,
) -> Compared:
    every = schema.ns_of(aggregation.granularity)
    times, values = source.as_ns(before.timestamps), before.values
    if aggregation.timespan is not None:
        # A timespan ends at the newest window, which may be newer by now.
        newest = schema.floor(int(there.times[-1]), every)
        answered = times > newest - schema.ns_of(aggregation.timespan)
        times, values = times[answered], values[answered]
    ours = _window(planned, times, every)
    theirs = _window(there, times, every)
    gave_way = numpy.append(0, numpy.cumsum(_fate(planned, there)[1]))
    own = (theirs.number != ours.number) | (
        gave_way[ours.stop] != gave_way[ours.start]
    )
    exact = _is_exact(aggregation, method, planned, ours, every)
    if aggregation.method == method:
        # No point stands for such a value: it was forgotten.
        exact |= (
            ~history.covered(planned, times, every)
            & (times >= oldest)
            & numpy.isfinite(values)
        )
    exact &= ~own
    at, found = _find(source.as_ns(after.timestamps), times)
    difference = numpy.full(len(times), numpy.inf)
    difference[found] = _difference(values[found], after.values[at[found]])
    equal = (difference <= _TOLERANCE) & ~own
    may_differ = ~equal & ~exact & ~own
    absent = may_differ & ~found
    unavoidable = may_differ & found
    finite = difference[unavoidable & numpy.isfinite(difference)]
    return Compared(
        len(times),
        equal=int(equal.sum()),
        unavoidable=int(unavoidable.sum()),
        absent=int(absent.sum()),
        wrong=int((~equal & exact).sum()),
        own=int(own.sum()),
        worst=float(finite.max()) if len(finite) else 0.0,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _WindowRanges:
    """Positions of the first point of each window, and after the last."""

    start: Array
    stop: Array

    @property
    def number(self) -> Array:
        """Number of points of each window."""
        number: Array = self.stop - self.start
        return number


def _window(
    points: history.HistoryPoints, times: Array, every: int
) -> _WindowRanges:
    return _WindowRanges(
        numpy.searchsorted(points.times, times),
        numpy.searchsorted(points.times, times + every),
    )


def _is_exact(
    aggregation: Any,
    method: str | None,
    planned: history.HistoryPoints,
    windows: _WindowRanges,
    every: int,
) -> Array:
    """In which windows the points determine the aggregate.

    In those with measures only, and in those whose one point is this
    aggregate. Rates are never exact: a rate needs the window before, and
    Gnocchi has computed it from the measures of one batch.
    """
    if methods.is_rate(aggregation.method):
        return numpy.zeros(len(windows.start), dtype=bool)
    moved = numpy.append(0, numpy.cumsum(planned.every != history.MEASURE))
    number = windows.number
    exact: Array = (number > 0) & (moved[windows.stop] == moved[windows.start])
    if aggregation.method == method:
        one = number == 1
        same = numpy.zeros(len(one), dtype=bool)
        same[one] = planned.every[windows.start[one]] == every
        exact |= same
    return exact


def _find(times: Array, wanted: Array) -> tuple[Array, Array]:
    """Positions of wanted times in `times`, and a mask of those found."""
    at = numpy.searchsorted(times, wanted)
    found = at < len(times)
    found[found] = times[at[found]] == wanted[found]
    return at, found


def _difference(one: Array, other: Array) -> Array:
    """Relative difference."""
    scale = numpy.maximum(numpy.abs(one), numpy.abs(other))
    scale[scale == 0] = 1.0
    difference: Array = numpy.abs(one - other) / scale
    return difference
