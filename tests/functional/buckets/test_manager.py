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
"""Archive policies as buckets: how they come to be, and who may make them."""

import re
import threading
import time
from concurrent import futures

import pytest
from gnocchi import archive_policy, storage
from servers import free_port

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.buckets import manager, shards
from gnocchi_influxdb.read import query
from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support import by_hand, disk, processes, proxy
from tests.support.samples import (
    NS,
    T0,
    fails_with,
    metric,
    policy,
    read,
    recent,
    write,
)

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture
def driver(storage_conf):
    return InfluxDBStorage(storage_conf.storage)


def with_timespans(*definition, name="policy"):
    """An archive policy of (granularity, timespan), seconds or None."""
    return archive_policy.ArchivePolicy(
        name,
        0,
        [
            archive_policy.ArchivePolicyItem(
                granularity=granularity, timespan=timespan
            )
            for granularity, timespan in definition
        ],
        ["mean", "std"],
    )


def made(driver, influxdb, a_policy):
    """(retention, duration of shards) of the bucket of a policy."""
    found = by_hand.bucket(influxdb, driver.buckets.name(a_policy))
    return found and found[1:]


# Coming to be --------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "low",
        "a/b",
        'say "hi"',
        "%41",
        "A",
        "tab\tand\nbreak",
        "Schöne Grüße",
        "日本" * 100,
        "..",
        "_odd",
        "\x00",
        "\\",
        "$x ${y}",
        "x' OR 1=1 --",
        '") |> yield()',
    ],
)
@pytest.mark.parametrize(
    "prefixed",
    [
        True,
        pytest.param(
            False,
            marks=pytest.mark.only_2x("a database has to be named on 1.x"),
        ),
    ],
)
def test_any_name_of_a_policy(
    make_conf, bucket_prefix, influxdb, indexer_driver, name, prefixed
):
    # Without a prefix the policy's name carries what marks the test's own.
    options = {} if prefixed else {"influxdb_bucket_prefix": ""}
    if not prefixed:
        name = bucket_prefix + name
    driver = InfluxDBStorage(make_conf(**options).storage)
    m = metric(policy((100, 60), name=name))
    time = recent()
    write(driver, {m: {time: 1.0}}, indexer_driver)
    bucket = driver.buckets.name(m.archive_policy)
    assert re.fullmatch(r"([A-Za-z0-9_.-]+/)?[A-Za-z0-9_.%-]+", bucket)
    assert by_hand.stored(influxdb, bucket, m) == {time: 1.0}
    assert list(read(driver, m, "mean", 60).values()) == [1.0]
    driver._delete_metric(m)
    with pytest.raises(storage.MetricDoesNotExist):
        read(driver, m, "mean", 60)


@pytest.mark.only_2x("a database has to be named on 1.x")
def test_without_prefix_a_leading_underscore(
    make_conf, influxdb, indexer_driver
):
    driver = InfluxDBStorage(make_conf(influxdb_bucket_prefix="").storage)
    m = metric(policy((100, 60), name="_monitoring"))
    time = recent()
    try:
        write(driver, {m: {time: 1.0}}, indexer_driver)
        bucket = driver.buckets.name(m.archive_policy)
        assert bucket == "%5Fmonitoring"
        assert by_hand.stored(influxdb, bucket, m) == {time: 1.0}
    finally:
        by_hand.delete_bucket(influxdb, "%5Fmonitoring")


def test_processes_race_for_a_bucket(
    driver, storage_conf, influxdb, indexer_driver
):
    # Each knows another state of the same policy.
    metrics = [metric(policy((60 * 24 * (i + 1), 60))) for i in range(8)]
    time = recent()

    def work(i):
        own = InfluxDBStorage(storage_conf.storage)
        index = processes.own_indexer(indexer_driver)
        write(own, {metrics[i]: {time: float(i)}}, index)

    for _ in range(3):
        assert processes.in_processes(8, work) == [None] * 8
        bucket = driver.buckets.name(metrics[0].archive_policy)
        for i, m in enumerate(metrics):
            assert by_hand.stored(influxdb, bucket, m) == {time: float(i)}
        # Who was last may have undone it; the next look mends that.
        InfluxDBStorage(storage_conf.storage).buckets.ensure(
            metrics[7].archive_policy
        )
        assert by_hand.bucket(influxdb, bucket)[1] == 8 * DAY + 60
        by_hand.delete_bucket(influxdb, bucket)


