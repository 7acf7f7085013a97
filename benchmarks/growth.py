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
"""What a call costs beside ever more metrics.

One InfluxDB and one PostgreSQL get 1,000, 10,000, 100,000 metrics and more,
each with 12 measures and a name in the indexer. At each size the same is
asked for, through our driver, through gnocchi-api, and of InfluxDB itself by
plain requests, which shows whose growth it is::

    PYTHONPATH=tools/lib python -m benchmarks.growth [--most 1000000]
"""

import argparse
import contextlib
import dataclasses
import json
import statistics
import sys
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import psutil
import urllib3

from benchmarks.harness import machine, measures, policies, runner
from benchmarks.harness.raw import AT_ONCE
from benchmarks.harness.workload import seconds
from gnocchi_influxdb.maintenance import deletes
from gnocchi_influxdb.wire import influxql, influxql_rows

_SIZES = (1000, 10000, 100000, 1000000)
_HISTORY = 12
# Metrics that are made at once.
_AT_ONCE = 5000
_POSTED = 50
_READ = 100
_REPEATS = 20


@dataclasses.dataclass
class _Installation:
    """A Gnocchi that grows.

    :ivar target: with our driver.
    :ivar raw: plain requests.
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
        self._http = urllib3.PoolManager(headers={"Connection": "keep-alive"})
        self._storage = self.target.storage
        self._random = numpy.random.default_rng(1)

    def grow(self, number: int) -> None:
        """Make metrics until there are so many."""
        while len(self.metrics) < number:
            count = min(_AT_ONCE, number - len(self.metrics))
            made = self.target.create_metrics(
                [uuid.uuid4() for _ in range(count)], self.policy
            )
            start = measures.newest_time() - _HISTORY * measures.STEP
            points = {
                metric: measures.series(metric.id, start, _HISTORY)
                for metric in made
            }
            for driver in self.target, self.raw:
                driver.write([points])()
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
            yield f"read {number}", lambda n=number: self._read(n)
            yield "  InfluxDB", lambda n=number: self._select(n)
        yield f"POST {_POSTED}", self._post

    def _write(self, driver: Any) -> Callable[[], Any]:
        self.now += measures.STEP
        points = {
            metric: measures.series(metric.id, self.now, 1)
            for metric in self.some(100)
        }
        call: Callable[[], Any] = driver.write([points])
        return call

    def _read(self, number: int) -> Callable[[], Any]:
        wanted = {
            metric: metric.archive_policy.aggregations[:1]
            for metric in self.some(number)
        }
        start = measures.newest_time() - _HISTORY * measures.STEP
        first = numpy.datetime64(start, "s")
        last = numpy.datetime64(measures.newest_time(), "s")
        return lambda: self._storage.get_aggregated_measures(
            wanted, first, last
        )

    def _select(self, number: int) -> Callable[[], Any]:
        start = measures.newest_time() - _HISTORY * measures.STEP
        text = ";".join(
            f"SELECT value FROM measure WHERE metric = '{metric.id}'"
            f" AND time >= {start}s AND time < {measures.newest_time()}s"
            for metric in self.some(number)
        )
        return lambda: self._ask(text)

    def _ask(self, text: str) -> None:
        conf = self.target.conf.storage
        bucket = self._storage.buckets.name(self.metrics[0].archive_policy)
        reply = self._http.request(
            "POST",
            f"{conf.influxdb_url}/query",
            headers={
                "Authorization": f"Token {conf.influxdb_token}",
                "Accept": "application/x-msgpack",
                "Content-Type": "application/x-www-form-urlencoded",
            },
            body=urllib.parse.urlencode({"db": bucket, "q": text}),
        )
        if reply.status != 200:
            raise RuntimeError(f"InfluxDB answered {reply.status}")

    def _post(self) -> Callable[[], Any]:
        self.now += measures.STEP
        at = str(numpy.datetime64(self.now, "s"))
        body = {
            str(metric.id): [{"timestamp": at, "value": 1.0}]
            for metric in self.some(_POSTED)
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


def _row(name: str, cells: list[str]) -> None:
    print(f"{name:14}" + "".join(f"{cell:>12}" for cell in cells), flush=True)


def _measure(
    one: _Installation, rounds: int, processes: dict[str, Any]
) -> dict[str, float]:
    """Medians, ms, and memory, MiB, by what was measured."""
    samples: dict[str, list[float]] = {}
    for _ in range(rounds):
        for number, (name, make) in enumerate(one.steps()):
            calls = [make() for _ in range(_REPEATS)]
            took = [1000 * seconds(call) for call in calls]
            # The name alone is not of one row.
            key = f"{number} {name}"
            samples.setdefault(key, []).append(statistics.median(took))
        for key, took in zip(
            ("7 delete 1", "8   InfluxDB"), one.delete(), strict=True
        ):
            samples.setdefault(key, []).append(took)
    found = {key: statistics.median(values) for key, values in samples.items()}
    for name, process in processes.items():
        found[f"9 MiB {name}"] = machine.memory(process)
    return found


def main() -> None:
    """Print a table, a column a size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=100000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--policy", choices=[*policies.POLLED], default="low")
    arguments = parser.parse_args()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    columns = []
    with contextlib.ExitStack() as exits:
        taking = exits.enter_context(
            runner.field(["influxdb"], [AT_ONCE], None, say)
        )
        target = taking.targets["influxdb"]
        metricd = target.start_metricd()
        api = target.api()
        one = _Installation(
            target,
            taking.targets[AT_ONCE],
            api,
            policies.POLLED[arguments.policy],
            [],
            measures.polled_time(),
        )
        processes = {
            "influxd": machine.listeners(target.conf.storage.influxdb_url),
            "api": machine.listeners(api),
            "metricd": [psutil.Process(metricd)],
        }
        for size in _SIZES:
            if size > arguments.most:
                break
            began = time.monotonic()
            one.grow(size)
            say(f"{size:,} metrics after {time.monotonic() - began:.0f} s")
            columns.append((size, _measure(one, arguments.rounds, processes)))
            say(json.dumps(columns[-1]))
    _row("metrics", [f"{size:,}" for size, _found in columns])
    for key in columns[0][1]:
        cells = [found[key] for _size, found in columns]
        _row(key[2:], [f"{cell:.2f}" for cell in cells])


if __name__ == "__main__":
    main()
