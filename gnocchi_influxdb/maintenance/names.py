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
retention if that is less. Buckets of windows have names, too, since nothing
joins across buckets. The time of a point is the start of its period, so
several processes write the same point. More points than that would be felt:
with five fields in each daily shard, names were a fifth of what is on disk.

A metric is named if it has received measures in this period or in the one
before. An indexer keeps many more whose resources are gone.

Each sack of gnocchi-metricd stands for an equal share of the ids of metrics,
so the work is spread over all workers of all hosts. A sack has up to three
workers ([metricd] processing_replicas), and each of them does this.
"""

import collections
import datetime
import random
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import daiquiri

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets import manager
from gnocchi_influxdb.buckets.policy import PolicyBucket
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


class IdRange:
    """The share of a sack: metrics with ids in a range, and what was done.

    :ivar next: the id to go on with; None at the end of a round.
    :ivar due: when to go on (time.monotonic).
    :ivar known: hashes of the names that buckets have since the last round,
        about 100 bytes a metric and bucket.
    :ivar found: those of the round that is under way.
    """

    def __init__(self, number: int = 0, total: int = 1) -> None:
        first, stop = (n * 2**128 // total for n in (number, number + 1))
        self.first = uuid.UUID(int=first)
        self.last = uuid.UUID(int=stop - 1)
        self.next: uuid.UUID | None = self.first
        # All sacks of all workers at once would be felt.
        self.due = time.monotonic() + random.uniform(0, INTERVAL)
        self.known: set[int] = set()
        self.found: set[int] = set()


class NamesJob:
    """Keeps the names of all metrics in InfluxDB up to date.

    Each worker of gnocchi-metricd has one, for a single thread. A new worker
    writes all names of its sacks once. No request is repeated.

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
        self._shares: dict[int, IdRange] = {}
        self._resumes = 0.0  # time.monotonic
        self._reported: set[str] = set()

    def run(self, sack: int, sacks: int) -> int:
        """Write names of a sack's metrics if it is time. Never raises.

        A call looks at one page of metrics, and the next call goes on.

        :param sack: number of the sack, from 0 on.
        :param sacks: how many sacks there are.
        :return: how many metrics got names.
        """
        written = 0
        share = self._shares.get(sack)
        if share is None:
            share = self._shares[sack] = IdRange(sack, sacks)
        now = time.monotonic()
        if now < max(share.due, self._resumes):
            return written
        try:
            written, failed = self.write_page(share)
            self._report({f"bucket {name}": e for name, e in failed.items()})
        except Exception as e:
            self._resumes = now + INTERVAL
            self._report({"all buckets": e})
        if share.next is None:
            share.due = now + INTERVAL
            share.known, share.found = share.found, set()
        return written

    def write_page(
        self, share: IdRange
    ) -> tuple[int, dict[str, exceptions.InfluxDBError]]:
        """Write the names of the next metrics that InfluxDB does not have.

        :return: how many metrics got names; and errors by bucket. Buckets
            that are absent are passed over: they have no measures either.
        :raises InfluxDBError: the server fails.
        :raises oslo_db.exception.DBError: the database fails.
        """
        now = self._client.clock.now_ns()
        rows = listing.attributes(
            self._indexer,
            share.next or share.first,
            share.last,
            _utc(now - 2 * PERIOD * schema.SECOND),
            self._limit,
        )
        written: set[uuid.UUID] = set()
        failed = {}
        for bucket, infos in self._infos(rows, now).items():
            new = [
                info
                for info in infos
                if hash((bucket, info)) not in share.known
            ]
            try:
                if new:
                    self._client.write(bucket, info_lines.encode(new))
            except exceptions.BucketNotFoundError:
                continue
            except exceptions.OF_ONE_BUCKET as e:
                failed[bucket] = e
                continue
            written.update(info.metric for info in new)
            share.found.update(hash((bucket, info)) for info in infos)
        share.next = None
        if len(rows) == self._limit and rows[-1].id < share.last:
            share.next = uuid.UUID(int=rows[-1].id.int + 1)
        return len(written), failed

    def _infos(
        self, rows: list[Any], now: int
    ) -> dict[str, list[info_lines.Info]]:
        """The names of metrics that are to be named, by bucket."""
        by_policy = collections.defaultdict(list)
        for row in rows:
            by_policy[row.archive_policy_name].append(row)
        infos = {}
        for policy in self._indexer.list_archive_policies():
            if not by_policy[policy.name]:
                continue
            for bucket in self._named(policy):
                seconds = PERIOD
                if bucket.retention:
                    seconds = min(PERIOD, bucket.retention // 2)
                start = schema.floor(now, seconds * schema.SECOND)
                since = _utc(start - seconds * schema.SECOND)
                infos[bucket.name] = [
                    info_lines.Info(id_, start, *attributes)
                    for id_, *attributes, measured in by_policy[policy.name]
                    if measured >= since
                ]
        return infos

    def _named(self, policy: Any) -> Iterator[PolicyBucket]:
        """The buckets that names belong in."""
        wanted = self._buckets.all_of(policy)
        yield wanted.points
        yield from wanted.windows
        # There is one only after a migration.
        moved = wanted.moved
        if self._buckets.watermarks.of(moved.name):
            yield moved

    def _report(self, failed: Mapping[str, Exception]) -> None:
        """Log an error of buckets that were not reported before.

        :param failed: by what is missing names, for the log.
        """
        new = [where for where in failed if where not in self._reported]
        if not new:
            return
        self._reported.update(new)
        error = failed[new[0]]
        others = f" and {len(new) - 1} more" if len(new) > 1 else ""
        LOG.warning(
            "The names of some metrics (measurement metric_info) are"
            " missing in %s%s; measures do not depend on them."
            " gnocchi-metricd tries again every %d s and does not repeat"
            " this message. [storage] influxdb_metric_info = false does"
            " without. %s",
            new[0],
            others,
            INTERVAL,
            error,
            exc_info=None
            if isinstance(error, exceptions.InfluxDBError)
            else error,
        )


def _utc(ns: int) -> datetime.datetime:
    """A time as the indexer has it: naive."""
    return datetime.datetime.fromtimestamp(
        ns / schema.SECOND, datetime.timezone.utc
    ).replace(tzinfo=None)
