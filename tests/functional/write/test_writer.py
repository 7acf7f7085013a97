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
"""What becomes of measures: stored, refused for good, or offered again."""

import datetime
import json
import logging
import math
import random
import re
import threading
import uuid

import numpy
import pytest
from gnocchi import archive_policy, carbonara

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets import shards
from gnocchi_influxdb.storage import InfluxDBStorage
from gnocchi_influxdb.write import writer as writes_
from tests.support import by_hand, proxy
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
NAT = -(2**63)


@pytest.fixture
def driver(make_conf):
    return InfluxDBStorage(make_conf(influxdb_retention=False).storage)


def name_of(driver, m):
    return driver.buckets.name(m.archive_policy)


def stored(driver, influxdb, m):
    return by_hand.stored(influxdb, name_of(driver, m), m)


def refused(driver):
    return driver.statistics["refused measures"]


# What InfluxDB has no room for ---------------------------------------------


def test_no_room_for_it(driver, influxdb, indexer_driver, logged):
    bad, good = metric(policy((100, 60))), metric(policy((100, 60)))
    of_bad = [
        (T0, math.nan),
        (T0 + 1, math.inf),
        (T0 + 2, -math.inf),
        (T0 + 3, 1.5),
        (NAT, 1.0),
        (-1, 1.0),
        (2**63 - 1, 1.0),
        (0, 2.5),
        (2**63 - 2, 3.5),
        (-5, math.nan),
    ]
    write(driver, {bad: of_bad, good: {T0: 1.0}}, indexer_driver)
    assert stored(driver, influxdb, bad) == {
        T0 + 3: 1.5,
        0: 2.5,
        2**63 - 2: 3.5,
    }
    assert stored(driver, influxdb, good) == {T0: 1.0}
    assert refused(driver) == 7
    (warning,) = logged.warnings()
    assert str(bad.id) in warning
    assert str(good.id) not in warning
    assert "4 that are not a finite number" in warning
    assert "3 with a time before 1970 or after 2262" in warning


def test_a_thousand_that_there_is_no_room_for(driver, indexer_driver, logged):
    """Prometheus sends NaN for each idle summary, at each scrape."""
    metrics = [metric(policy((100, 60), name=f"p{i % 3}")) for i in range(300)]
    batch = {m: [(T0, math.nan), (T0 + NS, 1.0)] for m in metrics}
    write(driver, batch, indexer_driver)
    assert refused(driver) == 300
    (warning,) = logged.warnings()
    assert "300 that are not a finite number" in warning
    assert "300 metrics" in warning
    assert len(warning) < 500


def test_nothing_but_what_there_is_no_room_for(
    driver, influxdb, indexer_driver
):
    m = metric(policy((100, 60)))
    write(driver, {m: [(T0, math.nan), (NAT, 1.0)]}, indexer_driver)
    assert refused(driver) == 2
    # Not even a bucket was made for it.
    assert by_hand.bucket(influxdb, name_of(driver, m)) is None


def test_nothing(driver, influxdb, indexer_driver):
    m = metric(policy((100, 60)))
    driver.add_measures_to_metrics({}, indexer_driver)
    write(driver, {m: {}}, indexer_driver)
    assert by_hand.bucket(influxdb, name_of(driver, m)) is None
    assert refused(driver) == 0


# What the server refuses ---------------------------------------------------


def test_out_of_retention(make_conf, influxdb, indexer_driver, logged):
    driver = InfluxDBStorage(make_conf(influxdb_batch_size=1000).storage)
    a_policy = policy((1440 * 30, 60))  # 30 d, in shards of 1 d
    metrics = [metric(a_policy) for _ in range(7)]
    points = {}
    good = {}
    for i, m in enumerate(metrics):
        times = [recent(h * HOUR) + i for h in range(0, 24 * 33, 5)]
        points[m] = {t: float(t % 1000) for t in times}
        good[m] = {
            t: v for t, v in points[m].items() if t > recent(30 * DAY - HOUR)
        }
    late = sum(len(points[m]) - len(good[m]) for m in metrics)
    assert late > 50
    write(driver, points, indexer_driver)
    for m in metrics:
        got = stored(driver, influxdb, m)
        assert {t: got.get(t) for t in good[m]} == good[m]
    # To the point: what was refused is what is not there.
    there = by_hand.stored_count(influxdb, name_of(driver, metrics[0]))
    assert refused(driver) == sum(map(len, points.values())) - there
    # Whatever lies in a shard that is still needed is stored, too.
    assert late - len(metrics) * 5 <= refused(driver) <= late
    warnings = logged.warnings()
    assert all("outside retention policy" in w for w in warnings)
    assert name_of(driver, metrics[0]) in warnings[0]
    assert sum(
        int(re.search(r"refused for good (\d+) of", w).group(1))
        for w in warnings
    ) == refused(driver)


