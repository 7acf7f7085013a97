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
"""Plans: complete reads from archive policies and ranges."""

import types
import uuid

import numpy
import pytest
from gnocchi import archive_policy, indexer
from hypothesis import given
from hypothesis import strategies as st

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import methods, span
from gnocchi_influxdb.buckets import policy as policies
from gnocchi_influxdb.buckets.watermark import Watermark
from gnocchi_influxdb.read import plan, query

NS = 10**9
HOUR = 3600
DAY = 24 * HOUR
NOW = 20300 * DAY * NS
METHODS = ["mean", "max", "std", "95pct", "rate:mean", "rate:sum", "rate:max"]


class Buckets:
    """As kept for so many seconds.

    :param watermarks: {name of a bucket: its watermark}.
    """

    def __init__(self, retention=0, watermarks=None):
        self._retention = retention
        self.watermarks = types.SimpleNamespace(of=(watermarks or {}).get)

    def all_of(self, policy):
        definition = sorted(
            policies.Definition(
                schema.ns_of(d.granularity), d.points, d.timespan
            )
            for d in policy.definition
        )
        return policies.buckets(
            "", policy.name, tuple(definition), True, True, DAY
        )

    def name(self, policy):
        return policy.name

    def of(self, policy):
        return types.SimpleNamespace(retention=self._retention)


def policy(*definition, name="p", some=tuple(METHODS)):
    """Of (points, granularity in seconds)."""
    return archive_policy.ArchivePolicy(name, 0, definition, list(some))


def metric(a_policy):
    return indexer.Metric(uuid.uuid4(), a_policy)


def aggregation(a_policy, method, seconds):
    return a_policy.get_aggregation(method, numpy.timedelta64(seconds, "s"))


MINUTES = policy((60 * 24, 60), (24 * 365, HOUR))


def grouped(wanted, start, stop, retention=0):
    return plan.draft(Buckets(retention), wanted, span.Span(start, stop), NOW)


def made(wanted, start, stop, newest=None, retention=0):
    drafts = grouped(wanted, start, stop, retention)
    return plan.make(drafts, span.Span(start, stop), newest or {}, NOW)


def test_what_shares_a_query():
    metrics = [metric(MINUTES) for _ in range(3)]
    wanted = {
        m: [
            aggregation(MINUTES, method, HOUR)
            for method in ("mean", "std", "95pct", "rate:mean", "rate:sum")
        ]
        for m in metrics
    }
    start, stop = NOW - 6 * HOUR * NS, NOW
    every = HOUR * NS
    mean, points, ends = made(wanted, start, stop)
    assert mean.query == query.WindowsQuery(
        "p", start, stop, every=every, function="mean"
    )
    # A rate has the window before, a deviation has not, and both share.
    assert points.query == query.PointsQuery("p", start, stop)
    assert ends.query == query.RateEndsQuery(
        "p", start - every, stop, every=every
    )
    assert [len(job.aggregations) for job in (mean, points, ends)] == [1, 2, 2]
    for job in mean, points, ends:
        assert job.metrics == metrics
        assert set(job.windows.values()) == {(start, stop)}
        assert not job.read_from


def test_a_rate_of_the_finest_granularity_is_read_from_its_points():
    m = metric(MINUTES)
    wanted = {m: [aggregation(MINUTES, "rate:mean", 60)]}
    (job,) = made(wanted, NOW - 600 * NS, NOW)
    assert job.query == query.PointsQuery("p", NOW - 660 * NS, NOW)


def test_policies_are_read_by_themselves():
    other = policy((10, 60), name="q")
    metrics = metric(MINUTES), metric(other), metric(MINUTES)
    wanted = {m: [aggregation(m.archive_policy, "mean", 60)] for m in metrics}
    jobs = made(wanted, NOW - 300 * NS, NOW)
    assert {job.query.bucket: job.metrics for job in jobs} == {
        "p": [metrics[0], metrics[2]],
        "q": [metrics[1]],
    }


def test_a_policy_that_was_loaded_twice_is_one():
    metrics = [metric(policy((10, 60))) for _ in range(3)]
    wanted = {m: [aggregation(m.archive_policy, "mean", 60)] for m in metrics}
    (job,) = made(wanted, NOW - 300 * NS, NOW)
    assert job.metrics == metrics


def test_what_a_policy_has_not_is_not_read():
    few = policy((10, 60), some=["mean"])
    m = metric(few)
    # Of another policy.
    wanted = {
        m: [
            aggregation(MINUTES, "max", 60),
            aggregation(MINUTES, "mean", HOUR),
        ]
    }
    assert made(wanted, NOW - 300 * NS, NOW) == []
    # An empty range.
    assert made({m: [aggregation(few, "mean", 60)]}, NOW, NOW) == []


