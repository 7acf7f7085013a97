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
"""The answer to a Flux query (CSV) as numpy arrays.

`flux_csv` reads nearly all answers. This module does the rest: it sees
whether the answer is complete, reads all else that RFC 4180 and the server
allow, and gives a reason where the answer is wrong.
"""

import array
import csv
import io
import re
import uuid

import numpy

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.wire import flux_csv, series

_ERROR = b",error,reference\r\n"
# Bytes of an answer that are parsed at a time.
_PIECE = 1 << 23
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII
)


def parse_flux(body: bytes) -> dict[uuid.UUID, series.TimeSeries]:
    """Points of each metric in the answer to a Flux query.

    Every table must have the columns ``_time``, ``_value`` and ``metric``, in
    any order; others are ignored. Where a metric has several points at one
    time, the one that comes last counts. A metric without points is absent.

    The arrays may be parts of a large one: to keep one for long, copy it.

    An answer that is cut is found out, since a complete one ends with an
    empty line, with one exception. Each result (each ``yield``) ends so; when
    the connection ends exactly there, what would have come, another result or
    the report of an error, is not missed here. The end of HTTP's own framing
    is missing then, and the client must look at that.

    :param body: the whole answer; with header, without annotations.
    :raises QueryError: the server reports an error inside the answer.
    :raises ResponseError: the answer is cut, or is not what InfluxDB sends.
    """
    return series.by_metric(_complete(body))


class Stream:
    """Reads the answer to a Flux query that comes piece by piece.

    Pieces are parsed as they come, so that there are never many more bytes
    in memory than `_PIECE`; from the first unusual ones on they are collected
    and parsed at the end. For one thread.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._runs: list[flux_csv.Run] = []
        # The header of the table that the rest belongs to.
        self._header = b""
        self._rest: list[bytes] = []
        self._size = 0
        self._is_over = False
        self._is_kept = False

    def feed(self, data: bytes) -> None:
        """Take the next piece, of any length."""
        self._rest.append(data)
        self._size += len(data)
        self._is_kept = self._is_kept or b'"' in data
        if self._size >= _PIECE and not self._is_kept:
            self._parse()

    def close(self) -> dict[uuid.UUID, series.TimeSeries]:
        """Points of each metric, once all has been fed.

        :raises QueryError: as `parse_flux`.
        :raises ResponseError: as `parse_flux`.
        """
        rest = self._header + b"".join(self._rest)
        if rest or not self._is_over:
            self._runs += _complete(rest)
        runs = self._runs
        self.reset()
        return series.by_metric(runs)

    def _parse(self) -> None:
        """Parse the whole lines of what is there."""
        rest = self._header + b"".join(self._rest)
        header = b""
        # All before an empty line is complete by itself.
        end = rest.rfind(b"\r\n\r\n") + 4
        is_over = end > 3
        if not is_over:
            header = rest[: rest.find(b"\n") + 1]
            end = rest.rfind(b"\n") + 1
        if end > len(header):
            try:
                self._runs += flux_csv.runs(rest[:end])
            except flux_csv.Unusual:
                self._is_kept = True
                return
        self._is_over = is_over
        self._header = header
        self._rest = [rest[max(end, len(header)) :]]
        self._size = len(self._rest[0])


def _complete(body: bytes) -> list[flux_csv.Run]:
    """The runs of an answer, or of the end of one."""
    if body.endswith(b"\r\n\r\n") or body == b"\r\n":
        return _tables(body)
    # After the report of an error there is no empty line.
    report = body.rfind(_ERROR)
    if report == 0 or (report > 0 and body[report - 1 : report] == b"\n"):
        _runs(body[report:])
    raise exceptions.ResponseError(
        "The answer of InfluxDB is cut, or is not one of InfluxDB: "
        f"{len(body)} bytes, the last ones are {body[-60:]!r}"
    )


def _tables(body: bytes) -> list[flux_csv.Run]:
    try:
        if b'"' in body:
            raise flux_csv.Unusual
        return flux_csv.runs(body)
    except flux_csv.Unusual:
        return _runs(body)


def _runs(body: bytes) -> list[flux_csv.Run]:
    columns: dict[str, tuple[array.array[int], array.array[float]]] = {}
    layout = None
    # newline: the csv module wants to see line breaks as they are
    lines = io.TextIOWrapper(io.BytesIO(body), "utf-8", newline="")
    reader = csv.reader(lines, strict=True)
    try:
        for row in reader:
            if not row:
                layout = None
            elif layout is not None:
                if len(row) != layout.columns:
                    raise ValueError(
                        f"{len(row)} columns instead of {layout.columns}"
                    )
                times, values = columns.setdefault(
                    row[layout.metric], (array.array("q"), array.array("d"))
                )
                times.append(_time(row[layout.time]))
                values.append(flux_csv.number(row[layout.value]))
            elif row[1:] == ["error", "reference"]:
                reason = next(reader, [])[1:2] or ["(no reason given)"]
                raise exceptions.QueryError(
                    f"InfluxDB failed in the middle of its answer: {reason[0]}"
                )
            else:
                layout = flux_csv.layout(row)
    except (csv.Error, ValueError) as error:
        raise exceptions.ResponseError(
            f"Line {reader.line_num} of InfluxDB's answer makes no sense: "
            f"{error}"
        ) from error
    runs = []
    for metric, (times, values) in columns.items():
        points = numpy.empty(len(times), schema.DTYPE)
        points["timestamps"].view(numpy.int64)[:] = times
        points["values"] = values
        runs.append((metric, points))
    return runs


def _time(text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:80]!r} is no time")
    seconds = int(numpy.datetime64(match[1], "s").astype(numpy.int64))
    nanoseconds = seconds * 10**9 + int((match[2] or "").ljust(9, "0"))
    # The very lowest int64 is numpy's NaT.
    if not -(2**63) < nanoseconds < 2**63:
        raise ValueError(f"{text!r} is out of range")
    return nanoseconds
