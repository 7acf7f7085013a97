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
"""What is of InfluxDB 1.x only: retention policies, users, limits, errors."""

import contextlib
import itertools
import logging
import re
import threading
import urllib.parse

import pytest
import servers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.buckets.policy import PolicyBucket
from gnocchi_influxdb.storage import InfluxDBStorage
from gnocchi_influxdb.wire import influxql
from tests.support import by_hand, proxy, samples, version1
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

pytestmark = pytest.mark.only_1x

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture
def driver(storage_conf):
    return InfluxDBStorage(storage_conf.storage)


@pytest.fixture
def m():
    return metric(policy((1440, 60)))


def complaint(driver, kind=exceptions.ConfigurationError):
    with fails_with(kind) as error:
        driver.upgrade()
    said = str(error.value)
    assert "\n" not in said
    assert len(said) < 400
    return said


# What upgrade says -----------------------------------------------------------


def test_upgrade(driver, logged):
    driver.upgrade()
    said, announced = (
        record.getMessage()
        for record in logged.records
        if record.levelno == logging.INFO
    )
    assert "downsampled" in announced
    assert re.match(r"Storing measures in InfluxDB 1\.\d+\.\S+ \(OSS\)", said)
    assert "with Flux" in said


def test_prefix_of_2x(make_conf, influxdb):
    conf = make_conf(influxdb_bucket_prefix="gnocchi-")
    said = complaint(InfluxDBStorage(conf.storage))
    assert f"is InfluxDB {influxdb.version}" in said
    assert "influxdb_bucket_prefix = gnocchi/" in said


def test_wrong_password(make_conf, influxdb):
    user, _, password = influxdb.token.partition(":")
    for token in (f"{user}:wrong", f"nobody:{password}", "no-user"):
        driver = InfluxDBStorage(make_conf(influxdb_token=token).storage)
        said = complaint(driver, exceptions.AccessError)
        assert "401" in said
        assert "influxdb_token" in said
        assert token not in said
    assert "(user:password, for InfluxDB 1.x)" in said


def test_any_password(make_conf, influxdb, m, indexer_driver, bucket_prefix):
    """Header fields do not take all of them as they are."""
    password = "a b:c é=日/+%"
    database = bucket_prefix.removesuffix("/")
    version1.ask(influxdb, f'CREATE DATABASE "{database}"')
    user = f"u{database.replace('-', '')}"
    version1.ask(influxdb, f"CREATE USER {user} WITH PASSWORD '{password}'")
    version1.ask(influxdb, f'GRANT ALL ON "{database}" TO {user}')
    by_hand.make_bucket(influxdb, f"{bucket_prefix}policy", DAY + 60, HOUR)
    driver = InfluxDBStorage(
        make_conf(influxdb_token=f"{user}:{password}").storage
    )
    driver.upgrade()
    write(driver, {m: {recent(): 1.0}}, indexer_driver)
    assert list(read(driver, m, "mean", 60).values()) == [1.0]


def test_version_is_asked_once(make_conf, influxdb, m, indexer_driver):
    with proxy.Proxy(influxdb.url) as between:
        driver = InfluxDBStorage(make_conf(influxdb_url=between.url).storage)
        write(driver, {m: {recent(): 1.0}}, indexer_driver)
        read(driver, m, "mean", 60)
        # Whether it is a cluster, and the time.
        assert between.paths("/ping") == ["/ping"]


def with_version(version):
    def change(request, answer):
        return answer.replace(b"X-Influxdb-Version: 1.", b"X-Was: ").replace(
            b"\r\n",
            f"\r\nX-Influxdb-Version: {version}\r\n".encode() + proxy.CLOSE,
            1,
        )

    return change


@pytest.mark.parametrize(
    ("version", "is_warned_of"),
    [("1.7.11", True), ("1.8.11-c1.2.0", False), ("v1.8.0", False)],
)
def test_other_1x(make_conf, influxdb, logged, version, is_warned_of):
    with proxy.Proxy(influxdb.url, after=with_version(version)) as between:
        driver = InfluxDBStorage(make_conf(influxdb_url=between.url).storage)
        driver.upgrade()
    said = [w for w in logged.warnings() if "tested with 1.8" in w]
    assert bool(said) is is_warned_of


