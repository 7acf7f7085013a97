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
"""Series of points, as Gnocchi wants them, out of pieces of an answer."""

import uuid
from collections.abc import Iterable

import numpy
import numpy.typing as npt

from gnocchi_influxdb import exceptions

#: One metric's points, oldest first, each timestamp once. The fields are
#: those of gnocchi.carbonara.TIMESERIES_ARRAY_DTYPE.
TimeSeries = npt.NDArray[numpy.void]


def by_metric(
    runs: Iterable[tuple[str, TimeSeries]],
) -> dict[uuid.UUID, TimeSeries]:
    """Join the runs of each metric, sort them, drop what was overwritten.

    Where a metric has several points at one time, the last one counts.

    :raises ResponseError: a name is not a UUID in its usual form.
    """
    parts: dict[str, list[TimeSeries]] = {}
    for name, points in runs:
        parts.setdefault(name, []).append(points)
    return {_metric(name): _in_order(runs) for name, runs in parts.items()}


def _metric(name: str) -> uuid.UUID:
    # uuid.UUID also takes braces, URNs, capitals and underscores.
    try:
        metric = uuid.UUID(name)
    except ValueError:
        metric = None
    if metric is None or str(metric) != name:
        raise exceptions.ResponseError(
            f"InfluxDB answers for {name[:80]!r}, which is no metric's id"
        )
    return metric


def _in_order(runs: list[TimeSeries]) -> TimeSeries:
    points = runs[0] if len(runs) == 1 else numpy.concatenate(runs)
    times = points["timestamps"].view(numpy.int64)
    if (times[1:] > times[:-1]).all():
        return points
    points = points[numpy.argsort(times, kind="stable")]
    times = points["timestamps"].view(numpy.int64)
    newest: TimeSeries = points[numpy.append(times[1:] != times[:-1], True)]
    return newest
