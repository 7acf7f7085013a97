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
"""What metrics are called, in InfluxDB."""

import datetime
import threading
import time
import urllib.parse
import uuid

import pytest
import sqlalchemy
from gnocchi import archive_policy, incoming
from gnocchi.cli import metricd
from gnocchi.indexer import sqlalchemy_base
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from servers import api

from gnocchi_influxdb.buckets.watermark import Watermark
from gnocchi_influxdb.client import clock as client_clock
from gnocchi_influxdb.client.client import Client
from gnocchi_influxdb.maintenance import names as names_module
from gnocchi_influxdb.maintenance.names import IdRange, NamesJob
from gnocchi_influxdb.storage import InfluxDBStorage
from gnocchi_influxdb.wire import info_lines
from tests.support import by_hand, proxy, samples
from tests.support.by_hand import stored, write_lines
from tests.support.clock import Clock
from tests.support.cloud import Cloud
from tests.support.samples import NS, recent, write

DAY = 86400
INTERVAL = names_module.INTERVAL
METRICS = sqlalchemy_base.Metric.__table__


@pytest.fixture
def clock(monkeypatch):
    """The time of the job and of InfluxDB; each round lets it go on."""
    made = Clock()
    made.now = time.time()
    monkeypatch.setattr(names_module, "time", made)
    monkeypatch.setattr(
        client_clock.Clock, "now_ns", lambda self: made.time_ns()
    )
    return made


class Worker:
    """A worker of gnocchi-metricd that was started a while ago."""

    def __init__(self, cloud, clock, batch_size=10000, sacks=1):
        self._clock = clock
        self._sacks = sacks
        driver = InfluxDBStorage(cloud.conf.storage)
        self.job = NamesJob(
            driver.client, driver.buckets, cloud.index, batch_size
        )
        self.run()

    def run(self):
        for sack in range(self._sacks):
            self.job.run(sack, self._sacks)

    def round(self):
        """Look at all metrics of all sacks once."""
        self._clock.now += INTERVAL
        for _page in range(4):
            self.run()


@pytest.fixture
def worker(cloud, clock):
    return Worker(cloud, clock)


def resource_with(cloud, names, unit="ns", policy="low"):
    """Metrics of a new resource, in the order of their names."""
    id_ = uuid.uuid4()
    cloud.index.create_resource(
        "generic",
        id_,
        "me:us",
        metrics={
            name: {"unit": unit, "archive_policy_name": policy}
            for name in names
        },
    )
    return of_resource(cloud, id_)


def of_resource(cloud, id_):
    found = cloud.index.list_metrics(
        attribute_filter={"=": {"resource_id": id_}}
    )
    return sorted(found, key=lambda metric: metric.name)


def add(driver, cloud, metrics, value=1.0, age=60):
    points = {metric: {recent(age): value} for metric in metrics}
    write(driver, points, cloud.index)
    return points


def rows(server, bucket_name, field="*"):
    """[{column: value}] of metric_info, by InfluxQL in JSON, which gives each
    text as it is."""
    database, _, retention_policy = bucket_name.partition("/")
    found = api.influxql(
        server.url,
        server.token,
        f'SELECT {field} FROM "metric_info" GROUP BY "metric"',
        db=database,
        rp=retention_policy,
        epoch="ns",
    )
    return [
        {
            **dict(zip(series["columns"], values, strict=True)),
            "metric": series["tags"]["metric"],
        }
        for series in found
        for values in series["values"]
    ]


def names(server, bucket_name):
    """{metric: name}; each is there once."""
    found = rows(server, bucket_name)
    by_metric = {row["metric"]: row["name"] for row in found}
    assert len(by_metric) == len(found)
    return by_metric


def measured(cloud, ns):
    """Let the indexer believe that all metrics had measures then."""
    at = datetime.datetime.fromtimestamp(ns / NS, datetime.timezone.utc)
    with cloud.index.facade.writer() as session:
        session.execute(
            sqlalchemy.update(METRICS).values(
                last_measure_timestamp=at.replace(tzinfo=None)
            )
        )


