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

"""python -m runner [part [argument ...]], see tools/test --help."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType

import stack
from stack.postgresql import VARIABLE as INDEXER_VARIABLE
from stack.process import die_with_parent

from runner import style

ROOT = pathlib.Path(__file__).resolve().parents[2]
PARTS = ("style", "unit", "devstack", "functional", "upstream")
# Those that need servers, started once for all of them.
SERVED = ("functional", "upstream")


def say(message: str) -> None:
    print(message, flush=True)


def run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command in the foreground; its exit status.

    Ctrl-C reaches it by itself, being in the same process group, and SIGTERM
    is passed on.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        preexec_fn=die_with_parent(signal.SIGTERM),
    )
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def run_part(
    part: str, arguments: Sequence[str], environment: Mapping[str, str]
) -> bool:
    if part == "style":
        return style.check(ROOT, run) == 0
    if part == "devstack":
        if not (shutil.which("bats") or shutil.which("npm")):
            say("skipped: it needs bats, or npm to install it")
            return True
        return (
            run(
                ("tests/devstack/run.sh", *arguments),
                {"PYTHON": sys.executable},
            )
            == 0
        )
    command = {
        "unit": ("-m", "pytest", "tests/unit"),
        "functional": ("-m", "pytest", "tests/functional"),
        "upstream": ("tests/upstream/run.py",),
    }[part]
    return run((sys.executable, *command, *arguments), environment) == 0


def _leave(signum: int, frame: FrameType | None) -> None:
    # As an exception it unwinds the context managers, which stop the servers.
    raise SystemExit(128 + signum)


def main(arguments: Sequence[str]) -> int:
    parts = arguments[:1] or PARTS
    results: list[str] = []
    good = True
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _leave)
    try:
        with contextlib.ExitStack() as servers:
            environment: dict[str, str] = {}
            for part in parts:
                say(f"== {part}")
                start = time.monotonic()
                try:
                    if part in SERVED and not environment:
                        environment[INDEXER_VARIABLE] = servers.enter_context(
                            stack.postgresql(say)
                        )
                        environment |= servers.enter_context(
                            stack.influxdb(say)
                        ).environment()
                    passed = run_part(part, arguments[1:], environment)
                except stack.StackError as error:
                    environment = {}
                    say(f"error: {error}")
                    passed = False
                good = good and passed
                results.append(
                    f"{part:10}  {'passed' if passed else 'FAILED'}  "
                    f"{time.monotonic() - start:5.0f} s"
                )
    except KeyboardInterrupt:
        say("interrupted")
        return 128 + signal.SIGINT
    say("\n" + "\n".join(results))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
