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
"""Comparing what InfluxDB answers with what has been moved back.

Each aggregate must be equal, but for those of open windows: windows of which
InfluxDB has got measures since the metric was moved, or the other driver has
measures that InfluxDB has not.
"""

from collections.abc import Mapping
from typing import Any

import numpy
from gnocchi import carbonara

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation.windows import cut
from gnocchi_influxdb.cli.migrate import history, source, verify
from gnocchi_influxdb.cli.migrate.back import holding
from gnocchi_influxdb.cli.migrate.back.archive import Archive
from gnocchi_influxdb.cli.migrate.back.destination import Destination
from gnocchi_influxdb.schema import Array


class Comparison:
    """Compares metrics. Threads may share it."""

    def __init__(self, archive: Archive, destination: Destination) -> None:
        self._archive = archive
        self._destination = destination

    def compare(self, metric: Any, note: history.Note) -> verify.Result:
        """Compare all aggregates of a metric.

        :param note: what the journal says of it.
        :raises InfluxDBError: InfluxDB can't be read.
        """
        result = self._compare(metric, note)
        if any(compared.wrong for compared in result.values()):
            # Measures arrive meanwhile.
            result = self._compare(metric, note)
        return result

    def _compare(self, metric: Any, note: history.Note) -> verify.Result:
        policy = metric.archive_policy
        answers = self._archive.answers(policy, [metric])
        if metric not in answers:
            return {}
        answered = {
            a: cut(windows, None, self._archive.ahead())
            for a, windows in answers[metric].items()
        }
        try:
            stored = self._destination.aggregated(metric, policy.aggregations)
        except source.NO_METRIC:
            stored = {a: carbonara.AggregatedTimeSerie(a) for a in answered}
        result: verify.Result = {}
        differing: dict[Any, Array] = {}
        for a, windows in answered.items():
            if a.timespan is not None and len(stored[a]):
                oldest = stored[a].last - a.timespan
                windows = windows[windows["timestamps"] > oldest]
            times = history.as_ns(windows["timestamps"])
            equal = verify.are_equal(stored[a], times, windows["values"])
            key = schema.ns_of(a.granularity), a.method
            result[key] = verify.Compared(len(times), int(equal.sum()))
            if not equal.all():
                differing[a] = times[~equal]
        if differing:
            self._judge(metric, note, differing, result)
        return result

    def _judge(
        self,
        metric: Any,
        note: history.Note,
        differing: Mapping[Any, Array],
        result: verify.Result,
    ) -> None:
        """Tell open windows from wrong ones."""
        policy = metric.archive_policy
        theirs = self._destination.points(metric)
        since = holding.start(policy, note.began, theirs, 0)
        points = self._archive.points(policy, {metric.id: since})[metric.id]
        both = carbonara.combine_timeseries(points, theirs)
        others = numpy.concatenate(
            [
                holding.only_theirs(points, theirs),
                # What has come since.
                cut(points, note.began + 1, None),
            ]
        )
        others = numpy.sort(others, order="timestamps")
        for a, times in differing.items():
            every = schema.ns_of(a.granularity)
            is_open = numpy.isin(times, holding.touched(a, both, others))
            is_open |= holding.are_joined(
                a, times.astype("datetime64[ns]"), note.joined
            )
            compared = result[every, a.method]
            compared.open = int(is_open.sum())
            compared.wrong = int((~is_open).sum())
            for found, named in (
                (times[is_open], compared.open_windows),
                (times[~is_open], compared.wrong_windows),
            ):
                named += [
                    (metric.id, time)
                    for time in found[: verify.NAMED].tolist()
                ]
