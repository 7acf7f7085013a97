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

import contextlib
import math
import struct
import tracemalloc
import uuid

import msgpack
import pytest
from gnocchi import carbonara
from hypothesis import given, settings
from hypothesis import strategies as st

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.wire import influxql_points

A = uuid.UUID("0585a01c-4c7d-4df0-a21a-ef57e4cc4132")
B = uuid.UUID("c0ffee00-4c7d-4df0-a21a-ef57e4cc4132")

# As influxd 2.9.1 sent them.
OBSERVED = (
    b"\x81\xa7results\x91\x82\xacstatement_id\x00\xa6series\x91\x84\xa4name"
    b"\xa7measure\xa4tags\x81\xa6metric\xd9$00000000-0000-4000-8000-0000000000"
    b"02\xa7columns\x92\xa4time\xa5value\xa6values\x99\x92\x00\xcb>z\xd7\xf2"
    b"\x9a\xbc\xafH\x92\xd3\x13E7\xf8_\x10\x80\x00\xcb\x7f\xef\xff\xff\xff\xff"
    b"\xff\xff\x92\xd3\x13E7\xf8_\x10\x80\x01\xcb\x00\x00\x00\x00\x00\x00\x00"
    b"\x01\x92\xd3\x13E7\xf8_\x10\x80\n\xcb\x80\x10\x00\x00\x00\x00\x00\x00"
    b"\x92\xd3\x13E7\xf8_\x10\x83\xe8\xcb?\xb9\x99\x99\x99\x99\x99\x9a\x92\xd3"
    b"\x13E7\xf8flM\x15\xcbD\x80\xf0\xcf\x06M\xd5\x92\x92\xd3\x13E7\xf8|\xdd"
    b"\xe5\x00\xcb\x80\x00\x00\x00\x00\x00\x00\x00\x92\xd3\x13E7\xf8\x9a\xabJ"
    b"\x00\xcb@\x08\x00\x00\x00\x00\x00\x00\x92\xd3\x7f\xe1\x00\x14Z\xd5\x00"
    b"\x01\xcbC@\x00\x00\x00\x00\x00\x00"
)
OBSERVED_TWO_STATEMENTS = (
    b"\x81\xa7results\x92\x82\xacstatement_id\x00\xa6series\x91\x84\xa4name"
    b"\xa7measure\xa4tags\x81\xa6metric\xd9$5bc8fbbc-bde5-4099-8164-d8399f767c"
    b"45\xa7columns\x92\xa4time\xa4mean\xa6values\x93\x92\xd3\x13E7\xf8_\x10"
    b'\x80\x00\xcb@\x00\x96)S\xbf("\x92\xd3\x13E8>8u8\x00\xcb@\xf7\xc6\xe5\t'
    b"\x86\x82\x9d\x92\xd3\x13E8\x84\x11\xd9\xf0\x00\xcbA\x05b\xe6A\xab\x07"
    b"\xcf\x82\xacstatement_id\x01\xa6series\x90"
)
OBSERVED_COUNTS = (
    b"\x81\xa7results\x91\x82\xacstatement_id\x00\xa6series\x91\x84\xa4name"
    b"\xa7measure\xa4tags\x81\xa6metric\xd9$00000000-0000-4000-8000-0000000000"
    b"01\xa7columns\x92\xa4time\xa5count\xa6values\x96\x92\xd3\x13E/=2y\x80"
    b"\x00(\x92\xd3\x13E:'*6@\x00\xd1\x00\xc8\x92\xd3\x13EE\x11!\xf3\x00\x00"
    b"\xd1\x00\xc8\x92\xd3\x13EO\xfb\x19\xaf\xc0\x00\xd1\x00\xc8\x92\xd3\x13EZ"
    b"\xe5\x11l\x80\x00\xd1\x00\xc8\x92\xd3\x13Ee\xcf\t)@\x00\xd1\x00\xa0"
)
OBSERVED_INFINITY = (
    b"\x81\xa7results\x91\x82\xacstatement_id\x00\xa6series\x91\x84\xa4name"
    b"\xa7measure\xa4tags\x81\xa6metric\xd9$00000000-0000-4000-8000-0000000000"
    b"03\xa7columns\x92\xa4time\xa3sum\xa6values\x91\x92\x00\xcb\x7f\xf0\x00"
    b"\x00\x00\x00\x00\x00"
)
OBSERVED_NULLS = (
    b"\x81\xa7results\x91\x82\xacstatement_id\x00\xa6series\x91\x84\xa4name"
    b"\xa7measure\xa4tags\x81\xa6metric\xd9$5bc8fbbc-bde5-4099-8164-d8399f767c"
    b"45\xa7columns\x93\xa4time\xa4mean\xa6mean_1\xa6values\x91\x93\xd3\x13E7"
    b'\xf8_\x10\x80\x00\xcb@\x00\x96)S\xbf("\xc0'
)
OBSERVED_ERROR = b"\x81\xa7results\x91\x81\xa5error\xb7database not found: nix"
OBSERVED_EMPTY = b"\x81\xa7results\x91\x82\xacstatement_id\x00\xa6series\x90"


