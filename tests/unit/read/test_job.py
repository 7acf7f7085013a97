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
"""Which part of a read is downsampled, and which is made of points."""

import dataclasses
import uuid

import numpy
import pytest
from gnocchi import archive_policy, indexer

from gnocchi_influxdb import schema
from gnocchi_influxdb.buckets.watermark import SKEW, Watermark
from gnocchi_influxdb.read import query
from gnocchi_influxdb.read.job import Job, Stored

NS = 10**9
HOUR = 3600 * NS
T0 = 490000 * HOUR
POLICY = archive_policy.ArchivePolicy(
    "p", 0, [(1440, 60), (8760, 3600)], ["mean", "std", "rate:mean"]
)
METRICS = [indexer.Metric(uuid.uuid4(), POLICY) for _ in range(3)]


def job(*methods, start=T0, stop=T0 + 48 * HOUR, until=24, moved=False):
    """A read of two days of hours, of which `until` are downsampled."""
    aggregations = tuple(
        POLICY.get_aggregation(method, numpy.timedelta64(3600, "s"))
        for method in methods or ["mean"]
    )
    mark = Watermark(T0 + until * HOUR, T0 + 30 * HOUR, T0)
    return Job(
        query.PointsQuery("p", start, stop),
        aggregations,
        METRICS,
        dict.fromkeys(aggregations, (start, stop)),
        {},
        Stored("p@3600s", HOUR, mark, moved),
    )


def array(values):
    found = numpy.empty(len(values), schema.DTYPE)
    found["timestamps"] = [numpy.datetime64(t, "ns") for t, _ in values]
    found["values"] = [value for _, value in values]
    return found


def marks(*hours):
    """Marks of windows, in hours after T0."""
    return array([(T0 + i, (T0 + h * HOUR) / NS) for i, h in enumerate(hours)])


def ranges(jobs):
    """[(start, stop, metrics)] of jobs, in hours after T0."""
    found = []
    for part in jobs:
        (span, *_) = part.windows.values()
        start, stop = ((t - T0) / HOUR for t in span)
        found.append((start, stop, len(part.metrics)))
    return sorted(found)


def test_what_lies_before_the_watermark_is_downsampled():
    one = job("mean", "std")
    asked = one.stored_query()
    assert (asked.bucket, asked.start, asked.stop) == (
        "p@3600s",
        T0,
        T0 + 24 * HOUR,
    )
    assert asked.methods == ("mean", "std")
    assert asked.pending_since == T0 + 30 * HOUR - SKEW * NS
    assert ranges([one.behind]) == [(24, 48, 3)]
    assert asked.behind == query.PointsQuery(
        "p", T0 + 24 * HOUR, T0 + 48 * HOUR
    )


def test_a_rate_needs_the_points_of_the_window_before():
    behind = job("rate:mean").behind
    assert behind.query.start == T0 + 23 * HOUR
    assert ranges([behind]) == [(24, 48, 3)]


@pytest.mark.parametrize("until", [48, 60])
def test_nothing_lies_behind(until):
    one = job(until=until)
    assert one.behind is None
    asked = one.stored_query()
    assert asked.behind is None
    assert asked.stop == T0 + 48 * HOUR


def test_nothing_is_downsampled():
    one = job(until=0)
    assert one.stored_query() is None
    assert ranges([one.behind]) == [(0, 48, 3)]


def test_a_range_without_bounds():
    one = job(start=None, stop=None)
    asked = one.stored_query()
    assert (asked.start, asked.stop) == (None, T0 + 24 * HOUR)
    behind = one.behind
    assert behind.query.start == T0 + 24 * HOUR
    assert behind.query.stop is None


def test_points_of_moved_history_count_everywhere():
    one = job(moved=True)
    assert one.behind is one
    assert one.stored_query().behind is None
    assert not one.pending({METRICS[0].id: (marks(3), array([]))})


def test_windows_with_late_measures_are_pending():
    rows = {
        METRICS[0].id: (marks(7, 3, 4, 3, 30), array([])),
        METRICS[1].id: (marks(3, 4), array([])),
        METRICS[2].id: (marks(), array([])),
    }
    found = job().pending(rows)
    # What lies behind the watermark is made of points anyway.
    assert ranges(found) == [(3, 5, 2), (7, 8, 1)]
    assert not any(part.stored for part in found)


def test_a_late_measure_counts_for_the_next_rate():
    rows = {METRICS[0].id: (marks(3, 23), array([]))}
    found = job("rate:mean").pending(rows)
    assert ranges(found) == [(3, 5, 1), (23, 24, 1)]
    assert min(part.query.start for part in found) == T0 + 2 * HOUR


def test_pending_windows_that_are_not_asked_for():
    rows = {METRICS[0].id: (marks(3), array([]))}
    assert not job(start=T0 + 5 * HOUR).pending(rows)
    assert not job("rate:mean", start=T0 + 5 * HOUR).pending(rows)
    assert job("rate:mean", start=T0 + 4 * HOUR).pending(rows)


def test_many_ranges_are_read_as_one():
    rows = {METRICS[0].id: (marks(*range(0, 24, 2)), array([]))}
    rows[METRICS[1].id] = marks(*range(1, 12, 2)), array([])
    assert ranges(job().pending(rows)) == [(0, 23, 2)]


def test_windows_of_each_aggregation():
    one = job("std", "mean", start=T0 + HOUR)
    mean, std = (
        array([(T0 + h * HOUR, value + h) for h in range(3)])
        for value in (10.0, 20.0)
    )
    rows = marks(), std, mean, array([])
    of = {a.method: one.windows_stored(a, rows) for a in one.aggregations}
    assert of["mean"]["values"].tolist() == [11.0, 12.0]
    assert of["std"]["values"].tolist() == [21.0, 22.0]


def test_reading_from_earlier():
    one = job("std", "rate:mean", start=T0 + 5 * HOUR)
    rate = one.aggregations[1]
    earlier = one.from_earlier(rate, METRICS[1], T0)
    assert earlier.metrics == [METRICS[1]]
    assert earlier.windows == {rate: (T0, T0 + 48 * HOUR)}
    assert earlier.query.start == T0 - HOUR
    assert earlier.stored_query().start == T0


@pytest.mark.parametrize(("most", "sizes"), [(1, [2, 1]), (2, [3])])
def test_pieces(most, sizes):
    one = job()
    one = dataclasses.replace(
        one, query=dataclasses.replace(one.query, most=most)
    )
    pieces = [*one.pieces()]
    assert [len(piece.metrics) for piece in pieces] == sizes
    assert [m for piece in pieces for m in piece.metrics] == METRICS
    assert {piece.query for piece in pieces} == {one.query}
