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
"""What a definition's timespan leaves of a metric, and what that costs."""

import time

import numpy
import pytest

from gnocchi_influxdb.read import router
from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support.samples import (
    NS,
    aggregation,
    at,
    metric,
    policy,
    read,
    recent,
    write,
)

MINUTE = 60 * NS
HOUR = 60 * MINUTE
DAY = 24 * HOUR
PAST = 3000 * DAY


@pytest.fixture(params=["auto", "flux", "influxql"])
def language(request):
    return request.param


@pytest.fixture
def driver(make_conf, language):
    return InfluxDBStorage(
        make_conf(
            influxdb_retention=False,
            influxdb_downsampling=False,
            influxdb_query_language=language,
        ).storage
    )


@pytest.fixture
def asked(monkeypatch):
    """Rows that each question to InfluxDB was answered with."""
    rows = []
    ask = router.Router.ask

    def counted(self, *arguments):
        found = ask(self, *arguments)
        rows.append(sum(numpy.size(of_one) for of_one in found.values()))
        return found

    monkeypatch.setattr(router.Router, "ask", counted)
    return rows


def starts(driver, m, method, seconds, start=None, stop=None):
    return list(read(driver, m, method, seconds, start, stop))


@pytest.mark.parametrize("method", ["std", "rate:mean"])
@pytest.mark.parametrize("stop", [None, 500])
def test_a_method_without_values(driver, indexer_driver, asked, method, stop):
    """No search through the whole of a metric for a value."""
    m = metric(policy((60, 1), (10000, 60)))
    now = recent() // NS * NS
    # No window of a second has two of them, and no rate one before it.
    points = {now - i * 2 * NS: float(i) for i in range(20000)}
    write(driver, {m: points}, indexer_driver)
    stop = stop and now - stop * NS
    assert starts(driver, m, method, 1, None, stop) == []
    assert len(asked) <= 8
    assert sum(asked) < 200


@pytest.mark.parametrize("method", ["mean", "std", "rate:mean"])
def test_a_metric_fallen_silent_widens_no_other(
    driver, indexer_driver, asked, method
):
    a_policy = policy((600, 60), (10000, 3600))
    alive, dead = metric(a_policy), metric(a_policy)
    now = recent() // MINUTE * MINUTE
    points = {now - i * 30 * NS: float(i) for i in range(30000)}
    old = {t - 30 * DAY: v for t, v in list(points.items())[:100]}
    write(driver, {alive: points, dead: old}, indexer_driver)
    a = aggregation(alive, method, 60)
    answers = driver.get_aggregated_measures({alive: [a], dead: [a]})
    assert len(answers[alive][a]) == 600
    assert len(answers[dead][a]) >= 49
    assert sum(asked) < 6000


@pytest.mark.parametrize("method", ["mean", "count", "std", "rate:mean"])
def test_a_point_of_the_future_hides_nothing(driver, indexer_driver, method):
    m = metric(policy((60, 300), (720, 3600)))
    now = recent() // (5 * MINUTE) * 5 * MINUTE
    points = {now - i * MINUTE: float(i % 7) for i in range(61)}
    write(driver, {m: points}, indexer_driver)
    wanted = starts(driver, m, method, 300)
    assert len(wanted) >= 12
    future = now + 4000 * DAY
    write(driver, {m: {future: 1.0, future + NS: 2.0}}, indexer_driver)
    last = future // (5 * MINUTE) * 5 * MINUTE
    assert starts(driver, m, method, 300) == [*wanted, last]
    for start in None, now - HOUR, now - DAY, now - 100 * DAY:
        assert starts(driver, m, method, 300, start)[-1] == last
        for stop in now + 1, now + DAY, future:
            found = starts(driver, m, method, 300, start, stop)
            assert found == [w for w in wanted if w >= (start or 0)]


