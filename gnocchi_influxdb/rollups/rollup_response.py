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
"""What is kept of some metrics' aggregations, out of InfluxDB's answer (pure).

See `rollup_lines` for what a block is and when it counts.
"""

import binascii
import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import numpy
import numpy.typing

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.rollups import rollup_lines as lines
from gnocchi_influxdb.wire import influxql_points

Array = numpy.typing.NDArray[Any]

_NOTHING = numpy.empty(0, schema.DTYPE)


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """Whole blocks, one after the other.

    :ivar every: length of a window, ns.
    :ivar first: start of the first block, ns since the epoch.
    :ivar number: how many there are.
    :ivar reach: how long before its start (ns) a point may lie that counts
        for a window; 0 but for rates.
    """

    every: int
    first: int
    number: int
    reach: int

    @property
    def span(self) -> int:
        """Length of a block, ns."""
        return lines.span(self.every)

    @property
    def stop(self) -> int:
        """End of the last block."""
        return self.first + self.number * self.span


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a metric in a range.

    :ivar computed: shape (blocks,), int64: when the computing of a block
        began, ns since the epoch; 0 for one that does not count.
    :ivar marked: shape (blocks,), int64: by when the last late measure has
        reached InfluxDB; 0 without any.
    :ivar values: by field, shape (blocks * windows,): NaN without a point.
    :ivar tail: what was asked for in the same request: a structured array;
        None if nothing was, or InfluxDB could not answer it.
    """

    computed: Array
    marked: Array
    values: dict[str, Array]
    tail: Array | None = None


def parse(
    body: bytes,
    fields: Sequence[str],
    range_: Range,
    tail: str | None = None,
) -> dict[uuid.UUID, Kept]:
    """What is kept of each metric; one without is absent, tail or not.

    :param body: MessagePack, with the columns time, late and `fields`, and
        then with time and `tail`.
    :param fields: a block counts if each of them has it.
    :param tail: the column of a second statement, if there is one.
    :raises QueryError: the server reports an error inside the answer.
    :raises ResponseError: it makes no sense.
    """
    try:
        return _parse(body, fields, range_, tail)
    except influxql_points.MALFORMED as e:
        raise exceptions.ResponseError(
            f"An answer of InfluxDB about rollups makes no sense"
            f" ({str(e) or type(e).__name__}): {body[:60]!r}"
        ) from e


def _parse(
    body: bytes, fields: Sequence[str], range_: Range, tail: str | None
) -> dict[uuid.UUID, Kept]:
    answer = msgpack.unpackb(body, raw=True)
    results = answer.get(b"results") or [answer]
    _require_no_error(answer)
    _require_no_error(results[0])
    if len(results) > (1 if tail is None else 2):
        raise ValueError("more results than statements")
    metrics, counts, (times, marks, *texts) = _columns(
        results[0], [lines.MARK, *fields]
    )
    if not {*map(type, marks)} <= {int, type(None)}:
        raise ValueError("marks that are no integers")
    tails = None if tail is None else _tails(results[1:], tail)
    owners = numpy.repeat(numpy.arange(len(counts)), counts)
    by_field = [
        _decode(column, owners, len(metrics), range_) for column in texts
    ]
    marked = _marked(owners, times, marks, len(metrics), range_)
    computed = by_field[0][0]
    for other, _values in by_field[1:]:
        computed = numpy.minimum(computed, other)
    computed[computed <= marked + lines.SKEW] = 0
    return {
        metric: Kept(
            computed[i],
            marked[i],
            {
                field: values[i]
                for field, (_, values) in zip(fields, by_field, strict=True)
            },
            None if tails is None else tails.get(metric, _NOTHING),
        )
        for i, metric in enumerate(metrics)
    }


def _require_no_error(part: Mapping[bytes, Any]) -> None:
    if b"error" in part:
        raise exceptions.QueryError(
            f"InfluxDB failed: {part[b'error'].decode(errors='replace')}"
        )


def _columns(
    result: Mapping[bytes, Any], names: Sequence[str]
) -> tuple[list[uuid.UUID], list[int], list[list[Any]]]:
    """Metrics, how many rows each has, and the columns of all rows."""
    wanted = [b"time", *(name.encode() for name in names)]
    metrics = []
    counts = []
    columns: list[list[Any]] = [[] for _ in wanted]
    if result.get(b"partial"):
        raise ValueError("the server left out points")
    for series in result.get(b"series", ()):
        if series.get(b"partial"):
            raise ValueError("the server left out points")
        if series[b"columns"] != wanted:
            raise ValueError("other columns")
        metrics.append(uuid.UUID(series[b"tags"][b"metric"].decode()))
        rows = series[b"values"]
        counts.append(len(rows))
        of_metric = zip(*rows, strict=True)
        for column, values in zip(columns, of_metric, strict=True):
            column += values
    return metrics, counts, columns


def _tails(
    results: Sequence[Mapping[bytes, Any]], column: str
) -> dict[uuid.UUID, Array] | None:
    """The answer of the second statement; None if there is none.

    What is wrong with it is found when it is asked alone.
    """
    if not results or b"error" in results[0]:
        return None
    metrics, counts, (times, values) = _columns(results[0], [column])
    if (
        len(set(metrics)) < len(metrics)
        or not {*map(type, times)} <= {int}
        or not {*map(type, values)} <= {int, float}
    ):
        return None
    all_ = schema.points(
        numpy.array(times, "datetime64[ns]"), numpy.array(values, "float64")
    )
    ends = numpy.cumsum(counts).tolist()
    return {
        metric: all_[end - count : end]
        for metric, count, end in zip(metrics, counts, ends, strict=True)
    }


def _decode(
    column: Sequence[bytes | None],
    owners: Array,
    metrics: int,
    range_: Range,
) -> tuple[Array, Array]:
    """Shape (metrics, blocks): when computed; (metrics, windows): values."""
    computed = numpy.zeros((metrics, range_.number), "int64")
    windows = lines.windows(range_.every)
    values = numpy.full((metrics, range_.number, windows), numpy.nan)
    # Nothing that is no text can be as long as one.
    texts = [text if isinstance(text, bytes) else b"" for text in column]
    lengths = numpy.fromiter(map(len, texts), "int64", len(texts))
    for dtype in (lines.layout(range_.every), lines.empty_layout()):
        found = (lengths == lines.text_length(dtype)).nonzero()[0]
        if not len(found):
            continue
        try:
            data = binascii.a2b_base64(
                b"".join([texts[i] for i in found.tolist()])
            )
            blocks = numpy.frombuffer(data, dtype, len(found))
        except ValueError:
            continue  # Not written by us; what is not kept is computed.
        owner = owners[found]
        index, rest = numpy.divmod(blocks["start"] - range_.first, range_.span)
        ours = (index >= 0) & (index < range_.number) & (rest == 0)
        owner, index, blocks = owner[ours], index[ours], blocks[ours]
        computed[owner, index] = blocks["computed"]
        if "values" in (dtype.names or ()):
            values[owner, index] = blocks["values"]
    return computed, values.reshape(metrics, range_.number * windows)


def _marked(
    owners: Array,
    places: Sequence[int],
    marks: Sequence[int | None],
    metrics: int,
    range_: Range,
) -> Array:
    """Shape (metrics, blocks): by when the last late measure was there.

    :param owners: of each row the position of the metric.
    :param places: where the day is that is marked, or what else the row has.
    :param marks: the time, or None.
    """
    marked = numpy.zeros((metrics, range_.number), "int64")
    if not any(marks):
        return marked
    until = numpy.array([mark or 0 for mark in marks], "int64")
    late = until != 0
    owner, until = owners[late], until[late]
    place = numpy.array(places, "int64")[late]
    day = lines.day_at(place) - range_.first
    first = numpy.maximum(day // range_.span, 0)
    last = (day + lines.DAY - 1 + range_.reach) // range_.span
    last = numpy.minimum(last, range_.number - 1)
    for more in range(int((last - first).max()) + 1):
        block = first + more
        touched = block <= last
        numpy.maximum.at(
            marked, (owner[touched], block[touched]), until[touched]
        )
    return marked
