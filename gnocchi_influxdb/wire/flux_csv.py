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
"""InfluxDB's CSV to numpy, a column at a time.

All separators of a slice of the body are looked for at once. They give a
matrix of the bytes of each column, and that is converted as a whole, without
a Python object a row (numbers of one slice excepted). What is not exactly the
usual raises `Unusual`: `flux_response` then reads row by row.
"""

import functools
import math
import re
from typing import NamedTuple

import numpy
import numpy.typing as npt
import orjson

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.wire import series

Bytes = npt.NDArray[numpy.uint8]
Floats = npt.NDArray[numpy.float64]
Offsets = npt.NDArray[numpy.intp]
Times = npt.NDArray[numpy.datetime64]
Run = tuple[str, series.TimeSeries]

# Bounds the temporaries to some ten times as many bytes. Larger slices are
# not faster: these fit a processor's cache.
SLICE = 1 << 18
UUID_LENGTH = 36
SHORTEST_TIME = len("2014-01-01T12:00:00Z")
LONGEST_TIME = len("2014-01-01T12:00:00.123456789Z")
# -2.2250738585072014e-308, which has no exponent here, takes 327.
LONGEST_FLOAT = 350

_LF, _CR, _COMMA, _MINUS, _SPACE, _Z, _ZERO = b"\n\r,- Z0"
_PADDING = b" " * LONGEST_FLOAT
# A byte of a time, less that of _TIME (modulo 256), is _TIME_RANGE at most.
_TIME = numpy.frombuffer(b"0000-00-00T00:00:00.000000000", numpy.uint8)
_TIME_RANGE = numpy.where(_TIME == _ZERO, 9, 0).astype(numpy.uint8)
# The whole years in an int64 of ns; as big-endian numbers, digits sort.
_FIRST_YEAR, _LAST_YEAR = (
    int.from_bytes(y, "big") for y in (b"1678", b"2261")
)
_FLOAT = re.compile(
    r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?Inf|NaN", re.ASCII
)
_TABLE = re.compile(rb"(?:[^\r\n]+\r\n)+")


class Unusual(Exception):
    """Not known here; it may still be right."""


class Layout(NamedTuple):
    """How many columns a table has, and which ones are wanted."""

    columns: int
    time: int
    value: int
    metric: int


def layout(header: list[str]) -> Layout:
    """Find the columns in a table's header.

    :raises ResponseError: one is not there.
    """
    try:
        return Layout(
            len(header), *map(header.index, ("_time", "_value", "metric"))
        )
    except ValueError:
        raise exceptions.ResponseError(
            "The answer is not one of InfluxDB, or lacks _time, _value or "
            f"metric: {','.join(header)[:200]!r}"
        ) from None


def number(text: str) -> float:
    """A number as InfluxDB writes it.

    :raises ValueError: it is none, or too large for a double.
    """
    if _FLOAT.fullmatch(text) is None:
        raise ValueError(f"{text[:80]!r} is no number")
    value = float(text)
    if math.isinf(value) and "I" not in text:
        raise ValueError(f"{text[:80]!r} is out of range")
    return value