def sent(between):
    """Number of lines in each request that wrote names."""
    return [
        request.body.count(b"metric_info,")
        for request in between.requests
        if request.body.startswith(b"metric_info,")
    ]


# What is written ---------------------------------------------------------


def test_what_a_metric_is_called(cloud, influxdb, between, worker):
    (cpu, _disk) = metrics = resource_with(cloud, ["cpu", "disk"])
    (bare,) = cloud.metrics(1, "high")
    before = time.time_ns()
    add(cloud.storage, cloud, [*metrics, bare])
    assert sent(between) == []
    worker.round()

    found = {row["metric"]: row for row in rows(influxdb, cloud.bucket(cpu))}
    assert found.keys() == {str(metric.id) for metric in metrics}
    row = found[str(cpu.id)]
    assert before - names_module.PERIOD * NS < row.pop("time") <= before
    assert row == {
        "metric": str(cpu.id),
        "name": "cpu",
        "unit": "ns",
        "resource_id": str(cpu.resource_id),
        "archive_policy": "low",
        "creator": "me:us",
    }
    (row,) = rows(influxdb, cloud.bucket(bare))
    del row["time"]
    # There, so that a pivot finds its columns.
    assert row == {
        "metric": str(bare.id),
        "name": "-",
        "unit": "-",
        "resource_id": "-",
        "archive_policy": "high",
        "creator": "me",
    }
    # A request a bucket.
    assert sorted(sent(between)) == [1, 2]


def test_only_what_is_new(cloud, influxdb, between, worker, clock):
    metrics = resource_with(cloud, ["cpu", "disk"])
    add(cloud.storage, cloud, metrics)
    for _ in range(3):
        worker.round()
    assert sent(between) == [2]
    more = resource_with(cloud, ["net"])
    worker.round()
    worker.round()
    assert sent(between) == [2, 1]
    bucket = cloud.bucket(metrics[0])
    before = rows(influxdb, bucket)
    assert {row["metric"] for row in before} == {
        str(metric.id) for metric in [*metrics, *more]
    }
    # Another worker changes nothing.
    Worker(cloud, clock).round()
    assert sent(between) == [2, 1, 3]
    assert rows(influxdb, bucket) == before


def test_renamed_and_moved(cloud, influxdb, between, worker):
    (metric,) = resource_with(cloud, ["cpu"])
    bucket, resource_id = cloud.bucket(metric), metric.resource_id
    add(cloud.storage, cloud, [metric])
    worker.round()

    def patch(name, where):
        """What PATCH /v1/resource/generic/<id> does."""
        cloud.index.update_resource(
            "generic", where, metrics={name: metric.id}
        )
        worker.round()
        worker.round()
        (row,) = rows(influxdb, bucket)
        return row["name"], row["resource_id"]

    elsewhere = uuid.uuid4()
    cloud.index.create_resource("generic", elsewhere, "me:us")
    assert patch("vcpu", resource_id) == ("vcpu", str(resource_id))
    assert patch("cpu", resource_id) == ("cpu", str(resource_id))
    assert patch("cpu", elsewhere) == ("cpu", str(elsewhere))
    assert sent(between) == [1] * 4
    # Of no resource any more.
    cloud.index.update_resource("generic", elsewhere, metrics={})
    worker.round()
    (row,) = rows(influxdb, bucket)
    assert row["resource_id"] == "-"


