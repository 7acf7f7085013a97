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

"""A Docker engine for tests: the one there is, or one that is started.

One is started where root may install Debian's docker.io and the environment
says `CI`. It has a socket and directories of its own, makes no rules for the
machine's network, and is stopped and removed at the end.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator

from servers import build, docker, process
from servers.process import Say, ServerError

_STARTED = 60  # s
_BRIDGE = "docker0"


@contextlib.contextmanager
def engine(say: Say) -> Iterator[dict[str, str]]:
    """Variables that name an engine with an image of InfluxDB.

    :raises ServerError: there is none, and none is to be started
    """
    trouble = docker.trouble()
    if trouble is None:
        docker.pull(say)
        yield {}
        return
    if os.geteuid() != 0 or not os.environ.get("CI"):
        raise ServerError(f"{trouble}; only root starts one, and only in CI")
    _install(say)
    with tempfile.TemporaryDirectory(prefix="docker-", dir="/tmp") as name:
        directory = pathlib.Path(name)
        with _running(directory):
            host = f"unix://{directory}/socket"
            _import(directory / "root", host, say)
            yield {"DOCKER_HOST": host}


def _install(say: Say) -> None:
    if shutil.which("dockerd"):
        return
    if not shutil.which("apt-get"):
        raise ServerError("there is no dockerd, and no apt-get to install it")
    say("installing docker.io ...")
    _run("apt-get", "-qq", "update")
    _run(
        *("apt-get", "-qq", "install", "-y", "--no-install-recommends"),
        *("docker.io", "iptables"),
    )


def _run(*command: str, **environment: str) -> None:
    try:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            timeout=300,
            env={
                **os.environ,
                "DEBIAN_FRONTEND": "noninteractive",
                **environment,
            },
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ServerError(f"{command[0]} failed: {error}") from None


@contextlib.contextmanager
def _running(directory: pathlib.Path) -> Iterator[None]:
    had_bridge = pathlib.Path(f"/sys/class/net/{_BRIDGE}").exists()
    host = f"unix://{directory}/socket"
    with (directory / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [
                "dockerd",
                f"--host={host}",
                f"--data-root={directory}/data",
                f"--exec-root={directory}/exec",
                f"--pidfile={directory}/pid",
                # Ports are published by its proxy.
                "--iptables=false",
                "--ip-forward=false",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        last = time.monotonic() + _STARTED
        while True:
            with contextlib.suppress(ServerError):
                _run("docker", "info", DOCKER_HOST=host)
                break
            if daemon.poll() is not None or time.monotonic() > last:
                said = process.tail(directory / "log")
                raise ServerError(f"dockerd does not start: {said}")
            time.sleep(0.5)
        yield
    finally:
        daemon.terminate()
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            process.stop_group(daemon)
        if not had_bridge and shutil.which("ip"):
            subprocess.run(
                ["ip", "link", "delete", _BRIDGE],
                check=False,
                capture_output=True,
            )


def _import(root: pathlib.Path, host: str, say: Say) -> None:
    """Make an image of the influxd 2.7 that is built from Go modules.

    No registry is asked. There is nothing in it but the program, the
    libraries that it is linked with, and time zones.
    """
    binary = build.ensure(build.RELEASES["2.7"], say)
    listed = subprocess.run(
        ["ldd", str(binary)], capture_output=True, text=True, check=False
    ).stdout
    libraries = [
        word
        for line in listed.splitlines()
        for word in line.split()
        if word.startswith("/")
    ]
    for source, target in (
        (str(binary), "/usr/local/bin/influxd"),
        *((library, library) for library in libraries),
    ):
        path = root / target.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, path)
    for name, mode in (("tmp", 0o1777), ("var/lib/influxdb2", 0o755)):
        (root / name).mkdir(parents=True)
        (root / name).chmod(mode)
    zones = pathlib.Path("/usr/share/zoneinfo")
    if zones.is_dir():
        shutil.copytree(zones, root / "usr/share/zoneinfo", symlinks=True)
    archive = root.with_suffix(".tar")
    _run("tar", "-C", str(root), "-cf", str(archive), ".")
    changes = (
        'ENTRYPOINT ["influxd"]',
        "EXPOSE 8086",
        "ENV PATH=/usr/local/bin HOME=/var/lib/influxdb2",
        "ENV INFLUXD_BOLT_PATH=/var/lib/influxdb2/influxd.bolt",
        "ENV INFLUXD_ENGINE_PATH=/var/lib/influxdb2/engine",
        "VOLUME /var/lib/influxdb2",
    )
    _run(
        *("docker", "import"),
        *(word for change in changes for word in ("--change", change)),
        *(str(archive), docker.IMAGE),
        DOCKER_HOST=host,
    )
