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
"""Through the REST API of a real gnocchi-api."""

import datetime
import functools
import json
import time
import urllib.parse
from concurrent import futures
from typing import Any

import urllib3

from benchmarks.harness import measures, policies
from benchmarks.harness.sizes import Sizes
from benchmarks.harness.workload import LOWER, Outcome, Workload, milliseconds
from benchmarks.workloads import history

_PARALLEL = 64
_POLL_SECONDS = 0.005
_TIMEOUT = 120
_WARM_UP_THREADS = 8


class _Api:
    """A connection a request: without its router uWSGI keeps none open."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._headers = {
            **urllib3.make_headers(basic_auth="admin:"),
            "Content-Type": "application/json",
        }

    def call(self, method: str, path: str, body: Any = None) -> Any:
        with urllib3.connectionpool.connection_from_url(self._url) as pool:
            reply = pool.urlopen(
                method,
                path,
                body=None if body is None else json.dumps(body).encode(),
                headers=self._headers,
                retries=False,
            )
        if reply.status >= 300:
            raise RuntimeError(
                f"gnocchi-api answered {reply.status} to {method} {path}: "
                f"{reply.data[:500]!r}"
            )
        return json.loads(reply.data) if reply.data else None


def _api(target: Any, parallel_operations: int | None = None) -> _Api:
    url = target.api(parallel_operations)

    def make() -> _Api:
        _warm_up(target, url)
        return _Api(url)

    api: _Api = target.cached(("api", url), make)
    return api


def _warm_up(target: Any, url: str) -> None:
    """Let each process of the API write and read once.

    They connect to their servers when they are first asked to.
    """
    [metric] = target.create_metrics(
        measures.ids(f"warm-up-{url}", 1), policies.POLLED["low"]
    )

    def use(number: int) -> None:
        api = _Api(url)
        api.call(
            "POST",
            f"/v1/metric/{metric.id}/measures",
            [{"timestamp": measures.newest_time(), "value": number}],
        )
        api.call("GET", f"/v1/metric/{metric.id}/measures")

    with futures.ThreadPoolExecutor(_WARM_UP_THREADS) as executor:
        list(executor.map(use, range(8 * _WARM_UP_THREADS)))


# POST to readable ----------------------------------------------------------


class _Poster:
    """Posts a measure of each metric and asks for one of them."""

    def __init__(self, target: Any, what: str, sizes: Sizes) -> None:
        self.api = _api(target)
        self.metrics = target.create_metrics(
            measures.ids(what, sizes.posted), policies.POLLED["low"]
        )
        # One more, to start with.
        number = sizes.posts + 1
        start = measures.polled_time()
        self._points = {
            str(m.id): measures.series(m.id, start, number)
            for m in self.metrics
        }
        self._last = str(self.metrics[-1].id)

    def body(self, index: int) -> Any:
        return {
            id_: [
                {
                    "timestamp": str(points["timestamps"][index]),
                    "value": float(points["values"][index]),
                }
            ]
            for id_, points in self._points.items()
        }

    def post(self, body: Any) -> None:
        self.api.call("POST", "/v1/batch/metrics/measures", body)

    def get(self, id_: str) -> list[Any]:
        rows: list[Any] = self.api.call(
            "GET", f"/v1/metric/{id_}/measures?aggregation=mean"
        )
        return rows

    def wait(self, number: int, id_: str | None = None) -> None:
        """Wait until so many measures can be read."""
        deadline = time.monotonic() + _TIMEOUT
        while len(self.get(id_ or self._last)) < number:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"a measure can't be read after {_TIMEOUT} s"
                )
            time.sleep(_POLL_SECONDS)

    def answer(self, number: int) -> measures.Answer:
        answer: measures.Answer = {}
        for metric in self.metrics:
            self.wait(number, str(metric.id))
            answer |= measures.of_api(str(metric.id), self.get(str(metric.id)))
        return answer


def _post_to_readable(target: Any, number: int, sizes: Sizes) -> Outcome:
    poster = _Poster(target, f"post-{number}", sizes)
    samples = []
    with target.metricd():
        for index in range(sizes.posts + 1):
            body = poster.body(index)
            start = time.perf_counter()
            poster.post(body)
            poster.wait(index + 1)
            samples.append(1000 * (time.perf_counter() - start))
        answer = poster.answer(sizes.posts + 1)
    # The first one waits for metricd to start.
    return Outcome(samples[1:], answer)


def _post_and_pass(target: Any, number: int, sizes: Sizes) -> Outcome:
    poster = _Poster(target, f"pass-{number}", sizes)
    ids = [metric.id for metric in poster.metrics]
    samples = []
    for index in range(sizes.posts + 1):
        body = poster.body(index)
        start = time.perf_counter()
        poster.post(body)
        if target.name != "influxdb":
            target.process(ids)
        poster.wait(index + 1)
        samples.append(1000 * (time.perf_counter() - start))
    return Outcome(samples[1:], poster.answer(sizes.posts + 1))


# Reads ---------------------------------------------------------------------


def _query(span: history.Range, sizes: Sizes, **more: Any) -> str:
    def text(seconds_: int) -> str:
        return datetime.datetime.fromtimestamp(
            seconds_, datetime.timezone.utc
        ).strftime("%Y-%m-%dT%H:%M:%S")

    return urllib.parse.urlencode(
        {
            "start": text(history.start(span, sizes)),
            "stop": text(measures.newest_time()),
            "granularity": span.granularity,
            **more,
        }
    )


def _get(
    span: history.Range, target: Any, number: int, sizes: Sizes
) -> Outcome:
    metric = history.metrics(target, sizes)[0]
    api = _api(target)
    path = f"/v1/metric/{metric.id}/measures?" + _query(
        span, sizes, aggregation="mean"
    )

    def get() -> Any:
        return api.call("GET", path)

    answer = measures.of_api("mean", get())
    return Outcome(milliseconds(get, sizes), answer)


def _aggregates(
    span: history.Range,
    parallel_operations: int | None,
    target: Any,
    number: int,
    sizes: Sizes,
) -> Outcome:
    metrics = history.metrics(target, sizes)[: sizes.reads[1]]
    api = _api(target, parallel_operations)
    body = {
        "operations": [
            "aggregate",
            "mean",
            ["metric", *([str(metric.id), "mean"] for metric in metrics)],
        ]
    }
    path = "/v1/aggregates?" + _query(span, sizes)

    def post() -> Any:
        return api.call("POST", path, body)

    answer = measures.of_api("mean", post()["measures"]["aggregated"])
    return Outcome(milliseconds(post, sizes), answer)


WRITES = [
    Workload(
        "post-readable",
        "write",
        "POST of 50 metrics to readable: metricd as a process",
        "ms",
        LOWER,
        _post_to_readable,
    ),
    Workload(
        "post-pass",
        "write",
        "POST of 50 metrics to readable: metricd's pass at once",
        "ms",
        LOWER,
        _post_and_pass,
    ),
]
READS = [
    workload
    # The names of those of a day are older.
    for span, end in zip(history.RANGES, ("", "-month"), strict=True)
    for workload in (
        Workload(
            f"api-measures{end}",
            "read",
            f"GET measures of a metric, {span.title}",
            "ms",
            LOWER,
            functools.partial(_get, span),
        ),
        Workload(
            f"api-aggregates{end}",
            "read",
            f"POST /v1/aggregates over 50 metrics, {span.title}",
            "ms",
            LOWER,
            functools.partial(_aggregates, span, None),
        ),
        Workload(
            f"api-aggregates{end}-{_PARALLEL}",
            "read",
            f"the same with parallel_operations = {_PARALLEL}",
            "ms",
            LOWER,
            functools.partial(_aggregates, span, _PARALLEL),
        ),
    )
]