def runs(body: bytes) -> list[Run]:
    """The runs of rows of one metric, in the order of a complete answer.

    :raises Unusual: read it the slow way.
    """
    first, last = 0, len(body)
    while body.startswith(b"\r\n", first):
        first += 2
    while body.endswith(b"\n\r\n", first, last):
        last -= 2
    if first == last:
        return []
    try:
        # One table, nearly always. To look for the next empty line first
        # takes a third of the time that all the rest does.
        return _table(body, first, last)
    except Unusual:
        found = []
        for table in _TABLE.finditer(body, first, last):
            gap = body[first : table.start()]
            if gap != b"\r\n" * (len(gap) // 2):
                raise
            found += _table(body, *table.span())
            first = table.end()
        if first != last:
            raise
        return found


def _table(body: bytes, first: int, last: int) -> list[Run]:
    """:param last: where the last row ends, its line break included."""
    position = body.find(b"\n", first, last) + 1
    try:
        header = body[first:position].decode("ascii").removesuffix("\r\n")
        where = layout(header.split(","))
    except (exceptions.ResponseError, UnicodeDecodeError):
        raise Unusual from None  # may be the server's report of an error
    if not header.isprintable():
        raise Unusual
    shortest = where.columns + 2 + SHORTEST_TIME + UUID_LENGTH
    points = numpy.empty((last - position) // shortest, schema.DTYPE)
    filled = 0
    starts: list[int] = []
    names: list[str] = []
    while position < last:
        end = last
        if last - position > SLICE:
            end = body.rfind(b"\n", position, position + SLICE) + 1
            if not end:
                raise Unusual
        times, values, changes, metrics = _rows(
            memoryview(body)[position:end], where
        )
        rows = slice(filled, filled + len(times))
        points["timestamps"][rows] = times
        points["values"][rows] = values
        for change, name in zip(changes, metrics, strict=True):
            if not names or name != names[-1]:
                names.append(name)
                starts.append(filled + change)
        filled = rows.stop
        position = end
    points.resize(filled, refcheck=False)
    stops = [*starts, filled][1:]
    return [
        (name, points[start:stop])
        for name, start, stop in zip(names, starts, stops, strict=True)
    ]


def _rows(
    rows: memoryview, where: Layout
) -> tuple[Times, Floats, list[int], list[str]]:
    """Times, values, where other metrics' rows begin, and their names."""
    # A field is copied with what stands next to it, to one length for all.
    text = numpy.frombuffer(b"".join((_PADDING, rows, _PADDING)), numpy.uint8)
    breaks = text == _LF
    separators = numpy.flatnonzero(breaks | (text == _COMMA))
    if separators.size % where.columns:
        raise Unusual
    ends = separators.reshape(-1, where.columns)
    lines = ends[:, -1]
    if (
        numpy.count_nonzero(breaks) != len(lines)
        or not breaks[lines].all()
        or not (text[lines - 1] == _CR).all()
        or numpy.count_nonzero(text == _CR) != len(lines)
    ):
        raise Unusual

    def field(column: int) -> tuple[Offsets, Offsets]:
        if column:
            starts = ends[:, column - 1] + 1
        else:
            starts = numpy.roll(lines, 1) + 1
            starts[0] = len(_PADDING)
        return starts, ends[:, column] - (column == where.columns - 1)

    return (
        _times(text, *field(where.time)),
        _floats(text, *field(where.value)),
        *_names(text, *field(where.metric)),
    )


def _gather(text: Bytes, starts: Offsets, width: int) -> Bytes:
    """A matrix of the `width` bytes that begin at each of these places."""
    windows: npt.NDArray[numpy.void] = numpy.ndarray(
        (len(text) - width + 1,), f"V{width}", text, strides=(1,)
    )
    return windows[starts].view(numpy.uint8).reshape(-1, width)


def _names(
    text: Bytes, starts: Offsets, ends: Offsets
) -> tuple[list[int], list[str]]:
    if not (ends - starts == UUID_LENGTH).all():
        raise Unusual
    names = _gather(text, starts, UUID_LENGTH)
    words = names.view(numpy.uint32)
    # There are few: this is much faster than any(axis=1).
    differences = numpy.flatnonzero(words[1:] != words[:-1])
    changes = [0, *numpy.unique(differences // words.shape[1] + 1).tolist()]
    return changes, [names[row].tobytes().decode("latin-1") for row in changes]


def _times(text: Bytes, starts: Offsets, ends: Offsets) -> Times:
    lengths = ends - starts
    longest = int(lengths.max())
    if lengths.min() < SHORTEST_TIME or longest > LONGEST_TIME:
        raise Unusual
    if not (text[ends - 1] == _Z).all():
        raise Unusual
    width = longest - 1  # numpy wants no Z
    times = _gather(text, starts, width)
    if longest > SHORTEST_TIME:
        if (lengths == SHORTEST_TIME + 1).any():  # a dot without digits
            raise Unusual
        # Zeros to the same length; ".000" where there is no fraction.
        numpy.copyto(
            times,
            _TIME[:width],
            where=numpy.arange(width) >= (lengths - 1)[:, None],
        )
    if not (times - _TIME[:width] <= _TIME_RANGE[:width]).all():
        raise Unusual
    years = numpy.ascontiguousarray(times[:, :4]).view(">u4")
    if years.min() < _FIRST_YEAR or years.max() > _LAST_YEAR:
        raise Unusual
    try:
        return times.view(f"S{width}")[:, 0].astype("<M8[ns]")
    except ValueError:  # the 31st of February
        raise Unusual from None


@functools.lru_cache(32)
def _masks(width: int) -> tuple[Bytes, Bytes]:
    """What to keep of, and to put into, a right-aligned field, by length."""
    # The comma behind it counts too; it is there but after the last column.
    length = numpy.arange(width + 1)[:, None]
    kept = numpy.arange(width + 1) >= width - length
    keep = numpy.where(kept, 0xFF, 0).astype(numpy.uint8)
    put = numpy.where(kept, 0, _SPACE).astype(numpy.uint8)
    return keep, put


def _floats(text: Bytes, starts: Offsets, ends: Offsets) -> Floats:
    lengths = ends - starts
    width = int(lengths.max())
    if not lengths.min() or width > LONGEST_FLOAT:
        raise Unusual
    if text[starts].min() <= _SPACE:
        raise Unusual  # JSON would not mind
    numbers = _gather(text, ends - width, width + 1)
    keep, put = _masks(width)
    numbers &= keep[lengths]
    numbers |= put[lengths]
    numbers[:, -1] = _COMMA
    json = numbers.tobytes()[:-1]
    try:
        if not (text[ends - 1] - _ZERO <= 9).all():
            raise Unusual  # Inf, NaN; true, null, which numpy would take
        parsed = orjson.loads(b"[" + json + b"]")
        if len(parsed) != len(ends):
            raise Unusual
        values = numpy.fromiter(parsed, numpy.float64, len(ends))
    except (Unusual, ValueError, TypeError):
        try:
            values = numpy.array(
                [number(field.lstrip()) for field in json.decode().split(",")]
            )
        except ValueError:
            raise Unusual from None
    if not values.all():  # JSON has no -0 among its integers
        negative = text[starts] == _MINUS
        numpy.copysign(values, -1, out=values, where=negative & (values == 0))
    return values
