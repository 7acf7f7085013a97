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
"""What the log says of something that fails again and again."""

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Collection, Iterator

import daiquiri
from oslo_db import exception as db_exception

from gnocchi_influxdb import exceptions

LOG = daiquiri.getLogger(__name__)

# Seconds between two lines of an outage that lasts, and at least between the
# first lines of two outages.
_REMIND = 300.0
_APART = 60.0
# Names in one line.
_SHOWN = 5
# No traceback helps anybody with these.
_UNDERSTOOD = (exceptions.InfluxDBError, db_exception.DBError)


class Outage:
    """Logs when something begins to fail, that it still does, and the end.

    What works and fails in turns is said to begin once a minute at most, and
    an end is said of what was said to begin. Threads may share it.

    :param begins: what is so from now on; ``{of}`` stands for the parts that
        fail, if there are such.
    :param ends: what is so again.
    :param counts: what `count` counts; None: failed tries are counted.
    """

    def __init__(
        self, begins: str, ends: str, counts: str | None = None
    ) -> None:
        self._begins = begins
        self._ends = ends
        self._counts = counts
        self._lock = threading.Lock()
        self._failing: dict[str, None] = {}
        self._parts: dict[str, None] = {}
        self._untold: set[str] = set()
        self._is_told = False
        self._since = self._failed = self._told = float("-inf")
        self._number = 0

    def failed(self, error: Exception, of: str = "") -> None:
        """It has failed.

        :param error: of a bug the log shows where it was raised.
        :param of: which part of it, as the log shall call it.
        """
        now = time.monotonic()
        with self._lock:
            if not self._failing and now - self._failed > _APART:
                self._since, self._number = now, 0
                self._parts.clear()
            if of not in self._failing:
                self._untold.add(of)
            self._failing[of] = self._parts[of] = None
            self._failed = now
            if self._counts is None:
                self._number += 1
            if now - self._told < (_APART if self._untold else _REMIND):
                return
            self._told, self._is_told = now, True
            self._untold.clear()
            text = self._begins.format(of=_shown(self._failing))
            if now - self._since >= 1:
                text += f" (for {self._figures(now)})"
        is_known = isinstance(error, _UNDERSTOOD)
        LOG.error("%s: %s", text, error, exc_info=None if is_known else error)

    def count(self, number: int = 1) -> None:
        """Count what the outage has cost."""
        with self._lock:
            self._number += number

    def succeeded(self, of: str = "") -> None:
        """It works. Costs nothing if it did before."""
        if of not in self._failing:
            return
        with self._lock:
            if of not in self._failing:
                return
            del self._failing[of]
            self._untold.discard(of)
            if self._failing or not self._is_told:
                return
            self._is_told = False
            text = self._ends.format(of=_shown(self._parts))
            text += f" (after {self._figures(time.monotonic())})"
            self._failed = float("-inf")
        LOG.warning("%s", text)

    def _figures(self, now: float) -> str:
        seconds = round(now - self._since)
        length = f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
        return f"{length}, {self._number} {self._counts or 'failed tries'}"


def _shown(parts: Collection[str]) -> str:
    more = len(parts) - _SHOWN
    shown = ", ".join(itertools.islice(parts, _SHOWN))
    return f"{shown} and {more} more" if more > 0 else shown


@contextlib.contextmanager
def answered(outage: Outage) -> Iterator[None]:
    """Let Gnocchi's API answer 503 to an InfluxDBError.

    :param outage: that of the reads of this process.
    :raises ReadRefusedError: the read is too large: 400.
    :raises ReadFailedError: its `__cause__` is the error.
    """
    try:
        yield
    except exceptions.TooLargeError as e:
        LOG.warning("A request is answered 400: %s", e)
        raise exceptions.ReadRefusedError(e) from e
    except exceptions.InfluxDBError as e:
        outage.failed(e)
        outage.count()
        raise exceptions.ReadFailedError(e) from e
    outage.succeeded()


class _IsTold(logging.Filter):
    """Lets pass what is not about an InfluxDBError."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, exceptions.InfluxDBError)


_IS_TOLD = _IsTold()


def silence_chef() -> None:
    """Keep tracebacks of InfluxDBErrors out of the log of gnocchi-metricd.

    Gnocchi's chef logs each exception for each sack and for each metric to be
    deleted, with its traceback. There is no other way to tell it that it can't
    go on. Each error that reaches it has been told to an `Outage`.
    """
    # Adding it twice is harmless.
    daiquiri.getLogger("gnocchi.chef").logger.addFilter(_IS_TOLD)
