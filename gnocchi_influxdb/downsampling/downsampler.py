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
"""Downsampling one definition of an archive policy.

A pass does what is due: windows that are over since the last pass; windows
that have received late measures; and windows whose points expire soon once
more, which heals what was changed behind Gnocchi's back. It goes on in slices
of bounded size, and moves the watermark after each. So it may be killed at
any moment, and two may do the same: a window is computed from its points, and
computing it twice changes nothing.
"""

import itertools
import uuid
from collections.abc import Iterator
from typing import Any

import numpy

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.aggregation import grouping, methods, windows
from gnocchi_influxdb.buckets import watermark
from gnocchi_influxdb.buckets.manager import Buckets
from gnocchi_influxdb.buckets.policy import PolicyBucket
from gnocchi_influxdb.buckets.watermark import DELAY, Watermark
from gnocchi_influxdb.downsampling import incomplete
from gnocchi_influxdb.downsampling.source import PointSource
from gnocchi_influxdb.read.coalescing import Rows
from gnocchi_influxdb.wire import line_protocol

# Points of a window expire no sooner than so long after it was computed the
# last time, ns. With half of the least slack (30 min) it leaves time for marks
# to be settled and for a pass to come.
_MARGIN = 15 * 60 * schema.SECOND

# Metrics with late measures that are read one by one; of more, all are read.
_MANY = 1000


