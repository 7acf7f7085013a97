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
"""Rollups: aggregates that were computed once, in line protocol (pure).

Beside its points a metric may have a second series, where the windows of
aggregations that were asked for are kept, 24 to a point (a block)::

    rollup,metric=5a301761-aaaa-46e2-8900-8b4f6fe6675a
        mean_3600000000000="SAlnvBj..." 1767225599...
    rollup,metric=5a301761-aaaa-46e2-8900-8b4f6fe6675a
        late=1767571200000000000i 1767225599...

The field of an aggregation is named by its method and its granularity in ns.
Its text is, in base64 and little-endian, the start of the block and the time
at which the computing began (int64, ns since the epoch), and a double for
each window, NaN where there is no point; a block without any point ends after
the two times. A text of another length is not ours and does not count.

Who writes a measure that is late leaves a mark: the field `late`, at the time
of the measure's day. Its value is the time (ns) by which the measure has
reached InfluxDB. A block counts only if it was computed after that, see
`rollup_response`.

`LATE` and `CLOSED` make that enough. A measure that is not late reaches
InfluxDB less than `LATE` after its timestamp, and only windows that ended
`CLOSED` before are kept. `SKEW` is how far the clocks of Gnocchi's hosts may
be apart.

The points are not at the times of their blocks, but close together at the end
of their page of four weeks. So they lie in a shard or two, where a month of
measures lies in 5 or in 30: InfluxDB looks into each shard for each metric.
"""

import binascii
from typing import Any

import numpy
import numpy.typing

from gnocchi_influxdb import schema
from gnocchi_influxdb.wire import line_protocol

Array = numpy.typing.NDArray[Any]

MEASUREMENT = schema.ROLLUPS
MARK = "late"
_MEASUREMENT = MEASUREMENT.encode()

_MINUTE = 60 * 10**9
DAY = 24 * 60 * _MINUTE
PAGE = 28 * DAY

LATE = 15 * _MINUTE
CLOSED = 45 * _MINUTE
SKEW = _MINUTE

_WINDOWS = 24
# Where the points of a page lie: an hour, which is the shortest shard.
_SLICE = 60 * _MINUTE
_SHRINK = PAGE // _SLICE
# More than there are days until the largest time.
_DAYS = 2**17


def windows(every: int) -> int:
    """Windows in a block.

    :param every: length of a window in ns, a page at most.
    """
    return min(_WINDOWS, PAGE // every)


def span(every: int) -> int:
    """Length of a block in ns."""
    return windows(every) * every


def place(ns: Any) -> Any:
    """Where the point is that is about a time (ns since the epoch).

    Integers or arrays of them.

    What comes later has no earlier place, and two blocks or two days have not
    the same.
    """
    page, within = ns // PAGE, ns % PAGE
    return (page + 1) * PAGE - _SLICE + within // _SHRINK


def day_at(place: Array) -> Array:
    """Starts (ns) of the days that marks at some places are about.

    :param place: int64, ns since the epoch.
    """
    page, within = numpy.divmod(place, PAGE)
    # `place` rounds down.
    within = (within - PAGE + _SLICE + 1) * _SHRINK - 1
    day: Array = page * PAGE + within // DAY * DAY
    return day


def field(method: str, every: int) -> str:
    """Name of the field of an aggregation."""
    return f"{method}_{every:d}"


def layout(every: int) -> numpy.dtype[numpy.void]:
    """A block's text, decoded."""
    return _padded(
        [
            ("start", "<i8"),
            ("computed", "<i8"),
            ("values", "<f8", windows(every)),
        ]
    )


def empty_layout() -> numpy.dtype[numpy.void]:
    """The same of a block without a point."""
    return _padded([("start", "<i8"), ("computed", "<i8")])


def _padded(fields: list[Any]) -> numpy.dtype[numpy.void]:
    # To a multiple of 3, so that texts can be decoded in one piece.
    size = numpy.dtype(fields).itemsize
    return numpy.dtype([*fields, ("padding", f"V{-size % 3 or 3}")])


def text_length(dtype: numpy.dtype[numpy.void]) -> int:
    """Length of the text of a block."""
    return dtype.itemsize // 3 * 4


def encode(
    metric: object,
    name: str,
    every: int,
    starts: Array,
    values: Array,
    computed: int,
) -> bytes:
    """Lines that keep blocks of one metric.

    :param name: of the field.
    :param starts: shape (n,), int64: starts of the blocks, ns.
    :param values: shape (n, windows), NaN where there is no point.
    :param computed: time (ns) at which the computing began.
    """
    has_any = ~numpy.isnan(values).all(axis=1)
    lines = []
    for which, dtype in (
        (has_any, layout(every)),
        (~has_any, empty_layout()),
    ):
        blocks = numpy.zeros(int(which.sum()), dtype)
        blocks["start"] = starts[which]
        blocks["computed"] = computed
        if which is has_any:
            blocks["values"] = values[which]
        text = binascii.b2a_base64(blocks.tobytes(), newline=False).decode()
        length = text_length(dtype)
        lines += [
            f"{MEASUREMENT},{schema.TAG}={metric}"
            f' {name}="{text[i * length : (i + 1) * length]}"'
            f" {place(start):d}\n"
            for i, start in enumerate(blocks["start"].tolist())
        ]
    return "".join(lines).encode()


def oldest_place(now: int, retention: int) -> int:
    """Where InfluxDB still takes a point, with an hour to spare.

    :param now: ns since the epoch.
    :param retention: of the bucket, s; 0 for ever.
    """
    return now - retention * 10**9 + _SLICE if retention else 0


def has_late(points: line_protocol.PointTable, until: int) -> bool:
    """Whether any of the points is to be marked.

    :param until: time (ns) by which the points have reached InfluxDB.
    """
    # They are sorted.
    return bool((points.times[:1] < until - LATE).any())


def marks(points: line_protocol.PointTable, until: int, oldest: int) -> bytes:
    """Lines that mark the days of those points that are late.

    :param until: time (ns) by which the points have reached InfluxDB.
    :param oldest: what has its place before that is left out.
    """
    late = points.times < until - LATE
    both = numpy.unique(
        points.metrics[late] * _DAYS + points.times[late] // DAY
    )
    metrics, days = numpy.divmod(both, _DAYS)
    places = place(days * DAY)
    is_kept = places >= oldest
    middle = f" {MARK}={until:d}i".encode()
    return b"".join(
        [
            b"%b,%b%b %d\n" % (_MEASUREMENT, points.tag(metric), middle, at)
            for metric, at in zip(
                metrics[is_kept].tolist(),
                places[is_kept].tolist(),
                strict=True,
            )
        ]
    )
