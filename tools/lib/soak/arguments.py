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
"""Keeps a private Gnocchi on InfluxDB under load, and checks every measure.

Clients post, read, create and delete through gnocchi-api, while InfluxDB is
killed and restarted and gnocchi-metricd, too. In the end each measure that the
API has accepted must be readable, and each deleted metric must be gone. The
memory of API and metricd is watched. Exits with 1 if anything is wrong.
"""

import argparse

from servers import arguments


def parse() -> argparse.Namespace:
    """The arguments of the command line; a bad one ends the program."""
    parser = arguments.parser("tools/soak", __doc__)
    parser.add_argument(
        "--minutes",
        type=arguments.number(float, 0.2, 24 * 60),
        default=15.0,
        metavar="N",
        help="how long the load lasts (default: %(default)s)",
    )
    arguments.add_json(parser)
    return parser.parse_args()


if __name__ == "__main__":
    # tools/soak asks before there is a virtual environment.
    parse()
