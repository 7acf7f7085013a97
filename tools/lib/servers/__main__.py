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

"""Runs a command with an InfluxDB and a PostgreSQL.

python -m servers run [--no-postgresql] [--influxdb 1] -- command ...
python -m servers build 2 1

The command finds them in GNOCCHI_INFLUXDB_URL, _TOKEN, _ORG and
GNOCCHI_INDEXER_URL. Its exit status is passed on; servers that were started
are stopped when it ends, on Ctrl-C and on SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

import servers
from servers import build, process
from servers.postgresql import VARIABLE


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _leave(signum: int, frame: FrameType | None) -> None:
    # As an exception it unwinds the context managers, which stop the servers.
    raise SystemExit(128 + signum)


def _run(command: Sequence[str], environment: dict[str, str]) -> int:
    try:
        child = subprocess.Popen(
            command,
            env=environment,
            preexec_fn=process.die_with_parent(signal.SIGTERM),
        )
    except OSError as error:
        say(f"{command[0]}: {error.strerror}")
        return 127
    # A Ctrl-C reaches the command too (one process group): it decides how it
    # ends, the servers stay up until then. Other signals are passed on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda number, _: child.send_signal(number))
    try:
        status = child.wait()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _leave_on_signals()
    return status if status >= 0 else 128 - status


def _leave_on_signals() -> None:
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _leave)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m servers", description=__doc__.split("\n")[0]
    )
    commands = parser.add_subparsers(required=True, metavar="run|build")
    run = commands.add_parser("run", help="run a command with the servers")
    run.add_argument(
        "--no-postgresql", action="store_true", help="only an InfluxDB"
    )
    run.add_argument(
        "--influxdb",
        choices=sorted(build.RELEASES),
        default="2",
        help="how the version of the one to start begins (2 by default)",
    )
    run.add_argument("command", nargs="+", help="after --")
    builds = commands.add_parser("build", help="build InfluxDBs, if need be")
    builds.add_argument("line", nargs="+", choices=sorted(build.RELEASES))
    arguments = parser.parse_args()

    _leave_on_signals()
    environment = dict(os.environ)
    try:
        if "line" in arguments:
            for line in arguments.line:
                servers.find_influxdb_server(say, line=line)
            return 0
        with contextlib.ExitStack() as exits:
            if not arguments.no_postgresql:
                environment[VARIABLE] = exits.enter_context(
                    servers.postgresql(say)
                )
            influxdb = exits.enter_context(
                servers.influxdb(say, line=arguments.influxdb)
            )
            environment |= influxdb.environment()
            return _run(arguments.command, environment)
    except servers.ServerError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
