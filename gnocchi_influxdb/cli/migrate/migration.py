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
"""Moving and comparing all metrics of a Gnocchi, in threads."""

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from typing import Any, TypeVar

import daiquiri
import gnocchi.indexer
import gnocchi.utils

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.cli import output
from gnocchi_influxdb.cli.deployment import Deployment
from gnocchi_influxdb.cli.migrate import coverage, history, transfer, verify
from gnocchi_influxdb.cli.migrate.journal import Journal
from gnocchi_influxdb.cli.output import Failure
from gnocchi_influxdb.indexer import listing

LOG = daiquiri.getLogger(__name__)

# Seconds that one outage of InfluxDB may last, and between two tries.
_PATIENCE = 600.0
_PAUSE = 5.0

# Metrics and aggregates that are moved at a time, at most; what a worker has
# in memory is about 50 bytes an aggregate.
_METRICS = 50
_AGGREGATES = 1_000_000

# What a server that ends leaves behind may be an answer that is cut.
_AWAY = (exceptions.UnavailableError, exceptions.ResponseError)

_T = TypeVar("_T")


def try_again(error: exceptions.InfluxDBError) -> Failure:
    """The failure of a migration that can be resumed."""
    return Failure(f"{error}. Run it again to go on where it was")


class Patience:
    """Does work again while InfluxDB is away. Threads share it.

    :param limit: seconds that one outage may last.
    :param pause: seconds between two tries.
    """

    def __init__(
        self, limit: float = _PATIENCE, pause: float = _PAUSE
    ) -> None:
        self._limit = limit
        self._pause = pause
        self._lock = threading.Lock()
        self._is_away = False
        self._given_up = threading.Event()

    def call(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """The result of work(*arguments), which may be done twice.

        :raises UnavailableError: InfluxDB stays away, or others have given up.
        """
        last = None
        while True:
            try:
                result = work(*arguments)
            except _AWAY as e:  # noqa: PERF203
                now = time.monotonic()
                last = last or now + self._limit
                self._tell_away(e)
                if now >= last or self._given_up.wait(self._pause):
                    self.give_up()
                    raise
            else:
                if last is not None:
                    self._tell_back()
                return result

    def give_up(self) -> None:
        """Let nobody wait any longer."""
        self._given_up.set()

    def _tell_away(self, error: exceptions.InfluxDBError) -> None:
        with self._lock:
            was_away, self._is_away = self._is_away, True
        if not was_away:
            LOG.warning(
                "%s. Waiting for InfluxDB, up to %.0f minutes",
                error,
                self._limit / 60,
            )

    def _tell_back(self) -> None:
        with self._lock:
            was_away, self._is_away = self._is_away, False
        if was_away:
            LOG.warning("InfluxDB is back")


class Workers:
    """The metrics of a Gnocchi, and threads that see to them.

    :param workers: number of threads.
    :ivar ids: archive policies and the ids of their active metrics.
    :ivar known: number of active metrics.
    :ivar patience: how long InfluxDB may be away.
    """

    def __init__(self, deployment: Deployment, workers: int) -> None:
        self._workers = workers
        self.patience = Patience()
        self.ids = [
            (policy, ids)
            for policy in deployment.policies
            if (
                ids := list(
                    listing.ids(
                        deployment.indexer, policy.name, listing.ACTIVE
                    )
                )
            )
        ]
        self.known = sum(len(ids) for _policy, ids in self.ids)

    def verify(
        self,
        compare: Callable[[Any, history.Note], verify.Result],
        done: Mapping[uuid.UUID, history.Note],
        number: int | None,
    ) -> verify.Result:
        """Compare moved metrics.

        :param compare: called with a metric and what `done` says of it.
        :param done: what the journal says of the metrics that are moved.
        :param number: compare so many, picked at random; None: all.
        """
        some = {id_ for _policy, ids in self.ids for id_ in ids if id_ in done}
        if number is not None and number < len(some):
            some = set(random.sample(sorted(some), number))
        result: verify.Result = {}
        with output.progressing("Verifying", len(some), "metrics") as advance:
            for compared in self.in_threads(
                compare,
                (
                    (gnocchi.indexer.Metric(id_, policy), done[id_])
                    for policy, ids in self.ids
                    for id_ in ids
                    if id_ in some
                ),
            ):
                for key, more in compared.items():
                    result.setdefault(key, verify.Compared()).add(more)
                advance(1)
        return result

    def in_threads(
        self, work: Callable[..., _T], arguments: Iterable[tuple[Any, ...]]
    ) -> Iterator[_T]:
        """Results of work(*arguments), in the order in which they come."""
        waiting = iter(arguments)
        with futures.ThreadPoolExecutor(self._workers) as pool:
            running = set()
            try:
                for one in waiting:
                    running.add(pool.submit(self.patience.call, work, *one))
                    if len(running) > self._workers:
                        done, running = futures.wait(
                            running, return_when=futures.FIRST_COMPLETED
                        )
                        yield from (future.result() for future in done)
                while running:
                    done, running = futures.wait(
                        running, return_when=futures.FIRST_COMPLETED
                    )
                    yield from (future.result() for future in done)
            except _AWAY as e:
                raise try_again(e) from None
            finally:
                # A thread that waits would hold up the end.
                if running:
                    self.patience.give_up()
                for future in running:
                    future.cancel()


class Migration(Workers):
    """Moves the metrics of a Gnocchi into InfluxDB.

    :raises Failure: on construction: moved windows would not be read.
    """

    def __init__(self, deployment: Deployment, workers: int) -> None:
        super().__init__(deployment, workers)
        self._buckets = deployment.buckets
        self._coverage = coverage.Coverage(
            deployment.buckets, deployment.conf.storage
        )
        unread = [
            str(policy.name)
            for policy, _ids in self.ids
            if len(policy.definition) > 1
            and not self._buckets.downsampled(policy)
        ]
        if unread:
            raise Failure(
                "A migration needs [storage] influxdb_downsampling = true, and"
                " no cluster: otherwise the coarser definitions of archive"
                f" policies ({', '.join(unread)}) are computed from points,"
                " which the history no longer has"
            )

    def move(
        self, moving: transfer.Transfer, journal: Journal, dry_run: bool
    ) -> history.Moved:
        """Move the metrics that the journal does not list."""
        total = history.Moved()
        with output.progressing(
            "Reading" if dry_run else "Moving",
            self.known - len(journal.done),
            "metrics",
        ) as advance:
            for policy, ids in self.ids:
                left = [id_ for id_ in ids if id_ not in journal.done]
                covered = coverage.Covered(
                    self._buckets.client.clock.now_ns(), 0
                )
                if left and not dry_run:
                    covered = self._cover(policy)
                for moved in self.in_threads(
                    moving.move,
                    (
                        (policy, metrics, covered)
                        for metrics in chunks(policy, left)
                    ),
                ):
                    # What was refused is to be moved when its cause is
                    # mended.
                    if not dry_run and not moved.refused:
                        journal.add(moved.notes)
                    total.add(moved)
                    advance(
                        len(moved.aggregates) + len(moved.failed) + moved.empty
                    )
                if not dry_run and not journal.done.keys().isdisjoint(ids):
                    self._cover(policy)
        return total

    def _cover(self, policy: Any) -> coverage.Covered:
        try:
            return self.patience.call(self._coverage.extend, policy)
        except _AWAY as e:
            raise try_again(e) from None


def chunks(policy: Any, ids: list[uuid.UUID]) -> Iterator[list[Any]]:
    """Metrics, as many at a time as are moved together."""
    windows = sum(item.points or 0 for item in policy.definition)
    aggregates = max(windows * len(policy.aggregation_methods), 1)
    size = min(max(_AGGREGATES // aggregates, 1), _METRICS)
    for some in gnocchi.utils.grouper(ids, size):
        # No more of them than the drivers look at.
        yield [gnocchi.indexer.Metric(id_, policy) for id_ in some]
