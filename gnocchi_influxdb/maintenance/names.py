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
"""Names of metrics in InfluxDB: which are to be written, and when.

Gnocchi does not read them. They are written after the measures, by requests
of their own, when a process sees a metric for the first time and when one of
its attributes has changed; and since points expire, again in each period,
which is a week, or half of the bucket's retention if that is less. Their time
is the beginning of the period, so what several processes write is one point.
A thread does it, so that nobody waits.

Not more often: five fields in each of the daily shards would be a fifth of
what there is on disk, and InfluxDB goes through all of them for a DELETE. A
period begins at a time that follows from the bucket's name: those of all
buckets at once would be felt. Not each metric at a time of its own: most
batches would have one that is due then.

It may not disturb the measures: a request is tried once, and what fails is
logged once and tried again some minutes later.
"""

import logging
import operator
import os
import random
import time
import uuid
import zlib
from collections.abc import Callable, Iterable
from concurrent import futures
from typing import Any

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.buckets import manager as buckets_
from gnocchi_influxdb.client import client as client_
from gnocchi_influxdb.wire import info_lines

LOG = logging.getLogger(__name__)

_NS = 10**9

#: Longest time between two points of a metric, seconds.
PERIOD = 7 * 86400

#: Metrics to remember, at 120 bytes each. Others get their turn bit by bit.
MOST = 10**6
_SHARE_OF_OTHERS = 1 / 64

#: Seconds until a bucket that could not be written to is tried again.
RETRY_AFTER = 300

# What may change; never a metric's archive policy.
_ATTRIBUTES = ("name", "unit", "resource_id", "creator")
_attributes = operator.itemgetter(*_ATTRIBUTES)


def make(
    conf: Any, client: client_.Client, buckets: buckets_.Buckets
) -> "Writer | None":
    """The writer that the options (``conf.storage``) ask for, or none."""
    if not conf.influxdb_metric_info:
        return None
    return Writer(client.once(), buckets, conf.influxdb_batch_size)


