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
"""Points grouped by windows, for the methods of Gnocchi's carbonara (pure)."""

from typing import Any

import numpy
import numpy.typing
from gnocchi import carbonara

from gnocchi_influxdb import schema
from gnocchi_influxdb.schema import Array


class GroupedPoints(carbonara.GroupedTimeSeries):  # type: ignore[misc]
    """Points grouped by windows, for carbonara's methods.

    It differs from its base in two points. Windows are found by integers,
    where carbonara goes through floats and puts the last 128 ns or so of a
    window into the next one: a method must not depend on where it is
    computed. And a difference counts only if the earlier point lies at most
    one granularity before the window of the later one. That is what is left
    in Gnocchi when measures arrive a window at a time, and it makes a rate
    depend on the points near it alone, never on the range that was asked for.

    :param ts: structured array, sorted by its unique `timestamps`.
    :param granularity: timedelta64.
    :param reach: whether that rule for differences applies; without it any
        two neighbours count.
    """

    def __init__(
        self, ts: Array, granularity: Any, reach: bool = True
    ) -> None:
        self.granularity = granularity
        self.can_derive = True
        self.start = None
        self._reach = reach
        self._ts = self._ts_for_derive = ts
        every = schema.ns_of(granularity)
        times = ts["timestamps"].astype("datetime64[ns]").view("int64")
        self.indexes = (times // every * every).view("datetime64[ns]")
        self.tstamps, self.counts = numpy.unique(
            self.indexes, return_counts=True
        )

    def derived(self) -> "GroupedPoints":
        """The differences, each at the time of its later point."""
        differences = carbonara.make_timeseries(
            self._ts["timestamps"][1:], numpy.diff(self._ts["values"])
        )
        if self._reach:
            near = (
                self._ts["timestamps"][:-1]
                >= self.indexes[1:] - self.granularity
            )
            differences = differences[near]
        return GroupedPoints(differences, self.granularity, self._reach)


class GroupedMetrics(carbonara.GroupedTimeSeries):  # type: ignore[misc]
    """Points of several metrics at once, by the rules of `GroupedPoints`.

    A method takes carbonara 70 us for a few points, which is what there is of
    each of a hundred metrics. So their windows are numbered as if they lay
    one metric behind the other.

    :param ts: structured array, sorted by metric and time.
    :param owners: shape (n,), int64: whose each point is.
    :param granularity: timedelta64.
    :param numbers: shape (n,), of the window of each point; None: from 0 on.
    """

    def __init__(
        self,
        ts: Array,
        owners: Array,
        granularity: Any,
        numbers: Array | None = None,
    ) -> None:
        self.granularity = granularity
        self.can_derive = True
        self.start = None
        self._ts = self._ts_for_derive = ts
        self._owners = owners
        self._every = schema.ns_of(granularity)
        self._windows = ts["timestamps"].view("int64") // self._every
        if numbers is None:
            changes = numpy.diff(self._windows) != 0
            changes |= numpy.diff(owners) != 0
            numbers = numpy.zeros(len(ts), "int64")
            numbers[1:] = changes.cumsum()
        self.indexes = numbers.view("datetime64[ns]")
        self.tstamps, self.counts = numpy.unique(
            self.indexes, return_counts=True
        )

    def derived(self) -> "GroupedMetrics":
        """The differences, by the rule of `GroupedPoints`."""
        before = self._ts["timestamps"][:-1].view("int64")
        near = (before >= (self._windows[1:] - 1) * self._every) & (
            self._owners[1:] == self._owners[:-1]
        )
        differences = carbonara.make_timeseries(
            self._ts["timestamps"][1:], numpy.diff(self._ts["values"])
        )
        return GroupedMetrics(
            differences[near],
            self._owners[1:][near],
            self.granularity,
            self.indexes[1:][near].view("int64"),
        )

    def windows(self) -> tuple[Array, Array]:
        """Start (ns) of each window, and whose it is, by their numbers."""
        _, points = numpy.unique(self.indexes, return_index=True)
        return self._windows[points] * self._every, self._owners[points]

    def told_apart(self, series: Array) -> tuple[Array, Array]:
        """A result with its true times, and whose each window is."""
        points = self.indexes.searchsorted(series["timestamps"])
        times = self._windows[points] * self._every
        return schema.points(
            times.view("datetime64[ns]"), series["values"]
        ), self._owners[points]
