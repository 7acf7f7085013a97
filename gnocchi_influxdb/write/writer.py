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
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

from gnocchi import utils

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.buckets import manager as buckets_
from gnocchi_influxdb.buckets import shards, type_conflicts
from gnocchi_influxdb.client import client as client_
from gnocchi_influxdb.wire import line_protocol
from gnocchi_influxdb.write import delivery

LOG = logging.getLogger(__name__)

# Points that are encoded while a request ahead of them is under way, at most.
_ENCODED_AHEAD = 80000

# Points that each series has in a shard, at least, where it pays to send the
# first of them ahead.
_MANY = 16


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
        self._delivery = delivery.Delivery(client, buckets, timeout)
        self._buckets = buckets
        self._batch_size = batch_size
        self._count_refused = count_refused

    def write(self, policy: Any, points: line_protocol.Points) -> None:
        """Write all points, which belong to metrics of one archive policy.

        :raises InfluxDBError: some may not be written; repeat it all.
        """
        bounds = parts(len(points), self._batch_size)
        if len(bounds) == 1:
            self._send(policy, points)
            return
        batches = [points.part(start, stop) for start, stop in bounds]
        lines, marked = self._send_ahead(policy, points, batches)
        # No two points share metric and time, so their order is free.
        utils.parallel_map(
            self._send,
            [
                (policy, batch, marked, encoded)
                for batch, encoded in itertools.zip_longest(batches, lines)
            ],
        )

    def _send_ahead(
        self,
        policy: Any,
        points: line_protocol.Points,
        batches: Sequence[line_protocol.Points],
    ) -> tuple[list[bytes], int]:
        """Write a point of each series into each shard, and all marks.

        Requests that make the same series at the same time hold each other
        up in InfluxDB, and each would have the marks of a day that they share.

        :param batches: parts of the points.
        :return: lines of the first of them, since there was time to encode
            them; and until when (ns) parts of the points need no other marks.
        """
        bounds = shards.bounds(
            points.times, shards.duration(self._buckets.kept(policy))
        )
        if (len(bounds) - 1) * len(points.ids) * _MANY > len(points):
            return [], 0
        first = line_protocol.encode(points.first(bounds))
        with futures.ThreadPoolExecutor(1) as pool:
            # InfluxDB waits for its disk meanwhile.
            encoded = [
                pool.submit(line_protocol.encode, batch)
                for batch in batches[: _ENCODED_AHEAD // self._batch_size]
            ]
            try:
                marked = self._delivery.write(policy, points, first)
            except exceptions.RefusedError:
                marked = 0  # Seen to when they are sent with the others.
        return [lines.result() for lines in encoded], marked

    def _send(
        self,
        policy: Any,
        points: line_protocol.Points,
        marked: int = 0,
        lines: bytes | None = None,
    ) -> None:
        """Write points.

        :param marked: until when (ns) they need no other marks.
        :param lines: of the points, if they are there already.
        """
        bucket = self._buckets.name(policy)
        if lines is None:
            lines = line_protocol.encode(points)
        try:
            self._delivery.write(policy, points, lines, marked)
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
        bounds = shards.bounds(points.times, found.shard_duration)
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
        return type_conflicts.cure(
            self._buckets.server, found, int(points.times[0])
        )

    def _find(self, bucket: str) -> buckets_.Bucket | None:
        try:
            return self._buckets.find(bucket)
        except exceptions.AccessError:
            return None  # Who may write may not be allowed to look.
