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
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any, TypeVar

import gnocchi.indexer
import gnocchi.utils

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.cli import output
from gnocchi_influxdb.cli.deployment import Deployment
from gnocchi_influxdb.cli.migrate import history, report, transfer, verify
from gnocchi_influxdb.cli.migrate.journal import Journal
from gnocchi_influxdb.cli.output import Failure
from gnocchi_influxdb.indexer import listing

#: Metrics and points that are moved at a time, at most; what a worker has in
#: memory is about 100 bytes a point.
_METRICS = 50
_POINTS = 500_000

_T = TypeVar("_T")


def try_again(error: exceptions.UnavailableError) -> Failure:
    """The failure of a migration that can be resumed."""
    return Failure(f"{error}. Run it again to go on where it was")


class Migration:
    """The metrics of a Gnocchi, moved and compared by some threads.

    :param workers: number of threads.
    :param moves_distorted: move also what would answer some methods wrongly.
    :ivar known: number of active metrics.
    :ivar left_out: archive policies whose metrics are not moved.
    """

    def __init__(
        self, deployment: Deployment, workers: int, moves_distorted: bool
    ) -> None:
        self._indexer = deployment.indexer
        self._policies = deployment.policies
        self._workers = workers
        #: Active metrics by archive policy.
        self._ids = {
            policy.name: list(
                listing.ids(self._indexer, policy.name, listing.ACTIVE)
            )
            for policy in self._policies
        }
        self.known = sum(map(len, self._ids.values()))
        self.left_out = [
            report.LeftOut(policy.name, number, methods)
            for policy in self._policies
            if (number := len(self._ids[policy.name]))
            and (methods := history.distorted(policy.aggregation_methods))
            and not moves_distorted
        ]
        for one in self.left_out:
            del self._ids[one.policy]

    def move(
        self, moving: transfer.Transfer, journal: Journal, dry_run: bool
    ) -> transfer.Moved:
        """Move the metrics that the journal does not list."""
        total = transfer.Moved()
        chunks = list(self._chunks(lambda id_: id_ not in journal.done))
        left = sum(len(chunk) for _, chunk in chunks)
        with output.progressing(
            "Reading" if dry_run else "Moving", left, "metrics"
        ) as advance:
            for moved in self._in_threads(moving.move, chunks):
                # What was refused is to be moved when its cause is mended.
                if not dry_run and not moved.refused:
                    journal.add(moved.points)
                total.points.update(moved.points)
                total.add(moved)
                advance(len(moved.points) + len(moved.failed) + moved.empty)
        return total

    def verify(
        self,
        verifier: verify.Verifier,
        done: set[uuid.UUID],
        number: int | None,
    ) -> verify.Result:
        """Compare moved metrics.

        :param done: the metrics that are moved.
        :param number: compare so many, picked at random; None: all.
        """
        some = done
        if number is not None and number < len(done):
            some = set(random.sample(sorted(done), number))
        singly = [
            (metric,)
            for _, chunk in self._chunks(lambda id_: id_ in some)
            for metric in chunk
        ]
        result: verify.Result = {}
        with output.progressing(
            "Verifying", len(singly), "metrics"
        ) as advance:
            for compared in self._in_threads(verifier.compare, singly):
                for key, more in compared.items():
                    result.setdefault(key, verify.Compared()).add(more)
                advance(1)
        return result

    def _chunks(
        self, wanted: Callable[[uuid.UUID], bool]
    ) -> Iterator[tuple[Any, list[Any]]]:
        """Some metrics of one archive policy at a time.

        :return: pairs of a policy and its metrics.
        """
        for policy in self._policies:
            points = sum(item.points or 0 for item in policy.definition)
            size = min(max(_POINTS // max(points, 1), 1), _METRICS)
            ids = [
                id_ for id_ in self._ids.get(policy.name, ()) if wanted(id_)
            ]
            for some in gnocchi.utils.grouper(ids, size):
                yield (
                    policy,
                    # No more of them than the drivers look at.
                    [gnocchi.indexer.Metric(id_, policy) for id_ in some],
                )

    def _in_threads(
        self, work: Callable[..., _T], arguments: Sequence[tuple[Any, ...]]
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
