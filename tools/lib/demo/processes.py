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
"""Child processes that are never left behind."""

import contextlib
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType

import servers.process

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoError(Exception):
    """The demonstration can't go on.

    :ivar log: the end of the failed part's log, if it has one.
    """

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class Stopped(BaseException):
    """A signal asked the demonstration to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class _Signals:
    """Raises :class:`Stopped` once, but never while a child is started."""

    def __init__(self) -> None:
        self._deferred = False
        self._pending: int | None = None

    def install(self) -> None:
        for signum in _ENDING:
            signal.signal(signum, self._handle)

    def ignore(self) -> None:
        """Let nothing interrupt the cleaning up."""
        for signum in _ENDING:
            signal.signal(signum, signal.SIG_IGN)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self._pending is not None:
            self._end(self._pending)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._deferred:
            self._pending = signum
        else:
            self._end(signum)

    def _end(self, signum: int) -> None:
        self.ignore()
        raise Stopped(signum)


SIGNALS = _Signals()


class Process:
    """A program with a log file and a process group of its own."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: pathlib.Path,
        env: Mapping[str, str],
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._env = dict(env)
        self._stop_signal = stop_signal
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        try:
            with SIGNALS.deferred():
                self._popen = servers.process.spawn(
                    self._command, self.log, env=self._env
                )
        except OSError as error:
            raise DemoError(f"{self.name} can't be started: {error}") from None

    @property
    def pid(self) -> int | None:
        return self._popen.pid if self._popen else None

    @property
    def exit_status(self) -> int | None:
        """Exit status of the process; None while it runs."""
        return self._popen.poll() if self._popen else None

    def require_running(self) -> None:
        """Check that the process still runs.

        :raises DemoError: the process has ended.
        """
        status = self.exit_status
        if status is not None:
            raise self.failed(f"{self.name} ended by itself ({status}).")

    def wait(self, timeout: float, say: servers.process.Say) -> None:
        """Wait for a program that ends by itself.

        :param say: told now and then that it goes on.
        :raises DemoError: it failed, or it is not done in time.
        """
        if self._popen is None:
            return
        ticker = servers.process.Ticker(say)
        while (status := self._popen.poll()) is None:
            if ticker.elapsed > timeout:
                raise self.failed(
                    f"{self.name} was not done after {timeout:.0f} s."
                )
            ticker.tick(lambda: f"{self.name} is still at work")
            time.sleep(0.1)
        if status:
            raise self.failed(f"{self.name} failed (exit status {status}).")

    def failed(self, message: str) -> DemoError:
        return DemoError(message, self.tail())

    def tail(self) -> str:
        return servers.process.tail(self.log)

    def stop(self, grace: float = 10) -> None:
        """End the process, then whatever is left of its group."""
        if self._popen is None:
            return
        if self._popen.poll() is None:
            self._popen.send_signal(self._stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(grace)
        self._end_group(self._popen.pid)
        self._popen.wait()

    @staticmethod
    def _end_group(group: int) -> None:
        """Give the children a second to end with their parent, then kill."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)
            for _ in range(20):
                time.sleep(0.05)
                os.killpg(group, 0)
            os.killpg(group, signal.SIGKILL)
