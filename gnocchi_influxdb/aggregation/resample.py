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
"""Resampling: aggregates of aggregates, by a length or by the calendar (pure).

A sampling is a timedelta64 or a letter of gnocchi.calendar.GROUPINGS.
"""

from typing import Any

import numpy
from gnocchi import calendar

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import grouping, methods

_DAY = 24 * 3600 * schema.SECOND

# Longest calendar periods, ns: a range has to be widened by so much to hold
# the whole of the last one. By Gnocchi's own letters.
_CALENDAR_PERIODS = {
    "Y": 366 * _DAY,
    "H": 184 * _DAY,
    "Q": 92 * _DAY,
    "M": 31 * _DAY,
    "W": 7 * _DAY,
}


def resample(series: Any, sampling: Any) -> Any:
    """Aggregate the values of an aggregated series again, by its method.

    :return: carbonara.AggregatedTimeSerie, with `sampling` as granularity.
    :raises TypeError: a rate by a calendar period.
    """
    aggregation = series.aggregation._replace(granularity=sampling)
    if not len(series):
        return methods.empty(aggregation)
    if sampling in _CALENDAR_PERIODS:
        return series.resample(sampling)
    return methods.aggregate(
        grouping.GroupedPoints(series.ts, sampling, reach=False), aggregation
    )


def floor(ns: int, sampling: Any) -> int:
    """Start (ns) of the resampled window that holds `ns`."""
    if sampling in _CALENDAR_PERIODS:
        period = calendar.GROUPINGS[sampling](
            numpy.array([ns], dtype="datetime64[ns]")
        )
        return int(period.astype("datetime64[ns]").astype("int64")[0])
    return schema.floor(ns, schema.ns_of(sampling))


def ceil(ns: int, sampling: Any) -> int:
    """A time (ns) at which the window that holds `ns` - 1 is over."""
    if sampling in _CALENDAR_PERIODS:
        return ns + _CALENDAR_PERIODS[sampling]
    return schema.ceil(ns, schema.ns_of(sampling))
