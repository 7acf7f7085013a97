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
"""What a call costs beside ever more metrics.

One InfluxDB and one PostgreSQL get 1,000, 10,000, 100,000 metrics and more,
each with 12 measures and a name in the indexer. At each size the same is
asked for, through our driver, through gnocchi-api, and of InfluxDB itself,
which shows whose growth it is: plain writes and deletions, and of a read the
time in which the driver waits for InfluxDB::

    PYTHONPATH=tools/lib python -m benchmarks.growth [--most 1000000]
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Iterable
from typing import Any

import psutil

from benchmarks.harness import growing, machine, measures, policies, runner
from benchmarks.harness.raw import AT_ONCE
from benchmarks.harness.workload import seconds

_SIZES = (1000, 10000, 100000, 1000000)
_REPEATS = 20
_READ = (1, 100)
_DAY = 86400  # as a shard of that policy


def _row(name: str, cells: list[str]) -> None:
    print(f"{name:14}" + "".join(f"{cell:>12}" for cell in cells), flush=True)


def _measure(
    one: growing.Installation, rounds: int, processes: dict[str, Any]
) -> dict[str, float]:
    """Medians, ms, and memory, MiB, by what was measured."""
    samples: dict[str, list[float]] = {}

    def note(key: str, took: Iterable[float]) -> None:
        samples.setdefault(key, []).append(statistics.median(took))

    for _ in range(rounds):
        for number, (name, make) in enumerate(one.steps()):
            calls = [make() for _ in range(_REPEATS)]
            # The name alone is not of one row.
            note(f"{number} {name}", [1000 * seconds(call) for call in calls])
        for number in _READ:
            took = [one.timed_read(number) for _ in range(_REPEATS)]
            whole, asking = zip(*took, strict=True)
            note(f"5 read {number}", whole)
            note(f"6   InfluxDB, {number}", asking)
        janitor, alone = one.delete()
        note("7 delete 1", [janitor])
        note("8   InfluxDB", [alone])
    found = {key: statistics.median(values) for key, values in samples.items()}
    for name, process in processes.items():
        found[f"9 MiB {name}"] = machine.memory(process)
    return found


def main() -> None:
    """Print a table, a column a size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=100000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--policy", choices=[*policies.POLLED], default="low")
    arguments = parser.parse_args()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    columns = []
    with contextlib.ExitStack() as exits:
        taking = exits.enter_context(
            runner.field(["influxdb"], [AT_ONCE], None, say)
        )
        target = taking.targets["influxdb"]
        metricd = target.start_metricd()
        api = target.api()
        one = growing.Installation(
            target,
            taking.targets[AT_ONCE],
            api,
            policies.POLLED[arguments.policy],
            # Of a day that has not begun: nothing is late.
            measures.polled_time() // _DAY * _DAY + _DAY,
        )
        processes = {
            "influxd": machine.listeners(target.conf.storage.influxdb_url),
            "api": machine.listeners(api),
            "metricd": [psutil.Process(metricd)],
        }
        for size in _SIZES:
            if size > arguments.most:
                break
            began = time.monotonic()
            one.grow(size)
            say(f"{size:,} metrics after {time.monotonic() - began:.0f} s")
            columns.append((size, _measure(one, arguments.rounds, processes)))
            say(json.dumps(columns[-1]))
    _row("metrics", [f"{size:,}" for size, _found in columns])
    for key in columns[0][1]:
        cells = [found[key] for _size, found in columns]
        _row(key[2:], [f"{cell:.2f}" for cell in cells])


if __name__ == "__main__":
    main()
