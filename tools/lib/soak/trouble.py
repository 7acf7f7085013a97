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
"""Crashes and restarts."""

import itertools
import random
import urllib.error
import urllib.request
from collections.abc import Callable

import servers
from demo import services


class Gnocchi(services.Gnocchi):
    """A Gnocchi whose metricd can be restarted."""

    def restart_metricd(self) -> None:
        if self._metricd is not None:
            self._metricd.stop()
            self._metricd.start()

    def pids(self) -> dict[str, int | None]:
        return {
            name: None if process is None else process.pid
            for name, process in (
                ("gnocchi-api", self._api),
                ("gnocchi-metricd", self._metricd),
            )
        }


class Trouble:
    """Makes trouble of one kind after the other.

    :param wait: waits some seconds, while the load goes on.
    :ivar made: how often each kind was made.
    """

    def __init__(
        self,
        gnocchi: Gnocchi,
        server: servers.InfluxDBServer,
        wait: Callable[[float], None],
        say: Callable[[str], None],
    ) -> None:
        self._gnocchi = gnocchi
        self._server = server
        self._wait = wait
        self._say = say
        kinds = (self._crash, self._restart_metricd, self._stop, self._both)
        self._kinds = itertools.cycle(kinds)
        self.made: dict[str, int] = {}

    def make(self) -> None:
        kind = next(self._kinds)
        name = kind.__name__.strip("_")
        self._say(f"Trouble: {kind.__doc__}")
        self.made[name] = self.made.get(name, 0) + 1
        kind()

    def _crash(self) -> None:
        """InfluxDB is killed, and started again"""
        self._server.kill()
        self._wait(random.uniform(0.5, 4))
        self._server.start()
        # Up to 2.9.1 a server that was killed in the middle of an entry of
        # its log loses on its next start what it took since this one. A
        # backup makes it write everything to data files before.
        back_up(self._server)

    def _stop(self) -> None:
        """InfluxDB is stopped, and started again"""
        self._server.stop()
        self._wait(random.uniform(0.5, 4))
        self._server.start()

    def _restart_metricd(self) -> None:
        """gnocchi-metricd is restarted"""
        self._gnocchi.restart_metricd()

    def _both(self) -> None:
        """InfluxDB is killed, and metricd restarted meanwhile"""
        self._server.kill()
        self._gnocchi.restart_metricd()
        self._wait(random.uniform(0.5, 4))
        self._server.start()
        back_up(self._server)


def back_up(server: servers.InfluxDBServer) -> None:
    """Have all shards sent, as `influx backup` does."""
    for shard in itertools.count(1):
        request = urllib.request.Request(
            f"{server.url}/api/v2/backup/shards/{shard}",
            headers={"Authorization": f"Token {server.token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                while reply.read(1 << 20):
                    pass
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return
