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

"""Servers and Gnocchi configurations for the tests.

Nothing is mocked: InfluxDB and PostgreSQL are real. `tools/test` starts them
once for a run; a bare `pytest` starts its own when a test first asks.
"""

from __future__ import annotations

import os
import pathlib
import secrets
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

TOOLS = pathlib.Path(__file__).resolve().parents[1] / "tools" / "lib"
if str(TOOLS) not in sys.path:
    sys.path.insert(0, str(TOOLS))

import servers  # noqa: E402

MakeConf = Callable[..., Any]


@pytest.fixture(scope="session")
def _influxdb() -> Iterator[servers.InfluxDB]:
    with servers.influxdb() as server:
        yield server


@pytest.fixture(scope="session")
def influxdb(_influxdb: servers.InfluxDB) -> servers.InfluxDB:
    """An InfluxDB, with a token that may do everything.

    A module may have another one.
    """
    return _influxdb


@pytest.fixture(scope="session")
def indexer_url() -> Iterator[str]:
    """URL of a PostgreSQL for Gnocchi's indexer and its coordination.

    Where GNOCCHI_INDEXER_URL says so, of a MySQL or MariaDB.
    """
    with servers.postgresql() as url:
        yield url


@pytest.fixture(autouse=True)
def _skip_what_is_of_another(request: pytest.FixtureRequest) -> None:
    """Heed the marks ``only_2x(reason)`` and ``only_1x`` of a test."""
    _skip(request)


@pytest.fixture(scope="module", autouse=True)
def _skip_modules_of_another(request: pytest.FixtureRequest) -> None:
    """Heed those of a module before its own fixtures."""
    _skip(request)


def _skip(request: pytest.FixtureRequest) -> None:
    for release in 1, 2:
        mark = request.node.get_closest_marker(f"only_{release}x")
        if mark is not None and (
            request.getfixturevalue("influxdb").release != release
        ):
            pytest.skip(": ".join([f"of InfluxDB {release}.x", *mark.args]))
    if request.node.get_closest_marker("only_postgresql") is not None and (
        not request.getfixturevalue("indexer_url").startswith("postgresql")
    ):
        pytest.skip("of PostgreSQL")


@pytest.fixture(scope="session")
def new_influxd(
    _influxdb: servers.InfluxDB,
) -> Callable[[], servers.InfluxDBServer]:
    """Makes servers that have still to be started."""

    def make() -> servers.InfluxDBServer:
        # An InfluxDB that was given does not justify minutes of building.
        given = "GNOCCHI_INFLUXDB_URL" in os.environ
        try:
            return servers.find_influxdb_server(
                may_build=not given, line=_influxdb.line
            )
        except servers.ServerError as error:
            if not given:
                raise
            pytest.skip(f"no InfluxDB of one's own: {error}")

    return make


@pytest.fixture
def fresh_influxd(
    new_influxd: Callable[[], servers.InfluxDBServer],
) -> Iterator[servers.InfluxDBServer]:
    """A server of the test's own, to stop, kill and restart."""
    with new_influxd() as server:
        yield server


@pytest.fixture
def bucket_prefix(influxdb: servers.InfluxDB) -> Iterator[str]:
    """A prefix of bucket names for this test; its buckets are deleted."""
    # On InfluxDB 1.x a database of its own.
    end = "/" if influxdb.release == 1 else "-"
    prefix = f"test-{secrets.token_hex(6)}{end}"
    yield prefix
    servers.delete_buckets(influxdb.url, influxdb.token, influxdb.org, prefix)


@pytest.fixture
def make_conf(
    request: pytest.FixtureRequest,
    tmp_path: pathlib.Path,
    indexer_url: str,
) -> MakeConf:
    """Makes configurations of a Gnocchi with the influxdb drivers.

    Call it with options of [storage] to differ from the defaults, as in
    ``make_conf(influxdb_retention=False)``, and with ``server=`` for one of
    the test's own. Each configuration has a queue directory of its own, all
    those of a test share one bucket prefix.
    """
    from gnocchi import service
    from gnocchi.tests import utils

    from gnocchi_influxdb import opts

    def make(
        *,
        server: servers.InfluxDB | servers.InfluxDBServer | None = None,
        **options: Any,
    ) -> Any:
        if "influxdb_bucket_prefix" not in options:
            # On a server of the test's own there is nothing to clean up.
            options["influxdb_bucket_prefix"] = (
                request.getfixturevalue("bucket_prefix")
                if server is None
                else ("test/" if server.release == 1 else "test-")
            )
        if server is None:
            server = request.getfixturevalue("influxdb")
        # Gnocchi requires the URL before there is a configuration to set it
        # in, and derives the coordination's from it.
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("OS_INDEXER__URL", indexer_url)
            conf = service.prepare_service(
                [],
                conf=utils.prepare_conf(),
                default_config_files=[],
                skip_log_opts=True,
            )
        conf.set_override("url", indexer_url, "indexer")
        opts.register(conf.storage)
        conf.set_override("driver", "influxdb", "storage")
        queue = tmp_path / f"queue-{secrets.token_hex(4)}"
        queue.mkdir()
        conf.set_override("file_basepath", str(queue), "incoming")
        settings = {
            "influxdb_url": server.url,
            "influxdb_token": server.token,
            "influxdb_org": server.org,
            # Its thread would write into a bucket that a test has deleted.
            "influxdb_health": False,
            **options,
        }
        for name, value in settings.items():
            conf.set_override(name, value, "storage")
        return conf

    return make


@pytest.fixture
def storage_conf(make_conf: MakeConf) -> Any:
    """A Gnocchi configuration with the influxdb drivers and nothing else."""
    return make_conf()


@pytest.fixture(scope="session")
def indexer_driver(indexer_url: str) -> Iterator[Any]:
    """Gnocchi's indexer on a database of its own."""
    from gnocchi import indexer, service
    from gnocchi.indexer import sqlalchemy
    from gnocchi.tests import utils

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OS_INDEXER__URL", indexer_url)
        conf = service.prepare_service(
            [],
            conf=utils.prepare_conf(),
            default_config_files=[],
            skip_log_opts=True,
        )
    url = sqlalchemy.SQLAlchemyIndexer._create_new_database(indexer_url)
    conf.set_override("url", url, "indexer")
    driver = indexer.get_driver(conf)
    driver.upgrade()
    yield driver
    driver.disconnect()
