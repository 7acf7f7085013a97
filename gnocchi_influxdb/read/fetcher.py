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
import operator
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy
from gnocchi import utils

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import methods, windows
from gnocchi_influxdb.buckets import manager
from gnocchi_influxdb.client import client as influxdb_client
from gnocchi_influxdb.read import coalescing, cost, query, router
from gnocchi_influxdb.read.coalescing import Rows
from gnocchi_influxdb.schema import Array

_NO_POINTS = numpy.empty(0, dtype=schema.DTYPE)

#: A query, and the metrics that it is asked for.
Question = tuple[query.Query, Sequence[uuid.UUID]]


class Fetcher:
    """Puts queries to one server. Threads share it.

    :param language: flux, influxql, or auto for the faster one.
    """

    def __init__(
        self,
        client: influxdb_client.Client,
        buckets: manager.Buckets,
        language: str,
    ) -> None:
        self._client = client
        self._buckets = buckets
        self._router = router.Router(client, language)
        self._density = Density()
        self._coalescer = coalescing.Coalescer(
            operator.attrgetter("most"),
            # The server has all processors busy with that many.
            at_once=max(2, os.cpu_count() or 1),
        )

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
            for chunk in utils.grouper(ids, asked.per_request(len(ids)))
        ]
        each = [question for _number, question in requests]
        if len(each) < 2:
            # That makes a pool of threads even for nothing.
            found = [self._ask(*question) for question in each]
        else:
            found = utils.parallel_map(self._ask, each)
        answers: list[Rows] = [{} for _ in questions]
        for (number, _question), rows in zip(requests, found, strict=True):
            answers[number].update(rows)
        return answers

    def newest(self, metrics: Sequence[Any]) -> dict[uuid.UUID, int | None]:
        """Time (ns) of the newest point of each metric.

        Where all points have expired, the start of the newest downsampled
        window; None where there is none, either.
        """
        times: dict[uuid.UUID, int | None] = {m.id: None for m in metrics}
        self._look_for_newest(
            times,
            [
                (query.NewestQuery(self._buckets.name(m.archive_policy)), m.id)
                for m in metrics
            ],
        )
        self._look_for_newest(
            times,
            [
                (asked, m.id)
                for m in metrics
                if times[m.id] is None
                for asked in self._newest_windows(m.archive_policy)
            ],
        )
        return times

    def _newest_windows(self, policy: Any) -> Iterator[query.NewestQuery]:
        method = min(
            policy.aggregation_methods,
            # Not each window with a point has a deviation or a rate.
            key=lambda method: not methods.is_pushed_down(method),
        )
        for target in (
            *self._buckets.downsampled(policy),
            self._buckets.all_of(policy).moved,
        ):
            if self._buckets.watermarks.of(target.name):
                yield query.NewestQuery(
                    target.name, measurement=schema.AGGREGATES, field=method
                )

    def _look_for_newest(
        self,
        times: dict[uuid.UUID, int | None],
        wanted: Sequence[tuple[query.NewestQuery, uuid.UUID]],
    ) -> None:
        ids: dict[query.Query, list[uuid.UUID]] = {}
        for asked, id_ in wanted:
            ids.setdefault(asked, []).append(id_)
        for rows in self.fetch(list(ids.items())):
            for id_, points in rows.items():
                time = int(points["timestamps"][-1].astype("int64"))
                times[id_] = max(times[id_] or 0, time)

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
        asked: query.Query,
        ids: Sequence[uuid.UUID],
    ) -> Rows:
        """Answer one question, together with others who ask the same."""
        with self._coalescer.join(asked, ids) as turn:
            if turn.leads:
                turn.answer(self._quickest(asked, turn.all_ids))
        return turn.rows

    def _quickest(self, asked: query.Query, ids: Sequence[uuid.UUID]) -> Rows:
        """The rows from few points, or as they are asked for."""
        if isinstance(asked, query.DownsampledQuery):
            return self._downsampled(asked, ids)
        few, limit = self._few_points(asked, len(ids))
        if few:
            points = query.PointsQuery(
                asked.bucket, asked.start, asked.stop, limit
            )
            rows = self._router.ask(points, ids)
            if all(len(of_one) < limit for of_one in rows.values()):
                return asked.from_points(rows)
            self._density.note_dense(asked.bucket, asked.every, few)
        if isinstance(asked, query.RateEndsQuery):
            return self._ends(asked, ids)
        return self._router.ask(asked, ids)

    def _downsampled(
        self, asked: query.DownsampledQuery, ids: Sequence[uuid.UUID]
    ) -> Rows:
        """Windows and, in the same request if they are few, what is behind."""
        behind = asked.behind
        if behind is None:
            return self._router.ask(asked, ids)
        limit = cost.Size(len(ids), behind.start, behind.stop).behind()
        key = asked.bucket, behind.every, limit
        if self._router.are_both(asked.bucket) and not (
            self._density.is_dense(*key)
        ):
            points = query.PointsQuery(
                behind.bucket, behind.start, behind.stop, limit, True
            )
            rows = self._router.ask(
                dataclasses.replace(asked, behind=points), ids
            )
            if all(len(of_one[-1]) < limit for of_one in rows.values()):
                newer = behind.from_points(
                    {metric: of_one[-1] for metric, of_one in rows.items()}
                )
                return {
                    metric: (*of_one[:-1], newer[metric])
                    for metric, of_one in rows.items()
                }
            self._density.note_dense(*key)
        windows, newer = utils.parallel_map(
            self._quickest,
            [(dataclasses.replace(asked, behind=None), ids), (behind, ids)],
        )
        both = dict.fromkeys([*windows, *newer])
        nothing = behind.from_points(dict.fromkeys(both, _NO_POINTS))
        none = (_NO_POINTS,) * len(asked.parts[:-1])
        return {
            metric: (
                *windows.get(metric, none),
                newer.get(metric, nothing[metric]),
            )
            for metric in both
        }

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


class Density:
    """Remembers where points have turned out to be too many.

    Where a window has a point or a few, as the finest granularity of a policy
    usually does, InfluxDB hands out the points in a third of the time that it
    takes for their windows. So points are read, with a limit that is reached
    where windows hold many of them; then InfluxDB aggregates, and is not
    asked for points of that bucket and granularity again for some time.

    Threads share it. All methods take the bucket's name; `every`, the length
    of a window in ns; and `most`, the points a window up to which points are
    read.
    """

    def __init__(self) -> None:
        self._dense: dict[tuple[str, int, int], float] = {}

    def is_dense(self, bucket: str, every: int, most: int) -> bool:
        """Whether points have lately turned out to be too many."""
        return self._dense.get((bucket, every, most), 0) > time.monotonic()

    def note_dense(self, bucket: str, every: int, most: int) -> None:
        """Remember that there are too many."""
        self._dense[bucket, every, most] = (
            time.monotonic() + cost.DENSE_REMEMBERED
        )
