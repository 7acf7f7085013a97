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
"""Points, downsampled windows and marks to line protocol (pure).

One measure is one line (timestamps in nanoseconds)::

    measure,metric=5a301761-aaaa-46e2-8900-8b4f6fe6675a value=42.5 1400000000

`schema` says what the others look like.

https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

import dataclasses
import functools
import itertools
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy
import numpy.typing
import orjson

from gnocchi_influxdb.schema import (
    AGGREGATES,
    FIELD,
    MARK,
    MARKS,
    MEASUREMENT,
    SECOND,
    TAG,
    Array,
)

# Fewer points are not searched for times that are the same: it does not pay.
_MANY = 1000

# More than there are windows of a second until the largest time; a batch does
# not span as many of less.
_WINDOWS = 2**34

# Where the tag is in a prefix.
_TAG = slice(len(MEASUREMENT) + 1, -len(f" {FIELD}="))


@dataclasses.dataclass(frozen=True, slots=True)
class PointTable:
    """Points of any number of metrics, sorted by time; a column each.

    No two points share metric and time. Never changed, so threads may share
    it.

    :ivar metrics: shape (n,), int64: position of the metric in `ids`.
    :ivar times: shape (n,), int64: ns since the epoch.
    :ivar values: shape (n,), float64: finite.
    :ivar prefixes: what the lines of each metric begin with, see `prefix`.
    :ivar ids: of the metrics.
    """

    metrics: Array
    times: Array
    values: Array
    prefixes: list[bytes]
    ids: list[uuid.UUID]

    def __len__(self) -> int:
        return len(self.times)

    def part(self, start: int, stop: int) -> "PointTable":
        """Some of the points: those from `start` to before `stop`."""
        return self._select(slice(start, stop))

    def first(self, bounds: Iterable[int]) -> "PointTable":
        """The first point of each metric in each part.

        :param bounds: start of each part, and the end of the last one.
        """
        number = len(self)
        found = []
        for start, stop in itertools.pairwise(bounds):
            first = numpy.full(len(self.ids), number)
            numpy.minimum.at(
                first, self.metrics[start:stop], numpy.arange(start, stop)
            )
            found.append(numpy.sort(first[first < number]))
        return self._select(numpy.concatenate(found))

    def _select(self, which: Any) -> "PointTable":
        return dataclasses.replace(
            self,
            metrics=self.metrics[which],
            times=self.times[which],
            values=self.values[which],
        )

    def tag(self, metric: int) -> bytes:
        """The tag of a metric, given its position."""
        return self.prefixes[metric][_TAG]


# The same metrics come again and again, and a UUID takes 1 us to be spelled.
@functools.lru_cache(maxsize=2**16)
def prefix(metric: int) -> bytes:
    """What the lines of a metric begin with.

    :param metric: its id as an integer.
    """
    return f"{MEASUREMENT},{TAG}={uuid.UUID(int=metric)} {FIELD}=".encode()


def encode(points: PointTable) -> bytes:
    """Lines for the points, in their order, each with a line end."""
    if not len(points):
        return b""
    prefixes = numpy.array(points.prefixes, dtype=object)
    # Three pieces a line, the last with what surrounds the time.
    pieces = [b""] * (3 * len(points))
    pieces[0::3] = prefixes[points.metrics].tolist()
    pieces[1::3] = _numbers(points.values).split(b",")
    pieces[2::3] = _ends(points.times)
    return b"".join(pieces)


def windows(
    ids: Sequence[uuid.UUID],
    owners: Array,
    times: Array,
    values: Mapping[str, Array],
) -> list[bytes]:
    """A line for each window that has a value.

    :param ids: of the metrics.
    :param owners: shape (n,), int64: position in `ids`.
    :param times: shape (n,), int64: starts of the windows, ns.
    :param values: by aggregation method, shape (n,), NaN where there is none.
    """
    heads = numpy.array(
        [f"{AGGREGATES},{TAG}={id_} ".encode() for id_ in ids],
        dtype=object,
    )[owners].tolist()
    columns = []
    for method, of_method in values.items():
        there = numpy.isfinite(of_method)
        texts = numpy.full(len(of_method), b"", dtype=object)
        prefix = f"{method}=".encode()
        texts[there] = [
            prefix + number + b"," for number in _each(of_method[there])
        ]
        columns.append(texts.tolist())
    lines = []
    for head, time, *fields in zip(
        heads, times.tolist(), *columns, strict=True
    ):
        text = b"".join(fields)
        if text:
            lines.append(b"%b%b %d\n" % (head, text[:-1], time))
    return lines


def marks(points: PointTable, late: int, until: int, every: int) -> bytes:
    """Lines that mark the windows of late points.

    :param late: points before that (ns) are late.
    :param until: time (ns) by which the points have reached InfluxDB.
    :param every: length of a window, ns.
    """
    # They are sorted.
    number = int(points.times.searchsorted(late))
    if not number:
        return b""
    windows = points.times[:number] // every
    first = int(windows[0])
    both = numpy.unique(points.metrics[:number] * _WINDOWS + (windows - first))
    metrics, windows = numpy.divmod(both, _WINDOWS)
    windows += first
    # In one second, and each window at a time of its own.
    times = until // SECOND * SECOND + windows % SECOND
    lines = zip(
        metrics.tolist(),
        _each(windows * every / SECOND),
        times.tolist(),
        strict=True,
    )
    return b"".join(
        b"%b,%b %b=%b %d\n"
        % (MARKS.encode(), points.tag(metric), MARK.encode(), start, time)
        for metric, start, time in lines
    )


def _ends(times: Array) -> list[bytes]:
    """The end of each line: space, time and line end.

    :param times: sorted.
    """
    if len(times) >= _MANY:
        starts = numpy.flatnonzero(times[1:] != times[:-1]) + 1
        # Metrics that are polled together have the same times.
        if 2 * len(starts) < len(times):
            starts = numpy.concatenate(([0], starts))
            lengths = numpy.diff(starts, append=len(times)).tolist()
            repeated: list[bytes] = []
            for end, number in zip(_ends(times[starts]), lengths, strict=True):
                repeated += [end] * number
            return repeated
    text = _numbers(times).replace(b",", b"\n, ")
    return (b" %b\n" % text).split(b",")


def _numbers(array: Array) -> bytes:
    """The numbers, with commas between them."""
    # orjson writes whole arrays, several times faster than a format string
    # a point; its floats are the shortest that read back the same.
    text = orjson.dumps(
        numpy.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY
    )
    return text[1:-1]


def _each(array: Array) -> list[bytes]:
    """Each number by itself."""
    return _numbers(array).split(b",") if len(array) else []
