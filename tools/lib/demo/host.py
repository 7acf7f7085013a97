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
"""The meters of this host, read once a second."""

import dataclasses

import psutil


@dataclasses.dataclass(frozen=True)
class Meter:
    """A quantity of the host.

    :ivar unit: as Gnocchi keeps it: ``%`` or ``B``.
    :ivar counter: it only grows; its rate is what is of interest.
    """

    name: str
    unit: str
    counter: bool = False


METERS = (
    Meter("cpu.util", "%"),
    Meter("memory.used", "B"),
    Meter("net.rx.bytes", "B", counter=True),
    Meter("net.tx.bytes", "B", counter=True),
)


def prime() -> None:
    """Start psutil's CPU share, which is counted from one call to the next."""
    psutil.cpu_percent()


def measure() -> dict[str, float]:
    """The value of each meter now."""
    network = psutil.net_io_counters()
    return {
        "cpu.util": psutil.cpu_percent(),
        "memory.used": float(psutil.virtual_memory().used),
        # None on a host without any network interface.
        "net.rx.bytes": float(network.bytes_recv if network else 0),
        "net.tx.bytes": float(network.bytes_sent if network else 0),
    }
