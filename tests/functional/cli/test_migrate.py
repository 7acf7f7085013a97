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
"""gnocchi-influxdb migrate, from Gnocchi's own file driver."""

import json
import signal
import time
import uuid

import numpy
import pytest
from gnocchi import archive_policy
from servers.redis import redis_server

from gnocchi_influxdb.cli.migrate import source, transfer
from tests.support.by_hand import (
    bucket,
    delete_bucket,
    make_bucket,
    stored,
    stored_count,
    write_lines,
)
from tests.support.installation import DAY, HOUR, series
from tests.support.samples import NS, as_dict, recent, write

METRICS = 200
JOURNAL = "gnocchi-influxdb-migrate.journal"
ALL = ("--from-driver=file", "--distorted")


@pytest.fixture
def gnocchi(installation):
    installation.policy(
        "low", (12 * 30, 300), methods=["mean", "count", "min", "std"]
    )
    # As Ceilometer's, with a resolution that makes a chunk of few metrics.
    installation.policy(
        "high",
        (86400, 1),
        (24 * 60, 60),
        (24 * 60, 3600),
        methods=["mean", "max", "sum", "95pct", "rate:mean", "last"],
    )
    installation.policy("counted", (288, 300), methods=["count", "rate:mean"])
    return installation


@pytest.fixture
def redis(gnocchi, tmp_path):
    """The installation with a Redis that it has used until now."""
    with redis_server(tmp_path / "redis") as server:
        if server is None:
            pytest.skip("no redis-server on PATH")
        gnocchi.options["redis_url"] = server.url(0)
        gnocchi.write_configuration()
        gnocchi.conf.set_override("redis_url", server.url(0), "storage")
        yield gnocchi


def fill(gnocchi, metrics, points, batches=2, driver="file"):
    """What metricd does with measures that arrive in batches."""
    file = gnocchi.storage(driver)
    for part in numpy.array_split(numpy.array(points, dtype=object), batches):
        batch = [(int(t), float(v)) for t, v in part]
        write(file, dict.fromkeys(metrics, batch), gnocchi.indexer)
    return file


def migrate(gnocchi, *arguments, driver="file"):
    # The methods of its policies are what these tests look at.
    return gnocchi.json(
        "migrate", f"--from-driver={driver}", "--distorted", *arguments
    )


def from_file(gnocchi, metric, method, seconds):
    wanted = metric.archive_policy.get_aggregation(
        method, numpy.timedelta64(seconds, "s")
    )
    return as_dict(
        gnocchi.storage("file").get_aggregated_measures({metric: [wanted]})[
            metric
        ][wanted]
    )


def in_journal(gnocchi):
    path = gnocchi.directory / JOURNAL
    return path.read_text().count("\n") - 1 if path.exists() else 0


