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
"""Moving the history of metrics into InfluxDB."""

import threading
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import daiquiri
import numpy

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.aggregation.windows import cut
from gnocchi_influxdb.buckets.manager import Buckets
from gnocchi_influxdb.buckets.policy import PolicyBucket
from gnocchi_influxdb.buckets.watermark import Watermark
from gnocchi_influxdb.cli.migrate import coverage, history, source
from gnocchi_influxdb.read import fetcher, query
from gnocchi_influxdb.schema import Array
from gnocchi_influxdb.wire import line_protocol
from gnocchi_influxdb.write import batch, delivery, writer

LOG = daiquiri.getLogger(__name__)

# Seconds by which values may grow older between here and InfluxDB.
_MARGIN = 60

# A metric is in use if it has received a measure within so many ns. Gnocchi
# drops what is too old for InfluxDB with its next measure.
_IN_USE = 3600 * schema.SECOND


class Transfer:
    """Moves metrics. Threads may share it.

    :param conf: ``conf.storage``.
    :param dry_run: read everything, write nothing.
    """

    def __init__(
        self, origin: source.Source, buckets: Buckets, conf: Any, dry_run: bool
    ) -> None:
        self._origin = origin
        self._client = buckets.client
        self._buckets = buckets
        self._conf = conf
        self._fetcher = fetcher.Fetcher(
            self._client, buckets, conf.influxdb_query_language
        )
        self._delivery = delivery.Delivery(
            self._client, buckets, conf.influxdb_timeout
        )
        self._dry_run = dry_run
        self._lock = threading.Lock()
        self._reached: dict[str, int] = {}

    def move(
        self, policy: Any, metrics: Sequence[Any], covered: coverage.Covered
    ) -> history.Moved:
        """Move some metrics of one archive policy.

        A metric that can't be read is logged and counted as failed.

        :param policy: gnocchi.archive_policy.ArchivePolicy.
        :param metrics: gnocchi.indexer.Metric.
        :param covered: up to where the policy is downsampled.
        :raises InfluxDBError: some may not be moved.
        """
        moved = history.Moved()
        series: dict[Any, dict[Any, Any]] = {}
        points: dict[uuid.UUID, Array] = {}
        for metric in metrics:
            try:
                found = self._origin.aggregated(metric, policy.aggregations)
                measures = self._origin.measures(metric)
            except source.NO_METRIC:
                moved.empty += 1
                continue
            except Exception as e:
                # It must not hold up the others.
                LOG.error("Metric %s can't be read: %r", metric.id, e)
                moved.failed.append(metric.id)
                continue
            series[metric] = found
            if measures is not None:
                points[metric.id] = measures.movable(
                    self._oldest_taken(policy), covered.until, policy
                )
        if not series:
            return moved
        ids = [metric.id for metric in series]
        moved.aggregates.update(dict.fromkeys(ids, 0))
        tables = self._tables(policy, series, moved)
        moved.notes = {
            id_: history.Note(number, covered.began, id_ in moved.losing)
            for id_, number in moved.aggregates.items()
        }
        points = {id_: of for id_, of in points.items() if len(of)}
        moved.measures += sum(map(len, points.values()))
        if not self._dry_run:
            self._write_points(policy, points, moved)
            for target, windows in tables:
                self._write_windows(target, ids, windows, moved)
            target, windows = tables[0]
            if len(windows):
                self._reach(target, int(windows.times[-1]) + target.every)
        return moved

    def targets(self, policy: Any) -> list[PolicyBucket]:
        """The buckets of the windows of a policy, the finest first."""
        wanted = self._buckets.all_of(policy)
        return [wanted.moved, *wanted.windows]

    def oldest(self, target: PolicyBucket) -> int:
        """A bucket does not keep what lies before it, ns since the epoch."""
        now = self._client.clock.now_ns()
        kept = (target.retention - _MARGIN) * schema.SECOND
        return max(now - kept, 0) if target.retention else 0

    def _oldest_taken(self, policy: Any) -> int:
        taken = self._buckets.oldest_taken(policy)
        oldest = self.oldest(self._buckets.of(policy))
        return max(oldest, taken + _MARGIN * schema.SECOND if taken else 0)

    def _tables(
        self, policy: Any, series: Mapping[Any, Any], moved: history.Moved
    ) -> list[tuple[PolicyBucket, history.WindowTable]]:
        """The windows for each bucket, and what can't be kept counted."""
        losing: set[uuid.UUID] = set()
        stopped = self._stopped(series)
        tables = []
        for target in self.targets(policy):
            oldest = self.oldest(target)
            found = []
            for metric, of_metric in series.items():
                storable = {}
                for a, windows in of_metric.items():
                    if schema.ns_of(a.granularity) != target.every:
                        continue
                    young = cut(windows.ts, oldest, None)
                    finite = young[numpy.isfinite(young["values"])]
                    lost = history.Kept(
                        len(finite),
                        len(windows) - len(young) if metric in stopped else 0,
                        len(young) - len(finite),
                    )
                    key = history.Key(policy.name, target.every, a.method)
                    moved.kept.setdefault(key, history.Kept()).add(lost)
                    if lost.too_old or lost.not_finite:
                        losing.add(metric.id)
                    moved.aggregates[metric.id] += len(finite)
                    storable[a.method] = finite
                found.append(storable)
            tables.append((target, history.table(found)))
        moved.losing += losing
        return tables

    def _stopped(self, series: Mapping[Any, Any]) -> set[Any]:
        """Metrics that receive no measures, neither there nor here."""
        since = self._client.clock.now_ns() - _IN_USE
        stopped = [
            metric
            for metric, of_metric in series.items()
            if not any(
                (history.as_ns(windows.timestamps[-1:]) >= since).any()
                for windows in of_metric.values()
            )
        ]
        newest = self._fetcher.newest(stopped)
        return {m for m in stopped if (newest[m.id] or 0) < since}

    def _write_points(
        self,
        policy: Any,
        points: Mapping[uuid.UUID, Array],
        moved: history.Moved,
    ) -> None:
        """Write measures, and no marks for them: their windows are moved."""
        if not points:
            return
        self._mark_open(policy, points)
        ready, _ = batch.clean([*points], [*points.values()])
        whole = batch.Batch(policy, self._buckets.name(policy), ready)
        size: int = self._conf.influxdb_batch_size
        for i in range(0, len(ready), size):
            part = whole.part(i, i + size)
            lines = line_protocol.encode(part.points)
            try:
                self._delivery.write(part, lines, marked=schema.MAX_TIME)
            except exceptions.RefusedError:
                self._write_what_is_taken(part, moved)

    def _write_what_is_taken(
        self, part: batch.Batch, moved: history.Moved
    ) -> None:
        def refused(number: int) -> None:
            moved.refused += number

        writer.BatchWriter(
            self._client,
            self._buckets,
            self._conf.influxdb_batch_size,
            self._conf.influxdb_timeout,
            refused,
        ).write(part)

    def _mark_open(
        self, policy: Any, points: Mapping[uuid.UUID, Array]
    ) -> None:
        """Mark the windows that InfluxDB has measures of, too.

        Neither what Gnocchi has stored of them nor what was downsampled here
        is all, so they are computed again from the measures of both.
        """
        targets = self._buckets.downsampled(policy)
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
            self._buckets.name(policy),
            min(start for start, _stop in spans.values()),
            max(stop for _start, stop in spans.values()),
        )
        (there,) = self._fetcher.fetch([(asked, [*points])])
        others = {
            id_: own[~numpy.isin(own["timestamps"], points[id_]["timestamps"])]
            for id_, rows in there.items()
            for own in [cut(rows, *spans[id_])]
        }
        found, _ = batch.clean([*others], [*others.values()])
        if not len(found):
            return
        now = self._client.clock.now_ns()
        until = now + int(
            delivery.MARKED * self._conf.influxdb_timeout * schema.SECOND
        )
        for target in targets:
            lines = line_protocol.marks(found, now, until, target.every)
            if lines:
                self._client.write(target.name, lines)

    def _write_windows(
        self,
        target: PolicyBucket,
        ids: Sequence[uuid.UUID],
        windows: history.WindowTable,
        moved: history.Moved,
    ) -> None:
        size: int = self._conf.influxdb_batch_size
        for i in range(0, len(windows), size):
            lines = windows.lines(ids, i, i + size)
            self._write_lines(target.name, lines, moved)

    def _write_lines(
        self, bucket: str, lines: Sequence[bytes], moved: history.Moved
    ) -> None:
        try:
            self._client.write(bucket, b"".join(lines))
        except exceptions.PartialWriteError as e:
            if e.type_conflict:
                LOG.error("Windows can't be moved: %s", e)
                moved.refused += e.dropped
            # The others have grown too old while they were read.

    def _reach(self, target: PolicyBucket, until: int) -> None:
        """Let windows before `until` (ns) be read."""
        watermarks = self._buckets.watermarks
        with self._lock:
            if target.name not in self._reached:
                mark = watermarks.read(target.name)
                self._reached[target.name] = mark.until if mark else 0
            if until > self._reached[target.name]:
                now = self._client.clock.now_ns()
                watermarks.write(target.name, Watermark(until, now, until))
                self._reached[target.name] = until
