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

from gnocchi_influxdb import schema
from gnocchi_influxdb.schema import (
    AGGREGATES,
    FIELD,
    MARKS,
    MAX_TIME,
    MEASUREMENT,
    NAMES,
    TAG,
    UUID_PATTERN,
    WATERMARKS,
    WINDOW_FUNCTIONS,
)

#: Columns of answers that hold points, and marks.
POINTS = FIELD
MARK = schema.MARK

#: Fields and their types, one row for each type that a field has in a shard.
FIELD_TYPES = f'SHOW FIELD KEYS FROM "{MEASUREMENT}"'

#: The oldest point of all metrics.
OLDEST = f'SELECT first("{FIELD}") FROM "{MEASUREMENT}"'

# All measurements with the tag `TAG`.
_OF_METRICS = ", ".join(
    f'"{name}"' for name in (MEASUREMENT, NAMES, AGGREGATES, MARKS)
)


def windows(
    metrics: Sequence[uuid.UUID],
    start: int | None,
    stop: int | None,
    every: int,
    function: str,
    counts: bool = True,
) -> str:
    """One value a window: the windows of `every` ns since the epoch.

    :param start: ns since the epoch, a multiple of `every`; None: from the
        first point.
    :param stop: ns since the epoch, exclusive, a multiple of `every`; None:
        to the last point.
    :param function: one of `WINDOW_FUNCTIONS`; the column of the answer has
        its name.
    :param counts: whether the server can be trusted with a count, see
        `client.api.Capabilities`. If not, the points are counted by the node
        that is asked.
    """
    if function not in WINDOW_FUNCTIONS:
        raise ValueError(f"not a window function: {function!r}")
    if stop is None:
        # Not the present, which is what InfluxQL takes for granted.
        stop = schema.last_window(every)
    source = _source(metrics, start, stop)
    if function == "count" and not counts:
        within = _within(start, stop)
        source = f' FROM (SELECT "{FIELD}"{source}) WHERE {within}'
    return (
        f'SELECT {function}("{FIELD}"){source}'
        + f' GROUP BY time({every:d}ns), "{TAG}" fill(none)'
    )


def points(
    metrics: Sequence[uuid.UUID],
    start: int | None,
    stop: int | None,
    limit: int | None = None,
    measurement: str = MEASUREMENT,
    field: str = FIELD,
    bucket: str | None = None,
) -> str:
    """The points themselves, in the column of the field's name.

    :param start: ns since the epoch, None: from the first point.
    :param stop: ns since the epoch, exclusive, None: to the last point.
    :param limit: number of points of each metric, the oldest ones.
    :param bucket: None: the one that the request names.
    """
    return (
        f"SELECT {identifier(field)}"
        + _source(metrics, start, stop, measurement, bucket)
        + f' GROUP BY "{TAG}"'
        + ("" if limit is None else f" LIMIT {limit:d}")
    )


def newest(
    metrics: Sequence[uuid.UUID],
    measurement: str = MEASUREMENT,
    field: str = FIELD,
) -> str:
    """The newest point of each metric, in the column `last`."""
    return (
        f"SELECT last({identifier(field)})"
        + _source(metrics, None, None, measurement)
        + f' GROUP BY "{TAG}"'
    )


def count(start: int, stop: int) -> str:
    """How many points all metrics have in a range: a row, or none."""
    return (
        f'SELECT count("{FIELD}") FROM "{MEASUREMENT}"'
        f" WHERE {_within(start, stop)}"
    )


def count_marks(since: int) -> str:
    """How many marks there are since a time (ns): a row, or none."""
    return (
        f'SELECT count("{MARK}") FROM "{MARKS}" WHERE {_within(since, None)}'
    )


def points_of_all(start: int, stop: int, part: str) -> str:
    """The points of all metrics whose ids match, in the column `FIELD`.

    :param part: a regular expression of whole ids, without slashes.
    """
    return (
        f'SELECT "{FIELD}" FROM "{MEASUREMENT}"'
        f" WHERE {TAG} =~ /{part}/"
        f" AND {_within(start, stop)}"
        f' GROUP BY "{TAG}"'
    )


def marks_of_all(since: int, part: str = UUID_PATTERN) -> str:
    """Marks of late measures since a time (ns), in the column `MARK`.

    :param part: as for `points_of_all`.
    """
    return (
        f'SELECT "{MARK}" FROM "{MARKS}"'
        f" WHERE {TAG} =~ /{part}/ AND {_within(since, None)}"
        f' GROUP BY "{TAG}"'
    )


