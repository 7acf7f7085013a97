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
"""A measure that was accepted is readable, or waits in the queue."""

import contextlib
import os
import sys
import threading
import time
import uuid

import numpy
import pytest
from gnocchi import archive_policy, incoming, indexer, storage, utils
from gnocchi import chef as gnocchi_chef
from gnocchi.cli import metricd
from gnocchi.indexer import sqlalchemy
from servers.redis import redis_server

from gnocchi_influxdb import circuit_breaker, exceptions, outages
from gnocchi_influxdb.client import transport
from gnocchi_influxdb.incoming import InfluxDBIncoming
from gnocchi_influxdb.ingest import direct_write
from tests.support import by_hand, proxy

# The last whole minute that is over: what comes a few seconds after it lies
# in the same window of a minute, whenever the tests run.
NOW = (numpy.datetime64("now", "m") - 1).astype("datetime64[ns]")
POLICIES = [
    archive_policy.ArchivePolicy("low", 0, [(3600, 60)], ["last"]),
    archive_policy.ArchivePolicy("high", 0, [(9999, 1)], ["last"]),
]


class Cloud:
    """A Gnocchi without its processes: the parts that they are made of."""

    def __init__(self, conf):
        self.conf = conf
        conf.set_override(
            "url",
            sqlalchemy.SQLAlchemyIndexer._create_new_database(
                conf.indexer.url
            ),
            "indexer",
        )
        self.index = indexer.get_driver(conf)
        self.index.upgrade()
        self.storage = storage.get_driver(conf)
        self.incoming = incoming.get_driver(conf)
        self.incoming.upgrade(3)
        self.coordinator = metricd.get_coordinator_and_start(
            str(uuid.uuid4()), conf.coordination_url
        )
        self.chef = gnocchi_chef.Chef(
            self.coordinator, self.incoming, self.index, self.storage
        )
        for policy in POLICIES:
            self.index.create_archive_policy(policy)

    def metric(self, policy="low", **attributes):
        created = self.index.create_metric(
            uuid.uuid4(), "me", policy, **attributes
        )
        return self.index.list_metrics(
            attribute_filter={"=": {"id": created.id}}
        )[0]

    def metricd(self):
        for sack in self.incoming.iter_sacks():
            self.chef.process_new_measures_for_sack(
                sack, blocking=True, sync=True
            )

    def values(self, metric, method="last"):
        found = self.storage.get_aggregated_measures(
            {metric: metric.archive_policy.get_aggregations_for_method(method)}
        )[metric]
        return {a.granularity: s.values.tolist() for a, s in found.items()}

    def waiting(self):
        return self.incoming.measures_report(False)["summary"]["measures"]

    def close(self):
        self.coordinator.stop()
        self.index.disconnect()


@pytest.fixture
def make_cloud(make_conf):
    clouds = []

    def make(**options):
        clouds.append(Cloud(make_conf(**options)))
        return clouds[-1]

    yield make
    for cloud in clouds:
        cloud.close()


def measure(value, seconds=0):
    return incoming.Measure(NOW + numpy.timedelta64(seconds, "s"), value)


def test_get_right_after_post(make_cloud):
    cloud = make_cloud()
    assert isinstance(cloud.incoming, InfluxDBIncoming)
    assert isinstance(cloud.incoming, incoming.IncomingDriver)
    m, other = cloud.metric("low"), cloud.metric("high")
    cloud.incoming.add_measures(m.id, [measure(1.0)])
    assert list(cloud.values(m).values()) == [[1.0]]
    assert not cloud.incoming.has_unprocessed(m.id)
    # Any iterable, also one that runs only once; and of several policies.
    cloud.incoming.add_measures_batch(
        {
            m.id: (measure(v) for v in (2.0, 3.0)),
            other.id: iter([measure(5.0)]),
        }
    )
    assert list(cloud.values(m).values()) == [[3.0]]
    assert list(cloud.values(other).values()) == [[5.0]]
    assert cloud.waiting() == 0


def ended_resource(cloud):
    """One that a later measure brings back."""
    resource = cloud.index.create_resource(
        "generic",
        uuid.uuid4(),
        "me",
        started_at=utils.datetime_utc(2024, 1, 1),
    )
    ended = utils.to_datetime(NOW)
    return cloud.index.update_resource("generic", resource.id, ended_at=ended)


