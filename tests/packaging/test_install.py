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
"""Wheel and sdist in a new environment, with what they require alone."""

import json
import re

import pytest

from .conftest import ROOT, VERSION, run

# Looks as Gnocchi and oslo.config look, with nothing of a checkout around.
LOAD = """
import importlib, importlib.metadata, json, pkgutil
import gnocchi_influxdb

package = importlib.metadata.distribution("gnocchi-influxdb")
found = {}
for point in package.entry_points:
    found[f"{point.group}:{point.name}"] = point.load().__name__
modules = [
    importlib.import_module(module.name).__name__
    for module in pkgutil.walk_packages(
        gnocchi_influxdb.__path__, "gnocchi_influxdb."
    )
    if not module.name.endswith(".__main__")
]
print(json.dumps([package.version, found, modules]))
"""


def test_requirements_agree(installed, tmp_path):
    run(installed / "python", "-m", "pip", "check", cwd=tmp_path)


def test_entry_points_and_modules_load(installed, tmp_path):
    said = run(installed / "python", "-I", "-c", LOAD, cwd=tmp_path)
    version, found, modules = json.loads(said.splitlines()[-1])
    assert version == VERSION
    assert found == {
        "console_scripts:gnocchi-influxdb": "main",
        "gnocchi.incoming:influxdb": "InfluxDBIncoming",
        "gnocchi.storage:influxdb": "InfluxDBStorage",
        "oslo.config.opts:gnocchi_influxdb": "list_opts",
    }
    assert {
        "gnocchi_influxdb.client.client",
        "gnocchi_influxdb.cli.migrate.command",
    } <= set(modules)
    # Not what lies in the checkout.
    assert not any(name.startswith("tests") for name in modules)


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (("gnocchi-influxdb", "--help"), "check"),
        (("gnocchi-influxdb", "migrate", "--help"), "--from-driver"),
        (
            ("oslo-config-generator", "--namespace", "gnocchi_influxdb"),
            "#influxdb_url = http://localhost:8086",
        ),
        (("gnocchi-upgrade", "--help"), "--sacks-number"),
    ],
)
def test_programs(installed, tmp_path, command, answer):
    program, *arguments = command
    assert answer in run(installed / program, *arguments, cwd=tmp_path)


def test_what_the_image_installs(installed, tmp_path):
    """The rest of the pip line in contrib/docker/Dockerfile."""
    text = (ROOT / "contrib" / "docker" / "Dockerfile").read_text()
    (line,) = re.findall(r"pip install .*?&&", text, re.DOTALL)
    more = re.findall(r'"([^"]+)"', line)
    assert more
    pip = (installed / "python", "-m", "pip")
    run(*pip, "install", "--disable-pip-version-check", *more, cwd=tmp_path)
    run(*pip, "check", cwd=tmp_path)
    assert (installed / "uwsgi").exists()
