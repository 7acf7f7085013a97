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
"""What a metric takes on disk, by archive policy: here and with `file`.

A few metrics are written as they are after years. InfluxDB has the points of
the raw span, and the windows of each coarser definition, in the buckets that
the driver would make, compacted. Gnocchi's file driver has the same measures;
its aggregates are the windows. InfluxDB deletes whole shards, so on average
half a shard more is there, which is added::

    PYTHONPATH=tools/lib python -m benchmarks.disk [influxdb_raw_slack, s]
"""

import pathlib
import sys
import tempfile
import time
import uuid

import gnocchi.opts
import numpy
import servers
from gnocchi import archive_policy, carbonara, indexer, storage
from oslo_config import cfg

from gnocchi_influxdb import opts, schema
from gnocchi_influxdb.storage import InfluxDBStorage
from gnocchi_influxdb.wire import line_protocol

DAY = 86400
GNOCCHI = ("mean", "min", "max", "sum", "std", "count")
RATE = ("mean", "rate:mean")
LOW, MEDIUM = ((300, 30 * DAY),), ((60, 7 * DAY), (3600, 365 * DAY))
HIGH = ((1, 3600), *MEDIUM)
CEILOMETER_HIGH = ((1, 3600), (60, DAY), (3600, 365 * DAY))
# Methods, (granularity, timespan), and seconds between measures.
POLICIES = {
    "low": (GNOCCHI, LOW, 300),
    "medium": (GNOCCHI, MEDIUM, 60),
    "high": (GNOCCHI, HIGH, 1),
    "ceilometer-low": (("mean",), LOW, 300),
    "ceilometer-low-rate": (RATE, LOW, 300),
    "ceilometer-high": (("mean",), CEILOMETER_HIGH, 1),
    "ceilometer-high-rate": (RATE, CEILOMETER_HIGH, 1),
    "medium, polled": (GNOCCHI, MEDIUM, 300),
    "high, polled": (GNOCCHI, HIGH, 300),
    "ceilometer-high-rate, polled": (RATE, CEILOMETER_HIGH, 300),
}
KINDS = ("constant", "gauge", "gauge, uneven")
METRICS = 10
BATCH = 20000
_MARGIN = 600  # s; InfluxDB's clock goes on while points are written.


def measures(kind, start, stop, step, source):
    """Measures each `step` seconds, from `start` to `stop` (seconds)."""
    times = numpy.arange(start, stop, step) * schema.SECOND
    walk = source.normal(scale=0.1, size=len(times)).cumsum()
    if kind == "gauge, uneven":  # By microseconds, as those of a poll.
        most = int(min(0.4, step / 2) * 1e6)
        times += source.integers(0, most, len(times)) * 1000
    points = numpy.empty(len(times), carbonara.TIMESERIES_ARRAY_DTYPE)
    points["timestamps"] = times.view("M8[ns]")
    points["values"] = 42 if kind == "constant" else (50 + walk).round(3)
    return points


