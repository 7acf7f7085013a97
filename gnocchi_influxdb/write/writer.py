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
"""Sending a batch, in as many requests as it needs.

A server that fails is an exception: Gnocchi keeps the measures and offers
them again, and writing a point twice changes nothing.
"""

import contextlib
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent import futures

from gnocchi import utils

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets import manager, shards
from gnocchi_influxdb.client import client as client_
from gnocchi_influxdb.wire import line_protocol
from gnocchi_influxdb.write import delivery, refusals
from gnocchi_influxdb.write.batch import Batch

# Points that are encoded while a request ahead of them is under way, at most.
_ENCODED_AHEAD = 80000

# An age at which no point is too old, ns: half of the least slack.
_YOUNG = 1800 * schema.SECOND

# Points that each series has in a shard, at least, where it pays to send the
# first of them ahead.
_MANY = 16


def request_bounds(number: int, most: int) -> list[tuple[int, int]]:
    """Bounds of the requests that a number of points is sent in.

    All of one size, and as many as are under way at once or a multiple of it:
    a last one, sent alone, would leave the server's other processors idle.

    :param most: points in one request.
    :return: (start, stop) of each request.
    """
    requests = -(-number // most)
    if requests > 1:
        # More threads than that would only wait.
        at_once = min(utils.parallel_map.MAX_WORKERS, os.cpu_count() or 1)
        requests = -(-requests // at_once) * at_once
    bounds = [number * i // requests for i in range(requests)]
    return list(itertools.pairwise([*bounds, number]))


class BatchWriter:
    """Writes batches into their buckets. Threads may share it.

    :param batch_size: points a request, at most.
    :param timeout: of each step of a request, and until the beginning of its
        last repetition, seconds.
    :param count_refused: called with each number of points refused.
    """

    def __init__(
        self,
        client: client_.Client,
        buckets: manager.Buckets,
        batch_size: int,
        timeout: float,
        count_refused: Callable[[int], None],
    ) -> None:
        self._delivery = delivery.Delivery(client, buckets, timeout)
        self._refusals = refusals.Refusals(buckets, count_refused)
        self._buckets = buckets
        self._batch_size = batch_size

    def write(self, batch: Batch) -> None:
        """Write all points of a batch.

        Points that the server refuses for good are left out and logged. So
        are those whose windows can't be computed any more.

        :raises InfluxDBError: some may not be written; repeat it all.
        """
        young = self._buckets.client.clock.now_ns() - _YOUNG
        if (batch.points.times[:1] < young).any():
            # How old they may be depends on the bucket as it is.
            with contextlib.suppress(exceptions.BucketNotFoundError):
                self._buckets.ensure(batch.policy)
            oldest = self._buckets.oldest_taken(batch.policy)
            if batch.points.times[0] < oldest:
                batch = self._refusals.too_old(batch, oldest)
        bounds = request_bounds(len(batch.points), self._batch_size)
        lost = refusals.Lost()
        try:
            if len(bounds) == 1:
                self._send(batch, lost)
                return
            parts = [batch.part(start, stop) for start, stop in bounds]
            lines, marked = self._send_ahead(batch, parts)
            # No two points share metric and time, so their order is free.
            utils.parallel_map(
                self._send,
                [
                    (part, lost, marked, encoded)
                    for part, encoded in itertools.zip_longest(parts, lines)
                ],
            )
        finally:
            lost.tell(batch)

    def _send_ahead(
        self, batch: Batch, parts: Sequence[Batch]
    ) -> tuple[list[bytes], int]:
        """Write a point of each series into each shard, and all marks.

        Requests that make the same series at the same time hold each other
        up in InfluxDB, and each would have the marks of a day that they share.

        :return: lines of the first parts, since there was time to encode
            them; and until when (ns) the parts need no further marks.
        """
        points = batch.points
        bounds = shards.bounds(
            points.times, self._buckets.of(batch.policy).shard_duration
        )
        if (len(bounds) - 1) * len(points.ids) * _MANY > len(points):
            return [], 0
        first = line_protocol.encode(points.first(bounds))
        with futures.ThreadPoolExecutor(1) as pool:
            # InfluxDB waits for its disk meanwhile.
            encoded = [
                pool.submit(line_protocol.encode, part.points)
                for part in parts[: _ENCODED_AHEAD // self._batch_size]
            ]
            try:
                marked = self._delivery.write(batch, first)
            except exceptions.RefusedError:
                marked = 0  # Seen to when they are sent with the others.
        return [lines.result() for lines in encoded], marked

    def _send(
        self,
        batch: Batch,
        lost: refusals.Lost,
        marked: int = 0,
        lines: bytes | None = None,
    ) -> None:
        """Write the points of a batch in one request, or more if refused.

        :param lost: takes note of those that are refused for good.
        :param marked: until when (ns) they need no further marks.
        :param lines: of the points, if they are encoded already.
        """
        if lines is None:
            lines = line_protocol.encode(batch.points)
        try:
            self._delivery.write(batch, lines, marked)
        except exceptions.RefusedError as e:
            for part in self._refusals.parts(batch, e, lost):
                self._send(part, lost)
