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
"""Names of metrics in InfluxDB (measurement ``metric_info``).

Gnocchi does not read them; dashboards do. gnocchi-metricd writes them apart
from the measures: every ten minutes `NamesJob` looks through the indexer and
writes the names of metrics that are new or have changed. Points expire, so it
writes each name again in each period: a week, or half of the bucket's
retention if that is less. The time of a point is the start of its period, so
several processes write the same point. More points than that would be felt:
with five fields in each daily shard, names were a fifth of what is on disk.

A metric is named if it has received measures in this period or in the one
before. An indexer keeps many more whose resources are gone.

Each sack of gnocchi-metricd stands for an equal share of the ids of metrics,
so the work is spread over all workers of all hosts. A sack has up to three
workers ([metricd] processing_replicas), and each of them does this.
"""

import dataclasses
import datetime
import random
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import daiquiri

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets import manager
from gnocchi_influxdb.client import client
from gnocchi_influxdb.indexer import listing
from gnocchi_influxdb.wire import info_lines

LOG = daiquiri.getLogger(__name__)

#: Longest time between two points of a metric, seconds.
PERIOD = 7 * 86400

#: Seconds between two looks at the metrics of a sack, and after a failure.
INTERVAL = 600

_PAGE = 10000  # metrics; bounds the memory and the time of a call
_TIMEOUT = 10.0  # s; the worker does nothing else meanwhile

#: Names by bucket.
Named = Mapping[str, Sequence[info_lines.Info]]