@pytest.mark.parametrize("version", ["2.9.1", "v2.7.12"])
def test_2x_with_the_prefix_of_1x(make_conf, influxdb, version):
    with proxy.Proxy(influxdb.url, after=with_version(version)) as between:
        driver = InfluxDBStorage(make_conf(influxdb_url=between.url).storage)
        said = complaint(driver)
    assert f"InfluxDB {version.removeprefix('v')}" in said
    assert "without a slash, such as gnocchi-" in said


def test_3x_with_the_prefix_of_1x(make_conf, influxdb):
    with proxy.Proxy(influxdb.url, after=with_version("3.4.0")) as between:
        driver = InfluxDBStorage(make_conf(influxdb_url=between.url).storage)
        said = complaint(driver)
    assert "InfluxDB 3.4.0" in said
    assert "2.7 or a later 2.x, or 1.8 or a later 1.x" in said


@pytest.mark.parametrize("version", ["1.13.2", "1.8.11-c1.2.0"])
def test_counts_of_a_cluster(make_conf, influxdb, indexer_driver, version):
    """They are asked for in another way, and are the same."""
    m = metric(policy((100000, 60)))
    points = {T0 + i * 3 * NS: float(i * i % 7) for i in range(500)}
    with proxy.Proxy(influxdb.url, after=with_version(version)) as between:
        driver = InfluxDBStorage(
            make_conf(
                influxdb_query_language="influxql",
                influxdb_url=between.url,
                influxdb_retention=False,
            ).storage
        )
        write(driver, {m: points}, indexer_driver)
        found = read(driver, m, "count", 60)
        asked = [
            urllib.parse.parse_qs(request.body.decode())["q"][0]
            for request in between.requests
            if request.path == "/query"
        ]
    counts = [text for text in asked if text.startswith("SELECT count(")]
    assert counts
    is_cluster = "-c" in version
    assert all(("FROM (SELECT" in text) is is_cluster for text in counts)
    direct = InfluxDBStorage(
        make_conf(
            influxdb_retention=False, influxdb_query_language="flux"
        ).storage
    )
    assert found == read(direct, m, "count", 60)


# Retention policies ----------------------------------------------------------


def test_database_is_made(driver, influxdb, m, indexer_driver):
    name = driver.buckets.name(m.archive_policy)
    assert by_hand.bucket(influxdb, name) is None
    write(driver, {m: {recent(): 1.0}}, indexer_driver)
    assert by_hand.bucket(influxdb, name) == (name, DAY + 60, HOUR)
    # And nothing goes to the one that the database came with.
    database = name.partition("/")[0]
    assert by_hand.select(influxdb, f"{database}/autogen", "value") == []


@pytest.mark.parametrize("copies", [1, 2])
def test_replication(make_conf, influxdb, m, indexer_driver, copies):
    conf = make_conf(influxdb_replication=copies)
    driver = InfluxDBStorage(conf.storage)
    write(driver, {m: {recent(): 1.0}}, indexer_driver)
    found = driver.buckets.find(driver.buckets.name(m.archive_policy))
    assert found.replication == copies
    # A change of its duration leaves that alone, whatever is asked for.
    conf.set_override("influxdb_replication", 3, "storage")
    longer = metric(policy((14400, 60)))
    InfluxDBStorage(conf.storage).buckets.ensure(longer.archive_policy)
    found = driver.buckets.find(found.name)
    assert (found.retention, found.replication) == (10 * DAY + 60, copies)


@pytest.mark.parametrize("consistency", ["any", "one", "quorum", "all"])
def test_consistency(make_conf, influxdb, m, indexer_driver, consistency):
    with proxy.Proxy(influxdb.url) as between:
        driver = InfluxDBStorage(
            make_conf(
                influxdb_url=between.url, influxdb_consistency=consistency
            ).storage
        )
        write(driver, {m: {recent(): 1.0}}, indexer_driver)
        assert between.paths("/write")
        for path in between.paths("/write"):
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
            assert query["consistency"] == [consistency]


