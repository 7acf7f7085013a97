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
"""What a workload is, and which there are."""

import dataclasses
import fnmatch
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from benchmarks import measures
from benchmarks.sizes import Sizes

LOWER, HIGHER = "lower", "higher"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a workload with one driver in one round.

    :ivar samples: figures in the workload's unit.
    :ivar answer: what was read, which must not depend on the driver.
    """

    samples: Sequence[float]
    answer: measures.Answer


@dataclasses.dataclass(frozen=True)
class Workload:
    """:ivar run: (target, number of the round, sizes) -> outcome.
    :ivar better: which figures are, "lower" or "higher".
    :ivar floors: which raw line protocol takes part, see `raw`.
    :ivar needs_redis: whichever the driver.
    """

    name: str
    group: str
    title: str
    unit: str
    better: str
    run: Callable[[Any, int, Sizes], Outcome]
    floors: Collection[str] = ()
    needs_redis: bool = False


def every() -> list[Workload]:
    from benchmarks import read, rest, write

    return [*write.WORKLOADS, *rest.WRITES, *read.WORKLOADS, *rest.READS]


def select(patterns: Iterable[str]) -> list[Workload]:
    """Workloads by name, by wildcard and by group; all if nothing is said.

    :raises LookupError: there is none such.
    """
    found = every()
    names: set[str] = set()
    for pattern in patterns:
        matches = {
            workload.name
            for workload in found
            if pattern == workload.group
            or fnmatch.fnmatchcase(workload.name, pattern)
        }
        if not matches:
            raise LookupError(f"there is no workload {pattern!r}: see --list")
        names |= matches
    return [w for w in found if not names or w.name in names]


def milliseconds(call: Callable[[], Any], sizes: Sizes) -> list[float]:
    """How long a call takes, a few times."""
    samples: list[float] = []
    for index in range(sizes.repeats):
        if index >= sizes.passes and sum(samples) >= 1000 * sizes.budget:
            break
        samples.append(1000 * seconds(call))
    return samples


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
