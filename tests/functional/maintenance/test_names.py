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

import threading
import time
import urllib.parse
import uuid

import pytest
from gnocchi import indexer
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from stack import api

from gnocchi_influxdb.client.client import Client
from gnocchi_influxdb.maintenance import names as metric_info
from gnocchi_influxdb.storage import InfluxDBStorage
from gnocchi_influxdb.wire import info_lines
from tests.support import helpers, proxy
from tests.support.cloud import Cloud
from tests.support.helpers import (
    NS,
    WRITES,
    recent,
    stored,
    write,
    write_lines,
)

DAY = 86400
PERIOD = metric_info.PERIOD * NS


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


def sent(between):
    """Number of lines in each request that wrote names."""
    return [
        request.body.count(b"metric_info,")
        for request in between.requests
        if request.body.startswith(b"metric_info,")
    ]


# What is written ---------------------------------------------------------


def test_what_a_metric_is_called(cloud, influxdb, between):
    (cpu, _disk) = metrics = resource_with(cloud, ["cpu", "disk"])
    (bare,) = cloud.metrics(1, "high")
    driver = InfluxDBStorage(cloud.conf.storage)
    before = time.time_ns()
    points = add(driver, cloud, [*metrics, bare])

    found = {row["metric"]: row for row in rows(influxdb, cloud.bucket(cpu))}
    assert found.keys() == {str(metric.id) for metric in metrics}
    row = found[str(cpu.id)]
    assert before - PERIOD < row.pop("time") <= time.time_ns()
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
    for metric in points:
        assert stored(influxdb, cloud.bucket(metric), metric) == points[metric]
    # A request a bucket, after that bucket's measures.
    assert sorted(sent(between)) == [1, 2]
    kinds = [
        request.body[: request.body.index(b",")]
        for request in between.requests
        if request.path.startswith(WRITES) and request.body
    ]
    assert kinds == [b"measure", b"measure", b"metric_info", b"metric_info"]


def test_once_a_process(cloud, influxdb, between):
    metrics = resource_with(cloud, ["cpu", "disk"])
    driver = InfluxDBStorage(cloud.conf.storage)
    for age in range(5):
        # As other objects each time, as Gnocchi gets them from its indexer.
        add(driver, cloud, of_resource(cloud, metrics[0].resource_id), age=age)
    assert sent(between) == [2]
    # Another process changes nothing.
    before = rows(influxdb, cloud.bucket(metrics[0]))
    add(InfluxDBStorage(cloud.conf.storage), cloud, metrics)
    assert sent(between) == [2, 2]
    assert rows(influxdb, cloud.bucket(metrics[0])) == before


def test_the_fast_way_is_taken(cloud):
    """By what a SQLAlchemy object holds, without its attributes."""
    metrics = resource_with(cloud, ["cpu", "disk"]) + cloud.metrics(2, "high")
    driver = InfluxDBStorage(cloud.conf.storage)
    add(driver, cloud, metrics)
    again = cloud.index.list_metrics()
    assert len(again) == len(metrics)
    assert driver._infos._new(again) == []


def test_metrics_that_are_no_rows(make_conf, between, indexer_driver):
    driver = InfluxDBStorage(make_conf(influxdb_url=between.url).storage)
    metric = indexer.Metric(uuid.uuid4(), helpers.policy((60, 60)), name="a")
    for age in 1, 2:
        write(driver, {metric: {recent(age): 1.0}}, indexer_driver)
    assert sent(between) == [1]


def test_renamed_and_moved(cloud, influxdb, between):
    (metric,) = resource_with(cloud, ["cpu"])
    bucket, resource_id = cloud.bucket(metric), metric.resource_id
    driver = InfluxDBStorage(cloud.conf.storage)
    add(driver, cloud, [metric])

    def patch(name, where):
        """What PATCH /v1/resource/generic/<id> does."""
        cloud.index.update_resource(
            "generic", where, metrics={name: metric.id}
        )
        (changed,) = of_resource(cloud, where)
        for age in 2, 3:
            add(driver, cloud, [changed], age=age)
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
    add(driver, cloud, cloud.index.list_metrics(), age=4)
    (row,) = rows(influxdb, bucket)
    assert row["resource_id"] == "-"


