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
"""The dashboards of contrib/grafana: each query against a real InfluxDB.

There is no Grafana here. What it does to a query before it sends it is done
by `Grafana` below, after its source (pkg/tsdb/influxdb/flux/macros.go and
builder.go, formats of variables in @grafana/data).
"""

import json
import re
import time

import pytest
import yaml
from gnocchi import archive_policy

from gnocchi_influxdb.downsampling.downsampler import Downsampler
from gnocchi_influxdb.health import recorder
from tests.support import ROOT
from tests.support.by_hand import call, make_bucket, make_token, org_id
from tests.support.cloud import Cloud
from tests.support.samples import read, recent, write
from tests.support.telemetry import CPU, INSTANCE, NAMES, fill, flux

pytestmark = pytest.mark.only_2x("the dashboards ask in Flux as 2.x has it")

CONTRIB = ROOT / "contrib" / "grafana"
DASHBOARDS = {
    path.stem: json.loads(path.read_text())
    for path in sorted((CONTRIB / "dashboards").glob("*.json"))
}
SERVER_BUCKET = "influxdb-metrics"


def panels(dashboard):
    return [p for p in dashboard["panels"] if p["type"] != "row"]


QUERIES = [
    (name, panel["title"], target["refId"])
    for name, dashboard in DASHBOARDS.items()
    for panel in panels(dashboard)
    for target in panel["targets"]
]

# What a panel must get, besides values: labels of its series, or columns of
# its table.
NAMED = {"metric", "name", "resource_id", "unit"}
COLUMNS = {
    "Measures: mean of each window": NAMED,
    "Rate: change a second": NAMED,
    "Newest measures": NAMED | {"value", "time"},
    "Stored in the last hour": set(),
    "Refused in the last hour": set(),
    "Queued in the last hour": set(),
    "Waiting in the queue": set(),
    "Windows overdue": set(),
    "Processes that write": set(),
    "Measures a minute": {"what"},
    "Reads and writes a minute": {"what"},
    "Time of a read and of a write": {"what"},
    "Waiting in the queue, by host": {"host"},
    "Windows overdue, the oldest": {"what"},
    "Breakers open, and time without a line": {"what"},
    "Points a minute, last 10 minutes": set(),
    "Age of the newest point": set(),
    "Metrics with points": set(),
    "Silent for an hour": set(),
    "Points a minute": set(),
    "Silent for an hour: which": {"newest", "name", "resource_id", "metric"},
    "Requests": {"path", "response_code"},
    "Time a request takes, mean": {"path"},
    "Points written a second": {"name"},
    "Points refused a second": {"name"},
    "On disk": {"name"},
    "Series": {"name"},
    "Memory": {"what"},
    "Flux queries": {"what"},
    "Write-ahead log and compactions": {"what"},
}


class Grafana:
    """What it makes of a dashboard's variables and queries.

    :ivar values: of the variables: a text, or a list where several may be
        chosen.
    """

    _VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\$(\w+)")
    _MACRO = re.compile(r"([a-zA-Z]+)\.([a-zA-Z]+)")

    def __init__(self, server, token, dashboard, hours=3, window="5m0s"):
        self.server = server
        self.token = token
        self.dashboard = dashboard
        self.window = window
        now = time.time()
        self.start, self.stop = (
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
            for at in (now - hours * 3600, now)
        )
        self.values = {}
        self.texts = {}

    def load(self, **chosen):
        """Fill the variables, in their order; all of everything, but for
        what is chosen."""
        for variable in self.dashboard["templating"]["list"]:
            name = variable["name"]
            if variable["type"] == "datasource":
                assert re.search(r"\$\{datasource\}", str(self.dashboard))
                continue
            if variable["type"] != "query":
                self.values[name] = chosen.get(name, variable["query"])
                continue
            options = self.options(variable)
            self.texts[name] = [text for text, _ in options]
            everything = [value for _, value in options]
            if name in chosen:
                self.values[name] = chosen[name]
            elif not variable["includeAll"]:
                self.values[name] = everything[0]
            else:
                self.values[name] = variable.get("allValue") or everything
        return self

    def options(self, variable):
        """(text, value) as a frame and the variable's regex give them."""
        rows = flux(self.server, self.complete(variable["query"]), self.token)
        found = []
        for row in rows:
            columns = [c for c in row if c not in ("result", "table")]
            # Of a series in time its values, of a table the first text.
            assert columns == ["_value"], variable["name"]
            text = value = row["_value"]
            if variable["regex"]:
                pattern = variable["regex"].strip("/").replace("(?<", "(?P<")
                match = re.search(pattern, text)
                assert match, text
                text, value = match["text"], match["value"]
            found.append((text, value))
        return found

    def complete(self, query):
        # In the browser first, then in its server.
        query = self._VARIABLE.sub(self._variable, query)
        for match in list(self._MACRO.finditer(query)):
            replacement = {
                "timeRangeStart": self.start,
                "timeRangeStop": self.stop,
                "windowPeriod": self.window,
                # Of the data source's settings, whatever stands before it.
                "bucket": '""',
                "defaultBucket": '""',
                "organization": f'"{self.server.org}"',
            }.get(match[2])
            if replacement is not None:
                query = query.replace(match[0], replacement)
        return query

    def _variable(self, match):
        name, kind = match[1] or match[3], match[2]
        if name not in self.values:
            return match[0]
        value = self.values[name]
        if value == ".*":  # An allValue goes in as it is.
            return value
        several = value if isinstance(value, list) else [value]
        if kind == "pipe":
            return "|".join(several)
        if kind == "regex":
            escaped = [
                re.sub(r"[\\^$*+?.()|\[\]{}/]", r"\\\g<0>", one)
                for one in several
            ]
            return (
                escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
            )
        assert kind is None
        assert isinstance(value, str), f"{match[0]}: several need a format"
        return value


