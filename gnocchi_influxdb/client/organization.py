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
"""The organization that owns the buckets."""

from collections.abc import Callable
from typing import Any

from gnocchi_influxdb import exceptions


class Organization:
    """What a token may see of an organization.

    :param url: of the server, fit to be shown.
    :param get_json: answers a GET of the API.
    """

    def __init__(
        self, url: str, name: str, get_json: Callable[..., dict[str, Any]]
    ) -> None:
        self._url = url
        self._name = name
        self._get_json = get_json
        self._is_only_one: bool | None = None

    def id(self) -> str:
        """Its id.

        :raises ConfigurationError: there is no such organization.
        :raises AccessError: the token may not see it.
        """
        for org in self._list("orgs", org=self._name):
            if org.get("name") == self._name:
                return str(org["id"])
        # A token that may see a bucket learns from it whose it is. (The
        # server fills its pages before it leaves out what the token may not
        # see, so a limit of 1 finds nothing. _monitoring and _tasks, which
        # each organization has, are for those who may read it.)
        for bucket in self._list("buckets", org=self._name, limit="100"):
            return str(bucket["orgID"])
        raise exceptions.AccessError(
            "The token in [storage] influxdb_token may not read the"
            f" organization {self._name!r} of InfluxDB at {self._url}, and"
            " sees no bucket of it from which to learn its id. A right to"
            " read `orgs` does, or any bucket that the token may read: influx"
            f" bucket create --org {self._name} --name gnocchi"
        )

    def require_influxql(self) -> None:
        """Make sure that InfluxQL asks this organization.

        /query takes no notice of its parameter org: it asks the organization
        that the token was made in. A token that sees no other was made in
        this one.

        :raises ConfigurationError: it may be another one.
        """
        if self._is_only_one is None:
            seen = {org.get("name") for org in self._list("orgs")}
            try:
                self.id()
            except exceptions.AccessError:
                self._is_only_one = False
            else:
                self._is_only_one = seen <= {self._name}
        if not self._is_only_one:
            raise exceptions.ConfigurationError(
                "InfluxQL asks the organization that a token was made in, and"
                " the one in [storage] influxdb_token sees others than"
                f" {self._name!r}, too. A token of that organization alone"
                " lets it be used"
            )

    def _list(self, what: str, **query: str) -> list[dict[str, Any]]:
        return self._get_json(what, **query).get(what) or []