def test_left_out(make_conf, influxdb, between):
    cloud = Cloud(
        make_conf(influxdb_url=between.url, influxdb_metric_info=False)
    )
    try:
        metrics = resource_with(cloud, ["cpu"])
        points = add(cloud.storage, cloud, metrics)
        for metric in metrics:
            bucket = cloud.bucket(metric)
            assert stored(influxdb, bucket, metric) == points[metric]
            assert rows(influxdb, bucket) == []
        assert sent(between) == []
        # Written before it was switched off: deleted all the same.
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
    if helpers.bucket(influxdb, bucket) is None:
        helpers.make_bucket(influxdb, bucket)
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
    assert helpers.stored_count(influxdb, bucket) == 0


# When it is written ------------------------------------------------------


class Clock:
    def __init__(self):
        self.now = time.time_ns()

    def __call__(self):
        return self.now


def writer(driver, batch_size=100):
    """A writer whose clock is the test's."""
    clock = Clock()
    made = metric_info.Writer(
        Client(driver.conf, max_retries=0), driver.buckets, batch_size, clock
    )
    return made, clock


@pytest.fixture
def ready(cloud, between):
    """(metrics that have points, a driver)"""
    metrics = resource_with(cloud, list("abcdefghij"))
    add(cloud.storage, cloud, metrics)
    # Only what the test writes.
    cloud.storage._delete_metric(metrics[0])
    for metric in metrics[1:]:
        cloud.storage._delete_metric(metric)
    del between.requests[:]
    return metrics


def test_again_each_period(cloud, influxdb, between, ready):
    driver = InfluxDBStorage(cloud.conf.storage)
    made, clock = writer(driver)
    seen = set()
    first = clock.now
    # The bucket's retention is the policy's: 10,000 minutes.
    assert driver.buckets.retention(ready[0].archive_policy) == 600000
    period = 300000 * NS
    bucket = cloud.bucket(ready[0])
    while clock.now < first + 2 * period:
        made.write(ready)
        seen.update(row["time"] for row in rows(influxdb, bucket))
        clock.now += period // 4
    assert len(seen) == len(sent(between))
    assert len(seen) in (2, 3)
    # Whole periods apart, and none that was to come.
    assert len({start % period for start in seen}) == 1
    assert first - period < min(seen) <= first
    assert sum(sent(between)) == len(seen) * len(ready)
    # The time is that of the bucket, whatever the process.
    other, clock = writer(driver)
    other.write(ready)
    assert len(rows(influxdb, bucket)) == len(seen) * len(ready)


def test_short_retention(make_conf, influxdb, indexer_driver):
    """An hour is the shortest, and the names are always in it."""
    driver = InfluxDBStorage(make_conf().storage)
    a_policy = helpers.policy((10, 60))
    assert driver.buckets.retention(a_policy) == 3600
    metric = indexer.Metric(uuid.uuid4(), a_policy, name="a")
    driver.buckets.ensure(a_policy)
    made, clock = writer(driver)
    for _ in range(31):  # both ends of half an hour
        made.write([metric])
        clock.now += 60 * NS
    found = rows(influxdb, driver.buckets.name(a_policy))
    assert len(found) == 2
    times = sorted(row["time"] for row in found)
    assert times[1] - times[0] == 1800 * NS


def test_many_metrics_a_few_a_request(cloud, influxdb, between, ready):
    made, _ = writer(cloud.storage, batch_size=4)
    made.write(ready)
    assert sent(between) == [4, 4, 2]
    assert len(names(influxdb, cloud.bucket(ready[0]))) == 10


