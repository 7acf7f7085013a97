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
"""HTTP to InfluxDB: the only module that does any.

The connection pool, with its TLS and authentication, is influxdb-client's;
requests go straight to it, since what that library puts on top (objects a
point, a table and a row) costs more than the request itself.
"""

import gzip
import json
import os
import threading
import urllib.parse
from collections.abc import Mapping
from typing import Any

import influxdb_client
import urllib3

from gnocchi_influxdb import (
    exceptions,
    influxql_response,
    organization,
    replies,
    retries,
    tls,
)

#: Connections kept open. Far more than a process has threads, since one
#: that has no room in the pool is closed after each request.
POOL_SIZE = 256

_PING_TIMEOUT = urllib3.Timeout(total=1.0)

_DIALECT = {"header": True, "delimiter": ",", "annotations": []}


class Client:
    """One InfluxDB server and organization.

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
        self._org = urllib.parse.quote(self.org, safe="")
        self._timeout = urllib3.Timeout(total=conf.influxdb_timeout)
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._organization = organization.Organization(
            self.url, self.org, self.get_json
        )
        self._pool: Any = None
        self._headers: dict[str, str] = {}
        self._retrying = retries.retrying(max_retries, conf.influxdb_timeout)

    def __str__(self) -> str:
        return f"{self.url} (organization {self.org})"

    def connect(self) -> None:
        """Check the options and make the connection pool, without using it.

        :raises ConfigurationError: naming the option.
        """
        self._connections()

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
            "POST",
            f"/api/v2/write?org={self._org}&precision=ns"
            f"&bucket={urllib.parse.quote(bucket, safe='')}",
            lines,
            headers,
        )
        if reply.status != 204:
            # A proxy's page, say: nothing was written.
            raise exceptions.ResponseError(
                f"{self.url} answered {reply.status} to a write; InfluxDB"
                f" answers 204. Is [storage] influxdb_url right?"
            )

    def query(self, flux: str) -> bytes:
        """Answer of a Flux query: CSV with a header, without annotations."""
        reply = self._request(
            "POST",
            f"/api/v2/query?org={self._org}",
            json.dumps({"query": flux, "dialect": _DIALECT}).encode(),
            {"Content-Type": "application/json", "Accept": "application/csv"},
        )
        data: bytes = reply.data
        return data

    def probe(self, bucket: str) -> None:
        """Ask whether the bucket is there and may be written to.

        A query can't tell: it does not find what the token may not read.
        """
        self.write(bucket, b"")

    def influxql(self, bucket: str, statement: str) -> bytes:
        """Answer of one InfluxQL statement: MessagePack, times in ns.

        The answer may hold an error, but for that of a missing bucket.

        :raises BucketNotFoundError: there is no bucket of that name that the
            token may read.
        :raises ConfigurationError: InfluxQL would ask another organization.
        """
        self._organization.require_influxql()
        reply = self._request(
            "POST",
            "/query",
            urllib.parse.urlencode(
                {
                    "db": bucket,
                    "q": statement,
                    "epoch": "ns",
                    "org": self.org,
                }
            ).encode(),
            {
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept": influxql_response.CONTENT_TYPE,
            },
        )
        data: bytes = reply.data
        replies.check_database(self.url, bucket, data)
        return data

    def delete(self, bucket: str, predicate: str) -> None:
        """Delete all points that a predicate of /api/v2/delete selects."""
        self._request(
            "POST",
            f"/api/v2/delete?org={self._org}"
            f"&bucket={urllib.parse.quote(bucket, safe='')}",
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

    def version(self) -> str:
        """Version of the server, as "2.9.1"."""
        headers = self._request("GET", "/ping").headers
        version: str = headers.get("X-Influxdb-Version") or ""
        return version.removeprefix("v")

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
        return replies.json_object(self.url, reply)

    def get(self, path: str) -> bytes:
        """Answer of a GET outside of the API: /health, /metrics."""
        data: bytes = self._request("GET", path).data
        return data

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
    ) -> Any:
        """One request, repeated while that may help.

        :return: the answer (urllib3's), read to its end.
        :raises InfluxDBError: for every status that is not success.
        """
        return self._retrying(self._request_once, method, path, body, headers)

    def _request_once(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        timeout: urllib3.Timeout | None = None,
    ) -> Any:
        pool = self._connections()
        try:
            reply = pool.urlopen(
                method,
                self._path + path,
                body=body,
                headers={**self._headers, **(headers or {})},
                timeout=timeout or self._timeout,
                retries=False,
                redirect=False,
                assert_same_host=False,
            )
        except urllib3.exceptions.HTTPError as e:
            raise replies.transport_error(self.url, e) from None
        if 200 <= reply.status < 300:
            return reply
        raise replies.error(self.url, self.org, path, reply)

    def _connections(self) -> Any:
        # A socket must not be shared with the process this one was forked
        # from.
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._make_pool()
                    self._pid = os.getpid()
        return self._pool

    def _make_pool(self) -> None:
        conf = self._conf
        tls.check_options(conf)
        api = influxdb_client.InfluxDBClient(
            url=self.url,
            token=conf.influxdb_token or "",
            verify_ssl=not conf.influxdb_insecure,
            ssl_ca_cert=conf.influxdb_cafile,
            cert_file=conf.influxdb_certfile,
            cert_key_file=conf.influxdb_keyfile,
            connection_pool_maxsize=POOL_SIZE,
            retries=False,
        ).api_client
        self._headers = dict(api.default_headers)
        if conf.influxdb_gzip:
            self._headers["Accept-Encoding"] = "gzip"
        self._pool = api.rest_client.pool_manager.connection_from_url(self.url)
