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
"""Clients of the API."""

import abc
import collections
import datetime
import itertools
import random
import threading
import time
from collections.abc import Iterable
from typing import Any

import requests

from soak.ledger import Ledger, Measures, value_at

POLICY = "soak"
METHODS = ("last", "count", "mean", "95pct", "rate:mean")

#: How far back the first measures are dated: time runs faster for the
#: clients, or there would be few measures.
HISTORY = 47 * 3600

_SECONDS_PER_POST = 5
_PAUSE = 0.05


class API:
    """Gnocchi's HTTP API; counts what it answers.

    :ivar statuses: by request, how often each status came; 0: no answer.
    :ivar slowest: seconds, by request.
    :ivar late: requests that took longer than `patience` s.
    """

    def __init__(self, url: str, patience: float) -> None:
        self._url = url
        self._patience = patience
        self._lock = threading.Lock()
        self._local = threading.local()
        self.statuses: dict[str, collections.Counter[int]] = {}
        self.slowest: dict[str, float] = {}
        self.late = 0

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """A requests.Response, None without an answer."""
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.auth = ("admin", "")
            self._local.session.trust_env = False
        started = time.monotonic()
        try:
            answer = self._local.session.request(
                method, f"{self._url}/v1/{path}", timeout=120, **more
            )
        except requests.RequestException:
            answer = None
        self._count(method, answer, time.monotonic() - started)
        return answer

    def _count(self, method: str, answer: Any, took: float) -> None:
        status = 0 if answer is None else answer.status_code
        with self._lock:
            self.statuses.setdefault(method, collections.Counter())[
                status
            ] += 1
            self.slowest[method] = max(self.slowest.get(method, 0), took)
            self.late += took > self._patience

    def create(self) -> str | None:
        answer = self.ask(
            "POST", "metric", json={"archive_policy_name": POLICY}
        )
        return str(answer.json()["id"]) if _is_success(answer) else None

    def post(self, metrics: Iterable[str], seconds: Iterable[int]) -> bool:
        measures = [
            {"timestamp": _spelled(s), "value": value_at(s)} for s in seconds
        ]
        return _is_success(
            self.ask(
                "POST",
                "batch/metrics/measures",
                json=dict.fromkeys(metrics, measures),
            )
        )

    def measures(
        self, metric: str, aggregation: str, **query: Any
    ) -> Measures | None:
        """None: no answer."""
        answer = self.ask(
            "GET",
            f"metric/{metric}/measures",
            params={
                "aggregation": aggregation,
                "granularity": 1,
                **query,
            },
        )
        if not _is_success(answer):
            return None
        return {
            int(datetime.datetime.fromisoformat(when).timestamp()): value
            for when, _, value in answer.json()
        }


def _is_success(answer: Any) -> bool:
    return answer is not None and 200 <= answer.status_code < 300


def _spelled(second: int) -> str:
    return (
        datetime.datetime.fromtimestamp(second, datetime.timezone.utc)
        .replace(tzinfo=None)
        .isoformat()
    )


class Client(threading.Thread, abc.ABC):
    """Does something again and again until it is stopped."""

    def __init__(self, api: API, ledger: Ledger) -> None:
        super().__init__(daemon=True)
        self._api = api
        self._ledger = ledger
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        try:
            while not self._stopped.wait(_PAUSE):
                self._act()
        except Exception as error:
            self._ledger.complain(f"{type(self).__name__}: {error!r}")

    @abc.abstractmethod
    def _act(self) -> None:
        """Send the next request."""


class Poster(Client):
    """Posts measures of its own metrics."""

    def __init__(self, api: API, ledger: Ledger, metrics: list[str]) -> None:
        super().__init__(api, ledger)
        self._metrics = metrics
        self._next = int(time.time()) - HISTORY

    def _act(self) -> None:
        if self._next >= time.time() - 60:
            return
        seconds = range(self._next, self._next + _SECONDS_PER_POST)
        self._next = seconds.stop
        self._ledger.sending(self._metrics, seconds)
        if self._api.post(self._metrics, seconds):
            self._ledger.accept(self._metrics, seconds)


class Reader(Client):
    """Reads, and checks each value."""

    def _act(self) -> None:
        metrics = self._ledger.metrics()
        if not metrics:
            return
        metric = random.choice(metrics)
        method = random.choice(METHODS)
        stop = time.time() - random.uniform(0, HISTORY)
        found = self._api.measures(
            metric.id, method, start=stop - 3600, stop=stop
        )
        if found and method in ("last", "mean", "95pct"):
            for second, value in found.items():
                if value != value_at(second):
                    self._ledger.complain(
                        f"a read of {method} of {metric.id} at {second}"
                        f" answered {value}"
                    )


class Changer(Client):
    """Creates metrics with a few measures, and deletes the older ones."""

    def __init__(self, api: API, ledger: Ledger) -> None:
        super().__init__(api, ledger)
        self._metrics: collections.deque[str] = collections.deque()
        self._seconds = itertools.count(int(time.time()) - HISTORY)

    def _act(self) -> None:
        metric = self._api.create()
        if metric is not None:
            self._ledger.created(metric)
            seconds = list(itertools.islice(self._seconds, 3))
            self._ledger.sending([metric], seconds)
            if self._api.post([metric], seconds):
                self._ledger.accept([metric], seconds)
            self._metrics.append(metric)
        if len(self._metrics) > 20:
            self._remove(self._metrics.popleft())

    def _remove(self, metric: str) -> None:
        answer = self._api.ask("DELETE", f"metric/{metric}")
        if not _is_success(answer):
            self._ledger.unsure_of(metric)
            return
        self._ledger.deleted(metric)
        answer = self._api.ask("GET", f"metric/{metric}/measures")
        if answer is not None and answer.status_code == 200:
            self._ledger.complain(f"deleted metric {metric} is answered")
