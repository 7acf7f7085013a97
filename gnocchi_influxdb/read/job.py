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
"""Which part of a read is downsampled, and which is made of points (pure).

What lies before the watermark of a definition's bucket is read there, and
what lies behind it is made of points; so are windows that have received late
measures since they were computed, which have a pending mark. Where a window is
both stored and made of points, the latter counts.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy
from gnocchi import utils

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import methods
from gnocchi_influxdb.aggregation.windows import Bounds, cut, overlaid
from gnocchi_influxdb.buckets import watermark
from gnocchi_influxdb.buckets.watermark import Watermark
from gnocchi_influxdb.read.coalescing import Rows
from gnocchi_influxdb.read.query import DownsampledQuery, FieldQuery, Query
from gnocchi_influxdb.schema import Array

# Ranges of pending windows that are read each by itself, at most.
_MOST_RANGES = 16


@dataclasses.dataclass(frozen=True)
class Stored:
    """Where the windows of one definition are.

    :ivar bucket: name of the definition's bucket.
    :ivar every: length of the windows, ns.
    :ivar watermark: of the bucket.
    :ivar moved: whether they were moved there by a migration: there may be
        points before the watermark that make other windows.
    """

    bucket: str
    every: int
    watermark: Watermark
    moved: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """One read: some aggregations of some metrics of one bucket.

    :ivar query: what is asked of each metric's points.
    :ivar windows: start of the first window of each aggregation and end of
        the last, ns since the epoch.
    :ivar read_from: {aggregation: start of its first window that is read, ns};
        only of those whose read may begin later than asked.
    :ivar stored: where windows of its one granularity are, if they are.
    :ivar beside: the same; a part that is made of points has it, too.
    :ivar points: of each metric, one a second, or windows, at most.
    """

    query: Query
    aggregations: tuple[Any, ...]
    metrics: list[Any]
    windows: Mapping[Any, Bounds]
    read_from: Mapping[Any, int]
    stored: Stored | None = None
    beside: Stored | None = None
    points: int = 0

    @property
    def whole(self) -> int:
        """Of windows that begin before (ns), points may be missing."""
        return self.beside.watermark.whole if self.beside else 0

    @property
    def reach(self) -> int:
        """How long before a window (ns) a point may lie that counts for it."""
        return max(
            schema.ns_of(a.granularity) if methods.is_rate(a.method) else 0
            for a in self.aggregations
        )

    def pieces(self) -> "Iterator[Job]":
        """Parts whose points are held together: two requests, side by side."""
        if len(self.metrics) <= 2 * self.query.most:
            yield self
            return
        for some in utils.grouper(self.metrics, 2 * self.query.most):
            yield dataclasses.replace(self, metrics=list(some))

    def stored_query(self) -> DownsampledQuery | None:
        """What to ask the definition's bucket for, if it is asked at all.

        It asks for what lies `behind`, too, but for moved windows.
        """
        if self.stored is None:
            return None
        behind = None if self.stored.moved else self.behind
        start, stop = self._bounds()
        mark = self.stored.watermark
        asked = DownsampledQuery(
            self.stored.bucket,
            start,
            mark.until if stop is None else min(stop, mark.until),
            pending_since=mark.pending_since,
            methods=tuple(dict.fromkeys(a.method for a in self.aggregations)),
            most=self.query.most,
            behind=behind.query if behind else None,
        )
        return None if asked.is_empty() else asked

    @functools.cached_property
    def behind(self) -> "Job | None":
        """The part that is made of points, whatever the marks say."""
        if self.stored is None or self.stored.moved:
            return self
        return self._part(self.stored.watermark.until, None, self.metrics)

    def windows_stored(self, aggregation: Any, rows: Any) -> Array:
        """Windows of one metric and aggregation, of those that are stored.

        :param rows: the metric's answer to `stored_query`.
        """
        names = dict.fromkeys(a.method for a in self.aggregations)
        position = 1 + list(names).index(aggregation.method)
        return cut(rows[position], *self.windows[aggregation])

    def pending(self, rows: Rows) -> "list[Job]":
        """The parts that have received late measures.

        :param rows: the answer to `stored_query`.
        """
        assert self.stored is not None
        if self.stored.moved:
            return []
        metrics: dict[tuple[int, int], list[Any]] = {}
        for metric in self.metrics:
            if metric.id in rows and len(rows[metric.id][0]):
                for pending in self._pending(rows[metric.id][0]):
                    metrics.setdefault(pending, []).append(metric)
        if len(metrics) > _MOST_RANGES:
            all_metrics = {m.id: m for of in metrics.values() for m in of}
            starts, stops = zip(*metrics, strict=True)
            metrics = {(min(starts), max(stops)): list(all_metrics.values())}
        parts = (self._part(*span, of) for span, of in metrics.items())
        return [part for part in parts if part is not None]

    def _pending(self, marks: Array) -> Iterator[tuple[int, int]]:
        """Ranges of windows with pending marks.

        :param marks: of one metric.
        """
        assert self.stored is not None
        every, until = self.stored.every, self.stored.watermark.until
        marked = numpy.unique(watermark.marked(marks, every))
        if self.reach:
            # A late measure counts for the rate of the next window, too.
            marked = numpy.union1d(marked, marked + every)
        marked = marked[marked < until]
        if len(marked):
            ends = numpy.flatnonzero(numpy.diff(marked) > every)
            for run in numpy.split(marked, ends + 1):
                yield int(run[0]), int(run[-1]) + every

    def filled_query(self) -> FieldQuery:
        """Which windows were made of points before `whole`.

        Empty unless this is `pending` and begins before it.
        """
        start, stop = self._bounds()
        end = self.whole if stop is None else min(stop, self.whole)
        bucket = self.beside.bucket if self.beside else ""
        return FieldQuery(
            bucket,
            start,
            end,
            measurement=schema.AGGREGATES,
            field=schema.FILLED,
        )

    def joined(
        self, aggregation: Any, stored: Array, made: Array, filled: Array
    ) -> Array:
        """Windows of one metric and aggregation.

        :param stored: those that are stored.
        :param made: those that are made of points.
        :param filled: the metric's answer to `filled_query`.
        """
        if not self.whole:
            return overlaid(stored, made)
        again = filled["values"] >= self.whole / schema.SECOND
        may = filled["timestamps"][again]
        if self.stored is None and not methods.is_dense(aggregation.method):
            # The window may be there all the same, with other methods.
            old = made["timestamps"].view("int64") < self.whole
            made = made[~old | numpy.isin(made["timestamps"], may)]
        kept = cut(stored, None, self.whole)
        kept = kept[~numpy.isin(kept["timestamps"], may)]
        return overlaid(overlaid(stored, made), kept)

    def from_earlier(self, aggregation: Any, metric: Any, start: int) -> "Job":
        """The read of one metric and aggregation, from `start` (ns) on."""
        _start, stop = self.windows[aggregation]
        one = dataclasses.replace(
            self,
            aggregations=(aggregation,),
            metrics=[metric],
            windows={aggregation: (start, stop)},
        )
        asked = dataclasses.replace(
            self.query, start=max(start - one.reach, 0), stop=stop
        )
        return dataclasses.replace(one, query=asked)

    def _bounds(self) -> Bounds:
        return _around(list(self.windows.values()))

    def _part(
        self, start: int, stop: int | None, metrics: list[Any]
    ) -> "Job | None":
        """The part from `start` on and before `stop`, None if it is empty."""
        windows = {
            a: (
                max(start, begin or 0),
                end if stop is None else min(stop, end or stop),
            )
            for a, (begin, end) in self.windows.items()
        }
        first, last = _around(list(windows.values()))
        asked = dataclasses.replace(
            self.query, start=max((first or 0) - self.reach, 0), stop=last
        )
        if last is not None and last <= (first or 0):
            return None
        return dataclasses.replace(
            self, query=asked, windows=windows, metrics=metrics, stored=None
        )


def _around(ranges: Sequence[Bounds]) -> Bounds:
    """The range that holds all of some."""
    starts: list[Any] = [start for start, _stop in ranges]
    stops: list[Any] = [stop for _start, stop in ranges]
    return (
        None if None in starts else min(starts),
        None if None in stops else max(stops),
    )
