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

"""Finds an InfluxDB 2.x or 1.x, or starts one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Iterator

from servers import api, build, docker
from servers.process import Say, ServerError
from servers.server import ORG, InfluxDBProcess, InfluxDBServer
from servers.version1 import InfluxDB1Process

VARIABLES = (
    "GNOCCHI_INFLUXDB_URL",
    "GNOCCHI_INFLUXDB_TOKEN",
    "GNOCCHI_INFLUXDB_ORG",
)
#: Set to "docker", it lets Docker only start servers.
FROM = "GNOCCHI_INFLUXDB_FROM"


@dataclasses.dataclass(frozen=True)
class InfluxDB:
    """An InfluxDB to work with.

    :ivar token: may read, write, and create and delete buckets
    :ivar version: such as 2.9.1
    :ivar how: a sentence that says which one was taken
    """

    url: str
    token: str = dataclasses.field(repr=False)
    org: str
    version: str
    how: str

    @property
    def release(self) -> int:
        """The number in front of its version."""
        return int(self.version.split(".")[0])

    @property
    def line(self) -> str:
        """The one of `build.RELEASES` that is most like it."""
        return max(
            (known for known in build.RELEASES if self.is_of(known)),
            key=len,
            default="2",
        )

    def is_of(self, line: str) -> bool:
        """Whether its version begins with `line`."""
        return self.version.startswith(f"{line}.")

    def environment(self) -> dict[str, str]:
        """Environment variables that name it."""
        return dict(
            zip(VARIABLES, (self.url, self.token, self.org), strict=True)
        )


@contextlib.contextmanager
def influxdb(
    say: Say = print, *, line: str = "2", take_given: bool = True
) -> Iterator[InfluxDB]:
    """The InfluxDB that the environment names, else one that is started.

    :param line: of `build.RELEASES`, for the one that is started
    :param take_given: whether one that the environment names is taken
    :raises ServerError: there is none; the message says what to do
    """
    given = _given() if take_given else None
    if given is not None:
        say(given.how)
        yield given
        return
    with influxdb_server(say, line=line) as server:
        yield InfluxDB(
            server.url,
            server.token,
            server.org,
            server.version,
            f"InfluxDB {server.version} on {server.url}, from {server.how}.",
        )


@contextlib.contextmanager
def influxdb_server(
    say: Say = print, *, may_build: bool = True, line: str = "2"
) -> Iterator[InfluxDBServer]:
    """A running server of one's own, stopped and removed at the end.

    Taken from: `influxd` on PATH, a Docker engine, the influxd that was built
    before, and with `may_build` one that is built now.

    :raises ServerError: there is none; the message says what to do
    """
    server = find_influxdb_server(say, may_build=may_build, line=line)
    with server:
        say(
            f"InfluxDB {server.version} runs on {server.url}, "
            f"from {server.how}."
        )
        yield server


def _given() -> InfluxDB | None:
    url, token, org = (os.environ.get(name, "") for name in VARIABLES)
    if not url:
        return None
    if not token:
        raise ServerError("GNOCCHI_INFLUXDB_URL is set, but not _TOKEN")
    try:
        version = api.version(url)
        if version.startswith("1."):
            org = org or ORG  # It has none.
            api.influxql(url, token, "SHOW DATABASES")
        elif not org:
            raise ServerError("GNOCCHI_INFLUXDB_URL is set, but not _ORG")
        else:
            api.buckets(url, token, org, "")
    except api.HTTPError as error:
        raise ServerError(
            f"the InfluxDB that GNOCCHI_INFLUXDB_URL names refuses "
            f"GNOCCHI_INFLUXDB_TOKEN or GNOCCHI_INFLUXDB_ORG ({org}): {error}"
        ) from None
    except (OSError, ValueError) as error:
        raise ServerError(
            f"no InfluxDB answers on GNOCCHI_INFLUXDB_URL ({url}): {error}"
        ) from None
    return InfluxDB(
        url,
        token,
        org,
        version,
        f"InfluxDB {version} on {url}, from GNOCCHI_INFLUXDB_URL.",
    )


def find_influxdb_server(
    say: Say = print, *, may_build: bool = True, line: str = "2"
) -> InfluxDBServer:
    """A server of one's own that is not started yet.

    :raises ServerError: there is none; the message says what to do
    """
    kind = InfluxDB1Process if line == "1" else InfluxDBProcess
    only_docker = os.environ.get(FROM) == "docker"
    on_path = None if only_docker else shutil.which("influxd")
    if on_path is not None:
        if _is_of(on_path, line):
            return kind(on_path, f"{on_path} (on PATH)", say)
        say(f"{on_path} is not an InfluxDB {line}.x: not taken.")
    # Its image is a 2.7.
    trouble = "has no 1.x" if line == "1" else docker.trouble()
    if trouble is None:
        try:
            docker.pull(say)
        except ServerError as error:
            trouble = str(error)
        else:
            return docker.InfluxDBContainer(say)
    found_none = (
        "there is no InfluxDB to use: GNOCCHI_INFLUXDB_URL is not set, no "
        f"influxd {line}.x on PATH, Docker not taken ({trouble})"
    )
    if only_docker:
        raise ServerError(f"{FROM}=docker, and Docker can't be ({trouble})")
    binary = build.RELEASES[line].binary()
    if not binary.exists():
        if not may_build:
            raise ServerError(f"{found_none}, none built before")
        # Who has an engine wants to know why it is not taken.
        say(found_none)
    binary = build.ensure(build.RELEASES[line], say)
    return kind(binary, f"{binary} (built from its Go modules)", say)


def _is_of(binary: str, line: str) -> bool:
    try:
        done = subprocess.run(
            [binary, "version"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return (
        re.search(rf"InfluxDB v?{re.escape(line)}\.", done.stdout) is not None
    )
