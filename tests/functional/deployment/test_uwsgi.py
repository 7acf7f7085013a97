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
"""gnocchi-api as contrib/uwsgi has it, on real servers."""

import base64
import concurrent.futures
import datetime
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import sys
import time

import psutil
import pytest
import servers.process
from demo import services

from tests.support import ROOT

pytestmark = pytest.mark.only_2x("it is the same API")

INI = ROOT / "contrib" / "uwsgi" / "gnocchi-api.ini"
ADMIN = "basic " + base64.b64encode(b"admin:").decode()
CLIENTS = 16
METRICS = 4


def adapted(port, config_file):
    """The file with nothing changed but where it listens and reads."""
    text = INI.read_text()
    for old, new in (
        ("http = 127.0.0.1:8041", f"http = 127.0.0.1:{port}"),
        (
            "--config-file=/etc/gnocchi/gnocchi.conf",
            f"--config-file={config_file}",
        ),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


class Api:
    """uWSGI, with the socket that systemd would give it.

    :param gnocchi: a Gnocchi of which nothing runs yet.
    """

    def __init__(self, directory, gnocchi):
        self.port = servers.free_port()
        self.log = directory / "uwsgi.log"
        ini = directory / "gnocchi-api.ini"
        ini.write_text(adapted(self.port, gnocchi.config_file))
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(directory / "notify"))
        self.notify.settimeout(120)
        environment = {
            name: value
            for name, value in os.environ.items()
            if not re.match(r"OS_|UWSGI_", name)
        }
        environment |= {
            "VIRTUAL_ENV": sys.prefix,
            "NOTIFY_SOCKET": str(directory / "notify"),
        }
        uwsgi = pathlib.Path(sys.executable).with_name("uwsgi")
        self.process = servers.process.spawn(
            [uwsgi, f"--ini={ini}"], self.log, env=environment
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            # At once, with all that it started.
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
        self.notify.close()

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def said(self):
        return self.log.read_text(errors="replace")


def call(connection, method, path, body=None):
    connection.request(
        method,
        path,
        body=None if body is None else json.dumps(body),
        headers={"Authorization": ADMIN, "Content-Type": "application/json"},
    )
    reply = connection.getresponse()
    text = reply.read()
    assert reply.status < 300, (reply.status, text)
    return json.loads(text) if text else None


@pytest.fixture
def gnocchi(tmp_path, influxdb, indexer_url, bucket_prefix):
    from gnocchi.indexer import sqlalchemy

    config = services.configuration(
        {
            "driver": "influxdb",
            "influxdb_url": influxdb.url,
            "influxdb_org": influxdb.org,
            "influxdb_token": influxdb.token,
            "influxdb_bucket_prefix": bucket_prefix,
        },
        sqlalchemy.SQLAlchemyIndexer._create_new_database(indexer_url),
        tmp_path,
    )
    made = services.Gnocchi(tmp_path, config, print)
    made.upgrade(shared=False)
    return made


def store_and_read(api, number):
    """What a client does, over one connection; its metrics' values."""
    connection = api.connection()
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    for i in range(METRICS):
        value = float(100 * number + i)
        metric = call(
            connection,
            "POST",
            "/v1/metric",
            {"archive_policy_name": "low"},
        )["id"]
        if i == 0:
            kept = connection.sock
        call(
            connection,
            "POST",
            f"/v1/metric/{metric}/measures",
            [{"timestamp": now.isoformat(), "value": value}],
        )
        rows = call(
            connection,
            "GET",
            f"/v1/metric/{metric}/measures?granularity=300&aggregation=mean",
        )
        assert [row[2] for row in rows] == [value]
    # The one that it began with.
    assert connection.sock is kept
    connection.close()


def test_api(gnocchi, tmp_path, influxdb):
    with Api(tmp_path, gnocchi) as api:
        said = b""
        while b"READY=1" not in said:
            said = api.notify.recv(4096)
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda i: store_and_read(api, i), range(CLIENTS)))
        children = psutil.Process(api.process.pid).children(recursive=True)
        # Four that work and the one that speaks HTTP.
        assert len(children) == 5
        idle = api.connection()
        call(idle, "GET", "/")
        time.sleep(1)
        call(idle, "GET", "/")
        # An idle client does not keep it from ending.
        api.process.send_signal(signal.SIGTERM)
        assert api.process.wait(120) == 0
        assert not any(child.is_running() for child in children)
    log = api.said()
    assert "goodbye to uWSGI" in log
    assert "Traceback" not in log
    assert influxdb.token not in log
    password = re.search(
        r"(?m)^url = [^:]+://[^:]+:([^@]+)@", gnocchi.config_file.read_text()
    )[1]
    assert password not in log


def test_gnocchi_that_can_not_be_loaded(gnocchi, tmp_path):
    """It ends, for systemd to see, and does not answer 500 for ever."""
    gnocchi.config_file.unlink()
    with Api(tmp_path, gnocchi) as api:
        assert api.process.wait(120) != 0
