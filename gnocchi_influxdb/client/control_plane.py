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
"""Buckets, organizations and health of InfluxDB, by influxdb-client.

That library builds the requests and reads the answers; this package's own
`Transport` carries them, with its TLS, timeouts, retries and errors.
"""

import functools
import shlex
import types
import urllib.parse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.client import errors, transport

if TYPE_CHECKING:
    import influxdb_client


def to_make_token(org: str) -> str:
    """What to do about a token that lacks a right, on InfluxDB 2.x."""
    return (
        "rights of a token can't be changed; make another one with: influx"
        f" auth create --org {shlex.quote(org)} --read-buckets"
        " --write-buckets --read-orgs; then set [storage] influxdb_token and"
        " restart Gnocchi"
    )


class ControlPlane:
    """What a token may see and change of an organization.

    Threads may share it, and it may be carried over a fork.

    :param url: of the server, fit to be shown.
    :param org: name of the organization.
    :param request: sends a request and raises InfluxDBError; takes method,
        path, body and headers.
    """

    def __init__(
        self, url: str, org: str, request: Callable[..., transport.Response]
    ) -> None:
        self._url = url
        self._org = org
        self._request = request
        self._no_influxql: str | None = None

    def health(self) -> "influxdb_client.HealthCheck":
        """`status` ("pass" is good) and `message` of the server.

        :raises InfluxDBError: it has none.
        """
        return self._ask(
            lambda it: self._models.HealthService(it.api_client).get_health()
        )

    def buckets(self, **query: Any) -> "list[influxdb_client.Bucket]":
        """Buckets of the organization that the token may see.

        :param query: `name`, or `limit`.
        :raises AccessError: the server does not know the token.
        """
        # A token may see buckets of other organizations, of the same name.
        try:
            found = self._ask(
                lambda it: it.buckets_api().find_buckets(
                    org=self._org, **query
                )
            )
        except exceptions.BucketNotFoundError:
            return []
        return found.buckets or []

    def make_bucket(
        self, name: str, description: str, retention: int, shard_duration: int
    ) -> None:
        """Make a bucket; durations in seconds, a retention of 0: infinite.

        :raises AccessError: the token may not.
        :raises RefusedError: there is one of that name (status 422), or there
            can't be.
        """
        org_id = self.org_id()
        self._ask(
            lambda it: it.buckets_api().create_bucket(
                self._models.PostBucketRequest(
                    org_id=org_id,
                    name=name,
                    description=description,
                    retention_rules=self._rules(retention, shard_duration),
                )
            )
        )

    def change_bucket(
        self, id_: str, name: str, retention: int, shard_duration: int
    ) -> None:
        """Change retention and duration of shards of a bucket, in seconds.

        :raises AccessError: the token may not.
        :raises RefusedError: it can't be.
        """
        # A change keeps what it does not name.
        self._ask(
            lambda it: it.buckets_api().update_bucket(
                self._models.Bucket(
                    id=id_,
                    name=name,
                    retention_rules=self._rules(retention, shard_duration),
                )
            )
        )

    def org_id(self) -> str:
        """Id of the organization.

        :raises ConfigurationError: there is no such organization.
        :raises AccessError: the token may not see it.
        """
        for org in self._organizations(org=self._org):
            if org.name == self._org:
                return str(org.id)
        # A token that may see a bucket learns from it whose it is. (The
        # server fills its pages before it leaves out what the token may not
        # see, so a limit of 1 finds nothing. _monitoring and _tasks, which
        # each organization has, are for those who may read it.)
        for bucket in self.buckets(limit=100):
            return str(bucket.org_id)
        raise exceptions.AccessError(
            "The token in [storage] influxdb_token may not read the"
            f" organization {self._org!r} of InfluxDB at {self._url}, and"
            " sees no bucket of it from which to learn its id. A right to"
            " read `orgs` does, or any bucket that the token may read: influx"
            f" bucket create --org {shlex.quote(self._org)} --name gnocchi"
        )

    def require_influxql(self) -> None:
        """Make sure that InfluxQL asks this organization.

        /query takes no notice of its parameter org: it asks the organization
        that the token was made in. A token that sees no other was made in
        this one.

        :raises ConfigurationError: it may be another one.
        """
        if self._no_influxql is None:
            self._no_influxql = self._why_no_influxql()
        if self._no_influxql:
            raise exceptions.ConfigurationError(
                "InfluxQL asks the organization that a token was made in."
                f" {self._no_influxql}"
            )

    def _why_no_influxql(self) -> str:
        """Why it may ask another organization; empty if it does not."""
        seen = {org.name for org in self._organizations()}
        try:
            self.org_id()
        except exceptions.AccessError as e:
            return str(e)
        if seen <= {self._org}:
            return ""
        return (
            "The one in [storage] influxdb_token sees others than"
            f" {self._org!r}, too. A token of that organization alone lets it"
            " be used"
        )

    def _organizations(
        self, **query: str
    ) -> "list[influxdb_client.Organization]":
        return (
            self._ask(
                lambda it: it.organizations_api().find_organizations(**query)
            )
            or []
        )

    def _rules(
        self, retention: int, shard_duration: int
    ) -> "list[influxdb_client.BucketRetentionRules]":
        return [
            self._models.BucketRetentionRules(
                every_seconds=retention,
                shard_group_duration_seconds=shard_duration,
            )
        ]

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        try:
            return question(self._client)
        except (ValueError, TypeError, AttributeError) as e:
            # The models are strict about what has to be there.
            raise exceptions.ResponseError(
                f"{self._url} answered with something else than InfluxDB's"
                f" JSON: {e}. Is [storage] influxdb_url right?"
            ) from None

    @functools.cached_property
    def _models(self) -> Any:
        # Takes 0.2 s, and a POST of measures does not need it.
        import influxdb_client

        return influxdb_client

    @functools.cached_property
    def _client(self) -> Any:
        # Without the token: the transport has it.
        client = self._models.InfluxDBClient(url=self._url)
        # It asks urllib3's pool by this method alone.
        client.api_client.rest_client.pool_manager = types.SimpleNamespace(
            request=self._carry
        )
        return client

    def _carry(
        self,
        method: str,
        url: str,
        body: str | None = None,
        fields: list[tuple[str, str]] | None = None,
        **_: Any,
    ) -> types.SimpleNamespace:
        path = url.removeprefix(self._url)
        if fields:
            path = f"{path}?{urllib.parse.urlencode(fields)}"
        response = self._request(
            method,
            path,
            body and body.encode(),
            {"Content-Type": schema.JSON} if body else {},
        )
        errors.json_object(self._url, response)
        return types.SimpleNamespace(
            status=response.status, reason="", data=response.data
        )
