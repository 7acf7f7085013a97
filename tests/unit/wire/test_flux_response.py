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
import datetime
import decimal
import itertools
import math
import re
import tracemalloc
import uuid
from unittest import mock

import numpy
import pytest
from gnocchi import carbonara
from hypothesis import given, settings
from hypothesis import strategies as st

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.wire import flux_csv, flux_response
from gnocchi_influxdb.wire import series as timeseries

A = uuid.UUID("0585a01c-4c7d-4df0-a21a-ef57e4cc4132")
B = uuid.UUID("c0ffee00-4c7d-4df0-a21a-ef57e4cc4132")

# As influxd 2.9.1 sent them.
OBSERVED = (
    b",result,table,_time,_value,metric\r\n"
    b",_result,0,1970-01-01T00:00:00Z,0.0000001,"
    b"00000000-0000-4000-8000-000000000002\r\n"
    b",_result,0,2014-01-01T12:00:00.000001Z,0.1,"
    b"00000000-0000-4000-8000-000000000002\r\n"
    b",_result,0,2014-01-01T12:00:00.123456789Z,10000000000000000000000,"
    b"00000000-0000-4000-8000-000000000002\r\n"
    b",_result,0,2014-01-01T12:00:00.5Z,-0,"
    b"00000000-0000-4000-8000-000000000002\r\n"
    b",_result,0,2014-01-01T12:00:01Z,3,"
    b"00000000-0000-4000-8000-000000000002\r\n"
    b"\r\n"
)
OBSERVED_COUNTS = (
    b",result,table,_time,metric,_value\r\n"
    b",_result,0,2014-01-01T12:00:00Z,"
    b"00000000-0000-4000-8000-000000000001,5\r\n"
    b",_result,0,2014-01-01T12:05:00Z,"
    b"00000000-0000-4000-8000-000000000001,5\r\n"
    b",_result,0,2014-01-01T12:00:00Z,"
    b"015c33b2-df14-41aa-b8eb-18b900745130,7\r\n"
    b"\r\n"
)
OBSERVED_TWO_RESULTS = (
    b",result,table,_time,_value,metric\r\n"
    b",b,0,2014-01-01T12:00:00Z,0.219038164310136,"
    b"5bc8fbbc-bde5-4099-8164-d8399f767c45\r\n"
    b"\r\n"
    b",result,table,_time,_value,metric\r\n"
    b",a,0,1970-01-01T00:00:00Z,0.0000001,"
    b"00000000-0000-4000-8000-000000000002\r\n"
    b"\r\n"
)
OBSERVED_SEVERAL_TABLES = (
    b",result,table,_time,_value,metric\r\n"
    b",_result,0,2014-01-01T12:00:00Z,37.67949219930237,"
    b"00000000-0000-4000-8000-000000000001\r\n"
    b",_result,1,1970-01-01T00:00:00Z,0.0000001,"
    b"00000000-0000-4000-8000-000000000002\r\n"
    b",_result,10,2014-01-01T12:00:00Z,1584.6815467853448,"
    b"25f02628-eb07-430d-9cd5-061c9c5f319e\r\n"
    b"\r\n"
)
OBSERVED_ERROR = (
    b",result,table,_time,_value,metric\r\n"
    b",r1,0,2015-01-01T11:58:00Z,33.0235433423682,"
    b"00000000-0000-4000-8000-000000000001\r\n"
    b"\r\n\r\n"
    b",error,reference\r\n"
    b',"runtime error @2:205-3:16: map: failed to evaluate map function: '
    b'oh ""no"", a\r\nb",\r\n'
)


def ns(text: str) -> int:
    return int(numpy.datetime64(text, "ns").astype("i8"))


def render_time(timestamp: int) -> str:
    """RFC3339Nano: no zeros at the end of the fraction."""
    seconds, fraction = divmod(timestamp, 10**9)
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(
        seconds=seconds
    )
    text = f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction:09}".rstrip("0")
    return text.rstrip(".") + "Z"


def render_value(value: float) -> str:
    """The shortest text that gives the same double, without exponent."""
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = format(decimal.Decimal(repr(value)), "f")
    return text.removesuffix(".0")


