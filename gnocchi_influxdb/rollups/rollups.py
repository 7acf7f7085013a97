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
"""Reads whose result is kept: what of it is there, and what has to be computed
(pure).

See `rollup_lines` for what is kept and when it counts.
"""

from __future__ import annotations

import dataclasses
import functools
import uuid
from collections.abc import Iterator
from typing import Any

import numpy
import numpy.typing

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import windows
from gnocchi_influxdb.rollups import (
    rollup_gaps,
    rollup_lines,
    rollup_response,
    rollup_store,
)

Array = numpy.typing.NDArray[Any]

# Ranges of a read that are computed each by itself, at most.
_MOST_GAPS = 16


class Rolled:
    """A read of some aggregations, all with one granularity.

    :param start: of the first window that is asked for.
    :param stop: end of the last.
    :param now: when the read began, ns since the epoch.
    :ivar kept: what was kept, by metric, once it is known.
    :ivar rows: what was read of the gaps that `find_gaps` has found.
    """

    def __init__(
        self,
        job: Any,
        aggregations: list[Any],
        blocks: rollup_response.Range,
        start: int,
        stop: int | None,
        now: int,
    ) -> None:
        self.bucket = job.query.bucket
        self.metrics = job.metrics
        self.aggregations = tuple(aggregations)
        self.kept: dict[uuid.UUID, rollup_response.Kept] = {}
        self.rows: dict[Any, dict[uuid.UUID, Any]] = {}
        self._job = job
        self._blocks = blocks
        self._range = rollup_gaps.Gaps(blocks, stop, now)
        self._windows = self._range.windows
        self._now = now
        self._fields = {
            a: rollup_lines.field(a.method, blocks.every)
            for a in self.aggregations
        }
        self._positions = {m.id: i for i, m in enumerate(self.metrics)}
        # With the start of each, and its end.
        self._gaps: list[tuple[int, int | None, Any]] = []
        self._groups: list[rollup_gaps.Group] = []
        # Of each aggregation, shape (metrics, windows).
        self._values: dict[Any, Array] = {}
        self._wanted = slice(
            (start - blocks.first) // blocks.every,
            None if stop is None else (stop - blocks.first) // blocks.every,
        )

    def query(self) -> rollup_store.RollupQuery:
        """What asks for what is kept, and for what is newer."""
        return rollup_store.RollupQuery(
            self.bucket,
            self._blocks,
            tuple(self._fields.values()),
            self._tail(),
        )

    def _tail(self) -> Any:
        start = self._range.tail
        # Three reads are not worth it before it is known how many points
        # there are. Nor is a read in InfluxQL of many.
        if (
            start is None
            or not self._job.query.is_one_request
            or self._blocks.every > rollup_lines.DAY
        ):
            return None
        return self._part(start, self._range.end, []).query

    def _part(self, start: int, stop: int | None, metrics: list[Any]) -> Any:
        return dataclasses.replace(
            self._job,
            query=dataclasses.replace(
                self._job.query,
                start=max(start - self._blocks.reach, 0),
                stop=stop,
            ),
            aggregations=self.aggregations,
            metrics=metrics,
        )

    def find_gaps(self) -> list[Any]:
        """The parts that are not kept and still to be read."""
        groups: dict[bytes, rollup_gaps.Group] = {}
        computed = numpy.zeros(
            (len(self.metrics), self._blocks.number), "int64"
        )
        for metric, kept in self.kept.items():
            computed[self._positions[metric]] = kept.computed
        final = self._range.final(computed)
        for metric, of_metric in zip(self.metrics, final, strict=True):
            group = groups.setdefault(
                of_metric.tobytes(), rollup_gaps.Group(of_metric)
            )
            group.metrics.append(metric)
        self._groups = list(groups.values())
        gaps: dict[tuple[int, int | None], list[Any]] = {}
        for group in self._groups:
            for gap in self._range.of(group.final):
                gaps.setdefault(gap, []).extend(group.metrics)
        if len(gaps) > _MOST_GAPS:
            gaps = {(self._blocks.first, self._range.end): list(self.metrics)}
        for (start, stop), metrics in gaps.items():
            part = self._part(start, stop, metrics)
            self.rows[part] = {}
            self._gaps.append((start, stop, part))
        return [
            part
            for start, stop, part in self._gaps
            if not self._is_in_tail(start, stop, part)
        ]

    def _is_in_tail(self, start: int, stop: int | None, part: Any) -> bool:
        """Whether a part was asked for together with what is kept."""
        tail = self._range.tail
        if tail is None or start < tail or stop != self._range.end:
            return False
        for metric in part.metrics:
            kept = self.kept.get(metric.id)
            if kept is None or kept.tail is None:
                return False
            if len(kept.tail):
                self.rows[part][metric.id] = kept.tail
        return True

    def seen(self) -> Iterator[uuid.UUID]:
        """Metrics that have a point, in the range or elsewhere."""
        for metric, kept in self.kept.items():
            # Nothing is kept of others.
            if kept.computed.any():
                yield metric
        for rows in self.rows.values():
            yield from rows

    def series(self, aggregation: Any) -> list[Array]:
        """Windows of each of the metrics: structured arrays."""
        # Not what was answered: others may have been answered with the same.
        shape = len(self.metrics), self._blocks.number * self._windows
        values = numpy.full(shape, numpy.nan)
        for metric, kept in self.kept.items():
            of_metric = kept.values[self._fields[aggregation]]
            values[self._positions[metric]] = of_metric
        later = self._fill(aggregation, values)
        self._values[aggregation] = values
        values = values[:, self._wanted]
        times = self._times[self._wanted]
        there = ~numpy.isnan(values)
        if there.all():
            series = list(schema.points(times, values))
        else:
            series = [
                schema.points(times[which], found[which])
                for which, found in zip(there, values, strict=True)
            ]
        for i, behind in later.items():
            series[i] = numpy.concatenate([series[i], behind])
        return series

    def _fill(self, aggregation: Any, values: Array) -> dict[int, Array]:
        """Put what was read into the gaps.

        :param values: shape (metrics, windows).
        :return: what lies behind the last block, by the metric's position.
        """
        blocks = self._blocks
        later: dict[int, Array] = {}
        for start, stop, gap in self._gaps:
            owners = [self._positions[metric.id] for metric in gap.metrics]
            first = (start - blocks.first) // blocks.every
            end = None
            if stop is not None and stop != self._range.end:
                end = (stop - blocks.first) // blocks.every
            values[owners, first:end] = numpy.nan
            if not (rows := self.rows[gap]):
                continue
            read, whose = gap.query.windows_of_all(
                aggregation, list(rows.values()), (start, stop)
            )
            owner = numpy.array([self._positions[m] for m in rows])[whose]
            times = read["timestamps"].view("int64")
            inside = times < blocks.stop
            position = (times - blocks.first) // blocks.every
            values[owner[inside], position[inside]] = read["values"][inside]
            for i in numpy.unique(owner[~inside]).tolist():
                later[i] = windows.cut(
                    read[owner == i], blocks.stop, self._range.stop
                )
        return later

    @functools.cached_property
    def _times(self) -> Array:
        blocks = self._blocks
        times = blocks.first + blocks.every * numpy.arange(
            blocks.number * self._windows
        )
        return times.view("datetime64[ns]")

    def lines(self, oldest: int) -> Iterator[bytes]:
        """Line protocol that keeps what was computed.

        :param oldest: what has its place before that (ns) is not kept.
        """
        range_ = self._range
        final = range_.final(self._now)
        recent = (rollup_lines.place(range_.starts) >= oldest) & (final > 0)
        # Each page that nothing was ever written to would make a shard.
        page = rollup_lines.PAGE
        recent &= range_.starts // page >= self._oldest() // page
        seen: set[uuid.UUID] | None = None
        for group in self._groups:
            more = recent & (
                (final >= group.final + range_.more)
                | (final == self._windows) & (group.final < final)
            )
            # It is read only as far as it is asked for.
            more[-1] &= any(
                stop is None or stop == range_.end
                for _start, stop in range_.of(group.final)
            )
            if not more.any():
                continue
            seen = set(self.seen()) if seen is None else seen
            # Without a point it is not known to exist at all.
            for metric in group.metrics:
                if metric.id in seen:
                    yield from self._lines(metric.id, more, final)

    def _oldest(self) -> int:
        """Where (ns) there is anything first: a kept block, or a point.

        A point need not make a value: alone in its window it has no deviation.
        """
        found = [
            self._range.starts[kept.computed > 0][:1]
            for kept in self.kept.values()
        ]
        for of_gap in self.rows.values():
            for rows in of_gap.values():
                of_one = rows[0] if isinstance(rows, tuple) else rows
                found.append(of_one["timestamps"][:1].view("int64"))
        return int(numpy.concatenate([*found, [self._blocks.stop]]).min())

    def _lines(
        self, metric: uuid.UUID, which: Array, final: Array
    ) -> Iterator[bytes]:
        kept = self.kept.get(metric)
        if kept is not None:
            which = which & (kept.marked + rollup_lines.SKEW < self._now)
        open_ = numpy.arange(self._windows) >= final[which][:, None]
        for aggregation, field in self._fields.items():
            values = self._values[aggregation][self._positions[metric]]
            by_block = values.reshape(-1, self._windows)[which]
            by_block[open_] = numpy.nan
            yield rollup_lines.encode(
                metric,
                field,
                self._blocks.every,
                self._range.starts[which],
                by_block,
                self._now,
            )