def infos(metrics: Iterable[uuid.UUID], counts: bool = True) -> str:
    """How many times each was told what it is called (column `count`).

    :param counts: as for `windows`.
    """
    source = f'"{NAMES}" WHERE {any_of(metrics)}'
    if not counts:
        source = f'(SELECT "name" FROM {source})'
    return f'SELECT count("name") FROM {source} GROUP BY "{TAG}"'


def anything(metrics: Iterable[uuid.UUID]) -> str:
    """Some point of each metric that has any: of measures, names, windows."""
    return (
        f"SELECT * FROM {_OF_METRICS} WHERE {any_of(metrics)}"
        f" AND {_within(None, None)} "
        f'GROUP BY "{TAG}" LIMIT 1'
    )


def newest_of(fields: Iterable[str]) -> str:
    """The newest watermark: a row with its time and these fields."""
    columns = ", ".join(map(identifier, fields))
    return f'SELECT {columns} FROM "{WATERMARKS}" ORDER BY time DESC LIMIT 1'


def delete(metrics: Iterable[uuid.UUID]) -> str:
    """Delete all that is stored of some metrics: points, windows, names."""
    # It costs no more than for one of the measurements.
    return f"DELETE FROM {_OF_METRICS} WHERE {any_of(metrics)}"


# Management, on InfluxDB 1.x ------------------------------------------------

SHOW_DATABASES = "SHOW DATABASES"
#: Only an administrator may ask these.
SHOW_USERS = "SHOW USERS"
SHOW_DIAGNOSTICS = "SHOW DIAGNOSTICS"
#: One series for each shard; its index is in the tags.
SHOW_SHARDS = "SHOW STATS FOR 'shard'"


def show_policies(database: str) -> str:
    """List the retention policies of a database."""
    return f"SHOW RETENTION POLICIES ON {identifier(database)}"


def create_database(database: str) -> str:
    """Make a database, unless it is there."""
    return f"CREATE DATABASE {identifier(database)}"


def create_policy(
    database: str, name: str, seconds: int, shard_seconds: int, copies: int
) -> str:
    """Make a retention policy, unless the very same one is there.

    :param seconds: that points are kept, 0 for ever.
    """
    return (
        f"CREATE RETENTION POLICY {identifier(name)}"
        f" ON {identifier(database)} DURATION {_duration(seconds)}"
        f" REPLICATION {copies:d} SHARD DURATION {_duration(shard_seconds)}"
    )


def alter_policy(
    database: str, name: str, seconds: int, shard_seconds: int
) -> str:
    """Change a retention policy; it keeps its number of copies."""
    return (
        f"ALTER RETENTION POLICY {identifier(name)}"
        f" ON {identifier(database)} DURATION {_duration(seconds)}"
        f" SHARD DURATION {_duration(shard_seconds)}"
    )


def identifier(name: str) -> str:
    """A name as InfluxQL quotes it."""
    escaped = name.translate({92: r"\\", 34: r"\"", 10: r"\n"})
    return f'"{escaped}"'


def _duration(seconds: int) -> str:
    return f"{seconds:d}s" if seconds else "INF"


def _source(
    metrics: Iterable[uuid.UUID],
    start: int | None,
    stop: int | None,
    measurement: str = MEASUREMENT,
    bucket: str | None = None,
) -> str:
    prefix = ""
    if bucket is not None:
        # A bucket of InfluxDB 2.x is the database of its name, and has one
        # retention policy.
        database, _, policy = bucket.partition("/")
        prefix = f"{identifier(database)}.{identifier(policy or 'autogen')}."
    return (
        f' FROM {prefix}"{measurement}" WHERE {any_of(metrics)}'
        f" AND {_within(start, stop)}"
    )


def _within(start: int | None, stop: int | None) -> str:
    return (
        f"time >= {0 if start is None else start:d}"
        f" AND time < {MAX_TIME if stop is None else stop:d}"
    )


def any_of(metrics: Iterable[uuid.UUID]) -> str:
    """A condition that the points of some metrics meet."""
    # A UUID object has nothing but hexadecimal digits and dashes to give.
    terms = [f"\"{TAG}\" = '{metric}'" for metric in metrics]
    # InfluxDB joins what an OR has on its left to what it has on its right,
    # so a chain costs with the square of its length. A tree does not.
    while len(terms) > 1:
        terms = [
            f"({' OR '.join(terms[i : i + 2])})"
            for i in range(0, len(terms), 2)
        ]
    return terms[0]
