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
"""Text of InfluxQL statements (pure), with the interface of `flux`.

The bucket is no part of a statement: it is the database that the request
names. Each statement answers one column, `column(function)`, grouped by the
tag `metric`.

https://docs.influxdata.com/influxdb/v1/query_language/spec/
"""

import uuid
from collections.abc import Iterable, Sequence

from gnocchi_influxdb import line_protocol as lp

#: Functions that InfluxDB applies to windows.
WINDOW_FUNCTIONS = frozenset(
    ["mean", "sum", "count", "min", "max", "first", "last"]
)

#: Column of an answer that holds points.
POINTS = lp.FIELD

#: Fields and their types, one row for each type that a field has in a shard.
FIELD_TYPES = f'SHOW FIELD KEYS FROM "{lp.MEASUREMENT}"'


def windows(
    metrics: Sequence[uuid.UUID],
    start: int | None,
    stop: int | None,
    every: int,
    function: str,
) -> str:
    """One value a window: the windows of `every` ns since the epoch.

    :param start: ns since the epoch, a multiple of `every`; None: from the
        first point.
    :param stop: ns since the epoch, exclusive, a multiple of `every`; None:
        to the last point.
    :param function: one of `WINDOW_FUNCTIONS`; the column of the answer has
        its name.
    """
    if function not in WINDOW_FUNCTIONS:
        raise ValueError(f"not a window function: {function!r}")
    if stop is None:
        # Not the present, which is what InfluxQL takes for granted.
        stop = lp.last_window(every)
    return (
        f'SELECT {function}("{lp.FIELD}")'
        + _source(metrics, start, stop)
        + f' GROUP BY time({every:d}ns), "{lp.TAG}" fill(none)'
    )


def points(
    metrics: Sequence[uuid.UUID],
    start: int | None,
    stop: int | None,
    limit: int | None = None,
) -> str:
    """The points themselves, in the column `POINTS`.

    :param start: ns since the epoch, None: from the first point.
    :param stop: ns since the epoch, exclusive, None: to the last point.
    :param limit: number of points of each metric, the oldest ones.
    """
    return (
        f'SELECT "{lp.FIELD}"'
        + _source(metrics, start, stop)
        + f' GROUP BY "{lp.TAG}"'
        + ("" if limit is None else f" LIMIT {limit:d}")
    )


def newest(metrics: Sequence[uuid.UUID]) -> str:
    """The newest point of each metric, in the column `last`."""
    return (
        f'SELECT last("{lp.FIELD}")'
        + _source(metrics, None, None)
        + f' GROUP BY "{lp.TAG}"'
    )


def delete(metrics: Iterable[uuid.UUID]) -> str:
    """Delete all points of some metrics."""
    return f'DELETE FROM "{lp.MEASUREMENT}" WHERE {_any_of(metrics)}'


def _source(
    metrics: Iterable[uuid.UUID], start: int | None, stop: int | None
) -> str:
    return (
        f' FROM "{lp.MEASUREMENT}" WHERE ({_any_of(metrics)})'
        f" AND time >= {0 if start is None else start:d}"
        f" AND time < {lp.MAX_TIME if stop is None else stop:d}"
    )


def _any_of(metrics: Iterable[uuid.UUID]) -> str:
    # A UUID object has nothing but hexadecimal digits and dashes to give.
    return " OR ".join(f"\"{lp.TAG}\" = '{metric}'" for metric in metrics)
