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
"""The last hour of all processes, in a few lines."""

import collections
from collections.abc import Iterator
from typing import Any

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.client.client import Client
from gnocchi_influxdb.health import bucket, counts, recorder
from gnocchi_influxdb.schema import HEALTH, SECOND
from gnocchi_influxdb.wire import influxql_rows

_HOUR = 3600
# Seconds in which a process that is there has written, and one that
# downsamples has looked how far it is.
_ALIVE = 3 * recorder.INTERVAL
_PASS = 900

_MAXIMA = ("read_longest", "write_longest", "seconds")


def lines(client: Client, conf: Any) -> Iterator[str]:
    """What `status` says, in lines of 79 columns or less.

    :param conf: the group of options that the client was made with.
    :raises InfluxDBError: but for a bucket that is not there.
    """
    name = bucket.name(conf)
    try:
        yield from _Reader(client, name).lines()
    except exceptions.BucketNotFoundError:
        yield f"Health: there is no bucket {name} ([storage] influxdb_health)"


class _Reader:
    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._bucket = name
        self._now = client.clock.now_ns()

    def lines(self) -> Iterator[str]:
        found = collections.Counter[str]()
        longest = dict.fromkeys(_MAXIMA, 0.0)
        queue = dict[str, float]()
        sums = (f'sum("{field}") AS "{field}"' for field in counts.SUMS)
        maxima = (f'max("{field}") AS "{field}"' for field in _MAXIMA)
        what = ", ".join(
            [*sums, *maxima, 'last("queue_bundles") AS "queue_bundles"']
        )
        for tags, row in self._ask(what, _HOUR):
            for field in counts.SUMS:
                found[field] += row[field] or 0
            for field in _MAXIMA:
                longest[field] = max(longest[field], row[field] or 0)
            if row["queue_bundles"] is not None:
                queue[tags["host"]] = row["queue_bundles"]
        hosts, processes = set(), collections.Counter[str]()
        for tags, _pid in self._ask('distinct("pid")', _ALIVE):
            hosts.add(tags["host"])
            processes[tags["process"]] += 1
        if not processes:
            yield (
                f"Health: no process has written into {self._bucket} in the"
                f" last {_ALIVE // 60} min"
            )
        else:
            yield (
                f"Health, last hour; hosts: {len(hosts)}, processes: "
                + ", ".join(f"{n} {of}" for of, n in sorted(processes.items()))
            )
        waiting = ""
        if queue:
            # Hosts may share one.
            waiting = f"; in the queue: {max(queue.values()):,.0f} bundles"
        yield (
            f"  measures: {found['stored']:,.0f} stored,"
            f" {found['refused']:,.0f} refused, {found['queued']:,.0f} queued"
            + waiting
        )
        for kind in ("read", "write"):
            number = found[f"{kind}s"]
            mean = found[f"{kind}_seconds"] / number if number else 0.0
            yield (
                f"  {kind}s: {number:,.0f}, {found[f'{kind}s_failed']:,.0f}"
                f" failed; {mean * 1e3:,.1f} ms in the mean,"
                f" {longest[f'{kind}_longest'] * 1e3:,.0f} ms the longest"
            )
        yield from self._troubles(longest["seconds"])

    def _troubles(self, longest: float) -> Iterator[str]:
        overdue = self._highest("overdue", _PASS)
        if overdue is not None:
            is_late = f"overdue by {overdue / 60:,.0f} min"
            yield f"  downsampling: {is_late if overdue else 'in time'}"
        breakers = self._highest("breakers_open", _ALIVE)
        if breakers:
            yield f"  circuit breakers open in a process: {breakers:,.0f}"
        if longest > _ALIVE:
            yield f"  InfluxDB took no line for {longest / 60:,.0f} min"

    def _highest(self, field: str, seconds: int) -> float | None:
        found = self._ask(f'max("{field}") AS "{field}"', seconds)
        values = [row[field] for _, row in found]
        return max((v for v in values if v is not None), default=None)

    def _ask(
        self, what: str, seconds: int
    ) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
        """Tags and fields of each row of the last seconds."""
        body = self._client.influxql(
            self._bucket,
            f'SELECT {what} FROM "{HEALTH}"'  # noqa: S608
            f" WHERE time > {self._now - seconds * SECOND:d}"
            ' GROUP BY "host", "process"',
        )
        for one in influxql_rows.series(body):
            for row in one["values"]:
                yield (
                    dict(one["tags"]),
                    dict(zip(one["columns"], row, strict=True)),
                )
