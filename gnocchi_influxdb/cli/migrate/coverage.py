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
"""Seeing to it that moved windows are read, and are not computed again."""

import threading
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation.windows import cut
from gnocchi_influxdb.buckets.manager import Buckets
from gnocchi_influxdb.buckets.watermark import DELAY, Watermark, Watermarks
from gnocchi_influxdb.cli.migrate import history
from gnocchi_influxdb.downsampling.downsampler import Downsampler
from gnocchi_influxdb.read import fetcher, query
from gnocchi_influxdb.schema import Array
from gnocchi_influxdb.wire import line_protocol
from gnocchi_influxdb.write import batch, delivery


class Covered(NamedTuple):
    """Up to where an archive policy is downsampled.

    :ivar began: when that was seen to, ns since the epoch.
    :ivar until: coarser windows that begin before are read from their
        buckets, ns.
    """

    began: int
    until: int


class Reach:
    """How far windows were moved, by bucket. Threads may share it."""

    def __init__(self, watermarks: Watermarks) -> None:
        self._watermarks = watermarks
        self._lock = threading.Lock()
        self._reached: dict[str, int] = {}

    def protect(self, bucket: str, until: int) -> None:
        """Let windows before `until` (ns) be replaced by none of points.

        To be called before they are written.
        """
        with self._lock:
            if until > self._reached.get(bucket, 0):
                self._watermarks.protect(bucket, until)
                self._reached[bucket] = until

    def extend(self, bucket: str, until: int, now: int) -> None:
        """Let moved windows before `until` (ns) be read, and stay.

        :param now: ns since the epoch.
        """
        with self._lock:
            if until > self._reached.get(bucket, 0):
                mark = self._watermarks.read(bucket)
                if mark is None or mark.until < until:
                    self._watermarks.write(
                        bucket, Watermark(until, now, until)
                    )
                self._watermarks.protect(bucket, until)
                self._reached[bucket] = until


class Coverage:
    """Moves watermarks. For one thread.

    :param conf: the group of options that the buckets were made with.
    """

    def __init__(self, buckets: Buckets, conf: Any) -> None:
        self._buckets = buckets
        self._downsampler = Downsampler(buckets, conf)

    def extend(self, policy: Any) -> Covered:
        """Downsample all that is over, and close it.

        Before windows are moved, so that what is made of the points in
        InfluxDB, which are not all, does not overwrite them later; and
        afterwards, since metricd may have written a watermark meanwhile that
        it had read before.

        :raises InfluxDBError: it can't be done.
        """
        now = self._buckets.client.clock.now_ns()
        until = schema.MAX_TIME
        self._buckets.ensure(policy)
        self._buckets.ensure_moved(policy)
        for target in self._buckets.downsampled(policy):
            for _mark in self._downsampler.downsample(policy, target):
                pass
            mark = self._buckets.watermarks.read(target.name)
            if mark is None:
                # There are no points in any window that is over.
                end = schema.floor(now - DELAY, target.every)
                mark = Watermark(end, now, end)
            last = max(mark.last, mark.until)
            self._buckets.watermarks.write(
                target.name, mark._replace(last=last)
            )
            until = min(until, mark.until)
        return Covered(now, until)


def mark_open(
    buckets: Buckets,
    fetcher_: fetcher.Fetcher,
    timeout: float,
    policy: Any,
    points: Mapping[uuid.UUID, Array],
) -> None:
    """Mark the windows that InfluxDB has measures of, too.

    Neither what Gnocchi has stored of them nor what was downsampled here
    is all, so they are computed again from the measures of both.

    :param timeout: of a write, s.
    :param points: the measures that are about to be moved, by metric.
    """
    targets = buckets.downsampled(policy)
    if not targets:
        return
    coarsest = max(history.lengths(policy))
    spans = {
        id_: (
            schema.floor(int(times[0]), coarsest),
            schema.floor(int(times[-1]), coarsest) + coarsest,
        )
        for id_, of in points.items()
        for times in [history.as_ns(of["timestamps"])]
    }
    asked = query.PointsQuery(
        buckets.name(policy),
        min(start for start, _stop in spans.values()),
        max(stop for _start, stop in spans.values()),
    )
    (there,) = fetcher_.fetch([(asked, [*points])])
    others = {
        id_: own[~numpy.isin(own["timestamps"], points[id_]["timestamps"])]
        for id_, rows in there.items()
        for own in [cut(rows, *spans[id_])]
    }
    found, _ = batch.clean([*others], [*others.values()])
    if not len(found):
        return
    now = buckets.client.clock.now_ns()
    until = now + int(delivery.MARKED * timeout * schema.SECOND)
    for target in targets:
        lines = line_protocol.marks(found, now, until, target.every)
        if lines:
            buckets.client.write(target.name, lines)