def hold_up(gnocchi, metrics, signal_):
    """Send it a signal when so many metrics are in the journal.

    :return: its exit status, and what it says.
    """
    process = gnocchi.start("migrate", *ALL, "--workers=1")
    while in_journal(gnocchi) < metrics and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal_)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_two_hundred_metrics_killed_and_resumed(gnocchi):
    rng = numpy.random.default_rng(7)
    now = recent()
    points = series(now - 3 * DAY, now, 150 * NS, rng)
    metrics = [
        gnocchi.metric(("low", "high")[n % 2]) for n in range(METRICS - 20)
    ]
    metrics += [gnocchi.metric("counted") for _ in range(20)]
    fill(gnocchi, metrics, points)

    killed = 0
    # Early, or it may be done before the signal is there.
    for part in (20, 5):
        status, _ = hold_up(gnocchi, METRICS // part, signal.SIGKILL)
        assert status == -signal.SIGKILL
        assert killed < in_journal(gnocchi) < METRICS
        killed = in_journal(gnocchi)
    status, err = hold_up(gnocchi, killed + 2, signal.SIGINT)
    # It may have been done before the signal was there.
    assert status in (0, 2)
    if status == 2:
        assert "Interrupted. Run it again" in err
    assert killed < in_journal(gnocchi)
    killed = in_journal(gnocchi)
    # What a kill in the middle of a line leaves.
    with (gnocchi.directory / JOURNAL).open("a") as journal:
        journal.write('{"metric": "5a3017')

    status, found = migrate(gnocchi, "--verify")

    assert status == 0, found
    assert found["metrics_moved"] == METRICS - killed
    assert found["metrics_known"] == METRICS
    assert not found["failed"]
    assert found["refused"] == found["too_old"] == found["occupied"] == 0
    compared = {(c["granularity"], c["method"]): c for c in found["verified"]}
    assert all(c["wrong"] == c["own"] == 0 for c in compared.values())
    every_point = compared[0, "points"]
    assert (
        every_point["equal"]
        == every_point["windows"]
        == sum(
            stored_count(gnocchi.server, gnocchi.prefix + policy)
            for policy in ("low", "high", "counted")
        )
    )
    # A mean of the finest granularity is carried over as it is.
    assert compared[300, "mean"]["equal"] == compared[300, "mean"]["windows"]
    # A count is not: the comparison does compare.
    assert compared[300, "count"]["unavoidable"] > 0

    # The journal is whole again.
    status, again = migrate(gnocchi)
    assert (status, again["metrics_moved"]) == (0, 0)

    # And without the command's own arithmetic:
    metric = metrics[0]
    means = from_file(gnocchi, metric, "mean", 300)
    there = stored(gnocchi.server, gnocchi.prefix + "low", metric)
    block = max(means)
    assert {t: v for t, v in there.items() if t < block} == {
        t: v for t, v in means.items() if t < block
    }
    assert {t: v for t, v in there.items() if t >= block} == {
        t: v for t, v in points if t >= block
    }


def test_coarser_granularities_lie_before_finer_ones(gnocchi):
    rng = numpy.random.default_rng(3)
    metric = gnocchi.metric("high")
    now = recent() // HOUR * HOUR + 1800 * NS
    fill(
        gnocchi,
        [metric],
        series(now - 10 * DAY, now, 40 * NS, rng),
        batches=20,
    )

    status, found = migrate(gnocchi, "--verify")

    assert status == 0, found
    there = stored(gnocchi.server, gnocchi.prefix + "high", metric)
    hours = from_file(gnocchi, metric, "mean", 3600)
    seconds = from_file(gnocchi, metric, "mean", 1)
    # The hour that the seconds begin in is one point. (The minutes begin no
    # earlier than the seconds do.)
    first = (min(seconds) // HOUR + 1) * HOUR
    before = {t: v for t, v in there.items() if t < first}
    assert before == {t: v for t, v in hours.items() if t in before}
    assert len(before) == 9 * 24 + 1
    # The rest is as fine as it was.
    block = now // HOUR * HOUR
    assert {t: v for t, v in there.items() if first <= t < block} == {
        t: v for t, v in seconds.items() if first <= t < block
    }
    assert len(there) > 2000


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_what_would_be_wrong_is_left_out(gnocchi, influxdb, arguments):
    gnocchi.policy("plain", (288, 300), methods=["mean", "max"])
    low, high = gnocchi.metric("low"), gnocchi.metric("high")
    plain = gnocchi.metric("plain")
    start = recent(7200) // (3600 * NS) * 3600 * NS
    points = [(start + i * 60 * NS, i) for i in range(90)]
    fill(gnocchi, [low, high, plain], points)
    command = ("migrate", "--from-driver=file", *arguments)
    status, found = gnocchi.json(*command)
    assert status == 1
    assert found["metrics_moved"] == 1
    assert found["left_out"] == [
        {"policy": "high", "metrics": 1, "methods": ["rate:mean", "sum"]},
        {"policy": "low", "metrics": 1, "methods": ["count"]},
    ]
    name = gnocchi.storage("influxdb").buckets.name
    assert bucket(influxdb, name(high.archive_policy)) is None
    assert bucket(influxdb, name(low.archive_policy)) is None
    _, said, _ = gnocchi.run(*command)
    assert "archive policy high are NOT MOVED" in said
    assert "add --distorted" in said


def test_again_changes_nothing(gnocchi):
    metric = gnocchi.metric("low")
    now = recent()
    rng = numpy.random.default_rng(3)
    fill(gnocchi, [metric], series(now - DAY, now, 100 * NS, rng))

    status, first = migrate(gnocchi)
    before = stored(gnocchi.server, gnocchi.prefix + "low", metric)
    assert status == 0
    assert first["points"] == len(before) > 250

    status, again = migrate(gnocchi)
    assert (status, again["metrics_moved"]) == (0, 0)

    status, again = migrate(gnocchi, "--journal=another")
    assert (status, again["metrics_moved"]) == (0, 1)
    assert again["occupied"] == 0
    assert stored(gnocchi.server, gnocchi.prefix + "low", metric) == before


def test_measures_that_are_there_already_stay(gnocchi):
    """Gnocchi stores in InfluxDB since an hour, late measures included."""
    metric = gnocchi.metric("low")
    now = recent()
    switch = (now - HOUR) // (300 * NS) * 300 * NS + 150 * NS
    old = {switch - n * 100 * NS: float(n) for n in range(1, 200)}
    fill(gnocchi, [metric], sorted(old.items()), batches=1)
    late = switch - 3 * HOUR
    window = late // (300 * NS) * 300 * NS
    new = {
        window: 1000.0,
        late + 7: 1001.0,
        **{switch + n * 100 * NS: float(-n) for n in range(30)},
    }
    write(gnocchi.storage("influxdb"), {metric: new}, gnocchi.indexer)

    status, found = migrate(gnocchi, "--verify")

    assert status == 0, found
    assert found["occupied"] == 1
    there = stored(gnocchi.server, gnocchi.prefix + "low", metric)
    assert new.items() <= there.items()
    # The window that both have got measures of is exact.
    block = switch // (300 * NS) * 300 * NS
    assert {t: v for t, v in there.items() if block <= t < switch} == {
        t: v for t, v in old.items() if t >= block
    }
    assert [c for c in found["verified"] if c["wrong"]] == []
    assert [c for c in found["verified"] if c["own"]]


def test_verify_sees_what_is_wrong(gnocchi):
    metric = gnocchi.metric("low")
    now = recent()
    rng = numpy.random.default_rng(3)
    fill(gnocchi, [metric], series(now - DAY, now, 300 * NS, rng))
    migrate(gnocchi)
    there = stored(gnocchi.server, gnocchi.prefix + "low", metric)
    time_ = sorted(there)[10]
    write(
        gnocchi.storage("influxdb"),
        {metric: {time_: there[time_] + 1e-3}},
        gnocchi.indexer,
    )
    status, found = migrate(gnocchi, "--verify")
    assert status == 1
    by = {(c["granularity"], c["method"]): c for c in found["verified"]}
    for one in by[0, "points"], by[300, "mean"]:
        assert (one["wrong"], one["equal"]) == (1, one["windows"] - 1)

    # And a point that is gone.
    from gnocchi_influxdb.client import client

    client.Client(gnocchi.conf.storage).influxql(
        gnocchi.prefix + "low",
        f"DELETE FROM measure WHERE time = {sorted(there)[20]}",
    )
    status, found = migrate(gnocchi, "--verify")
    assert status == 1
    by = {(c["granularity"], c["method"]): c for c in found["verified"]}
    assert by[0, "points"]["wrong"] == 2


def test_dry_run(gnocchi):
    metric = gnocchi.metric("low")
    gnocchi.metric("low")
    fill(gnocchi, [metric], [(recent(n), 1.0) for n in (900, 600, 10)])
    files = sorted(gnocchi.data.rglob("*"))

    status, found = migrate(gnocchi, "--dry-run")

    assert status == 0
    assert found["metrics_moved"] == 1
    assert found["empty"] == 1
    assert found["points"] == 3
    assert not (gnocchi.directory / JOURNAL).exists()
    assert sorted(gnocchi.data.rglob("*")) == files
    _, (row, *_) = gnocchi.json("status")
    assert row["series"] is None


def test_what_it_can_not_carry(gnocchi):
    """Counts say nothing of what was measured; only the measures do."""
    metric = gnocchi.metric("counted")
    times = [recent(3600), recent(1800), recent(1)]
    fill(gnocchi, [metric], [(t, 5.0) for t in times], batches=3)
    dead = gnocchi.metric("low")
    fill(gnocchi, [dead], [(recent(3 * 86400), 5.0)], batches=1)

    status, found = migrate(gnocchi, "--verify")

    assert status == 0
    assert found["points"] == 1
    assert found["too_old"] == 1
    assert stored(gnocchi.server, gnocchi.prefix + "counted", metric) == {
        times[-1]: 5.0
    }


def test_a_metric_that_can_not_be_read(gnocchi, monkeypatch):
    good, bad = gnocchi.metric("low"), gnocchi.metric("low")
    file = fill(gnocchi, [good, bad], [(recent(9), 1.0)], batches=1)
    directory = file._build_metric_path(bad, "mean")
    (gnocchi.data / directory / "no_number_v3").touch()

    status, out, err = gnocchi.run("migrate", *ALL)
    assert status == 1
    assert str(bad.id) in err
    assert "1 metrics could NOT BE READ" in out
    assert stored(gnocchi.server, gnocchi.prefix + "low", good)

    # Once that is repaired, only that one is left to be moved.
    (gnocchi.data / directory / "no_number_v3").unlink()
    status, found = migrate(gnocchi)
    assert (status, found["metrics_moved"]) == (0, 1)


def test_server_away_and_back(gnocchi):
    metric = gnocchi.metric("low")
    fill(gnocchi, [metric], [(recent(9), 1.0)], batches=1)
    conf = gnocchi.write_configuration(
        gnocchi.directory / "away.conf",
        influxdb_url="http://127.0.0.1:1",
        influxdb_max_retries=0,
    )

    status, _, err = gnocchi.run("migrate", *ALL, "--journal=one", conf=conf)
    assert status == 2
    assert "influxdb_url" in err
    assert "Run it again" in err
    assert "Traceback" not in err

    # The URL is another now, and so the journal.
    status, found = migrate(gnocchi, "--journal=two")
    assert (status, found["metrics_moved"]) == (0, 1)


def test_what_was_too_old_needs_another_journal(gnocchi):
    old, new = gnocchi.metric("low"), gnocchi.metric("low")
    fill(gnocchi, [old], [(recent(3 * 86400), 5.0)], batches=1)
    fill(gnocchi, [new], [(recent(9), 1.0)], batches=1)
    status, found = migrate(gnocchi)
    assert (status, found["points"], found["too_old"]) == (0, 1, 1)
    conf = gnocchi.write_configuration(
        gnocchi.directory / "for-ever.conf", influxdb_retention=False
    )
    status, _, err = gnocchi.run("migrate", *ALL, conf=conf)
    assert status == 2
    assert "is of another migration" in err
    assert "of any age" in err
    status, _, err = gnocchi.run(
        "migrate", *ALL, "--journal=another", conf=conf
    )
    assert status == 0, err
    assert stored_count(gnocchi.server, gnocchi.prefix + "low") == 2


def test_what_grows_too_old_while_it_reads(gnocchi, monkeypatch):
    """Swift may take a while, and InfluxDB compares when a point arrives."""
    metric = gnocchi.metric("low")
    times = [recent(900), recent(9)]
    fill(gnocchi, [metric], [(t, 1.0) for t in times], batches=1)
    to = gnocchi.storage("influxdb")
    moving = transfer.Transfer(
        source.Source(gnocchi.conf, "file"),
        to.client,
        to.buckets,
        gnocchi.conf.storage,
        False,
    )
    oldest = iter([0, times[1]])
    monkeypatch.setattr(moving, "oldest", lambda policy: next(oldest))
    moved = moving.move(metric.archive_policy, [metric])
    assert (moved.points, moved.too_old) == ({metric.id: 1}, 1)
    there = stored(gnocchi.server, gnocchi.prefix + "low", metric)
    assert there == {times[1]: 1.0}


def test_what_was_refused_is_moved_when_it_can_be(gnocchi):
    bucket = gnocchi.prefix + "low"
    metrics = [gnocchi.metric("low") for _ in range(3)]
    time_ = recent(9)
    fill(gnocchi, metrics, [(time_, 1.0)], batches=1)
    make_bucket(gnocchi.server, bucket)
    write_lines(
        gnocchi.server, bucket, f"measure,metric=foreign value=7i {time_}"
    )
    status, out, err = gnocchi.run("migrate", *ALL)
    assert status == 1
    assert "3 points were REFUSED" in out
    assert "field type conflict" in err
    assert in_journal(gnocchi) == 0
    delete_bucket(gnocchi.server, bucket)
    status, found = migrate(gnocchi)
    assert (status, found["metrics_moved"], found["points"]) == (0, 3, 3)
    for metric in metrics:
        assert stored(gnocchi.server, bucket, metric) == {time_: 1.0}


def test_no_history_may_be_the_wrong_place(gnocchi):
    """A directory that is not mounted, say."""
    metrics = [gnocchi.metric("low") for _ in range(3)]
    status, out, _ = gnocchi.run("migrate", *ALL)
    assert status == 1
    assert "3 metrics have no history: NOT ONE has" in out
    fill(gnocchi, metrics[:2], [(recent(9), 1.0)], batches=1)
    status, out, _ = gnocchi.run("migrate", *ALL)
    assert status == 0
    assert "2 metrics moved" in out
    assert "1 metrics have no history." in out
    status, out, _ = gnocchi.run("migrate", *ALL)
    assert status == 0
    assert "2 metrics had been moved before" in out


def test_a_timespan_that_was_made_longer(gnocchi):
    """Gnocchi does not bring back the minutes that it had dropped."""
    gnocchi.policy("hours", (60, 60), (24 * 30, 3600), methods=["mean"])
    metric = gnocchi.metric("hours")
    now = recent()
    points = series(now - 5 * DAY, now, 240 * NS, numpy.random.default_rng(3))
    fill(gnocchi, [metric], points, batches=200)
    gnocchi.indexer.update_archive_policy(
        "hours",
        [
            archive_policy.ArchivePolicyItem(granularity=60, points=60 * 720),
            archive_policy.ArchivePolicyItem(granularity=3600, points=720),
        ],
    )

    status, found = migrate(gnocchi, "--verify")

    assert status == 0, found
    compared = {(c["granularity"], c["method"]): c for c in found["verified"]}
    hours = compared[3600, "mean"]
    # Of one hour Gnocchi has still got some minutes.
    assert hours["windows"] > 110
    assert hours["equal"] >= hours["windows"] - 2
    assert hours["absent"] == hours["wrong"] == 0


def test_runs_once(gnocchi):
    import fcntl

    path = gnocchi.directory / JOURNAL
    with path.open("w") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        status, _, err = gnocchi.run("migrate", *ALL)

    assert status == 2
    assert "runs already" in err


@pytest.mark.parametrize("content", ["nothing of the kind", '{"from": "x"'])
def test_a_file_that_is_no_journal_is_left_alone(gnocchi, content):
    path = gnocchi.directory / "notes"
    path.write_text(content)
    status, _, err = gnocchi.run(
        "migrate", "--from-driver=file", "--journal=notes"
    )
    assert status == 2
    assert "is no journal" in err
    assert path.read_text() == content


def test_killed_in_the_first_line(gnocchi):
    metric = gnocchi.metric("low")
    fill(gnocchi, [metric], [(recent(9), 1.0)], batches=1)
    assert migrate(gnocchi, "--journal=one")[0] == 0
    path = gnocchi.directory / "one"
    path.write_bytes(path.read_bytes()[:30])
    status, found = migrate(gnocchi, "--journal=one")
    assert (status, found["metrics_moved"]) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--from-driver must name"),
        (("--from-driver=nothing",), "no storage driver 'nothing'"),
        # Its library is not there.
        (("--from-driver=ceph",), "storage driver 'ceph' can't be used: "),
    ],
)
def test_no_driver(gnocchi, arguments, said):
    status, _, err = gnocchi.run("migrate", *arguments)

    assert status == 2
    assert said in err
    assert "Traceback" not in err


