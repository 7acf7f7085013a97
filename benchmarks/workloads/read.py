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
"""Reading from the storage driver."""

import functools
from typing import Any

import numpy

from benchmarks.harness import measures, policies, raw
from benchmarks.harness.sizes import FULL, Sizes
from benchmarks.harness.workload import LOWER, Outcome, Workload, milliseconds
from benchmarks.workloads import history
from benchmarks.workloads.history import Range


def _read(
    span: Range,
    method: str,
    rank: int,
    target: Any,
    number: int,
    sizes: Sizes,
) -> Outcome:
    driver = target.driver if isinstance(target, raw.Raw) else target
    metrics = history.metrics(driver, sizes)[: sizes.reads[rank]]
    wanted = {
        metric: [history.aggregations(metric, method, span)]
        for metric in metrics
    }
    start = numpy.datetime64(history.start(span, sizes), "s")
    stop = numpy.datetime64(measures.newest_time(), "s")

    def read() -> Any:
        return driver.storage.get_aggregated_measures(wanted, start, stop)

    answer = measures.of_storage(read())
    call = target.reads(read) if isinstance(target, raw.Raw) else read
    return Outcome(milliseconds(call, sizes), answer)


WORKLOADS = [
    Workload(
        f"read-{span.name}-{method.replace(':', '-')}-{count}",
        "read",
        f"{method} of {count} metric{'s' if count > 1 else ''}, {span.title}",
        "ms",
        LOWER,
        functools.partial(_read, span, method, rank),
        floors=[raw.AT_ONCE],
    )
    for span in history.RANGES
    for method in policies.READ_METHODS
    for rank, count in enumerate(FULL.reads)
]
