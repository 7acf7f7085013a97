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
import itertools
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy
import numpy.typing
import orjson

MEASUREMENT = "measure"
TAG = "metric"
FIELD = "value"

#: Newest time that InfluxDB stores (models.MaxNanoTime of its source), ns.
MAX_TIME = 2**63 - 2

Array = numpy.typing.NDArray[Any]


def last_window(every: int) -> int:
    """A start of a window of `every` ns that is late enough for any point.

    Not the last one that there is: InfluxDB does not come back from a window
    that ends beyond `MAX_TIME`.
    """
    return (MAX_TIME // every - 1) * every


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
        return dataclasses.replace(
            self,
            metrics=self.metrics[start:stop],
            times=self.times[start:stop],
            values=self.values[start:stop],
        )


class Unstorable(NamedTuple):
    """How many measures of a metric have no place in InfluxDB, and why."""

    metric: uuid.UUID
    not_finite: int
    out_of_time: int


def collect(
    metrics_and_measures: Mapping[uuid.UUID, Array],
) -> tuple[Points, list[Unstorable]]:
    """Bring measures into the order and shape they are written in.

    Sorted by time, since InfluxDB sets memory aside for a whole batch in
    each shard that the batch touches. The last of several measures of one
    metric at one time is kept, and what InfluxDB has no room for (NaN,
    infinities, times that it can't express or that lie before 1970) is left
    out.

    :param metrics_and_measures: structured arrays with the fields
        `timestamps` (datetime64[ns]) and `values` (float64), in the order of
        their arrival.
    """
    unstorable: list[Unstorable] = []
    times: list[Array] = []
    values: list[Array] = []
    prefixes: list[bytes] = []
    ids: list[uuid.UUID] = []
    counts: list[int] = []
    for metric, measures in metrics_and_measures.items():
        t = numpy.asarray(measures["timestamps"]).view("int64")
        v = numpy.asarray(measures["values"])
        finite = numpy.isfinite(v)
        # NaT is the smallest integer.
        in_time = (t >= 0) & (t <= MAX_TIME)
        good = finite & in_time
        if not good.all():
            unstorable.append(
                Unstorable(
                    metric,
                    int((~finite).sum()),
                    int((finite & ~in_time).sum()),
                )
            )
            t, v = t[good], v[good]
        if len(t) > 1 and not (t[1:] > t[:-1]).all():
            t, v = _last_of_each_time(t, v)
        if len(t):
            times.append(t)
            values.append(v)
            counts.append(len(t))
            prefixes.append(b"%s,%s=%s %s=" % _key(metric))
            ids.append(metric)
    if not counts:
        empty = numpy.empty(0, dtype="int64")
        return (
            Points(empty, empty, numpy.empty(0), [], []),
            unstorable,
        )
    all_times = numpy.concatenate(times)
    all_values = numpy.concatenate(values)
    metrics = numpy.repeat(numpy.arange(len(counts)), counts)
    if len(counts) > 1:
        order = numpy.argsort(all_times, kind="stable")
        metrics = metrics[order]
        all_times = all_times[order]
        all_values = all_values[order]
    return Points(metrics, all_times, all_values, prefixes, ids), unstorable


def encode(points: Points) -> bytes:
    """Lines for the points, in their order."""
    if not len(points):
        return b""
    # orjson writes whole arrays, several times faster than a format string
    # a point; its floats are the shortest that read back the same.
    times = _numbers(points.times)
    values = _numbers(points.values)
    prefixes = points.prefixes
    lines: Iterator[bytes] = itertools.chain.from_iterable(
        zip(
            [prefixes[i] for i in points.metrics.tolist()],
            values,
            itertools.repeat(b" "),
            times,
            itertools.repeat(b"\n"),
            strict=False,
        )
    )
    return b"".join(lines)


def _key(metric: uuid.UUID) -> tuple[bytes, bytes, bytes, bytes]:
    return (
        MEASUREMENT.encode(),
        TAG.encode(),
        str(metric).encode(),
        FIELD.encode(),
    )


def _numbers(array: Array) -> list[bytes]:
    text = orjson.dumps(
        numpy.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY
    )
    return text[1:-1].split(b",")


def _last_of_each_time(t: Array, v: Array) -> tuple[Array, Array]:
    order = numpy.argsort(t, kind="stable")
    t, v = t[order], v[order]
    last = numpy.append(t[1:] != t[:-1], True)
    return t[last], v[last]
