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
"""What is asked of InfluxDB, in its two languages (pure)."""

import dataclasses
import uuid
from collections.abc import Sequence

from gnocchi_influxdb.rollups import rollup_response
from gnocchi_influxdb.wire import flux, influxql

#: A read of the points themselves, and of the newest one of each metric.
POINTS = "points"
NEWEST = "newest"

#: The first and the last point and the number of points of each window: three
#: arrays, for `aggregates.rate_from_ends`.
ENDS = "ends"
#: What is kept of aggregations, see `rollup_lines`.
ROLLUPS = "rollups"


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """What is asked of a bucket, for whatever metrics.

    :ivar what: a window function, `POINTS`, `NEWEST`, `ENDS` or `ROLLUPS`.
    :ivar start: ns since the epoch, None: from the first point.
    :ivar stop: ns since the epoch, exclusive, None: to the last point.
    :ivar every: length of a window, ns; 0 where there are none.
    :ivar limit: points of each metric that may be enough; there may be more.
    """

    bucket: str
    what: str
    start: int | None = None
    stop: int | None = None
    every: int = 0
    limit: int | None = None
    #: With `ROLLUPS`, which are asked for, and the fields; and what else is
    #: asked in the same request, of the time that nothing is kept of yet.
    blocks: rollup_response.Range | None = None
    fields: tuple[str, ...] = ()
    tail: "Query | None" = None

    def is_empty(self) -> bool:
        """Whether nothing lies in its range; InfluxDB takes that amiss."""
        start = 0 if self.start is None else self.start
        return self.stop is not None and start >= self.stop

    def flux(self, metrics: Sequence[uuid.UUID]) -> str:
        """The query in Flux."""
        if self.what == POINTS:
            return flux.points(self.bucket, metrics, self.start, self.stop)
        if self.what == NEWEST:
            return flux.newest(self.bucket, metrics)
        return flux.windows(
            self.bucket,
            metrics,
            self.start,
            self.stop,
            self.every,
            self.what,
        )

    def influxql(
        self, metrics: Sequence[uuid.UUID], counts: bool = True
    ) -> tuple[str, str]:
        """The query in InfluxQL, and the column that it answers."""
        if self.what == POINTS:
            return (
                influxql.points(metrics, self.start, self.stop, self.limit),
                influxql.POINTS,
            )
        if self.what == NEWEST:
            return influxql.newest(metrics), "last"
        return (
            influxql.windows(
                metrics,
                self.start,
                self.stop,
                self.every,
                self.what,
                counts,
            ),
            self.what,
        )
