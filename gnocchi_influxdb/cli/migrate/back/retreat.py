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
"""Moving the history of metrics out of InfluxDB."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import daiquiri
import gnocchi.indexer

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.aggregation.windows import cut
from gnocchi_influxdb.cli import output
from gnocchi_influxdb.cli.deployment import Deployment
from gnocchi_influxdb.cli.migrate import history
from gnocchi_influxdb.cli.migrate.back import holding
from gnocchi_influxdb.cli.migrate.back.archive import Archive
from gnocchi_influxdb.cli.migrate.back.destination import Destination
from gnocchi_influxdb.cli.migrate.journal import Journal
from gnocchi_influxdb.cli.migrate.migration import Workers, chunks, try_again
from gnocchi_influxdb.schema import Array

LOG = daiquiri.getLogger(__name__)


class Retreat(Workers):
    """Moves the metrics of a Gnocchi out of InfluxDB.

    :param workers: number of threads.
    :param destination: where to.
    :param dry_run: read everything, write nothing.
    """

    def __init__(
        self,
        deployment: Deployment,
        workers: int,
        destination: Destination,
        dry_run: bool,
    ) -> None:
        super().__init__(deployment, workers)
        self._archive = Archive(deployment)
        self._destination = destination
        self._dry_run = dry_run

    def move(self, journal: Journal) -> history.Moved:
        """Move metrics that the journal does not list.

        And those that have received measures since they were noted there.
        """
        total = history.Moved()
        with output.progressing(
            "Reading" if self._dry_run else "Moving back",
            self.known,
            "metrics",
        ) as advance:
            for policy, ids in self.ids:
                left = self._left(policy, ids, journal)
                advance(len(ids) - len(left))
                for moved in self.in_threads(
                    self._move,
                    (
                        (policy, some, journal.done)
                        for some in chunks(policy, left)
                    ),
                ):
                    if not self._dry_run:
                        journal.add(moved.notes)
                    total.add(moved)
                    advance(
                        len(moved.aggregates) + len(moved.failed) + moved.empty
                    )
        return total

    def _left(
        self, policy: Any, ids: Sequence[uuid.UUID], journal: Journal
    ) -> list[uuid.UUID]:
        noted = [
            gnocchi.indexer.Metric(id_, policy)
            for id_ in ids
            if id_ in journal.done
        ]
        try:
            newest = self.patience.call(self._archive.newest, noted)
        except exceptions.UnavailableError as e:
            raise try_again(e) from None
        return [
            id_
            for id_ in ids
            if id_ not in journal.done
            or (newest[id_] or 0) > journal.done[id_].began
        ]

    def _move(
        self,
        policy: Any,
        metrics: Sequence[Any],
        noted: Mapping[uuid.UUID, history.Note],
    ) -> history.Moved:
        """Move some metrics of one archive policy.

        A metric that can't be stored is logged and counted as failed.

        :param noted: what the journal says of metrics.
        :raises InfluxDBError: some may not be moved.
        """
        moved = history.Moved()
        ahead = self._archive.ahead()
        kept = self._archive.kept(policy)
        newest = self._archive.newest(metrics)
        found: dict[Any, Array] = {}
        starts: dict[uuid.UUID, int] = {}
        for metric in metrics:
            last = newest[metric.id]
            if last is None:
                moved.empty += 1
                continue
            try:
                theirs = self._theirs(metric)
            except Exception as e:
                self._failed(moved, metric, e)
                continue
            found[metric] = theirs
            starts[metric.id] = holding.start(
                policy, last if last < ahead else 0, theirs, kept
            )
        # Before the windows: if one counts a measure that comes in between,
        # the metric has a newer one than is noted, and is moved again.
        points = self._archive.points(policy, starts)
        answers = self._archive.answers(policy, [*found])
        moved.empty += len(found) - len(answers)
        for metric, answered in answers.items():
            if any(map(len, _from(answered, ahead))):
                moved.losing.append(metric.id)
            held = holding.joined(
                policy,
                {a: cut(of, None, ahead) for a, of in answered.items()},
                cut(points[metric.id], None, ahead),
                found[metric],
                kept,
                noted[metric.id].joined if metric.id in noted else (),
            )
            try:
                if not self._dry_run:
                    self._destination.store(metric, held)
            except Exception as e:
                self._failed(moved, metric, e)
                continue
            _count(moved, policy, metric, held)
        return moved

    def _theirs(self, metric: Any) -> Array:
        # To look would make the metric.
        if self._dry_run:
            return holding.NOTHING
        return self._destination.points(metric)

    def _failed(self, moved: history.Moved, metric: Any, e: Exception) -> None:
        # It must not hold up the others.
        LOG.error(
            "Metric %s can't be stored by %s: %r",
            metric.id,
            self._destination,
            e,
        )
        moved.failed.append(metric.id)


def _from(series: Mapping[Any, Array], time: int) -> list[Array]:
    return [cut(windows, time, None) for windows in series.values()]


def _count(
    moved: history.Moved, policy: Any, metric: Any, held: holding.Holding
) -> None:
    for a, windows in held.series.items():
        key = history.Key(policy.name, schema.ns_of(a.granularity), a.method)
        moved.kept.setdefault(key, history.Kept()).windows += len(windows)
    number = sum(map(len, held.series.values()))
    moved.aggregates[metric.id] = number
    moved.notes[metric.id] = history.Note(
        number, held.newest(), metric.id in moved.losing, held.joined
    )
    moved.measures += len(held.points)
