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
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from typing import Any, TypeVar

import gnocchi.indexer
import gnocchi.utils

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.cli import output
from gnocchi_influxdb.cli.deployment import Deployment
from gnocchi_influxdb.cli.migrate import coverage, history, transfer, verify
from gnocchi_influxdb.cli.migrate.journal import Journal
from gnocchi_influxdb.cli.output import Failure
from gnocchi_influxdb.indexer import listing

# Metrics and aggregates that are moved at a time, at most; what a worker has
# in memory is about 50 bytes an aggregate.
_METRICS = 50
_AGGREGATES = 1_000_000

_T = TypeVar("_T")


def try_again(error: exceptions.UnavailableError) -> Failure:
    """The failure of a migration that can be resumed."""
    return Failure(f"{error}. Run it again to go on where it was")


class Migration:
    """The metrics of a Gnocchi, moved and compared by some threads.

    :param workers: number of threads.
    :ivar known: number of active metrics.
    :raises Failure: on construction: moved windows would not be read.
    """

    def __init__(self, deployment: Deployment, workers: int) -> None:
        self._buckets = deployment.buckets
        self._coverage = coverage.Coverage(
            deployment.buckets, deployment.conf.storage
        )
        self._workers = workers
        #: Archive policies and their active metrics.
        self._ids = [
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
        self.known = sum(len(ids) for _policy, ids in self._ids)
        unread = [
            str(policy.name)
            for policy, _ids in self._ids
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
            for policy, ids in self._ids:
                left = [id_ for id_ in ids if id_ not in journal.done]
                covered = coverage.Covered(
                    self._buckets.client.clock.now_ns(), 0
                )
                if left and not dry_run:
                    covered = self._cover(policy)
                for moved in self._in_threads(
                    moving.move,
                    (
                        (policy, metrics, covered)
                        for metrics in _chunks(policy, left)
                    ),
                ):
                    # What was refused is to be moved when its cause is
                    # mended.
                    if not dry_run and not moved.refused:
                        journal.add(moved.aggregates, moved.began)
                    total.add(moved)
                    advance(
                        len(moved.aggregates) + len(moved.failed) + moved.empty
                    )
                if not dry_run and not journal.done.keys().isdisjoint(ids):
                    self._cover(policy)
        return total

    def verify(
        self,
        verifier: verify.Verifier,
        done: Mapping[uuid.UUID, int],
        number: int | None,
    ) -> verify.Result:
        """Compare moved metrics.

        :param done: the metrics that are moved, and when.
        :param number: compare so many, picked at random; None: all.
        """
        some = {
            id_ for _policy, ids in self._ids for id_ in ids if id_ in done
        }
        if number is not None and number < len(some):
            some = set(random.sample(sorted(some), number))
        result: verify.Result = {}
        with output.progressing("Verifying", len(some), "metrics") as advance:
            for compared in self._in_threads(
                verifier.compare,
                (
                    (gnocchi.indexer.Metric(id_, policy), done[id_])
                    for policy, ids in self._ids
                    for id_ in ids
                    if id_ in some
                ),
            ):
                for key, more in compared.items():
                    result.setdefault(key, verify.Compared()).add(more)
                advance(1)
        return result

    def _cover(self, policy: Any) -> coverage.Covered:
        try:
            return self._coverage.extend(policy)
        except exceptions.UnavailableError as e:
            raise try_again(e) from None

    def _in_threads(
        self, work: Callable[..., _T], arguments: Iterable[tuple[Any, ...]]
    ) -> Iterator[_T]:
        """Results of work(*arguments), in the order in which they come."""
        waiting = iter(arguments)
        with futures.ThreadPoolExecutor(self._workers) as pool:
            running = set()
            try:
                for one in waiting:
                    running.add(pool.submit(work, *one))
                    if len(running) > self._workers:
                        done, running = futures.wait(
                            running, return_when=futures.FIRST_COMPLETED
                        )
                        yield from (future.result() for future in done)
                for future in futures.as_completed(running):
                    yield future.result()
            except exceptions.UnavailableError as e:
                raise try_again(e) from None
            finally:
                for future in running:
                    future.cancel()


def _chunks(policy: Any, ids: list[uuid.UUID]) -> Iterator[list[Any]]:
    """Metrics, as many at a time as are moved together."""
    windows = sum(item.points or 0 for item in policy.definition)
    aggregates = max(windows * len(policy.aggregation_methods), 1)
    size = min(max(_AGGREGATES // aggregates, 1), _METRICS)
    for some in gnocchi.utils.grouper(ids, size):
        # No more of them than the drivers look at.
        yield [gnocchi.indexer.Metric(id_, policy) for id_ in some]
