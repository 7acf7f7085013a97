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
"""What gnocchi-api and gnocchi-metricd log while InfluxDB is away."""

import base64
import collections
import contextlib
import datetime
import json
import os
import re
import time
import urllib.error
import urllib.request
import uuid

import pytest
from demo import services

METRICS = 300
DELETED = 136
# More of them show what is bounded and what is not.
SECONDS = float(os.environ.get("GNOCCHI_TEST_OUTAGE", "45"))
# Lines of each process: beginnings and ends, and some each minute.
MOST = 10 + 4 * SECONDS / 60

ADMIN = "basic " + base64.b64encode(b"admin:").decode()
LINE = re.compile(r"[-\d]{10} [:,\d]{12} \[(\d+)\] +([A-Z]+) ")


class Gnocchi(services.Gnocchi):
    def _upgrade(self):
        process = self._process("gnocchi-upgrade", "--sacks-number", "128")
        try:
            process.start()
            process.wait(120, self._say)
        finally:
            process.stop()

    def call(self, method, path, body=None):
        """(status, document)"""
        request = urllib.request.Request(
            self.url + path,
            None if body is None else json.dumps(body).encode(),
            {"Authorization": ADMIN, "Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, None

    def waiting(self):
        return self.call("GET", "/v1/status")[1]["storage"]["summary"]

    def log(self, name):
        return (self._state / f"{name}.log").read_text(errors="replace")


@pytest.fixture
def gnocchi(tmp_path, fresh_influxd, indexer_url):
    from gnocchi.indexer import sqlalchemy

    prefix = "test/" if fresh_influxd.release == 1 else "test-"
    config = services.configuration(
        {
            "driver": "influxdb",
            "influxdb_url": fresh_influxd.url,
            "influxdb_org": fresh_influxd.org,
            "influxdb_token": fresh_influxd.token,
            "influxdb_bucket_prefix": prefix,
        },
        sqlalchemy.SQLAlchemyIndexer._create_new_database(indexer_url),
        tmp_path,
    )
    made = Gnocchi(tmp_path, config, print)
    made.upgrade(shared=False)
    with contextlib.ExitStack() as exits:
        made.start_api(exits)
        made.start_metricd(exits)
        yield made


def post(gnocchi, metrics, times):
    """A measure for each metric at the next time."""
    at = datetime.datetime.fromtimestamp(next(times), datetime.timezone.utc)
    body = {
        metric: [{"timestamp": at.isoformat(), "value": 1.0}]
        for metric in metrics
    }
    assert gnocchi.call("POST", "/v1/batch/metrics/measures", body)[0] == 202


def wait_for(what):
    last = time.monotonic() + 300
    while not what():
        assert time.monotonic() < last
        time.sleep(0.5)


def test_an_outage_is_quiet(gnocchi, fresh_influxd):
    metrics = [
        gnocchi.call(
            "POST",
            "/v1/metric",
            {"archive_policy_name": ("low", "medium", "high")[i % 3]},
        )[1]["id"]
        for i in range(METRICS + DELETED)
    ]
    now = int(time.time())
    times = iter(range(now - 3600, now))
    post(gnocchi, metrics, times)
    metrics, deleted = metrics[:METRICS], metrics[METRICS:]
    before = {
        name: len(gnocchi.log(name))
        for name in ("gnocchi-api", "gnocchi-metricd")
    }
    fresh_influxd.stop()
    posts, failed = 1, 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        post(gnocchi, metrics, times)
        posts += 1
        for id_ in (metrics[posts % METRICS], str(uuid.uuid4())):
            path = f"/v1/metric/{id_}/measures"
            failed += gnocchi.call("GET", path)[0] == 503
        if deleted:
            gnocchi.call("DELETE", f"/v1/metric/{deleted.pop()}")
        if len(deleted) > DELETED - 20:
            continue
        while deleted:
            gnocchi.call("DELETE", f"/v1/metric/{deleted.pop()}")
    assert failed > 5
    fresh_influxd.start()
    wait_for(lambda: gnocchi.waiting()["measures"] == 0)
    # Nothing is lost.
    for id_ in metrics:
        path = f"/v1/metric/{id_}/measures?aggregation=count&granularity="
        for granularity in 300, 60, 1:
            status, rows = gnocchi.call("GET", path + str(granularity))
            if status == 200:
                break
        assert sum(row[2] for row in rows) == posts
    # In time for the ends of what failed, too.
    wait_for(lambda: "deletes points again" in gnocchi.log("gnocchi-metricd"))
    post(gnocchi, metrics, times)
    said = {name: gnocchi.log(name)[start:] for name, start in before.items()}
    text = "\n".join(said.values())
    print(text)
    assert "Traceback" not in text
    lines = collections.Counter(
        (name, found[1])
        for name, of_one in said.items()
        for found in map(LINE.match, of_one.splitlines())
        if found
    )
    print(posts, failed, lines)
    assert max(lines.values()) <= MOST
    for what in (
        "Measures go to the queue until",
        "InfluxDB takes measures again",
        "Requests are answered 503:",
        "Requests are answered again",
        "Measures stay in the queue until",
        "Points of deleted metrics stay until",
    ):
        assert what in text