def test_all_out_of_retention(make_conf, influxdb, indexer_driver):
    driver = InfluxDBStorage(make_conf().storage)
    m = metric(policy((60, 60)))
    write(driver, {m: {T0 + i: 1.0 for i in range(10)}}, indexer_driver)
    assert refused(driver) == 10
    assert stored(driver, influxdb, m) == {}


def spoil(influxdb, bucket, *times):
    """Make the shards that hold these times refuse floats."""
    for ns in times:
        by_hand.write_lines(
            influxdb, bucket, f"measure,metric=foreign value=1i {ns}"
        )


@pytest.mark.parametrize("batch_size", [10000, 50])
@pytest.mark.parametrize(
    "bad_days", [[0], [3], [6], [1, 2], [0, 6], list(range(7)), [2, 5]]
)
def test_type_conflict(
    make_conf, influxdb, indexer_driver, logged, batch_size, bad_days
):
    """Whole shards of floats are refused, and no other point with them."""
    driver = InfluxDBStorage(
        make_conf(
            influxdb_retention=False, influxdb_batch_size=batch_size
        ).storage
    )
    metrics = [metric(policy((100000, 60))) for _ in range(3)]
    bucket = name_of(driver, metrics[0])
    by_hand.make_bucket(influxdb, bucket, 0, DAY)
    midnight = T0 // (DAY * NS) * DAY * NS
    spoil(influxdb, bucket, *(midnight + d * DAY * NS for d in bad_days))
    points = {
        m: {
            midnight + h * HOUR * NS + i: float(h + i)
            for h in range(0, 24 * 7, 2)
        }
        for i, m in enumerate(metrics)
    }
    write(driver, points, indexer_driver)
    bad = 0
    for m in metrics:
        wanted = {
            t: v
            for t, v in points[m].items()
            if (t - midnight) // (DAY * NS) not in bad_days
        }
        bad += len(points[m]) - len(wanted)
        assert stored(driver, influxdb, m) == wanted
    assert refused(driver) == bad
    errors = [r for r in logged.records if r.levelno == logging.ERROR]
    assert errors
    for record in errors:
        assert bucket in record.getMessage()
        assert "field type conflict" in record.getMessage()
    # The spans that they name are those of the shards.
    named = set()
    for record in errors:
        start, stop = re.search(
            r"between (\S+) and (\S+);", record.getMessage()
        ).groups()
        first, last = (
            int(numpy.datetime64(t, "ns").astype("int64"))
            for t in (start, stop)
        )
        named |= set(
            range(
                (first - midnight) // (DAY * NS),
                (last - midnight) // (DAY * NS) + 1,
            )
        )
    assert named == set(bad_days)