def test_bookkeeping_is_done_when_the_post_returns(make_cloud):
    cloud = make_cloud()
    resource = ended_resource(cloud)
    m = cloud.metric(resource_id=resource.id, name="cpu")
    before = m.last_measure_timestamp
    cloud.incoming.add_measures(m.id, [measure(1.0, seconds=5)])
    m = cloud.index.list_metrics(attribute_filter={"=": {"id": m.id}})[0]
    assert m.last_measure_timestamp > before
    assert cloud.index.get_resource("generic", resource.id).ended_at is None


def test_measures_of_an_unknown_metric_are_dropped(make_cloud):
    cloud = make_cloud()
    known, gone = cloud.metric(), cloud.metric()
    cloud.index.delete_metric(gone.id)
    cloud.incoming.add_measures_batch(
        {
            known.id: [measure(1.0)],
            gone.id: [measure(2.0)],
            uuid.uuid4(): [measure(3.0)],
        }
    )
    assert list(cloud.values(known).values()) == [[1.0]]
    with pytest.raises(storage.MetricDoesNotExist):
        cloud.values(gone)
    assert cloud.waiting() == 0


def test_what_can_never_be_stored_does_not_wait(make_cloud):
    cloud = make_cloud()
    m = cloud.metric()
    cloud.incoming.add_measures(
        m.id, [measure(float("nan")), measure(7.0, 1), measure(float("inf"))]
    )
    assert list(cloud.values(m).values()) == [[7.0]]
    assert cloud.waiting() == 0


def test_what_is_no_measure_is_an_error(make_cloud):
    cloud = make_cloud()
    m = cloud.metric()
    with pytest.raises((TypeError, ValueError)):
        cloud.incoming.add_measures(m.id, ["nonsense"])
    assert cloud.waiting() == 0


def test_outage(make_cloud, fresh_influxd, monkeypatch):
    cloud = make_cloud(server=fresh_influxd, influxdb_timeout=5)
    through = cloud.incoming._of_process(direct_write.PostWriter)
    monkeypatch.setattr(through.breakers.server, "_shortest", 0.0)
    worker = cloud.incoming._of_process(direct_write.QueueWriter)
    monkeypatch.setattr(worker.breakers.server, "_shortest", 0.0)
    m = cloud.metric("high")
    cloud.incoming.add_measures(m.id, [measure(0.0, 0)])
    fresh_influxd.kill()
    for i in range(1, 6):
        cloud.incoming.add_measures(m.id, [measure(float(i), i)])
    assert cloud.waiting() > 0
    assert cloud.incoming.has_unprocessed(m.id)
    # metricd can't help, and loses nothing either.
    with pytest.raises(storage.StorageError):
        cloud.metricd()
    assert cloud.waiting() > 0
    fresh_influxd.start()
    # Straight through again, by itself, before metricd has come by.
    before = cloud.waiting()
    cloud.incoming.add_measures(m.id, [measure(6.0, 6)])
    assert cloud.waiting() == before
    assert next(iter(cloud.values(m).values()))[-1] == 6.0
    cloud.metricd()
    assert cloud.waiting() == 0
    assert list(cloud.values(m).values()) == [[0, 1, 2, 3, 4, 5, 6]]


def test_nobody_waits_for_a_server_that_is_known_to_be_away(
    make_cloud, fresh_influxd, monkeypatch
):
    cloud = make_cloud(server=fresh_influxd, influxdb_timeout=2)
    m = cloud.metric("high")
    cloud.incoming.add_measures(m.id, [measure(0.0)])
    through = cloud.incoming._of_process(direct_write.PostWriter)
    monkeypatch.setattr(through.breakers.server, "_shortest", 3600.0)
    monkeypatch.setattr(through.breakers.server, "_longest", 3600.0)
    fresh_influxd.freeze()
    asked = []
    write = through.writer.write
    monkeypatch.setattr(
        through.writer,
        "write",
        lambda *args: (asked.append(1), write(*args))[1],
    )
    try:
        for i in range(20):
            cloud.incoming.add_measures(m.id, [measure(float(i), i)])
    finally:
        fresh_influxd.thaw()
    # The first found out, the others were told.
    assert len(asked) == 1
    assert cloud.waiting() > 0
    monkeypatch.setattr(through.breakers.server, "_retry_at", 0.0)
    cloud.metricd()
    assert list(cloud.values(m).values()) == [[float(i) for i in range(20)]]


