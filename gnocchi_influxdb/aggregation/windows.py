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
"""From points to the windows of an aggregation (pure)."""

from collections.abc import Sequence
from typing import Any

import numpy

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import methods
from gnocchi_influxdb.schema import Array

#: Start of the first window that is wanted and end of the last, ns since the
#: epoch; None is unbounded.
Bounds = tuple[int | None, int | None]


def from_points(aggregation: Any, points: Array, within: Bounds) -> Array:
    """Windows of one metric.

    :param points: structured array, sorted. Those before the windows count
        for differences only.
    :param within: the windows that are wanted.
    :return: a structured array, sorted.
    """
    start, stop = within
    series = methods.compute(cut(points, None, stop), aggregation)
    return cut(series.ts, start, None)


def from_points_of_all(
    aggregation: Any, points: Sequence[Array], within: Bounds
) -> tuple[Array, Array]:
    """Windows of several metrics, one metric behind the other.

    :param points: of each metric, at least one; see `from_points`.
    :return: a structured array, and for each window the position of its
        metric in `points`.
    """
    start, stop = within
    found, owners = methods.compute_all(
        *joined([cut(of, None, stop) for of in points]), aggregation
    )
    if start is None:
        return found, owners
    wanted = found["timestamps"].view("int64") >= start
    return found[wanted], owners[wanted]


def joined(series: Sequence[Array]) -> tuple[Array, Array]:
    """Arrays one behind the other, and which one each element is of."""
    lengths = [*map(len, series)]
    return numpy.concatenate(series, dtype=schema.DTYPE), numpy.repeat(
        numpy.arange(len(series)), lengths
    )


def cut(series: Array, start: int | None, stop: int | None) -> Array:
    """The part of a structured array from `start` to before `stop`, ns."""
    times = series["timestamps"].view("int64")
    if stop is not None:
        series = series[: times.searchsorted(stop)]
    if start is not None:
        series = series[times.searchsorted(start) :]
    return series


def overlaid(one: Array, other: Array) -> Array:
    """Windows of two arrays; where both have one, that of the other counts.

    :return: a structured array, sorted.
    """
    if not len(one) or not len(other):
        return other if len(other) else one
    if other["timestamps"][0] > one["timestamps"][-1]:
        return numpy.concatenate([one, other], dtype=schema.DTYPE)
    free = ~numpy.isin(one["timestamps"], other["timestamps"])
    joined = numpy.concatenate([one[free], other])
    return joined[numpy.argsort(joined["timestamps"], kind="stable")]


def are_dense(windows: Array, start: int | None, every: int) -> bool:
    """Whether there is a window for each step of `every` ns from `start`.

    Then only the first of them has none before it. From the epoch on that one
    is wanted, too, so it is as if there were gaps.
    """
    times = windows["timestamps"].view("int64")
    return bool(
        start and times[0] == start and (numpy.diff(times) == every).all()
    )
