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

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import daiquiri
import numpy

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.aggregation.windows import cut
from gnocchi_influxdb.buckets.manager import Buckets
from gnocchi_influxdb.buckets.policy import PolicyBucket
from gnocchi_influxdb.cli.migrate import coverage, history, source
from gnocchi_influxdb.read import fetcher
from gnocchi_influxdb.schema import Array
from gnocchi_influxdb.wire import line_protocol
from gnocchi_influxdb.write import batch, delivery, writer

LOG = daiquiri.getLogger(__name__)

# Seconds by which values may grow older between here and InfluxDB.
_MARGIN = 60

_NO_POINTS = numpy.empty(0, dtype=schema.DTYPE)

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
        self._reach = coverage.Reach(buckets.watermarks)

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
        since: dict[uuid.UUID, int] = {}
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
                since[metric.id] = measures.starts[-1]
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
        whole = [since[i] if i in points else schema.MAX_TIME for i in ids]
        moved.measures += sum(map(len, points.values()))
        if not self._dry_run:
            self._write_points(policy, points, moved)
            self._write_tables(
                tables, ids, points, numpy.array(whole), covered.began, moved
            )
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
        coverage.mark_open(
            self._buckets,
            self._fetcher,
            self._conf.influxdb_timeout,
            policy,
            points,
        )
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

    def _write_tables(
        self,
        tables: Sequence[tuple[PolicyBucket, history.WindowTable]],
        ids: Sequence[uuid.UUID],
        points: Mapping[uuid.UUID, Array],
        whole: Array,
        now: int,
        moved: history.Moved,
    ) -> None:
        """Write windows, and let them stay as they are.

        :param tables: the finest first.
        :param points: measures that were moved.
        :param whole: for each metric, from when on (ns) these make windows.
        """
        for target, windows in tables:
            if not len(windows):
                continue
            end = int(windows.times[-1]) + target.every
            if target is tables[0][0]:
                of_metrics = [points.get(id_, _NO_POINTS) for id_ in ids]
                rest = history.without(
                    windows, of_metrics, whole, target.every
                )
                self._write_windows(target, ids, rest, moved)
                self._reach.extend(target.name, end, now)
            else:
                end = min(end, now + target.every)
                self._reach.protect(target.name, end)
                # No less than any `end`.
                filled = -(-(now + target.every) // schema.SECOND)
                noted = history.recomputable(windows, whole, filled)
                self._write_windows(target, ids, noted, moved)

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
