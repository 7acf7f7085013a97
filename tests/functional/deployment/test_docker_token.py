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
"""What contrib/docker/token.sh makes, on a real server."""

import os
import subprocess

import pytest
import servers
from servers import api, influx_cli

from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support import ROOT, by_hand
from tests.support.samples import metric, policy, read, recent, write

pytestmark = pytest.mark.only_2x("1.x has users")

SCRIPT = ROOT / "contrib" / "docker" / "token.sh"


@pytest.fixture
def make_token(tmp_path, influxdb):
    if os.geteuid():
        pytest.skip("in its container it is root, and gives the file away")
    try:
        influx = influx_cli.find()
    except servers.ServerError as error:
        pytest.skip(str(error))

    def make(admin=influxdb.token, url=influxdb.url):
        done = subprocess.run(
            ["bash", SCRIPT, str(tmp_path)],
            env={
                "INFLUX_CONFIGS_PATH": str(tmp_path / "influx"),
                "PATH": f"{influx.parent}:{os.environ['PATH']}",
                "INFLUX_HOST": url,
                "INFLUX_TOKEN": admin,
                "INFLUX_ORG": influxdb.org,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return make


def test_token(make_token, tmp_path, make_conf, influxdb, indexer_driver):
    status, said = make_token()
    assert status == 0, said
    file = tmp_path / "token"
    assert (file.stat().st_mode & 0o777, file.stat().st_uid) == (0o600, 8041)
    token = file.read_text().strip()
    assert token not in said
    assert make_token() == (0, "There is a token already.\n")
    assert file.read_text().strip() == token
    # Enough for the driver, ...
    driver = InfluxDBStorage(make_conf(influxdb_token=token).storage)
    driver.upgrade()
    m = metric(policy((1440, 60)))
    write(driver, {m: {recent(): 1.0}}, indexer_driver)
    assert list(read(driver, m, "mean", 60).values()) == [1.0]
    # ... and not for an administrator.
    found = by_hand.call(influxdb, "GET", "/api/v2/authorizations", token)
    assert found["authorizations"] == []
    with pytest.raises(api.HTTPError, match="HTTP 401"):
        by_hand.call(
            influxdb, "POST", "/api/v2/orgs", token, body={"name": "another"}
        )


def test_server_was_set_up_anew(make_token, tmp_path, influxdb):
    """Or restored from before: it does not know the token of the volume."""
    file = tmp_path / "token"
    file.write_text("of-another-server\n")
    status, said = make_token()
    assert status == 0, said
    assert "restart api and metricd" in said
    token = file.read_text().strip()
    assert by_hand.call(influxdb, "GET", "/api/v2/buckets", token)["buckets"]


def test_server_is_away(make_token, tmp_path):
    """Whether it knows the token can't be said: the token stays."""
    assert make_token()[0] == 0
    before = (tmp_path / "token").read_text()
    status, said = make_token(url=f"http://127.0.0.1:{servers.free_port()}")
    assert status != 0
    assert "refused" in said
    assert (tmp_path / "token").read_text() == before


def test_wrong_administrator(make_token, tmp_path):
    status, said = make_token("not-the-token")
    assert status != 0
    assert "401" in said
    assert not (tmp_path / "token").exists()
