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
"""Blocks and marks: where they are, and what is read back of them."""

import uuid

import msgpack
import numpy
import pytest

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.rollups import rollup_lines
from gnocchi_influxdb.rollups import rollup_response as response
from gnocchi_influxdb.write import batch

HOUR = 3600 * 10**9
DAY = rollup_lines.DAY
LAST = schema.MAX_TIME
METRIC = uuid.UUID("5a301761-aaaa-46e2-8900-8b4f6fe6675a")
NAN = float("nan")


def points(*times, metrics=(METRIC,)):
    """Each of the next metric."""
    measures = []
    for i, metric in enumerate(metrics):
        array = numpy.ones(len(times[i :: len(metrics)]), schema.DTYPE)
        array["timestamps"] = numpy.array(
            times[i :: len(metrics)], "datetime64[ns]"
        )
        measures.append((metric, array))
    return batch.clean(*map(list, zip(*measures, strict=True)))[0]


def answer(lines, columns, metric=METRIC):
    """What InfluxDB would say to lines of one metric, in their order."""
    rows = {}
    for line in lines.decode().splitlines():
        _, field, time = line.split(" ")
        name, _, text = field.partition("=")
        value = text[1:-1] if text[0] == '"' else int(text[:-1])
        rows.setdefault(int(time), {})[name] = value
    series = {
        "name": "rollup",
        "tags": {"metric": str(metric)},
        "columns": ["time", *columns],
        "values": [
            [time, *(row.get(name) for name in columns)]
            for time, row in sorted(rows.items())
        ],
    }
    return msgpack.packb(
        {"results": [{"statement_id": 0, "series": [series]}]}
    )


def encode(starts, values, every=HOUR, computed=7 * DAY, name="f"):
    return rollup_lines.encode(
        METRIC, name, every, numpy.array(starts), numpy.array(values), computed
    )


def parse(lines, range_, fields=("f",)):
    body = answer(lines, ["late", *fields])
    return response.parse(body, fields, range_)[METRIC]


