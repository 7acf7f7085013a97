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
"""Checks of the buckets: rights, types, retention, downsampling.

Each function yields findings, and raises InfluxDBError if it can't find out.
"""

import shlex
import uuid
from typing import Any

import numpy

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets import shards, type_conflicts, visibility
from gnocchi_influxdb.buckets.manager import Buckets
from gnocchi_influxdb.buckets.policy import Bucket, PolicyBucket, longer
from gnocchi_influxdb.cli import queries
from gnocchi_influxdb.cli.check import findings, probe
from gnocchi_influxdb.cli.check.findings import Finding, Findings, Level
from gnocchi_influxdb.cli.output import span
from gnocchi_influxdb.client import client
from gnocchi_influxdb.wire import influxql_rows

#: Seconds from which on a point is ahead of the clock.
AHEAD = 300

# From so many metrics on, only shards of the future are looked at.
_MANY = 20000


def bucket(
    influxdb: client.Client,
    known: Buckets,
    policy: Any,
    wanted: PolicyBucket,
    may_make: bool,
    is_used: bool,
) -> Findings:
    """Check that a bucket is as its archive policy needs it.

    :param wanted: the bucket, of points or of windows.
    :param may_make: whether the token may make buckets.
    :param is_used: whether the policy has metrics.
    """
    name = wanted.name
    held = "windows" if wanted.every else "points"
    subject = f"bucket {name}"
    found = known.find(name)
    if found is None:
        if visibility.takes_writes(influxdb, name):
            yield Finding(
                Level.FAIL,
                subject,
                "may be written to, but the token may not read it, so nothing"
                " can be answered from it",
                findings.to_make_token(influxdb),
            )
        elif may_make:
            text = "not there yet; the first measure makes it"
            yield Finding(Level.OK, subject, text)
        else:
            yield Finding(
                Level.FAIL if is_used else Level.WARN,
                subject,
                "not there, or hidden from the token, and the token may not"
                " make it",
                known.server.to_make(wanted),
            )
        return
    try:
        influxdb.probe(name)
    except exceptions.ForbiddenError:
        yield Finding(
            Level.FAIL,
            subject,
            "the token may not write to it",
            findings.to_make_token(influxdb),
        )
        return
    probe.newest(influxdb, name, uuid.uuid4())
    # Whoever fills a bucket of windows says itself if that is refused.
    types = []
    if not wanted.every:
        types = type_conflicts.Watch(influxdb).other_types(name)
    if types:
        yield Finding(
            Level.FAIL,
            subject,
            f"holds values of type {' and '.join(types)}, which Gnocchi did"
            " not write; measures are refused in those shards",
            "see where Gnocchi logs that measures are refused, and delete"
            " what was written by others",
        )
    if found.replication < influxdb.replication:
        yield Finding(
            Level.WARN,
            subject,
            f"has {found.replication} copies of each point, [storage]"
            f" influxdb_replication asks for {influxdb.replication}",
            "ALTER RETENTION POLICY ... REPLICATION changes it for shards"
            " that are made from then on",
        )
    if longer(wanted.retention, found.retention):
        yield _too_short(influxdb, known, wanted, found, may_make)
        return
    more = ""
    if found.retention != wanted.retention:
        more = f", longer than the policy asks for ({span(wanted.retention)})"
    yield Finding(
        Level.OK,
        subject,
        f"keeps {held} for {span(found.retention)}{more}",
        _to_shorten(known, policy, found, wanted),
    )


def _too_short(
    influxdb: client.Client,
    known: Buckets,
    wanted: PolicyBucket,
    found: Bucket,
    may_make: bool,
) -> Finding:
    """A bucket whose retention is shorter than its archive policy asks for.

    The driver lengthens it, if it may, but only with the next measures, and
    looks every ten minutes; InfluxDB deletes what has expired every thirty.
    """
    held = "windows" if wanted.every else "points"
    end = influxdb.clock.now_ns() - found.retention * schema.SECOND
    oldest = _oldest(influxdb, known, wanted)
    text = (
        f"keeps {held} for {span(found.retention)}, the archive policy asks"
        f" for {span(wanted.retention)}"
    )
    cure = known.server.to_change(found, wanted)
    if oldest is not None and oldest < end:
        return Finding(
            Level.FAIL,
            f"bucket {wanted.name}",
            f"{text}: InfluxDB is about to delete {held} from"
            f" {_iso(oldest)} to {_iso(end)}, within 30 minutes",
            f"run now, to keep them: {cure}",
        )
    return Finding(
        Level.WARN if may_make else Level.FAIL,
        f"bucket {wanted.name}",
        f"{text}; none is older than it keeps them"
        + ("; the next measures change that" if may_make else ""),
        cure,
    )


