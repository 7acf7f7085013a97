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
from types import TracebackType
from typing import Any

#: Rows of an answer by metric. A metric without any is absent.
Rows = dict[uuid.UUID, Any]


class Coalescer:
    """Brings calls with the same question together. Threads share it.

    :param largest: metrics in one question, at most; given the question.
    :param at_once: how often a question is under way before others with the
        same one have to wait.
    """

    def __init__(self, largest: Callable[[Any], int], at_once: int) -> None:
        self._largest = largest
        self._at_once = at_once
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, int] = {}
        self._waiting: dict[Hashable, list[Turn]] = {}

    def join(self, key: Hashable, ids: Sequence[uuid.UUID]) -> "Turn":
        """Take a turn to ask one question about some metrics.

        :param key: the question.
        :param ids: the metrics, no more than `largest`.
        """
        return Turn(self, key, ids)

    def _leave(self, turn: "Turn") -> bool:
        """Whether a turn leads at once; else it waits from now on."""
        with self._lock:
            under_way = self._under_way.get(turn.key, 0)
            if under_way < self._at_once:
                self._under_way[turn.key] = under_way + 1
                return True
            self._waiting.setdefault(turn.key, []).append(turn)
            return False

    def _pass_on(self, key: Hashable) -> None:
        """Let the next one lead, and take with it all that fit."""
        with self._lock:
            waiting = self._waiting.pop(key, None)
            if not waiting:
                self._under_way[key] -= 1
                if not self._under_way[key]:
                    del self._under_way[key]
                return
            batch: list[Turn] = []
            others: list[Turn] = []
            room = self._largest(key)
            for turn in waiting:
                if not batch or len(turn.ids) <= room:
                    room -= len(turn.ids)
                    batch.append(turn)
                else:
                    others.append(turn)
            if others:
                self._waiting[key] = others
            leader = batch[0]
            leader.batch = batch
        leader.wake.set()


class Turn:
    """One call that asks a question, of one thread::

        with coalescer.join(key, ids) as turn:
            if turn.leads:
                turn.answer(ask(key, turn.all_ids))
        return turn.rows

    It is entered when it is its turn to ask, for itself and for others, or
    when another one has asked for it. What the leader raises inside of the
    block is raised by all whom it leads, in the others as they enter.

    :ivar rows: the answer for the call's own metrics.
    """

    def __init__(
        self, coalescer: Coalescer, key: Hashable, ids: Sequence[uuid.UUID]
    ) -> None:
        self.key = key
        self.ids = ids
        self.wake = threading.Event()
        # The turns to answer when this one leads.
        self.batch: list[Turn] = []
        self.rows: Rows = {}
        self._coalescer = coalescer
        self._error: BaseException | None = None

    @property
    def leads(self) -> bool:
        """Whether it is for this call to ask."""
        return bool(self.batch)

    @property
    def all_ids(self) -> list[uuid.UUID]:
        """The metrics of all turns that this one leads, each once."""
        return list(dict.fromkeys(i for turn in self.batch for i in turn.ids))

    def answer(self, rows: Rows) -> None:
        """Hand out the answer for `all_ids`."""
        for turn in self.batch:
            turn.rows = {i: rows[i] for i in turn.ids if i in rows}

    def __enter__(self) -> "Turn":
        if self._coalescer._leave(self):
            self.batch = [self]
        else:
            self.wake.wait()
        if self._error is not None:
            raise self._error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.leads:
            self._coalescer._pass_on(self.key)
            for turn in self.batch[1:]:
                turn._error = error
                turn.wake.set()
