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
"""gnocchi-influxdb status and prune."""

import time
import uuid

import pytest
from servers import api

from tests.support import proxy
from tests.support.by_hand import (
    bucket,
    change_bucket,
    make_bucket,
    make_token,
    select,
    stored,
    write_lines,
)
from tests.support.samples import NS, measures, recent, write

DAY = 86400


@pytest.fixture
def gnocchi(installation):
    installation.policy("low", (30 * 288, 300))
    installation.policy("empty", (60, 60))
    return installation


@pytest.fixture
def driver(gnocchi):
    return gnocchi.storage("influxdb")


def fill(gnocchi, driver, number, points):
    metrics = [gnocchi.metric("low") for _ in range(number)]
    write(driver, dict.fromkeys(metrics, points), gnocchi.indexer)
    return metrics


def line(gnocchi, policy="low", *arguments):
    status, rows = gnocchi.json("status", *arguments)
    assert status == 0
    (row,) = [row for row in rows if row["policy"] == policy]
    return row


def orphan(gnocchi, driver, points):
    """A series whose metric the indexer does not know."""
    metric = gnocchi.metric("low")
    gnocchi.indexer.delete_metric(metric.id)
    gnocchi.indexer.expunge_metric(metric.id)
    for batch in driver.batches([(metric, measures(points))]):
        driver._writer.write(batch)
    return metric


def iso(ns):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ns // NS))


def test_status(gnocchi, driver):
    oldest, newest = recent(20 * DAY), recent(60)
    fill(
        gnocchi,
        driver,
        3,
        {oldest: 1, recent(2 * DAY): 2, newest - NS: 3, newest: 4},
    )

    row = line(gnocchi)

    assert row == {
        "policy": "low",
        "bucket": gnocchi.prefix + "low",
        "metrics": 3,
        "deleted": 0,
        "series": 3,
        "orphans": 0,
        "foreign": 0,
        "points": 12,
        "bytes": row["bytes"],
        "points_per_second": pytest.approx(6 / 3600, abs=1e-3),
        "oldest": iso(oldest),
        "newest": iso(newest),
        "retention": 30 * DAY + 300,
        "windows": [],
    }
    assert line(gnocchi, "empty")["series"] is None


def test_status_of_a_server_with_metrics(gnocchi, fresh_influxd):
    """What is on disk is there, or in 1.x's answer to SHOW SHARDS."""
    server = fresh_influxd
    server.stop()
    server.has_metrics = True
    server.start()
    conf = gnocchi.write_configuration(
        gnocchi.directory / "other.conf",
        influxdb_url=server.url,
        influxdb_token=server.token,
        influxdb_org=server.org,
    )
    name = gnocchi.prefix + "low"
    make_bucket(server, name)
    metric = gnocchi.metric("low")
    write_lines(
        server, name, f"measure,metric={metric.id} value=1 {recent(60)}"
    )
    status, rows = gnocchi.json("status", conf=conf)
    assert status == 0
    (row,) = [row for row in rows if row["policy"] == "low"]
    assert row["points"] == 1
    assert row["bytes"] is not None


def test_status_for_people(gnocchi, driver):
    fill(gnocchi, driver, 2, {recent(60): 1})
    orphan(gnocchi, driver, {recent(60): 1})

    status, out, err = gnocchi.run("status")

    assert (status, err) == (0, "")
    row, _buckets = [
        words for words in map(str.split, out.splitlines()) if "low" in words
    ]
    assert row[:5] == ["low", "2", "3", "1", "3"]
    assert "30 d 5 min" in out
    assert "1 orphan series" in out


def test_status_without_counting(gnocchi, driver):
    fill(gnocchi, driver, 2, {recent(60): 1})

    row = line(gnocchi, "low", "--no-count")

    assert (row["series"], row["points"], row["oldest"]) == (2, None, None)


def test_points_that_are_kept_for_ever(gnocchi):
    name = gnocchi.prefix + "low"
    make_bucket(gnocchi.server, name, 0, 7 * DAY)
    old, future = 86400 * NS, recent(-400 * DAY)
    id_ = uuid.uuid4()
    write_lines(
        gnocchi.server,
        name,
        f"measure,metric={id_} value=1 {old}\n"
        f"measure,metric={id_} value=1 {future}\n",
    )

    row = line(gnocchi)

    assert (row["points"], row["orphans"]) == (2, 1)
    assert (row["oldest"], row["newest"]) == (iso(old), iso(future))


