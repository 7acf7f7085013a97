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
"""One write request, to a bucket that may have to be made first."""

import time

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.buckets import manager as buckets_
from gnocchi_influxdb.client import client as client_
from gnocchi_influxdb.rollups import rollup_choice, rollup_lines
from gnocchi_influxdb.write import batch as batch_

#: How many timeouts a write takes at most, its repetitions included: the last
#: of them begins within one, and each has three steps that may take as long:
#: sending the head, sending the body, and waiting for the answer.
LONGEST = 4
#: Marks are good for so many timeouts: for requests that begin within one.
MARKED = LONGEST + 1

# Seconds before a write to a bucket that was missing is tried again: the
# first time, and at most.
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1


class Delivery:
    """Sends lines. Threads may share it.

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
        self._timeout = timeout

    def write(self, batch: batch_.Batch, lines: bytes, marked: int = 0) -> int:
        """Send lines, and marks for the days of those points that are late.

        Makes the bucket if it is not there. While somebody else makes it,
        waits for it, no longer than the timeout.

        :param lines: of all points of the batch or of some.
        :param marked: until when (ns) the points may reach InfluxDB without
            further marks.
        :return: the new value of `marked`.
        :raises InfluxDBError: as `Client.write`; not all is written.
        """
        last = time.monotonic() + self._timeout
        pause: float = _FIRST_PAUSE
        while True:
            try:
                self._buckets.ensure(batch.policy)
                marks, until = self._marks(batch, marked)
                self._client.write(batch.bucket, lines + marks)
                return until
            except exceptions.BucketNotFoundError:
                # Somebody has deleted it since we saw it, or is making it at
                # this moment: InfluxDB 2 shows a bucket before it can write
                # to it or change it.
                self._buckets.forget(batch.bucket)
                if time.monotonic() + pause > last:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    # Marks belong to the cache of rollups, see `rollup_lines`.

    def _marks(self, batch: batch_.Batch, marked: int) -> tuple[bytes, int]:
        """Marks that the points need if they are sent now.

        :return: lines, and until when (ns) they suffice.
        """
        timeout = int(1e9 * self._timeout)
        now = self._client.clock.now_ns()
        until = now + LONGEST * timeout
        if (
            until <= marked
            or self._client.capabilities.may_lag
            or not rollup_lines.has_late(batch.points, until)
            or not rollup_choice.is_ever_kept(batch.policy)
        ):
            return b"", marked
        marked = now + MARKED * timeout
        oldest = rollup_lines.oldest_place(
            now, self._buckets.kept(batch.policy)
        )
        return rollup_lines.marks(batch.points, marked, oldest), marked