@pytest.mark.parametrize("on", [True, False])
def test_by_metricd(make_conf, influxdb, between, clock, on):
    """And not with the measures."""
    cloud = Cloud(make_conf(influxdb_url=between.url, influxdb_metric_info=on))
    try:
        metrics = resource_with(cloud, [f"m{i:02}" for i in range(20)])
        points = {m: {recent(60): 1.0} for m in metrics}
        cloud.incoming.add_measures_batch(
            {
                metric.id: [
                    incoming.Measure(samples.at(time_), value)
                    for time_, value in of_metric.items()
                ]
                for metric, of_metric in points.items()
            }
        )
        bucket = cloud.bucket(metrics[0])
        assert stored(influxdb, bucket, metrics[0]) == points[metrics[0]]
        processor = metricd.MetricProcessor(0, cloud.conf)
        processor._configure()
        try:
            processor._run_job()
            # Not all workers at the moment that they are started.
            assert sent(between) == []
            clock.now += INTERVAL
            for _ in range(2):
                processor._run_job()
        finally:
            processor.close_services()
        assert sum(sent(between)) == (20 if on else 0)
        wanted = {str(m.id): m.name for m in metrics} if on else {}
        assert names(influxdb, bucket) == wanted
    finally:
        cloud.close()


def test_left_out_and_deleted(make_conf, influxdb):
    """Written before it was switched off: deleted all the same."""
    cloud = Cloud(make_conf(influxdb_metric_info=False))
    try:
        (metric,) = resource_with(cloud, ["cpu"])
        add(cloud.storage, cloud, [metric])
        bucket = cloud.bucket(metric)
        write_lines(
            influxdb,
            bucket,
            f'metric_info,metric={metric.id} name="cpu" {recent()}',
        )
        cloud.storage._delete_metric(metric)
        assert rows(influxdb, bucket) == []
    finally:
        cloud.close()


texts = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"),
    min_size=1,
    max_size=40,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(texts, min_size=1, max_size=40))
@example(
    [
        '"',
        "\\",
        '\\"',
        "a\\",
        "\\\\",
        "\\n",
        "\n",
        "a\r\nb\tc",
        ",",
        " a = b , c ",
        'x" 5\nmeasure,metric=b value=1 1',
        "# no comment",
        "disk.device.read/bytes (GB)",
        "Überlast ∑ 気温 \U0001f321",
        "\x01\x7f\x85\u2028\ufeff",
        "'; DROP MEASUREMENT metric_info",
        "${r.name}",
    ]
)
def test_any_name_comes_back(storage_conf, influxdb, called):
    """Through the real server's parser."""
    bucket = f"{storage_conf.storage.influxdb_bucket_prefix}fuzz"
    if by_hand.bucket(influxdb, bucket) is None:
        by_hand.make_bucket(influxdb, bucket)
    start = recent()
    infos = [
        info_lines.Info(uuid.uuid4(), start, name, name[:31], None, "p", name)
        for name in called
    ]
    Client(storage_conf.storage).write(bucket, info_lines.encode(infos))
    found = {
        row["metric"]: (row["name"], row["unit"], row["creator"])
        for row in rows(influxdb, bucket)
    }
    for info in infos:
        assert found[str(info.metric)] == (info.name, info.unit, info.creator)
    assert by_hand.stored_count(influxdb, bucket) == 0


# When it is written ------------------------------------------------------


@pytest.fixture
def ready(cloud):
    """Metrics whose bucket is there."""
    metrics = resource_with(cloud, list("abcdefghij"))
    add(cloud.storage, cloud, metrics)
    return metrics


def test_more_than_a_proxy_lets_through(cloud, influxdb, between, worker):
    called = [f'line {i}\nand "more"' for i in range(40)]
    metrics = resource_with(cloud, called)
    add(cloud.storage, cloud, metrics)

    def limit(request):
        if len(request.body) > 1000:
            return proxy.answer("413 Request Entity Too Large", proxy.PAGE)
        return None

    between.before = lambda request: (
        limit(request) if request.path.startswith(by_hand.WRITES) else None
    )
    worker.round()
    found = names(influxdb, cloud.bucket(metrics[0]))
    assert sorted(found.values()) == sorted(called)