class Writer:
    """Writes what metrics are called into the buckets of their policies.

    Threads may share one, and it may be carried over a fork.

    :param client: one that repeats no request.
    :param batch_size: lines a request, at most.
    :param clock: the present time, ns since the epoch.
    """

    def __init__(
        self,
        client: client_.Client,
        buckets: buckets_.Buckets,
        batch_size: int,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._client = client
        self._buckets = buckets
        self._batch_size = batch_size
        self._clock = clock
        # By the name of the archive policy.
        self._written: dict[str, _Written] = {}
        self._failed = False
        # A process, and a pool of one thread in it.
        self._pool: tuple[int, futures.Executor] | None = None

    def new(self, metrics: Iterable[Any]) -> list[Any]:
        """Those that are not known to be written. Never raises.

        :param metrics: gnocchi.indexer.Metric
        """
        try:
            now = self._clock()
            for written in list(self._written.values()):
                written.begin(now)
            return self._new(metrics)
        except Exception:
            self._complain()
            return []

    def write(self, metrics: Iterable[Any]) -> None:
        """Write those that are not known to be written. Never raises."""
        if self._find_due(metrics):
            self._send_pending()

    def write_soon(self, metrics: Iterable[Any]) -> None:
        """The same, but nobody waits for InfluxDB. Never raises."""
        if self._find_due(metrics):
            try:
                self._thread().submit(self._send_pending)
            except RuntimeError:
                # With the next measures, or another process will do it.
                LOG.debug("No thread for names of metrics", exc_info=True)

    def wait(self) -> None:
        """Wait until nothing is under way."""
        self._thread().submit(int).result()

    def _thread(self) -> futures.Executor:
        # No thread survives a fork. A process that ends waits for its own.
        pool, pid = self._pool, os.getpid()
        if pool is None or pool[0] != pid:
            made = futures.ThreadPoolExecutor(1, "metric_info")
            pool = self._pool = pid, made
        return pool[1]

    def _complain(self) -> None:
        if not self._failed:
            self._failed = True
            LOG.exception(
                "The names of metrics (measurement metric_info) can't be"
                " written; their measures do not depend on it"
            )

    def _new(self, metrics: Iterable[Any]) -> list[Any]:
        # Runs for each metric of each batch. An attribute of a SQLAlchemy
        # object takes three times as long as what lies behind it.
        written, attributes = self._written, _attributes
        new = []
        for metric in metrics:
            values = metric.__dict__
            try:
                hashes = written[values["archive_policy_name"]].hashes
                if hashes.get(values["id"].int) == hash(attributes(values)):
                    continue
            except KeyError:
                pass  # An unknown policy, or not a SQLAlchemy object.
            new.append(metric)
        return new

    def _find_due(self, metrics: Iterable[Any]) -> bool:
        """Note those that are not known to be written; whether there are."""
        new = self.new(metrics)
        try:
            return bool(new) and self._note(new, self._clock())
        except Exception:
            self._complain()
            return False

    def _note(self, metrics: Iterable[Any], now: int) -> bool:
        has_room = self._room() > 0
        is_any = False
        for metric in metrics:
            policy = metric.archive_policy
            written = self._written.get(policy.name)
            if written is None:
                written = self._written[policy.name] = _Written(
                    self._buckets.name(policy),
                    self._buckets.retention(policy),
                    now,
                )
            if now < written.retry_at:
                continue
            info = written.info(metric)
            known = written.hashes.get(info.metric.int)
            if known == _hash(info):
                continue
            if written.pending.get(info.metric) != info:
                has_turn = has_room or random.random() < _SHARE_OF_OTHERS
                if known is None and not has_turn:
                    continue
                written.pending[info.metric] = info
            is_any = True
        return is_any

    def _room(self) -> int:
        return MOST - sum(len(w.hashes) for w in self._written.values())

    def _send_pending(self) -> None:
        try:
            for written in list(self._written.values()):
                while written.pending:
                    self._send_part(written)
        except Exception:
            self._complain()

    def _send_part(self, written: "_Written") -> None:
        # In one step: other threads add to it.
        pending = list(written.pending.values())
        part = pending[: self._batch_size]
        done = pending
        try:
            if self._send(written, part):
                done = part
                written.remember(part, self._room())
        finally:
            for info in done:
                if written.pending.get(info.metric) is info:
                    del written.pending[info.metric]

    def _send(self, written: "_Written", infos: list[info_lines.Info]) -> bool:
        try:
            self._client.write(written.bucket, info_lines.encode(infos))
        except exceptions.InfluxDBError as e:
            written.retry_at = self._clock() + RETRY_AFTER * _NS
            # There is no bucket where no measure could be stored.
            if not written.failed and not isinstance(
                e, exceptions.BucketNotFoundError
            ):
                written.failed = True
                LOG.warning(
                    "The names of some metrics (measurement metric_info) are"
                    " missing in bucket %s; their measures are stored. It is"
                    " tried again every %d s. [storage] influxdb_metric_info"
                    " = false does without. %s",
                    written.bucket,
                    RETRY_AFTER,
                    e,
                )
            return False
        written.failed = False
        return True


class _Written:
    """What this process has written to a bucket in this period.

    :ivar hashes: for each metric (its id as a number) a hash of it, which is
        all that it takes to compare.
    :ivar pending: what is still to be written, by metric.
    :ivar retry_at: ns since the epoch.
    """

    def __init__(self, bucket: str, retention: int, now: int) -> None:
        self.bucket = bucket
        self.failed = False
        self.retry_at = 0
        self.hashes: dict[int, int] = {}
        self.pending: dict[uuid.UUID, info_lines.Info] = {}
        period = min(PERIOD, retention // 2) if retention else PERIOD
        self._period = period * _NS
        self._offset = zlib.crc32(bucket.encode()) % period * _NS
        self._start = self._start_of(now)

    def _start_of(self, now: int) -> int:
        return now - (now - self._offset) % self._period

    def begin(self, now: int) -> None:
        """Forget everything if another period has begun."""
        start = self._start_of(now)
        if start != self._start:
            self._start, self.hashes = start, {}

    def info(self, metric: Any) -> info_lines.Info:
        return info_lines.Info(
            metric=metric.id,
            time=self._start,
            archive_policy=metric.archive_policy.name,
            **{name: getattr(metric, name, None) for name in _ATTRIBUTES},
        )

    def remember(self, infos: Iterable[info_lines.Info], room: int) -> None:
        """Remember what was written, of at most `room` metrics more."""
        for info in infos:
            if info.time != self._start:
                break  # Another thread has begun the next period.
            number = info.metric.int
            if number not in self.hashes:
                if room <= 0:
                    continue
                room -= 1
            self.hashes[number] = _hash(info)


def _hash(info: info_lines.Info) -> int:
    return hash((info.name, info.unit, info.resource_id, info.creator))
