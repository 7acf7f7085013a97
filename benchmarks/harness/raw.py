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
"""The floor: requests straight to the server."""

import dataclasses
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from unittest import mock

import urllib3
from gnocchi import utils

from benchmarks.harness import measures
from benchmarks.harness.targets import Target, Write
from gnocchi_influxdb import storage
from gnocchi_influxdb.wire import line_protocol
from gnocchi_influxdb.write import writer
from gnocchi_influxdb.write.batch import clean

#: Requests are sent by as many threads as the driver has.
AT_ONCE = "raw"
#: Requests are sent one after the other.
IN_A_ROW = "raw-in-a-row"
FLOORS = (AT_ONCE, IN_A_ROW)


class Raw:
    """Writes and reads as plainly as can be.

    It writes into buckets of its own: the bodies are made beforehand, as large
    as the driver's, and sent over a pool of plain urllib3. It reads what the
    driver reads, with the same requests over the driver's connections, which
    are faster, and looks at no answer.
    """

    def __init__(self, name: str, target: Target, prefix: str) -> None:
        """:param name: one of `FLOORS`.
        :param target: whose indexer knows the metrics.
        """
        self.name = name
        self._target = target
        # On a copy of the options, with another prefix.
        conf = target.conf.storage
        self._conf = conf
        conf._conf.set_override("influxdb_bucket_prefix", prefix, "storage")
        try:
            self.storage = storage.InfluxDBStorage(conf)
        finally:
            conf._conf.clear_override("influxdb_bucket_prefix", "storage")
        self._pool = urllib3.connectionpool.connection_from_url(
            conf.influxdb_url, maxsize=64
        )
        self._headers = {
            "Authorization": f"Token {conf.influxdb_token}",
            "Content-Type": "text/plain; charset=utf-8",
        }

    @property
    def driver(self) -> Target:
        """The target whose requests it reads with."""
        return self._target

    def reads(self, read: Callable[[], Any]) -> Callable[[], None]:
        """A function that asks InfluxDB what the driver asks it in a read."""
        transport = self._target.storage.client._transport
        requests = []

        def send(request: Any) -> Any:
            requests.append((dataclasses.replace(request, sink=None),))
            return transport_send(request)

        transport_send = transport.send
        with mock.patch.object(transport, "send", send):
            read()

        def ask() -> None:
            if len(requests) > 1:
                utils.parallel_map(transport.send, requests)
            else:
                transport.send(*requests[0])

        return ask

    def create_metrics(self, ids: Any, policy: str) -> list[Any]:
        """Metrics of the target's indexer."""
        return self._target.create_metrics(ids, policy)

    def write(self, batches: Iterable[Mapping[Any, Any]]) -> Write:
        """A function that writes the batches."""
        size = self._conf.influxdb_batch_size
        requests = []
        for batch in batches:
            policy = next(iter(batch)).archive_policy
            self.storage.buckets.ensure(policy)
            query = urllib.parse.urlencode(
                {
                    "org": self._conf.influxdb_org,
                    "bucket": self.storage.buckets.name(policy),
                    "precision": "ns",
                }
            )
            points, _ = clean(
                [metric.id for metric in batch], list(batch.values())
            )
            requests.append(
                [
                    (
                        f"/api/v2/write?{query}",
                        bytes(line_protocol.encode(points.part(start, stop))),
                    )
                    for start, stop in writer.request_bounds(len(points), size)
                ]
            )

        def write() -> None:
            for bodies in requests:
                if len(bodies) > 1 and self.name == AT_ONCE:
                    utils.parallel_map(self._send, bodies)
                else:
                    for body in bodies:
                        self._send(*body)

        return write

    def _send(self, path: str, body: bytes) -> None:
        reply = self._pool.urlopen(
            "POST", path, body=body, headers=self._headers, retries=False
        )
        if reply.status != 204:
            raise RuntimeError(f"InfluxDB answered {reply.status}")

    def read_all(self, metrics: Iterable[Any]) -> measures.Answer:
        """All windows of some metrics, as far as they are comparable."""
        return measures.read_all(self.storage, metrics)
