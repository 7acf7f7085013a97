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
"""What another storage driver of Gnocchi is to hold of a metric (pure).

Its aggregates are those that InfluxDB answers, and its measures those of the
back window. Where the other driver has measures that InfluxDB has not, from
before Gnocchi stored in InfluxDB or from after it, their windows are computed
from the measures of both.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy
from gnocchi import carbonara

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import methods
from gnocchi_influxdb.aggregation.windows import cut, overlaid
from gnocchi_influxdb.cli.migrate import history
from gnocchi_influxdb.schema import Array

#: No points.
NOTHING: Array = numpy.empty(0, dtype=schema.DTYPE)


@dataclasses.dataclass(frozen=True, slots=True)
class Holding:
    """What another driver is to hold of a metric.

    :ivar series: windows by aggregation, structured arrays, sorted.
    :ivar points: the measures of the back window, a structured array, sorted;
        empty if InfluxDB has no point any more.
    :ivar joined: between which times (first and last, ns) only the other
        driver had measures, now and when the metric was moved before.
    """

    series: Mapping[Any, Array]
    points: Array
    joined: Sequence[tuple[int, int]] = ()

    def newest(self) -> int:
        """Time (ns) of its newest measure.

        :return: without one the start of its newest window; 0: it has none.
        """
        found = [self.points] if len(self.points) else self.series.values()
        times = [history.as_ns(of["timestamps"][-1:]) for of in found]
        return int(max((time[0] for time in times if len(time)), default=0))


def blocks(policy: Any) -> int:
    """How long the back window of a policy is, in blocks."""
    # Gnocchi keeps one more for the first rate.
    has_rates = any(map(methods.is_rate, policy.aggregation_methods))
    return int(policy.back_window) + has_rates


def first_block(policy: Any, newest: int) -> int:
    """Start (ns) of the back window of a metric.

    :param newest: time of its newest measure, ns.
    """
    block = schema.ns_of(policy.max_block_size)
    return max(schema.floor(newest, block) - blocks(policy) * block, 0)


def start(policy: Any, newest: int, theirs: Array, kept: int) -> int:
    """From where on (ns) points are needed.

    :param newest: time of the newest measure, ns; 0: not known.
    :param theirs: the measures that the other driver has.
    :param kept: InfluxDB has all points from there on, ns.
    """
    needed = first_block(policy, newest)
    # What is older has no window with measures of both.
    theirs = cut(theirs, kept, None)
    if len(theirs):
        block = schema.ns_of(policy.max_block_size)
        oldest = int(history.as_ns(theirs["timestamps"])[0])
        needed = min(needed, schema.floor(oldest, block) - block)
    return max(needed, kept, 0)


def joined(
    policy: Any,
    series: Mapping[Any, Array],
    points: Array,
    theirs: Array,
    kept: int,
    before: Sequence[tuple[int, int]],
) -> Holding:
    """What both have of a metric.

    Windows that were joined before are left out: they are stored, and of the
    other driver's measures they may need those that it has dropped since.

    :param series: as InfluxDB answers them.
    :param points: those of InfluxDB from `start` on.
    :param theirs: the measures that the other driver has.
    :param kept: InfluxDB has all points from there on, ns.
    :param before: what was joined before.
    """
    both = points
    spans = {(first, last) for first, last in before}
    series = {
        a: windows[~are_joined(a, windows["timestamps"], before)]
        for a, windows in series.items()
    }
    if len(theirs):
        both = carbonara.combine_timeseries(points, theirs)
        others = cut(only_theirs(points, theirs), kept, None)
        if len(others):
            times = history.as_ns(others["timestamps"])
            spans.add((int(times[0]), int(times[-1])))
        own = only_theirs(theirs, points)
        series = {
            a: _overlaid(a, windows, both, others, own)
            for a, windows in series.items()
        }
    if len(both):
        newest = int(history.as_ns(both["timestamps"])[-1])
        both = cut(both, first_block(policy, newest), None)
    return Holding(series, both, sorted(spans))


def only_theirs(points: Array, theirs: Array) -> Array:
    """Those measures of `theirs` that are not among `points`."""
    return theirs[~numpy.isin(theirs["timestamps"], points["timestamps"])]


def are_joined(
    aggregation: Any, starts: Array, joined: Sequence[tuple[int, int]]
) -> Array:
    """Which windows the measures of some spans of time count for.

    :param starts: datetime64.
    :param joined: the first and the last time of each span, ns.
    :return: a boolean mask.
    """
    times = history.as_ns(starts)
    every = schema.ns_of(aggregation.granularity)
    found = numpy.zeros(len(times), dtype=bool)
    for first, last in joined:
        after = last
        if methods.is_rate(aggregation.method):
            # The difference to the next measure.
            after += every
        found |= (times > first - every) & (times <= after)
    return found


def touched(aggregation: Any, both: Array, others: Array) -> Array:
    """Starts (ns) of the windows that some measures count for, sorted.

    :param both: all measures, sorted.
    :param others: some of them, sorted.
    """
    every = schema.ns_of(aggregation.granularity)
    times = history.as_ns(both["timestamps"])
    at = times.searchsorted(history.as_ns(others["timestamps"]))
    if methods.is_rate(aggregation.method):
        # The difference to the next one.
        at = numpy.concatenate([at, at + 1])
    starts: Array = numpy.unique(times[at[at < len(times)]] // every * every)
    return starts


def _overlaid(
    aggregation: Any, answered: Array, both: Array, others: Array, own: Array
) -> Array:
    """The windows of an aggregation that are to be stored.

    :param answered: by InfluxDB.
    :param both: all measures, sorted.
    :param others: those that only the other driver has. Where these are all
        that a window has, the driver has the window.
    :param own: those that only InfluxDB has.
    """
    theirs = touched(aggregation, both, others)
    if not len(theirs):
        return answered
    mixed = theirs[numpy.isin(theirs, touched(aggregation, both, own))]
    starts = history.as_ns(answered["timestamps"])
    answered = answered[~numpy.isin(starts, theirs)]
    if not len(mixed):
        return answered
    every = schema.ns_of(aggregation.granularity)
    # And the window before, for the first rate.
    made = methods.compute(
        cut(both, int(mixed[0]) - every, int(mixed[-1]) + every), aggregation
    ).ts
    of_mixed = numpy.isin(history.as_ns(made["timestamps"]), mixed)
    return overlaid(answered, made[of_mixed])
