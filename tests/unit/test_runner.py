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
"""What tools/test runs, and where a Docker engine comes from."""

import pytest
import servers
from runner import __main__ as runner
from servers import docker, engine, process


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ("tests/unit",)),
        (["-x", "-k", "tools"], ("tests/unit",)),
        (["tests/unit/test_layout.py"], ()),
        (["-x", "tests/unit/test_layout.py::test_a"], ()),
    ],
)
def test_files_that_are_given_are_all(given, expected):
    assert runner.folder("tests/unit", given) == expected


@pytest.mark.parametrize(("user", "ci"), [(1000, "1"), (0, "")])
def test_no_engine_is_started_for_anybody(monkeypatch, user, ci):
    monkeypatch.setattr(docker, "trouble", lambda: "no Docker client")
    monkeypatch.setattr(engine.os, "geteuid", lambda: user)
    monkeypatch.setenv("CI", ci)
    with (
        pytest.raises(servers.ServerError, match="no Docker client"),
        engine.engine(print),
    ):
        pass


def test_an_engine_that_is_there_is_taken(monkeypatch):
    monkeypatch.setattr(docker, "trouble", lambda: None)
    monkeypatch.setattr(docker, "pull", lambda say: None)
    with engine.engine(print) as variables:
        assert variables == {}


@pytest.mark.parametrize(
    ("parts", "given", "expected"),
    [
        (("style", "unit"), "", []),
        (("unit", "upstream", "functional-1", "functional"), "", ["2", "1"]),
        (("unit", "upstream", "functional-1"), "http://any:8086", ["1"]),
    ],
)
def test_what_is_built_ahead(monkeypatch, parts, given, expected):
    monkeypatch.setenv("GNOCCHI_INFLUXDB_URL", given)
    assert runner._lines(parts) == expected


def test_building_ahead_ends_with_the_tests(monkeypatch):
    started = []

    def spawn(command, log):
        started.append(real(["sleep", "60"], log))
        return started[-1]

    real = process.spawn
    monkeypatch.setattr(process, "spawn", spawn)
    with servers.ahead([]):
        assert started == []
    with servers.ahead(["2"]):
        assert len(started) == 1
    assert started[0].poll() is not None
