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
"""Measures to lines, and what a line says."""

import math
import uuid

import numpy
import pytest
from gnocchi import carbonara
from hypothesis import example, given
from hypothesis import strategies as st

from gnocchi_influxdb.wire import line_protocol
from gnocchi_influxdb.write import batch

IDS = [uuid.UUID(int=i) for i in range(4)]
NAT = -(2**63)

measures = st.dictionaries(
    st.sampled_from(IDS),
    st.lists(
        st.tuples(
            st.one_of(
                st.integers(0, 20),
                st.integers(NAT, 2**63 - 1),
                st.sampled_from([NAT, -1, 0, 2**63 - 2, 2**63 - 1]),
            ),
            st.floats(),
        ),
        max_size=12,
    ),
)


def array(pairs):
    made = numpy.zeros(len(pairs), dtype=carbonara.TIMESERIES_ARRAY_DTYPE)
    made["timestamps"] = numpy.array(
        [t for t, _ in pairs], dtype="int64"
    ).astype("datetime64[ns]")
    made["values"] = [v for _, v in pairs]
    return made


def collect(pairs_by_metric):
    return batch.clean(
        list(pairs_by_metric), list(map(array, pairs_by_metric.values()))
    )


def parse(lines):
    """What lines say, as the specification of line protocol has it."""
    found = []
    text = lines.decode("ascii")
    assert not text or text.endswith("\n")
    for line in text.splitlines():
        key, field, time = line.split(" ")
        measurement, tag = key.split(",")
        assert measurement == "measure"
        name, value = tag.split("=")
        assert name == "metric"
        field_name, number = field.split("=")
        assert field_name == "value"
        # An integer of InfluxDB ends with an i: it would change the type.
        assert number[-1].isdigit()
        found.append((uuid.UUID(value), int(time), float(number)))
    return found


def storable(time, value):
    return math.isfinite(value) and 0 <= time <= 2**63 - 2


def bits(value):
    return numpy.float64(value).tobytes()


@given(measures)
@example({IDS[0]: []})
@example({})
@example({IDS[0]: [(1, 0.0), (1, -0.0)]})
@example({IDS[0]: [(5, 5e-324), (4, 1.7976931348623157e308), (3, 1e22)]})
def test_what_is_written(pairs_by_metric):
    points, unstorable = collect(pairs_by_metric)
    found = parse(line_protocol.encode(points))
    wanted = {
        (id_, time): bits(value)
        for id_, pairs in pairs_by_metric.items()
        for time, value in pairs  # the last of several is what stays
        if storable(time, value)
    }
    assert {(id_, t): bits(v) for id_, t, v in found} == wanted
    assert len(found) == len(wanted) == len(points)
    times = [t for _, t, _ in found]
    assert times == sorted(times)
    assert {
        (id_, not_finite, out_of_time)
        for id_, not_finite, out_of_time in unstorable
    } == {
        (
            id_,
            sum(not math.isfinite(v) for _, v in pairs),
            sum(math.isfinite(v) and not storable(t, v) for t, v in pairs),
        )
        for id_, pairs in pairs_by_metric.items()
        if not all(storable(t, v) for t, v in pairs)
    }


@given(measures)
@example({id_: [(1, 0.5), (10, id_.int), (9, 3.0)] for id_ in IDS})
def test_times_that_are_shared(pairs_by_metric):
    points, _ = collect(pairs_by_metric)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_protocol, "_MANY", 2)
        lines = line_protocol.encode(points)
    assert lines == line_protocol.encode(points)


@given(measures, st.integers(1, 7))
def test_parts_are_the_whole(pairs_by_metric, size):
    points, _ = collect(pairs_by_metric)
    parts = [
        points.part(start, start + size)
        for start in range(0, len(points), size)
    ]
    assert all(0 < len(part) <= size for part in parts)
    assert b"".join(map(line_protocol.encode, parts)) == (
        line_protocol.encode(points)
    )


@given(measures)
def test_the_measures_stay_as_they_are(pairs_by_metric):
    arrays = {id_: array(pairs) for id_, pairs in pairs_by_metric.items()}
    before = {id_: one.tobytes() for id_, one in arrays.items()}
    batch.clean(list(arrays), list(arrays.values()))
    assert {id_: one.tobytes() for id_, one in arrays.items()} == before


