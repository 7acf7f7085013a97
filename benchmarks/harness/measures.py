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
"""Measures to write, and the comparison of what is read of them."""

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy
import numpy.typing
from gnocchi import carbonara

Array = numpy.typing.NDArray[Any]

#: {what was asked for: (times in ns, values)}
Answer = dict[Any, tuple[Array, Array]]

STEP = 300
_NAMESPACE = uuid.UUID("7d1f3a52-5a0c-4cb4-9f0e-6f5b6a4b1c55")
_STARTED = time.time()


def ids(what: str, number: int) -> list[uuid.UUID]:
    """Ids of metrics, the same for each driver."""
    return [
        uuid.uuid5(_NAMESPACE, f"{_STARTED}/{what}/{index}")
        for index in range(number)
    ]


def newest_time() -> int:
    """Where the history ends, in seconds: the next whole hour.

    A read up to the present would include an hour that is not over yet, and
    of that the influxdb driver keeps no aggregates.
    """
    return int(_STARTED) // 3600 * 3600 + 3600


def polled_time() -> int:
    """When polling and POSTs begin, in seconds: a whole hour.

    It lies ahead of the clock, so that no measure is late however long the
    run takes: for late ones the influxdb driver writes one more line.
    """
    return newest_time() + 86400


def series(metric: uuid.UUID, start: int, number: int) -> Array:
    """Measures each 5 minutes, the same for each driver.

    The values are not round: they have as many digits as a double has.

    :param start: seconds since 1970.
    """
    points = numpy.empty(number, dtype=carbonara.TIMESERIES_ARRAY_DTYPE)
    seconds = start + STEP * numpy.arange(number)
    points["timestamps"] = seconds.astype("datetime64[s]")
    source = numpy.random.default_rng(metric.int % 2**63)
    points["values"] = 100 * source.random(number)
    return points


def batches(points: Mapping[Any, Array], size: int) -> list[dict[Any, Array]]:
    """Parts of a mapping of metrics, of at most `size` metrics each."""
    items = list(points.items())
    return [
        dict(items[start : start + size])
        for start in range(0, len(items), size)
    ]


def comparable(policy: Any) -> list[Any]:
    """Aggregations whose values do not depend on how measures were batched.

    With Gnocchi's own drivers a rate over a gap longer than the granularity
    is there only if both measures came in one call.
    """
    step = numpy.timedelta64(STEP, "s")
    return [
        aggregation
        for aggregation in policy.aggregations
        if aggregation.granularity >= step
        or not aggregation.method.startswith("rate:")
    ]


def read_all(storage: Any, metrics: Iterable[Any]) -> Answer:
    """All windows of some metrics, as far as they are comparable."""
    return of_storage(
        storage.get_aggregated_measures(
            {metric: comparable(metric.archive_policy) for metric in metrics}
        )
    )


def of_storage(answered: Mapping[Any, Mapping[Any, Any]]) -> Answer:
    """From the answer of get_aggregated_measures."""
    return {
        (
            str(metric.id),
            aggregation.method,
            int(aggregation.granularity / numpy.timedelta64(1, "s")),
        ): (windows.timestamps.astype("int64"), numpy.asarray(windows.values))
        for metric, by_aggregation in answered.items()
        for aggregation, windows in by_aggregation.items()
    }


def of_api(key: Any, rows: Iterable[Sequence[Any]]) -> Answer:
    """From the API's rows of (timestamp, granularity, value)."""
    found = list(rows)
    times = numpy.array(
        [row[0].partition("+")[0] for row in found], dtype="datetime64[ns]"
    )
    values = numpy.array([row[2] for row in found], dtype="float64")
    return {key: (times.astype("int64"), values)}


def difference(first: Answer, second: Answer) -> str | None:
    """Where two answers differ, None if they do not.

    Values may differ by rounding: InfluxDB adds up in another order.
    """
    if first.keys() != second.keys():
        return "not about the same metrics and aggregations"
    for key, (times, values) in first.items():
        other_times, other_values = second[key]
        if not numpy.array_equal(times, other_times):
            return (
                f"{key}: {len(times)} and {len(other_times)} values, or"
                " other times"
            )
        if not numpy.allclose(values, other_values, rtol=1e-9, atol=1e-9):
            return f"{key}: other values"
    return None