def test_threads_race_for_a_bucket(driver, influxdb, indexer_driver, logged):
    metrics = [metric(policy((60 * 24 * (i + 1), 60))) for i in range(16)]
    time = recent()
    errors = []
    barrier = threading.Barrier(16)

    def work(m):
        barrier.wait(60)
        try:
            write(driver, {m: {time: 1.0}}, indexer_driver)
        except Exception as e:
            errors.append(e)

    threads = [threading.Thread(target=work, args=(m,)) for m in metrics]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    bucket = driver.buckets.name(metrics[0].archive_policy)
    for m in metrics:
        assert by_hand.stored(influxdb, bucket, m) == {time: 1.0}
    # Nobody hears of the 500 that a write may get while a bucket is made.
    assert logged.warnings() == []


@pytest.mark.only_2x("1.x makes a retention policy in one step")
def test_race_for_a_bucket_that_takes_long_to_make(
    make_conf, fresh_influxd, indexer_driver
):
    # InfluxDB shows a bucket after one commit, and takes writes to it and
    # changes of it after another, which may wait for those of other buckets.
    conf = make_conf(server=fresh_influxd, influxdb_metric_info=False)
    metrics = [
        metric(policy((1440 * (i % 6 + 1), 60), name=f"policy{i % 3}"))
        for i in range(24)
    ]
    time = recent()

    def work(m):
        write(InfluxDBStorage(conf.storage), {m: {time: 1.0}}, indexer_driver)

    with (
        disk.slow(fresh_influxd, 0.1),
        futures.ThreadPoolExecutor(len(metrics)) as pool,
    ):
        list(pool.map(work, metrics))
    buckets = InfluxDBStorage(conf.storage).buckets
    for m in metrics:
        bucket = buckets.name(m.archive_policy)
        assert by_hand.stored(fresh_influxd, bucket, m) == {time: 1.0}


def test_deleted_behind_our_back(driver, influxdb, indexer_driver):
    m = metric(policy((1440, 60)))
    time = recent()
    write(driver, {m: {time: 1.0}}, indexer_driver)
    bucket = driver.buckets.name(m.archive_policy)
    by_hand.delete_bucket(influxdb, bucket)
    with pytest.raises(storage.MetricDoesNotExist):
        read(driver, m, "mean", 60)
    driver._delete_metric(m)
    write(driver, {m: {time: 2.0}}, indexer_driver)
    assert by_hand.stored(influxdb, bucket, m) == {time: 2.0}
    assert made(driver, influxdb, m.archive_policy)[0] == DAY + 60


def test_nothing_is_asked_about_a_bucket_that_is_known(
    make_conf, influxdb, indexer_driver
):
    with proxy.Proxy(influxdb.url) as between:
        conf = make_conf(influxdb_url=between.url, influxdb_metric_info=False)
        driver = InfluxDBStorage(conf.storage)
        m = metric(policy((1440, 60)))
        for i in range(5):
            write(driver, {m: {recent(i): 1.0}}, indexer_driver)
        if influxdb.release == 1:
            assert len(between.paths("/write")) == 5
            # Look, make, make the database, make.
            assert len(between.paths("/query")) == 4
        else:
            assert len(between.paths("/api/v2/write")) == 5
            assert len(between.paths("/api/v2/buckets")) == 2  # look, make


