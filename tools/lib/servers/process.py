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

"""Starts, watches and stops processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

Say = Callable[[str], object]

_PR_SET_PDEATHSIG = 1


class ServerError(Exception):
    """A server can't be found, built or started; the message says why."""


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def die_with_parent(signum: signal.Signals) -> Callable[[], None] | None:
    """A function for Popen to call in the child, to end with its parent.

    Linux sends it the signal when the process that started it is gone, killed
    for instance, so that nothing is left running.
    """
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signum)

    return ask


def spawn(
    argv: Sequence[str | os.PathLike[str]],
    log: pathlib.Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: pathlib.Path | None = None,
    user: int | None = None,
    group: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, its output appended to `log`.

    A session of its own keeps a Ctrl-C in the terminal from reaching the
    server before the command that uses it has ended.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            user=user,
            group=group,
            extra_groups=[] if user is not None else None,
            start_new_session=True,
            # Servers end at once on this one: PostgreSQL would wait for its
            # clients on SIGTERM.
            preexec_fn=die_with_parent(signal.SIGINT),
        )


def stop(
    process: subprocess.Popen[bytes], signum: signal.Signals, grace: float
) -> None:
    """Ask a process to end; kill it when `grace` seconds were not enough."""
    if process.poll() is not None:
        return
    process.send_signal(signum)
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started (see `spawn`: one session)."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def freeze(pid: int) -> None:
    """Stop a process with SIGSTOP; none of its threads runs any more then.

    :raises ServerError: it does not stop
    """
    os.kill(pid, signal.SIGSTOP)
    last = time.monotonic() + 10
    # A busy machine takes its time to stop them all.
    while not all(
        stat.read_text().rpartition(") ")[2].startswith("T")
        for stat in pathlib.Path(f"/proc/{pid}/task").glob("*/stat")
    ):
        if time.monotonic() > last:
            raise ServerError(f"process {pid} does not stop")
        time.sleep(0.001)


def tail(log: pathlib.Path, lines: int = 25) -> str:
    """The last lines of a log, for an error message."""
    try:
        text = log.read_text(errors="replace")
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"


def duration(seconds: float) -> str:
    """Minutes and seconds, for people."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Ticker:
    """Says something every `every` seconds of a long wait."""

    def __init__(self, say: Say, every: float = 15) -> None:
        self._say = say
        self._every = every
        self._start = self._last = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._start

    def tick(self, message: Callable[[], str]) -> None:
        """Say the message if it is time for one."""
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            self._say(f"{message()} ({duration(self.elapsed)})")
