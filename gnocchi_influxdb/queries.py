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
"""Asking InfluxDB for windows and points, in few requests and in the language
that it answers sooner.
"""

import dataclasses
import logging
import os
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import numpy
import numpy.typing
from gnocchi import utils

from gnocchi_influxdb import buckets as buckets_
from gnocchi_influxdb import client as client_
from gnocchi_influxdb import (
    conflicts,
    exceptions,
    flux,
    influxql,
    influxql_response,
    loader,
    response,
    sparse,
    timeseries,
)

LOG = logging.getLogger(__name__)

Array = numpy.typing.NDArray[Any]
Rows = dict[uuid.UUID, Array]

#: A read of the points themselves, and of the newest one of each metric.
POINTS = "points"
NEWEST = "newest"

# Up to how many metrics InfluxQL is the faster of the two (benchmarks/,
# InfluxDB 2.9.1). A Flux script takes 5 ms to compile. InfluxQL pays for each
# window of each metric, and compares each point with each metric's id.
_INFLUXQL_METRICS = 4
_INFLUXQL_METRIC_DAYS = 50
_DAY = 86400 * 10**9

_NO_POINTS = numpy.empty(0, dtype=timeseries.DTYPE)


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """What is asked of a bucket, for whatever metrics.

    :ivar what: a window function, `POINTS` or `NEWEST`.
    :ivar start: ns since the epoch, None: from the first point.
    :ivar stop: ns since the epoch, exclusive, None: to the last point.
    :ivar every: length of a window, ns; 0 where there are none.
    :ivar limit: points of each metric that may be enough; there may be more.
    """

    bucket: str
    what: str
    start: int | None = None
    stop: int | None = None
    every: int = 0
    limit: int | None = None

    def is_empty(self) -> bool:
        """Whether nothing lies in its range; InfluxDB takes that amiss."""
        start = 0 if self.start is None else self.start
        return self.stop is not None and start >= self.stop

    def flux(self, metrics: Sequence[uuid.UUID]) -> str:
        """The query in Flux."""
        if self.what == POINTS:
            return flux.points(self.bucket, metrics, self.start, self.stop)
        if self.what == NEWEST:
            return flux.newest(self.bucket, metrics)
        return flux.windows(
            self.bucket,
            metrics,
            self.start,
            self.stop,
            self.every,
            self.what,
        )

    def influxql(self, metrics: Sequence[uuid.UUID]) -> tuple[str, str]:
        """The query in InfluxQL, and the column that it answers."""
        if self.what == POINTS:
            return (
                influxql.points(metrics, self.start, self.stop, self.limit),
                influxql.POINTS,
            )
        if self.what == NEWEST:
            return influxql.newest(metrics), "last"
        return (
            influxql.windows(
                metrics, self.start, self.stop, self.every, self.what
            ),
            self.what,
        )


