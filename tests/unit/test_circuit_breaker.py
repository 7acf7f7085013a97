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
"""Not asking a server that is known to be away."""

import logging
import threading

import pytest

from gnocchi_influxdb import circuit_breaker, exceptions, outages
from tests.support.clock import Clock

ERROR = exceptions.UnavailableError("away")


def an_outage():
    return outages.Outage("Nothing goes", "All goes again")


class Server:
    """What is asked; `up` is what it is, `asked` how often."""

    def __init__(self):
        self.up = True
        self.asked = 0

    def probe(self):
        self.asked += 1
        if not self.up:
            raise ERROR


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(circuit_breaker, "time", made)
    monkeypatch.setattr(outages, "time", made)
    return made


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def a_breaker(server, clock):
    return circuit_breaker.Breaker(
        an_outage(), 60.0, server.probe, shortest=1.0, longest=8.0
    )


def test_allows_as_long_as_all_is_well(a_breaker, server):
    assert all(a_breaker.allows() for _ in range(10))
    a_breaker.succeeded()
    assert server.asked == 0


def test_does_not_ask_for_a_while(a_breaker, server, clock):
    server.up = False
    a_breaker.failed(ERROR)
    clock.now += 0.49
    assert not a_breaker.allows()
    assert server.asked == 0
    clock.now += 0.52
    assert not a_breaker.allows()
    assert server.asked == 1
    # And then for longer.
    clock.now += 0.9
    assert not a_breaker.allows()
    assert server.asked == 1


def test_pauses_grow_up_to_a_limit(a_breaker, server, clock):
    server.up = False
    a_breaker.failed(ERROR)
    pauses = []
    for _ in range(12):
        start = clock.now
        asked = server.asked
        while server.asked == asked:
            clock.now += 0.01
            assert not a_breaker.allows()
        pauses.append(clock.now - start)
    for pause, longest in zip(pauses, [1, 2, 4, *[8] * 9], strict=True):
        assert longest / 2 - 0.02 <= pause <= longest + 0.02
    # Not all processes at the same moment.
    assert len({round(pause, 2) for pause in pauses[3:]}) > 1


def test_comes_back(a_breaker, server, clock, caplog):
    caplog.set_level(logging.DEBUG, outages.LOG.name)
    a_breaker.failed(ERROR)
    a_breaker.failed(ERROR)
    clock.now += 3
    assert a_breaker.allows()
    assert server.asked == 1
    # Until the write has succeeded, nobody else tries.
    assert not a_breaker.allows()
    assert server.asked == 1
    a_breaker.succeeded()
    assert a_breaker.allows()
    assert server.asked == 1
    a_breaker.succeeded()
    assert [record.levelname for record in caplog.records] == [
        "ERROR",
        "WARNING",
    ]
    assert caplog.messages == [
        "Nothing goes: away",
        "All goes again (after 3 s, 2 failed tries)",
    ]


def test_who_tries_and_fails(a_breaker, clock):
    """A server may answer the question while its writes hang."""
    a_breaker.failed(ERROR)
    clock.now += 2
    assert a_breaker.allows()
    clock.now += 59
    assert not a_breaker.allows()
    other = exceptions.UnavailableError("too slow")
    a_breaker.failed(other)
    assert a_breaker.error is other
    # It is the others' turn after the next pause, not before.
    clock.now += 0.9
    assert not a_breaker.allows()
    clock.now += 1.2
    assert a_breaker.allows()


def test_who_tries_and_is_lost(a_breaker, clock):
    a_breaker.failed(ERROR)
    clock.now += 2
    assert a_breaker.allows()
    clock.now += 59
    assert not a_breaker.allows()
    clock.now += 2
    assert a_breaker.allows()


def test_who_tries_and_has_nothing_to_say(a_breaker, server, clock, caplog):
    a_breaker.undecided()
    assert a_breaker.allows()
    assert server.asked == 0
    a_breaker.failed(ERROR)
    clock.now += 2
    assert a_breaker.allows()
    caplog.clear()
    a_breaker.undecided()
    assert not caplog.records
    # The next one tries at once, and it is a try.
    assert a_breaker.allows()
    assert server.asked == 2
    assert not a_breaker.allows()


