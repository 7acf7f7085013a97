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
"""Gnocchi's incoming driver in front of InfluxDB.

A measure goes straight through to InfluxDB, so it can be read when the POST
returns, and there is no backlog for metricd to work off. While InfluxDB can't
take measures they go to the queue behind this driver, one of Gnocchi's own.
When metricd asks for them, a sack at a time, this driver brings them to
InfluxDB itself. All that Gnocchi asks of an incoming driver besides (sacks,
reports, locks) is answered by that queue.
"""

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast

import daiquiri
import numpy
from gnocchi import carbonara, incoming
from stevedore import driver

from gnocchi_influxdb import exceptions, opts, outages
from gnocchi_influxdb.health import recorder
from gnocchi_influxdb.ingest import direct_write

LOG = daiquiri.getLogger(__name__)

_W = TypeVar("_W")


class InfluxDBIncoming(incoming.IncomingDriver):  # type: ignore[misc]
    """Writes through to InfluxDB, with a queue for when that is away."""

    def __init__(self, conf: Any, greedy: bool = True) -> None:
        self._conf = opts.register(conf)
        self._health = recorder.of(self._conf)
        name = conf.influxdb_queue_driver
        if name == "influxdb":
            LOG.error(
                "[incoming] influxdb_queue_driver must name one of Gnocchi's"
                " own incoming drivers, such as file or redis; taking file"
            )
            name = "file"
        self.queue: Any = driver.DriverManager(
            "gnocchi.incoming", name
        ).driver(conf, greedy)
        # Gnocchi sees by this method whether a driver tells which sacks to
        # process: it is then not that of the base class.
        self.iter_on_sacks_to_process = self.queue.iter_on_sacks_to_process
        self._lock = threading.Lock()
        self._made: dict[type[Any], tuple[int, Any]] = {}
        self._refreshes = outages.Outage(
            "Requests with refresh=true are answered 503",
            "Requests with refresh=true are answered again",
            "requests",
        )
        self._writes_through = self._conf.storage.driver == "influxdb"
        if not self._writes_through:
            LOG.warning(
                "[incoming] driver = influxdb writes through only where"
                " [storage] driver is influxdb, too; all measures take the"
                " way over the queue"
            )

    def __str__(self) -> str:
        return f"{type(self).__name__}: {self.queue}"

    # Sacks -----------------------------------------------------------------

    @property
    def NUM_SACKS(self) -> int:
        """How many sacks the queue has."""
        return int(self.queue.NUM_SACKS)

    def upgrade(self, num_sacks: int) -> None:
        """Make the queue ready for use."""
        self.queue.upgrade(num_sacks)

    def set_storage_settings(self, num_sacks: int) -> None:
        """Let the queue have so many sacks from now on."""
        self.queue.set_storage_settings(num_sacks)

    def remove_sacks(self) -> None:
        """Remove all sacks of the queue, which must be empty."""
        self.queue.remove_sacks()

    def remove_sack_group(self, num_sacks: int) -> None:
        """Remove the sacks of a queue that had so many."""
        self.queue.remove_sack_group(num_sacks)

    def group_metrics_by_sack(self, metrics: Iterable[Any]) -> Iterator[Any]:
        """Pairs of a sack and its metrics, by their ids."""
        return iter(self.queue.group_metrics_by_sack(metrics))

    def sack_for_metric(self, metric_id: Any) -> incoming.Sack:
        """The sack in which measures of a metric wait."""
        return self.queue.sack_for_metric(metric_id)

    def iter_sacks(self) -> Iterator[incoming.Sack]:
        """All sacks of the queue."""
        return iter(self.queue.iter_sacks())

    def finish_sack_processing(self, sack: incoming.Sack) -> None:
        """Let metricd write names of metrics, in each round of its sacks.

        Gnocchi calls this after each sack that was not locked, without the
        lock, whether there were measures or not, and even if they failed.
        """
        self.queue.finish_sack_processing(sack)
        if self._writes_through:
            job = self._of_process(direct_write.QueueWriter).names
            if job is not None:
                self._health.count(named=job.run(sack.number, sack.total))

    # Measures --------------------------------------------------------------

    def add_measures(self, metric_id: Any, measures: Iterable[Any]) -> None:
        """Store measures of one metric, see `add_measures_batch`."""
        self.add_measures_batch({metric_id: measures})

    def add_measures_batch(
        self, metrics_and_measures: Mapping[Any, Iterable[Any]]
    ) -> None:
        """Store measures, or queue them if InfluxDB can't take them.

        :param metrics_and_measures: {metric id: incoming.Measure, ...}.
        """
        # Once, since an iterable may have only one run in it, and before
        # anything else, since what a client sends may not be measures.
        measures = {
            metric: numpy.fromiter(
                of_metric, dtype=carbonara.TIMESERIES_ARRAY_DTYPE
            )
            for metric, of_metric in metrics_and_measures.items()
        }
        left: Mapping[Any, Any] = measures
        if self._writes_through:
            left = self._of_process(direct_write.PostWriter).try_to_write(
                measures
            )
        if left:
            self.queue.add_measures_batch(left)
            self._health.count(queued=sum(map(len, left.values())))

    def _of_process(self, kind: type[_W]) -> _W:
        # Not at construction: uwsgi and cotyledon fork after that, and
        # neither a socket nor a database connection survives it.
        pid, made = self._made.get(kind, (0, None))
        if pid != os.getpid():
            with self._lock:
                pid, made = self._made.get(kind, (0, None))
                if pid != os.getpid():
                    made = kind(self._conf)  # type: ignore[call-arg]
                    self._made[kind] = os.getpid(), made
        return cast(_W, made)

    def measures_report(self, details: bool = True) -> dict[str, Any]:
        """How much waits in the queue, as Gnocchi's API shows it."""
        report: dict[str, Any] = self.queue.measures_report(details)
        self._health.note(
            queue_bundles=report["summary"]["measures"],
            queue_metrics=report["summary"]["metrics"],
        )
        return report

    def _build_report(self, details: bool) -> Any:
        return self.queue._build_report(details)

    def delete_unprocessed_measures_for_metric(self, metric_id: Any) -> None:
        """Drop the measures of a metric that wait in the queue."""
        self.queue.delete_unprocessed_measures_for_metric(metric_id)

    @contextlib.contextmanager
    def process_measure_for_metrics(
        self, metric_ids: Iterable[Any]
    ) -> Iterator[dict[Any, Any]]:
        """Take the measures of some metrics out of the queue.

        For a GET with refresh=true; metricd takes whole sacks.

        :return: {metric id: structured array}; they leave the queue if the
            block ends without an exception.
        :raises ReadFailedError: the block has raised an InfluxDBError.
        """
        with (
            outages.answered(self._refreshes),
            self.queue.process_measure_for_metrics(metric_ids) as measures,
        ):
            yield measures

    @contextlib.contextmanager
    def process_measures_for_sack(
        self, sack: incoming.Sack
    ) -> Iterator[dict[Any, Any]]:
        """Store what waits in a sack, and downsample its archive policies.

        That leaves metricd nothing to do.

        Gnocchi would make objects of all that the indexer knows of the
        metrics, which takes longer than storing their measures.

        What one bucket does not take stays, and holds up no other. While
        InfluxDB is away, the sack is left alone.

        :return: the measures, if they are not for InfluxDB.
        :raises InfluxDBError: not all may be stored, and they stay. So they
            do with any other exception.
        """
        self._health.count(sacks=1)
        if not self._writes_through:
            with self.queue.process_measures_for_sack(sack) as measures:
                yield measures
            return
        worker = self._of_process(direct_write.QueueWriter)
        if worker.breakers.server.allows():
            self._store(worker, sack)
        yield {}
        # Gnocchi still holds the lock of the sack.
        worker.downsampling.run(sack.number, sack.total)

    def _store(
        self, worker: direct_write.QueueWriter, sack: incoming.Sack
    ) -> None:
        with self.queue.process_measures_for_sack(sack) as measures:
            if not measures:
                worker.breakers.server.undecided()
                return
            written = worker.writer.write(measures, worker.breakers)
            LOG.debug(
                "Measures for %d metrics of sack %s are stored",
                written.stored,
                sack,
            )
            if written.failed:
                self._take_out(worker, set(measures) - set(written.left))
                exceptions.raise_first(written.failed)

    def _take_out(
        self, worker: direct_write.QueueWriter, metric_ids: Iterable[Any]
    ) -> None:
        """Take single metrics out of the queue.

        Otherwise they would be stored again and again with those of their
        sack that can't be. What has come for them since is stored, too.
        """
        with self.queue.process_measure_for_metrics(
            list(metric_ids)
        ) as measures:
            exceptions.raise_first(
                worker.writer.write(measures, worker.breakers).failed
            )

    def has_unprocessed(self, metric_id: Any) -> bool:
        """Whether measures of a metric wait in the queue."""
        return bool(self.queue.has_unprocessed(metric_id))
