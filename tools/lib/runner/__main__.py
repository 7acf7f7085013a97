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

"""Runs the parts of the test suite, see tools/test --help."""

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

import servers
from servers import engine
from servers.influxdb import VARIABLES
from servers.postgresql import VARIABLE as INDEXER_VARIABLE
from servers.process import die_with_parent

from runner import arguments, style
from runner.arguments import SERVED

ROOT = pathlib.Path(__file__).resolve().parents[3]
# An older urllib3, which tools/lib/venv.sh puts there.
URLLIB3 = pathlib.Path(sys.prefix) / "urllib3-1"
# Run on one release only.
SLOW = (
    "cli/test_migrate_back.py",
    "health/test_processes.py",
    "ingest/test_outage.py",
)
# What another InfluxDB would hardly change.
HARDLY_CHANGED = (
    "cli/test_check_queue.py",
    "indexer",
    "tools",
)
# What treats InfluxDB as a process. The image has a 2.7.
IN_DOCKER = (
    "buckets",
    "client/test_tls.py",
    "deployment/test_backup.py",
    "deployment/test_crash.py",
    "write/test_writer.py",
)
WITHOUT_ARGUMENTS = {
    # What another 2.x would not change, and what takes long.
    "functional-2.7": tuple(
        f"--ignore=tests/functional/{name}"
        for name in (
            *HARDLY_CHANGED,
            *SLOW,
            "cli/test_check.py",
            "cli/test_migrate.py",
            "cli/test_status.py",
            *IN_DOCKER,
        )
    ),
    "functional-1": tuple(
        f"--ignore=tests/functional/{name}"
        for name in (*HARDLY_CHANGED, *SLOW)
    ),
    # Of Gnocchi's own suite, what is about the storage driver.
    "upstream-1": (r"gnocchi\.tests\.test_(storage|aggregates|chef)\.",),
}


def say(message: str) -> None:
    """Tell the user how it goes."""
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
    part: str, given: Sequence[str], environment: Mapping[str, str]
) -> bool:
    """Run a part.

    :param given: arguments of the part.
    :return: whether it passed.
    """
    if part == "style":
        return style.check(ROOT, run) == 0
    if part == "devstack":
        if not (shutil.which("bats") or shutil.which("npm")):
            say("skipped: it needs bats, or npm to install it")
            return True
        if not os.environ.get("DEVSTACK_DIR"):
            say("without DevStack's own functions: DEVSTACK_DIR names none")
        command = ("tests/devstack/run.sh", *given)
        return run(command, {"PYTHON": sys.executable}) == 0
    if part == "docker":
        return _in_docker(given)
    kind = part.partition("-")[0]
    command = (
        ("tests/upstream/run.py",)
        if kind == "upstream"
        else ("-m", "pytest", *folder(f"tests/{kind}", given))
    )
    if not given:
        given = WITHOUT_ARGUMENTS.get(part, ())
    return run((sys.executable, *command, *given), environment) == 0


def folder(whole: str, given: Sequence[str]) -> tuple[str, ...]:
    """The folder of a part, unless files or tests of it are given."""
    paths = (argument.partition("::")[0] for argument in given)
    named = any(
        path.startswith("tests/") and (ROOT / path).exists() for path in paths
    )
    return () if named else (whole,)


def _in_docker(given: Sequence[str]) -> bool:
    with contextlib.ExitStack() as exits:
        try:
            environment = exits.enter_context(engine.engine(say))
        except servers.ServerError as error:
            say(f"skipped: {error}")
            return True
        tests = given or (
            "tests/docker",
            *(f"tests/functional/{name}" for name in IN_DOCKER),
        )
        return (
            run(
                (sys.executable, "-m", "pytest", "-rs", *tests),
                {**environment, "GNOCCHI_INFLUXDB_FROM": "docker"},
            )
            == 0
        )


def _leave(signum: int, frame: FrameType | None) -> None:
    # As an exception it unwinds the context managers, which stop the servers.
    raise SystemExit(128 + signum)


def _served(
    line: str,
    environments: dict[str, dict[str, str]],
    exits: contextlib.ExitStack,
) -> dict[str, str]:
    """Variables that name servers, which are started the first time.

    :raises ServerError: there are none
    """
    if line not in environments:
        postgresql = next(
            (made[INDEXER_VARIABLE] for made in environments.values()), None
        ) or exits.enter_context(servers.postgresql(say))
        influxdb = exits.enter_context(
            # The one that somebody has given is a 2.x, or asked for by
            # `functional` and `upstream` whatever it is.
            servers.influxdb(say, line=line, take_given=line == "2")
        )
        environments[line] = {
            INDEXER_VARIABLE: postgresql,
            **influxdb.environment(),
        }
    return environments[line]


def _lines(parts: Sequence[str]) -> list[str]:
    """Which InfluxDBs the parts will start, as `build.RELEASES` names them."""
    lines = dict.fromkeys(SERVED[part] for part in parts if part in SERVED)
    if os.environ.get(VARIABLES[0]):
        # The one that is given.
        lines.pop("2", None)
    return list(lines)


def _older_urllib3() -> dict[str, str]:
    """Variables that bring it in.

    :raises ServerError: it is not there
    """
    if not (URLLIB3 / "urllib3").is_dir():
        raise servers.ServerError(
            f"there is no urllib3 in {URLLIB3}: remove {sys.prefix}/.installed"
            " and run tools/test again"
        )
    path = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(URLLIB3), path)))}


def main() -> int:
    """Run the parts that the command line names; the exit status."""
    parts, given = arguments.parse()
    results: list[str] = []
    good = True
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _leave)
    try:
        with contextlib.ExitStack() as exits:
            if len(parts) > 1:
                exits.enter_context(servers.ahead(_lines(parts)))
            environments: dict[str, dict[str, str]] = {}
            for part in parts:
                say(f"== {part}")
                start = time.monotonic()
                try:
                    environment: dict[str, str] = {}
                    if part in SERVED:
                        environment = _served(
                            SERVED[part], environments, exits
                        )
                    if SERVED.get(part) == "1":
                        environment = {**environment, **_older_urllib3()}
                    passed = run_part(part, given, environment)
                except servers.ServerError as error:
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
    sys.exit(main())
