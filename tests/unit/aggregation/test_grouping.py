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
"""Several metrics at once are the same as one after the other."""

import numpy
import pytest
from gnocchi import carbonara
from hypothesis import given
from hypothesis import strategies as st

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import windows

METHODS = ["std", "median", "95pct"]
METHODS += [f"rate:{method}" for method in (*METHODS, "mean", "count", "max")]
NS = 10**9


def aggregation(method, seconds=10):
    granularity = numpy.timedelta64(seconds, "s")
    return carbonara.Aggregation(method, granularity, None)


def series(points):
    times = numpy.array(sorted(points), "int64") * NS
    values = numpy.array([points[t] for t in sorted(points)], "float64")
    return schema.points(times.view("datetime64[ns]"), values)


def rows(found):
    return list(
        zip(
            found["timestamps"].view("int64").tolist(),
            found["values"].tolist(),
            strict=True,
        )
    )


def both(method, metrics, start=None, stop=None):
    """By metric: at once, and one after the other."""
    a = aggregation(method)
    of_all = [series(points) for points in metrics]
    found, owners = windows.from_points_of_all(a, of_all, (start, stop))
    return [rows(found[owners == i]) for i in range(len(metrics))], [
        rows(windows.from_points(a, of, (start, stop))) for of in of_all
    ]


times = st.one_of(st.integers(0, 200), st.integers(0, 2**33))
metrics = st.lists(
    st.dictionaries(times, st.floats(-1e6, 1e6), max_size=30),
    min_size=1,
    max_size=4,
)
bounds = st.one_of(st.none(), st.integers(0, 20).map(lambda n: n * 10 * NS))


def assert_alike(one, other):
    for of_one, of_other in zip(one, other, strict=True):
        assert [time for time, _ in of_one] == [time for time, _ in of_other]
        # carbonara rounds a percentile by where its points lie in the array.
        assert [value for _, value in of_one] == pytest.approx(
            [value for _, value in of_other], rel=1e-9, abs=1e-6
        )


@pytest.mark.parametrize("method", METHODS)
@given(metrics=metrics, start=bounds, stop=bounds)
def test_the_same(method, metrics, start, stop):
    assert_alike(*both(method, metrics, start, stop))


@pytest.mark.parametrize("method", METHODS)
def test_neighbours_do_not_meet(method):
    """The last window of one and the first of the next."""
    metrics = [
        {12: 4.0, 15: 1.0, 19: 2.0},
        {0: 5.0, 3: 9.0, 4: 2.0},
        {},
        {12: 7.0, 14: 8.0, 15: 9.0},
    ]
    at_once, each = both(method, metrics)
    assert_alike(at_once, each)
    assert [len(of_one) for of_one in each] == [1, 1, 0, 1]


def test_windows_of_several_metrics_are_joined():
    found, owners = windows.joined(
        [series({0: 1.0, 10: 2.0}), series({10: 3.0})]
    )
    assert rows(found) == [(0, 1.0), (10 * NS, 2.0), (10 * NS, 3.0)]
    assert owners.tolist() == [0, 0, 1]
