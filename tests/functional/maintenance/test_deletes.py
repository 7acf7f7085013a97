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

import contextlib
import time
import urllib.parse
import uuid

import pytest
from gnocchi import archive_policy, storage

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.maintenance import deletes
from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support import by_hand, proxy, samples
from tests.support.by_hand import stored
from tests.support.samples import recent, write


def statements(between, windows=False):
    """The DELETEs that the server got, those for windows only if asked."""
    queries = [
        urllib.parse.parse_qs(request.body.decode())["q"][0]
        for request in between.requests
        if request.path == "/query"
        and (windows or not proxy.is_for_windows(request))
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
    # More of them, right away.
    more = cloud.metrics(40)
    write(cloud.storage, point(more), cloud.index)
    cloud.mark_deleted(more)
    cloud.chef.expunge_metrics(10000, sync=True)
    assert cloud.index.list_metrics(status="delete") == []
    assert len(statements(between)) == 4 + 2
    del between.requests[:]
    # Later ones, and in small numbers.
    monkeypatch.setattr(deletes, "_LOOK_AGAIN", 0)
    for m in metrics[:3]:
        cloud.mark_deleted([m])
        cloud.chef.expunge_metrics(10000, sync=True)
        assert stored(influxdb, cloud.bucket(m), m) == {}
    assert len(statements(between)) == 3


def test_as_many_as_go_into_a_statement(cloud):
    (one,) = cloud.metrics(1)
    bucket = cloud.storage.buckets.ensure(one.archive_policy)
    ids = [uuid.uuid4() for _ in range(deletes.METRICS_PER_DELETE + 2)]
    lines = [f"measure,metric={id_} value=1 {recent(60)}" for id_ in ids]
    client = cloud.storage.client
    client.write(bucket, "\n".join(lines).encode())
    *doomed, left, other = ids
    deletes.by_influxql(client, bucket, doomed)
    assert {*deletes.with_points(client, bucket, ids)} == {left, other}


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


def later(monkeypatch, seconds):
    """Set this process' clock on."""
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + seconds)


def test_writer_comes_between(cloud, influxdb, monkeypatch):
    """It saw the metrics alive; its points came after the DELETE."""
    metrics = cloud.metrics(42)
    write(cloud.storage, point(metrics), cloud.index)
    *doomed, last = metrics
    cloud.mark_deleted(doomed)
    driver = InfluxDBStorage(cloud.conf.storage)
    driver._delete_metric(doomed[0])
    for m in doomed:
        assert stored(influxdb, cloud.bucket(m), m) == {}
    write(driver, point([doomed[0], doomed[20]]), cloud.index)
    for m in doomed[1:]:
        driver._delete_metric(m)
    for m in doomed:
        cloud.index.expunge_metric(m.id)
    later(monkeypatch, 61)
    cloud.mark_deleted([last])
    driver._delete_metric(last)
    for m in metrics:
        assert stored(influxdb, cloud.bucket(m), m) == {}


@pytest.mark.parametrize("after", [50, 61])
def test_metrics_are_looked_for_together(cloud, between, monkeypatch, after):
    """With a request for many of them, once."""
    metrics = cloud.metrics(40)
    write(cloud.storage, point(metrics), cloud.index)
    cloud.mark_deleted(metrics)
    driver = InfluxDBStorage(cloud.conf.storage)
    driver._delete_metric(metrics[0])
    later(monkeypatch, after)
    del between.requests[:]
    for m in metrics[1:]:
        driver._delete_metric(m)
    asked = [request.path for request in between.requests]
    # Points and windows.
    assert asked.count("/query") == (2 if after > 60 else 0)


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


def test_a_server_that_is_away_is_asked_once(
    cloud, influxdb, between, logged, monkeypatch
):
    """Not again for each metric, and it is said once."""
    metrics = cloud.metrics(20)
    write(cloud.storage, point(metrics), cloud.index)
    cloud.mark_deleted(metrics)
    guard = cloud.chef.storage._deletes.server
    monkeypatch.setattr(guard, "_shortest", 3600.0)
    monkeypatch.setattr(guard, "_longest", 3600.0)
    between.before = lambda _: proxy.answer("503 Service Unavailable")
    before = len(between.requests)
    cloud.chef.expunge_metrics(10000)
    # With their repetitions, but not as often as there are metrics.
    assert 1 <= len(between.requests) - before < 20
    told = [text for text in logged.warnings() if "trying again" not in text]
    assert len(told) == 1
    assert told[0].startswith("Points of deleted metrics stay until")
    assert len(cloud.index.list_metrics(status="delete")) == 20
    between.before = None
    guard._retry_at = 0.0
    cloud.chef.expunge_metrics(10000)
    assert cloud.index.list_metrics(status="delete") == []
    assert logged.warnings()[-1].startswith("InfluxDB deletes points again")


