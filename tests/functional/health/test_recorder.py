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
"""Lines that processes write, on real servers."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import numpy
import pytest
from gnocchi import incoming
from servers import api

from gnocchi_influxdb.buckets.policy import downsampled_name, name
from gnocchi_influxdb.health import recorder, summary
from gnocchi_influxdb.incoming import InfluxDBIncoming
from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support import processes
from tests.support.by_hand import bucket, make_bucket, make_token
from tests.support.cloud import Cloud
from tests.support.samples import metric, policy, read, recent, write

AWAY = b"HTTP/1.1 503 away\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def own_threads():
    return [t for t in threading.enumerate() if t.name.endswith("health")]


@pytest.fixture
def conf(make_conf):
    return make_conf(influxdb_health=True)


@pytest.fixture(autouse=True)
def _lines_when_asked_for(monkeypatch):
    """The thread sleeps for longer than a test takes."""
    monkeypatch.setattr(recorder.random, "uniform", lambda *_: 3600.0)


def lines(server, prefix):
    """Each line, oldest first."""
    database, _, retention_policy = f"{prefix}@health".partition("/")
    found = api.influxql(
        server.url,
        server.token,
        "SELECT * FROM driver",
        db=database,
        rp=retention_policy,
        epoch="ns",
    )
    return [
        dict(zip(one["columns"], row, strict=True))
        for one in found
        for row in one["values"]
    ]


def test_what_a_line_counts(conf, influxdb, indexer_driver, bucket_prefix):
    driver = InfluxDBStorage(conf.storage)
    m = metric(policy((1440, 60)))
    write(
        driver,
        {m: {recent(60): 1.0, recent(120): float("nan"), recent(180): 2.0}},
        indexer_driver,
    )
    assert len(read(driver, m, "mean", 60)) == 2
    counting = recorder.of(conf)
    assert counting.write()
    write(driver, {m: {recent(240): 1.0}}, indexer_driver)
    assert counting.write()

    first, second = lines(influxdb, bucket_prefix)

    assert (first["stored"], first["refused"]) == (2, 1)
    assert (first["reads"], first["writes"]) == (1, 1)
    assert first["reads_failed"] == first["writes_failed"] == 0
    assert 0 < first["read_longest"] == first["read_seconds"]
    assert 0 < first["write_longest"] < first["seconds"]
    assert first["pid"] == os.getpid()
    assert first["process"] == "api"
    assert (second["stored"], second["reads"]) == (1, 0)
    kept = bucket(influxdb, f"{bucket_prefix}@health")
    assert kept[1:] == (7 * 86400, 86400)


def test_it_can_be_left_out(make_conf, influxdb, indexer_driver):
    before = own_threads()
    conf = make_conf(influxdb_health=False)
    driver = InfluxDBStorage(conf.storage)
    write(
        driver, {metric(policy((1440, 60))): {recent(60): 1.0}}, indexer_driver
    )
    assert own_threads() == before


def test_an_outage_is_quiet_and_its_counts_are_kept(
    make_conf, between, influxdb, indexer_driver, bucket_prefix, logged
):
    conf = make_conf(influxdb_health=True, influxdb_url=between.url)
    driver = InfluxDBStorage(conf.storage)
    write(
        driver, {metric(policy((1440, 60))): {recent(60): 1.0}}, indexer_driver
    )
    counting = recorder.of(conf)
    between.before = lambda _: AWAY
    for _ in range(3):
        assert not counting.write()
    counting.count(queued=5)
    assert not counting.write()
    assert logged.warnings() == []

    between.before = None
    assert counting.write()

    (line,) = lines(influxdb, bucket_prefix)
    assert (line["stored"], line["queued"]) == (1, 5)


def test_forked_processes_count_their_own(
    conf, influxdb, indexer_driver, bucket_prefix
):
    driver = InfluxDBStorage(conf.storage)
    m = metric(policy((1440, 60)))
    write(driver, {m: {recent(600): 1.0}}, indexer_driver)

    def work(number):
        index = processes.own_indexer(indexer_driver)
        write(driver, {m: {recent(60 * number): 1.0}}, index)
        return recorder.of(conf).write(), len(own_threads())

    assert processes.in_processes(4, work) == [(True, 1)] * 4
    assert recorder.of(conf).write()
    found = lines(influxdb, bucket_prefix)
    assert [line["stored"] for line in found] == [1] * 5
    assert len({line["pid"] for line in found}) == 5


def test_a_thread_writes_them(
    make_conf, influxdb, indexer_driver, bucket_prefix, monkeypatch
):
    monkeypatch.setattr(recorder.random, "uniform", lambda *_: 0.0)
    monkeypatch.setattr(recorder, "INTERVAL", 0.1)
    # Of other tests, asleep.
    others = set(own_threads())
    conf = make_conf(influxdb_health=True)
    driver = InfluxDBStorage(conf.storage)
    counting = recorder.of(conf)
    counting.count(queued=1)
    deadline = time.monotonic() + 60
    found = []
    while sum(line["queued"] for line in found) < 1 or len(found) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        if bucket(influxdb, f"{bucket_prefix}@health"):
            found = lines(influxdb, bucket_prefix)
    # And ends with what it counts for.
    (thread,) = set(own_threads()) - others
    del driver, counting
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()


PROGRAM = """
import sys, time
from oslo_config import cfg
from gnocchi_influxdb import opts
from gnocchi_influxdb.health import recorder

