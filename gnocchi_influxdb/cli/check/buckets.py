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

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.buckets import type_conflicts, visibility
from gnocchi_influxdb.buckets.manager import Buckets
from gnocchi_influxdb.buckets.policy import Bucket, PolicyBucket, longer
from gnocchi_influxdb.cli.check import findings, probe
from gnocchi_influxdb.cli.check.findings import Finding, Findings, Level
from gnocchi_influxdb.cli.output import span
from gnocchi_influxdb.client import client


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
