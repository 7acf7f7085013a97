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
"""What several functional tests need."""

import logging

import pytest
import urllib3

from tests.support import proxy
from tests.support.cloud import Cloud
from tests.support.installation import Installation


def pytest_report_header():
    # See tools/lib/venv.sh.
    return f"urllib3-{urllib3.__version__}"


class Logged(logging.Handler):
    """Keeps what the package logs.

    caplog does not do here: Gnocchi replaces the handlers of the root logger
    with each configuration that is made.
    """

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.records = []

    def emit(self, record):
        self.records.append(record)

    def warnings(self):
        """Messages of warnings and worse."""
        return [
            record.getMessage()
            for record in self.records
            if record.levelno >= logging.WARNING
        ]


@pytest.fixture
def logged():
    handler = Logged()
    logger = logging.getLogger("gnocchi_influxdb")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def installation(influxdb, indexer_url, bucket_prefix, tmp_path):
    """A Gnocchi with a configuration file and an indexer of its own."""
    made = Installation(
        tmp_path / "installation", influxdb, indexer_url, bucket_prefix
    )
    yield made
    made.close()


@pytest.fixture
def between(influxdb):
    """A proxy in front of InfluxDB."""
    with proxy.Proxy(influxdb.url) as running:
        yield running


@pytest.fixture
def cloud(make_conf, between):
    """A Gnocchi behind that proxy."""
    made = Cloud(make_conf(influxdb_url=between.url))
    yield made
    made.close()