# Retention -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "retention"),
    [
        ([(60, DAY)], DAY + 60),
        # The finest timespan, the coarsest granularity, and the slack.
        ([(60, DAY), (300, 30 * DAY), (HOUR, 7 * DAY)], 60 * HOUR + HOUR),
        ([(1, 60)], HOUR),
        ([(0.5, HOUR)], HOUR + 1),
        ([(1, HOUR)], HOUR + 1),
        ([(60, DAY), (300, None)], 60 * HOUR + 300),
        ([(60, None), (300, DAY)], 0),
        ([(1, 9223372035)], 9223372036),
        ([(1, 9223372036)], 0),
    ],
)
def test_retention_follows_the_policy(driver, influxdb, definition, retention):
    a_policy = with_timespans(*definition)
    driver.buckets.ensure(a_policy)
    got, shard = made(driver, influxdb, a_policy)
    assert got == retention
    # Neither hundreds of shards nor next to none.
    most = 60 if len(definition) == 1 else 14
    assert shard == shards.duration(retention, most)
    assert shard >= HOUR
    if retention:
        assert retention / shard <= most or shard == 84 * DAY


def test_each_coarser_definition_has_a_bucket(driver, influxdb):
    a_policy = with_timespans((1, HOUR), (60, 7 * DAY), (HOUR, None))
    name = driver.buckets.ensure(a_policy)
    assert by_hand.bucket(influxdb, f"{name}@60s")[1:] == (7 * DAY + 60, DAY)
    assert by_hand.bucket(influxdb, f"{name}@3600s")[1:] == (0, 84 * DAY)
    # Only a migration has something to put there.
    assert by_hand.bucket(influxdb, f"{name}@1s") is None


def test_a_server_is_known_before_it_has_answered(driver):
    """Else InfluxDB 1.x is taken for a cluster, which does not downsample."""
    (hours,) = driver.buckets.downsampled(policy((60, 60), (24, 3600)))
    assert hours.every == 3600 * NS


def test_the_bucket_of_a_migration(driver, influxdb):
    a_policy = policy((60, 60), (24, 3600))
    name = driver.buckets.all_of(a_policy).moved.name
    driver.buckets.ensure(a_policy)
    assert by_hand.bucket(influxdb, name) is None
    driver.buckets.ensure_moved(a_policy)
    driver.buckets.ensure_moved(a_policy)
    assert by_hand.bucket(influxdb, name)[1] == 3660


def test_without_downsampling_points_are_kept(make_conf, influxdb):
    conf = make_conf(influxdb_downsampling=False)
    driver = InfluxDBStorage(conf.storage)
    a_policy = with_timespans((60, DAY), (HOUR, 30 * DAY))
    name = driver.buckets.ensure(a_policy)
    assert by_hand.bucket(influxdb, name)[1] == 30 * DAY + HOUR
    assert by_hand.bucket(influxdb, f"{name}@3600s") is None


def test_grows_with_the_definition(driver, make_conf, influxdb):
    before = with_timespans((60, DAY))
    after = with_timespans((60, 100 * DAY))
    driver.buckets.ensure(before)
    driver.buckets.ensure(after)
    grown = (100 * DAY + 60, shards.duration(100 * DAY + 60))
    assert made(driver, influxdb, after) == grown
    assert grown[1] > shards.duration(DAY + 60)
    # What this process remembers, and what another one does.
    for each in (driver, InfluxDBStorage(make_conf().storage)):
        each.buckets.ensure(before)
        assert made(driver, influxdb, after) == grown
    endless = with_timespans((60, None))
    driver.buckets.ensure(endless)
    assert made(driver, influxdb, endless) == (0, 84 * DAY)
    driver.buckets.ensure(after)
    assert made(driver, influxdb, endless)[0] == 0


def test_a_stale_process_meets_a_grown_bucket(driver, make_conf, influxdb):
    driver.buckets.ensure(with_timespans((60, DAY)))
    other = InfluxDBStorage(make_conf().storage)
    other.buckets.ensure(with_timespans((60, 30 * DAY)))
    # It thinks that this is longer than what there is.
    driver.buckets.ensure(with_timespans((60, 2 * DAY)))
    assert made(driver, influxdb, with_timespans((60, DAY)))[0] == (
        30 * DAY + 60
    )


