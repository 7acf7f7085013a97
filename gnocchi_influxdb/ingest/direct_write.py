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
"""Measures straight into InfluxDB, for a POST and for metricd."""

import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

from gnocchi import indexer

from gnocchi_influxdb import (
    circuit_breaker,
    exceptions,
    outages,
    storage,
)
from gnocchi_influxdb.health import recorder
from gnocchi_influxdb.indexer import lookup
from gnocchi_influxdb.maintenance import downsample, names
from gnocchi_influxdb.write import delivery

Measures = Mapping[uuid.UUID, Any]


class Written(NamedTuple):
    """What has become of measures.

    :ivar stored: how many metrics have received theirs.
    :ivar left: measures that have to be offered again.
    :ivar failed: {name of the archive policy: error}.
    """

    stored: int
    left: Measures
    failed: Mapping[str, exceptions.InfluxDBError]


class DirectWriter:
    """Looks up metrics and stores their measures.

    Threads may share it; a process that is forked makes its own.
    """

    def __init__(self, conf: Any, max_retries: int | None = None) -> None:
        self.indexer = indexer.get_driver(conf)
        self.storage = storage.InfluxDBStorage(conf.storage, max_retries)

    def breakers(
        self, doing: str, counts: str | None = None
    ) -> circuit_breaker.Breakers:
        """Breakers that fit its writes.

        :param doing: what measures do meanwhile, for the log.
        """
        conf = self.storage.conf
        return circuit_breaker.Breakers(
            doing,
            "takes measures",
            delivery.LONGEST * conf.influxdb_timeout,
            self.storage.client.ping,
            counts,
        )

    def write(
        self, measures: Measures, breakers: circuit_breaker.Breakers
    ) -> Written:
        """Store measures, and drop those of metrics that are not there.

        Gnocchi drops those, too, when it takes them out of a queue.

        :param measures: {metric id: structured array}.
        :param breakers: that of the server has allowed it, and is told what
            came of it. Policies that have failed are left alone.
        :raises InfluxDBError: the server fails; not all may be stored.
        """
        # The indexer must hear nothing of a metric without measures.
        ids = [id_ for id_, of_metric in measures.items() if len(of_metric)]
        tried: dict[str, circuit_breaker.Breaker] = {}
        try:
            batches = self.storage.batches(
                (metric, measures[metric.id])
                for metric in lookup.receivers(self.indexer, ids)
            )
            tried, paused = breakers.admit(
                {one.policy.name for one in batches}
            )
            failed = self.storage.store(
                [one for one in batches if one.policy.name not in paused],
                self.indexer,
            )
        except BaseException as e:
            breakers.interrupted(tried, e)
            raise
        breakers.settle(tried, failed)
        failed |= paused
        stored, left = 0, {}
        for one in batches:
            if one.policy.name in failed:
                left.update({id_: measures[id_] for id_ in one.points.ids})
            else:
                stored += len(one.points.ids)
        if stored:
            breakers.server.succeeded()
        else:
            breakers.server.undecided()
        return Written(stored, left, failed)


class PostWriter:
    """Writes the measures of a POST.

    While the server is away nobody asks it. While the bucket of an archive
    policy takes nothing, nobody offers it anything; the others go on.
    """

    def __init__(self, conf: Any) -> None:
        # The queue is the second try: a client does not wait for more.
        self.writer = DirectWriter(conf, max_retries=0)
        self.breakers = self.writer.breakers(
            "Measures go to the queue", "measures"
        )
        self._others = outages.Outage(
            "Measures go to the queue, and it is not InfluxDB that fails",
            "What failed beside InfluxDB works again",
        )
        recorder.of(conf).watch("breakers_open", self.breakers.number_open)

    def try_to_write(self, measures: Measures) -> Measures:
        """Store measures as far as InfluxDB takes them. Never raises.

        :return: those that it does not take now.
        """
        left = measures
        if self.breakers.server.allows():
            try:
                left = self.writer.write(measures, self.breakers).left
                self._others.succeeded()
            except exceptions.InfluxDBError:
                pass  # The breaker has told it.
            except Exception as e:
                # The indexer, most likely. The points may be stored already;
                # from the queue they are stored again, which changes nothing.
                self._others.failed(e)
        if left:
            self.breakers.outage.count(sum(map(len, left.values())))
        return left


class QueueWriter:
    """Writes what metricd takes out of the queue, names and windows.

    :ivar breakers: of the queue.
    :ivar names: None: they are not wanted.
    :ivar downsampling: of archive policies.
    """

    def __init__(self, conf: Any) -> None:
        self.writer = DirectWriter(conf)
        self.breakers = self.writer.breakers("Measures stay in the queue")
        self.downsampling = downsample.DownsampleJob(
            self.writer.storage.buckets, self.writer.indexer, conf.storage
        )
        self.names: names.NamesJob | None = None
        if conf.storage.influxdb_metric_info:
            self.names = names.NamesJob(
                self.writer.storage.client,
                self.writer.storage.buckets,
                self.writer.indexer,
                conf.storage.influxdb_batch_size,
            )
