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
"""Which InfluxDB it is (pure)."""

import re
from email.message import Message
from typing import NamedTuple


class Server(NamedTuple):
    """What a server says of itself in the headers of each answer.

    :ivar version: such as 2.9.1, without a leading v; may be empty.
    :ivar build: such as OSS, ENT or Core; may be empty.
    """

    version: str
    build: str

    @classmethod
    def of(cls, headers: Message) -> "Server":
        """The server that sent these headers."""
        version = headers.get("X-Influxdb-Version") or ""
        build = headers.get("X-Influxdb-Build") or ""
        return cls(version.removeprefix("v"), build)

    def __str__(self) -> str:
        return f"InfluxDB {self.version}" + (
            f" ({self.build})" if self.build else ""
        )

    def is_cluster(self) -> bool:
        """Whether it is a node of a cluster: 1.8.11-c1.2.0, for one."""
        return self.build == "ENT" or "-c" in self.version

    def release(self) -> tuple[int, int] | None:
        """Its first two numbers, None if it does not say them."""
        found = re.match(r"(\d+)\.(\d+)", self.version)
        return (int(found[1]), int(found[2])) if found else None
