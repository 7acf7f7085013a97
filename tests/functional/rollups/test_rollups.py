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
"""Aggregates that are kept: the same answers, whatever happens to the points.

The clock of these tests is their own, so that nothing has to be waited for.
"""

import threading
import time

import numpy
import pytest
from gnocchi import storage

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.client import clock as clocks
from gnocchi_influxdb.client.client import Client
from gnocchi_influxdb.read import cost
from gnocchi_influxdb.rollups import (
    rollup_lines,
    rollup_response,
    rollup_store,
)
from gnocchi_influxdb.storage import InfluxDBStorage
from gnocchi_influxdb.wire import influxql
from tests.support import proxy
from tests.support.by_hand import call, make_bucket, make_token
from tests.support.samples import (
    METHODS,
    NS,
    aggregation,
    as_dict,
    at,
    fails_with,
    metric,
    policy,
    read,
    write,
)

pytestmark = pytest.mark.only_2x("nothing is kept elsewhere")

HOUR = 3600 * NS
DAY = 24 * HOUR
#: An hour in the middle of a day and of a page.
NOW = (
    (20300 * DAY // rollup_lines.PAGE * rollup_lines.PAGE)
    + 15 * DAY
    + (13 * HOUR)
)


class Clock:
    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock(NOW)
    monkeypatch.setattr(clocks.Clock, "now_ns", lambda self: made.now)
    # Of what is only estimated.
    monkeypatch.setattr(time, "time_ns", made)
    return made


@pytest.fixture
def keeping(make_conf):
    return InfluxDBStorage(make_conf(influxdb_retention=False).storage)


@pytest.fixture
def computing(make_conf):
    conf = make_conf(influxdb_retention=False, influxdb_rollups=False)
    return InfluxDBStorage(conf.storage)


def series(seed, start, stop, step=600 * NS, share=0.9):
    """Points in some of the steps of a range."""
    random = numpy.random.default_rng(seed)
    times = numpy.arange(start, stop, step)
    times = times[random.random(len(times)) < share]
    values = random.normal(size=len(times)) * 1000
    return dict(zip(times.tolist(), values.tolist(), strict=True))


def hours(methods=METHODS):
    return policy((100000, 300), (100000, 3600), methods=methods)


def read_all(driver, metrics, start, stop, methods=METHODS, **more):
    """{(position, method): {window: value}}"""
    wanted = {m: [aggregation(m, x, 3600) for x in methods] for m in metrics}
    answer = driver.get_aggregated_measures(
        wanted, at(start), at(stop), **more
    )
    return {
        (i, a.method): as_dict(answer[m][a])
        for i, m in enumerate(metrics)
        for a in wanted[m]
    }


def assert_alike(one, other):
    assert one.keys() == other.keys()
    for key, windows in one.items():
        assert list(windows) == list(other[key]), key
        for window, value in windows.items():
            assert other[key][window] == pytest.approx(value, rel=1e-9), key


def forge(driver, a_metric, method, start, value, computed, hours_=24):
    """Keep something that the points do not say."""
    driver.client.write(
        driver.buckets.name(a_metric.archive_policy),
        rollup_lines.encode(
            a_metric.id,
            rollup_lines.field(method, HOUR),
            HOUR,
            numpy.array([start]),
            numpy.where(numpy.arange(24) < hours_, value, numpy.nan)[None],
            computed,
        ),
    )


def kept_fields(server, driver, a_metric):
    """{field: number of blocks} as InfluxDB has it."""
    bucket = driver.buckets.name(a_metric.archive_policy)
    answer = call(
        server,
        "GET",
        "/query",
        query={
            "db": bucket,
            "q": 'SELECT count(*) FROM "rollup" WHERE '
            f"\"metric\" = '{a_metric.id}'",
        },
    )
    (result,) = answer["results"]
    if "series" not in result:
        return {}
    (found,) = result["series"]
    return {
        name.removeprefix("count_"): count
        for name, count in zip(
            found["columns"][1:], found["values"][0][1:], strict=True
        )
        if count
    }


def when_kept(driver, a_metric, method, start, every=HOUR):
    """When the computing of a block began."""
    field = rollup_lines.field(method, every)
    query = rollup_store.RollupQuery(
        driver.buckets.name(a_metric.archive_policy),
        rollup_response.Range(every, start, 1, 0),
        (field,),
    )
    kept = driver._rollups.ask(query, [a_metric.id])[a_metric.id]
    return int(kept.computed[0])


@pytest.mark.parametrize("start", [NOW - 10 * DAY, NOW - 10 * DAY + 7 * HOUR])
@pytest.mark.parametrize("stop", [None, NOW + 1, NOW - 3 * DAY, NOW - HOUR])
def test_answers_are_the_same(
    keeping, computing, clock, indexer_driver, start, stop
):
    a_policy = hours()
    metrics = [metric(a_policy) for _ in range(3)]
    points = [
        series(1, NOW - 12 * DAY, NOW),
        series(2, NOW - 6 * DAY, NOW - 2 * DAY, share=0.05),
        series(3, NOW - 20 * DAY, NOW, step=HOUR, share=0.3),
    ]
    clock.now = NOW - 30 * DAY  # Nothing is late.
    write(keeping, dict(zip(metrics, points, strict=True)), indexer_driver)
    # Computed, answered from what was kept, and some hours later, when the
    # open block has grown.
    for hours_later in (0, 0, 1, 7, 9, 20, 31):
        clock.now = NOW + hours_later * HOUR
        assert_alike(
            read_all(computing, metrics, start, stop),
            read_all(keeping, metrics, start, stop),
        )


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_when(keeping, computing, clock, indexer_driver, seed):
    """Measures in time, late and very late, and reads of many ranges."""
    random = numpy.random.default_rng(seed)
    a_policy = hours()
    metrics = [metric(a_policy) for _ in range(3)]
    clock.now = NOW - 20 * DAY
    for i, m in enumerate(metrics):
        past = series((seed, i), clock.now - 3 * DAY, clock.now)
        write(keeping, {m: past}, indexer_driver)
    while clock.now < NOW:
        before = clock.now
        clock.now += int(random.integers(1, 2 * DAY))
        for m in metrics:
            some = series(
                (seed, clock.now % 2**32), before, clock.now, share=0.2
            )
            if random.random() < 0.3:
                late = clock.now - int(random.integers(1, 12 * DAY))
                some[late] = 1e6
            write(keeping, {m: some}, indexer_driver)
        for pause in (0, 5 * 60 * NS, 20 * HOUR):
            clock.now += pause
            start = clock.now - int(random.integers(4 * DAY, 18 * DAY))
            stop = random.choice([None, clock.now, clock.now - 2 * DAY])
            methods = list(random.choice(METHODS, 4, replace=False))
            assert_alike(
                read_all(computing, metrics, start, stop, methods),
                read_all(keeping, metrics, start, stop, methods),
            )


@pytest.mark.parametrize("method", ["mean", "std", "rate:mean", "rate:max"])
def test_it_is_kept(influxdb, keeping, clock, indexer_driver, method):
    m = metric(hours())
    clock.now = NOW - 30 * DAY
    write(keeping, {m: series(5, NOW - 30 * DAY, NOW)}, indexer_driver)
    clock.now = NOW
    start = NOW // DAY * DAY - 25 * DAY
    read(keeping, m, method, 3600, start)
    # 25 days, and the hours of the present day that are over.
    assert kept_fields(influxdb, keeping, m) == {
        rollup_lines.field(method, HOUR): 26
    }
    day = start + 5 * DAY
    forge(keeping, m, method, day, 123456.0, NOW)
    answer = read(keeping, m, method, 3600, start)
    assert [
        window for window, value in answer.items() if value == 123456.0
    ] == [day + i * HOUR for i in range(24)]


def test_open_block_is_kept_as_it_grows(
    influxdb, keeping, clock, indexer_driver
):
    m = metric(hours())
    clock.now = NOW - 30 * DAY
    write(keeping, {m: series(5, NOW - 30 * DAY, NOW)}, indexer_driver)
    today = NOW // DAY * DAY
    start = today - 25 * DAY
    clock.now = NOW  # 13:00, so 12 hours are over for good.
    read(keeping, m, "mean", 3600, start)
    forge(keeping, m, "mean", today, 123456.0, NOW, hours_=12)
    clock.now += 5 * HOUR
    answer = read(keeping, m, "mean", 3600, start)
    assert [w for w, v in answer.items() if v == 123456.0] == [
        today + i * HOUR for i in range(12)
    ]
    # It was kept again, with what was kept before.
    assert when_kept(keeping, m, "mean", today) == NOW + 5 * HOUR
    assert read(keeping, m, "mean", 3600, start) == answer
    # Not the end of another window yet, and then it is.
    clock.now += HOUR // 2
    assert read(keeping, m, "mean", 3600, start) == answer
    assert when_kept(keeping, m, "mean", today) == NOW + 5 * HOUR
    clock.now += HOUR // 2
    assert read(keeping, m, "mean", 3600, start) == answer
    assert when_kept(keeping, m, "mean", today) == NOW + 6 * HOUR


def test_short_windows_are_kept_again_by_the_half_hour(
    keeping, clock, indexer_driver
):
    m = metric(policy((100000, 60), (100000, 600), methods=["mean"]))
    day = NOW // DAY * DAY
    start = day - 5 * DAY
    clock.now = start
    write(keeping, {m: series(6, start, NOW, 60 * NS)}, indexer_driver)
    times = []
    for minutes in range(0, 70, 10):
        clock.now = NOW + minutes * 60 * NS
        read(keeping, m, "mean", 600, start)
        times.append(when_kept(keeping, m, "mean", NOW - HOUR, 600 * NS))
    # The block began at 12:00; what is over for 45 minutes can be kept.
    assert times[:2] == [0, 0]
    minutes = [(t - NOW) // (60 * NS) for t in times[2:]]
    assert minutes == [20, 20, 20, 50, 50]


@pytest.fixture
def statements(monkeypatch):
    """What is asked in InfluxQL, request by request."""
    asked = []
    original = Client.influxql

    def influxql(self, bucket, statement, *more):
        asked.append(statement)
        return original(self, bucket, statement, *more)

    monkeypatch.setattr(Client, "influxql", influxql)
    return asked


@pytest.mark.parametrize("method", ["mean", "count", "std", "rate:max"])
@pytest.mark.parametrize("is_open", [True, False])
def test_repeated_read_is_one_request(
    keeping, computing, clock, indexer_driver, statements, method, is_open
):
    metrics = [metric(hours()) for _ in range(3)]
    points = {
        m: series(i, NOW - 30 * DAY, NOW, share=(1, 0.1, 0.5)[i])
        for i, m in enumerate(metrics)
    }
    # One of them is silent since a week.
    points[metrics[2]] = {
        t: v for t, v in points[metrics[2]].items() if t < NOW - 7 * DAY
    }
    clock.now = NOW - 30 * DAY
    write(keeping, points, indexer_driver)
    clock.now = NOW
    stop = NOW + HOUR if is_open else NOW - 3 * DAY
    window = metrics, NOW - 29 * DAY, stop, [method]
    first = read_all(keeping, *window)
    statements.clear()
    assert_alike(read_all(keeping, *window), first)
    (statement,) = statements
    assert (";" in statement) is is_open
    assert_alike(read_all(computing, *window), first)


def test_windows_without_a_value_are_kept(
    keeping, computing, clock, indexer_driver, statements
):
    """A single point has no deviation; that is known from then on."""
    metrics = [metric(hours()) for _ in range(2)]
    start = NOW - 2 * DAY
    points = dict.fromkeys(range(start + 10 * HOUR, NOW, 300 * NS), 1.0)
    clock.now = start
    write(keeping, dict.fromkeys(metrics, points), indexer_driver)
    clock.now = NOW
    wanted = {m: [aggregation(m, "std", 300)] for m in metrics}
    for driver in (computing, keeping, keeping):
        statements.clear()
        answer = driver.get_aggregated_measures(wanted, at(start), at(NOW))
        assert not any(len(answer[m][a]) for m, (a,) in wanted.items())
    (statement,) = statements
    assert rollup_lines.MEASUREMENT in statement


def test_silence_is_kept(keeping, clock, indexer_driver, statements):
    """Also where what is read anew has not a single measure, and ends in
    other four weeks than it begins in."""
    metrics = [metric(hours()) for _ in range(3)]
    clock.now = start = NOW - 20 * DAY
    write(
        keeping,
        {m: series(1, start, NOW - 3 * HOUR) for m in metrics},
        indexer_driver,
    )
    answers = []
    for clock.now in (NOW, NOW + 20 * DAY, NOW + 20 * DAY):
        statements.clear()
        answers.append(
            read_all(keeping, metrics, start, NOW + 20 * DAY, ["mean"])
        )
    (statement,) = statements
    assert rollup_lines.MEASUREMENT in statement
    assert_alike(answers[2], answers[0])


def test_long_windows_are_read_by_themselves(
    keeping, computing, clock, indexer_driver, statements
):
    a_policy = policy((100000, 3600), (1000, 2 * 86400), methods=["mean"])
    metrics = [metric(a_policy) for _ in range(5)]
    clock.now = start = NOW - 150 * DAY
    write(
        keeping,
        {m: series(9, start, NOW, HOUR) for m in metrics},
        indexer_driver,
    )
    clock.now = NOW
    wanted = {m: [aggregation(m, "mean", 2 * 86400)] for m in metrics}
    for _ in range(2):
        statements.clear()
        kept, computed = (
            driver.get_aggregated_measures(wanted, at(start), at(NOW))
            for driver in (keeping, computing)
        )
        for m, (a,) in wanted.items():
            assert as_dict(kept[m][a]) == pytest.approx(
                as_dict(computed[m][a]), rel=1e-9
            )
    assert "rollup" in statements[0]
    assert ";" not in statements[0]


def test_what_is_newer_may_fail(
    keeping, clock, indexer_driver, statements, monkeypatch
):
    """Then it is asked alone, and nothing else suffers."""
    m = metric(hours())
    clock.now = NOW - 30 * DAY
    write(keeping, {m: series(8, NOW - 30 * DAY, NOW)}, indexer_driver)
    clock.now = NOW
    window = [m], NOW - 29 * DAY, NOW, ["mean"]
    first = read_all(keeping, *window)
    original = influxql.windows

    def wrong(*arguments):
        return original(*arguments).replace("mean(", "no_such_function(")

    monkeypatch.setattr(influxql, "windows", wrong)
    # All that is left is to read the points.
    monkeypatch.setattr(cost.Size, "limit", lambda *_: 10**6)
    statements.clear()
    assert read_all(keeping, *window) == first
    assert "no_such_function" in statements[0]
    assert keeping._rollups.is_on


@pytest.mark.parametrize("late", [True, False])
def test_late_measures_are_marked(
    influxdb, keeping, clock, indexer_driver, late
):
    m = metric(hours())
    clock.now = NOW
    then = NOW - (rollup_lines.LATE if late else 0)
    write(keeping, {m: {then - NS: 1.0, NOW - NS: 1.0}}, indexer_driver)
    fields = kept_fields(influxdb, keeping, m)
    assert fields == ({rollup_lines.MARK: 1} if late else {})


def test_late_measures_count(keeping, clock, indexer_driver):
    m = metric(hours())
    day = NOW // DAY * DAY - 5 * DAY
    clock.now = NOW - 30 * DAY
    # The first hour of a day and the last of the day before.
    points = {day - HOUR: 1.0, day + 1: 5.0, day + 2: 7.0}
    write(keeping, {m: points}, indexer_driver)
    clock.now = NOW
    start = day - 20 * DAY
    for _ in range(2):
        assert read(keeping, m, "sum", 3600, start)[day] == 12.0
        assert read(keeping, m, "rate:sum", 3600, start)[day] == 6.0
    write(keeping, {m: {day - 1: 2.0}}, indexer_driver)
    for pause in (0, 1, 60, 120, 600):
        clock.now += pause * NS
        assert read(keeping, m, "sum", 3600, start)[day - HOUR] == 3.0
        # The difference to a point of another block.
        assert read(keeping, m, "rate:sum", 3600, start)[day] == 5.0


@pytest.mark.parametrize("minutes", [1, 12, 20, 50, 80])
def test_measures_some_minutes_late_count(
    influxdb, keeping, computing, clock, indexer_driver, minutes
):
    """Each is read just before and just after the next is written.

    Up to 14 minutes after its time it is none of the late ones.
    """
    m = metric(hours(methods=["sum", "rate:sum"]))
    start = NOW - 25 * DAY
    clock.now = NOW - DAY
    while clock.now < NOW:
        clock.now += int(6.5 * 60 * NS)
        then = clock.now - minutes * 60 * NS
        write(keeping, {m: {then: 1.0}}, indexer_driver)
        if clock.now > NOW - 7 * HOUR:
            assert_alike(
                read_all(computing, [m], start, None, ["sum", "rate:sum"]),
                read_all(keeping, [m], start, None, ["sum", "rate:sum"]),
            )
    fields = kept_fields(influxdb, keeping, m)
    assert (rollup_lines.MARK in fields) == (minutes > 14)
    if minutes <= 14:
        assert len(fields) == 2


def test_nothing_is_kept_while_late_measures_may_be_on_their_way(
    keeping, clock, indexer_driver
):
    """What is written has until then to reach InfluxDB, with all retries."""
    m = metric(hours())
    day = NOW // DAY * DAY - 5 * DAY
    start = day - 20 * DAY
    clock.now = NOW
    write(keeping, {m: {day: 1.0, day + DAY: 1.0}}, indexer_driver)
    clock.now += 90 * NS
    assert read(keeping, m, "sum", 3600, start)[day] == 1.0
    # Behind the back of the driver, as a request that took its time.
    bucket = keeping.buckets.name(m.archive_policy)
    keeping.client.write(
        bucket, f"measure,metric={m.id} value=2 {day + 1}\n".encode()
    )
    for pause in (0, 30, 600):
        clock.now += pause * NS
        assert read(keeping, m, "sum", 3600, start)[day] == 3.0


def test_what_does_not_count_is_not_answered(keeping, clock, indexer_driver):
    """Of a block that a late measure has undone, not even other windows."""
    m = metric(hours())
    day = NOW // DAY * DAY - 5 * DAY
    clock.now = NOW
    write(keeping, {m: {day: 1.0}}, indexer_driver)
    forge(keeping, m, "sum", day, 123456.0, NOW)
    for pause in (0, 600):
        clock.now += pause * NS
        for _ in range(2):
            answer = read(keeping, m, "sum", 3600, day - 20 * DAY)
            assert answer == {day: 1.0}


def test_open_block_that_was_read_in_part(
    keeping, computing, clock, indexer_driver
):
    """It is not kept as if the rest of it were empty."""
    m = metric(hours())
    today = NOW // DAY * DAY
    start = today - 25 * DAY
    clock.now = NOW - 30 * DAY
    write(keeping, {m: series(1, start, today + DAY, share=2)}, indexer_driver)
    clock.now = NOW
    read(keeping, m, "sum", 3600, start)
    write(keeping, {m: {start + 5 * DAY + 1: 1e6}}, indexer_driver)
    clock.now = today + 21 * HOUR
    # The day that has to be computed is not the last.
    read(keeping, m, "sum", 3600, start, today + 10 * HOUR)
    assert read(keeping, m, "sum", 3600, start) == read(
        computing, m, "sum", 3600, start
    )


def test_callers_share_an_answer(keeping, clock, indexer_driver, monkeypatch):
    """What two wait for at once must not be changed by one of them."""
    m = metric(hours())
    clock.now = NOW - 30 * DAY
    write(keeping, {m: series(5, NOW - 30 * DAY, NOW)}, indexer_driver)
    clock.now = NOW
    read(keeping, m, "sum", 3600, NOW - 25 * DAY)
    ask, given = keeping._rollups.ask, []

    def asked(*arguments):
        answer = ask(*arguments)
        values = answer[m.id].values["sum_3600000000000"]
        given.append((values, values.copy()))
        return answer

    monkeypatch.setattr(keeping._rollups, "ask", asked)
    read(keeping, m, "sum", 3600, NOW - 25 * DAY)
    ((values, before),) = given
    numpy.testing.assert_array_equal(values, before)


def test_deleted_with_the_metric(influxdb, keeping, clock, indexer_driver):
    m, other = metric(hours()), metric(hours())
    points = series(5, NOW - 30 * DAY, NOW)
    clock.now = NOW
    write(keeping, {m: points, other: points}, indexer_driver)
    clock.now += DAY
    for one in (m, other):
        read(keeping, one, "mean", 3600, NOW - 25 * DAY)
        assert len(kept_fields(influxdb, keeping, one)) == 2
    keeping._deleter.delete(m)
    assert kept_fields(influxdb, keeping, m) == {}
    assert len(kept_fields(influxdb, keeping, other)) == 2


def test_nothing_is_kept_of_what_is_not_there(
    influxdb, keeping, clock, indexer_driver
):
    there, never = metric(hours()), metric(hours())
    clock.now = NOW - 30 * DAY
    write(keeping, {there: {NOW - DAY: 1.0}}, indexer_driver)
    clock.now = NOW
    for _ in range(2):
        with pytest.raises(storage.MetricDoesNotExist):
            read_all(keeping, [there, never], NOW - 25 * DAY, None, ["mean"])
    assert kept_fields(influxdb, keeping, there)
    assert kept_fields(influxdb, keeping, never) == {}


def test_without_a_bucket(keeping, clock, logged):
    with pytest.raises(storage.MetricDoesNotExist):
        read(keeping, metric(hours()), "mean", 3600, NOW - 25 * DAY)
    assert keeping._rollups.is_on
    assert logged.warnings() == []


def test_retention(influxdb, make_conf, clock, indexer_driver):
    """What has no place any more is not sent; the rest is kept."""
    clock.now = now = int(time.time()) * NS  # InfluxDB's own clock counts.
    driver = InfluxDBStorage(make_conf().storage)
    m = metric(policy((9000, 300), (31 * 24, 3600)))
    write(driver, {m: series(5, now - 31 * DAY, now)}, indexer_driver)
    clock.now += 600 * NS
    for _ in range(2):
        answer = read(driver, m, "mean", 3600, now - 100 * DAY)
        assert len(answer) > 29 * 24
        assert driver._rollups.is_on
    assert kept_fields(influxdb, driver, m)


def test_garbage_is_computed_anew(keeping, clock, indexer_driver):
    m = metric(hours())
    day = NOW // DAY * DAY - 5 * DAY
    clock.now = NOW - 30 * DAY
    write(keeping, {m: {day: 1.0}}, indexer_driver)
    clock.now = NOW
    field = rollup_lines.field("sum", HOUR)
    for text in ("", "?" * 280, "A" * 280, "A" * 24, "A" * 279):
        keeping.client.write(
            keeping.buckets.name(m.archive_policy),
            f'rollup,metric={m.id} {field}="{text}"'
            f" {rollup_lines.place(day)}\n".encode(),
        )
        assert read(keeping, m, "sum", 3600, day - 20 * DAY) == {day: 1.0}


def test_another_type_disturbs_nothing(keeping, clock, indexer_driver, logged):
    """A field that somebody else has written as a number."""
    m = metric(hours())
    day = NOW // DAY * DAY - 5 * DAY
    clock.now = NOW - 30 * DAY
    write(keeping, {m: {day: 1.0}}, indexer_driver)
    field = rollup_lines.field("sum", HOUR)
    keeping.client.write(
        keeping.buckets.name(m.archive_policy),
        f"rollup,metric={m.id} {field}=1 {rollup_lines.place(day)}\n".encode(),
    )
    clock.now = NOW
    for _ in range(3):
        assert read(keeping, m, "sum", 3600, day - 20 * DAY) == {day: 1.0}
    assert len(logged.warnings()) == 1
    assert "Rollups can't be" in logged.warnings()[0]


def test_read_only_token(
    influxdb, keeping, make_conf, clock, indexer_driver, logged
):
    m = metric(hours())
    clock.now = NOW - 30 * DAY
    write(keeping, {m: {NOW - DAY: 1.0}}, indexer_driver)
    clock.now = NOW
    reader = InfluxDBStorage(
        make_conf(
            influxdb_retention=False,
            influxdb_token=make_token(influxdb, ("read", "buckets")),
        ).storage
    )
    for _ in range(3):
        assert read(reader, m, "sum", 3600, NOW - 20 * DAY) == {
            (NOW - DAY) // HOUR * HOUR: 1.0
        }
    assert len(logged.warnings()) == 1


def test_an_outage_is_no_empty_answer(
    make_conf, between, clock, indexer_driver
):
    driver = InfluxDBStorage(
        make_conf(
            influxdb_url=between.url,
            influxdb_retention=False,
            influxdb_max_retries=0,
        ).storage
    )
    m = metric(hours())
    clock.now = NOW - 30 * DAY
    write(driver, {m: series(5, NOW - 30 * DAY, NOW)}, indexer_driver)
    clock.now = NOW
    wanted = read(driver, m, "mean", 3600, NOW - 20 * DAY)
    between.before = lambda request: b""
    with fails_with(exceptions.UnavailableError):
        read(driver, m, "mean", 3600, NOW - 20 * DAY)
    between.before = None
    # Nothing was wrong with the rollups.
    assert driver._rollups.is_on
    assert read(driver, m, "mean", 3600, NOW - 20 * DAY) == wanted


def test_many_gaps_are_read_at_once(keeping, computing, clock, indexer_driver):
    """Each metric lacks other days."""
    a_policy = hours(methods=["mean", "rate:mean"])
    metrics = [metric(a_policy) for _ in range(24)]
    clock.now = NOW - 40 * DAY
    write(
        keeping,
        {m: series(i, NOW - 30 * DAY, NOW) for i, m in enumerate(metrics)},
        indexer_driver,
    )
    clock.now = NOW
    start = NOW - 28 * DAY
    read_all(keeping, metrics, start, None, ["mean", "rate:mean"])
    write(
        keeping,
        {m: {start + (i + 1) * DAY: 1e6} for i, m in enumerate(metrics)},
        indexer_driver,
    )
    for pause in (0, 600 * NS, 0):
        clock.now += pause
        assert_alike(
            read_all(computing, metrics, start, None, ["mean", "rate:mean"]),
            read_all(keeping, metrics, start, None, ["mean", "rate:mean"]),
        )


def test_resampled(keeping, computing, clock, indexer_driver):
    m = metric(hours())
    clock.now = NOW - 40 * DAY
    write(keeping, {m: series(1, NOW - 30 * DAY, NOW)}, indexer_driver)
    clock.now = NOW
    for _ in range(2):
        for resample in (numpy.timedelta64(1, "D"), "W"):
            for method in ("mean", "std"):
                more = {
                    "start": NOW - 25 * DAY,
                    "stop": NOW - DAY,
                    "resample": resample,
                }
                one = read(computing, m, method, 3600, **more)
                other = read(keeping, m, method, 3600, **more)
                assert list(one) == list(other)
                assert list(other.values()) == pytest.approx(
                    list(one.values())
                )


def test_rates_are_resampled_from_what_was_before(
    make_conf, clock, indexer_driver
):
    """The first difference of rates needs one that lies out of the range,
    where that of others begins with it."""
    keeping = InfluxDBStorage(make_conf().storage)
    computing = InfluxDBStorage(make_conf(influxdb_rollups=False).storage)
    methods = ["std", "rate:std"]
    m = metric(hours(methods))
    clock.now = NOW - 40 * DAY
    start = NOW // DAY * DAY - 25 * DAY
    write(keeping, {m: series(1, start - 3 * DAY, NOW)}, indexer_driver)
    clock.now = NOW
    more = {"methods": methods, "resample": numpy.timedelta64(1, "D")}
    for _ in range(2):
        assert_alike(
            read_all(computing, [m], start, NOW - DAY, **more),
            read_all(keeping, [m], start, NOW - DAY, **more),
        )


@pytest.mark.parametrize("stop", [None, NOW + 4 * DAY + HOUR])
def test_measures_of_the_future(
    keeping, computing, clock, indexer_driver, stop
):
    metrics = [metric(hours(["mean", "std"])) for _ in range(3)]
    clock.now = NOW - 40 * DAY
    # One has them, one has some behind the stop only, and one has none.
    points = [
        series(i, NOW - 30 * DAY, NOW + ahead) | {NOW + 5 * DAY: 1.0}
        for i, ahead in enumerate((3 * DAY, 0))
    ]
    points.append(series(3, NOW - 30 * DAY, NOW))
    write(keeping, dict(zip(metrics, points, strict=True)), indexer_driver)
    clock.now = NOW
    more = {"methods": ["mean", "std"]}
    for _ in range(2):
        assert_alike(
            read_all(computing, metrics, NOW - 25 * DAY, stop, **more),
            read_all(keeping, metrics, NOW - 25 * DAY, stop, **more),
        )


def test_large_batches_are_marked_once(
    influxdb, make_conf, clock, indexer_driver
):
    driver = InfluxDBStorage(
        make_conf(influxdb_retention=False, influxdb_batch_size=100).storage
    )
    m = metric(hours())
    clock.now = NOW
    write(driver, {m: series(1, NOW - 3 * DAY, NOW)}, indexer_driver)
    days = {t // DAY for t in series(1, NOW - 3 * DAY, NOW - HOUR)}
    assert kept_fields(influxdb, driver, m) == {rollup_lines.MARK: len(days)}


def marks_in(requests):
    """How many marks each write has brought, in the order of the requests."""
    return [
        request.body.count(f" {rollup_lines.MARK}=".encode())
        for request in requests
        if b"measure," in request.body
    ]


def large(between, make_conf, **options):
    """A driver that sends 10 points a request."""
    return InfluxDBStorage(
        make_conf(
            influxdb_url=between.url,
            influxdb_retention=False,
            influxdb_batch_size=10,
            **options,
        ).storage
    )


#: Of two days that lie in one shard.
TWO_DAYS = {NOW - 10 * DAY + i * HOUR: float(i) for i in range(30)}


def test_marks_of_a_large_batch_go_ahead(
    between, make_conf, clock, indexer_driver
):
    driver = large(between, make_conf)
    write(driver, {metric(hours()): TWO_DAYS}, indexer_driver)
    assert marks_in(between.requests) == [2, 0, 0, 0, 0]


def test_marks_that_are_refused_ahead_come_with_the_points(
    between, influxdb, make_conf, clock, indexer_driver
):
    driver = large(between, make_conf)
    refused = []

    def refuse(request):
        if b"measure," in request.body and not refused:
            refused.append(request)
            return proxy.answer("422 Unprocessable Entity", b'{"message": ""}')
        return None

    between.before = refuse
    m = metric(hours())
    write(driver, {m: TWO_DAYS}, indexer_driver)
    assert len(refused) == 1
    first, *others = marks_in(between.requests)
    assert first == 2
    assert all(others)
    assert kept_fields(influxdb, driver, m) == {rollup_lines.MARK: 2}


def test_marks_are_renewed_in_a_batch_that_takes_long(
    between, make_conf, clock, indexer_driver
):
    driver = large(between, make_conf)
    timeout = driver.conf.influxdb_timeout

    def take_long(request):
        if b"measure," in request.body:
            clock.now += int((timeout + 1) * NS)

    between.before = take_long
    write(driver, {metric(hours()): TWO_DAYS}, indexer_driver)
    first, *others = marks_in(between.requests)
    assert first == 2
    assert all(others)


@pytest.mark.parametrize("methods", [["mean"], ["mean", "std"]])
def test_no_marks_where_nothing_is_ever_kept(
    influxdb, keeping, clock, indexer_driver, methods
):
    m = metric(policy((100000, 300), methods=methods))
    write(keeping, {m: {NOW - DAY: 1.0}}, indexer_driver)
    fields = kept_fields(influxdb, keeping, m)
    assert fields == ({rollup_lines.MARK: 1} if "std" in methods else {})


def test_pause_ends(keeping, monkeypatch):
    store = rollup_store.Store(keeping.client, enabled=True)
    store.keep("no-such-bucket", [b"rollup,metric=x late=1i 1\n"])
    assert not store.is_on
    later = time.monotonic() + rollup_store._PAUSE
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert store.is_on


@pytest.fixture
def reading(make_conf, between, clock, indexer_driver):
    """A driver behind a proxy, and a read that keeps something."""
    driver = InfluxDBStorage(
        make_conf(influxdb_url=between.url, influxdb_retention=False).storage
    )
    m = metric(hours())
    clock.now = NOW - 30 * DAY
    write(driver, {m: {NOW - DAY: 1.0}}, indexer_driver)
    clock.now = NOW

    def read_it():
        answer = read(driver, m, "sum", 3600, NOW - 20 * DAY)
        assert answer == {(NOW - DAY) // HOUR * HOUR: 1.0}

    return driver, read_it


def test_nobody_waits_long_for_what_is_kept(
    between, monkeypatch, logged, request
):
    """InfluxDB's writes hang, and the answer is there already."""
    monkeypatch.setattr(rollup_store, "_TIMEOUT", 0.2)
    driver, read_it = request.getfixturevalue("reading")
    let_go = threading.Event()

    def hang(request):
        if request.path.startswith("/api/v2/write"):
            let_go.wait(20)

    between.before = hang
    try:
        read_it()
    finally:
        let_go.set()
    assert not driver._rollups.is_on
    (said,) = logged.warnings()
    assert "Rollups can't be written" in said
    assert "did not answer" in said


def test_a_read_is_repeated(between, reading):
    """InfluxDB is restarted, say: nobody has to notice."""
    _, read_it = reading
    failures = [proxy.answer("503 Service Unavailable")]
    between.before = lambda request: (
        failures.pop() if request.path == "/query" and failures else None
    )
    read_it()
    assert not failures


def test_nothing_is_written_in_a_pause(between, reading):
    _, read_it = reading

    def fail(request):
        # What is kept can't be read, for whatever reason.
        if b"rollup" in request.body and request.path == "/query":
            return proxy.answer(
                "400 Bad Request", b'{"error":"no"}', "application/json"
            )
        return None

    between.before = fail
    before = len(between.paths("/api/v2/write"))
    read_it()
    assert len(between.paths("/api/v2/write")) == before


def test_marks_of_a_bucket_that_keeps_more(
    influxdb, make_conf, clock, indexer_driver
):
    """That is the operator's choice."""
    driver = InfluxDBStorage(make_conf().storage)
    m = metric(policy((31 * 24, 3600)))
    clock.now = now = int(time.time()) * NS  # InfluxDB's own clock counts.
    name = driver.buckets.name(m.archive_policy)
    make_bucket(influxdb, name, 400 * 86400, 86400)
    write(driver, {m: {now - HOUR: 1.0}}, indexer_driver)
    assert kept_fields(influxdb, driver, m) == {rollup_lines.MARK: 1}
    write(driver, {m: {now - n * DAY: 1.0 for n in (50, 90)}}, indexer_driver)
    assert kept_fields(influxdb, driver, m) == {rollup_lines.MARK: 3}


def test_nothing_is_kept_of_the_time_before_the_first_measure(
    influxdb, keeping, computing, clock, indexer_driver
):
    """Each four weeks of it would make a shard."""
    a_policy = policy((10**6, 3600), (10**4, 86400), methods=["sum", "std"])
    m, other = metric(a_policy), metric(a_policy)
    clock.now = NOW - 90 * DAY
    write(
        keeping,
        {
            m: {NOW - n * DAY: float(n) for n in range(3, 70)},
            other: {NOW - 5 * DAY: 1.0},
        },
        indexer_driver,
    )
    clock.now = NOW
    wanted = {x: [aggregation(x, "sum", 86400)] for x in (m, other)}
    for driver in (computing, keeping, keeping):
        answer = driver.get_aggregated_measures(wanted, at(NOW - 9000 * DAY))
        assert len(as_dict(answer[m][wanted[m][0]])) == 67
        assert len(as_dict(answer[other][wanted[other][0]])) == 1
    # 24 days a block; an empty one of `other` costs nothing.
    field = rollup_lines.field("sum", DAY)
    assert 3 <= kept_fields(influxdb, keeping, m)[field] <= 4
    assert 1 <= kept_fields(influxdb, keeping, other)[field] <= 4
