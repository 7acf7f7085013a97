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
"""Windows of few points, aggregated by numpy (pure).

It is by far quicker than carbonara, and gives the bits that InfluxDB gives.
"""

import numpy

from gnocchi_influxdb import schema
from gnocchi_influxdb.schema import Array

_REDUCE = {"sum": numpy.add, "min": numpy.minimum, "max": numpy.maximum}


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
