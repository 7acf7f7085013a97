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
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import numpy
import numpy.typing
from gnocchi import utils

from gnocchi_influxdb import (
    aggregates,
    choice,
    conflicts,
    exceptions,
    influxql_response,
    loader,
    queries,
    response,
    rollup_store,
    sparse,
    timeseries,
    windows,
)
from gnocchi_influxdb import buckets as buckets_
from gnocchi_influxdb import client as client_

LOG = logging.getLogger(__name__)

Array = numpy.typing.NDArray[Any]

#: What was found, by metric: an array of points or windows, three of them for
#: `queries.ENDS`.
Rows = dict[uuid.UUID, Any]

_NO_POINTS = numpy.empty(0, dtype=timeseries.DTYPE)


class Asker:
    """Puts queries to one server.

    :param language: flux, influxql, or auto for the faster one.
    :param rollups: what is kept of aggregates.
    """

    def __init__(
        self,
        client: client_.Client,
        buckets: buckets_.Buckets,
        language: str,
        rollups: rollup_store.Store,
    ) -> None:
        self._client = client
        self._buckets = buckets
        self._language = language
        # Buckets that /query does not show, and Flux does.
        self._flux_only: set[str] = set()
        self._rollups = rollups
        self._conflicts = conflicts.Watch(client)
        self._memory = sparse.Memory()
        self._loader = loader.Loader[queries.Query](
            self._answer,
            largest=choice.METRICS_PER_QUERY,
            # The server has all processors busy with that many.
            at_once=max(2, os.cpu_count() or 1),
        )

    @property
    def has_rollups(self) -> bool:
        """Whether there are any to ask for: in InfluxQL only."""
        return self._rollups.is_on and self._language != "flux"

    def ask(
        self, questions: Iterable[tuple[queries.Query, Sequence[uuid.UUID]]]
    ) -> list[Rows]:
        """Answer questions, side by side; metrics without any are absent."""
        asked = list(questions)
        requests = [
            (number, query, chunk)
            for number, (query, ids) in enumerate(asked)
            if not query.is_empty()
            for chunk in utils.grouper(ids, choice.METRICS_PER_QUERY)
        ]
        answers: list[Rows] = [{} for _ in asked]

        def one(
            number: int, query: queries.Query, chunk: Sequence[uuid.UUID]
        ) -> None:
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
                (queries.Query(bucket, queries.NEWEST), of_bucket)
                for bucket, of_bucket in ids.items()
            )
            for metric, points in rows.items()
        }

    def points(
        self, metric: Any, start: int | None, stop: int | None
    ) -> Array:
        """Points of one metric."""
        bucket = self._buckets.name(metric.archive_policy)
        query = queries.Query(bucket, queries.POINTS, start, stop)
        (rows,) = self.ask([(query, [metric.id])])
        points: Array = rows.get(metric.id, _NO_POINTS)
        return points

    def _answer(self, query: queries.Query, ids: Sequence[uuid.UUID]) -> Rows:
        if query.what == queries.ROLLUPS:
            return self._rollups.ask(query, ids)
        points = self._few_points(query, ids)
        if query.what == queries.ENDS:
            return self._ends(query, ids, points)
        if points is None:
            return self._ask_server(query, ids)
        if query.what == queries.POINTS:
            return points
        return {
            metric: sparse.aggregate(of_metric, query.every, query.what)
            for metric, of_metric in points.items()
        }

    def _ends(
        self,
        query: queries.Query,
        ids: Sequence[uuid.UUID],
        points: Rows | None,
    ) -> Rows:
        if points is not None:
            return {
                metric: tuple(
                    sparse.aggregate(of_metric, query.every, function)
                    for function in aggregates.ENDS
                )
                for metric, of_metric in points.items()
            }
        last, count = utils.parallel_map(
            self._ask_server,
            [
                (dataclasses.replace(query, what=function), ids)
                for function in ("last", "count")
            ],
        )
        # The first point counts only where nothing is in the window before.
        alone = [
            id_ for id_ in last if not windows.are_dense(last[id_], query)
        ]
        first = (
            self._ask_server(dataclasses.replace(query, what="first"), alone)
            if alone
            else {}
        )
        # Asked one after the other, they may differ in a metric just begun.
        return {
            id_: (first.get(id_, last[id_]), last[id_], count[id_])
            for id_ in last
            if id_ in count
        }

    def _few_points(
        self, query: queries.Query, ids: Sequence[uuid.UUID]
    ) -> Rows | None:
        """Points, as long as they are few enough to be the better answer."""
        if self._language != "auto" or query.bucket in self._flux_only:
            return None
        # 1.x has no other way for more of them.
        most = limit = (
            0 if self._client.is_1x else choice.most_points(query, len(ids))
        )
        if query.what != queries.POINTS:
            most = choice.points_a_window(query, len(ids))
            limit = sparse.limit(query.start, query.stop, query.every, most)
        here = query.bucket, query.every, most
        if not most or self._memory.is_dense(*here):
            return None
        points = dataclasses.replace(
            query, what=queries.POINTS, every=0, limit=limit
        )
        rows = self._ask_server(points, ids)
        if sparse.all_below(rows, limit):
            return rows
        self._memory.note_dense(*here)
        return None

    def _ask_server(
        self, query: queries.Query, ids: Sequence[uuid.UUID]
    ) -> Rows:
        if self._prefers_influxql(query, len(ids)):
            try:
                return self._in_influxql(query, ids)
            except exceptions.ConfigurationError as e:
                if self._language != "auto" or self._client.is_1x:
                    raise
                rows = self._in_flux(query, ids)
                LOG.info("All is asked in Flux from now on: %s", e)
                self._language = "flux"
                return rows
            except exceptions.BucketNotFoundError:
                if self._client.is_1x:
                    return {}  # It hides nothing: that is a 403.
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

    def _prefers_influxql(self, query: queries.Query, metrics: int) -> bool:
        if self._language != "auto":
            return self._language == "influxql"
        if self._client.is_1x:
            # Its Flux reads all points and makes windows of them then.
            return True
        if query.bucket in self._flux_only:
            return False
        return choice.takes_influxql(query, metrics)

    def _in_influxql(
        self, query: queries.Query, ids: Sequence[uuid.UUID]
    ) -> Rows:
        statement, column = query.influxql(ids, self._client.may_be_cluster)
        body = self._client.influxql(query.bucket, statement)
        (answer,) = influxql_response.parse_influxql(body, [[column]])
        return answer[column]

    def _in_flux(self, query: queries.Query, ids: Sequence[uuid.UUID]) -> Rows:
        if query.what == queries.POINTS and self._conflicts.other_types(
            query.bucket
        ):
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
        stream = response.Stream()
        try:
            self._client.query(text, stream)
        except exceptions.BucketNotFoundError:
            if self._is_absent(query.bucket):
                return {}
            try:
                self._client.query(text, stream)  # made in between?
            except exceptions.BucketNotFoundError as e:
                raise exceptions.AccessError(
                    f"{e}: it is there, but the token in [storage]"
                    " influxdb_token may not read it"
                ) from None
        return stream.close()

    def _is_absent(self, bucket: str) -> bool:
        """Whether a bucket that is not found is not hidden from the token.

        :raises AccessError: it is.
        """
        try:
            self._client.probe(bucket)
        except exceptions.BucketNotFoundError:
            return True
        return False