def test_again_each_period(cloud, influxdb, between, ready, worker, clock):
    first = int(clock.now * NS)
    # The bucket's retention is the policy's: 10,000 minutes.
    retention = cloud.storage.buckets.of(ready[0].archive_policy).retention
    assert retention == 600000
    period = retention // 2 * NS
    bucket = cloud.bucket(ready[0])
    seen = set()
    while clock.now * NS < first + 2 * period:
        measured(cloud, clock.now * NS)
        worker.round()
        seen.update(row["time"] for row in rows(influxdb, bucket))
        clock.now += period / NS / 4
    assert len(seen) in (2, 3)
    # Whole periods apart, and none that was to come.
    assert len({start % period for start in seen}) == 1
    assert first - period < min(seen) <= first + INTERVAL * NS
    assert sent(between) == [len(ready)] * len(seen)


def test_short_retention(make_conf, influxdb, between, clock):
    """An hour is the shortest, and the names are always in it."""
    cloud = Cloud(make_conf(influxdb_url=between.url))
    try:
        cloud.index.create_archive_policy(
            samples.policy((10, 60), name="short")
        )
        (metric,) = cloud.metrics(1, "short")
        wanted = cloud.storage.buckets.of(metric.archive_policy)
        assert wanted.retention == 3600
        add(cloud.storage, cloud, [metric])
        worker = Worker(cloud, clock)
        for _ in range(1 + 1800 // INTERVAL):  # both ends of half an hour
            measured(cloud, clock.now * NS)
            worker.round()
        times = [row["time"] for row in rows(influxdb, cloud.bucket(metric))]
        assert len(times) == 2
        assert abs(times[1] - times[0]) == 1800 * NS
    finally:
        cloud.close()


@pytest.mark.parametrize(("periods", "is_named"), [(0.9, True), (2, False)])
def test_silent_metrics(
    cloud, influxdb, ready, worker, clock, periods, is_named
):
    """Silent since the last period: not any more."""
    period = 300000
    measured(cloud, (clock.now - periods * period) * NS)
    worker.round()
    assert bool(rows(influxdb, cloud.bucket(ready[0]))) == is_named


def test_a_page_a_call(cloud, influxdb, between, ready, clock):
    worker = Worker(cloud, clock, batch_size=4)
    clock.now += INTERVAL
    for i in range(1, 4):
        worker.run()
        assert sent(between) == [4, 4, 2][:i]
    found = names(influxdb, cloud.bucket(ready[0]))
    assert sorted(found.values()) == list("abcdefghij")
    # And then only after a while.
    more = resource_with(cloud, ["more"])
    clock.now += INTERVAL - 1
    worker.run()
    assert sent(between) == [4, 4, 2]
    clock.now += 1
    for _ in range(4):
        worker.run()
    assert sent(between) == [4, 4, 2, 1]
    assert str(more[0].id) in names(influxdb, cloud.bucket(ready[0]))


def test_pages_that_end_with_the_last_metric(cloud, between, ready, clock):
    worker = Worker(cloud, clock, batch_size=5)
    for _ in range(2):
        worker.round()
    assert sent(between) == [5, 5]


def test_each_sack_its_share(cloud, influxdb, between, clock):
    worker = Worker(cloud, clock, sacks=8)
    metrics = resource_with(cloud, [f"m{i:03}" for i in range(100)])
    edges = [0, 2**125 - 1, 2**125, 2**127, 2**128 - 1]
    for number in edges:
        id_ = uuid.UUID(int=number)
        cloud.index.create_metric(id_, "me", "low", name=f"edge{number}")
    add(cloud.storage, cloud, metrics[:1])
    worker.round()
    worker.round()
    assert sum(sent(between)) == 105
    assert all(number < 40 for number in sent(between))
    assert len(names(influxdb, cloud.bucket(metrics[0]))) == 105


def test_two_workers_at_once(cloud, influxdb, ready, clock):
    workers = [Worker(cloud, clock) for _ in range(2)]
    threads = [threading.Thread(target=one.round) for one in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = names(influxdb, cloud.bucket(ready[0]))
    assert sorted(found.values()) == list("abcdefghij")


# When it goes wrong ------------------------------------------------------


BUSY = proxy.answer("503 Service Unavailable", b"{}")


def refuse(answer):
    return lambda request: (
        answer if request.body.startswith(b"metric_info,") else None
    )


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (BUSY, "503"),
        (proxy.answer("401 Unauthorized", b"{}"), "token"),
        (proxy.answer("403 Forbidden", b"{}"), "bucket"),
        (proxy.answer("500 Internal Server Error", proxy.PAGE), "500"),
        (
            proxy.answer(
                "400 Bad Request",
                b'{"code":"invalid","message":"unable to parse"}',
                "application/json",
            ),
            "unable to parse",
        ),
        (b"", "measures"),
    ],
)
def test_a_failure(
    cloud, influxdb, between, ready, worker, clock, logged, answer, text
):
    between.before = refuse(answer)
    worker.round()
    # Tried once, whatever influxdb_max_retries says, and not each minute.
    clock.now += INTERVAL - 1
    worker.run()
    assert sent(between) == [10]
    worker.round()
    assert sent(between) == [10, 10]
    (said,) = logged.warnings()
    assert text in said
    assert influxdb.token not in said
    # It is over.
    between.before = None
    for _ in range(2):
        worker.round()
    assert sent(between) == [10] * 3
    assert len(names(influxdb, cloud.bucket(ready[0]))) == 10


