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
"""Checks of the configuration, the server, the token, clocks and the indexer.

Each function yields findings, and raises InfluxDBError if it can't find out.
"""

import time
import urllib.parse
import uuid
from typing import Any

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.cli import queries
from gnocchi_influxdb.cli.check.findings import Finding, Findings, Level, Value
from gnocchi_influxdb.client import client, tls
from gnocchi_influxdb.indexer import listing
from gnocchi_influxdb.maintenance import upgrade
from gnocchi_influxdb.wire import flux_response

#: Seconds between the clocks from which points of the present may seem to be
#: of the future, or may expire early.
CLOCK_WARN = 2.0
CLOCK_FAIL = 60.0

#: The part of the open files that are allowed from which on it gets narrow.
FILES_WARN = 0.8


def options(conf: Any) -> Findings:
    """Check that Gnocchi uses both drivers, and over TLS.

    :param conf: the whole configuration.
    """
    storage = conf.storage
    if storage.driver == "influxdb":
        yield Finding(Level.OK, "drivers", "[storage] driver is influxdb")
    else:
        yield Finding(
            Level.WARN,
            "drivers",
            f"[storage] driver is {storage.driver}: Gnocchi does not store"
            " in InfluxDB",
            "set [storage] driver = influxdb and restart Gnocchi",
        )
    if conf.incoming.driver != "influxdb":
        yield Finding(
            Level.WARN,
            "drivers",
            f"[incoming] driver is {conf.incoming.driver}: measures wait for"
            " gnocchi-metricd before they can be read",
            "set [incoming] driver = influxdb, or remove the option",
        )
    url = urllib.parse.urlsplit(storage.influxdb_url)
    if url.scheme == "http" and not tls.is_loopback(url.hostname):
        yield Finding(
            Level.WARN,
            "transport",
            "the token and all measures cross the network readable for others",
            "let InfluxDB serve TLS and use https in [storage] influxdb_url",
        )
    elif url.scheme == "https" and storage.influxdb_insecure:
        yield Finding(
            Level.WARN,
            "transport",
            "InfluxDB's certificate is not checked",
            "remove [storage] influxdb_insecure and name the authority in"
            " [storage] influxdb_cafile",
        )
    else:
        yield Finding(Level.OK, "transport", storage.influxdb_url)


def server(influxdb: client.Client) -> Findings:
    """Check that the server answers, is healthy and of a tested version."""
    try:
        health = influxdb.control.health()
    except exceptions.ResponseError:
        raise exceptions.ConfigurationError(
            f"{influxdb.url} ([storage] influxdb_url) does not answer as"
            " InfluxDB does"
        ) from None
    is_good = health.status == "pass"
    yield Finding(
        Level.OK if is_good else Level.FAIL,
        "health",
        f"{influxdb.url}: {health.message or health.status}",
        "" if is_good else "see the log of InfluxDB",
    )
    found = influxdb.server()
    release = found.release()
    oldest = upgrade.OLDEST.get(release[0]) if release else None
    if release and oldest and release < oldest:
        yield Finding(
            Level.WARN,
            "version",
            f"{found} is older than what the driver is tested with",
            "upgrade InfluxDB to {}.{} or a later {}.x".format(
                *oldest, oldest[0]
            ),
        )
    else:
        yield Finding(Level.OK, "version", str(found))
    if release and release[0] == 2 and _has_profiles(influxdb):
        yield Finding(
            Level.WARN,
            "profiles",
            "InfluxDB keeps profiles of itself, which takes a tenth of its"
            " time or more, and shows them to anybody:"
            f" {influxdb.url}/debug/pprof",
            "set pprof-disabled (INFLUXD_PPROF_DISABLED=true) and restart"
            " influxd",
        )


def _has_profiles(influxdb: client.Client) -> bool:
    try:
        influxdb.get("/debug/pprof/cmdline")
    except exceptions.InfluxDBError:
        return False
    return True


def open_files(influxdb: client.Client) -> Findings:
    """Check that the server may open some more files."""
    try:
        found = queries.open_files(influxdb.get("/metrics"))
    except exceptions.InfluxDBError:
        return  # A proxy, INFLUXD_METRICS_DISABLED, or not an administrator.
    if found is None:
        return  # InfluxDB 2.x.
    number, most = found
    is_good = number < FILES_WARN * most
    yield Finding(
        Level.OK if is_good else Level.WARN,
        "files",
        f"InfluxDB has {number:,} files open, of {most:,} that it may"
        + ("" if is_good else "; at the limit it refuses measures"),
        ""
        if is_good
        else f"set LimitNOFILE={max(65536, 4 * most)} in influxd's service and"
        " restart it: each shard takes about ten",
    )


def token(influxdb: client.Client, conf: Any) -> Findings:
    """Check that the server knows the token and shows it the organization.

    :param conf: the group of options that the client was made with.
    """
    try:
        upgrade.check(influxdb, conf)
    except exceptions.AccessError:
        if not influxdb.capabilities.buckets:
            raise
        # This fails, too, if the server does not know the token.
        influxdb.control.buckets(limit=1)
        yield Finding(
            Level.OK,
            "token",
            "sees no bucket, and not the organization, so it can't make"
            " buckets: each archive policy needs one that was made for it",
        )
        return
    if not influxdb.capabilities.tokens:
        yield Finding(Level.OK, "token", "is a user and the right password")
    else:
        yield Finding(
            Level.OK, "token", f"sees the organization {influxdb.org}"
        )


def limits(influxdb: client.Client) -> Findings:
    """Check that no limit in the server's configuration is in the way."""
    for limit in upgrade.limits(influxdb):
        what, _, cure = limit.partition("; ")
        yield Finding(Level.WARN, "limits", what, cure)


def clock(influxdb: client.Client) -> Findings:
    """Check how far InfluxDB's clock and this machine's are apart."""
    asked = time.time_ns()
    theirs, precision = _their_time(influxdb)
    answered = time.time_ns()
    apart = (theirs - (asked + answered) // 2) / 1e9
    # Half of the round trip may be a difference or not.
    least = max(abs(apart) - (answered - asked) / 2e9 - precision, 0.0)
    level = Level.OK
    if least > CLOCK_WARN:
        level = Level.FAIL if least > CLOCK_FAIL else Level.WARN
    yield Finding(
        level,
        "clock",
        f"InfluxDB's clock differs by {apart:+.3f} s from this machine's",
        "" if level is Level.OK else "run an NTP client on both machines",
        (Value("clock", abs(apart), "s", CLOCK_WARN, CLOCK_FAIL),),
    )


def _their_time(influxdb: client.Client) -> tuple[int, float]:
    """InfluxDB's time (ns), and by how many seconds it may be off."""
    if not influxdb.capabilities.flux:
        # Flux of 1.8 can't make a point of the present.
        return influxdb.clock.now_ns(), influxdb.clock.error
    one = uuid.uuid4()
    script = (
        'import "array" array.from(rows: [{_time: now(), _value: 0.0,'
        f' metric: "{one}"}}])'
    )
    points = flux_response.parse_flux(influxdb.query(script))[one]
    return int(points["timestamps"].astype("int64")[0]), 0.0


def indexer(index: Any) -> Findings:
    """Check that the indexer answers."""
    counts = listing.count(index)
    number = sum(n for (_, s), n in counts.items() if s == listing.ACTIVE)
    yield Finding(
        Level.OK,
        "indexer",
        f"answers, {schema.counted(number, 'metric')}",
        values=(Value("metrics", number),),
    )
