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
"""The observable part of the tests of Gnocchi's suite that are left out.

tests/upstream/excluded.txt names them; each has its counterpart here, under
the same name.
"""

import datetime
import re

import numpy
import pytest
from gnocchi import archive_policy, storage

from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support import ROOT
from tests.support.samples import NS, aggregation, metric, read, write

EXCLUDED = ROOT / "tests" / "upstream" / "excluded.txt"

# As in Gnocchi's tests: 5 minutes for an hour, an hour for a day, a day for
# 30 days; and a minute for 36,000 minutes.
LOW = archive_policy.ArchivePolicy(
    "low", 0, [(12, 300), (24, 3600), (30, 86400)], ["mean", "count"]
)
MEDIUM = archive_policy.ArchivePolicy(
    "medium", 0, [(1440, 60), (168, 3600), (365, 86400)], ["mean", "count"]
)
LONG = archive_policy.ArchivePolicy("long", 0, [(36000, 60)], ["mean"])


@pytest.fixture
def driver(make_conf):
    return InfluxDBStorage(make_conf(influxdb_retention=False).storage)


def ns(*args):
    utc = datetime.datetime(*args, tzinfo=datetime.timezone.utc)
    return int(utc.timestamp()) * NS


def test_every_test_that_is_left_out_has_a_counterpart():
    names = re.findall(r"(test_\w+)\$$", EXCLUDED.read_text(), re.MULTILINE)
    assert len(names) >= 12
    assert set(names) <= set(globals())


def test_driver_str(driver):
    assert str(driver).startswith(f"InfluxDBStorage: {driver.client.url} (")
    assert driver.conf.influxdb_token not in str(driver) + repr(driver)


def test_add_measures_to_metrics(driver, indexer_driver, monkeypatch):
    told = []
    monkeypatch.setattr(
        driver,
        "execute_metadata_updates_if_needed",
        lambda _indexer, measures, m: told.append((m, measures["values"][0])),
    )
    metrics = {metric(LOW): {ns(2014, 1, 1): float(i)} for i in range(3)}
    # An indexer that can't take batches is told of each metric.
    write(driver, metrics, object())
    assert told == [(m, float(i)) for i, m in enumerate(metrics)]
    for i, m in enumerate(metrics):
        assert list(read(driver, m, "mean", 300).values()) == [float(i)]


def one_measure(driver, index):
    m = metric(LOW)
    write(driver, {m: {ns(2014, 1, 1, 12, 0, 1): 69.0}}, index)
    for seconds, start in (
        (300, ns(2014, 1, 1, 12)),
        (3600, ns(2014, 1, 1, 12)),
        (86400, ns(2014, 1, 1)),
    ):
        assert read(driver, m, "mean", seconds) == {start: 69.0}
    return m


def test_corrupted_split(driver, indexer_driver):
    # There is nothing of Gnocchi's making that could be corrupt.
    one_measure(driver, indexer_driver)


def test_get_splits_and_unserialize(driver, indexer_driver):
    one_measure(driver, indexer_driver)


def test_get_measures_return(driver, indexer_driver):
    m = metric(LONG)
    points = {
        ns(2016, 1, 1, 12, 0): 69.0,
        ns(2016, 1, 2, 13, 7): 42.0,
        ns(2016, 1, 4, 14, 9): 4.0,
        ns(2016, 1, 6, 15, 12): 44.0,
    }
    write(driver, {m: points}, indexer_driver)
    assert read(driver, m, "mean", 60) == points
    # Ranges with one, with nothing, and of a metric without measures.
    day = 86400 * NS
    for start, value in ((1, [69.0]), (3, []), (4, [4.0])):
        found = read(
            driver, m, "mean", 60, ns(2016, 1, start), ns(2016, 1, start) + day
        )
        assert list(found.values()) == value
    with pytest.raises(storage.MetricDoesNotExist):
        read(driver, metric(LONG), "mean", 60)


def test_corrupted_data(driver, indexer_driver):
    m = one_measure(driver, indexer_driver)
    write(driver, {m: {ns(2014, 1, 1, 13, 0, 1): 1.0}}, indexer_driver)
    assert read(driver, m, "mean", 3600) == {
        ns(2014, 1, 1, 12): 69.0,
        ns(2014, 1, 1, 13): 1.0,
    }
    assert read(driver, m, "mean", 86400) == {ns(2014, 1, 1): 35.0}


