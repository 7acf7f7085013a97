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
"""Archive policies, metrics and measures, written and read by a driver."""

import contextlib
import time
import uuid

import numpy
import pytest
from gnocchi import archive_policy, carbonara, indexer

from gnocchi_influxdb import exceptions

NS = 10**9
T0 = 1704110400 * NS  # 2024-01-01T12:00:00Z
METHODS = [
    "mean",
    "sum",
    "count",
    "min",
    "max",
    "first",
    "last",
    "std",
    "median",
    "1pct",
    "95pct",
    "rate:mean",
    "rate:sum",
    "rate:count",
    "rate:max",
    "rate:std",
    "rate:90pct",
]


def policy(*definition, name="policy", methods=METHODS):
    """An archive policy of (points, granularity in seconds)."""
    return archive_policy.ArchivePolicy(name, 0, definition, methods)


def metric(a_policy):
    return indexer.Metric(uuid.uuid4(), a_policy)


def measures(points):
    """A Gnocchi array of {ns: value} or of pairs of them."""
    pairs = list(points.items() if isinstance(points, dict) else points)
    array = numpy.zeros(len(pairs), dtype=carbonara.TIMESERIES_ARRAY_DTYPE)
    array["timestamps"] = numpy.array(
        [t for t, _ in pairs], dtype="int64"
    ).astype("datetime64[ns]")
    array["values"] = [v for _, v in pairs]
    return array


def write(driver, points_by_metric, index):
    driver.add_measures_to_metrics(
        {m: measures(points) for m, points in points_by_metric.items()}, index
    )


def at(ns):
    return None if ns is None else numpy.datetime64(ns, "ns")


def aggregation(a_metric, method, seconds):
    return a_metric.archive_policy.get_aggregation(
        method, numpy.timedelta64(int(seconds * NS), "ns")
    )


def read(driver, a_metric, method, seconds, start=None, stop=None, **more):
    """{window start in ns: value}"""
    wanted = aggregation(a_metric, method, seconds)
    series = driver.get_aggregated_measures(
        {a_metric: [wanted]}, at(start), at(stop), **more
    )[a_metric][wanted]
    return as_dict(series)


@contextlib.contextmanager
def fails_with(kind, match=None):
    """Expect an error of a class.

    That of a read is the cause of a 503, that of an upgrade of its end.
    """
    with pytest.raises(exceptions.InfluxDBError, match=match) as raised:
        yield raised
    error = raised.value
    if isinstance(
        error, (exceptions.ReadFailedError, exceptions.UpgradeError)
    ):
        error = error.__cause__
    assert isinstance(error, kind)


def as_dict(series):
    times = series.timestamps.astype("datetime64[ns]").astype("int64")
    assert (times[1:] > times[:-1]).all()
    return dict(zip(times.tolist(), series.values.tolist(), strict=True))


def recent(seconds=0):
    """ns of some seconds before now."""
    return time.time_ns() - seconds * NS
