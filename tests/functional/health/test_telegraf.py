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
"""The input of Telegraf that doc/source/health.rst has for Prometheus."""

import csv
import io
import os
import re
import shutil
import subprocess
import textwrap
import time
import urllib.request

import pytest
import tomllib
from servers import free_port

from gnocchi_influxdb.health import recorder
from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support import ROOT

WANTED = {"stored": 600.0, "refused": 3.0, "read_longest": 0.5}


def snippet():
    page = (ROOT / "doc/source/health.rst").read_text()
    (text,) = re.findall(
        r"^\.\. code-block:: toml\n\n((?:   .*\n|\n)+)", page, re.M
    )
    return textwrap.dedent(text)


@pytest.fixture
def driver(make_conf, monkeypatch):
    """Two lines have been written."""
    monkeypatch.setattr(recorder.random, "uniform", lambda *_: 3600.0)
    conf = make_conf(influxdb_health=True)
    counting = recorder.of(conf)
    for refused in (0, 3):
        counting.count(stored=300, refused=refused)
        counting.raise_to(read_longest=0.5)
        assert counting.write()
    return InfluxDBStorage(conf.storage)


def test_the_query(driver, bucket_prefix):
    """Telegraf takes the first line for names, and skips what is empty."""
    (source,) = tomllib.loads(snippet())["inputs"]["http"]
    assert source["csv_header_row_count"] == 1
    query = source["body"].replace('"gnocchi-@', f'"{bucket_prefix}@')
    answer = driver.client.query(query).decode()
    (row,) = csv.DictReader(io.StringIO(answer.strip()))
    assert set(source["csv_tag_columns"]) < row.keys()
    assert row["process"] == "api"
    numbers = {
        name: float(text)
        for name, text in row.items()
        if name not in ("", *source["fieldexclude"], "host", "process")
    }
    assert numbers.items() > WANTED.items()


@pytest.mark.only_2x("the URL of the page")
@pytest.mark.skipif(not shutil.which("telegraf"), reason="no telegraf here")
def test_telegraf(driver, influxdb, bucket_prefix, tmp_path):
    port = free_port()
    config = snippet()
    for old, new in (
        ("http://localhost:8086", influxdb.url),
        ("org=gnocchi", f"org={influxdb.org}"),
        ("gnocchi-@", f"{bucket_prefix}@"),
        (":9273", f"127.0.0.1:{port}"),
        ('interval = "1m"', 'interval = "1s"'),
    ):
        assert old in config
        config = config.replace(old, new)
    path = tmp_path / "telegraf.conf"
    path.write_text(config)
    process = subprocess.Popen(
        ["telegraf", "--config", path],
        env=dict(os.environ, INFLUX_TOKEN=influxdb.token),
    )
    try:
        deadline = time.monotonic() + 90
        text = ""
        while "gnocchi_influxdb_stored" not in text:
            assert time.monotonic() < deadline
            time.sleep(1)
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{port}/metrics"
                ) as reply:
                    text = reply.read().decode()
            except OSError:
                continue
    finally:
        process.terminate()
        process.wait(30)
    for name, value in WANTED.items():
        assert re.search(
            rf'^gnocchi_influxdb_{name}{{host="[^"]+",process="api"}} '
            rf"{value:g}$",
            text,
            re.M,
        )