def test_shortened_by_a_stale_process(driver, influxdb, monkeypatch):
    a_policy = with_timespans((60, 30 * DAY))
    driver.buckets.ensure(a_policy)
    bucket = by_hand.bucket(influxdb, driver.buckets.name(a_policy))[0]
    by_hand.change_bucket(influxdb, bucket, DAY, HOUR)
    driver.buckets.ensure(a_policy)
    assert made(driver, influxdb, a_policy)[0] == DAY  # known, not looked at
    monkeypatch.setattr(manager, "LOOK_AGAIN", 0)
    driver.buckets.ensure(a_policy)
    assert made(driver, influxdb, a_policy)[0] == 30 * DAY + 60


def test_without_retention(make_conf, influxdb, indexer_driver):
    a_policy = policy((10, 60))
    expiring = InfluxDBStorage(make_conf().storage)
    expiring.buckets.ensure(a_policy)
    assert made(expiring, influxdb, a_policy)[0] == HOUR
    endless = InfluxDBStorage(make_conf(influxdb_retention=False).storage)
    m = metric(a_policy)
    write(endless, {m: {T0: 1.0}}, indexer_driver)
    assert made(endless, influxdb, a_policy) == (0, 84 * DAY)
    bucket = endless.buckets.name(a_policy)
    assert by_hand.stored(influxdb, bucket, m) == {T0: 1.0}


@pytest.mark.only_2x("rights are of databases on 1.x: see test_version1")
def test_may_not_be_lengthened(driver, make_conf, influxdb, logged):
    a_policy = policy((1440, 60))
    name = driver.buckets.name(a_policy)
    bucket = by_hand.make_bucket(influxdb, name, 2 * HOUR, HOUR)
    token = by_hand.make_token(
        influxdb,
        ("read", "buckets", bucket),
    )
    driver = InfluxDBStorage(make_conf(influxdb_token=token).storage)
    driver.buckets.ensure(a_policy)
    driver.buckets.ensure(a_policy)
    (warning,) = logged.warnings()
    assert name in warning
    assert (
        f"influx bucket update --id {bucket} --retention {DAY + 60}s"
        f" --shard-group-duration {HOUR}s" in warning
    )


# Rights --------------------------------------------------------------------


@pytest.fixture
def hand_made(driver, influxdb, indexer_driver):
    """A metric with a point at `T0`, and the id of its bucket."""
    m = metric(with_timespans((60, None)))
    name = driver.buckets.name(m.archive_policy)
    bucket = by_hand.make_bucket(influxdb, name)
    write(driver, {m: {T0: 1.0}}, indexer_driver)
    return m, bucket


def with_rights(make_conf, influxdb, *permissions):
    token = by_hand.make_token(influxdb, *permissions)
    return InfluxDBStorage(make_conf(influxdb_token=token).storage)


@pytest.mark.only_2x("rights are of databases on 1.x: see test_version1")
def test_all_that_a_token_needs(make_conf, influxdb, indexer_driver):
    """To read and write the organization's buckets, and no more."""
    driver = with_rights(
        make_conf, influxdb, ("read", "buckets"), ("write", "buckets")
    )
    driver.upgrade()
    m = metric(policy((1440, 60)))
    write(driver, {m: {recent(): 1.0}}, indexer_driver)
    assert list(read(driver, m, "mean", 60).values()) == [1.0]
    driver._delete_metric(m)
    with pytest.raises(storage.MetricDoesNotExist):
        read(driver, m, "mean", 60)


