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
"""Not asking a server that is known to be away.

Of the libraries for this, pybreaker holds a lock over the call, which lets
one write at a time through, and circuitbreaker lets everybody through at once
when it is time to try again. Here one thread tries, first with a cheap
question and then with its measures, and the others do not wait for it: a
server may well answer the question while its writes hang.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping

from gnocchi_influxdb import exceptions, outages


class Breaker:
    """Says whether it is worth asking.

    A thread that was allowed to ask reports the outcome: `succeeded`,
    `failed`, or `undecided`. Threads may share it.

    :param outage: is told of failures and successes.
    :param patience: seconds after which a trial without an outcome counts as
        lost.
    :param probe: a cheap question to the server; raises InfluxDBError.
    :param shortest: seconds until the first try after a failure.
    :param longest: seconds that may come to be between two tries.
    :param of: which part of the outage, see `outages.Outage`.
    :ivar error: the last failure.
    """

    def __init__(
        self,
        outage: outages.Outage,
        patience: float,
        probe: Callable[[], None] | None = None,
        shortest: float = 0.5,
        longest: float = 15.0,
        of: str = "",
    ) -> None:
        self._outage = outage
        self._of = of
        self._patience = patience
        self._probe = probe
        self._shortest = shortest
        self._longest = longest
        self._lock = threading.Lock()
        self._trial = threading.Lock()
        self._failures = 0
        self._retry_at = 0.0
        self.error = exceptions.InfluxDBError("none yet")

    def allows(self) -> bool:
        """Whether to ask the server."""
        if not self._failures:
            return True
        if time.monotonic() < self._retry_at:
            return False
        if not self._trial.acquire(blocking=False):
            return False
        try:
            if time.monotonic() < self._retry_at or not self._failures:
                return not self._failures
            if self._probe is not None:
                self._probe()
            # Nobody else, until it is known how this one fares.
            self._retry_at = time.monotonic() + self._patience
        except exceptions.InfluxDBError as e:
            self.failed(e)
            return False
        finally:
            self._trial.release()
        return True

    @property
    def is_open(self) -> bool:
        """Whether the server failed when it was last asked."""
        return bool(self._failures)

    def failed(self, error: exceptions.InfluxDBError) -> None:
        """The server did not do what it was asked."""
        with self._lock:
            self.error = error
            self._failures += 1
            pause = min(
                self._shortest * 2 ** min(self._failures - 1, 20),
                self._longest,
            )
            # Many processes have seen the same failure at the same moment.
            pause *= random.uniform(0.5, 1.0)
            self._retry_at = time.monotonic() + pause
        self._outage.failed(error, self._of)

    def succeeded(self) -> None:
        """The server did what it was asked."""
        if self._failures:
            with self._lock:
                self._failures = 0
            self._outage.succeeded(self._of)

    def undecided(self) -> None:
        """The server was not asked after all, so the next one may try."""
        if self._failures:
            self._retry_at = time.monotonic()


class Breakers:
    """A breaker of the server, and one of each archive policy that has failed.

    Threads may share it.

    :param doing: what they guard, for the log: "Measures go to the queue".
    :param again: what InfluxDB does again at the end: "takes measures".
    :param counts: what `Outage.count` counts.
    :param patience: of each `Breaker`.
    :param probe: of the server.
    :ivar server: the server's.
    :ivar policies: {name of the archive policy: breaker}.
    :ivar outage: of the server.
    """

    def __init__(
        self,
        doing: str,
        again: str,
        patience: float,
        probe: Callable[[], None],
        counts: str | None = None,
    ) -> None:
        self._patience = patience
        until = f"{doing} until InfluxDB {again} again"
        ends = f"InfluxDB {again} again"
        self.outage = outages.Outage(until, ends, counts)
        self._of_policies = outages.Outage(
            f"Archive policies ({{of}}): {until[:1].lower()}{until[1:]}",
            f"Archive policies ({{of}}): {ends}",
        )
        self.server = Breaker(self.outage, patience, probe)
        self.policies: dict[str, Breaker] = {}

    def admit(
        self, policies: Collection[str]
    ) -> tuple[dict[str, Breaker], dict[str, exceptions.InfluxDBError]]:
        """Find the archive policies that have failed before.

        :return: breakers of those that are worth another try, to be given to
            `settle`, and the last errors of those that are not.
        """
        tried: dict[str, Breaker] = {}
        paused: dict[str, exceptions.InfluxDBError] = {}
        # There are some only where a token lacks a right, or the like.
        for name, breaker in list(self.policies.items()):
            if name in policies and breaker.allows():
                tried[name] = breaker
            elif name in policies:
                paused[name] = breaker.error
        return tried, paused

    def number_open(self) -> int:
        """How many of them are open. They are asked nothing."""
        return self.server.is_open + len(self.policies)

    def settle(
        self,
        tried: Mapping[str, Breaker],
        failed: Mapping[str, exceptions.InfluxDBError],
    ) -> None:
        """Take note of what came of a write.

        :param tried: from `admit`.
        :param failed: {name of the archive policy: error}.
        """
        for name, breaker in tried.items():
            if name not in failed:
                breaker.succeeded()
                self.policies.pop(name, None)
        for name, error in failed.items():
            self.policies.setdefault(
                name,
                Breaker(self._of_policies, self._patience, of=name),
            ).failed(error)

    def interrupted(
        self, tried: Mapping[str, Breaker], error: BaseException
    ) -> None:
        """Take note of an error that says nothing of single policies.

        :param tried: from `admit`.
        """
        for breaker in tried.values():
            breaker.undecided()
        if isinstance(error, exceptions.InfluxDBError):
            self.server.failed(error)
        else:
            self.server.undecided()

    @contextlib.contextmanager
    def asking(self, policy: str) -> Iterator[None]:
        """Ask the server something about one archive policy.

        :raises InfluxDBError: from the block; or the last one, if it is not
            the time to ask again. Then the block is not run.
        """
        if not self.server.allows():
            raise self.server.error.with_traceback(None)
        tried, paused = self.admit({policy})
        try:
            exceptions.raise_first(paused)
            yield
        except exceptions.OF_ONE_BUCKET as e:
            self.server.succeeded()
            if not paused:
                self.settle(tried, {policy: e})
            raise
        except BaseException as e:
            self.interrupted(tried, e)
            raise
        self.server.succeeded()
        self.settle(tried, {})
