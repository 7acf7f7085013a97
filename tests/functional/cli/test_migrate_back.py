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
"""gnocchi-influxdb migrate-back, into Gnocchi's own drivers."""

import json
import os
import signal
import time
from concurrent import futures

import numpy
import pytest

from tests.support import proxy
from tests.support.installation import (
    DAY,
    HOUR,
    answers,
    fill,
    series,
    with_redis,
)
from tests.support.samples import METHODS, NS, recent, write

JOURNAL = "gnocchi-influxdb-migrate-back.journal"
TO_FILE = ("migrate-back", "--to-driver=file")
MINUTE = 60 * NS
UNAVAILABLE = proxy.answer("503 Service Unavailable", b"{}")
# Gnocchi's own and one with all that is hard to compute.
POLICIES = {
    "low": ([(30 * 288, 300)], ["mean", "min", "max", "sum", "std", "count"]),
    "medium": (
        [(7 * 1440, 60), (365 * 24, 3600)],
        ["mean", "min", "max", "sum", "std", "count"],
    ),
    "high": (
        [(3600, 1), (7 * 1440, 60), (365 * 24, 3600)],
        ["mean", "min", "max", "sum", "std", "count"],
    ),
    "rates": ([(1440, 60), (365 * 24, 3600)], METHODS),
    "uneven": ([(300, 420), (800, 3600)], ["mean", "rate:mean", "95pct"]),
}


@pytest.fixture
def gnocchi(installation):
    for name, (definition, methods) in POLICIES.items():
        installation.policy(name, *definition, methods=methods)
    return installation


@pytest.fixture
def redis(gnocchi, tmp_path):
    """The installation with a Redis to go to."""
    with with_redis(gnocchi, tmp_path / "redis") as found:
        yield found


def store(gnocchi, metrics, points, driver="influxdb", batches=2):
    fill(gnocchi, metrics, points, batches, driver)


def back(gnocchi, *arguments, driver="file"):
    return gnocchi.json("migrate-back", f"--to-driver={driver}", *arguments)


def equal(one, other):
    """Whether two answers are the same, window by window."""
    assert one.keys() == other.keys()
    for key, windows in one.items():
        assert windows == pytest.approx(other[key], rel=1e-9, abs=1e-9), key


def is_whole(found):
    """Whether something was compared, and all is equal."""
    verified = found["verified"]
    return all(c["equal"] == c["windows"] for c in verified) and any(
        c["windows"] for c in verified
    )


def in_journal(gnocchi):
    path = gnocchi.directory / JOURNAL
    return path.read_text().count("\n") - 1 if path.exists() else 0


def some(number, every, seed=3, until=None):
    """Measures up to now."""
    rng = numpy.random.default_rng(seed)
    now = recent() if until is None else until
    return series(now - number * every, now, every, rng)


def as_of_one(gnocchi, policy, *parts):
    """A metric of the file driver that got these measures, one by one."""
    metric = gnocchi.metric(policy)
    for points in parts:
        store(gnocchi, [metric], points, "file", batches=1)
    return metric


@pytest.mark.parametrize("driver", ["file", "redis"])
def test_every_aggregate(redis, driver):
    """And later measures are aggregated as if nothing had happened."""
    points = some(2000, 31 * NS)
    metrics = {name: redis.metric(name) for name in POLICIES}
    for metric in metrics.values():
        store(redis, [metric], points)

    status, found = back(redis, "--verify", driver=driver)

    assert status == 0, found
    assert found["metrics_moved"] == len(POLICIES)
    assert is_whole(found), found["verified"]
    for metric in metrics.values():
        equal(
            answers(redis, metric, driver), answers(redis, metric, "influxdb")
        )
    newest = points[-1][0]
    more = [
        (newest - 17 * NS + n * 29 * NS, 50.0 + n * n % 7) for n in range(200)
    ]
    for name, metric in metrics.items():
        always = as_of_one(redis, name, points, more)
        store(redis, [metric], more, driver, batches=3)
        equal(answers(redis, metric, driver), answers(redis, always, "file"))


