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
"""gnocchi-influxdb status"""

import collections
import dataclasses
import uuid
from collections.abc import Iterator
from typing import Any

import click
import numpy

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets.manager import Bucket
from gnocchi_influxdb.cli import output, queries, series
from gnocchi_influxdb.cli.deployment import Deployment
from gnocchi_influxdb.health import summary
from gnocchi_influxdb.indexer import listing

#: InfluxDB may take so many seconds for one query, or longer.
_TIMEOUT = 300


@dataclasses.dataclass
class _Windows:
    """A bucket of windows. None means unknown.

    :ivar granularity: seconds.
    :ivar retention: seconds, 0 for ever.
    :ivar until: windows that begin before are there, ISO 8601, UTC.
    :ivar lag: how long ago that is, seconds.
    """

    granularity: float
    bucket: str
    retention: int
    bytes: int | None
    until: str | None
    lag: int | None


@dataclasses.dataclass
class _PolicyStatus:
    """A line of the table. None means unknown.

    :ivar retention: of points, seconds, 0 for ever.
    :ivar deleted: metrics that wait for Gnocchi's janitor.
    :ivar series: metrics that have points.
    :ivar orphans: those in any bucket that the indexer does not know.
    :ivar foreign: series that Gnocchi did not write.
    :ivar points_per_second: mean over the last hour.
    :ivar bytes: of the bucket of points.
    :ivar oldest: ISO 8601, UTC.
    :ivar windows: the buckets of windows that are there.
    """

    policy: str
    bucket: str
    metrics: int
    deleted: int
    series: int | None = None
    orphans: int | None = None
    foreign: int | None = None
    points: int | None = None
    bytes: int | None = None
    points_per_second: float | None = None
    oldest: str | None = None
    newest: str | None = None
    retention: int | None = None
    windows: list[_Windows] = dataclasses.field(default_factory=list)


@click.command()
@output.format_option
@click.option(
    "--count/--no-count",
    default=True,
    show_default=True,
    help="Count the points and find the oldest and the newest one. That"
    " reads the buckets once; the rest comes from the indexes.",
)
@click.pass_context
def status(ctx: click.Context, format_: str, count: bool) -> None:
    """Show what is stored, by archive policy.

    Metrics in Gnocchi's indexer; series, points and bytes in InfluxDB; points
    a second over the last hour; orphan series, whose metric the indexer does
    not know, which `prune` removes; and of each bucket how long it keeps what
    it holds, and how far it is downsampled. As a table, also what Gnocchi's
    processes have counted in the last hour.

    Exit status: 0, shown; 2, not.
    """
    deployment: Deployment = ctx.obj
    deployment.be_patient(_TIMEOUT)
    rows = _StatusReader(deployment, count).rows()
    if format_ == "json":
        output.show_json([dataclasses.asdict(row) for row in rows])
        return
    output.show_table(
        (
            "archive policy",
            "metrics",
            "series",
            "orphans",
            "points",
            "points/s",
        ),
        [
            (
                row.policy,
                output.number(row.metrics),
                output.number(row.series),
                output.number(row.orphans),
                output.number(row.points),
                output.number(row.points_per_second),
            )
            for row in rows
        ],
    )
    output.show_table(
        ("archive policy", "holds", "on disk", "kept", "oldest", "newest"),
        [line for row in rows for line in _bucket_lines(row)],
        left=2,
    )
    for row in rows:
        policy = output.printable(row.policy)
        if row.deleted:
            click.echo(
                f"{policy}: {schema.counted(row.deleted, 'deleted metric')}"
                f" {'waits' if row.deleted == 1 else 'wait'} for"
                " gnocchi-metricd"
            )
        if row.foreign:
            click.echo(
                f"{policy}: {row.foreign:,} series in bucket {row.bucket}, or"
                " those of its windows, were not written by Gnocchi"
            )
    expire = deployment.conf.storage.influxdb_expunge == "expire"
    for retained, text in (
        (False, "series; gnocchi-influxdb prune removes them"),
        (True, "series, which expire, or: gnocchi-influxdb prune --expiring"),
    ):
        rest = [r for r in rows if (expire and bool(r.retention)) == retained]
        if number := sum(row.orphans or 0 for row in rest):
            click.echo(f"{number:,} orphan {text}")
    for line in summary.lines(deployment.client, deployment.conf.storage):
        click.echo(line)


