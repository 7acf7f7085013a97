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
"""Deleting the points, windows and names of metrics.

Gnocchi's janitor deletes metrics one by one. For InfluxDB a DELETE of
thousands of metrics costs no more than a few DELETEs of one metric. So when
Gnocchi asks for one, the points of others that wait in the indexer are deleted
with it. Gnocchi asks for each of these later, before it forgets the metric.
After a crash it asks again, and to delete twice is harmless.

Somebody who still knew a metric may store something of it later: a POST that
was under way, or windows that were being computed. So a minute after their
deletion metrics are looked for once more, with the next one.

Or nothing is deleted, and InfluxDB drops points and windows when they expire.
"""

import contextlib
import itertools
import math
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import daiquiri

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets import manager
from gnocchi_influxdb.buckets.visibility import is_absent, takes_writes
from gnocchi_influxdb.client import client
from gnocchi_influxdb.maintenance import portions
from gnocchi_influxdb.wire import influxql, influxql_rows

LOG = daiquiri.getLogger(__name__)

#: Metrics in one statement. Each goes over all that InfluxDB has in its write
#: cache: with 600,000 series there (100,000 metrics, 6 shards) a metric takes
#: 1.2 ms of processor time in a statement of 1,000, 0.7 in one of 5,000.
METRICS_PER_DELETE = 5000

# Metrics to list at a time; the janitor takes as many by default.
_LOOK_AHEAD = 10000
_LOOK_AGAIN = 60  # s

# Seconds after which deleted metrics are looked for, all at once. A look for
# each took 32 ms of a deletion's 40 (100,000 metrics, three buckets).
_CHECK_AFTER = 60

# Seconds to wait, try by try, while deleted points are still there.
_PAUSES = (0.1, 0.5, 2.0, 5.0, 0.0)


