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

"""Passes over a policy, and whether they changed an answer."""

import itertools

import numpy
from gnocchi import storage

from gnocchi_influxdb.downsampling.downsampler import Downsampler
from tests.support import samples
from tests.support.samples import NS

MINUTE = 60
HOUR = 3600
DAY = 24 * HOUR


def now():
    """The beginning of this minute, ns."""
    return samples.recent() // (60 * NS) * 60 * NS


def steps(driver, policy, until=None):
    """The steps of a pass over all definitions; stop when you like."""
    downsampler = Downsampler(driver.buckets, driver.conf)
    for target in driver.buckets.downsampled(policy):
        yield from downsampler.downsample(policy, target, until)


def run(driver, policy, until=None, most=None):
    """Do a pass, or some of its steps, after which it is killed.

    :return: how many steps were done.
    """
    number = sum(
        1 for _ in itertools.islice(steps(driver, policy, until), most)
    )
    driver.buckets.watermarks.forget()
    return number


def answer(driver, wanted, *span):
    """What a call answers: {metric id: {aggregation: {ns: value}}}."""
    try:
        found = driver.get_aggregated_measures(wanted, *span)
    except storage.MetricDoesNotExist as e:
        return type(e)
    return {
        m.id: {a: samples.as_dict(series) for a, series in of_metric.items()}
        for m, of_metric in found.items()
    }


def assert_same(driver, model, metrics, *span, wanted=None):
    """That both answer all aggregations of some metrics alike.

    :param span: as `get_aggregated_measures` takes it.
    :param wanted: aggregations instead of all.
    """
    asked = {m: wanted or m.archive_policy.aggregations for m in metrics}
    found, expected = (answer(one, asked, *span) for one in (driver, model))
    if isinstance(expected, type):
        assert found is expected
        return
    for m, of_metric in expected.items():
        for a, series in of_metric.items():
            ours = found[m][a]
            assert ours.keys() == series.keys(), a
            differ = {
                time: (ours[time], value)
                for time, value in series.items()
                if not numpy.isclose(ours[time], value, 1e-9, 1e-6)
            }
            assert not differ, (a, differ, m, span)


def assert_each(driver, model, metrics):
    """As `assert_same`, each metric by itself."""
    for one in metrics:
        assert_same(driver, model, [one])
