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
"""Series, points and sizes of the buckets."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gnocchi_influxdb import schema
from gnocchi_influxdb.buckets import shards
from gnocchi_influxdb.buckets.manager import Bucket
from gnocchi_influxdb.cli import queries
from gnocchi_influxdb.client import api
from gnocchi_influxdb.client.client import Client
from gnocchi_influxdb.wire import influxql, influxql_rows

#: The points of a bucket are counted in so many slices at most.
_SLICES = 100
_NS = 10**9


def find(client: Client, bucket: str) -> queries.Keys:
    """All series of a bucket, from its index.

    :raises BucketNotFoundError: the bucket is absent, or hidden from the
        token.
    """
    found = influxql_rows.rows(
        client.influxql(bucket, queries.series(client.capabilities.buckets))
    )
    return queries.metrics_of(found)


def disk_sizes(client: Client, prefix: str) -> dict[str, int]:
    """Bytes on disk by the name of a retention policy, on InfluxDB 1.x.

    In a cluster, those of the node that answers.
    """
    database, _ = api.names(prefix)
    sizes: dict[str, int] = {}
    found = client.influxql(prefix, influxql.SHOW_SHARDS)
    for shard in influxql_rows.series(found):
        tags = shard.get("tags", {})
        if tags.get("database") == database:
            size = dict(zip(shard["columns"], shard["values"][0], strict=True))
            policy = tags["retentionPolicy"]
            sizes[policy] = sizes.get(policy, 0) + size["diskBytes"]
    return sizes


def slices(bucket: Bucket, oldest: int, now: int) -> list[tuple[int, int]]:
    """Ranges of time that cover a bucket, each made of whole shards.

    A query of one range opens the series of one shard or a few; a query of
    everything opens those of all shards at once.

    :param oldest: ns; not after the start of the first shard of interest.
    :param now: ns.
    :return: pairs of ns since the epoch, the later one exclusive.
    """
    step = max(bucket.shard_duration, 3600)
    while (now - oldest) // (step * _NS) > _SLICES:
        step *= 2
    start = shards.span(oldest, bucket.shard_duration or step)[0] * _NS
    bounds = [0]
    while start + step * _NS < now:
        start += step * _NS
        if start > 0:
            bounds.append(start)
    bounds.append(schema.MAX_TIME)
    return list(itertools.pairwise(bounds))


class Extent(NamedTuple):
    """Number of points, and the times of the oldest and the newest.

    :ivar oldest: ns since the epoch, as `newest`; None without points.
    """

    points: int
    oldest: int | None
    newest: int | None


def count(
    client: Client,
    bucket: str,
    ranges: Sequence[tuple[int, int]],
    advance: Callable[[], None],
) -> Extent:
    """Count the points of a bucket, range by range.

    :param ranges: the oldest first, see `slices`.
    :param advance: called after each range.
    """
    points, filled = 0, []
    for start, stop in ranges:
        here = _count(client, bucket, start, stop)
        points += here
        if here:
            filled.append((start, stop))
        advance()
    if not filled:
        return Extent(0, None, None)
    return Extent(
        points,
        _time(client, bucket, queries.first(*filled[0])),
        _time(client, bucket, queries.last(*filled[-1])),
    )


def first(client: Client, bucket: str) -> int | None:
    """Time of the oldest point of all shards, ns; None without points."""
    return _time(client, bucket, queries.first(0, schema.MAX_TIME))


def _count(client: Client, bucket: str, start: int, stop: int) -> int:
    found = influxql_rows.rows(
        client.influxql(
            bucket, queries.count(start, stop, client.capabilities.counts)
        )
    )
    return int(found[0][1]) if found else 0


def _time(client: Client, bucket: str, statement: str) -> int | None:
    found = influxql_rows.rows(client.influxql(bucket, statement))
    return int(found[0][0]) if found else None


def recent(client: Client, bucket: str, now: int) -> int:
    """Number of points in the hour before `now` (ns)."""
    return _count(client, bucket, now - 3600 * _NS, now)
