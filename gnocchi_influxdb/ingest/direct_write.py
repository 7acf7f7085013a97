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

import daiquiri
from gnocchi import indexer

from gnocchi_influxdb import exceptions, storage
from gnocchi_influxdb.health import recorder
from gnocchi_influxdb.indexer import lookup
from gnocchi_influxdb.ingest import circuit_breaker
from gnocchi_influxdb.maintenance import downsample, names
from gnocchi_influxdb.write import delivery

LOG = daiquiri.getLogger(__name__)

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

    def write(
        self,
        measures: Measures,
        breakers: circuit_breaker.Breakers | None = None,
    ) -> Written:
        """Store measures, and drop those of metrics that are not there.

        Gnocchi drops those, too, when it takes them out of a queue.

        :param measures: {metric id: structured array}.
        :param breakers: what has failed is left alone; None: try everything.
        :raises InfluxDBError: the server fails; not all may be stored.
        """
        # The indexer must hear nothing of a metric without measures.
        ids = [id_ for id_, of_metric in measures.items() if len(of_metric)]
        batches = self.storage.batches(
            (metric, measures[metric.id])
            for metric in lookup.receivers(self.indexer, ids)
        )
        tried: dict[str, circuit_breaker.Breaker] = {}
        paused: dict[str, exceptions.InfluxDBError] = {}
        if breakers is not None:
            tried, paused = breakers.admit(
                {one.policy.name for one in batches}
            )
        try:
            failed = self.storage.store(
                [one for one in batches if one.policy.name not in paused],
                self.indexer,
            )
        except BaseException:
            for breaker in tried.values():
                breaker.undecided()
            raise
        if breakers is not None:
            breakers.settle(tried, failed)
        failed |= paused
        stored, left = 0, {}
        for one in batches:
            if one.policy.name in failed:
                left.update({id_: measures[id_] for id_ in one.points.ids})
            else:
                stored += len(one.points.ids)
        return Written(stored, left, failed)


class PostWriter:
    """Writes the measures of a POST.

    While the server is away nobody asks it. While the bucket of an archive
    policy takes nothing, nobody offers it anything; the others go on.
    """

    def __init__(self, conf: Any) -> None:
        # The queue is the second try: a client does not wait for more.
        self.writer = DirectWriter(conf, max_retries=0)
        self.breakers = circuit_breaker.Breakers(
            delivery.LONGEST * conf.storage.influxdb_timeout,
            self.writer.storage.client.ping,
        )
        recorder.of(conf).watch("breakers_open", self.breakers.number_open)

    def try_to_write(self, measures: Measures) -> Measures:
        """Store measures as far as InfluxDB takes them. Never raises.

        :return: those that it does not take now.
        """
        server = self.breakers.server
        if not server.allows():
            return measures
        try:
            written = self.writer.write(measures, self.breakers)
        except exceptions.InfluxDBError as e:
            server.failed(e)
            return measures
        except Exception:
            server.undecided()
            # The indexer, most likely. The points may be stored already;
            # from the queue they are stored again, which changes nothing.
            LOG.exception("Measures go to the queue")
            return measures
        if written.stored:
            server.succeeded()
        else:
            server.undecided()
        return written.left


class QueueWriter:
    """Writes what metricd takes out of the queue, names and windows.

    :ivar names: None: they are not wanted.
    :ivar downsampling: of archive policies.
    """

    def __init__(self, conf: Any) -> None:
        self.writer = DirectWriter(conf)
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