class Deleter:
    """Deletes metrics, each with others that wait for their deletion.

    For one thread, that of Gnocchi's janitor.

    :param to_delete: returns at most so many metrics (gnocchi.indexer.Metric)
        that wait for their deletion.
    :param expire: delete nothing that expires.
    """

    def __init__(
        self,
        client: client.Client,
        buckets: manager.Buckets,
        to_delete: Callable[[int], Iterable[Any]],
        expire: bool = False,
    ) -> None:
        self._client = client
        self._buckets = buckets
        self._to_delete = to_delete
        self._expire = expire
        # Whether what a bucket has expires, and when that was seen.
        self._expiring: dict[str, tuple[float, bool]] = {}
        self._portions = portions.Portions(METRICS_PER_DELETE)
        self._looked = -math.inf
        # By a policy's buckets, in the order in which they are to be deleted.
        self._waiting: dict[tuple[str, ...], dict[uuid.UUID, None]] = {}
        # Buckets of windows that were not there, and when (time.monotonic).
        self._absent: dict[str, float] = {}
        # Deleted already; Gnocchi has not asked for them yet.
        self._done: set[uuid.UUID] = set()
        # The oldest first, and when they were deleted (time.monotonic).
        self._deleted: dict[tuple[str, ...], dict[uuid.UUID, float]] = {}

    def delete(self, metric: Any) -> None:
        """Delete all points of a metric, its windows and its name.

        :param metric: gnocchi.indexer.Metric.
        :raises InfluxDBError: some points may be left.
        """
        buckets = self._buckets_of(metric.archive_policy)
        if not buckets:
            return
        self._check(buckets)
        if metric.id in self._done:
            self._done.discard(metric.id)
            return
        if metric.id not in self._waiting.get(buckets, ()):
            self._look_ahead(metric.id)
        waiting = self._waiting.get(buckets, {})
        ids = [metric.id, *(id_ for id_ in waiting if id_ != metric.id)]
        deleted = self._portions.first(self._delete_in, buckets, ids)
        for id_ in deleted:
            waiting.pop(id_, None)
        self._done.update(deleted[1:])
        self._deleted.setdefault(buckets, {}).update(
            dict.fromkeys(deleted, time.monotonic())
        )

    def _buckets_of(self, policy: Any) -> tuple[str, ...]:
        """Buckets of a policy from which its metrics are deleted."""
        names = self._buckets.names(policy)
        return tuple(name for name in names if not self._expires(name))

    def _expires(self, bucket: str) -> bool:
        if not self._expire:
            return False
        now = time.monotonic()
        seen, expires = self._expiring.get(bucket, (-math.inf, False))
        if now - seen >= manager.LOOK_AGAIN:
            found = self._buckets.find(bucket)
            # It may be hidden from the token.
            expires = (
                bool(found.retention) if found else self._is_absent(bucket)
            )
            self._expiring[bucket] = now, expires
        return expires

    def _look_ahead(self, asked: uuid.UUID) -> None:
        """List the metrics that Gnocchi will ask for, as for this one."""
        now = time.monotonic()
        if now - self._looked < _LOOK_AGAIN:
            return
        self._looked = now
        self._waiting = {}
        listed = set()
        try:
            for metric in self._to_delete(_LOOK_AHEAD):
                listed.add(metric.id)
                if metric.id not in self._done:
                    buckets = self._buckets_of(metric.archive_policy)
                    self._waiting.setdefault(buckets, {})[metric.id] = None
        except Exception as e:
            # Looking ahead only saves time.
            LOG.warning("Metrics are deleted one by one: %s", e)
        # Another janitor has expunged those that are not listed.
        self._done &= listed
        # It was worth it, so it may be again. If not, another janitor is
        # faster, or Gnocchi takes more at a time: so it may be for each.
        if asked in listed and len(listed) > 1:
            self._looked = -math.inf

    def _check(self, buckets: tuple[str, ...]) -> None:
        """Delete again what was stored of metrics after their deletion."""
        deleted = self._deleted.get(buckets, {})
        before = time.monotonic() - _CHECK_AFTER
        some = itertools.islice(deleted.items(), METRICS_PER_DELETE)
        ids = [id_ for id_, at in some if at <= before]
        while ids:
            for id_ in self._portions.first(self._delete_left, buckets, ids):
                del deleted[id_]
            ids = [id_ for id_ in ids if id_ in deleted]

    def _delete_left(
        self, buckets: tuple[str, ...], ids: Sequence[uuid.UUID]
    ) -> Sequence[uuid.UUID]:
        left: set[uuid.UUID] = set()
        for bucket in self._present(buckets):
            with contextlib.suppress(
                exceptions.BucketNotFoundError, exceptions.ConfigurationError
            ):
                left.update(with_points(self._client, bucket, ids))
        if left:
            self._delete_in(buckets, [*left])
        return ids

    def _delete_in(
        self, buckets: Sequence[str], metrics: Sequence[uuid.UUID]
    ) -> Sequence[uuid.UUID]:
        """Delete all that buckets have of metrics, see `_delete`.

        :param buckets: of one policy, that of its points first.
        """
        for bucket in self._present(buckets):
            if bucket == buckets[0] or self._client.capabilities.delete_by_tag:
                metrics = self._delete(bucket, metrics, bucket != buckets[0])
                continue
            # On 1.x the first DELETE has reached all of them.
            try:
                left = with_points(self._client, bucket, metrics)
            except exceptions.BucketNotFoundError:
                self._absent[bucket] = time.monotonic()
                continue
            if left:
                by_influxql(self._client, bucket, left)
        return metrics

    def _present(self, buckets: Sequence[str]) -> Iterator[str]:
        """Without those that were not there a moment ago."""
        now = time.monotonic()
        for bucket in buckets:
            if now - self._absent.get(bucket, -math.inf) >= _LOOK_AGAIN:
                yield bucket

    def _is_absent(self, bucket: str) -> bool:
        """Whether a bucket of windows that was not found is not there.

        Where the token may not write, the driver has left nothing.
        """
        if takes_writes(self._client, bucket):
            return False
        self._absent[bucket] = time.monotonic()
        return True

    def _delete(
        self, bucket: str, metrics: Sequence[uuid.UUID], of_windows: bool
    ) -> Sequence[uuid.UUID]:
        """Delete all of the first metric, and of all if it is cheap.

        :param of_windows: whether the bucket may well be absent.
        :return: the metrics of which nothing is left.
        """
        try:
            # InfluxQL uses the tag index. /api/v2/delete looks at each series
            # of each shard, and takes one metric a request.
            by_influxql(self._client, bucket, metrics)
            return metrics
        except (
            exceptions.BucketNotFoundError,
            exceptions.ConfigurationError,
        ) as e:
            if not self._client.capabilities.delete_by_tag:
                if isinstance(e, exceptions.BucketNotFoundError):
                    return metrics
                raise
            if of_windows and self._is_absent(bucket):
                return metrics
            LOG.debug("No DELETE by InfluxQL, trying /api/v2/delete: %s", e)
        try:
            self._client.delete(bucket, f'{schema.TAG}="{metrics[0]}"')
        except exceptions.BucketNotFoundError:
            # Nothing to delete, unless it is hidden from the token.
            if is_absent(self._client, bucket):
                return metrics
            raise
        return metrics[:1]


def by_influxql(
    influxdb: client.Client, bucket: str, metrics: Sequence[uuid.UUID]
) -> None:
    """Delete all that a bucket has of metrics by InfluxQL.

    On 1.x that reaches all buckets of the database.

    :param metrics: `METRICS_PER_DELETE` at most.
    :raises BucketNotFoundError: the bucket is absent, or hidden from the
        token.
    :raises ConfigurationError: InfluxQL would ask another organization.
    :raises UnavailableError: InfluxDB still has some of the points.
    """
    # While InfluxDB writes its cache to a data file, a DELETE misses the
    # points in between.
    for pause in _PAUSES:
        influxql_rows.check(
            influxdb.influxql(bucket, influxql.delete(metrics))
        )
        metrics = with_points(influxdb, bucket, metrics)
        if not metrics:
            return
        time.sleep(pause)
    raise exceptions.UnavailableError(
        f"InfluxDB at {influxdb.url} still has points of {len(metrics)}"
        f" metrics in bucket {bucket} that it was told to delete; they are to"
        " be deleted again"
    )


def with_points(
    influxdb: client.Client, bucket: str, metrics: Sequence[uuid.UUID]
) -> list[uuid.UUID]:
    """Those of the metrics of which a bucket has anything.

    :raises InfluxDBError: see `by_influxql`.
    """
    body = influxdb.influxql(bucket, influxql.anything(metrics))
    found = influxql_rows.series(body)
    return list({uuid.UUID(series["tags"][schema.TAG]) for series in found})