@pytest.mark.only_2x("1.x has no organizations")
def test_an_organization_without_buckets(
    make_conf, influxdb, indexer_driver, second_org
):
    """The same rights do once there is a bucket to learn the id from."""
    token = by_hand.make_token(
        influxdb, ("read", "buckets"), ("write", "buckets"), org=second_org
    )
    driver = InfluxDBStorage(
        make_conf(influxdb_org=second_org, influxdb_token=token).storage
    )
    m = metric(policy((1440, 60)))
    name = driver.buckets.name(m.archive_policy)
    with fails_with(exceptions.AccessError) as error:
        driver.upgrade()
    said = str(error.value)
    assert f"influx bucket create --org {second_org} --name gnocchi" in said
    assert "read `orgs`" in said
    with pytest.raises(exceptions.AccessError) as error:
        write(driver, {m: {recent(): 1.0}}, indexer_driver)
    assert f"influx bucket create --org {second_org} --name {name}" in str(
        error.value
    )
    org = by_hand.org_id(influxdb, second_org)
    by_hand.make_bucket(influxdb, "gnocchi", org=org)
    driver.upgrade()
    write(driver, {m: {recent(): 1.0}}, indexer_driver)
    assert by_hand.bucket(influxdb, name, second_org)[1] == DAY + 60
    assert list(read(driver, m, "mean", 60).values()) == [1.0]


@pytest.mark.only_2x("1.x has no organizations")
def test_reads_orgs_in_an_organization_without_buckets(
    make_conf, influxdb, indexer_driver, second_org
):
    token = by_hand.make_token(
        influxdb,
        ("read", "buckets"),
        ("write", "buckets"),
        ("read", "orgs"),
        org=second_org,
    )
    driver = InfluxDBStorage(
        make_conf(influxdb_org=second_org, influxdb_token=token).storage
    )
    driver.upgrade()
    m = metric(policy((1440, 60)))
    write(driver, {m: {recent(): 1.0}}, indexer_driver)
    name = driver.buckets.name(m.archive_policy)
    assert by_hand.bucket(influxdb, name, second_org)[1] == DAY + 60
    assert list(read(driver, m, "mean", 60).values()) == [1.0]


@pytest.mark.only_2x("rights are of databases on 1.x: see test_version1")
def test_may_use_one_bucket(make_conf, influxdb, indexer_driver, hand_made):
    m, bucket = hand_made
    driver = with_rights(
        make_conf,
        influxdb,
        ("read", "buckets", bucket),
        ("write", "buckets", bucket),
    )
    driver.upgrade()
    write(driver, {m: {T0 + NS: 3.0}}, indexer_driver)
    assert list(read(driver, m, "mean", 60).values()) == [2.0]
    driver._delete_metric(m)
    with pytest.raises(storage.MetricDoesNotExist):
        read(driver, m, "mean", 60)


@pytest.mark.only_2x("rights are of databases on 1.x: see test_version1")
def test_may_not_make_a_bucket(make_conf, influxdb, hand_made, indexer_driver):
    _, bucket = hand_made
    driver = with_rights(
        make_conf,
        influxdb,
        ("read", "buckets", bucket),
        ("write", "buckets", bucket),
    )
    m = metric(policy((1440, 60), name="other policy"))
    name = driver.buckets.name(m.archive_policy)
    with pytest.raises(exceptions.AccessError) as error:
        write(driver, {m: {recent(): 1.0}}, indexer_driver)
    said = str(error.value)
    assert name in said
    assert "influxdb_token" in said
    command = (
        f"influx bucket create --org {influxdb.org} --name {name}"
        f" --retention {DAY + 60}s --shard-group-duration {HOUR}s"
    )
    assert command in said


@pytest.mark.only_2x("rights are of databases on 1.x: see test_version1")
def test_may_write_but_not_read(
    make_conf, influxdb, indexer_driver, hand_made
):
    m, bucket = hand_made
    driver = with_rights(make_conf, influxdb, ("write", "buckets", bucket))
    write(driver, {m: {T0 + NS: 3.0}}, indexer_driver)
    name = driver.buckets.name(m.archive_policy)
    assert by_hand.stored(influxdb, name, m) == {T0: 1.0, T0 + NS: 3.0}
    for method in ("mean", "std"):
        with fails_with(exceptions.AccessError) as error:
            read(driver, m, method, 60)
        assert "influxdb_token" in str(error.value)
        assert "may not read" in str(error.value)


