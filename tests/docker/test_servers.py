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
"""InfluxDB in a container, as tests and tools start it."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
import servers
from servers import api, docker


@pytest.fixture
def container():
    with docker.InfluxDBContainer() as running:
        yield running


def status(server, path):
    try:
        with api.urllib.request.urlopen(
            f"{server.url}{path}", timeout=10
        ) as a:
            return a.status
    except api.urllib.error.HTTPError as error:
        return error.code


def listed():
    return docker.run(
        *("ps", "--all", f"--filter=label={docker.LABEL}"),
        *("--format", "{{.Names}}"),
    ).splitlines()


def volumes():
    return set(docker.run("volume", "ls", "--quiet").splitlines())


def test_settings_of_a_later_start(container):
    buckets = api.buckets(container.url, container.token, container.org, "")
    assert status(container, "/metrics") != 200
    container.stop()
    container.has_metrics = container.has_profiles = True
    container.start()
    assert status(container, "/metrics") == 200
    assert status(container, "/debug/pprof/cmdline") == 200
    # It is the same server.
    assert buckets == api.buckets(
        container.url, container.token, container.org, ""
    )


def test_freeze_and_thaw(container):
    container.freeze()
    assert not api.is_healthy(container.url)
    container.thaw()
    container.thaw()
    assert api.is_healthy(container.url)
    # Whatever state it is in.
    container.freeze()
    container.kill()
    assert container.pid is None
    container.start()
    container.freeze()


def test_nothing_is_left():
    before = volumes(), listed()
    with docker.InfluxDBContainer() as running:
        running.has_metrics = True
        running.restart()
    assert (volumes(), listed()) == before


def test_killed_run_is_cleaned_up():
    before = volumes()
    program = (
        "from servers import docker; s = docker.InfluxDBContainer();"
        "s.start(); print('up', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout.readline() == "up\n"
        os.kill(run.pid, signal.SIGKILL)
    left = [name for name in listed() if f"-{run.pid}-" in name]
    assert len(left) == 1
    said = []
    with docker.InfluxDBContainer(said.append) as mine:
        # Those of a run that goes on stay.
        docker.remove_left_over(said.append)
        assert mine.pid is not None
    assert any("killed run" in one for one in said)
    assert not set(left) & set(listed())
    assert volumes() == before


def test_engine_that_cannot_be_used(monkeypatch, tmp_path):
    socket = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
    monkeypatch.setenv("GNOCCHI_INFLUXDB_FROM", "docker")
    with pytest.raises(servers.ServerError, match=str(socket)):
        servers.find_influxdb_server(print, may_build=False)
    monkeypatch.delenv("GNOCCHI_INFLUXDB_FROM")
    client = pathlib.Path(shutil.which("docker"))
    monkeypatch.setenv("PATH", str(client.parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(servers.ServerError, match=str(socket)):
        servers.find_influxdb_server(print, may_build=False)