def render(rows, order=("", "result", "table", "_time", "_value", "metric")):
    lines = [",".join(order)]
    for metric, timestamp, value in rows:
        fields = {
            "result": "_result",
            "table": "0",
            "_time": render_time(timestamp),
            "_value": render_value(value),
            "metric": str(metric),
        }
        lines.append(",".join(fields.get(name, "") for name in order))
    return "".join(line + "\r\n" for line in [*lines, ""]).encode()


def expected(rows):
    series = {}
    for metric, timestamp, value in rows:
        series.setdefault(metric, {})[timestamp] = float(value)
    return {
        metric: sorted(points.items()) for metric, points in series.items()
    }


def plain(series):
    assert all(
        points.dtype == carbonara.TIMESERIES_ARRAY_DTYPE
        and points.flags.c_contiguous
        for points in series.values()
    )
    return {
        metric: list(
            zip(
                points["timestamps"].view("i8").tolist(),
                points["values"].tolist(),
                strict=True,
            )
        )
        for metric, points in series.items()
    }


def bits(series):
    """For comparisons: -0 is not 0, and NaN is NaN."""
    return {
        metric: [
            (timestamp, "NaN" if math.isnan(value) else value.hex())
            for timestamp, value in points
        ]
        for metric, points in series.items()
    }


def fast_only():
    return mock.patch.object(
        flux_response, "_runs", side_effect=AssertionError("the slow way")
    )


def slow(body):
    return timeseries.by_metric(flux_response._runs(body))


TIMESTAMPS = st.one_of(
    st.integers(0, ns("2262-01-01") - 1),
    st.integers(0, 10**10).map(lambda seconds: seconds % 9 * 10**9),
    st.integers(0, 2**31).map(lambda minutes: minutes % 10**6 * 60 * 10**9),
)
VALUES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-1e6, 1e6),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.integers(0, 2**63 - 1),
    st.integers(0, 10),
    st.sampled_from(
        [
            *(0.0, -0.0, 0.1, -1e-7, 1e22, 1e23, 9007199254740993),
            *(5e-324, -2.2250738585072014e-308, 1.7976931348623157e308),
        ]
    ),
)
METRICS = st.one_of(st.sampled_from([A, B]), st.uuids())
ROWS = st.lists(st.tuples(METRICS, TIMESTAMPS, VALUES), max_size=30)
ORDERS = st.one_of(
    st.permutations(["_time", "_value", "metric"]).map(
        lambda columns: ["", "result", "table", *columns]
    ),
    st.permutations(["_time", "_value", "metric"]),
    st.permutations(["", "x", "_time", "_value", "metric", "y"]),
)
TABLES = st.lists(st.tuples(ROWS, ORDERS), max_size=3)


@given(ROWS, ORDERS, st.sampled_from([1 << 9, 1 << 11, 1 << 18]))
@settings(deadline=None)
def test_round_trip(rows, order, slice_size):
    body = render(rows, order)
    with mock.patch.object(flux_csv, "SLICE", slice_size), fast_only():
        series = plain(flux_response.parse_flux(body))
    assert bits(series) == bits(expected(rows))


@given(TABLES, st.integers(0, 2), st.booleans())
@settings(deadline=None)
def test_round_trip_of_several_tables(tables, empty, in_front):
    body = b"".join(render(rows, order) for rows, order in tables)
    blank = b"\r\n" * empty if tables else b"\r\n"
    body = blank + body if in_front else body + blank
    rows = list(itertools.chain.from_iterable(rows for rows, _ in tables))
    with fast_only():
        series = plain(flux_response.parse_flux(body))
    assert bits(series) == bits(expected(rows))


@given(ROWS, ORDERS)
@settings(deadline=None)
def test_row_by_row_gives_the_same(rows, order):
    assert bits(plain(slow(render(rows, order)))) == bits(expected(rows))


@given(
    st.lists(
        st.tuples(METRICS, TIMESTAMPS, st.one_of(VALUES, st.floats(width=64))),
        max_size=8,
    )
)
@settings(deadline=None)
def test_infinities_and_nan(rows):
    with fast_only():
        series = plain(flux_response.parse_flux(render(rows)))
    assert bits(series) == bits(expected(rows))


