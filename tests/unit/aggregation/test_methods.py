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
"""Which method is computed where, and what is computed here."""

import itertools
import statistics

import numpy
import pytest
from gnocchi import carbonara
from hypothesis import given
from hypothesis import strategies as st

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import methods

EVERY = 10
points = st.dictionaries(
    st.integers(0, 200), st.integers(-(2**20), 2**20).map(float), max_size=40
)


def aggregation(method):
    return carbonara.Aggregation(method, numpy.timedelta64(EVERY, "ns"), None)


def array(some):
    times = numpy.array(sorted(some), "int64")
    values = numpy.array([some[t] for t in sorted(some)], "float64")
    return schema.points(times.view("datetime64[ns]"), values)


def windows(some):
    found = {}
    for t in sorted(some):
        found.setdefault(t // EVERY * EVERY, []).append(some[t])
    return found


def as_dict(series):
    times = series.timestamps.astype("datetime64[ns]").astype("int64")
    return dict(zip(times.tolist(), series.values.tolist(), strict=True))


def test_where_methods_are_computed():
    for method in schema.WINDOW_FUNCTIONS:
        assert methods.is_pushed_down(method)
        assert not methods.is_pushed_down(f"rate:{method}")
    for method in "std", "median", "95pct":
        assert not methods.is_pushed_down(method)
    assert methods.is_rate("rate:mean")
    assert not methods.is_rate("mean")


@given(points)
def test_median(some):
    series = methods.compute(array(some), aggregation("median"))
    assert as_dict(series) == {
        window: statistics.median(values)
        for window, values in windows(some).items()
    }


@given(points)
def test_a_single_point_has_no_deviation(some):
    series = methods.compute(array(some), aggregation("std"))
    assert as_dict(series) == {
        window: pytest.approx(statistics.stdev(values), abs=1e-3)
        for window, values in windows(some).items()
        if len(values) > 1
    }


@given(points)
def test_a_rate_keeps_its_method(some):
    a = aggregation("rate:max")
    series = methods.compute(array(some), a)
    assert series.aggregation == a
    times = sorted(some)
    steps = {}
    for before, time in itertools.pairwise(times):
        start = time // EVERY * EVERY
        if before >= start - EVERY:
            steps.setdefault(start, []).append(some[time] - some[before])
    assert as_dict(series) == {
        window: max(values) for window, values in steps.items()
    }


def test_nothing():
    for method in "std", "rate:mean":
        assert not len(methods.compute(array({}), aggregation(method)))
        assert not len(methods.empty(aggregation(method)))
