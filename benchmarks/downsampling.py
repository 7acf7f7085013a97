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

Writes an hour of minutes for a number of metrics, as one archive policy with
three definitions has them, and downsamples it: python -m
benchmarks.downsampling --metrics 10000
"""

import argparse
import os
import resource
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
from gnocchi_influxdb.downsampling.downsampler import Downsampler
from gnocchi_influxdb.storage import InfluxDBStorage
from gnocchi_influxdb.write import batch

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


def _write(driver: InfluxDBStorage, policy: Any, number: int) -> None:
    """An hour of minutes that is over for so many metrics."""
    start = schema.floor(time.time_ns(), _HOUR) - 2 * _HOUR
    times = numpy.arange(start, start + _HOUR, _MINUTE).view("M8[ns]")
    chance = numpy.random.default_rng(1)
    for first in range(0, number, _AT_ONCE):
        measures = [
            (
                indexer.Metric(uuid.uuid4(), policy),
                schema.points(times, chance.random(len(times))),
            )
            for _ in range(min(_AT_ONCE, number - first))
        ]
        for one in batch.batches(measures, driver.buckets.name):
            driver._writer.write(one)


def _seconds(process: psutil.Process | None) -> float:
    """Processor time that a process has taken."""
    if process is None:
        return float("nan")
    times = process.cpu_times()
    return float(times.user + times.system)


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
        _write(driver, policy, arguments.metrics)
        downsampler = Downsampler(driver.buckets, driver.conf)
        both = psutil.Process(), *machine.listeners(server.url)
        for target in driver.buckets.downsampled(policy):
            began, before = time.monotonic(), [*map(_seconds, both)]
            slices = len([*downsampler.downsample(policy, target)])
            took = time.monotonic() - began
            ours, influxd = (
                after - at
                for after, at in zip(map(_seconds, both), before, strict=True)
            )
            print(
                f"{target.name}: {took:.2f} s in {slices} steps; processor"
                f" time: ours {ours:.2f} s, influxd {influxd:.2f} s"
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory of this process: {peak / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
