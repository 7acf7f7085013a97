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
"""Reading the points of all metrics of a bucket, in bounded memory."""

import uuid
from collections.abc import Iterator, Sequence

from gnocchi import utils

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets import type_conflicts
from gnocchi_influxdb.client.client import Client
from gnocchi_influxdb.read import cost
from gnocchi_influxdb.read.coalescing import Rows
from gnocchi_influxdb.wire import (
    flux,
    flux_response,
    influxql,
    influxql_points,
    influxql_rows,
)

# Points that are read at once, about. In Flux they come as a stream of 88
# bytes a point; InfluxQL has 120 bytes a point in the server's memory before
# it sends the first one.
_IN_FLUX = 500000
_IN_INFLUXQL = 100000
# Marks that are read at once, about. Each may be of another metric, which
# takes 0.6 kB: all of 300,000 took 185 MiB, and in parts of so many 107.
_MARKS = 100000

_HEX = "0123456789abcdef"


class PointSource:
    """The points of all metrics of buckets. For one thread.

    :param language: flux, influxql, or auto for the faster one.
    """

    def __init__(self, client: Client, language: str) -> None:
        self._client = client
        self._conflicts = type_conflicts.Watch(client)
        self._in_flux = language == "flux" or (
            language == "auto" and client.capabilities.flux
        )

    @property
    def most(self) -> int:
        """Points that are read at once, about."""
        return _IN_FLUX if self._in_flux else _IN_INFLUXQL

    def count(self, bucket: str, start: int, stop: int) -> int:
        """How many points there are, about.

        It takes a tenth of the time of reading them.
        """
        number = self._count(bucket, influxql.count(start, stop))
        # Only Flux can be asked, which does not count sooner than it reads: so
        # much that it is a window at a time.
        return self.most if number is None else number

    def read(
        self, bucket: str, start: int, stop: int, number: int
    ) -> Iterator[Rows]:
        """Points by metric, in as many parts as bound the memory.

        :param start: ns since the epoch.
        :param stop: ns since the epoch, exclusive.
        :param number: how many points there are, about.
        """
        in_flux = self._can_flux(bucket)
        for part in parts(-(-number // self.most)):
            if in_flux:
                yield self._stream(
                    flux.points_of_all(bucket, start, stop, part)
                )
            else:
                statement = influxql.points_of_all(start, stop, part)
                yield self._select(bucket, statement, influxql.POINTS)

    def read_some(
        self, bucket: str, ids: Sequence[uuid.UUID], start: int, stop: int
    ) -> Iterator[Rows]:
        """Points of some metrics, see `read`."""
        in_flux = self._can_flux(bucket)
        for some in utils.grouper(ids, cost.METRICS_PER_QUERY):
            if in_flux:
                yield self._stream(flux.points(bucket, some, start, stop))
            else:
                statement = influxql.points(some, start, stop)
                yield self._select(bucket, statement, influxql.POINTS)

    def windows(
        self,
        bucket: str,
        ids: Sequence[uuid.UUID],
        start: int,
        stop: int,
        field: str,
    ) -> Rows:
        """Downsampled windows of some metrics that have a field."""
        found: Rows = {}
        for some in utils.grouper(ids, cost.METRICS_PER_QUERY):
            found |= self._windows(bucket, some, start, stop, field)
        return found

    def _windows(
        self,
        bucket: str,
        ids: Sequence[uuid.UUID],
        start: int,
        stop: int,
        field: str,
    ) -> Rows:
        try:
            statement = influxql.points(
                ids, start, stop, None, schema.AGGREGATES, field
            )
            return self._select(bucket, statement, field)
        except (
            exceptions.BucketNotFoundError,
            exceptions.ConfigurationError,
        ):
            # Only Flux can be asked.
            return self._stream(
                flux.points(bucket, ids, start, stop, schema.AGGREGATES, field)
            )

    def marks(self, bucket: str, since: int) -> Iterator[Rows]:
        """Marks of late measures since a time (ns), by metric, in parts."""
        number = self._count(bucket, influxql.count_marks(since)) or 0
        for part in parts(-(-number // _MARKS)):
            if self._in_flux:
                yield self._stream(flux.marks_of_all(bucket, since, part))
            else:
                statement = influxql.marks_of_all(since, part)
                yield self._select(bucket, statement, influxql.MARK)

    def _count(self, bucket: str, statement: str) -> int | None:
        """The number that a statement answers, None: ask Flux instead."""
        try:
            rows = influxql_rows.rows(self._client.influxql(bucket, statement))
        except (
            exceptions.BucketNotFoundError,
            exceptions.ConfigurationError,
        ):
            return None
        return int(rows[0][1]) if rows else 0

    def _can_flux(self, bucket: str) -> bool:
        return self._in_flux and not self._conflicts.other_types(bucket)

    def _stream(self, text: str) -> Rows:
        stream = flux_response.Stream()
        self._client.query(text, stream)
        return stream.close()

    def _select(self, bucket: str, statement: str, column: str) -> Rows:
        body = self._client.influxql(bucket, statement)
        (found,) = influxql_points.parse_influxql(body, [[column]])
        return found[column]


def parts(number: int) -> list[str]:
    """Regular expressions that share out the ids of metrics.

    UUIDs are random, so each matches about as many. Each is the whole of an
    id: InfluxDB looks up all series of a second expression, too, which takes
    six times as long with 200,000 of them.

    :param number: how many are wanted; there may be more, up to twice.
    """
    prefixes, digits = [""], 0
    while len(prefixes) * len(_HEX) < number:
        prefixes = [before + digit for before in prefixes for digit in _HEX]
        digits += 1
    rest = -(-number // len(prefixes))
    if rest > 1:
        width = len(_HEX) // rest
        prefixes = [
            f"{before}[{_HEX[i : i + width]}]"
            for before in prefixes
            for i in range(0, len(_HEX), width)
        ]
        digits += 1
    return [
        schema.UUID_PATTERN.replace("{8}", f"{{{8 - digits}}}").replace(
            "^", f"^{prefix}"
        )
        for prefix in prefixes
    ]
