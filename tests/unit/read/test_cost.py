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

import time

import pytest

from gnocchi_influxdb.read import cost, query

HOUR = 3600 * 10**9
DAY = 24 * HOUR
NOW = 1767225600 * 10**9


@pytest.fixture(autouse=True)
def now(monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: NOW)


def points(days, every=0, stop=None, limit=None):
    return query.PointsQuery("b", start_of(days), stop, limit)


def newest(days, every=0, stop=None):
    return query.NewestQuery("b")


def mean(days, every=HOUR, stop=None):
    return query.WindowsQuery(
        "b", start_of(days), stop, every=every, function="mean"
    )


def ends(days, every=HOUR, stop=None):
    return query.RateEndsQuery("b", start_of(days), stop, every=every)


def start_of(days):
    return None if days is None else int(NOW - days * DAY)


@pytest.mark.parametrize("stop", [None, NOW])
@pytest.mark.parametrize(
    ("kind", "days", "metrics", "influxql"),
    [
        (mean, 30, 1, True),
        (mean, 60, 1, True),
        (mean, 61, 1, False),
        (mean, None, 4, True),
        (mean, 30, 50, False),
        (mean, None, 50, False),
        (mean, 15 / 24, 50, True),
        (mean, 16 / 24, 50, False),
        (points, 1, 50, True),
        (points, 30, 50, False),
        (points, 60, 1, True),
        (points, 61, 1, False),
        (points, None, 1, False),
        (newest, None, 4, True),
        (newest, None, 50, False),
    ],
)
def test_language(kind, days, metrics, influxql, stop):
    assert kind(days, stop=stop).suits_influxql(metrics) is influxql


def test_language_of_limited_points():
    assert points(None, limit=5).suits_influxql(50)


@pytest.mark.parametrize(
    ("kind", "days", "metrics", "most"),
    [
        (points, 60, 1, 0),
        (points, 61, 1, 200000),
        (points, None, 4, 50000),
        (points, None, 5, 0),
        (newest, None, 1, 0),
    ],
)
def test_points_that_influxql_may_have(kind, days, metrics, most):
    assert kind(days).few_points(metrics) == (most, most)


@pytest.mark.parametrize(
    ("kind", "days", "metrics", "few"),
    [
        (mean, 30, 1, 6),
        (mean, 1, 50, 2),
        (mean, 30, 50, 0),
        (ends, 30, 1, 16),
        (ends, 0.25, 50, 16),
        (ends, 1, 50, 0),
    ],
)
def test_points_instead_of_windows(kind, days, metrics, few):
    found, limit = kind(days).few_points(metrics)
    assert found == few
    # Each window may have so many, and then there may be one more.
    assert limit == min(few * days * 24 + 1, 20000)


def test_limit_grows_with_the_windows():
    few, many = cost.Size(1, 0, 70), cost.Size(1, 0, 700)
    assert 2 * 10 < few.limit(7, 2) < many.limit(7, 2) < many.limit(7, 3)
    # One window and no bounds have a limit as well.
    assert cost.Size(1, 0, 7).limit(7, 1) > 1
    most = cost.Size(1, None, None).limit(7, 1)
    assert most >= many.limit(7, 2)
    assert cost.Size(1, 0, None).limit(7, 1) == most
    assert cost.Size(1, None, 7).limit(7, 9) == most