@pytest.mark.only_2x("1.x always has InfluxQL")
def test_no_influxql(cloud, influxdb, between, monkeypatch):
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
    # Nobody can be asked what is left of them.
    later(monkeypatch, 61)
    cloud.mark_deleted(cloud.metrics(1))
    cloud.chef.expunge_metrics(10000, sync=True)
    assert cloud.index.list_metrics(status="delete") == []
    for m in metrics:
        assert stored(influxdb, cloud.bucket(m), m) == {}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        ("503 Service Unavailable", b"{}"),
        # Of a proxy.
        ("413 Request Entity Too Large", b"too large"),
        # Of max-select-series.
        (
            "200 OK",
            b'{"results":[{"statement_id":0,"error":"max-select-series limit'
            b' exceeded: (11/10)"}]}',
        ),
    ],
)
def test_statements_that_are_too_large_become_smaller(
    cloud, influxdb, between, status, body
):
    metrics = cloud.metrics(30)
    write(cloud.storage, point(metrics), cloud.index)
    cloud.mark_deleted(metrics)
    driver = InfluxDBStorage(cloud.conf.storage, max_retries=0)

    def too_many(request):
        if b"DELETE" in request.body and request.body.count(b"OR") > 4:
            return proxy.answer(status, body, "application/json")
        return None

    between.before = too_many

    # Within a call, since the next one may come in five minutes only.
    for m in metrics:
        driver._delete_metric(m)
    between.before = None
    for m in metrics:
        driver._delete_metric(m)
        assert stored(influxdb, cloud.bucket(m), m) == {}


def counted(cloud, monkeypatch):
    """A deleter, and a list that grows with each time it lists metrics."""
    deleter = InfluxDBStorage(cloud.conf.storage)._deleter
    to_delete, listed = deleter._to_delete, []

    def count(limit):
        listed.append(limit)
        return to_delete(limit)

    monkeypatch.setattr(deleter, "_to_delete", count)
    return deleter, listed


def test_another_janitor_is_faster(cloud, monkeypatch):
    """What it has expunged is not listed again for each metric."""
    metrics = cloud.metrics(30)
    write(cloud.storage, point(metrics), cloud.index)
    cloud.mark_deleted(metrics)
    deleter, listed = counted(cloud, monkeypatch)
    for m in metrics[:10]:
        cloud.index.expunge_metric(m.id)
    for m, ahead in zip(metrics, metrics[10:], strict=False):
        cloud.index.expunge_metric(ahead.id)
        deleter.delete(m)
    assert len(listed) == 1


def test_gnocchi_takes_more_than_are_listed(cloud, monkeypatch):
    """With [metricd] cleanup_batch_size."""
    monkeypatch.setattr(deletes, "_LOOK_AHEAD", 5)
    metrics = sorted(cloud.metrics(30), key=lambda m: m.id, reverse=True)
    write(cloud.storage, point(metrics), cloud.index)
    cloud.mark_deleted(metrics)
    deleter, listed = counted(cloud, monkeypatch)
    for m in metrics[:20]:
        deleter.delete(m)
        cloud.index.expunge_metric(m.id)
    assert len(listed) == 1


def test_what_takes_too_long_is_looked_for_in_parts(
    cloud, influxdb, between, monkeypatch
):
    metrics = cloud.metrics(31)
    write(cloud.storage, point(metrics), cloud.index)
    *doomed, last = metrics
    cloud.mark_deleted(doomed)
    driver = InfluxDBStorage(cloud.conf.storage, max_retries=0)
    for m in doomed:
        driver._delete_metric(m)
    write(cloud.storage, point(doomed[20:25]), cloud.index)
    later(monkeypatch, 61)

    def too_many(request):
        if request.body.count(b"OR") > 8:
            return proxy.answer("503 Service Unavailable", b"{}")
        return None

    between.before = too_many
    cloud.mark_deleted([last])
    driver._delete_metric(last)
    between.before = None
    for m in metrics:
        assert stored(influxdb, cloud.bucket(m), m) == {}


# Windows -------------------------------------------------------------------


@pytest.fixture
def downsampled(cloud):
    """An archive policy with windows, some of them from a migration."""
    cloud.index.create_archive_policy(
        archive_policy.ArchivePolicy(
            "two", 0, [(1440, 60), (720, 3600)], ["mean", "max"]
        )
    )
    return cloud


def fill(cloud, number, moved=False):
    """Metrics with a point, a window, a mark and a name."""
    metrics = cloud.metrics(number, "two")
    write(cloud.storage, point(metrics), cloud.index)
    _points, *rest = cloud.storage.buckets.names(metrics[0].archive_policy)
    moment = recent(7200)
    for m in metrics:
        lines = (
            f"aggregate,metric={m.id} mean=1,max=2 {moment}\n"
            f"late,metric={m.id} until=1 {moment}\n"
            f'metric_info,metric={m.id} name="a" {moment}\n'
        )
        for name in rest[0 if moved else 1 :]:
            cloud.storage.client.write(name, lines.encode())
    return metrics


def left(cloud, metrics):
    """Buckets that still have something of a metric."""
    policy = metrics[0].archive_policy
    found = []
    for name in cloud.storage.buckets.names(policy):
        with contextlib.suppress(exceptions.BucketNotFoundError):
            if deletes.with_points(
                cloud.storage.client, name, [m.id for m in metrics]
            ):
                found.append(name)
    return found


