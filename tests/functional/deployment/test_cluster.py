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
"""Several InfluxDB servers that are one.

A cluster is not started here. GNOCCHI_INFLUXDB_CLUSTER_URLS names the data
nodes of one, separated by commas, and GNOCCHI_INFLUXDB_CLUSTER_TOKEN a user
and its password, where it wants any.
"""

import contextlib
import os
import secrets

import numpy
import pytest
import servers
from gnocchi import storage
from servers import api

from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support.proxy import Proxy
from tests.support.samples import (
    METHODS,
    NS,
    T0,
    metric,
    policy,
    read,
    recent,
    write,
)
from tests.support.switch import Switch


@pytest.fixture(scope="module")
def nodes():
    """The data nodes of a cluster."""
    urls = os.environ.get("GNOCCHI_INFLUXDB_CLUSTER_URLS", "")
    if not urls:
        pytest.skip("GNOCCHI_INFLUXDB_CLUSTER_URLS names no cluster")
    token = os.environ.get("GNOCCHI_INFLUXDB_CLUSTER_TOKEN", "none:none")
    return [
        servers.InfluxDB(url, token, "none", api.version(url), "given")
        for url in urls.split(",")
    ]


@pytest.fixture
def database(nodes):
    """The prefix of a database that is dropped afterwards."""
    prefix = f"test-{secrets.token_hex(6)}/"
    yield prefix
    servers.delete_buckets(nodes[0].url, nodes[0].token, "none", prefix)


@pytest.fixture
def copies(nodes):
    """As many as there are nodes: what one answers is what it has itself."""
    return len(nodes)


@pytest.fixture
def drivers(nodes, copies, database, make_conf):
    """One for each node."""
    return [
        InfluxDBStorage(
            make_conf(
                server=node,
                influxdb_bucket_prefix=database,
                influxdb_replication=copies,
                # With less, another node may have it a moment later.
                influxdb_consistency="all",
                influxdb_retention=False,
            ).storage
        )
        for node in nodes
    ]


def policies(node, database):
    """{name: copies}"""
    (found,) = api.influxql(
        node.url,
        node.token,
        f'SHOW RETENTION POLICIES ON "{database.removesuffix("/")}"',
    )
    columns = found["columns"]
    rows = [dict(zip(columns, row, strict=True)) for row in found["values"]]
    return {row["name"]: row["replicaN"] for row in rows}


def test_upgrade(drivers):
    for driver in drivers:
        driver.upgrade()


def test_each_node_reads_what_any_has_written(drivers, indexer_driver):
    a_policy = policy((100000, 60), (1000, 3600))
    rng = numpy.random.default_rng(4)
    for writer in drivers:
        # Enough for all shards of a group.
        metrics = [metric(a_policy) for _ in range(30)]
        times = [T0 + i * 20 * NS for i in range(300)]
        points = {
            m: dict(zip(times, rng.normal(40, 9, 300).tolist(), strict=True))
            for m in metrics
        }
        write(writer, points, indexer_driver)
        for reader in drivers:
            for m in metrics:
                found = read(reader, m, "sum", 3600)
                assert list(found) == [T0, T0 + 3600 * NS]
                assert sum(found.values()) == pytest.approx(
                    sum(points[m].values())
                )
        # Windows and points, in both languages and in Python.
        for method in METHODS:
            first, *others = (
                read(reader, metrics[0], method, 60) for reader in drivers
            )
            assert len(first) >= 99
            assert all(found == first for found in others)


@pytest.mark.parametrize("copies", [1, 2])
def test_counts_of_remote_series(drivers, indexer_driver):
    """A cluster of 1.8 drops some counts where nodes ask one another."""
    a_policy = policy((10**6, 1), (1000, 3600))
    metrics = [metric(a_policy) for _ in range(40)]
    points = [(T0 + i * NS, float(i)) for i in range(7200)]
    write(drivers[0], dict.fromkeys(metrics, points), indexer_driver)
    # With bounds: else the points are read, and counted in Python.
    start, middle, stop = T0, T0 + 3600 * NS, T0 + 7200 * NS
    for driver in drivers:
        for m in metrics:
            found = read(driver, m, "count", 3600, start, stop)
            assert found == {start: 3600, middle: 3600}
            found = read(driver, m, "rate:mean", 3600, start, stop)
            assert found == {start: 1, middle: 1}


def test_policy_made_through_one_node(
    nodes, drivers, database, indexer_driver
):
    """It is there on all at once, and with all copies."""
    a_policy = policy((1000, 60), name="a policy, 'quoted\" \\")
    for i, driver in enumerate(drivers):
        m = metric(a_policy)
        write(driver, {m: {T0: float(i)}}, indexer_driver)
        for reader in drivers:
            assert read(reader, m, "last", 60) == {T0: float(i)}
    bucket = drivers[0].buckets.name(a_policy)
    for node in nodes:
        found = policies(node, database)
        assert found[bucket.removeprefix(database)] == len(nodes)