@pytest.mark.parametrize(
    ("days", "retention", "is_bounded"),
    [
        (None, 0, True),
        (3, 0, True),
        (2, 0, False),
        # The bucket has hardly more than is answered.
        (None, 2 * DAY, False),
        (None, 3 * DAY, True),
    ],
)
def test_when_the_newest_point_has_to_be_known(days, retention, is_bounded):
    """The definition has a day of minutes."""
    metrics = [metric(MINUTES), metric(MINUTES)]
    a = aggregation(MINUTES, "mean", 60)
    start = None if days is None else NOW - days * DAY * NS
    wanted = {m: [a] for m in metrics}
    (draft,) = grouped(wanted, start, None, retention)
    assert draft.unbounded == ({a} if is_bounded else set())
    newest = {
        metrics[0].id: NOW - 30 * NS,
        metrics[1].id: NOW - HOUR * NS,
    }
    (job,) = made(wanted, start, None, newest, retention)
    if is_bounded:
        # A timespan before the older one of them.
        first = NOW - (HOUR + DAY) * NS
        assert job.query.start == first
        assert job.read_from == {a: first}
        assert job.windows == {a: (first, None)}
    else:
        assert job.query.start == start
        assert not job.read_from


def test_metrics_without_a_point_bound_nothing():
    m = metric(MINUTES)
    a = aggregation(MINUTES, "mean", 60)
    (job,) = made({m: [a]}, None, None, {m.id: None})
    assert job.query.start == 0
    assert job.read_from == {a: 0}


@pytest.mark.parametrize(
    ("hours", "is_recent"), [(None, False), (24, False), (23, True)]
)
def test_what_can_not_be_too_old(hours, is_recent):
    start = None if hours is None else NOW - hours * HOUR * NS
    a = aggregation(MINUTES, "mean", 60)
    assert plan.is_recent(a, span.Span(start, NOW), NOW) is is_recent
    # A point of the future pushes nothing out of the timespan.
    assert plan.is_recent(a, span.Span(start, None), NOW) is is_recent


bounds = st.one_of(st.none(), st.integers(1, NOW))


@given(
    start=bounds,
    stop=bounds,
    some=st.lists(
        st.tuples(st.sampled_from(METHODS), st.sampled_from([60, HOUR])),
        unique=True,
    ),
    newest=st.one_of(st.none(), st.integers(0, NOW)),
    retention=st.sampled_from([0, DAY, 10 * DAY, 1000 * DAY]),
)
def test_plans_are_complete(start, stop, some, newest, retention):
    """Each aggregation is read once, and all that its windows are made of."""
    m = metric(MINUTES)
    wanted = {m: [aggregation(MINUTES, *one) for one in some]}
    jobs = made(wanted, start, stop, {m.id: newest}, retention)
    read = [a for job in jobs for a in job.aggregations]
    asked = span.Span(start, stop)
    assert sorted(read) == sorted(
        a for a in wanted[m] if not asked.is_empty(a)
    )
    for job in jobs:
        for a in job.aggregations:
            first, end = job.windows[a]
            assert end == asked.windows(a)[1]
            if job.query.start is not None:
                before = a.granularity * methods.is_rate(a.method)
                reach = int(before / numpy.timedelta64(1, "ns"))
                assert job.query.start <= max(first - reach, 0)
            if job.query.stop is not None:
                assert job.query.stop >= end
            if a in job.read_from:
                assert first == job.read_from[a]
            else:
                assert first == asked.windows(a)[0]


DAYS = DAY * NS


@pytest.mark.parametrize(
    ("method", "start", "retention", "most"),
    [
        ("std", NOW - DAYS, 0, 50),
        ("std", NOW - 10 * DAYS, 0, 6),
        ("std", NOW - 300 * DAYS, 0, 1),
        # No more than what the bucket keeps.
        ("std", NOW - 300 * DAYS, 10 * DAY, 6),
        ("std", None, 10 * DAY, 6),
        # Windows of an hour.
        ("mean", NOW - 300 * DAYS, 0, 50),
        ("rate:mean", NOW - 300 * DAYS, 0, 50),
    ],
)
def test_metrics_in_one_query(method, start, retention, most):
    m = metric(MINUTES)
    wanted = {m: [aggregation(MINUTES, method, HOUR)]}
    newest = {m.id: NOW}
    (job,) = made(wanted, start, None, newest, retention)
    assert job.query.per_request(100) == most
    assert job.query.most == most


def test_metrics_in_one_query_with_downsampled_windows():
    m = metric(MINUTES)
    wanted = {m: [aggregation(MINUTES, "std", HOUR)]}
    mark = Watermark(NOW - 10 * DAYS, NOW, NOW - 300 * DAYS)
    buckets = Buckets(0, {buckets_name(): mark})
    range_ = span.Span(NOW - 300 * DAYS, NOW)
    drafts = plan.draft(buckets, wanted, range_, NOW)
    (job,) = plan.make(drafts, range_, {m.id: NOW}, NOW)
    # 290 days of hours, 10 days of points.
    assert job.query.most == 5
    assert job.stored_query().per_request(100) == 5


def buckets_name():
    (target,) = Buckets().all_of(MINUTES).windows
    return target.name
