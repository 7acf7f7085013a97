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
"""An installation that kept a year of points begins to downsample them.

Its buckets, points, marks and stored aggregates are written by the driver of
then.
"""

import random

import pytest

from gnocchi_influxdb import schema
from gnocchi_influxdb.storage import InfluxDBStorage
from tests.functional.downsampling import passes
from tests.functional.downsampling.passes import DAY, HOUR, MINUTE
from tests.support import by_hand, earlier, samples
from tests.support.samples import NS

A_POLICY = samples.policy((7 * 288, 300), (60 * 24, HOUR), (365, DAY))


@pytest.fixture
def code(tmp_path):
    """The directory of the driver of then."""
    earlier.check_out(tmp_path / "earlier")
    return tmp_path / "earlier"


@pytest.fixture
def driver(make_conf):
    return InfluxDBStorage(make_conf().storage, max_retries=0)


def a_year(ids, until):
    """Batches of measures: each half an hour, some of them out of order."""
    chance = random.Random(24)
    step = 30 * MINUTE * NS
    times = range(until - 365 * DAY * NS, until, step)
    batches = [{id_: [] for id_ in ids}, {id_: [] for id_ in ids}]
    for id_ in ids:
        value = chance.uniform(100, 200)
        for time in times:
            value += chance.uniform(0, 5)
            jitter = chance.randrange(20 * MINUTE * NS)
            # What comes second is late, in all of the year.
            batches[chance.random() < 0.02][id_].append((time + jitter, value))
    return batches


def differences(driver, metrics, expected, until):
    """What the driver answers otherwise than was expected.

    Windows that were whole then; and none so old that it may be out of its
    timespan meanwhile.
    """
    points = {item.granularity: item.points for item in A_POLICY.definition}
    wanted = {m: list(A_POLICY.aggregations) for m in metrics}
    answers = driver.get_aggregated_measures(wanted)
    differ, compared = [], 0
    for m, of_metric in answers.items():
        for aggregation, series in of_metric.items():
            every = schema.ns_of(aggregation.granularity)
            oldest = until - every * (points[aggregation.granularity] - 2)
            ours = samples.as_dict(series)
            theirs = expected[m.id][aggregation.method, every]
            for time, value in theirs.items():
                if oldest <= time < until - every:
                    compared += 1
                    if ours.get(time) != pytest.approx(value, 1e-9, 1e-6):
                        differ.append((aggregation, time, ours.get(time)))
    # Of a week of half hours, 60 days of hours, and a year of days; where
    # there is one measure, there is no deviation.
    assert compared > 30000 * len(metrics)
    return differ


@pytest.mark.only_2x("a DELETE is of all retention policies")
def test_a_year_of_points(
    code, make_conf, driver, influxdb, indexer_driver, logged
):
    until = passes.now()
    metrics = [samples.metric(A_POLICY) for _ in range(2)]
    expected = earlier.store(
        code,
        make_conf(),
        indexer_driver,
        A_POLICY,
        a_year([m.id for m in metrics], until),
    )
    points = driver.buckets.name(A_POLICY)
    _, kept, _ = by_hand.bucket(influxdb, points)
    assert kept == 366 * DAY
    # Blocks of aggregates, and marks of days with late measures.
    for field in f"mean_{HOUR * NS}", "late":
        assert by_hand.select(influxdb, points, f"count({field})", of="rollup")

    driver.upgrade()
    assert differences(driver, metrics, expected, until) == []
    # The first measure that comes makes the buckets of windows.
    samples.write(driver, {metrics[0]: {until: 1.0}}, indexer_driver)
    assert by_hand.bucket(influxdb, points)[1] == kept
    assert differences(driver, metrics, expected, until) == []
    # It is killed in the middle, and goes on.
    for most in 10, 5, None:
        assert passes.run(driver, A_POLICY, most=most)
        assert differences(driver, metrics, expected, until) == []
    assert passes.run(driver, A_POLICY) == 0

    # Now somebody shortens the bucket, as check says.
    retention = driver.buckets.of(A_POLICY).retention
    assert retention < 11 * DAY
    id_, _, shards = by_hand.bucket(influxdb, points)
    by_hand.change_bucket(influxdb, id_, retention, shards)
    driver.client.influxql(
        points,
        f'DELETE FROM "measure" WHERE time < {until - retention * NS}',
    )
    assert differences(driver, metrics, expected, until) == []
    assert logged.warnings() == []
