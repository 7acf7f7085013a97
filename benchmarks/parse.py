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
"""How long it takes to turn InfluxDB's answers into numpy arrays.

Every way gets the same answers, in turn, and the best of several runs counts;
what matters are the ratios. pyarrow takes part if it is installed::

    python benchmarks/parse.py
"""

import random
import sys
import time
import tracemalloc
import uuid

import msgpack
import numpy

from gnocchi_influxdb import schema
from gnocchi_influxdb.wire import flux_response, influxql_points

START = 1388577600 * 10**9
STEP = 300 * 10**9
PACKED_ROW = numpy.dtype(
    [
        ("row", "u1"),
        ("integer", "u1"),
        ("time", ">i8"),
        ("double", "u1"),
        ("value", ">f8"),
    ]
)


def answers(metrics, rows):
    """What both endpoints answer for the same points."""
    source = random.Random(metrics)
    times = START + STEP * numpy.arange(rows)
    texts = numpy.datetime_as_string(times.view("M8[ns]"), "s").tolist()
    lines = [",result,table,_time,_value,metric\r\n"]
    packer = msgpack.Packer()
    packed = [
        packer.pack_map_header(1) + packer.pack("results"),
        packer.pack_array_header(1) + packer.pack_map_header(2),
        packer.pack("statement_id") + packer.pack(0),
        packer.pack("series") + packer.pack_array_header(metrics),
    ]
    for _ in range(metrics):
        metric = uuid.UUID(int=source.getrandbits(128), version=4)
        values = [source.random() * 100 for _ in range(rows)]
        lines += [
            f",_result,0,{text}Z,{value!r},{metric}\r\n"
            for text, value in zip(texts, values, strict=True)
        ]
        # Python's encoder would make the integers unsigned.
        points = numpy.empty(rows, PACKED_ROW)
        points["row"], points["integer"], points["double"] = 0x92, 0xD3, 0xCB
        points["time"], points["value"] = times, values
        packed += [
            packer.pack_map_header(4),
            packer.pack("name") + packer.pack("measure"),
            packer.pack("tags") + packer.pack({"metric": str(metric)}),
            packer.pack("columns") + packer.pack(["time", "mean"]),
            packer.pack("values") + packer.pack_array_header(rows),
            points.tobytes(),
        ]
    return "".join([*lines, "\r\n"]).encode(), b"".join(packed)


def csv_split(body):
    """The obvious way: nothing is checked."""
    series = {}
    for line in body.decode().split("\r\n")[1:-2]:
        _, _, _, timestamp, value, metric = line.split(",")
        times, values = series.setdefault(metric, ([], []))
        times.append(timestamp[:-1])
        values.append(float(value))
    result = {}
    for metric, (times, values) in series.items():
        points = numpy.empty(len(times), schema.DTYPE)
        points["timestamps"] = times
        points["values"] = values
        result[uuid.UUID(metric)] = points
    return result


def csv_pyarrow(body):
    import pyarrow.csv

    table = pyarrow.csv.read_csv(pyarrow.py_buffer(body))
    names = table["metric"].combine_chunks().dictionary_encode()
    points = numpy.empty(len(table), schema.DTYPE)
    points["timestamps"] = table["_time"].to_numpy()
    points["values"] = table["_value"].to_numpy()
    codes = names.indices.to_numpy()
    changes = numpy.flatnonzero(codes[1:] != codes[:-1]) + 1
    starts = [0, *changes.tolist()]
    return {
        uuid.UUID(names.dictionary[codes[start]].as_py()): points[start:stop]
        for start, stop in zip(starts, [*starts[1:], None], strict=True)
    }


def msgpack_lists(body):
    result = {}
    for series in msgpack.unpackb(body)["results"][0]["series"]:
        points = numpy.array(
            [tuple(row) for row in series["values"]],
            [("timestamps", "i8"), ("values", "f8")],
        ).astype(schema.DTYPE)
        result[uuid.UUID(series["tags"]["metric"])] = points
    return result


def msgpack_columns(body):
    [answer] = influxql_points.parse_influxql(body, [["mean"]])
    return answer["mean"]


WAYS = [
    ("csv", "str.split", csv_split),
    ("csv", "pyarrow", csv_pyarrow),
    ("csv", "parse_flux", flux_response.parse_flux),
    ("msgpack", "unpackb, lists", msgpack_lists),
    ("msgpack", "parse_influxql", msgpack_columns),
]


def peak(parse, body):
    """Most memory in use at once: the result and all on the way to it."""
    tracemalloc.start()
    parse(body)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def main():
    ways = list(WAYS)
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        ways = [way for way in ways if way[1] != "pyarrow"]
    for metrics, rows, runs in ((1, 288, 300), (100, 288, 15), (1, 525600, 4)):
        csv, packed = answers(metrics, rows)
        bodies = {"csv": csv, "msgpack": packed}
        expected = csv_split(csv)
        best = {}
        for run in range(runs):
            for kind, name, parse in ways:
                start = time.perf_counter()
                series = parse(bodies[kind])
                spent = time.perf_counter() - start
                best[name] = min(best.get(name, spent), spent)
                if run == 0:
                    assert series.keys() == expected.keys()
                    assert all(
                        (series[metric] == expected[metric]).all()
                        for metric in series
                    )
        print(f"\n{metrics} metrics x {rows} points")
        print(f"  {'':16}{'ms':>9}{'ratio':>8}{'peak/body':>11}")
        for kind, name, parse in ways:
            # What pyarrow allocates itself is not seen.
            memory = peak(parse, bodies[kind]) / len(bodies[kind])
            print(
                f"  {name:16}{best[name] * 1000:9.3f}"
                f"{best[name] / best['parse_flux']:8.2f}{memory:11.2f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