def test_a_server_that_fails_is_asked_once(
    cloud, between, ready, clock, logged
):
    """Not once for each sack."""
    worker = Worker(cloud, clock, sacks=8)
    between.before = refuse(BUSY)
    worker.round()
    worker.round()
    assert len(sent(between)) == 2
    assert len(logged.warnings()) == 1


def test_a_bucket_that_fails_for_one_sack(
    cloud, between, ready, clock, logged
):
    """It is not said again because other sacks have nothing to write."""
    worker = Worker(cloud, clock, sacks=8)
    worker.round()
    between.before = refuse(proxy.answer("403 Forbidden", b"{}"))
    resource_with(cloud, ["more"])
    for _ in range(3):
        worker.round()
    assert len(logged.warnings()) == 1


@pytest.mark.only_2x("1.x has no such rights")
def test_a_bucket_that_fails_alone(make_conf, influxdb, clock, logged):
    cloud = Cloud(make_conf())
    try:
        (low,), (high,) = cloud.metrics(1), cloud.metrics(1, "high")
        add(cloud.storage, cloud, [low, high])
        id_, *_ = by_hand.bucket(influxdb, cloud.bucket(high))
        token = by_hand.make_token(influxdb, ("write", "buckets", id_))
        cloud.conf.set_override("influxdb_token", token, "storage")
        worker = Worker(cloud, clock)
        worker.round()
        assert names(influxdb, cloud.bucket(high)) == {str(high.id): "-"}
        assert names(influxdb, cloud.bucket(low)) == {}
        (said,) = logged.warnings()
        assert cloud.bucket(low) in said
        assert "403" in said
    finally:
        cloud.close()


def test_a_new_bucket(cloud, influxdb, between, worker, logged):
    """A policy without measures has none."""
    (metric,) = cloud.metrics(1)
    worker.round()
    assert logged.warnings() == []
    add(cloud.storage, cloud, [metric])
    worker.round()
    assert names(influxdb, cloud.bucket(metric)) == {str(metric.id): "-"}
    assert sent(between) == [1, 1]