def test_add_measures_update_subset_split(driver, indexer_driver):
    m = metric(MEDIUM)
    points = {
        ns(2014, 1, 6, hour, minute): 100.0
        for hour in range(2)
        for minute in range(0, 60, 2)
    }
    write(driver, {m: points}, indexer_driver)
    before = read(driver, m, "count", 60)
    write(driver, {m: {ns(2014, 1, 6, 1, 58, 1): 100.0}}, indexer_driver)
    after = read(driver, m, "count", 60)
    assert after == {**before, ns(2014, 1, 6, 1, 58): 2.0}
    assert set(read(driver, m, "mean", 60).values()) == {100.0}


def test_delete_old_measures(driver, indexer_driver):
    m = metric(LOW)
    points = {
        ns(2014, 1, 1, 12, 0, 1): 69.0,
        ns(2014, 1, 1, 12, 7, 31): 42.0,
        ns(2014, 1, 1, 12, 9, 31): 4.0,
        ns(2014, 1, 1, 12, 12, 45): 44.0,
    }
    write(driver, {m: points}, indexer_driver)
    assert read(driver, m, "mean", 86400) == {ns(2014, 1, 1): 39.75}
    assert read(driver, m, "mean", 300) == {
        ns(2014, 1, 1, 12): 69.0,
        ns(2014, 1, 1, 12, 5): 23.0,
        ns(2014, 1, 1, 12, 10): 44.0,
    }
    # One year later.
    write(driver, {m: {ns(2015, 1, 1, 12, 0, 1): 69.0}}, indexer_driver)
    assert read(driver, m, "mean", 86400) == {ns(2015, 1, 1): 69.0}
    assert read(driver, m, "mean", 3600) == {ns(2015, 1, 1, 12): 69.0}
    assert read(driver, m, "mean", 300) == {ns(2015, 1, 1, 12): 69.0}


def rewrite(driver, index, later):
    m = metric(LONG)
    points = {
        ns(2016, 1, 1, 12, 0, 1): 69.0,
        ns(2016, 1, 2, 13, 7, 31): 42.0,
        ns(2016, 1, 4, 14, 9, 31): 4.0,
        ns(2016, 1, 6, 15, 12, 45): 44.0,
    }
    minute = 60 * NS
    write(driver, {m: points}, index)
    wanted = {t // minute * minute: v for t, v in points.items()}
    assert read(driver, m, "mean", 60) == wanted
    write(driver, {m: later}, index)
    wanted.update({t // minute * minute: v for t, v in later.items()})
    assert read(driver, m, "mean", 60) == wanted
    return m


LATER = {ns(2016, 1, 10, 16, 18, 45): 45.0, ns(2016, 1, 10, 17, 12, 45): 46.0}


def test_rewrite_measures(driver, indexer_driver):
    rewrite(driver, indexer_driver, LATER)


def test_rewrite_measures_oldest_mutable_timestamp_eq_next_key(
    driver, indexer_driver
):
    rewrite(driver, indexer_driver, {ns(2016, 1, 10, 0, 12): 45.0})


def test_rewrite_measures_corruption_missing_file(driver, indexer_driver):
    # What is gone is gone; the rest is answered.
    m = rewrite(driver, indexer_driver, LATER)
    bucket = driver.buckets.name(LONG)
    driver.client._request(
        "POST",
        f"/api/v2/delete?org={driver.client.org}&bucket={bucket}",
        b'{"start": "2016-01-04T00:00:00Z", "stop": "2016-01-05T00:00:00Z"}',
        {"Content-Type": "application/json"},
    )
    assert list(read(driver, m, "mean", 60).values()) == [
        69.0,
        42.0,
        44.0,
        45.0,
        46.0,
    ]


def test_rewrite_measures_corruption_bad_data(driver, indexer_driver):
    # Foreign points in the bucket are no measures.
    m = rewrite(driver, indexer_driver, LATER)
    driver.client.write(
        driver.buckets.name(LONG),
        b'other,metric=%(id)s value="oh really?" 1451952000000000000\n'
        b'measure,metric=%(id)s note="oh really?" 1451952000000000000\n'
        % {b"id": str(m.id).encode()},
    )
    a = aggregation(m, "mean", 60)
    series = driver.get_aggregated_measures({m: [a]})[m][a]
    assert series.values.tolist() == [69.0, 42.0, 4.0, 44.0, 45.0, 46.0]
    assert series.timestamps.dtype == numpy.dtype("datetime64[ns]")