def history(kind, definition, step, now, source):
    """Measures that fill each definition's timespan.

    There are fewer where only coarser windows are left: a window takes as
    much, whether 12 measures made it or 3600.
    """
    parts, stop = [], now
    for granularity, timespan in definition:
        start = (now - timespan) // granularity * granularity
        every = max(step, granularity // 12)
        parts.append(measures(kind, start, stop, every, source))
        stop = start
    return numpy.concatenate(parts[::-1])


def configuration(**options):
    """Gnocchi's section `storage`, with some options."""
    conf = cfg.ConfigOpts()
    conf.register_opts(dict(gnocchi.opts.list_opts())["storage"], "storage")
    conf([], default_config_files=[])
    opts.register(conf.storage)
    for name, value in options.items():
        conf.set_override(name, value, "storage")
    return conf


def window_lines(metric, windows, every):
    """Lines of the windows of `every` ns, as metricd writes them."""
    series = {
        a.method: of_method
        for a, of_method in windows[metric].items()
        if schema.ns_of(a.granularity) == every
    }
    times = numpy.unique(
        numpy.concatenate([one.timestamps for one in series.values()])
    )
    values = {}
    for method, one in series.items():
        values[method] = numpy.full(len(times), numpy.nan)
        values[method][times.searchsorted(one.timestamps)] = one.values
    owners = numpy.zeros(len(times), "int64")
    starts = times.astype("M8[ns]").view("int64")
    return line_protocol.windows([metric.id], owners, starts, values)


def point_lines(metric, points):
    """Lines of points, as the driver writes them."""
    table = line_protocol.PointTable(
        numpy.zeros(len(points), "int64"),
        points["timestamps"].view("int64"),
        points["values"],
        [line_protocol.prefix(metric.id.int)],
        [metric.id],
    )
    return line_protocol.encode(table).splitlines(keepends=True)


def write(ours, bucket, of_each):
    """Write lines, the oldest first, as they come in the course of time."""
    lines = [line for lines in of_each for line in lines]
    lines.sort(key=lambda line: int(line.rsplit(b" ", 1)[1]))
    ours.buckets.server.make(bucket)
    for i in range(0, len(lines), BATCH):
        ours.client.write(bucket.name, b"".join(lines[i : i + BATCH]))


def fill(policy, kind, definition, step, now, ours, theirs):
    """Write metrics of a policy to both drivers; those metrics."""
    source = numpy.random.default_rng(1)
    metrics = [indexer.Metric(uuid.uuid4(), policy) for _ in range(METRICS)]
    for metric in metrics:
        points = history(kind, definition, step, now, source)
        theirs.add_measures_to_metrics({metric: points}, None)
    buckets = ours.buckets.all_of(policy)
    span = (now - buckets.points.retention + _MARGIN, now, step, source)
    write(
        ours,
        buckets.points,
        [point_lines(metric, measures(kind, *span)) for metric in metrics],
    )
    windows = theirs.get_aggregated_measures(
        dict.fromkeys(metrics, policy.aggregations)
    )
    for bucket in buckets.windows:
        every = bucket.every
        write(ours, bucket, [window_lines(m, windows, every) for m in metrics])
    return metrics


def settle(server):
    """Wait until InfluxDB has compacted everything."""
    before, since = None, time.monotonic()
    while time.monotonic() - since < 30:
        time.sleep(2)
        files = (server.directory / "engine" / "data").glob("**/*.tsm*")
        now = {(path, path.stat().st_size) for path in files}
        if now != before:
            before, since = now, time.monotonic()


def size(directory, pattern, block=1):
    """Bytes of files, for each metric, each rounded up to whole blocks."""
    found = pathlib.Path(directory).glob(pattern)
    sizes = [f.stat().st_size for f in found if f.is_file()]
    return sum(-(-one // block) * block for one in sizes) / METRICS


def report(server, ours, theirs, policies):
    """Print a table."""
    print("policy; values; bytes of points; windows; all; file; in blocks")
    for name, (policy, metrics) in policies.items():
        buckets = ours.buckets.all_of(policy)
        parts, half = [], 0
        for bucket in (buckets.points, *buckets.windows):
            id_ = ours.buckets.find(bucket.name).id
            parts.append(size(server.directory, f"engine/data/{id_}/**/*.tsm"))
            half += parts[-1] * bucket.shard_duration / bucket.retention / 2
        points, windows, total = parts[0], sum(parts[1:]), sum(parts) + half
        file, blocks = (
            sum(size(theirs._build_metric_dir(m), "**/*", b) for m in metrics)
            for b in (1, 4096)
        )
        print(
            f"{name}; {points:,.0f}; {windows:,.0f}; {total:,.0f};"
            f" {file:,.0f} ({total / file:.2f});"
            f" {blocks:,.0f} ({total / blocks:.2f})"
        )


def main():
    """Write, wait, and print what everything takes."""
    now = int(time.time()) - 60
    server = servers.find_influxdb_server(may_build=False)
    # Else a shard is compacted four hours after its last write.
    (server.directory / "config.toml").write_text(
        'storage-compact-full-write-cold-duration = "2s"\n'
        'storage-cache-snapshot-write-cold-duration = "2s"\n'
    )
    policies = {}
    with server, tempfile.TemporaryDirectory() as directory:
        conf = configuration(
            influxdb_url=server.url,
            influxdb_token=server.token,
            influxdb_org=server.org,
            influxdb_raw_slack=int([36 * 3600, *sys.argv[1:]][-1]),
        )
        ours = InfluxDBStorage(conf.storage)
        conf = configuration(driver="file", file_basepath=directory)
        theirs = storage.get_driver(conf)
        theirs.upgrade()
        # There is no indexer to be told.
        theirs.execute_metadata_updates_if_needed = lambda *_: None
        for name, (methods, definition, step) in POLICIES.items():
            for kind in KINDS:
                full = f"{name}; {kind}"
                print(full, file=sys.stderr, flush=True)
                items = [(timespan // g, g) for g, timespan in definition]
                policy = archive_policy.ArchivePolicy(full, 0, items, methods)
                policies[full] = (
                    policy,
                    fill(policy, kind, definition, step, now, ours, theirs),
                )
        settle(server)
        report(server, ours, theirs, policies)


if __name__ == "__main__":
    main()
