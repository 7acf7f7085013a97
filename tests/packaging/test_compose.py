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
"""Compose files, and what else starts containers: as Compose reads them."""

import json
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

from .conftest import ROOT, run

DOCKER = ROOT / "contrib" / "docker"
FILES = [
    *(ROOT / "docker-compose.yml", DOCKER / "compose.yml"),
    ROOT / "contrib" / "docker-compose.cluster.yml",
    ROOT / "contrib" / "grafana" / "docker-compose.yml",
]
PASSWORD = "0123456789abcdef"
#: What the Dockerfiles of the images say in VOLUME. What is not mounted there
#: becomes a volume without a name, which `down` leaves behind.
VOLUMES = {
    "influxdb": {"/var/lib/influxdb2", "/etc/influxdb2"},
    "postgres": {"/var/lib/postgresql/data"},
    "gnocchi-influxdb": {"/var/lib/gnocchi"},
    "chengshiwen/influxdb": {"/var/lib/influxdb"},
    "haproxy": set(),
    "grafana/grafana-oss": set(),
}


def services():
    """Name and content of each service of the compose files."""
    return [
        pytest.param(content, id=f"{path.relative_to(ROOT)}:{name}")
        for path in FILES
        for name, content in yaml.safe_load(path.read_text())[
            "services"
        ].items()
    ]


@pytest.mark.parametrize("service", services())
def test_no_volume_without_a_name(service):
    image = service["image"].partition(":")[0]
    mounted = {
        volume.split(":")[1] for volume in service.get("volumes", ())
    } | set(service.get("tmpfs", ()))
    assert VOLUMES[image] <= mounted


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_debian_12_takes_it(path):
    """Its Compose 1.29 knows neither `name` nor a file without services."""
    content = yaml.safe_load(path.read_text())
    assert {key for key in content if not key.startswith("x-")} <= {
        *("services", "volumes", "networks"),
    }


@pytest.mark.parametrize("service", services())
def test_health_is_that_of_the_server(service):
    """Not of the one that the image sets up with, on port 9999.

    `influx` without --host asks the server that it was last told of.
    """
    test = service.get("healthcheck", {}).get("test", [])
    if test[1:3] == ["influx", "ping"]:
        assert test[3:] == ["--host", "http://localhost:8086"]
    else:
        assert "influx" not in test


@pytest.mark.parametrize("service", services())
def test_no_secret_in_a_url(service):
    """Or it could not have each character."""
    for value in (service.get("environment") or {}).values():
        assert not re.search(r"://[^ ]*(PASSWORD|TOKEN)", str(value))


def test_upgrade_ends():
    """Also if gnocchi-upgrade does not, which tries for ever to load a driver.

    `docker compose up` waits for it.
    """
    content = yaml.safe_load((DOCKER / "compose.yml").read_text())
    command = content["services"]["upgrade"]["command"]
    bound = command[: command.index("gnocchi-upgrade")]
    done = subprocess.run(
        [
            *(re.sub(r"\$\{\w+:-\w+\}", "0.1s", word) for word in bound),
            *("sleep", "60"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 124
    assert "TERM" in done.stderr


def test_no_volume_without_a_name_by_hand():
    page = (ROOT / "doc" / "source" / "quickstart.rst").read_text()
    (command,) = re.findall(r"docker run (?:.*\\\n)*.*", page)
    mounted = set(re.findall(r"--volume [\w-]+:(\S+)", command))
    assert VOLUMES["influxdb"] == mounted


def compose(*arguments, env_file):
    return run(
        *("docker", "compose", "--env-file", env_file, *arguments), cwd=DOCKER
    )


def has_compose():
    if shutil.which("docker") is None:
        return False
    done = subprocess.run(
        ["docker", "compose", "version"], capture_output=True, check=False
    )
    return done.returncode == 0


needs_compose = pytest.mark.skipif(
    not has_compose(), reason="no docker client with compose"
)


@pytest.fixture
def env_file(tmp_path):
    """The example, filled in as it says."""
    text, number = re.subn(
        r"(?m)^(\w+)=$",
        rf"\1={PASSWORD}",
        (DOCKER / ".env.example").read_text(),
    )
    assert number
    path = tmp_path / ".env"
    path.write_text(text)
    return path


@needs_compose
def test_compose_file(env_file):
    config = json.loads(compose("config", "--format=json", env_file=env_file))
    services = config["services"]
    assert set(services) == {
        *("influxdb", "postgresql", "token", "upgrade", "api", "metricd"),
    }
    # Only the API can be reached, and from this host only.
    ports = {
        name: [(port["host_ip"], port["target"]) for port in one["ports"]]
        for name, one in services.items()
        if "ports" in one
    }
    assert ports == {"api": [("127.0.0.1", 8041)]}
    # The administrator's token and password stay where they are needed.
    for name in ("upgrade", "api", "metricd"):
        given = services[name]["environment"]
        assert set(given) == {
            *("INFLUXDB_TOKEN_FILE", "OS_INDEXER__URL", "PGPASSWORD"),
        }
    # All of one image, which is built once.
    (build,) = (one["build"] for one in services.values() if "build" in one)
    assert build["context"] == str(ROOT)
    assert (ROOT / build["dockerfile"]).exists()
    for one in services.values():
        for volume in one.get("volumes", ()):
            if volume["type"] == "bind":
                assert pathlib.Path(volume["source"]).is_file()


@needs_compose
def test_compose_asks_for_each_secret(env_file):
    for name in re.findall(
        r"(?m)^(\w+)=$", DOCKER.joinpath(".env.example").read_text()
    ):
        kept = [
            line
            for line in env_file.read_text().splitlines()
            if not line.startswith(name)
        ]
        without = env_file.with_name("without")
        without.write_text("\n".join(kept))
        with pytest.raises(AssertionError, match=f"{name}.*set it in .env"):
            compose("config", env_file=without)


@needs_compose
def test_compose_file_of_the_tests(tmp_path):
    run("docker", "compose", "--project-directory", ROOT, "config", cwd=ROOT)


@needs_compose
def test_compose_takes_each_character(tmp_path):
    """As .env.example says, between single quotes."""
    file = tmp_path / ".env"
    secret = '/@:#% $HOME ${X} "[\\&'
    file.write_text(
        re.sub(
            r"(?m)^(\w+)=$",
            lambda found: f"{found[1]}='{secret}'",
            (DOCKER / ".env.example").read_text(),
        )
    )
    config = json.loads(compose("config", "--format=json", env_file=file))
    given = {
        value.replace("$$", "$")
        for service in config["services"].values()
        for name, value in service.get("environment", {}).items()
        if re.search("PASSWORD|TOKEN$", name)
    }
    assert given == {secret}