def test_policies_of_a_database_keep_apart(driver, influxdb, indexer_driver):
    """Reads and counts of one see nothing of another."""
    metrics = [metric(policy((1440, 60), name=name)) for name in ("a", "b")]
    time = recent()
    for value, one in enumerate(metrics):
        write(driver, {one: {time: float(value)}}, indexer_driver)
    for value, one in enumerate(metrics):
        name = driver.buckets.name(one.archive_policy)
        assert by_hand.stored(influxdb, name, one) == {time: float(value)}
        (other,) = (m for m in metrics if m is not one)
        assert by_hand.stored(influxdb, name, other) == {}
        assert list(read(driver, one, "mean", 60).values()) == [float(value)]
    driver._delete_metric(metrics[0])
    assert list(read(driver, metrics[1], "mean", 60).values()) == [1.0]


def test_policies_race_for_the_database(make_conf, influxdb, indexer_driver):
    """Each of many threads makes another policy of a database to be made."""
    conf = make_conf()
    metrics = [metric(policy((1440, 60), name=f"p{i}")) for i in range(16)]
    errors = []
    together = threading.Barrier(len(metrics))

    def one(m):
        driver = InfluxDBStorage(conf.storage)
        together.wait(30)
        try:
            driver.buckets.ensure(m.archive_policy)
        except Exception as e:
            errors.append(e)

    threads = [threading.Thread(target=one, args=(m,)) for m in metrics]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    driver = InfluxDBStorage(conf.storage)
    for m in metrics:
        name = driver.buckets.name(m.archive_policy)
        assert by_hand.bucket(influxdb, name) == (name, DAY + 60, HOUR)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    name=st.text(
        st.characters(exclude_categories=["C", "Z"], exclude_characters="/\\")
        | st.sampled_from(" \"'%;.$-`"),
        min_size=1,
        max_size=40,
    )
)
def test_identifiers_are_quoted(driver, influxdb, name):
    """Whatever a name is, it stays one."""
    if not name.strip(". "):
        return
    bucket = f"{driver.buckets.prefix}{name}"
    database = driver.buckets.prefix.removesuffix("/")
    client = driver.client
    client.influxql("/", influxql.create_database(database))
    body = client.influxql(
        "/", influxql.create_policy(database, name, DAY, HOUR, 1)
    )
    assert b"error" not in body
    found = driver.buckets.find(bucket)
    assert (found.name, found.retention) == (bucket, DAY)
    driver.buckets.server.change(found, PolicyBucket(name, bucket, 2 * DAY))
    assert driver.buckets.find(bucket).retention == 2 * DAY
    (series,) = version1.ask(
        influxdb, f"SHOW RETENTION POLICIES ON {influxql.identifier(database)}"
    )
    names = [row[0] for row in series["values"]]
    assert sorted(names) == sorted(["autogen", name])
    version1.ask(
        influxdb,
        f"DROP RETENTION POLICY {influxql.identifier(name)}"
        f" ON {influxql.identifier(database)}",
    )


@pytest.mark.parametrize("name", ["back\\slash", 'q"q', 'a\\"b', "a;b"])
def test_quotes_in_an_identifier(influxdb, name):
    """The server has no such names; what counts is which one it reads."""
    with pytest.raises(servers.ServerError) as error:
        version1.ask(influxdb, influxql.show_policies(name))
    assert str(error.value).endswith(f": database not found: {name}")


# Rights ----------------------------------------------------------------------


@pytest.fixture
def user(influxdb, bucket_prefix):
    """Callable: a token with a privilege on the database."""

    def make(privilege=None):
        database = bucket_prefix.removesuffix("/")
        name = f"{privilege or 'no'}_{database.replace('-', '_')}".lower()
        version1.ask(influxdb, f"CREATE USER {name} WITH PASSWORD 'secret'")
        if privilege:
            version1.ask(influxdb, f'CREATE DATABASE "{database}"')
            version1.ask(
                influxdb, f'GRANT {privilege} ON "{database}" TO {name}'
            )
        return f"{name}:secret"

    return make


