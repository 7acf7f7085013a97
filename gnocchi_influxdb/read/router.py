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
"""One query to one server, in the language that it answers sooner, or in the
one that is left.
"""

import itertools
import re
import uuid
from collections.abc import Sequence

import daiquiri

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.buckets import type_conflicts
from gnocchi_influxdb.buckets.visibility import is_absent
from gnocchi_influxdb.client.client import Client
from gnocchi_influxdb.read.coalescing import Rows
from gnocchi_influxdb.read.query import Query
from gnocchi_influxdb.wire import flux_response, influxql_points

LOG = daiquiri.getLogger(__name__)

# Options of InfluxDB, and what it says of them.
_LIMIT = re.compile(r"\b(max-select-(?:point|series|buckets))\b")
_HIDDEN = "not executed"


class Router:
    """Asks in Flux or in InfluxQL. Threads share it.

    :param language: flux, influxql, or auto for the faster one.
    """

    def __init__(self, client: Client, language: str) -> None:
        self._client = client
        self._language = language
        # Buckets that /query does not show, and Flux does.
        self._flux_only: set[str] = set()
        # Limits of InfluxQL that have been met.
        self._limits: set[str] = set()
        self._conflicts = type_conflicts.Watch(client)

    @property
    def has_influxql(self) -> bool:
        """Whether InfluxQL may be asked at all."""
        return self._language != "flux"

    def are_both(self, bucket: str) -> bool:
        """Whether the faster one may be chosen for a bucket."""
        return self._language == "auto" and bucket not in self._flux_only

    def ask(self, query: Query, ids: Sequence[uuid.UUID]) -> Rows:
        """Answer one query; metrics without any rows are absent.

        :raises InfluxDBError: there is no whole answer.
        """
        can = self._client.capabilities
        # Another thread may change it meanwhile.
        language = self._language
        if self._prefers_influxql(query, len(ids)):
            try:
                return self._in_influxql(query, ids)
            except exceptions.ConfigurationError as e:
                if language == "influxql" or not can.flux:
                    raise
                rows = self._in_flux(query, ids)
                if self._language != "flux":
                    self._language = "flux"
                    LOG.warning("All is asked in Flux from now on: %s", e)
                return rows
            except exceptions.QueryError as e:
                limit = _LIMIT.search(str(e))
                if limit is None:
                    raise
                return self._beyond(limit[1], language, query, ids, e)
            except exceptions.BucketNotFoundError:
                if not can.hides:
                    return {}
                if language != "influxql":
                    rows = self._in_flux(query, ids)
                    if rows:
                        self._flux_only.add(query.bucket)
                    return rows
                if is_absent(self._client, query.bucket):
                    return {}
                raise exceptions.AccessError(
                    f"InfluxDB at {self._client.url} has the bucket"
                    f" {query.bucket!r}, but does not show it to InfluxQL"
                    " with the token in [storage] influxdb_token; [storage]"
                    " influxdb_query_language = flux does not need that"
                ) from None
        return self._in_flux(query, ids)

    def _prefers_influxql(self, query: Query, metrics: int) -> bool:
        if self._language != "auto":
            return self._language == "influxql"
        if not self._client.capabilities.flux:
            # Its Flux reads all points and makes windows of them then.
            return True
        if query.bucket in self._flux_only:
            return False
        return query.suits_influxql(metrics)

    def _beyond(
        self,
        limit: str,
        language: str,
        query: Query,
        ids: Sequence[uuid.UUID],
        error: exceptions.QueryError,
    ) -> Rows:
        """Answer in Flux what a limit of InfluxQL forbids, if that may be.

        :param limit: which one, as InfluxDB names it.
        """
        cure = (
            f"Set influxql-{limit} of InfluxDB ({limit} in [coordinator] of"
            " 1.x) to 0"
        )
        has_flux = self._client.capabilities.flux
        if language == "influxql" or not has_flux:
            if has_flux:
                cure += (
                    ", or let [storage] influxdb_query_language = auto ask in"
                    " Flux"
                )
            raise exceptions.QueryError(
                f"InfluxDB at {self._client.url} has a limit for InfluxQL"
                f" ({error}). {cure}"
            ) from error
        rows = self._in_flux(query, ids)
        if limit not in self._limits:
            self._limits.add(limit)
            LOG.warning(
                "InfluxDB at %s has a limit for InfluxQL (%s): what it refuses"
                " is asked again in Flux. %s to spare that",
                self._client.url,
                error,
                cure,
            )
        return rows

    def _in_influxql(self, query: Query, ids: Sequence[uuid.UUID]) -> Rows:
        counts = self._client.capabilities.counts
        parts = [part.statements(ids, counts) for part in query.parts]
        statements = [one for of_part in parts for one in of_part]
        try:
            answers = iter(self._execute(query.bucket, statements))
        except exceptions.QueryError as e:
            if len(statements) == 1 or _HIDDEN not in str(e):
                raise
            # Of several, InfluxDB does not say which one it refuses, and why.
            answers = itertools.chain.from_iterable(
                self._execute(query.bucket, [one]) for one in statements
            )
        found: list[Rows] = []
        for part, of_part in zip(query.parts, parts, strict=True):
            rows = [next(answers)[column] for _text, column in of_part]
            found.append(part.from_statements(rows))
        return query.joined(found)

    def _execute(
        self, bucket: str, statements: Sequence[tuple[str, str]]
    ) -> list[influxql_points.Statement]:
        body = self._client.influxql(
            bucket, ";".join(text for text, _column in statements)
        )
        return influxql_points.parse_influxql(
            body, [[column] for _text, column in statements]
        )

    def _in_flux(self, query: Query, ids: Sequence[uuid.UUID]) -> Rows:
        return query.joined([self._flux(part, ids) for part in query.parts])

    def _flux(self, query: Query, ids: Sequence[uuid.UUID]) -> Rows:
        if self._conflicts.other_types(query.bucket):
            # Flux would leave out the later shards without a word.
            if self._language == "flux":
                raise exceptions.QueryError(
                    f"Bucket {query.bucket} of InfluxDB at"
                    f" {self._client.url} holds values of another type that"
                    " somebody else has written, so not all can be read in"
                    " Flux; [storage] influxdb_query_language = auto can"
                )
            return self._in_influxql(query, ids)
        text = query.flux(ids)
        stream = flux_response.Stream()
        try:
            self._client.query(text, stream)
        except exceptions.BucketNotFoundError:
            if is_absent(self._client, query.bucket):
                return {}
            try:
                self._client.query(text, stream)  # made in between?
            except exceptions.BucketNotFoundError as e:
                raise exceptions.AccessError(
                    f"{e}: it is there, but the token in [storage]"
                    " influxdb_token may not read it"
                ) from None
        return stream.close()
