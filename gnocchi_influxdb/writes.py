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
"""Sending points, and what becomes of those that the server refuses.

A server that fails is an exception: Gnocchi keeps the measures and offers
them again, and writing a point twice changes nothing. A point that is refused
for good is left out, logged and counted, and must hold up no other.
"""

import itertools
import logging
import os
import time
from collections.abc import Callable
from typing import Any

from gnocchi import utils

from gnocchi_influxdb import buckets as buckets_
from gnocchi_influxdb import client as client_
from gnocchi_influxdb import (
    conflicts,
    exceptions,
    line_protocol,
    rollup_lines,
    shards,
)

LOG = logging.getLogger(__name__)

# Seconds before a write to a bucket that was missing is tried again.
_UNTIL_MADE = (0.05, 0.2, 0.5)


def parts(number: int, most: int) -> list[tuple[int, int]]:
    """Bounds of the requests that a number of points is sent in.

    Of one size, and as many as are under way at once or a multiple of it: the
    last one, sent alone, would leave the server's other processors idle.

    :param most: points in one request.
    """
    requests = -(-number // most)
    if requests > 1:
        # More threads than that would only wait.
        at_once = min(utils.parallel_map.MAX_WORKERS, os.cpu_count() or 1)
        requests = -(-requests // at_once) * at_once
    bounds = [number * i // requests for i in range(requests)]
    return list(itertools.pairwise([*bounds, number]))


class Writer:
    """Writes points into the buckets of their archive policies.

    :param batch_size: points a request, at most.
    :param timeout: of each step of a request, and until the beginning of its
        last repetition, seconds.
    :param count_refused: called with each number of points refused.
    """

    def __init__(
        self,
        client: client_.Client,
        buckets: buckets_.Buckets,
        batch_size: int,
        timeout: float,
        count_refused: Callable[[int], None],
    ) -> None:
        self._client = client
        self._buckets = buckets
        self._batch_size = batch_size
        self._timeout = timeout
        self._count_refused = count_refused

    def write(self, policy: Any, points: line_protocol.Points) -> None:
        """Write all points, which belong to metrics of one archive policy.

        :raises InfluxDBError: some may not be written; repeat it all.
        """
        self._buckets.ensure(policy)
        batches = [
            (policy, points.part(start, stop))
            for start, stop in parts(len(points), self._batch_size)
        ]
        if len(batches) == 1:
            self._send(*batches[0])
        else:
            # No two points share metric and time, so their order is free.
            utils.parallel_map(self._send, batches)

    def _send(self, policy: Any, points: line_protocol.Points) -> None:
        bucket = self._buckets.name(policy)
        lines = line_protocol.encode(points)
        try:
            self._write_and_make(policy, bucket, points, lines)
        except exceptions.PartialWriteError as e:
            self._after_partial_write(policy, bucket, points, e)
        except exceptions.RefusedError as e:
            if e.status == 413 and len(points) > 1:
                self._send_halves(policy, points)
            elif e.status == 400 and "unable to parse" in e.reason:
                # Nothing of it was stored, for the sake of one line or more.
                if len(points) > 1:
                    self._send_halves(policy, points)
                else:
                    self._refused(bucket, points, 1, e)
            else:
                # Not about the points: nothing may be dropped for it.
                raise

    def _write_and_make(
        self,
        policy: Any,
        bucket: str,
        points: line_protocol.Points,
        lines: bytes,
        pauses: tuple[float, ...] = _UNTIL_MADE,
    ) -> None:
        try:
            self._write(policy, bucket, points, lines)
        except exceptions.BucketNotFoundError:
            if not pauses:
                raise
            # Somebody has deleted it since we saw it, or is making it at this
            # moment: InfluxDB 2 shows a bucket before it can write to it.
            self._buckets.forget(bucket)
            self._buckets.ensure(policy)
            time.sleep(pauses[0])
            self._write_and_make(policy, bucket, points, lines, pauses[1:])

    def _write(
        self,
        policy: Any,
        bucket: str,
        points: line_protocol.Points,
        lines: bytes,
    ) -> None:
        now = time.time_ns()
        # The request and its repetitions are over by then: the last of them
        # begins within the timeout, and each has three steps that may take
        # as long, to send the head, to send the body, and to be answered.
        until = now + int(4e9 * self._timeout)
        if not self._client.is_1x and rollup_lines.has_late(points, until):
            oldest = rollup_lines.oldest_place(now, self._buckets.kept(policy))
            lines += rollup_lines.marks(points, until, oldest)
        self._client.write(bucket, lines)

    def _after_partial_write(
        self,
        policy: Any,
        bucket: str,
        points: line_protocol.Points,
        error: exceptions.PartialWriteError,
    ) -> None:
        if not error.type_conflict or error.dropped >= len(points):
            self._refused(bucket, points, error.dropped, error)
            return
        # The server stops at the first shard that has another type for our
        # field. What the other shards would have said is not known, so each
        # has to be asked by itself.
        parts = self._by_shard(bucket, points)
        if len(parts) > 1:
            for part in parts:
                self._send(policy, part)
        elif len(points) > 1:
            # Shards that are older than the bucket's present duration, or
            # those that share a time in a cluster, each with some series.
            # The answer is that of one of them, and another may have failed.
            self._send_halves(policy, points)
        else:
            self._refused(bucket, points, error.dropped, error)

    def _send_halves(self, policy: Any, points: line_protocol.Points) -> None:
        half = len(points) // 2
        self._send(policy, points.part(0, half))
        self._send(policy, points.part(half, len(points)))

    def _by_shard(
        self, bucket: str, points: line_protocol.Points
    ) -> list[line_protocol.Points]:
        """The points of each shard; times are sorted."""
        found = self._find(bucket)
        if found is None or not found.shard_duration:
            return [points]
        starts = shards.starts(points.times, found.shard_duration)
        bounds = [
            0,
            *((starts[1:] != starts[:-1]).nonzero()[0] + 1).tolist(),
            len(points),
        ]
        return [
            points.part(start, stop)
            for start, stop in itertools.pairwise(bounds)
        ]

    def _refused(
        self,
        bucket: str,
        points: line_protocol.Points,
        number: int,
        error: exceptions.RefusedError,
    ) -> None:
        # First, since it may fail, and then all is offered again.
        cure = self._cure(bucket, points, error)
        self._count_refused(number)
        metrics = {points.ids[i] for i in points.metrics[:1000].tolist()}
        LOG.error(
            "InfluxDB has refused for good %d of %d points for bucket %s"
            " between %s and %s; the others are stored. It says: %s."
            " The points were of %d metrics: %s%s%s",
            number,
            len(points),
            bucket,
            points.times[0].astype("datetime64[ns]"),
            points.times[-1].astype("datetime64[ns]"),
            error.reason,
            len(metrics),
            ", ".join(sorted(map(str, metrics))[:5]),
            ", ..." if len(metrics) > 5 else "",
            cure,
        )

    def _cure(
        self,
        bucket: str,
        points: line_protocol.Points,
        error: exceptions.RefusedError,
    ) -> str:
        if not (
            isinstance(error, exceptions.PartialWriteError)
            and error.type_conflict
        ):
            return ""
        found = self._find(bucket)
        if found is None or not found.shard_duration:
            return ""
        return conflicts.cure(
            self._buckets.server, found, int(points.times[0])
        )

    def _find(self, bucket: str) -> buckets_.Bucket | None:
        try:
            return self._buckets.find(bucket)
        except exceptions.AccessError:
            return None  # Who may write may not be allowed to look.
