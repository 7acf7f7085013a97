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

import itertools
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy
from gnocchi import storage

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import methods, resample, windows
from gnocchi_influxdb.aggregation.span import Span
from gnocchi_influxdb.buckets.manager import Buckets
from gnocchi_influxdb.read import plan
from gnocchi_influxdb.read.coalescing import Rows
from gnocchi_influxdb.read.fetcher import Fetcher
from gnocchi_influxdb.read.guard import Guard, Total
from gnocchi_influxdb.read.job import Job
from gnocchi_influxdb.read.truncation import Truncation

#: By metric, by aggregation: carbonara.AggregatedTimeSerie.
Answers = dict[Any, dict[Any, Any]]

_NOTHING = numpy.empty(0, dtype=schema.DTYPE)


class Reader:
    """Reads aggregates. Threads share it.

    :param most: points of a metric that a read may take, 0: any number.
    :param together: aggregates of all metrics of a request, 0: any number.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        buckets: Buckets,
        most: int = 0,
        together: int = 0,
    ) -> None:
        self._fetcher = fetcher
        self._buckets = buckets
        self._guard = Guard(fetcher, buckets, most)
        self._total = Total(together)

    def read(self, wanted: Mapping[Any, Sequence[Any]], span: Span) -> Answers:
        """Aggregated series of each metric and aggregation.

        :param wanted: {metric: [carbonara.Aggregation]}.
        :return: {metric: {aggregation: carbonara.AggregatedTimeSerie}}.
        :raises gnocchi.storage.MetricDoesNotExist: a metric has no point.
        :raises TooLargeError: it takes too many points, or the request of
            which it is a part too many aggregates.
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
        planned = plan.make(drafts, span, newest, now)
        self._guard.check(planned, now)
        answers: Answers = {
            metric: {a: methods.empty(a) for a in aggregations}
            for metric, aggregations in wanted.items()
        }
        seen: set[uuid.UUID] = set()
        for pieces in itertools.zip_longest(
            *(job.pieces() for job in planned)
        ):
            seen |= self._answer([job for job in pieces if job], answers)
            self._total.check(answers)
        truncation = Truncation(
            self._fetcher, self._answer, span, now, planned
        )
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
            _finish(aggregation, span, truncation, newest, answers)
        self._total.hold(answers)
        return answers

    def _newest(self, metrics: Iterable[Any]) -> dict[uuid.UUID, int | None]:
        unique = {metric.id: metric for metric in metrics}
        return self._fetcher.newest([*unique.values()]) if unique else {}

    def _answer(
        self, planned: Sequence[Job], answers: Answers
    ) -> set[uuid.UUID]:
        """Fill in the windows of all jobs.

        :return: metrics that have a point or a window.
        """
        stored = [(job, job.stored_query()) for job in planned]
        # Of these jobs points are read by themselves.
        alone = [
            part
            for job, asked in stored
            if (asked is None or asked.behind is None)
            and (part := job.behind) is not None
        ]
        asking = [(job, asked) for job, asked in stored if asked is not None]
        found = self._fetcher.fetch(
            [(job.query, _ids(job.metrics)) for job in alone]
            + [(asked, _ids(job.metrics)) for job, asked in asking]
        )
        made = list(zip(alone, found, strict=False))
        pending: list[Job] = []
        for (job, asked), rows in zip(
            asking, found[len(alone) :], strict=True
        ):
            for metric in job.metrics:
                if metric.id in rows:
                    for a in job.aggregations:
                        answers[metric][a].ts = job.windows_stored(
                            a, rows[metric.id]
                        )
            pending += job.pending(rows)
            if asked.behind is not None and (behind := job.behind):
                newer = {id_: of_one[-1] for id_, of_one in rows.items()}
                made.append((behind, newer))
        again = self._fetcher.fetch(
            [(job.query, _ids(job.metrics)) for job in pending]
            + [(job.filled_query(), _ids(job.metrics)) for job in pending]
        )
        filled = again[len(pending) :]
        for job, rows, beside in zip(pending, again, filled, strict=False):
            _compute(job, rows, answers, beside)
        for job, rows in made:
            _compute(job, rows, answers, {})
        # A mark alone is of a measure that was not written.
        return {id_ for rows in found[: len(alone)] for id_ in rows} | {
            metric.id
            for metric, series in answers.items()
            if any(map(len, series.values()))
        }


def _compute(job: Job, rows: Rows, answers: Answers, filled: Rows) -> None:
    """Make the windows of what was read.

    :param filled: the answer to `Job.filled_query`.
    """
    for a in job.aggregations:
        made = job.query.windows_by_metric(a, rows, job.windows[a])
        for metric in job.metrics:
            if metric.id in made:
                series = answers[metric][a]
                series.ts = job.joined(
                    a,
                    series.ts,
                    made[metric.id],
                    filled.get(metric.id, _NOTHING),
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