def test_one_thread_tries_and_the_others_do_not_wait(
    make_cloud, fresh_influxd
):
    cloud = make_cloud(server=fresh_influxd)
    client = cloud.storage.client
    tries = []
    inside, let_go = threading.Event(), threading.Event()

    def probe():
        tries.append(1)
        inside.set()
        let_go.wait(30)
        client.ping()

    guard = circuit_breaker.Breaker(
        outages.Outage("Away", "Back"), 60.0, probe, shortest=0.0
    )
    guard.failed(storage.StorageError("away"))
    answers = []
    first = threading.Thread(target=lambda: answers.append(guard.allows()))
    first.start()
    assert inside.wait(30)
    assert [guard.allows() for _ in range(10)] == [False] * 10
    let_go.set()
    first.join()
    assert answers == [True]
    assert tries == [1]
    guard.succeeded()
    assert guard.allows()


def queue(cloud, metric, *measures_):
    """Leave measures for metricd."""
    cloud.incoming.queue.add_measures_batch({metric.id: measures_})


def test_metricd_has_nothing_left_to_look_up(make_cloud, monkeypatch):
    cloud = make_cloud()
    resource = ended_resource(cloud)
    m = cloud.metric("high", name="cpu", resource_id=resource.id)
    others = [cloud.metric("low") for _ in range(5)]
    for i in range(3):
        queue(cloud, m, measure(float(i), i))
    for other in others:
        queue(cloud, other, measure(7.0))

    def fail(*args, **kwargs):
        raise AssertionError("metricd has looked up the metrics once more")

    with monkeypatch.context() as patch:
        patch.setattr(cloud.index, "list_metrics", fail)
        cloud.metricd()
    assert cloud.waiting() == 0
    assert list(cloud.values(m).values()) == [[0.0, 1.0, 2.0]]
    for other in others:
        assert list(cloud.values(other).values()) == [[7.0]]
    told = cloud.index.list_metrics(attribute_filter={"=": {"id": m.id}})[0]
    assert told.last_measure_timestamp > m.last_measure_timestamp
    assert cloud.index.get_resource("generic", resource.id).ended_at is None
    # metricd publishes what this driver has counted.
    assert cloud.storage.statistics["processed measures"] == 8


def test_metricd_drops_measures_of_a_deleted_metric(make_cloud):
    cloud = make_cloud()
    known, gone, expunged = (cloud.metric() for _ in range(3))
    queue(cloud, known, measure(1.0))
    queue(cloud, gone, measure(2.0))
    queue(cloud, expunged, measure(3.0))
    cloud.index.delete_metric(gone.id)
    cloud.index.delete_metric(expunged.id)
    cloud.index.expunge_metric(expunged.id)
    cloud.metricd()
    assert cloud.waiting() == 0
    assert list(cloud.values(known).values()) == [[1.0]]
    with pytest.raises(storage.MetricDoesNotExist):
        cloud.values(gone)


def test_metricd_repeats_what_a_post_does_not(make_cloud, between):
    cloud = make_cloud(influxdb_url=between.url, influxdb_max_retries=1)
    m = cloud.metric("high")
    cloud.incoming.add_measures(m.id, [measure(0.0)])
    failures = [proxy.answer("503 Service Unavailable")] * 2

    def fail(request):
        is_write = request.path.startswith(by_hand.WRITES)
        return failures.pop() if is_write and failures else None

    between.before = fail
    cloud.incoming.add_measures(m.id, [measure(1.0, 1)])
    assert cloud.waiting() == 1
    assert len(failures) == 1
    cloud.metricd()
    assert not failures
    assert cloud.waiting() == 0
    assert list(cloud.values(m).values()) == [[0.0, 1.0]]


