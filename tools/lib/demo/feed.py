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
"""Sends measures of this host through the HTTP API."""

import collections
import datetime
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from demo import check, host, processes

#: Metric name to (Unix time in ns, value) of each measure.
Sent: TypeAlias = "dict[str, list[tuple[int, float]]]"

_PROBE_METER = host.METERS[0].name


class Feed:
    """Sends one measure a second for each meter of the host.

    :param client: gnocchiclient's.
    :ivar sent: what the API accepted.
    :ivar latencies: seconds from a POST until a GET showed its measures.
    """

    def __init__(self, client: Any, resource: str) -> None:
        self.sent: Sent = collections.defaultdict(list)
        self.latencies: list[float] = []
        self._client = client
        self._resource = resource
        # The Unix time in ns of a measure that is looked for, and when it
        # was posted.
        self._probe: tuple[int, float] | None = None

    def create(self, policy: str, granularity: int) -> None:
        """Create the archive policy and the resource with its metrics.

        :param granularity: seconds, beside the one of a second.
        """
        self._client.archive_policy.create(
            {
                "name": policy,
                "back_window": 0,
                "aggregation_methods": list(check.METHODS),
                "definition": [
                    {"granularity": "1s", "timespan": "1h"},
                    {"granularity": f"{granularity}s", "timespan": "1d"},
                ],
            }
        )
        self._client.resource.create(
            "generic",
            {
                "id": self._resource,
                "metrics": {
                    meter.name: {
                        "archive_policy_name": policy,
                        "unit": meter.unit,
                    }
                    for meter in host.METERS
                },
            },
        )

    def run(
        self,
        seconds: int | None,
        progress: Callable[[dict[str, float]], None],
        watch: Callable[[], None],
    ) -> None:
        """Send for some seconds, or until a signal comes.

        :param progress: called with the values after each second.
        :param watch: called each second; raises if something has failed.
        """
        host.prime()
        tick = time.monotonic()
        done = 0
        while seconds is None or done < seconds:
            tick += 1
            self._look_until(tick)
            watch()
            values = host.measure()
            self._post(values)
            progress(values)
            done += 1
            # A machine that was asleep does not catch up.
            tick = max(tick, time.monotonic() - 1)

    def wait_until_readable(
        self, timeout: float, watch: Callable[[], None]
    ) -> dict[str, int]:
        """Wait until Gnocchi counts as many measures as were sent.

        :return: how many it counts of each metric.
        :raises DemoError: it did not in time.
        """
        wanted = {name: len(points) for name, points in self.sent.items()}
        deadline = time.monotonic() + timeout
        while True:
            watch()
            counted = {name: self._count(name) for name in wanted}
            if counted == wanted:
                return counted
            if time.monotonic() > deadline:
                raise processes.DemoError(
                    f"Of {sum(wanted.values())} measures that the API "
                    f"accepted only {sum(counted.values())} can be read "
                    f"after {timeout:.0f} s."
                )
            time.sleep(0.2)

    def read(
        self, methods: Iterable[str], granularity: int
    ) -> dict[str, dict[str, dict[int, float]]]:
        """Aggregates of all metrics, in one request.

        :return: metric name to method to window to value; a window is the
            Unix time in seconds that it starts at.
        """
        references = [
            [meter.name, method] for meter in host.METERS for method in methods
        ]
        answer = self._client.aggregates.fetch(
            ["metric", *references],
            search={"=": {"id": self._resource_id()}},
            granularity=granularity,
        )
        (metrics,) = answer["measures"].values()
        return {
            name: {
                method: {
                    int(when.timestamp()): value for when, _, value in rows
                }
                for method, rows in answers.items()
            }
            for name, answers in metrics.items()
        }

    def _resource_id(self) -> str:
        """The UUID that Gnocchi made of the name."""
        found = self._client.resource.get("generic", self._resource)
        return str(found["id"])

    def _post(self, values: dict[str, float]) -> None:
        # Gnocchi reads a number of seconds as a float, and loses digits.
        now = time.time_ns() // 1000 * 1000
        moment = datetime.datetime.fromtimestamp(
            now // 10**9, datetime.timezone.utc
        ).replace(microsecond=now // 1000 % 10**6, tzinfo=None)
        measures = {
            name: [{"timestamp": moment.isoformat(), "value": value}]
            for name, value in values.items()
        }
        posted = time.monotonic()
        self._client.metric.batch_resources_metrics_measures(
            {self._resource: measures}
        )
        for name, value in values.items():
            self.sent[name].append((now, value))
        if self._probe is None:
            self._probe = (now, posted)

    def _look_until(self, tick: float) -> None:
        while self._probe is not None and time.monotonic() < tick:
            timestamp, posted = self._probe
            if self._count(_PROBE_METER, timestamp) >= 1:
                self.latencies.append(time.monotonic() - posted)
                self._probe = None
            else:
                time.sleep(0.02)
        time.sleep(max(0, tick - time.monotonic()))

    def _count(self, name: str, start: int | None = None) -> int:
        """Number of measures that Gnocchi has, from a time (ns) on."""
        counts = self._client.metric.get_measures(
            name,
            start=start and start // 10**9,
            aggregation="count",
            granularity=1,
            resource_id=self._resource,
        )
        return int(sum(value for _, _, value in counts))
