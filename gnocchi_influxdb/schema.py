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
"""What the rooms of this package agree on: names in InfluxDB, and units.

A metric is one series, a measure one point of it::

    measure,metric=5a301761-aaaa-46e2-8900-8b4f6fe6675a value=42.5 1400000000

A downsampled window is one point, too, at its start, in the bucket of its
definition, with a field for each aggregation method of the archive policy::

    aggregate,metric=5a301761-... mean=42.5,max=50.0,rate:mean=0.5 1400000000
"""

import functools
from typing import Any, NewType

import numpy
import numpy.typing

#: Measurement of the points: one series a metric, told apart by `TAG`, with
#: one field.
MEASUREMENT = "measure"
TAG = "metric"
FIELD = "value"

#: Values of `TAG` that Gnocchi writes. Others may write what they like.
UUID_PATTERN = "^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$"

#: Measurement of what metrics are called, for dashboards.
NAMES = "metric_info"

#: Measurement of downsampled windows.
AGGREGATES = "aggregate"
#: A field of windows that were made of points where there was none, although
#: their points may not be all: up to where (s) that was so. As long as no
#: further points have expired, they may be computed again.
FILLED = "filled"

#: Measurement of late measures: which windows are to be computed again. Its
#: field is the start of the window, s; its time is that by which the measure
#: has reached InfluxDB. So those that are settled are not looked at.
MARKS = "late"
MARK = "window"

#: Measurement of watermarks: how far a bucket is downsampled.
WATERMARKS = "downsampled"

#: Measurement of what the driver's processes count, in a bucket of its own.
HEALTH = "driver"

#: Content types in which InfluxQL answers. MessagePack ends at the first
#: duration of a configuration.
MSGPACK = "application/x-msgpack"
JSON = "application/json"

#: A time (since 1970-01-01) or a duration.
Ns = NewType("Ns", int)
Seconds = NewType("Seconds", int)

#: Nanoseconds in a second.
SECOND = 10**9

#: Newest time that InfluxDB stores, ns (models.MaxNanoTime of its source).
MAX_TIME = 2**63 - 2

Array = numpy.typing.NDArray[Any]

#: Points or windows: those fields that gnocchi.carbonara's
#: TIMESERIES_ARRAY_DTYPE has.
DTYPE = numpy.dtype([("timestamps", "<M8[ns]"), ("values", "<f8")])

#: Functions that InfluxDB applies to windows in its storage engine, by the
#: same name in Flux and InfluxQL.
WINDOW_FUNCTIONS = frozenset(
    ["mean", "sum", "count", "min", "max", "first", "last"]
)


@functools.lru_cache(maxsize=1024)
def ns_of(duration: Any) -> int:
    """A numpy.timedelta64 of any unit in nanoseconds."""
    return int(numpy.timedelta64(duration, "ns").astype("int64"))


def floor(ns: int, every: int) -> int:
    """Start of the window of `every` ns since the epoch that holds `ns`."""
    return ns // every * every


def ceil(ns: int, every: int) -> int:
    """First start of a window of `every` ns that is not before `ns`."""
    return -(-ns // every) * every


def last_window(every: int) -> int:
    """A start of a window of `every` ns that is late enough for any point.

    Not the last one that there is: InfluxDB does not come back from a window
    that ends beyond `MAX_TIME`.
    """
    return (MAX_TIME // every - 1) * every


def points(times: Array, values: Array) -> Array:
    """A structured array of points.

    :param times: shape (n,): datetime64[ns].
    :param values: shape (..., n).
    :return: of the shape of `values`, with the fields of `DTYPE`.
    """
    found = numpy.empty(values.shape, DTYPE)
    found["timestamps"] = times
    found["values"] = values
    return found


def counted(number: int, noun: str) -> str:
    """A number of things: `1 metric`, `2 metrics`, `1,000 series`."""
    plural = number != 1 and not noun.endswith("s")
    return f"{number:,} {noun}{'s' if plural else ''}"
