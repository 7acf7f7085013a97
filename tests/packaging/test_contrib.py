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
"""The units and the compose file, as far as they can be tried without running
them.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from .conftest import ROOT, run

CONTRIB = ROOT / "contrib"
DOCKER = CONTRIB / "docker"
UNITS = sorted((CONTRIB / "systemd").glob("*.service"))
PASSWORD = "0123456789abcdef"


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze"
)
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_understands_the_unit(unit, tmp_path):
    text = unit.read_text()
    # That the programs are there is looked at, too: any will do.
    text, number = re.subn(r"(?m)^(Exec\w+=)\S+", rf"\1{sys.executable}", text)
    assert number
    (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit.name)],
        capture_output=True,
        text=True,
        check=False,
    )
    # A key that it does not know is a warning, of status 0.
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_units_start_programs_that_there_are():
    wanted = {
        re.search(r"(?m)^ExecStart=/opt/gnocchi/bin/(\S+)", u.read_text())[1]
        for u in UNITS
    }
    assert wanted == {"uwsgi", "gnocchi-metricd"}


def compose(*arguments, env_file):
    return run(
        *("docker", "compose", "--env-file", env_file, *arguments), cwd=DOCKER
    )


def has_compose():
    if shutil.which("docker") is None:
        return False
    done = subprocess.run(
        ["docker", "compose", "version"], capture_output=True, check=False
    )
    return done.returncode == 0


needs_compose = pytest.mark.skipif(
    not has_compose(), reason="no docker client with compose"
)


@pytest.fixture
def env_file(tmp_path):
    """The example, filled in as it says."""
    text, number = re.subn(
        r"(?m)^(\w+)=$",
        rf"\1={PASSWORD}",
        (DOCKER / ".env.example").read_text(),
    )
    assert number
    path = tmp_path / ".env"
    path.write_text(text)
    return path


@needs_compose
def test_compose_file(env_file):
    config = json.loads(compose("config", "--format=json", env_file=env_file))
    services = config["services"]
    assert set(services) == {
        *("influxdb", "postgresql", "token", "upgrade", "api", "metricd"),
    }
    # Only the API can be reached, and from this host only.
    ports = {
        name: [(port["host_ip"], port["target"]) for port in one["ports"]]
        for name, one in services.items()
        if "ports" in one
    }
    assert ports == {"api": [("127.0.0.1", 8041)]}
    # The administrator's token and password stay where they are needed.
    for name in ("upgrade", "api", "metricd"):
        given = services[name]["environment"]
        assert set(given) == {"INFLUXDB_TOKEN_FILE", "OS_INDEXER__URL"}
        assert services[name]["build"]["context"] == str(ROOT)
    assert (ROOT / services["api"]["build"]["dockerfile"]).exists()
    for one in services.values():
        for volume in one.get("volumes", ()):
            if volume["type"] == "bind":
                assert pathlib.Path(volume["source"]).is_file()


@needs_compose
def test_compose_asks_for_each_secret(env_file):
    for name in re.findall(
        r"(?m)^(\w+)=$", DOCKER.joinpath(".env.example").read_text()
    ):
        kept = [
            line
            for line in env_file.read_text().splitlines()
            if not line.startswith(name)
        ]
        without = env_file.with_name("without")
        without.write_text("\n".join(kept))
        with pytest.raises(AssertionError, match=f"{name}.*set it in .env"):
            compose("config", env_file=without)


@needs_compose
def test_compose_file_of_the_tests(tmp_path):
    run("docker", "compose", "--project-directory", ROOT, "config", cwd=ROOT)


def test_no_secret_in_the_image():
    """Nothing of it is in a file that the image takes in."""
    for name in ("Dockerfile", "gnocchi.conf"):
        text = (DOCKER / name).read_text()
        assert not re.search(r"(?im)^\s*[^#\n]*(token|password)\s*=", text)
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored.index("contrib/docker/.env") > ignored.index("!contrib")


def test_what_the_image_copies_is_there():
    text = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ")
    copied = [
        word
        for line in re.findall(r"(?m)^COPY (.*)$", text)
        for word in line.split()[:-1]
        if not word.startswith("--") and word != "."
    ]
    assert copied
    for name in copied:
        assert (ROOT / name).is_file()
    # What is changed in it while the image is built.
    ini = (CONTRIB / "uwsgi" / "gnocchi-api.ini").read_text()
    assert len(re.findall(r"(?m)^http = ", ini)) == 1


def test_with_token(tmp_path):
    file = tmp_path / "token"
    program = [
        str(DOCKER / "with-token"),
        *("sh", "-c", 'echo "got $OS_STORAGE__INFLUXDB_TOKEN"'),
    ]

    def start(**more):
        done = subprocess.run(
            program,
            env={"PATH": os.environ["PATH"], **more},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    assert start(INFLUXDB_TOKEN_FILE=str(file)) == (
        1,
        f"with-token: no token in {file}\n",
    )
    file.write_text("abc==\n")
    assert start(INFLUXDB_TOKEN_FILE=str(file)) == (0, "got abc==\n")
    assert start(OS_STORAGE__INFLUXDB_TOKEN="its own") == (0, "got its own\n")
