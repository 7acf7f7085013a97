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
"""The journal on disk of the metrics that are moved already.

It has a line for each metric, written and synced after its history is in
InfluxDB. A kill may cut the last line; then that metric is moved once more,
which changes nothing.
"""

import fcntl
import json
import os
import pathlib
import uuid
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from gnocchi_influxdb.cli.migrate.history import Note
from gnocchi_influxdb.cli.output import Failure


class Journal:
    """The journal of one migration.

    :param path: of the file, made if it is not there.
    :param migration: what is moved from where to where. A journal of another
        migration is refused.
    :param read_only: leave the file as it is, or absent.
    :raises Failure: on entering: the file can't be used, or another process
        uses it.
    """

    def __init__(
        self,
        path: pathlib.Path,
        migration: Mapping[str, Any],
        read_only: bool = False,
    ) -> None:
        self._path = path
        self._migration = dict(migration)
        self._read_only = read_only
        self._fd = -1
        #: Metrics that are moved, and what is noted of them.
        self.done: dict[uuid.UUID, Note] = {}

    def __enter__(self) -> "Journal":
        if self._read_only:
            if self._path.exists():
                self._read(self._path.read_bytes())
            return self
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o640)
        except OSError as e:
            raise Failure(f"The journal {self._path}: {e.strerror}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise Failure(
                f"The journal {self._path} is in use: this migration runs"
                " already"
            ) from None
        except OSError as e:
            os.close(self._fd)
            raise Failure(
                f"The journal {self._path} can't be locked: {e.strerror}"
            ) from None
        whole = self._read(self._path.read_bytes())
        os.ftruncate(self._fd, whole)
        os.lseek(self._fd, whole, os.SEEK_SET)
        if not whole:
            self._append([self._migration])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def add(self, notes: Mapping[uuid.UUID, Note]) -> None:
        """Note metrics as moved, and sync the file."""
        self._append(
            {"metric": str(id_), **note._asdict()}
            for id_, note in notes.items()
        )
        self.done.update(notes)

    def _append(self, entries: Iterable[Mapping[str, Any]]) -> None:
        data = b"".join(map(_line, entries))
        while data:
            data = data[os.write(self._fd, data) :]
        os.fsync(self._fd)

    def _read(self, content: bytes) -> int:
        """Read the content of the file.

        :return: number of bytes up to the end of the last whole line.
        """
        whole = content[: content.rfind(b"\n") + 1]
        try:
            # It may have been killed while it wrote the first line.
            if not whole and not _line(self._migration).startswith(content):
                raise ValueError
            entries = [json.loads(line) for line in whole.splitlines()]
            if entries and entries[0] != self._migration:
                raise Failure(
                    f"The journal {self._path} is of another migration,"
                    f" {_spelled(entries[0])}; this one is"
                    f" {_spelled(self._migration)}. Name another --journal,"
                    " or remove it to begin again"
                )
            self.done = {
                uuid.UUID(entry.pop("metric")): Note(**entry)
                for entry in entries[1:]
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Failure(
                f"{self._path} is no journal of a migration; name another"
                " --journal"
            ) from None
        return len(whole)


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _spelled(migration: Mapping[str, Any]) -> str:
    return f"from {migration.get('from')} to {migration.get('to')}"
