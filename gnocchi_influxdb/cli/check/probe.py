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
"""A probe that is written, read and deleted, and how long a query takes.

Each function yields findings, and raises InfluxDBError if it can't find out.
"""

import socket
import statistics
import time
import uuid
from typing import Any

from gnocchi_influxdb import schema
from gnocchi_influxdb.cli.check.findings import Finding, Findings, Level, Value
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
        found = newest(influxdb, name, one)
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
    if newest(influxdb, name, one):
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
        _timed(lambda: newest(influxdb, name, one)) for _ in range(_QUERIES)
    )
    text = f"a query takes {1000 * seconds:.1f} ms (median of {_QUERIES})"
    values = (Value("latency", seconds, "s", warn),)
    if seconds <= warn:
        yield Finding(Level.OK, "latency", text, values=values)
    else:
        yield Finding(
            Level.WARN,
            "latency",
            f"{text}, more than {1000 * warn:.0f} ms",
            "see how busy InfluxDB, its disk and the network are",
            values,
        )


def newest(influxdb: client.Client, name: str, one: uuid.UUID) -> list[float]:
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
