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
"""Resident memory of the processes."""

import statistics
import threading
from collections.abc import Callable

import psutil

_EVERY = 1.0  # s
# Fewer samples say nothing: pools and caches are still filling.
_ENOUGH = 300
# Of the first third; an allocator's fragmentation stays below that.
_GROWTH = 1.3
_MIB = 1 << 20


class Memory(threading.Thread):
    """Samples the memory of processes with all their children.

    :param pids: the present process id of each, by name.
    """

    def __init__(self, pids: Callable[[], dict[str, int | None]]) -> None:
        super().__init__(daemon=True)
        self._pids = pids
        self._stopped = threading.Event()
        self._samples: dict[str, list[float]] = {}

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        while not self._stopped.wait(_EVERY):
            for name, pid in self._pids().items():
                used = _mebibytes(pid)
                if used:
                    self._samples.setdefault(name, []).append(used)

    def summary(self) -> dict[str, dict[str, float]]:
        """MiB: medians of the first and of the last third, and the peak."""
        return {
            name: {
                "first_third_mib": round(_median(used, 0), 1),
                "last_third_mib": round(_median(used, 2), 1),
                "peak_mib": round(max(used), 1),
                "samples": len(used),
            }
            for name, used in self._samples.items()
        }

    def wrong(self) -> list[str]:
        """Which processes have grown, if it was long enough to tell."""
        return [
            f"{name} has grown from {_median(used, 0):.0f} to"
            f" {_median(used, 2):.0f} MiB"
            for name, used in self._samples.items()
            if len(used) >= _ENOUGH
            and _median(used, 2) > _GROWTH * _median(used, 0)
        ]


def _median(used: list[float], third: int) -> float:
    size = max(len(used) // 3, 1)
    return statistics.median(used[third * size :][:size] or used[-size:])


def _mebibytes(pid: int | None) -> float:
    if pid is None:
        return 0
    used = 0
    try:
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            # A page that several share counts once.
            used += one.memory_full_info().pss
    except psutil.Error:
        return 0  # restarted just now
    return used / _MIB
