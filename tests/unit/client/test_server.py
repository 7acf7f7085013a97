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
"""Which InfluxDB it is."""

import http.client

import pytest

from gnocchi_influxdb.client.server import Server


@pytest.mark.parametrize(
    ("version", "build", "is_cluster"),
    [
        ("1.13.2", "OSS", False),
        ("1.8.11-c1.2.0", "OSS", True),
        ("1.11.8-c1.11.8", "ENT", True),
        ("unknown", "ENT", True),
    ],
)
def test_cluster(version, build, is_cluster):
    assert Server(version, build).is_cluster() is is_cluster


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("1.13.2", (1, 13)),
        ("v2.9.1", (2, 9)),
        ("1.8.11-c1.2.0", (1, 8)),
        ("unknown", None),
        ("", None),
    ],
)
def test_release(version, release):
    headers = http.client.HTTPMessage()
    headers["x-influxdb-version"] = version
    server = Server.of(headers)
    assert server.release() == release