@pytest.fixture(scope="module")
def influxdb(new_influxd):
    """One that has metrics."""
    server = new_influxd()
    server.has_metrics = True
    with server:
        yield server


@pytest.fixture(scope="module")
def server(influxdb):
    """With a scraper of its own metrics, as the README has it made."""
    bucket = make_bucket(influxdb, SERVER_BUCKET, 3 * 86400)
    scraper = call(
        influxdb,
        "POST",
        "/api/v2/scrapers",
        body={
            "name": "influxdb",
            "type": "prometheus",
            "url": influxdb.metrics_url(),
            "orgID": org_id(influxdb),
            "bucketID": bucket,
            "allowInsecure": False,
        },
    )["id"]
    yield influxdb
    call(influxdb, "DELETE", f"/api/v2/scrapers/{scraper}")
    call(influxdb, "DELETE", f"/api/v2/buckets/{bucket}")


@pytest.fixture(scope="module")
def token(influxdb):
    """As the README has it made: it may read, and no more."""
    return make_token(influxdb, ("read", "buckets"))


def scraped(server, times):
    """Wait until there is something to compute a rate from."""
    query = (
        f'from(bucket: "{SERVER_BUCKET}") |> range(start: -1h)'
        ' |> filter(fn: (r) => r._measurement == "go_threads") |> count()'
    )
    deadline = time.monotonic() + 120
    while True:
        rows = flux(server, query)
        if rows and rows[0]["_value"] >= times:
            return
        assert time.monotonic() < deadline, "nothing was scraped"
        time.sleep(1)


@pytest.fixture
def cloud(make_conf, monkeypatch):
    monkeypatch.setattr(recorder.random, "uniform", lambda *_: 3600.0)
    made = Cloud(make_conf(influxdb_health=True))
    yield made
    made.close()


def write_health(cloud):
    """What processes do each minute, once metricd has looked around."""
    counting = recorder.of(cloud.conf)
    cloud.incoming.measures_report(False)
    counting.raise_to(overdue=0.0, breakers_open=0.0)
    assert counting.write()


def test_every_query(cloud, server, token, bucket_prefix):
    found, silent = fill(cloud)
    read(cloud.storage, found[0], "mean", 60)
    write_health(cloud)
    scraped(server, 3)
    for name, dashboard in DASHBOARDS.items():
        # Windows as wide as two scrapes, for the rates of what has just
        # begun to be scraped.
        grafana = Grafana(server, token, dashboard, window="10s")
        grafana.load(prefix=bucket_prefix, bucket=cloud.bucket(silent))
        for panel in panels(dashboard):
            for target in panel["targets"]:
                query = grafana.complete(target["query"])
                assert "${" not in query
                rows = flux(server, query, token)
                check(name, panel, rows)
    # Both buckets are offered, and nothing else.
    assert grafana.texts["bucket"] == [
        bucket_prefix + policy for policy in ("high", "low")
    ]


