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
"""Checks of the queue, and of gnocchi-metricd, which works it off.

Each function yields findings, and raises if it can't find out.
"""

import calendar
import contextlib
import re
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tooz
from gnocchi import incoming
from gnocchi.cli import metricd as gnocchi_metricd
from stevedore import driver
from tooz import coordination

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.cli import output, queries
from gnocchi_influxdb.cli.check.findings import (
    Finding,
    Findings,
    Level,
    Value,
    level,
)
from gnocchi_influxdb.client import client
from gnocchi_influxdb.health import bucket, recorder
from gnocchi_influxdb.wire import influxql_rows

#: Seconds that a measure may wait. gnocchi-metricd comes every
#: [metricd] metric_processing_delay, by default 60.
AGE_WARN = 300.0
AGE_FAIL = 3600.0

#: Seconds after which a process that writes a line of health each minute is
#: missed.
SEEN = 300.0

# Metrics that are looked at for the oldest measure. Files tell their age by
# their names, other queues have to hand out the measures.
_LISTED = 10000
_READ = 500

# How gnocchi.incoming.file names a file: when it was written, in UTC.
_STAMP = re.compile(r"_(\d{8}_\d\d:\d\d:\d\d)$")

# Why Gnocchi finds no number of sacks in a queue that is there: no file, and
# nothing that is a number. Whatever else it hides is a queue that is away.
_NOT_READY = (FileNotFoundError, KeyError, TypeError)

# Seconds to wait for a coordinator, or for the first answer of a queue:
# redis-py tries again for a minute.
_PATIENCE = 10.0

_T = TypeVar("_T")


def in_time(ask: Callable[[], _T]) -> _T:
    """The answer of a service, if it comes before a monitoring system leaves.

    :raises TimeoutError: it does not.
    """
    found: list[_T] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            found.append(ask())
        except Exception as e:
            # It is raised where somebody sees it.
            failed.append(e)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError(f"there is no answer within {_PATIENCE:g} s")
    return found[0]


def open_queue(conf: Any) -> Any:
    """The driver of Gnocchi's queue.

    :param conf: the whole configuration.
    """
    # gnocchi.incoming.get_driver would try again for ever.
    found = driver.DriverManager(
        "gnocchi.incoming", conf.incoming.driver
    ).driver(conf.incoming, False)
    # Ours has one of Gnocchi's own behind it.
    return getattr(found, "queue", found)


def workers(conf: Any) -> int | None:
    """How many workers of gnocchi-metricd are seen in all.

    :param conf: the whole configuration.
    :return: None: the coordinator does not know, as databases do not.
    :raises tooz.ToozError: the coordinator can't be asked.
    """
    name = f"gnocchi-influxdb-check.{uuid.uuid4()}".encode()
    coordinator = coordination.get_coordinator(conf.coordination_url, name)
    coordinator.start()
    try:
        group = gnocchi_metricd.MetricProcessor.GROUP_ID
        return len(coordinator.get_members(group).get())
    except coordination.GroupNotCreated:
        return 0
    except tooz.NotImplemented:
        return None
    finally:
        coordinator.stop()


def metricd(number: int | None) -> Findings:
    """Check that gnocchi-metricd runs somewhere.

    :param number: of its workers, None if that is not known.
    """
    if number is None:
        return
    yield Finding(
        Level.OK if number else Level.WARN,
        "metricd",
        f"{schema.counted(number, 'worker')} of gnocchi-metricd seen"
        if number
        else "no gnocchi-metricd is seen: nothing works off the queue, deletes"
        " metrics, downsamples or writes names",
        "" if number else "start gnocchi-metricd, and see its log",
        (Value("metricd", number),),
    )