def test_may_not_make_a_policy(
    make_conf, influxdb, m, indexer_driver, user, bucket_prefix
):
    """The message has the statements, and they do."""
    token = user()
    driver = InfluxDBStorage(make_conf(influxdb_token=token).storage)
    with pytest.raises(exceptions.AccessError) as error:
        write(driver, {m: {recent(): 1.0}}, indexer_driver)
    said = str(error.value)
    assert "influxdb_token" in said
    assert "secret" not in said
    statements = said.partition("Make it with: ")[2].split("; ")
    assert len(statements) == 3
    for statement in statements:
        version1.ask(
            influxdb,
            statement.replace("the user of the token", token.split(":")[0]),
        )
    driver.upgrade()
    write(driver, {m: {recent(): 1.0}}, indexer_driver)
    name = driver.buckets.name(m.archive_policy)
    assert by_hand.bucket(influxdb, name) == (name, DAY + 60, HOUR)
    assert list(read(driver, m, "mean", 60).values()) == [1.0]
    driver._delete_metric(m)
    assert by_hand.stored(influxdb, name, m) == {}


def test_may_not_make_another_policy(
    make_conf, influxdb, m, indexer_driver, user
):
    driver = InfluxDBStorage(make_conf(influxdb_token=user("ALL")).storage)
    with pytest.raises(exceptions.AccessError) as error:
        write(driver, {m: {recent(): 1.0}}, indexer_driver)
    assert "requires admin privilege" in str(error.value)
    assert "CREATE RETENTION POLICY" in str(error.value)


def test_may_not_lengthen(
    make_conf, influxdb, m, indexer_driver, user, bucket_prefix, logged
):
    name = f"{bucket_prefix}policy"
    by_hand.make_bucket(influxdb, name, 2 * HOUR, HOUR)
    driver = InfluxDBStorage(make_conf(influxdb_token=user("ALL")).storage)
    write(driver, {m: {recent(): 1.0}}, indexer_driver)
    (cure,) = (
        said.partition("Change it with: ")[2]
        for said in logged.warnings()
        if "keeps its points for" in said
    )
    version1.ask(influxdb, cure)
    assert by_hand.bucket(influxdb, name) == (name, DAY + 60, HOUR)


def test_may_write_but_not_read(
    make_conf, influxdb, m, indexer_driver, user, bucket_prefix
):
    by_hand.make_bucket(influxdb, f"{bucket_prefix}policy", 2 * DAY, HOUR)
    token = user("WRITE")
    driver = InfluxDBStorage(make_conf(influxdb_token=token).storage)
    time = recent()
    write(driver, {m: {time: 1.0}}, indexer_driver)
    assert by_hand.stored(influxdb, f"{bucket_prefix}policy", m) == {time: 1.0}
    for language in "auto", "flux", "influxql":
        reader = InfluxDBStorage(
            make_conf(
                influxdb_token=token, influxdb_query_language=language
            ).storage
        )
        with fails_with(exceptions.AccessError) as error:
            read(reader, m, "mean", 60)
        assert "influxdb_token" in str(error.value)


def test_type_conflict_and_may_not_read(
    make_conf, influxdb, m, indexer_driver, user, bucket_prefix, logged
):
    """Who may not look at the shards loses no more, and does not repeat it."""
    bucket = f"{bucket_prefix}policy"
    by_hand.make_bucket(influxdb, bucket, 2 * DAY, HOUR)
    time = recent()
    by_hand.write_lines(
        influxdb, bucket, f"measure,metric=foreign value=7i {time}"
    )
    driver = InfluxDBStorage(make_conf(influxdb_token=user("WRITE")).storage)
    before = {time - i * HOUR * NS: float(i) for i in range(1, 4)}
    write(driver, {m: {time: 1.0, **before}}, indexer_driver)
    assert driver.statistics["refused measures"] == 1
    (said,) = logged.warnings()
    assert "field type conflict" in said
    assert by_hand.stored(influxdb, bucket, m) == before