def pack(number):
    """As InfluxDB's encoder does: doubles, and integers with a sign."""
    if isinstance(number, float):
        return b"\xcb" + struct.pack(">d", number)
    if -32 <= number < 128:
        return struct.pack("b", number)
    for kind, code in ((0xD0, "b"), (0xD1, "h"), (0xD2, "i"), (0xD3, "q")):
        with contextlib.suppress(struct.error):
            return bytes([kind]) + struct.pack(f">{code}", number)
    raise AssertionError


def render(statements):
    packer = msgpack.Packer()
    body = packer.pack_map_header(1) + packer.pack("results")
    body += packer.pack_array_header(len(statements))
    for number, (columns, series) in enumerate(statements):
        body += packer.pack_map_header(2) + packer.pack("statement_id")
        body += packer.pack(number) + packer.pack("series")
        body += packer.pack_array_header(len(series))
        for metric, rows in series:
            body += packer.pack_map_header(4)
            for key, value in (
                ("name", "measure"),
                ("tags", {"metric": str(metric)}),
                ("columns", ["time", *columns]),
            ):
                body += packer.pack(key) + packer.pack(value)
            body += packer.pack("values")
            body += packer.pack_array_header(len(rows))
            for row in rows:
                body += packer.pack_array_header(len(row))
                body += b"".join(map(pack, row))
    return body


def plain(statements):
    for columns in statements:
        for series in columns.values():
            for points in series.values():
                assert points.dtype == carbonara.TIMESERIES_ARRAY_DTYPE
                assert points.flags.c_contiguous
    return [
        {
            column: {
                metric: {
                    time: bits(value)
                    for time, value in zip(
                        points["timestamps"].view("i8").tolist(),
                        points["values"].tolist(),
                        strict=True,
                    )
                }
                for metric, points in series.items()
            }
            for column, series in columns.items()
        }
        for columns in statements
    ]


def bits(value):
    return "NaN" if math.isnan(value) else float(value).hex()


TIMES = st.one_of(
    st.integers(0, 2**63 - 1),
    st.integers(0, 10**6).map(lambda minutes: (10**7 + minutes) * 60 * 10**9),
    st.integers(-(10**5), 10**5),
)
FLOATS = st.one_of(
    st.floats(), st.sampled_from([0.0, -0.0, math.inf, -math.inf, 5e-324])
)
COUNTS = st.one_of(
    st.integers(0, 10), st.integers(100, 150), st.integers(0, 2**63 - 1)
)


@st.composite
def statements(draw):
    answer = []
    for _ in range(draw(st.integers(0, 3))):
        kinds = draw(
            st.lists(st.sampled_from([FLOATS, COUNTS]), min_size=1, max_size=3)
        )
        columns = [f"column_{number}" for number in range(len(kinds))]
        metrics = draw(st.lists(st.uuids(), unique=True, max_size=3))
        rows = st.lists(
            st.tuples(TIMES, *kinds), max_size=40, unique_by=lambda row: row[0]
        )
        series = [(metric, draw(rows)) for metric in metrics]
        answer.append((columns, series))
    return answer