def test_observed():
    with fast_only():
        assert plain(flux_response.parse_flux(OBSERVED)) == {
            uuid.UUID("00000000-0000-4000-8000-000000000002"): [
                (0, 1e-7),
                (ns("2014-01-01T12:00:00.000001"), 0.1),
                (ns("2014-01-01T12:00:00.123456789"), 1e22),
                (ns("2014-01-01T12:00:00.5"), -0.0),
                (ns("2014-01-01T12:00:01"), 3.0),
            ]
        }
        counts = plain(flux_response.parse_flux(OBSERVED_COUNTS))
        assert [value for _, value in counts.popitem()[1]] == [7.0]
        assert [value for _, value in counts.popitem()[1]] == [5.0, 5.0]
        assert len(flux_response.parse_flux(OBSERVED_TWO_RESULTS)) == 2
        assert len(flux_response.parse_flux(OBSERVED_SEVERAL_TABLES)) == 3


@pytest.mark.parametrize("body", [b"\r\n", b"\r\n\r\n", b"\r\n" * 3])
def test_empty(body):
    assert flux_response.parse_flux(body) == {}


def test_header_without_rows():
    assert flux_response.parse_flux(render([])) == {}


def test_times_near_the_ends_of_the_range():
    rows = [
        (A, ns("1677-09-21T00:12:43.145224194"), 1.0),
        (A, ns("1678-01-01") - 1, 2.0),
        (A, ns("1678-01-01"), 3.0),
        (A, ns("2262-01-01") - 1, 4.0),
        (A, ns("2262-01-01"), 5.0),
        (A, 2**63 - 2, 6.0),
    ]
    for some in (rows, rows[:1], rows[2:4], rows[-1:]):
        assert plain(flux_response.parse_flux(render(some))) == expected(some)


def test_the_last_of_several_points_at_one_time_counts():
    first = [(A, 5 * 10**9, 1.0), (B, 0, 2.0), (A, 3 * 10**9, 3.0)]
    second = [(A, 10**9, 4.0), (A, 5 * 10**9, 5.0)]
    body = render(first) + render(
        second, ["", "result", "table", "metric", "_value", "_time"]
    )
    assert plain(flux_response.parse_flux(body)) == {
        A: [(10**9, 4.0), (3 * 10**9, 3.0), (5 * 10**9, 5.0)],
        B: [(0, 2.0)],
    }


def test_many_points_are_overwritten():
    rows = [(A, k % 1000 * 10**9, float(k)) for k in range(5000)]
    series = flux_response.parse_flux(render(rows))
    assert plain(series) == expected(rows)


def test_runs_across_slices_are_one():
    rows = [(m, k * 10**9, k / 7) for m in (A, B) for k in range(3000)]
    with mock.patch.object(flux_csv, "SLICE", 4096), fast_only():
        series = flux_response.parse_flux(render(rows))
    assert plain(series) == expected(rows)
    # One array, filled in place: nothing had to be joined.
    assert series[A].base is series[B].base is not None


def test_quoted():
    body = OBSERVED.replace(b",_result,", b',"_re,s""u\r\n\r\nlt",')
    body = body.replace(b",0.1,", b',"0.1",')
    assert plain(flux_response.parse_flux(body)) == plain(
        flux_response.parse_flux(OBSERVED)
    )


def test_rows_inside_a_quoted_field_are_none():
    body = (
        b",result,table,_time,_value,metric\r\n"
        b',"x,0,2014-01-01T12:00:00Z,1,0585a01c-4c7d-4df0-a21a-ef57e4cc4132'
        b'\r\n,y",0,2014-01-01T12:00:00Z,2,'
        b"c0ffee00-4c7d-4df0-a21a-ef57e4cc4132\r\n"
        b"\r\n"
    )
    assert plain(flux_response.parse_flux(body)) == {
        B: [(ns("2014-01-01T12:00:00"), 2.0)]
    }


