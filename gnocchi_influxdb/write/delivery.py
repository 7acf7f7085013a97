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
"""One write: into a bucket that may have to be made, with the marks it needs.

What marks are and when they count is in `rollup_lines`.
"""

import time
from typing import Any

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.buckets import manager as buckets_
from gnocchi_influxdb.client import client as client_
from gnocchi_influxdb.rollups import rollup_choice, rollup_lines
from gnocchi_influxdb.wire import line_protocol

# After so many timeouts a request and its repetitions are over: the last of
# them begins within one, and each has three steps that may take as long, to
# send the head, to send the body, and to be answered.
_REQUEST = 4
#: Marks are for so many timeouts: for requests that begin within one, too.
MARKED = _REQUEST + 1

# Seconds before a write to a bucket that was missing is tried again: the
# first time, and at most.
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1


class Delivery:
    """Writes lines.

    :param timeout: of each step of a request, and until the beginning of its
        last repetition, seconds.
    """

    def __init__(
        self,
        client: client_.Client,
        buckets: buckets_.Buckets,
        timeout: float,
    ) -> None:
        self._client = client
        self._buckets = buckets
        self._timeout = int(1e9 * timeout)

    def write(
        self,
        policy: Any,
        points: line_protocol.Points,
        lines: bytes,
        marked: int = 0,
    ) -> int:
        """Write lines, and mark the days of those points that are late.

        The bucket is made if it is not there, and waited for, no longer than
        the timeout, while somebody else makes it.

        :param points: of metrics of one archive policy.
        :param lines: of all of them or of some.
        :param marked: until when (ns) the points may reach InfluxDB without
            other marks than there are.
        :return: the same, as it is now.
        :raises InfluxDBError: as `Client.write`; not all is written.
        """
        bucket = self._buckets.name(policy)
        last = time.monotonic() + self._timeout / 1e9
        pause: float = _FIRST_PAUSE
        while True:
            try:
                self._buckets.ensure(policy)
                return self._write(policy, bucket, points, lines, marked)
            except exceptions.BucketNotFoundError:
                # Somebody has deleted it since we saw it, or is making it at
                # this moment: InfluxDB 2 shows a bucket before it can write
                # to it or change it.
                self._buckets.forget(bucket)
                if time.monotonic() + pause > last:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _write(
        self,
        policy: Any,
        bucket: str,
        points: line_protocol.Points,
        lines: bytes,
        marked: int,
    ) -> int:
        now = self._client.clock.now_ns()
        until = now + _REQUEST * self._timeout
        if (
            until > marked
            and not self._client.capabilities.may_lag
            and rollup_lines.has_late(points, until)
            and rollup_choice.is_ever_kept(policy)
        ):
            marked = now + MARKED * self._timeout
            oldest = rollup_lines.oldest_place(now, self._buckets.kept(policy))
            lines += rollup_lines.marks(points, marked, oldest)
        self._client.write(bucket, lines)
        return marked
