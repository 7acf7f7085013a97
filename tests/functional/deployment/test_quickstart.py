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
"""Every line of the quick start, as somebody who follows it runs it."""

import os
import pathlib
import re
import shutil
import sys
import urllib.parse

import pytest
import servers
from servers import influx_cli

from tests.packaging.conftest import ROOT, project_files
from tests.support import quickstart

pytestmark = pytest.mark.only_2x("that is what the page is about")

PAGE = ROOT / "doc" / "source" / "quickstart.rst"
LEFT_OUT = ["needs a Docker engine", "needs PostgreSQL's own account"]
_TOKEN = re.compile(r"[A-Za-z0-9_-]{86}==")


@pytest.fixture
def new_influxd():
    """A server that nobody has set up yet."""
    try:
        server = servers.find_influxdb_server(
            may_build="GNOCCHI_INFLUXDB_URL" not in os.environ
        )
    except servers.ServerError as error:
        pytest.skip(f"no InfluxDB of one's own to set up: {error}")
    server._is_set_up = True  # it is the page that does it
    with server:
        yield server


@pytest.fixture
def programs(tmp_path):
    """A directory with what the page takes for granted."""
    directory = tmp_path / "programs"
    directory.mkdir()
    try:
        (directory / "influx").symlink_to(influx_cli.find())
    except servers.ServerError as error:
        pytest.skip(str(error))
    (directory / "python3").symlink_to(sys._base_executable)
    return directory


@pytest.fixture
def clone(tmp_path):
    """The project's files in a directory of their own."""
    for name in project_files():
        copy = tmp_path / "clone" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy)
    return tmp_path / "clone"


@pytest.fixture
def shell(tmp_path, clone, programs):
    # Not the tests' own environment: what is missing on the page is missing.
    own = pathlib.Path(sys.prefix, "bin")
    path = [
        entry
        for entry in os.environ["PATH"].split(os.pathsep)
        if pathlib.Path(entry) != own
    ]
    environment = {
        name: value
        for name, value in os.environ.items()
        if not re.match(r"OS_|GNOCCHI_|INFLUX|PYTHON|VIRTUAL_ENV", name)
    }
    environment |= {
        "HOME": str(tmp_path),
        # Instead of ~/.influxdbv2/configs: influx asks the system for the
        # home directory, not HOME.
        "INFLUX_CONFIGS_PATH": str(tmp_path / "influx"),
        "PATH": os.pathsep.join([str(programs), *path]),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
    shell = quickstart.Shell(tmp_path, clone, environment)
    yield shell
    shell.close()


def elsewhere(page, tmp_path, server, indexer_url):
    """The page with the ports and directories of this test."""
    from gnocchi.indexer import sqlalchemy

    database = sqlalchemy.SQLAlchemyIndexer._create_new_database(indexer_url)
    port = servers.free_port()
    influxdb = urllib.parse.urlsplit(server.url).netloc
    for old, new in (
        ("localhost:8086", influxdb),
        ("localhost:8041", f"127.0.0.1:{port}"),
        ("port = 8041", f"port = {port}"),
        ("/opt/gnocchi", f"{tmp_path}/venv"),
        ("/var/lib/gnocchi", f"{tmp_path}/data"),
        ("postgresql://gnocchi:password@localhost/gnocchi", database),
    ):
        assert old in page, old
        page = page.replace(old, new)
    return page


def test_quick_start(shell, tmp_path, new_influxd, indexer_url):
    page = elsewhere(PAGE.read_text(), tmp_path, new_influxd, indexer_url)
    # `shell` has it elsewhere.
    assert "``~/.influxdbv2/configs``" in page
    blocks = quickstart.blocks(page)
    left_out = [block for block in blocks if block.left_out]
    assert [block.left_out for block in left_out] == LEFT_OUT
    for block in left_out:
        print(f"left out, {block.left_out}:\n{block.text}")
    said, token = [], ""
    for block in blocks:
        if block.left_out:
            continue
        if block.language == "bash":
            said.append(shell.run(block.text))
            if found := _TOKEN.search(said[-1]):
                token = found[0]
        elif block.language == "ini":
            assert token, said
            # The first that Gnocchi looks for; the page says /etc/gnocchi.
            conf = tmp_path / ".gnocchi" / "gnocchi.conf"
            conf.parent.mkdir()
            assert block.text.count("the-token") == 1
            conf.write_text(block.text.replace("the-token", token))
        else:
            # What the last command before it shows, but for the time.
            assert block.language == "text"
            shown = without_time(block.text)
            assert without_time(said[-1])[-len(shown) :] == shown
    everything = "\n".join(said)
    # The operator's token, where the page says that it is.
    operators = _TOKEN.search((tmp_path / "influx").read_text())[0]
    assert operators != token
    assert operators not in everything
    assert "FAIL" not in everything
    assert "WARN" not in everything
    for name in ("api", "metricd"):
        text = (tmp_path / "clone" / f"{name}.log").read_text()
        assert token not in text
        assert "Traceback" not in text, text


def without_time(table):
    return [
        re.sub(r"\d{4}-\d\d-\d\dT[\d:]+", "time", line)
        for line in table.strip().splitlines()
        if line.startswith(("|", "+"))
    ]
