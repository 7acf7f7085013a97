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
"""A reverse proxy between the driver and InfluxDB that does harm."""

import contextlib
import dataclasses
import itertools
import socket
import socketserver
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

CLOSE = b"Connection: close\r\n"


@dataclasses.dataclass
class Request:
    """A request as it came in.

    :ivar connection: number of the connection it came over
    :ivar answered: when its answer was there, monotonic seconds
    """

    connection: int
    method: str
    path: str
    head: bytes
    body: bytes
    started: float
    answered: float = 0.0

    def raw(self) -> bytes:
        """What InfluxDB is sent: one request a connection."""
        lines = [
            line
            for line in self.head.split(b"\r\n")
            if not line.lower().startswith(
                (b"content-length:", b"connection:")
            )
        ]
        lines += [CLOSE.strip(), b"Content-Length: %d" % len(self.body)]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


#: Answers a request itself: whole answers as they go over the line; None to
#: let InfluxDB answer. It may change the request.
Before = Callable[[Request], bytes | None]
#: Changes InfluxDB's answer. The connection is closed behind one that it
#: has changed.
After = Callable[[Request, bytes], bytes]


class Listener:
    """Listens on a port of the loopback interface.

    :param serve: what is done with each connection, in a thread of its own.
    :ivar port: the port.
    """

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Proxy(Listener):
    """Passes on what comes, or what `before` and `after` make of it.

    :ivar requests: all that came in
    """

    def __init__(
        self,
        target: str,
        before: Before | None = None,
        after: After | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        parts = urllib.parse.urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self.before = before
        self.after = after
        self.requests: list[Request] = []
        self._context = context
        self._connections = itertools.count()
        super().__init__(self._serve)
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.port}"

    def paths(self, beginning: str | tuple[str, ...] = "") -> list[str]:
        return [
            request.path
            for request in self.requests
            if request.path.startswith(beginning)
        ]

    def _serve(self, plain: socket.socket) -> None:
        number = next(self._connections)
        line = plain
        if self._context is not None:
            line = self._context.wrap_socket(plain, server_side=True)
        with line, line.makefile("rb") as stream:
            for request in self._incoming(number, stream):
                self.requests.append(request)
                answer = self.before(request) if self.before else None
                intact = answer is None
                if answer is None:
                    answer = real = self._ask(request)
                    if self.after:
                        answer = self.after(request, real)
                    intact = answer == real
                request.answered = time.monotonic()
                line.sendall(answer)
                if not intact:
                    return

    @staticmethod
    def _incoming(number: int, stream: object) -> Iterator[Request]:
        while first := stream.readline():  # type: ignore[attr-defined]
            lines = iter(stream.readline, b"\r\n")  # type: ignore[attr-defined]
            head = first + b"".join(itertools.takewhile(bool, lines))
            head = head.removesuffix(b"\r\n")
            method, path, _version = head.split(b"\r\n")[0].decode().split()
            length = 0
            for header in head.split(b"\r\n")[1:]:
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            body = stream.read(length)  # type: ignore[attr-defined]
            yield Request(number, method, path, head, body, time.monotonic())

    def _ask(self, request: Request) -> bytes:
        """InfluxDB's answer, byte by byte as it comes."""
        with socket.create_connection(self._target) as server:
            server.sendall(request.raw())
            with server.makefile("rb") as stream:
                return stream.read().replace(CLOSE, b"", 1)


def answer(
    status: str, body: bytes = b"", kind: str = "text/html", *headers: str
) -> bytes:
    """An answer that InfluxDB never gave."""
    head = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def is_for_windows(request: Request) -> bool:
    """Whether it is about a bucket of downsampled windows."""
    text = (request.head + request.body).decode("utf-8", "replace")
    return "@" in urllib.parse.unquote(text)


class ForgottenDeletes:
    """InfluxDB forgets a DELETE of what it is writing to a data file.

    A `Before`, of which only the third DELETE of points gets through.

    :ivar number: of those that came
    """

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, request: Request) -> bytes | None:
        if (
            request.path != "/query"
            or b"DELETE" not in request.body
            or is_for_windows(request)
        ):
            return None
        self.number += 1
        if self.number == 3:
            return None
        # An empty map in MessagePack, as InfluxDB answers it.
        return answer("200 OK", b"\x80", "application/x-msgpack")


PAGE = (
    b"<html><head><title>Welcome</title></head><body>It works, and it is not"
    b" a database.</body></html>"
)
