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
"""The units and what the image takes in, as far as they can be tried without
running them.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest

from .conftest import ROOT

CONTRIB = ROOT / "contrib"
DOCKER = CONTRIB / "docker"
UNITS = sorted((CONTRIB / "systemd").glob("*.service"))


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
