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
"""What becomes of the history of metrics (pure).

Gnocchi keeps one value for each window of each granularity and aggregation
method, and the measures of the last blocks. The values become windows as they
are, and the measures become points.
"""

import dataclasses
import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import methods
from gnocchi_influxdb.schema import Array
from gnocchi_influxdb.wire import line_protocol


class Key(NamedTuple):
    """An aggregation of a policy; `every` is its granularity, ns."""

    policy: str
    every: int
    method: str


@dataclasses.dataclass
class Kept:
    """Counts of aggregates of one aggregation.

    :ivar windows: those that are moved.
    :ivar too_old: those that lie before what the bucket keeps, of metrics that
        are not in use.
    :ivar not_finite: those that are NaN or infinite.
    """

    windows: int = 0
    too_old: int = 0
    not_finite: int = 0

    def add(self, other: "Kept") -> None:
        """Add the counts of others."""
        self.windows += other.windows
        self.too_old += other.too_old
        self.not_finite += other.not_finite


class Note(NamedTuple):
    """What the journal says of a metric.

    :ivar aggregates: number of aggregates that were moved.
    :ivar began: when that began, ns since the epoch; on the way back the time
        of the newest measure that was moved.
    :ivar losing: whether it has aggregates that could not be kept.
    :ivar joined: on the way back, between which times (first and last, ns)
        the other storage had measures that InfluxDB has not.
    """

    aggregates: int
    began: int
    losing: bool = False
    joined: Sequence[tuple[int, int]] = ()


@dataclasses.dataclass
class Moved:
    """What became of some metrics.

    :ivar notes: for the journal.
    :ivar aggregates: number of aggregates by metric, without metrics that have
        no history.
    :ivar kept: counts by aggregation.
    :ivar measures: number of measures that became points.
    :ivar losing: metrics with aggregates that can't be kept.
    :ivar empty: number of metrics that have no history.
    :ivar refused: points and windows that InfluxDB refused, see the log.
    :ivar failed: metrics that could not be read.
    """

    notes: dict[uuid.UUID, Note] = dataclasses.field(default_factory=dict)
    aggregates: dict[uuid.UUID, int] = dataclasses.field(default_factory=dict)
    kept: dict[Key, Kept] = dataclasses.field(default_factory=dict)
    measures: int = 0
    losing: list[uuid.UUID] = dataclasses.field(default_factory=list)
    empty: int = 0
    refused: int = 0
    failed: list[uuid.UUID] = dataclasses.field(default_factory=list)

    def add(self, other: "Moved") -> None:
        """Add what became of others."""
        self.aggregates |= other.aggregates
        for key, counts in other.kept.items():
            self.kept.setdefault(key, Kept()).add(counts)
        self.measures += other.measures
        self.losing += other.losing
        self.empty += other.empty
        self.refused += other.refused
        self.failed += other.failed


@dataclasses.dataclass(frozen=True, slots=True)
class WindowTable:
    """Windows of one granularity of some metrics, sorted by time.

    :ivar owners: shape (n,), int64: position of the metric of each window.
    :ivar times: shape (n,), int64: starts of the windows, ns.
    :ivar values: by aggregation method, shape (n,); NaN where there is none.
    """

    owners: Array
    times: Array
    values: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.times)

    def lines(
        self, ids: Sequence[uuid.UUID], start: int, stop: int
    ) -> list[bytes]:
        """Line protocol of those windows, by position, with finite values.

        :param ids: of the metrics.
        """
        part = slice(start, stop)
        return line_protocol.windows(
            ids,
            self.owners[part],
            self.times[part],
            {method: of[part] for method, of in self.values.items()},
        )


def without(
    windows: WindowTable, points: Sequence[Array], since: Array, every: int
) -> WindowTable:
    """Those windows of the finest granularity that no points make.

    :param points: moved measures of each metric, structured arrays.
    :param since: from when on (ns) they are all.
    :param every: length of the windows, ns.
    """
    made = windows.times >= since[windows.owners]
    rates = numpy.zeros(len(windows), dtype=bool)
    for owner in numpy.unique(windows.owners[made]):
        # A rate across a hole is not made.
        times = as_ns(points[owner]["timestamps"])
        own = numpy.flatnonzero(made & (windows.owners == owner))
        starts = windows.times[own]
        rates[own] = times.searchsorted(starts) > times.searchsorted(
            starts - every
        )
    return dataclasses.replace(
        windows,
        values={
            method: numpy.where(
                rates if methods.is_rate(method) else made, numpy.nan, of
            )
            for method, of in windows.values.items()
        },
    )