def test_deleted_through_one_node(drivers, indexer_driver):
    a_policy = policy((100000, 60))
    for driver in drivers:
        kept, deleted = metric(a_policy), metric(a_policy)
        # In shard groups of several weeks.
        times = [T0 + week * 7 * 86400 * NS for week in range(4)]
        write(
            driver,
            {m: dict.fromkeys(times, 1.5) for m in (kept, deleted)},
            indexer_driver,
        )
        driver._delete_metric(deleted)
        for reader in drivers:
            assert list(read(reader, kept, "mean", 60)) == times
            with pytest.raises(storage.MetricDoesNotExist):
                read(reader, deleted, "mean", 60)


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("foreign", [1, 9])
def test_foreign_values(drivers, indexer_driver, logged, foreign):
    """What they keep out is counted, whichever shards they are in.

    A shard group has several shards where there are fewer copies than nodes,
    each with the values of some series and a type of its own for the field.
    """
    a_policy = policy((100000, 60))
    bucket = drivers[0].buckets.name(a_policy)
    write(
        drivers[0], {metric(a_policy): {T0 - 86400 * NS: 1.0}}, indexer_driver
    )
    start = T0 + 70 * 86400 * NS
    lines = "".join(
        f"measure,metric=foreign-{i} value=1i {start}\n"
        for i in range(foreign)
    )
    drivers[0].client.write(bucket, lines.encode())
    for driver in drivers:
        metrics = [metric(a_policy) for _ in range(30)]
        write(
            driver,
            {m: {start: 1.0, start + 60 * NS: 2.0} for m in metrics},
            indexer_driver,
        )
        stored = 0
        for m in metrics:
            with contextlib.suppress(storage.MetricDoesNotExist):
                stored += len(read(driver, m, "mean", 60))
        refused = driver.statistics["refused measures"]
        assert refused > 0
        assert stored + refused == 60
    assert any("field type conflict" in w for w in logged.warnings())


def test_out_of_retention(nodes, database, make_conf, indexer_driver, logged):
    a_policy = policy((60, 60))
    conf = make_conf(
        server=nodes[-1],
        influxdb_bucket_prefix=database,
        influxdb_consistency="all",
    )
    driver = InfluxDBStorage(conf.storage)
    m, now = metric(a_policy), recent() // (60 * NS) * 60 * NS
    write(driver, {m: {T0: 1.0, now: 2.0}}, indexer_driver)
    assert read(driver, m, "mean", 60) == {now: 2.0}
    (refused,) = [w for w in logged.warnings() if "refused" in w]
    assert "refused for good 1 of 2" in refused


# Without a cluster: two ways to the same server are as good as two nodes to
# a driver whose connection breaks.


@pytest.fixture
def two(influxdb):
    with (
        Proxy(influxdb.url) as first,
        Proxy(influxdb.url) as second,
        Switch(first.url, second.url) as switch,
    ):
        yield first, second, switch


def driver_of(make_conf, switch, **options):
    return InfluxDBStorage(
        make_conf(
            influxdb_url=switch.url,
            influxdb_retention=False,
            **options,
        ).storage
    )


def test_node_lost_between_two_calls(two, make_conf, indexer_driver, logged):
    """The next call takes the other one, without a retry."""
    first, second, switch = two
    driver = driver_of(make_conf, switch, influxdb_max_retries=0)
    m = metric(policy((1000, 60)))
    write(driver, {m: {T0: 1.0}}, indexer_driver)
    assert first.requests
    assert not second.requests
    switch.lose()
    seen = len(first.requests)
    write(driver, {m: {T0 + 60 * NS: 2.0}}, indexer_driver)
    assert read(driver, m, "mean", 60) == {T0: 1.0, T0 + 60 * NS: 2.0}
    assert len(first.requests) == seen
    assert second.requests
    # And back, in the other direction.
    switch.lose()
    assert len(read(driver, m, "mean", 60)) == 2
    assert len(first.requests) > seen
    assert not logged.warnings()


@pytest.mark.parametrize("before_it_is_done", [True, False])
def test_node_lost_in_a_write(
    two, make_conf, indexer_driver, logged, before_it_is_done
):
    """It is repeated on the other one, also if the first had it done."""
    first, second, switch = two
    driver = driver_of(make_conf, switch, influxdb_max_retries=1)
    m = metric(policy((1000, 60)))
    write(driver, {m: {T0: 1.0}}, indexer_driver)

    def lost(request, answer=b""):
        switch.lose()
        return b""

    if before_it_is_done:
        first.before = lost
    else:
        first.after = lost
    write(driver, {m: {T0 + 60 * NS: 2.0}}, indexer_driver)
    assert [r.method for r in second.requests] == ["POST"]
    assert read(driver, m, "count", 60) == {T0: 1, T0 + 60 * NS: 1}
    (warning,) = logged.warnings()
    assert "trying again (1 of 1)" in warning


@pytest.mark.parametrize("language", ["flux", "influxql"])
def test_node_lost_in_a_read(two, make_conf, indexer_driver, logged, language):
    """Half an answer is none: the other one is asked."""
    first, second, switch = two
    driver = driver_of(
        make_conf,
        switch,
        influxdb_max_retries=1,
        influxdb_query_language=language,
    )
    m = metric(policy((1000, 60)))
    points = {T0 + i * 60 * NS: float(i) for i in range(500)}
    write(driver, {m: points}, indexer_driver)

    def lost(request, answer):
        if str(m.id).encode() not in request.body:
            return answer
        # The rest of it can't come any more, nor can a new connection.
        switch.target = 1
        return answer[:-10]

    first.after = lost
    assert read(driver, m, "mean", 60) == points
    assert second.requests
    (warning,) = logged.warnings()
    assert "trying again (1 of 1)" in warning
