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
from collections.abc import Mapping, Sequence
from typing import Any

import numpy
from gnocchi import indexer, storage

from gnocchi_influxdb import exceptions, opts
from gnocchi_influxdb.aggregation import span as spans
from gnocchi_influxdb.buckets import manager
from gnocchi_influxdb.client import client
from gnocchi_influxdb.indexer import bookkeeping, latest
from gnocchi_influxdb.maintenance import deletes, upgrade
from gnocchi_influxdb.read import fetcher, reader
from gnocchi_influxdb.rollups import rollup_store
from gnocchi_influxdb.wire import line_protocol
from gnocchi_influxdb.write import writer

LOG = logging.getLogger(__name__)

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
        # Gnocchi sets the level of its own loggers only.
        logging.getLogger("gnocchi_influxdb").setLevel(
            logging.getLogger("gnocchi").level
        )
        self.client = client.Client(conf, max_retries)
        self.buckets = manager.Buckets(
            self.client, conf.influxdb_bucket_prefix, conf.influxdb_retention
        )
        self._rollups = rollup_store.Store(self.client, conf.influxdb_rollups)
        self._reader = reader.Reader(
            fetcher.Fetcher(
                self.client,
                self.buckets,
                conf.influxdb_query_language,
                self._rollups,
            ),
            self._rollups,
            self.buckets,
        )
        self._writer = writer.Writer(
            self.client,
            self.buckets,
            conf.influxdb_batch_size,
            conf.influxdb_timeout,
            self._count_refused,
        )
        self._index: Any = None
        self._deleter = deletes.Deleter(
            self.client, self.buckets, self._list_deleted
        )
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

        :raises InfluxDBError: there is none; it says what to do.
        """
        upgrade.check(self.client, self.conf)

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
        :raises InfluxDBError: which is an HTTP response, too (503).
        """
        span = spans.Span(
            _nanoseconds(from_timestamp),
            _nanoseconds(to_timestamp),
            resample,
        )
        with exceptions.answered():
            return self._reader.read(metrics_and_aggregations, span)

    def add_measures_to_metrics(
        self, metrics_and_measures: Mapping[Any, Any], indexer_driver: Any
    ) -> None:
        """Store measures.

        Measures that can never be stored are logged, counted and left out.

        :param metrics_and_measures: {metric: structured array}.
        :raises InfluxDBError: not all may be stored. They can be offered
            again as they are.
        """
        exceptions.raise_first(
            self.store(metrics_and_measures, indexer_driver)
        )

    def store(
        self, metrics_and_measures: Mapping[Any, Any], indexer_driver: Any
    ) -> dict[str, exceptions.InfluxDBError]:
        """The same, but a bucket that fails does not hold up the others.

        :return: what has gone wrong, by name of the archive policy. Of the
            measures of these policies not all may be stored.
        :raises InfluxDBError: the server fails; of no policy all are sure to
            be stored.
        """
        if not metrics_and_measures:
            return {}
        policies: dict[str, tuple[Any, list[tuple[Any, Any]]]] = {}
        policy = None
        for metric, measures in metrics_and_measures.items():
            # An attribute of a SQLAlchemy object takes three times as long as
            # what lies behind it.
            loaded = metric.__dict__
            of_metric = loaded.get("archive_policy") or metric.archive_policy
            # Most have the policy of the one before.
            if policy is not of_metric:
                policy = of_metric
                pairs = policies.setdefault(policy.name, (policy, []))[1]
            pairs.append((loaded.get("id") or metric.id, measures))
        # Whatever looks at each metric and each array does so before the
        # request: after it they are in no cache of the processor any more.
        number = sum(map(len, metrics_and_measures.values()))
        suspects: set[Any] = set()
        with self.statistics.time("raw measures store"):
            collected = []
            for policy, pairs in policies.values():
                points, unstorable = line_protocol.collect(pairs)
                self._leave_out(unstorable)
                suspects.update(one.metric for one in unstorable)
                if len(points):
                    collected.append((policy, points))
            newest = latest.Latest(metrics_and_measures, suspects)
            failed = {
                policy.name: error
                for policy, points in collected
                if (error := self._write(policy, points)) is not None
            }
        if failed:
            metrics_and_measures = {
                metric: measures
                for metric, measures in metrics_and_measures.items()
                if metric.archive_policy.name not in failed
            }
            number = sum(map(len, metrics_and_measures.values()))
            newest = latest.Latest(metrics_and_measures, suspects)
        self.statistics["raw measures store"] += len(metrics_and_measures)
        self.statistics["processed measures"] += number
        with self.statistics.time("metadata update"):
            bookkeeping.update_metadata(
                indexer_driver,
                newest,
                lambda metric: self.execute_metadata_updates_if_needed(
                    indexer_driver, metrics_and_measures[metric], metric
                ),
            )
        self.statistics["metadata update"] += len(metrics_and_measures)
        return failed

    def _write(
        self, policy: Any, points: line_protocol.Points
    ) -> exceptions.InfluxDBError | None:
        try:
            self._writer.write(policy, points)
        except exceptions.OF_ONE_BUCKET as e:
            return e
        return None

    def _leave_out(
        self, unstorable: Sequence[line_protocol.Unstorable]
    ) -> None:
        for metric_id, not_finite, out_of_time in unstorable:
            self._count_refused(not_finite + out_of_time)
            LOG.warning(
                "Measures of metric %s that InfluxDB can't hold are left out:"
                " %d that are not a finite number, %d with a time before 1970"
                " or after 2262",
                metric_id,
                not_finite,
                out_of_time,
            )

    def _delete_metric(self, metric: Any) -> None:
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

    def _count_refused(self, number: int) -> None:
        self.statistics["refused measures"] += number


def _nanoseconds(timestamp: Any) -> int | None:
    # Not by its truth: 1970-01-01 has none.
    if timestamp is None:
        return None
    return int(numpy.datetime64(timestamp, "ns").astype("int64"))
