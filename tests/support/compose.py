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

"""Compose on a real engine. Nothing is pulled."""

import contextlib
import os
import re
import subprocess
import time

import pytest
import yaml
from servers import docker

SOON = 120  # s


def compose_program():
    """Compose as a plugin of the client, or Debian 12's."""
    for program in (["docker", "compose"], ["docker-compose"]):
        with contextlib.suppress(OSError):
            if not subprocess.run(
                [*program, "version"], capture_output=True, check=False
            ).returncode:
                return program
    pytest.skip("no docker compose, and no docker-compose")


def need_images(path, *others):
    """Skip the test unless the engine has what a compose file starts."""
    content = yaml.safe_load(path.read_text())
    wanted = {
        re.sub(r"\$\{\w+:-(.*?)\}", r"\1", service["image"])
        for service in content["services"].values()
        if service["image"] != "gnocchi-influxdb"
    }
    wanted |= set(others)
    missing = [one for one in wanted if not docker.run("images", "-q", one)]
    if missing:
        pytest.skip(f"not in the engine: {', '.join(sorted(missing))}")


class Project:
    """What a compose file starts, under a name of its own."""

    def __init__(self, directory, *files, **environment):
        self.name = f"gnocchi-influxdb-test-{os.getpid()}"
        self._directory = directory
        self._command = [
            *(*compose_program(), f"--project-name={self.name}"),
            *(f"--file={file}" for file in files),
        ]
        self._environment = {
            **os.environ,
            # For 1.29; later ones know nothing else.
            **{"DOCKER_BUILDKIT": "1", "COMPOSE_DOCKER_CLI_BUILD": "1"},
            **environment,
        }

    def __call__(self, *arguments, status=0, **environment):
        """What a command prints; the test fails if it ends otherwise."""
        done = subprocess.run(
            [*self._command, *arguments],
            cwd=self._directory,
            env={**self._environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=900,
        )
        if done.returncode != status and arguments[0] != "logs":
            logs = self("logs", "--tail=30")
            raise AssertionError(f"{arguments}\n{done.stdout}\n{logs}")
        return done.stdout

    def up(self, *arguments):
        """As `up --detach --wait`, which 1.29 does not know."""
        wait = ["--wait"] if "--wait" in self("up", "--help") else []
        self("up", "--detach", *wait, *arguments)
        end = time.monotonic() + SOON
        while {"starting", "unhealthy"}.intersection(self._health()):
            assert time.monotonic() < end, self("logs", "--tail=30")
            time.sleep(1)

    def _health(self):
        found = docker.run(
            *("ps", "--quiet"),
            f"--filter=label=com.docker.compose.project={self.name}",
        )
        shown = "{{with .State.Health}}{{.Status}}{{end}}"
        return docker.run("inspect", "--format", shown, *found.split()).split()

    def container(self, service):
        """The id of its container."""
        return self("ps", "--quiet", service).strip()


def everything():
    """What an engine may be left with."""
    return {
        what: set(docker.run(*command).splitlines())
        for what, command in {
            "containers": ("ps", "--all", "--quiet"),
            "volumes": ("volume", "ls", "--quiet"),
            "networks": ("network", "ls", "--quiet"),
        }.items()
    }


def new_volumes(before):
    return everything()["volumes"] - before["volumes"]
