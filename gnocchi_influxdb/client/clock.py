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
"""InfluxDB's time."""

import email.utils
import threading
import time
from collections.abc import Callable

import daiquiri

from gnocchi_influxdb import exceptions, schema

LOG = daiquiri.getLogger(__name__)

# Seconds between two dates that are looked at: an answer in between costs no
# more than a comparison.
_OBSERVE = 5.0
#: Seconds after which `Clock.now_ns` asks if no answer came meanwhile.
ASK_AGAIN = 60.0
# By how much time.monotonic may run faster or slower than InfluxDB's clock,
# at most: twice what NTP allows itself to slew a clock.
_DRIFT = 0.001
# Seconds that the wall clock of this machine may gain on the monotonic one
# until InfluxDB is asked: it was set, or the machine was suspended, during
# which the monotonic clock stands still.
_JUMP = 1.0


class Clock:
    """InfluxDB's clock, as its answers show it. Threads may share it.

    A header Date has whole seconds: an answer to a request sent at `sent`
    whose head came at `received` (both time.monotonic) was made between these
    two, and between its Date and one second later. Each answer so bounds the
    difference between InfluxDB's clock and time.monotonic, and the bounds of
    several are intersected. The middle is wrong by half a second and half a
    round trip at most after one answer, and by less after several. (A proxy
    may put its own Date there: then it is the proxy's clock.)

    :param ask: makes a request whose answer is observed; may raise
        InfluxDBError.
    """

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        # Bounds of InfluxDB's time minus time.monotonic, seconds.
        self._bounds: tuple[float, float] | None = None
        # When a Date was last looked at, and by how much the wall clock was
        # ahead of the monotonic one then.
        self._observed = self._failed = float("-inf")
        self._wall = 0.0

    def observe(self, date: str, sent: float, received: float) -> None:
        """Learn from an answer; most of them are passed over.

        :param date: the header.
        :param sent: time.monotonic before the request was sent.
        :param received: time.monotonic after the head of the answer.
        """
        wall = time.time() - received
        if self._is_fresh(received, wall, _OBSERVE):
            return
        try:
            seconds = email.utils.parsedate_to_datetime(date).timestamp()
        except ValueError:
            return
        least, most = seconds - received, seconds + 1 - sent
        with self._lock:
            if self._bounds is not None:
                drift = _DRIFT * (received - self._observed)
                before = self._bounds[0] - drift, self._bounds[1] + drift
                # No overlap: InfluxDB's clock was set, or this machine was
                # suspended.
                if before[0] <= most and least <= before[1]:
                    least = max(least, before[0])
                    most = min(most, before[1])
            self._bounds = least, most
            self._observed, self._wall = received, wall

    def now_ns(self) -> schema.Ns:
        """InfluxDB's time, ns since the epoch.

        Asks InfluxDB if it has not answered for `ASK_AGAIN` seconds or the
        clock of this machine was set. If it does not answer, the last known
        difference counts on; without one, the clock of this machine.
        """
        now = time.monotonic()
        if (
            not self._is_fresh(now, time.time() - now, ASK_AGAIN)
            and now - self._failed >= _OBSERVE
        ):
            try:
                self._ask()
            except exceptions.InfluxDBError as e:
                self._failed = time.monotonic()
                LOG.debug("InfluxDB does not tell the time: %s", e)
        bounds = self._bounds
        if bounds is None:
            return schema.Ns(time.time_ns())
        ahead = (bounds[0] + bounds[1]) / 2
        return schema.Ns(int(1e9 * (ahead + time.monotonic())))

    @property
    def error(self) -> float:
        """By how many seconds `now_ns` may be off; infinite: not known."""
        bounds = self._bounds
        if bounds is None:
            return float("inf")
        drift = _DRIFT * (time.monotonic() - self._observed)
        return (bounds[1] - bounds[0]) / 2 + drift

    def _is_fresh(self, now: float, wall: float, age: float) -> bool:
        return now - self._observed < age and abs(wall - self._wall) < _JUMP
