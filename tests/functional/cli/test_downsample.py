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
"""gnocchi-influxdb downsample."""

import signal
import time

import pytest

from tests.support import by_hand
from tests.support.samples import NS, recent, write

HOUR = 3600
DAY = 86400


@pytest.fixture
def gnocchi(installation):
    installation.policy("low", (288, 300))
    installation.policy("two", (1440, 60), (720, HOUR))
    # A day of measures is not overdue.
    installation.conf.set_override("influxdb_raw_slack", 5 * DAY, "storage")
    installation.options["influxdb_raw_slack"] = str(5 * DAY)
    installation.write_configuration()
    return installation


@pytest.fixture
def driver(gnocchi):
    return gnocchi.storage("influxdb")


def fill(gnocchi, driver, policy="two"):
    metric = gnocchi.metric(policy)
    first = recent(DAY) // (HOUR * NS) * HOUR * NS
    write(
        driver,
        {metric: {first + i * 600 * NS: float(i) for i in range(100)}},
        gnocchi.indexer,
    )
    return metric


def windows(gnocchi, driver, policy="two"):
    """{ns: mean} of all windows of all metrics."""
    (target,) = driver.buckets.downsampled(
        gnocchi.indexer.get_archive_policy(policy)
    )
    return dict(
        by_hand.select(gnocchi.server, target.name, "mean", of="aggregate")
    )


def test_ends_when_nothing_is_due(gnocchi, driver):
    fill(gnocchi, driver)
    assert windows(gnocchi, driver) == {}
    status, out, err = gnocchi.run("downsample")
    assert (status, err) == (0, "")
    assert f"{gnocchi.prefix}two@3600s is downsampled until" in out
    found = windows(gnocchi, driver)
    assert len(found) == 17
    assert list(found.values())[:2] == [2.5, 8.5]
    # Twice changes nothing.
    assert gnocchi.run("downsample")[0] == 0
    assert windows(gnocchi, driver) == found


def test_nobody_is_told_to_run_what_is_running(gnocchi):
    gnocchi.conf.set_override("influxdb_raw_slack", HOUR, "storage")
    gnocchi.options["influxdb_raw_slack"] = str(HOUR)
    gnocchi.write_configuration()
    fill(gnocchi, gnocchi.storage("influxdb"))
    status, out, err = gnocchi.run("downsample")
    assert (status, err) == (0, "")
    assert "is downsampled until" in out


def test_until(gnocchi, driver):
    fill(gnocchi, driver)
    until = time.strftime(
        "%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - DAY + 3 * HOUR)
    )
    status, _, err = gnocchi.run("downsample", "--until", until)
    assert (status, err) == (0, "")
    assert len(windows(gnocchi, driver)) == 3
    status, _, err = gnocchi.run("downsample", "--until", "soon")
    assert status == 2
    assert "ISO 8601" in err


def test_policy(gnocchi, driver):
    gnocchi.policy("other", (1440, 60), (720, HOUR))
    for policy in ("two", "other", "low"):
        fill(gnocchi, driver, policy)
    assert gnocchi.run("downsample", "--policy", "other")[0] == 0
    assert windows(gnocchi, driver, "other")
    assert not windows(gnocchi, driver)
    status, out, _ = gnocchi.run("downsample", "--policy", "low")
    assert status == 0
    assert "nothing to downsample, it has one definition" in out
    status, out, err = gnocchi.run("downsample", "--policy", "none")
    assert (status, out) == (2, "")
    assert "no archive policy 'none'" in err
    assert "low, other, two" in err


def test_one_policy_fails(gnocchi, driver):
    gnocchi.policy("bad", (1440, 60), (720, HOUR))
    fill(gnocchi, driver)
    fill(gnocchi, driver, "bad")
    # Of another type in the very shards.
    by_hand.write_lines(
        gnocchi.server,
        f"{gnocchi.prefix}bad@3600s",
        "".join(
            f'aggregate mean="text" {recent(hours * HOUR)}\n'
            for hours in range(30)
        ),
    )
    status, _, err = gnocchi.run("downsample")
    assert status == 2
    assert "Downsampling of archive policy bad fails" in err
    assert "Traceback" not in err
    assert len(windows(gnocchi, driver)) == 17


def test_switched_off(gnocchi):
    conf = gnocchi.write_configuration(
        gnocchi.directory / "other.conf", influxdb_downsampling=False
    )
    status, _, err = gnocchi.run("downsample", conf=conf)
    assert status == 2
    assert "influxdb_downsampling is false" in err


def test_forever(gnocchi, driver):
    fill(gnocchi, driver)
    process = gnocchi.start("downsample", "--forever")
    try:
        line = process.stdout.readline()
        assert "is downsampled until" in line
        with pytest.raises(TimeoutError):
            _wait(process, 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()


def _wait(process, seconds):
    end = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)
