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
"""Downsampling changes no answer."""

import random

import pytest

from gnocchi_influxdb.downsampling.downsampler import Downsampler
from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support import samples
from tests.support.samples import NS, metric, policy, write

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture
def conf(make_conf):
    return make_conf(influxdb_retention=True)


@pytest.fixture
def driver(conf):
    return InfluxDBStorage(conf.storage)


@pytest.fixture
def model(make_conf):
    """The same without downsampling: all is computed from the points."""
    return InfluxDBStorage(
        make_conf(influxdb_retention=True, influxdb_downsampling=False).storage
    )


@pytest.fixture
def run(conf, driver):
    def do(*policies, until=None):
        downsampler = Downsampler(driver.buckets, conf.storage)
        steps = 0
        for one in policies:
            for target in driver.buckets.downsampled(one):
                steps += sum(
                    1 for _ in downsampler.downsample(one, target, until)
                )
        driver.buckets.watermarks.forget()
        return steps

    return do


def now():
    return samples.recent() // (60 * NS) * 60 * NS


def all_of(driver, a_metric):
    """Everything that a metric answers: {aggregation: {ns: value}}."""
    series = driver.get_aggregated_measures(
        {a_metric: a_metric.archive_policy.aggregations}
    )[a_metric]
    return {a: samples.as_dict(of_one) for a, of_one in series.items()}


def assert_same(driver, model, metrics):
    for one in metrics:
        ours, theirs = all_of(driver, one), all_of(model, one)
        for a, expected in theirs.items():
            found = ours[a]
            assert found.keys() == expected.keys(), a
            assert found == pytest.approx(expected, rel=1e-9, abs=1e-9), a


def test_answers_are_the_same(driver, model, run, indexer_driver):
    a_policy = policy((1440, 60), (48, 3600), (10, DAY))
    metrics = [metric(a_policy) for _ in range(3)]
    start = now() - 20 * HOUR * NS
    points = {
        m: {
            start + i * 60 * NS: random.uniform(-10, 10)
            for i in range(20 * 60)
        }
        for m in metrics
    }
    write(driver, points, indexer_driver)
    assert_same(driver, model, metrics)
    assert run(a_policy)
    assert driver.buckets.watermarks.read(
        driver.buckets.downsampled(a_policy)[0].name
    )
    assert_same(driver, model, metrics)
    late = {start + 5 * HOUR * NS + 7 * NS: 1000.0, start + 7: -500.0}
    write(driver, {metrics[0]: late}, indexer_driver)
    driver.buckets.watermarks.forget()
    assert_same(driver, model, metrics)
    run(a_policy)
    assert_same(driver, model, metrics)
