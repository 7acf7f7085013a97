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
"""What a workload is, and how its calls are timed."""

import dataclasses
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from benchmarks.harness import measures
from benchmarks.harness.sizes import Sizes

LOWER, HIGHER = "lower", "higher"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a workload with one driver in one round.

    :ivar samples: figures in the workload's unit.
    :ivar answer: what was read; it must not depend on the driver.
    """

    samples: Sequence[float]
    answer: measures.Answer


@dataclasses.dataclass(frozen=True)
class Workload:
    """Work that each driver is given.

    :ivar group: "write" or "read".
    :ivar better: which figures are better, "lower" or "higher".
    :ivar run: (target, number of the round, sizes) -> outcome.
    :ivar floors: which kinds of raw line protocol take part, see `raw`.
    :ivar needs_redis: whether no driver can do it without a Redis.
    """

    name: str
    group: str
    title: str
    unit: str
    better: str
    run: Callable[[Any, int, Sizes], Outcome]
    floors: Collection[str] = ()
    needs_redis: bool = False


def milliseconds(call: Callable[[], Any], sizes: Sizes) -> list[float]:
    """How long a call takes, again and again, in milliseconds."""
    samples: list[float] = []
    for index in range(sizes.repeats):
        if index >= sizes.passes and sum(samples) >= 1000 * sizes.budget:
            break
        samples.append(1000 * seconds(call))
    return samples


def seconds(call: Callable[[], Any]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
