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
"""gnocchi-influxdb check, as a monitoring system runs it."""

import json
import re
import time

import pytest
from servers import api

from gnocchi_influxdb.buckets.policy import Lengthened
from tests.support import proxy
from tests.support.by_hand import (
    bucket,
    change_bucket,
    delete_bucket,
    make_bucket,
    make_token,
    stored_count,
    write_lines,
)
from tests.support.samples import NS, recent, write

DAY = 86400


@pytest.fixture
def gnocchi(installation):
    installation.policy("low", (30 * 288, 300))
    installation.queue()
    return installation


@pytest.fixture
def used(gnocchi):
    """A Gnocchi that has stored a measure."""
    metric = gnocchi.metric("low")
    write(
        gnocchi.storage("influxdb"), {metric: {recent(60): 1}}, gnocchi.indexer
    )
    return gnocchi


def of(document, subject):
    return [c for c in document["checks"] if c["subject"] == subject]


def level(document, subject):
    (one,) = of(document, subject)
    return one["level"]


def test_all_is_well(used):
    status, out, err = used.run("check")

    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert all(line.startswith("OK ") for line in lines), out
    subjects = {line.split()[1].rstrip(":") for line in lines}
    # A 2.x does not say how many it has.
    assert lines[0].startswith("OK    check: all is well")
    assert subjects - {"files"} == {
        "check",
        "queue",
        "drivers",
        "transport",
        "indexer",
        "health",
        "version",
        "token",
        "clock",
        "bucket",
        "probe",
        "latency",
    }


def test_leaves_nothing_behind(used):
    before = stored_count(used.server, used.prefix + "low")

    used.run("check")

    assert stored_count(used.server, used.prefix + "low") == before == 1
    _, (row,) = used.json("status")
    assert (row["series"], row["orphans"]) == (1, 0)


def test_makes_no_bucket(gnocchi):
    status, found = gnocchi.json("check")

    assert status == 1
    assert found["status"] == "WARN"
    assert level(found, "probe") == "WARN"
    (line,) = of(found, f"bucket {gnocchi.prefix}low")
    assert line["level"] == "OK"
    assert "not there yet" in line["text"]
    assert bucket(gnocchi.server, gnocchi.prefix + "low") is None
    assert bucket(gnocchi.server, "_monitoring-probe") is None


def test_retention_too_short(used):
    name = used.prefix + "low"
    id_, wanted, shards = bucket(used.server, name)
    change_bucket(used.server, id_, 7 * DAY, shards)

    status, found = used.json("check")

    assert status == 1
    (line,) = of(found, f"bucket {name}")
    assert line["level"] == "WARN"
    assert "keeps points for 7 d" in line["text"]
    if used.server.release == 1:
        assert f"DURATION {wanted}s SHARD DURATION" in line["cure"]
    else:
        assert f"--id {id_} --retention {wanted}s" in line["cure"]


