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
import urllib.parse

from tests.support import proxy


class Switch(proxy.Listener):
    """Takes TCP connections to one of several nodes.

    :param targets: URLs of the nodes.
    :ivar target: number of the node that new connections go to.
    """

    def __init__(self, *targets: str) -> None:
        parts = map(urllib.parse.urlsplit, targets)
        self._nodes = [(part.hostname, part.port) for part in parts]
        self.target = 0
        self._open: list[socket.socket] = []
        super().__init__(self._carry)
        self.url = f"http://127.0.0.1:{self.port}"

    def __exit__(self, *_: object) -> None:
        super().__exit__()
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
