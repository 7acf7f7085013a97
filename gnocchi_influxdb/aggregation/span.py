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
"""The range that a read asks for, and the windows that it needs (pure).

All times are integers, ns since the epoch.
"""

import dataclasses
from typing import Any

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import methods, resample


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """What a caller asked for: [`start`, `stop`), None is unbounded.

    :ivar sampling: what to resample by: timedelta64, a letter of
        gnocchi.calendar.GROUPINGS, or None for not at all.
    """

    start: int | None
    stop: int | None
    sampling: Any = None

    def first(self, aggregation: Any) -> int | None:
        """Start of the first window to be answered."""
        if self.start is None:
            return None
        return resample.floor(
            self.start,
            aggregation.granularity
            if self.sampling is None
            else self.sampling,
        )

    def is_empty(self, aggregation: Any) -> bool:
        """Whether no window can begin in it."""
        first = self.first(aggregation)
        return (
            first is not None and self.stop is not None and first >= self.stop
        )

    def windows(self, aggregation: Any) -> tuple[int | None, int | None]:
        """Range of the windows that are needed, a whole number of them.

        A window that contains `stop` is needed whole, and so are those that
        the first and the last resampled window consist of.
        """
        every = schema.ns_of(aggregation.granularity)
        start = self.first(aggregation)
        stop = self.stop
        if self.sampling is not None:
            if methods.is_rate(aggregation.method):
                # The first difference of rates needs the rate before it,
                # however long ago that was.
                start = None
            if stop is not None:
                stop = resample.ceil(stop, self.sampling)
        if start is not None:
            start = schema.floor(start, every)
            if start <= 0:
                start = None
        if stop is not None:
            stop = schema.ceil(stop, every)
            if stop > schema.last_window(every):
                stop = None
        return start, stop
