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
"""Comparing the moved history with the former storage.

Each aggregate must be equal, but for those of open windows: windows that were
not over when the metric was moved, or that InfluxDB has got measures of, too.
"""

import dataclasses
import uuid
from typing import Any

import numpy

from gnocchi_influxdb import schema, storage
from gnocchi_influxdb.aggregation import methods
from gnocchi_influxdb.aggregation.span import Span
from gnocchi_influxdb.buckets.watermark import DELAY
from gnocchi_influxdb.cli.migrate import history, source, transfer
from gnocchi_influxdb.read import fetcher
from gnocchi_influxdb.schema import Array

#: Relative difference that comes from the order of additions.
_TOLERANCE = 1e-9

#: Windows of each aggregation that are named, at most.
NAMED = 100

#: A metric and the start of one of its windows, ns.
Window = tuple[uuid.UUID, int]


@dataclasses.dataclass
class Compared:
    """Counts of windows of one granularity and method.

    :ivar windows: all of them.
    :ivar equal: the values are equal.
    :ivar open: the values differ, and may.
    :ivar wrong: the values differ or one is absent, and must not.
    :ivar open_windows: some of these.
    :ivar wrong_windows: some of these.
    """

    windows: int = 0
    equal: int = 0
    open: int = 0
    wrong: int = 0
    open_windows: list[Window] = dataclasses.field(default_factory=list)
    wrong_windows: list[Window] = dataclasses.field(default_factory=list)

    def add(self, other: "Compared") -> None:
        """Add the counts of others."""
        self.windows += other.windows
        self.equal += other.equal
        self.open += other.open
        self.wrong += other.wrong
        for own, more in (
            (self.open_windows, other.open_windows),
            (self.wrong_windows, other.wrong_windows),
        ):
            own += more[: NAMED - len(own)]


#: By granularity, ns, and method.
Result = dict[tuple[int, str], Compared]


class Verifier:
    """Compares metrics. Threads may share it.

    :param conf: ``conf.storage``.
    """

    def __init__(
        self, origin: source.Source, moving: transfer.Transfer, conf: Any
    ) -> None:
        self._origin = origin
        self._moving = moving
        self._target = storage.InfluxDBStorage(conf)
        self._fetcher = fetcher.Fetcher(
            self._target.client,
            self._target.buckets,
            conf.influxdb_query_language,
        )

    def compare(self, metric: Any, note: history.Note) -> Result:
        """Compare all aggregates of a metric.

        :param note: what the journal says of it.
        :raises InfluxDBError: InfluxDB can't be read.
        """
        result = self._compare(metric, note.began)
        if any(compared.wrong for compared in result.values()):
            # Measures arrive meanwhile, and metricd downsamples.
            result = self._compare(metric, note.began)
        return result

    def _compare(self, metric: Any, began: int) -> Result:
        aggregations = metric.archive_policy.aggregations
        try:
            before = self._origin.aggregated(metric, aggregations)
        except source.NO_METRIC:
            return {}
        try:
            # Below the place where an error becomes an answer to a client.
            after = self._target.reader.read(
                {metric: aggregations}, Span(None, None)
            )[metric]
        except source.NO_METRIC:
            after = {a: methods.empty(a) for a in aggregations}
        oldest = {
            target.every: self._moving.oldest(target)
            for target in self._moving.targets(metric.archive_policy)
        }
        result: Result = {}
        differing: dict[Any, Array] = {}
        for a in aggregations:
            every = schema.ns_of(a.granularity)
            times = history.as_ns(before[a].timestamps)
            values = before[a].values
            there = numpy.isfinite(values) & (times >= oldest[every])
            times, values = times[there], values[there]
            equal = are_equal(after[a], times, values)
            result[every, a.method] = Compared(len(times), int(equal.sum()))
            if not equal.all():
                differing[a] = times[~equal]
        if differing:
            self._judge(metric, began, differing, after, result)
        return result

    def _judge(
        self,
        metric: Any,
        began: int,
        differing: dict[Any, Array],
        after: dict[Any, Any],
        result: Result,
    ) -> None:
        """Tell open windows from wrong ones."""
        # What is asked for now has been there for the answer at most: it
        # excuses too much rather than too little.
        newest = self._fetcher.newest([metric])[metric.id]
        excuses = _Excuses(
            began, self._origin.measures(metric), self._fetcher, metric
        )
        now = self._target.client.clock.now_ns()
        for a, times in differing.items():
            every = schema.ns_of(a.granularity)
            compared = result[every, a.method]
            if a.timespan is not None:
                last = max(
                    newest or 0, *history.as_ns(after[a].timestamps[-1:]), 0
                )
                answered = times > schema.floor(
                    min(last, now), every
                ) - schema.ns_of(a.timespan)
                compared.windows -= int((~answered).sum())
                times = times[answered]
            is_open = excuses.are_open(a, times)
            for found, named in (
                (times[is_open], compared.open_windows),
                (times[~is_open], compared.wrong_windows),
            ):
                named += [(metric.id, time) for time in found[:NAMED].tolist()]
            compared.open += int(is_open.sum())
            compared.wrong += int((~is_open).sum())


class _Excuses:
    """Why aggregates of a metric may differ.

    :param began: when it was moved, ns since the epoch.
    :param measures: those that Gnocchi has.
    """

    def __init__(
        self,
        began: int,
        measures: history.Measures | None,
        fetcher_: fetcher.Fetcher,
        metric: Any,
    ) -> None:
        self._began = began
        self._metric = metric
        self._has_rates = any(
            map(methods.is_rate, metric.archive_policy.aggregation_methods)
        )
        self._fetcher = fetcher_
        self._own = (
            measures.points["timestamps"]
            if measures
            else numpy.empty(0, dtype="<M8[ns]")
        )

    def are_open(self, aggregation: Any, times: Array) -> Array:
        """Which windows were open.

        :param times: starts of windows, ns.
        :return: a boolean mask.
        """
        every = schema.ns_of(aggregation.granularity)
        is_open: Array = times >= schema.floor(self._began - DELAY, every)
        if is_open.all():
            return is_open
        is_rate = methods.is_rate(aggregation.method)
        # A point counts for the rate of the next window, too, and all methods
        # of a window are computed together.
        reach = every if self._has_rates else 0
        points = self._fetcher.points(
            self._metric, max(int(times[0]) - every, 0), int(times[-1]) + every
        )
        there = history.as_ns(points["timestamps"])
        new = there[~numpy.isin(points["timestamps"], self._own)]
        is_open |= _count(new, times - reach, times + every) > 0
        if is_rate:
            # Gnocchi had the measure before, or counted it although it is
            # further away.
            is_open |= (_count(there, times, times + every) > 0) & (
                _count(there, times - every, times) == 0
            )
        return is_open


def are_equal(series: Any, times: Array, values: Array) -> Array:
    """Which windows a series has, with these values.

    :param times: starts of the windows, ns.
    :return: a boolean mask.
    """
    there = history.as_ns(series.timestamps)
    at = numpy.searchsorted(there, times)
    found = at < len(there)
    found[found] = there[at[found]] == times[found]
    equal = numpy.zeros(len(times), dtype=bool)
    equal[found] = numpy.isclose(
        series.values[at[found]], values[found], rtol=_TOLERANCE, atol=0
    )
    return equal


def _count(times: Array, starts: Array, stops: Array) -> Array:
    """How many of some sorted times lie in each range."""
    number: Array = times.searchsorted(stops) - times.searchsorted(starts)
    return number
