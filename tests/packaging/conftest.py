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
"""The project as somebody gets it who installs it."""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import venv

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

#: The tag that the artefacts are built at.
VERSION = "1.2.3"


def clean_environment():
    """Without what would bring the checkout's own modules in."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "GIT_", "SETUPTOOLS_SCM"))
    }


def run(*command, cwd):
    """What a command prints; the test fails with all of it if that does."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-5000:]}"
    return done.stdout


def git(directory, *arguments):
    return run(
        "git",
        *("-c", "user.name=nobody", "-c", "user.email=nobody@invalid"),
        *("-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"),
        *arguments,
        cwd=directory,
    ).strip()


def project_files():
    """The files of the checkout as they are, committed or not."""
    listed = subprocess.run(
        [
            *("git", "ls-files", "-z"),
            *("--cached", "--others", "--exclude-standard"),
        ],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    names = filter(None, listed.stdout.split("\0"))
    return sorted(name for name in names if (ROOT / name).is_file())


@pytest.fixture(scope="session")
def make_repository(tmp_path_factory):
    """Makes repositories with the project's files in one commit."""
    files = project_files()

    def make():
        directory = tmp_path_factory.mktemp("repository")
        for name in files:
            copy = directory / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy)
        git(directory, "init", "--quiet")
        git(directory, "add", "--all", "--force")
        git(directory, "commit", "--quiet", "--message", "all of it")
        return directory

    return make


@dataclasses.dataclass(frozen=True)
class Artefacts:
    """What a release consists of, and the files it was made from."""

    wheel: pathlib.Path
    sdist: pathlib.Path
    files: list[str]


@pytest.fixture(scope="session")
def artefacts(make_repository, tmp_path_factory):
    """Built at a tag; the wheel from the unpacked sdist, as build does."""
    repository = make_repository()
    git(repository, "tag", VERSION)
    out = tmp_path_factory.mktemp("dist")
    run(
        *(sys.executable, "-m", "build", "--outdir", out, repository),
        cwd=out,
    )
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    return Artefacts(wheel, sdist, project_files())


@pytest.fixture(scope="session", params=["wheel", "sdist"])
def installed(request, artefacts, tmp_path_factory):
    """An environment with one of the artefacts and what it requires.

    :return: the directory of its programs.
    """
    directory = tmp_path_factory.mktemp(request.param) / "venv"
    venv.create(directory, with_pip=True)
    programs = directory / "bin"
    run(
        programs / "python",
        *("-m", "pip", "install", "--disable-pip-version-check"),
        getattr(artefacts, request.param),
        cwd=directory,
    )
    yield programs
    shutil.rmtree(directory)
