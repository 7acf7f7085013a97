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
"""From what was read of a metric to the windows of an aggregation (pure)."""

from collections.abc import Sequence
from typing import Any

import numpy
import numpy.typing

from gnocchi_influxdb.aggregation import methods, rates
from gnocchi_influxdb.read import query as queries
from gnocchi_influxdb.schema import Array

# Points that are aggregated at once. Of more, what it takes for each metric
# does not matter, and the memory does.
_TOGETHER = 10**5


def compute(
    aggregation: Any,
    what: str,
    rows: Any,
    start: int | None,
    stop: int | None,
) -> Array:
    """Windows of a metric: a structured array.

    :param what: was asked for, see `queries.Query`.
    :param rows: was answered.
    :param start: ns since the epoch, of the first window that is wanted.
    :param stop: end of the last.
    """
    if methods.is_pushed_down(aggregation.method):
        windows: Array = rows
        return windows
    if what == queries.ENDS:
        first, last, count = rows
        series = rates.from_ends(first, last, count, aggregation)
    else:
        series = methods.compute(cut(rows, None, stop), aggregation)
    # What lies before it was read for the differences only.
    return cut(series.ts, start, None)


def compute_all(
    aggregation: Any,
    what: str,
    rows: Sequence[Any],
    start: int | None,
    stop: int | None,
) -> tuple[Array, Array]:
    """Windows of some metrics one behind the other, and whose each is.

    :param rows: of each metric, at least one.
    :return: structured array, and the positions in `rows`.
    """
    if (
        what == queries.POINTS
        and not methods.is_pushed_down(aggregation.method)
        and sum(map(len, rows)) <= _TOGETHER
    ):
        points, owners = _joined([cut(of, None, stop) for of in rows])
        found, owner = methods.compute_all(points, owners, aggregation)
        if start is None:
            return found, owner
        wanted = found["timestamps"].view("int64") >= start
        return found[wanted], owner[wanted]
    return _joined(
        [compute(aggregation, what, of, start, stop) for of in rows]
    )


def _joined(series: Sequence[Array]) -> tuple[Array, Array]:
    lengths = [*map(len, series)]
    return numpy.concatenate(series), numpy.repeat(
        numpy.arange(len(series)), lengths
    )


def cut(series: Array, start: int | None, stop: int | None) -> Array:
    """What of a structured array lies from `start` to before `stop`."""
    times = series["timestamps"].view("int64")
    if stop is not None:
        series = series[: times.searchsorted(stop)]
    if start is not None:
        series = series[times.searchsorted(start) :]
    return series


def are_dense(windows: Array, query: queries.Query) -> bool:
    """Whether there is a window for each step from the start of a range."""
    times = windows["timestamps"].view("int64")
    return bool(
        times[0] == query.start and (numpy.diff(times) == query.every).all()
    )
