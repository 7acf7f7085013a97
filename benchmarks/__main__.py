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
"""Gnocchi's storage drivers side by side, on this machine.

What is written is read back, and must be the same from each driver; the exit
status is 1 if it is not.
"""

import argparse
import dataclasses
import json
import pathlib
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import servers
from demo import environment

from benchmarks.harness import chart, results, runner, sizes
from benchmarks.workloads import registry


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _leave(signum: int, frame: FrameType | None) -> None:
    # As an exception it unwinds the context managers, which stop the servers.
    raise SystemExit(128 + signum)


def _parser() -> argparse.ArgumentParser:
    summary, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="tools/bench", description=summary, epilog=rest
    )
    parser.add_argument(
        "workload",
        nargs="*",
        help="write, read, or names as --list has them, with wildcards; "
        "all without",
    )
    parser.add_argument(
        "--list", action="store_true", help="say which workloads there are"
    )
    parser.add_argument("--rounds", type=_positive, help="rounds to run")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--size",
        choices=list(sizes.BY_NAME),
        default="full",
        help="how much work; tiny only shows that it runs",
    )
    size.add_argument(
        "--quick",
        action="store_const",
        dest="size",
        const="quick",
        help="the same as --size quick",
    )
    parser.add_argument(
        "--drivers",
        type=_drivers,
        default=runner.DRIVERS,
        help="some of " + ",".join(runner.DRIVERS) + "; all without",
    )
    parser.add_argument(
        "--directory",
        type=pathlib.Path,
        help="for the files of the file driver, of queues and of Redis; the "
        "system's directory for temporary files without",
    )
    parser.add_argument(
        "--json", type=pathlib.Path, metavar="FILE", help="write the figures"
    )
    parser.add_argument(
        "--svg", type=pathlib.Path, metavar="FILE", help="draw them"
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _drivers(text: str) -> list[str]:
    names = text.split(",")
    unknown = set(names) - set(runner.DRIVERS)
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown: {', '.join(sorted(unknown))}"
        )
    return [name for name in runner.DRIVERS if name in names]


def _keep(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.svg:
        arguments.svg.write_text(chart.svg(result))


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        chosen = registry.select(arguments.workload)
    except LookupError as error:
        parser.error(str(error.args[0]))
    if arguments.list:
        width = max(len(workload.name) for workload in chosen)
        for workload in chosen:
            print(
                f"{workload.name:{width}}  {workload.group:5}  "
                f"{workload.title} ({workload.unit}, {workload.better} is "
                "better)"
            )
        return 0
    size = sizes.BY_NAME[arguments.size]
    if arguments.rounds:
        size = dataclasses.replace(size, rounds=arguments.rounds)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _leave)
    environment.bypass_proxies()
    try:
        result = runner.run(
            chosen,
            arguments.drivers,
            size,
            arguments.directory,
            _say,
            lambda so_far: _keep(arguments, so_far),
        )
    except servers.ServerError as error:
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    _keep(arguments, result)
    print(results.table(result))
    return 0 if all(w["same_answers"] for w in result["workloads"]) else 1


if __name__ == "__main__":
    sys.exit(main())
