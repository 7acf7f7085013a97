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

"""Which workloads there are."""

import fnmatch
from collections.abc import Iterable

from benchmarks.harness.workload import Workload
from benchmarks.workloads import read, rest, write

#: In the order in which they run.
WORKLOADS: tuple[Workload, ...] = (
    *write.WORKLOADS,
    *rest.WRITES,
    *read.WORKLOADS,
    *rest.READS,
)


def select(patterns: Iterable[str]) -> list[Workload]:
    """Workloads by name, by wildcard and by group; all without a pattern.

    :raises LookupError: a pattern matches none.
    """
    names: set[str] = set()
    for pattern in patterns:
        matches = {
            workload.name
            for workload in WORKLOADS
            if pattern == workload.group
            or fnmatch.fnmatchcase(workload.name, pattern)
        }
        if not matches:
            raise LookupError(f"there is no workload {pattern!r}: see --list")
        names |= matches
    return [w for w in WORKLOADS if not names or w.name in names]
