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
"""One run: servers, load, trouble, and the check in the end."""

import contextlib
import os
import pathlib
import time
from typing import Any

import demo.environment
import servers
import servers.api
from demo import processes, services
from servers.postgresql import VARIABLE

from soak import ledger, load, memory, trouble

_METRICS = 10
_POSTERS = 3
_INFLUXDB_TIMEOUT = 10
# Seconds that a POST may take beyond influxdb_timeout before it is counted as
# a late one.
_MARGIN = 5
_CALM = (8, 60)
_DRAIN = 180


def run(
    exits: contextlib.ExitStack,
    state: pathlib.Path,
    minutes: float,
    say: Any,
) -> dict[str, Any]:
    """Put a Gnocchi under load while servers crash, and check it.

    :param exits: ends what was started.
    :return: the summary; `wrong` is a list of sentences.
    :raises processes.DemoError: Gnocchi does not start, or has ended.
    """
    # Never on somebody's own servers.
    os.environ.pop(VARIABLE, None)
    server = exits.enter_context(servers.influxdb_server(say))
    indexer = exits.enter_context(servers.postgresql(say))
    options = demo.environment.storage_options(
        servers.InfluxDB(
            server.url, server.token, server.org, server.version, server.how
        )
    ) | {"influxdb_timeout": str(_INFLUXDB_TIMEOUT)}
    gnocchi = trouble.Gnocchi(
        state, services.configuration(options, indexer, state), say
    )
    say("gnocchi-upgrade makes tables and sacks")
    gnocchi.upgrade(shared=False)
    gnocchi.start_metricd(exits)
    gnocchi.start_api(exits)
    say(f"gnocchi-api answers on {gnocchi.url}")
    api = load.API(gnocchi.url, _INFLUXDB_TIMEOUT + _MARGIN)
    book = ledger.Ledger()
    clients = _clients(api, book)
    watch = memory.Memory(gnocchi.pids)
    makes = trouble.Trouble(gnocchi, server, time.sleep, say)
    started = time.monotonic()
    watch.start()
    for client in clients:
        client.start()
    try:
        _go_on(started + minutes * 60, minutes, gnocchi, makes)
    finally:
        for client in clients:
            client.stop()
    for client in clients:
        client.join(150)
        if client.is_alive():
            book.complain(f"{type(client).__name__} got no answer in 150 s")
    watch.stop()
    say("The load has ended; looking for each measure")
    _drain(api, book, gnocchi)
    compared = _compare(api, book)
    _look_for_deleted(server, api, book)
    return {
        "minutes": minutes,
        "metrics": len(book.metrics()),
        "accepted": book.accepted(),
        "compared": compared,
        "deleted": len(book.gone()),
        "trouble": makes.made,
        "statuses": {
            method: {str(status): n for status, n in counts.items()}
            for method, counts in api.statuses.items()
        },
        "slowest_s": {m: round(s, 2) for m, s in api.slowest.items()},
        "late": api.late,
        "memory": watch.summary(),
        "influxdb": server.version,
        "wrong": book.wrong + watch.wrong(),
    }


def _clients(api: load.API, book: ledger.Ledger) -> list[load.Client]:
    api.ask(
        "POST",
        "archive_policy",
        json={
            "name": load.POLICY,
            "back_window": 0,
            "aggregation_methods": list(load.METHODS),
            "definition": [
                {"granularity": "1s", "timespan": "2d"},
                {"granularity": "60s", "timespan": "2d"},
            ],
        },
    )
    clients: list[load.Client] = [
        load.Reader(api, book),
        load.Changer(api, book),
    ]
    for _ in range(_POSTERS):
        metrics = [api.create() for _ in range(_METRICS)]
        created = [metric for metric in metrics if metric is not None]
        if len(created) != _METRICS:
            raise processes.DemoError("gnocchi-api can't create metrics")
        for metric in created:
            book.created(metric)
        clients.append(load.Poster(api, book, created))
    return clients


def _go_on(
    end: float,
    minutes: float,
    gnocchi: trouble.Gnocchi,
    makes: trouble.Trouble,
) -> None:
    shortest, longest = _CALM
    calm = min(max(minutes * 60 / 12, shortest), longest)
    while True:
        until = min(time.monotonic() + calm, end)
        while time.monotonic() < until:
            gnocchi.require_running()
            time.sleep(0.2)
        # None so late that there is no load after it.
        if time.monotonic() + calm > end:
            time.sleep(max(0, end - time.monotonic()))
            return
        makes.make()


def _drain(
    api: load.API, book: ledger.Ledger, gnocchi: trouble.Gnocchi
) -> None:
    """Wait until metricd has brought the queue to InfluxDB."""
    deadline = time.monotonic() + _DRAIN
    while time.monotonic() < deadline:
        gnocchi.require_running()
        answer = api.ask("GET", "status")
        if answer is not None and answer.status_code == 200:
            waiting = answer.json()["storage"]["summary"]["measures"]
            if waiting == 0:
                return
        time.sleep(0.5)
    book.complain(f"the queue is not empty after {_DRAIN} s")


def _compare(api: load.API, book: ledger.Ledger) -> int:
    compared = 0
    for metric in book.metrics():
        found = api.measures(metric.id, "last")
        if found is None:
            book.complain(f"metric {metric.id} can't be read")
            continue
        compared += len(found)
        for what in metric.wrong(found):
            book.complain(what)
    return compared


def _look_for_deleted(
    server: servers.InfluxDBServer, api: load.API, book: ledger.Ledger
) -> None:
    """Wait until the janitor has deleted the points of deleted metrics.

    If an outage's queue has stored something of a metric after its deletion,
    the janitor finds that with the next deletion, a minute later at the
    earliest. So metrics are made and deleted as long as it takes.
    """
    deadline = time.monotonic() + _DRAIN
    while True:
        left = book.gone() & _metrics_with_points(server)
        if not left:
            return
        if time.monotonic() > deadline:
            book.complain(f"{len(left)} deleted metrics are still in InfluxDB")
            return
        metric = api.create()
        if metric is not None:
            api.ask("DELETE", f"metric/{metric}")
        time.sleep(5)


def _metrics_with_points(server: servers.InfluxDBServer) -> set[str]:
    answer = servers.api.call(
        "GET",
        server.url,
        "/query",
        token=server.token,
        query={
            "db": f"gnocchi-{load.POLICY}",
            "q": "SELECT last(value) FROM measure GROUP BY metric",
        },
        timeout=120,
    )["results"][0]
    return {series["tags"]["metric"] for series in answer.get("series", [])}
