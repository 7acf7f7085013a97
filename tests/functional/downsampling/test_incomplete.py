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

"""Late measures of windows whose points have expired."""

import numpy
import pytest

from gnocchi_influxdb.buckets import manager
from gnocchi_influxdb.buckets.watermark import Watermark
from gnocchi_influxdb.wire import line_protocol
from tests.functional.downsampling import passes
from tests.functional.downsampling.passes import DAY, HOUR, MINUTE, now
from tests.support import by_hand
from tests.support.samples import NS, metric, policy, read, write

METHODS = ["mean", "count", "std", "rate:mean"]
# Points are kept for 7 h, and then for ten days.
SHORT = policy((120, MINUTE), (240, HOUR), methods=METHODS)
LONG = policy((8 * 24 * 60, MINUTE), (240, HOUR), methods=METHODS)
SLACK = 3 * HOUR
GOOD = {"mean": 5.0, "count": 60.0, "std": 2.0, "rate:mean": 0.25}
# Of one measure.
ONE = {"mean": 5.0, "count": 1.0}


def start():
    """Of an hour of two days ago, whose points have long expired, ns."""
    return (now() - 2 * DAY * NS) // (HOUR * NS) * HOUR * NS


def target(driver):
    """Name of the bucket of the hours."""
    (one,) = driver.buckets.downsampled(LONG)
    return one.name


def store(driver, one, hours, good=GOOD):
    """Windows as they were computed when their points were there."""
    lines = line_protocol.windows(
        [one.id],
        numpy.zeros(len(hours), dtype="int64"),
        numpy.array(hours),
        {
            method: numpy.full(len(hours), value)
            for method, value in good.items()
        },
    )
    driver.client.write(target(driver), b"".join(lines))


@pytest.fixture
def driver(make_driver):
    """It has downsampled for long, and then points are kept for longer."""
    made = make_driver(influxdb_raw_slack=SLACK)
    made.buckets.ensure(SHORT)
    end = now() // (HOUR * NS) * HOUR * NS
    made.buckets.watermarks.write(target(made), Watermark(end, now(), end))
    return made


@pytest.fixture
def one():
    return metric(LONG)


def windows(reader, one, hour):
    """What is answered of an hour, by method."""
    reader.buckets.watermarks.forget()
    return {
        method: found[hour]
        for method in METHODS
        for found in [read(reader, one, method, HOUR)]
        if hour in found
    }


@pytest.fixture(params=["auto", "influxql", "flux"])
def longer(request, make_driver, influxdb, driver):
    """The driver after it was restarted with a longer slack."""
    if request.param == "flux" and influxdb.release == 1:
        pytest.skip("no Flux")
    return make_driver(
        influxdb_raw_slack=SLACK, influxdb_query_language=request.param
    )


def test_a_good_window_stays(longer, driver, one, indexer_driver):
    hour = start()
    store(driver, one, [hour, hour + HOUR * NS])
    store(driver, one, [hour + 2 * HOUR * NS], ONE)
    late = {hour + i * MINUTE * NS: 1e6 * i for i in (5, 9)}
    late |= {at + 2 * HOUR * NS: value for at, value in late.items()}
    write(longer, {one: late}, indexer_driver)
    for _ in range(2):
        # Also the next one, whose rate these count for.
        for at in hour, hour + HOUR * NS:
            assert windows(longer, one, at) == GOOD
        # Nor does what a window never had come back.
        assert windows(longer, one, hour + 2 * HOUR * NS) == ONE
        assert passes.run(longer, LONG)


def test_a_metric_without_windows_gets_them(longer, one, indexer_driver):
    """In several batches, with passes between."""
    hour = start()
    sent = {}
    for i in range(3):
        batch = {
            hour + (20 * i + j) * MINUTE * NS: float(i + j) for j in range(20)
        }
        sent |= batch
        write(longer, {one: batch}, indexer_driver)
        for _ in range(2):
            found = windows(longer, one, hour)
            assert found["count"] == len(sent)
            mean = sum(sent.values()) / len(sent)
            assert found["mean"] == pytest.approx(mean)
            passes.run(longer, LONG)
        assert windows(longer, one, hour).keys() == set(METHODS)


def test_filled_windows_stay_when_their_points_have_expired_too(
    longer, make_driver, one, influxdb, indexer_driver, monkeypatch
):
    monkeypatch.setattr(manager, "LOOK_AGAIN", 0)
    hour = start()
    first = {hour + i * MINUTE * NS: 1.0 for i in range(60)}
    write(longer, {one: first}, indexer_driver)
    passes.run(longer, LONG)
    # Back to what it was, and once more.
    id_, *_ = by_hand.bucket(influxdb, longer.buckets.name(LONG))
    by_hand.change_bucket(influxdb, id_, 7 * HOUR, HOUR)
    driver = make_driver(influxdb_raw_slack=SLACK)
    driver.buckets.ensure(SHORT)
    monkeypatch.setattr(
        driver.client.clock, "now_ns", lambda: now() + 2 * HOUR * NS
    )
    write(driver, {one: {hour + 7: 1e6}}, indexer_driver)
    passes.run(driver, LONG)
    assert windows(driver, one, hour)["mean"] == 1.0


def test_lengthened_by_hand_before_the_option(
    make_driver, driver, one, influxdb, indexer_driver
):
    hour = start()
    store(driver, one, [hour])
    id_, _, shards = by_hand.bucket(influxdb, driver.buckets.name(LONG))
    by_hand.change_bucket(influxdb, id_, 20 * DAY, shards)
    longer = make_driver(influxdb_raw_slack=SLACK)
    write(longer, {one: {hour + 7: 1e6}}, indexer_driver)
    passes.run(longer, LONG)
    assert windows(longer, one, hour) == GOOD


def test_bucket_of_points_deleted_by_hand(
    make_driver, influxdb, indexer_driver
):
    driver = make_driver()
    one = metric(SHORT)
    hour = now() // (HOUR * NS) * HOUR * NS - 3 * HOUR * NS
    points = {hour + i * MINUTE * NS: 1.0 for i in range(60)}
    write(driver, {one: points}, indexer_driver)
    passes.run(driver, SHORT)
    by_hand.delete_bucket(influxdb, driver.buckets.name(SHORT))
    write(make_driver(), {one: {hour + 7: 1e6}}, indexer_driver)
    passes.run(driver, SHORT)
    assert windows(driver, one, hour)["count"] == 60


def test_windows_after_that_are_computed_again(
    longer, model, one, indexer_driver
):
    hour = now() // (HOUR * NS) * HOUR * NS - 3 * HOUR * NS
    for i in range(2):
        batch = {hour + (2 * j + i) * MINUTE * NS: 7.0 * i for j in range(30)}
        write(longer, {one: batch}, indexer_driver)
        passes.run(longer, LONG)
    assert longer.buckets.watermarks.read(target(longer)).whole > start()
    found = windows(longer, one, hour)
    assert (found["count"], found["mean"]) == (60, 3.5)


def test_a_new_policy_has_none(make_driver, one, indexer_driver):
    """Nor do watermarks that an older release has moved."""
    driver = make_driver(influxdb_raw_slack=SLACK)
    write(driver, {one: {start() + 7: 1.0, now(): 1.0}}, indexer_driver)
    passes.run(driver, LONG)
    assert driver.buckets.watermarks.read(target(driver)).whole == 0
