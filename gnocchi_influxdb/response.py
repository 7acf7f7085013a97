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

csv_columns.py does nearly all of it. Here is what it leaves: whether the
answer is complete, all else that RFC 4180 and the server allow, and a reason
where the answer is wrong.
"""

import array
import csv
import io
import re
import uuid

import numpy

from gnocchi_influxdb import csv_columns, exceptions, timeseries

_ERROR = b",error,reference\r\n"
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII
)


def parse_flux(body: bytes) -> dict[uuid.UUID, timeseries.TimeSeries]:
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
    if body.endswith(b"\r\n\r\n") or body == b"\r\n":
        try:
            if b'"' in body:
                raise csv_columns.Unusual
            return timeseries.by_metric(csv_columns.runs(body))
        except csv_columns.Unusual:
            return timeseries.by_metric(_runs(body))
    # After the report of an error there is no empty line.
    report = body.rfind(_ERROR)
    if report == 0 or (report > 0 and body[report - 1 : report] == b"\n"):
        _runs(body[report:])
    raise exceptions.ResponseError(
        "The answer of InfluxDB is cut, or is not one of InfluxDB: "
        f"{len(body)} bytes, the last ones are {body[-60:]!r}"
    )


def _runs(body: bytes) -> list[csv_columns.Run]:
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
                values.append(csv_columns.number(row[layout.value]))
            elif row[1:] == ["error", "reference"]:
                reason = next(reader, [])[1:2] or ["(no reason given)"]
                raise exceptions.QueryError(
                    f"InfluxDB failed in the middle of its answer: {reason[0]}"
                )
            else:
                layout = csv_columns.layout(row)
    except (csv.Error, ValueError) as error:
        raise exceptions.ResponseError(
            f"Line {reader.line_num} of InfluxDB's answer makes no sense: "
            f"{error}"
        ) from error
    runs = []
    for metric, (times, values) in columns.items():
        points = numpy.empty(len(times), timeseries.DTYPE)
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
