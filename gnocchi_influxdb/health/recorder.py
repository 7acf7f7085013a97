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
"""Counting what a process does, and a line of it in InfluxDB each minute.

Counting is a few additions under a lock. The line is written by a thread of
its own, which no measure and no read waits for. It begins with the first
thing that is counted, so after any fork, and ends with the process, whatever
it does at that moment: what was counted since its last line is lost then.
While InfluxDB is away counts are kept, and nothing is said.
"""

import contextlib
import os
import random
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import daiquiri

from gnocchi_influxdb import exceptions, opts, schema
from gnocchi_influxdb.buckets import manager
from gnocchi_influxdb.client import client
from gnocchi_influxdb.health import bucket, counts

LOG = daiquiri.getLogger(__name__)

#: Seconds between two lines.
INTERVAL = 60

_TIMEOUT = 5.0  # s
# Numbers that processes of a host can be told apart by in their times.
_PIDS = 10**6

#: By the id of the configuration, which they keep.
_RECORDERS: "weakref.WeakValueDictionary[int, Recorder]" = (
    weakref.WeakValueDictionary()
)


def of(conf: Any) -> "Recorder":
    """What all drivers of this process count with.

    :param conf: the whole configuration.
    """
    return _RECORDERS.setdefault(id(conf), Recorder(conf))


class _Process:
    """What one process has counted, and may not be shared with another."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.counts = counts.Counts()
        self.since = time.monotonic()


class Recorder:
    """Counts, and writes lines. Threads share it, and it may be forked.

    None of its methods raises anything.

    :param conf: the whole configuration.
    """

    def __init__(self, conf: Any) -> None:
        self._conf = opts.register(conf.storage)
        self._enabled: bool = conf.storage.influxdb_health
        self._begins = threading.Lock()
        self._process: _Process | None = None
        self._watched: dict[str, Callable[[], float]] = {}
        self._client: client.Client | None = None
        self._told: set[type] = set()

    def count(self, **numbers: float) -> None:
        """Add to sums, by field."""
        if self._enabled:
            process = self._of_process()
            with process.lock:
                for field, number in numbers.items():
                    process.counts.add(field, number)

    def raise_to(self, **numbers: float) -> None:
        """Let maxima be no less than these, by field."""
        if self._enabled:
            process = self._of_process()
            with process.lock:
                for field, number in numbers.items():
                    process.counts.raise_to(field, number)

    def note(self, **numbers: float) -> None:
        """Let numbers be these from now on until the next line, by field."""
        if self._enabled:
            process = self._of_process()
            with process.lock:
                process.counts.latest |= numbers

    def watch(self, field: str, number: Callable[[], float]) -> None:
        """Ask for a number before each line; the highest counts."""
        self._watched[field] = number

    @contextlib.contextmanager
    def timing(self, what: str) -> Iterator[None]:
        """Count a block, how long it takes, and whether it fails.

        :param what: `read` or `write`.
        """
        if not self._enabled:
            yield
            return
        began = time.monotonic()
        failed = 0
        try:
            yield
        except exceptions.InfluxDBError:
            failed = 1
            raise
        finally:
            took = time.monotonic() - began
            process = self._of_process()
            with process.lock:
                counted = process.counts
                counted.add(f"{what}s", 1)
                counted.add(f"{what}s_failed", failed)
                counted.add(f"{what}_seconds", took)
                counted.raise_to(f"{what}_longest", took)

    def write(self) -> bool:
        """Write a line now; whether it was written.

        If not, the next one has these counts, too.
        """
        process = self._of_process()
        for field, number in self._watched.items():
            self.raise_to(**{field: number()})
        now = time.monotonic()
        with process.lock:
            taken, process.counts = process.counts, counts.Counts()
        taken.latest["seconds"] = now - process.since
        taken.latest["pid"] = float(process.pid)
        try:
            self._send(taken, process.pid)
        except Exception as e:
            with process.lock:
                taken.precede(process.counts)
                process.counts = taken
            self._tell(e)
            return False
        process.since = now
        return True

    def _of_process(self) -> _Process:
        # uwsgi calls none of Python's own hooks after a fork.
        process = self._process
        if process is None or process.pid != os.getpid():
            with self._begins:
                process = self._process
                if process is None or process.pid != os.getpid():
                    process = self._process = _Process()
                    with contextlib.suppress(RuntimeError):
                        threading.Thread(
                            target=_write_lines,
                            args=(weakref.ref(self),),
                            name="gnocchi-influxdb health",
                            daemon=True,
                        ).start()
        return process

    def _send(self, counted: counts.Counts, pid: int) -> None:
        if self._client is None:
            made = client.Client(self._conf.storage, max_retries=0)
            self._client = made.once(_TIMEOUT)
        name = bucket.name(self._conf.storage)
        tags = {"host": socket.gethostname() or "-", "process": _name()}
        clock = self._client.clock
        # Not ahead of InfluxDB's clock: queries that end now would miss it.
        at = clock.now_ns() - int(min(clock.error, 1.0) * schema.SECOND)
        at = at // _PIDS * _PIDS + pid % _PIDS
        line = counted.line(tags, at)
        try:
            self._client.write(name, line)
        except exceptions.BucketNotFoundError:
            buckets = manager.Buckets(self._client, self._conf.storage)
            bucket.make(buckets.server, name)
            self._client.write(name, line)

    def _tell(self, error: Exception) -> None:
        if isinstance(error, exceptions.UnavailableError):
            return  # Those who have measures for it say so.
        if type(error) not in self._told:
            self._told.add(type(error))
            LOG.warning(
                "This process can't write how it is into bucket %s, and tries"
                " again each %d s without saying so; measures do not depend"
                " on it. [storage] influxdb_health = false does without. %s",
                bucket.name(self._conf.storage),
                INTERVAL,
                error,
                exc_info=not isinstance(error, exceptions.InfluxDBError),
            )


def _write_lines(recorder: "weakref.ref[Recorder]") -> None:
    # All processes of all hosts at once would be felt.
    pause = random.uniform(0, INTERVAL)
    while True:
        time.sleep(pause)
        pause = INTERVAL
        found = recorder()
        if found is None:
            return
        found.write()
        del found


def _name() -> str:
    """`metricd` or `statsd`; `api` for any server of the API."""
    program = os.path.basename(sys.argv[0] if sys.argv else "")
    if program.startswith("gnocchi-"):
        return program.removeprefix("gnocchi-")
    return "api"