conf = cfg.ConfigOpts()
conf([])
for group in ("storage", "incoming"):
    conf.register_opt(cfg.StrOpt("driver"), group=group)
opts.register(conf.storage)
conf.set_override("influxdb_url", "http://192.0.2.1:8086", "storage")
recorder.random.uniform = lambda *_: 0.0
counting = recorder.of(conf)
counting.count(stored=1)
print("counted", flush=True)
if sys.argv[1] == "wait":
    time.sleep(600)
"""


@pytest.mark.parametrize("end", ["itself", "signal"])
def test_a_process_ends_at_once_in_the_middle_of_a_line(end):
    """InfluxDB's address answers nothing."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "wait" if end == "signal" else ""],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "counted\n"
    if end == "signal":
        process.send_signal(signal.SIGTERM)
    # The line gives up later than that.
    _, err = process.communicate(timeout=4)
    assert process.returncode == (-signal.SIGTERM if end == "signal" else 0)
    assert err == ""


@pytest.mark.only_2x("a token's rights")
def test_a_token_that_may_not_make_the_bucket(
    make_conf, influxdb, bucket_prefix, logged
):
    own = make_bucket(influxdb, f"{bucket_prefix}low")
    token = make_token(
        influxdb, ("read", "buckets", own), ("write", "buckets", own)
    )
    conf = make_conf(influxdb_health=True, influxdb_token=token)
    counting = recorder.of(conf)
    counting.count(stored=1)
    for _ in range(3):
        assert not counting.write()
    (said,) = logged.warnings()
    assert "influxdb_health = false" in said
    assert f"{bucket_prefix}@health" in said
    assert "influx bucket create" in said


def test_no_policy_has_that_bucket():
    for prefix in ("gnocchi-", "", "gnocchi/"):
        for each in ("health", "@health", "", "@", "%40health"):
            assert name(prefix, each) != f"{prefix}@health"
            assert downsampled_name(prefix, each, 10**9) != f"{prefix}@health"


def test_the_queue_and_metricd(make_conf, influxdb, between, bucket_prefix):
    """What waits, breakers, sacks, names and overdue windows."""
    cloud = Cloud(make_conf(influxdb_health=True, influxdb_url=between.url))
    counting = recorder.of(cloud.conf)
    assert isinstance(cloud.incoming, InfluxDBIncoming)
    (m,) = cloud.metrics(1)
    between.before = lambda _: AWAY
    cloud.incoming.add_measures(
        m.id,
        [incoming.Measure(numpy.datetime64(recent(60), "ns"), 1.0)],
    )
    cloud.incoming.measures_report(False)
    assert not counting.write()
    between.before = None
    assert counting.write()
    for sack in cloud.incoming.iter_sacks():
        cloud.chef.process_new_measures_for_sack(sack, blocking=True)
        cloud.incoming.finish_sack_processing(sack)
    cloud.incoming.measures_report(False)
    assert counting.write()
    away, after = lines(influxdb, bucket_prefix)
    assert (away["queued"], away["queue_bundles"], away["stored"]) == (1, 1, 0)
    assert away["breakers_open"] == 1
    assert after["stored"] == 1
    assert after["queue_bundles"] == after["queue_metrics"] == 0
    assert after["sacks"] == len(list(cloud.incoming.iter_sacks()))
    cloud.close()


def test_summary(conf, influxdb, indexer_driver, bucket_prefix):
    driver = InfluxDBStorage(conf.storage)

    def said():
        return list(summary.lines(driver.client, conf.storage))

    assert said() == [
        f"Health: there is no bucket {bucket_prefix}@health ([storage]"
        " influxdb_health)"
    ]
    m = metric(policy((1440, 60)))
    write(driver, {m: {recent(60): 1.0, recent(0): 2.0}}, indexer_driver)
    read(driver, m, "mean", 60)
    counting = recorder.of(conf)
    counting.raise_to(overdue=0.0)
    counting.note(queue_bundles=1234)
    counting.write()
    first, measures, reads, writes, downsampling = said()
    assert first == "Health, last hour; hosts: 1, processes: 1 api"
    assert measures == (
        "  measures: 2 stored, 0 refused, 0 queued; in the queue: 1,234"
        " bundles"
    )
    assert reads.startswith("  reads: 1, 0 failed; ")
    assert writes.startswith("  writes: 1, 0 failed; ")
    assert downsampling == "  downsampling: in time"
    counting.raise_to(overdue=7200.0, breakers_open=1.0)
    counting.write()
    *_, downsampling, breakers = said()
    assert downsampling == "  downsampling: overdue by 120 min"
    assert breakers == "  circuit breakers open in a process: 1"
    assert max(map(len, said())) < 80
