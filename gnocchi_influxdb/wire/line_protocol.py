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
"""Measures to line protocol.

One measure is one line (timestamps in nanoseconds)::

    measure,metric=5a301761-aaaa-46e2-8900-8b4f6fe6675a value=42.5 1400000000

https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

import dataclasses
import functools
import itertools
import uuid
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import numpy
import numpy.typing
import orjson

from gnocchi_influxdb.schema import (
    DTYPE,
    FIELD,
    MAX_TIME,
    MEASUREMENT,
    TAG,
    Array,
)

# Points up to which it does not pay to look for times that are the same.
_MANY = 1000

# Where the tag is in what a line begins with.
_TAG = slice(len(MEASUREMENT) + 1, -len(f" {FIELD}="))


@dataclasses.dataclass(frozen=True, slots=True)
class Points:
    """Points of any number of metrics, sorted by time.

    :ivar metrics: shape (n,), int64: position of the metric in `prefixes`.
    :ivar times: shape (n,), int64: ns since the epoch.
    :ivar values: shape (n,), float64: finite.
    :ivar prefixes: what the lines of a metric begin with.
    :ivar ids: the metrics.
    """

    metrics: Array
    times: Array
    values: Array
    prefixes: list[bytes]
    ids: list[uuid.UUID]

    def __len__(self) -> int:
        return len(self.times)

    def part(self, start: int, stop: int) -> "Points":
        """Some of the points: those from `start` to before `stop`."""
        return self._select(slice(start, stop))

    def first(self, bounds: Iterable[int]) -> "Points":
        """The first point of each metric in each part.

        :param bounds: where each part begins, and at last where all end.
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

    def _select(self, which: Any) -> "Points":
        return dataclasses.replace(
            self,
            metrics=self.metrics[which],
            times=self.times[which],
            values=self.values[which],
        )

    def tag(self, metric: int) -> bytes:
        """The tag of a metric, given its position."""
        return self.prefixes[metric][_TAG]


class Unstorable(NamedTuple):
    """How many measures of a metric have no place in InfluxDB, and why."""

    metric: uuid.UUID
    not_finite: int
    out_of_time: int


def collect(
    measures: Collection[tuple[uuid.UUID, Array]],
) -> tuple[Points, list[Unstorable]]:
    """Bring measures into the order and shape they are written in.

    Sorted by time, since InfluxDB sets memory aside for a whole batch in
    each shard that the batch touches. The last of several measures of one
    metric at one time is kept, and what InfluxDB has no room for (NaN,
    infinities, times that it can't express or that lie before 1970) is left
    out.

    :param measures: metrics, each once, and structured arrays with the fields
        `timestamps` (datetime64[ns]) and `values` (float64), in the order of
        their arrival. Pairs, since a UUID takes Python code to be a key.
    """
    ids = [id_ for id_, _ in measures]
    arrays = [array for _, array in measures]
    counts = [len(array) for array in arrays]
    # At once for all metrics: there are often thousands with a point each.
    # Joined as bytes, since numpy takes 3 us to see that two structured
    # arrays are of the same type.
    dtype = DTYPE
    joined = numpy.frombuffer(
        b"".join([numpy.asarray(a, dtype).tobytes() for a in arrays]), dtype
    )
    metrics = numpy.arange(len(ids))
    # Then no metric has points to be brought in order or to be left out.
    one_each = counts.count(1) == len(ids)
    if not one_each:
        metrics = numpy.repeat(metrics, counts)
    times = joined["timestamps"].copy().view("int64")
    values = joined["values"].copy()
    finite = numpy.isfinite(values)
    # NaT is the smallest integer.
    in_time = (times >= 0) & (times <= MAX_TIME)
    good = finite & in_time
    unstorable = []
    if not good.all():
        not_finite = numpy.bincount(metrics[~finite], minlength=len(ids))
        out_of_time = numpy.bincount(
            metrics[finite & ~in_time], minlength=len(ids)
        )
        unstorable = [
            Unstorable(ids[i], int(not_finite[i]), int(out_of_time[i]))
            for i in numpy.unique(metrics[~good]).tolist()
        ]
        metrics, times, values = metrics[good], times[good], values[good]
    if not (
        one_each
        or ((times[1:] > times[:-1]) | (metrics[1:] > metrics[:-1])).all()
    ):
        order = numpy.lexsort((times, metrics))  # stable
        metrics, times, values = metrics[order], times[order], values[order]
        last = numpy.ones(len(times), dtype=bool)
        last[:-1] = (times[1:] != times[:-1]) | (metrics[1:] != metrics[:-1])
        metrics, times, values = metrics[last], times[last], values[last]
    if not (times[1:] >= times[:-1]).all():
        order = numpy.argsort(times, kind="stable")
        metrics, times, values = metrics[order], times[order], values[order]
    prefixes = [_prefix(id_.int) for id_ in ids]
    return Points(metrics, times, values, prefixes, ids), unstorable


# The same metrics come again and again, and a UUID takes 1 us to be spelled.
@functools.lru_cache(maxsize=2**16)
def _prefix(metric: int) -> bytes:
    return f"{MEASUREMENT},{TAG}={uuid.UUID(int=metric)} {FIELD}=".encode()


def encode(points: Points) -> bytes:
    """Lines for the points, in their order."""
    if not len(points):
        return b""
    prefixes = numpy.array(points.prefixes, dtype=object)
    # Three pieces a line, the last with what surrounds the time.
    pieces = [b""] * (3 * len(points))
    pieces[0::3] = prefixes[points.metrics].tolist()
    pieces[1::3] = _numbers(points.values).split(b",")
    pieces[2::3] = _ends(points.times)
    return b"".join(pieces)


def _ends(times: Array) -> list[bytes]:
    """What lines end with.

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
