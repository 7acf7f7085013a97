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

"""Runs Gnocchi's own test suite, from its installed wheel, on a driver.

Needs GNOCCHI_INDEXER_URL, and for the influxdb driver GNOCCHI_INFLUXDB_URL,
_TOKEN and _ORG: `tools/test upstream` provides them. Arguments are regular
expressions; only the tests whose id one of them matches are run.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time

import sqlalchemy

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tools" / "lib"))

import servers  # noqa: E402
from servers import api  # noqa: E402
from servers.process import duration, stop_group  # noqa: E402
from watch import Run, start  # noqa: E402

EXCLUDED = HERE / "excluded.txt"
QUEUED = HERE / "queued.txt"
POSTGRESQL_18 = HERE / "postgresql-18.txt"
SUITE = HERE / "suite"
# The requests of one gabbi file build on one another.
TOGETHER = r"gabbi\.suitemaker\.test_gabbi_[^_]+_"


def named(path: pathlib.Path, every: set[str]) -> tuple[set[str], bool]:
    """The tests that a file names, and whether each of its lines does.

    A line is a regular expression of test ids, below a comment that says why
    it is there.
    """
    found: set[str] = set()
    good = True
    reasoned = False
    for line in map(str.strip, path.read_text().splitlines()):
        if not line or line.startswith("#"):
            reasoned = bool(line)
            continue
        if not reasoned:
            print(f"{path.name}: no reason for {line}")
        matching = {test for test in every if re.search(line, test)}
        if not matching:
            print(f"{path.name}: no test matches {line}")
        good = good and reasoned and bool(matching)
        found |= matching
        reasoned = False
    return found, good


def postgresql(url: str) -> int:
    """The major version of a PostgreSQL; 0 of another database."""
    from gnocchi.indexer.sqlalchemy import SQLAlchemyIndexer

    engine = sqlalchemy.create_engine(SQLAlchemyIndexer.dress_url(url))
    try:
        if engine.dialect.name != "postgresql":
            return 0
        with engine.connect():
            return engine.dialect.server_version_info[0]
    finally:
        engine.dispose()


def stestr(*arguments: str, scratch: pathlib.Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "stestr",
        f"--test-path={SUITE}",
        f"--top-dir={SUITE}",
        f"--repo-url={scratch / 'results'}",
        f"--group-regex={TOGETHER}",
        *arguments,
    ]


def check_driver() -> None:
    """Construct the drivers, and let the storage driver check its server.

    Gnocchi itself tries again for ever, without a word, when a driver can't
    be constructed.
    """
    from gnocchi import service
    from gnocchi import utils as gnocchi_utils
    from gnocchi.tests import utils

    conf = service.prepare_service(
        [],
        conf=utils.prepare_conf(),
        default_config_files=[],
        skip_log_opts=True,
    )
    conf.set_override("driver", "influxdb", "storage")
    gnocchi_utils.get_driver_class("gnocchi.incoming", conf.incoming)(
        conf.incoming
    )
    gnocchi_utils.get_driver_class("gnocchi.storage", conf.storage)(
        conf.storage
    ).upgrade()


def list_tests(environment: dict[str, str], scratch: pathlib.Path) -> set[str]:
    (scratch / "results").mkdir()
    subprocess.run(stestr("init", scratch=scratch), check=True, cwd=scratch)
    process = start(stestr("list", scratch=scratch), environment, scratch)
    try:
        output = process.communicate()[0].decode()
    except BaseException:
        stop_group(process)
        raise
    tests = {
        line
        for line in output.splitlines()
        if line.startswith(("gnocchi.", "gabbi."))
    }
    if process.returncode or not tests:
        raise SystemExit(f"the tests can't be listed:\n{output[-4000:]}")
    return tests


def drive(arguments, scratch: pathlib.Path) -> int:
    environment = os.environ
    environment["UPSTREAM_SCRATCH"] = str(scratch)
    environment["GNOCCHI_TEST_STORAGE_DRIVER"] = arguments.storage
    prefix = f"upstream-{secrets.token_hex(4)}-"
    if arguments.storage == "influxdb":
        if api.version(environment["GNOCCHI_INFLUXDB_URL"]).startswith("1."):
            prefix = f"{prefix.removesuffix('-')}/"
        for name in ("URL", "TOKEN", "ORG"):
            environment[f"OS_STORAGE__INFLUXDB_{name}"] = environment[
                f"GNOCCHI_INFLUXDB_{name}"
            ]
        environment["OS_STORAGE__INFLUXDB_BUCKET_PREFIX"] = prefix
        # The suite's measures are of 2014.
        environment["OS_STORAGE__INFLUXDB_RETENTION"] = "false"
        # A thread for each of some thousand configurations.
        environment["OS_STORAGE__INFLUXDB_HEALTH"] = "false"
        check_driver()

    every = list_tests(dict(environment), scratch)
    excluded: set[str] = set()
    queued: set[str] = set()
    good = True
    if arguments.storage == "influxdb":
        excluded, good = named(EXCLUDED, every)
        queued, all_there = named(QUEUED, every)
        good = good and all_there
    if postgresql(environment["GNOCCHI_INDEXER_URL"]) >= 18:
        more, all_there = named(POSTGRESQL_18, every)
        excluded |= more
        good = good and all_there
    chosen = {
        test
        for test in every - excluded
        if not arguments.tests
        or any(re.search(pattern, test) for pattern in arguments.tests)
    }
    if not chosen:
        print("upstream: no test to run")
        return 1

    began = time.monotonic()
    run = Run(len(chosen))
    try:
        for incoming, tests in (
            (arguments.storage, chosen - queued),
            ("file", chosen & queued),
        ):
            if not tests:
                continue
            to_run = scratch / "tests"
            to_run.write_text("\n".join(sorted(tests)) + "\n")
            status = run(
                stestr(
                    "run",
                    "--subunit",
                    f"--load-list={to_run}",
                    f"--concurrency={arguments.concurrency}",
                    scratch=scratch,
                ),
                {**environment, "OS_INCOMING__DRIVER": incoming},
                scratch,
            )
            good = good and status == 0
    finally:
        if arguments.storage == "influxdb":
            servers.delete_buckets(
                *(
                    environment[f"GNOCCHI_INFLUXDB_{name}"]
                    for name in ("URL", "TOKEN", "ORG")
                ),
                prefix,
            )
    if arguments.slowest:
        for test, seconds in sorted(
            run.seconds.items(), key=lambda item: -item[1]
        )[: arguments.slowest]:
            print(f"{seconds:8.2f} s  {test}")
    missing = len(chosen - run.statuses.keys())
    print("=" * 70)
    for reason, tests in sorted(run.skips.items()):
        print(f"skipped {len(tests)}, such as {min(tests)}: {reason}")
    for test in sorted(run.failed):
        print(f"FAILED {test}")
    print(
        f"Gnocchi's own suite on {arguments.storage}: "
        f"{len(chosen)} tests, {run.count('success')} passed, "
        f"{len(run.failed)} failed, {run.count('skip')} skipped, "
        f"{run.count('xfail')} expected failures, "
        f"{missing} did not run, {len(excluded)} excluded by name, "
        f"in {duration(time.monotonic() - began)}"
    )
    passed = not run.failed and missing == 0 and run.count("success") > 0
    return 0 if good and passed else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--storage",
        default="influxdb",
        choices=("influxdb", "file"),
        help="file: Gnocchi's own driver, as the baseline",
    )
    parser.add_argument("--concurrency", type=int, default=os.cpu_count())
    parser.add_argument(
        "--slowest", type=int, default=0, metavar="N", help="list N tests"
    )
    parser.add_argument("tests", nargs="*", help="regular expressions")
    arguments = parser.parse_args()
    # As an exception it stops the workers and removes what they left.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(
        prefix="upstream-", ignore_cleanup_errors=True
    ) as scratch:
        return drive(arguments, pathlib.Path(scratch))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
