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
"""A private Gnocchi: its configuration and its processes."""

import contextlib
import os
import pathlib
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping

import gnocchi.rest
import servers
import servers.process

from demo import processes

# Seconds.
_UPGRADE_TIMEOUT = 120
_API_TIMEOUT = 90
_RACE_DELAY = 5


def configuration(
    storage: Mapping[str, str], indexer_url: str, state: pathlib.Path
) -> str:
    """Text of a gnocchi.conf.

    :param storage: the options of ``[storage]``.
    :param state: where the queue of measures is kept.
    """
    paste = pathlib.Path(gnocchi.rest.__file__).with_name("api-paste.ini")
    sections: dict[str, dict[str, str]] = {
        # Threads that wait for InfluxDB: calls that wait share queries.
        "DEFAULT": {"parallel_operations": "32"},
        "storage": {**storage, "file_basepath": str(state / "queue")},
        "indexer": {"url": indexer_url},
        "api": {
            "auth_mode": "basic",
            "host": "127.0.0.1",
            "port": "8041",
            # Named, or oslo.config takes one that lies in /etc/gnocchi.
            "paste_config": str(paste),
        },
        # The file queue can't wake metricd, which looks once in a time.
        "metricd": {
            "workers": "1",
            "metric_processing_delay": "1",
            "metric_cleanup_delay": "1",
        },
    }
    lines = []
    for section, options in sections.items():
        lines.append(f"[{section}]")
        for name, value in options.items():
            lines.append(f"{name} = {value.replace('$', '$$')}")
        lines.append("")
    return "\n".join(lines)


class Gnocchi:
    """gnocchi-upgrade, gnocchi-api and gnocchi-metricd over one state dir.

    :ivar url: the API's, once it was started.
    """

    def __init__(
        self, state: pathlib.Path, config: str, say: Callable[[str], None]
    ) -> None:
        self.url = ""
        self.config_file = state / "gnocchi.conf"
        self._state = state
        self._say = say
        self._api: processes.Process | None = None
        self._metricd: processes.Process | None = None
        # mkdtemp made the directory for this user only.
        self.config_file.write_text(config, "utf-8")
        # Keeps /etc/gnocchi/gnocchi.conf.d of this host out of it.
        self._config_dir = state / "gnocchi.conf.d"
        self._config_dir.mkdir()
        (state / "queue").mkdir()

    def upgrade(self, *, shared: bool) -> None:
        """Make the tables and sacks.

        :param shared: others may use the database. gnocchi-upgrade fails
            where another one makes the tables at the same time.
        """
        try:
            self._upgrade()
        except processes.DemoError as error:
            if not (shared and "already exists" in error.log):
                raise
            self._say("Another gnocchi-upgrade was at work; once more")
            time.sleep(_RACE_DELAY)
            self._upgrade()

    def _upgrade(self) -> None:
        process = self._process("gnocchi-upgrade", "--sacks-number", "8")
        try:
            process.start()
            # It retries for ever what a driver can't do at its construction.
            process.wait(_UPGRADE_TIMEOUT, self._say)
        finally:
            process.stop()

    def start_api(self, exits: contextlib.ExitStack) -> None:
        """Start the API and wait until it answers.

        :raises DemoError: it ended, or it does not answer.
        """
        for attempt in range(3):
            port = self._choose_port()
            # On SIGTERM uWSGI waits for clients that keep a connection.
            api = self._process("gnocchi-api", stop_signal=signal.SIGINT)
            # Registered first: no signal can come in between.
            exits.callback(api.stop)
            api.start()
            url = f"http://127.0.0.1:{port}"
            try:
                self._wait_for_api(api, url)
            except processes.DemoError as error:
                taken = "Address already in use" in error.log
                if not taken or attempt == 2:
                    raise
                self._say(f"Port {port} was taken meanwhile; another one")
                continue
            self._api, self.url = api, url
            return

    def start_metricd(self, exits: contextlib.ExitStack) -> int | None:
        """Start gnocchi-metricd; its process id."""
        metricd = self._process("gnocchi-metricd")
        exits.callback(metricd.stop)
        metricd.start()
        self._metricd = metricd
        return metricd.pid

    def require_running(self) -> None:
        """Check that all processes still run.

        :raises DemoError: one of the processes has ended.
        """
        for process in (self._api, self._metricd):
            if process is not None:
                process.require_running()

    def logs(self) -> str:
        """The last lines of the two services' logs."""
        return "\n".join(
            f"--- {process.name}\n{process.tail()}"
            for process in (self._api, self._metricd)
            if process is not None
        )

    def shown_config(self) -> list[str]:
        """Lines of the configuration, without secrets."""
        config = self.config_file.read_text("utf-8")
        return list(filter(None, _without_secrets(config).splitlines()))

    def _choose_port(self) -> int:
        port = servers.free_port()
        config = self.config_file.read_text("utf-8")
        self.config_file.write_text(
            re.sub(r"(?m)^port = .*$", f"port = {port}", config), "utf-8"
        )
        return port

    def _process(
        self,
        name: str,
        *arguments: str,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> processes.Process:
        executables = pathlib.Path(sys.executable).parent
        # gnocchi-api looks for uwsgi on the PATH. OS_GROUP__OPTION in the
        # environment would win over the configuration file.
        env = {
            variable: value
            for variable, value in os.environ.items()
            if not re.match(r"OS_\w+__\w+$", variable)
        }
        env["PATH"] = f"{executables}{os.pathsep}{env.get('PATH', os.defpath)}"
        env["VIRTUAL_ENV"] = sys.prefix
        command = [
            str(executables / name),
            f"--config-file={self.config_file}",
            f"--config-dir={self._config_dir}",
            *arguments,
        ]
        log = self._state / f"{name}.log"
        return processes.Process(name, command, log, env, stop_signal)

    def _wait_for_api(self, api: processes.Process, url: str) -> None:
        ticker = servers.process.Ticker(self._say)
        while ticker.elapsed < _API_TIMEOUT:
            ticker.tick(lambda: f"waiting for gnocchi-api on {url}")
            api.require_running()
            # uWSGI starts a worker that fails again and again.
            if "trying respawn" in api.tail():
                raise api.failed("gnocchi-api can't load the application.")
            try:
                with urllib.request.urlopen(f"{url}/", timeout=5):
                    return
            except urllib.error.HTTPError as error:
                raise api.failed(
                    f"gnocchi-api answers {error.code} at {url}."
                ) from None
            except OSError:
                time.sleep(0.1)
        raise api.failed(
            f"gnocchi-api does not answer at {url} after {_API_TIMEOUT} s."
        )


def _without_secrets(config: str) -> str:
    """The text of a configuration, fit to be shown."""
    config = re.sub(r"(?m)^(influxdb_token = ).*$", r"\1***", config)
    return re.sub(r"(://[^:/@\s]+:)[^@\s]+@", r"\1***@", config)