def check(name, panel, rows):
    """That a panel of this kind shows these rows."""
    title = panel["title"]
    assert rows or title == "Points refused a second", (name, title)
    for row in rows:
        columns = row.keys() - {"result", "table"}
        if panel["type"] == "timeseries":
            assert columns - COLUMNS[title] == {"_time", "_value"}, title
        elif panel["type"] == "table":
            # With a _value and a time it would be taken for a series.
            assert columns == COLUMNS[title], title
        else:
            assert columns - {"_start", "_stop"} in (
                {"_value"},
                {"_time", "_value"},
            ), title
            assert len(rows) == 1, title
        for label in COLUMNS[title]:
            assert isinstance(row[label], (str, float)), title
    if panel["type"] == "timeseries":
        tables = {}
        for row in rows:
            tables.setdefault(row["table"], []).append(row)
        for table in tables.values():
            # A series a table: labels are taken from its first row.
            assert (
                len({tuple(row[c] for c in COLUMNS[title]) for row in table})
                == 1
            )
            times = [row["_time"] for row in table]
            assert times == sorted(set(times)), title


def downsample(cloud, policy):
    """What gnocchi-metricd does within some minutes."""
    job = Downsampler(cloud.storage.buckets, cloud.conf.storage)
    for target in cloud.storage.buckets.downsampled(policy):
        assert list(job.downsample(policy, target))


def rows_of(grafana, title):
    (panel,) = [p for p in panels(grafana.dashboard) if p["title"] == title]
    return [
        row
        for target in panel["targets"]
        for row in flux(
            grafana.server, grafana.complete(target["query"]), grafana.token
        )
    ]


def test_telemetry(cloud, influxdb, bucket_prefix):
    """The right metrics by the right names, and right numbers."""
    found, silent = fill(cloud)
    dashboard = DASHBOARDS["gnocchi-telemetry"]
    low = cloud.bucket(silent)

    def load(**chosen):
        return Grafana(influxdb, None, dashboard).load(
            prefix=bucket_prefix, bucket=low, **chosen
        )

    everything = load()
    in_low = {
        str(metric.id): metric
        for metric in found
        if metric.archive_policy.name == "low"
    }
    assert set(everything.texts["name"]) == {*NAMES, "-"}
    assert set(everything.values["metric"]) == set(in_low)
    assert f"cpu of {INSTANCE}" in everything.texts["metric"]
    rows = rows_of(everything, "Measures: mean of each window")
    for row in rows:
        metric = in_low[row["metric"]]
        assert row["name"] == (metric.name or "-")
        assert row["resource_id"] == str(metric.resource_id or "-")
    assert {row["metric"] for row in rows} == set(in_low)

    # By one name, and one that has to be escaped.
    for name in NAMES:
        chosen = load(name=[name])
        assert set(chosen.values["metric"]) == {
            id_ for id_, metric in in_low.items() if metric.name == name
        }
    # By resource.
    chosen = load(resource=[str(INSTANCE)])
    assert set(chosen.values["metric"]) == {
        id_ for id_, m in in_low.items() if m.resource_id == INSTANCE
    }
    # Both.
    chosen = load(name=["cpu", "memory.usage"], resource=[str(INSTANCE)])
    assert len(chosen.values["metric"]) == 2
    # 1e6 more each second.
    rates = rows_of(load(metric=[str(CPU)]), "Rate: change a second")
    assert len(rates) > 30
    times = [row["_time"] for row in rates]
    assert times == sorted(times)
    for row in rates:
        assert row["_value"] == pytest.approx(1e6, rel=1e-3)
        assert (row["name"], row["unit"]) == ("cpu", "ns")
    # The newest.
    rows = rows_of(everything, "Newest measures")
    assert len(rows) == len(in_low)
    assert [row["name"] for row in rows] == sorted(r["name"] for r in rows)
    (row,) = [row for row in rows if row["metric"] == str(CPU)]
    assert row["value"] == pytest.approx((4 * 3600 - 60) * 1e6)
    # What is not there is no error.
    assert rows_of(load(metric=[]), "Newest measures") == []
    assert load(name=["no such"]).values["metric"] == []


