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
"""gnocchi-influxdb check: the queue, and whether somebody works it off."""

import socket
import time

import pytest
from gnocchi import incoming
from gnocchi.cli import metricd
from servers.redis import redis_server
from tooz import coordination

from tests.support.by_hand import make_bucket, write_lines
from tests.support.samples import NS, recent, write


@pytest.fixture
def gnocchi(installation):
    installation.policy("low", (30 * 288, 300))
    metric = installation.metric("low")
    # This process writes no lines of health.
    installation.conf.set_override("influxdb_health", False, "storage")
    write(
        installation.storage("influxdb"),
        {metric: {recent(60): 1}},
        installation.indexer,
    )
    return installation


def post(queue, metric, *seconds):
    """Queue measures of so many seconds ago."""
    queue.add_measures(
        metric.id,
        [
            incoming.Measure(_time(recent(each)), float(i))
            for i, each in enumerate(seconds)
        ],
    )


def _time(ns):
    return ns // NS * NS


def check(gnocchi, subject, conf=None):
    status, found = gnocchi.json("check", conf=conf)
    (one,) = [c for c in found["checks"] if c["subject"] == subject]
    return status, one


def older(queue, seconds):
    """Let what waits in a queue of files have come so long ago."""
    stamp = time.strftime(
        "_%Y%m%d_%H:%M:%S", time.gmtime(recent(seconds) / NS)
    )
    for path in queue.glob("incoming*/*/*"):
        path.rename(path.with_name(path.name.partition("_")[0] + stamp))


def test_a_queue_that_was_not_made_ready(gnocchi):
    status, one = check(gnocchi, "queue")

    assert status == 2
    assert one["level"] == "FAIL"
    assert "gnocchi-upgrade" in one["cure"]


def test_an_empty_queue(gnocchi):
    gnocchi.queue()

    _, one = check(gnocchi, "queue")

    assert one["level"] == "OK"
    assert str(gnocchi.data) in one["text"]
    assert one["values"] == {"queue": 0, "queue_age": 0}


@pytest.mark.parametrize(
    ("seconds", "level", "said"),
    [
        (20, "OK", "the oldest for 2"),
        (400, "WARN", "the oldest for 6 min 4"),
        (2 * 3600 + 30, "FAIL", "the oldest for 2 h 3"),
    ],
)
def test_measures_wait(gnocchi, seconds, level, said):
    """What counts is when they came, not when they were measured."""
    queue = gnocchi.queue()
    metric = gnocchi.metric("low")
    post(queue, metric, 86400, 60)
    post(queue, metric, 30)
    older(gnocchi.data, seconds)

    status, one = check(gnocchi, "queue")

    assert one["level"] == level
    assert status == {"OK": 0, "WARN": 1, "FAIL": 2}[level]
    assert "2 bundles of measures of 1 metric wait in" in one["text"]
    assert said in one["text"]
    assert one["values"]["queue"] == 2
    assert one["values"]["queue_age"] == pytest.approx(seconds, abs=60)
    if level != "OK":
        assert "gnocchi-metricd" in one["cure"]
    # They are still there.
    assert queue.measures_report()["summary"]["measures"] == 2


@pytest.fixture
def coordinated(gnocchi, tmp_path):
    """A configuration whose coordinator knows who is there."""
    path = gnocchi.write_configuration(gnocchi.directory / "file.conf")
    url = f"file://{tmp_path}/coordination"
    path.write_text(f"[DEFAULT]\ncoordination_url = {url}\n{path.read_text()}")
    gnocchi.queue()
    return path, url


def test_no_metricd(gnocchi, coordinated):
    conf, _ = coordinated

    status, one = check(gnocchi, "metricd", conf)
    assert (status, one["level"]) == (1, "WARN")
    assert "start gnocchi-metricd" in one["cure"]

    # Nobody will come for what waits.
    post(gnocchi.queue(), gnocchi.metric("low"), 5)
    status, one = check(gnocchi, "queue", conf)
    assert (status, one["level"]) == (2, "FAIL")
    assert "no gnocchi-metricd is seen" in one["text"]


