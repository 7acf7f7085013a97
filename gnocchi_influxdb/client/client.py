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
"""HTTP to InfluxDB: all of it goes through here."""

import copy
import gzip
import json
import urllib.parse
from collections.abc import Mapping
from typing import Any

import urllib3

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.client import (
    api,
    connections,
    errors,
    exchange,
    organization,
    retries,
)
from gnocchi_influxdb.client import server as servers
from gnocchi_influxdb.wire import flux_response, influxql_points

_PING_TIMEOUT = 1.0  # seconds

_FORM = "application/x-www-form-urlencoded"
_DIALECT = {"header": True, "delimiter": ",", "annotations": []}


class Client:
    """One InfluxDB server, and the organization or database of it.

    Safe to share between threads, and to be carried over a fork. Nothing is
    connected before the first request.

    :param conf: the group of options that holds `influxdb_url` and the rest.
    :param max_retries: instead of the option influxdb_max_retries.
    """

    def __init__(self, conf: Any, max_retries: int | None = None) -> None:
        self._conf = conf
        if max_retries is None:
            max_retries = conf.influxdb_max_retries
        url = urllib.parse.urlsplit(conf.influxdb_url)
        self._path = url.path.rstrip("/")
        #: The server, fit to be shown: credentials in a URL are left out.
        self.url = urllib.parse.urlunsplit(
            (url.scheme, url.netloc.rpartition("@")[2], url.path, "", "")
        ).rstrip("/")
        self.org: str = conf.influxdb_org
        self._api = api.of(conf)
        self._timeout: float = conf.influxdb_timeout
        self._connections = connections.Connections(
            conf, self.url, self._api.capabilities.tokens
        )
        self._server: servers.Server | None = None
        self._organization = organization.Organization(
            self.url, self.org, self.get_json
        )
        self._retrying = retries.Retrying(max_retries, conf.influxdb_timeout)

    def __str__(self) -> str:
        return f"{self.url} ({self._api})"

    @property
    def capabilities(self) -> api.Capabilities:
        """What the server can do, for all that its answers have said yet."""
        server = self._server
        if self._api.capabilities.buckets or server is None:
            return self._api.capabilities
        return api.CLUSTER if server.is_cluster() else api.INFLUXDB_1

    @property
    def replication(self) -> int:
        """Of how many copies retention policies are made."""
        return getattr(self._api, "replication", 1)

    def once(self, timeout: float | None = None) -> "Client":
        """The same over the same connections, but it repeats no request.

        :param timeout: seconds, if that is less than the option's.
        """
        other = copy.copy(self)
        other._timeout = min(self._timeout, timeout or self._timeout)
        other._retrying = retries.Retrying(0, other._timeout)
        return other

    def connect(self) -> None:
        """Check the options and make the connection pool, without using it.

        :raises ConfigurationError: naming the option.
        """
        self._connections.pool()

    # Data ------------------------------------------------------------------

    def write(self, bucket: str, lines: bytes) -> None:
        """Write line protocol with ns timestamps.

        Once this returns the points are on disk and visible.

        :raises PartialWriteError: some were refused, others written.
        :raises RefusedError: none was written.
        :raises BucketNotFoundError: the bucket has to be made first.
        """
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if self._conf.influxdb_gzip and lines:
            lines = gzip.compress(lines, compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        reply = self._request(
            "POST", self._api.write_path(bucket), lines, headers
        )
        if reply.status != 204:
            # A proxy's page, say: nothing was written.
            raise exceptions.ResponseError(
                f"{self.url} answered {reply.status} to a write; InfluxDB"
                f" answers 204. Is [storage] influxdb_url right?"
            )

    def query(
        self, flux: str, stream: flux_response.Stream | None = None
    ) -> bytes:
        """Answer of a Flux query: CSV with a header, without annotations.

        :param stream: what the answer is handed on to, so that it is never
            there as a whole; nothing is returned then.
        """
        reply = self._request(
            "POST",
            self._api.flux_path,
            json.dumps({"query": flux, "dialect": _DIALECT}).encode(),
            {"Content-Type": "application/json", "Accept": "application/csv"},
            stream,
        )
        data: bytes = reply.data
        return data

    def probe(self, bucket: str) -> None:
        """Ask whether the bucket is there and may be written to.

        A query can't tell: it does not find what the token may not read.
        """
        self.write(bucket, b"")

    def influxql(
        self,
        bucket: str,
        statement: str,
        accept: str = influxql_points.CONTENT_TYPE,
    ) -> bytes:
        """Answer of InfluxQL statements, times in ns.

        The answer may hold an error, but for that of a missing bucket.

        :param accept: MessagePack, or "application/json" for a statement
            whose answer InfluxDB can't put into that.
        :raises BucketNotFoundError: there is no bucket of that name that the
            token may read.
        :raises ConfigurationError: InfluxQL would ask another organization.
        """
        if self._api.capabilities.buckets:
            self._organization.require_influxql()
        headers = {"Content-Type": _FORM, "Accept": accept}
        body = api.encode(self._api.influxql(bucket, statement))

        def ask() -> bytes:
            reply = self._request_once("POST", "/query", body, headers)
            errors.check_influxql(self.url, bucket, reply.data)
            return bytes(reply.data)

        return self._retrying(ask)

    def delete(self, bucket: str, predicate: str) -> None:
        """Delete all points that a predicate of /api/v2/delete selects."""
        query = urllib.parse.urlencode({"org": self.org, "bucket": bucket})
        self._request(
            "POST",
            f"/api/v2/delete?{query}",
            json.dumps(
                {
                    "start": "1677-09-21T00:12:43.145224194Z",
                    "stop": "2262-04-11T23:47:16.854775806Z",
                    "predicate": predicate,
                }
            ).encode(),
            {"Content-Type": "application/json"},
        )

    # Management ------------------------------------------------------------

    def ping(self) -> None:
        """Ask whether the server is there, and do not wait for long.

        :raises InfluxDBError: it is not, for whatever reason.
        """
        self._request_once("GET", "/ping", None, None, _PING_TIMEOUT)

    def server(self) -> servers.Server:
        """What the server says that it is."""
        return servers.Server.of(self._request("GET", "/ping").headers)

    def has_flux(self) -> bool:
        """Whether a 1.x lets itself be asked in Flux, and the token do so."""
        try:
            self.query("")
        except exceptions.ForbiddenError:
            return False
        except exceptions.QueryError:
            pass  # It has looked at the script.
        return True

    def org_id(self) -> str:
        """Id of the organization.

        :raises ConfigurationError: there is no such organization.
        :raises AccessError: the token may not see it.
        """
        return self._organization.id()

    def get_json(self, what: str, **query: str) -> dict[str, Any]:
        """Answer of a GET of /api/v2/`what`."""
        reply = self._request(
            "GET", f"/api/v2/{what}?{urllib.parse.urlencode(query)}"
        )
        return errors.json_object(self.url, reply)

    def get(self, path: str) -> bytes:
        """Answer of a GET outside of the API: /health, /metrics."""
        return bytes(self._request("GET", path).data)

    def send_json(self, method: str, what: str, body: Any) -> None:
        """Send a JSON object to /api/v2/`what`."""
        self._request(
            method,
            f"/api/v2/{what}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )

    # HTTP ------------------------------------------------------------------

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        stream: flux_response.Stream | None = None,
    ) -> Any:
        """One request, repeated while that may help.

        :return: the answer, read to its end.
        :raises InfluxDBError: for every status that is not success.
        """
        return self._retrying(
            self._request_once, method, path, body, headers, None, stream
        )

    def _request_once(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        timeout: float | None = None,
        stream: flux_response.Stream | None = None,
    ) -> Any:
        if stream is not None:
            stream.reset()
        try:
            reply = self._connections.request(
                method,
                self._path + path,
                body,
                headers or {},
                timeout or self._timeout,
                None if stream is None else stream.feed,
            )
        except urllib3.exceptions.HTTPError as e:
            raise errors.transport_error(self.url, e) from None
        if self._server is None:
            self._server = servers.Server.of(reply.headers)
        if exchange.is_success(reply.status):
            return reply
        raise errors.error(self.url, self.org, path, reply)
