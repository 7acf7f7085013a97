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

"""Builds influxd from its Go modules, once per user.

tools/influxd (2.x), tools/influxd-2.7 and tools/influxd-1 pin InfluxDB and the
pkg-config wrapper that builds Flux's Rust library; go.sum checks what is
downloaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence

from servers import process
from servers.process import Say, ServerError

_TOOLS = pathlib.Path(__file__).resolve().parents[2]
PKG_CONFIG = "github.com/influxdata/pkg-config"
# What Flux's Cargo.toml asks for.
RUST = (1, 83)

USUAL = "7 to 10 minutes on two cores the first time"


@dataclasses.dataclass(frozen=True)
class Release:
    """A release of InfluxDB.

    :ivar directory: of the go.mod that pins it
    :ivar module: the Go module of the server
    :ivar options: of `go build`
    :ivar rustc: whether the directory has a wrapper for rustc
    """

    directory: pathlib.Path
    module: str
    options: tuple[str, ...] = ()
    rustc: bool = False

    def version(self) -> str:
        """The version that go.mod pins, without the leading v."""
        return self._required(rf"^\s*{re.escape(self.module)} v(\S+)")

    def go(self) -> str:
        """The version of Go that go.mod asks for."""
        return self._required(r"^go (\S+)")

    def binary(self) -> pathlib.Path:
        """Where the built influxd is kept, whether it is there or not."""
        cache = os.environ.get("XDG_CACHE_HOME")
        root = pathlib.Path(cache) if cache else pathlib.Path.home() / ".cache"
        name = f"influxd-{self.version()}"
        return root / "gnocchi-influxdb" / name / "influxd"

    def _required(self, pattern: str) -> str:
        path = self.directory / "go.mod"
        found = re.search(pattern, path.read_text(), re.MULTILINE)
        if found is None:
            raise ServerError(f"{path} has no line {pattern!r}")
        return found[1]


_V2 = "github.com/influxdata/influxdb/v2"
_TAGS = ("-tags=sqlite_foreign_keys,sqlite_json",)

#: By the beginning of its version.
RELEASES = {
    "2": Release(_TOOLS / "influxd", _V2, _TAGS),
    "2.7": Release(_TOOLS / "influxd-2.7", _V2, _TAGS, rustc=True),
    "1": Release(_TOOLS / "influxd-1", "github.com/influxdata/influxdb"),
}


def ensure(release: Release, say: Say = print) -> pathlib.Path:
    """The built influxd, building it first when it is not there.

    :raises ServerError: what is missing to build it, or the end of the
        build's log
    """
    target = release.binary()
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _lock(target.parent / "lock", say):
        if not target.exists():
            _build(release, target, say)
    return target


@contextlib.contextmanager
def _lock(path: pathlib.Path, say: Say) -> Iterator[None]:
    with path.open("w") as lock:
        ticker = process.Ticker(say)
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                ticker.tick(lambda: "another process is building influxd")
                time.sleep(0.5)
        yield


def _build(release: Release, target: pathlib.Path, say: Say) -> None:
    environment = _environment(release)
    workshop = target.parent / "build"
    shutil.rmtree(workshop, ignore_errors=True)
    workshop.mkdir()
    log = target.parent / "build.log"
    log.write_text("")
    say(
        f"building influxd v{release.version()} from its Go modules, {USUAL}; "
        f"the log is {log}"
    )
    ticker = process.Ticker(say)
    pkg_config = workshop / "pkg-config"
    built = workshop / "influxd"
    _run(
        ["go", "build", "-buildvcs=false", "-o", pkg_config, PKG_CONFIG],
        release.directory,
        environment,
        log,
        ticker,
    )
    # -v names each package as it is done, which shows the build advancing.
    _run(
        [
            "go",
            "build",
            "-v",
            "-buildvcs=false",
            *release.options,
            f"-ldflags=-s -w -X main.version=v{release.version()}",
            "-o",
            built,
            f"{release.module}/cmd/influxd",
        ],
        release.directory,
        environment | {"CGO_ENABLED": "1", "PKG_CONFIG": str(pkg_config)},
        log,
        ticker,
    )
    built.replace(target)
    shutil.rmtree(workshop, ignore_errors=True)
    say(f"built influxd in {process.duration(ticker.elapsed)}: {target}")


def _run(
    command: Sequence[str | os.PathLike[str]],
    directory: pathlib.Path,
    environment: dict[str, str],
    log: pathlib.Path,
    ticker: process.Ticker,
) -> None:
    build = process.spawn(command, log, env=environment, cwd=directory)
    try:
        while True:
            try:
                status = build.wait(1)
                break
            except subprocess.TimeoutExpired:
                ticker.tick(lambda: f"building influxd: {_stage(log)}")
    except BaseException:
        process.stop_group(build)
        raise
    if status:
        raise ServerError(
            f"building influxd failed; the end of {log}:\n{process.tail(log)}"
        )


def _stage(log: pathlib.Path) -> str:
    last = process.tail(log, 1)
    if last.startswith("go: downloading"):
        return "downloading Go modules"
    if last.startswith("("):
        # go asks the wrapper for its flags first, and that runs cargo.
        return "Flux's Rust library"
    if last.startswith("# "):
        return "linking"
    return f"compiled {last[-60:]}"


def _environment(release: Release) -> dict[str, str]:
    """The environment to build in.

    :raises ServerError: naming every missing tool
    """
    missing = [
        f"{tool} ({why})"
        for tool, why in (
            ("go", f"Go {release.go()} or later, go.dev/dl"),
            ("cargo", "Rust 1.83 or later, rustup.rs"),
            ("cc", "a C compiler, Debian's build-essential"),
            ("pkg-config", "Debian's pkg-config"),
            ("git", "Debian's git"),
        )
        if shutil.which(tool) is None
    ]
    if missing:
        raise ServerError(
            "to build influxd these are missing: " + ", ".join(missing)
        )
    environment = dict(os.environ)
    _check_go(release)
    toolchain = _rust_toolchain(environment)
    if toolchain:
        environment["RUSTUP_TOOLCHAIN"] = toolchain
    _check_rust(environment)
    if release.rustc:
        environment["RUSTC_WRAPPER"] = str(release.directory / "rustc")
    return environment


def _output(*command: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=env,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout.strip() or done.stderr.strip()


def _numbers(text: str) -> tuple[int, ...]:
    found = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def _check_go(release: Release) -> None:
    needed = release.go()
    have = _output("go", "env", "GOVERSION")
    # From 1.21 on Go fetches the toolchain that go.mod asks for, unless it
    # is told not to.
    fetches = (
        _numbers(have) >= (1, 21)
        and _output("go", "env", "GOTOOLCHAIN") != "local"
    )
    if _numbers(have) < _numbers(needed) and not fetches:
        raise ServerError(
            f"building influxd needs Go {needed} or later, this is {have}"
        )


def _rust_toolchain(environment: dict[str, str]) -> str | None:
    """An installed toolchain for rustup to use.

    Flux's sources name one with six cross-compilation targets; left alone,
    rustup would download them all or refuse.
    """
    if shutil.which("rustup") is None:
        return None
    if environment.get("RUSTUP_TOOLCHAIN"):
        return environment["RUSTUP_TOOLCHAIN"]
    lines = [
        line
        for line in _output("rustup", "toolchain", "list").splitlines()
        if line and not line.startswith("no installed")
    ]
    if not lines:
        raise ServerError(
            "building influxd needs a Rust toolchain, and rustup has none: "
            "run `rustup toolchain install stable --profile minimal`"
        )
    stable = [line for line in lines if not line.startswith("nightly")]
    # The default one first, where it will do.
    stable.sort(key=lambda line: "default" not in line)
    return (stable or lines)[0].split()[0]


def _check_rust(environment: dict[str, str]) -> None:
    have = _output("cargo", "--version", env=environment)
    if _numbers(have) < RUST:
        raise ServerError(
            "building influxd needs Rust {}.{} or later, this is {}".format(
                *RUST, have or "unknown"
            )
        )
