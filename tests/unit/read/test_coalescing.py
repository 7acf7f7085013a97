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

import threading
import uuid

import pytest

from gnocchi_influxdb.read import coalescing

IDS = [uuid.UUID(int=i) for i in range(200)]


class Server:
    """Answers when it is told to, and remembers what it was asked."""

    def __init__(self):
        self.asked = []
        self.gates = {}
        self.lock = threading.Lock()
        self.arrived = threading.Semaphore(0)

    def hold(self, key):
        gate = self.gates[key] = threading.Event()
        return gate

    def __call__(self, key, ids):
        with self.lock:
            self.asked.append((key, list(ids)))
        self.arrived.release()
        if key in self.gates:
            assert self.gates[key].wait(30)
        if key == "bad":
            raise ValueError(key)
        return {i: (key, i) for i in ids if i != IDS[13]}


class Loader(coalescing.Coalescer):
    """Asks a server whenever it is a call's turn."""

    def __init__(self, a_server, largest, at_once):
        super().__init__(lambda key: largest, at_once)
        self.server = a_server

    def load(self, key, ids):
        with self.join(key, ids) as turn:
            if turn.leads:
                turn.answer(self.server(key, turn.all_ids))
        return turn.rows


class Caller(threading.Thread):
    def __init__(self, a_loader, key, ids):
        super().__init__()
        self.loader, self.key, self.ids = a_loader, key, ids
        self.rows = self.error = None
        self.start()

    def run(self):
        try:
            self.rows = self.loader.load(self.key, self.ids)
        except BaseException as e:
            self.error = e

    def result(self):
        self.join(30)
        assert not self.is_alive()
        return self.rows


def wait_until(condition):
    """For threads that are on their way into a wait."""
    pause = threading.Event()
    for _ in range(3000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("never came true")


def waiting(a_loader):
    return sum(map(len, a_loader._waiting.values()))


@pytest.fixture
def server():
    return Server()


def test_a_lone_call_leaves_at_once(server):
    one = Loader(server, 100, 1)
    assert one.load("k", IDS[:2]) == {i: ("k", i) for i in IDS[:2]}
    assert one.load("k", IDS[12:14]) == {IDS[12]: ("k", IDS[12])}
    assert server.asked == [("k", IDS[:2]), ("k", IDS[12:14])]


def test_those_that_wait_are_answered_together(server):
    one = Loader(server, 100, 2)
    gate = server.hold("first")
    first = [Caller(one, "first", [i]) for i in IDS[:2]]
    for _ in first:
        server.arrived.acquire(timeout=30)
    others = [Caller(one, "first", [i]) for i in IDS[2:40]]
    wait_until(lambda: waiting(one) == 38)
    gate.set()
    for caller in [*first, *others]:
        assert caller.result() == {
            i: (caller.key, i) for i in caller.ids if i != IDS[13]
        }
    # Two at first, then the 38 others.
    assert len(server.asked) == 3
    assert sorted(server.asked[2][1]) == IDS[2:40]
    # All places are free again.
    assert not one._under_way


def test_a_question_never_gets_too_large(server):
    one = Loader(server, 10, 1)
    gate = server.hold("first")
    first = Caller(one, "first", IDS[:1])
    server.arrived.acquire(timeout=30)
    callers = [
        Caller(one, "first", IDS[start : start + 4])
        for start in range(20, 60, 4)
    ]
    wait_until(lambda: waiting(one) == len(callers))
    gate.set()
    for caller in callers:
        assert caller.result() == {i: ("first", i) for i in caller.ids}
    first.result()
    assert all(len(ids) <= 10 for _, ids in server.asked)
    assert len(server.asked) == 1 + 5


def test_one_metric_wanted_by_several_is_asked_for_once(server):
    one = Loader(server, 10, 1)
    gate = server.hold("first")
    first = Caller(one, "first", IDS[:1])
    server.arrived.acquire(timeout=30)
    callers = [Caller(one, "first", [IDS[5]]) for _ in range(5)]
    wait_until(lambda: waiting(one) == 5)
    gate.set()
    for caller in callers:
        assert caller.result() == {IDS[5]: ("first", IDS[5])}
    first.result()
    assert server.asked[1:] == [("first", [IDS[5]])]


def test_another_question_does_not_wait(server):
    one = Loader(server, 100, 1)
    gate = server.hold("slow")
    slow = Caller(one, "slow", IDS[:1])
    server.arrived.acquire(timeout=30)
    assert one.load("quick", IDS[:1]) == {IDS[0]: ("quick", IDS[0])}
    gate.set()
    slow.result()


def test_an_error_reaches_those_it_concerns(server):
    one = Loader(server, 3, 1)
    gate = server.hold("bad")
    first = Caller(one, "bad", IDS[:1])
    server.arrived.acquire(timeout=30)
    bad = [Caller(one, "bad", [i]) for i in IDS[:5]]
    wait_until(lambda: waiting(one) == 5)
    assert one.load("good", IDS[:2]) == {i: ("good", i) for i in IDS[:2]}
    gate.set()
    for caller in [first, *bad]:
        assert caller.result() is None
        assert isinstance(caller.error, ValueError)
    # And it leaves nothing behind.
    assert not one._under_way
    del server.gates["bad"]
    with pytest.raises(ValueError, match="bad"):
        one.load("bad", IDS[:1])
    assert one.load("k", IDS[:1]) == {IDS[0]: ("k", IDS[0])}


def test_an_interrupt_of_the_leader_reaches_all(server):
    """Whoever waits for it would wait for ever."""
    one = Loader(server, 100, 1)
    gate = server.hold("first")
    first = Caller(one, "first", IDS[:1])
    server.arrived.acquire(timeout=30)
    others = [Caller(one, "first", [i]) for i in IDS[1:4]]
    wait_until(lambda: waiting(one) == 3)
    one.server = interrupted
    gate.set()
    for caller in others:
        assert caller.result() is None
        assert isinstance(caller.error, KeyboardInterrupt)
    assert first.result() == {IDS[0]: ("first", IDS[0])}
    assert not one._under_way


def interrupted(key, ids):
    raise KeyboardInterrupt


def test_many_threads(server):
    one = Loader(server, 7, 3)
    callers = [
        Caller(one, f"key{n % 3}", [IDS[14 + n % 50]]) for n in range(300)
    ]
    for caller in callers:
        assert caller.result() == {i: (caller.key, i) for i in caller.ids}
    assert not one._under_way
    assert not one._waiting
