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
"""What a call has to ask for (pure).

What can share a query does: metrics of one bucket with the same method and
granularity, and all methods that are computed here from the same points.
"""

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import methods, rates
from gnocchi_influxdb.aggregation import span as spans
from gnocchi_influxdb.buckets import manager as buckets_
from gnocchi_influxdb.read import query as queries


@dataclasses.dataclass(eq=False)
class Job:
    """One read: some aggregations of some metrics of one bucket.

    :ivar what: what is asked of each metric, see `queries.Query`.
    :ivar windows: start of the first window of each aggregation and end of
        the last, ns since the epoch.
    :ivar rows: what was read.
    """

    bucket: str
    what: str
    aggregations: tuple[Any, ...]
    metrics: list[Any]
    start: int | None = None
    stop: int | None = None
    windows: dict[Any, tuple[int | None, int | None]] = dataclasses.field(
        default_factory=dict
    )
    rows: dict[uuid.UUID, Any] = dataclasses.field(default_factory=dict)

    def query(self) -> queries.Query:
        """The query of the job."""
        every = (
            0
            if self.what == queries.POINTS
            else schema.ns_of(self.aggregations[0].granularity)
        )
        return queries.Query(
            self.bucket, self.what, self.start, self.stop, every
        )


class Plan:
    """The reads of one call.

    :param now: ns since the epoch.
    :ivar read_from: by metric and aggregation, start of the first window that
        is read, where that is later than the one that was asked for.
    :ivar recent: aggregations of which nothing that is asked for can be too
        old.
    """

    def __init__(
        self,
        buckets: buckets_.Buckets,
        wanted: Mapping[Any, Sequence[Any]],
        span: spans.Span,
        now: int,
    ) -> None:
        self._buckets = buckets
        self._wanted = wanted
        self._span = span
        self._now = now
        self.jobs = self._jobs()
        self.recent = {
            a
            for job in self.jobs
            for a in job.aggregations
            if self._is_recent(a)
        }
        self.read_from: dict[tuple[uuid.UUID, Any], int] = {}

    def need_newest(self) -> list[Any]:
        """Metrics whose newest point must be known before."""
        return [
            metric
            for job in self.jobs
            if any(self._is_short(job.metrics[0], a) for a in job.aggregations)
            for metric in job.metrics
        ]

    def bound(self, newest: Mapping[uuid.UUID, int | None]) -> None:
        """Set the ranges of the reads.

        :param newest: time of the newest point of those metrics.
        """
        for job in self.jobs:
            self._bound(job, newest)

    def _jobs(self) -> list[Job]:
        # Most metrics have a policy of the others', and are asked the same.
        alike: dict[Any, list[Any]] = {}
        for metric, aggregations in self._wanted.items():
            key = (id(metric.archive_policy), tuple(aggregations))
            alike.setdefault(key, []).append(metric)
        jobs: dict[Any, Job] = {}
        for (_, aggregations), metrics in alike.items():
            bucket = self._buckets.name(metrics[0].archive_policy)
            groups: dict[Any, list[Any]] = {}
            for a in aggregations:
                if _is_offered(metrics[0], a) and not self._span.is_empty(a):
                    group = self._group(metrics[0], a)
                    groups.setdefault(group, []).append(a)
            for (what, _of), of_group in groups.items():
                job = (bucket, what, tuple(of_group))
                jobs.setdefault(job, Job(*job, metrics=[])).metrics += metrics
        return list(jobs.values())

    @staticmethod
    def _group(metric: Any, aggregation: Any) -> tuple[str, Any]:
        """What is asked for an aggregation, and what shares that with it."""
        method = aggregation.method
        if methods.is_pushed_down(method):
            return method, aggregation
        finest = min(d.granularity for d in metric.archive_policy.definition)
        if rates.has_ends(method, aggregation.granularity, finest):
            return queries.ENDS, aggregation[1:]
        return queries.POINTS, None

    def _is_recent(self, aggregation: Any) -> bool:
        """Whether all of its windows in the range count.

        None lies a timespan or more before the newest, which is in the range
        or before the present.
        """
        start, stop = self._span.windows(aggregation)
        return (
            aggregation.timespan is not None
            and start is not None
            and stop is not None
            and start
            > max(stop, self._now) - schema.ns_of(aggregation.timespan)
        )

    def _is_short(self, metric: Any, aggregation: Any) -> bool:
        """Whether a read could meet far more windows than it may answer.

        True for a definition that ends long before its bucket does, and a
        range that begins long before the definition ends.
        """
        if aggregation.timespan is None:
            return False
        timespan = schema.ns_of(aggregation.timespan)
        start, _stop = self._span.windows(aggregation)
        kept = self._buckets.retention(metric.archive_policy) * 10**9
        return (kept == 0 or kept > 2 * timespan) and (
            start is None or start < self._now - 2 * timespan
        )

    def _bound(self, job: Job, newest: Mapping[uuid.UUID, int | None]) -> None:
        """Set the range of a read."""
        bounds = []
        for a in job.aggregations:
            start, stop = self._span.windows(a)
            if self._is_short(job.metrics[0], a):
                oldest = [
                    self._oldest(a, time)
                    for time in (newest[m.id] for m in job.metrics)
                    if time is not None
                ]
                start = max([start or 0, min(oldest, default=0)])
                for m in job.metrics:
                    self.read_from[m.id, a] = start
            job.windows[a] = start, stop
            if start is not None and methods.is_rate(a.method):
                start -= schema.ns_of(a.granularity)
            bounds.append((start, stop))
        starts = [start for start, _stop in bounds if start is not None]
        stops = [stop for _start, stop in bounds if stop is not None]
        job.start = max(min(starts), 0) if len(starts) == len(bounds) else None
        job.stop = max(stops) if len(stops) == len(bounds) else None

    @staticmethod
    def _oldest(aggregation: Any, newest: int) -> int:
        """Oldest window to be answered when a point is the newest."""
        every = schema.ns_of(aggregation.granularity)
        timespan = schema.ns_of(aggregation.timespan)
        if not methods.is_pushed_down(aggregation.method):
            # Not each window with a point has a deviation or a rate, so that
            # of the newest point often has none yet.
            timespan += 8 * every
        return schema.floor(newest - timespan, every)


def _is_offered(metric: Any, aggregation: Any) -> bool:
    """Whether the archive policy has it: what it has not is never stored by
    Gnocchi's other drivers, so it is an empty series."""
    policy = metric.archive_policy
    return (
        any(
            d.granularity == aggregation.granularity for d in policy.definition
        )
        and aggregation.method in policy.aggregation_methods
    )