def test_forth_and_back(gnocchi):
    """To where it came from, with what is there."""
    # Measures are never so far apart that Gnocchi sees a hole.
    now = recent() // HOUR * HOUR + 1100 * NS - 2 * HOUR
    before = some(1900, 33 * NS, until=now)
    after = some(150, 33 * NS, seed=4, until=now + 150 * 33 * NS)
    metrics = {name: gnocchi.metric(name) for name in POLICIES}
    store(gnocchi, metrics.values(), before, "file", batches=9)
    # It has stopped for two hours: InfluxDB keeps no seconds of then.
    assert gnocchi.json("migrate", "--from-driver=file")[1]["refused"] == 0
    store(gnocchi, metrics.values(), after)

    status, found = back(gnocchi, "--verify")

    assert status == 0, found
    assert all(c["wrong"] == 0 for c in found["verified"])
    more = [
        (after[-1][0] + n * 29 * NS, 50.0 + n * n % 7) for n in range(1, 200)
    ]
    for name, metric in metrics.items():
        store(gnocchi, [metric], more, "file")
        always = as_of_one(gnocchi, name, before, after, more)
        ours = answers(gnocchi, metric, "file")
        theirs = answers(gnocchi, always, "file")
        # The first rate of the measures that were moved forth: the measure
        # before was not there.
        first = before[-1][0] // HOUR * HOUR - HOUR
        for (method, every), windows in ours.items():
            if method.startswith("rate:") and every < 3600:
                windows.pop(first // (every * NS) * every * NS)
                theirs[method, every].pop(first // (every * NS) * every * NS)
        equal(ours, theirs)


def test_back_without_having_moved_forth(gnocchi):
    """The window of the switch has the measures of both."""
    points = some(1900, 33 * NS)
    metrics = {name: gnocchi.metric(name) for name in POLICIES}
    store(gnocchi, metrics.values(), points[:-90], "file")
    store(gnocchi, metrics.values(), points[-90:])

    status, found = back(gnocchi, "--verify")

    assert status == 0, [c for c in found["verified"] if c["wrong"]]
    assert all(c["wrong"] == 0 for c in found["verified"])
    for name, metric in metrics.items():
        always = as_of_one(gnocchi, name, points)
        equal(
            answers(gnocchi, metric, "file"), answers(gnocchi, always, "file")
        )


def test_metricd_was_started_too_early(gnocchi):
    """It has measures of the window of the switch in the other storage."""
    points = some(1900, 33 * NS, until=recent() // (300 * NS) * 300 * NS)
    metrics = {name: gnocchi.metric(name) for name in POLICIES}
    store(gnocchi, metrics.values(), points[:-4])
    store(gnocchi, metrics.values(), points[-4:], "file")

    status, found = back(gnocchi, "--verify")

    assert status == 0, found
    assert sum(c["open"] for c in found["verified"]) > 0
    for name, metric in metrics.items():
        always = as_of_one(gnocchi, name, points)
        equal(
            answers(gnocchi, metric, "file"), answers(gnocchi, always, "file")
        )


def test_killed_and_resumed(gnocchi):
    points = some(1300, 97 * NS)
    number = 300
    metrics = [
        gnocchi.metric(("low", "medium", "rates")[n % 3])
        for n in range(number)
    ]
    store(gnocchi, metrics, points)
    for kind in (signal.SIGKILL, signal.SIGINT):
        killed = in_journal(gnocchi)
        process = gnocchi.start(*TO_FILE, "--workers=1")
        while in_journal(gnocchi) < killed + 40 and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(kind)
        _, err = process.communicate(timeout=60)
        assert killed < in_journal(gnocchi) < number
        if kind == signal.SIGKILL:
            assert process.returncode == -kind
        else:
            assert process.returncode == 2
            assert "Interrupted. Run it again" in err
    killed = in_journal(gnocchi)

    status, found = back(gnocchi, "--verify")

    assert status == 0, found
    assert found["metrics_moved"] == number - killed
    assert is_whole(found), found["verified"]
    for metric in metrics[:3]:
        equal(
            answers(gnocchi, metric, "file"),
            answers(gnocchi, metric, "influxdb"),
        )


def test_again_after_the_switch(gnocchi):
    """Only what has received measures since is moved again."""
    metrics = [gnocchi.metric("rates") for _ in range(5)]
    points = some(1000, 97 * NS, until=recent(600))
    store(gnocchi, metrics, points)
    status, found = back(gnocchi)
    assert (status, found["metrics_moved"]) == (0, 5)
    status, found = back(gnocchi)
    assert (status, found["metrics_moved"]) == (0, 0)

    store(gnocchi, metrics[:2], [(recent(n), 5.0) for n in (300, 100)])
    # What is not moved yet is open, and not wrong.
    status, _, err = gnocchi.run(*TO_FILE, "--dry-run")
    assert status == 0, err
    gnocchi.options["driver"] = "file"
    gnocchi.write_configuration()
    status, out, err = gnocchi.run(*TO_FILE, "--verify")

    assert status == 0, out
    assert "2 metrics moved" in out
    assert "3 metrics had been moved before." in out
    assert "All that must be equal is equal." in out
    assert "gnocchi-metricd stopped" in err
    for metric in metrics:
        equal(
            answers(gnocchi, metric, "file"),
            answers(gnocchi, metric, "influxdb"),
        )


def test_in_use(gnocchi):
    """Measures arrive while it moves and compares."""
    metrics = [gnocchi.metric("rates") for _ in range(20)]
    store(gnocchi, metrics, some(500, 60 * NS))
    influxdb = gnocchi.storage("influxdb")
    with futures.ThreadPoolExecutor() as pool:
        process = gnocchi.start(*TO_FILE, "--verify", "--format=json")
        # Its answer is longer than a pipe holds.
        said = pool.submit(process.communicate)
        while not said.done():
            at = recent()
            write(
                influxdb,
                {metric: [(at, at % 97)] for metric in metrics},
                gnocchi.indexer,
            )
    out, err = said.result()
    assert process.returncode == 0, err
    assert all(c["wrong"] == 0 for c in json.loads(out)["verified"])

    status, found = back(gnocchi, "--verify")

    assert status == 0, found
    assert is_whole(found), found["verified"]
    for metric in metrics:
        equal(
            answers(gnocchi, metric, "file"),
            answers(gnocchi, metric, "influxdb"),
        )


def test_dry_run(gnocchi):
    metric = gnocchi.metric("low")
    gnocchi.metric("low")
    store(gnocchi, [metric], [(recent(n), 1.0) for n in (900, 600, 10)])
    files = sorted(gnocchi.data.rglob("*"))

    status, found = back(gnocchi, "--dry-run")

    assert status == 0
    assert (found["metrics_moved"], found["empty"]) == (1, 1)
    assert found["aggregates"] == 15
    assert not (gnocchi.directory / JOURNAL).exists()
    assert sorted(gnocchi.data.rglob("*")) == files


def test_what_lies_in_the_future(gnocchi):
    """The file driver would drop all history for it."""
    metric = gnocchi.metric("low")
    points = [(recent(n), 1.0) for n in (900, 600, 10)]
    store(gnocchi, [metric], [*points, (recent(-400 * 86400), 7.0)])

    status, out, _ = gnocchi.run(*TO_FILE)

    assert status == 1
    assert "Of 1 metric some measures lie more than an hour" in out
    assert str(metric.id) in out
    always = as_of_one(gnocchi, "low", points)
    equal(answers(gnocchi, metric, "file"), answers(gnocchi, always, "file"))


def test_points_that_have_expired(gnocchi):
    """There are windows only, and what the file driver had stays."""
    metric = gnocchi.metric("medium")
    now = recent() - 20 * DAY
    points = some(2000, 97 * NS, until=now)
    store(gnocchi, [metric], points, "file")
    gnocchi.json("migrate", "--from-driver=file")
    before = answers(gnocchi, metric, "file")

    status, found = back(gnocchi, "--verify")

    assert status == 0, found
    assert found["aggregates"] > 100
    equal(answers(gnocchi, metric, "file"), before)
    status, found = back(gnocchi)
    assert (status, found["metrics_moved"]) == (0, 0)


def test_a_metric_that_can_not_be_stored(gnocchi):
    good, bad = gnocchi.metric("low"), gnocchi.metric("low")
    store(gnocchi, [good, bad], [(recent(9), 1.0)], batches=1)
    file = gnocchi.storage("file")
    file._get_or_create_unaggregated_timeseries([bad])
    path = gnocchi.data / file._build_metric_path(bad, "mean")
    path.rmdir()
    path.touch()

    status, out, err = gnocchi.run(*TO_FILE)

    assert status == 1
    assert str(bad.id) in err
    assert "1 metric could NOT BE STORED" in out
    # Once that is repaired, only that one is left to be moved.
    path.unlink()
    path.mkdir()
    status, found = back(gnocchi, "--verify")
    assert (status, found["metrics_moved"]) == (0, 1)
    assert is_whole(found)


def test_verify_sees_what_is_wrong(gnocchi):
    metric = gnocchi.metric("medium")
    store(gnocchi, [metric], some(300, 97 * NS))
    assert back(gnocchi)[0] == 0
    file = gnocchi.storage("file")
    for path in (gnocchi.data / file._build_metric_path(metric, "max")).glob(
        "*_3600.0_v3"
    ):
        path.unlink()

    status, found = back(gnocchi, "--verify")

    assert status == 1
    wrong = {
        (c["method"], c["granularity"]): c["wrong"] for c in found["verified"]
    }
    assert wrong.pop(("max", 3600)) > 7
    assert not any(wrong.values())


def test_waits_while_the_server_is_away(gnocchi, between):
    metrics = [gnocchi.metric("medium") for _ in range(5)]
    store(gnocchi, metrics, some(300, 97 * NS))
    conf = gnocchi.write_configuration(
        gnocchi.directory / "between.conf",
        influxdb_url=between.url,
        influxdb_max_retries=0,
    )

    def away(request):
        if "/query" in request.path:
            between.before = lambda _: UNAVAILABLE
            return UNAVAILABLE
        return None

    between.before = away
    process = gnocchi.start(*TO_FILE, "--verify", conf=conf)
    said = []
    for line in process.stderr:
        said.append(line)
        if "Waiting for InfluxDB, up to 10 minutes" in line:
            between.before = None
    out = process.stdout.read()
    assert process.wait(60) == 0, said
    assert "All that must be equal is equal." in out
    assert "InfluxDB is back" in said[-1]


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        ("influxdb", "--to-driver must name"),
        ("nothing", "no storage driver 'nothing'"),
        ("ceph", "storage driver 'ceph' can't be used: "),
    ],
)
def test_no_driver(gnocchi, driver, said):
    status, _, err = gnocchi.run("migrate-back", f"--to-driver={driver}")
    assert status == 2
    assert said in err
    assert "Traceback" not in err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")
def test_root_leaves_no_files_behind(gnocchi):
    os.chown(gnocchi.data, 12345, -1)
    status, _, err = gnocchi.run(*TO_FILE)
    assert status == 2
    assert "the user with the number 12345, who owns [storage]" in err
    assert gnocchi.run(*TO_FILE, "--dry-run")[0] == 0


def test_the_journal_is_of_one_move(gnocchi):
    metric = gnocchi.metric("low")
    store(gnocchi, [metric], [(recent(9), 1.0)], batches=1)
    assert back(gnocchi)[0] == 0
    head = json.loads(
        (gnocchi.directory / JOURNAL).read_text().splitlines()[0]
    )
    assert head["to"] == f"FileStorage: {gnocchi.data}"
    assert gnocchi.server.url in head["from"]
    status, _, err = gnocchi.run(
        "migrate", "--from-driver=file", f"--journal={JOURNAL}"
    )
    assert status == 2
    assert "is of another migration" in err
