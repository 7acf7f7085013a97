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
import math
import random
import signal
import time
import uuid

import numpy
import pytest
from gnocchi import archive_policy

from gnocchi_influxdb.cli.migrate import (
    coverage,
    history,
    source,
    transfer,
    verify,
)
from gnocchi_influxdb.downsampling.downsampler import Downsampler
from tests.support import proxy
from tests.support.by_hand import (
    bucket,
    delete_bucket,
    make_bucket,
    stored,
    write_lines,
)
from tests.support.installation import (
    DAY,
    HOUR,
    answers,
    fill,
    series,
    with_redis,
)
from tests.support.samples import METHODS, NS, recent, write

METRICS = 120
JOURNAL = "gnocchi-influxdb-migrate.journal"
ALL = ("--from-driver=file",)
MINUTE = 60 * NS
UNAVAILABLE = proxy.answer("503 Service Unavailable", b"{}")


@pytest.fixture
def gnocchi(installation):
    installation.policy(
        "low", (12 * 30, 300), methods=["mean", "count", "min", "std"]
    )
    installation.policy(
        "medium",
        (7 * 24 * 60, 60),
        (365 * 24, 3600),
        methods=["mean", "min", "max", "sum", "std", "count"],
    )
    # As Gnocchi's own and Ceilometer's, with all that is hard to compute.
    installation.policy(
        "high",
        (3600, 1),
        (24 * 60, 60),
        (365 * 24, 3600),
        methods=["mean", "sum", "count", "95pct", "rate:mean", "rate:sum"],
    )
    return installation


@pytest.fixture
def redis(gnocchi, tmp_path):
    """The installation with a Redis that it has used until now."""
    with with_redis(gnocchi, tmp_path / "redis") as found:
        yield found


def migrate(gnocchi, *arguments, driver="file", **more):
    return gnocchi.json(
        "migrate", f"--from-driver={driver}", *arguments, **more
    )


def is_equal(ours, theirs, since=0):
    """{(method, s): whether all windows since then (ns) are equal}"""

    def part(of_one):
        return {t: v for t, v in of_one.items() if t >= since}

    return {
        key: part(ours[key]) == pytest.approx(part(theirs[key]), rel=1e-9)
        for key in theirs
    }


def downsample(gnocchi, policy):
    """What metricd does."""
    driver = gnocchi.storage("influxdb")
    downsampler = Downsampler(driver.buckets, gnocchi.conf.storage)
    for target in driver.buckets.downsampled(policy):
        for _ in downsampler.downsample(policy, target):
            pass


def compared(found):
    return {(c["granularity"], c["method"]): c for c in found["verified"]}


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


def hours_ago(number):
    """ns of a whole hour, so many hours before the present one."""
    return recent() // HOUR * HOUR - number * HOUR


def test_killed_and_resumed(gnocchi):
    """Metrics that stopped an hour ago: no window is open."""
    rng = numpy.random.default_rng(7)
    now = hours_ago(1) - 7 * MINUTE
    points = series(now - 2 * DAY, now, 97 * NS, rng)
    policies = ("low", "medium", "high")
    metrics = [gnocchi.metric(policies[n % 3]) for n in range(METRICS)]
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
    assert status in (0, 1, 2)
    if status == 2:
        assert "Interrupted. Run it again" in err
    assert killed < in_journal(gnocchi)
    killed = in_journal(gnocchi)
    # What a kill in the middle of a line leaves.
    with (gnocchi.directory / JOURNAL).open("a") as journal:
        journal.write('{"metric": "5a3017')

    _, found = migrate(gnocchi, "--verify")

    assert found["metrics_moved"] == METRICS - killed
    assert found["metrics_known"] == METRICS
    assert not found["failed"]
    assert found["refused"] == 0
    windows = compared(found)
    for (every, _), c in windows.items():
        # The seconds have been too old.
        assert (c["windows"] > 0) == (every > 1)
        assert (c["open"], c["wrong"]) == (0, 0), found["verified"]
        assert c["equal"] == c["windows"]
    assert windows[3600, "rate:mean"]["windows"] > 40 * METRICS / 3

    # The journal is whole again, and knows of which metrics that is so.
    status, again = migrate(gnocchi)
    assert (status, again["metrics_moved"]) == (1, 0)
    # Of two of the three policies.
    assert len(again["losing_before"]) == 2 * METRICS / 3

    # And without the command's own arithmetic:
    for metric in metrics[:3]:
        ours = answers(gnocchi, metric, "influxdb")
        theirs = answers(gnocchi, metric, "file")
        # Of the minutes InfluxDB keeps those of a day before the present.
        equal = is_equal(ours, theirs, since=hours_ago(22))
        assert all(equal[key] for key in equal if key[1] > 1)


