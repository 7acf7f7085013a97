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
"""What the work of a day takes with many metrics.

A Gnocchi gets metrics of one archive policy with an hour of measures each.
They are polled for some rounds through gnocchi-api, read, downsampled,
checked and deleted in part, and of each step the time and the memory are
told::

    PYTHONPATH=tools/lib python -m benchmarks.operations --metrics 100000
"""

import argparse
import concurrent.futures
import contextlib
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import psutil

from benchmarks.harness import growing, machine, policies, runner
from benchmarks.harness.workload import seconds

_POSTED = 1000
_CLIENTS = 3
_READS = 50


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _told(step: str, took: float, more: str = "") -> None:
    print(f"{step:28}{took:>10.1f} s  {more}".rstrip(), flush=True)


def _poll(one: growing.Installation, at: int) -> None:
    """A measure of each metric, a thousand metrics a request."""
    calls = [
        one.post(one.ids[first : first + _POSTED], at)
        for first in range(0, len(one.ids), _POSTED)
    ]
    with concurrent.futures.ThreadPoolExecutor(_CLIENTS) as pool:
        began = time.perf_counter()
        took = sorted(pool.map(seconds, calls))
        whole = time.perf_counter() - began
    _told(
        f"POST of {len(one.ids):,} measures",
        whole,
        f"{len(one.ids) / whole:,.0f} a second; a request of"
        f" {_POSTED:,}: median {statistics.median(took):.2f} s, longest"
        f" {took[-1]:.2f} s",
    )


def _reads(one: growing.Installation) -> None:
    makers: dict[str, Callable[[], Callable[[], Any]]] = {
        "driver reads 1 metric": lambda: one.read(1),
        "driver reads 100 metrics": lambda: one.read(100),
        "GET of 1 metric": lambda: one.get(),
    }
    for what, make in makers.items():
        took = [seconds(make()) for _ in range(_READS)]
        _told(
            what,
            sum(took),
            f"{_READS} times, median {1000 * statistics.median(took):.1f} ms",
        )


def _command(files: list[str], *arguments: str) -> None:
    """Run gnocchi-influxdb, and tell its time and memory."""
    began = time.perf_counter()
    program = pathlib.Path(sys.executable).with_name("gnocchi-influxdb")
    peak, processor = 0, 0.0
    with tempfile.TemporaryFile("w+") as said:
        process = psutil.Popen(
            [str(program), *files, *arguments], stdout=said, stderr=said
        )
        # ru_maxrss would be this process' own, which has forked it.
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                peak = max(peak, process.memory_info().rss)
                times = process.cpu_times()
                processor = times.user + times.system
            time.sleep(0.05)
        said.seek(0)
        _say(said.read())
    _told(
        " ".join(arguments),
        time.perf_counter() - began,
        f"{peak / 2**20:.0f} MiB, processor {processor:.0f} s, exit"
        f" {process.returncode}",
    )


def _delete(one: growing.Installation, number: int) -> None:
    doomed = one.some(number)
    took = seconds(
        lambda: [one.target.indexer.delete_metric(m.id) for m in doomed]
    )
    _told(f"marking {number:,} as deleted", took, "the indexer alone")
    storage = one.target.storage
    delete, in_storage = storage._delete_metric, 0.0

    def timed(metric: Any) -> None:
        nonlocal in_storage
        in_storage += seconds(lambda: delete(metric))

    with mock.patch.object(storage, "_delete_metric", timed):
        took = seconds(lambda: one.target.expunge(number))
    _told(
        f"janitor, {number:,} metrics",
        took,
        f"{1000 * took / number:.1f} ms a metric,"
        f" {1000 * in_storage / number:.1f} of them in storage",
    )


def main() -> None:
    """Print a line a step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", type=int, default=10000)
    parser.add_argument("--delete", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--policy", choices=[*policies.POLLED], default="medium"
    )
    arguments = parser.parse_args()
    with contextlib.ExitStack() as exits:
        taking = exits.enter_context(
            runner.field(["influxdb"], [], None, _say)
        )
        target = taking.targets["influxdb"]
        # The hour is over, and so are its windows.
        start = int(time.time()) // 3600 * 3600 - 7200
        one = growing.Installation(
            target, None, "", policies.POLLED[arguments.policy], start
        )
        _told(
            f"making {arguments.metrics:,} metrics",
            seconds(lambda: one.grow(arguments.metrics)),
            f"{growing.HISTORY} measures each",
        )
        files = target.configuration
        _command(files, "downsample")
        one.api = target.api()
        metricd = target.start_metricd()
        processes = {
            "influxd": machine.listeners(target.conf.storage.influxdb_url),
            "api": machine.listeners(one.api),
            "metricd": [psutil.Process(metricd)],
        }
        for _ in range(arguments.rounds):
            _poll(one, int(time.time()) - 1)
        _reads(one)
        for command in (
            ("status",),
            ("check",),
            ("names",),
            ("downsample",),
            ("prune", "--dry-run"),
        ):
            _command(files, *command)
        _delete(one, arguments.delete)
        for name, process in processes.items():
            print(f"memory of {name}: {machine.memory(process):,.0f} MiB")


if __name__ == "__main__":
    main()
