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
"""Which way to an answer is the quicker one: all measured thresholds (pure).

By measurement (benchmarks/) on InfluxDB 2.9.1: a Flux script takes 5 ms to
compile. InfluxQL takes 1 ms at the least, but three times as long for each
window of each metric, and compares each point with the ids of all metrics
that are asked for. Points come out of the server in a third of the time of
their windows, as long as there are about as many of them.

A figure stands elsewhere, since the floors below use it, too: `rates.DENSE`.
"""

import dataclasses
import time

_DAY = 86400 * 10**9

# Metrics up to which InfluxQL is the quicker language, and the metric days up
# to which it is. A year of minutes of one metric takes it two to three times
# as long as Flux.
_FEW_METRICS = 4
_FEW_METRIC_DAYS = 60
_FEW_METRIC_DAYS_FOR_ENDS = 15
# Few enough for InfluxQL, however many metrics there are.
_FEW_WINDOWS = 16

#: Metrics in one query. The cost of each grows with the square of their
#: number, and two queries keep two processors of the server busy. Flux turns
#: down a chain of more than about 165 terms.
METRICS_PER_QUERY = 50

#: Metrics whose downsampled windows are worth a request of their own. 50 took
#: 40 ms in one request and 33 in two, on two busy processors.
LEAST_PER_REQUEST = 10

# Points of all metrics in one answer, where each has one a second; 83 MB as
# arrays. It is what InfluxQL reads in time, see `_FEW_METRIC_DAYS`.
_MOST_TOGETHER = _FEW_METRIC_DAYS * 86400

# Points in one answer in InfluxQL: it has 25 MB in the server then (120 bytes
# a point, before it sends the first byte), and Flux, which sends as it goes,
# is no slower.
_MOST_POINTS = 200000

# Points a window up to which reading them is quicker than an aggregate of it,
# for few metrics and for many, and than the three ends of a rate.
_FEW_POINTS = 6
_FEW_POINTS_OF_MANY = 2
_FEW_POINTS_FOR_ENDS = 16

# Points of a metric that are too many to be read instead of windows.
_MOST_INSTEAD = 20000

# Points after the watermark that are read with the windows before it, in all
# and of each metric. Another request takes as long as some thousand points:
# one metric 2.2 ms with two requests, of which the first takes 1.4.
_MOST_BEHIND = 10000
_MOST_BEHIND_OF_ONE = 1000

#: Seconds until points are tried again where windows held too many of them.
DENSE_REMEMBERED = 600

#: Points of several metrics that are aggregated at once. Of more, what it
#: takes for each metric does not matter, and the memory does.
POINTS_TOGETHER = 10**5


def after_present(start: int | None, every: int) -> int:
    """End of a range of windows that holds the present, by this clock.

    :param start: of the range, ns since the epoch; None: from the first point.
    :param every: length of a window, ns.
    """
    return (max(time.time_ns(), start or 0) // every + 2) * every


def metrics_per_query(points: int) -> int:
    """Metrics in one query, so that gnocchi-api can hold its answer.

    :param points: of each metric at most, or windows.
    """
    most = _MOST_TOGETHER // max(points, 1)
    return min(max(most, 1), METRICS_PER_QUERY)


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """How much a query asks for: metrics, and a range.

    :ivar metrics: how many.
    :ivar start: ns since the epoch, None: from the first point.
    :ivar stop: ns since the epoch, exclusive, None: to the present.
    """

    metrics: int
    start: int | None
    stop: int | None

    @property
    def is_few(self) -> bool:
        """Whether there are few metrics."""
        return self.metrics <= _FEW_METRICS

    @property
    def is_little(self) -> bool:
        """Whether InfluxQL reads all points in time."""
        return self._metric_days <= _FEW_METRIC_DAYS

    @property
    def _metric_days(self) -> float:
        return self.metrics * (self._stop - (self.start or 0)) / _DAY

    @property
    def _stop(self) -> int:
        return time.time_ns() if self.stop is None else self.stop

    def suits_influxql(self, every: int) -> bool:
        """Whether InfluxQL is the quicker language for windows.

        :param every: length of a window, ns; 0 where there are none.
        """
        if self.is_few and (self.start is None or self.is_little):
            return True
        if not every or self.start is None:
            return False
        windows = max(self._stop - self.start, 0) // every + 1
        return windows <= _FEW_WINDOWS

    def most_points(self) -> int:
        """Points of each metric up to which InfluxQL is right for them.

        :return: 0: the amount does not matter.
        """
        if not self.is_few or self.is_little:
            return 0
        return _MOST_POINTS // self.metrics

    def points_a_window(self) -> int:
        """Points of a window that are quicker read than their aggregate.

        :return: 0: InfluxDB is to aggregate in any case.
        """
        if self.is_few:
            return _FEW_POINTS
        return _FEW_POINTS_OF_MANY if self.is_little else 0

    def points_an_end(self) -> int:
        """Points of a window that are quicker read than their three ends.

        :return: 0: InfluxDB is to aggregate in any case.
        """
        # Three reads otherwise: for the last windows of many metrics, too.
        if self.is_few or self._metric_days <= _FEW_METRIC_DAYS_FOR_ENDS:
            return _FEW_POINTS_FOR_ENDS
        return 0

    def behind(self) -> int:
        """Limit of points of each metric that are read with its windows."""
        return min(_MOST_BEHIND // self.metrics, _MOST_BEHIND_OF_ONE)

    def limit(self, every: int, most: int) -> int:
        """Limit of points of each metric; a read that reaches it is too dense.

        :param every: length of a window, ns.
        :param most: points a window up to which points are read.
        """
        if self.start is None:
            return _MOST_INSTEAD
        stop = self.stop
        if stop is None:
            stop = max(time.time_ns(), self.start + every)
        return min(most * (stop - self.start) // every + 1, _MOST_INSTEAD)