@pytest.mark.only_2x("rights are of databases on 1.x: see test_version1")
def test_may_read_but_not_write(
    make_conf, influxdb, indexer_driver, hand_made
):
    m, bucket = hand_made
    driver = with_rights(make_conf, influxdb, ("read", "buckets", bucket))
    assert list(read(driver, m, "mean", 60).values()) == [1.0]
    with pytest.raises(storage.MetricDoesNotExist):
        read(driver, metric(m.archive_policy), "mean", 60)
    with pytest.raises(exceptions.AccessError) as error:
        write(driver, {m: {T0 + NS: 3.0}}, indexer_driver)
    assert "influxdb_token" in str(error.value)
    with pytest.raises(exceptions.AccessError):
        driver._delete_metric(m)
    name = driver.buckets.name(m.archive_policy)
    assert by_hand.stored(influxdb, name, m) == {T0: 1.0}


@pytest.mark.only_2x("rights are of databases on 1.x: see test_version1")
def test_may_do_nothing(make_conf, influxdb, indexer_driver, hand_made):
    m, _ = hand_made
    driver = with_rights(make_conf, influxdb, ("read", "tasks"))
    for attempt in (
        lambda: read(driver, m, "mean", 60),
        lambda: write(driver, {m: {T0 + NS: 3.0}}, indexer_driver),
        lambda: driver._delete_metric(m),
        driver.upgrade,
    ):
        with fails_with(exceptions.AccessError, match="influxdb_token"):
            attempt()


def test_wrong_token(make_conf, indexer_driver, hand_made):
    m, _ = hand_made
    for token in ("not-the-token", None):
        driver = InfluxDBStorage(make_conf(influxdb_token=token).storage)
        for attempt in (
            lambda driver=driver: read(driver, m, "mean", 60),
            lambda driver=driver: write(
                driver, {m: {T0 + NS: 3.0}}, indexer_driver
            ),
            lambda driver=driver: driver._delete_metric(m),
        ):
            with fails_with(exceptions.AccessError) as error:
                attempt()
            assert "influxdb_token" in str(error.value)
            assert "not-the-token" not in str(error.value)


@pytest.mark.only_2x("1.x has no organizations")
def test_wrong_organization(make_conf, indexer_driver, hand_made):
    m, _ = hand_made
    driver = InfluxDBStorage(make_conf(influxdb_org="nobody's").storage)
    for attempt in (
        lambda: read(driver, m, "mean", 60),
        lambda: write(driver, {m: {T0 + NS: 3.0}}, indexer_driver),
        lambda: driver._delete_metric(m),
        driver.upgrade,
    ):
        with fails_with(exceptions.ConfigurationError) as error:
            attempt()
        assert "influxdb_org" in str(error.value)
        assert "nobody's" in str(error.value)


@pytest.fixture
def second_org(influxdb, bucket_prefix):
    name = f"{bucket_prefix}org"
    org = by_hand.call(influxdb, "POST", "/api/v2/orgs", body={"name": name})[
        "id"
    ]
    yield name
    by_hand.call(influxdb, "DELETE", f"/api/v2/orgs/{org}")


@pytest.mark.only_2x("1.x has no organizations")
def test_bucket_of_another_organization(
    make_conf, influxdb, indexer_driver, hand_made, second_org, logged
):
    """An operator's token sees the buckets of all organizations."""
    m, _ = hand_made
    driver = InfluxDBStorage(make_conf(influxdb_org=second_org).storage)
    name = driver.buckets.name(m.archive_policy)
    with pytest.raises(storage.MetricDoesNotExist):
        read(driver, m, "mean", 60)
    write(driver, {m: {T0: 5.0}}, indexer_driver)
    assert by_hand.bucket(influxdb, name, org=second_org) is not None
    # InfluxQL asks the token's own organization, whatever it is told.
    assert by_hand.stored(influxdb, name, m) == {T0: 1.0}
    for method in ("mean", "std"):
        got = read(driver, m, method, 60)
        assert list(got.values()) == ([5.0] if method == "mean" else [])
    # An operator learns, and once, why nothing is kept of long reads.
    (told,) = logged.warnings()
    assert "All is asked in Flux from now on" in told
    assert "influxdb_token" in told
    driver._delete_metric(m)
    assert by_hand.stored(influxdb, name, m) == {T0: 1.0}
    with pytest.raises(storage.MetricDoesNotExist):
        read(driver, m, "mean", 60)


