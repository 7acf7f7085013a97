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

"""`influx` of InfluxDB's image, for those who have Docker and no Go."""

import io
import pathlib
import shutil
import subprocess
import tarfile

import pytest
import servers
from servers import docker, influx_cli

NAME = "gnocchi-influxdb-test"


@pytest.fixture
def make_image(monkeypatch, tmp_path):
    """Makes the image that `influx` is taken from."""
    made = set()

    def make(**files):
        archive = tmp_path / "image.tar"
        with tarfile.open(archive, "w") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(f"usr/local/bin/{name}")
                member.size, member.mode = len(content), 0o755
                tar.addfile(member, io.BytesIO(content))
        made.add(
            docker.run(
                *("import", "--change", 'CMD ["influxd"]'),
                *("--change", "VOLUME /var/lib/influxdb2", str(archive), NAME),
            )
        )

    monkeypatch.setattr(docker, "IMAGE", NAME)
    client = tmp_path / "bin"
    client.mkdir()
    (client / "docker").symlink_to(pathlib.Path(shutil.which("docker")))
    monkeypatch.setenv("PATH", str(client))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield make
    docker.run("image", "rm", "--force", *made)


def everything():
    return (
        docker.run("ps", "--all", "--quiet"),
        docker.run("volume", "ls", "--quiet"),
    )


def test_from_the_image(make_image):
    make_image(influx=b"#!/bin/sh\necho it is\n")
    before = everything()
    program = influx_cli.find()
    done = subprocess.run([program], capture_output=True, check=True)
    assert done.stdout == b"it is\n"
    assert everything() == before
    # Once for all.
    make_image(influx=b"another")
    assert influx_cli.find() == program


def test_not_in_the_image(make_image):
    make_image(influxd=b"#!/bin/sh\n")
    before = everything()
    with pytest.raises(servers.ServerError, match="docker cp"):
        influx_cli.find()
    assert everything() == before
