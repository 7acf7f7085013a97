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
"""Writing: polling, metricd's path, backfill."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from benchmarks.harness import measures, policies, raw
from benchmarks.harness.sizes import FULL, Sizes
from benchmarks.harness.targets import SACKS
from benchmarks.harness.workload import HIGHER, Outcome, Workload, seconds

#: Metrics that are read back, to see that all drivers have stored the same.
_CHECKED = 10


def _poll(
    target: Any,
    what: str,
    policy: str,
    sizes: Sizes,
    prepare: Callable[[dict[Any, Any]], Callable[[], None]],
) -> Outcome:
    """Pass after pass.

    :param prepare: makes of the measures of a pass what is to be timed.
    """
    metrics = target.create_metrics(
        measures.ids(what, sizes.metrics), policies.POLLED[policy]
    )
    number = sizes.history + max(sizes.passes, sizes.repeats)
    start = measures.polled_time() - sizes.history * measures.STEP
    points = {
        metric: measures.series(metric.id, start, number) for metric in metrics
    }
    history = {m: p[: sizes.history] for m, p in points.items()}
    target.write(measures.batches(history, sizes.batch))()

    answer: measures.Answer = {}
    samples: list[float] = []
    spent = 0.0
    while _wants_more(samples, spent, sizes):
        at = sizes.history + len(samples)
        call = prepare({m: p[at : at + 1] for m, p in points.items()})
        elapsed = seconds(call)
        spent += elapsed
        samples.append(len(metrics) / elapsed)
        if len(samples) == sizes.passes:
            # As many as each driver gets.
            answer = target.read_all(metrics[:_CHECKED])
    return Outcome(samples, answer)


def _polling(policy: str, target: Any, number: int, sizes: Sizes) -> Outcome:
    return _poll(
        target,
        f"polling-{policy}-{number}",
        policy,
        sizes,
        lambda new: target.write(measures.batches(new, sizes.batch)),
    )


def _metricd(
    policy: str, in_redis: bool, target: Any, number: int, sizes: Sizes
) -> Outcome:
    return _poll(
        target,
        f"metricd-{policy}-{in_redis}-{number}",
        policy,
        sizes,
        lambda new: target.queue(
            {metric.id: points for metric, points in new.items()},
            in_redis=in_redis,
        ),
    )


def _sacks(rank: int, target: Any, number: int, sizes: Sizes) -> Outcome:
    in_sack = sizes.in_sack[rank]
    changed = dataclasses.replace(
        # Enough to time, and of many metrics not for minutes.
        sizes,
        metrics=SACKS * in_sack,
        passes=min(sizes.passes, 2),
    )
    return _poll(
        target,
        f"sacks-{in_sack}-{number}",
        "low",
        changed,
        lambda new: target.queue(
            {metric.id: points for metric, points in new.items()}
        ),
    )


def _backfill(policy: str, target: Any, number: int, sizes: Sizes) -> Outcome:
    start = measures.newest_time() - sizes.backfill_points * measures.STEP
    samples: list[float] = []
    spent = 0.0
    answer: measures.Answer = {}
    while _wants_more(samples, spent, sizes):
        metrics = target.create_metrics(
            measures.ids(
                f"backfill-{policy}-{number}-{len(samples)}", sizes.backfill
            ),
            policies.POLLED[policy],
        )
        points = {
            metric: measures.series(metric.id, start, sizes.backfill_points)
            for metric in metrics
        }
        write = target.write(measures.batches(points, sizes.batch))
        elapsed = seconds(write)
        spent += elapsed
        samples.append(len(metrics) * sizes.backfill_points / elapsed)
        if len(samples) <= sizes.passes:
            # As many as each driver gets.
            answer |= target.read_all(metrics[:_CHECKED])
    return Outcome(samples, answer)


def _wants_more(samples: list[float], spent: float, sizes: Sizes) -> bool:
    return len(samples) < sizes.passes or (
        len(samples) < sizes.repeats and spent < sizes.budget
    )


WORKLOADS = [
    *(
        Workload(
            f"polling-{short}",
            "write",
            f"polling, {policy}: storage alone",
            "metrics/s",
            HIGHER,
            functools.partial(_polling, short),
            floors=[raw.AT_ONCE],
        )
        for short, policy in policies.POLLED.items()
    ),
    *(
        Workload(
            f"metricd-{short}",
            "write",
            f"polling, {policy}: metricd with PostgreSQL and the driver's "
            "own queue",
            "metrics/s",
            HIGHER,
            functools.partial(_metricd, short, False),
        )
        for short, policy in policies.POLLED.items()
    ),
    *(
        Workload(
            f"metricd-low-{in_sack}",
            "write",
            f"polling, {policies.POLLED['low']}: metricd-low with about "
            f"{in_sack} metrics in a sack",
            "metrics/s",
            HIGHER,
            functools.partial(_sacks, rank),
        )
        for rank, in_sack in enumerate(FULL.in_sack)
    ),
    *(
        Workload(
            f"metricd-redis-{short}",
            "write",
            f"polling, {policy}: metricd with PostgreSQL and a queue in "
            "Redis for each driver",
            "metrics/s",
            HIGHER,
            functools.partial(_metricd, short, True),
            needs_redis=True,
        )
        for short, policy in policies.POLLED.items()
    ),
    *(
        Workload(
            name,
            "write",
            f"backfill of a day, {policies.POLLED[short]}: storage alone",
            "measures/s",
            HIGHER,
            functools.partial(_backfill, short),
            floors=[raw.AT_ONCE, raw.IN_A_ROW],
        )
        for name, short in (("backfill", "low"), ("backfill-medium", "medium"))
    ),
]
