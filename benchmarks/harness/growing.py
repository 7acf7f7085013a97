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
import functools
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import tenacity
import urllib3

from benchmarks.harness import measures
from benchmarks.harness.workload import seconds
from gnocchi_influxdb import exceptions
from gnocchi_influxdb.maintenance import deletes
from gnocchi_influxdb.wire import influxql, influxql_rows

#: Measures that each metric begins with.
HISTORY = 12
# Metrics that are made at once.
_AT_ONCE = 5000
_POSTED = 50
_READ = 100


@dataclasses.dataclass
class Installation:
    """A Gnocchi that grows.

    :ivar target: with our driver.
    :ivar raw: plain requests, None: there are none.
    :ivar api: URL of gnocchi-api.
    :ivar metrics: those that there are.
    :ivar now: time of the next measures, s.
    """

    target: Any
    raw: Any
    api: str
    policy: str
    metrics: list[Any]
    now: int

    def __post_init__(self) -> None:
        self._http = urllib3.PoolManager(
            maxsize=8, headers={"Connection": "keep-alive"}
        )
        self._storage = self.target.storage
        self._random = numpy.random.default_rng(1)

    def grow(self, number: int, start: int | None = None) -> None:
        """Make metrics until there are so many.

        :param start: time of their first measures, s; None: the newest end at
            the time that all benchmarks' history ends at.
        """
        if start is None:
            start = _first_time()
        while len(self.metrics) < number:
            count = min(_AT_ONCE, number - len(self.metrics))
            made = self.target.create_metrics(
                [uuid.uuid4() for _ in range(count)], self.policy
            )
            points = {
                metric: measures.series(metric.id, start, HISTORY)
                for metric in made
            }
            for driver in filter(None, (self.target, self.raw)):
                _until_taken(driver.write([points]))
            self.metrics += made

    def some(self, number: int) -> list[Any]:
        """Metrics picked at random, in random order."""
        picked = self._random.choice(len(self.metrics), number, replace=False)
        return [self.metrics[i] for i in picked.tolist()]

    def steps(self) -> Iterator[tuple[str, Callable[[], Callable[[], Any]]]]:
        """Names of what is timed; and for each what makes the call."""
        yield "write 100", lambda: self._write(self.target)
        yield "  InfluxDB", lambda: self._write(self.raw)
        for number in 1, _READ:
            yield f"read {number}", functools.partial(self.read, number)
            yield "  InfluxDB", functools.partial(self._ask, number)
        yield f"POST {_POSTED}", self._post

    def _write(self, driver: Any) -> Callable[[], Any]:
        self.now += measures.STEP
        points = {
            metric: measures.series(metric.id, self.now, 1)
            for metric in self.some(100)
        }
        call: Callable[[], Any] = driver.write([points])
        return call

    def read(self, number: int, start: int | None = None) -> Callable[[], Any]:
        """What reads the finest means of metrics picked at random.

        :param start: time of their first measures, s; None: as for `grow`.
        """
        wanted = {
            metric: metric.archive_policy.aggregations[:1]
            for metric in self.some(number)
        }
        first = numpy.datetime64(start or _first_time(), "s")
        last = first + HISTORY * measures.STEP
        return lambda: self._storage.get_aggregated_measures(
            wanted, first, last
        )

    def _ask(self, number: int) -> Callable[[], Any]:
        """What asks InfluxDB what the driver asks it in a read."""
        asks: Callable[[], Any] = self.raw.reads(self.read(number))
        return asks

    def _post(self) -> Callable[[], Any]:
        self.now += measures.STEP
        return self.post(self.some(_POSTED), self.now)

    def post(self, metrics: list[Any], now: int) -> Callable[[], Any]:
        """What posts a measure of each of some metrics.

        :param now: time of the measures, s.
        """
        at = str(numpy.datetime64(now, "s"))
        body = {
            str(metric.id): [{"timestamp": at, "value": 1.0}]
            for metric in metrics
        }

        def post() -> None:
            reply = self._http.request(
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

    def get(self, start: int) -> Callable[[], None]:
        """What gets a metric's measures since a time (s), through the API."""
        (metric,) = self.some(1)
        url = f"{self.api}/v1/metric/{metric.id}/measures?start={start}"

        def get() -> None:
            reply = self._http.request(
                "GET", url, headers=urllib3.make_headers(basic_auth="admin:")
            )
            if reply.status != 200:
                raise RuntimeError(f"gnocchi-api answered {reply.status}")

        return get

    def delete(self) -> tuple[float, float]:
        """Delete metrics, as many as go into one statement if there are.

        :return: ms a metric: as Gnocchi's janitor does it, with the indexer;
            and of one DELETE for a bucket with the same points.
        """
        number = min(deletes.METRICS_PER_DELETE, len(self.metrics) // 20)
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
        self.metrics = [m for m in self.metrics if m.id not in gone]
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


def _first_time() -> int:
    """When the history begins, s."""
    return measures.newest_time() - HISTORY * measures.STEP