# Where a result ends, nothing tells whether another one was to follow.
@pytest.mark.parametrize(
    ("body", "ends"),
    [
        (OBSERVED, []),
        (OBSERVED_COUNTS, []),
        (OBSERVED_SEVERAL_TABLES, []),
        (OBSERVED.replace(b",_result,", b',"a\r\n\r\nb",'), []),
        (
            OBSERVED.replace(b"metric\r\n", b"metric,note\r\n").replace(
                b"2\r\n", b'2,"a\r\n\r\nb"\r\n'
            ),
            [],
        ),
        (
            OBSERVED_TWO_RESULTS,
            [OBSERVED_TWO_RESULTS.index(b"\r\n\r\n") + 4],
        ),
        (
            OBSERVED_ERROR,
            [OBSERVED_ERROR.index(b"\r\n\r\n") + n for n in (4, 6)],
        ),
    ],
)
def test_cut(body, ends):
    accepted = []
    for length in range(len(body)):
        try:
            flux_response.parse_flux(body[:length])
        except exceptions.InfluxDBError:
            continue
        accepted.append(length)
    assert accepted == ends


def test_cut_at_every_line_of_a_larger_answer():
    body = render([(A, k * 10**9, k / 7) for k in range(500)])
    for length in range(len(body) - 200, len(body)):
        with pytest.raises(exceptions.ResponseError):
            flux_response.parse_flux(body[:length])
    for line in range(500):
        cut = b"\r\n".join(body.split(b"\r\n")[:line])
        for end in (b"", b"\r\n"):
            if cut + end == b"\r\n":
                continue  # what an empty answer is, too
            with pytest.raises(exceptions.ResponseError):
                flux_response.parse_flux(cut + end)


@pytest.mark.parametrize(
    "body",
    [
        OBSERVED_ERROR,
        OBSERVED_ERROR + b"\r\n",
        OBSERVED_ERROR[OBSERVED_ERROR.index(b",error") :],
        OBSERVED_ERROR.replace(b"r1", b'"r1"'),
    ],
)
def test_error_inside_the_answer(body):
    with pytest.raises(exceptions.QueryError) as raised:
        flux_response.parse_flux(body)
    assert 'oh "no", a\r\nb' in str(raised.value)


def change(old, new):
    assert old in OBSERVED_COUNTS
    return OBSERVED_COUNTS.replace(old, new, 1)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "cut"),
        (b"\r\n\r\n<html><body>It works</body></html>\r\n\r\n", "html"),
        (b"<html>\n<body>It works</body></html>\n", "html"),
        (b'{"code":"invalid","message":"x"}', "code"),
        (b"\x00\xff\r\n\r\n", "no sense"),
        (b",result,table\r\n\r\n", "lacks"),
        (change(b",_value", b",value"), "lacks"),
        (change(b",5\r\n", b",5,\r\n"), "columns"),
        (change(b",5\r\n", b"\r\n"), "columns"),
        (change(b",5\r\n", b",\r\n"), "'' is no number"),
        (change(b",5\r\n", b",5 \r\n"), "is no number"),
        (change(b",5\r\n", b", 5\r\n"), "is no number"),
        (change(b",5\r\n", b",5 5\r\n"), "is no number"),
        (change(b",5\r\n", b",true\r\n"), "is no number"),
        (change(b",5\r\n", b",null\r\n"), "is no number"),
        (change(b",5\r\n", b",[5]\r\n"), "is no number"),
        (change(b",5\r\n", b",0x5\r\n"), "is no number"),
        (change(b",5\r\n", b",1_5\r\n"), "is no number"),
        (change(b",5\r\n", b",infinity\r\n"), "is no number"),
        (change(b",5\r\n", b",nan\r\n"), "is no number"),
        (change(b",5\r\n", b"," + b"5" * 310 + b"\r\n"), "out of range"),
        (change(b",5\r\n", ",٥\r\n".encode()), "is no number"),
        (change(b",5\r\n", b',"5\r\n'), "no sense"),
        (change(b"_result,0", b"_result\n0"), "columns"),
        (change(b"12:00:00Z", b"12:00:00"), "is no time"),
        (change(b"12:00:00Z", b"12:00Z"), "is no time"),
        (change(b"12:00:00Z", b"12:00:00+01:00"), "is no time"),
        (change(b"12:00:00Z", b"12:00:00.Z"), "is no time"),
        (change(b"12:00:00Z", b"12:00:00,5Z"), "columns"),
        (change(b"12:00:00Z", b"12:00:00.1234567891Z"), "is no time"),
        (change(b"12:00:00Z", b"12:00:00.12 Z"), "is no time"),
        (change(b"12:00:00Z", b"12:60:00Z"), "range"),
        (change(b"2014-01-01", b"2014-02-31"), "range"),
        (change(b"2014-01-01", b"2263-01-01"), "out of range"),
        (change(b"2014-01-01", b"1677-01-01"), "out of range"),
        (change(b"2014-01-01T12:00:00Z", b"NaT"), "is no time"),
        (change(b"2014-01-01T12:00:00Z", b"1388577600000000000"), "time"),
        (change(b"00000000-0000", b"0000000000000"), "metric"),
        (change(b"00000000-0000-", b"{0000000-0000-"), "metric"),
        (change(b"015c33b2", b"015C33B2"), "metric"),
        (change(b"015c33b2", b""), "metric"),
        (change(b"000001,5", b"000001a,5"), "metric"),
        (OBSERVED + b"left\n\r\n\r\n", "lacks"),
        (change(b"\r\n,_result", b"\n,result"), None),
    ],
)
def test_wrong(body, reason):
    if reason is None:  # csv takes any line break; no row is lost
        assert len(plain(flux_response.parse_flux(body)).popitem()[1]) == 1
        return
    with pytest.raises(exceptions.ResponseError, match=reason):
        flux_response.parse_flux(body)


