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

"""Watches a run of stestr while it goes."""

from __future__ import annotations

import collections
import os
import pathlib
import queue
import signal
import subprocess
import threading
import time

import subunit
import testtools
from servers.process import duration, stop_group

# A test that hangs would hang a CI job for hours.
SILENCE_SECONDS = 300

_FAILURES = ("fail", "uxsuccess", "inprogress", "unknown")


def start(
    command: list[str], environment: dict[str, str], scratch: pathlib.Path
) -> subprocess.Popen[bytes]:
    # stestr starts a shell for each worker: a session makes them one group,
    # which can be stopped as a whole.
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        cwd=scratch,
        env=environment,
        start_new_session=True,
    )


class Run:
    """One run of stestr, read while it goes."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.statuses: dict[str, str] = {}
        self.skips: dict[str, set[str]] = collections.defaultdict(set)
        self.failed: set[str] = set()
        self.seconds: dict[str, float] = {}
        self._results: queue.Queue[dict | None] = queue.Queue()

    def __call__(self, command, environment, scratch, every=15.0) -> int:
        process = start(command, environment, scratch)
        reader = threading.Thread(
            target=self._read, args=(process.stdout,), daemon=True
        )
        reader.start()
        began = said = heard = time.monotonic()
        try:
            while True:
                try:
                    result = self._results.get(timeout=1)
                except queue.Empty:
                    pass
                else:
                    if result is None:
                        break
                    heard = time.monotonic()
                    self._count(result)
                now = time.monotonic()
                if now - said >= every:
                    said = now
                    print(
                        f"upstream: {self.ran} of {self.total} tests, "
                        f"{len(self.failed)} failed ({duration(now - began)})",
                        flush=True,
                    )
                if now - heard > SILENCE_SECONDS:
                    print(
                        f"upstream: no test ended in {SILENCE_SECONDS} s, "
                        "giving up",
                        flush=True,
                    )
                    os.killpg(process.pid, signal.SIGUSR1)
                    time.sleep(2)
                    for stacks in scratch.glob("stacks-*"):
                        print(stacks.read_text(), flush=True)
                    stop_group(process)
                    return 1
            return process.wait(60)
        except BaseException:
            stop_group(process)
            raise

    @property
    def ran(self) -> int:
        return len(self.statuses)

    def count(self, status: str) -> int:
        return sum(each == status for each in self.statuses.values())

    def _read(self, stream) -> None:
        result = testtools.StreamToDict(self._results.put)
        result.startTestRun()
        try:
            subunit.ByteStreamToStreamResult(stream, "output").run(result)
            result.stopTestRun()
        finally:
            self._results.put(None)

    def _count(self, result: dict) -> None:
        test, status = result["id"], result["status"]
        if status == "exists" or test is None:
            return
        begin, end = result["timestamps"]
        if begin and end:
            self.seconds[test] = (end - begin).total_seconds()
        texts = {
            name: content.as_text().strip()
            for name, content in result["details"].items()
            if content.content_type.type == "text"
        }
        if status == "skip" and not texts.get("reason"):
            # Gnocchi's base class turns a NotImplementedError of a driver
            # into a skip; here nothing is optional.
            status = "fail"
            texts["traceback"] = "The driver raises NotImplementedError."
        if status == "skip":
            self.skips[texts["reason"]].add(test)
        # gabbi reports an expected failure and then a success.
        if self.statuses.get(test) not in (*_FAILURES, "xfail"):
            self.statuses[test] = status
        if status in _FAILURES:
            self.failed.add(test)
            print(f"FAILED {test}", flush=True)
            for name, text in texts.items():
                if text:
                    print(f"--- {name}\n{text[-8000:]}", flush=True)
