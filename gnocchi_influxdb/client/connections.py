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
"""Connections to InfluxDB, and requests over them.

The pool, with its TLS and authentication, is influxdb-client's; requests go
straight to it, since what that library puts on top (objects a point, a table
and a row) costs more than the request itself.
"""

import base64
import os
import threading
import urllib.parse
from collections.abc import Mapping
from typing import Any

import influxdb_client
import urllib3

from gnocchi_influxdb.client import exchange, tls

#: Connections kept open. Far more than a process has threads, since one
#: that has no room in the pool is closed after each request.
POOL_SIZE = 256


class Connections:
    """The connection pool of this process, made when it is first asked for.

    :param conf: the group of options.
    :param url: of the server.
    :param tokens: see `api.Capabilities`.
    """

    def __init__(self, conf: Any, url: str, tokens: bool) -> None:
        self._conf = conf
        self._tokens = tokens
        self._url = url
        self._host = urllib.parse.urlsplit(url).netloc
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._pool: Any = None
        # To send with each request; there once the pool is.
        self._headers: dict[str, str] = {}

    def pool(self) -> Any:
        """The pool (urllib3's), without a connection as yet.

        :raises ConfigurationError: naming the option that is wrong.
        """
        # A socket must not be shared with the process this one was forked
        # from.
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._make()
                    self._pid = os.getpid()
        return self._pool

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout: float,
        sink: exchange.Sink | None = None,
    ) -> Any:
        """Send a request once and read the answer, whatever its status.

        :param timeout: seconds.
        :param sink: what the body is handed on to if the status is success.
        :return: with the attributes of `exchange.Reply`.
        :raises ConfigurationError: naming the option that is wrong.
        :raises urllib3.exceptions.HTTPError: there was no answer.
        """
        pool = self.pool()
        # Errors take the variables of this frame with them.
        headers = exchange.Headers({**self._headers, **headers})
        reply = exchange.exchange(
            pool, self._host, method, path, body, headers, timeout, sink
        )
        if reply is not None:
            return reply
        reply = pool.urlopen(
            method,
            path,
            body=body,
            headers=headers,
            timeout=urllib3.Timeout(total=timeout),
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=sink is None,
        )
        if sink is not None:
            _hand_on(reply, sink)
        return reply

    def _make(self) -> None:
        conf = self._conf
        tls.check_options(conf)
        api = influxdb_client.InfluxDBClient(
            url=self._url,
            token=conf.influxdb_token or "",
            verify_ssl=not conf.influxdb_insecure,
            ssl_ca_cert=conf.influxdb_cafile,
            cert_file=conf.influxdb_certfile,
            cert_key_file=conf.influxdb_keyfile,
            connection_pool_maxsize=POOL_SIZE,
            retries=False,
        ).api_client
        self._headers = dict(api.default_headers)
        if not self._tokens:
            # As InfluxDB 1.x takes it, whatever is in a password.
            token = base64.b64encode((conf.influxdb_token or "").encode())
            self._headers["Authorization"] = f"Basic {token.decode()}"
        if conf.influxdb_gzip:
            self._headers["Accept-Encoding"] = "gzip"
        self._pool = api.rest_client.pool_manager.connection_from_url(
            self._url
        )


def _hand_on(reply: Any, sink: exchange.Sink) -> None:
    """Read urllib3's answer to its end; what raises in between closes it."""
    if exchange.is_success(reply.status):
        for data in reply.stream(exchange.PIECE):
            sink(data)
    else:
        # Kept by the answer.
        reply.data  # noqa: B018