@pytest.mark.parametrize("method", ["mean", "std", "rate:mean"])
def test_one_rule_for_all_ranges(driver, indexer_driver, monkeypatch, method):
    """Where points lie after the present, and where they don't."""
    day = 1000 * DAY
    m = metric(policy((7, 86400), (2000, 3600)))
    write(
        driver,
        {
            m: {
                day + days * DAY + hours * HOUR: float(days + hours)
                for days in (-7, -1, 0, 1, 6, 7)
                for hours in (1, 2)
            }
        },
        indexer_driver,
    )
    for present, kept in ((1.5, range(-5, 8)), (8, range(1, 8))):
        monkeypatch.setattr(
            driver.client.clock, "now_ns", lambda p=present: day + int(p * DAY)
        )
        whole = starts(driver, m, method, 86400)
        assert [(w - day) // DAY for w in whole] == [
            days for days in (-1, 0, 1, 6, 7) if days in kept
        ]
        for start in None, *(day + d * DAY for d in (-8, 0, 6)):
            for stop in None, *(day + (d + 0.5) * DAY for d in (-7, 0, 7)):
                begin, end = start, stop and int(stop)
                found = starts(driver, m, method, 86400, begin, end)
                assert found == [
                    w
                    for w in whole
                    if w >= (begin or 0) and (end is None or w < end)
                ], (present, begin, end)


@pytest.mark.parametrize("method", ["count", "std", "rate:count"])
def test_a_host_whose_clock_is_behind(
    make_conf, indexer_driver, language, monkeypatch, method
):
    now, wall, wall_ns = recent(), time.time, time.time_ns
    # Wherever the driver may look at it.
    monkeypatch.setattr(time, "time", lambda: wall() - 3600)
    monkeypatch.setattr(time, "time_ns", lambda: wall_ns() - HOUR)
    driver = InfluxDBStorage(
        make_conf(
            influxdb_retention=False, influxdb_query_language=language
        ).storage
    )
    m = metric(policy((72, 300), (29, 1500)))
    first = (now - 6 * HOUR) // (5 * MINUTE) * 5 * MINUTE - 10 * MINUTE
    points = {
        first + minutes * MINUTE + seconds * NS: float(seconds)
        for minutes in (0, 5, 360)
        for seconds in (0, 1)
    }
    write(driver, {m: points}, indexer_driver)
    stop = first + 310 * MINUTE
    assert starts(driver, m, method, 300, None, stop) == [first + 5 * MINUTE]


@pytest.mark.parametrize("method", ["mean", "std", "rate:mean", "rate:max"])
def test_an_empty_range_resampled(driver, indexer_driver, method):
    m = metric(policy((100000, 60)))
    now = recent()
    write(driver, {m: {now: 1.0, now + 1: 2.0}}, indexer_driver)
    a = aggregation(m, method, 60)
    day = numpy.timedelta64(1, "D")
    for start, stop in (now, now - DAY), (now - 5 * DAY, now - 4 * DAY):
        series = driver.get_aggregated_measures(
            {m: [a]}, at(start), at(stop), resample=day
        )[m][a]
        assert len(series) == 0
        assert series.aggregation == a._replace(granularity=day)


@pytest.mark.parametrize("begin", [None, 0])
@pytest.mark.parametrize("method", ["rate:mean", "rate:sum", "rate:count"])
def test_rates_from_the_epoch_on(driver, indexer_driver, method, begin):
    m = metric(policy((10**7, 60), (10**6, 3600)))
    write(
        driver,
        {m: {i * MINUTE: 1.5 * i for i in range(120)}},
        indexer_driver,
    )
    wanted = {
        "rate:mean": {0: 1.5, HOUR: 1.5},
        "rate:sum": {0: 59 * 1.5, HOUR: 60 * 1.5},
        "rate:count": {0: 59.0, HOUR: 60.0},
    }[method]
    for stop in None, 2 * HOUR, 3 * HOUR, 100 * HOUR:
        assert read(driver, m, method, 3600, begin, stop) == wanted
    assert read(driver, m, method, 3600, begin, HOUR) == {0: wanted[0]}
