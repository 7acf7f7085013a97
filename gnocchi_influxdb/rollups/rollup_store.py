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
"""Rollups in InfluxDB: reading and writing what was computed once.

Nothing depends on them: what is not kept is computed from the points. So what
fails is logged, and InfluxDB is not asked about them for some minutes.
"""

import dataclasses
import logging
import math
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.client import client
from gnocchi_influxdb.rollups import rollup_lines, rollup_response
from gnocchi_influxdb.wire import influxql

LOG = logging.getLogger(__name__)

_PAUSE = 300  # s
_REQUEST = 4 << 20  # bytes
# Somebody waits who has his answer already, so not for long, seconds.
_TIMEOUT = 5.0


@dataclasses.dataclass(frozen=True)
class RollupQuery:
    """What is kept of some aggregations of whatever metrics.

    :ivar fields: of the aggregations.
    :ivar tail: a query that is asked in the same request, of the time that
        nothing is kept of yet.
    """

    bucket: str
    blocks: rollup_response.Range
    fields: tuple[str, ...]
    tail: Any = None

    def is_empty(self) -> bool:
        """As other queries."""
        return False


class Store:
    """What is kept in one InfluxDB.

    :param client: one that repeats requests, or does not.
    :param enabled: whether there is to be any.
    """

    def __init__(self, client: client.Client, enabled: bool) -> None:
        self._client = client
        # The copies of a cluster may differ for a while, and what was
        # computed from one that is behind would stay.
        self._enabled = enabled and not client.capabilities.may_lag
        self._paused_until = -math.inf
        self._writing = client.once(_TIMEOUT)

    @property
    def is_on(self) -> bool:
        """Whether it is worth asking."""
        return self._enabled and time.monotonic() >= self._paused_until

    def ask(
        self, query: RollupQuery, metrics: Sequence[uuid.UUID]
    ) -> dict[uuid.UUID, rollup_response.Kept]:
        """What is kept of some metrics, and what the query's tail asks for.

        :raises UnavailableError: nothing else can be read now, either.
        """
        try:
            try:
                return self._ask(query, metrics)
            except exceptions.QueryError:
                if query.tail is None:
                    raise
                # InfluxDB does not say what is wrong with the first of two
                # statements, but that it was "not executed".
                alone = dataclasses.replace(query, tail=None)
                return self._ask(alone, metrics)
        except exceptions.UnavailableError:
            raise
        except exceptions.BucketNotFoundError:
            return {}  # Not made yet, or not for InfluxQL to see.
        except exceptions.InfluxDBError as e:
            self._pause("read", e)
            return {}

    def _ask(
        self, query: RollupQuery, metrics: Sequence[uuid.UUID]
    ) -> dict[uuid.UUID, rollup_response.Kept]:
        blocks = query.blocks
        statement = _statement(
            metrics, query.fields, blocks.first - blocks.reach, blocks.stop
        )
        column = None
        if query.tail is not None:
            tail, column = query.tail.influxql(metrics)
            statement = f"{statement}; {tail}"
        body = self._client.influxql(query.bucket, statement)
        return rollup_response.parse(body, query.fields, blocks, column)

    def keep(self, bucket: str, lines: Iterable[bytes]) -> None:
        """Write lines of `rollup_lines.encode`. Never raises."""
        try:
            part: list[bytes] = []
            for of_metric in lines:
                part.append(of_metric)
                if sum(map(len, part)) > _REQUEST:
                    self._writing.write(bucket, b"".join(part))
                    part = []
            if part:
                self._writing.write(bucket, b"".join(part))
        except exceptions.InfluxDBError as e:
            self._pause("written", e)

    def _pause(self, what: str, error: Exception) -> None:
        self._paused_until = time.monotonic() + _PAUSE
        LOG.warning(
            "Rollups can't be %s, so aggregates are computed anew for %d"
            " minutes: %s",
            what,
            _PAUSE // 60,
            error,
        )


def _statement(
    metrics: Iterable[uuid.UUID],
    fields: Iterable[str],
    start: int,
    stop: int,
) -> str:
    """What is kept of blocks, and which days had late measures.

    The columns are `rollup_lines.MARK` and the fields.

    :param start: ns since the epoch, of the first block.
    :param stop: ns since the epoch, end of the last block.
    """
    columns = ", ".join(map(influxql.identifier, [rollup_lines.MARK, *fields]))
    # The mark of a day is at its start.
    first = rollup_lines.place(start // rollup_lines.DAY * rollup_lines.DAY)
    return (
        f'SELECT {columns} FROM "{rollup_lines.MEASUREMENT}"'  # noqa: S608
        f" WHERE {influxql.any_of(metrics)}"
        f" AND time >= {first:d} AND time < {rollup_lines.place(stop) + 1:d}"
        f' GROUP BY "{schema.TAG}"'
    )
