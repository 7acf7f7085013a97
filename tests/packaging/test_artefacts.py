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
"""What the wheel and the sdist hold, and what they say of themselves."""

import email
import io
import tarfile
import zipfile

import trove_classifiers
from readme_renderer import rst

from .conftest import VERSION

PACKAGE = "gnocchi_influxdb/"
METADATA = f"gnocchi_influxdb-{VERSION}.dist-info/"


def names_in(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"{METADATA}METADATA").decode()
    return email.message_from_string(text)


def test_names(artefacts):
    assert artefacts.wheel.name == (
        f"gnocchi_influxdb-{VERSION}-py3-none-any.whl"
    )
    assert artefacts.sdist.name == f"gnocchi_influxdb-{VERSION}.tar.gz"


def test_wheel_holds_the_package_and_nothing_else(artefacts):
    names = names_in(artefacts.wheel)
    assert sorted(n for n in names if not n.startswith(METADATA)) == [
        name for name in artefacts.files if name.startswith(PACKAGE)
    ]
    assert f"{METADATA}licenses/LICENSE" in names
    assert f"{PACKAGE}py.typed" in names


def test_sdist_holds_the_repository(artefacts):
    """Tests, documentation and contrib as well: what is built from it can be
    tested, too."""
    with tarfile.open(artefacts.sdist) as archive:
        names = {
            member.name.partition("/")[2]
            for member in archive.getmembers()
            if member.isfile()
        }
    made = {
        name
        for name in names - set(artefacts.files)
        if name != "PKG-INFO" and ".egg-info/" not in name
    }
    assert made == set()
    assert set(artefacts.files) - names == set()


def test_long_description_renders(artefacts):
    """By what the package index renders it with."""
    said = io.StringIO()
    page = rst.render(metadata(artefacts.wheel).get_payload(), stream=said)
    assert said.getvalue() == ""
    assert page is not None
    assert "<h2>Configuration<" in page


def test_metadata(artefacts):
    said = metadata(artefacts.wheel)
    assert said["Name"] == "gnocchi-influxdb"
    assert said["Version"] == VERSION
    assert said["Requires-Python"] == ">=3.10"
    assert said["Description-Content-Type"] == "text/x-rst"
    classifiers = said.get_all("Classifier")
    assert set(classifiers) <= trove_classifiers.classifiers
    assert (
        not set(classifiers) & trove_classifiers.deprecated_classifiers.keys()
    )
