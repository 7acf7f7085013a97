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
"""Reads that take too much are refused, before any of it is read."""

import numpy
import pytest

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.read import cost, query, router
from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support.samples import (
    NS,
    aggregation,
    at,
    metric,
    policy,
    read,
    recent,
    write,
)

HOUR = 3600 * NS
COUNT = 5000


@pytest.fixture(params=["auto", "flux", "influxql"])
def driver(make_conf, request):
    return InfluxDBStorage(
        make_conf(
            influxdb_retention=False,
            influxdb_downsampling=False,
            influxdb_query_language=request.param,
            influxdb_max_points=COUNT - 1,
        ).storage
    )


@pytest.fixture
def asked(monkeypatch):
    """The queries that InfluxDB was asked."""
    queries = []
    ask = router.Router.ask

    def noted(self, *arguments):
        queries.append(arguments[0])
        return ask(self, *arguments)

    monkeypatch.setattr(router.Router, "ask", noted)
    return queries


@pytest.mark.parametrize(
    ("method", "seconds"), [("mean", 1), ("std", 3600), ("rate:max", 1)]
)
def test_too_many(driver, indexer_driver, asked, logged, method, seconds):
    a_policy = policy((10**6, 1), (1000, 3600), name="absurd")
    many, fewer = metric(a_policy), metric(a_policy)
    now = recent() // HOUR * HOUR
    points = {now - i * NS: float(i % 7) for i in range(COUNT)}
    write(driver, {many: points}, indexer_driver)
    points.popitem()
    write(driver, {fewer: points}, indexer_driver)
    assert read(driver, fewer, method, seconds)
    asked.clear()
    with pytest.raises(exceptions.ReadRefusedError) as refused:
        read(driver, many, method, seconds)
    assert refused.value.status_int == 400
    assert str(COUNT) in str(refused.value)
    assert str(many.id) in refused.value.detail
    assert not any(
        isinstance(one, query.PointsQuery) and not one.limit for one in asked
    )
    assert len(logged.warnings()) == 1
    # A shorter range is answered, and costs no other question.
    asked.clear()
    assert read(driver, many, "max", 3600, now - HOUR)
    assert not any(getattr(one, "every", 0) > HOUR for one in asked)


@pytest.fixture
def per_query(monkeypatch):
    """The metrics of each query for points."""
    numbers = []
    ask = router.Router.ask

    def noted(self, asked, ids):
        if isinstance(asked, query.PointsQuery):
            numbers.append(len(ids))
        return ask(self, asked, ids)

    monkeypatch.setattr(router.Router, "ask", noted)
    return numbers


@pytest.mark.parametrize("together", [1, 3 * 4000, 10**6])
def test_few_metrics_in_a_query(
    driver, indexer_driver, monkeypatch, per_query, together
):
    """All of many metrics are answered, from pieces that can be held."""
    monkeypatch.setattr(cost, "_MOST_TOGETHER", together)
    a_policy = policy((10**6, 1), (1000, 3600), name="absurd")
    metrics = [metric(a_policy) for _ in range(7)]
    now = recent() // HOUR * HOUR
    points = {
        m: {now + j * NS: float(i + j * j) for j in range(3)}
        for i, m in enumerate(metrics)
    }
    write(driver, points, indexer_driver)
    wanted = aggregation(metrics[0], "std", 3600)
    found = driver.get_aggregated_measures(
        {m: [wanted] for m in metrics}, at(now), at(now + 3600 * NS)
    )
    for m in metrics:
        (value,) = found[m][wanted].values
        assert value == pytest.approx(numpy.std([0, 1, 4], ddof=1))
    assert per_query
    assert max(per_query) == {1: 1, 12000: 3, 10**6: 7}[together]
    assert sum(per_query) == 7
