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
"""What a call has to ask for.

What can share a query does: metrics of one bucket with the same method and
granularity, and all methods that are computed here from the same points.

First `draft` says what is asked together, and of which metrics the newest
point has to be known. Then `make` sets the ranges.
"""

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import methods, rates
from gnocchi_influxdb.aggregation.span import Span
from gnocchi_influxdb.aggregation.windows import Bounds
from gnocchi_influxdb.buckets.manager import Buckets
from gnocchi_influxdb.read import cost, query
from gnocchi_influxdb.read.job import Job, Stored

# By how much (ns) the newest points of metrics that are read together may lie
# apart, even where a timespan is shorter.
_LEAST_SPREAD = 3600 * schema.SECOND


@dataclasses.dataclass(frozen=True, eq=False)
class Draft:
    """Some aggregations of some metrics that one query answers.

    :ivar query: what is asked, without a range.
    :ivar unbounded: aggregations that need the newest point of each metric,
        see `_is_unbounded`.
    :ivar stored: where windows of their one granularity are, if they are.
    :ivar retention: of the bucket, ns; 0 for ever.
    """

    query: query.Query
    aggregations: tuple[Any, ...]
    metrics: list[Any]
    unbounded: frozenset[Any]
    stored: Stored | None
    retention: int


def draft(
    buckets: Buckets,
    wanted: Mapping[Any, Sequence[Any]],
    span: Span,
    now: int,
) -> list[Draft]:
    """What is asked together.

    :param wanted: {metric: [carbonara.Aggregation]}.
    :param now: ns since the epoch.
    :raises InfluxDBError: it can't be seen what is downsampled.
    """
    # Most metrics of a call share a policy and the aggregations.
    alike: dict[Any, list[Any]] = {}
    for metric, aggregations in wanted.items():
        key = (id(metric.archive_policy), tuple(aggregations))
        alike.setdefault(key, []).append(metric)
    drafts: dict[Any, Draft] = {}
    for (_, aggregations), metrics in alike.items():
        policy = metrics[0].archive_policy
        bucket = buckets.name(policy)
        finest = min(d.granularity for d in policy.definition)
        stored = _stored(buckets, policy)
        by_query: dict[Any, list[Any]] = {}
        for a in aggregations:
            if _is_offered(policy, a) and not span.is_empty(a):
                where = stored.get(schema.ns_of(a.granularity))
                asked = _query(bucket, a, finest)
                by_query.setdefault((asked, where), []).append(a)
        retention = buckets.of(policy).retention * schema.SECOND
        for (asked, where), of_query in by_query.items():
            unbounded = frozenset(
                a for a in of_query if _is_unbounded(a, retention, span, now)
            )
            one = Draft(
                asked, tuple(of_query), [], unbounded, where, retention
            )
            one = drafts.setdefault((asked, where, one.aggregations), one)
            one.metrics.extend(metrics)
    return list(drafts.values())


def make(
    drafts: Sequence[Draft],
    span: Span,
    newest: Mapping[uuid.UUID, int | None],
    now: int,
) -> list[Job]:
    """The reads of one call.

    :param newest: time (ns) of the newest point of each metric of the drafts
        with `unbounded` aggregations, None without a point.
    :param now: ns since the epoch.
    """
    # A point of the far future must not hide the others.
    bounded = {
        metric: None if time is None else min(time, now)
        for metric, time in newest.items()
    }
    return [
        _job(part, span, bounded, now)
        for one in drafts
        for part in _of_one_time(one, bounded)
    ]


def is_recent(aggregation: Any, span: Span, now: int) -> bool:
    """Whether none of the windows in the range can be too old.

    None lies a timespan or more before the present.
    """
    start, _stop = span.windows(aggregation)
    return (
        aggregation.timespan is not None
        and start is not None
        and start > now - schema.ns_of(aggregation.timespan)
    )


def _stored(buckets: Buckets, policy: Any) -> dict[int, Stored]:
    """Where windows of a policy are, by their length in ns."""
    found = {}
    wanted = buckets.all_of(policy)
    for target in (wanted.moved, *wanted.windows):
        mark = buckets.watermarks.of(target.name)
        if mark is not None:
            found[target.every] = Stored(
                target.name, target.every, mark, target is wanted.moved
            )
    return found