@pytest.mark.only_2x("1.x has no organizations")
def test_threads_learn_at_once_that_there_is_no_influxql(
    make_conf, hand_made, indexer_driver, second_org, monkeypatch, logged
):
    m, _ = hand_made
    driver = InfluxDBStorage(make_conf(influxdb_org=second_org).storage)
    write(driver, {m: {T0: 5.0}}, indexer_driver)
    languages = driver.reader._fetcher._router
    in_influxql = languages._in_influxql
    barrier = threading.Barrier(4)

    def together(*arguments):
        barrier.wait(60)
        try:
            return in_influxql(*arguments)
        finally:
            # The others are told when the first has drawn its conclusion.
            if barrier.wait(60):
                time.sleep(0.2)

    monkeypatch.setattr(languages, "_in_influxql", together)
    asked = query.PointsQuery(
        driver.buckets.name(m.archive_policy), T0, T0 + NS
    )
    answers = []

    def ask():
        try:
            answers.append(list(languages.ask(asked, [m.id])))
        except Exception as e:
            answers.append(e)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[m.id]] * 4
    assert len(logged.warnings()) == 1


@pytest.mark.only_2x("1.x has no organizations")
def test_token_of_another_organization(
    make_conf, influxdb, indexer_driver, hand_made, second_org
):
    m, _ = hand_made
    token = by_hand.make_token(
        influxdb, ("read", "buckets"), ("write", "buckets")
    )
    driver = InfluxDBStorage(
        make_conf(influxdb_org=second_org, influxdb_token=token).storage
    )
    for attempt in (
        lambda: write(driver, {m: {T0 + NS: 3.0}}, indexer_driver),
        driver.upgrade,
    ):
        with fails_with(
            (exceptions.AccessError, exceptions.ConfigurationError)
        ) as error:
            attempt()
        assert "influxdb_token" in str(error.value)


# Servers that are none -----------------------------------------------------


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found"])
@pytest.mark.parametrize(
    "page", [proxy.PAGE, b"<Error><Code>NoSuchBucket</Code> no bucket</Error>"]
)
def test_not_an_influxdb(make_conf, indexer_driver, status, page):
    with proxy.Proxy(
        "http://127.0.0.1:1", before=lambda _: proxy.answer(status, page)
    ) as other:
        driver = InfluxDBStorage(
            make_conf(influxdb_url=other.url, influxdb_max_retries=0).storage
        )
        m = metric(policy((1440, 60)))
        for attempt in (
            lambda: read(driver, m, "mean", 60),
            lambda: write(driver, {m: {recent(): 1.0}}, indexer_driver),
            lambda: driver._delete_metric(m),
            driver.upgrade,
        ):
            with fails_with(
                exceptions.ConfigurationError | exceptions.ResponseError
            ) as error:
                attempt()
            if attempt == driver.upgrade:
                assert "influxdb_url" in str(error.value)


def test_no_server(make_conf, indexer_driver):
    url = f"http://127.0.0.1:{free_port()}"
    driver = InfluxDBStorage(
        make_conf(influxdb_url=url, influxdb_max_retries=1).storage
    )
    m = metric(policy((1440, 60)))
    for attempt in (
        lambda: read(driver, m, "mean", 60),
        lambda: write(driver, {m: {recent(): 1.0}}, indexer_driver),
        lambda: driver._delete_metric(m),
        driver.upgrade,
    ):
        with fails_with(exceptions.UnavailableError) as error:
            attempt()
        assert url in str(error.value)
        assert "influxdb_url" in str(error.value)
