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
"""Runs workloads: drivers in turn, several rounds."""

import contextlib
import dataclasses
import gc
import pathlib
import secrets
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import servers
from servers.redis import redis_server

from benchmarks.harness import machine, measures, results
from benchmarks.harness.raw import FLOORS, Raw
from benchmarks.harness.sizes import Sizes
from benchmarks.harness.targets import Target
from benchmarks.harness.workload import Workload

Say = Callable[[str], None]

#: In the order of columns; the last is the project's.
DRIVERS = ("file", "redis", "influxdb")

_NO_REDIS = "there is no redis-server or valkey-server on PATH"


@dataclasses.dataclass
class Field:
    """The targets that take part.

    :ivar state: the directory of their files.
    :ivar targets: by name.
    :ivar left_out: {driver: why}.
    """

    state: pathlib.Path
    targets: dict[str, Any] = dataclasses.field(default_factory=dict)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)


def run(
    workloads: Sequence[Workload],
    drivers: Sequence[str],
    sizes: Sizes,
    directory: pathlib.Path | None,
    say: Say,
    progress: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Run all rounds of some workloads.

    :param progress: called with the result so far after each round.
    :return: what `results.result` makes.
    :raises ServerError: a server can't be started.
    """
    floors = {floor for workload in workloads for floor in workload.floors}
    with field(drivers, floors, directory, say) as taking:
        if "Redis" not in taking.versions:
            for workload in workloads:
                if workload.needs_redis:
                    taking.left_out[workload.name] = _NO_REDIS
            workloads = [w for w in workloads if not w.needs_redis]
        recorder = results.Recorder(
            workloads,
            sizes,
            taking.left_out,
            machine.describe(taking.state) | {"versions": taking.versions},
        )
        for number in range(sizes.rounds):
            for workload in workloads:
                _round(workload, number, taking.targets, sizes, recorder)
                say(
                    f"round {number + 1} of {sizes.rounds}: "
                    + recorder.line(workload)
                )
            progress(recorder.result())
        return recorder.result()


def _round(
    workload: Workload,
    number: int,
    targets: dict[str, Any],
    sizes: Sizes,
    recorder: results.Recorder,
) -> None:
    names = [n for n in targets if n not in FLOORS or n in workload.floors]
    # Each is the first now and then.
    turn = number % len(names)
    answers: dict[str, measures.Answer] = {}
    for name in names[turn:] + names[:turn]:
        gc.collect()
        outcome = workload.run(targets[name], number, sizes)
        recorder.record(workload, name, outcome.samples)
        answers[name] = outcome.answer
    first = next(iter(answers))
    for name in answers:
        difference = measures.difference(answers[first], answers[name])
        if difference is not None:
            recorder.differ(workload, f"{first} and {name}: {difference}")


@contextlib.contextmanager
def field(
    drivers: Sequence[str],
    floors: Collection[str],
    directory: pathlib.Path | None,
    say: Say,
) -> Iterator[Field]:
    """Servers and drivers, all gone when the context ends.

    :param directory: where files are kept, the system's for temporary ones
        if None.
    """
    with contextlib.ExitStack() as exits:
        state = pathlib.Path(
            tempfile.mkdtemp(prefix="gnocchi-bench-", dir=directory)
        )
        exits.callback(shutil.rmtree, state, ignore_errors=True)
        indexer = exits.enter_context(servers.postgresql(say, durable=True))
        taking = Field(state)
        redis = exits.enter_context(redis_server(state / "redis"))
        if redis is not None:
            taking.versions["Redis"] = redis.version
        for index, name in enumerate(drivers):
            if name == "redis" and redis is None:
                taking.left_out[name] = _NO_REDIS
                say(f"{name} is left out: {_NO_REDIS}")
                continue
            options = {"driver": name, "file_basepath": str(state / "files")}
            if name == "redis" and redis is not None:
                options["redis_url"] = redis.url(0)
            if name == "influxdb":
                options |= _influxdb(exits, taking, say)
            say(f"Gnocchi with the {name} driver")
            options["file_basepath"] += f"-{name}"
            pathlib.Path(options["file_basepath"]).mkdir()
            target = Target(
                name,
                options,
                indexer,
                redis.url(index + 1) if redis is not None else None,
                state / name,
                say,
            )
            exits.callback(target.close)
            taking.targets[name] = target
            taking.versions["PostgreSQL"] = machine.postgresql_version(
                target.indexer
            )
            if name == "influxdb":
                prefix = options["influxdb_bucket_prefix"]
                for floor in FLOORS:
                    if floor in floors:
                        taking.targets[floor] = Raw(
                            floor, target, f"{prefix}{floor}-"
                        )
        yield taking


def _influxdb(
    exits: contextlib.ExitStack, taking: Field, say: Say
) -> dict[str, str]:
    """Options of the driver, for a server with buckets of our own."""
    influxdb = exits.enter_context(servers.influxdb(say))
    # On InfluxDB 1.x a database of our own.
    end = "/" if influxdb.release == 1 else "-"
    prefix = f"bench-{secrets.token_hex(4)}{end}"
    exits.callback(
        servers.delete_buckets,
        influxdb.url,
        influxdb.token,
        influxdb.org,
        prefix,
    )
    taking.versions["InfluxDB"] = influxdb.version
    return {
        "influxdb_url": influxdb.url,
        "influxdb_token": influxdb.token,
        "influxdb_org": influxdb.org,
        "influxdb_bucket_prefix": prefix,
    }
