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

import dataclasses
import heapq
import itertools
import threading
import uuid
from collections.abc import Callable, Collection, Iterable

import daiquiri
import numpy

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets import manager, shards, type_conflicts
from gnocchi_influxdb.wire import line_protocol
from gnocchi_influxdb.write.batch import Batch

LOG = daiquiri.getLogger(__name__)

# Metrics of which a line of the log shows the ids, and lines for one batch.
_SHOWN = 5


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
        self, batch: Batch, error: exceptions.RefusedError, lost: "Lost"
    ) -> Iterable[Batch]:
        """Parts of a refused batch that are worth sending by themselves.

        Refused points that no further request can save are counted, and
        noted in `lost`.

        :return: empty: all other points of the batch are stored.
        :raises RefusedError: the error, since it is not about the points:
            none may be dropped for it.
        """
        number = len(batch.points)
        if isinstance(error, exceptions.PartialWriteError):
            if not error.type_conflict or error.dropped >= number:
                self._give_up(batch, error.dropped, error, lost)
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
        self._give_up(batch, dropped, error, lost)
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
            some_metrics(_ids(points)),
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

    def _give_up(
        self,
        batch: Batch,
        number: int,
        error: exceptions.RefusedError,
        lost: "Lost",
    ) -> None:
        # First, since it may fail, and then all is offered again.
        cure = self._cure(batch, error)
        self._count(number)
        lost.add(batch.points, number, error.reason, cure)

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


@dataclasses.dataclass(slots=True)
class _Part:
    """Lost points for which the same is to be done."""

    oldest: int
    newest: int
    number: int = 0
    said: set[str] = dataclasses.field(default_factory=set)
    metrics: set[uuid.UUID] = dataclasses.field(default_factory=set)


class Lost:
    """Points of one batch that are lost, for a line or a few in the log.

    Threads may share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: dict[str, _Part] = {}

    def add(
        self,
        points: line_protocol.PointTable,
        number: int,
        reason: str,
        cure: str,
    ) -> None:
        """Note some of them.

        :param points: of which `number` are lost.
        :param reason: the server's words.
        :param cure: what to do about it, empty if nobody knows.
        """
        oldest, newest = int(points.times[0]), int(points.times[-1])
        with self._lock:
            # Each shard has a command of its own, and there may be hundreds.
            if len(self._parts) >= _SHOWN and cure not in self._parts:
                cure = ""
            part = self._parts.setdefault(cure, _Part(oldest, newest))
            part.oldest = min(part.oldest, oldest)
            part.newest = max(part.newest, newest)
            part.number += number
            part.said.add(reason)
            part.metrics |= _ids(points)

    def tell(self, batch: Batch) -> None:
        """Log them, if there are any.

        :param batch: the whole of it.
        """
        for cure, part in self._parts.items():
            more = len(part.said) - 1
            LOG.error(
                "InfluxDB has refused for good %d of %d points for bucket %s"
                " between %s and %s; the others are stored. It says: %s%s."
                " The points were of %s%s",
                part.number,
                len(batch.points),
                batch.bucket,
                numpy.datetime64(part.oldest, "ns"),
                numpy.datetime64(part.newest, "ns"),
                min(part.said),
                f" (and {more} more)" if more else "",
                some_metrics(part.metrics),
                cure,
            )


def some_metrics(ids: Collection[uuid.UUID]) -> str:
    """How many metrics these are, and the ids of some."""
    more = ", ..." if len(ids) > _SHOWN else ""
    first = ", ".join(map(str, heapq.nsmallest(_SHOWN, ids)))
    return f"{schema.counted(len(ids), 'metric')}: {first}{more}"


def _ids(points: line_protocol.PointTable) -> set[uuid.UUID]:
    return {points.ids[i] for i in numpy.unique(points.metrics).tolist()}
