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
"""Windows of few points, aggregated here (pure, but for a memory).

Where a window has a point or a few, as the finest granularity of a policy
usually does, InfluxDB hands out the points in a third of the time that it
takes for their windows. So points are read, with a limit that is reached
where windows hold many of them; then InfluxDB aggregates, and is not asked for
points of that bucket and granularity again for some time.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy
import numpy.typing

from gnocchi_influxdb import schema
from gnocchi_influxdb.schema import Array

#: Points of a metric that are too many in any case.
_MOST = 20000

#: Seconds until a bucket is given another chance.
_REMEMBERED = 600

_REDUCE = {"sum": numpy.add, "min": numpy.minimum, "max": numpy.maximum}


class Memory:
    """Which buckets have many points in a window.

    All methods take the bucket's name, the length of a window in ns, and how
    many points a window are not many yet.
    """

    def __init__(self) -> None:
        self._dense: dict[tuple[str, int, int], float] = {}

    def is_dense(self, bucket: str, every: int, most: int) -> bool:
        """Whether points have lately turned out to be too many."""
        return self._dense.get((bucket, every, most), 0) > time.monotonic()

    def note_dense(self, bucket: str, every: int, most: int) -> None:
        """Remember that there are too many."""
        self._dense[bucket, every, most] = time.monotonic() + _REMEMBERED


def limit(start: int | None, stop: int | None, every: int, most: int) -> int:
    """Points of a metric in a range of windows that are too many.

    :param most: points a window that are not.
    """
    if start is None:
        return _MOST
    if stop is None:
        stop = max(time.time_ns(), start + every)
    return min(most * (stop - start) // every + 1, _MOST)


def aggregate(points: Array, every: int, function: str) -> Array:
    """Windows of the points of one metric.

    :param points: structured array (`timestamps`, `values`), sorted.
    :param every: length of a window, ns.
    :param function: one of `schema.WINDOW_FUNCTIONS`.
    :return: the same kind of array, with the starts of the windows.
    """
    windows = points["timestamps"].view("int64") // every * every
    starts = numpy.flatnonzero(windows[1:] != windows[:-1]) + 1
    starts = numpy.concatenate(([0], starts)) if len(points) else starts
    found = numpy.empty(len(starts), dtype=schema.DTYPE)
    found["timestamps"] = windows[starts].view("datetime64[ns]")
    found["values"] = _values(points["values"], starts, function)
    return found


def _values(values: Array, starts: Array, function: str) -> Array:
    if function == "first" or (
        len(starts) == len(values) and function != "count"
    ):
        found: Array = values[starts]
        return found
    counts = numpy.diff(starts, append=len(values))
    if function == "count":
        return counts
    if function == "last":
        found = values[starts + counts - 1]
        return found
    if function == "mean":
        return _values(values, starts, "sum") / counts
    found = _REDUCE[function].reduceat(values, starts)
    return found


def all_below(rows: Mapping[Any, Array], bound: int) -> bool:
    """Whether no metric has reached a limit."""
    return all(len(points) < bound for points in rows.values())