def test_somebody_elses_metric_info(cloud, influxdb, worker, logged):
    """Values of another type in our fields, other tags, other fields."""
    metrics = resource_with(cloud, ["cpu"])
    driver = InfluxDBStorage(cloud.conf.storage)
    bucket = driver.buckets.ensure(metrics[0].archive_policy)
    # In each shard of half the retention.
    for age in range(0, 4 * DAY, 3600):
        write_lines(
            influxdb,
            bucket,
            f"metric_info,metric=x name=1i,unit=2 {recent(age)}\n"
            f"metric_info,host=y name=3i,more=true {recent(age)}\n",
        )
    points = add(driver, cloud, metrics)
    worker.round()
    (text,) = logged.warnings()
    assert "type conflict" in text
    (metric,) = metrics
    assert stored(influxdb, bucket, metric) == points[metric]
    for language in "auto", "flux", "influxql":
        cloud.conf.set_override("influxdb_query_language", language, "storage")
        reader = InfluxDBStorage(cloud.conf.storage)
        assert samples.read(reader, metric, "mean", 60)
    driver._delete_metric(metric)
    assert stored(influxdb, bucket, metric) == {}
    # It is theirs.
    assert {row["metric"] for row in rows(influxdb, bucket)} == {"", "x"}


@pytest.mark.parametrize("where", ["encode", "attributes"])
def test_a_surprise(
    cloud, influxdb, ready, worker, logged, monkeypatch, where
):
    """Also the indexer may be away."""

    def fail(*args):
        raise ZeroDivisionError

    module = info_lines if where == "encode" else names_module.listing
    with monkeypatch.context() as patched:
        patched.setattr(module, where, fail)
        for _ in range(2):
            worker.round()
    (record,) = [r for r in logged.records if r.exc_info]
    assert "metric_info" in record.getMessage()
    assert record.exc_info[0] is ZeroDivisionError
    worker.round()
    assert len(names(influxdb, cloud.bucket(ready[0]))) == 10


# By hand -----------------------------------------------------------------


def test_the_command(installation, influxdb):
    installation.policy("low", (288, 300))
    installation.policy("unused", (288, 300))
    metrics = [installation.metric("low") for _ in range(3)]
    installation.metric("unused")
    driver = installation.storage("influxdb")
    write(driver, {metrics[0]: {recent(60): 1.0}}, installation.indexer)
    for _ in range(2):
        status, found = installation.json("names")
        assert (status, found) == (0, {"written": 3, "failed": {}})
        assert names(influxdb, installation.prefix + "low") == {
            str(metric.id): "-" for metric in metrics
        }
    status, out, _ = installation.run("names")
    assert (status, out) == (0, "3 names written.\n")


def test_the_command_in_vain(installation, influxdb):
    installation.policy("low", (288, 300))
    metric = installation.metric("low")
    write(
        installation.storage("influxdb"),
        {metric: {recent(60): 1.0}},
        installation.indexer,
    )
    bucket = installation.prefix + "low"
    for age in range(0, DAY, 3600):
        write_lines(influxdb, bucket, f"metric_info,a=b name=1i {recent(age)}")
    status, found = installation.json("names")
    assert status == 1
    assert found["written"] == 0
    assert "type conflict" in found["failed"][bucket]
    conf = installation.write_configuration(
        installation.directory / "off.conf", influxdb_metric_info=False
    )
    status, _, err = installation.run("names", conf=conf)
    assert status == 2
    assert "influxdb_metric_info" in err


# When a metric goes ------------------------------------------------------


@pytest.mark.parametrize(
    "by_influxql",
    [
        True,
        pytest.param(
            False, marks=pytest.mark.only_2x("1.x always has InfluxQL")
        ),
    ],
)
def test_deleted_with_its_points(
    cloud, influxdb, between, worker, by_influxql
):
    metrics = resource_with(cloud, list("abcdef"))
    add(cloud.storage, cloud, metrics)
    worker.round()
    cloud.mark_deleted(metrics[:4])
    if not by_influxql:
        between.before = lambda request: (
            proxy.answer("404 Not Found", b"404 page not found")
            if request.path == "/query"
            else None
        )
    cloud.chef.expunge_metrics(10000, sync=True)
    assert cloud.index.list_metrics(status="delete") == []
    bucket = cloud.bucket(metrics[0])
    assert sorted(names(influxdb, bucket).values()) == ["e", "f"]
    for metric in metrics:
        assert bool(stored(influxdb, bucket, metric)) == (
            metric in metrics[4:]
        )
    worker.round()
    assert sorted(names(influxdb, bucket).values()) == ["e", "f"]