def test_long_ranges(cloud, influxdb, token, bucket_prefix):
    """Points as far as they reach, then the shortest windows that do."""
    long = archive_policy.ArchivePolicy(
        "long", 0, [(3600, 1), (4320, 60), (8760, 3600)], ["mean"]
    )
    cloud.index.create_archive_policy(long)
    (metric,) = cloud.metrics(1, "long")
    values = {recent(age): age / 1e3 for age in range(60, 5 * 3600, 60)}
    write(cloud.storage, {metric: values}, cloud.index)
    cloud.write_names()
    downsample(cloud, long)
    shown = {}
    for hours in (3, 60, 80):
        grafana = Grafana(
            influxdb, token, DASHBOARDS["gnocchi-telemetry"], hours, "1m0s"
        ).load(prefix=bucket_prefix, bucket=cloud.bucket(metric))
        assert grafana.texts["bucket"] == [f"{bucket_prefix}long"]
        rows = rows_of(grafana, "Measures: mean of each window")
        assert {row["metric"] for row in rows} == {str(metric.id)}
        shown[hours] = [row["_value"] for row in rows]
        assert rows_of(grafana, "Rate: change a second")
    assert 175 <= len(shown[3]) <= 180
    # There is a window for each point, but for the last quarter of an hour.
    assert 280 <= len(shown[60]) <= 290
    assert set(shown[60]) <= set(values.values())
    # Hours that are over.
    assert 4 <= len(shown[80]) <= 6
    assert shown[80] == pytest.approx(
        list(read(cloud.storage, metric, "mean", 3600).values())[
            : len(shown[80])
        ]
    )


def test_health(cloud, influxdb, bucket_prefix):
    found, silent = fill(cloud)
    low = [m for m in found if m.archive_policy.name == "low"]
    grafana = Grafana(influxdb, None, DASHBOARDS["gnocchi-health"]).load(
        prefix=bucket_prefix, bucket=cloud.bucket(silent)
    )

    def only(title):
        (row,) = rows_of(grafana, title)
        return row["_value"]

    assert only("Metrics with points") == len(low)
    assert only("Silent for an hour") == 1
    # Of each but the silent one those of 60 and 360 s ago, in 10 minutes.
    assert only("Points a minute, last 10 minutes") == pytest.approx(
        2 * (len(low) - 1) / 10
    )
    assert 60 <= only("Age of the newest point") < 400
    (row,) = rows_of(grafana, "Silent for an hour: which")
    assert row["metric"] == str(silent.id)
    assert row["name"] == "memory.usage"
    assert row["resource_id"] == str(silent.resource_id)
    rows = rows_of(grafana, "Points a minute")
    # A point of each metric in a window of five minutes.
    assert rows[-3]["_value"] == pytest.approx((len(low) - 1) / 5)


def test_health_of_the_driver(cloud, influxdb, bucket_prefix):
    """Numbers of several processes, and of an outage."""
    _, silent = fill(cloud)
    counting = recorder.of(cloud.conf)
    stored = counting._of_process().counts.sums["stored"]
    assert stored > 0
    for refused, waiting, overdue in ((0, 7, 0.0), (3, 1234, 7200.0)):
        counting.count(refused=refused, queued=5, reads=4, read_seconds=1)
        counting.raise_to(read_longest=0.5, overdue=overdue)
        counting.raise_to(breakers_open=bool(refused))
        counting.note(queue_bundles=waiting)
        assert counting.write()
    grafana = Grafana(
        influxdb, None, DASHBOARDS["gnocchi-health"], window="2m0s"
    ).load(prefix=bucket_prefix, bucket=cloud.bucket(silent))
    grafana.stop = "2100-01-01T00:00:00Z"

    def only(title):
        (row,) = rows_of(grafana, title)
        return row["_value"]

    assert only("Stored in the last hour") == stored
    assert only("Refused in the last hour") == 3
    assert only("Queued in the last hour") == 10
    assert only("Waiting in the queue") == 1234
    assert only("Windows overdue") == 7200
    assert only("Processes that write") == 1
    sums = {}
    for row in rows_of(grafana, "Measures a minute"):
        sums[row["what"]] = sums.get(row["what"], 0) + 2 * row["_value"]
    assert sums == {"stored": stored, "refused": 3, "queued": 10}
    times = {}
    for row in rows_of(grafana, "Time of a read and of a write"):
        times.setdefault(row["what"], set()).add(row["_value"])
    assert times["read, mean"] == {0.25}
    assert times["read, longest"] == {0.5}
    assert 0 < max(times["write, mean"]) <= max(times["write, longest"])


def test_thresholds_and_units():
    """Of what an operator looks at; every number has a unit."""
    found = {
        panel["title"]: panel["fieldConfig"]["defaults"]
        for panel in panels(DASHBOARDS["gnocchi-health"])
        if panel["type"] != "table"
    }
    assert {t for t, each in found.items() if not each.get("unit")} == set()
    for title, *values in (
        ("Refused in the last hour", 1),
        ("Points refused a second", 0.001),
        ("Silent for an hour", 1, 100),
        ("Waiting in the queue", 1000, 10000),
        ("Windows overdue", 3600, 9 * 3600),
    ):
        steps = found[title]["thresholds"]["steps"]
        assert [step["value"] for step in steps] == [None, *values]
        assert steps[0]["color"] == "green"
        assert steps[-1]["color"] == "red"


