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
# Those that need servers, started once for all that need the same: how the
# version of InfluxDB begins.
SERVED = {
    "functional": "2",
    "upstream": "2",
    "functional-2.7": "2.7",
    "functional-1": "1",
    "upstream-1": "1",
}
PARTS = ("style", "unit", "packaging", "devstack", *SERVED)
# An older urllib3, which tools/lib/venv.sh puts there.
URLLIB3 = pathlib.Path(sys.prefix) / "urllib3-1"
# What another 2.x would not change, and what takes long.
NOT_ABOUT_INFLUXDB = tuple(
    f"--ignore=tests/functional/{name}" for name in ("indexer", "tools")
)
# Of Gnocchi's own suite, what is about the storage driver.
ABOUT_STORAGE = r"gnocchi\.tests\.test_(storage|aggregates|chef)\."


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
        "packaging": ("-m", "pytest", "tests/packaging"),
        "functional": ("-m", "pytest", "tests/functional"),
        "upstream": ("tests/upstream/run.py",),
        "functional-2.7": (
            *("-m", "pytest", "tests/functional"),
            *(() if arguments else NOT_ABOUT_INFLUXDB),
        ),
        "functional-1": ("-m", "pytest", "tests/functional"),
        "upstream-1": (
            "tests/upstream/run.py",
            *(() if arguments else (ABOUT_STORAGE,)),
        ),
    }[part]
    return run((sys.executable, *command, *arguments), environment) == 0


def _leave(signum: int, frame: FrameType | None) -> None:
    # As an exception it unwinds the context managers, which stop the servers.
    raise SystemExit(128 + signum)


def _served(
    line: str,
    environments: dict[str, dict[str, str]],
    servers: contextlib.ExitStack,
) -> dict[str, str]:
    """Variables that name servers, which are started the first time.

    :raises StackError: there are none
    """
    if line not in environments:
        postgresql = next(
            (made[INDEXER_VARIABLE] for made in environments.values()), None
        ) or servers.enter_context(stack.postgresql(say))
        influxdb = servers.enter_context(
            # The one that somebody has given is a 2.x, or asked for by
            # `functional` and `upstream` whatever it is.
            stack.influxdb(say, line=line, take_given=line == "2")
        )
        environments[line] = {
            INDEXER_VARIABLE: postgresql,
            **influxdb.environment(),
        }
    return environments[line]


def _older_urllib3() -> dict[str, str]:
    """Variables that bring it in.

    :raises StackError: it is not there
    """
    if not (URLLIB3 / "urllib3").is_dir():
        raise stack.StackError(
            f"there is no urllib3 in {URLLIB3}: remove {sys.prefix}/.installed"
            " and run tools/test again"
        )
    path = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(URLLIB3), path)))}


def main(arguments: Sequence[str]) -> int:
    parts = arguments[:1] or PARTS
    results: list[str] = []
    good = True
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _leave)
    try:
        with contextlib.ExitStack() as servers:
            environments: dict[str, dict[str, str]] = {}
            for part in parts:
                say(f"== {part}")
                start = time.monotonic()
                try:
                    environment: dict[str, str] = {}
                    if part in SERVED:
                        environment = _served(
                            SERVED[part], environments, servers
                        )
                    if SERVED.get(part) == "1":
                        environment = {**environment, **_older_urllib3()}
                    passed = run_part(part, arguments[1:], environment)
                except stack.StackError as error:
                    say(f"error: {error}")
                    passed = False
                good = good and passed
                results.append(
                    f"{part:14}  {'passed' if passed else 'FAILED'}  "
                    f"{time.monotonic() - start:5.0f} s"
                )
    except KeyboardInterrupt:
        say("interrupted")
        return 128 + signal.SIGINT
    say("\n" + "\n".join(results))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