def test_may_read_but_not_write(
    make_conf, influxdb, m, indexer_driver, user, bucket_prefix, driver
):
    write(driver, {m: {recent(): 1.0}}, indexer_driver)
    other = InfluxDBStorage(make_conf(influxdb_token=user("READ")).storage)
    assert list(read(other, m, "mean", 60).values()) == [1.0]
    for forbidden in (
        lambda: write(other, {m: {recent(): 2.0}}, indexer_driver),
        lambda: other._delete_metric(m),
    ):
        with fails_with(exceptions.AccessError) as error:
            forbidden()
        assert "influxdb_token" in str(error.value)
    assert list(read(driver, m, "mean", 60).values()) == [1.0]


def test_message_of_many_metrics_is_short(make_conf, m, indexer_driver, user):
    driver = InfluxDBStorage(make_conf(influxdb_token=user("WRITE")).storage)
    metrics = [metric(m.archive_policy) for _ in range(50)]
    wanted = samples.aggregation(m, "mean", 60)
    with fails_with(exceptions.AccessError) as error:
        driver.get_aggregated_measures({one: [wanted] for one in metrics})
    assert len(str(error.value)) < 800
    assert "requires READ" in str(error.value)


# Limits and faults of a server of one's own ----------------------------------


def configured(server, **sections):
    for section, values in sections.items():
        server.settings.setdefault(section, {}).update(values)
    server.restart()


@pytest.fixture
def own(fresh_influxd):
    if not hasattr(fresh_influxd, "settings"):
        pytest.skip("a server whose configuration can't be changed")
    return fresh_influxd


def test_without_flux(own, make_conf, m, indexer_driver, logged):
    configured(own, http={"flux-enabled": False})
    driver = InfluxDBStorage(make_conf(server=own).storage)
    driver.upgrade()
    assert any(
        "without Flux" in record.getMessage() for record in logged.records
    )
    write(driver, {m: {recent(): 1.0}}, indexer_driver)
    assert list(read(driver, m, "mean", 60).values()) == [1.0]
    conf = make_conf(server=own, influxdb_query_language="flux")
    said = complaint(InfluxDBStorage(conf.storage))
    assert "influxdb_query_language" in said
    assert "flux-enabled = true" in said


def test_without_users(own, make_conf, m, indexer_driver):
    configured(own, http={"auth-enabled": False})
    driver = InfluxDBStorage(
        make_conf(server=own, influxdb_token=None).storage
    )
    driver.upgrade()
    write(driver, {m: {recent(): 1.0}}, indexer_driver)
    assert list(read(driver, m, "mean", 60).values()) == [1.0]


@pytest.mark.parametrize("limit", ["values-per-tag", "series-per-database"])
def test_too_many_series(own, make_conf, indexer_driver, logged, limit):
    """A limit of the server must not cost a measure."""
    configured(own, data={"index-version": "inmem", f"max-{limit}": 20})
    driver = InfluxDBStorage(make_conf(server=own).storage)
    driver.upgrade()
    (said,) = logged.warnings()
    assert f"max-{limit} = 20" in said
    assert "tsi1" in said
    metrics = [metric(policy((1440, 60))) for _ in range(30)]
    points = {m: {recent(): 1.0} for m in metrics}
    # It counts what was there before.
    write(driver, dict(itertools.islice(points.items(), 20)), indexer_driver)
    for _ in range(2):
        with pytest.raises(exceptions.ConfigurationError) as error:
            write(driver, points, indexer_driver)
        assert f"max-{limit} " in str(error.value)
        assert "tsi1" in str(error.value)
    configured(own, data={f"max-{limit}": 0})
    write(driver, points, indexer_driver)
    name = driver.buckets.name(metrics[0].archive_policy)
    assert by_hand.stored_count(own, name) == 30


