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

"""What a pass of downsampling costs.

Writes two hours of minutes for a number of metrics, as one archive policy with
three definitions has them. The first is downsampled before, as it is in
Gnocchi's daily life; what the second takes is told: python -m
benchmarks.downsampling --metrics 10000
"""

import argparse
import os
import pathlib
import time
import uuid
from typing import Any

import numpy
import psutil
import servers
from gnocchi import archive_policy, indexer, service
from gnocchi.tests import utils

from benchmarks.harness import machine
from gnocchi_influxdb import opts, schema
from gnocchi_influxdb.buckets import watermark
from gnocchi_influxdb.downsampling.downsampler import Downsampler
from gnocchi_influxdb.storage import InfluxDBStorage
from gnocchi_influxdb.wire import line_protocol
from gnocchi_influxdb.write import batch, writer

_MINUTE = 60 * schema.SECOND
_HOUR = 60 * _MINUTE
# Metrics that are written at once.
_AT_ONCE = 10000


def _driver(server: Any) -> InfluxDBStorage:
    # Gnocchi asks for it, and nobody uses it.
    os.environ.setdefault("OS_INDEXER__URL", "null://")
    conf = service.prepare_service(
        [],
        conf=utils.prepare_conf(),
        default_config_files=[],
        skip_log_opts=True,
    )
    opts.register(conf.storage)
    for name, value in {
        "driver": "influxdb",
        "influxdb_url": server.url,
        "influxdb_token": server.token,
        "influxdb_org": server.org,
        "influxdb_bucket_prefix": "downsampling-",
    }.items():
        conf.set_override(name, value, "storage")
    return InfluxDBStorage(conf.storage)


def _write(driver: InfluxDBStorage, policy: Any, number: int) -> int:
    """Two hours of minutes that are over for so many metrics.

    Past the driver, which would mark them as late measures.

    :return: when the second one begins, ns.
    """
    second = schema.floor(time.time_ns() - watermark.DELAY, _HOUR) - _HOUR
    times = numpy.arange(second - _HOUR, second + _HOUR, _MINUTE)
    chance = numpy.random.default_rng(1)
    driver.buckets.ensure(policy)
    for first in range(0, number, _AT_ONCE):
        measures = [
            (
                indexer.Metric(uuid.uuid4(), policy),
                schema.points(times.view("M8[ns]"), chance.random(len(times))),
            )
            for _ in range(min(_AT_ONCE, number - first))
        ]
        for one in batch.batches(measures, driver.buckets.name):
            count, size = len(one.points), driver.conf.influxdb_batch_size
            for start, stop in writer.request_bounds(count, size):
                part = one.points.part(start, stop)
                driver.client.write(one.bucket, line_protocol.encode(part))
    return int(second)


def _seconds(process: psutil.Process | None) -> float:
    """Processor time that a process has taken."""
    if process is None:
        return float("nan")
    times = process.cpu_times()
    return float(times.user + times.system)


def _forget_peak() -> None:
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    """The most memory (MiB) that this process had since it was forgotten."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Print what a pass takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", type=int, default=10000)
    arguments = parser.parse_args()
    policy = archive_policy.ArchivePolicy(
        "policy",
        0,
        [(1440, 60), (720, 3600), (365, 86400)],
        ["mean", "min", "max", "sum", "count", "std", "rate:mean"],
    )
    with servers.influxdb() as server:
        driver = _driver(server)
        second = _write(driver, policy, arguments.metrics)
        downsampler = Downsampler(driver.buckets, driver.conf)
        both = psutil.Process(), *machine.listeners(server.url)
        for target in driver.buckets.downsampled(policy):
            for _ in downsampler.downsample(policy, target, second):
                pass
            _forget_peak()
            began, before = time.monotonic(), [*map(_seconds, both)]
            slices = len([*downsampler.downsample(policy, target)])
            took = time.monotonic() - began
            ours, influxd = (
                after - at
                for after, at in zip(map(_seconds, both), before, strict=True)
            )
            print(
                f"{target.name}: {took:.2f} s in {slices} steps; processor"
                f" time: ours {ours:.2f} s, influxd {influxd:.2f} s;"
                f" at most {_peak():.0f} MiB of memory"
            )


if __name__ == "__main__":
    main()
