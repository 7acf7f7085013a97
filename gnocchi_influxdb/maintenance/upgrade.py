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
"""What gnocchi-upgrade checks: the server, its release, the token."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

import daiquiri

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.client.client import Client
from gnocchi_influxdb.client.server import Server
from gnocchi_influxdb.wire import influxql, influxql_rows

LOG = daiquiri.getLogger(__name__)

#: The oldest releases that the driver is tested with.
OLDEST = {2: (2, 7), 1: (1, 8)}

# By the end of the option's name: what InfluxQL refuses above such a limit.
_SELECT_LIMITS = {
    "buckets": "reads of long ranges, which have more windows",
    "series": "reads, status and downsampling of more metrics at once",
    "point": "reads of long ranges, status and downsampling of more points",
}

_SUPPORTED = "InfluxDB 2.7 or a later 2.x, or 1.8 or a later 1.x"


def check(client: Client, conf: Any) -> None:
    """Check that the driver can work with this server, and log what it is.

    :param conf: the group of options that the client was made with.
    :raises InfluxDBError: it can't; the message says what to do.
    """
    server = client.server()
    release = server.release()
    if release is None:
        raise exceptions.ConfigurationError(
            f"{client.url} ([storage] influxdb_url) does not say that it is"
            " InfluxDB"
        )
    _check_release(client, conf, server, release)
    if client.capabilities.buckets:
        _check_2x(client, conf, server)
    else:
        _check_1x(client, conf, server)
    client.identify()
    if conf.influxdb_downsampling and not client.capabilities.may_lag:
        LOG.info(
            "Policies with several definitions are downsampled ([storage]"
            " influxdb_downsampling). No bucket that is there shrinks by"
            " itself; gnocchi-influxdb downsample works through history at"
            " once"
        )


def _check_2x(client: Client, conf: Any, server: Server) -> None:
    if not conf.influxdb_token:
        raise exceptions.ConfigurationError(
            "[storage] influxdb_token is not set; make a token with: influx"
            f" auth create --org {shlex.quote(client.org)} --read-buckets"
            " --write-buckets --read-orgs"
        )
    client.control.org_id()
    LOG.info("Storing measures in %s at %s", server, client)


def _check_release(
    client: Client,
    conf: Any,
    server: Server,
    release: tuple[int, int],
) -> None:
    found = f"{client.url} ([storage] influxdb_url) is {server}"
    prefix = conf.influxdb_bucket_prefix
    if release[0] not in OLDEST:
        raise exceptions.ConfigurationError(
            f"{found}; this driver needs {_SUPPORTED}"
        )
    if release[0] == 1 and client.capabilities.buckets:
        raise exceptions.ConfigurationError(
            f"{found}, where an archive policy is a retention policy of a"
            " database: set [storage] influxdb_bucket_prefix = gnocchi/ for"
            f" the database gnocchi; it is {prefix!r}"
        )
    if release[0] == 2 and not client.capabilities.buckets:
        raise exceptions.ConfigurationError(
            f"{found}, which has no databases with retention policies as"
            f" [storage] influxdb_bucket_prefix = {prefix} asks for: set it"
            " to a prefix without a slash, such as gnocchi-"
        )
    if release < OLDEST[release[0]]:
        LOG.warning(
            "InfluxDB at %s is %s; this driver is tested with %d.%d and later",
            client.url,
            server.version,
            *OLDEST[release[0]],
        )


def _check_1x(client: Client, conf: Any, server: Server) -> None:
    # Each user may ask this; an unknown one gets an error.
    influxql_rows.series(
        client.influxql(conf.influxdb_bucket_prefix, influxql.SHOW_DATABASES)
    )
    flux = client.has_flux()
    if not flux and conf.influxdb_query_language == "flux":
        raise exceptions.ConfigurationError(
            f"{server} at {client.url} has no Flux for [storage]"
            " influxdb_query_language = flux: set that to auto, or"
            " flux-enabled = true in the [http] section of its configuration"
        )
    for limit in limits(client):
        LOG.warning("InfluxDB at %s: %s", client.url, limit)
    LOG.info(
        "Storing measures in %s %s Flux at %s",
        server,
        "with" if flux else "without",
        client,
    )


def limits(client: Client) -> list[str]:
    """Limits in the configuration of InfluxDB that Gnocchi may reach.

    :return: sentences; empty, too, if the token may not see the
        configuration.
    """
    if client.capabilities.buckets:
        return _select_limits("influxql-max-select", _settings_2x(client))
    try:
        found = influxql_rows.series(
            client.influxql("/", influxql.SHOW_DIAGNOSTICS, schema.JSON)
        )
    except exceptions.ForbiddenError:
        return []
    settings = {
        name: value
        for series in found
        if series.get("name")
        in ("config-data", "config-httpd", "config-coordinator")
        for row in series.get("values") or ()
        for name, value in zip(series["columns"], row, strict=True)
    }
    said = _select_limits("max-select", settings)
    if settings.get("max-row-limit"):
        said.append(
            f"max-row-limit = {settings['max-row-limit']} cuts off answers,"
            " some of them without a word; set it to 0"
        )
    shards = influxql_rows.series(
        client.influxql("/", influxql.SHOW_SHARDS, schema.JSON)
    )
    indexes = {shard.get("tags", {}).get("indexType") for shard in shards}
    if "inmem" in indexes or not indexes:
        said += [
            f"{limit} = {settings[limit]}: with index-version = inmem it"
            " can't hold more metrics; set that to tsi1, which is better for"
            " many series anyway, or the limit to 0"
            for limit in ("max-values-per-tag", "max-series-per-database")
            if settings.get(limit)
        ]
    return said


def _settings_2x(client: Client) -> dict[str, Any]:
    """The configuration of a 2.x, empty if the token may not see it."""
    try:
        found = json.loads(client.get("/api/v2/config"))
        return dict(found["config"])
    except (exceptions.InfluxDBError, ValueError, KeyError, TypeError):
        return {}  # It is for operators' tokens.


def _select_limits(prefix: str, settings: Mapping[str, Any]) -> list[str]:
    return [
        f"{prefix}-{name} = {limit} lets InfluxQL refuse {what}: they fail,"
        " or take the slower way over Flux; set it to 0 and restart influxd"
        for name, what in _SELECT_LIMITS.items()
        if (limit := settings.get(f"{prefix}-{name}"))
    ]
