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
"""What a process counts between two lines, and the line (pure).

::

    driver,host=ctl1,process=metricd stored=300,refused=0,... 1400000000

A line is about the time since the line before, so lines can be added up: over
time, processes and hosts. That holds over restarts, too. All numbers are
floats: a cluster of 1.x loses integers where a node has no series.
"""

import re
from collections.abc import Mapping

from gnocchi_influxdb.schema import HEALTH

#: Fields that each line has, to be added up.
SUMS = (
    "stored",
    "refused",
    "queued",
    "named",
    "sacks",
    "reads",
    "reads_failed",
    "read_seconds",
    "writes",
    "writes_failed",
    "write_seconds",
)

_SPECIAL = re.compile(r"([,= \\])")


class Counts:
    """Numbers of one process. Not for several threads.

    :ivar sums: by field, to be added up.
    :ivar maxima: by field, of which the highest counts.
    :ivar latest: by field, of which the latest counts.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = dict.fromkeys(SUMS, 0.0)
        self.maxima: dict[str, float] = {}
        self.latest: dict[str, float] = {}

    def add(self, field: str, number: float) -> None:
        """Add to a sum."""
        self.sums[field] = self.sums.get(field, 0.0) + number

    def raise_to(self, field: str, number: float) -> None:
        """Let a maximum be no less than that."""
        self.maxima[field] = max(self.maxima.get(field, number), number)

    def precede(self, newer: "Counts") -> None:
        """Take in what was counted after this."""
        for field, number in newer.sums.items():
            self.add(field, number)
        for field, number in newer.maxima.items():
            self.raise_to(field, number)
        self.latest |= newer.latest

    def line(self, tags: Mapping[str, str], time: int) -> bytes:
        """Line protocol.

        :param tags: none of them is empty.
        :param time: ns since the epoch.
        """
        series = "".join(
            f",{name}={_SPECIAL.sub(_escaped, value)}"
            for name, value in sorted(tags.items())
        )
        fields = ",".join(
            f"{name}={float(value)!r}"
            for of_kind in (self.sums, self.maxima, self.latest)
            for name, value in of_kind.items()
        )
        return f"{HEALTH}{series} {fields} {time:d}\n".encode()


def _escaped(match: re.Match[str]) -> str:
    return f"\\{match[1]}"