def _is_offered(policy: Any, aggregation: Any) -> bool:
    """Whether an archive policy has an aggregation.

    Gnocchi's other drivers never store others, so they are empty series.
    """
    return (
        any(
            d.granularity == aggregation.granularity for d in policy.definition
        )
        and aggregation.method in policy.aggregation_methods
    )


def _query(bucket: str, aggregation: Any, finest: Any) -> query.Query:
    """What is asked for an aggregation, without a range."""
    method, granularity, _timespan = aggregation
    every = schema.ns_of(granularity)
    if methods.is_pushed_down(method):
        return query.WindowsQuery(bucket, every=every, function=method)
    if rates.has_ends(method, granularity, finest):
        return query.RateEndsQuery(bucket, every=every)
    return query.PointsQuery(bucket)


def _is_unbounded(
    aggregation: Any, retention: int, span: Span, now: int
) -> bool:
    """Whether a read could meet far more windows than it may answer.

    True if the range begins long before the definition's timespan does while
    the bucket still has points there. The newest point bounds it then.

    :param retention: of the bucket, ns; 0 for ever.
    """
    if aggregation.timespan is None:
        return False
    timespan = schema.ns_of(aggregation.timespan)
    start, _stop = span.windows(aggregation)
    return (retention == 0 or retention > 2 * timespan) and (
        start is None or start < now - 2 * timespan
    )


def _of_one_time(
    one: Draft, newest: Mapping[uuid.UUID, int | None]
) -> list[Draft]:
    """A draft for all metrics whose newest points lie close together.

    A metric that has long fallen silent must not make the read of another
    one longer than its timespan.
    """
    if not one.unbounded or len(one.metrics) < 2:
        return [one]
    spread = max(
        _LEAST_SPREAD, *(schema.ns_of(a.timespan) for a in one.unbounded)
    )
    groups: list[list[Any]] = []
    oldest = None
    for metric in sorted(
        one.metrics, key=lambda metric: newest[metric.id] or 0, reverse=True
    ):
        time = newest[metric.id] or 0
        if oldest is None or time < oldest:
            groups.append([])
            oldest = time - spread
        groups[-1].append(metric)
    if len(groups) == 1:
        return [one]
    return [dataclasses.replace(one, metrics=group) for group in groups]


def _job(
    one: Draft, span: Span, newest: Mapping[uuid.UUID, int | None], now: int
) -> Job:
    windows: dict[Any, Bounds] = {}
    read_from: dict[Any, int] = {}
    starts: list[Any] = []
    for a in one.aggregations:
        start, stop = span.windows(a)
        if a in one.unbounded:
            times = [newest[m.id] for m in one.metrics]
            oldest = min(
                (_oldest(a, time) for time in times if time is not None),
                default=0,
            )
            start = read_from[a] = max(start or 0, oldest)
        windows[a] = start, stop
        if start is not None and methods.is_rate(a.method):
            start -= schema.ns_of(a.granularity)
        starts.append(start)
    stops: list[Any] = [stop for _start, stop in windows.values()]
    first = None if None in starts else max(min(starts), 0)
    last = None if None in stops else max(stops)
    points = _points(
        one,
        max(first or 0, now - one.retention if one.retention else 0),
        now if last is None else last,
    )
    return Job(
        dataclasses.replace(
            one.query,
            start=first,
            stop=last,
            most=cost.metrics_per_query(points),
        ),
        one.aggregations,
        one.metrics,
        windows,
        read_from,
        one.stored,
        one.stored,
        points,
    )


def _points(one: Draft, start: int, stop: int) -> int:
    """Points, one a second, or windows that one metric has in a range (ns)."""
    every, windows = one.query.every or schema.SECOND, 0
    if one.stored is not None and not one.stored.moved:
        until = max(min(one.stored.watermark.until, stop), start)
        windows = (until - start) // one.stored.every
        start = until
    return windows + max(stop - start, 0) // every


def _oldest(aggregation: Any, newest: int) -> int:
    """Start of the oldest window to be answered.

    :param newest: time of the newest point.
    """
    every = schema.ns_of(aggregation.granularity)
    timespan = schema.ns_of(aggregation.timespan)
    if not methods.is_pushed_down(aggregation.method):
        # Not each window with a point has a deviation or a rate, so that
        # of the newest point often has none yet.
        timespan += 8 * every
    return schema.floor(newest - timespan, every)
