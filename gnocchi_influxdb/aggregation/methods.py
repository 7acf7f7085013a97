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
"""Which aggregation method is computed where, and those computed here (pure).

=====================  ==================================================
mean sum count min      by InfluxDB, in its storage engine
max first last
rate:mean rate:sum      from the first, the last and the count of each
rate:count              window, where that is less than the points (rates)
std median NNpct        here, by Gnocchi's carbonara, from the points
rate:* otherwise        here, from the differences of neighbouring points
=====================  ==================================================

InfluxDB's own stddev and quantile are no alternative: a Flux script runs
them outside of the storage engine, several times slower than it sends the
points, and it knows a standard deviation for a single point.
"""

from typing import Any

from gnocchi import carbonara

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import grouping
from gnocchi_influxdb.schema import Array

_RATE = "rate:"

# Shared by all empty series: making one is the slowest step for a metric.
_NO_WINDOWS = carbonara.make_timeseries([], [])


def is_pushed_down(method: str) -> bool:
    """Whether InfluxDB computes the method."""
    return method in schema.WINDOW_FUNCTIONS


def is_rate(method: str) -> bool:
    """Whether the method works on differences of neighbouring points."""
    return method.startswith(_RATE)


def is_dense(method: str) -> bool:
    """Whether each window with a point has a value."""
    return method != "std" and not is_rate(method)


def empty(aggregation: Any) -> Any:
    """A carbonara.AggregatedTimeSerie without a value."""
    return carbonara.AggregatedTimeSerie(aggregation, _NO_WINDOWS)


def compute_all(
    points: Array, owners: Array, aggregation: Any
) -> tuple[Array, Array]:
    """Aggregate the points of several metrics at once.

    :param points: structured array, sorted by metric and time.
    :param owners: shape (points,), int64: number of the metric of each point.
    :return: the windows, a structured array sorted alike, and the number of
        the metric of each window.
    """
    metrics = grouping.GroupedMetrics(points, owners, aggregation.granularity)
    return metrics.told_apart(aggregate(metrics, aggregation).ts)


def compute(points: Array, aggregation: Any) -> Any:
    """Aggregate the points of one metric.

    :param points: structured array (`timestamps`, `values`), sorted.
    :param aggregation: carbonara.Aggregation.
    :return: carbonara.AggregatedTimeSerie.
    """
    return aggregate(
        grouping.GroupedPoints(points, aggregation.granularity), aggregation
    )


def aggregate(
    points: grouping.GroupedPoints | grouping.GroupedMetrics, aggregation: Any
) -> Any:
    """Aggregate grouped points.

    :return: carbonara.AggregatedTimeSerie.
    """
    inner = aggregation
    if is_rate(aggregation.method):
        points = points.derived()
        inner = aggregation._replace(
            method=aggregation.method.removeprefix(_RATE)
        )
    # numpy's bincount refuses an empty array.
    if not len(points.counts):
        return empty(aggregation)
    series = carbonara.AggregatedTimeSerie.from_grouped_serie(points, inner)
    series.aggregation = aggregation
    return series
