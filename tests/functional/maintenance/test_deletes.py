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
"""Many metrics are deleted, as Gnocchi's janitor has it done."""

import urllib.parse

import pytest
from gnocchi import storage

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.maintenance import deletes
from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support import proxy, samples
from tests.support.by_hand import stored
from tests.support.samples import recent, write


def statements(between):
    """The DELETEs that the server got."""
    queries = [
        urllib.parse.parse_qs(request.body.decode())["q"][0]
        for request in between.requests
        if request.path == "/query"
    ]
    return [query for query in queries if query.startswith("DELETE")]


def point(metrics, value=1.0, age=60):
    return {metric: {recent(age): value} for metric in metrics}


def test_janitor(cloud, influxdb, between, monkeypatch):
    """A few statements for many metrics, and nobody else's points."""
    monkeypatch.setattr(deletes, "METRICS_PER_DELETE", 20)
    monkeypatch.setattr(cloud, "chef", cloud.new_chef())
    metrics = cloud.metrics(50) + cloud.metrics(50, "high")
    points = point(metrics)
    write(cloud.storage, points, cloud.index)
    doomed = metrics[10:90]
    cloud.mark_deleted(doomed)
    cloud.chef.expunge_metrics(10000, sync=True)
    assert cloud.index.list_metrics(status="delete") == []
    for m in metrics:
        wanted = {} if m in doomed else points[m]
        assert stored(influxdb, cloud.bucket(m), m) == wanted
    # 40 of each policy.
    assert len(statements(between)) == 4
    # Later ones, and in small numbers.
    monkeypatch.setattr(deletes, "_LOOK_AGAIN", 0)
    for m in metrics[:3]:
        cloud.mark_deleted([m])
        cloud.chef.expunge_metrics(10000, sync=True)
        assert stored(influxdb, cloud.bucket(m), m) == {}
    assert len(statements(between)) == 4 + 3


def test_crash_before_gnocchi_forgets(cloud, influxdb, monkeypatch):
    metrics = cloud.metrics(30)
    write(cloud.storage, point(metrics), cloud.index)
    cloud.mark_deleted(metrics)

    def crash(metric):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cloud.index, "expunge_metric", crash)
        with pytest.raises(KeyboardInterrupt):
            cloud.chef.expunge_metrics(10000, sync=True)
    assert len(cloud.index.list_metrics(status="delete")) == 30
    # Something that a slow writer left behind while nobody was there.
    write(cloud.storage, point(metrics, age=120), cloud.index)
    cloud.new_chef().expunge_metrics(10000, sync=True)
    assert cloud.index.list_metrics(status="delete") == []
    for m in metrics:
        assert stored(influxdb, cloud.bucket(m), m) == {}


def test_writer_comes_between(cloud, influxdb):
    """It saw the metric alive; its points came after the first DELETE."""
    metrics = cloud.metrics(3)
    write(cloud.storage, point(metrics), cloud.index)
    cloud.mark_deleted(metrics)
    driver = InfluxDBStorage(cloud.conf.storage)
    driver._delete_metric(metrics[0])
    for m in metrics:
        assert stored(influxdb, cloud.bucket(m), m) == {}
    write(driver, point(metrics[1:2]), cloud.index)
    for m in metrics[1:]:
        driver._delete_metric(m)
        assert stored(influxdb, cloud.bucket(m), m) == {}


def test_points_come_back(cloud, influxdb, between, monkeypatch):
    metrics = cloud.metrics(5)
    write(cloud.storage, point(metrics), cloud.index)
    cloud.mark_deleted(metrics)
    between.before = proxy.ForgottenDeletes()
    driver = InfluxDBStorage(cloud.conf.storage)
    driver._delete_metric(metrics[0])
    assert between.before.number == 3
    for m in metrics:
        assert stored(influxdb, cloud.bucket(m), m) == {}
    # It is not taken for done if it never is.
    monkeypatch.setattr(deletes, "_PAUSES", (0, 0, 0))
    (other,) = cloud.metrics(1)
    write(cloud.storage, point([other]), cloud.index)
    with pytest.raises(exceptions.UnavailableError, match="still has points"):
        driver._delete_metric(other)
    assert stored(influxdb, cloud.bucket(other), other) != {}


def test_what_the_indexer_knows_nothing_of(cloud, influxdb, between):
    """A metric that is not marked goes alone."""
    metrics = cloud.metrics(3)
    points = point(metrics)
    write(cloud.storage, points, cloud.index)
    cloud.storage._delete_metric(metrics[0])
    assert stored(influxdb, cloud.bucket(metrics[0]), metrics[0]) == {}
    for m in metrics[1:]:
        assert stored(influxdb, cloud.bucket(m), m) == points[m]
    with pytest.raises(storage.MetricDoesNotExist):
        samples.read(cloud.storage, metrics[0], "mean", 60)


def test_indexer_fails(cloud, influxdb, between, logged, monkeypatch):
    """One by one, then."""

    def fail(limit):
        raise RuntimeError("no database")

    monkeypatch.setattr(cloud.chef.storage._deleter, "_to_delete", fail)
    metrics = cloud.metrics(3)
    write(cloud.storage, point(metrics), cloud.index)
    cloud.mark_deleted(metrics)
    cloud.chef.expunge_metrics(10000, sync=True)
    for m in metrics:
        assert stored(influxdb, cloud.bucket(m), m) == {}
    assert len(statements(between)) == 3
    assert any("no database" in text for text in logged.warnings())


@pytest.mark.only_2x("1.x always has InfluxQL")
def test_no_influxql(cloud, influxdb, between):
    """By /api/v2/delete, which takes one metric at a time."""
    metrics = cloud.metrics(3)
    write(cloud.storage, point(metrics), cloud.index)
    cloud.mark_deleted(metrics)
    between.before = lambda request: (
        proxy.answer("404 Not Found", b"404 page not found")
        if request.path == "/query"
        else None
    )
    cloud.chef.expunge_metrics(10000, sync=True)
    assert cloud.index.list_metrics(status="delete") == []
    for m in metrics:
        assert stored(influxdb, cloud.bucket(m), m) == {}


def test_statements_that_take_too_long_become_smaller(
    cloud, influxdb, between
):
    metrics = cloud.metrics(30)
    write(cloud.storage, point(metrics), cloud.index)
    cloud.mark_deleted(metrics)
    driver = InfluxDBStorage(cloud.conf.storage, max_retries=0)

    def too_many(request):
        if b"DELETE" in request.body and request.body.count(b"OR") > 4:
            return proxy.answer("503 Service Unavailable", b"{}")
        return None

    between.before = too_many

    def fails(m):
        try:
            driver._delete_metric(m)
        except exceptions.UnavailableError:
            return True
        return False

    assert 0 < sum(map(fails, metrics)) < 10
    between.before = None
    for m in metrics:
        driver._delete_metric(m)
        assert stored(influxdb, cloud.bucket(m), m) == {}
