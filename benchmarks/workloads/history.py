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
"""The history that reads read."""

import dataclasses
from typing import Any

import numpy

from benchmarks.harness import measures, policies
from benchmarks.harness.sizes import Sizes

_BATCH = 10


@dataclasses.dataclass(frozen=True)
class Range:
    """A time range and a granularity to read.

    :ivar granularity: in seconds.
    """

    name: str
    title: str
    days: int
    granularity: int


RANGES = (
    Range("day", "a day at 5 min", 1, 300),
    Range("month", "30 days at 1 h", 30, 3600),
)


def metrics(target: Any, sizes: Sizes) -> list[Any]:
    """Metrics with weeks of measures, written once a run."""
    found: list[Any] = target.cached("history", lambda: _write(target, sizes))
    return found


def start(span: Range, sizes: Sizes) -> int:
    """Start of a range, in seconds; it ends at the newest measure's time."""
    days = min(span.days, sizes.read_days)
    return measures.newest_time() - days * 86400


def aggregations(metric: Any, method: str, span: Range) -> Any:
    """The aggregation of a metric that a read of the range asks for."""
    return metric.archive_policy.get_aggregation(
        method, numpy.timedelta64(span.granularity, "s")
    )


def _write(target: Any, sizes: Sizes) -> list[Any]:
    ids = measures.ids("history", max(sizes.reads))
    found: list[Any] = target.create_metrics(ids, policies.READ)
    # A day more, for the rate of the first window.
    number = (sizes.read_days + 1) * 86400 // measures.STEP
    first = measures.newest_time() - number * measures.STEP
    points = {
        metric: measures.series(metric.id, first, number) for metric in found
    }
    target.write(measures.batches(points, _BATCH))()
    if sizes.settles:
        target.settle()
    return found
