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
"""Text of Flux queries.

Everything that InfluxDB answers here ends as one table with the columns
`_time`, `_value` and `metric`: one header, and the cheapest answer to make
and to read.

The shape ``from |> range |> filter |> aggregateWindow`` is what InfluxDB 2
computes in its storage engine, for the seven functions of
`WINDOW_FUNCTIONS`; anything put in between (a map, a keep, a second filter)
takes that away (flux rules in query/stdlib/influxdata/influxdb/rules.go of
its source).
"""

import re
import uuid
from collections.abc import Sequence

import numpy

from gnocchi_influxdb import schema
from gnocchi_influxdb.schema import (
    FIELD,
    MARK,
    MARKS,
    MAX_TIME,
    MEASUREMENT,
    TAG,
    WATERMARKS,
    WINDOW_FUNCTIONS,
)

_TAIL = f' |> keep(columns: ["_time", "_value", "{TAG}"]) |> group()'
_SPECIAL = re.compile(r'[\\"$\x00-\x1f\x7f]')


def windows(
    bucket: str,
    metrics: Sequence[uuid.UUID],
    start: int | None,
    stop: int | None,
    every: int,
    function: str,
) -> str:
    """One value a window: the windows of `every` ns since the epoch.

    :param start: ns since the epoch; a multiple of `every`, since InfluxDB
        cuts the first window to the range. None: from the first point.
    :param stop: ns since the epoch, exclusive; a multiple of `every`. None:
        to the last point.
    :param function: one of `WINDOW_FUNCTIONS`.
    """
    if function not in WINDOW_FUNCTIONS:
        raise ValueError(f"not a window function: {function!r}")
    return (
        _source(
            bucket,
            metrics,
            start,
            schema.last_window(every) if stop is None else stop,
        )
        + f" |> aggregateWindow(every: {every:d}ns, fn: {function},"
        + ' createEmpty: false, timeSrc: "_start")'
        + _TAIL
    )


def points(
    bucket: str,
    metrics: Sequence[uuid.UUID],
    start: int | None,
    stop: int | None,
    measurement: str = MEASUREMENT,
    field: str = FIELD,
    limit: int | None = None,
) -> str:
    """The points themselves.

    :param start: ns since the epoch, None: from the first point.
    :param stop: ns since the epoch, exclusive. None: to the last point.
    :param limit: number of points of each metric, the oldest ones.
    """
    source = _source(bucket, metrics, start, stop, measurement, field)
    return (
        source
        + ("" if limit is None else f" |> limit(n: {limit:d})")
        + (_TAIL)
    )


def newest(
    bucket: str,
    metrics: Sequence[uuid.UUID],
    measurement: str = MEASUREMENT,
    field: str = FIELD,
) -> str:
    """The newest point of each metric."""
    source = _source(bucket, metrics, None, None, measurement, field)
    return source + " |> last()" + _TAIL


def oldest(bucket: str) -> str:
    """The oldest point of each metric."""
    source = _selected(bucket, None, None, MEASUREMENT, FIELD)
    return source + ") |> first()" + _TAIL


def points_of_all(bucket: str, start: int, stop: int, part: str) -> str:
    """The points of all metrics whose ids match.

    :param part: a regular expression of whole ids, without slashes.
    """
    return (
        _selected(bucket, start, stop, MEASUREMENT, FIELD)
        + f" and r.{TAG} =~ /{part}/)"
        + _TAIL
    )


def marks_of_all(bucket: str, since: int, part: str) -> str:
    """Marks of late measures since a time, ns.

    :param part: as for `points_of_all`.
    """
    return (
        _selected(bucket, since, None, MARKS, MARK)
        + f" and r.{TAG} =~ /{part}/)"
        + _TAIL
    )


def watermark(bucket: str) -> str:
    """The newest watermark: a row for each field."""
    return (
        f"from(bucket: {string(bucket)}) |> range(start: {time(0)})"
        f' |> filter(fn: (r) => r._measurement == "{WATERMARKS}")'
        ' |> last() |> keep(columns: ["_field", "_value"]) |> group()'
    )


def _source(
    bucket: str,
    metrics: Sequence[uuid.UUID],
    start: int | None,
    stop: int | None,
    measurement: str = MEASUREMENT,
    field: str = FIELD,
) -> str:
    # A UUID object has nothing but hexadecimal digits and dashes to give.
    ids = " or ".join(f'r.{TAG} == "{metric}"' for metric in metrics)
    return (
        _selected(bucket, start, stop, measurement, field) + f" and ({ids}))"
    )


def _selected(
    bucket: str,
    start: int | None,
    stop: int | None,
    measurement: str,
    field: str,
) -> str:
    """A source up to the condition that its filter ends with."""
    return (
        f"from(bucket: {string(bucket)})"
        f" |> range(start: {time(0 if start is None else start)},"
        f" stop: {time(MAX_TIME if stop is None else stop)})"
        f" |> filter(fn: (r) => r._measurement == {string(measurement)}"
        f" and r._field == {string(field)}"
    )


def string(text: str) -> str:
    """A string literal that means just `text`.

    https://docs.influxdata.com/flux/v0/spec/lexical-elements/#string-literals
    """
    return f'"{_SPECIAL.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    return f"\\x{ord(match.group()):02x}"


def time(ns: int) -> str:
    """A time literal for `ns` since the epoch."""
    return f"{numpy.datetime64(ns, 'ns')}Z"
