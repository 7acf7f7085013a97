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

import numpy
import pytest
from gnocchi import carbonara
from hypothesis import given
from hypothesis import strategies as st

from gnocchi_influxdb.aggregation import methods, rates

EVERY = 10
METHODS = ("rate:mean", "rate:sum", "rate:count")


def aggregation(method):
    return carbonara.Aggregation(method, numpy.timedelta64(EVERY, "ns"), None)


def array(pairs):
    found = numpy.zeros(len(pairs), dtype=carbonara.TIMESERIES_ARRAY_DTYPE)
    found["timestamps"] = numpy.array(
        [t for t, _ in pairs], dtype="int64"
    ).view("M8[ns]")
    found["values"] = [v for _, v in pairs]
    return found


def ends(points):
    """What InfluxDB answers: first, last and count of each window."""
    windows = {}
    for t, v in sorted(points.items()):
        windows.setdefault(t // EVERY * EVERY, []).append(v)
    return (
        array([(w, v[0]) for w, v in windows.items()]),
        array([(w, v[-1]) for w, v in windows.items()]),
        array([(w, float(len(v))) for w, v in windows.items()]),
    )


def both(points, method):
    """A rate from the ends of windows and from the points."""
    from_points = methods.compute(
        array(sorted(points.items())), aggregation(method)
    )
    from_ends = rates.from_ends(*ends(points), aggregation(method))
    assert from_ends.aggregation == from_points.aggregation
    assert (from_ends.timestamps == from_points.timestamps).all()
    return from_ends.values.tolist(), from_points.values.tolist()


times = st.integers(0, 200)


@pytest.mark.parametrize("method", METHODS)
@given(
    points=st.dictionaries(
        times, st.integers(-(2**40), 2**40).map(float), max_size=40
    )
)
def test_both_ways_are_the_same(method, points):
    # Integers, so that neither way rounds, but for the division.
    from_ends, from_points = both(points, method)
    assert from_ends == from_points


@pytest.mark.parametrize("method", METHODS)
@given(
    start=st.integers(2**53, 2**62),
    steps=st.dictionaries(times, st.integers(0, 2**30), max_size=40),
)
def test_counters_too_large_for_their_last_digits(method, start, steps):
    counter, points = start, {}
    for t in sorted(steps):
        counter += steps[t]
        points[t] = float(counter)
    from_ends, from_points = both(points, method)
    assert from_ends == pytest.approx(from_points, rel=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_nothing(method):
    assert both({}, method) == ([], [])
    assert both({5: 1.0}, method) == ([], [])


def test_the_window_just_before_counts_and_no_other():
    points = {0: 1.0, 9: 2.0, 10: 5.0, 30: 7.0, 31: 9.0, 50: 1.0}
    from_ends, from_points = both(points, "rate:sum")
    # 0: 2-1; 10: 5-2; 30: 9-7, nothing in 20; 50: one point, nothing in 40.
    assert from_ends == from_points == [1.0, 3.0, 2.0]


def test_a_point_written_between_the_three_questions():
    points = {0: 1.0, 12: 4.0}
    first, _last, _count = ends(points)
    more = ends({**points, 25: 9.0})
    series = rates.from_ends(first, more[1], more[2], aggregation("rate:sum"))
    assert series.values.tolist() == [3.0]


def test_only_dense_windows():
    minute, hour = numpy.timedelta64(1, "m"), numpy.timedelta64(1, "h")
    for method in METHODS:
        assert rates.has_ends(method, hour, minute)
        assert not rates.has_ends(method, minute, minute)
    assert not rates.has_ends("rate:max", hour, minute)
    assert not rates.has_ends("mean", hour, minute)
