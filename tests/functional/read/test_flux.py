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
"""What InfluxDB makes of the queries, by its own profiler."""

import csv
import uuid

import pytest

from gnocchi_influxdb import schema
from gnocchi_influxdb.read import cost
from gnocchi_influxdb.storage import InfluxDBStorage
from gnocchi_influxdb.wire import flux
from tests.support.samples import NS, T0, metric, policy, write

PROFILER = (
    'import "profiler"\noption profiler.enabledProfilers = ["operator"]\n'
)


@pytest.fixture
def asked(make_conf, indexer_driver):
    """Operators that a query is made of, of a bucket with two metrics."""
    driver = InfluxDBStorage(make_conf(influxdb_retention=False).storage)
    a_policy = policy((100000, 60))
    metrics = [metric(a_policy) for _ in range(2)]
    points = {T0 + i * 30 * NS: float(i) for i in range(100)}
    write(driver, dict.fromkeys(metrics, points), indexer_driver)
    bucket = driver.buckets.name(a_policy)
    ids = [m.id for m in metrics]

    def ask(build):
        text = build(bucket, ids)
        body = driver.client.query(PROFILER + text).decode()
        rows = list(csv.reader(body.splitlines()))
        assert any(str(ids[0]) in row for row in rows)
        return [
            row[4]
            for row in rows
            if len(row) > 4 and row[3] == "profiler/operator"
        ]

    return ask


@pytest.mark.only_2x("1.x makes windows behind its storage: InfluxQL is taken")
@pytest.mark.parametrize("function", sorted(schema.WINDOW_FUNCTIONS))
@pytest.mark.parametrize("bounded", [True, False])
def test_windows_are_computed_in_the_storage_engine(asked, function, bounded):
    start, stop = (T0, T0 + 600 * NS) if bounded else (None, None)
    operators = asked(
        lambda bucket, ids: flux.windows(
            bucket, ids, start, stop, 60 * NS, function
        )
    )
    # Windows come from the source; after it the columns are cut down and
    # the tables joined into one.
    assert operators[0] == "*influxdb.readWindowAggregateSource"
    assert set(operators[1:]) <= {
        "*universe.schemaMutationTransformation",
        "*universe.groupTransformationAdapter",
    }


@pytest.mark.only_2x("1.x makes windows behind its storage: InfluxQL is taken")
def test_points_are_filtered_in_the_storage_engine(asked):
    operators = asked(
        lambda bucket, ids: flux.points(bucket, ids, T0, T0 + 600 * NS)
    )
    assert operators[0] == "*influxdb.readFilterSource"
    assert not [o for o in operators if "filterTransformation" in o]


@pytest.mark.only_2x("1.x makes windows behind its storage: InfluxQL is taken")
def test_the_newest_point_is_found_in_the_storage_engine(asked):
    operators = asked(flux.newest)
    assert operators[0] in (
        "*influxdb.readGroupSource",
        "*influxdb.readWindowAggregateSource",
    )


def test_the_most_metrics_that_fit_a_query(make_conf, indexer_driver):
    driver = InfluxDBStorage(make_conf(influxdb_retention=False).storage)
    a_policy = policy((100000, 60))
    m = metric(a_policy)
    write(driver, {m: {T0: 1.0}}, indexer_driver)
    ids = [m.id] + [uuid.uuid4() for _ in range(cost.METRICS_PER_QUERY - 1)]
    text = flux.points(driver.buckets.name(a_policy), ids, None, None)
    assert str(m.id).encode() in driver.client.query(text)
