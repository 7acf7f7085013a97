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
"""Gnocchi's storage driver for InfluxDB 2.x."""

import logging
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import daiquiri
import numpy
from gnocchi import indexer, storage

from gnocchi_influxdb import circuit_breaker, exceptions, opts, outages
from gnocchi_influxdb.aggregation import span as spans
from gnocchi_influxdb.buckets import manager
from gnocchi_influxdb.client import client
from gnocchi_influxdb.health import recorder
from gnocchi_influxdb.indexer import bookkeeping
from gnocchi_influxdb.maintenance import deletes, upgrade
from gnocchi_influxdb.read import fetcher, reader
from gnocchi_influxdb.write import batch, delivery, refusals, writer

LOG = daiquiri.getLogger(__name__)

#: What the drivers of this process count, by the id of the configuration,
#: which they keep. metricd has two drivers and publishes what one has counted.
_STATISTICS: "weakref.WeakValueDictionary[int, storage.Statistics]" = (
    weakref.WeakValueDictionary()
)


class InfluxDBStorage(storage.StorageDriver):  # type: ignore[misc]
    """Keeps the measures themselves and aggregates when asked to.

    Gnocchi's other drivers keep aggregates and the points of the last back
    window. Here nothing is computed when a measure arrives, and a measure may
    be as late as it likes.
    """

    # For Gnocchi: there are no splits that would have to be rewritten.
    WRITE_FULL = True

    def __init__(self, conf: Any, max_retries: int | None = None) -> None:
        """Connect to nothing yet.

        :param conf: ``conf.storage``.
        :param max_retries: instead of the option influxdb_max_retries.
        """
        super().__init__(conf)
        whole = opts.register(conf)
        self.conf = conf
        self.statistics: storage.Statistics = _STATISTICS.setdefault(
            id(whole), self.statistics
        )
        self._health = recorder.of(whole)
        # Gnocchi sets the level of its own loggers only.
        logging.getLogger("gnocchi_influxdb").setLevel(
            logging.getLogger("gnocchi").level
        )
        self.client = client.Client(conf, max_retries)
        self.buckets = manager.Buckets(self.client, conf)
        self.reader = reader.Reader(
            fetcher.Fetcher(
                self.client, self.buckets, conf.influxdb_query_language
            ),
            self.buckets,
            conf.influxdb_max_points,
            conf.influxdb_max_aggregates,
        )
        self._writer = writer.BatchWriter(
            self.client,
            self.buckets,
            conf.influxdb_batch_size,
            conf.influxdb_timeout,
            self._count_sent_and_refused,
        )
        self._index: Any = None
        self._deleter = deletes.Deleter(
            self.client,
            self.buckets,
            self._list_deleted,
            expire=conf.influxdb_expunge == "expire",
        )
        self._deletes = circuit_breaker.Breakers(
            "Points of deleted metrics stay",
            "deletes points",
            delivery.LONGEST * conf.influxdb_timeout,
            self.client.ping,
        )
        self._reads = outages.Outage(
            "Requests are answered 503",
            "Requests are answered again",
            "such requests",
        )
        self._writes = outages.Outage(
            "Measures stay in Gnocchi's queue until InfluxDB takes them again",
            "InfluxDB takes measures from Gnocchi's queue again",
        )
        outages.silence_chef()
        try:
            self.client.connect()
        except exceptions.ConfigurationError as e:
            # Not raised: Gnocchi would construct the driver again and again.
            # Every use of it says the same, and gnocchi-upgrade stops at it.
            LOG.error("%s", e)

    def __str__(self) -> str:
        return f"{type(self).__name__}: {self.client}"

    def upgrade(self) -> None:
        """Check that there is an InfluxDB that this driver can work with.

        :raises UpgradeError: there is none; it says what to do.
        """
        try:
            upgrade.check(self.client, self.conf)
        except exceptions.InfluxDBError as e:
            LOG.error("%s", e)
            raise exceptions.UpgradeError(e) from e

    def get_aggregated_measures(
        self,
        metrics_and_aggregations: Mapping[Any, Sequence[Any]],
        from_timestamp: Any = None,
        to_timestamp: Any = None,
        resample: Any = None,
    ) -> dict[Any, dict[Any, Any]]:
        """Aggregated measures of some metrics.

        :param metrics_and_aggregations: {metric: [carbonara.Aggregation]}.
        :param from_timestamp: datetime64; rounded down to the granularity.
        :param to_timestamp: datetime64, exclusive; the window that contains
            it is answered whole.
        :param resample: timedelta64 or a letter of gnocchi.calendar.
        :return: {metric: {aggregation: carbonara.AggregatedTimeSerie}}.
        :raises MetricDoesNotExist: one of the metrics has no measure.
        :raises ReadRefusedError: it would take too many measures.
        :raises ReadFailedError: there is no whole answer.
        """
        span = spans.Span(
            _nanoseconds(from_timestamp),
            _nanoseconds(to_timestamp),
            resample,
        )
        with outages.answered(self._reads), self._health.timing("read"):
            return self.reader.read(metrics_and_aggregations, span)

    def add_measures_to_metrics(
        self, metrics_and_measures: Mapping[Any, Any], indexer_driver: Any
    ) -> None:
        """Store measures.

        Measures that can never be stored are logged, counted and left out.

        :param metrics_and_measures: {metric: structured array}.
        :raises InfluxDBError: not all may be stored. They can be offered
            again as they are.
        """
        batches = self.batches(metrics_and_measures.items())
        try:
            exceptions.raise_first(self.store(batches, indexer_driver))
        except exceptions.InfluxDBError as e:
            self._writes.failed(e)
            raise
        if batches:
            self._writes.succeeded()

    def batches(
        self, measures: Iterable[tuple[Any, Any]]
    ) -> list[batch.Batch]:
        """Measures as `store` takes them: a batch for each archive policy.

        :param measures: metrics, each once, and their structured arrays.
        """
        with self.statistics.time("raw measures store"):
            return batch.batches(measures, self.buckets.name)

    def store(
        self, batches: Sequence[batch.Batch], indexer_driver: Any
    ) -> dict[str, exceptions.InfluxDBError]:
        """Store batches, and tell the indexer of those that are stored.

        A bucket that fails does not hold up the others.

        :return: {name of the archive policy: error}. Of the measures of these
            policies some may not be stored.
        :raises InfluxDBError: the server fails; of each policy some measures
            may not be stored.
        """
        failed: dict[str, exceptions.InfluxDBError] = {}
        if not batches:
            return failed
        self._report([bad for one in batches for bad in one.unstorable])
        with self.statistics.time("raw measures store"):
            for one in batches:
                # A bucket that fails must not end the loop.
                try:
                    if len(one.points):
                        with self._health.timing("write"):
                            self._writer.write(one)
                except exceptions.OF_ONE_BUCKET as e:  # noqa: PERF203
                    failed[one.policy.name] = e
        self._record(
            [one for one in batches if one.policy.name not in failed],
            indexer_driver,
        )
        return failed

    def _report(self, unstorable: Sequence[batch.Unstorable]) -> None:
        if not unstorable:
            return
        not_finite = sum(one.not_finite for one in unstorable)
        out_of_time = sum(one.out_of_time for one in unstorable)
        self._count_refused(not_finite + out_of_time)
        LOG.warning(
            "Measures that InfluxDB can't hold are left out: %d that are not"
            " a finite number, %d with a time before 1970 or after 2262. They"
            " were of %s",
            not_finite,
            out_of_time,
            refusals.some_metrics([one.metric for one in unstorable]),
        )

    def _record(
        self, stored: Sequence[batch.Batch], indexer_driver: Any
    ) -> None:
        metrics = sum(len(one.points.ids) for one in stored)
        self.statistics["raw measures store"] += metrics
        self.statistics["processed measures"] += sum(
            one.measures for one in stored
        )
        self._health.count(stored=sum(len(one.points) for one in stored))
        with self.statistics.time("metadata update"):
            bookkeeping.update_metadata(
                indexer_driver,
                [pair for one in stored for pair in one.received],
                lambda metric, measures: (
                    self.execute_metadata_updates_if_needed(
                        indexer_driver, measures, metric
                    )
                ),
            )
        self.statistics["metadata update"] += metrics

    def _delete_metric(self, metric: Any) -> None:
        with self._deletes.asking(metric.archive_policy.name):
            self._deleter.delete(metric)

    def _list_deleted(self, limit: int) -> Any:
        """Metrics that were deleted and that Gnocchi has not yet expunged."""
        # In a process that has no use for it Gnocchi opens no connections
        # for it either: only a janitor comes here, after its fork.
        if self._index is None:
            self._index = indexer.get_driver(self.conf._conf)
        return self._index.list_metrics(status="delete", limit=limit)

    # Gnocchi's janitor shortens the raw points that other drivers keep for
    # the back window. The points here are the data.

    def _get_or_create_unaggregated_timeseries(
        self, metrics: Sequence[Any], version: int = 3
    ) -> dict[Any, None]:
        return dict.fromkeys(metrics)

    @staticmethod
    def _get_or_create_unaggregated_timeseries_unbatched(
        metric: Any, version: int = 3
    ) -> None:
        return None

    @staticmethod
    def _store_unaggregated_timeseries_unbatched(
        metric: Any, data: bytes, version: int = 3
    ) -> None:
        return None

    def _count_sent_and_refused(self, number: int) -> None:
        self._count_refused(number)
        self._health.count(stored=-number)

    def _count_refused(self, number: int) -> None:
        self.statistics["refused measures"] += number
        self._health.count(refused=number)


def _nanoseconds(timestamp: Any) -> int | None:
    # Not by its truth: 1970-01-01 has none.
    if timestamp is None:
        return None
    return int(numpy.datetime64(timestamp, "ns").astype("int64"))
