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
"""Variables, proxies and names of a run, and commands to look at it."""

import os
import pathlib
import socket
import sys
from typing import Any

import servers
from servers.influxdb import VARIABLES
from servers.postgresql import VARIABLE as _INDEXER_VARIABLE

_INFLUXDB_VARIABLE = VARIABLES[0]
_DEFAULT_ORG = "gnocchi"


def influxdb_is_given() -> bool:
    """Whether InfluxDB is the user's, not ours."""
    return bool(os.environ.get(_INFLUXDB_VARIABLE))


def indexer_is_given() -> bool:
    """Whether PostgreSQL is the user's, not ours."""
    return bool(os.environ.get(_INDEXER_VARIABLE))


def require_influxdb() -> None:
    """Check that a database and an InfluxDB are both given, or neither.

    :raises ServerError: only one of them is.
    """
    if not influxdb_is_given():
        raise servers.ServerError(
            f"{_INDEXER_VARIABLE} names a database without"
            f" {_INFLUXDB_VARIABLE}: gnocchi-metricd would take its deleted"
            " metrics for removed, and their points would stay. Name both, or"
            " none"
        )


def bypass_proxies() -> None:
    """Let no connection to the loopback interface use an HTTP proxy."""
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [os.environ.get(name, ""), "127.0.0.1", "localhost"]
        os.environ[name] = ",".join(filter(None, hosts))


def host_name() -> str:
    return socket.gethostname() or "localhost"


def storage_options(influxdb: servers.InfluxDB) -> dict[str, str]:
    """Options of ``[storage]`` that differ from the defaults."""
    options = {
        "driver": "influxdb",
        "influxdb_url": influxdb.url,
        "influxdb_token": influxdb.token,
    }
    if influxdb.org != _DEFAULT_ORG:
        options["influxdb_org"] = influxdb.org
    return options


def how_to_talk(
    result: dict[str, Any], config_file: pathlib.Path
) -> list[str]:
    """Commands for another terminal."""
    gnocchi, influxdb = result["gnocchi"], result["influxdb"]
    program = pathlib.Path(sys.executable).with_name("gnocchi")
    client = (
        f"{program} --os-auth-type gnocchi-basic --user admin "
        f"--endpoint {gnocchi['url']}"
    )
    resource = gnocchi["resource"]
    return [
        "All of it stays up. In another terminal:",
        f"    {client} resource show {resource}",
        f"    {client} measures show -r {resource} "
        "--aggregation rate:mean net.rx.bytes",
        f"    curl -u admin: {gnocchi['url']}/v1/resource/generic",
        f"    InfluxDB: {influxdb['url']}, organisation {influxdb['org']}, "
        f"bucket {influxdb['bucket']}, token in {config_file}",
    ]