@pytest.mark.parametrize("what", ["indexer", "storage"])
def test_what_metricd_can_not_store_stays(make_cloud, monkeypatch, what):
    cloud = make_cloud()
    m = cloud.metric()
    queue(cloud, m, measure(1.0))
    queued = cloud.incoming._of_process(direct_write.QueueWriter)
    sack = cloud.incoming.sack_for_metric(m.id)
    logged = []

    def fail(*args, **kwargs):
        raise RuntimeError("nothing works")

    with monkeypatch.context() as patch:
        patch.setattr(
            gnocchi_chef.LOG, "error", lambda *args, **_: logged.append(args)
        )
        if what == "indexer":
            patch.setattr(queued.writer.indexer.facade, "writer", fail)
        else:
            patch.setattr(queued.writer.storage.client, "write", fail)
        with pytest.raises(RuntimeError, match="nothing works"):
            cloud.chef.process_new_measures_for_sack(
                sack, blocking=True, sync=True
            )
        assert not logged
        cloud.chef.process_new_measures_for_sack(sack, blocking=True)
        assert logged == [("Error processing new measures",)]
    assert cloud.waiting() == 1
    cloud.metricd()
    assert cloud.waiting() == 0
    assert list(cloud.values(m).values()) == [[1.0]]


def test_metricd_shares_nothing_over_a_fork(make_cloud):
    cloud = make_cloud()
    metrics = [cloud.metric("high") for _ in range(4)]
    queue(cloud, metrics[0], measure(0.0))
    cloud.metricd()
    parents = cloud.incoming._of_process(direct_write.QueueWriter)
    children = []
    for m in metrics[1:]:
        child = os.fork()
        if not child:
            status = 1
            try:
                # As in a worker: it makes its own.
                cloud.chef.coord = metricd.get_coordinator_and_start(
                    str(uuid.uuid4()), cloud.conf.coordination_url
                )
                for i in range(10):
                    queue(cloud, m, measure(float(i), i))
                    cloud.metricd()
                own = cloud.incoming._of_process(direct_write.QueueWriter)
                status = (
                    2 if own.writer.indexer is parents.writer.indexer else 0
                )
            finally:
                os._exit(status)
        children.append(child)
    for i in range(10):
        queue(cloud, metrics[0], measure(float(i), i))
        cloud.metricd()
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    cloud.metricd()
    assert cloud.waiting() == 0
    for m in metrics:
        assert list(cloud.values(m).values()) == [
            [float(i) for i in range(10)]
        ]


def test_a_metric_whose_row_is_locked(make_cloud):
    cloud = make_cloud()
    m = cloud.metric()
    table = sqlalchemy.Metric.__table__
    posted = threading.Thread(
        target=cloud.incoming.add_measures, args=(m.id, [measure(1.0)])
    )
    with cloud.index.facade.independent_writer() as session:
        session.execute(
            table.update().where(table.c.id == m.id).values(unit="s")
        )
        posted.start()
        # It is stored while the indexer can't be told.
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(storage.MetricDoesNotExist):
                if list(cloud.values(m).values()) == [[1.0]]:
                    break
            time.sleep(0.01)
        else:
            pytest.fail("the measure can't be read")
        assert posted.is_alive()
    posted.join(60)
    told = cloud.index.list_metrics(attribute_filter={"=": {"id": m.id}})[0]
    assert told.last_measure_timestamp > m.last_measure_timestamp
    assert told.unit == "s"


def test_no_measures_are_nothing_to_tell(make_cloud):
    cloud = make_cloud()
    m = cloud.metric()
    cloud.incoming.add_measures(m.id, [])
    same = cloud.index.list_metrics(attribute_filter={"=": {"id": m.id}})[0]
    assert same.last_measure_timestamp == m.last_measure_timestamp
    assert same.needs_raw_data_truncation


def test_wrong_token_loses_nothing(make_cloud, logged):
    cloud = make_cloud(influxdb_token="of-somebody-else")
    m = cloud.metric()
    cloud.incoming.add_measures(m.id, [measure(1.0)])
    assert cloud.waiting() == 1
    said = "".join(record.getMessage() for record in logged.records)
    assert "influxdb_token" in said
    assert "of-somebody-else" not in said


