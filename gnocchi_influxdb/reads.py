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
"""Reading aggregates: what a call has to ask for, and what it answers.

A call may be for any number of metrics and aggregations. What can share a
query does: metrics of one bucket with the same method and granularity, and
all methods that are computed here from the same points.
"""

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy
from gnocchi import storage

from gnocchi_influxdb import aggregates, queries, spans
from gnocchi_influxdb import buckets as buckets_


def read(
    asker: queries.Asker,
    buckets: buckets_.Buckets,
    metrics_and_aggregations: Mapping[Any, Sequence[Any]],
    span: spans.Span,
) -> dict[Any, dict[Any, Any]]:
    """Aggregated series of each metric and aggregation.

    :return: {metric: {aggregation: carbonara.AggregatedTimeSerie}}.
    :raises gnocchi.storage.MetricDoesNotExist: a metric has no point.
    """
    return _Call(asker, buckets, metrics_and_aggregations, span).answer()


class _Call:
    def __init__(
        self,
        asker: queries.Asker,
        buckets: buckets_.Buckets,
        wanted: Mapping[Any, Sequence[Any]],
        span: spans.Span,
    ) -> None:
        self._asker = asker
        self._buckets = buckets
        self._wanted = wanted
        self._span = span
        self._now = time.time_ns()
        # Times of the newest points of the metrics that were looked at; None
        # for a metric without a point.
        self._newest: dict[uuid.UUID, int | None] = {}
        # Start of the first window that was read, where that is later than
        # the one that was asked for.
        self._read_from: dict[tuple[uuid.UUID, Any], int] = {}

    def answer(self) -> dict[Any, dict[Any, Any]]:
        jobs = self._jobs()
        self._look_up_newest(
            metric
            for job in jobs
            for metric in job.metrics
            if any(self._is_short(metric, a) for a in job.aggregations)
        )
        for job in jobs:
            self._bound(job)
        self._asker.run(job for job in jobs if not job.is_empty())
        answers: dict[Any, dict[Any, Any]] = {
            metric: {a: aggregates.empty(a) for a in aggregations}
            for metric, aggregations in self._wanted.items()
        }
        for job in jobs:
            for metric in job.metrics:
                points = job.rows.get(metric.id)
                if points is not None:
                    for aggregation in job.aggregations:
                        answers[metric][aggregation] = self._series(
                            aggregation, points
                        )
        self._require_existence(
            answers, {id_ for job in jobs for id_ in job.rows}
        )
        for metric, series in answers.items():
            for aggregation in series:
                if not self._span.is_empty(aggregation):
                    series[aggregation] = self._finish(
                        metric, series[aggregation]
                    )
        return answers

    def _require_existence(
        self, answers: Mapping[Any, Mapping[Any, Any]], seen: set[uuid.UUID]
    ) -> None:
        """The one look at what lies outside of the range, if one is due."""
        self._look_up_newest(
            metric
            for metric, series in answers.items()
            if metric.id not in seen
            or any(map(self._may_be_outdated, series.values()))
        )
        for metric in answers:
            if metric.id not in seen and self._newest[metric.id] is None:
                raise storage.MetricDoesNotExist(metric)

    def _look_up_newest(self, metrics: Iterable[Any]) -> None:
        unknown = {m.id: m for m in metrics if m.id not in self._newest}
        self._newest.update(dict.fromkeys(unknown))
        if unknown:
            self._newest.update(self._asker.newest(unknown.values()))

    # What to ask -----------------------------------------------------------

    def _jobs(self) -> list[queries.Job]:
        jobs: dict[Any, queries.Job] = {}
        for metric, aggregations in self._wanted.items():
            bucket = self._buckets.name(metric.archive_policy)
            raw = []
            for a in aggregations:
                if self._span.is_empty(a):
                    continue
                if not aggregates.is_pushed_down(a.method):
                    raw.append(a)
                    continue
                job = queries.Job(bucket, a.method, (a,), [])
                jobs.setdefault((bucket, a), job).metrics.append(metric)
            if raw:
                job = queries.Job(bucket, None, tuple(raw), [])
                jobs.setdefault((bucket, job.aggregations), job)
                jobs[bucket, job.aggregations].metrics.append(metric)
        return list(jobs.values())

    def _is_short(self, metric: Any, aggregation: Any) -> bool:
        """Whether a read could meet far more windows than it may answer.

        True for a definition that ends long before its bucket does, and a
        range that begins long before the definition ends.
        """
        if aggregation.timespan is None:
            return False
        timespan = aggregates.ns_of(aggregation.timespan)
        start, _stop = self._span.windows(aggregation)
        kept = self._buckets.retention(metric.archive_policy) * 10**9
        return (kept == 0 or kept > 2 * timespan) and (
            start is None or start < self._now - 2 * timespan
        )

    def _bound(self, job: queries.Job) -> None:
        """Set the range of a read."""
        bounds = []
        for a in job.aggregations:
            start, stop = self._span.windows(a)
            if self._is_short(job.metrics[0], a):
                oldest = [
                    self._oldest(a, newest)
                    for newest in (self._newest[m.id] for m in job.metrics)
                    if newest is not None
                ]
                start = max([start or 0, min(oldest, default=0)])
                for m in job.metrics:
                    self._read_from[m.id, a] = start
            if start is not None and aggregates.is_rate(a.method):
                start -= aggregates.ns_of(a.granularity)
            bounds.append((start, stop))
        starts = [start for start, _stop in bounds if start is not None]
        stops = [stop for _start, stop in bounds if stop is not None]
        job.start = max(min(starts), 0) if len(starts) == len(bounds) else None
        job.stop = max(stops) if len(stops) == len(bounds) else None

    @staticmethod
    def _oldest(aggregation: Any, newest: int) -> int:
        """Oldest window to be answered when a point is the newest."""
        every = aggregates.ns_of(aggregation.granularity)
        timespan = aggregates.ns_of(aggregation.timespan)
        if not aggregates.is_pushed_down(aggregation.method):
            # Not each window with a point has a deviation or a rate, so that
            # of the newest point often has none yet.
            timespan += 8 * every
        return aggregates.floor(newest - timespan, every)

    # What to make of it ----------------------------------------------------

    def _series(self, aggregation: Any, points: queries.Array) -> Any:
        if aggregates.is_pushed_down(aggregation.method):
            series = aggregates.empty(aggregation)
            series.ts = points
            return series
        start, stop = self._span.windows(aggregation)
        if stop is not None:
            times = points["timestamps"].view("int64")
            points = points[: numpy.searchsorted(times, stop)]
        series = aggregates.compute(points, aggregation)
        if start is not None:
            # Points before it were read for the differences only.
            series.ts = series.ts[_position(series, start) :]
        return series

    def _may_be_outdated(self, series: Any) -> bool:
        """Whether a window may lie too far behind one not asked for."""
        timespan = series.aggregation.timespan
        return (
            self._span.stop is not None
            and timespan is not None
            and len(series) > 0
            and _time(series.first) <= self._now - aggregates.ns_of(timespan)
        )

    def _finish(self, metric: Any, series: Any) -> Any:
        """Cut off what is too old, resample, cut to what was asked for."""
        span, aggregation = self._span, series.aggregation
        if aggregation.timespan is not None:
            series = self._truncated(metric, series)
        if span.sampling is not None:
            series = aggregates.resample(series, span.sampling)
        first = span.first(aggregation)
        start = 0 if first is None else _position(series, first)
        stop = None if span.stop is None else _position(series, span.stop)
        series.ts = series.ts[start:stop]
        return series

    def _truncated(self, metric: Any, series: Any) -> Any:
        """Without what lies a timespan or more before the newest value."""
        aggregation = series.aggregation
        start = self._read_from.get((metric.id, aggregation))
        if start is None and not len(series):
            return series
        known = _time(series.last) if len(series) else 0
        newest = known
        if not len(series) or self._may_be_outdated(series):
            newest = self._newest_window(metric, aggregation, known)
        oldest = newest - aggregates.ns_of(aggregation.timespan)
        if (
            start is not None
            and start > max(oldest, 0)
            and not aggregates.is_pushed_down(aggregation.method)
        ):
            series = self._read_again(metric, aggregation, max(oldest, 0))
        series.truncate(numpy.datetime64(oldest, "ns"))
        return series

    def _read_again(self, metric: Any, aggregation: Any, oldest: int) -> Any:
        """A series that begins earlier than its newest point let expect."""
        every = aggregates.ns_of(aggregation.granularity)
        _start, stop = self._span.windows(aggregation)
        # One window more, for the difference of the first point.
        start = max(aggregates.floor(oldest, every) - every, 0)
        if stop is not None and start >= stop:
            return aggregates.empty(aggregation)
        return self._series(
            aggregation, self._asker.points(metric, start, stop)
        )

    def _newest_window(self, metric: Any, aggregation: Any, known: int) -> int:
        """Start of the newest window of a series that has a value.

        :param known: start of one that has.
        """
        newest = self._newest[metric.id]
        if newest is None:  # deleted while we look
            return known
        every = aggregates.ns_of(aggregation.granularity)
        start = aggregates.floor(newest, every)
        if aggregates.is_pushed_down(aggregation.method):
            return max(start, known)
        # Not each window with a point has a deviation or a rate: go back
        # until one has.
        step = every
        while start > known:
            points = self._asker.points(metric, max(start - every, 0), None)
            series = aggregates.compute(points, aggregation)
            if len(series):
                return max(_time(series.last), known)
            step *= 8
            # What is known is the last to be looked behind.
            start = max(start - step, min(known + every, start - every))
        return known


def _time(timestamp: Any) -> int:
    return int(timestamp.astype("datetime64[ns]").astype("int64"))


def _position(series: Any, time: int) -> int:
    """Position of the first value of a series that is not before a time."""
    return int(
        numpy.searchsorted(
            series.timestamps, numpy.datetime64(time, "ns"), side="left"
        )
    )