def test_lines_of_the_journal(gnocchi):
    metric = gnocchi.metric("low")
    fill(gnocchi, [metric], [(recent(9), 1.0)], batches=1)
    migrate(gnocchi)

    head, line = map(
        json.loads, (gnocchi.directory / JOURNAL).read_text().splitlines()
    )
    assert uuid.UUID(line["metric"]) == metric.id
    assert line["points"] == 1
    assert gnocchi.server.token not in json.dumps(head)


def test_the_source_is_left_as_it_was(gnocchi):
    metric = gnocchi.metric("low")
    now = recent()
    rng = numpy.random.default_rng(3)
    fill(gnocchi, [metric], series(now - DAY, now, 300 * NS, rng))
    before = {
        path: path.read_bytes()
        for path in gnocchi.data.rglob("*")
        if path.is_file()
    }

    migrate(gnocchi, "--verify")

    assert before == {
        path: path.read_bytes()
        for path in gnocchi.data.rglob("*")
        if path.is_file()
    }


def test_from_redis(redis):
    rng = numpy.random.default_rng(3)
    now = recent()
    metrics = [redis.metric("low"), redis.metric("high")]
    points = series(now - DAY, now, 100 * NS, rng)
    fill(redis, metrics, points, driver="redis")

    status, found = migrate(redis, "--verify", driver="redis")

    assert status == 0, found
    assert found["metrics_moved"] == 2
    compared = {(c["granularity"], c["method"]): c for c in found["verified"]}
    assert all(c["wrong"] == c["own"] == 0 for c in compared.values())
    means = compared[300, "mean"]
    assert means["equal"] == means["windows"] > 250
    there = stored(redis.server, redis.prefix + "high", metrics[1])
    # A measure a window, whose mean is the measure; the oldest may be of an
    # hour.
    assert len(there) > 800

    # Another process knows the journal, and there is no password in it.
    status, again = migrate(redis, driver="redis")
    assert (status, again["metrics_moved"]) == (0, 0)
    head = json.loads((redis.directory / JOURNAL).read_text().splitlines()[0])
    url = redis.conf.storage.redis_url
    assert head["from"] == f"Redis: {url}"
    for other in (
        url.replace("://", "://:p4ssword@"),
        url.replace("://", "://gnocchi:p4ssword@") + "&timeout=7",
    ):
        redis.conf.set_override("redis_url", other, "storage")
        assert str(source.Source(redis.conf, "redis")) == head["from"]
    other = url.replace("db=0", "db=3")
    assert other != url
    redis.conf.set_override("redis_url", other, "storage")
    assert str(source.Source(redis.conf, "redis")) == f"Redis: {other}"
    assert len(set(there.values()) - {v for _, v in points}) <= 1