def test_names_with_control_characters(gnocchi, driver):
    name = "a\x1b[2J\nb"
    gnocchi.policy(name, (60, 60))
    metric = gnocchi.metric(name)
    write(driver, {metric: {recent(60): 1}}, gnocchi.indexer)
    gnocchi.indexer.delete_metric(metric.id)

    status, out, _ = gnocchi.run("status")

    assert status == 0
    assert "\x1b" not in out
    shown = r"a\x1b[2J\nb"
    assert out.count(shown) == 3
    assert f"{shown}: 1 deleted metric waits for gnocchi-metricd" in out
    for command in (["check"], ["check", "--format=nagios"], ["downsample"]):
        _, out, err = gnocchi.run(*command)
        assert "\x1b" not in out + err


def test_an_empty_bucket(gnocchi):
    make_bucket(gnocchi.server, gnocchi.prefix + "low", 0, 7 * DAY)

    row = line(gnocchi)

    assert (row["series"], row["points"], row["oldest"]) == (0, 0, None)


def test_server_away(gnocchi):
    conf = gnocchi.write_configuration(
        gnocchi.directory / "away.conf",
        influxdb_url="http://127.0.0.1:1",
        influxdb_max_retries=0,
    )

    status, out, err = gnocchi.run("status", conf=conf)

    assert (status, out) == (2, "")
    assert "influxdb_url" in err
    assert "Traceback" not in err


@pytest.mark.only_2x("rights are of databases on 1.x: see test_version1")
@pytest.mark.parametrize("command", ["status", "prune"])
@pytest.mark.parametrize("rights", [[("write", "buckets")], []])
def test_token_that_may_not_read(gnocchi, driver, command, rights):
    fill(gnocchi, driver, 1, {recent(60): 1})
    rights = [*rights, ("read", "telegrafs")]
    conf = gnocchi.write_configuration(
        gnocchi.directory / "token.conf",
        influxdb_token=make_token(gnocchi.server, *rights),
    )

    status, out, err = gnocchi.run(command, conf=conf)

    assert (status, out) == (2, "")
    assert "may not read" in err
    assert "Traceback" not in err


@pytest.mark.only_2x("rights are of databases on 1.x: see test_version1")
@pytest.mark.parametrize("command", ["status", "prune"])
def test_token_that_may_not_read_one_bucket(gnocchi, driver, command):
    fill(gnocchi, driver, 1, {recent(60): 1})
    write(driver, {gnocchi.metric("empty"): {recent(5): 1}}, gnocchi.indexer)
    ids = [
        bucket(gnocchi.server, gnocchi.prefix + name)[0]
        for name in ("empty", "low")
    ]
    rights = [("read", "buckets", ids[0])]
    rights += [("write", "buckets", id_) for id_ in ids]
    conf = gnocchi.write_configuration(
        gnocchi.directory / "token.conf",
        influxdb_token=make_token(gnocchi.server, *rights),
    )

    status, out, err = gnocchi.run(command, conf=conf)

    assert (status, out) == (2, "")
    assert f"may not read bucket '{gnocchi.prefix}low'" in err
    assert "influx auth create --org" in err


# prune -----------------------------------------------------------------


def test_prune(gnocchi, driver):
    points = {recent(60): 1.0, recent(DAY): 2.0}
    kept = fill(gnocchi, driver, 3, points)
    waiting = fill(gnocchi, driver, 1, points)[0]
    gnocchi.indexer.delete_metric(waiting.id)
    orphans = [orphan(gnocchi, driver, points) for _ in range(2)]
    name = gnocchi.prefix + "low"
    write_lines(
        gnocchi.server,
        name,
        f"measure,metric={orphans[0].id},host=a value=1 {recent(50)}\n"
        f"measure,metric=mine value=1 {recent(50)}\n"
        f"another,metric={orphans[1].id} value=1 {recent(50)}\n",
    )
    before = line(gnocchi)
    assert (before["orphans"], before["foreign"]) == (2, 3)
    assert (before["metrics"], before["deleted"]) == (3, 1)

    status, out, err = gnocchi.run("prune", "--yes")

    assert status == 0, err
    assert "2 orphan series removed, 0 are left" in out
    after = line(gnocchi)
    assert (after["series"], after["orphans"]) == (4, 0)
    for metric in (*kept, waiting):
        assert stored(gnocchi.server, name, metric) == points
    assert select_another(gnocchi.server, name) == 1


