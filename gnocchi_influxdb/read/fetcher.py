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
"""Asking InfluxDB for windows and points, in few requests and in the way that
takes the least time.
"""

import dataclasses
import os
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import numpy
import numpy.typing
from gnocchi import utils

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import few_points, rates, windows
from gnocchi_influxdb.buckets import manager as buckets_
from gnocchi_influxdb.client import client as client_
from gnocchi_influxdb.read import coalescing, cost, router
from gnocchi_influxdb.read import query as queries
from gnocchi_influxdb.rollups import rollup_store
from gnocchi_influxdb.schema import Array

#: What was found, by metric: an array of points or windows, three of them for
#: `queries.ENDS`.
Rows = coalescing.Rows

_NO_POINTS = numpy.empty(0, dtype=schema.DTYPE)


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
        self._languages = router.Languages(client, language)
        self._rollups = rollups
        self._memory = few_points.Memory()
        self._loader = coalescing.Loader[queries.Query](
            self._answer,
            largest=cost.METRICS_PER_QUERY,
            # The server has all processors busy with that many.
            at_once=max(2, os.cpu_count() or 1),
        )

    @property
    def has_rollups(self) -> bool:
        """Whether there are any to ask for: in InfluxQL only."""
        return self._rollups.is_on and self._languages.has_influxql

    def ask(
        self, questions: Iterable[tuple[queries.Query, Sequence[uuid.UUID]]]
    ) -> list[Rows]:
        """Answer questions, side by side; metrics without any are absent."""
        asked = list(questions)
        requests = [
            (number, query, chunk)
            for number, (query, ids) in enumerate(asked)
            if not query.is_empty()
            for chunk in utils.grouper(ids, cost.METRICS_PER_QUERY)
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
            return self._languages.ask(query, ids)
        if query.what == queries.POINTS:
            return points
        return {
            metric: few_points.aggregate(of_metric, query.every, query.what)
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
                    few_points.aggregate(of_metric, query.every, function)
                    for function in rates.ENDS
                )
                for metric, of_metric in points.items()
            }
        last, count = utils.parallel_map(
            self._languages.ask,
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
            self._languages.ask(
                dataclasses.replace(query, what="first"), alone
            )
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
        if not self._languages.are_both(query.bucket):
            return None
        # Without Flux there is no other way for more of them.
        most = limit = (
            cost.most_points(query, len(ids))
            if self._client.capabilities.flux
            else 0
        )
        if query.what != queries.POINTS:
            most = cost.points_a_window(query, len(ids))
            limit = few_points.limit(
                query.start, query.stop, query.every, most
            )
        here = query.bucket, query.every, most
        if not most or self._memory.is_dense(*here):
            return None
        points = dataclasses.replace(
            query, what=queries.POINTS, every=0, limit=limit
        )
        rows = self._languages.ask(points, ids)
        if few_points.all_below(rows, limit):
            return rows
        self._memory.note_dense(*here)
        return None