@given(statements())
@settings(deadline=None)
def test_round_trip(answer):
    selects = [columns for columns, _ in answer]
    parsed = influxql_points.parse_influxql(render(answer), selects)
    assert plain(parsed) == [
        {
            column: {
                metric: {row[0]: bits(row[1 + number]) for row in rows}
                for metric, rows in series
            }
            for number, column in enumerate(columns)
        }
        for columns, series in answer
    ]
    for columns in parsed:
        for series in columns.values():
            for points in series.values():
                times = points["timestamps"]
                assert (times[1:] > times[:-1]).all()


@given(
    st.lists(st.tuples(COUNTS, FLOATS), min_size=1, max_size=60),
    st.integers(1, 20),
)
@settings(deadline=None)
def test_types_that_change_once_and_often(pairs, times):
    rows = [
        (10**18 + number, *pair)
        for number, pair in enumerate(pair for pair in pairs * times)
    ]
    body = render([(["count", "mean"], [(A, rows)])])
    [answer] = influxql_points.parse_influxql(body, [["count", "mean"]])
    assert plain([answer]) == [
        {
            "count": {A: {time: bits(count) for time, count, _ in rows}},
            "mean": {A: {time: bits(mean) for time, _, mean in rows}},
        }
    ]


def test_observed():
    [answer] = influxql_points.parse_influxql(OBSERVED, [["value"]])
    [points] = answer["value"].values()
    assert points["timestamps"].view("i8").tolist() == [
        0,
        1388577600000000000,
        1388577600000000001,
        1388577600000000010,
        1388577600000001000,
        1388577600123456789,
        1388577600500000000,
        1388577601000000000,
        9214646400000000001,
    ]
    smallest = [5e-324, -2.2250738585072014e-308]
    assert [bits(value) for value in points["values"].tolist()] == [
        bits(value)
        for value in (
            *(1e-7, 1.7976931348623157e308, *smallest),
            *(0.1, 1e22, -0.0, 3.0, 9007199254740992.0),
        )
    ]
    [answer] = influxql_points.parse_influxql(OBSERVED_COUNTS, [["count"]])
    [points] = answer["count"].values()
    assert points["values"].tolist() == [40, 200, 200, 200, 200, 160]
    [answer] = influxql_points.parse_influxql(OBSERVED_INFINITY, [["sum"]])
    [points] = answer["sum"].values()
    assert points["values"].tolist() == [math.inf]


def test_a_statement_without_points():
    first, second = influxql_points.parse_influxql(
        OBSERVED_TWO_STATEMENTS, [["mean"], ["first", "last"]]
    )
    assert [len(points) for points in first["mean"].values()] == [3]
    assert second == {"first": {}, "last": {}}
    assert influxql_points.parse_influxql(OBSERVED_EMPTY, [["mean"]]) == [
        {"mean": {}}
    ]


def test_points_in_pieces_are_joined_and_sorted():
    body = render(
        [(["mean"], [(A, [(7, 1.0), (5, 2.0)]), (B, []), (A, [(5, 3.0)])])]
    )
    [answer] = influxql_points.parse_influxql(body, [["mean"]])
    points = answer["mean"][A]
    assert points["timestamps"].view("i8").tolist() == [5, 7]
    assert points["values"].tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    ("body", "selects"),
    [
        (OBSERVED, [["value"]]),
        (OBSERVED_COUNTS, [["count"]]),
        (OBSERVED_TWO_STATEMENTS, [["mean"], ["max"]]),
        (OBSERVED_EMPTY, [["mean"]]),
        (OBSERVED_ERROR, [["mean"]]),
    ],
)
def test_cut(body, selects):
    for length in range(len(body)):
        with pytest.raises(exceptions.ResponseError):
            influxql_points.parse_influxql(body[:length], selects)
    with pytest.raises(exceptions.InfluxDBError):
        influxql_points.parse_influxql(body + b"\x00", selects)


@pytest.mark.parametrize(
    "body",
    [
        OBSERVED_ERROR,
        msgpack.packb({"error": "database not found: nix"}),
        msgpack.packb(
            {
                "results": [
                    {"statement_id": 0, "series": []},
                    {"error": "database not found: nix"},
                ]
            }
        ),
    ],
)
def test_error_inside_the_answer(body):
    with pytest.raises(exceptions.QueryError, match="not found: nix"):
        influxql_points.parse_influxql(body, [["mean"]])


