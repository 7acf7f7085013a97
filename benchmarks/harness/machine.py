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
"""The machine and the packages that the figures are of."""

import importlib.metadata
import os
import pathlib
import platform
import tempfile
import urllib.parse
from collections.abc import Iterable
from typing import Any

import psutil
import sqlalchemy

#: Settings of PostgreSQL. All are on unless somebody has turned them off.
DURABILITY = ("fsync", "full_page_writes", "synchronous_commit")

_PACKAGES = ("gnocchi", "gnocchi-influxdb", "influxdb-client", "numpy")


def describe(directory: pathlib.Path) -> dict[str, Any]:
    """Facts for the head of a result.

    :param directory: where the files are.
    """
    return {
        "machine": {
            "cpus": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "architecture": platform.machine(),
            "python": platform.python_version(),
            "file_system": _file_system(directory),
            # Where servers that were started have theirs.
            "temporary_files": _file_system(
                pathlib.Path(tempfile.gettempdir())
            ),
            "load_at_start": round(os.getloadavg()[0], 1),
        },
        "packages": {
            name: importlib.metadata.version(name) for name in _PACKAGES
        },
    }


def _file_system(directory: pathlib.Path) -> str:
    """Type of the file system that a directory is on, such as ext4."""
    path = directory.resolve()
    mounts = {
        pathlib.Path(disk.mountpoint): disk.fstype
        for disk in psutil.disk_partitions(all=True)
    }
    while path not in mounts and path != path.parent:
        path = path.parent
    return str(mounts.get(path, "unknown"))


def listeners(url: str) -> list[psutil.Process]:
    """The processes that listen on the port of a URL.

    Of uWSGI, whose router listens, the master.
    """
    port = urllib.parse.urlsplit(url).port
    found = {
        psutil.Process(connection.pid)
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr.port == port
        and connection.pid
    }
    parents = {one: one.parent() for one in found}
    return [
        parent if parent and parent.name() == one.name() else one
        for one, parent in parents.items()
    ]


def memory(processes: Iterable[psutil.Process]) -> float:
    """Resident memory of processes and their children, MiB."""
    family = {
        relative
        for one in processes
        for relative in (one, *one.children(recursive=True))
    }
    return float(sum(one.memory_info().rss for one in family)) / 2**20


def postgresql_version(indexer: Any) -> str:
    """Version, and whether it waits for its disk."""
    with indexer.facade.independent_reader() as session:

        def show(name: str) -> str:
            return str(
                session.execute(sqlalchemy.text(f"SHOW {name}")).scalar()
            )

        durability = ", ".join(f"{name} {show(name)}" for name in DURABILITY)
        return f"{show('server_version')} ({durability})"
