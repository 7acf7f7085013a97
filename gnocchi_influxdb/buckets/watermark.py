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
"""How far a definition is downsampled."""

import csv
import io
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets.policy import Lengthened
from gnocchi_influxdb.buckets.visibility import takes_writes
from gnocchi_influxdb.client.client import Client
from gnocchi_influxdb.schema import Array
from gnocchi_influxdb.wire import (
    flux,
    flux_response,
    influxql,
    influxql_rows,
)

#: A window is over when its end lies so far back, ns. What comes later is
#: late: a longer time means fewer late measures and more windows to compute
#: when somebody asks. Ceilometer's samples come up to a polling interval late.
DELAY = 15 * 60 * schema.SECOND

#: Seconds by which two hosts' reckonings of InfluxDB's time may differ.
SKEW = 60

#: Seconds between two passes over a definition.
INTERVAL = 300

# How long a watermark is believed, s. An older one is as good, as long as the
# points behind it are there; half of the slack is far longer than this.
_BELIEVED = 60

# Field for the retention of a bucket of points, s.
_KEPT = "kept"

# Two points of a watermark are so far apart, at least (the shortest retention
# is longer), so that there are not hundreds of thousands.
_STEP = 600 * schema.SECOND


class Watermark(NamedTuple):
    """How far a definition is downsampled. All are ns since the epoch.

    :ivar until: windows that begin before are in the definition's bucket.
    :ivar began: when the computing began that has seen to all late measures
        that were there; marks of later ones are pending.
    :ivar last: windows that begin before were computed the last time.
    :ivar whole: of windows that begin before, points may be missing. Those
        that are there stay as they are, but for those with the field
        `schema.FILLED`; where there is none it is made of what there is. It
        is written by itself: whoever moves a watermark may not know it.
    """

    until: int
    began: int
    last: int
    whole: int = 0

    @property
    def pending_since(self) -> int:
        """Marks of that time (ns) or later are pending."""
        return max(self.began - SKEW * schema.SECOND, 0)


def overdue(since: int, every: int, now: int) -> int:
    """For how long (ns) a window that begins at `since` could be computed."""
    patience = DELAY + 3 * INTERVAL * schema.SECOND
    return max(now - since - every - patience, 0)


def marked(marks: Array, every: int) -> Array:
    """Starts (ns) of the windows that marks are about.

    :param marks: of one metric, a structured array.
    :param every: length of the windows, ns.
    """
    windows = numpy.rint(marks["values"] * (schema.SECOND / every))
    starts: Array = windows.astype("int64") * every
    return starts


class Watermarks:
    """The watermarks of one server. Threads may share it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, tuple[float, Watermark | None]] = {}
        self._has_influxql = True

    def of(self, bucket: str) -> Watermark | None:
        """The watermark of a bucket, or one that is not much older.

        :return: None: nothing is downsampled, or there is no such bucket.
        :raises InfluxDBError: it can't be read.
        """
        known = self._known.get(bucket)
        if known is None or time.monotonic() - known[0] >= _BELIEVED:
            known = time.monotonic(), self.read(bucket)
            self._known[bucket] = known
        return known[1]

    def forget(self) -> None:
        """Read each anew when it is asked for next."""
        self._known.clear()

    def read(self, bucket: str) -> Watermark | None:
        """The watermark of a bucket as it is now, see `of`."""
        *moved, whole = Watermark._fields
        found = self._read(bucket, moved)
        if not found:
            return None
        # By itself, since the newest row need not have it. With last() of all
        # fields a year of rows takes two to five times as long.
        return Watermark(*found, *self._read(bucket, [whole]))

    def write(self, bucket: str, mark: Watermark) -> None:
        """Move the watermark of a bucket.

        :raises InfluxDBError: it may not be moved.
        """
        note = mark._asdict()
        del note["whole"]
        self._write(bucket, note)
        self._known[bucket] = time.monotonic(), mark

    def protect(self, bucket: str, until: int) -> None:
        """Let windows before `until` (ns) stay as they are, see `Watermark`.

        Where nothing is downsampled there are none.
        """
        mark = self.read(bucket)
        # Fields of windows have it in seconds.
        until = schema.ceil(until, schema.SECOND)
        if mark is not None and mark.whole < until:
            self._write(bucket, {"whole": until})
            self._known[bucket] = time.monotonic(), mark._replace(whole=until)

    def read_lengthened(self, bucket: str) -> Lengthened | None:
        """What was noted about a bucket of points last, None if nothing."""
        found = self._read(bucket, Lengthened._fields)
        return Lengthened(*found) if found else None

    def write_lengthened(self, bucket: str, note: Lengthened) -> None:
        """Note something about a bucket of points."""
        self._write(bucket, note._asdict())

    def is_there(self, bucket: str) -> bool:
        """Whether there is a bucket that the token may write to."""
        return takes_writes(self._client, bucket)

    def read_kept(self, bucket: str) -> int | None:
        """Retention (s) that a bucket of points had when seen last."""
        found = self._read(bucket, [_KEPT])
        return found[0] if found else None

    def write_kept(self, bucket: str, retention: int) -> None:
        """Note the retention (s) of a bucket of points."""
        self._write(bucket, {_KEPT: retention})

    def oldest(self, bucket: str) -> int | None:
        """Time (ns) of the oldest point in a bucket, None without any.

        It takes 40 ms for 10,000 metrics.
        """
        rows = self._ask(bucket, influxql.OLDEST)
        if rows is not None:
            return int(rows[0][0]) if rows else None
        stream = flux_response.Stream()
        try:
            self._client.query(flux.oldest(bucket), stream)
        except exceptions.BucketNotFoundError:
            return None
        found = stream.close().values()
        times = [
            int(of_one["timestamps"].view("int64")[0]) for of_one in found
        ]
        return min(times, default=None)

    def _write(self, bucket: str, note: Mapping[str, int]) -> None:
        at = schema.floor(self._client.clock.now_ns(), _STEP)
        fields = ",".join(f"{name}={value:d}i" for name, value in note.items())
        line = f"{schema.WATERMARKS} {fields} {at:d}\n"
        self._client.write(bucket, line.encode())

    def _read(self, bucket: str, fields: Sequence[str]) -> list[int]:
        """The newest value of each field, nothing if one is missing."""
        rows = self._ask(bucket, influxql.newest_of(fields))
        if rows is None:
            found = self._read_in_flux(bucket)
        else:
            found = dict(zip(fields, rows[0][1:], strict=True)) if rows else {}
        try:
            return [int(found[name]) for name in fields]
        except (KeyError, TypeError, ValueError):
            return []  # Not ours.

    def _ask(self, bucket: str, statement: str) -> list[list[Any]] | None:
        """Rows of an answer in InfluxQL, None if Flux has to be asked."""
        hides = self._client.capabilities.hides
        if not self._has_influxql:
            return None
        try:
            return influxql_rows.rows(self._client.influxql(bucket, statement))
        except exceptions.ConfigurationError:
            if not hides:
                raise
            self._has_influxql = False
        except exceptions.BucketNotFoundError:
            # Most often it is simply not there: a moved history's bucket.
            if not hides or not takes_writes(self._client, bucket):
                return []
        return None

    def _read_in_flux(self, bucket: str) -> dict[str, str]:
        try:
            body = self._client.query(flux.watermark(bucket))
        except exceptions.BucketNotFoundError:
            return {}
        lines = csv.DictReader(io.StringIO(body.decode()))
        return {
            line["_field"]: line["_value"]
            for line in lines
            if line.get("_field")
        }