class NameWriter:
    """Writes the names of metrics into the buckets of their policies.

    Threads may share one. No request is repeated.

    :param indexer: Gnocchi's SQLAlchemy driver.
    :param batch_size: most lines in one request.
    """

    def __init__(
        self,
        client: client.Client,
        buckets: manager.Buckets,
        indexer: Any,
        batch_size: int,
    ) -> None:
        self._client = client.once(_TIMEOUT)
        self._buckets = buckets
        self._indexer = indexer
        self._limit = min(batch_size, _PAGE)

    def read(
        self, first: uuid.UUID, last: uuid.UUID
    ) -> tuple[Named, uuid.UUID | None]:
        """Read the names of metrics from the indexer.

        :param last: inclusive.
        :return: the names, and the id to go on with: None after the last one.
        :raises oslo_db.exception.DBError: the database fails.
        """
        oldest = _utc(_now() - 2 * PERIOD * schema.SECOND)
        rows = listing.attributes(
            self._indexer, first, last, oldest, self._limit
        )
        by_policy: dict[str, list[Any]] = {}
        for row in rows:
            by_policy.setdefault(row.archive_policy_name, []).append(row)
        named: dict[str, Sequence[info_lines.Info]] = {}
        for policy in self._indexer.list_archive_policies():
            start, period = self._period(policy)
            since = _utc(start - period)
            named[self._buckets.name(policy)] = [
                _info(row, start)
                for row in by_policy.get(policy.name, ())
                if row.last_measure_timestamp >= since
            ]
        if len(rows) < self._limit or rows[-1].id == last:
            return named, None
        return named, uuid.UUID(int=rows[-1].id.int + 1)

    def describe(self, policy: Any, metrics: Iterable[Any]) -> Named:
        """The names of some metrics (gnocchi.indexer.Metric) of a policy."""
        start, _ = self._period(policy)
        infos = [_info(metric, start) for metric in metrics]
        return {self._buckets.name(policy): infos}

    def write(self, named: Named) -> dict[str, exceptions.InfluxDBError]:
        """Write names, even if InfluxDB has them already.

        :return: errors by bucket: some of its names are not written.
        :raises InfluxDBError: the server fails.
        """
        failed: dict[str, exceptions.InfluxDBError] = {}
        for bucket, infos in named.items():
            if infos:
                try:
                    self._client.write(bucket, info_lines.encode(infos))
                except exceptions.OF_ONE_BUCKET as e:
                    failed[bucket] = e
        return failed

    def _period(self, policy: Any) -> tuple[int, int]:
        """Start and length of the present period of a policy, ns."""
        retention = self._buckets.retention(policy)
        seconds = min(PERIOD, retention // 2) if retention else PERIOD
        period = seconds * schema.SECOND
        return schema.floor(_now(), period), period


@dataclasses.dataclass
class _Share:
    """The metrics that a sack stands for: those with ids in a range.

    :ivar last: inclusive.
    :ivar due: when to look at them (time.monotonic).
    :ivar next: the id to go on with.
    :ivar known: hashes of the names that are known to be in InfluxDB. The set
        takes about 100 bytes a metric.
    :ivar found: those of the round that is under way.
    """

    first: uuid.UUID
    last: uuid.UUID
    due: float
    next: uuid.UUID
    known: set[int] = dataclasses.field(default_factory=set)
    found: set[int] = dataclasses.field(default_factory=set)


class NamesJob:
    """Keeps the names of all metrics in InfluxDB up to date.

    Each worker of gnocchi-metricd has one, for a single thread. A new worker
    writes all names of its sacks once.
    """

    def __init__(self, writer: NameWriter) -> None:
        self._writer = writer
        self._shares: dict[int, _Share] = {}
        self._resumes = 0.0  # time.monotonic
        # Buckets, and "" for the server or the indexer.
        self._failing: set[str] = set()

    def run(self, sack: int, sacks: int) -> None:
        """Write names of a sack's metrics if it is time. Never raises.

        A call looks at one page of metrics, and the next call goes on.

        :param sack: number of the sack, from 0 on.
        :param sacks: how many sacks there are.
        """
        share = self._shares.get(sack)
        if share is None:
            share = self._shares[sack] = _share(sack, sacks)
        if time.monotonic() < max(share.due, self._resumes):
            return
        try:
            self._write_page(share)
        except Exception as e:
            self._resumes = time.monotonic() + INTERVAL
            if "" not in self._failing:
                self._failing.add("")
                LOG.warning(
                    "The names of metrics (measurement metric_info) can't be"
                    " written; their measures do not depend on it: %s",
                    e,
                    exc_info=not isinstance(e, exceptions.InfluxDBError),
                )

    def _write_page(self, share: _Share) -> None:
        named, next_id = self._writer.read(share.next, share.last)
        new = {
            bucket: [info for info in infos if hash(info) not in share.known]
            for bucket, infos in named.items()
        }
        failed = self._writer.write(new)
        if any(new.values()):
            self._failing.discard("")
        for bucket, infos in named.items():
            if bucket in failed:
                self._report(bucket, failed[bucket])
                continue
            share.found.update(map(hash, infos))
            if new[bucket]:
                self._failing.discard(bucket)
        share.next = next_id or share.first
        if next_id is None:
            share.known, share.found = share.found, set()
            share.due = time.monotonic() + INTERVAL

    def _report(self, bucket: str, error: exceptions.InfluxDBError) -> None:
        # There is no bucket where no measure could be stored.
        if bucket in self._failing or isinstance(
            error, exceptions.BucketNotFoundError
        ):
            return
        self._failing.add(bucket)
        LOG.warning(
            "The names of some metrics (measurement metric_info) are missing"
            " in bucket %s; their measures are stored. It is tried again"
            " every %d s. [storage] influxdb_metric_info = false does"
            " without. %s",
            bucket,
            INTERVAL,
            error,
        )


def _share(sack: int, sacks: int) -> _Share:
    first, stop = (n * 2**128 // sacks for n in (sack, sack + 1))
    # All sacks of all workers at once would be felt.
    due = time.monotonic() + random.uniform(0, INTERVAL)
    return _Share(
        uuid.UUID(int=first),
        uuid.UUID(int=stop - 1),
        due,
        uuid.UUID(int=first),
    )


def _info(metric: Any, start: int) -> info_lines.Info:
    return info_lines.Info(
        metric.id,
        start,
        metric.name,
        metric.unit,
        metric.resource_id,
        metric.archive_policy_name,
        metric.creator,
    )


def _now() -> int:
    return time.time_ns()


def _utc(ns: int) -> datetime.datetime:
    """A time as the indexer has it: naive."""
    seconds = ns / schema.SECOND
    return datetime.datetime.fromtimestamp(
        seconds, datetime.timezone.utc
    ).replace(tzinfo=None)
