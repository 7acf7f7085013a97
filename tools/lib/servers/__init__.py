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

"""Finds or starts the servers that the tests and the demo run on.

Not part of the installed package. `python -m servers run -- command` runs a
command with an InfluxDB and a PostgreSQL, `python -m servers build 2` builds
an InfluxDB where there is none.
"""

from servers.ahead import ahead
from servers.api import delete_buckets
from servers.influxdb import (
    InfluxDB,
    find_influxdb_server,
    influxdb,
    influxdb_server,
)
from servers.postgresql import postgresql
from servers.process import ServerError, free_port
from servers.server import InfluxDBServer

__all__ = [
    "InfluxDB",
    "InfluxDBServer",
    "ServerError",
    "ahead",
    "delete_buckets",
    "find_influxdb_server",
    "free_port",
    "influxdb",
    "influxdb_server",
    "postgresql",
]