class Downsampler:
    """Downsamples policies. For one thread.

    :param conf: the group of options that the client was made with.
    """

    def __init__(self, buckets: Buckets, conf: Any) -> None:
        self._buckets = buckets
        self._client = buckets.client
        self._batch_size: int = conf.influxdb_batch_size
        self._source = PointSource(
            buckets.client, conf.influxdb_query_language
        )

    def downsample(
        self, policy: Any, target: PolicyBucket, until: int | None = None
    ) -> Iterator[Watermark]:
        """Do what is due for one definition, a slice with each step.

        :param target: of `Buckets.downsampled`.
        :param until: windows that end later (ns) are left for another time;
            None: those that are over.
        :return: the watermark, after each slice.
        :raises InfluxDBError: it can't go on; what was done counts.
        """
        self._buckets.ensure(policy)
        one = _Definition(policy, target, self._buckets)
        began = one.now()
        mark = self._buckets.watermarks.read(target.name)
        if mark is None:
            mark = self._first(one, began)
            if mark is None:
                return
        one.whole = mark.whole
        end = began - DELAY
        if until is not None:
            end = min(end, until)
        end = schema.floor(end, target.every)
        for start, stop, points in self._slices(one, mark.until, end):
            self._compute(one, start, stop, points)
            # Of history that no measure can reach once is enough.
            last = mark.last
            if last == start:
                last = min(stop, one.out_of_reach())
            mark = mark._replace(until=stop, last=max(last, mark.last))
            self._buckets.watermarks.write(target.name, mark)
            yield mark
        if self._compute_marked(one, mark):
            mark = mark._replace(began=began)
            self._buckets.watermarks.write(target.name, mark)
            yield mark
        yield from self._compute_last(one, mark)

    def _first(self, one: "_Definition", began: int) -> Watermark | None:
        """Where to begin, None if there are no points.

        :param began: when the pass began, ns: no window was computed before.
        """
        oldest = self._buckets.watermarks.oldest(one.source)
        if oldest is None:
            return None
        if one.target.retention:
            kept = one.target.retention * schema.SECOND
            oldest = max(oldest, one.now() - kept)
        # Where points have expired, the oldest are not all of their window.
        start = max(schema.floor(oldest, one.target.every), one.oldest_whole())
        return Watermark(start, began, start)

    def _slices(
        self, one: "_Definition", start: int, stop: int
    ) -> Iterator[tuple[int, int, int]]:
        """Ranges of whole windows with about as many points as are read.

        :return: start and stop of each, ns, and how many points are read for
            it. Metrics that have been silent since have some, too.
        """
        every = one.target.every
        number = 1
        while start < stop:
            first = max(start - one.reach, 0)
            end = min(start + number * every, stop)
            points = self._source.count(one.source, first, end)
            while points > self._source.most and end - start > every:
                end = start + schema.ceil((end - start) // 2, every)
                points = self._source.count(one.source, first, end)
            number = (end - start) // every
            if 2 * points <= self._source.most:
                number *= 2
            yield start, end, points
            start = end

    def _compute(
        self, one: "_Definition", start: int, stop: int, points: int
    ) -> None:
        """Compute the windows of all metrics from `start` to before `stop`.

        :param points: how many are read, about.
        """
        first = max(start - one.reach, 0)
        for rows in self._source.read(one.source, first, stop, points):
            self._store(one, rows, start)

    def _store(self, one: "_Definition", rows: Rows, start: int) -> None:
        if not rows:
            return
        points, owners = windows.joined(list(rows.values()))
        ids = list(rows)
        made = one.windows(points, owners, start)
        made = incomplete.fill_in(
            self._source, one.target, one.whole, ids, made
        )
        lines = line_protocol.windows(ids, *made)
        for i in range(0, len(lines), self._batch_size):
            part = b"".join(lines[i : i + self._batch_size])
            try:
                self._client.write(one.target.name, part)
            except exceptions.PartialWriteError as e:
                if e.type_conflict:
                    raise
                # They are too old to be asked for.

    def _compute_marked(self, one: "_Definition", mark: Watermark) -> bool:
        """Compute the windows that have received late measures.

        :return: whether there were any.
        """
        every = one.target.every
        metrics = self._marked(one, mark)
        oldest = one.oldest_whole()
        due = [late for late in sorted(metrics) if oldest <= late < mark.until]
        for start, stop in _runs(due, every):
            ids = set().union(
                *(metrics[late] for late in range(start, stop, every))
            )
            if len(ids) > _MANY:
                for slice_ in self._slices(one, start, stop):
                    self._compute(one, *slice_)
                continue
            first = max(start - one.reach, 0)
            for rows in self._source.read_some(
                one.source, sorted(ids), first, stop
            ):
                self._store(one, rows, start)
        return bool(metrics)

    def _marked(
        self, one: "_Definition", mark: Watermark
    ) -> dict[int, set[uuid.UUID]]:
        """Metrics with late measures by the start of a window, ns.

        More than `_MANY` are not all there.
        """
        metrics: dict[int, set[uuid.UUID]] = {}
        for marks in self._source.marks(one.target.name, mark.pending_since):
            for metric, of_metric in marks.items():
                starts = watermark.marked(of_metric, one.target.every)
                for start in starts.tolist():
                    # A measure counts for the rate of the next window, too.
                    for late in {start, start + one.reach}:
                        some = metrics.setdefault(late, set())
                        if len(some) <= _MANY:
                            some.add(metric)
        return metrics

    def _compute_last(
        self, one: "_Definition", mark: Watermark
    ) -> Iterator[Watermark]:
        """Compute windows once more that no measure can reach any more."""
        start = max(mark.last, one.oldest_whole())
        stop = min(one.out_of_reach(), mark.until)
        for first, end, points in self._slices(one, start, stop):
            self._compute(one, first, end, points)
            mark = mark._replace(last=end)
            self._buckets.watermarks.write(one.target.name, mark)
            yield mark


class _Definition:
    """A definition that is downsampled.

    :ivar target: the bucket of its windows.
    :ivar source: name of the bucket of points.
    :ivar reach: how long before a window (ns) a point may lie that counts
        for it.
    :ivar whole: of the watermark.
    """

    whole = 0

    def __init__(
        self, policy: Any, target: PolicyBucket, buckets: Buckets
    ) -> None:
        self.policy = policy
        self.target = target
        self.source = buckets.name(policy)
        self._buckets = buckets
        self._aggregations = [
            a
            for a in policy.aggregations
            if schema.ns_of(a.granularity) == target.every
        ]
        rates = any(methods.is_rate(a.method) for a in self._aggregations)
        self.reach = target.every if rates else 0

    def now(self) -> int:
        """InfluxDB's time, ns since the epoch."""
        return int(self._buckets.client.clock.now_ns())

    def oldest_whole(self) -> int:
        """Start (ns) of the first window whose points are all there."""
        since = self._buckets.points_since(self.policy, _MARGIN)
        if not since:
            return 0
        return schema.ceil(since + self.reach, self.target.every)

    def out_of_reach(self) -> int:
        """Windows that begin before (ns) take no measures any more."""
        taken = self._buckets.oldest_taken(self.policy)
        return schema.floor(taken, self.target.every) - self.reach

    def windows(
        self, points: Any, owners: Any, start: int
    ) -> tuple[Any, Any, dict[str, Any]]:
        """Windows of several metrics, without those before `start`.

        :return: owners, times and values as `line_protocol.windows` wants
            them.
        """
        grouped = grouping.GroupedMetrics(
            points, owners, self._aggregations[0].granularity
        )
        times, whose = grouped.windows()
        wanted = times >= start
        values = {}
        for a in self._aggregations:
            series = methods.aggregate(grouped, a).ts
            of_method = numpy.full(len(times), numpy.nan)
            numbers = series["timestamps"].view("int64")
            of_method[numbers] = series["values"]
            values[a.method] = of_method[wanted]
        return whose[wanted], times[wanted], values


def _runs(starts: list[int], every: int) -> Iterator[tuple[int, int]]:
    """Ranges of windows that follow each other."""
    groups = itertools.groupby(
        enumerate(starts), lambda pair: pair[1] - pair[0] * every
    )
    for _key, group in groups:
        run = [start for _i, start in group]
        yield run[0], run[-1] + every
