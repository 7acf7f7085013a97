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
"""What gnocchi-upgrade looks at."""

import logging
from typing import Any

from gnocchi_influxdb import client as client_
from gnocchi_influxdb import exceptions

LOG = logging.getLogger(__name__)

_OLDEST = (2, 7)


def check(client: client_.Client, conf: Any) -> None:
    """Find out whether this is a server that the driver can work with.

    :param conf: the group of options that the client was made with.
    :raises InfluxDBError: it is not; the message says what to do.
    """
    version = client.version()
    try:
        major, minor = map(int, version.split(".")[:2])
    except ValueError:
        raise exceptions.ConfigurationError(
            f"{client.url} ([storage] influxdb_url) does not say that it is"
            " InfluxDB"
        ) from None
    if major != _OLDEST[0]:
        raise exceptions.ConfigurationError(
            f"{client.url} ([storage] influxdb_url) is InfluxDB {version};"
            " this driver needs InfluxDB 2.7 or a later 2.x"
        )
    if (major, minor) < _OLDEST:
        LOG.warning(
            "InfluxDB at %s is %s; this driver is tested with 2.7 and later",
            client.url,
            version,
        )
    if not conf.influxdb_token:
        raise exceptions.ConfigurationError(
            "[storage] influxdb_token is not set; make a token with: influx"
            f" auth create --org {client.org} --all-access"
        )
    client.org_id()
    LOG.info("Storing measures in InfluxDB %s at %s", version, client)
