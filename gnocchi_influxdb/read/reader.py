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
"""Reading aggregates: one call, from its plan to its answer."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gnocchi import storage

from gnocchi_influxdb.aggregation import methods, resample, windows
from gnocchi_influxdb.aggregation.span import Span
from gnocchi_influxdb.buckets.manager import Buckets
from gnocchi_influxdb.read import plan
from gnocchi_influxdb.read.coalescing import Rows
from gnocchi_influxdb.read.fetcher import Fetcher
from gnocchi_influxdb.read.truncation import Truncation
from gnocchi_influxdb.rollups import (
    rollup_choice,
    rollup_lines,
    rollup_store,
    rollups,
)

#: By metric, by aggregation: carbonara.AggregatedTimeSerie.
Answers = dict[Any, dict[Any, Any]]


class Reader:
    """Reads aggregates. Threads share it.

    :param store: the cache of aggregates.
    """

    def __init__(
        self, fetcher: Fetcher, store: rollup_store.Store, buckets: Buckets
    ) -> None:
        self._fetcher = fetcher
        self._store = store
        self._buckets = buckets

    def read(self, wanted: Mapping[Any, Sequence[Any]], span: Span) -> Answers:
        """Aggregated series of each metric and aggregation.

        :param wanted: {metric: [carbonara.Aggregation]}.
        :return: {metric: {aggregation: carbonara.AggregatedTimeSerie}}.
        :raises gnocchi.storage.MetricDoesNotExist: a metric has no point.
        :raises InfluxDBError: there is no whole answer.
        """
        now = self._buckets.client.clock.now_ns()
        drafts = plan.draft(self._buckets, wanted, span, now)
        newest = self._newest(
            metric
            for draft in drafts
            if draft.unbounded
            for metric in draft.metrics
        )
        planned = plan.make(drafts, span, newest)
        jobs, rolled = self._split(planned, now)
        found = self._fetch(jobs, rolled)
        answers: Answers = {
            metric: {a: methods.empty(a) for a in aggregations}
            for metric, aggregations in wanted.items()
        }
        for job, rows in zip(jobs, found, strict=True):
            _compute(job, rows, span, answers)
        for one in rolled:
            self._take(one, answers, now)
        seen = {id_ for rows in found for id_ in rows}.union(
            *(one.seen() for one in rolled)
        )
        truncation = Truncation(self._fetcher, span, now, planned)
        # The one look at what lies outside of the range, if one is due.
        newest |= self._newest(
            metric
            for metric, series in answers.items()
            if metric.id not in newest
            and (
                metric.id not in seen
                or any(map(truncation.may_be_outdated, series.values()))
            )
        )
        for metric in answers:
            if metric.id not in seen and newest[metric.id] is None:
                raise storage.MetricDoesNotExist(metric)
        for aggregation in {a for of_one in answers.values() for a in of_one}:
            if not span.is_empty(aggregation):
                _finish(aggregation, span, truncation, newest, answers)
        return answers

    def _newest(self, metrics: Iterable[Any]) -> dict[uuid.UUID, int | None]:
        unique = {metric.id: metric for metric in metrics}
        return self._fetcher.newest(unique.values()) if unique else {}

    # The cache of aggregates -----------------------------------------------

    def _split(
        self, jobs: Sequence[plan.Job], now: int
    ) -> tuple[list[plan.Job], list[rollups.Rolled]]:
        """What has to be computed, and what may be in the cache."""
        if not self._fetcher.has_rollups:
            return list(jobs), []
        plain, rolled = [], []
        for job in jobs:
            parts = rollup_choice.split(job, now)
            rolled += parts
            if not parts:
                plain.append(job)
        return plain, rolled

    def _fetch(
        self, jobs: Sequence[plan.Job], rolled: Sequence[rollups.Rolled]
    ) -> list[Rows]:
        """The rows of jobs; what is cached is told to those of `rolled`."""
        found = self._fetcher.fetch(
            [(job.query, _ids(job.metrics)) for job in jobs]
            + [(one.query(), _ids(one.metrics)) for one in rolled]
        )
        for one, cached in zip(rolled, found[len(jobs) :], strict=True):
            one.kept = cached
        gaps = [(one, gap) for one in rolled for gap in one.find_gaps()]
        if gaps:
            computed = self._fetcher.fetch(
                [(gap.query, _ids(gap.metrics)) for _one, gap in gaps]
            )
            for (one, gap), rows in zip(gaps, computed, strict=True):
                one.rows[gap] = rows
        return found[: len(jobs)]

    def _take(self, one: rollups.Rolled, answers: Answers, now: int) -> None:
        """Take an answer in which cached windows are, and cache it."""
        for aggregation in one.aggregations:
            found = one.series(aggregation)
            for metric, series in zip(one.metrics, found, strict=True):
                answers[metric][aggregation].ts = series
        if one.rows and self._store.is_on:
            policy = one.metrics[0].archive_policy
            oldest = rollup_lines.oldest_place(now, self._buckets.kept(policy))
            self._store.keep(one.bucket, one.lines(oldest))


def _compute(job: plan.Job, rows: Rows, span: Span, answers: Answers) -> None:
    """Make the windows of what was read."""
    for a in job.aggregations:
        within = span.windows(a)
        for metric in job.metrics:
            if metric.id in rows:
                answers[metric][a].ts = job.query.windows(
                    a, rows[metric.id], within
                )


def _finish(
    aggregation: Any,
    span: Span,
    truncation: Truncation,
    newest: Mapping[uuid.UUID, int | None],
    answers: Answers,
) -> None:
    """Cut off what is too old, resample, cut to what was asked for."""
    first = span.first(aggregation)
    may_be_old = truncation.may_cut(aggregation)
    for metric, of_metric in answers.items():
        series = of_metric.get(aggregation)
        if series is None:
            continue
        if may_be_old:
            series = truncation.truncated(
                metric, series, newest.get(metric.id)
            )
        if span.sampling is not None:
            series = resample.resample(series, span.sampling)
        series.ts = windows.cut(series.ts, first, span.stop)
        of_metric[aggregation] = series


def _ids(metrics: Iterable[Any]) -> list[uuid.UUID]:
    return [metric.id for metric in metrics]
