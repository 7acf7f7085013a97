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
"""Which language and which read, by what was measured."""

import dataclasses
import time

import pytest

from gnocchi_influxdb.read import cost
from gnocchi_influxdb.read import query as queries

HOUR = 3600 * 10**9
DAY = 24 * HOUR
NOW = 1767225600 * 10**9


@pytest.fixture(autouse=True)
def now(monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: NOW)


def query(what, days, every=HOUR, stop=None):
    start = None if days is None else int(NOW - days * DAY)
    return queries.Query("b", what, start, stop, every)


@pytest.mark.parametrize("stop", [None, NOW])
@pytest.mark.parametrize(
    ("what", "days", "metrics", "influxql"),
    [
        ("mean", 30, 1, True),
        ("mean", 60, 1, True),
        ("mean", 61, 1, False),
        ("mean", None, 4, True),
        ("mean", 30, 50, False),
        ("mean", None, 50, False),
        ("mean", 15 / 24, 50, True),
        ("mean", 16 / 24, 50, False),
        (queries.POINTS, 1, 50, True),
        (queries.POINTS, 30, 50, False),
        (queries.POINTS, 60, 1, True),
        (queries.POINTS, 61, 1, False),
        (queries.POINTS, None, 1, False),
        (queries.NEWEST, None, 50, False),
    ],
)
def test_language(what, days, metrics, influxql, stop):
    every = 0 if what in (queries.POINTS, queries.NEWEST) else HOUR
    asked = query(what, days, every, stop)
    assert cost.takes_influxql(asked, metrics) is influxql


def test_language_of_limited_points():
    asked = dataclasses.replace(query(queries.POINTS, None, 0), limit=5)
    assert cost.takes_influxql(asked, 50)


@pytest.mark.parametrize(
    ("what", "days", "metrics", "most"),
    [
        (queries.POINTS, 60, 1, 0),
        (queries.POINTS, 61, 1, 200000),
        (queries.POINTS, None, 4, 50000),
        (queries.POINTS, None, 5, 0),
        ("mean", None, 1, 0),
    ],
)
def test_points_that_influxql_may_have(what, days, metrics, most):
    assert cost.most_points(query(what, days), metrics) == most


@pytest.mark.parametrize(
    ("what", "days", "metrics", "points"),
    [
        ("mean", 30, 1, True),
        ("mean", 1, 50, True),
        ("mean", 30, 50, False),
        (queries.ENDS, 30, 1, True),
        (queries.ENDS, 0.25, 50, True),
        (queries.ENDS, 1, 50, False),
        (queries.POINTS, 1, 1, False),
    ],
)
def test_points_instead_of_windows(what, days, metrics, points):
    every = 0 if what == queries.POINTS else HOUR
    asked = query(what, days, every)
    assert bool(cost.points_a_window(asked, metrics)) is points
