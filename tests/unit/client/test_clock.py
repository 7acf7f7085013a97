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
"""InfluxDB's time, from answers of which each test says when they came."""

import datetime
import email.utils
import random

import pytest

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.client import clock as clocks

START = 1_800_000_000.0


class World:
    """A server, and a machine with a wall clock of its own."""

    def __init__(self, monkeypatch):
        self.monotonic = 5000.0
        self.server = START + 0.7
        self.wall = START - 3000.0
        self.way = 0.001
        self.is_away = False
        self.asked = 0
        self.clock = clocks.Clock(self.ask)
        monkeypatch.setattr(clocks.time, "monotonic", lambda: self.monotonic)
        monkeypatch.setattr(clocks.time, "time", lambda: self.wall)
        monkeypatch.setattr(
            clocks.time, "time_ns", lambda: int(1e9 * self.wall)
        )

    def wait(self, seconds):
        self.monotonic += seconds
        self.server += seconds
        self.wall += seconds

    def ask(self):
        self.asked += 1
        if self.is_away:
            raise exceptions.UnavailableError("away")
        self.answer()

    def answer(self):
        sent = self.monotonic
        self.wait(self.way)
        date = email.utils.format_datetime(
            datetime.datetime.fromtimestamp(
                int(self.server), datetime.timezone.utc
            ),
            usegmt=True,
        )
        self.wait(self.way)
        self.clock.observe(date, sent, self.monotonic)

    @property
    def wrong(self):
        """By how many seconds the clock is."""
        return abs(self.clock.now_ns() / 1e9 - self.server)


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.25, 0.5, 0.999])
@pytest.mark.parametrize("way", [0.0005, 0.4, 20])
def test_after_one_answer(world, fraction, way):
    world.server = START + fraction
    world.way = way
    world.answer()
    assert world.clock.error == pytest.approx(0.5 + way)
    assert world.wrong <= world.clock.error
    world.wait(30)
    assert world.wrong <= world.clock.error
    assert world.asked == 0


def test_more_answers_make_it_better(world):
    random.seed(1)
    for _ in range(200):
        world.answer()
        world.wait(random.uniform(5, 7))
        assert world.wrong <= world.clock.error < 0.52
    assert world.clock.error < 0.2


def test_a_slow_answer_does_not_make_it_worse(world):
    world.answer()
    before = world.clock.error
    world.wait(6)
    world.way = 10
    world.answer()
    assert world.clock.error < before + 0.05


def test_most_answers_are_passed_over(world, monkeypatch):
    world.answer()
    parsed = []
    monkeypatch.setattr(
        clocks.email.utils, "parsedate_to_datetime", parsed.append
    )
    for _ in range(4):
        world.wait(1)
        world.answer()
    assert parsed == []


def test_it_asks_once(world):
    assert world.wrong <= 0.51
    for _ in range(10):
        world.wait(5)
        assert world.wrong <= 0.6
    assert world.asked == 1
    world.wait(60)
    assert world.wrong <= 0.6
    assert world.asked == 2


@pytest.mark.parametrize("by", [-7200, -60, 2, 60, 86400])
def test_the_clock_of_this_machine_is_set(world, by):
    world.answer()
    world.wall += by
    assert world.wrong <= 0.51
    world.is_away = True
    world.wall -= 2 * by
    assert world.wrong <= 0.51


def test_this_machine_was_suspended(world):
    """Its monotonic clock stands still meanwhile."""
    world.answer()
    world.server += 4000
    world.wall += 4000
    assert world.wrong <= 0.51


@pytest.mark.parametrize("by", [-3000, -2, 2, 3000])
def test_the_clock_of_the_server_is_set(world, by):
    world.answer()
    world.server += by
    world.wait(clocks.ASK_AGAIN)
    assert world.wrong <= 0.6


@pytest.mark.parametrize("drift", [-0.0005, 0.0005])
def test_drift(world, drift):
    for _ in range(300):
        world.answer()
        assert world.wrong <= world.clock.error
        world.wait(20)
        world.server += 20 * drift
        assert world.wrong <= world.clock.error


def test_nobody_answers(world):
    world.is_away = True
    assert world.clock.now_ns() == int(1e9 * world.wall)
    assert world.clock.error == float("inf")
    for _ in range(10):
        world.wait(0.1)
        world.clock.now_ns()
    assert world.asked == 1
    world.wait(5)
    world.is_away = False
    assert world.wrong <= 0.51


@pytest.mark.parametrize("date", ["", "soon", "Sat, 99 Nov 2026 00:00:00 GMT"])
def test_a_date_that_is_none(world, date):
    world.clock.observe(date, world.monotonic, world.monotonic)
    assert world.clock.error == float("inf")
