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
"""Which aggregation method is computed where, and the arithmetic of those
that InfluxDB does not compute (pure).

=====================  ==================================================
mean sum count min      by InfluxDB, in its storage engine
max first last
rate:mean rate:sum      from the first, the last and the count of each
rate:count              window, where that is less than the points
std median NNpct        here, by Gnocchi's carbonara, from the points
rate:* otherwise        here, from the differences of neighbouring points
=====================  ==================================================

InfluxDB's own stddev and quantile are no alternative: a Flux script runs
them outside of the storage engine, several times slower than it sends the
points, and it knows a standard deviation for a single point.
"""

from typing import Any

import numpy
import numpy.typing
from gnocchi import calendar, carbonara

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import grouping
from gnocchi_influxdb.schema import Array

# To make one takes longer than anything else that is done for a metric.
_NO_WINDOWS = carbonara.make_timeseries([], [])

#: Largest calendar period, ns: what a range has to be widened by to hold the
#: whole of the last one. By Gnocchi's own letters.
_DAY = 24 * 3600 * 10**9
_CALENDAR_PERIODS = {
    "Y": 366 * _DAY,
    "H": 184 * _DAY,
    "Q": 92 * _DAY,
    "M": 31 * _DAY,
    "W": 7 * _DAY,
}


#: What a rate can be computed from without its points.
ENDS = ("first", "last", "count")

_RATES_FROM_ENDS = frozenset(["rate:mean", "rate:sum", "rate:count"])

# A window of how many times the finest granularity has so many points that
# its three ends are less work.
_DENSE = 4


def has_ends(method: str, granularity: Any, finest: Any) -> bool:
    """Whether a rate is best computed from the ends of its windows.

    :param granularity: of the rate.
    :param finest: of the archive policy: points lie about as far apart.
    """
    return method in _RATES_FROM_ENDS and schema.ns_of(
        granularity
    ) >= _DENSE * schema.ns_of(finest)


def is_pushed_down(method: str) -> bool:
    """Whether InfluxDB computes the method."""
    return method in schema.WINDOW_FUNCTIONS


def is_rate(method: str) -> bool:
    """Whether the method works on differences of neighbouring points."""
    return method.startswith("rate:")


def empty(aggregation: Any) -> Any:
    """An aggregated series without a value."""
    return carbonara.AggregatedTimeSerie(aggregation, _NO_WINDOWS)


def compute_all(
    points: Array, owners: Array, aggregation: Any
) -> tuple[Array, Array]:
    """Aggregate points of several metrics.

    :param points: structured array, sorted by metric and time.
    :param owners: shape (n,), int64: whose each point is, from 0 on.
    :return: structured array, in the same order, and whose each window is.
    """
    metrics = grouping.GroupedMetrics(points, owners, aggregation.granularity)
    return metrics.told_apart(_aggregate(metrics, aggregation).ts)


def compute(points: Array, aggregation: Any) -> Any:
    """Aggregate points.

    :param points: structured array (`timestamps`, `values`), sorted.
    :param aggregation: carbonara.Aggregation.
    :return: carbonara.AggregatedTimeSerie.
    """
    return _aggregate(
        grouping.GroupedPoints(points, aggregation.granularity), aggregation
    )


def rate_from_ends(
    first: Array, last: Array, count: Array, aggregation: Any
) -> Any:
    """A rate without its points.

    The differences in a window add up to its last point less the one before
    its first; and that one counts exactly if it is in the window just before
    (see `grouped`), whose last it is then.

    :param first: structured array (`timestamps` of windows, `values`).
    :param last: the same of the last points.
    :param count: the same of the numbers of points.
    :param aggregation: with one of the methods that `has_ends` knows.
    """
    # Asked for one after the other, they may differ in a point just written.
    times = numpy.intersect1d(
        numpy.intersect1d(first["timestamps"], last["timestamps"]),
        count["timestamps"],
    )
    f, l, n = (  # noqa: E741
        ends["values"][numpy.isin(ends["timestamps"], times)]
        for ends in (first, last, count)
    )
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
    series = empty(aggregation)
    series.ts = carbonara.make_timeseries(times[there], values)
    return series


def resample(series: Any, sampling: Any) -> Any:
    """Aggregate the values of an aggregated series again, by its method.

    :param sampling: timedelta64, or a letter of gnocchi.calendar.GROUPINGS.
    :return: carbonara.AggregatedTimeSerie, with `sampling` as granularity.
    :raises TypeError: a rate by a calendar period.
    """
    if not len(series):
        return empty(series.aggregation._replace(granularity=sampling))
    if sampling in _CALENDAR_PERIODS:
        return series.resample(sampling)
    return _aggregate(
        grouping.GroupedPoints(series.ts, sampling, reach=False),
        series.aggregation._replace(granularity=sampling),
    )


def _aggregate(points: Any, aggregation: Any) -> Any:
    if is_rate(aggregation.method):
        # Done here to see whether anything is left: numpy's bincount refuses
        # an empty array.
        points = points.derived()
        if not len(points.counts):
            return empty(aggregation)
        inner = aggregation._replace(method=aggregation.method[len("rate:") :])
        series = carbonara.AggregatedTimeSerie.from_grouped_serie(
            points, inner
        )
        series.aggregation = aggregation
        return series
    if not len(points.counts):
        return empty(aggregation)
    return carbonara.AggregatedTimeSerie.from_grouped_serie(
        points, aggregation
    )


def sampling_floor(ns: int, sampling: Any) -> int:
    """Start of the resampled window that holds `ns`."""
    if sampling in _CALENDAR_PERIODS:
        period = calendar.GROUPINGS[sampling](
            numpy.array([ns], dtype="datetime64[ns]")
        )
        return int(period.astype("datetime64[ns]").astype("int64")[0])
    return schema.floor(ns, schema.ns_of(sampling))


def sampling_ceil(ns: int, sampling: Any) -> int:
    """An end for the resampled window that holds the moment before `ns`."""
    if sampling in _CALENDAR_PERIODS:
        return ns + _CALENDAR_PERIODS[sampling]
    return schema.ceil(ns, schema.ns_of(sampling))
