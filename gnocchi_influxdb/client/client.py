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
"""Everything that this package asks InfluxDB over HTTP."""

import contextlib
import copy
import gzip
import json
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.client import (
    api,
    clock,
    control_plane,
    errors,
    retries,
    server,
    transport,
)

_PING_TIMEOUT = 1.0  # seconds
#: Seconds that a write may take to be answered, whatever the option says:
#: measures that may be under way for longer would each count as late.
WRITE_TIMEOUT = 120.0

_DIALECT = {"header": True, "delimiter": ",", "annotations": []}


class Client:
    """One InfluxDB server, and its organization or database.

    Threads may share it, and it may be carried over a fork. Nothing is
    connected before the first request.

    :param conf: the group of options that holds `influxdb_url` and the rest.
    :param max_retries: instead of the option influxdb_max_retries.
    :ivar url: of the server, fit to be shown: without credentials.
    :ivar clock: InfluxDB's time.
    :ivar control: buckets and organizations of InfluxDB 2.x.
    """

    def __init__(self, conf: Any, max_retries: int | None = None) -> None:
        self._conf = conf
        if max_retries is None:
            max_retries = conf.influxdb_max_retries
        url = urllib.parse.urlsplit(conf.influxdb_url)
        self.url = urllib.parse.urlunsplit(
            (url.scheme, url.netloc.rpartition("@")[2], url.path, "", "")
        ).rstrip("/")
        self.org: str = conf.influxdb_org
        self._api = api.of(conf)
        self._timeout: float = conf.influxdb_timeout
        self.clock = clock.Clock(self.ping)
        self._transport = transport.Transport(
            conf,
            self.url,
            self._api.capabilities.tokens,
            self.clock.observe,
        )
        self._server: server.Server | None = None
        self.control = control_plane.ControlPlane(
            self.url, self.org, self._request
        )
        self._retrying = retries.retrying(max_retries, self._timeout)
        self._retrying_writes = retries.retrying(
            max_retries, min(self._timeout, WRITE_TIMEOUT)
        )

    def __str__(self) -> str:
        return f"{self.url} ({self._api})"

    @property
    def capabilities(self) -> api.Capabilities:
        """What the server can do, as far as its answers have told."""
        server = self._server
        if self._api.capabilities.buckets or server is None:
            return self._api.capabilities
        return api.CLUSTER if server.is_cluster() else api.INFLUXDB_1

    @property
    def replication(self) -> int:
        """How many copies a new retention policy asks for."""
        return getattr(self._api, "replication", 1)

    def once(self, timeout: float | None = None) -> "Client":
        """A client over the same connections that repeats no request.

        :param timeout: seconds, if that is less than the option's.
        """
        other = copy.copy(self)
        other._timeout = min(self._timeout, timeout or self._timeout)
        other._retrying = retries.retrying(0, other._timeout)
        other._retrying_writes = other._retrying
        return other

    def connect(self) -> None:
        """Check the options of connections, without opening one.

        :raises ConfigurationError: naming the option.
        """
        self._transport.prepare()

    # Data ------------------------------------------------------------------

    def write(self, bucket: str, lines: bytes) -> None:
        """Write line protocol with ns timestamps.

        Once this returns the points are on disk and visible. What is too
        large for the server, or for a proxy in front of it (413), is sent in
        halves.

        :raises PartialWriteError: some were refused, others written.
        :raises RefusedError: none was written, or some are not.
        :raises BucketNotFoundError: the bucket has to be made first.
        """
        body, headers = lines, {"Content-Type": "text/plain; charset=utf-8"}
        if self._conf.influxdb_gzip and lines:
            body = gzip.compress(lines, compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        try:
            response = self._request(
                "POST",
                self._api.write_path(bucket),
                body,
                headers,
                is_write=True,
            )
        except exceptions.RefusedError as e:
            halves = api.halves(lines)
            if e.status != 413 or not all(halves):
                raise
            self._write_halves(bucket, halves)
            return
        if response.status != 204:
            # A proxy's page, say: nothing was written.
            raise exceptions.ResponseError(
                f"{self.url} answered {response.status} to a write; InfluxDB"
                f" answers 204. Is [storage] influxdb_url right?"
            )

    def _write_halves(self, bucket: str, halves: Iterable[bytes]) -> None:
        refused = []
        for half in halves:
            try:
                self.write(bucket, half)
            except exceptions.PartialWriteError as e:  # noqa: PERF203
                refused.append(e)
        # As if it had been one request.
        if refused:
            refused[0].dropped = sum(e.dropped for e in refused)
            refused[0].type_conflict = any(e.type_conflict for e in refused)
            raise refused[0]

    def query(self, flux: str, sink: transport.Sink | None = None) -> bytes:
        """Answer of a Flux query: CSV with a header, without annotations.

        :param sink: gets the answer piece by piece; then the return value is
            empty.
        """
        return self._request(
            "POST",
            self._api.flux_path,
            json.dumps({"query": flux, "dialect": _DIALECT}).encode(),
            {"Content-Type": schema.JSON, "Accept": "application/csv"},
            sink,
        ).data

    def probe(self, bucket: str) -> None:
        """Write nothing, to find out whether the bucket takes a write.

        :raises BucketNotFoundError: it is not there.
        :raises ForbiddenError: the token may not write to it.
        """
        self.write(bucket, b"")

    def influxql(
        self, bucket: str, statement: str, accept: str = schema.MSGPACK
    ) -> bytes:
        """Answer of InfluxQL statements, times in ns.

        The answer may hold an error, but for that of a missing bucket.

        :param accept: content type of the answer, `schema.MSGPACK` or
            `schema.JSON`.
        :raises BucketNotFoundError: there is no bucket of that name that the
            token may read.
        :raises ConfigurationError: InfluxQL would ask another organization.
        """
        if self._api.capabilities.buckets:
            self.control.require_influxql()
        return self._request(
            "POST",
            "/query",
            api.encode(self._api.influxql(bucket, statement)),
            {
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept": accept,
            },
            asked=bucket,
        ).data

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
            {"Content-Type": schema.JSON},
        )

    # The server ------------------------------------------------------------

    def ping(self) -> None:
        """Ask whether the server is there, and do not wait for long.

        :raises InfluxDBError: it is not, for whatever reason.
        """
        self._server = self.once(_PING_TIMEOUT).server()

    def identify(self) -> None:
        """Let `capabilities` tell a cluster, if the server can be reached.

        No I/O but for the first time, on InfluxDB 1.x.
        """
        if not self._api.capabilities.buckets and self._server is None:
            with contextlib.suppress(exceptions.InfluxDBError):
                self.ping()

    def server(self) -> server.Server:
        """Name and version of the server, as it tells them now."""
        return server.Server.of(self._request("GET", "/ping").headers)

    def has_flux(self) -> bool:
        """Whether a 1.x takes queries in Flux from the token."""
        try:
            self.query("")
        except exceptions.ForbiddenError:
            return False
        except exceptions.QueryError:
            pass  # It has looked at the script.
        return True

    def get(self, path: str) -> bytes:
        """Answer of a GET outside of the API: /metrics, /debug."""
        return self._request("GET", path).data

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        sink: transport.Sink | None = None,
        asked: str | None = None,
        is_write: bool = False,
    ) -> transport.Response:
        """Send one request, repeated while that may help.

        :param asked: the bucket that InfluxQL asks, whose errors stand
            inside of an answer that is a success.
        :raises InfluxDBError: for every status that is not success.
        """
        timeout, retrying = self._timeout, self._retrying
        if is_write:
            timeout = min(timeout, WRITE_TIMEOUT)
            retrying = self._retrying_writes
        request = transport.Request(
            method, path, timeout, body, headers or {}, sink
        )
        for attempt in retrying:
            with attempt:
                response = self._transport.send(request)
                if self._server is None:
                    self._server = server.Server.of(response.headers)
                if not response.is_success:
                    raise errors.error(self.url, self.org, path, response)
                if asked is not None:
                    errors.check_influxql(self.url, asked, response.data)
        return response
