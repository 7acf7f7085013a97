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
"""Which buckets hold many points in a window.

Where a window has a point or a few, as the finest granularity of a policy
usually does, InfluxDB hands out the points in a third of the time that it
takes for their windows. So points are read, with a limit that is reached
where windows hold many of them; then InfluxDB aggregates, and is not asked for
points of that bucket and granularity again for some time.
"""

import time

from gnocchi_influxdb.read import cost


class Density:
    """Remembers where points have turned out to be too many.

    Threads share it. All methods take the bucket's name; `every`, the length
    of a window in ns; and `most`, the points a window up to which points are
    read.
    """

    def __init__(self) -> None:
        self._dense: dict[tuple[str, int, int], float] = {}

    def is_dense(self, bucket: str, every: int, most: int) -> bool:
        """Whether points have lately turned out to be too many."""
        return self._dense.get((bucket, every, most), 0) > time.monotonic()

    def note_dense(self, bucket: str, every: int, most: int) -> None:
        """Remember that there are too many."""
        self._dense[bucket, every, most] = (
            time.monotonic() + cost.DENSE_REMEMBERED
        )