def test_prune_looks_whether_they_are_gone(gnocchi, driver, between):
    points = {recent(60): 1.0}
    kept = fill(gnocchi, driver, 1, points)
    gone = orphan(gnocchi, driver, points)
    between.before = proxy.ForgottenDeletes()
    conf = gnocchi.write_configuration(
        gnocchi.directory / "between.conf", influxdb_url=between.url
    )
    status, out, err = gnocchi.run("prune", "--yes", conf=conf)
    assert status == 0, err
    assert "1 orphan series removed, 0 are left" in out
    assert between.before.number == 3
    name = gnocchi.prefix + "low"
    assert stored(gnocchi.server, name, gone) == {}
    assert stored(gnocchi.server, name, kept[0]) == points


def select_another(server, name):
    database, _, policy = name.partition("/")
    (found,) = api.influxql(
        server.url,
        server.token,
        "SELECT count(value) FROM another",
        db=database,
        rp=policy,
    )
    return found["values"][0][1]


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_prune_asks(gnocchi, driver, answer):
    fill(gnocchi, driver, 1, {recent(60): 1})
    metric = orphan(gnocchi, driver, {recent(60): 1})

    status, _, err = gnocchi.run("prune", said=answer)

    assert status == 1
    assert "Delete all points of 1 orphan series" in err
    assert stored(gnocchi.server, gnocchi.prefix + "low", metric)


def test_prune_after_a_yes(gnocchi, driver):
    fill(gnocchi, driver, 1, {recent(60): 1})
    metric = orphan(gnocchi, driver, {recent(60): 1})

    status, _, _ = gnocchi.run("prune", said="y\n")

    assert status == 0
    assert not stored(gnocchi.server, gnocchi.prefix + "low", metric)


def test_prune_dry_run(gnocchi, driver):
    fill(gnocchi, driver, 1, {recent(60): 1})
    metric = orphan(gnocchi, driver, {recent(60): 1})

    assert gnocchi.json("prune", "--dry-run") == (
        1,
        {"removed": 0, "left": 1, "expiring": 0},
    )
    _, out, err = gnocchi.run("prune", "--dry-run")
    assert out == "1 orphan series are there; nothing was removed.\n"
    assert f"{metric.id} for one, beside 1 of metrics." in err
    assert stored(gnocchi.server, gnocchi.prefix + "low", metric)


def test_what_expires(gnocchi, driver, influxdb):
    """It is told from what nothing else removes."""
    gnocchi.conf.set_override("influxdb_expunge", "expire", "storage")
    gnocchi.options["influxdb_expunge"] = "expire"
    gnocchi.write_configuration()
    metric = orphan(gnocchi, driver, {recent(60): 1})
    _, out, _ = gnocchi.run("status")
    assert "1 orphan series, which expire, or: gnocchi" in out
    code, found = gnocchi.json("prune", "--yes")
    assert (code, found) == (0, {"removed": 0, "left": 0, "expiring": 1})
    assert stored(
        gnocchi.server, driver.buckets.name(metric.archive_policy), metric
    )
    code, out, _ = gnocchi.run("prune", "--yes")
    assert "1 more expire with their buckets" in out
    code, found = gnocchi.json(
        "prune", "--yes", "--expiring", "--whole-buckets"
    )
    assert (code, found) == (0, {"removed": 1, "left": 0, "expiring": 0})
    # What a bucket keeps for ever is an orphan all the same.
    name = driver.buckets.name(metric.archive_policy)
    orphan(gnocchi, driver, {recent(60): 1})
    id_, _, shards = bucket(gnocchi.server, name)
    change_bucket(gnocchi.server, id_, 0, shards)
    _, out, _ = gnocchi.run("status")
    assert "1 orphan series; gnocchi-influxdb prune removes them" in out


