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

"""An InfluxDB server of one's own, that may be stopped, killed, restarted."""

from __future__ import annotations

import abc
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from types import TracebackType

from servers import api, process
from servers.process import Say, ServerError

ORG = "gnocchi"

# A server that replays a large write-ahead log may need a while.
START_SECONDS = 120
STOP_SECONDS = 30


class InfluxDBServer(abc.ABC):
    """An InfluxDB on a loopback port, with data in a directory of its own.

    URL, token, organisation and data outlive stop(), kill() and start(), so a
    test can take the server away and give it back. Used as a context manager
    it is started, and at the end stopped and its data removed.

    :ivar token: an operator's token: may read, write and create everything
    :ivar org: the organisation's name
    :ivar has_profiles: whether it keeps profiles, as a 2.x does by default;
        a change counts from the next start on
    :ivar has_metrics: whether a 2.x has /metrics. While it counts series for
        them, each 10 s, a bucket that is deleted may end InfluxDB 2.9.1
        (``panic``, ``SeriesCardinalityFromShards``), and tests delete many
    """

    how = "a server"

    def __init__(self, say: Say = print) -> None:
        self._say = say
        self._is_set_up = False
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="influxdb-"))
        self.port = process.free_port()
        self.token = secrets.token_urlsafe(32)
        self.org = ORG
        self.version = ""
        self.has_profiles = False
        self.has_metrics = False

    def __enter__(self) -> InfluxDBServer:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> pathlib.Path:
        """A file with what the server has logged up to now."""
        return self.directory / "influxd.log"

    @property
    @abc.abstractmethod
    def pid(self) -> int | None:
        """The server's process, None while it is not running."""

    def _is_running(self) -> bool:
        return self.pid is not None

    def start(self) -> None:
        """Start the server and wait until it is healthy and set up.

        Does nothing when it runs already.

        :raises ServerError: it ended, or did not become healthy; the message
            carries the end of its log
        """
        if self._is_running():
            return
        self._launch()
        ticker = process.Ticker(self._say)
        while not api.is_healthy(self.url):
            if not self._is_running():
                if not self._is_set_up and self._lost_its_port():
                    self.port = process.free_port()
                    self._launch()
                    continue
                raise ServerError(
                    "InfluxDB ended while starting; its log says:\n"
                    + process.tail(self.log_path)
                )
            if ticker.elapsed > START_SECONDS:
                raise ServerError(
                    f"InfluxDB is not healthy after {START_SECONDS} s; "
                    "its log says:\n" + process.tail(self.log_path)
                )
            ticker.tick(lambda: f"waiting for InfluxDB on {self.url}")
            time.sleep(0.05)
        if not self._is_set_up:
            self._set_up()
            self._is_set_up = True
            self.version = api.version(self.url)

    @abc.abstractmethod
    def stop(self) -> None:
        """Let the server end cleanly."""

    @abc.abstractmethod
    def kill(self) -> None:
        """End the server at once, as a crash does (SIGKILL)."""

    @abc.abstractmethod
    def freeze(self) -> None:
        """Keep it from running, as if its machine hung, until thaw()."""

    @abc.abstractmethod
    def thaw(self) -> None:
        """Let it go on after freeze(); nothing if it is not frozen."""

    def metrics_url(self) -> str:
        """Where the server itself finds its /metrics."""
        return f"{self.url}/metrics"

    def restart(self) -> None:
        """Stop it cleanly, and start it."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop the server and remove its data."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def release(self) -> int:
        """The number in front of its version."""
        return int(self.version.split(".")[0])

    def _set_up(self) -> None:
        api.set_up(self.url, self.token, self.org, secrets.token_hex(16))

    @abc.abstractmethod
    def _launch(self) -> None:
        """Start the process, and do not wait for it."""

    def _lost_its_port(self) -> bool:
        """Whether another process took the port before the server could."""
        return "address already in use" in process.tail(self.log_path, 200)


class InfluxDBProcess(InfluxDBServer):
    """An InfluxDB server as a child process."""

    def __init__(
        self, binary: str | os.PathLike[str], how: str, say: Say = print
    ) -> None:
        super().__init__(say)
        #: More flags of a 2.x; they count from the next start on.
        self.flags: list[str] = []
        self.binary = pathlib.Path(binary)
        self.how = how
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def _launch(self) -> None:
        # INFLUXD_* variables and configuration files of the user's own
        # server are not for this one.
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("INFLUXD_")
        }
        env["HOME"] = env["INFLUXD_CONFIG_PATH"] = str(self.directory)
        try:
            self._process = process.spawn(
                [self.binary, *self._arguments()],
                self.log_path,
                env=env,
                cwd=self.directory,
            )
        except OSError as error:
            raise ServerError(
                f"{self.binary} does not start: {error}"
            ) from None

    def _arguments(self) -> list[str]:
        return [
            f"--bolt-path={self.directory / 'influxd.bolt'}",
            f"--sqlite-path={self.directory / 'influxd.sqlite'}",
            f"--engine-path={self.directory / 'engine'}",
            f"--http-bind-address=127.0.0.1:{self.port}",
            "--reporting-disabled",
            *([] if self.has_profiles else ["--pprof-disabled"]),
            *([] if self.has_metrics else ["--metrics-disabled"]),
            *self.flags,
        ]

    def stop(self) -> None:
        if self._process is not None:
            # InfluxDB flushes and ends with status 0 on SIGINT only.
            process.stop(self._process, signal.SIGINT, STOP_SECONDS)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        if self._process is not None:
            process.freeze(self._process.pid)

    def thaw(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
