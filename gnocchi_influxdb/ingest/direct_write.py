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
"""Ways of measures into InfluxDB: that of a POST, and that of the queue."""

import logging
import os
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

from gnocchi import indexer

from gnocchi_influxdb import exceptions, storage
from gnocchi_influxdb.indexer import lookup
from gnocchi_influxdb.ingest import circuit_breaker
from gnocchi_influxdb.maintenance import names

LOG = logging.getLogger(__name__)

Measures = Mapping[uuid.UUID, Any]


class Written(NamedTuple):
    """What has become of measures.

    :ivar stored: how many metrics have received theirs.
    :ivar left: those that are to be offered again.
    :ivar failed: why, by name of their archive policy.
    """

    stored: int
    left: Measures
    failed: Mapping[str, exceptions.InfluxDBError]


class Way:
    """A way into InfluxDB, made in the process that goes it."""

    max_retries: int | None = None

    def __init__(self, conf: Any) -> None:
        self.pid = os.getpid()
        self.indexer = indexer.get_driver(conf)
        self.storage = storage.InfluxDBStorage(conf.storage, self.max_retries)

    def write(self, measures: Measures) -> Written:
        """Store measures; those of metrics that are not there are dropped,
        as they are when Gnocchi takes them out of a queue.

        :raises InfluxDBError: the server fails; not all may be stored.
        """
        # Of no measures the indexer is to know nothing.
        ids = [id_ for id_, of_metric in measures.items() if len(of_metric)]
        metrics = {
            metric: measures[metric.id]
            for metric in lookup.receivers(self.indexer, ids)
        }
        failed = self._store(metrics)
        left = {}
        if failed:
            left = {
                metric.id: of_metric
                for metric, of_metric in metrics.items()
                if metric.archive_policy.name in failed
            }
        return Written(len(metrics) - len(left), left, failed)

    def _store(
        self, metrics: Mapping[Any, Any]
    ) -> Mapping[str, exceptions.InfluxDBError]:
        return self.storage.store(metrics, self.indexer)


class Queued(Way):
    """The way of what metricd takes out of the queue.

    :ivar names: None: they are not wanted.
    """

    def __init__(self, conf: Any) -> None:
        super().__init__(conf)
        self.names: names.NamesJob | None = None
        if conf.storage.influxdb_metric_info:
            self.names = names.NamesJob(
                self.storage.client,
                self.storage.buckets,
                self.indexer,
                conf.storage.influxdb_batch_size,
            )


class Through(Way):
    """The way of a POST.

    While the server is away nobody asks it. While the bucket of an archive
    policy takes nothing, nobody offers it anything; the others go on.
    """

    # The queue is the second try: a client does not wait for more.
    max_retries = 0

    def __init__(self, conf: Any) -> None:
        super().__init__(conf)
        # Longer than a write takes, each of whose steps may take that long.
        self._patience = 2.0 * conf.storage.influxdb_timeout
        self.breaker = circuit_breaker.Breaker(
            "measures", self._patience, self.storage.client.ping
        )
        # By name of the archive policy; of those that have failed.
        self._breakers: dict[str, circuit_breaker.Breaker] = {}

    def try_to_write(self, measures: Measures) -> Measures:
        """Store measures as far as InfluxDB takes them. Never raises.

        :return: those that it does not take now.
        """
        if not self.breaker.allows():
            return measures
        try:
            written = self.write(measures)
        except exceptions.InfluxDBError as e:
            self.breaker.failed(e)
            return measures
        except Exception:
            self.breaker.undecided()
            # The indexer, most likely. The points may be stored already;
            # from the queue they are stored again, which changes nothing.
            LOG.exception("Measures go to the queue")
            return measures
        if written.stored:
            self.breaker.succeeded()
        else:
            self.breaker.undecided()
        return written.left

    def _store(
        self, metrics: Mapping[Any, Any]
    ) -> Mapping[str, exceptions.InfluxDBError]:
        tried: dict[str, circuit_breaker.Breaker] = {}
        paused: dict[str, exceptions.InfluxDBError] = {}
        # There are some only where a token lacks a right, or the like.
        if self._breakers:
            policies = {metric.archive_policy.name for metric in metrics}
            for name, guard in list(self._breakers.items()):
                if name in policies and guard.allows():
                    tried[name] = guard
                elif name in policies:
                    paused[name] = guard.error
        if paused:
            metrics = {
                metric: of_metric
                for metric, of_metric in metrics.items()
                if metric.archive_policy.name not in paused
            }
        try:
            failed = super()._store(metrics)
        except BaseException:
            for guard in tried.values():
                guard.undecided()
            raise
        for name, guard in tried.items():
            if name not in failed:
                guard.succeeded()
                self._breakers.pop(name, None)
        for name, error in failed.items():
            self._guard(name).failed(error)
        return {**failed, **paused}

    def _guard(self, policy: str) -> circuit_breaker.Breaker:
        return self._breakers.setdefault(
            policy,
            circuit_breaker.Breaker(
                f"measures of archive policy {policy}", self._patience
            ),
        )
