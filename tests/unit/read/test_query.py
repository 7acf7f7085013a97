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
"""The kinds of queries: how they are rendered, and windows from their rows."""

import uuid

import numpy
import pytest
from gnocchi import carbonara
from hypothesis import given
from hypothesis import strategies as st

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import rates
from gnocchi_influxdb.read import cost, query
from gnocchi_influxdb.wire import flux, influxql

EVERY = 10
ID = uuid.UUID("5a301761-aaaa-46e2-8900-8b4f6fe6675a")


def windows(start=0, stop=100, function="mean"):
    return query.WindowsQuery("b", start, stop, every=EVERY, function=function)


def array(points):
    times = numpy.array(sorted(points), "int64")
    values = numpy.array([points[t] for t in sorted(points)], "float64")
    return schema.points(times.view("datetime64[ns]"), values)


def aggregation(method):
    return carbonara.Aggregation(method, numpy.timedelta64(EVERY, "ns"), None)


def times(found):
    return found["timestamps"].view("int64").tolist()


def test_points_are_rendered():
    asked = query.PointsQuery("b", 5, 7, 9)
    assert asked.flux([ID]) == flux.points("b", [ID], 5, 7, limit=9)
    assert asked.influxql([ID]) == (
        influxql.points([ID], 5, 7, 9),
        influxql.POINTS,
    )


def test_newest_is_rendered():
    asked = query.NewestQuery("b")
    assert asked.flux([ID]) == flux.newest("b", [ID])
    assert asked.influxql([ID]) == (influxql.newest([ID]), "last")


@pytest.mark.parametrize("function", sorted(schema.WINDOW_FUNCTIONS))
@pytest.mark.parametrize("counts", [True, False])
def test_windows_are_rendered(function, counts):
    asked = windows(10, 40, function)
    assert asked.flux([ID]) == flux.windows("b", [ID], 10, 40, EVERY, function)
    assert asked.influxql([ID], counts) == (
        influxql.windows([ID], 10, 40, EVERY, function, counts),
        function,
    )


def test_a_query_has_the_ends_of_rates():
    ends = query.RateEndsQuery("b", 10, 40, every=EVERY)
    assert ends.end("last") == windows(10, 40, "last")


@pytest.mark.parametrize(
    ("start", "stop", "is_empty"),
    [
        (0, 10, False),
        (10, 10, True),
        (20, 10, True),
        (None, 0, True),
        (None, 10, False),
        (0, None, False),
        (None, None, False),
    ],
)
def test_empty_ranges(start, stop, is_empty):
    assert query.PointsQuery("b", start, stop).is_empty() is is_empty


def test_equal_questions_wait_for_each_other():
    """They are the keys of what is under way."""
    assert windows() == windows()
    assert hash(windows()) == hash(windows())
    assert query.PointsQuery("b", 0, 1) != query.NewestQuery("b", 0, 1)
    assert query.PointsQuery("b", 0, 1) != query.PointsQuery("b", 0, 1, 5)
    assert windows(function="min") != windows(function="max")


points = st.dictionaries(
    st.integers(0, 200), st.integers(-(2**40), 2**40).map(float)
)


def aggregated(asked, points):
    """Rows of one metric from its points."""
    assert asked.from_points({}) == {}
    metric = uuid.uuid4()
    return asked.from_points({metric: points})[metric]


@given(points)
def test_windows_from_few_points(points):
    found = aggregated(windows(function="count"), array(points))
    assert times(found) == sorted({t // EVERY * EVERY for t in points})
    assert found["values"].sum() == len(points)


@pytest.mark.parametrize("method", ["rate:mean", "rate:sum", "rate:count"])
@given(points=points, start=st.sampled_from([None, 50]))
def test_rates_are_the_same_from_points_and_ends(method, points, start):
    a = aggregation(method)
    ends = query.RateEndsQuery("b", 0, 210, every=EVERY)
    from_ends = ends.windows(a, aggregated(ends, array(points)), (start, 210))
    from_points = query.PointsQuery("b", 0, 210).windows(
        a, array(points), (start, 210)
    )
    assert from_ends.tolist() == from_points.tolist()
    assert start is None or all(time >= start for time in times(from_ends))


def test_ends_are_three_arrays():
    ends = aggregated(
        query.RateEndsQuery("b", every=EVERY), array({1: 5.0, 2: 7.0})
    )
    assert [rows["values"].tolist() for rows in ends] == [[5.0], [7.0], [2.0]]
    assert rates.ENDS == ("first", "last", "count")


@pytest.mark.parametrize("method", ["std", "95pct", "rate:std", "rate:max"])
@pytest.mark.parametrize("together", [10**5, 4])
def test_points_of_several_metrics(method, together, monkeypatch):
    """At once, or a metric at a time where there are very many."""
    monkeypatch.setattr(cost, "POINTS_TOGETHER", together)
    a = aggregation(method)
    of_all = [
        array({15: 1.0, 19: 2.0, 20: 4.0, 21: 4.5}),
        array({}),
        array({12: 7.0, 14: 8.0, 15: 9.0, 29: 1.0}),
    ]
    asked = query.PointsQuery("b", 0, 100)
    found = asked.windows_by_metric(a, dict(enumerate(of_all)), (10, 30))
    assert list(found) == [0, 1, 2]
    for i, of_one in enumerate(of_all):
        alone = asked.windows(a, of_one, (10, 30))
        assert times(found[i]) == times(alone)
        assert found[i]["values"] == pytest.approx(alone["values"], rel=1e-9)
    assert len(found[0])
    assert not len(found[1])


def test_windows_of_several_metrics():
    rows = {1: array({0: 1.0, 10: 2.0}), 2: array({0: 3.0})}
    assert (
        windows().windows_by_metric(aggregation("mean"), rows, (0, 20)) == rows
    )
