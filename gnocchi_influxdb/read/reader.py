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
"""Reading aggregates: from what InfluxDB answers to what Gnocchi is told."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy
from gnocchi import storage

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import methods, resample, windows
from gnocchi_influxdb.aggregation import span as spans
from gnocchi_influxdb.buckets import manager as buckets_
from gnocchi_influxdb.read import fetcher as asker_
from gnocchi_influxdb.read import plan
from gnocchi_influxdb.read import query as queries
from gnocchi_influxdb.rollups import (
    rollup_choice,
    rollup_lines,
    rollup_store,
    rollups,
)


def read(
    asker: asker_.Asker,
    store: rollup_store.Store,
    buckets: buckets_.Buckets,
    metrics_and_aggregations: Mapping[Any, Sequence[Any]],
    span: spans.Span,
) -> dict[Any, dict[Any, Any]]:
    """Aggregated series of each metric and aggregation.

    :return: {metric: {aggregation: carbonara.AggregatedTimeSerie}}.
    :raises gnocchi.storage.MetricDoesNotExist: a metric has no point.
    """
    return _Call(
        asker, store, buckets, metrics_and_aggregations, span
    ).answer()


class _Call:
    def __init__(
        self,
        asker: asker_.Asker,
        store: rollup_store.Store,
        buckets: buckets_.Buckets,
        wanted: Mapping[Any, Sequence[Any]],
        span: spans.Span,
    ) -> None:
        self._asker = asker
        self._store = store
        self._buckets = buckets
        self._wanted = wanted
        self._span = span
        self._now = buckets.client.clock.now_ns()
        self._plan = plan.Plan(buckets, wanted, span, self._now)
        # Times of the newest points of the metrics that were looked at; None
        # for a metric without a point.
        self._newest: dict[uuid.UUID, int | None] = {}

    def answer(self) -> dict[Any, dict[Any, Any]]:
        self._look_up_newest(self._plan.need_newest())
        self._plan.bound(self._newest)
        jobs, rolled = self._sort(self._plan.jobs)
        self._run(jobs, rolled)
        answers: dict[Any, dict[Any, Any]] = {
            metric: {a: methods.empty(a) for a in aggregations}
            for metric, aggregations in self._wanted.items()
        }
        for job in jobs:
            for metric in job.metrics:
                rows = job.rows.get(metric.id)
                if rows is not None:
                    for aggregation in job.aggregations:
                        answers[metric][aggregation].ts = windows.compute(
                            aggregation,
                            job.what,
                            rows,
                            *self._span.windows(aggregation),
                        )
        for read in rolled:
            self._take(read, answers)
        self._require_existence(
            answers,
            {id_ for job in jobs for id_ in job.rows}.union(
                *(read.seen() for read in rolled)
            ),
        )
        for aggregation in {a for of_one in answers.values() for a in of_one}:
            if not self._span.is_empty(aggregation):
                self._finish(aggregation, answers)
        return answers

    def _require_existence(
        self, answers: Mapping[Any, Mapping[Any, Any]], seen: set[uuid.UUID]
    ) -> None:
        """The one look at what lies outside of the range, if one is due."""
        self._look_up_newest(
            metric
            for metric, series in answers.items()
            if metric.id not in seen
            or any(
                self._may_be_outdated(one)
                for aggregation, one in series.items()
                if aggregation not in self._plan.recent
            )
        )
        for metric in answers:
            if metric.id not in seen and self._newest[metric.id] is None:
                raise storage.MetricDoesNotExist(metric)

    def _look_up_newest(self, metrics: Iterable[Any]) -> None:
        unknown = {m.id: m for m in metrics if m.id not in self._newest}
        self._newest.update(dict.fromkeys(unknown))
        if unknown:
            self._newest.update(self._asker.newest(unknown.values()))

    def _sort(
        self, jobs: Sequence[plan.Job]
    ) -> tuple[list[plan.Job], list[rollups.Rolled]]:
        """What has to be computed, and what may be kept already."""
        if not self._asker.has_rollups:
            return list(jobs), []
        plain, rolled = [], []
        for job in jobs:
            parts = rollup_choice.split(job, self._now)
            rolled += parts
            if not parts:
                plain.append(job)
        return plain, rolled

    def _run(
        self, jobs: Sequence[plan.Job], rolled: Sequence[rollups.Rolled]
    ) -> None:
        answers = self._asker.ask(
            [(job.query(), _ids(job.metrics)) for job in jobs]
            + [(read.query(), _ids(read.metrics)) for read in rolled]
        )
        for job, rows in zip(jobs, answers, strict=False):
            job.rows = rows
        for read, kept in zip(rolled, answers[len(jobs) :], strict=True):
            read.kept = kept
        gaps = [gap for read in rolled for gap in read.find_gaps()]
        if gaps:
            self._run(gaps, [])

    def _take(
        self,
        read: rollups.Rolled,
        answers: Mapping[Any, Mapping[Any, Any]],
    ) -> None:
        """Take the answers to a read whose windows are kept, and keep them."""
        for aggregation in read.aggregations:
            found = read.series(aggregation)
            for metric, series in zip(read.metrics, found, strict=True):
                answers[metric][aggregation].ts = series
        if read.gaps and self._store.is_on:
            policy = read.metrics[0].archive_policy
            oldest = rollup_lines.oldest_place(
                self._now, self._buckets.kept(policy)
            )
            self._store.keep(read.bucket, read.lines(oldest))

    # What to make of it ----------------------------------------------------

    def _may_be_outdated(self, series: Any) -> bool:
        """Whether a window may lie too far behind one not asked for."""
        timespan = series.aggregation.timespan
        return (
            self._span.stop is not None
            and timespan is not None
            and len(series) > 0
            and _time(series.first) <= self._now - schema.ns_of(timespan)
        )

    def _finish(
        self,
        aggregation: Any,
        answers: Mapping[Any, dict[Any, Any]],
    ) -> None:
        """Cut off what is too old, resample, cut to what was asked for."""
        span = self._span
        first = span.first(aggregation)
        may_be_old = (
            aggregation.timespan is not None
            and aggregation not in self._plan.recent
        )
        for metric, of_metric in answers.items():
            series = of_metric.get(aggregation)
            if series is None:
                continue
            if may_be_old:
                series = self._truncated(metric, series)
            if span.sampling is not None:
                series = resample.resample(series, span.sampling)
            series.ts = windows.cut(series.ts, first, span.stop)
            of_metric[aggregation] = series

    def _truncated(self, metric: Any, series: Any) -> Any:
        """Without what lies a timespan or more before the newest value."""
        aggregation = series.aggregation
        start = self._plan.read_from.get((metric.id, aggregation))
        if start is None and not len(series):
            return series
        known = _time(series.last) if len(series) else 0
        newest = known
        if (
            not len(series)
            or self._may_be_outdated(series)
            # What was read begins where the newest point of all has it
            # begin, and it may be another one that lies behind the range.
            or self._begins_late(series, start)
        ):
            newest = self._newest_window(metric, aggregation, known)
        oldest = newest - schema.ns_of(aggregation.timespan)
        if (
            start is not None
            and start > max(oldest, 0)
            and not methods.is_pushed_down(aggregation.method)
        ):
            series = self._read_again(metric, aggregation, max(oldest, 0))
        series.truncate(numpy.datetime64(oldest, "ns"))
        return series

    def _begins_late(self, series: Any, start: int | None) -> bool:
        """Whether its points were read from `start` on, and that is late."""
        timespan = schema.ns_of(series.aggregation.timespan)
        return (
            self._span.stop is not None
            and start is not None
            and start > max(_time(series.last) - timespan, 0)
            and not methods.is_pushed_down(series.aggregation.method)
        )

    def _read_again(self, metric: Any, aggregation: Any, oldest: int) -> Any:
        """A series that begins earlier than its newest point let expect."""
        every = schema.ns_of(aggregation.granularity)
        _start, stop = self._span.windows(aggregation)
        # One window more, for the difference of the first point.
        start = max(schema.floor(oldest, every) - every, 0)
        if stop is not None and start >= stop:
            return methods.empty(aggregation)
        points = self._asker.points(metric, start, stop)
        series = methods.empty(aggregation)
        series.ts = windows.compute(
            aggregation,
            queries.POINTS,
            points,
            *self._span.windows(aggregation),
        )
        return series

    def _newest_window(self, metric: Any, aggregation: Any, known: int) -> int:
        """Start of the newest window of a series that has a value.

        :param known: start of one that has.
        """
        newest = self._newest[metric.id]
        if newest is None:  # deleted while we look
            return known
        every = schema.ns_of(aggregation.granularity)
        start = schema.floor(newest, every)
        if methods.is_pushed_down(aggregation.method):
            return max(start, known)
        # Not each window with a point has a deviation or a rate: go back
        # until one has.
        step = every
        while start > known:
            points = self._asker.points(metric, max(start - every, 0), None)
            series = methods.compute(points, aggregation)
            if len(series):
                return max(_time(series.last), known)
            step *= 8
            # What is known is the last to be looked behind.
            start = max(start - step, min(known + every, start - every))
        return known


def _time(timestamp: Any) -> int:
    return int(timestamp.astype("datetime64[ns]").astype("int64"))


def _ids(metrics: Iterable[Any]) -> list[uuid.UUID]:
    return [metric.id for metric in metrics]