def test_prune_spares_what_may_be_another_gnocchis(gnocchi, driver):
    metric = orphan(gnocchi, driver, {recent(60): 1})
    name = gnocchi.prefix + "low"

    status, _, err = gnocchi.run("prune", "--yes")
    assert status == 1
    assert "another Gnocchi" in err
    assert stored(gnocchi.server, name, metric)

    status, _, _ = gnocchi.run("prune", "--yes", "--whole-buckets")
    assert status == 0
    assert not stored(gnocchi.server, name, metric)


def test_prune_does_not_touch_other_buckets(gnocchi, driver):
    fill(gnocchi, driver, 1, {recent(60): 1})
    other = gnocchi.prefix + "nobody"
    make_bucket(gnocchi.server, other)
    id_ = uuid.uuid4()
    write_lines(
        gnocchi.server, other, f"measure,metric={id_} value=1 {recent(5)}\n"
    )

    status, found = gnocchi.json("prune", "--yes")

    assert (status, found) == (0, {"removed": 0, "left": 0, "expiring": 0})
    assert bucket(gnocchi.server, other) is not None


def test_a_metric_that_comes_back_before_it_is_deleted(gnocchi, driver):
    """While the question stands, the metric is made."""
    fill(gnocchi, driver, 1, {recent(60): 1})
    metric = orphan(gnocchi, driver, {recent(60): 1})

    process = gnocchi.start("prune")
    asked = ""
    while not asked.endswith("[y/N]: "):
        letter = process.stderr.read(1)
        assert letter, asked
        asked += letter
    gnocchi.indexer.create_metric(metric.id, "creator", "low")
    out, _ = process.communicate("y\n", timeout=60)

    assert "0 orphan series removed" in out
    assert stored(gnocchi.server, gnocchi.prefix + "low", metric)


def test_prune_windows(gnocchi, driver):
    """What was computed while its metric was deleted; and moved windows."""
    gnocchi.policy("two", (1440, 60), (720, 3600))
    kept = gnocchi.metric("two")
    write(driver, {kept: {recent(60): 1.0}}, gnocchi.indexer)
    points, moved, hours = driver.buckets.names(kept.archive_policy)
    make_bucket(gnocchi.server, moved)
    gone = [uuid.uuid4() for _ in range(3)]
    for name in (hours, moved):
        write_lines(
            gnocchi.server,
            name,
            "".join(
                f"aggregate,metric={id_} mean=1 {recent(7200)}\n"
                for id_ in gone
            ),
        )
    assert line(gnocchi, "two")["orphans"] == 3

    status, found = gnocchi.json("prune", "--yes")

    assert (status, found) == (0, {"removed": 6, "left": 0, "expiring": 0})
    row = line(gnocchi, "two")
    assert (row["series"], row["orphans"]) == (1, 0)
    for name in (hours, moved):
        assert not select(gnocchi.server, name, "mean", of="aggregate")
    assert stored(gnocchi.server, points, kept)


def test_status_of_windows(gnocchi, driver):
    gnocchi.policy("two", (1440, 60), (720, 3600))
    metric = gnocchi.metric("two")
    write(driver, {metric: {recent(7200): 1.0}}, gnocchi.indexer)
    row = line(gnocchi, "two")
    assert row["retention"] == DAY + 3600 + 36 * 3600
    (before,) = row["windows"]
    assert (before["until"], before["lag"]) == (None, None)

    assert gnocchi.run("downsample")[0] == 0

    (after,) = line(gnocchi, "two")["windows"]
    assert after == {
        "granularity": 3600,
        "bucket": gnocchi.prefix + "two@3600s",
        "retention": 31 * DAY - DAY + 3600,
        "bytes": after["bytes"],
        "until": after["until"],
        "lag": after["lag"],
    }
    assert 900 <= after["lag"] < 900 + 3600 + 60
    assert after["until"].endswith(":00:00Z")
    status, out, _ = gnocchi.run("status")
    assert status == 0
    assert "behind" in out
    assert max(map(len, out.splitlines())) <= 80