def test_another_storage_takes_the_queue(make_conf, tmp_path):
    conf = make_conf()
    conf.set_override("driver", "file", "storage")
    conf.set_override("file_basepath", str(tmp_path), "storage")
    conf.set_override("driver", "influxdb", "incoming")
    cloud = Cloud(conf)
    try:
        m = cloud.metric()
        cloud.incoming.add_measures(m.id, [measure(1.0)])
        assert cloud.waiting() == 1
        cloud.storage.upgrade()
        cloud.metricd()
        assert list(cloud.values(m).values()) == [[1.0]]
    finally:
        cloud.close()


def test_after_a_fork_nothing_is_shared(make_cloud):
    cloud = make_cloud()
    m = cloud.metric("high")
    cloud.incoming.add_measures(m.id, [measure(0.0)])
    children = []
    for i in range(1, 4):
        child = os.fork()
        if not child:
            status = 1
            try:
                for j in range(10):
                    cloud.incoming.add_measures(
                        m.id, [measure(float(i), 10 * i + j)]
                    )
                status = cloud.waiting() and 2
            finally:
                os._exit(status)
        children.append(child)
    cloud.incoming.add_measures(m.id, [measure(9.0, 60)])
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    (values,) = cloud.values(m).values()
    assert values == [0.0] + [1.0] * 10 + [2.0] * 10 + [3.0] * 10 + [9.0]


