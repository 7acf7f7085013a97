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
"""Backup and restore of InfluxDB, as doc/source/backup.rst has it."""

import os
import subprocess

import pytest
import servers
from gnocchi import storage
from servers import influx_cli

from gnocchi_influxdb.downsampling.downsampler import Downsampler
from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support import by_hand
from tests.support.samples import NS, metric, policy, read, recent, write

pytestmark = pytest.mark.only_2x("influx backup is of 2.x")

HOUR = 3600 * NS
POLICIES = (
    policy((288, 300), (720, 3600), name="low"),
    policy((60, 60), name="brief"),
)
SECONDS = {"low": (300, 3600), "brief": (60,)}


@pytest.fixture
def influx(tmp_path):
    """Runs the command line of InfluxDB against a server."""
    try:
        program = influx_cli.find()
    except servers.ServerError as error:
        pytest.skip(str(error))
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("INFLUX_")
    }

    def run(server, *arguments):
        done = subprocess.run(
            [program, *arguments],
            env={
                **environment,
                "HOME": str(tmp_path),
                "INFLUX_HOST": server.url,
                "INFLUX_TOKEN": server.token,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert not done.returncode, done.stdout + done.stderr

    return run


@pytest.fixture
def other_influxd(fresh_influxd):
    """A second server, empty."""
    with servers.find_influxdb_server(may_build=False) as server:
        yield server


@pytest.fixture
def metrics():
    return [metric(of) for of in POLICIES for _ in range(3)]


def points(hours, number, step=10):
    """Some values of the last hours."""
    start = recent() - int(hours * HOUR)
    return {start + i * step * NS: float(i * i % 101) for i in range(number)}


def downsample(driver, conf):
    """What gnocchi-metricd does."""
    job = Downsampler(driver.buckets, conf.storage)
    for of in POLICIES:
        for target in driver.buckets.downsampled(of):
            assert list(job.downsample(of, target))


def watermark(driver):
    (windows,) = driver.buckets.downsampled(POLICIES[0])
    return driver.buckets.watermarks.read(windows.name)


def answers(driver, metrics):
    return [
        read(driver, m, method, seconds)
        for m in metrics
        for method in ("mean", "std", "rate:mean")
        for seconds in SECONDS[m.archive_policy.name]
    ]


def test_a_server_is_lost(
    make_conf,
    fresh_influxd,
    other_influxd,
    indexer_driver,
    influx,
    metrics,
    tmp_path,
):
    conf = make_conf(server=fresh_influxd)
    driver = InfluxDBStorage(conf.storage)
    write(driver, {m: points(0.9, 300) for m in metrics}, indexer_driver)
    # There are windows of another that are over.
    old = metric(POLICIES[0])
    metrics.append(old)
    write(driver, {old: points(5, 290, 60)}, indexer_driver)
    downsample(driver, conf)
    downsampled = watermark(driver)
    before = answers(driver, metrics)
    assert all(before)
    influx(fresh_influxd, "backup", tmp_path / "backup")
    # What is stored after it is lost, and so is who has nothing else.
    late = metric(POLICIES[0])
    write(driver, {late: points(0.5, 10)}, indexer_driver)
    write(driver, {metrics[0]: points(0.05, 10)}, indexer_driver)
    after = answers(driver, metrics)
    assert after != before
    fresh_influxd.stop()

    token = fresh_influxd.token
    influx(
        other_influxd,
        # A token may begin with a dash.
        *("restore", "--full", f"--operator-token={token}"),
        tmp_path / "backup",
    )
    other_influxd.token = token
    # The token of before does for Gnocchi, too.
    driver = InfluxDBStorage(make_conf(server=other_influxd).storage)
    assert watermark(driver) == downsampled
    assert answers(driver, metrics) == before
    with pytest.raises(storage.MetricDoesNotExist):
        read(driver, late, "mean", 300)
    # What has waited in the queue, or is sent again.
    write(driver, {late: {recent(): 1.0}}, indexer_driver)
    assert list(read(driver, late, "mean", 300).values()) == [1.0]
    for of in POLICIES:
        name = driver.buckets.name(of)
        wanted = driver.buckets.of(of).retention
        assert by_hand.bucket(other_influxd, name)[1] == wanted
        for windows in driver.buckets.downsampled(of):
            found = by_hand.bucket(other_influxd, windows.name)
            assert found[1] == windows.retention


def test_a_bucket_is_lost(
    make_conf, fresh_influxd, indexer_driver, influx, metrics, tmp_path
):
    driver = InfluxDBStorage(make_conf(server=fresh_influxd).storage)
    write(driver, {m: points(0.9, 300) for m in metrics}, indexer_driver)
    before = answers(driver, metrics)
    influx(fresh_influxd, "backup", tmp_path / "backup")
    lost = driver.buckets.name(POLICIES[0])
    by_hand.delete_bucket(fresh_influxd, lost)
    with pytest.raises(storage.MetricDoesNotExist):
        read(driver, metrics[0], "mean", 300)
    influx(fresh_influxd, "restore", "--bucket", lost, tmp_path / "backup")
    assert answers(driver, metrics) == before


@pytest.fixture
def downsampled(make_conf, fresh_influxd, indexer_driver):
    """A driver, its configuration, and a metric with hours of windows."""
    conf = make_conf(server=fresh_influxd)
    driver = InfluxDBStorage(conf.storage)
    old = metric(POLICIES[0])
    write(driver, {old: points(5, 290, 60)}, indexer_driver)
    downsample(driver, conf)
    return driver, conf, old


def test_windows_are_lost(downsampled, fresh_influxd, influx, tmp_path):
    driver, _, old = downsampled
    (windows,) = driver.buckets.downsampled(POLICIES[0])
    before, mark = answers(driver, [old]), watermark(driver)
    influx(fresh_influxd, "backup", tmp_path / "backup")
    by_hand.delete_bucket(fresh_influxd, windows.name)
    driver.buckets.watermarks.forget()
    assert watermark(driver) is None
    assert answers(driver, [old]) == before
    influx(
        fresh_influxd,
        *("restore", "--bucket", windows.name),
        tmp_path / "backup",
    )
    driver.buckets.watermarks.forget()
    assert watermark(driver) == mark
    assert answers(driver, [old]) == before


def test_points_are_lost(downsampled, fresh_influxd, indexer_driver):
    """What is downsampled stays, whatever comes after."""
    driver, _, old = downsampled
    until = watermark(driver).until

    def hours():
        return {
            time: value
            for time, value in read(driver, old, "std", 3600).items()
            if time < until
        }

    before = hours()
    assert len(before) >= 4
    by_hand.delete_bucket(fresh_influxd, driver.buckets.name(POLICIES[0]))
    write(driver, {old: {recent(): 1.0}}, indexer_driver)
    assert hours() == before


def test_only_points_are_restored(
    downsampled, fresh_influxd, influx, tmp_path
):
    """Without a watermark windows are computed again."""
    driver, conf, old = downsampled
    name = driver.buckets.name(POLICIES[0])
    (windows,) = driver.buckets.downsampled(POLICIES[0])
    before, mark = answers(driver, [old]), watermark(driver)
    influx(fresh_influxd, "backup", tmp_path / "backup")
    for lost in (name, windows.name):
        by_hand.delete_bucket(fresh_influxd, lost)
    influx(fresh_influxd, "restore", "--bucket", name, tmp_path / "backup")
    driver = InfluxDBStorage(conf.storage)
    assert watermark(driver) is None
    assert answers(driver, [old]) == before
    downsample(driver, conf)
    assert watermark(driver).until >= mark.until
    assert answers(driver, [old]) == before
