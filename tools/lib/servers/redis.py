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
"""A Redis, or a Valkey, if there is one on PATH."""

import contextlib
import pathlib
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator

import redis

from servers import process

_START_SECONDS = 20


class Redis:
    """A Redis on a loopback port, which keeps what it is given.

    :ivar version: such as 7.0.15.
    """

    def __init__(self, binary: str, directory: pathlib.Path) -> None:
        self.version = _version(binary)
        self._log = directory / "redis.log"
        self._port = process.free_port()
        # The log of writes is flushed each second: Redis' own default for a
        # server that is to outlive a power cut.
        self._process = process.spawn(
            [
                binary,
                f"--port {self._port}",
                "--bind 127.0.0.1",
                f"--dir {directory}",
                "--save ''",
                "--appendonly yes",
                "--appendfsync everysec",
            ],
            self._log,
        )

    def url(self, database: int) -> str:
        """URL of a database, which is a number."""
        return f"redis://127.0.0.1:{self._port}/?db={database}"

    def wait(self) -> None:
        """Wait until it answers.

        :raises ServerError: it does not start.
        """
        client = redis.Redis(port=self._port)
        ticker = process.Ticker(print)
        while True:
            try:
                client.ping()
                break
            except redis.exceptions.ConnectionError:
                if (
                    self._process.poll() is not None
                    or ticker.elapsed > _START_SECONDS
                ):
                    raise process.ServerError(
                        f"Redis did not start:\n{process.tail(self._log)}"
                    ) from None
                time.sleep(0.05)
        client.close()

    def stop(self) -> None:
        """Stop the process."""
        process.stop(self._process, signal.SIGTERM, 10)


@contextlib.contextmanager
def redis_server(directory: pathlib.Path) -> Iterator[Redis | None]:
    """A running server, None if there is no program for it on PATH."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        yield None
        return
    directory.mkdir()
    server = Redis(binary, directory)
    try:
        server.wait()
        yield server
    finally:
        server.stop()


def _version(binary: str) -> str:
    done = subprocess.run(
        [binary, "--version"], capture_output=True, text=True, check=False
    )
    found = re.search(r"v=(\S+)", done.stdout)
    name = " (Valkey)" if "valkey" in binary else ""
    return f"{found[1] if found else 'unknown'}{name}"