def answer_of(**changes):
    series = {
        "name": "measure",
        "tags": {"metric": str(A)},
        "columns": ["time", "mean"],
        "values": [[10**18, 1.0]],
        **changes,
    }
    series = {key: value for key, value in series.items() if value is not None}
    return msgpack.packb(
        {"results": [{"statement_id": 0, "series": [series]}]}
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "cut"),
        (b"<html><body>It works</body></html>", "html"),
        (b"name,tags,time,mean\n", "no sense"),
        (b'{"results":[{"statement_id":0}]}\n', "no sense"),
        (OBSERVED_NULLS, "column"),
        (msgpack.packb({"results": []}), "0 results"),
        (msgpack.packb({"results": [{}, {}]}), "2 results"),
        (msgpack.packb({"result": []}), "0 results"),
        (msgpack.packb({"results": [{"partial": True}]}), "left out"),
        (answer_of(partial=True), "left out"),
        (answer_of(columns=["time", "max"]), "columns"),
        (answer_of(columns=None), "columns"),
        (answer_of(tags=None), "without"),
        (answer_of(tags={}), "metric"),
        (answer_of(tags={"metric": ""}), "no metric"),
        (answer_of(tags={"metric": str(A).upper()}), "no metric"),
        (answer_of(tags={"metric": 5}), "without"),
        (answer_of(values=None), "without"),
        (answer_of(values=[[10**18]]), "row"),
        (answer_of(values=[[10**18, None]]), "row"),
        (answer_of(values=[[10**18, True]]), "row"),
        (answer_of(values=[[10**18, "1"]]), "row"),
        (answer_of(values=[[1.5, 1.0]]), "sense"),
        (answer_of(values=[[2**63, 1.0]]), "sense"),
        (answer_of(values=[[10**18, 1.0, 2.0]]), "row"),
        (answer_of(values=[[1, 1.0], [2, 1.0, 3.0], [4, 5.0]]), "row"),
        (answer_of(values=[{"a": 1, "b": 2}]), "row"),
        (answer_of(values={"a": 1}), "sense"),
    ],
)
def test_wrong(body, reason):
    with pytest.raises(exceptions.ResponseError, match=reason):
        influxql_points.parse_influxql(body, [["mean"]])


@pytest.mark.parametrize("length", [b"\x91", b"\x93", b"\xdc"])
@pytest.mark.parametrize("row", [0, 4, 8])
def test_one_row_of_another_length(row, length):
    start = OBSERVED.index(b"values\x99") + 7
    start += (row and 11) + 19 * max(row - 1, 0)  # the first time is short
    assert OBSERVED[start] == 0x92
    body = OBSERVED[:start] + length + OBSERVED[start + 1 :]
    with pytest.raises(exceptions.ResponseError):
        influxql_points.parse_influxql(body, [["value"]])


@pytest.mark.parametrize("array", [b"values\x99", b"columns\x92"])
def test_a_wrong_length_needs_no_memory(array):
    body = OBSERVED.replace(array, array[:-1] + b"\xdd\x01\xff\xff\xff")
    tracemalloc.start()
    try:
        with pytest.raises(exceptions.ResponseError):
            influxql_points.parse_influxql(body, [["value"]])
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@given(
    st.sampled_from(
        [
            (OBSERVED, [["value"]]),
            (OBSERVED_COUNTS, [["count"]]),
            (OBSERVED_TWO_STATEMENTS, [["mean"], ["max"]]),
            (OBSERVED_ERROR, [["mean"]]),
            (OBSERVED_NULLS, [["mean", "mean_1"]]),
        ]
    ),
    st.data(),
)
@settings(deadline=None, max_examples=600)
def test_damaged_answers_raise_what_is_promised(answer, data):
    body, selects = answer
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(body)))
        stop = start + data.draw(st.integers(0, 4))
        body = body[:start] + data.draw(st.binary(max_size=4)) + body[stop:]
    with contextlib.suppress(exceptions.ResponseError, exceptions.QueryError):
        plain(influxql_points.parse_influxql(body, selects))
