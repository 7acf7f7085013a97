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
"""Where the version comes from: git, or what an archive brings along."""

import re
import shutil
import sys
import tarfile

import pytest

from .conftest import ROOT, git, run


def version(directory):
    said = run(sys.executable, "-m", "setuptools_scm", cwd=directory)
    return said.splitlines()[-1]


@pytest.fixture
def repository(make_repository):
    return make_repository()


def unpacked(repository, to):
    """What a forge offers as the archive of the last commit."""
    archive = to / "archive.tar"
    git(repository, "archive", "--prefix=a/", f"--output={archive}", "HEAD")
    with tarfile.open(archive) as tar:
        tar.extractall(to, filter="data")
    return to / "a"


def commit(repository):
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "more")


@pytest.mark.parametrize("tag", ["1.2.3", "v1.2.3", "1.3.0rc1"])
def test_at_a_tag(repository, tmp_path, tag):
    git(repository, "tag", tag)
    assert version(repository) == tag.removeprefix("v")
    assert version(unpacked(repository, tmp_path)) == tag.removeprefix("v")


def test_after_a_tag(repository, tmp_path):
    git(repository, "tag", "1.2.3")
    commit(repository)
    commit(repository)
    assert re.fullmatch(r"1\.2\.4\.dev2\+g[0-9a-f]+", version(repository))
    assert version(unpacked(repository, tmp_path)).startswith("1.2.4.dev2+g")


def test_without_tags(repository):
    """Older than any release, and a later commit is a later version."""
    assert re.fullmatch(r"0\.1\.1\.dev1\+g[0-9a-f]+", version(repository))
    commit(repository)
    assert version(repository).startswith("0.1.1.dev2+g")


def as_in_the_image(repository):
    """Leave only what Dockerfile.dockerignore lets in, then prepare."""
    directory = ROOT / "contrib" / "docker"
    ignored = (directory / "Dockerfile.dockerignore").read_text()
    let_in = re.findall("(?m)^!(.*)$", ignored)
    assert ".git" in let_in
    for path in repository.iterdir():
        if path.name in let_in:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    text = (directory / "Dockerfile").read_text().replace("\\\n", " ")
    (command,) = re.findall("(?m)^RUN (.*?)(?:&& )?python -m pip wheel", text)
    run("sh", "-euc", command or ":", cwd=repository)


def test_in_the_image(repository):
    git(repository, "tag", "1.2.3")
    as_in_the_image(repository)
    assert version(repository) == "1.2.3"


def test_changed_in_the_image(repository):
    git(repository, "tag", "1.2.3")
    with (repository / "gnocchi_influxdb" / "opts.py").open("a") as file:
        file.write("# a change\n")
    as_in_the_image(repository)
    assert re.fullmatch(r"1\.2\.4\.dev0\+g\w+\.d\d+", version(repository))


def test_without_git(repository):
    shutil.rmtree(repository / ".git")
    assert version(repository) == "0.1.0"