@pytest.mark.parametrize("holds", ["points", "windows"])
def test_what_is_about_to_be_deleted(gnocchi, holds):
    """InfluxDB deletes before the driver looks again."""
    gnocchi.policy("two", (15 * 1440, 60), (720, 3600))
    metric = gnocchi.metric("two")
    oldest = recent(10 * DAY)
    write(
        gnocchi.storage("influxdb"),
        {metric: {oldest: 1, recent(3600 * 3): 1}},
        gnocchi.indexer,
    )
    gnocchi.run("downsample")
    name = gnocchi.prefix + {"points": "two", "windows": "two@3600s"}[holds]
    id_, wanted, shards = bucket(gnocchi.server, name)
    change_bucket(gnocchi.server, id_, 7 * DAY, shards)

    status, found = gnocchi.json("check")

    assert status == 2
    (line,) = of(found, f"bucket {name}")
    assert line["level"] == "FAIL"
    if holds == "windows":
        oldest -= oldest % (3600 * NS)
    dates = [
        time.strftime("%Y-%m-%dT%H:", time.gmtime(ns // NS))
        for ns in (oldest, recent(7 * DAY))
    ]
    assert f"about to delete {holds} from {dates[0]}" in line["text"]
    assert f" to {dates[1]}" in line["text"]
    assert line["cure"].startswith("run now, to keep them: ")
    if holds == "points":
        # Not what it kept while the windows were overdue.
        wanted = 15 * DAY + 3600 + 36 * 3600
    assert f"{wanted}s" in line["cure"]


def test_points_ahead_of_the_clock(used):
    name = used.prefix + "low"
    metric = used.metric("low")
    _, found = used.json("check")
    assert level(found, f"bucket {name}") == "OK"
    at = recent(-40 * DAY) // NS * NS
    write_lines(
        used.server, name, f"measure,metric={metric.id} value=1 {at}\n"
    )

    status, found = used.json("check")

    assert status == 1
    (line,) = [c for c in of(found, f"bucket {name}") if c["level"] != "OK"]
    assert line["level"] == "WARN"
    assert f"of metric {metric.id}" in line["text"]
    said = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at // NS))
    assert f"the newest of {said}" in line["text"]
    if used.server.release == 1:
        assert 'DELETE FROM "measure" WHERE time >= ' in line["cure"]
    else:
        assert f"influx delete --org {used.server.org}" in line["cure"]
        assert "--stop 2262-04-11T23:47:16Z" in line["cure"]


def test_retention_too_long_is_the_operators_choice(used):
    name = used.prefix + "low"
    id_, _, shards = bucket(used.server, name)
    change_bucket(used.server, id_, 0, shards)

    status, found = used.json("check")

    assert status == 0
    (line,) = of(found, f"bucket {name}")
    assert "keeps points for ever" in line["text"]


def test_server_away(used):
    conf = used.write_configuration(
        used.directory / "away.conf", influxdb_url="http://127.0.0.1:1"
    )

    status, found = used.json("check", conf=conf)

    assert status == 2
    assert level(found, "server") == "FAIL"
    assert "influxdb_url" in of(found, "server")[0]["text"]
    assert level(found, "indexer") == "OK"


def test_indexer_away(used):
    url, used.url = used.url, "postgresql://nobody@127.0.0.1:1/none"
    conf = used.write_configuration(used.directory / "away.conf")
    used.url = url

    status, found = used.json("check", conf=conf)

    assert status == 2
    assert level(found, "indexer") == "FAIL"
    assert "[indexer] url" in of(found, "indexer")[0]["cure"]
    assert level(found, "health") == "OK"


def test_unknown_token(used):
    conf = used.write_configuration(
        used.directory / "token.conf", influxdb_token="a-secret-of-ours"
    )

    status, out, err = used.run("check", conf=conf)

    assert status == 2
    assert "FAIL  token:" in out
    assert "influxdb_token" in out
    assert "a-secret-of-ours" not in out + err


@pytest.mark.only_2x("a 1.x may have no users")
def test_no_token(used):
    conf = used.write_configuration(
        used.directory / "token.conf", influxdb_token=""
    )

    status, found = used.json("check", conf=conf)

    assert status == 2
    assert "influx auth create" in of(found, "token")[0]["text"]


def with_rights(used, *rights):
    return used.write_configuration(
        used.directory / "token.conf",
        influxdb_token=make_token(used.server, *rights),
    )


@pytest.mark.only_2x("rights are of databases on 1.x: see test_version1")
def test_token_for_the_buckets_only(used):
    id_ = bucket(used.server, used.prefix + "low")[0]
    conf = with_rights(
        used, ("read", "buckets", id_), ("write", "buckets", id_)
    )

    status, found = used.json("check", conf=conf)

    assert status == 0
    assert level(found, "token") == "OK"
    assert level(found, f"bucket {used.prefix}low") == "OK"


@pytest.mark.only_2x("rights are of databases on 1.x: see test_version1")
def test_token_without_a_right_that_is_needed(used):
    used.policy("high", (60, 60))
    used.metric("high")
    name = used.prefix + "low"
    id_ = bucket(used.server, name)[0]

    status, found = used.json(
        "check", conf=with_rights(used, ("read", "buckets", id_))
    )
    assert status == 2
    assert level(found, f"bucket {name}") == "FAIL"
    # Not there, needed, and the token may not make it.
    (line,) = of(found, f"bucket {used.prefix}high")
    assert line["level"] == "FAIL"
    assert f"influx bucket create --org {used.server.org}" in line["cure"]

    status, found = used.json(
        "check", conf=with_rights(used, ("write", "buckets", id_))
    )
    assert status == 2
    assert level(found, f"bucket {name}") != "OK"


@pytest.mark.only_2x("rights are of databases on 1.x: see test_version1")
@pytest.mark.parametrize("what", ["read", "write"])
def test_token_that_may_only_read_or_only_write(used, what):
    """The cause is said once, and nobody is told to send a measure."""
    for number in range(7):
        used.policy(f"more{number}", (60, 60))
        make_bucket(used.server, f"{used.prefix}more{number}")
    conf = with_rights(used, (what, "buckets"))

    status, found = used.json("check", conf=conf)

    assert status == 2
    (line,) = [c for c in found["checks"] if "bucket" in c["subject"]]
    assert line["level"] == "FAIL"
    assert line["subject"] == "8 buckets"
    refused = {"read": "write to", "write": "read"}[what]
    assert f"may not {refused} it" in line["text"]
    assert f"({used.prefix}low, {used.prefix}more0, " in line["text"]
    # The rights of a token can't be changed.
    assert "influx auth create --org" in line["cure"]
    assert of(found, "probe") == []
    assert "sees others than" not in str(found)


def test_each_failure_has_a_cure(used):
    for options in (
        {"influxdb_url": "http://127.0.0.1:1"},
        {"influxdb_url": f"{used.server.url}/not/there"},
        {"influxdb_token": "nobody:nothing"},
        {"influxdb_org": "nobody"},
    ):
        conf = used.write_configuration(used.directory / "x.conf", **options)
        _, found = used.json("check", conf=conf)
        failed = [c for c in found["checks"] if c["level"] != "OK"]
        # An organization is no matter for a 1.x.
        assert failed or used.server.release == 1
        assert [c for c in failed if not c["cure"]] == []


@pytest.mark.only_2x("a 1.x has no organizations")
def test_commands_can_be_copied(used):
    org = "Ops & Co"
    conf = used.write_configuration(
        used.directory / "org.conf", influxdb_org=org, influxdb_token=""
    )

    status, found = used.json("check", conf=conf)

    assert status == 2
    (line,) = of(found, "token")
    for said in line["text"], line["cure"]:
        assert "influx auth create --org 'Ops & Co' --read-buckets" in said


def test_database_that_dies(used):
    """Which buckets there should be is not known then; they are not missed."""
    url, used.url = used.url, "postgresql://nobody@127.0.0.1:1/none"
    conf = used.write_configuration(used.directory / "away.conf")
    used.url = url

    _, found = used.json("check", conf=conf)

    assert of(found, "probe") == []
    assert "send Gnocchi a measure" not in str(found)


@pytest.mark.parametrize("what", ["buckets", "write"])
def test_server_that_dies_meanwhile(used, between, what):
    """It is said once, whatever the number of buckets."""
    for number in range(7):
        used.policy(f"more{number}", (60, 60))

    def before(request):
        return (
            proxy.answer("503 Service Unavailable", b"")
            if what in request.path or "more" in request.path
            else None
        )

    between.before = before
    conf = used.write_configuration(
        used.directory / "between.conf", influxdb_url=between.url
    )

    status, found = used.json("check", conf=conf)

    assert status == 2
    failed = [c for c in found["checks"] if c["level"] == "FAIL"]
    assert len(failed) == 1
    assert "send Gnocchi a measure" not in str(found)


def test_for_people_the_first_line_says_it_all(used):
    conf = used.write_configuration(
        used.directory / "token.conf", influxdb_token="nobody:nothing"
    )

    _, out, _ = used.run("check", conf=conf)

    first, *lines = out.splitlines()
    assert first.startswith("FAIL  check: 1 FAIL, ")
    assert first.endswith(" OK: token")
    assert lines[0].startswith("OK    drivers: ")


def test_for_nagios(used):
    status, out, err = used.run("check", "--format=nagios")

    assert (status, err) == (0, "")
    said, numbers = out.strip().split(" | ")
    assert said.startswith("GNOCCHI-INFLUXDB OK: all is well")
    values = dict(one.split("=") for one in numbers.split())
    assert values["queue"] == "0"
    assert values["queue_age"] == "0s;300;3600"
    assert values["metrics"] == "1"
    assert values["latency"].endswith("s;1")
    assert values["clock"].endswith("s;2;60")
    # No digits that mean nothing.
    assert not re.search(r"\.\d{7}", numbers)

    id_, _, shards = bucket(used.server, used.prefix + "low")
    change_bucket(used.server, id_, 7 * DAY, shards)
    status, out, _ = used.run("check", "--format=nagios")

    assert status == 1
    first, *more = out.splitlines()
    assert first.startswith("GNOCCHI-INFLUXDB WARNING: 1 WARN, ")
    assert "keeps points for 7 d" in first
    assert out.count("|") == 1
    assert more[0].startswith(f"WARN bucket {used.prefix}low")


def test_values_of_another_type(gnocchi):
    name = gnocchi.prefix + "low"
    make_bucket(gnocchi.server, name, 30 * DAY + 300, DAY)
    write_lines(
        gnocchi.server, name, f"measure,metric=x value=1i {recent(10)}\n"
    )

    status, found = gnocchi.json("check")

    assert status == 2
    levels = [line["level"] for line in of(found, f"bucket {name}")]
    assert "FAIL" in levels
    assert level(found, "probe") == "FAIL"
    assert "type" in of(found, "probe")[0]["text"]


def test_slow(used):
    status, found = used.json("check", "--latency=0")

    assert status == 1
    assert level(found, "latency") == "WARN"


def test_not_influxdb(used, tmp_path):
    # PostgreSQL does not speak HTTP at all.
    address = used.url.rpartition("@")[2].partition("/")[0]
    conf = used.write_configuration(
        used.directory / "other.conf", influxdb_url=f"http://{address}"
    )

    status, found = used.json("check", conf=conf)

    assert status == 2
    assert level(found, "server") == "FAIL"


def test_gnocchi_does_not_use_it(used):
    conf = used.write_configuration(
        used.directory / "file.conf", driver="file"
    )

    status, found = used.json("check", conf=conf)

    assert status == 1
    assert [line["level"] for line in of(found, "drivers")] == ["WARN"] * 2


def test_configuration_that_is_wrong(used):
    conf = used.write_configuration(
        used.directory / "wrong.conf", influxdb_timeout="soon"
    )

    status, found = used.json("check", conf=conf)

    assert status == 2
    assert "influxdb_timeout" in of(found, "configuration")[0]["text"]


def test_no_such_configuration(used):
    status, _, err = used.run("check", conf=used.directory / "none.conf")

    assert status == 2
    assert "none.conf" in err


def test_configuration_behind_the_command(used):
    here = used.path.rename(used.directory / "elsewhere.conf")
    used.write_configuration(influxdb_url="http://127.0.0.1:1")
    for arguments in (
        ["check", f"--config-file={here}"],
        ["check", "--config-file", str(here), "--format=table"],
    ):
        # Later ones win.
        status, out, err = used.run(*arguments)
        assert (status, err) == (0, ""), out
    _, out, err = used.run("check", "--debug", f"--config-file={here}")
    assert "DEBUG" in err


def test_clock(used):
    _, found = used.json("check")

    assert "differs by" in of(found, "clock")[0]["text"]
    # The clock is the same machine's.
    assert level(found, "clock") == "OK"


def test_health_is_what_the_server_says(used):
    _, found = used.json("check")

    said = api.call("GET", used.server.url, "/health")
    assert said["message"] in of(found, "health")[0]["text"]
    assert used.server.version in of(found, "version")[0]["text"]


@pytest.mark.only_2x("memory is not watched elsewhere")
def test_profiles(used, fresh_influxd, tmp_path):
    """InfluxDB 2.x keeps them unless told otherwise, for all to see."""
    _, found = used.json("check")
    assert of(found, "profiles") == []
    server = fresh_influxd
    conf = used.write_configuration(
        tmp_path / "other.conf",
        influxdb_url=server.url,
        influxdb_token=server.token,
        influxdb_org=server.org,
    )
    server.stop()
    server.has_profiles = True
    server.start()
    _, found = used.json("check", conf=conf)
    (line,) = of(found, "profiles")
    assert line["level"] == "WARN"
    assert f"{server.url}/debug/pprof" in line["text"]
    assert "pprof-disabled" in line["cure"]


@pytest.mark.parametrize("limit", ["buckets", "series", "point"])
def test_limits_of_influxql(used, between, limit):
    """Only an operator's token, and an administrator, see them."""
    _, found = used.json("check")
    assert of(found, "limits") == []
    is_1x = used.server.release == 1
    name = f"{'' if is_1x else 'influxql-'}max-select-{limit}"

    def after(request, answer):
        """Such a server's configuration."""
        if is_1x and b"DIAGNOSTICS" in request.body:
            # It comes in pieces; what counts is that it has such an option.
            assert f'"{name}"'.encode() in answer
            series = {
                "name": "config-coordinator",
                "columns": [name],
                "values": [[1000]],
            }
            found = {"results": [{"statement_id": 0, "series": [series]}]}
            return proxy.answer("200 OK", json.dumps(found).encode())
        if request.path == "/api/v2/config":
            old = f'"{name}": 0'.encode()
            assert old in answer
            return answer.replace(old, old[:-1] + b"9")
        return answer

    between.after = after
    conf = used.write_configuration(
        used.directory / "between.conf", influxdb_url=between.url
    )

    status, found = used.json("check", conf=conf)

    assert status == 1
    (line,) = of(found, "limits")
    assert line["text"].startswith(f"{name} = {1000 if is_1x else 9} lets")
    assert line["cure"] == "set it to 0 and restart influxd"


@pytest.mark.only_1x
def test_open_files(used, influxdb):
    """A 2.x does not say how many it has."""
    _, found = used.json("check")
    assert level(found, "files") == "OK"
    most = 101

    def after(request, answer):
        if request.path != "/metrics":
            return answer
        text = f"process_open_fds 80\nprocess_max_fds {most}\n"
        return proxy.answer("200 OK", text.encode())

    with proxy.Proxy(influxdb.url, after=after) as between:
        conf = used.write_configuration(
            used.directory / "between.conf", influxdb_url=between.url
        )
        _, found = used.json("check", conf=conf)
        assert level(found, "files") == "OK"
        most = 100
        _, found = used.json("check", conf=conf)
    (line,) = of(found, "files")
    assert line["level"] == "WARN"
    assert "80 files open, of 100" in line["text"]
    assert "LimitNOFILE=65536" in line["cure"]


@pytest.mark.parametrize(
    ("hours", "expected"), [(3, "OK"), (15, "WARN"), (30, "FAIL")]
)
def test_windows_are_overdue(gnocchi, hours, expected):
    gnocchi.policy("two", (1440, 60), (720, 3600))
    metric = gnocchi.metric("two")
    write(
        gnocchi.storage("influxdb"),
        {metric: {recent(hours * 3600): 1}},
        gnocchi.indexer,
    )
    _, found = gnocchi.json("check")
    (one,) = of(found, "downsampling two")
    assert one["level"] == expected
    if expected != "OK":
        assert "gnocchi-influxdb downsample --policy two" in one["cure"]


def test_metricd_does_not_downsample(used):
    path = used.write_configuration(used.directory / "incoming.conf")
    path.write_text(path.read_text() + "[incoming]\ndriver = file\n")
    _, found = used.json("check", conf=path)
    assert of(found, "downsampling") == []
    used.policy("two", (1440, 60), (720, 3600))
    _, found = used.json("check", conf=path)
    (one,) = of(found, "downsampling")
    assert one["level"] == "WARN"
    assert one["cure"].endswith("downsample --forever")


@pytest.fixture
def two(gnocchi):
    """A Gnocchi with a measure of a policy that is downsampled."""
    gnocchi.policy("two", (1440, 60), (720, 3600))
    metric = gnocchi.metric("two")
    write(
        gnocchi.storage("influxdb"),
        {metric: {recent(4 * 3600): 1}},
        gnocchi.indexer,
    )
    return gnocchi


def test_bucket_of_windows_too_short(two):
    name = two.prefix + "two@3600s"
    id_, wanted, shards = bucket(two.server, name)
    _, found = two.json("check")
    (line,) = of(found, f"bucket {name}")
    assert line["level"] == "OK"
    assert "keeps windows for 30 d" in line["text"]
    change_bucket(two.server, id_, 7 * DAY, shards)
    _, found = two.json("check")
    (line,) = of(found, f"bucket {name}")
    assert line["level"] == "WARN"
    assert "keeps windows for 7 d" in line["text"]
    assert f"{wanted}s" in line["cure"]


@pytest.mark.only_2x("rights are of databases on 1.x: see test_version1")
def test_bucket_of_windows_absent_or_hidden(two):
    points, windows = (two.prefix + name for name in ("two", "two@3600s"))
    id_ = bucket(two.server, points)[0]
    rights = [("read", "buckets", id_), ("write", "buckets", id_)]
    more = ("write", "buckets", bucket(two.server, windows)[0])
    _, found = two.json("check", conf=with_rights(two, *rights, more))
    (line,) = of(found, f"bucket {windows}")
    assert line["level"] == "FAIL"
    assert "may not read it" in line["text"]
    delete_bucket(two.server, windows)
    status, found = two.json("check", conf=with_rights(two, *rights))
    assert status == 2
    assert level(found, f"bucket {points}") == "OK"
    (line,) = of(found, f"bucket {windows}")
    assert line["level"] == "FAIL"
    assert f"--name {windows} --retention" in line["cure"]


def test_bucket_from_before_downsampling(two):
    name = two.prefix + "two"
    id_, wanted, shards = bucket(two.server, name)
    change_bucket(two.server, id_, 365 * DAY, shards)

    def cure():
        _, found = two.json("check")
        (line,) = of(found, f"bucket {name}")
        assert line["level"] == "OK"
        assert "longer than the policy asks for" in line["text"]
        return line["cure"]

    # Nothing was downsampled yet.
    assert cure() == ""
    assert two.run("downsample")[0] == 0
    assert f"{wanted}s" in cure()
    # What the driver has lengthened it takes back itself.
    two.storage("influxdb").buckets.watermarks.write_lengthened(
        name, Lengthened(wanted, 365 * DAY, 0, 0)
    )
    assert cure() == ""
