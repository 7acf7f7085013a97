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
"""Rates from the ends of their windows, without the points (pure)."""

import functools
from typing import Any

import numpy
from gnocchi import carbonara

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import methods
from gnocchi_influxdb.schema import Array

#: Window functions that a rate can be computed from, in the order of
#: `from_ends`.
ENDS = ("first", "last", "count")

#: Windows of so many times the finest granularity of their policy hold enough
#: points that three window functions are less work than the points. It is
#: here and not in read/cost: what is cached depends on it, too.
DENSE = 4

_FROM_ENDS = frozenset(["rate:mean", "rate:sum", "rate:count"])


def has_ends(method: str, granularity: Any, finest: Any) -> bool:
    """Whether a rate is best computed from the ends of its windows.

    :param granularity: of the rate, a timedelta64.
    :param finest: of the archive policy: points lie about as far apart.
    """
    return method in _FROM_ENDS and schema.ns_of(
        granularity
    ) >= DENSE * schema.ns_of(finest)


def from_ends(
    first: Array, last: Array, count: Array, aggregation: Any
) -> Any:
    """A rate without its points.

    The differences in a window add up to its last point less the one before
    its first; and that one counts exactly if it is in the window just before
    (see `grouping`), whose last it is then.

    :param first: the first point of each window: a structured array, at the
        starts of the windows.
    :param last: the last point of each window, alike.
    :param count: the number of points of each window, alike.
    :param aggregation: with one of the methods that `has_ends` knows.
    :return: carbonara.AggregatedTimeSerie.
    """
    times = last["timestamps"]
    others = first["timestamps"], count["timestamps"]
    if not all(numpy.array_equal(times, other) for other in others):
        # Asked for one after the other, they may differ in a point that was
        # just written.
        times = functools.reduce(numpy.intersect1d, others, times)
        first, last, count = (
            ends[numpy.isin(ends["timestamps"], times)]
            for ends in (first, last, count)
        )
    f, l, n = (ends["values"] for ends in (first, last, count))  # noqa: E741
    before = f.copy()
    number = n - 1
    if len(times) > 1:
        follows = times[1:] - times[:-1] == aggregation.granularity
        before[1:][follows] = l[:-1][follows]
        number[1:][follows] += 1
    there = number > 0
    values = number if aggregation.method == "rate:count" else l - before
    values = values[there]
    if aggregation.method == "rate:mean":
        values = values / number[there]
    series = methods.empty(aggregation)
    series.ts = carbonara.make_timeseries(times[there], values)
    return series
