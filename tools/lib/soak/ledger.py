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
"""Keeps what the API has accepted, to check it in the end."""

import dataclasses
import threading
from collections.abc import Iterable, Mapping

#: Unix time in seconds to value: one measure a second at most, so that the
#: aggregates of a second are the measures themselves.
Measures = dict[int, float]


def value_at(second: int) -> float:
    """The value of a measure follows from its metric and time.

    So a wrong one is known at sight.
    """
    return (second * 2654435761 % 1000003) / 64


@dataclasses.dataclass
class Metric:
    """One metric.

    :ivar accepted: seconds of the measures whose POST was answered with 2xx.
    :ivar unsure: seconds of those that were answered otherwise, or not at
        all: they may be there.
    """

    id: str
    accepted: set[int] = dataclasses.field(default_factory=set)
    unsure: set[int] = dataclasses.field(default_factory=set)

    def wrong(self, found: Mapping[int, float]) -> list[str]:
        """Describe what is wrong with the measures that were found."""
        lost = self.accepted - found.keys()
        invented = found.keys() - self.accepted - self.unsure
        changed = [s for s, v in found.items() if v != value_at(s)]
        return [
            f"metric {self.id}: {len(seconds)} measures {what}, the first"
            f" of second {min(seconds)}"
            for what, seconds in (
                ("lost", lost),
                ("that nobody sent", invented),
                ("with another value", changed),
            )
            if seconds
        ]


class Ledger:
    """All metrics, and what went wrong. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._metrics: dict[str, Metric] = {}
        self._deleted: set[str] = set()
        self.wrong: list[str] = []

    def created(self, metric_id: str) -> None:
        with self._lock:
            self._metrics[metric_id] = Metric(metric_id)

    def deleted(self, metric_id: str) -> None:
        with self._lock:
            del self._metrics[metric_id]
            self._deleted.add(metric_id)

    def unsure_of(self, metric_id: str) -> None:
        """Note that a metric may or may not have been deleted."""
        with self._lock:
            del self._metrics[metric_id]

    def sending(self, metrics: Iterable[str], seconds: Iterable[int]) -> None:
        with self._lock:
            for metric in metrics:
                self._metrics[metric].unsure.update(seconds)

    def accept(self, metrics: Iterable[str], seconds: Iterable[int]) -> None:
        with self._lock:
            for metric in metrics:
                self._metrics[metric].unsure.difference_update(seconds)
                self._metrics[metric].accepted.update(seconds)

    def complain(self, what: str) -> None:
        with self._lock:
            self.wrong.append(what)

    def metrics(self) -> list[Metric]:
        with self._lock:
            return list(self._metrics.values())

    def gone(self) -> set[str]:
        with self._lock:
            return set(self._deleted)

    def accepted(self) -> int:
        with self._lock:
            return sum(len(m.accepted) for m in self._metrics.values())
