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

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import few_points

EVERY = 7


def array(points):
    found = numpy.zeros(len(points), dtype=schema.DTYPE)
    found["timestamps"] = numpy.array(sorted(points), dtype="int64").view(
        "M8[ns]"
    )
    found["values"] = [points[t] for t in sorted(points)]
    return found


ARITHMETIC = {
    "mean": lambda values: sum(values) / len(values),
    "sum": sum,
    "count": len,
    "min": min,
    "max": max,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
}


def test_all_functions_are_covered():
    assert set(ARITHMETIC) == schema.WINDOW_FUNCTIONS


@pytest.mark.parametrize("function", sorted(ARITHMETIC))
@given(
    points=st.dictionaries(
        st.integers(0, 300), st.integers(-(2**40), 2**40).map(float)
    )
)
def test_aggregate(function, points):
    windows = {}
    for t in sorted(points):
        windows.setdefault(t // EVERY * EVERY, []).append(points[t])
    (found,) = few_points.aggregate([array(points)], EVERY, function)
    assert found.dtype == schema.DTYPE
    assert found["timestamps"].view("int64").tolist() == list(windows)
    assert found["values"].tolist() == [
        ARITHMETIC[function](values) for values in windows.values()
    ]


@pytest.mark.parametrize("function", sorted(ARITHMETIC))
def test_single_points_keep_their_bits(function):
    points = {0: 5e-324, 7: -0.0, 14: 1.7976931348623157e308, 21: 1 / 3}
    (found,) = few_points.aggregate([array(points)], EVERY, function)
    found = found["values"]
    if function == "count":
        assert found.tolist() == [1.0] * 4
    else:
        assert found.tolist() == list(points.values())
        assert math.copysign(1, found[1]) == -1


@pytest.mark.parametrize("function", sorted(ARITHMETIC))
@given(
    metrics=st.lists(
        st.dictionaries(st.integers(0, 40), st.floats(-1e9, 1e9)), min_size=1
    )
)
def test_metrics_are_told_apart(function, metrics):
    arrays = [*map(array, metrics)]
    together = few_points.aggregate(arrays, EVERY, function)
    alone = [few_points.aggregate([one], EVERY, function)[0] for one in arrays]
    assert [found.tobytes() for found in together] == [
        found.tobytes() for found in alone
    ]
