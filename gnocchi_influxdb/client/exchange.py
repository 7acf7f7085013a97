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
"""A request over a connection that urllib3 has opened before.

urllib3 takes 0.25 ms of CPU time for each request: it goes over the URL, the
headers, retries, redirects and timeouts again, and wraps the answer twice. A
small write takes InfluxDB 0.7 ms. Here one is a single send, and the answer is
read by http.client; connections, their TLS and their pool stay urllib3's.
"""

import http.client
import logging
import ssl
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import urllib3

LOG = logging.getLogger(__name__)

#: Longest body that is copied, to be sent together with the head, bytes.
_COPIED = 2**16
#: Bytes of an answer that are handed on at a time, where they are.
PIECE = 2**20

#: What takes an answer piece by piece.
Sink = Callable[[bytes], None]


class Headers(dict[str, str]):
    """Headers whose values nobody sees who logs variables."""

    def __repr__(self) -> str:
        return f"<headers {', '.join(self)}>"


class _Head(bytes):
    """The same of a request's head."""

    def __repr__(self) -> str:
        return f"<head of {len(self)} bytes>"


class Reply(NamedTuple):
    """An answer, read to its end; as far as it matters the same as urllib3's.

    :ivar headers: a mapping that does not mind the case of a name.
    :ivar data: the body; empty if it was handed on.
    """

    status: int
    headers: Any
    data: bytes


def exchange(
    pool: Any,
    host: str,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str],
    timeout: float,
    sink: Sink | None = None,
) -> Reply | None:
    """Send a request and read the answer, whatever its status.

    :param pool: urllib3.HTTPConnectionPool
    :param host: what the header Host is to say.
    :param timeout: seconds to wait for the server at each step.
    :param sink: what the body is handed on to if the status is success.
    :return: None if nothing was sent, since there is no open connection or
        the request is a special one: leave it to `pool.urlopen`.
    :raises urllib3.exceptions.HTTPError: as `pool.urlopen` would.
    """
    head = _head(host, method, path, body, headers)
    # Private, though urllib3 has had it under this name from the beginning.
    if head is None or pool.proxy is not None or not _lends(pool):
        return None
    connection = pool._get_conn()  # One that is dead has been closed.
    try:
        if connection.sock is None:
            return None
        reply = _exchange(connection, method, head, body, timeout, sink)
    except TimeoutError:
        connection.close()
        raise urllib3.exceptions.ReadTimeoutError(
            pool, path, f"Read timed out. (read timeout={timeout})"
        ) from None
    except ssl.SSLError as e:
        connection.close()
        raise urllib3.exceptions.SSLError(e) from e
    except (http.client.HTTPException, OSError) as e:
        connection.close()
        raise urllib3.exceptions.ProtocolError("Connection aborted.", e) from e
    except BaseException:
        # Half an answer may still come.
        connection.close()
        raise
    finally:
        pool._put_conn(connection)
    LOG.debug("%s %s: %d", method, path, reply.status)
    return reply


def _lends(pool: Any) -> bool:
    return hasattr(pool, "_get_conn") and hasattr(pool, "_put_conn")


def _head(
    host: str,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str],
) -> bytes | None:
    if "Accept-Encoding" in headers:
        return None  # Nobody here decompresses an answer.
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host}",
        "Accept-Encoding: identity",
        *[f"{name}: {value}" for name, value in headers.items()],
    ]
    if body is not None or method != "GET":
        lines.append(f"Content-Length: {len(body or b'')}")
    text = "\r\n".join(lines)
    # urllib3 knows what to quote, and what to refuse.
    if (
        not text.isascii()
        or " " in path
        or text.count("\n") != len(lines) - 1
        or text.count("\r") != len(lines) - 1
    ):
        return None
    return _Head(f"{text}\r\n\r\n".encode())


def _exchange(
    connection: Any,
    method: str,
    head: bytes,
    body: bytes | None,
    timeout: float,
    sink: Sink | None,
) -> Reply:
    sock = connection.sock
    sock.settimeout(timeout)
    try:
        if body is None or len(body) <= _COPIED:
            sock.sendall(head + (body or b""))
        else:
            sock.sendall(head)
            sock.sendall(body)
    except (BrokenPipeError, ConnectionResetError):
        pass  # It may have answered before it closed: that it is too much.
    answer = http.client.HTTPResponse(sock, method=method)
    answer.begin()
    data = _read(answer, sink)
    if answer.will_close:
        connection.close()
    return Reply(answer.status, answer.headers, data)


def _read(answer: http.client.HTTPResponse, sink: Sink | None) -> bytes:
    if sink is None or not is_success(answer.status):
        return answer.read()
    while data := answer.read(PIECE):
        sink(data)
    if answer.length:
        # Of a body whose length was announced this is not told otherwise.
        raise http.client.IncompleteRead(b"", answer.length)
    return b""


def is_success(status: int) -> bool:
    """Whether the server has done what it was asked."""
    return 200 <= status < 300