def seen(influxdb: client.Client, conf: Any) -> Findings:
    """Check by the lines of the drivers' health that gnocchi-metricd runs.

    Nothing is found if no process at all has written a line lately, or all
    have begun just now: gnocchi-metricd's first line may be to come.

    :param conf: the group of options that the client was made with.
    """
    now = influxdb.clock.now_ns()

    def ages(statement: str) -> dict[str | None, float]:
        """Seconds since the line of each process that is selected."""
        answer = influxdb.influxql(bucket.name(conf), statement)
        return {
            one.get("tags", {}).get("process"): (now - one["values"][0][0])
            / schema.SECOND
            for one in influxql_rows.series(answer)
        }

    try:
        age = ages(queries.newest_health()).get("metricd")
        since = now - int(SEEN * schema.SECOND)
        (oldest,) = ages(queries.oldest_health(since)).values() or (0.0,)
    except (exceptions.BucketNotFoundError, exceptions.ConfigurationError):
        return  # influxdb_health is off, or InfluxQL not for this token.
    if age is not None and age < SEEN:
        text = f"gnocchi-metricd was seen {round(age)} s ago"
        yield Finding(Level.OK, "metricd", text)
        return
    if oldest < 2 * recorder.INTERVAL:
        return
    when = "" if age is None else f" for {output.span(round(age))}"
    yield Finding(
        Level.WARN,
        "metricd",
        f"no gnocchi-metricd has written a line of health{when}, others have:"
        " nothing works off the queue, deletes metrics, downsamples or writes"
        " names",
        "start gnocchi-metricd, and see its log",
    )


def queue(waiting: Any, number: int | None) -> Findings:
    """Check that measures do not wait for long.

    :param waiting: the queue, of `open_queue`.
    :param number: of gnocchi-metricd's workers, None if that is not known.
    """
    try:
        in_time(lambda: waiting.NUM_SACKS)
        report = waiting.measures_report(details=True)
    except incoming.SackDetectionError as e:
        (cause,) = e.args
        if not isinstance(cause, _NOT_READY):
            raise cause from None
        yield Finding(
            Level.FAIL,
            "queue",
            f"{waiting} was not made ready: no measure can wait in it",
            "run gnocchi-upgrade, as Gnocchi's user",
        )
        return
    summary = report["summary"]
    ids = [uuid.UUID(str(name)) for name in report["details"]]
    since, knows = _oldest(waiting, ids)
    age = max(time.time() - since, 0.0) if since is not None else 0.0
    values = (
        Value("queue", summary["measures"]),
        Value("queue_age", round(age, 3), "s", AGE_WARN, AGE_FAIL),
    )
    if not ids:
        yield Finding(
            Level.OK, "queue", f"nothing waits in {waiting}", values=values
        )
        return
    text = (
        f"{schema.counted(summary['measures'], 'bundle')} of measures of"
        f" {schema.counted(summary['metrics'], 'metric')}"
        f" {'waits' if summary['measures'] == 1 else 'wait'} in {waiting}"
    )
    worst = level(age, AGE_WARN, AGE_FAIL)
    if since is not None:
        oldest = output.span(max(round(age), 1))
        # Measures may have been old when they came.
        text += f", the oldest {'for' if knows else 'is of'} {oldest}"
        text += "" if knows else " ago"
        worst = worst if knows else min(worst, Level.WARN)
    if number == 0:
        worst, text = Level.FAIL, f"{text}, and no gnocchi-metricd is seen"
    yield Finding(
        worst,
        "queue",
        text,
        ""
        if worst is Level.OK
        else "start gnocchi-metricd on a host with this queue; if it runs, its"
        " log says why it can't store them",
        values,
    )


class _LeaveThemError(Exception):
    """Raised so that measures that were looked at stay in the queue."""


def _oldest(
    waiting: Any, ids: Sequence[uuid.UUID]
) -> tuple[float | None, bool]:
    """Since when (seconds since the epoch) the oldest measure waits.

    :return: and whether that is known; else when it was measured.
    """
    list_files = getattr(waiting, "_list_measures_container_for_metric", None)
    if list_files is not None:
        names = (name for id_ in ids[:_LISTED] for name in list_files(id_))
        stamps = filter(None, map(_STAMP.search, names))
        oldest = min((stamp[1] for stamp in stamps), default=None)
        if oldest is None:
            return None, True
        parsed = time.strptime(oldest, "%Y%m%d_%H:%M:%S")
        return float(calendar.timegm(parsed)), True
    times: list[int] = []
    with (
        contextlib.suppress(_LeaveThemError),
        waiting.process_measure_for_metrics(list(ids[:_READ])) as found,
    ):
        for measures in found.values():
            times += measures["timestamps"].astype("int64").tolist()
        raise _LeaveThemError
    return (min(times) / 1e9 if times else None), False