def test_in_use(gnocchi):
    """Gnocchi has switched a while ago, and metricd downsamples."""
    rng = numpy.random.default_rng(3)
    now = recent()
    switch = hours_ago(3) + 1720 * NS
    points = series(switch - 2 * DAY, now - 5 * NS, 41 * NS, rng)
    metrics = [gnocchi.metric("medium"), gnocchi.metric("high")]
    old = [(t, v) for t, v in points if t < switch]
    fill(gnocchi, metrics, old, batches=40)
    late = switch // HOUR * HOUR + 11 * MINUTE + 3 * NS
    new = [(late, 1e6), *((t, v) for t, v in points if t >= switch)]
    gnocchi.conf.set_override("influxdb_timeout", 10, "storage")
    influxdb = gnocchi.storage("influxdb")
    for metric in metrics:
        write(influxdb, {metric: new}, gnocchi.indexer)
        downsample(gnocchi, metric.archive_policy)

        # As if it were long ago: what was late is settled.
        for target in influxdb.buckets.downsampled(metric.archive_policy):
            mark = influxdb.buckets.watermarks.read(target.name)
            settled = mark._replace(began=recent(-115))
            influxdb.buckets.watermarks.write(target.name, settled)

    status, found = migrate(gnocchi, "--verify")

    assert status == 0, found
    windows = compared(found)
    assert all(c["wrong"] == 0 for c in windows.values())
    # That of the switch.
    assert windows[3600, "mean"]["open"] == 2
    named = windows[3600, "mean"]["open_windows"]
    hour = switch // HOUR * HOUR
    assert {one["metric"] for one in named} == {str(m.id) for m in metrics}
    assert {one["start"] for one in named} == {
        str(numpy.datetime64(hour, "ns").astype("<M8[ms]")) + "Z"
    }
    # That of the switch, and that of the late measure; by rates the next one.
    assert windows[60, "mean"]["open"] in (2, 4)
    assert windows[60, "rate:mean"]["open"] in (1, 2, 3)
    for metric in metrics:
        ours = answers(gnocchi, metric, "influxdb")
        truth = {
            start: [v for t, v in [*old, *new] if t // HOUR * HOUR == start]
            for start in (hour, hours_ago(2))
        }
        for start, values in truth.items():
            assert ours["mean", 3600][start] == pytest.approx(
                numpy.mean(values)
            )
            assert ours["count", 3600][start] == len(values)
        minute = late // MINUTE * MINUTE
        values = [v for t, v in old if t // MINUTE * MINUTE == minute]
        assert ours["sum", 60][minute] == pytest.approx(sum(values) + 1e6)

    # And so it stays when metricd goes on.
    before = [answers(gnocchi, m, "influxdb") for m in metrics]
    for metric in metrics:
        downsample(gnocchi, metric.archive_policy)
    after = [answers(gnocchi, m, "influxdb") for m in metrics]
    for one, other in zip(before, after, strict=True):
        assert all(is_equal(one, other).values())
    status, found = migrate(gnocchi, "--verify", "--sample=1")
    assert status == 0, found


DEFINITIONS = [
    [(3600, 1), (1440, 60), (8760, 3600)],
    [(288, 300)],
    # An hour does not begin with a window of seven minutes.
    [(100, 420), (800, 3600)],
    [(3000, 30), (600, 300), (300, 1800)],
    [(2000, 60), (30, 86400)],
]


@pytest.mark.parametrize("seed", [1, 2])
def test_any_history(gnocchi, seed):
    """With holes, of any age, switched anywhere, and with late measures."""
    rng = random.Random(seed)
    influxdb = gnocchi.storage("influxdb")
    metrics = []
    for n, definition in enumerate(DEFINITIONS):
        gnocchi.policy(
            f"any{n}",
            *definition,
            methods=METHODS if n % 2 else ["mean", "95pct", "rate:sum"],
            back_window=rng.choice([0, 0, 1]),
        )
        for _ in range(4):
            metric = gnocchi.metric(f"any{n}")
            metrics.append(metric)
            every = rng.choice([1, 7, 60, 1000]) * NS
            age = rng.choice([5, 600, 2000, 8000, 20000, 90000, 200000])
            points = series(
                recent(age) - rng.choice([100, 1000, 2000]) * every,
                recent(age),
                every,
                numpy.random.default_rng(seed),
            )
            hole = rng.randrange(len(points))
            del points[hole : hole + rng.randrange(50)]
            switch = len(points) - rng.choice([0, 5, 50])
            fill(gnocchi, [metric], points[:switch], rng.choice([1, 3, 20]))
            late = [(rng.choice(points)[0] + 17, 1e3)]
            new = points[switch:] + (late if rng.random() < 0.3 else [])
            if new:
                write(influxdb, {metric: new}, gnocchi.indexer)

    for _ in range(2):
        _, found = migrate(gnocchi, "--verify")
        windows = compared(found).values()
        assert all(c["wrong"] == 0 for c in windows), found["verified"]
        number = sum(c["windows"] for c in windows)
        assert sum(c["open"] for c in windows) < number / 50
        for metric in metrics:
            downsample(gnocchi, metric.archive_policy)


def test_stopped_long_ago(gnocchi):
    rng = numpy.random.default_rng(3)
    now = recent() - 90 * DAY
    points = series(now - 3 * DAY, now, 97 * NS, rng)
    metrics = {
        name: gnocchi.metric(name) for name in ("low", "medium", "high")
    }
    for metric in metrics.values():
        fill(gnocchi, [metric], points, batches=20)

    for arguments in (("--dry-run",), ("--verify",)):
        status, found = migrate(gnocchi, *arguments)
        assert status == 1
        assert set(found["losing"]) == {str(m.id) for m in metrics.values()}
        kept = {
            (c["policy"], c["granularity"]): c
            for c in found["kept"]
            if c["method"] == "mean"
        }
        for key, c in kept.items():
            if key[1] == 3600:
                assert c["windows"] > 70
                assert c["too_old"] == 0
            else:
                assert c["windows"] == 0
                assert c["too_old"] > 30
        assert found["measures"] == 0
        assert len(kept) == 6
    windows = compared(found)
    assert all(c["wrong"] == c["open"] == 0 for c in windows.values())
    assert windows[3600, "95pct"]["equal"] > 70
    for name in ("medium", "high"):
        ours = answers(gnocchi, metrics[name], "influxdb")
        theirs = answers(gnocchi, metrics[name], "file")
        assert all(
            equal
            for (_, every), equal in is_equal(ours, theirs).items()
            if every == 3600
        )
    _, out, _ = gnocchi.run("migrate", *ALL, "--dry-run", "--journal=another")
    assert "Of 3 metrics some aggregates can't be KEPT" in out
    assert "influxdb_retention = false" in out
    assert str(metrics["low"].id) in out
    # With all windows older than that there is nothing that could be asked
    # for: it is as with a metric that has no measure.
    status, out, _ = gnocchi.run("migrate", *ALL)
    assert status == 1
    assert "3 metrics had been moved before" in out
    assert "Of 3 metrics some aggregates could not be, in an earlier" in out
    assert str(metrics["low"].id) in out
    status, found = migrate(gnocchi)
    assert set(found["losing_before"]) == {str(m.id) for m in metrics.values()}


def test_for_ever(gnocchi):
    """What is kept for ever takes history of any age, with its measures."""
    gnocchi.options["influxdb_retention"] = False
    gnocchi.write_configuration()
    gnocchi.conf.set_override("influxdb_retention", False, "storage")
    now = recent() // HOUR * HOUR - 90 * DAY + 1000 * NS
    points = series(now - 3 * DAY, now, 97 * NS, numpy.random.default_rng(3))
    metrics = [gnocchi.metric(name) for name in ("low", "medium", "high")]
    fill(gnocchi, metrics, points, batches=20)

    status, found = migrate(gnocchi, "--verify")

    assert status == 0, found
    assert found["measures"] > 0
    assert all(
        c["equal"] == c["windows"] > 0 for c in compared(found).values()
    )
    for metric in metrics:
        ours = answers(gnocchi, metric, "influxdb")
        assert all(is_equal(ours, answers(gnocchi, metric, "file")).values())


def test_again_changes_nothing(gnocchi):
    metric = gnocchi.metric("high")
    now = hours_ago(1) - 7 * MINUTE
    rng = numpy.random.default_rng(3)
    fill(gnocchi, [metric], series(now - DAY, now, 100 * NS, rng))

    _, first = migrate(gnocchi)
    before = answers(gnocchi, metric, "influxdb")
    assert first["aggregates"] > 6 * 24
    assert first["measures"] > 0

    # The seconds were too old, and that is told again.
    status, again = migrate(gnocchi)
    assert (status, again["metrics_moved"]) == (1, 0)
    assert again["losing_before"] == first["losing"] == [str(metric.id)]

    _, again = migrate(gnocchi, "--journal=another")
    assert again["metrics_moved"] == 1
    assert again["measures"] == first["measures"]
    after = answers(gnocchi, metric, "influxdb")
    assert all(is_equal(before, after).values())


def test_metricd_changes_nothing(gnocchi):
    """Not now, and not when the points expire."""
    metric = gnocchi.metric("high")
    # Its measures are young enough to be moved, and what is made of them
    # differs: Gnocchi has seen rates across holes.
    now = hours_ago(14) + 1700 * NS
    rng = numpy.random.default_rng(3)
    points = series(now - DAY, now, 250 * NS, rng)
    fill(gnocchi, [metric], points, batches=3)
    _, found = migrate(gnocchi, "--verify")
    assert all(c["wrong"] == c["open"] == 0 for c in compared(found).values())
    assert found["measures"] > 3
    before = answers(gnocchi, metric, "influxdb")
    policy = metric.archive_policy
    buckets = gnocchi.storage("influxdb").buckets
    for target in buckets.downsampled(policy):
        mark = buckets.watermarks.read(target.name)
        assert mark.until == mark.last
        assert mark.until + 2 * target.every > recent(900)
    downsample(gnocchi, policy)
    after = answers(gnocchi, metric, "influxdb")
    assert all(is_equal(before, after).values())


def test_verify_sees_what_is_wrong(gnocchi):
    metrics = [gnocchi.metric("low"), gnocchi.metric("high")]
    now = hours_ago(1) - 7 * MINUTE
    rng = numpy.random.default_rng(3)
    fill(gnocchi, metrics, series(now - DAY, now, 300 * NS, rng))
    migrate(gnocchi)
    ours = [answers(gnocchi, metric, "influxdb") for metric in metrics]
    hour = sorted(ours[1]["rate:mean", 3600])[3]
    five = sorted(ours[0]["std", 300] or ours[0]["mean", 300])[3]
    write_lines(
        gnocchi.server,
        gnocchi.prefix + "high@3600s",
        f"aggregate,metric={metrics[1].id} rate:mean=7 {hour}",
    )
    write_lines(
        gnocchi.server,
        gnocchi.prefix + "low@300s",
        f"aggregate,metric={metrics[0].id} mean=7 {five}",
    )

    status, found = migrate(gnocchi, "--verify")

    assert status == 1
    windows = compared(found)
    for key, c in windows.items():
        wrong = key in ((3600, "rate:mean"), (300, "mean"))
        assert c["wrong"] == wrong
        assert c["equal"] == c["windows"] - wrong
    assert windows[300, "mean"]["wrong_windows"] == [
        {
            "metric": str(metrics[0].id),
            "start": str(numpy.datetime64(five, "ns").astype("<M8[ms]")) + "Z",
        }
    ]
    _, out, _ = gnocchi.run("migrate", *ALL, "--verify")
    assert "2 comparisons WRONG" in out
    assert str(metrics[1].id) in out


def test_verify_in_use(gnocchi):
    """Measures arrive while it compares."""
    metrics = [gnocchi.metric("high") for _ in range(4)]
    now = recent()
    points = series(now - HOUR, now, 5 * NS, numpy.random.default_rng(3))
    fill(gnocchi, metrics, points)
    influxdb = gnocchi.storage("influxdb")
    assert migrate(gnocchi)[0] == 0
    process = gnocchi.start("migrate", *ALL, "--verify", "--format=json")
    while process.poll() is None:
        at = recent()
        for metric in metrics:
            write(influxdb, {metric: [(at, 1.0)]}, gnocchi.indexer)
    out, err = process.communicate()
    assert process.returncode == 0, err
    windows = compared(json.loads(out))
    assert all(c["wrong"] == 0 for c in windows.values())
    assert windows[1, "mean"]["equal"] > 1000


def a_verifier(gnocchi):
    """What compares, and what it asks for the oldest of a bucket."""
    origin = source.Source(gnocchi.conf, "file")
    conf = gnocchi.conf.storage
    buckets = gnocchi.storage("influxdb").buckets
    moving = transfer.Transfer(origin, buckets, conf, False)
    return verify.Verifier(origin, moving, conf), moving


@pytest.mark.parametrize(("bad", "wrong"), [(1, 0), (2, 1)])
def test_what_differs_is_read_again(gnocchi, monkeypatch, bad, wrong):
    """Before it is called wrong: Gnocchi is in use."""
    metric = gnocchi.metric("low")
    now = hours_ago(1)
    points = series(now - DAY, now, 100 * NS, numpy.random.default_rng(3))
    fill(gnocchi, [metric], points)
    assert migrate(gnocchi)[0] == 0
    verifier, _ = a_verifier(gnocchi)
    read = verifier._target.reader.read
    times = 0

    def without_one(wanted, span):
        nonlocal times
        found = read(wanted, span)
        times += 1
        if times <= bad:
            for one in found[metric].values():
                one.ts = numpy.delete(one.ts, 3)
        return found

    monkeypatch.setattr(verifier._target.reader, "read", without_one)
    result = verifier.compare(metric, history.Note(1, recent(), False))
    assert times == 2
    assert {c.wrong for c in result.values()} == {wrong}


def test_what_the_later_answer_has_cut(gnocchi, monkeypatch):
    """A measure has come since Gnocchi's own answer."""
    metric = gnocchi.metric("low")
    end = recent(20 * 60)
    points = series(
        end - 31 * HOUR, end, 100 * NS, numpy.random.default_rng(3)
    )
    fill(gnocchi, [metric], points)
    migrate(gnocchi)
    influxdb = gnocchi.storage("influxdb")
    write(influxdb, {metric: {recent(1): 1.0}}, gnocchi.indexer)
    verifier, moving = a_verifier(gnocchi)
    monkeypatch.setattr(moving, "oldest", lambda target: 0)
    result = verifier.compare(metric, history.Note(1, recent(), False))
    assert {c.wrong for c in result.values()} == {0}
    assert all(350 <= c.windows < 360 for c in result.values())


def test_without_downsampling(gnocchi):
    gnocchi.options["influxdb_downsampling"] = False
    gnocchi.write_configuration()
    gnocchi.conf.set_override("influxdb_downsampling", False, "storage")
    low = gnocchi.metric("low")
    now = hours_ago(1)
    points = series(now - DAY, now, 100 * NS, numpy.random.default_rng(3))
    fill(gnocchi, [low], points)
    status, found = migrate(gnocchi, "--verify")
    assert status == 0, found
    assert all(
        c["equal"] == c["windows"] > 0 for c in compared(found).values()
    )
    high = gnocchi.metric("high")
    fill(gnocchi, [high], points)
    status, _, err = gnocchi.run("migrate", *ALL)
    assert status == 2
    assert "[storage] influxdb_downsampling = true" in err
    assert "(high)" in err


def test_late_measures_before_the_migration_do_not_hide_it(gnocchi):
    """metricd has made windows of the few that there were."""
    metric = gnocchi.metric("medium")
    now = hours_ago(5) + 1000 * NS
    points = series(now - 3 * DAY, now, 100 * NS, numpy.random.default_rng(3))
    fill(gnocchi, [metric], points, batches=20)
    late = now - 2 * DAY
    influxdb = gnocchi.storage("influxdb")
    write(influxdb, {metric: {late: 1e6}}, gnocchi.indexer)
    downsample(gnocchi, metric.archive_policy)

    status, found = migrate(gnocchi, "--verify")

    assert status == 0, found
    windows = compared(found)
    # By the hour there is what Gnocchi had.
    assert windows[3600, "count"]["open"] in (0, 1)
    ours = answers(gnocchi, metric, "influxdb")
    theirs = answers(gnocchi, metric, "file")
    differing = [
        t
        for t, v in theirs["mean", 3600].items()
        if not math.isclose(ours["mean", 3600][t], v)
    ]
    assert differing in ([], [late // HOUR * HOUR])


def test_dry_run(gnocchi):
    metric = gnocchi.metric("low")
    gnocchi.metric("low")
    fill(gnocchi, [metric], [(recent(n), 1.0) for n in (900, 600, 10)])
    files = sorted(gnocchi.data.rglob("*"))

    status, found = migrate(gnocchi, "--dry-run")

    assert status == 0
    assert found["metrics_moved"] == 1
    assert found["empty"] == 1
    assert found["aggregates"] == 9
    assert {
        (c["policy"], c["method"]): c["windows"] for c in found["kept"]
    } == {
        ("low", "mean"): 3,
        ("low", "min"): 3,
        ("low", "count"): 3,
        ("low", "std"): 0,
    }
    assert not (gnocchi.directory / JOURNAL).exists()
    assert sorted(gnocchi.data.rglob("*")) == files
    for name in ("low", "low@300s"):
        assert bucket(gnocchi.server, gnocchi.prefix + name) is None


def test_what_is_no_number(gnocchi):
    metric = gnocchi.metric("low")
    fill(
        gnocchi,
        [metric],
        [(recent(900), 1.0), (recent(600), math.nan), (recent(10), 3.0)],
    )
    status, found = migrate(gnocchi, "--verify")
    assert status == 1
    assert found["losing"] == [str(metric.id)]
    kept = {c["method"]: c["not_finite"] for c in found["kept"]}
    assert kept["mean"] == 1
    assert all(c["wrong"] == 0 for c in found["verified"])


def test_a_metric_that_can_not_be_read(gnocchi, monkeypatch):
    good, bad = gnocchi.metric("low"), gnocchi.metric("low")
    file = fill(gnocchi, [good, bad], [(recent(9), 1.0)], batches=1)
    directory = file._build_metric_path(bad, "mean")
    (gnocchi.data / directory / "no_number_v3").touch()

    status, out, err = gnocchi.run("migrate", *ALL)
    assert status == 1
    assert str(bad.id) in err
    assert "1 metric could NOT BE READ" in out
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


def test_waits_while_the_server_is_away(gnocchi, between):
    metrics = [gnocchi.metric("low") for _ in range(5)]
    fill(gnocchi, metrics, [(recent(9), 1.0)], batches=1)
    conf = gnocchi.write_configuration(
        gnocchi.directory / "between.conf",
        influxdb_url=between.url,
        influxdb_max_retries=0,
    )

    def away(request):
        if request.method == "POST" and "/write" in request.path:
            between.before = lambda _: UNAVAILABLE
            return UNAVAILABLE
        return None

    between.before = away
    process = gnocchi.start("migrate", *ALL, "--verify", conf=conf)
    said = []
    for line in process.stderr:
        said.append(line)
        if "Waiting for InfluxDB, up to 10 minutes" in line:
            between.before = None
    out = process.stdout.read()
    assert process.wait(60) == 0, said
    assert "5 metrics moved" in out
    assert "All that must be equal is equal." in out
    assert len(said) == 2
    assert "InfluxDB is back" in said[1]


def test_what_was_too_old_needs_another_journal(gnocchi):
    old, new = gnocchi.metric("low"), gnocchi.metric("low")
    time_ = recent(3 * 86400)
    fill(gnocchi, [old], [(time_, 5.0)], batches=1)
    fill(gnocchi, [new], [(recent(9), 1.0)], batches=1)
    status, found = migrate(gnocchi)
    assert (status, found["losing"]) == (1, [str(old.id)])
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
    assert answers(gnocchi, old, "influxdb")["mean", 300] == {
        time_ // (300 * NS) * 300 * NS: 5.0
    }


def test_what_grows_too_old_while_it_reads(gnocchi, monkeypatch):
    """Swift may take a while, and InfluxDB compares when a point arrives."""
    old, new = gnocchi.metric("low"), gnocchi.metric("low")
    time_ = recent(9)
    fill(gnocchi, [old], [(recent(40 * 3600), 1.0)], batches=1)
    fill(gnocchi, [new], [(time_, 1.0)], batches=1)
    to = gnocchi.storage("influxdb")
    moving = transfer.Transfer(
        source.Source(gnocchi.conf, "file"),
        to.buckets,
        gnocchi.conf.storage,
        False,
    )
    cover = coverage.Coverage(to.buckets, gnocchi.conf.storage)
    covered = cover.extend(old.archive_policy)
    monkeypatch.setattr(moving, "oldest", lambda target: 0)
    moved = moving.move(old.archive_policy, [old, new], covered)
    assert moved.aggregates == {old.id: 3, new.id: 3}
    assert answers(gnocchi, new, "influxdb")["mean", 300] == {
        time_ // (300 * NS) * 300 * NS: 1.0
    }


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
    assert "3 points REFUSED" in out
    assert "field type conflict" in err
    assert in_journal(gnocchi) == 0
    delete_bucket(gnocchi.server, bucket)
    status, found = migrate(gnocchi)
    assert (status, found["metrics_moved"], found["measures"]) == (0, 3, 3)
    for metric in metrics:
        assert stored(gnocchi.server, bucket, metric) == {time_: 1.0}


def test_no_history_may_be_the_wrong_place(gnocchi):
    """A directory that is not mounted, say."""
    metrics = [gnocchi.metric("low") for _ in range(3)]
    status, out, _ = gnocchi.run("migrate", *ALL)
    assert status == 1
    assert "3 metrics without history: NOT ONE has" in out
    fill(gnocchi, metrics[:2], [(recent(9), 1.0)], batches=1)
    status, out, _ = gnocchi.run("migrate", *ALL)
    assert status == 0
    assert "2 metrics moved" in out
    assert "1 metric without history." in out
    status, out, _ = gnocchi.run("migrate", *ALL)
    assert status == 0
    assert "2 metrics had been moved before" in out


def test_a_timespan_that_was_made_longer(gnocchi):
    """Gnocchi does not bring back the minutes that it had dropped."""
    gnocchi.policy("hours", (60, 60), (24 * 30, 3600), methods=["mean"])
    metric = gnocchi.metric("hours")
    now = hours_ago(1)
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
    hours = compared(found)[3600, "mean"]
    # Of one hour Gnocchi has still got some minutes.
    assert hours["equal"] == hours["windows"] > 110


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
    assert line["aggregates"] == 3
    # InfluxDB and this machine may differ by a second.
    assert recent(60) < line["began"] <= recent() + NS
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
    assert all(c["wrong"] == 0 for c in found["verified"])
    means = compared(found)[300, "mean"]
    assert means["equal"] >= means["windows"] - 3 > 250

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
