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

"""An InfluxDB 1.x of one's own."""

from __future__ import annotations

import json
import os
import secrets

from servers import api
from servers.process import Say
from servers.server import InfluxDBProcess

USER = "admin"


class InfluxDB1Process(InfluxDBProcess):
    """An InfluxDB 1.x as a child process, with users and Flux.

    :ivar token: name and password of an administrator.
    :ivar settings: its configuration, by section; changes count from the
        next start on.
    """

    def __init__(
        self, binary: str | os.PathLike[str], how: str, say: Say = print
    ) -> None:
        super().__init__(binary, how, say)
        self.token = f"{USER}:{self.token}"
        self.settings: dict[str, dict[str, object]] = {
            "": {"reporting-disabled": True, "bind-address": "127.0.0.1:0"},
            "meta": {"dir": str(self.directory / "meta")},
            "data": {
                "dir": str(self.directory / "data"),
                "wal-dir": str(self.directory / "wal"),
                # The default index has limits, which cost Gnocchi metrics.
                "index-version": "tsi1",
                "max-values-per-tag": 0,
                "max-series-per-database": 0,
                "query-log-enabled": False,
            },
            "monitor": {"store-enabled": False},
            "http": {
                "auth-enabled": True,
                "flux-enabled": True,
                "log-enabled": False,
            },
        }

    def _arguments(self) -> list[str]:
        self.settings["http"]["bind-address"] = f"127.0.0.1:{self.port}"
        path = self.directory / "influxdb.conf"
        # A value of TOML is one of JSON.
        path.write_text(
            "\n".join(
                "\n".join(
                    [
                        f"[{section}]" if section else "",
                        *(f"{k} = {json.dumps(v)}" for k, v in values.items()),
                    ]
                )
                for section, values in self.settings.items()
            )
        )
        return ["run", "-config", str(path)]

    def _set_up(self) -> None:
        _, password = self.token.split(":")
        api.set_up_user(self.url, USER, password)

    def add_user(self, name: str, *grants: str) -> str:
        """Make a user.

        :param grants: such as 'READ ON "gnocchi"'
        :return: its token
        """
        password = secrets.token_urlsafe(16)
        for statement in (
            f"CREATE USER {name} WITH PASSWORD '{password}'",
            *(f"GRANT {grant} TO {name}" for grant in grants),
        ):
            api.influxql(self.url, self.token, statement)
        return f"{name}:{password}"
