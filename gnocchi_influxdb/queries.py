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
"""Asking InfluxDB for windows and points, in few requests."""

import dataclasses
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy
import numpy.typing
from gnocchi import utils

from gnocchi_influxdb import aggregates, exceptions, flux, response
from gnocchi_influxdb import buckets as buckets_
from gnocchi_influxdb import client as client_

Array = numpy.typing.NDArray[Any]
Rows = dict[uuid.UUID, Array]

_NO_POINTS = numpy.empty(
    0, dtype=[("timestamps", "<M8[ns]"), ("values", "<f8")]
)


@dataclasses.dataclass(eq=False)
class Job:
    """One read: some aggregations of some metrics of one bucket.

    :ivar method: the method that InfluxDB computes, for the one aggregation
        there is then; None: read the points.
    :ivar start: ns since the epoch, None: from the first point.
    :ivar stop: ns since the epoch, exclusive, None: to the last point.
    :ivar rows: what was read; metrics without any are not in it.
    """

    bucket: str
    method: str | None
    aggregations: tuple[Any, ...]
    metrics: list[Any]
    start: int | None = None
    stop: int | None = None
    rows: Rows = dataclasses.field(default_factory=dict)

    def is_empty(self) -> bool:
        """Whether nothing lies in its range; InfluxDB takes that amiss."""
        start = 0 if self.start is None else self.start
        return self.stop is not None and start >= self.stop


class Asker:
    """Puts queries to one server."""

    def __init__(
        self, client: client_.Client, buckets: buckets_.Buckets
    ) -> None:
        self._client = client
        self._buckets = buckets

    def run(self, jobs: Iterable[Job]) -> None:
        """Fill the rows of jobs."""
        requests = []
        for job in jobs:
            ids = [metric.id for metric in job.metrics]
            for chunk in utils.grouper(ids, flux.METRICS_PER_QUERY):
                if job.method is None:
                    text = flux.points(job.bucket, chunk, job.start, job.stop)
                else:
                    text = flux.windows(
                        job.bucket,
                        chunk,
                        job.start,
                        job.stop,
                        aggregates.ns_of(job.aggregations[0].granularity),
                        job.method,
                    )
                requests.append((job.bucket, text, job.rows.update))
        self._ask(requests)

    def newest(self, metrics: Iterable[Any]) -> dict[uuid.UUID, int]:
        """Time of the newest point of each metric that has any."""
        ids: dict[str, list[uuid.UUID]] = {}
        for metric in metrics:
            bucket = self._buckets.name(metric.archive_policy)
            ids.setdefault(bucket, []).append(metric.id)
        rows: Rows = {}
        self._ask(
            [
                (bucket, flux.newest(bucket, chunk), rows.update)
                for bucket, of_bucket in ids.items()
                for chunk in utils.grouper(of_bucket, flux.METRICS_PER_QUERY)
            ]
        )
        return {
            metric: int(points["timestamps"][-1].astype("int64"))
            for metric, points in rows.items()
        }

    def points(
        self, metric: Any, start: int | None, stop: int | None
    ) -> Array:
        """Points of one metric."""
        bucket = self._buckets.name(metric.archive_policy)
        rows: Rows = {}
        self._ask_one(
            bucket,
            flux.points(bucket, [metric.id], start, stop),
            rows.update,
        )
        return rows.get(metric.id, _NO_POINTS)

    def _ask(
        self, requests: Sequence[tuple[str, str, Callable[[Rows], None]]]
    ) -> None:
        if len(requests) == 1:
            self._ask_one(*requests[0])
        elif requests:
            utils.parallel_map(self._ask_one, requests)

    def _ask_one(
        self, bucket: str, text: str, use: Callable[[Rows], None]
    ) -> None:
        try:
            body = self._client.query(text)
        except exceptions.BucketNotFoundError:
            # Absent, or hidden from the token? A write can tell.
            try:
                self._client.probe(bucket)
            except exceptions.BucketNotFoundError:
                return
            try:
                body = self._client.query(text)  # made in between?
            except exceptions.BucketNotFoundError as e:
                raise exceptions.AccessError(
                    f"{e}: it is there, but the token in [storage]"
                    " influxdb_token may not read it"
                ) from None
        use(response.parse_flux(body))
