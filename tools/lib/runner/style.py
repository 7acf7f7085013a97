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

"""The style checks: which tool looks at which files."""

from __future__ import annotations

import pathlib
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence

Run = Callable[[Sequence[str], Mapping[str, str]], int]

_SHELL = re.compile(rb"#!.*[/ ](ba|da)?sh\s")
_SCRIPT_DIRECTORIES = ("tools", "devstack", "tests/devstack", "contrib", ".ci")


def scripts(root: pathlib.Path) -> list[str]:
    """The project's shell scripts."""
    return [
        str(path.relative_to(root))
        for directory in _SCRIPT_DIRECTORIES
        for path in sorted((root / directory).rglob("*"))
        if path.is_file()
        and (path.suffix == ".sh" or _SHELL.match(path.read_bytes()[:80]))
    ]


def packages(root: pathlib.Path) -> list[str]:
    """The Python packages among the tools."""
    return sorted(
        path.parent.name for path in root.glob("tools/lib/*/__init__.py")
    )


def check(root: pathlib.Path, run: Run) -> int:
    """Run all checks, whatever fails; how many failed."""
    shell = scripts(root)
    tools = [word for name in packages(root) for word in ("-p", name)]
    pages = [
        str(path.relative_to(root))
        for path in (
            *sorted(root.glob("*.rst")),
            root / "doc" / "source",
            root / "releasenotes" / "notes",
            root / "contrib",
        )
        if path.exists()
    ]
    commands: list[tuple[Sequence[str], Mapping[str, str]]] = [
        (("ruff", "check", "."), {}),
        (("ruff", "format", "--check", "."), {}),
        (("lint-imports", "--no-logo"), {}),
        (("interrogate", "gnocchi_influxdb"), {}),
        (("mypy", "--strict", "gnocchi_influxdb"), {}),
        (
            (
                *("mypy", "--strict"),
                *tools,
                *("-p", "benchmarks.harness", "-p", "benchmarks.workloads"),
            ),
            {"MYPYPATH": "tools/lib"},
        ),
        # E006: long lines are the editor's business in strings and URLs.
        # E042: `local x=$(...)` is what shellcheck tells better.
        (("bashate", "--ignore", "E006,E042", *shell), {}),
        (("shellcheck", "--external-sources", *shell), {}),
    ]
    images = [
        str(path.relative_to(root))
        for path in sorted(root.glob("contrib/**/Dockerfile"))
    ]
    if images:
        commands.append((("hadolint", *images), {}))
    if pages:
        commands.append((("doc8", "--quiet", *pages), {}))
    if (root / "releasenotes" / "notes").exists():
        commands.append((("reno", "--quiet", "lint"), {}))
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        if (root / "doc" / "source" / "conf.py").exists():
            commands.append(
                (
                    (
                        *("sphinx-build", "-W", "--keep-going", "-q"),
                        *("-b", "html", "-d", f"{scratch}/doctrees"),
                        *("doc/source", f"{scratch}/html"),
                    ),
                    {},
                )
            )
        for command, environment in commands:
            if run(command, environment):
                failed += 1
                print(f"style: failed: {' '.join(command)}", flush=True)
    return failed
