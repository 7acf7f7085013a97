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
"""Checks of the buckets: retention, types, a probe, how long a query takes.

Each function yields findings, and raises InfluxDBError if it can't find out.
"""

import shlex
import socket
import statistics
import time
import uuid
from typing import Any

from gnocchi_influxdb import schema
from gnocchi_influxdb.buckets import type_conflicts, visibility
from gnocchi_influxdb.buckets.manager import Buckets
from gnocchi_influxdb.buckets.policy import Bucket, PolicyBucket, longer
from gnocchi_influxdb.cli.check.server import Finding, Findings, Level
from gnocchi_influxdb.cli.output import span
from gnocchi_influxdb.client import client
from gnocchi_influxdb.maintenance import deletes
from gnocchi_influxdb.wire import (
    flux,
    flux_response,
    influxql,
    influxql_points,
)

#: Seconds that reading the newest point of a metric may take. 0.005 is usual.
LATENCY_WARN = 1.0
_QUERIES = 5


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
                Level.WARN,
                subject,
                "may be written to, but the token may not read it, so nothing"
                " can be answered from it",
                "give the token the right to read the bucket",
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
    influxdb.probe(name)
    _newest(influxdb, name, uuid.uuid4())
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
        yield Finding(
            Level.WARN if may_make else Level.FAIL,
            subject,
            f"keeps {held} for {span(found.retention)}, the archive policy"
            f" asks for {span(wanted.retention)}"
            + ("; the next measures change that" if may_make else ""),
            known.server.to_change(found, wanted),
        )
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


def probe_series(influxdb: client.Client, name: str) -> Findings:
    """Write, read and delete a point of a metric that does not exist."""
    # The same metric each time, since the index never forgets a series quite;
    # but one for each host, since several may check at the same time.
    one = uuid.uuid5(uuid.NAMESPACE_DNS, socket.gethostname())
    line = (
        f"{schema.MEASUREMENT},{schema.TAG}={one}"
        f" {schema.FIELD}=1.5 {influxdb.clock.now_ns()}"
    )
    took = []
    try:
        took.append(_timed(lambda: influxdb.write(name, line.encode())))
        began = time.monotonic()
        found = _newest(influxdb, name, one)
        took.append(time.monotonic() - began)
        if found != [1.5]:
            yield Finding(
                Level.FAIL,
                "probe",
                f"a point written to bucket {name} can't be read",
                "another program may write to the bucket values of another"
                " type; see the documentation, when things go wrong",
            )
            return
    finally:
        began = time.monotonic()
        deletes.by_influxql(influxdb, name, [one])
        took.append(time.monotonic() - began)
    if _newest(influxdb, name, one):
        yield Finding(
            Level.FAIL,
            "probe",
            f"a point deleted from bucket {name} is still there",
            f"gnocchi-influxdb prune removes it; metric {one}",
        )
        return
    wrote, read, deleted = (f"{1000 * seconds:.1f} ms" for seconds in took)
    yield Finding(
        Level.OK,
        "probe",
        f"written ({wrote}), read ({read}) and deleted ({deleted}) in {name}",
    )


def latency(influxdb: client.Client, name: str, warn: float) -> Findings:
    """Check how long a small query takes.

    :param warn: seconds.
    """
    one = uuid.uuid4()
    seconds = statistics.median(
        _timed(lambda: _newest(influxdb, name, one)) for _ in range(_QUERIES)
    )
    text = f"a query takes {1000 * seconds:.1f} ms (median of {_QUERIES})"
    if seconds <= warn:
        yield Finding(Level.OK, "latency", text)
    else:
        yield Finding(
            Level.WARN,
            "latency",
            f"{text}, more than {1000 * warn:.0f} ms",
            "see how busy InfluxDB, its disk and the network are",
        )


def _newest(influxdb: client.Client, name: str, one: uuid.UUID) -> list[float]:
    """The value of the newest point of a metric, in a list; or none."""
    if not influxdb.capabilities.buckets:
        body = influxdb.influxql(name, influxql.newest([one]))
        (answer,) = influxql_points.parse_influxql(body, [["last"]])
        found = answer["last"]
    else:
        found = flux_response.parse_flux(
            influxdb.query(flux.newest(name, [one]))
        )
    return found[one]["values"].tolist() if one in found else []


def _timed(call: Any) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began