BODIES = st.sampled_from(
    [
        OBSERVED,
        OBSERVED_COUNTS,
        OBSERVED_TWO_RESULTS,
        OBSERVED_SEVERAL_TABLES,
        OBSERVED_ERROR,
    ]
)
FIELD = re.compile(rb"[^,\r\n]*")
SNIPPETS = st.one_of(
    st.text('0123456789-.,\r\n"TZ:e +InfNa[]{}_', max_size=6).map(str.encode),
    st.sampled_from(
        [
            *(b"\r\n\r\n", b"\r\n", b"\n", b"\r", b",error,reference\r\n"),
            *(b"_time", b"_value", b"metric", b"true", b"null", b"9" * 20),
            *(b"1e5", b"NaN", b"-Inf", b"-0", b"2014-01-01T12:00:00.Z"),
            b"2014-01-01T12:00:00.1Z",
        ]
    ),
)


@st.composite
def damaged(draw, snippets):
    body = draw(BODIES)
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            start = draw(st.integers(0, len(body)))
            stop = start + draw(st.integers(0, 12))
        else:
            fields = [match.span() for match in FIELD.finditer(body)]
            start, stop = draw(st.sampled_from(fields))
        body = body[:start] + draw(snippets) + body[stop:]
    return body


@given(damaged(st.one_of(SNIPPETS, st.binary(max_size=6))))
@settings(deadline=None, max_examples=400)
def test_damaged_answers_raise_what_is_promised(body):
    with contextlib.suppress(exceptions.ResponseError, exceptions.QueryError):
        plain(flux_response.parse_flux(body))


@given(damaged(SNIPPETS))
@settings(deadline=None, max_examples=400)
def test_the_fast_way_takes_nothing_that_the_slow_one_does_not(body):
    if not body.endswith(b"\r\n\r\n") or b'"' in body:
        return
    try:
        fast = plain(timeseries.by_metric(flux_csv.runs(body)))
    except (flux_csv.Unusual, exceptions.ResponseError):
        return
    assert bits(fast) == bits(plain(slow(body)))


ODD_TIMES = st.from_regex(
    r"\A[12][0-9]{3}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9]"
    r"(\.[0-9]{0,10})?Z?\Z"
)
ODD_NUMBERS = st.one_of(
    st.sampled_from(["null", "true", "NaN", "nan", "+Inf", "-Inf", "Inf"]),
    st.sampled_from(["", "-", "+", ".", "-.", "[1]", "{}", "٥", "1_0", "0x1"]),
    st.from_regex(r"\A[+-]? ?[0-9]{0,20}\.?[0-9]{0,20}(e[+-]?[0-9]{1,3})?\Z"),
)