def test_type_conflict_in_shards_of_several_durations(
    driver, influxdb, indexer_driver
):
    """Shards keep the duration that they were made with."""
    m = metric(policy((100000, 60)))
    bucket = name_of(driver, m)
    bucket_id = by_hand.make_bucket(influxdb, bucket, 0, HOUR)
    week = 7 * DAY * NS
    start = (T0 // week + 1) * week
    # Some hours have shards of their own, one of them a bad one.
    for hour in (0, 1, 2, 30, 31, 50):
        by_hand.write_lines(
            influxdb,
            bucket,
            f"measure,metric=old value=1 {start + hour * HOUR * NS}",
        )
    spoil(influxdb, bucket, start + 32 * HOUR * NS, start + 51 * HOUR * NS)
    # All other points of the time share larger ones.
    by_hand.change_bucket(influxdb, bucket_id, 0, 7 * DAY)
    points = {start + i * 600 * NS: float(i) for i in range(6 * 24 * 21)}
    write(driver, {m: points}, indexer_driver)
    bad_hours = {32, 51}
    wanted = {
        t: v
        for t, v in points.items()
        if (t - start) // (HOUR * NS) not in bad_hours
    }
    assert stored(driver, influxdb, m) == wanted
    assert refused(driver) == 12


def test_type_conflict_and_out_of_retention(
    make_conf, influxdb, indexer_driver
):
    driver = InfluxDBStorage(make_conf().storage)
    m = metric(policy((1440 * 30, 60)))
    bucket = name_of(driver, m)
    driver.buckets.ensure(m.archive_policy)
    day = DAY * NS
    midnight = recent() // day * day
    bad = [midnight - 3 * day, midnight - 10 * day]
    # The shard in which the retention ends, too.
    oldest = recent(30 * DAY)
    bad.append(max(oldest // day * day + day // 2, oldest + HOUR * NS))
    spoil(influxdb, bucket, *bad)
    points = {recent(600) - i * HOUR * NS: float(i) for i in range(24 * 34)}
    write(driver, {m: points}, indexer_driver)
    # InfluxDB takes older points, too, where a newer one made it have a shard.
    days = {t // day for t in points if t > recent(30 * DAY - 60)}
    days -= {t // day for t in bad}
    must = {t: v for t, v in points.items() if t // day in days}
    assert stored(driver, influxdb, m) == must
    assert refused(driver) == len(points) - len(must)


def test_other_shards_are_written_however_often_it_is_offered(
    make_conf, influxdb, indexer_driver, logged
):
    """Neither lost nor asked for without end."""
    with proxy.Proxy(influxdb.url) as between:
        driver = InfluxDBStorage(
            make_conf(
                influxdb_retention=False,
                influxdb_metric_info=False,
                influxdb_url=between.url,
            ).storage
        )
        m = metric(policy((10**6, 60)))
        bucket = name_of(driver, m)
        by_hand.make_bucket(influxdb, bucket, 0, DAY)
        midnight = T0 // (DAY * NS) * DAY * NS
        spoil(
            influxdb,
            bucket,
            *(midnight + d * DAY * NS for d in range(0, 20, 3)),
        )
        points = {midnight + i * 300 * NS: 1.0 for i in range(288 * 20)}
        for _ in range(2):
            between.requests.clear()
            write(driver, {m: points}, indexer_driver)
            assert len(stored(driver, influxdb, m)) == 288 * 13
            # One for all, one a shard: not one a point.
            assert len(between.paths(by_hand.WRITES)) <= 1 + 20
    # Nor a line of the log for each shard, and none is left out.
    told = [w for w in logged.warnings() if "for good" in w]
    assert len(told) == 2 * 6
    numbers = [re.search(r"for good (\d+) of 5760", w)[1] for w in told]
    assert sum(map(int, numbers)) == 2 * 288 * 7


def test_line_that_can_not_be_parsed(
    make_conf, influxdb, indexer_driver, logged
):
    """The driver writes none, so they are spoilt on the way."""
    broken = [metric(policy((10**5, 60))) for _ in range(3)]
    sound = [metric(policy((10**5, 60))) for _ in range(20)]

    def spoil_lines(request):
        for m in broken:
            request.body = request.body.replace(
                b"%s value=1.0 " % str(m.id).encode(),
                b"%s value=1.0.0 " % str(m.id).encode(),
            )

    with proxy.Proxy(influxdb.url, before=spoil_lines) as between:
        driver = InfluxDBStorage(
            make_conf(
                influxdb_retention=False, influxdb_url=between.url
            ).storage
        )
        points = {
            m: {T0 + i * 60 * NS: 2.0 for i in range(50)}
            for m in broken + sound
        }
        for i, m in enumerate(broken):
            points[m][T0 + i * 600 * NS] = 1.0
        write(driver, points, indexer_driver)
        for m in sound:
            assert stored(driver, influxdb, m) == points[m]
        for m in broken:
            assert stored(driver, influxdb, m) == {
                t: v for t, v in points[m].items() if v != 1.0
            }
        assert refused(driver) == 3
        # A search in halves: not one a point.
        assert len(between.paths(by_hand.WRITES)) <= 3 * 2 * 11
    (told,) = logged.warnings()
    # A 1.x says the same of each.
    assert ("(and 2 more)" in told) == (influxdb.release != 1)
    assert all(str(m.id) in told for m in broken)


def test_body_too_large(make_conf, influxdb, indexer_driver):
    """A limit as proxies have one; influxd has none to set."""

    def limit(request):
        if len(request.body) > 20000:
            return proxy.answer("413 Request Entity Too Large", proxy.PAGE)
        return None

    with proxy.Proxy(influxdb.url, before=limit) as between:
        driver = InfluxDBStorage(
            make_conf(
                influxdb_retention=False, influxdb_url=between.url
            ).storage
        )
        m = metric(policy((10**6, 60)))
        points = {T0 + i * NS: float(i) for i in range(5000)}
        write(driver, {m: points}, indexer_driver)
        assert stored(driver, influxdb, m) == points
        assert refused(driver) == 0
        between.before = lambda request: (
            proxy.answer("413 Request Entity Too Large")
            if request.path.startswith(by_hand.WRITES)
            else None
        )
        # Nothing is thrown away for a limit that nothing fits in.
        with pytest.raises(exceptions.RefusedError):
            write(driver, {m: {T0: 1.0}}, indexer_driver)


def test_halves_of_which_one_is_refused(make_conf, influxdb, indexer_driver):
    """A body too large, and points in it that InfluxDB does not take."""
    driver = InfluxDBStorage(make_conf().storage)
    m = metric(policy((100, 60)))
    start = recent() - 60 * NS
    write(driver, {m: {start: 0.0}}, indexer_driver)
    old = [b"measure value=1 %d\n" % i for i in range(20)]
    young = [b"measure value=1 %d\n" % (start + i) for i in range(300)]

    def limit(request):
        if len(request.body) > 1000:
            return proxy.answer("413 Request Entity Too Large", proxy.PAGE)
        return None

    with proxy.Proxy(influxdb.url, before=limit) as between:
        client = InfluxDBStorage(
            make_conf(influxdb_url=between.url).storage
        ).client
        with pytest.raises(exceptions.PartialWriteError) as error:
            client.write(
                name_of(driver, m), b"".join([*old[:10], *young, *old[10:]])
            )
    # What stands between the halves that are refused is there.
    assert error.value.dropped == 20
    assert not error.value.type_conflict
    body = client.influxql(
        name_of(driver, m),
        "SELECT count(value) FROM measure WHERE metric = ''",
        schema.JSON,
    )
    assert json.loads(body)["results"][0]["series"][0]["values"][0][1] == 300


# Size ----------------------------------------------------------------------


@pytest.mark.parametrize("gzip", [False, True])
def test_chunks(make_conf, influxdb, indexer_driver, gzip):
    with proxy.Proxy(influxdb.url) as between:
        driver = InfluxDBStorage(
            make_conf(
                influxdb_retention=False,
                influxdb_batch_size=7,
                influxdb_gzip=gzip,
                influxdb_metric_info=False,
                influxdb_url=between.url,
            ).storage
        )
        metrics = [metric(policy((100000, 60))) for _ in range(5)]
        points = {
            m: {T0 + i * NS: float(i * j) for i in range(101)}
            for j, m in enumerate(metrics)
        }
        write(driver, points, indexer_driver)
        for m in metrics:
            assert stored(driver, influxdb, m) == points[m]
        writes = [r for r in between.requests if "/write?" in r.path]
        # Of one size, and each thread has as many to send; and one that
        # makes the series.
        assert (
            len(writes) == len(writes_.request_bounds(505, 7)) + 1 >= 505 / 7
        )
        for request in writes:
            if not gzip:
                assert request.body.count(b"measure,") <= 7
            assert (b"content-encoding: gzip" in request.head.lower()) == gzip
        assert len(read(driver, metrics[0], "count", 60)) == 2


def test_series_are_made_ahead_of_chunks(make_conf, influxdb, indexer_driver):
    """A point of each in each shard; a server that is away is asked once."""
    writes = []

    def lose_the_first(request):
        if b"measure," in request.body:
            writes.append(request.body)
        return b"" if len(writes) == 1 else None

    with proxy.Proxy(influxdb.url, before=lose_the_first) as between:
        driver = InfluxDBStorage(
            make_conf(
                influxdb_retention=False,
                influxdb_batch_size=50,
                influxdb_max_retries=0,
                influxdb_url=between.url,
            ).storage
        )
        a_policy = policy((100000, 60), methods=["mean"])
        metrics = [metric(a_policy) for _ in range(3)]
        edge = shards.span(T0, shards.duration(0))[1] * NS
        points = {
            m: {edge + (i + j) * NS: float(i) for i in range(-100, 100)}
            for j, m in enumerate(metrics)
        }
        with pytest.raises(exceptions.UnavailableError):
            write(driver, points, indexer_driver)
        assert len(writes) == 1
        write(driver, points, indexer_driver)
        assert writes[1] == writes[0]
        assert sorted(writes[0].splitlines()) == sorted(
            f"measure,metric={m.id} value={points[m][time]} {time}".encode()
            for j, m in enumerate(metrics)
            for time in (edge + (j - 100) * NS, edge)
        )
        assert len(writes) == 2 + len(writes_.request_bounds(600, 50))
        for m in metrics:
            assert stored(driver, influxdb, m) == points[m]


def test_a_chunk_fails(make_conf, influxdb, indexer_driver):
    """Then the call does, whatever became of the others."""
    failing = threading.Event()

    def fail(request):
        if b"value=77.0 " in request.body and failing.is_set():
            return proxy.answer("400 Bad Request", b'{"message": "no"}')
        return None

    with proxy.Proxy(influxdb.url, before=fail) as between:
        driver = InfluxDBStorage(
            make_conf(
                influxdb_retention=False,
                influxdb_batch_size=10,
                influxdb_url=between.url,
            ).storage
        )
        m = metric(policy((100000, 60)))
        points = {T0 + i * NS: float(i) for i in range(200)}
        failing.set()
        with pytest.raises(exceptions.RefusedError):
            write(driver, {m: points}, indexer_driver)
        assert refused(driver) == 0
        failing.clear()
        write(driver, {m: points}, indexer_driver)
        assert stored(driver, influxdb, m) == points


def test_a_million_points_of_one_metric(driver, influxdb, indexer_driver):
    m = metric(policy((10**7, 60)))
    array = numpy.zeros(10**6, dtype=carbonara.TIMESERIES_ARRAY_DTYPE)
    times = T0 + numpy.arange(10**6) * NS
    array["timestamps"] = times.astype("datetime64[ns]")
    array["values"] = numpy.arange(10**6) % 1000
    driver.add_measures_to_metrics({m: array}, indexer_driver)
    assert by_hand.stored_count(influxdb, name_of(driver, m)) == 10**6
    counts = read(driver, m, "count", 60)
    assert sum(counts.values()) == 10**6


def test_twenty_thousand_metrics(driver, influxdb, indexer_driver):
    policies = [policy((10**6, 60), name=f"p{i}") for i in range(2)]
    metrics = [metric(policies[i % 2]) for i in range(20000)]
    write(
        driver,
        {m: {T0: float(i)} for i, m in enumerate(metrics)},
        indexer_driver,
    )
    for a_policy in policies:
        bucket = driver.buckets.name(a_policy)
        assert by_hand.stored_count(influxdb, bucket) == 10000
    for i in (0, 1, 777, 19999):
        assert stored(driver, influxdb, metrics[i]) == {T0: float(i)}


def test_the_last_of_several_counts(make_conf, influxdb, indexer_driver):
    driver = InfluxDBStorage(
        make_conf(influxdb_retention=False, influxdb_batch_size=3).storage
    )
    m = metric(policy((10**6, 60)))
    pairs = [(T0 + i % 10 * NS, float(i)) for i in range(100)]
    random.Random(1).shuffle(pairs)
    write(driver, {m: pairs}, indexer_driver)
    assert stored(driver, influxdb, m) == dict(pairs)


# Bookkeeping ---------------------------------------------------------------


@pytest.fixture
def known_metric(indexer_driver):
    """A metric that the indexer knows."""
    name = f"policy-{uuid.uuid4()}"
    indexer_driver.create_archive_policy(
        archive_policy.ArchivePolicy(name, 0, [(1440, 60)], ["mean"])
    )
    known = indexer_driver.create_metric(uuid.uuid4(), "me", name)
    (found,) = indexer_driver.list_metrics(
        attribute_filter={"=": {"id": known.id}}
    )
    return found


def again(indexer_driver, m):
    (found,) = indexer_driver.list_metrics(
        attribute_filter={"=": {"id": m.id}}
    )
    return found


@pytest.mark.parametrize(
    "extra", [[], [(NAT, 1.0)], [(2**63 - 1, 1.0), (-1, math.nan)]]
)
def test_bookkeeping(driver, indexer_driver, known_metric, extra):
    before = known_metric.last_measure_timestamp
    write(driver, {known_metric: [(T0, 1.0), *extra]}, indexer_driver)
    after = again(indexer_driver, known_metric).last_measure_timestamp
    assert after > before
    assert driver.statistics["processed measures"] == 1 + len(extra)
    assert driver.statistics["raw measures store"] == 1


@pytest.mark.parametrize(
    "extra", [[], [(NAT, 1.0)], [(2**63 - 1, 1.0), (-1, math.nan)]]
)
def test_an_ended_resource_comes_back(driver, indexer_driver, extra):
    name = f"policy-{uuid.uuid4()}"
    indexer_driver.create_archive_policy(
        archive_policy.ArchivePolicy(name, 0, [(1440, 60)], ["mean"])
    )
    resource, metric_id = uuid.uuid4(), uuid.uuid4()
    indexer_driver.create_metric(metric_id, "me", name)
    indexer_driver.create_resource(
        "generic",
        resource,
        "me",
        metrics={"x": metric_id},
        started_at=datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc),
    )
    ended = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
    indexer_driver.update_resource("generic", resource, ended_at=ended)
    (m,) = indexer_driver.list_metrics(
        attribute_filter={"=": {"id": metric_id}}
    )
    write(driver, {m: [(T0 - 365 * DAY * NS, 1.0)]}, indexer_driver)
    assert indexer_driver.get_resource("generic", resource).ended_at
    write(driver, {m: [(T0, 1.0), *extra]}, indexer_driver)
    assert not indexer_driver.get_resource("generic", resource).ended_at


# A server that goes away ---------------------------------------------------


def test_down_and_up_again(make_conf, fresh_influxd, indexer_driver):
    driver = InfluxDBStorage(
        make_conf(
            server=fresh_influxd,
            influxdb_retention=False,
            influxdb_max_retries=1,
        ).storage
    )
    m = metric(policy((100000, 60)))
    write(driver, {m: {T0: 1.0}}, indexer_driver)
    fresh_influxd.stop()
    with pytest.raises(exceptions.UnavailableError):
        write(driver, {m: {T0 + NS: 2.0}}, indexer_driver)
    with fails_with(exceptions.UnavailableError):
        read(driver, m, "mean", 60)
    with pytest.raises(exceptions.UnavailableError):
        driver._delete_metric(m)
    fresh_influxd.start()
    write(driver, {m: {T0 + NS: 2.0}}, indexer_driver)
    assert stored(driver, fresh_influxd, m) == {T0: 1.0, T0 + NS: 2.0}


def test_away_for_a_moment(make_conf, fresh_influxd, indexer_driver):
    """Retries reach over a restart."""
    driver = InfluxDBStorage(
        make_conf(
            server=fresh_influxd,
            influxdb_retention=False,
            influxdb_max_retries=1000,
            influxdb_timeout=120,
        ).storage
    )
    m = metric(policy((100000, 60)))
    write(driver, {m: {T0: 1.0}}, indexer_driver)
    fresh_influxd.stop()
    outcome = []
    thread = threading.Thread(
        target=lambda: outcome.append(
            write(driver, {m: {T0 + NS: 2.0}}, indexer_driver)
        )
    )
    thread.start()
    fresh_influxd.start()
    thread.join()
    assert outcome == [None]
    assert stored(driver, fresh_influxd, m) == {T0: 1.0, T0 + NS: 2.0}


def test_stopped_in_its_tracks(make_conf, fresh_influxd, indexer_driver):
    """It takes connections, and never answers."""
    with proxy.Proxy(fresh_influxd.url) as between:
        driver = InfluxDBStorage(
            make_conf(
                server=fresh_influxd,
                influxdb_url=between.url,
                influxdb_retention=False,
                influxdb_timeout=1,
                influxdb_max_retries=3,
            ).storage
        )
        m = metric(policy((100000, 60)))
        write(driver, {m: {T0: 1.0}}, indexer_driver)
        fresh_influxd.freeze()
        try:
            # Once it goes on it does what it was asked in the meantime.
            other = metric(m.archive_policy)
            for attempt in (
                lambda: write(driver, {m: {T0 + NS: 2.0}}, indexer_driver),
                lambda: read(driver, m, "mean", 60),
                lambda: driver._delete_metric(other),
            ):
                between.requests.clear()
                with fails_with(exceptions.UnavailableError) as error:
                    attempt()
                assert "influxdb_timeout" in str(error.value)
                assert 1 <= len(between.requests) <= 4
            # Many at once: each has its own error.
            fresh = InfluxDBStorage(driver.conf)
            between.requests.clear()
            errors = []

            def one():
                try:
                    write(fresh, {m: {T0 + NS: 2.0}}, indexer_driver)
                except exceptions.UnavailableError as e:
                    errors.append(e)

            threads = [threading.Thread(target=one) for _ in range(10)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(errors) == 10
            assert len(between.requests) >= 10
        finally:
            fresh_influxd.thaw()
        write(driver, {m: {T0 + NS: 2.0}}, indexer_driver)
        assert stored(driver, fresh_influxd, m)[T0 + NS] == 2.0


def test_killed_again_and_again(make_conf, fresh_influxd, indexer_driver):
    """What a call has returned for is there, whatever happens."""
    driver = InfluxDBStorage(
        make_conf(
            server=fresh_influxd,
            influxdb_retention=False,
            influxdb_max_retries=0,
            influxdb_batch_size=50,
            influxdb_timeout=10,
        ).storage
    )
    metrics = [metric(policy((10**6, 60))) for _ in range(4)]
    write(driver, {m: {0: 0.0} for m in metrics}, indexer_driver)
    acknowledged = {m: {0: 0.0} for m in metrics}
    unanswered = {m: {} for m in metrics}
    counter = iter(range(10**6))
    failed = []

    def work(m, stop, each):
        own = random.Random(str(m.id))
        while not stop.is_set():
            at = next(counter)
            points = {
                T0 + at * 10**12 + i * NS: own.random() for i in range(200)
            }
            try:
                write(driver, {m: points}, indexer_driver)
            except exceptions.UnavailableError as e:
                unanswered[m].update(points)
                failed.append(e)
                each.release()
                stop.wait(0.05)
            except BaseException as e:
                failed.append(e)
                raise
            else:
                acknowledged[m].update(points)
                each.release()

    for _ in range(3):
        stop, each = threading.Event(), threading.Semaphore(0)
        threads = [
            threading.Thread(target=work, args=(m, stop, each))
            for m in metrics
        ]
        for thread in threads:
            thread.start()
        for _ in range(25):
            each.acquire()
        fresh_influxd.kill()
        for _ in range(4):
            each.acquire()
        stop.set()
        for thread in threads:
            thread.join()
        fresh_influxd.start()
        # A server that was killed in the middle of a WAL entry cuts the
        # entry off, and goes on behind where it was; what it writes there is
        # lost at its next start. One more start before any traffic helps.
        fresh_influxd.restart()
    assert failed
    assert {type(e) for e in failed} == {exceptions.UnavailableError}
    for m in metrics:
        got = stored(driver, fresh_influxd, m)
        assert {t: got.get(t) for t in acknowledged[m]} == acknowledged[m]
    # Offered again, the others are there, too, and nothing twice.
    write(driver, unanswered, indexer_driver)
    for m in metrics:
        assert stored(driver, fresh_influxd, m) == {
            **acknowledged[m],
            **unanswered[m],
        }
