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
"""Archive policies: Ceilometer's, Gnocchi's, and one to read from."""

from typing import Any

import numpy
from gnocchi import archive_policy

_DAY = 86400

READ = "bench-read"
READ_METHODS = ("mean", "max", "std", "95pct", "rate:mean")

#: Granularity and timespan in seconds, as Ceilometer defines them. Gnocchi's
#: own `medium` is made by gnocchi-upgrade.
_DEFINITIONS: dict[str, tuple[tuple[str, ...], list[tuple[int, int]]]] = {
    "ceilometer-low": (("mean",), [(300, 30 * _DAY)]),
    "ceilometer-high-rate": (
        ("mean", "rate:mean"),
        [(1, 3600), (60, _DAY), (3600, 365 * _DAY)],
    ),
    READ: (READ_METHODS, [(300, 60 * _DAY), (3600, 365 * _DAY)]),
}

#: What is polled: a short name and the policy's.
POLLED = {
    "low": "ceilometer-low",
    "medium": "medium",
    "high-rate": "ceilometer-high-rate",
}


def create(indexer: Any) -> None:
    """Create the policies that gnocchi-upgrade does not."""
    for name, (methods, definition) in _DEFINITIONS.items():
        items = [
            archive_policy.ArchivePolicyItem(
                granularity=numpy.timedelta64(granularity, "s"),
                timespan=numpy.timedelta64(timespan, "s"),
            )
            for granularity, timespan in definition
        ]
        indexer.create_archive_policy(
            archive_policy.ArchivePolicy(name, 0, items, methods)
        )
