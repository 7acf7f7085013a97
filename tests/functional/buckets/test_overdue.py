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
"""Points are kept for longer while nobody downsamples them."""

import logging

import pytest

from gnocchi_influxdb.buckets import manager
from gnocchi_influxdb.buckets.watermark import Watermark
from gnocchi_influxdb.downsampling.downsampler import Downsampler
from gnocchi_influxdb.maintenance.downsample import downsample
from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support import by_hand, proxy
from tests.support.samples import NS, metric, policy, read, recent, write

HOUR = 3600
DAY = 24 * HOUR
# Its points are kept for 3 h, and windows are overdue after 1.25 h.
A_POLICY = policy((60, 60), (240, HOUR), methods=["mean"])
KEPT = 3 * HOUR
AGE = KEPT - 600


@pytest.fixture
def make_driver(make_conf):
    """Makes drivers as other processes would."""

    def make(**options):
        conf = make_conf(influxdb_raw_slack=HOUR, **options)
        return InfluxDBStorage(conf.storage, max_retries=0)

    return make


@pytest.fixture
def overdue(make_driver, influxdb):
    """Makes the bucket of a policy, with a point of hours ago; its name."""

    def make(a_policy=A_POLICY):
        name = make_driver().buckets.ensure(a_policy)
        assert retention(influxdb, name) == KEPT
        by_hand.write_lines(
            influxdb,
            name,
            f"measure,metric={metric(a_policy).id} value=1 {recent(AGE)}\n",
        )
        return name

    return make


def retention(influxdb, name):
    return by_hand.bucket(influxdb, name)[1]


def change(influxdb, name, seconds):
    id_, _, shards = by_hand.bucket(influxdb, name)
    by_hand.change_bucket(influxdb, id_, seconds, shards)


def errors(logged):
    return [
        record.getMessage()
        for record in logged.records
        if record.levelno == logging.ERROR
    ]


def downsampled(driver):
    """Downsample as gnocchi-metricd does, until nothing is due."""
    return len(
        list(
            downsample(
                driver.buckets,
                Downsampler(driver.buckets, driver.conf),
                A_POLICY,
            )
        )
    )


@pytest.fixture
def a_day_later(monkeypatch):
    """Sets a driver's clock on by a day and a minute."""

    def set_on(driver):
        clock = driver.client.clock
        real = clock.now_ns
        monkeypatch.setattr(clock, "now_ns", lambda: real() + (DAY + 60) * NS)

    return set_on


def test_kept_for_longer_until_downsampled(
    make_driver, overdue, influxdb, logged, monkeypatch, a_day_later
):
    name = overdue()
    assert errors(logged) == []
    driver = make_driver()
    driver.buckets.ensure(A_POLICY)
    assert retention(influxdb, name) == KEPT + DAY
    (told,) = errors(logged)
    assert "Archive policy policy has not been downsampled for 1 h" in told
    assert "gnocchi-influxdb downsample --policy policy" in told
    assert "gnocchi-metricd" in told
    # Once, however often it looks, and however many do.
    monkeypatch.setattr(manager, "LOOK_AGAIN", 0)
    for one in driver, make_driver():
        one.buckets.ensure(A_POLICY)
    assert len(errors(logged)) == 1
    assert retention(influxdb, name) == KEPT + DAY
    assert downsampled(driver)
    # Gnocchi's queue may still hold measures that are as old.
    assert retention(influxdb, name) == KEPT + DAY
    a_day_later(driver)
    downsampled(driver)
    assert retention(influxdb, name) == KEPT
    # No measure can reach some windows any more, which are done once more.
    downsampled(driver)
    driver.buckets.ensure(A_POLICY)
    assert not downsampled(driver)
    assert retention(influxdb, name) == KEPT
    assert len(errors(logged)) == 1


def test_taken_back_to_what_an_operator_chose(
    make_driver, overdue, influxdb, a_day_later
):
    name = overdue()
    change(influxdb, name, 5 * HOUR)
    driver = make_driver()
    driver.buckets.ensure(A_POLICY)
    assert retention(influxdb, name) == KEPT + DAY
    downsampled(driver)
    a_day_later(driver)
    downsampled(driver)
    assert retention(influxdb, name) == 5 * HOUR


@pytest.mark.parametrize("before", [False, True])
def test_lengthened_by_hand(
    make_driver, overdue, influxdb, logged, before, a_day_later
):
    """An operator's choice stays, made before or after the driver's."""
    name = overdue()
    if before:
        change(influxdb, name, 10 * DAY)
    driver = make_driver()
    driver.buckets.ensure(A_POLICY)
    assert len(errors(logged)) == 1 - before
    change(influxdb, name, 10 * DAY)
    assert downsampled(driver)
    a_day_later(driver)
    downsampled(driver)
    assert retention(influxdb, name) == 10 * DAY


def test_not_longer_than_any_window(make_driver, overdue, influxdb):
    short = policy((60, 60), (4, HOUR), methods=["mean"])
    name = overdue(short)
    make_driver().buckets.ensure(short)
    assert retention(influxdb, name) == 5 * HOUR
    assert retention(influxdb, f"{name}@{HOUR}s") == 5 * HOUR


def test_may_not_change_buckets(
    make_driver, overdue, influxdb, indexer_driver, logged, a_day_later
):
    """Measures are taken all the same, and the operator has the command."""
    name = overdue()

    def before(request):
        changes = request.method == "PATCH" or b"ALTER" in request.body
        if not changes:
            return None
        return proxy.answer(
            "403 Forbidden", b'{"code": "forbidden", "message": "not you"}'
        )

    with proxy.Proxy(influxdb.url, before) as between:
        driver = make_driver(influxdb_url=between.url)
        one = metric(A_POLICY)
        point = {recent(60): 1.0}
        write(driver, {one: point}, indexer_driver)
        assert by_hand.stored(influxdb, name, one) == point
        assert retention(influxdb, name) == KEPT
        told, warning = logged.warnings()
        assert "downsample --policy policy" in told
        assert f"{KEPT + DAY}s" in warning.partition("Change it with: ")[2]
        # The operator does that; and it can't be taken back, either.
        change(influxdb, name, KEPT + DAY)
        logged.records.clear()
        assert downsampled(driver)
        driver.buckets.ensure(A_POLICY)
        a_day_later(driver)
        downsampled(driver)
        downsampled(driver)
        assert retention(influxdb, name) == KEPT + DAY
        (warning,) = logged.warnings()
        assert f"{KEPT}s" in warning.partition("Change it with: ")[2]


def test_a_long_outage(make_driver, indexer_driver, influxdb, monkeypatch):
    """What has waited in Gnocchi's queue counts, one sack after the other."""
    now = recent() // (60 * NS) * 60 * NS
    gone = now - 60 * HOUR * NS
    driver = make_driver()
    name = driver.buckets.ensure(A_POLICY)
    (target,) = driver.buckets.downsampled(A_POLICY)
    end = gone // (HOUR * NS) * HOUR * NS
    driver.buckets.watermarks.write(target.name, Watermark(end, gone, end))
    points = {t: t // NS % 7 for t in range(gone, now, 60 * NS)}
    monkeypatch.setattr(manager, "LOOK_AGAIN", 0)
    # One process has seen the bucket before, and another one has not.
    for process in driver, make_driver():
        for one in (metric(A_POLICY) for _ in range(2)):
            write(process, {one: points}, indexer_driver)
            assert by_hand.stored(influxdb, name, one) == points
            downsampled(process)
            hours = read(process, one, "mean", HOUR)
            assert len(hours) in (60, 61)
