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
"""What the package looks like from afar: sizes, names and loggers.

What may import what is in pyproject.toml, and looked at by import-linter.
"""

import ast
import collections
import pathlib

import pytest

import gnocchi_influxdb

PACKAGE = pathlib.Path(gnocchi_influxdb.__file__).parent
MODULES = {
    str(path.relative_to(PACKAGE)): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


@pytest.fixture(scope="module")
def trees():
    """The syntax tree of each module."""
    return {
        name: ast.parse(path.read_text()) for name, path in MODULES.items()
    }


def test_a_folder_has_at_most_nine_modules():
    modules = collections.Counter(
        str(path.parent.relative_to(PACKAGE))
        for path in MODULES.values()
        if not path.name.startswith("__")
    )
    assert {name: count for name, count in modules.items() if count > 9} == {}


def test_a_module_has_at_most_300_lines():
    lines = {
        name: len(path.read_text().splitlines())
        for name, path in MODULES.items()
    }
    assert {name for name, count in lines.items() if count > 300} == set()


def test_each_class_has_a_name_of_its_own(trees):
    classes = collections.Counter(
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    )
    assert {name for name, count in classes.items() if count > 1} == set()


def test_nobody_asks_for_the_version():
    """What a server can do is in `Capabilities`."""
    words = ("is_1x", "may_be_cluster")
    assert {
        name
        for name, path in MODULES.items()
        if any(word in path.read_text() for word in words)
    } == set()


def _gets_a_logger(tree):
    """Whether it gets one from logging, but to set its level or to read it."""
    allowed = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("level", "setLevel")
    }
    return any(
        isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("logging.getLogger", "getLogger")
        and node not in allowed
        for node in ast.walk(tree)
    )


def test_daiquiri_makes_the_loggers(trees):
    assert {
        name for name, tree in trees.items() if _gets_a_logger(tree)
    } == set()