def test_the_servers_own_metrics(cloud, server, bucket_prefix):
    """By the names that this InfluxDB gives them."""
    _, silent = fill(cloud)
    scraped(server, 2)
    grafana = Grafana(
        server, None, DASHBOARDS["gnocchi-health"], window="10s"
    ).load(prefix=bucket_prefix, bucket=cloud.bucket(silent))
    # A metric in the bucket of `high`: its points, and its name.
    deadline = time.monotonic() + 120
    newest = {}
    while newest.get(bucket_prefix + "high") != 2:
        assert time.monotonic() < deadline, newest
        time.sleep(1)
        grafana.stop = "2100-01-01T00:00:00Z"
        newest = {
            row["name"]: row["_value"] for row in rows_of(grafana, "Series")
        }
    assert newest[bucket_prefix + "low"] > 8
    paths = {row["path"] for row in rows_of(grafana, "Requests")}
    assert "/api/v2/write" in paths


# The files ---------------------------------------------------------------


def test_dashboards_are_well_formed():
    assert set(DASHBOARDS) == {"gnocchi-telemetry", "gnocchi-health"}
    provisioned = yaml.safe_load(
        (CONTRIB / "provisioning/datasources/influxdb.yaml").read_text()
    )
    (source,) = provisioned["datasources"]
    for name, dashboard in DASHBOARDS.items():
        assert dashboard["uid"] == name
        assert dashboard["id"] is None
        assert dashboard["schemaVersion"] >= 36
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(ids) == len(set(ids))
        titles = [panel["title"] for panel in dashboard["panels"]]
        assert len(titles) == len(set(titles))
        for part in (
            *panels(dashboard),
            *(t for p in panels(dashboard) for t in p["targets"]),
            *(
                v
                for v in dashboard["templating"]["list"]
                if v["type"] == "query"
            ),
        ):
            assert part["datasource"] == {
                "type": source["type"],
                "uid": "${datasource}",
            }
        # The first of the variables, since the others ask it.
        chosen = dashboard["templating"]["list"][0]
        assert chosen["name"] == chosen["type"] == "datasource"
        assert chosen["query"] == source["type"]
        assert chosen["current"]["value"] == source["uid"]
        spots = set()
        for panel in dashboard["panels"]:
            at = panel["gridPos"]
            here = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not here & spots, panel["title"]
            assert at["x"] + at["w"] <= 24
            spots |= here
        names = {v["name"] for v in dashboard["templating"]["list"]}
        text = json.dumps(dashboard)
        # Those in the legends are Grafana's own.
        used = set(re.findall(r"\$\{(\w+)[:}]", text))
        assert source["uid"] not in json.dumps(dashboard["panels"])
        assert used <= names
        for link in dashboard["links"]:
            assert link["url"].removeprefix("/d/") in DASHBOARDS
    assert {title for _, title, _ in QUERIES} == set(COLUMNS)


@pytest.mark.parametrize(("name", "title", "ref"), QUERIES)
def test_nothing_that_grafana_would_replace(name, title, ref):
    """``r.bucket`` becomes the name of the data source's bucket."""
    (query,) = [
        target["query"]
        for panel in panels(DASHBOARDS[name])
        if panel["title"] == title
        for target in panel["targets"]
        if target["refId"] == ref
    ]
    assert not re.search(
        r"\b(?!v\.)\w+\.(bucket|defaultBucket|organization|timeRange\w+|"
        r"windowPeriod)\b",
        query,
    )


def test_provisioning():
    source = yaml.safe_load(
        (CONTRIB / "provisioning/datasources/influxdb.yaml").read_text()
    )["datasources"][0]
    assert source["jsonData"]["version"] == "Flux"
    assert source["jsonData"]["tlsSkipVerify"] is False
    assert source["secureJsonData"]["token"] == "$INFLUXDB_TOKEN"
    assert source["url"] == "$INFLUXDB_URL"
    provider = yaml.safe_load(
        (CONTRIB / "provisioning/dashboards/gnocchi.yaml").read_text()
    )["providers"][0]
    assert provider["type"] == "file"