def test_not_of_a_metric_that_waits_for_its_deletion(
    cloud, influxdb, ready, worker
):
    cloud.mark_deleted(ready[:4])
    worker.round()
    found = names(influxdb, cloud.bucket(ready[0]))
    assert sorted(found.values()) == list("efghij")


def test_names_come_back(cloud, influxdb, between, worker):
    """InfluxDB forgets a DELETE of what it is writing to a data file."""
    (metric,) = resource_with(cloud, ["a"])
    add(cloud.storage, cloud, [metric])
    worker.round()
    bucket = cloud.bucket(metric)
    number = 0

    def only_points(request):
        nonlocal number
        query = urllib.parse.parse_qs(request.body.decode()).get("q", [""])[0]
        if (
            request.path == "/query"
            and query.startswith("DELETE")
            and not proxy.is_for_windows(request)
        ):
            number += 1
            if number == 1:
                write_lines(
                    influxdb,
                    bucket,
                    f'metric_info,metric={metric.id} name="b" {recent(5)}',
                )
                # On 1.x, of all retention policies of the database.
                statement = query.replace(', "metric_info"', "")
                api.influxql(
                    influxdb.url,
                    influxdb.token,
                    statement,
                    db=bucket.partition("/")[0],
                )
                return proxy.answer("200 OK", b"\x80", "application/x-msgpack")
        return None

    between.before = only_points
    cloud.storage._delete_metric(metric)
    assert number == 2
    assert rows(influxdb, bucket) == []


def test_orphans(installation, influxdb):
    """Names alone, of a metric that nobody knows, are an orphan, too."""
    installation.policy("low", (288, 300))
    driver = installation.storage("influxdb")
    kept = installation.metric("low")
    write(driver, {kept: {recent(60): 1.0}}, installation.indexer)
    bucket = installation.prefix + "low"
    lone, whole = uuid.uuid4(), uuid.uuid4()
    write_lines(
        influxdb,
        bucket,
        f'metric_info,metric={lone} name="a" {recent(5)}\n'
        f'metric_info,metric={whole} name="a" {recent(5)}\n'
        f"measure,metric={whole} value=1 {recent(5)}\n"
        f'metric_info,host=theirs name="a" {recent(5)}\n',
    )
    _, found = installation.json("status")
    (line,) = found
    assert (line["series"], line["orphans"], line["foreign"]) == (2, 2, 1)

    status, found = installation.json("prune", "--yes")

    assert (status, found) == (0, {"removed": 2, "left": 0, "expiring": 0})
    assert {row["metric"] for row in rows(influxdb, bucket)} == {
        "",
    }
    assert stored(influxdb, bucket, kept)


def test_buckets_of_windows(cloud, worker, influxdb):
    """Dashboards join there; each bucket has its own period."""
    cloud.index.create_archive_policy(
        archive_policy.ArchivePolicy(
            "two", 0, [(1440, 60), (720, 3600)], ["mean"]
        )
    )
    (metric,) = resource_with(cloud, ["cpu"], policy="two")
    add(cloud.storage, cloud, [metric])
    points, moved, hours = cloud.storage.buckets.names(metric.archive_policy)
    worker.round()
    for name in (points, hours):
        assert [row["name"] for row in rows(influxdb, name)] == ["cpu"]
    assert by_hand.bucket(influxdb, moved) is None
    # After a migration.
    by_hand.make_bucket(influxdb, moved)
    cloud.storage.buckets.watermarks.write(moved, Watermark(1, 1, 1))
    again = Worker(cloud, worker._clock)
    again.round()
    assert [row["name"] for row in rows(influxdb, moved)] == ["cpu"]
    share = IdRange()
    assert again.job.write_page(share) == (1, {})
    share.known, share.next = share.found, share.first
    assert again.job.write_page(share) == (0, {})
