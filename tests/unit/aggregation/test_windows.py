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
"""Windows that are cut, joined and looked at."""

import numpy
import pytest
from gnocchi import carbonara
from hypothesis import given
from hypothesis import strategies as st

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import windows


def array(*times):
    return schema.points(
        numpy.array(times, "int64").view("datetime64[ns]"),
        numpy.array(times, "float64"),
    )


@pytest.mark.parametrize(
    ("start", "stop", "left"),
    [
        (None, None, [0, 10, 20]),
        (1, None, [10, 20]),
        (10, None, [10, 20]),
        (None, 20, [0, 10]),
        (None, 21, [0, 10, 20]),
        (10, 20, [10]),
        (21, None, []),
        (20, 10, []),
    ],
)
def test_cut(start, stop, left):
    found = windows.cut(array(0, 10, 20), start, stop)
    assert found["values"].tolist() == left


@pytest.mark.parametrize(
    ("times", "start", "are_dense"),
    [
        ((10, 20, 30), 10, True),
        ((10,), 10, True),
        ((10, 30), 10, False),
        ((20, 30), 10, False),
        ((10, 20), None, False),
    ],
)
def test_dense(times, start, are_dense):
    assert windows.are_dense(array(*times), start, 10) is are_dense


def test_what_lies_before_counts_for_differences_only():
    rate = carbonara.Aggregation("rate:sum", numpy.timedelta64(10, "ns"), None)
    found = windows.from_points(rate, array(5, 12, 18, 22, 33), (10, 30))
    assert found["timestamps"].view("int64").tolist() == [10, 20]
    assert found["values"].tolist() == [13.0, 4.0]


@given(
    st.dictionaries(st.integers(0, 30), st.floats(0, 9)),
    st.dictionaries(st.integers(0, 30), st.floats(0, 9)),
)
def test_overlaid(one, other):
    def array(values):
        times = sorted(values)
        return schema.points(
            numpy.array(times, "M8[ns]"),
            numpy.array([values[time] for time in times], float),
        )

    found = windows.overlaid(array(one), array(other))
    times = found["timestamps"].view("int64").tolist()
    expected = one | other
    assert times == sorted(expected)
    assert found["values"].tolist() == [expected[time] for time in times]
