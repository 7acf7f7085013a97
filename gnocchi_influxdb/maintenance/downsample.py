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
"""Downsampling, a part of what gnocchi-metricd does.

Each archive policy belongs to one sack, by its name. So one worker at a time
downsamples it, under the lock of that sack, and any number of hosts share the
policies.
"""

import contextlib
import time
import zlib
from collections.abc import Iterator
from typing import Any

from gnocchi_influxdb import exceptions, outages, schema
from gnocchi_influxdb.buckets import watermark
from gnocchi_influxdb.buckets.manager import Buckets
from gnocchi_influxdb.buckets.policy import PolicyBucket
from gnocchi_influxdb.downsampling.downsampler import Downsampler
from gnocchi_influxdb.health import recorder

# Seconds that a call may take before it leaves the rest to the next one: the
# measures that wait in the sack wait meanwhile.
_LONGEST = 10.0
# Seconds for which a server that fails is not asked for another policy.
_PAUSE = 30.0


def downsample(
    buckets: Buckets,
    downsampler: Downsampler,
    policy: Any,
    until: int | None = None,
    first: int = 0,
) -> Iterator[tuple[PolicyBucket, watermark.Watermark]]:
    """Do what is due for a policy, a slice with each step.

    At the end points are no longer kept for windows that were overdue.

    :param until: windows that end later (ns) are left for another time, and
        the points for them; None: those that are over.
    :param first: number of the definition to begin with.
    :return: the bucket of a definition and its watermark, after each slice.
    :raises InfluxDBError: it can't go on; what was done counts.
    """
    targets = buckets.downsampled(policy)
    for i in range(len(targets)):
        target = targets[(first + i) % len(targets)]
        for mark in downsampler.downsample(policy, target, until):
            yield target, mark
    if until is None:
        buckets.shorten(policy)


class DownsampleJob:
    """Downsamples the policies of sacks when it is time.

    Each worker of gnocchi-metricd has one, for a single thread.

    :param indexer: Gnocchi's indexer.
    :param conf: the group of options that the buckets were made with.
    """

    def __init__(self, buckets: Buckets, indexer: Any, conf: Any) -> None:
        self._buckets = buckets
        self._indexer = indexer
        self._downsampler = Downsampler(buckets, conf)
        self._health = recorder.of(conf._conf)
        self._policies: list[Any] = []
        self._listed = float("-inf")
        self._due: dict[str, float] = {}
        self._next: dict[str, int] = {}
        self._resumes = float("-inf")
        self._outage = outages.Outage(
            "Archive policies ({of}): windows are not downsampled, which is"
            f" tried each {watermark.INTERVAL} s; points are kept meanwhile",
            "Archive policies ({of}): windows are downsampled again",
        )

    def run(self, sack: int, sacks: int) -> None:
        """Downsample the policies of a sack if it is time. Never raises.

        :param sack: number of the sack, from 0 on.
        :param sacks: how many sacks there are.
        """
        try:
            for policy in self._list():
                name = str(policy.name)
                if (
                    zlib.crc32(name.encode("utf-8", "surrogatepass")) % sacks
                    == sack
                    and self._due.get(name, 0) <= time.monotonic()
                    and self._resumes <= time.monotonic()
                ):
                    self._run(policy)
        except Exception as e:
            self._outage.failed(e, "all")
        else:
            self._outage.succeeded("all")

    def _list(self) -> list[Any]:
        """Policies with something to downsample."""
        now = time.monotonic()
        if now - self._listed >= watermark.INTERVAL:
            self._policies = [
                policy
                for policy in self._indexer.list_archive_policies()
                if self._buckets.downsampled(policy)
            ]
            self._listed = now
        return self._policies

    def _run(self, policy: Any) -> None:
        name = str(policy.name)
        began = time.monotonic()
        self._due[name] = began + watermark.INTERVAL
        try:
            # One that fails or takes long must not hold up the others.
            first = self._next.get(name, 0)
            self._next[name] = first + 1
            for _slice in downsample(
                self._buckets, self._downsampler, policy, first=first
            ):
                if time.monotonic() - began >= _LONGEST:
                    self._due[name] = 0  # Go on at the next call.
                    return
        except Exception as e:
            self._outage.failed(e, name)
            if isinstance(e, exceptions.UnavailableError):
                self._resumes = time.monotonic() + _PAUSE
        else:
            self._outage.succeeded(name)
            self._count_overdue(policy)

    def _count_overdue(self, policy: Any) -> None:
        now = self._buckets.client.clock.now_ns()
        with contextlib.suppress(exceptions.InfluxDBError):
            for target in self._buckets.downsampled(policy):
                mark = self._buckets.watermarks.of(target.name)
                if mark is not None:
                    ns = watermark.overdue(mark.until, target.every, now)
                    self._health.raise_to(overdue=ns / schema.SECOND)