class Asker:
    """Puts queries to one server.

    :param language: flux, influxql, or auto for the faster one.
    """

    def __init__(
        self,
        client: client_.Client,
        buckets: buckets_.Buckets,
        language: str,
    ) -> None:
        self._client = client
        self._buckets = buckets
        self._language = language
        # Buckets that /query does not show, and Flux does.
        self._flux_only: set[str] = set()
        self._conflicts = conflicts.Watch(client)
        self._memory = sparse.Memory()
        self._loader = loader.Loader[Query](
            self._answer,
            largest=flux.METRICS_PER_QUERY,
            # The server has all processors busy with that many.
            at_once=max(2, os.cpu_count() or 1),
        )

    def ask(
        self, questions: Iterable[tuple[Query, Sequence[uuid.UUID]]]
    ) -> list[Rows]:
        """Answer questions, side by side; metrics without any are absent."""
        asked = list(questions)
        requests = [
            (number, query, chunk)
            for number, (query, ids) in enumerate(asked)
            if not query.is_empty()
            for chunk in utils.grouper(ids, flux.METRICS_PER_QUERY)
        ]
        answers: list[Rows] = [{} for _ in asked]

        def one(number: int, query: Query, chunk: Sequence[uuid.UUID]) -> None:
            answers[number].update(self._loader.load(query, chunk))

        if len(requests) == 1:
            one(*requests[0])
        elif requests:
            utils.parallel_map(one, requests)
        return answers

    def newest(self, metrics: Iterable[Any]) -> dict[uuid.UUID, int]:
        """Time of the newest point of each metric that has any."""
        ids: dict[str, list[uuid.UUID]] = {}
        for metric in metrics:
            bucket = self._buckets.name(metric.archive_policy)
            ids.setdefault(bucket, []).append(metric.id)
        return {
            metric: int(points["timestamps"][-1].astype("int64"))
            for rows in self.ask(
                (Query(bucket, NEWEST), of_bucket)
                for bucket, of_bucket in ids.items()
            )
            for metric, points in rows.items()
        }

    def points(
        self, metric: Any, start: int | None, stop: int | None
    ) -> Array:
        """Points of one metric."""
        bucket = self._buckets.name(metric.archive_policy)
        query = Query(bucket, POINTS, start, stop)
        (rows,) = self.ask([(query, [metric.id])])
        return rows.get(metric.id, _NO_POINTS)

    def _answer(self, query: Query, ids: Sequence[uuid.UUID]) -> Rows:
        rows = self._from_few_points(query, ids)
        if rows is not None:
            return rows
        if self._prefers_influxql(query, len(ids)):
            try:
                return self._in_influxql(query, ids)
            except exceptions.ConfigurationError:
                if self._language != "auto":
                    raise
                rows = self._in_flux(query, ids)
                LOG.info(
                    "%s has no /query, so all is asked in Flux", self._client
                )
                self._language = "flux"
                return rows
            except exceptions.BucketNotFoundError:
                if self._language == "auto":
                    rows = self._in_flux(query, ids)
                    if rows:
                        self._flux_only.add(query.bucket)
                    return rows
                if self._is_absent(query.bucket):
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
        if query.bucket in self._flux_only:
            return False
        if metrics <= _INFLUXQL_METRICS:
            return True
        return query.what == POINTS and self._is_little(query, metrics)

    @staticmethod
    def _is_little(query: Query, metrics: int) -> bool:
        stop = time.time_ns() if query.stop is None else query.stop
        days = (stop - (query.start or 0)) / _DAY
        return metrics * days <= _INFLUXQL_METRIC_DAYS

    def _from_few_points(
        self, query: Query, ids: Sequence[uuid.UUID]
    ) -> Rows | None:
        """Windows made here, or None where that is not the quicker way."""
        if (
            self._language != "auto"
            or not query.every
            or query.bucket in self._flux_only
            or self._memory.is_dense(query.bucket, query.every)
            or not (
                len(ids) <= _INFLUXQL_METRICS
                or self._is_little(query, len(ids))
            )
        ):
            return None
        limit = sparse.limit(query.start, query.stop, query.every)
        points = dataclasses.replace(query, what=POINTS, every=0, limit=limit)
        rows = self._answer(points, ids)
        if not sparse.all_below(rows, limit):
            self._memory.note_dense(query.bucket, query.every)
            return None
        return {
            metric: sparse.aggregate(points, query.every, query.what)
            for metric, points in rows.items()
        }

    def _in_influxql(self, query: Query, ids: Sequence[uuid.UUID]) -> Rows:
        statement, column = query.influxql(ids)
        body = self._client.influxql(query.bucket, statement)
        (answer,) = influxql_response.parse_influxql(body, [[column]])
        return answer[column]

    def _in_flux(self, query: Query, ids: Sequence[uuid.UUID]) -> Rows:
        if query.what == POINTS and self._conflicts.other_types(query.bucket):
            # Flux would leave out the later shards without a word.
            if self._language == "flux":
                raise exceptions.QueryError(
                    f"Bucket {query.bucket} of InfluxDB at"
                    f" {self._client.url} holds values of another type that"
                    " somebody else has written, so points can't be read in"
                    " Flux; [storage] influxdb_query_language = auto can"
                )
            return self._in_influxql(query, ids)
        text = query.flux(ids)
        try:
            body = self._client.query(text)
        except exceptions.BucketNotFoundError:
            if self._is_absent(query.bucket):
                return {}
            try:
                body = self._client.query(text)  # made in between?
            except exceptions.BucketNotFoundError as e:
                raise exceptions.AccessError(
                    f"{e}: it is there, but the token in [storage]"
                    " influxdb_token may not read it"
                ) from None
        return response.parse_flux(body)

    def _is_absent(self, bucket: str) -> bool:
        """Whether a bucket that is not found is not hidden from the token.

        :raises AccessError: it is.
        """
        try:
            self._client.probe(bucket)
        except exceptions.BucketNotFoundError:
            return True
        return False