@pytest.mark.parametrize("moved", [False, True])
def test_windows(downsampled, between, influxdb, moved):
    if moved:
        (m,) = downsampled.metrics(1, "two")
        by_hand.make_bucket(
            influxdb,
            downsampled.storage.buckets.all_of(m.archive_policy).moved.name,
        )
    metrics = fill(downsampled, 30, moved)
    assert len(left(downsampled, metrics)) == (3 if moved else 2)
    kept, doomed = metrics[:1], metrics[1:]
    downsampled.mark_deleted(doomed)
    del between.requests[:]
    downsampled.chef.expunge_metrics(10000, sync=True)
    assert left(downsampled, doomed) == []
    assert len(left(downsampled, kept)) == (3 if moved else 2)
    # One for each bucket that may be there; on 1.x for all of them.
    if influxdb.release == 1:
        assert len(statements(between, True)) == 1
    else:
        assert len(statements(between, True)) == 3


def test_a_bucket_that_is_absent_is_not_asked_for_again(
    downsampled, between, influxdb, monkeypatch
):
    monkeypatch.setattr(deletes, "METRICS_PER_DELETE", 5)
    metrics = fill(downsampled, 20)
    downsampled.mark_deleted(metrics)
    driver = InfluxDBStorage(downsampled.conf.storage)
    del between.requests[:]
    for m in metrics:
        driver._delete_metric(m)
    asked = sum(
        proxy.is_for_windows(r) and b"60s" in r.head + r.body
        for r in between.requests
    )
    # A DELETE, and a look whether it is hidden.
    assert 0 < asked <= 2
    assert left(downsampled, metrics) == []


def test_windows_that_came_after_the_delete(downsampled, monkeypatch):
    """They were being computed while their metric was deleted."""
    metrics = fill(downsampled, 3)
    downsampled.mark_deleted(metrics[:2])
    driver = InfluxDBStorage(downsampled.conf.storage)
    driver._delete_metric(metrics[0])
    assert left(downsampled, metrics[:2]) == []
    target = driver.buckets.downsampled(metrics[0].archive_policy)[0]
    driver.client.write(
        target.name,
        f"aggregate,metric={metrics[1].id} max=2 {recent(7200)}".encode(),
    )
    assert left(downsampled, metrics[:2]) == [target.name]
    driver._delete_metric(metrics[1])
    for m in metrics[:2]:
        downsampled.index.expunge_metric(m.id)
    later(monkeypatch, 61)
    downsampled.mark_deleted(metrics[2:])
    driver._delete_metric(metrics[2])
    assert left(downsampled, metrics) == []


@pytest.mark.only_2x("rights are of databases on 1.x")
def test_windows_that_the_token_may_not_see(downsampled, influxdb):
    """A token of the bucket of points alone."""
    metrics = fill(downsampled, 2)
    name = downsampled.storage.buckets.name(metrics[0].archive_policy)
    id_ = by_hand.bucket(influxdb, name)[0]
    token = by_hand.make_token(
        influxdb, ("read", "buckets", id_), ("write", "buckets", id_)
    )
    downsampled.conf.set_override("influxdb_token", token, "storage")
    driver = InfluxDBStorage(downsampled.conf.storage)
    driver._delete_metric(metrics[0])
    assert stored(influxdb, name, metrics[0]) == {}


def test_expire(cloud, influxdb, between, monkeypatch):
    """The janitor asks InfluxDB for nothing, and Gnocchi forgets."""
    cloud.conf.set_override("influxdb_expunge", "expire", "storage")
    monkeypatch.setattr(cloud, "chef", cloud.new_chef())
    metrics = cloud.metrics(5) + cloud.metrics(5, "high")
    points = point(metrics)
    write(cloud.storage, points, cloud.index)
    cloud.mark_deleted(metrics[:7])
    cloud.chef.expunge_metrics(10000, sync=True)
    assert cloud.index.list_metrics(status="delete") == []
    assert statements(between, windows=True) == []
    for m in metrics:
        assert stored(influxdb, cloud.bucket(m), m) == points[m]
    # Some ask for the retention of each bucket, and then no longer.
    asked = len(between.requests)
    cloud.mark_deleted(metrics[7:])
    cloud.chef.expunge_metrics(10000, sync=True)
    assert len(between.requests) == asked


def test_nothing_expires(cloud, influxdb, monkeypatch):
    """What would stay for ever is deleted."""
    cloud.conf.set_override("influxdb_expunge", "expire", "storage")
    monkeypatch.setattr(cloud, "chef", cloud.new_chef())
    metrics = cloud.metrics(4)
    write(cloud.storage, point(metrics), cloud.index)
    id_, _, shards = by_hand.bucket(influxdb, cloud.bucket(metrics[0]))
    by_hand.change_bucket(influxdb, id_, 0, shards)
    cloud.mark_deleted(metrics)
    cloud.chef.expunge_metrics(10000, sync=True)
    assert cloud.index.list_metrics(status="delete") == []
    for m in metrics:
        assert stored(influxdb, cloud.bucket(m), m) == {}
