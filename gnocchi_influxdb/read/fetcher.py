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

import os
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import numpy
from gnocchi import utils

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import windows
from gnocchi_influxdb.buckets import manager
from gnocchi_influxdb.client import client as influxdb_client
from gnocchi_influxdb.read import coalescing, cost, density, query, router
from gnocchi_influxdb.read.coalescing import Rows
from gnocchi_influxdb.rollups import rollup_store
from gnocchi_influxdb.schema import Array

_NO_POINTS = numpy.empty(0, dtype=schema.DTYPE)

#: A query, and the metrics that it is asked for.
Question = tuple[query.Query | rollup_store.RollupQuery, Sequence[uuid.UUID]]


class Fetcher:
    """Puts queries to one server. Threads share it.

    :param language: flux, influxql, or auto for the faster one.
    :param rollups: the cache of aggregates.
    """

    def __init__(
        self,
        client: influxdb_client.Client,
        buckets: manager.Buckets,
        language: str,
        rollups: rollup_store.Store,
    ) -> None:
        self._client = client
        self._buckets = buckets
        self._router = router.Router(client, language)
        self._rollups = rollups
        self._density = density.Density()
        self._coalescer = coalescing.Coalescer(
            cost.METRICS_PER_QUERY,
            # The server has all processors busy with that many.
            at_once=max(2, os.cpu_count() or 1),
        )

    @property
    def has_rollups(self) -> bool:
        """Whether there are any to ask for: in InfluxQL only."""
        return self._rollups.is_on and self._router.has_influxql

    def fetch(self, questions: Sequence[Question]) -> list[Rows]:
        """Answer questions, side by side.

        :return: for each question the rows by metric, see the classes of
            `query`; metrics without any are absent.
        :raises InfluxDBError: there is no whole answer.
        """
        requests = [
            (number, (asked, chunk))
            for number, (asked, ids) in enumerate(questions)
            if not asked.is_empty()
            for chunk in utils.grouper(ids, cost.METRICS_PER_QUERY)
        ]
        each = [question for _number, question in requests]
        if len(each) == 1:
            found = [self._ask(*each[0])]
        else:
            found = utils.parallel_map(self._ask, each)
        answers: list[Rows] = [{} for _ in questions]
        for (number, _question), rows in zip(requests, found, strict=True):
            answers[number].update(rows)
        return answers

    def newest(self, metrics: Iterable[Any]) -> dict[uuid.UUID, int | None]:
        """Time (ns) of the newest point of each metric, None without one."""
        times: dict[uuid.UUID, int | None] = {}
        ids: dict[str, list[uuid.UUID]] = {}
        for metric in metrics:
            times[metric.id] = None
            bucket = self._buckets.name(metric.archive_policy)
            ids.setdefault(bucket, []).append(metric.id)
        for rows in self.fetch(
            [(query.NewestQuery(bucket), some) for bucket, some in ids.items()]
        ):
            for id_, points in rows.items():
                times[id_] = int(points["timestamps"][-1].astype("int64"))
        return times

    def points(
        self, metric: Any, start: int | None, stop: int | None
    ) -> Array:
        """Points of one metric: a structured array."""
        bucket = self._buckets.name(metric.archive_policy)
        asked = query.PointsQuery(bucket, start, stop)
        (rows,) = self.fetch([(asked, [metric.id])])
        points: Array = rows.get(metric.id, _NO_POINTS)
        return points

    def _ask(
        self,
        asked: query.Query | rollup_store.RollupQuery,
        ids: Sequence[uuid.UUID],
    ) -> Rows:
        """Answer one question, together with others who ask the same."""
        with self._coalescer.join(asked, ids) as turn:
            if turn.leads:
                if isinstance(asked, rollup_store.RollupQuery):
                    turn.answer(self._rollups.ask(asked, turn.all_ids))
                else:
                    turn.answer(self._quickest(asked, turn.all_ids))
        return turn.rows

    def _quickest(self, asked: query.Query, ids: Sequence[uuid.UUID]) -> Rows:
        """The rows from few points, or as they are asked for."""
        few, limit = self._few_points(asked, len(ids))
        if few:
            points = query.PointsQuery(
                asked.bucket, asked.start, asked.stop, limit
            )
            rows = self._router.ask(points, ids)
            if all(len(of_one) < limit for of_one in rows.values()):
                return {
                    metric: asked.from_points(of_one)
                    for metric, of_one in rows.items()
                }
            self._density.note_dense(asked.bucket, asked.every, few)
        if isinstance(asked, query.RateEndsQuery):
            return self._ends(asked, ids)
        return self._router.ask(asked, ids)

    def _few_points(self, asked: query.Query, metrics: int) -> tuple[int, int]:
        """Up to how many points to read them first, see `Query.few_points`."""
        if not self._router.are_both(asked.bucket):
            return 0, 0
        if not asked.every and not self._client.capabilities.flux:
            # There is no other way for more of them.
            return 0, 0
        few, limit = asked.few_points(metrics)
        if few and self._density.is_dense(asked.bucket, asked.every, few):
            return 0, 0
        return few, limit

    def _ends(
        self, asked: query.RateEndsQuery, ids: Sequence[uuid.UUID]
    ) -> Rows:
        last, count = utils.parallel_map(
            self._router.ask,
            [(asked.end(function), ids) for function in ("last", "count")],
        )
        # The first point counts only where nothing is in the window before.
        alone = [
            id_
            for id_, rows in last.items()
            if not windows.are_dense(rows, asked.start, asked.every)
        ]
        first = self._router.ask(asked.end("first"), alone) if alone else {}
        # Asked one after the other, they may differ in a metric just begun.
        return {
            id_: (first.get(id_, last[id_]), last[id_], count[id_])
            for id_ in last
            if id_ in count
        }
