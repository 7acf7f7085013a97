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

"""The compose files on a real engine, as their readers run them.

Skipped where Compose or one of the images is not at hand: nothing is pulled.
The image of Gnocchi is built, with pip of its base image.
"""

import base64
import contextlib
import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
import servers
from servers import docker

from tests.packaging import conftest as packaging
from tests.support import ROOT
from tests.support.compose import (
    SOON,
    Project,
    everything,
    need_images,
    new_volumes,
)

IMAGE = "gnocchi-influxdb-test"
VERSION = "1.2.3"
#: What stands for itself in .env between single quotes only.
SECRET = "/@:#% $HOME [\\&"
TOKEN = "an-administrators-token"

make_repository = packaging.make_repository


@pytest.fixture
def leaves_nothing():
    before = everything()
    yield before
    assert everything() == before


class Gnocchi:
    """A metric, by way of the API."""

    def __init__(self, url):
        self._url = url
        self.metric = None
        self.accepted = {}

    def call(self, method, path, body=None):
        request = urllib.request.Request(
            f"{self._url}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                "Authorization": "Basic "
                + base64.b64encode(b"admin:").decode(),
            },
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or "null")

    def create(self):
        made = self.call("POST", "metric", {"archive_policy_name": "high"})
        self.metric, self.accepted = made["id"], {}
        self._next = int(time.time()) - 1800

    def post(self):
        second, self._next = self._next, self._next + 1
        body = [{"timestamp": second, "value": second % 1009}]
        self.call("POST", f"metric/{self.metric}/measures", body)
        self.accepted[second] = second % 1009

    def missing(self):
        """Accepted measures that a read does not show."""
        found = self.call(
            "GET",
            f"metric/{self.metric}/measures?aggregation=mean&granularity=1",
        )
        values = {time: value for time, _, value in found}
        return {
            second
            for second, value in self.accepted.items()
            if values.get(time.strftime("%FT%T+00:00", time.gmtime(second)))
            != value
        }

    @contextlib.contextmanager
    def load(self):
        """Post until the end, whatever is answered."""
        over = threading.Event()

        def run():
            while not over.wait(0.05):
                with contextlib.suppress(OSError):
                    self.post()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def lose_nothing(self):
        """What has waited in the queue is stored soon."""
        end = time.monotonic() + SOON
        while lost := self.missing():
            assert time.monotonic() < end, sorted(lost)
            time.sleep(1)


@pytest.fixture
def gnocchi(make_repository, tmp_path, leaves_nothing):
    """contrib/docker in a clone, with a secret of each sort."""
    clone = make_repository()
    packaging.git(clone, "tag", VERSION)
    directory = clone / "contrib" / "docker"
    text = (directory / "Dockerfile").read_text()
    need_images(directory / "compose.yml", *re.findall("FROM (\\S+)", text))
    port = servers.free_port()
    example = (directory / ".env.example").read_text()
    filled = re.sub(
        r"(?m)^(\w+)=$",
        lambda found: f"{found[1]}='{SECRET}'",
        example.replace("TOKEN=", f"TOKEN={TOKEN}").replace(
            "127.0.0.1:8041", f"127.0.0.1:{port}"
        ),
    )
    (directory / ".env").write_text(filled)
    other = tmp_path / "other.yml"
    # Not the one that somebody may be using.
    services = {
        name: {"image": IMAGE} for name in ("upgrade", "api", "metricd")
    }
    services["upgrade"]["build"] = {"network": "host"}
    other.write_text(json.dumps({"services": services}))
    project = Project(directory, "compose.yml", other)
    project.api = Gnocchi(f"http://127.0.0.1:{port}")
    try:
        yield project
    finally:
        project("down", "--volumes")
        with contextlib.suppress(servers.ServerError):
            docker.run("image", "rm", "--force", IMAGE)


def test_gnocchi(gnocchi, leaves_nothing):
    api = gnocchi.api
    gnocchi.up("--build")
    said = gnocchi("exec", "-T", "api", "pip", "show", "gnocchi-influxdb")
    assert f"\nVersion: {VERSION}\n" in said
    api.create()
    api.post()
    assert not api.missing()
    with api.load():
        for service in ("influxdb", "metricd", "api", "postgresql"):
            docker.run("kill", gnocchi.container(service))
            time.sleep(3)
            gnocchi.up()
    assert len(api.accepted) > 20
    api.lose_nothing()

    # Neither volumes without a name, nor another token.
    gnocchi("down")
    named = {
        f"{gnocchi.name}_{name}"
        for name in (
            *("influxdb", "influxdb-config", "postgresql", "queue", "token"),
        )
    }
    assert new_volumes(leaves_nothing) == named
    gnocchi.up()
    assert "There is a token already" in gnocchi("logs", "token")
    api.lose_nothing()
    for secret in (SECRET, TOKEN):
        assert secret not in gnocchi("logs")

    # An upgrade that can't end ends.
    said = gnocchi(
        *("run", "--rm", "--no-deps"),
        *("-e", "OS_INDEXER__URL=postgresql://gnocchi:p/@:w@postgresql/g"),
        "upgrade",
        status=124,
        UPGRADE_TIMEOUT="30s",
    )
    assert "Unable to initialize indexer driver" in said

    # InfluxDB is set up anew, and the token is still there.
    gnocchi("down")
    docker.run("volume", "rm", *(f"{gnocchi.name}_influxdb",))
    docker.run("volume", "rm", *(f"{gnocchi.name}_influxdb-config",))
    gnocchi.up()
    assert "Another is made" in gnocchi("logs", "token")
    api.create()
    api.post()
    assert not api.missing()


@pytest.fixture
def servers_for_tests(leaves_nothing):
    path = ROOT / "docker-compose.yml"
    need_images(path)
    for port in (8086, 5432):
        with socket.socket() as mine:
            if not mine.connect_ex(("127.0.0.1", port)):
                pytest.skip(f"somebody else listens on port {port}")
    project = Project(ROOT, path)
    try:
        yield project
    finally:
        project("down", "--volumes")


def test_servers_for_tests(servers_for_tests, leaves_nothing):
    up = servers_for_tests
    influx = ("exec", "-T", "influxdb", "influx", "bucket", "list")
    up.up()
    assert "default" in up(*influx)
    up("down")
    assert new_volumes(leaves_nothing) == {
        f"{up.name}_{name}"
        for name in ("influxdb", "influxdb-config", "postgresql")
    }
    up.up()
    assert "default" in up(*influx)