def recomputable(
    windows: WindowTable, since: Array, filled: float
) -> WindowTable:
    """Windows, with the field `schema.FILLED` where points make them.

    :param since: for each metric, from when on (ns) its points are all.
    :param filled: value of the field, s.
    """
    made = windows.times >= since[windows.owners]
    values = dict(windows.values)
    values[schema.FILLED] = numpy.where(made, filled, numpy.nan)
    return dataclasses.replace(windows, values=values)


def table(series: Sequence[Mapping[str, Array]]) -> WindowTable:
    """The windows of some metrics, joined.

    :param series: for each metric, by aggregation method, a structured array
        (`timestamps`, `values`), sorted.
    """
    starts = [
        numpy.unique(
            numpy.concatenate([of["timestamps"] for of in by_method.values()])
        )
        for by_method in series
    ]
    ends = numpy.cumsum([len(of_metric) for of_metric in starts])
    values = {
        method: numpy.full(int(ends[-1]), numpy.nan) for method in series[0]
    }
    for by_method, of_metric, end in zip(
        series, starts, ends.tolist(), strict=True
    ):
        first = end - len(of_metric)
        for method, windows in by_method.items():
            at = first + of_metric.searchsorted(windows["timestamps"])
            values[method][at] = windows["values"]
    times = as_ns(numpy.concatenate(starts))
    order = numpy.argsort(times, kind="stable")
    owners = numpy.repeat(numpy.arange(len(series)), list(map(len, starts)))
    return WindowTable(
        owners[order],
        times[order],
        {method: of[order] for method, of in values.items()},
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Measures:
    """The measures of a metric that Gnocchi has not dropped.

    :ivar points: a structured array with the fields of `schema.DTYPE`, sorted.
    :ivar starts: from each of them on (ns) none is missing, and it is the
        start of a window of each granularity; the last one is that of the
        back window. With rates Gnocchi keeps a block more.
    """

    points: Array
    starts: Sequence[int]

    def movable(self, oldest: int, covered: int, policy: Any) -> Array:
        """The measures that become points, those of whole windows.

        Of the first window the rates come out wrong, since the measure before
        is not there. So it is better one that is stored, which the first one
        of the finest granularity never is.

        :param oldest: points that are older (ns) are not taken.
        :param covered: coarser windows before that (ns) are stored.
        """
        times = as_ns(self.points["timestamps"])
        every = min(lengths(policy))
        for start in self.starts:
            first, after = times.searchsorted([start, start + every])
            suits = start == self.starts[-1] or (
                self.starts[-1] <= covered
                and (len(policy.definition) > 1 or after - first < 2)
            )
            if suits and first < len(times) and times[first] >= oldest:
                return self.points[first:]
        return self.points[:0]


def lengths(policy: Any) -> list[int]:
    """Granularities of an archive policy, ns."""
    return [schema.ns_of(item.granularity) for item in policy.definition]


def measures(policy: Any, points: Array, first_block: int) -> Measures:
    """The measures of a metric, from where they are complete.

    :param points: as Gnocchi keeps them, at least one.
    :param first_block: start (ns) of the first block that it keeps.
    """
    # The back window may just have become longer; Gnocchi drops whole blocks.
    block = schema.ns_of(policy.max_block_size)
    oldest = schema.floor(int(as_ns(points["timestamps"])[0]), block)
    # A granularity need not be a multiple of the finer ones.
    every = math.lcm(*lengths(policy))
    start = schema.ceil(max(first_block, oldest), every)
    has_rates = any(map(methods.is_rate, policy.aggregation_methods))
    if has_rates and start - every >= oldest:
        return Measures(points, (start - every, start))
    return Measures(points, (start,))


def as_ns(times: Any) -> Array:
    """Times as int64, ns since the epoch."""
    found: Array = times.astype("datetime64[ns]").astype("int64")
    return found
