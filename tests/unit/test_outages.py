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
"""What the log says of something that fails again and again."""

import logging

import pytest
from oslo_db import exception as db_exception

from gnocchi_influxdb import exceptions, outages
from tests.support.clock import Clock

ERROR = exceptions.UnavailableError("away")


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(outages, "time", made)
    return made


@pytest.fixture
def an_outage():
    return outages.Outage("Reads fail", "Reads work again", "reads")


def test_ten_minutes(an_outage, clock, caplog):
    for _ in range(600):
        an_outage.failed(ERROR)
        an_outage.count(3)
        clock.now += 1
    for _ in range(3):
        an_outage.succeeded()
    assert caplog.messages == [
        "Reads fail: away",
        "Reads fail (for 5 min, 900 reads): away",
        "Reads work again (after 10 min, 1800 reads)",
    ]
    assert {record.levelno for record in caplog.records} == {
        logging.ERROR,
        logging.WARNING,
    }


def test_what_works_says_nothing(an_outage, clock, caplog):
    an_outage.succeeded()
    assert not caplog.messages


def test_in_turns(an_outage, clock, caplog):
    """Two lines a minute, and none is missing in the figures."""
    for _ in range(600):
        an_outage.failed(ERROR)
        an_outage.count()
        clock.now += 0.5
        an_outage.succeeded()
        clock.now += 0.5
    assert len(caplog.messages) <= 22
    assert caplog.messages[:4] == [
        "Reads fail: away",
        "Reads work again (after 0 s, 1 reads)",
        "Reads fail (for 59 s, 59 reads): away",
        "Reads work again (after 60 s, 60 reads)",
    ]


def test_the_next_one_counts_anew(an_outage, clock, caplog):
    an_outage.failed(ERROR)
    an_outage.succeeded()
    clock.now += 1
    an_outage.failed(ERROR)
    an_outage.succeeded()
    clock.now += 10000
    an_outage.failed(ERROR)
    an_outage.count()
    clock.now += 2
    an_outage.succeeded()
    assert caplog.messages[2:] == [
        "Reads fail: away",
        "Reads work again (after 2 s, 1 reads)",
    ]


def test_only_a_bug_has_a_traceback(an_outage, clock, caplog):
    for error in ERROR, db_exception.DBError("gone"), ValueError("bug"):
        clock.now += 1000
        an_outage.failed(error)
    assert [bool(record.exc_info) for record in caplog.records] == [
        False,
        False,
        True,
    ]


def test_requests(an_outage, clock, caplog):
    for _ in range(5):
        with (
            pytest.raises(exceptions.ReadFailedError) as error,
            outages.answered(an_outage),
        ):
            raise ERROR
        assert error.value.__cause__ is ERROR
    with outages.answered(an_outage):
        pass
    assert len(caplog.messages) == 2
    assert "5 reads" in caplog.messages[1]


def test_the_chef_is_silent_about_what_is_told(caplog):
    chef = logging.getLogger("gnocchi.chef")
    for _ in range(2):
        outages.silence_chef()
    for error in ERROR, ValueError("bug"):
        chef.error("Error processing new measures", exc_info=error)
    chef.error("something else")
    (bug, other) = caplog.records
    assert bug.exc_info[0] is ValueError
    assert other.getMessage() == "something else"