def test_a_metricd(gnocchi, coordinated):
    conf, url = coordinated
    coordinator = coordination.get_coordinator(url, b"host.0.a-worker")
    coordinator.start(start_heart=True)
    group = metricd.MetricProcessor.GROUP_ID
    coordinator.create_group(group).get()
    coordinator.join_group(group).get()
    try:
        status, one = check(gnocchi, "metricd", conf)
    finally:
        coordinator.stop()

    assert (status, one["level"]) == (0, "OK")
    assert one["text"] == "1 worker of gnocchi-metricd seen"
    assert one["values"] == {"metricd": 1}


def test_lines_of_health_tell_of_metricd(gnocchi):
    """Where the coordinator is a database, which does not."""

    def found():
        _, document = gnocchi.json("check")
        return [c for c in document["checks"] if c["subject"] == "metricd"]

    def line(process, seconds):
        write_lines(
            gnocchi.server,
            name,
            f"driver,host=a,process={process} pid=1 {recent(seconds)}",
        )

    gnocchi.queue()
    name = f"{gnocchi.prefix}@health"
    assert found() == []
    make_bucket(gnocchi.server, name, 86400 * 7, 86400)
    assert found() == []
    # Nobody has written lately, so nobody is missed.
    line("metricd", 3000)
    line("api", 2000)
    assert found() == []
    # What has begun within two minutes may be the first of all.
    line("api", 20)
    assert found() == []
    line("api", 100)
    assert found() == []
    line("api", 150)
    (one,) = found()
    assert one["level"] == "WARN"
    assert "for 50 min" in one["text"]
    line("metricd", 280)
    (one,) = found()
    assert one["level"] == "OK"


def test_a_coordinator_that_is_away(gnocchi):
    conf = gnocchi.write_configuration(gnocchi.directory / "away.conf")
    url = "redis://127.0.0.1:1"
    conf.write_text(f"[DEFAULT]\ncoordination_url = {url}\n{conf.read_text()}")

    status, one = check(gnocchi, "metricd", conf)

    assert (status, one["level"]) == (2, "FAIL")
    assert "coordination_url" in one["cure"]
    # redis-py would try again for a minute.
    assert one["text"] == "there is no answer within 10 s"


@pytest.mark.parametrize("hangs", [False, True])
def test_a_queue_that_is_away(gnocchi, hangs):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1] if hangs else 1
        conf = gnocchi.write_configuration(gnocchi.directory / "away.conf")
        conf.write_text(
            f"{conf.read_text()}[incoming]\ninfluxdb_queue_driver = redis\n"
            f"redis_url = redis://127.0.0.1:{port}\n"
        )

        status, one = check(gnocchi, "queue", conf)

    assert (status, one["level"]) == (2, "FAIL")
    assert one["cure"].startswith("see [incoming] in gnocchi.conf")
    if hangs:
        assert one["text"] == "there is no answer within 10 s"
    else:
        assert "refused" in one["text"]


def test_a_queue_in_redis(gnocchi, tmp_path):
    with redis_server(tmp_path / "redis") as server:
        if server is None:
            pytest.skip("no redis-server on PATH")
        conf = gnocchi.write_configuration(gnocchi.directory / "redis.conf")
        conf.write_text(
            f"{conf.read_text()}[incoming]\ninfluxdb_queue_driver = redis\n"
            f"redis_url = {server.url(0)}\n"
        )
        queue = gnocchi.queue(conf)
        metric = gnocchi.metric("low")
        post(queue, metric, 20)
        _, one = check(gnocchi, "queue", conf)
        assert one["level"] == "OK"
        assert "the oldest is of 2" in one["text"]
        # A measure may have been that old when it came.
        post(queue, metric, 10000)
        status, one = check(gnocchi, "queue", conf)
        assert (status, one["level"]) == (1, "WARN")
        assert "the oldest is of 2 h 4" in one["text"]
        assert queue.measures_report()["summary"]["measures"] == 2
