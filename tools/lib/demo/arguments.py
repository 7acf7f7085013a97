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
"""Gnocchi on InfluxDB, with real measures of this host.

Starts a private InfluxDB, PostgreSQL and Gnocchi, sends CPU, memory and
network measures each second through Gnocchi's HTTP API, reads aggregates
back, checks and shows them, and removes everything again.
"""

import argparse

from servers import arguments


def parse() -> argparse.Namespace:
    """The arguments of the command line; a bad one ends the program."""
    parser = arguments.parser("tools/demo", __doc__)
    parser.add_argument(
        "--seconds",
        type=arguments.number(int, 2),
        default=20,
        metavar="N",
        help="how long to measure (default: %(default)s)",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="leave everything running, and measured, until Ctrl-C",
    )
    arguments.add_json(parser)
    return parser.parse_args()


if __name__ == "__main__":
    # tools/demo asks before there is a virtual environment.
    parse()
