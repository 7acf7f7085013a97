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
"""A load balancer that knows when a node is lost."""

import contextlib
import selectors
import socket
import socketserver
import threading
import urllib.parse


class Switch:
    """Takes TCP connections to one of several nodes.

    :param targets: URLs of the nodes.
    :ivar target: number of the node that new connections go to.
    """

    def __init__(self, *targets: str) -> None:
        parts = map(urllib.parse.urlsplit, targets)
        self._nodes = [(part.hostname, part.port) for part in parts]
        self.target = 0
        self._open: list[socket.socket] = []
        switch = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    switch._carry(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )

    def __enter__(self) -> "Switch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._cut()

    def lose(self) -> None:
        """The node is gone, and its connections with it."""
        self.target = (self.target + 1) % len(self._nodes)
        self._cut()

    def _cut(self) -> None:
        lines, self._open = self._open, []
        for line in lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def _carry(self, client: socket.socket) -> None:
        with socket.create_connection(self._nodes[self.target]) as node:
            self._open += [client, node]
            with selectors.DefaultSelector() as ready:
                ready.register(client, selectors.EVENT_READ, node)
                ready.register(node, selectors.EVENT_READ, client)
                while True:
                    for key, _ in ready.select():
                        data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                        if not data:
                            return
                        key.data.sendall(data)
