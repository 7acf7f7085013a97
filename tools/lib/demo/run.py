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
"""One run of the demonstration, from its servers to its report."""

import argparse
import contextlib
import functools
import importlib.metadata
import pathlib
import shutil
import statistics
import sys
import tempfile
import traceback
import uuid
from typing import Any

import gnocchiclient.auth
import gnocchiclient.client
import gnocchiclient.exceptions
import servers

from demo import (
    check,
    environment,
    feed,
    host,
    processes,
    report,
    services,
    traces,
)

# Seconds.
_GRANULARITY = 5
_READABLE_TIMEOUT = 60
_REQUEST_TIMEOUT = 15
_REMOVAL_TIMEOUT = 3


class Demo:
    """One run.

    :ivar state: a directory with the configuration and the logs.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.state = pathlib.Path(tempfile.mkdtemp(prefix="gnocchi-demo-"))
        self._arguments = arguments
        self._progress = report.Progress()
        self._say = self._progress.say
        # Servers that the environment names may know other runs.
        run = uuid.uuid4().hex[:8]
        self._policy = f"demo-{run}"
        self._resource = f"{environment.host_name()}-{run}"

    def run(self, exits: contextlib.ExitStack) -> dict[str, Any]:
        """Start the servers, send, read back and check.

        :param exits: ends what was started.
        :return: what :func:`report.show` takes.
        """
        if environment.indexer_is_given():
            environment.require_influxdb()
        exits.callback(self._progress.ticks_done)
        influxdb = exits.enter_context(servers.influxdb(say=self._say))
        indexer = exits.enter_context(servers.postgresql(say=self._say))
        storage = environment.storage_options(influxdb)
        config = services.configuration(storage, indexer, self.state)
        gnocchi = services.Gnocchi(self.state, config, self._say)
        self._say("gnocchi-upgrade makes tables and sacks")
        gnocchi.upgrade(shared=environment.indexer_is_given())
        if environment.influxdb_is_given():
            exits.callback(
                traces.attempt,
                "The bucket of the demonstration",
                self._say,
                functools.partial(
                    servers.delete_buckets,
                    influxdb.url,
                    influxdb.token,
                    influxdb.org,
                    f"gnocchi-{self._policy}",
                ),
            )
        self._say("Starting gnocchi-api and gnocchi-metricd")
        gnocchi.start_metricd(exits)
        gnocchi.start_api(exits)
        exits.callback(self._say, "Stopping everything")
        self._say(f"gnocchi-api answers on {gnocchi.url}")
        self._say(f"It all runs with {gnocchi.config_file}:")
        for line in gnocchi.shown_config():
            self._say(f"    {line}")
        client = _client(gnocchi.url, _REQUEST_TIMEOUT)
        if environment.influxdb_is_given() or environment.indexer_is_given():
            exits.callback(
                traces.attempt,
                "The resource of the demonstration",
                self._say,
                functools.partial(
                    traces.remove_resource,
                    _client(gnocchi.url, _REMOVAL_TIMEOUT),
                    self._resource,
                    self._policy,
                ),
            )
        try:
            return self._measure(client, gnocchi, influxdb)
        except gnocchiclient.exceptions.ClientException as error:
            raise processes.DemoError(
                f"A request to gnocchi-api failed: {error}", gnocchi.logs()
            ) from error
        except processes.DemoError as error:
            raise processes.DemoError(
                str(error), error.log or gnocchi.logs()
            ) from None

    def _measure(
        self, client: Any, gnocchi: services.Gnocchi, influxdb: Any
    ) -> dict[str, Any]:
        seconds = self._arguments.seconds
        feeder = feed.Feed(client, self._resource)
        feeder.create(self._policy, _GRANULARITY)
        self._say(
            f"Resource {self._resource} with the metrics "
            + ", ".join(meter.name for meter in host.METERS)
        )
        self._say(f"Sending a measure of each every second for {seconds} s")
        feeder.run(seconds, self._progress.tick, gnocchi.require_running)
        self._progress.ticks_done()
        self._say("Reading aggregates back")
        counted = feeder.wait_until_readable(
            _READABLE_TIMEOUT, gnocchi.require_running
        )
        result = self._result(feeder, counted)
        result |= {
            "gnocchi": {
                "version": importlib.metadata.version("gnocchi"),
                "url": gnocchi.url,
                "config": str(gnocchi.config_file),
                "resource": self._resource,
            },
            "influxdb": {
                "version": influxdb.version,
                "url": influxdb.url,
                "org": influxdb.org,
                "bucket": f"gnocchi-{self._policy}",
                "how": influxdb.how,
            },
        }
        self._output(result)
        if self._arguments.keep:
            self._keep(feeder, gnocchi, result)
        return result

    def _result(
        self, feeder: feed.Feed, counted: dict[str, int]
    ) -> dict[str, Any]:
        answers = feeder.read(check.METHODS, _GRANULARITY)
        each_second = feeder.read(("mean", "rate:mean"), 1)
        differences: list[str] = []
        compared = 0
        metrics = {}
        for meter in host.METERS:
            sent = feeder.sent[meter.name]
            wanted = check.expected(sent, _GRANULARITY)
            compared += sum(len(windows) for windows in wanted.values())
            differences += check.differences(
                meter.name, wanted, answers[meter.name]
            )
            shown = "rate:mean" if meter.counter else "mean"
            metrics[meter.name] = {
                "unit": meter.unit,
                "sent": len(sent),
                "read": counted[meter.name],
                "aggregates": answers[meter.name],
                "each_second": each_second[meter.name][shown],
            }
        milliseconds = [1000 * latency for latency in feeder.latencies]
        return {
            "ok": not differences,
            "seconds": self._arguments.seconds,
            "granularity": _GRANULARITY,
            "sent": sum(len(points) for points in feeder.sent.values()),
            "read": sum(counted.values()),
            "compared": compared,
            "differences": differences,
            "post_to_readable": {
                "samples": len(milliseconds),
                "median_ms": statistics.median(milliseconds or [0]),
                "max_ms": max(milliseconds, default=0),
            },
            "metrics": metrics,
        }

    def _output(self, result: dict[str, Any]) -> None:
        if self._arguments.json:
            report.print_json(result)
        else:
            report.show(result)

    def _keep(
        self,
        feeder: feed.Feed,
        gnocchi: services.Gnocchi,
        result: dict[str, Any],
    ) -> None:
        for line in environment.how_to_talk(result, gnocchi.config_file):
            self._say(line)
        self._say("It goes on sending a measure a second. Ctrl-C ends it.")
        feeder.run(None, self._progress.tick, gnocchi.require_running)

    def conclude(self, result: dict[str, Any]) -> int:
        for difference in result["differences"]:
            self._say(f"Wrong: {difference}")
        return 0 if result["ok"] else 1

    def fail(self, error: Exception) -> int:
        log = getattr(error, "log", "")
        if not isinstance(error, (processes.DemoError, servers.ServerError)):
            log = "".join(traceback.format_exception(error))
        if log:
            sys.stderr.write(f"{log.rstrip()}\n\n")
        self._say(f"Failed: {error}")
        if any(self.state.iterdir()):
            self._say(f"Configuration and logs were left in {self.state}")
        else:
            self.remove_state()
        if self._arguments.json:
            report.print_json({"ok": False, "error": str(error), "log": log})
        return 1

    def remove_state(self) -> None:
        shutil.rmtree(self.state, ignore_errors=True)


def _client(url: str, timeout: float) -> Any:
    return gnocchiclient.client.Client(
        "1",
        adapter_options={"interface": "public"},
        session_options={
            "auth": gnocchiclient.auth.GnocchiBasicPlugin("admin", url),
            "timeout": timeout,
        },
    )
