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
"""Leaving out the windows that are too old to be answered.

A definition of an archive policy has a timespan, and Gnocchi's other drivers
delete a window that lies a timespan or more before the newest one. Here the
points are there for longer, so what is too old is cut off; and where the
newest window lies behind the range, it has to be found first. One rule holds
for all ranges: nothing is answered that lies a timespan or more before the
newest window or the present, whichever is the earlier.
"""

import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import methods, windows
from gnocchi_influxdb.aggregation.span import Span
from gnocchi_influxdb.read import plan
from gnocchi_influxdb.read.fetcher import Fetcher
from gnocchi_influxdb.read.job import Job

# Windows that are looked through first for the newest one with a value.
_FIRST_LOOK = 8


class Truncation:
    """Cuts off what is too old in the answers of one call.

    :param answer: fills in the windows of jobs, see `Reader`.
    :param now: ns since the epoch.
    :param jobs: the reads of the call.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        answer: Callable[[Sequence[Job], dict[Any, Any]], Any],
        span: Span,
        now: int,
        jobs: Iterable[Job],
    ) -> None:
        self._fetcher = fetcher
        self._answer = answer
        self._span = span
        self._now = now
        # By metric and aggregation, those that begin later than asked.
        self._bounded: dict[tuple[uuid.UUID, Any], Job] = {}
        # Aggregations of which nothing that was asked for can be too old.
        self._recent: set[Any] = set()
        for job in jobs:
            for a in job.aggregations:
                if plan.is_recent(a, span, now):
                    self._recent.add(a)
                if a in job.read_from:
                    self._bounded.update(((m.id, a), job) for m in job.metrics)

    def may_be_outdated(self, series: Any) -> bool:
        """Whether what was not read may leave less of a series.

        If so, `truncated` has to know the newest point of the metric.
        """
        if not len(series) or not self.may_cut(series.aggregation):
            return False
        old = self._now - schema.ns_of(series.aggregation.timespan)
        if self._span.stop is not None:
            return _time(series.first) <= old
        # Its newest aggregate is there, but points may have come since.
        return (
            not methods.is_pushed_down(series.aggregation.method)
            and _time(series.last) <= old
        )

    def may_cut(self, aggregation: Any) -> bool:
        """Whether anything that was asked for can be too old."""
        return (
            aggregation.timespan is not None
            and aggregation not in self._recent
        )

    def truncated(self, metric: Any, series: Any, newest: int | None) -> Any:
        """A series without what lies a timespan or more before its newest.

        :param series: carbonara.AggregatedTimeSerie of an aggregation that
            `may_cut`; it may be changed.
        :param newest: time (ns) of the newest point of the metric; None if
            there is none, or it need not be known.
        """
        aggregation = series.aggregation
        job = self._bounded.get((metric.id, aggregation))
        start = job.read_from[aggregation] if job else None
        if start is None and not len(series):
            return series
        last = _time(series.last) if len(series) else None
        if newest is not None and (
            last is None
            or self.may_be_outdated(series)
            # What was read begins where the newest point of all has it
            # begin, and it may be another one that lies behind the range.
            or self._begins_late(series, start)
        ):
            last = self._newest_window(metric, aggregation, last, newest)
        if last is None:
            return series
        # A point of the future must not hide the others.
        every = schema.ns_of(aggregation.granularity)
        last = min(last, schema.floor(self._now, every))
        oldest = last - schema.ns_of(aggregation.timespan)
        if (
            job is not None
            and start is not None
            and start > max(oldest, 0)
            and not methods.is_pushed_down(aggregation.method)
        ):
            series = self._read_again(job, metric, aggregation, oldest)
        series.truncate(numpy.datetime64(oldest, "ns"))
        return series

    def _begins_late(self, series: Any, start: int | None) -> bool:
        """Whether `start` is less than a timespan before the last window.

        :param start: points were read from there on, ns; None: from the first.
        """
        timespan = schema.ns_of(series.aggregation.timespan)
        return (
            self._span.stop is not None
            and start is not None
            and start > max(_time(series.last) - timespan, 0)
            and not methods.is_pushed_down(series.aggregation.method)
        )

    def _read_again(
        self, job: Job, metric: Any, aggregation: Any, oldest: int
    ) -> Any:
        """Read again, from `oldest` (ns) on.

        The first read began too late for this metric.
        """
        every = schema.ns_of(aggregation.granularity)
        start = max(schema.floor(oldest, every), 0)
        series = methods.empty(aggregation)
        self._answer(
            [job.from_earlier(aggregation, metric, start)],
            {metric: {aggregation: series}},
        )
        return series

    def _newest_window(
        self, metric: Any, aggregation: Any, known: int | None, newest: int
    ) -> int:
        """Start of the window that the timespan ends with.

        It is the newest one that has a value. But a method may have none for
        most points, as a deviation has none of a single one: then the search
        ends a timespan before the newest point, and it is the window of that
        point.

        :param known: start of a window that has a value, if one is known.
        :param newest: time of the newest point.
        """
        every = schema.ns_of(aggregation.granularity)
        if methods.is_pushed_down(aggregation.method):
            return max(schema.floor(newest, every), known or 0)
        present = schema.floor(self._now, every)
        point = min(schema.floor(newest, every), present)
        least = point - schema.ns_of(aggregation.timespan) + every
        found = known
        if self._span.stop is not None:
            first = max(least, 0 if known is None else known + every)
            ranges = _backwards(first, point + every, every)
            if newest >= present + every:
                # The values after the present, however many there are.
                ranges = itertools.chain([(point + every, None)], ranges)
            for start, stop in ranges:
                points = self._fetcher.points(
                    metric, max(start - every, 0), stop
                )
                ts = windows.from_points(aggregation, points, (start, stop))
                if len(ts):
                    found = _time(ts["timestamps"][-1])
                    break
        return point if found is None or found < least else found


def _backwards(
    first: int, stop: int, every: int
) -> Iterator[tuple[int, int | None]]:
    """Ranges from the end of a larger one to its start, ever longer ones.

    :param first: start of the larger one, ns.
    :param stop: its end, ns.
    :param every: length of a window, ns.
    """
    length = _FIRST_LOOK * every
    while stop > first:
        start = max(stop - length, first)
        yield start, stop
        stop, length = start, 8 * length


def _time(timestamp: Any) -> int:
    return int(timestamp.astype("datetime64[ns]").astype("int64"))
