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

"""Finds `influx`, InfluxDB's command line, or gets it once per user."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile

from servers import docker
from servers.process import Say, ServerError

_MODULE = pathlib.Path(__file__).resolve().parents[2] / "influx-cli"
_PACKAGE = "github.com/influxdata/influx-cli/v2/cmd/influx"


def find(say: Say = print) -> pathlib.Path:
    """The first of: `influx` on PATH, one got before, one got now.

    With Go it is built, without Go copied from InfluxDB's image.

    :raises ServerError: there is none, and why it can't be got
    """
    on_path = shutil.which("influx")
    if on_path is not None:
        return pathlib.Path(on_path)
    cache = os.environ.get("XDG_CACHE_HOME")
    root = pathlib.Path(cache) if cache else pathlib.Path.home() / ".cache"
    target = root / "gnocchi-influxdb" / "influx-cli" / "influx"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Under another name first: there may be two who get it.
        with tempfile.TemporaryDirectory(dir=target.parent) as workshop:
            new = pathlib.Path(workshop, "influx")
            if shutil.which("go"):
                _build(new, say)
            else:
                _copy(new, say)
            new.replace(target)
    return target


def _build(target: pathlib.Path, say: Say) -> None:
    say("building influx from its Go modules, some seconds ...")
    done = subprocess.run(
        ["go", "build", "-buildvcs=false", "-o", target, _PACKAGE],
        cwd=_MODULE,
        env={**os.environ, "CGO_ENABLED": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ServerError(f"building influx failed:\n{done.stderr[-2000:]}")


def _copy(target: pathlib.Path, say: Say) -> None:
    trouble = docker.trouble()
    if trouble is not None:
        raise ServerError(
            "no influx on PATH, no Go to build it with, no image to take it"
            f" from ({trouble})"
        )
    docker.pull(say)
    container = docker.run("create", docker.IMAGE)
    try:
        docker.run("cp", f"{container}:/usr/local/bin/influx", str(target))
    finally:
        docker.run("rm", "--force", "--volumes", container)
