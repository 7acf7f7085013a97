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
from collections.abc import Sequence
from typing import Any

import msgpack
import numpy
import numpy.typing

from gnocchi_influxdb import exceptions, influxql_response
from gnocchi_influxdb import rollup_lines as lines

Array = numpy.typing.NDArray[Any]


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
    """

    computed: Array
    marked: Array
    values: dict[str, Array]


def parse(
    body: bytes, fields: Sequence[str], range_: Range
) -> dict[uuid.UUID, Kept]:
    """What is kept of each metric; one without anything is absent.

    :param body: MessagePack, with the columns time, late and `fields`.
    :param fields: a block counts if each of them has it.
    :raises QueryError: the server reports an error inside the answer.
    :raises ResponseError: it makes no sense.
    """
    try:
        return _parse(body, fields, range_)
    except influxql_response.MALFORMED as e:
        raise exceptions.ResponseError(
            f"An answer of InfluxDB about rollups makes no sense"
            f" ({str(e) or type(e).__name__}): {body[:60]!r}"
        ) from e


def _parse(
    body: bytes, fields: Sequence[str], range_: Range
) -> dict[uuid.UUID, Kept]:
    metrics, rows = _rows(body, len(fields))
    if not metrics:
        return {}
    owners, times, marks, *texts = zip(*rows, strict=True)
    by_field = [
        _decode(column, owners, len(metrics), range_) for column in texts
    ]
    marked = _marked(
        [mark for mark in zip(owners, times, marks, strict=True) if mark[2]],
        len(metrics),
        range_,
    )
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
        )
        for i, metric in enumerate(metrics)
    }


def _rows(
    body: bytes, fields: int
) -> tuple[list[uuid.UUID], list[tuple[Any, ...]]]:
    answer = msgpack.unpackb(body, raw=True)
    (result,) = answer.get(b"results") or [answer]
    for part in (answer, result):
        if b"error" in part:
            raise exceptions.QueryError(
                f"InfluxDB failed: {part[b'error'].decode(errors='replace')}"
            )
    if result.get(b"partial"):
        raise ValueError("the server left out points")
    metrics = []
    rows = []
    for i, series in enumerate(result.get(b"series", ())):
        if series.get(b"partial"):
            raise ValueError("the server left out points")
        metrics.append(uuid.UUID(series[b"tags"][b"metric"].decode()))
        if len(series[b"columns"]) != 2 + fields:
            raise ValueError("other columns")
        rows += [(i, *row) for row in series[b"values"]]
    if not all(type(row[2]) in (int, type(None)) for row in rows):
        raise ValueError("marks that are no integers")
    return metrics, rows


def _decode(
    column: Sequence[bytes | None],
    owners: Sequence[int],
    metrics: int,
    range_: Range,
) -> tuple[Array, Array]:
    """Shape (metrics, blocks): when computed; (metrics, windows): values."""
    computed = numpy.zeros((metrics, range_.number), "int64")
    windows = lines.windows(range_.every)
    values = numpy.full((metrics, range_.number, windows), numpy.nan)
    for dtype in (lines.layout(range_.every), lines.empty_layout()):
        length = lines.text_length(dtype)
        found = [
            (text, owner)
            for text, owner in zip(column, owners, strict=True)
            if isinstance(text, bytes) and len(text) == length
        ]
        if not found:
            continue
        try:
            data = binascii.a2b_base64(b"".join(text for text, _ in found))
            blocks = numpy.frombuffer(data, dtype, len(found))
        except ValueError:
            continue  # Not written by us; what is not kept is computed.
        owner = numpy.array([owner for _, owner in found])
        index, rest = numpy.divmod(blocks["start"] - range_.first, range_.span)
        ours = (index >= 0) & (index < range_.number) & (rest == 0)
        owner, index, blocks = owner[ours], index[ours], blocks[ours]
        computed[owner, index] = blocks["computed"]
        if "values" in (dtype.names or ()):
            values[owner, index] = blocks["values"]
    return computed, values.reshape(metrics, range_.number * windows)


def _marked(
    marks: Sequence[tuple[int, int, int]], metrics: int, range_: Range
) -> Array:
    """Shape (metrics, blocks): by when the last late measure was there.

    :param marks: (position of the metric, place of the day, time).
    """
    marked = numpy.zeros((metrics, range_.number), "int64")
    if not marks:
        return marked
    owner, place, until = numpy.array(marks, "int64").T
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