def test_memory_is_bounded(cloud, influxdb, between, ready, monkeypatch):
    """All are told what they are called in the end, and few at a time."""
    monkeypatch.setattr(metric_info, "MOST", 4)
    made, _ = writer(cloud.storage, batch_size=3)
    made.write(ready[:3])
    made.write(ready)
    (written,) = made._written.values()
    assert len(written.hashes) == 4
    rest = len(sent(between))
    for _ in range(64):
        made.write(ready)
    assert len(written.hashes) == 4
    # 6 x 64 times 1/64.
    assert len(sent(between)) - rest < 40
    monkeypatch.setattr(metric_info, "_SHARE_OF_OTHERS", 1)
    made.write(ready)
    assert len(names(influxdb, cloud.bucket(ready[0]))) == 10
    # One that is remembered may change.
    ready[0].name = "renamed"
    monkeypatch.setattr(metric_info, "_SHARE_OF_OTHERS", 0)
    made.write(ready)
    found = names(influxdb, cloud.bucket(ready[0]))
    assert found[str(ready[0].id)] == "renamed"


def test_forked(cloud, influxdb, between):
    """A child knows what its parent has written, and uses no connection of
    its parent's."""
    metrics = resource_with(cloud, list("abcdefgh"))
    driver = InfluxDBStorage(cloud.conf.storage)
    add(driver, cloud, metrics[:4])
    add(driver, cloud, metrics[:4])
    assert sent(between) == [4]

    def use(i):
        index = helpers.own_indexer(cloud.index)
        mine = [*metrics[:4], metrics[4 + i]]
        write(driver, {m: {recent(i): 1.0} for m in mine}, index)

    outcomes = helpers.in_processes(4, use)
    assert outcomes == [None] * 4
    assert sent(between) == [4, 1, 1, 1, 1]
    owners = [
        request.connection
        for request in between.requests
        if request.body.startswith(b"metric_info,")
    ]
    assert len(set(owners)) == 5
    found = names(influxdb, cloud.bucket(metrics[0]))
    assert sorted(found.values()) == list("abcdefgh")


