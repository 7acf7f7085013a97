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
"""The installation of Gnocchi that a configuration describes."""

import functools
import logging
import urllib.parse
from typing import Any

from gnocchi import service
from stevedore import driver

from gnocchi_influxdb import exceptions, opts
from gnocchi_influxdb.buckets import manager, visibility
from gnocchi_influxdb.buckets.manager import Bucket
from gnocchi_influxdb.client import client, control_plane


class Deployment:
    """What a command works on. Each part is made when it is first needed.

    :ivar files: configuration files; none: where Gnocchi looks itself.
    :ivar directories: directories of configuration files.
    :ivar level: of what is logged.
    """

    def __init__(self) -> None:
        self.files: list[str] = []
        self.directories: list[str] = []
        self.level = logging.WARNING

    @functools.cached_property
    def conf(self) -> Any:
        """The whole configuration.

        :raises oslo_config.cfg.Error: it is not there, or wrong.
        """
        conf = service.prepare_service(
            [f"--config-file={name}" for name in self.files]
            + [f"--config-dir={name}" for name in self.directories],
            log_to_std=True,
            logging_level=self.level,
            skip_log_opts=True,
        )
        logging.getLogger("gnocchi_influxdb").setLevel(self.level)
        opts.register(conf.storage)
        for group, options in opts.list_opts():
            for option in options:
                # oslo.config checks a value when it is first read.
                getattr(conf[group], option.dest)
        # Somebody waits at the terminal, or a monitoring system does: tell
        # at once that a database is away.
        conf.set_override("max_retries", 0, "database")
        # That is of Gnocchi's own processes.
        conf.set_override("influxdb_health", False, "storage")
        return conf

    @functools.cached_property
    def indexer(self) -> Any:
        """Gnocchi's indexer."""
        # gnocchi.indexer.get_driver would try again for ever.
        scheme = urllib.parse.urlsplit(self.conf.indexer.url).scheme
        return driver.DriverManager("gnocchi.indexer", scheme).driver(
            self.conf
        )

    @functools.cached_property
    def policies(self) -> list[Any]:
        """The archive policies of the indexer, by name."""
        found = self.indexer.list_archive_policies()
        return sorted(found, key=lambda policy: str(policy.name))

    @functools.cached_property
    def client(self) -> client.Client:
        """The client of InfluxDB."""
        return client.Client(self.conf.storage)

    @functools.cached_property
    def buckets(self) -> manager.Buckets:
        """The buckets of the archive policies."""
        return manager.Buckets(self.client, self.conf.storage)

    def find(self, bucket: str) -> Bucket | None:
        """The bucket of that name, None if it is not there.

        :raises ForbiddenError: the token may not read it.
        """
        found = self.buckets.find(bucket)
        if (
            found is None
            and self.client.capabilities.hides
            and visibility.takes_writes(self.client, bucket)
        ):
            raise exceptions.ForbiddenError(
                f"The token in [storage] influxdb_token may not read bucket"
                f" {bucket!r} of InfluxDB at {self.client.url};"
                f" {control_plane.to_make_token(self.client.org)}"
            )
        return found

    def find_all(self) -> dict[str, list[Bucket | None]]:
        """The buckets of each archive policy, see `Buckets.names`.

        :return: by name of the policy; None is not there.
        :raises AccessError: the token may not read one, or sees nothing.
        """
        found = {
            str(policy.name): [
                self.find(name) for name in self.buckets.names(policy)
            ]
            for policy in self.policies
        }
        if self.client.capabilities.hides and not any(
            any(buckets) for buckets in found.values()
        ):
            # Nothing is stored yet, or a token of another organization.
            self.client.control.org_id()
        return found

    def be_patient(self, seconds: int) -> None:
        """Raise influxdb_timeout to at least `seconds`.

        A query over all series of a large installation takes longer than any
        read or write of Gnocchi. Call it before `client` is first used.
        """
        timeout = max(self.conf.storage.influxdb_timeout, seconds)
        self.conf.set_override("influxdb_timeout", timeout, "storage")