def _bucket_lines(row: _PolicyStatus) -> Iterator[tuple[str, ...]]:
    """A line for each bucket of a policy."""
    if row.retention is not None:
        yield (
            row.policy,
            "points",
            output.size(row.bytes),
            output.span(row.retention),
            (row.oldest or "-").partition("T")[0],
            (row.newest or "-").replace("T", " ")[:16],
        )
    for one in row.windows:
        lag = ""
        if one.lag is not None:
            lag = f"{output.span(max(one.lag // 60 * 60, 60))} behind"
        yield (
            row.policy,
            f"{one.granularity:g} s",
            output.size(one.bytes),
            output.span(one.retention),
            "",
            lag or "not begun",
        )


class _StatusReader:
    def __init__(self, deployment: Deployment, count: bool) -> None:
        self._deployment = deployment
        self._client = deployment.client
        self._counts = count
        self._now = self._client.clock.now_ns()

    def rows(self) -> list[_PolicyStatus]:
        known = self._deployment.buckets
        found = self._deployment.find_all()
        # The series first: a metric is in the indexer before its first point
        # is in InfluxDB, so a new metric does not look like an orphan.
        stored = {
            name: queries.Keys.joined(
                series.find(self._client, bucket.name)
                for bucket in buckets
                if bucket is not None
            )
            for name, buckets in found.items()
        }
        owned: collections.Counter[str] = collections.Counter()
        owners: dict[uuid.UUID, str] = {
            id_: name
            for name, here in stored.items()
            for id_ in here.ids | here.beside
        }
        for id_ in listing.ids(self._deployment.indexer):
            if id_ in owners:
                owned[owners[id_]] += 1
        counts = listing.count(self._deployment.indexer)
        sizes = self._sizes()
        rows = []
        for policy in self._deployment.policies:
            name = policy.name
            row = _PolicyStatus(
                name,
                known.name(policy),
                counts.get((name, listing.ACTIVE), 0),
                counts.get((name, "delete"), 0),
            )
            bucket, *of_windows = found[name]
            row.windows = [
                self._windows(item, each, sizes)
                for item, each in zip(
                    policy.definition, of_windows, strict=True
                )
                if each is not None
            ]
            if bucket is not None:
                row.retention = bucket.retention
                row.series = len(stored[name].ids)
                row.orphans = (
                    len(stored[name].ids | stored[name].beside) - owned[name]
                )
                row.foreign = stored[name].foreign
                row.bytes = sizes.get(bucket.id)
                row.points_per_second = round(
                    series.recent(self._client, bucket.name, self._now) / 3600,
                    3,
                )
                if self._counts:
                    self._count(row, bucket)
            rows.append(row)
        return rows

    def _windows(
        self, definition: Any, bucket: Bucket, sizes: dict[str, int]
    ) -> _Windows:
        mark = self._deployment.buckets.watermarks.read(bucket.name)
        return _Windows(
            schema.ns_of(definition.granularity) / schema.SECOND,
            bucket.name,
            bucket.retention,
            sizes.get(bucket.id),
            _iso(mark.until) if mark else None,
            max(self._now - mark.until, 0) // schema.SECOND if mark else None,
        )

    def _count(self, row: _PolicyStatus, bucket: Bucket) -> None:
        oldest: int | None = self._now - (
            (bucket.retention + 2 * bucket.shard_duration) * 10**9
        )
        if not bucket.retention:
            oldest = series.first(self._client, bucket.name)
        if oldest is None:
            row.points = 0
            return
        ranges = series.slices(bucket, max(oldest, 0), self._now)
        with output.progressing(
            f"Counting {bucket.name}", len(ranges), "ranges"
        ) as advance:
            extent = series.count(
                self._client, bucket.name, ranges, lambda: advance(1)
            )
        row.points = extent.points
        row.oldest, row.newest = map(_iso, (extent.oldest, extent.newest))

    def _sizes(self) -> dict[str, int]:
        try:
            if not self._client.capabilities.buckets:
                return series.disk_sizes(
                    self._client, self._deployment.buckets.prefix
                )
            return queries.disk_sizes(self._client.get("/metrics"))
        except exceptions.InfluxDBError:
            # A proxy, INFLUXD_METRICS_DISABLED, or not an administrator.
            return {}


def _iso(ns: int | None) -> str | None:
    if ns is None:
        return None
    return f"{numpy.datetime64(ns, 'ns').astype('datetime64[s]')}Z"