@given(st.integers(1, 5), st.one_of(ODD_TIMES, ODD_NUMBERS))
@settings(deadline=None, max_examples=600)
def test_one_odd_field_is_taken_alike_both_ways(row, odd):
    lines = OBSERVED.split(b"\r\n")
    fields = lines[row].split(b",")
    fields[3 if "Z" in odd or ":" in odd else 4] = odd.encode()
    lines[row] = b",".join(fields)
    body = b"\r\n".join(lines)
    try:
        rows = bits(plain(slow(body)))
    except exceptions.ResponseError:
        rows = None
    try:
        fast = bits(plain(flux_response.parse_flux(body)))
    except exceptions.ResponseError:
        fast = None
    assert fast == rows


def streamed(body, lengths, piece):
    """The same through a stream, in pieces of these lengths."""
    stream = flux_response.Stream()
    # It may have been begun, and have failed.
    stream.feed(b"_time,_value,metric\r\nx")
    stream.reset()
    with mock.patch.object(flux_response, "_PIECE", piece):
        start = 0
        for length in itertools.cycle(lengths):
            if start >= len(body):
                break
            stream.feed(body[start : start + length])
            start += length
        return stream.close()


LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=5)
PIECES = st.sampled_from([1, 10, 100, 1000, 10**6])


@given(TABLES, st.integers(0, 2), LENGTHS, PIECES)
@settings(deadline=None, max_examples=300)
def test_streamed(tables, empty, lengths, piece):
    body = b"".join(render(rows, order) for rows, order in tables)
    body += b"\r\n" * (empty if tables else 1)
    rows = list(itertools.chain.from_iterable(rows for rows, _ in tables))
    with fast_only():
        series = plain(streamed(body, lengths, piece))
    assert bits(series) == bits(expected(rows))


@pytest.mark.parametrize("piece", [1, 50, 200, 400])
@pytest.mark.parametrize("length", [1, 7, 64, 1000])
@pytest.mark.parametrize(
    "body",
    [
        OBSERVED,
        OBSERVED_COUNTS,
        OBSERVED_SEVERAL_TABLES,
        OBSERVED_TWO_RESULTS,
        OBSERVED_ERROR,
        OBSERVED_ERROR[OBSERVED_ERROR.index(b",error") :],
        OBSERVED + OBSERVED_ERROR[OBSERVED_ERROR.index(b",error") :],
        OBSERVED[:-2] + OBSERVED_ERROR[OBSERVED_ERROR.index(b",error") :],
        OBSERVED[:-2] + b",error,reference\r\n,because,\r\n",
        OBSERVED.replace(b",_result,", b',"a\r\n\r\nb",'),
        OBSERVED[:-2],
        OBSERVED[:-1],
        OBSERVED[: OBSERVED.rindex(b"2\r\n")],
        b"\r\n",
        b"",
    ],
)
def test_streamed_is_the_same(body, length, piece):
    try:
        wanted = plain(flux_response.parse_flux(body))
    except exceptions.InfluxDBError as error:
        with pytest.raises(type(error)):
            streamed(body, [length], piece)
    else:
        assert plain(streamed(body, [length], piece)) == wanted


@given(damaged(SNIPPETS), LENGTHS, PIECES)
@settings(deadline=None, max_examples=400)
def test_streamed_takes_nothing_else(body, lengths, piece):
    try:
        found = plain(streamed(body, lengths, piece))
    except (exceptions.ResponseError, exceptions.QueryError):
        return
    assert bits(found) == bits(plain(flux_response.parse_flux(body)))


def test_streamed_is_never_there_as_a_whole():
    rows = [(A, k * 10**9, k / 7) for k in range(20000)]
    body = render(rows * 20)[: -len(b"\r\n")]
    parts = [body[i : i + 2**16] for i in range(0, len(body), 2**16)]
    stream = flux_response.Stream()
    with mock.patch.object(flux_response, "_PIECE", 2**18):
        tracemalloc.start()
        try:
            for part in parts:
                # A copy, as it comes from a socket.
                stream.feed(bytes(bytearray(part)))
            stream.feed(b"\r\n")
            _now, most = tracemalloc.get_traced_memory()
            found = stream.close()
        finally:
            tracemalloc.stop()
    (points,) = found.values()
    assert len(points) == 20000
    # 16 bytes a row are its time and value; parsing takes 10 times a piece.
    assert most < 1.2 * 16 * 20 * len(rows) + 12 * 2**18 < len(body) / 2
