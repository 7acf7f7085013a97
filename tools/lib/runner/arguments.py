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

"""Runs the tests. Without a part all of them run, one after the other:

  style       ruff, mypy, import-linter, interrogate, doc8, bashate,
              shellcheck, reno, sphinx
  unit        pytest tests/unit         (arguments go to pytest)
  packaging   pytest tests/packaging    (arguments go to pytest)
  docker      pytest tests/docker and what treats InfluxDB as a process, in
              containers: on the engine there is, or as root with CI set on
              one that is started and stopped; skipped elsewhere
  devstack    bats tests/devstack       (arguments go to bats)
              on DevStack's own functions if DEVSTACK_DIR names a checkout
  functional  pytest tests/functional   (arguments go to pytest)
  upstream    Gnocchi's own test suite  (arguments are regular expressions of
              test ids; --storage file runs it on Gnocchi's own driver)
  functional-2.7
              functional on InfluxDB 2.7; without arguments, what another 2.x
              may change and `docker` does not run
  functional-1, upstream-1
              on InfluxDB 1.x, with urllib3 1.26 instead of the newest;
              without arguments, what a 1.x may change, and of Gnocchi's suite
              what is about the storage driver

functional and upstream need an InfluxDB 2.x. They take the first of: the one
that GNOCCHI_INFLUXDB_URL, _TOKEN and _ORG name (it may be a 1.x, too);
`influxd` on PATH; a Docker engine; a build from Go modules (minutes, once).
functional-2.7 starts a 2.7, functional-1 and upstream-1 a 1.x, from `influxd`
on PATH, a Docker engine (2.7 only), or a build.
PostgreSQL is the one that GNOCCHI_INDEXER_URL names, else one that comes as a
Python package. What is started is stopped again.

The packages are installed into .venv, or where GNOCCHI_INFLUXDB_VENV says.
"""

from __future__ import annotations

import argparse

from servers import arguments

#: Parts that need servers, and how the version of their InfluxDB begins.
SERVED = {
    "functional": "2",
    "upstream": "2",
    "functional-2.7": "2.7",
    "functional-1": "1",
    "upstream-1": "1",
}
#: Parts that need nothing but the checkout, and a minute.
FAST = ("style", "unit")
PARTS = (*FAST, "packaging", "devstack", "docker", *SERVED)


def parse() -> tuple[tuple[str, ...], list[str]]:
    """Parts to run, and arguments for the one that was named.

    Ends the program if the command line is wrong.
    """
    parser = arguments.parser("tools/test", __doc__)
    parser.add_argument(
        "--fast",
        action="store_true",
        help="style and unit: a minute, without any server",
    )
    parser.add_argument("part", nargs="?", choices=PARTS, metavar="part")
    parser.add_argument("argument", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if given.part is None:
        return FAST if given.fast else PARTS, []
    if given.fast:
        parser.error("--fast says which parts: name none")
    return (given.part,), given.argument


if __name__ == "__main__":
    # tools/test asks before there is a virtual environment.
    parse()