def test_other_layouts_of_an_array():
    wide = numpy.zeros(
        6,
        dtype=[("x", "i4"), ("values", "<f8"), ("timestamps", "<M8[ns]")],
    )
    wide["timestamps"] = numpy.arange(6).astype("datetime64[ns]")
    wide["values"] = numpy.arange(6)
    every_other = wide[["timestamps", "values"]][::2]
    points, _ = batch.clean([IDS[0]], [every_other])
    assert parse(line_protocol.encode(points)) == [
        (IDS[0], 0, 0.0),
        (IDS[0], 2, 2.0),
        (IDS[0], 4, 4.0),
    ]


def test_a_line():
    points, _ = collect({IDS[1]: [(1400000000, 42.5)]})
    assert line_protocol.encode(points) == (
        b"measure,metric=00000000-0000-0000-0000-000000000001 value=42.5"
        b" 1400000000\n"
    )


@given(measures.filter(lambda found: len(collect(found)[0]) > 1), st.data())
def test_first_of_each_part(pairs_by_metric, data):
    points, _ = collect(pairs_by_metric)
    cut = data.draw(st.integers(1, len(points) - 1))
    rows = parse(line_protocol.encode(points))
    wanted = []
    for part in rows[:cut], rows[cut:]:
        seen = set()
        wanted += [
            row for row in part if not (row[0] in seen or seen.add(row[0]))
        ]
    first = points.first([0, cut, len(points)])
    assert parse(line_protocol.encode(first)) == wanted


FLOATS = st.floats(width=64)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 10**18), FLOATS, FLOATS),
        max_size=9,
    )
)
@example([(0, 60, math.nan, math.inf), (1, 60, 1e300, math.nan)])
def test_windows_say_what_is_there(rows):
    owners, times, *values = (
        numpy.array([row[i] for row in rows], kind)
        for i, kind in enumerate(("int64", "int64", "float", "float"))
    )
    methods = dict(zip(("rate:95pct", "mean"), values, strict=True))
    lines = line_protocol.windows(IDS, owners, times, methods)
    expected = []
    for owner, time, *numbers in rows:
        fields = {
            name: number
            for name, number in zip(methods, numbers, strict=True)
            if math.isfinite(number)
        }
        if fields:
            expected.append((IDS[owner], time, fields))
    found = []
    for line in lines:
        key, fields, time = line.decode("ascii").split(" ")
        assert key.startswith("aggregate,metric=")
        assert time.endswith("\n")
        # A type of its own would spoil the shard.
        said = dict(field.split("=") for field in fields.split(","))
        assert all(number[-1].isdigit() for number in said.values())
        found.append(
            (
                uuid.UUID(key.removeprefix("aggregate,metric=")),
                int(time),
                {name: float(number) for name, number in said.items()},
            )
        )
    assert found == expected


@given(
    measures,
    st.integers(0, 25),
    st.sampled_from([3, 10, 10**8, 10**9, 3600 * 10**9]),
    st.integers(0, 2 * 10**18),
)
def test_marks_are_of_the_windows_of_late_points(
    pairs_by_metric, late, every, until
):
    points, _refused = collect(
        {
            m: [(time, v) for time, v in pairs if 0 <= time <= 20]
            for m, pairs in pairs_by_metric.items()
        }
    )[:2]
    expected = {
        (points.ids[metric], time // every)
        for metric, time in zip(
            points.metrics.tolist(), points.times.tolist(), strict=True
        )
        if time < late
    }
    lines = line_protocol.marks(points, late, until, every).decode("ascii")
    found = []
    series = set()
    for line in lines.splitlines():
        key, field, time = line.split(" ")
        id_ = uuid.UUID(key.removeprefix("late,metric="))
        start = float(field.removeprefix("window=")) * 10**9
        found.append((id_, round(start / every)))
        # None replaces another, and none says much less than `until`.
        series.add((id_, time))
        assert until - 10**9 < int(time) < until + 10**9
    assert sorted(found) == sorted(expected)
    assert len(series) == len(found)