def _oldest(
    influxdb: client.Client, known: Buckets, wanted: PolicyBucket
) -> int | None:
    """Time (ns) of the oldest of what a bucket holds, None if unknown."""
    if not wanted.every:
        return known.watermarks.oldest(wanted.name)
    try:
        rows = influxql_rows.rows(
            influxdb.influxql(
                wanted.name, queries.oldest_of(schema.AGGREGATES)
            )
        )
    except exceptions.ConfigurationError:
        return None  # A token that InfluxQL is not for.
    return int(rows[0][0]) if rows else None


def _iso(ns: int) -> str:
    return f"{numpy.datetime64(ns, 'ns').astype('M8[s]')}Z"


def ahead(
    influxdb: client.Client,
    known: Buckets,
    policy: Any,
    metrics: int,
) -> Findings:
    """Check that no point is of the future.

    That costs 3.5 ms for 1,000 metrics, but nothing in shards of the future,
    of which there should be none. So with many metrics those alone are looked
    at.

    :param metrics: how many the policy has.
    """
    found = known.find(known.name(policy))
    if found is None:
        return
    since = influxdb.clock.now_ns() + AHEAD * schema.SECOND
    if metrics > _MANY and found.shard_duration:
        since = shards.span(since, found.shard_duration)[1] * schema.SECOND
    try:
        rows = influxql_rows.rows(
            influxdb.influxql(found.name, queries.newest_since(since))
        )
    except exceptions.ConfigurationError:
        return  # A token that InfluxQL is not for.
    if not rows:
        return
    newest, _value, metric = rows[0]
    start = _iso(since)
    to_delete = (
        known.server.to_clear(found, start, _iso(schema.MAX_TIME))
        if influxdb.capabilities.buckets
        else f'DELETE FROM "{schema.MEASUREMENT}" WHERE time >='  # noqa: S608
        f" '{start}', in the database of [storage] influxdb_bucket_prefix"
    )
    yield Finding(
        Level.WARN,
        f"bucket {found.name}",
        f"holds points ahead of the clock, the newest of {_iso(newest)}, of"
        f" metric {metric}",
        "correct the clock, or the unit of time, of who sends them; this"
        f" deletes them: {to_delete}",
    )


def _to_shorten(
    known: Buckets, policy: Any, found: Bucket, wanted: PolicyBucket
) -> str:
    """The command for a bucket of points from before there was downsampling.

    :return: empty: it should stay as it is, for now at least.
    """
    windows = known.downsampled(policy)
    if (
        wanted.every
        or not windows
        or not longer(found.retention, wanted.retention)
        or known.overdue.seconds(wanted.name, windows)
    ):
        return ""
    if known.overdue.noted(found.name, found.retention) is not None:
        return ""  # The driver takes it back itself.
    return (
        "all is downsampled; to free what older points take:"
        f" {known.server.to_change(found, wanted)}"
    )


def overdue(known: Buckets, policy: Any, slack: int) -> Findings:
    """Check that the windows of a policy are computed in time.

    :param slack: the option influxdb_raw_slack, s.
    """
    name = known.name(policy)
    windows = known.downsampled(policy)
    if not windows or known.find(name) is None:
        return
    late = known.overdue.seconds(name, windows)
    level = Level.OK
    if late >= slack / 4:
        level = Level.FAIL if late >= slack / 2 else Level.WARN
    yield Finding(
        level,
        f"downsampling {policy.name}",
        f"overdue for {span(late)}" if late else "nothing is overdue",
        ""
        if level is Level.OK
        else "start gnocchi-metricd, with [incoming] driver = influxdb, or"
        " run: gnocchi-influxdb downsample --policy"
        f" {shlex.quote(policy.name)}",
    )