def test_many_threads_and_new_policies(make_cloud):
    cloud = make_cloud()
    metrics = [cloud.metric("high") for _ in range(8)]
    errors = []

    def post(offset):
        try:
            for i in range(15):
                cloud.incoming.add_measures_batch(
                    {
                        m.id: [measure(float(offset), offset + 8 * i)]
                        for m in metrics
                    }
                )
        except Exception as e:
            errors.append(e)

    threads = [threading.Thread(target=post, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert cloud.waiting() == 0
    for m in metrics:
        (values,) = cloud.values(m).values()
        assert values == [float(i % 8) for i in range(120)]


# A bucket that takes nothing -------------------------------------------------


@pytest.fixture
def with_redis(make_conf, between, tmp_path):
    """A cloud whose queue is in Redis."""
    with redis_server(tmp_path / "redis") as server:
        if server is None:
            pytest.skip("no redis-server on PATH")
        conf = make_conf(influxdb_url=between.url)
        conf.set_override("influxdb_queue_driver", "redis", "incoming")
        conf.set_override("redis_url", server.url(0), "incoming")
        cloud = Cloud(conf)
        yield cloud
        cloud.close()


@pytest.fixture
def weak(request, make_cloud, influxdb, between):
    """A cloud whose token is for the bucket of the policy low alone.

    With `between.before` set to None it has all rights.
    """
    if getattr(request, "param", "file") == "redis":
        cloud = request.getfixturevalue("with_redis")
    else:
        cloud = make_cloud(influxdb_url=between.url)
    policies = dict(zip(("low", "high"), POLICIES, strict=True))
    bucket = by_hand.make_bucket(
        influxdb, cloud.storage.buckets.name(policies["low"])
    )
    token = by_hand.make_token(
        influxdb, ("read", "buckets", bucket), ("write", "buckets", bucket)
    )

    def take_rights(request):
        request.head = request.head.replace(
            influxdb.token.encode(), token.encode()
        )

    between.before = take_rights
    return cloud


def asked_for(between, cloud, policy):
    """How often the proxy was asked about the bucket of a policy."""
    name = cloud.storage.buckets.name(policy)
    return len([p for p in between.paths() if name in p])


@pytest.mark.only_2x("rights are of databases on 1.x")
def test_a_bucket_that_fails_queues_no_other(weak, between, logged):
    cloud = weak
    low, high = cloud.metric("low"), cloud.metric("high")
    for i in range(5):
        cloud.incoming.add_measures_batch(
            {high.id: [measure(float(i), i)], low.id: [measure(float(i), i)]}
        )
        assert list(cloud.values(low).values()) == [[float(i)]]
        assert not cloud.incoming.has_unprocessed(low.id)
        cloud.incoming.add_measures(low.id, [measure(i + 0.5, i)])
        assert list(cloud.values(low).values()) == [[i + 0.5]]
    assert cloud.waiting() == 5
    (told,) = logged.warnings()
    assert told.startswith(
        "Archive policies (high): measures go to the queue until"
    )
    assert "influx bucket create" in told
    # The operator sees to it, and the next one that tries gets through.
    through = cloud.incoming._of_process(direct_write.PostWriter)
    guard = through.breakers.policies["high"]
    guard._retry_at = time.monotonic() + 3600
    asked = asked_for(between, cloud, high.archive_policy)
    between.before = None
    cloud.incoming.add_measures(high.id, [measure(5.0, 5)])
    assert cloud.waiting() == 6
    assert asked_for(between, cloud, high.archive_policy) == asked
    guard._retry_at = 0.0
    cloud.incoming.add_measures(high.id, [measure(6.0, 6)])
    assert cloud.waiting() == 6
    (again,) = logged.warnings()[1:]
    assert again.startswith(
        "Archive policies (high): InfluxDB takes measures again"
    )
    cloud.metricd()
    assert list(cloud.values(high).values()) == [[0, 1, 2, 3, 4, 5, 6]]
    assert cloud.waiting() == 0


@pytest.mark.only_2x("rights are of databases on 1.x")
@pytest.mark.parametrize("weak", ["file", "redis"], indirect=True)
def test_a_bucket_that_fails_holds_up_no_sack(weak, between):
    cloud = weak
    sack = next(cloud.incoming.iter_sacks())

    def in_sack(policy):
        while (
            cloud.incoming.sack_for_metric((m := cloud.metric(policy)).id)
            != sack
        ):
            pass
        return m

    highs = [in_sack("high") for _ in range(3)]
    lows = [in_sack("low") for _ in range(3)]
    gone = in_sack("low")
    cloud.index.delete_metric(gone.id)
    for m in [*highs, *lows, gone]:
        queue(cloud, m, measure(1.0))
    for _ in range(3):
        with pytest.raises(storage.StorageError, match="influx bucket create"):
            cloud.metricd()
        # Of those that were stored nothing is left to be stored again.
        for m in [*lows, gone]:
            assert not cloud.incoming.has_unprocessed(m.id)
        for m in lows:
            assert next(iter(cloud.values(m).values()))[-1] >= 1.0
            cloud.incoming.add_measures(m.id, [measure(2.0)])
            assert list(cloud.values(m).values()) == [[2.0]]
        for m in highs:
            assert cloud.incoming.has_unprocessed(m.id)
    between.before = None
    worker = cloud.incoming._of_process(direct_write.QueueWriter)
    worker.breakers.policies["high"]._retry_at = 0.0
    cloud.metricd()
    assert cloud.waiting() == 0
    for m in highs:
        assert list(cloud.values(m).values()) == [[1.0]]


@pytest.mark.only_2x("rights are of databases on 1.x")
@pytest.mark.parametrize("weak", ["file", "redis"], indirect=True)
def test_what_comes_in_between_is_stored(weak, monkeypatch):
    """While what can be stored of a sack is taken out of it."""
    cloud = weak
    low, high = cloud.metric("low"), cloud.metric("high")
    while cloud.incoming.sack_for_metric(
        low.id
    ) != cloud.incoming.sack_for_metric(high.id):
        low = cloud.metric("low")
    queue(cloud, high, measure(1.0))
    queue(cloud, low, measure(1.0))
    way = cloud.incoming._of_process(direct_write.QueueWriter).writer
    write = way.write
    calls = []

    def slowly(measures, breakers):
        written = write(measures, breakers)
        if not calls:
            queue(cloud, low, measure(2.0, 1))
        calls.append(set(measures))
        return written

    monkeypatch.setattr(way, "write", slowly)
    with pytest.raises(storage.StorageError):
        cloud.metricd()
    assert calls == [{low.id, high.id}, {low.id}]
    assert not cloud.incoming.has_unprocessed(low.id)
    assert list(cloud.values(low).values()) == [[2.0]]


@pytest.mark.only_2x("rights are of databases on 1.x")
def test_gnocchis_own_queue_and_a_bucket_that_fails(weak):
    """Gnocchi's incoming driver, and metricd with this storage driver."""
    cloud = weak
    low, high = cloud.metric("low"), cloud.metric("high")
    resource = ended_resource(cloud)
    ended = cloud.metric("high", resource_id=resource.id, name="cpu")
    array = numpy.array(
        [(NOW + numpy.timedelta64(5, "s"), 1.0)],
        dtype=[("timestamps", "<M8[ns]"), ("values", "<f8")],
    )
    with pytest.raises(storage.StorageError, match="influx bucket create"):
        cloud.storage.add_measures_to_metrics(
            {high: array, low: array, ended: array}, cloud.index
        )
    assert list(cloud.values(low).values()) == [[1.0]]
    assert cloud.storage.statistics["processed measures"] == 1
    # What was not stored has not been received either.
    told = cloud.index.list_metrics(
        attribute_filter={"in": {"id": [low.id, high.id]}}
    )
    assert {m.id for m in told if m.needs_raw_data_truncation is False} == {
        low.id
    }
    assert cloud.index.get_resource("generic", resource.id).ended_at


# Who tries whether InfluxDB is back ------------------------------------------


def test_writes_that_hang_hold_up_one_thread(make_cloud, between, monkeypatch):
    """InfluxDB answers whether it is there, and its writes hang."""
    cloud = make_cloud(influxdb_url=between.url, influxdb_timeout=1)
    m = cloud.metric("high")
    cloud.incoming.add_measures(m.id, [measure(0.0)])
    through = cloud.incoming._of_process(direct_write.PostWriter)
    monkeypatch.setattr(through.breakers.server, "_shortest", 3600.0)
    monkeypatch.setattr(through.breakers.server, "_longest", 3600.0)
    hanging, let_go = threading.Event(), threading.Event()

    def hang(request):
        if request.path.startswith(by_hand.WRITES):
            hanging.set()
            let_go.wait(30)

    def writes():
        return len(between.paths(by_hand.WRITES))

    before = writes()
    between.before = hang
    cloud.incoming.add_measures(m.id, [measure(1.0, 1)])
    assert writes() == before + 1
    through.breakers.server._retry_at = 0.0
    hanging.clear()
    first = threading.Thread(
        target=cloud.incoming.add_measures, args=(m.id, [measure(2.0, 2)])
    )
    first.start()
    assert hanging.wait(30)
    for i in range(3, 8):
        cloud.incoming.add_measures(m.id, [measure(float(i), i)])
    assert writes() == before + 2
    let_go.set()
    first.join()
    through.breakers.server._retry_at = 0.0
    cloud.incoming.add_measures(m.id, [measure(8.0, 8)])
    cloud.metricd()
    assert list(cloud.values(m).values()) == [[float(i) for i in range(9)]]


@pytest.mark.parametrize(
    "status", ["413 Request Entity Too Large", "503 Service Unavailable"]
)
def test_failed_writes_pause_no_read(make_cloud, between, monkeypatch, status):
    cloud = make_cloud(influxdb_url=between.url, influxdb_max_retries=0)
    m = cloud.metric("high")
    cloud.incoming.add_measures(m.id, [measure(0.0)])
    for kind in direct_write.PostWriter, direct_write.QueueWriter:
        guard = cloud.incoming._of_process(kind).breakers.server
        monkeypatch.setattr(guard, "_shortest", 3600.0)
        monkeypatch.setattr(guard, "_longest", 3600.0)
    between.before = lambda request: (
        proxy.answer(status)
        if request.path.startswith(by_hand.WRITES) and request.body
        else None
    )
    for i in range(1, 4):
        cloud.incoming.add_measures(m.id, [measure(float(i), i)])
        assert list(cloud.values(m).values()) == [[0.0]]
    with pytest.raises(storage.StorageError):
        cloud.metricd()
    assert list(cloud.values(m).values()) == [[0.0]]
    assert cloud.waiting() == 3


def test_metricd_asks_a_server_that_is_away_once(
    make_cloud, between, monkeypatch
):
    """Not again for each sack."""
    cloud = make_cloud(influxdb_url=between.url, influxdb_max_retries=0)
    metrics = [cloud.metric("high") for _ in range(20)]
    queue(cloud, metrics[0], measure(0.0))
    cloud.metricd()
    for m in metrics:
        queue(cloud, m, measure(1.0))
    assert len({cloud.incoming.sack_for_metric(m.id) for m in metrics}) > 1
    guard = cloud.incoming._of_process(direct_write.QueueWriter).breakers
    monkeypatch.setattr(guard.server, "_shortest", 3600.0)
    monkeypatch.setattr(guard.server, "_longest", 3600.0)
    before = len(between.paths(by_hand.WRITES))
    between.before = lambda _: proxy.answer("503 Service Unavailable")
    for _ in range(3):
        for sack in cloud.incoming.iter_sacks():
            with contextlib.suppress(storage.StorageError):
                cloud.chef.process_new_measures_for_sack(
                    sack, blocking=True, sync=True
                )
    assert len(between.paths(by_hand.WRITES)) == before + 1
    assert cloud.waiting() == 20
    between.before = None
    guard.server._retry_at = 0.0
    cloud.metricd()
    assert cloud.waiting() == 0


def test_a_post_of_nothing_says_nothing(make_cloud, logged):
    cloud = make_cloud()
    m = cloud.metric()
    through = cloud.incoming._of_process(direct_write.PostWriter)
    error = exceptions.UnavailableError("away")
    through.breakers.server.failed(error)
    through.breakers.server._retry_at = 0.0
    cloud.incoming.add_measures(m.id, [])
    assert [w for w in logged.warnings() if "again" in w] == [
        "Measures go to the queue until InfluxDB takes measures again:"
        f" {error}"
    ]
    # Nor does it keep others from trying.
    cloud.incoming.add_measures(m.id, [measure(1.0)])
    assert cloud.waiting() == 0
    assert logged.warnings()[-1].startswith("InfluxDB takes measures again")


@pytest.mark.only_2x("1.x makes a retention policy in one step")
def test_threads_that_meet_at_a_new_bucket(make_cloud, logged):
    """InfluxDB shows a bucket some ms before it can write to it."""
    cloud = make_cloud()
    for i in range(30):
        cloud.index.create_archive_policy(
            archive_policy.ArchivePolicy(f"new{i}", 0, [(99, 60)], ["last"])
        )
    metrics = [cloud.metric(f"new{i}") for i in range(30)]
    barrier = threading.Barrier(8)

    def post(offset):
        for m in metrics:
            barrier.wait(60)
            cloud.incoming.add_measures(m.id, [measure(float(offset), offset)])

    threads = [threading.Thread(target=post, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not logged.warnings()
    assert cloud.waiting() == 0


@pytest.mark.only_2x("1.x makes a retention policy in one step")
def test_a_bucket_that_is_being_made(make_cloud, between, logged):
    """As above, with the answer that was seen then."""
    cloud = make_cloud(influxdb_url=between.url)
    m = cloud.metric()
    said = (
        b'{"code":"internal error","message":"unexpected error writing points'
        b' to database: database not found: 2e66a3a7424b9f19"}'
    )
    answers = [
        proxy.answer("500 Internal Server Error", said, "application/json")
    ] * 3

    def before(request):
        is_write = request.path.startswith(by_hand.WRITES)
        return answers.pop() if is_write and answers else None

    between.before = before
    cloud.incoming.add_measures(m.id, [measure(1.0)])
    assert not answers
    assert cloud.waiting() == 0
    assert not logged.warnings()
    assert list(cloud.values(m).values()) == [[1.0]]


def test_a_post_has_a_short_way(make_cloud, monkeypatch):
    """Ten frames at most from Gnocchi's call to the socket, both counted."""
    cloud = make_cloud()
    m = cloud.metric()
    cloud.incoming.add_measures_batch({m.id: [measure(0.0)]})
    ways = []
    send = transport.Transport.send

    def seen(self, request):
        frame, way = sys._getframe(1), ["Transport.send"]
        while way[-1] != "add_measures_batch":
            way.append(frame.f_code.co_name)
            frame = frame.f_back
        ways.append(way)
        return send(self, request)

    monkeypatch.setattr(transport.Transport, "send", seen)
    cloud.incoming.add_measures_batch({m.id: [measure(1.0, 1)]})
    assert cloud.waiting() == 0
    (way,) = ways
    assert len(way) <= 10, way
