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
"""Refusing reads that no process should be asked for."""

import threading
import uuid
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets.manager import Buckets
from gnocchi_influxdb.read.fetcher import Fetcher
from gnocchi_influxdb.read.job import Job
from gnocchi_influxdb.read.query import WindowsQuery

# InfluxDB counts points by the day, so there are up to two days too many.
_DAY = 86400 * schema.SECOND


class Guard:
    """Refuses reads of too many points. Threads share it.

    A read that could take so many of a metric with a measure a second has
    them counted first, which takes InfluxDB far less than to send them.

    :param most: points of a metric that a read may take, 0: any number.
    """

    def __init__(self, fetcher: Fetcher, buckets: Buckets, most: int) -> None:
        self._fetcher = fetcher
        self._buckets = buckets
        self._most = most

    def check(self, planned: Sequence[Job], now: int) -> None:
        """Look at the reads of one call; most of them cost nothing.

        :param now: ns since the epoch.
        :raises TooLargeError: one of them takes too many points of a metric.
        :raises InfluxDBError: they can't be counted.
        """
        if not self._most:
            return
        asked: dict[WindowsQuery, dict[uuid.UUID, None]] = {}
        for job in planned:
            count = self._count(job, now)
            if count is not None:
                asked.setdefault(count, {}).update(
                    dict.fromkeys(metric.id for metric in job.metrics)
                )
        for rows in self._fetcher.fetch(
            [(count, [*ids]) for count, ids in asked.items()]
        ):
            for id_, days in rows.items():
                points = int(days["values"].sum())
                if points > self._most:
                    raise exceptions.TooLargeError(
                        f"The range has about {points} measures of metric"
                        f" {id_}, and one read may take {self._most}. Ask for"
                        " a shorter range or, if the archive policy has one,"
                        " a coarser granularity ([storage]"
                        " influxdb_max_points)"
                    )

    def _count(self, job: Job, now: int) -> WindowsQuery | None:
        """What counts the points of a read, None if it need not be counted."""
        part = job.behind if job.points > self._most else None
        if part is None:
            return None
        asked = part.query
        retention = self._buckets.of(job.metrics[0].archive_policy).retention
        oldest = now - retention * schema.SECOND if retention else 0
        start = max(asked.start or 0, oldest)
        return WindowsQuery(
            asked.bucket,
            schema.floor(start, _DAY) or None,
            asked.stop and schema.ceil(asked.stop, _DAY),
            every=_DAY,
            function="count",
        )


class Total:
    """Refuses requests whose answers hold too many aggregates together.

    For `/v1/aggregates` Gnocchi reads one metric a call, from a pool of
    threads that it makes for the request, and keeps all series until the last
    one is there. So series that are still in use are counted by pool, or by
    thread where there is none. Threads share it.

    :param most: aggregates of all metrics of a request, 0: any number.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[str, int] = {}
        # The garbage collector may let go of a series inside of the lock.
        self._lock = threading.RLock()

    def check(self, answers: Mapping[Any, Mapping[Any, Any]]) -> None:
        """Look at what a call holds so far.

        :param answers: {metric: {aggregation: series}}.
        :raises TooLargeError: with the other calls of the request, too much.
        """
        if self._most:
            self._add(map(len, _series(answers)), keep=False)

    def hold(self, answers: Mapping[Any, Mapping[Any, Any]]) -> None:
        """Count the answer of a call until nobody uses it any more.

        :param answers: {metric: {aggregation: series}}.
        :raises TooLargeError: with the other calls of the request, too much.
        """
        if not self._most:
            return
        pool = self._add(map(len, _series(answers)), keep=True)
        for series in _series(answers):
            number = len(series)
            if number:
                end = weakref.finalize(series, self._let_go, pool, number)
                end.atexit = False

    def _add(self, numbers: Iterable[int], keep: bool) -> str:
        name = threading.current_thread().name
        pool = name.rpartition("_")[0] or name
        with self._lock:
            held = self._held.get(pool, 0) + sum(numbers)
            if held > self._most:
                # What is left of a refused request must not count for the
                # next one of the thread.
                self._held.pop(pool, None)
                raise exceptions.TooLargeError(
                    "The request is for more than"
                    f" {self._most} aggregates of all its metrics together."
                    " Ask for fewer metrics, a shorter range or a coarser"
                    " granularity ([storage] influxdb_max_aggregates)"
                )
            if keep:
                self._held[pool] = held
        return pool

    def _let_go(self, pool: str, number: int) -> None:
        with self._lock:
            held = self._held.pop(pool, 0) - number
            if held > 0:
                self._held[pool] = held


def _series(answers: Mapping[Any, Mapping[Any, Any]]) -> Iterable[Any]:
    return (series for of in answers.values() for series in of.values())
