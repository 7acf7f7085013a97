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

import daiquiri

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets import manager as buckets_
from gnocchi_influxdb.buckets import watermark
from gnocchi_influxdb.client import client as client_
from gnocchi_influxdb.wire import line_protocol
from gnocchi_influxdb.write import batch as batch_

LOG = daiquiri.getLogger(__name__)

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
        last repetition, seconds; as for any write `client.WRITE_TIMEOUT` at
        most.
    """

    def __init__(
        self,
        client: client_.Client,
        buckets: buckets_.Buckets,
        timeout: float,
    ) -> None:
        self._client = client
        self._buckets = buckets
        self._timeout = min(timeout, client_.WRITE_TIMEOUT)
        self._told: set[str] = set()

    def write(self, batch: batch_.Batch, lines: bytes, marked: int = 0) -> int:
        """Send lines, and before them marks for those points that are late.

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
                marked = self._mark(batch, marked)
                self._client.write(batch.bucket, lines)
                return marked
            except exceptions.BucketNotFoundError:
                # Somebody has deleted it since we saw it, or is making it at
                # this moment: InfluxDB 2 shows a bucket before it can write
                # to it or change it.
                self._buckets.forget(batch.bucket)
                if time.monotonic() + pause > last:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    # A window that is downsampled already must be computed again for a late
    # measure, and until then be made of points: see `Watermark`.

    def _mark(self, batch: batch_.Batch, marked: int) -> int:
        """Mark the windows of those points that are late if sent now.

        :return: until when (ns) these marks suffice.
        :raises InfluxDBError: the server fails.
        """
        timeout = int(1e9 * self._timeout)
        spare = MARKED - LONGEST
        while True:
            until = self._client.clock.now_ns() + LONGEST * timeout
            # They are sorted.
            first = batch.points.times[:1]
            if until <= marked or not (first < _late(until)).any():
                return marked
            marked = until + int(spare * timeout)
            for target in self._buckets.downsampled(batch.policy):
                lines = line_protocol.marks(
                    batch.points, _late(marked), marked, target.every
                )
                if lines:
                    self._write_marks(target.name, lines)
            # Marking may have taken longer than was spared for it.
            spare *= 2

    def _write_marks(self, bucket: str, lines: bytes) -> None:
        try:
            self._client.write(bucket, lines)
        except exceptions.BucketNotFoundError:
            pass  # Then no window is there that could be wrong.
        except exceptions.OF_ONE_BUCKET as e:
            # That costs no measure. Windows are computed once more before
            # their points expire, and are right then at the latest.
            if isinstance(e, exceptions.PartialWriteError) and not (
                e.type_conflict
            ):
                return  # They have expired.
            if bucket not in self._told:
                self._told.add(bucket)
                LOG.error(
                    "Late measures can't be marked in bucket %s, so its"
                    " windows show them a day or so later: %s",
                    bucket,
                    e,
                )


def _late(until: int) -> int:
    """Points before that (ns) are late if they come by `until`."""
    return until - watermark.DELAY + watermark.SKEW * schema.SECOND
