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
"""Turning the history of a metric into points (pure).

Gnocchi keeps one value for each window of each granularity, and the measures
of the last few windows only. InfluxDB keeps points. So the measures become
points as they are. Before them, each window of the finest granularity becomes
one point, at its start; and before these, each window of the next coarser
granularity.

No moment is covered twice. Where a finer series begins inside of a coarser
window, the point of the coarser window is taken and the finer values in it are
left out, since users can ask for the coarser window for longer.

A finer series goes back as far as its timespan, but there may be less: Gnocchi
had dropped values before the timespan was made longer, or a file is damaged.
Where only coarser windows have values, those are taken.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy
import numpy.typing

from gnocchi_influxdb import schema
from gnocchi_influxdb.schema import Array

#: The methods whose value may stand for a window, the best one first. Means
#: keep the mean of a coarser window right if all windows have as many
#: measures; the others are at least values that were measured.
PREFERRED = ("mean", "last", "first", "median", "max", "min")

#: `HistoryPoints.every` of measures.
MEASURE = 0


class HistoryLevel(NamedTuple):
    """The values of one granularity, or the measures, of one metric.

    :ivar every: length of a window, ns; `MEASURE` for measures.
    :ivar complete_from: ns; Gnocchi has dropped older values for their age.
        None: it has dropped none.
    :ivar times: starts of the windows, int64, ns, sorted.
    :ivar values: float64.
    """

    every: int
    complete_from: int | None
    times: Array
    values: Array


@dataclasses.dataclass(frozen=True, slots=True)
class HistoryPoints:
    """Points of one metric, sorted by time.

    :ivar times: int64, ns since the epoch.
    :ivar values: float64.
    :ivar every: int64, ns: length of the window that each point stands for;
        `MEASURE` for a measure.
    """

    times: Array
    values: Array
    every: Array

    def __len__(self) -> int:
        return len(self.times)

    def where(self, mask: Array) -> "HistoryPoints":
        """The points that a boolean mask selects."""
        return HistoryPoints(
            self.times[mask], self.values[mask], self.every[mask]
        )


def method(methods: Collection[str]) -> str | None:
    """The aggregation method whose value stands for a window.

    :param methods: those of the archive policy.
    :return: None if no method's value is like a measure.
    """
    return next((name for name in PREFERRED if name in methods), None)


def distorted(methods: Collection[str]) -> list[str]:
    """The aggregation methods that moved history answers wrongly.

    A window becomes one point. So it counts as one measure, and sums up to
    its mean; and where coarser windows are all that is left, a rate is the
    difference of two of them, up to as many times too large as the coarser
    window has finer ones.

    :param methods: those of the archive policy.
    :return: sorted; empty if history is worth moving without a warning.
    """
    return sorted(
        name
        for name in methods
        if name in ("count", "sum") or name.startswith("rate:")
    )


def complete_from(last: int, timespan: int | None, every: int) -> int | None:
    """Start of the first window that Gnocchi has not dropped for its age, ns.

    :param last: start of the newest window of the series, ns.
    :param timespan: of the granularity, ns; None is infinite.
    :param every: length of a window, ns.
    :return: None if it drops none.
    """
    return None if timespan is None else last - timespan + every


def points(levels: Sequence[HistoryLevel]) -> HistoryPoints:
    """The points that the history of a metric becomes.

    :param levels: the finest first.
    """
    parts = []
    stop = None
    for level, start in _taken(levels):
        taken = numpy.ones(len(level.times), dtype=bool)
        if start is not None:
            taken &= level.times >= start
        if stop is not None:
            taken &= level.times < stop
        parts.append(
            HistoryPoints(
                level.times[taken],
                level.values[taken],
                numpy.full(int(taken.sum()), level.every, dtype="int64"),
            )
        )
        stop = start
    if not parts:
        nothing = numpy.empty(0, dtype="int64")
        return HistoryPoints(nothing, numpy.empty(0), nothing)
    joined = HistoryPoints(
        numpy.concatenate([part.times for part in parts]),
        numpy.concatenate([part.values for part in parts]),
        numpy.concatenate([part.every for part in parts]),
    )
    for level in levels:
        if level.every != MEASURE:
            joined = _filled(_sorted(joined), level)
    return _sorted(joined)


def _sorted(found: HistoryPoints) -> HistoryPoints:
    return found.where(numpy.argsort(found.times, kind="stable"))


def _filled(found: HistoryPoints, level: HistoryLevel) -> HistoryPoints:
    """The points, and those windows of a level that no point covers yet."""
    free = ~covered(found, level.times, level.every)
    times = level.times[free]
    return HistoryPoints(
        numpy.concatenate([found.times, times]),
        numpy.concatenate([found.values, level.values[free]]),
        numpy.concatenate(
            [found.every, numpy.full(len(times), level.every, dtype="int64")]
        ),
    )


def covered(found: HistoryPoints, times: Array, every: int) -> Array:
    """Which windows overlap the window of a point.

    :param times: starts of the windows, int64, ns.
    :param every: their length, ns.
    :return: a boolean mask of the shape of `times`.
    """
    # The points' windows do not overlap, so their ends are sorted, too.
    ends = found.times + numpy.maximum(found.every, 1)
    last = numpy.searchsorted(found.times, times + every) - 1
    mask = last >= 0
    mask[mask] = ends[last[mask]] > times[mask]
    return mask


def _taken(
    levels: Sequence[HistoryLevel],
) -> list[tuple[HistoryLevel, int | None]]:
    """The levels that points are taken from, the finest first.

    :return: each with its start, where the next one ends; None for its first
        window.
    """
    chain: list[tuple[HistoryLevel, int | None]] = []
    for level in reversed(levels):
        if not len(level.times):
            continue
        start = None
        if level.complete_from is None:
            chain.clear()  # There is nothing before that.
        while chain:
            coarser, begins = chain[-1]
            start = _handover(level, coarser)
            if begins is None or begins < start:
                break
            # That one begins no earlier, as where two granularities have one
            # timespan.
            chain.pop()
        chain.append((level, start))
    return chain[::-1]


def _handover(level: HistoryLevel, coarser: HistoryLevel) -> int:
    """Where a series begins and a coarser one ends, ns."""
    assert level.complete_from is not None
    window = level.complete_from // coarser.every * coarser.every
    if window == level.complete_from:
        return window
    at = numpy.searchsorted(coarser.times, window)
    if at < len(coarser.times) and coarser.times[at] == window:
        return window + coarser.every
    return window


def storable(
    found: HistoryPoints, oldest: int
) -> tuple[HistoryPoints, int, int]:
    """The points that InfluxDB can store.

    :param oldest: ns; the bucket does not keep older points.
    :return: the points, how many are too old, how many are not finite.
    """
    too_old = (found.times < max(oldest, 0)) | (found.times > schema.MAX_TIME)
    not_finite = ~too_old & ~numpy.isfinite(found.values)
    good = found.where(~too_old & ~not_finite)
    return good, int(too_old.sum()), int(not_finite.sum())


def unoccupied(found: HistoryPoints, times: Array, values: Array) -> Array:
    """Which points may be written: their windows have no other points.

    A measure always may: if InfluxDB has a point of its time, it is the same
    measure. So may a point that was moved before.

    :param times: of the points in InfluxDB, int64, ns, sorted.
    :param values: of these points, float64.
    :return: a boolean mask of the length of `found`.
    """
    first = numpy.searchsorted(times, found.times)
    after = numpy.searchsorted(times, found.times + found.every)
    number = after - first
    same = numpy.zeros(len(found), dtype=bool)
    one = number == 1
    at = first[one]
    same[one] = (times[at] == found.times[one]) & (
        values[at] == found.values[one]
    )
    free: Array = (number == 0) | same | (found.every == MEASURE)
    return free
