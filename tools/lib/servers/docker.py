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

import pathlib
import shutil
import subprocess
import tempfile

from servers import process
from servers.process import Say, ServerError
from servers.server import STOP_SECONDS, InfluxDBServer

IMAGE = "influxdb:2.7.12"


def _docker(*arguments: str, timeout: float = 60) -> str:
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


def is_usable() -> bool:
    """Whether there is a Docker client and an engine that answers it."""
    if shutil.which("docker") is None:
        return False
    try:
        # The template is evaluated by the client: without an engine some
        # versions print an empty line and end with status 0.
        return bool(
            _docker("info", "--format", "{{.ServerVersion}}", timeout=20)
        )
    except ServerError:
        return False


def pull(say: Say) -> None:
    """Bring the image here unless it is here already."""
    try:
        _docker("image", "inspect", IMAGE)
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
    """An InfluxDB server in a container of its own."""

    def __init__(self, say: Say = print) -> None:
        super().__init__(say)
        self.how = f"the image {IMAGE} in a Docker container"
        self._container: str | None = None

    @property
    def pid(self) -> int | None:
        if self._container is None:
            return None
        try:
            pid = int(
                _docker(
                    "inspect", "--format", "{{.State.Pid}}", self._container
                )
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

    def _launch(self) -> None:
        if self._container is not None and self._is_set_up:
            _docker("start", self._container)
            return
        self._remove()
        self._container = _docker(
            "create",
            f"--publish=127.0.0.1:{self.port}:8086",
            "--env=INFLUXD_REPORTING_DISABLED=true",
            *(
                []
                if self.has_profiles
                else ["--env=INFLUXD_PPROF_DISABLED=true"]
            ),
            *(
                []
                if self.has_metrics
                else ["--env=INFLUXD_METRICS_DISABLED=true"]
            ),
            "--stop-signal=SIGINT",
            IMAGE,
        )
        try:
            _docker("start", self._container)
        except ServerError as error:
            if "already" not in str(error):
                raise
            # The engine reports a port that was taken meanwhile; start()
            # looks for that in the log.
            self._remove()
            super().log_path.write_text("address already in use")

    def stop(self) -> None:
        if self._container is not None:
            _docker(
                "stop",
                # The long option's name differs between versions.
                *("-t", str(STOP_SECONDS)),
                self._container,
                timeout=STOP_SECONDS + 30,
            )

    def kill(self) -> None:
        if self.pid is not None and self._container is not None:
            _docker("kill", "--signal=KILL", self._container)
            _docker("wait", self._container)

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._remove()

    def _remove(self) -> None:
        if self._container is not None:
            _docker("rm", "--force", "--volumes", self._container)
            self._container = None
