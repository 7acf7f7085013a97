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
"""A Gnocchi with ever more metrics, and what is asked of it."""

import dataclasses
import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy
import tenacity
import urllib3

from benchmarks.harness import indexing, measures
from benchmarks.harness.workload import seconds
from gnocchi_influxdb import exceptions
from gnocchi_influxdb.maintenance import deletes
from gnocchi_influxdb.wire import influxql, influxql_rows

#: Measures that each metric begins with.
HISTORY = 12
# Metrics that are made at once.
_AT_ONCE = 5000
_POSTED = 50


@dataclasses.dataclass
class Installation:
    """A Gnocchi that grows.

    :ivar target: with our driver.
    :ivar raw: plain requests, None: there are none.
    :ivar api: URL of gnocchi-api.
    :ivar start: time of each metric's first measure, s.
    :ivar ids: of the metrics that there are.
    """

    target: Any
    raw: Any
    api: str
    policy: str
    start: int
    ids: list[uuid.UUID] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        # Time of the newest measures, s. They follow the history closely, so
        # that they are in the same shard: in another one InfluxDB would have
        # to make an entry in the index for each metric.
        self._now = self.start + HISTORY * measures.STEP
        self._storage = self.target.storage
        self._random = numpy.random.default_rng(1)

    def grow(self, number: int) -> None:
        """Make metrics until there are so many."""
        while len(self.ids) < number:
            count = min(_AT_ONCE, number - len(self.ids))
            made = self.target.create_metrics(
                [uuid.uuid4() for _ in range(count)], self.policy
            )
            points = {
                metric: measures.series(metric.id, self.start, HISTORY)
                for metric in made
            }
            for driver in filter(None, (self.target, self.raw)):
                _until_taken(driver.write([points]))
            self.ids += (metric.id for metric in made)

    def some(self, number: int) -> list[Any]:
        """Metrics picked at random, in random order.

        They come from the indexer, as those of a request do: they share the
        object of their archive policy.
        """
        return indexing.find_metrics(
            self.target.indexer, self.some_ids(number)
        )

    def some_ids(self, number: int) -> list[uuid.UUID]:
        """Ids of metrics picked at random, in random order."""
        picked = self._random.choice(len(self.ids), number, replace=False)
        return [self.ids[i] for i in picked.tolist()]

    def steps(self) -> Iterator[tuple[str, Callable[[], Callable[[], Any]]]]:
        """Names of what is timed; and for each what makes the call."""
        yield "write 100", lambda: self._write(self.target)
        yield "  InfluxDB", lambda: self._write(self.raw)
        yield f"POST {_POSTED}", self._post

    def _write(self, driver: Any) -> Callable[[], Any]:
        self._now += 1
        points = {
            metric: measures.series(metric.id, self._now, 1)
            for metric in self.some(100)
        }
        call: Callable[[], Any] = driver.write([points])
        return call

    def read(self, number: int) -> Callable[[], Any]:
        """What reads the finest means of metrics picked at random."""
        wanted = {
            metric: metric.archive_policy.aggregations[:1]
            for metric in self.some(number)
        }
        first = numpy.datetime64(self.start, "s")
        last = first + HISTORY * measures.STEP
        return lambda: self._storage.get_aggregated_measures(
            wanted, first, last
        )

    def timed_read(self, number: int) -> tuple[float, float]:
        """Times of a read, ms: of all of it, and from when it first asks
        InfluxDB until it has the last answer.

        It is not asked again without the driver: it would find sooner what it
        has just found.
        """
        read = self.read(number)
        transport = self._storage.client._transport
        times: list[float] = []

        def send(request: Any) -> Any:
            times.append(time.perf_counter())
            try:
                return transport_send(request)
            finally:
                times.append(time.perf_counter())

        transport_send = transport.send
        with mock.patch.object(transport, "send", send):
            whole = seconds(read)
        return 1000 * whole, 1000 * (max(times) - min(times))

    def _post(self) -> Callable[[], Any]:
        self._now += 1
        return self.post(self.some_ids(_POSTED), self._now)

    def post(self, ids: list[uuid.UUID], now: int) -> Callable[[], Any]:
        """What posts a measure of each of some metrics.

        :param now: time of the measures, s.
        """
        at = str(numpy.datetime64(now, "s"))
        body = {str(id_): [{"timestamp": at, "value": 1.0}] for id_ in ids}

        def post() -> None:
            # Without its router uWSGI keeps no connection.
            with urllib3.PoolManager() as http:
                reply = http.request(
                    "POST",
                    f"{self.api}/v1/batch/metrics/measures",
                    headers={
                        **urllib3.make_headers(basic_auth="admin:"),
                        "Content-Type": "application/json",
                    },
                    body=json.dumps(body).encode(),
                )
            if reply.status != 202:
                raise RuntimeError(f"gnocchi-api answered {reply.status}")

        return post

    def get(self) -> Callable[[], None]:
        """What gets a metric's measures, through the API."""
        (id_,) = self.some_ids(1)
        url = f"{self.api}/v1/metric/{id_}/measures?start={self.start}"

        def get() -> None:
            with urllib3.PoolManager() as http:
                reply = http.request(
                    "GET",
                    url,
                    headers=urllib3.make_headers(basic_auth="admin:"),
                )
            if reply.status != 200:
                raise RuntimeError(f"gnocchi-api answered {reply.status}")

        return get

    def delete(self) -> tuple[float, float]:
        """Delete metrics, as many as go into one statement if there are.

        :return: ms a metric: as Gnocchi's janitor does it, with the indexer;
            and of one DELETE for a bucket with the same points.
        """
        number = min(deletes.METRICS_PER_DELETE, len(self.ids) // 20)
        doomed = self.some(number)
        ids = [metric.id for metric in doomed]
        bucket = self.raw.storage.buckets.name(doomed[0].archive_policy)
        client = self._storage.client
        alone = seconds(
            lambda: influxql_rows.check(
                client.influxql(bucket, influxql.delete(ids))
            )
        )
        for id_ in ids:
            self.target.indexer.delete_metric(id_)
        whole = seconds(lambda: self.target.expunge(number))
        gone = set(ids)
        self.ids = [id_ for id_ in self.ids if id_ not in gone]
        return 1000 * whole / number, 1000 * alone / number


def _until_taken(write: Callable[[], Any]) -> None:
    """Write in the end, though InfluxDB may be busy with what it has got."""
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(exceptions.UnavailableError),
        wait=tenacity.wait_fixed(5),
        stop=tenacity.stop_after_attempt(20),
    ):
        with attempt:
            write()
