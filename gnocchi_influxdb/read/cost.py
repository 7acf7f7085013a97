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
"""Which way to an answer is the quicker one (pure).

By measurement (benchmarks/) on InfluxDB 2.9.1: a Flux script takes 5 ms to
compile. InfluxQL takes 1 ms at the least, but three times as long for each
window of each metric, and compares each point with the ids of all metrics
that are asked for. Points come out of the server in a third of the time of
their windows, as long as there are about as many of them.
"""

import time

from gnocchi_influxdb.read import query as queries

_DAY = 86400 * 10**9

# Metrics up to which InfluxQL is the quicker language, and the range up to
# which it is. A year of minutes of one metric takes it two to three times
# as long as Flux.
_FEW_METRICS = 4
_FEW_METRIC_DAYS = 60
_FEW_METRIC_DAYS_FOR_ENDS = 15
# Few enough for InfluxQL, however many metrics there are.
_FEW_WINDOWS = 16

#: Metrics in one query. The cost of each grows with the square of their
#: number, and two queries keep two processors of the server busy. Flux turns
#: down a chain of more than about 165 terms.
METRICS_PER_QUERY = 50

# Points in one answer in InfluxQL: it has 25 MB in the server then, and Flux
# is no slower.
_MOST_POINTS = 200000

# Points a window up to which reading them is quicker than an aggregate of it,
# for few metrics and for many, and than the three ends of a rate.
_FEW_POINTS = 6
_FEW_POINTS_OF_MANY = 2
_FEW_POINTS_FOR_ENDS = 16


def takes_influxql(query: queries.Query, metrics: int) -> bool:
    """Whether InfluxQL is the quicker language for some metrics."""
    if query.what == queries.POINTS:
        return query.limit is not None or _is_little(query, metrics)
    if metrics <= _FEW_METRICS and (
        query.start is None or _is_little(query, metrics)
    ):
        return True
    return 0 < _windows(query) <= _FEW_WINDOWS


def most_points(query: queries.Query, metrics: int) -> int:
    """Points of each of a few metrics up to which InfluxQL is right.

    InfluxDB holds the whole of such an answer, 120 bytes a point, before it
    sends the first byte. One in Flux it sends as it goes.

    :return: 0: the amount does not matter.
    """
    if (
        query.what != queries.POINTS
        or metrics > _FEW_METRICS
        or _is_little(query, metrics)
    ):
        return 0
    return _MOST_POINTS // metrics


def points_a_window(query: queries.Query, metrics: int) -> int:
    """How many points a window may have so that reading them is quicker.

    0: InfluxDB is to aggregate in any case.
    """
    if not query.every:
        return 0
    few = metrics <= _FEW_METRICS
    if query.what == queries.ENDS:
        # Three reads otherwise: for the last windows of many metrics, too.
        is_short = _metric_days(query, metrics) <= _FEW_METRIC_DAYS_FOR_ENDS
        return _FEW_POINTS_FOR_ENDS if few or is_short else 0
    if few:
        return _FEW_POINTS
    return _FEW_POINTS_OF_MANY if _is_little(query, metrics) else 0


def _windows(query: queries.Query) -> int:
    """How many windows are asked for of each metric; 0 if nobody knows."""
    if not query.every or query.start is None:
        return 0
    stop = time.time_ns() if query.stop is None else query.stop
    return max(stop - query.start, 0) // query.every + 1


def _is_little(query: queries.Query, metrics: int) -> bool:
    return _metric_days(query, metrics) <= _FEW_METRIC_DAYS


def _metric_days(query: queries.Query, metrics: int) -> float:
    stop = time.time_ns() if query.stop is None else query.stop
    return metrics * (stop - (query.start or 0)) / _DAY