def test_without_a_question(clock, caplog):
    guard = circuit_breaker.Breaker(an_outage(), 60.0, of="low")
    guard.failed(ERROR)
    assert not guard.allows()
    clock.now += 2
    assert guard.allows()
    assert not guard.allows()
    guard.succeeded()
    assert guard.allows()
    assert caplog.messages == [
        "Nothing goes: away",
        "All goes again (after 2 s, 1 failed tries)",
    ]


def test_a_next_time_begins_with_a_short_pause(a_breaker, clock, caplog):
    for _ in range(6):
        a_breaker.failed(ERROR)
    a_breaker.succeeded()
    caplog.clear()
    clock.now += 100
    a_breaker.failed(ERROR)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    clock.now += 1.01
    assert a_breaker.allows()


def test_a_bug_in_the_probe_is_not_hidden(clock):
    def broken():
        raise ValueError

    a_breaker = circuit_breaker.Breaker(an_outage(), 60.0, broken)
    a_breaker.failed(ERROR)
    clock.now += 1
    with pytest.raises(ValueError):  # noqa: PT011
        a_breaker.allows()
    # Nor does it stop those that come after it.
    with pytest.raises(ValueError):  # noqa: PT011
        a_breaker.allows()


def test_one_tries_and_the_others_do_not_wait(clock):
    entered, leave = threading.Event(), threading.Event()
    asked = []

    def slow():
        asked.append(threading.get_ident())
        entered.set()
        assert leave.wait(60)

    a_breaker = circuit_breaker.Breaker(an_outage(), 60.0, slow, shortest=1.0)
    a_breaker.failed(ERROR)
    clock.now += 2
    outcomes = []
    thread = threading.Thread(
        target=lambda: outcomes.append(a_breaker.allows())
    )
    thread.start()
    assert entered.wait(60)
    # This would hang if it waited for the other.
    assert [a_breaker.allows() for _ in range(5)] == [False] * 5
    leave.set()
    thread.join()
    assert outcomes == [True]
    assert len(asked) == 1


def breakers(server):
    return circuit_breaker.Breakers(
        "Points stay", "deletes points", 60.0, server.probe
    )


def ask(some, policy, error=None):
    """Whether it was asked."""
    asked = []
    try:
        with some.asking(policy):
            asked.append(policy)
            if error is not None:
                raise error
    except exceptions.InfluxDBError:
        pass
    return bool(asked)


def test_asking_a_server_that_is_away(server, clock, caplog):
    some = breakers(server)
    assert ask(some, "low")
    server.up = False
    assert ask(some, "low", ERROR)
    for _ in range(1000):
        assert not ask(some, "low")
        assert not ask(some, "high")
    clock.now += 200
    server.up = True
    assert ask(some, "high")
    assert ask(some, "low")
    assert caplog.messages == [
        "Points stay until InfluxDB deletes points again: away",
        "InfluxDB deletes points again (after 3 min, 1 failed tries)",
    ]


def test_asking_about_policies_that_fail(server, clock, caplog):
    some = breakers(server)
    forbidden = exceptions.ForbiddenError("no right")
    for i in range(200):
        assert ask(some, f"p{i}", forbidden)
        assert not ask(some, f"p{i}")
        assert ask(some, "good")
    assert caplog.messages == [
        "Archive policies (p0): points stay until InfluxDB deletes points"
        " again: no right"
    ]
    clock.now += 61
    assert ask(some, "p7", forbidden)
    assert caplog.messages[1:] == [
        "Archive policies (p0, p1, p2, p3, p4 and 195 more): points stay until"
        " InfluxDB deletes points again (for 61 s, 201 failed tries): no"
        " right"
    ]
    clock.now += 61
    for i in range(200):
        assert ask(some, f"p{i}")
    assert caplog.messages[2:] == [
        "Archive policies (p0, p1, p2, p3, p4 and 195 more): InfluxDB deletes"
        " points again (after 2 min, 201 failed tries)"
    ]


def test_a_bug_while_asking(server, clock):
    some = breakers(server)
    with pytest.raises(ValueError), some.asking("low"):  # noqa: PT011
        raise ValueError
    assert ask(some, "low")


def test_a_raised_error_does_not_grow(server, clock):
    some = breakers(server)
    ask(some, "low", exceptions.UnavailableError("away"))
    lengths = set()
    for _ in range(5):
        with (
            pytest.raises(exceptions.UnavailableError) as error,
            some.asking("low"),
        ):
            pass
        lengths.add(len(error.traceback))
    assert len(lengths) == 1