def test_places_keep_the_order():
    random = numpy.random.default_rng(1)
    times = numpy.sort(random.integers(0, LAST // 2, 100000))
    places = rollup_lines.place(times)
    assert (numpy.diff(places) >= 0).all()
    # In the last hour of their page, and so never before their time.
    page = rollup_lines.PAGE
    assert (places // page == times // page).all()
    assert (places % page >= page - HOUR).all()


def test_each_day_has_its_place():
    days = numpy.arange(0, LAST // 2 // DAY) * DAY
    places = rollup_lines.place(days)
    assert (numpy.diff(places) > 0).all()
    assert (rollup_lines.day_at(places) == days).all()


@pytest.mark.parametrize("every", [100, 10**9, 7 * 10**9 + 1, HOUR, DAY])
def test_each_block_has_its_place(every):
    span = rollup_lines.span(every)
    starts = 1700000000 * 10**9 // span * span + numpy.arange(1000) * span
    assert (numpy.diff(rollup_lines.place(starts)) > 0).all()


def test_blocks_are_not_longer_than_a_page():
    for every in (1, HOUR, DAY, 2 * DAY, 20 * DAY, 28 * DAY):
        assert rollup_lines.span(every) <= rollup_lines.PAGE
        assert rollup_lines.span(every) % every == 0


@pytest.mark.parametrize("every", [HOUR, 300 * 10**9, 5 * DAY, 28 * DAY])
def test_round_trip(every):
    span, windows = rollup_lines.span(every), rollup_lines.windows(every)
    first = 700 * span
    random = numpy.random.default_rng(2)
    values = random.normal(size=(5, windows))
    values[random.random(values.shape) < 0.3] = NAN
    values[1] = NAN
    values[0, 0], values[2, 0] = float("inf"), 5e-324
    starts = first + span * numpy.array([0, 1, 2, 4, 6])
    kept = parse(
        encode(starts, values, every), response.Range(every, first, 6, 0)
    )
    assert kept.computed.tolist() == [7 * DAY] * 3 + [0, 7 * DAY, 0]
    by_block = kept.values["f"].reshape(6, windows)
    numpy.testing.assert_array_equal(by_block[[0, 1, 2, 4]], values[:4])
    assert numpy.isnan(by_block[[3, 5]]).all()


def test_a_block_needs_each_field():
    full = numpy.zeros((2, 24))
    lines = encode([0, DAY], full, computed=7 * DAY) + encode(
        [0], full[:1], computed=5 * DAY, name="g"
    )
    kept = parse(lines, response.Range(HOUR, 0, 2, 0), ("f", "g"))
    assert kept.computed.tolist() == [5 * DAY, 0]


@pytest.mark.parametrize(
    ("reach", "day", "touched"),
    [
        (0, 2, [2]),
        (HOUR, 2, [2, 3]),
        (0, 0, [0]),
        (HOUR, 9, [9]),
        (0, 10, []),
    ],
)
def test_marks_of_days(reach, day, touched):
    range_ = response.Range(HOUR, 100 * DAY, 10, reach)
    blocks = range_.first + DAY * numpy.arange(10)
    late = points((100 + day) * DAY + 5)
    until = 200 * DAY
    lines = rollup_lines.marks(late, until, 0) + encode(
        blocks, numpy.zeros((10, 24)), computed=until + rollup_lines.SKEW
    )
    kept = parse(lines, range_)
    assert numpy.flatnonzero(kept.computed == 0).tolist() == touched
    assert numpy.flatnonzero(kept.marked == until).tolist() == touched
    # Computed after that.
    lines += encode(
        blocks, numpy.zeros((10, 24)), computed=until + rollup_lines.SKEW + 1
    )
    assert parse(lines, range_).computed.all()


def test_marks_of_short_blocks():
    every = 60 * 10**9
    range_ = response.Range(every, 99 * DAY + 12 * HOUR, 150, every)
    span = range_.span
    blocks = range_.first + span * numpy.arange(150)
    until = 200 * DAY
    lines = rollup_lines.marks(points(100 * DAY + HOUR), until, 0)
    lines += encode(blocks, numpy.zeros((150, 24)), every, computed=until)
    touched = (blocks + span > 100 * DAY) & (blocks - every < 101 * DAY)
    assert ((parse(lines, range_).computed == 0) == touched).all()


def test_only_what_is_late_is_marked():
    other = uuid.UUID(int=1)
    until = 100 * DAY
    horizon = until - rollup_lines.LATE
    assert not rollup_lines.has_late(points(horizon), until)
    assert not rollup_lines.has_late(points(), until)
    some = points(
        horizon - 1,
        horizon,
        horizon - DAY,
        horizon - 2 * DAY,
        horizon - DAY - 1,
        metrics=[METRIC, other],
    )
    assert rollup_lines.has_late(some, until)
    place = [rollup_lines.place((99 - i) * DAY) for i in range(3)]
    expected = {
        f"rollup,metric={METRIC} late={until}i {place[0]}",
        f"rollup,metric={METRIC} late={until}i {place[1]}",
        f"rollup,metric={other} late={until}i {place[2]}",
    }
    lines = rollup_lines.marks(some, until, 0).decode().splitlines()
    assert len(lines) == 3
    assert set(lines) == expected
    later = rollup_lines.marks(some, until, place[1]).decode().splitlines()
    assert set(later) == expected - {lines[-1]}


def test_texts_that_are_not_ours_do_not_count():
    range_ = response.Range(HOUR, 0, 2, 0)
    length = rollup_lines.text_length(rollup_lines.layout(HOUR))
    for text in ("", "A", "!" * length, "A" * (length - 4), "B" * length):
        lines = f'rollup,metric={METRIC} f="{text}" 0\n'.encode()
        assert not parse(lines, range_).computed.any()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x81",
        msgpack.packb([]),
        msgpack.packb({"results": 5}),
        msgpack.packb({"results": [{"partial": True}]}),
        msgpack.packb({"results": [{"series": [{}]}]}),
        answer(b'rollup,metric=x f="A" 0\n', ["late"]),
        # Without a row, and with one that is short.
        answer(b"", ["late", "f"]),
        answer(b"rollup,metric=x late=1i 0\n", ["late", "f"]).replace(
            b"\x93\x00\x01\xc0", b"\x92\x00\x01"
        ),
        answer(b'rollup,metric=x late="A" 0\n', ["late", "f"]),
        answer(b"rollup,metric=x late=1i 0\n", ["late", "f"])[:-3],
        answer(b"rollup,metric=x late=1i 0\n", ["late", "f"]) + b"x",
        answer(b"rollup,metric=x late=1i 0\n", ["late", "f"], "no id"),
    ],
)
def test_answers_without_sense(body):
    with pytest.raises(exceptions.ResponseError):
        response.parse(body, ["f"], response.Range(HOUR, 0, 2, 0))


@pytest.mark.parametrize(
    "body", [{"error": "why"}, {"results": [{"error": "why"}]}]
)
def test_errors(body):
    with pytest.raises(exceptions.QueryError, match="why"):
        response.parse(
            msgpack.packb(body), ["f"], response.Range(HOUR, 0, 2, 0)
        )


def test_nothing_kept():
    body = msgpack.packb({"results": [{"statement_id": 0}]})
    assert response.parse(body, ["f"], response.Range(HOUR, 0, 2, 0)) == {}
