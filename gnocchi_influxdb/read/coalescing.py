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
"""Calls that wait for the same thing are answered together.

Gnocchi reads many metrics with one call a metric, from as many threads as
`parallel_operations` says, and InfluxDB answers a hundred metrics in one query
far sooner than in a hundred. So when a question is under way often enough,
the calls that come with the same one wait, and the next to leave takes them
with it. A call that comes alone, or with a question of its own, leaves at
once.
"""

import threading
import uuid
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)

#: What was found, by metric; metrics without anything are not in it.
Rows = dict[uuid.UUID, Any]


class _Call(Generic[_Key]):
    """A call that waits."""

    def __init__(self, key: _Key, ids: Sequence[uuid.UUID]) -> None:
        self.key = key
        self.ids = ids
        self.wake = threading.Event()
        # With the calls to answer when it is this one's turn to ask.
        self.batch: list[_Call[_Key]] = []
        self.rows: Rows = {}
        self.error: BaseException | None = None


class Loader(Generic[_Key]):
    """Puts questions together.

    :param ask: answers a question for some metrics. It may be called by
        several threads at once, and is called with no lock held.
    :param largest: metrics in one question, at most.
    :param at_once: how often a question is under way before others with the
        same one have to wait.
    """

    def __init__(
        self,
        ask: Callable[[_Key, Sequence[uuid.UUID]], Rows],
        largest: int,
        at_once: int,
    ) -> None:
        self._ask = ask
        self._largest = largest
        self._at_once = at_once
        self._lock = threading.Lock()
        self._under_way: dict[_Key, int] = {}
        self._waiting: dict[_Key, list[_Call[_Key]]] = {}

    def load(self, key: _Key, ids: Sequence[uuid.UUID]) -> Rows:
        """Answer one question for some metrics, `largest` at most.

        :raises Exception: whatever `ask` raises, to all whom it was to
            answer.
        """
        call = _Call(key, ids)
        with self._lock:
            under_way = self._under_way.get(key, 0)
            leaves = under_way < self._at_once
            if leaves:
                self._under_way[key] = under_way + 1
                call.batch = [call]
            else:
                self._waiting.setdefault(key, []).append(call)
        if not leaves:
            call.wake.wait()
        if call.batch:
            self._answer(call.batch)
        if call.error is not None:
            raise call.error
        return call.rows

    def _answer(self, batch: Sequence[_Call[_Key]]) -> None:
        leader = batch[0]
        try:
            ids = dict.fromkeys(id_ for call in batch for id_ in call.ids)
            rows = self._ask(leader.key, list(ids))
            for call in batch:
                call.rows = {i: rows[i] for i in call.ids if i in rows}
        except BaseException as e:
            for call in batch:
                call.error = e
        finally:
            self._pass_on(leader.key)
            for call in batch[1:]:
                call.wake.set()

    def _pass_on(self, key: _Key) -> None:
        """Let the next one leave, and take with it all that fit."""
        with self._lock:
            waiting = self._waiting.pop(key, None)
            if not waiting:
                self._under_way[key] -= 1
                if not self._under_way[key]:
                    del self._under_way[key]
                return
            batch: list[_Call[_Key]] = []
            others: list[_Call[_Key]] = []
            room = self._largest
            for call in waiting:
                if not batch or len(call.ids) <= room:
                    room -= len(call.ids)
                    batch.append(call)
                else:
                    others.append(call)
            if others:
                self._waiting[key] = others
            leader = batch[0]
            leader.batch = batch
        leader.wake.set()
