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
"""Late measures of windows that gnocchi-influxdb migrate has moved."""

import numpy
import pytest

from gnocchi_influxdb.downsampling.downsampler import Downsampler
from tests.support.installation import DAY, HOUR, answers, fill, series
from tests.support.samples import NS, recent, write

MINUTE = 60 * NS
METHODS = ["mean", "count", "sum", "std", "rate:mean"]


@pytest.fixture
def gnocchi(installation):
    installation.policy("one", (20 * 24 * 60, 60), methods=METHODS)
    installation.policy(
        "medium", (7 * 24 * 60, 60), (365 * 24, 3600), methods=METHODS
    )
    return installation


@pytest.fixture(params=["medium", "one"])
def moved(request, gnocchi):
    """A metric that stopped five hours ago, moved; and the driver."""
    metric = gnocchi.metric(request.param)
    stop = hours_ago(5) + 1700 * NS
    rng = numpy.random.default_rng(3)
    fill(gnocchi, [metric], series(stop - 3 * DAY, stop, 13 * NS, rng), 9)
    status, found = gnocchi.json("migrate", "--from-driver=file", "--verify")
    assert status == 0, found
    assert found["measures"]
    return metric, gnocchi.storage("influxdb")


def hours_ago(number):
    """ns of a whole hour, so many hours before the present one."""
    return recent() // HOUR * HOUR - number * HOUR


def downsample(gnocchi, driver, policy):
    """What metricd does."""
    downsampler = Downsampler(driver.buckets, gnocchi.conf.storage)
    for target in driver.buckets.downsampled(policy):
        for _ in downsampler.downsample(policy, target):
            pass


def test_moved_windows_stay(gnocchi, moved):
    metric, driver = moved
    theirs = answers(gnocchi, metric, "file")
    late = {hours_ago(40) + i * MINUTE: 1e6 * i for i in (3, 3.5, 9)}
    write(driver, {metric: late}, gnocchi.indexer)
    for _ in range(2):
        ours = answers(gnocchi, metric, "influxdb")
        for key, windows in theirs.items():
            assert ours[key] == pytest.approx(windows, rel=1e-9), key
        downsample(gnocchi, driver, metric.archive_policy)


def test_in_the_back_window_they_count(gnocchi, moved):
    """There are its measures."""
    metric, driver = moved
    theirs = answers(gnocchi, metric, "file")
    hour = hours_ago(5)
    minute = hour + 28 * MINUTE
    late = {minute + 7: 1e6, minute + 9: 1e6}
    write(driver, {metric: late}, gnocchi.indexer)
    for _ in range(2):
        ours = answers(gnocchi, metric, "influxdb")
        for key, windows in theirs.items():
            start = minute if key[1] == 60 else hour
            if key[0] == "count":
                assert ours[key][start] == windows[start] + 2, key
            elif key[0] == "sum":
                assert ours[key][start] == pytest.approx(windows[start] + 2e6)
            elif key[0] != "rate:mean":
                assert ours[key][start] > 1000, key
        downsample(gnocchi, driver, metric.archive_policy)


def test_another_metric_gets_windows_there(gnocchi, moved):
    """In several batches, with passes between."""
    old, driver = moved
    metric = gnocchi.metric(old.archive_policy.name)
    hour = hours_ago(40)
    for i in range(3):
        batch = {hour + (10 * i + j) * MINUTE: 1.0 + j for j in range(10)}
        write(driver, {metric: batch}, gnocchi.indexer)
        downsample(gnocchi, driver, metric.archive_policy)
        ours = answers(gnocchi, metric, "influxdb")
        counts = [of for (method, _), of in ours.items() if method == "count"]
        for of in counts:
            assert sum(of.values()) == 10 * (i + 1)
        assert len(counts) == len(old.archive_policy.definition)
