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
"""Queries of the commands, and how their answers are read (pure).

They are in InfluxQL, which answers each of them as fast as Flux or faster.
Each reads the index or one shard, and never asks series by series.
"""

import re
import uuid
from collections.abc import Iterable
from typing import Any, NamedTuple

from gnocchi_influxdb.schema import (
    AGGREGATES,
    FIELD,
    HEALTH,
    MARKS,
    MAX_TIME,
    MEASUREMENT,
    NAMES,
    TAG,
    WATERMARKS,
)

_HEX = "[0-9a-f]"
_BESIDE = NAMES, AGGREGATES, MARKS
_KEY = re.compile(
    f"({'|'.join([MEASUREMENT, *_BESIDE])}),{TAG}="
    f"({_HEX}{{8}}-(?:{_HEX}{{4}}-){{3}}{_HEX}{{12}})"
)
_SHARD = re.compile(
    r'^storage_shard_disk_size\{.*?\bbucket="([^"]*)".*\} (\S+)$',
    re.MULTILINE,
)
_FILES = re.compile(r"^process_(open|max)_fds (\S+)$", re.MULTILINE)


def series(has_own_index: bool) -> str:
    """Statement for the keys of all series.

    ``SHOW TAG VALUES`` and Flux's ``distinct`` take a third of the time, but
    they still name series that were deleted.

    :param has_own_index: whether the bucket has its own index. Otherwise the
        whole database shares one, and only a time restricts the answer to one
        retention policy.
    """
    everything = "SHOW SERIES"
    return everything if has_own_index else f"{everything} WHERE time >= 0"


def count(start: int, stop: int, counts: bool) -> str:
    """Statement for the number of points from `start` and before `stop`, ns.

    :param counts: as for `influxql.windows`.
    """
    if not counts:
        return (
            f'SELECT count("{FIELD}") FROM'  # noqa: S608
            f' (SELECT "{FIELD}" FROM "{MEASUREMENT}"'
            f" WHERE time >= {start:d} AND time < {stop:d})"
            f" WHERE time >= {start:d} AND time < {stop:d}"
        )
    return _select("count", start, stop)


def first(start: int, stop: int) -> str:
    """Statement for the oldest point from `start` and before `stop`, ns."""
    return _select("first", start, stop)


def last(start: int, stop: int) -> str:
    """Statement for the newest point from `start` and before `stop`, ns."""
    return _select("last", start, stop)


def oldest_of(measurement: str) -> str:
    """Statement for the row with the oldest time of a measurement."""
    return f'SELECT * FROM "{measurement}" LIMIT 1'  # noqa: S608


def newest_since(start: int) -> str:
    """Statement for the newest point since a time (ns), and its metric."""
    return (
        f'SELECT last("{FIELD}"), "{TAG}" FROM "{MEASUREMENT}"'  # noqa: S608
        f" WHERE time >= {start:d} AND time < {MAX_TIME:d}"
    )


def newest_health() -> str:
    """Statement for the newest line of health of each kind of process."""
    return f'SELECT last("pid") FROM "{HEALTH}" GROUP BY "process"'  # noqa: S608


def oldest_health(since: int) -> str:
    """Statement for the oldest line of health of all since a time (ns)."""
    return f'SELECT first("pid") FROM "{HEALTH}" WHERE time >= {since:d}'  # noqa: S608


def _select(function: str, start: int, stop: int) -> str:
    return (
        f'SELECT {function}("{FIELD}") FROM "{MEASUREMENT}"'  # noqa: S608
        f" WHERE time >= {start:d} AND time < {stop:d}"
    )


class Keys(NamedTuple):
    """What the keys of series say.

    :ivar ids: metrics that have points.
    :ivar beside: metrics that have names, windows or marks.
    :ivar foreign: number of series that Gnocchi did not write.
    """

    ids: set[uuid.UUID]
    beside: set[uuid.UUID]
    foreign: int

    @classmethod
    def joined(cls, found: Iterable["Keys"]) -> "Keys":
        """Those of several buckets."""
        joined = cls(set(), set(), 0)
        for one in found:
            joined.ids.update(one.ids)
            joined.beside.update(one.beside)
            joined = joined._replace(foreign=joined.foreign + one.foreign)
        return joined


def metrics_of(found: list[list[Any]]) -> Keys:
    """The metrics in the rows of the answer to `series`."""
    ids: set[uuid.UUID] = set()
    beside: set[uuid.UUID] = set()
    foreign = 0
    for (key,) in found:
        match = _KEY.fullmatch(key)
        if match is not None:
            of = ids if match[1] == MEASUREMENT else beside
            of.add(uuid.UUID(match[2]))
        elif key != WATERMARKS:
            foreign += 1
    return Keys(ids, beside, foreign)


def disk_sizes(metrics: bytes) -> dict[str, int]:
    """Bytes on disk by id of the bucket, from the text of /metrics."""
    sizes: dict[str, int] = {}
    for bucket, value in _SHARD.findall(metrics.decode("utf-8", "replace")):
        sizes[bucket] = sizes.get(bucket, 0) + int(float(value))
    return sizes


def open_files(metrics: bytes) -> tuple[int, int] | None:
    """How many files a server has open and may have, from /metrics.

    :return: None: it does not say so.
    """
    found = dict(_FILES.findall(metrics.decode("utf-8", "replace")))
    if found.keys() != {"open", "max"}:
        return None
    return int(float(found["open"])), int(float(found["max"]))
