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
"""What the commands ask InfluxDB, and how its answers are read (pure).

In InfluxQL, which answers each of these as soon as Flux or sooner, and only
what the index or a shard has to be read for, never a series at a time.
"""

import re
import uuid
from typing import Any

import msgpack

from gnocchi_influxdb import exceptions
from gnocchi_influxdb import line_protocol as lp

_HEX = "[0-9a-f]"
_KEY = re.compile(
    f"{lp.MEASUREMENT},{lp.TAG}="
    f"({_HEX}{{8}}-(?:{_HEX}{{4}}-){{3}}{_HEX}{{12}})"
)
_SHARD = re.compile(
    r'^storage_shard_disk_size\{.*?\bbucket="([^"]*)".*\} (\S+)$',
    re.MULTILINE,
)


def series() -> str:
    """Keys of the series that a bucket holds points in.

    Not ``SHOW TAG VALUES``, nor Flux's ``distinct``, though they take a third
    of the time: they go on naming series that were deleted.
    """
    return f'SHOW SERIES FROM "{lp.MEASUREMENT}"'


def count(start: int, stop: int) -> str:
    """Number of points between `start` and before `stop`, ns."""
    return _select("count", start, stop)


def first(start: int, stop: int) -> str:
    """The oldest point between `start` and before `stop`, ns."""
    return _select("first", start, stop)


def last(start: int, stop: int) -> str:
    """The newest point between `start` and before `stop`, ns."""
    return _select("last", start, stop)


def _select(function: str, start: int, stop: int) -> str:
    return (
        f'SELECT {function}("{lp.FIELD}") FROM "{lp.MEASUREMENT}"'  # noqa: S608
        f" WHERE time >= {start:d} AND time < {stop:d}"
    )


def rows(body: bytes) -> list[list[Any]]:
    """Rows of the answer to one statement that makes one series at most.

    :raises QueryError: the server reports an error inside the answer.
    :raises ResponseError: it is something else.
    """
    try:
        found = msgpack.unpackb(body)
        (result,) = found.get("results", [found])
        error = result.get("error")
        if error is None:
            answer = result.get("series") or [{"values": []}]
            return list(answer[0]["values"])
    except (ValueError, TypeError, LookupError, AttributeError) as e:
        raise exceptions.ResponseError(
            f"The answer of InfluxDB makes no sense ({e}): {body[:60]!r}"
        ) from None
    raise exceptions.QueryError(f"InfluxDB failed: {error}")


def metrics_of(found: list[list[Any]]) -> tuple[set[uuid.UUID], int]:
    """The metrics in the answer to `series`.

    :return: and how many series are not such as Gnocchi writes.
    """
    ids: set[uuid.UUID] = set()
    foreign = 0
    for (key,) in found:
        match = _KEY.fullmatch(key)
        if match is None:
            foreign += 1
        else:
            ids.add(uuid.UUID(match[1]))
    return ids, foreign


def disk_sizes(metrics: bytes) -> dict[str, int]:
    """Bytes on disk by the id of the bucket, from the server's /metrics."""
    sizes: dict[str, int] = {}
    for bucket, value in _SHARD.findall(metrics.decode("utf-8", "replace")):
        sizes[bucket] = sizes.get(bucket, 0) + int(float(value))
    return sizes
