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

"""InfluxDB's official image in a Docker engine."""

from __future__ import annotations

import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import tempfile

from servers import process
from servers.process import Say, ServerError
from servers.server import STOP_SECONDS, InfluxDBServer

IMAGE = "influxdb:2.7.12"
#: Of containers and volumes: the process that they are for.
LABEL = "gnocchi-influxdb.of"


def run(*arguments: str, timeout: float = 60) -> str:
    """What a command of the Docker client prints.

    :raises ServerError: it failed, with what the client said
    """
    try:
        done = subprocess.run(
            ["docker", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerError(f"docker {arguments[0]}: {error}") from None
    if done.returncode:
        raise ServerError(f"docker {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def trouble() -> str | None:
    """Why there is no Docker engine to use, None if there is one."""
    if shutil.which("docker") is None:
        return "no Docker client on PATH"
    try:
        # An old client without an engine may print nothing, status 0.
        answer = run("version", "--format", "{{.Server.Version}}", timeout=20)
    except ServerError as error:
        return str(error)
    return None if answer else "no Docker engine answers"


def _owner(pid: int) -> str | None:
    """Names a process for ever, None if there is none."""
    # Command lines are read before there is a virtual environment.
    import psutil

    # A number is given again, and an engine may serve several hosts.
    try:
        started = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None
    return f"{socket.gethostname()}/{pid}/{started:.2f}"


def _is_gone(owner: str) -> bool:
    host, _, rest = owner.partition("/")
    pid = rest.partition("/")[0]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    return _owner(int(pid)) != owner


def remove_left_over(say: Say) -> None:
    """Remove what killed runs of this host have left in the engine."""
    template = f'{{{{.ID}}}} {{{{.Label "{LABEL}"}}}}'
    listed = run(
        "ps", "--all", f"--filter=label={LABEL}", "--format", template
    )
    for line in listed.splitlines():
        name, _, owner = line.partition(" ")
        if _is_gone(owner):
            say(f"removing the container {name} of a killed run ...")
            run("rm", "--force", "--volumes", name)
    template = f'{{{{.Name}}}} {{{{.Label "{LABEL}"}}}}'
    listed = run(
        *("volume", "ls", f"--filter=label={LABEL}", "--format", template)
    )
    for line in listed.splitlines():
        name, _, owner = line.partition(" ")
        if _is_gone(owner):
            run("volume", "rm", name)


def pull(say: Say) -> None:
    """Bring the image here unless it is here already."""
    try:
        run("image", "inspect", IMAGE)
        return
    except ServerError:
        say(f"pulling the image {IMAGE} ...")
    with tempfile.TemporaryDirectory() as directory:
        log = pathlib.Path(directory, "pull.log")
        puller = process.spawn(["docker", "pull", "--quiet", IMAGE], log)
        ticker = process.Ticker(say)
        try:
            while True:
                try:
                    status = puller.wait(1)
                    break
                except subprocess.TimeoutExpired:
                    ticker.tick(lambda: f"still pulling {IMAGE}")
        except BaseException:
            process.stop_group(puller)
            raise
        if status:
            raise ServerError(f"docker pull {IMAGE}: {process.tail(log, 5)}")


class InfluxDBContainer(InfluxDBServer):
    """An InfluxDB server in a container of its own.

    Its data are in a volume, so that a container with other settings can take
    the place of this one. Both name the process that they are for: the next
    run removes those whose process was killed.
    """

    def __init__(self, say: Say = print) -> None:
        super().__init__(say)
        self.how = f"the image {IMAGE} in a Docker container"
        self._name = f"gnocchi-influxdb-{os.getpid()}-{secrets.token_hex(4)}"
        self._label = f"--label={LABEL}={_owner(os.getpid())}"
        self._settings: list[str] | None = None

    @property
    def _container(self) -> str | None:
        return None if self._settings is None else self._name

    @property
    def pid(self) -> int | None:
        if self._container is None:
            return None
        try:
            pid = int(
                run("inspect", "--format", "{{.State.Pid}}", self._container)
            )
        except (ServerError, ValueError):
            return None
        return pid or None

    @property
    def log_path(self) -> pathlib.Path:
        path = super().log_path
        if self._container is not None:
            with path.open("wb") as log:
                subprocess.run(
                    ["docker", "logs", self._container],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
        return path

    def metrics_url(self) -> str:
        return "http://localhost:8086/metrics"

    def _launch(self) -> None:
        wanted = self._wanted()
        if not self._is_set_up or self._settings != wanted:
            self._create(wanted)
        try:
            run("start", self._name)
        except ServerError as error:
            if self._is_set_up or "already" not in str(error):
                raise
            # The engine reports a port that was taken meanwhile; start()
            # looks for that in the log.
            self._remove()
            super().log_path.write_text("address already in use")

    def _wanted(self) -> list[str]:
        off = {"PPROF": not self.has_profiles, "METRICS": not self.has_metrics}
        return [
            f"--publish=127.0.0.1:{self.port}:8086",
            "--env=INFLUXD_REPORTING_DISABLED=true",
            *(f"--env=INFLUXD_{k}_DISABLED=true" for k, v in off.items() if v),
        ]

    def _create(self, settings: list[str]) -> None:
        if self._settings is None:
            remove_left_over(self._say)
            run("volume", "create", self._label, self._name)
        else:
            run("rm", "--force", "--volumes", self._name)
        # What it may create is removed by close().
        self._settings = settings
        run(
            "create",
            f"--name={self._name}",
            self._label,
            f"--volume={self._name}:/var/lib/influxdb2",
            *settings,
            "--stop-signal=SIGINT",
            IMAGE,
        )

    def stop(self) -> None:
        if self._container is not None:
            self.thaw()
            run(
                "stop",
                # The long option's name differs between versions.
                *("-t", str(STOP_SECONDS)),
                self._container,
                timeout=STOP_SECONDS + 30,
            )

    def kill(self) -> None:
        if self.pid is not None and self._container is not None:
            self.thaw()
            run("kill", "--signal=KILL", self._container)
            run("wait", self._container)

    def freeze(self) -> None:
        run("pause", self._name)

    def thaw(self) -> None:
        state = run("inspect", "--format", "{{.State.Paused}}", self._name)
        if state == "true":
            run("unpause", self._name)

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._remove()

    def _remove(self) -> None:
        if self._settings is not None:
            # Without an error if there is none of the name.
            run("rm", "--force", "--volumes", self._name)
            run("volume", "rm", "--force", self._name)
            self._settings = None