def test_answers_cut_off(own, make_conf, m, indexer_driver, logged):
    configured(own, http={"max-row-limit": 10})
    driver = InfluxDBStorage(
        make_conf(server=own, influxdb_retention=False).storage
    )
    driver.upgrade()
    (said,) = logged.warnings()
    assert "max-row-limit = 10" in said
    points = {T0 + i * 60 * NS: 1.0 for i in range(30)}
    write(driver, {m: points}, indexer_driver)
    with fails_with(exceptions.ResponseError):
        read(driver, m, "mean", 60, T0, T0 + 1800 * NS)


def test_body_too_large(own, make_conf, m, indexer_driver):
    configured(own, http={"max-body-size": 2000})
    driver = InfluxDBStorage(
        make_conf(server=own, influxdb_retention=False).storage
    )
    points = {T0 + i * NS: float(i) for i in range(300)}
    write(driver, {m: points}, indexer_driver)
    name = driver.buckets.name(m.archive_policy)
    assert by_hand.stored(own, name, m) == points


def test_no_room_for_a_query(own, make_conf, m, indexer_driver, logged):
    """Turned away as long as another one runs, and repeated."""
    configured(own, coordinator={"max-concurrent-queries": 1})
    driver = InfluxDBStorage(
        make_conf(
            server=own, influxdb_max_retries=50, influxdb_retention=False
        ).storage
    )
    points = {T0: 1.0, T0 + NS: 1.0}
    write(driver, {m: points}, indexer_driver)
    # Some millions of windows.
    statement = (
        "SELECT count(count) FROM (SELECT count(value) FROM measure WHERE"
        f" time >= {T0} AND time <= {T0 + NS} GROUP BY time(200ns) fill(0))"
    )

    def occupy():
        while True:
            with contextlib.suppress(servers.ServerError):  # One of ours runs.
                version1.ask(
                    own, statement, driver.buckets.name(m.archive_policy)
                )
                return

    long = threading.Thread(target=occupy)
    long.start()
    try:
        while not any(
            "max-concurrent-queries" in w for w in logged.warnings()
        ):
            assert read(driver, m, "mean", 60) == {T0: 1.0}
            assert long.is_alive() or logged.warnings()
    finally:
        long.join()
    assert read(driver, m, "mean", 60) == {T0: 1.0}


def test_cache_is_full(own, make_conf, m, indexer_driver):
    """A 500, and nothing is lost."""
    configured(own, data={"cache-max-memory-size": 2000})
    driver = InfluxDBStorage(
        make_conf(
            server=own, influxdb_max_retries=1, influxdb_retention=False
        ).storage
    )
    points = {T0 + i * NS: float(i) for i in range(3000)}
    with pytest.raises(exceptions.UnavailableError) as error:
        write(driver, {m: points}, indexer_driver)
    assert "cache-max-memory-size" in str(error.value)
    configured(own, data={"cache-max-memory-size": "1g"})
    write(driver, {m: points}, indexer_driver)
    name = driver.buckets.name(m.archive_policy)
    assert by_hand.stored(own, name, m) == points


def test_write_timeout(own, make_conf, m, indexer_driver):
    configured(own, coordinator={"write-timeout": "1ns"})
    driver = InfluxDBStorage(
        make_conf(server=own, influxdb_max_retries=1).storage
    )

    def write_often():
        for i in range(50):
            write(driver, {m: {recent(i): 1.0}}, indexer_driver)

    with pytest.raises(exceptions.UnavailableError, match="500: timeout"):
        write_often()


def test_a_line_it_can_not_read(driver, influxdb, m, indexer_driver, logged):
    """It stores the others, where 2.x stores nothing of the request."""
    a_policy = m.archive_policy
    name = driver.buckets.ensure(a_policy)
    time = recent()
    good = f"measure,metric={m.id} value=1 {time}"
    with pytest.raises(exceptions.PartialWriteError) as error:
        driver.client.write(name, f"{good}\nmeasure va lue=1\n= =".encode())
    assert error.value.dropped == 2
    assert by_hand.stored(influxdb, name, m) == {time: 1.0}
