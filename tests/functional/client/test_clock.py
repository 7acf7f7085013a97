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
"""The clock of this machine is set while a call is under way."""

import time

import pytest

from gnocchi_influxdb.buckets import watermark
from gnocchi_influxdb.client import transport
from gnocchi_influxdb.downsampling.downsampler import Downsampler
from gnocchi_influxdb.storage import InfluxDBStorage
from gnocchi_influxdb.wire import influxql, influxql_points
from tests.support.samples import NS, metric, policy, read, write

HOUR = 3600 * NS
DAY = 24 * HOUR


@pytest.fixture
def driver(make_conf):
    return InfluxDBStorage(make_conf(influxdb_retention=False).storage)


@pytest.fixture(params=[-30, -2, 2, 30], ids="{:+} days".format)
def jump(request, monkeypatch):
    """Callable: set the clock at the next request to InfluxDB."""
    wall, wall_ns = time.time, time.time_ns
    by = 0
    monkeypatch.setattr(time, "time", lambda: wall() + by / NS)
    monkeypatch.setattr(time, "time_ns", lambda: wall_ns() + by)

    def start():
        send = transport.Transport.send

        def jumping(self, sent):
            nonlocal by
            by = request.param * DAY
            return send(self, sent)

        monkeypatch.setattr(transport.Transport, "send", jumping)

    return start


@pytest.fixture
def now():
    """The true time."""
    return time.time_ns()


def hours():
    return metric(policy((100000, 300), (100000, 3600)))


def test_it_is_the_servers(driver, now, jump):
    clock = driver.client.clock
    assert abs(clock.now_ns() - now) < 2 * NS
    assert clock.error < 1
    jump()
    for _ in range(2):
        driver.client.ping()
        assert abs(clock.now_ns() - now) < 10 * NS


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_a_late_measure_is_marked(
    driver, indexer_driver, now, jump, late, known
):
    m = hours()
    if known:
        driver.client.ping()
    jump()
    then = now - (2 * watermark.DELAY if late else 5 * NS)
    write(driver, {m: {then: 1.0}}, indexer_driver)
    (target,) = driver.buckets.downsampled(m.archive_policy)
    body = driver.client.influxql(target.name, influxql.marks_of_all(0))
    ((marks,),) = map(
        dict.values, influxql_points.parse_influxql(body, [[influxql.MARK]])
    )
    assert list(marks) == ([m.id] if late else [])
    if late:
        (window,) = watermark.marked(marks[m.id], HOUR).tolist()
        assert window == then // HOUR * HOUR
        (time_,) = marks[m.id]["timestamps"].astype("int64").tolist()
        assert now < time_ < now + 300 * NS


@pytest.mark.parametrize("before", [True, False])
def test_a_window_that_is_not_over_is_not_computed(
    storage_conf, driver, indexer_driver, now, jump, before
):
    m = hours()
    write(
        driver, {m: {now - i * HOUR: 1.0 for i in range(20)}}, indexer_driver
    )
    jump()
    if before:
        driver.client.ping()
    (target,) = driver.buckets.downsampled(m.archive_policy)
    pass_ = Downsampler(driver.buckets, storage_conf.storage)
    for mark in pass_.downsample(m.archive_policy, target):
        assert mark.until <= now
    assert mark.until >= now - HOUR - watermark.DELAY - 10 * NS
    write(driver, {m: {now: 7.0}}, indexer_driver)
    answer = read(driver, m, "sum", 3600, now - 19 * HOUR)
    assert answer[now // HOUR * HOUR] == 7.0 + (now % HOUR == 0)