def test_threads(cloud, influxdb, between):
    metrics = resource_with(cloud, [f"m{i:03}" for i in range(100)])
    driver = InfluxDBStorage(cloud.conf.storage)
    add(driver, cloud, metrics[:1])
    threads = [
        threading.Thread(target=driver._infos.write, args=(metrics,))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = names(influxdb, cloud.bucket(metrics[0]))
    assert sorted(found.values()) == [m.name for m in metrics]
    before = len(sent(between))
    driver._infos.write(metrics)
    assert len(sent(between)) == before


# By whom it is written ---------------------------------------------------


@pytest.fixture
def held(between):
    """Set to let requests that write names through."""
    free = threading.Event()

    def hold(request):
        if request.body.startswith(b"metric_info,"):
            free.wait(30)

    between.before = hold
    yield free
    free.set()


@pytest.mark.in_background
def test_nobody_waits(cloud, influxdb, between, held):
    metrics = resource_with(cloud, list("abcd"))
    driver = InfluxDBStorage(cloud.conf.storage)
    bucket = cloud.bucket(metrics[0])
    for age in range(3):
        points = add(driver, cloud, metrics[:2], age=age)
        for metric in metrics[:2]:
            found = stored(influxdb, bucket, metric)
            assert points[metric].items() <= found.items()
    # More of them, and one that has got another name meanwhile.
    add(driver, cloud, metrics)
    metrics[0].name = "renamed"
    add(driver, cloud, metrics)
    assert rows(influxdb, bucket) == []
    held.set()
    driver._infos.wait()
    # What was under way when it came again is not written once more.
    assert sent(between) == [2, 3]
    found = names(influxdb, bucket)
    assert sorted(found.values()) == ["b", "c", "d", "renamed"]
    add(driver, cloud, metrics, age=5)
    driver._infos.wait()
    assert sent(between) == [2, 3]


@pytest.mark.in_background
def test_a_process_that_ends(cloud, influxdb, between, held):
    """It waits for what is under way."""
    metrics = resource_with(cloud, ["cpu", "disk"])

    def use(i):
        mine = metrics[i : i + 1]
        index = helpers.own_indexer(cloud.index)
        driver = InfluxDBStorage(cloud.conf.storage)
        write(driver, {m: {recent(i): 1.0} for m in mine}, index)

    threading.Timer(1, held.set).start()
    assert helpers.in_processes(2, use) == [None, None]
    found = names(influxdb, cloud.bucket(metrics[0]))
    assert sorted(found.values()) == ["cpu", "disk"]


@pytest.mark.in_background
def test_forked_meanwhile(cloud, influxdb, between, held):
    metrics = resource_with(cloud, ["cpu", "disk"])
    driver = InfluxDBStorage(cloud.conf.storage)
    add(driver, cloud, metrics[:1])

    def use(i):
        index = helpers.own_indexer(cloud.index)
        write(driver, {metrics[1]: {recent(i): 1.0}}, index)
        driver._infos.wait()

    threading.Timer(1, held.set).start()
    assert helpers.in_processes(1, use) == [None]
    driver._infos.wait()
    found = names(influxdb, cloud.bucket(metrics[0]))
    assert sorted(found.values()) == ["cpu", "disk"]


@pytest.mark.in_background
def test_no_thread(cloud, influxdb, monkeypatch):
    metrics = resource_with(cloud, ["cpu"])
    driver = InfluxDBStorage(cloud.conf.storage)
    start = threading.Thread.start
    failed = []

    def fail(thread):
        if thread.name.startswith("metric_info"):
            failed.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        add(driver, cloud, metrics)
    assert len(failed) == 1
    bucket = cloud.bucket(metrics[0])
    assert len(stored(influxdb, bucket, metrics[0])) == 1
    add(driver, cloud, metrics)
    # Not by wait(), which would have a thread made.
    deadline = time.monotonic() + 30
    while not rows(influxdb, bucket) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(names(influxdb, bucket).values()) == ["cpu"]


# When it goes wrong ------------------------------------------------------


BUSY = proxy.answer("503 Service Unavailable", b"{}")


def refuse(answer):
    return lambda request: (
        answer if request.body.startswith(b"metric_info,") else None
    )


@pytest.mark.parametrize(
    "answer",
    [
        BUSY,
        proxy.answer("401 Unauthorized", b"{}"),
        proxy.answer("500 Internal Server Error", proxy.PAGE),
        proxy.answer(
            "400 Bad Request",
            b'{"code":"invalid","message":"unable to parse"}',
            "application/json",
        ),
        b"",
    ],
)
def test_a_failure_is_nobody_elses(cloud, influxdb, between, logged, answer):
    metrics = resource_with(cloud, ["cpu", "disk"])
    driver = InfluxDBStorage(cloud.conf.storage)
    made, clock = writer(driver)
    driver._infos = made
    between.before = refuse(answer)
    points = add(driver, cloud, metrics)
    # Tried once, and not at each batch.
    for age in range(3):
        add(driver, cloud, metrics, age=age)
    assert sent(between) == [2]
    clock.now += 2 * metric_info.RETRY_AFTER * NS
    add(driver, cloud, metrics)
    assert sent(between) == [2, 2]
    for metric in metrics:
        (time_,) = points[metric]
        bucket = cloud.bucket(metric)
        assert stored(influxdb, bucket, metric)[time_] == 1.0
    (text,) = logged.warnings()
    assert cloud.bucket(metrics[0]) in text
    assert influxdb.token not in text
    # It is over.
    between.before = None
    clock.now += 2 * metric_info.RETRY_AFTER * NS
    add(driver, cloud, metrics)
    add(driver, cloud, metrics)
    assert sent(between) == [2, 2, 2]
    assert sorted(names(influxdb, bucket).values()) == ["cpu", "disk"]
    # And would be said again.
    between.before = refuse(answer)
    add(driver, cloud, cloud.metrics(1))
    assert len(logged.warnings()) == 2


def test_tried_once(make_conf, between, indexer_driver):
    """Whatever influxdb_max_retries says."""
    driver = InfluxDBStorage(
        make_conf(influxdb_url=between.url, influxdb_max_retries=3).storage
    )
    between.before = refuse(BUSY)
    metric = indexer.Metric(uuid.uuid4(), helpers.policy((60, 60)), name="a")
    write(driver, {metric: {recent(): 1.0}}, indexer_driver)
    assert sent(between) == [1]


def test_somebody_elses_metric_info(cloud, influxdb, between, logged):
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
    (text,) = logged.warnings()
    assert "type conflict" in text
    (metric,) = metrics
    assert stored(influxdb, bucket, metric) == points[metric]
    for language in "auto", "flux", "influxql":
        cloud.conf.set_override("influxdb_query_language", language, "storage")
        reader = InfluxDBStorage(cloud.conf.storage)
        assert helpers.read(reader, metric, "mean", 60)
    driver._delete_metric(metric)
    assert stored(influxdb, bucket, metric) == {}
    # It is theirs.
    assert {row["metric"] for row in rows(influxdb, bucket)} == {"", "x"}


def test_no_measure_could_be_stored(cloud, between, logged):
    """So there is no bucket yet."""
    (metric,) = cloud.metrics(1)
    driver = InfluxDBStorage(cloud.conf.storage)
    write(driver, {metric: {recent(): float("nan")}}, cloud.index)
    (text,) = logged.warnings()
    assert "not a finite number" in text


def test_a_surprise(cloud, influxdb, logged, monkeypatch):
    metrics = resource_with(cloud, ["cpu"])
    driver = InfluxDBStorage(cloud.conf.storage)

    def fail(infos):
        raise RuntimeError("no such thing")

    monkeypatch.setattr(info_lines, "encode", fail)
    for age in 1, 2:
        add(driver, cloud, metrics, age=age)
    assert len(stored(influxdb, cloud.bucket(metrics[0]), metrics[0])) == 2
    assert len(logged.warnings()) == 1


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
def test_deleted_with_its_points(cloud, influxdb, between, by_influxql):
    metrics = resource_with(cloud, list("abcdef"))
    add(cloud.storage, cloud, metrics)
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


def test_names_come_back(cloud, influxdb, between):
    """InfluxDB forgets a DELETE of what it is writing to a data file."""
    (metric,) = resource_with(cloud, ["a"])
    add(cloud.storage, cloud, [metric])
    bucket = cloud.bucket(metric)
    number = 0

    def only_points(request):
        nonlocal number
        query = urllib.parse.parse_qs(request.body.decode()).get("q", [""])[0]
        if request.path == "/query" and query.startswith("DELETE"):
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
    assert (line["series"], line["orphans"], line["foreign"]) == (2, 2, 0)

    status, found = installation.json("prune", "--yes")

    assert (status, found) == (0, {"removed": 2, "left": 0})
    assert {row["metric"] for row in rows(influxdb, bucket)} == {
        str(kept.id),
        "",
    }
    assert stored(influxdb, bucket, kept)


@pytest.mark.parametrize("on", [True, False])
def test_migrated(installation, influxdb, on):
    installation.policy("low", (288, 300))
    metrics = [installation.metric("low") for _ in range(3)]
    write(
        installation.storage("file"),
        {m: {recent(3600): 1.0, recent(60): 2.0} for m in metrics[:2]},
        installation.indexer,
    )
    conf = installation.write_configuration(
        installation.directory / "other.conf", influxdb_metric_info=on
    )
    status, found = installation.json(
        "migrate", "--from-driver=file", conf=conf
    )
    assert status == 0, found
    assert found["metrics_moved"] == 2
    bucket = installation.prefix + "low"
    wanted = (
        {str(metric.id): "creator" for metric in metrics[:2]} if on else {}
    )
    assert {
        row["metric"]: row["creator"] for row in rows(influxdb, bucket)
    } == wanted


@pytest.mark.parametrize("where", ["_new", "_note", "_send_part"])
def test_a_bug_is_nobody_elses(cloud, influxdb, logged, monkeypatch, where):
    def broken(*args):
        raise ZeroDivisionError

    metrics = resource_with(cloud, ["cpu", "disk"])
    driver = InfluxDBStorage(cloud.conf.storage)
    monkeypatch.setattr(driver._infos, where, broken)
    for age in range(2):
        points = add(driver, cloud, metrics, age=age)
        for metric in metrics:
            found = stored(influxdb, cloud.bucket(metric), metric)
            assert points[metric].items() <= found.items()
    (record,) = [r for r in logged.records if r.exc_info]
    assert "names of metrics" in record.getMessage()
    assert record.exc_info[0] is ZeroDivisionError
