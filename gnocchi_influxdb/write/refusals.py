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
"""What becomes of points that the server refuses.

A refused point is left out, logged and counted, and holds up no other. Where
the answer does not tell which points of a request were refused, the points
are sent again in smaller requests.
"""

import itertools
from collections.abc import Callable, Iterable

import daiquiri

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.buckets import manager, shards, type_conflicts
from gnocchi_influxdb.wire import line_protocol
from gnocchi_influxdb.write.batch import Batch

LOG = daiquiri.getLogger(__name__)


class Refusals:
    """Decides about refused batches. Threads may share it.

    :param count: called with each number of points that are lost.
    """

    def __init__(
        self, buckets: manager.Buckets, count: Callable[[int], None]
    ) -> None:
        self._buckets = buckets
        self._count = count

    def parts(
        self, batch: Batch, error: exceptions.RefusedError
    ) -> Iterable[Batch]:
        """Parts of a refused batch that are worth sending by themselves.

        Refused points that no further request can save are logged and
        counted.

        :return: empty: all other points of the batch are stored.
        :raises RefusedError: the error, since it is not about the points:
            none may be dropped for it.
        """
        number = len(batch.points)
        if isinstance(error, exceptions.PartialWriteError):
            if not error.type_conflict or error.dropped >= number:
                self._lost(batch, error.dropped, error)
                return ()
            # The server stops at the first shard that has another type for
            # our field. Nobody knows what the other shards would have said,
            # so each has to be asked by itself.
            by_shard = self._by_shard(batch)
            if len(by_shard) > 1:
                return by_shard
            # Otherwise these are shards that are older than the bucket's
            # present duration, or those that share a time in a cluster, each
            # with some series. The answer is of one of them, and another may
            # have failed.
            dropped = error.dropped
        elif error.status == 400 and "unable to parse" in error.reason:
            # Nothing of it was stored, for the sake of one line or more.
            dropped = 1
        else:
            raise error
        if number > 1:
            half = number // 2
            return batch.part(0, half), batch.part(half, number)
        self._lost(batch, dropped, error)
        return ()

    def too_old(self, batch: Batch, oldest: int) -> Batch:
        """The part of a batch that is not too old; the other is logged.

        :param oldest: ns since the epoch.
        """
        number = int(batch.points.times.searchsorted(oldest))
        points = batch.part(0, number).points
        self._count(number)
        LOG.error(
            "%d of %d points for bucket %s are refused, the oldest of %s:"
            " their windows are downsampled and can't be computed again."
            " [storage] influxdb_raw_slack says how late measures may be. The"
            " points were of %s",
            number,
            len(batch.points),
            batch.bucket,
            points.times[0].astype("datetime64[ns]"),
            _metrics(points),
        )
        return batch.part(number, len(batch.points))

    def _by_shard(self, batch: Batch) -> list[Batch]:
        found = self._find(batch.bucket)
        if found is None or not found.shard_duration:
            return [batch]
        bounds = shards.bounds(batch.points.times, found.shard_duration)
        return [
            batch.part(start, stop)
            for start, stop in itertools.pairwise(bounds)
        ]

    def _lost(
        self, batch: Batch, number: int, error: exceptions.RefusedError
    ) -> None:
        # First, since it may fail, and then all is offered again.
        cure = self._cure(batch, error)
        self._count(number)
        points = batch.points
        LOG.error(
            "InfluxDB has refused for good %d of %d points for bucket %s"
            " between %s and %s; the others are stored. It says: %s."
            " The points were of %s%s",
            number,
            len(points),
            batch.bucket,
            points.times[0].astype("datetime64[ns]"),
            points.times[-1].astype("datetime64[ns]"),
            error.reason,
            _metrics(points),
            cure,
        )

    def _cure(self, batch: Batch, error: exceptions.RefusedError) -> str:
        if not (
            isinstance(error, exceptions.PartialWriteError)
            and error.type_conflict
        ):
            return ""
        found = self._find(batch.bucket)
        if found is None or not found.shard_duration:
            return ""
        return type_conflicts.cure(
            self._buckets.server, found, int(batch.points.times[0])
        )

    def _find(self, bucket: str) -> manager.Bucket | None:
        try:
            return self._buckets.find(bucket)
        except exceptions.AccessError:
            return None  # A token that may write may not be allowed to look.


def _metrics(points: line_protocol.PointTable) -> str:
    """Which metrics points are of, some of them by name."""
    metrics = {points.ids[i] for i in points.metrics[:1000].tolist()}
    more = ", ..." if len(metrics) > 5 else ""
    names = ", ".join(sorted(map(str, metrics))[:5])
    return f"{len(metrics)} metrics: {names}{more}"
