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
"""Which windows of a range are not kept (pure)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy
import numpy.typing

from gnocchi_influxdb import schema
from gnocchi_influxdb.rollups import rollup_lines, rollup_response

Array = numpy.typing.NDArray[Any]

# A block that is not over yet is kept again with so much more of it, ns: at
# least a window.
_MORE = 30 * 60 * 10**9


@dataclasses.dataclass
class Group:
    """Metrics of which the same is kept.

    :ivar final: shape (blocks,), how many windows of each are.
    """

    final: Array
    metrics: list[Any] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Gaps:
    """What of some blocks is not kept.

    :ivar stop: end of the last window that is asked for.
    :ivar now: when the read began, ns since the epoch.
    """

    blocks: rollup_response.Range
    stop: int | None
    now: int

    @property
    def windows(self) -> int:
        """How many there are in a block."""
        return rollup_lines.windows(self.blocks.every)

    @functools.cached_property
    def starts(self) -> Array:
        """Shape (blocks,): where each begins."""
        blocks = self.blocks
        return blocks.first + blocks.span * numpy.arange(blocks.number)

    @property
    def more(self) -> int:
        """Windows more with which an open block is kept again."""
        return max(_MORE // self.blocks.every, 1)

    @functools.cached_property
    def end(self) -> int | None:
        """End of what is read, so that it makes whole blocks."""
        if self.stop is None:
            return None
        return max(self.stop, min(self._closed, self.blocks.stop))

    @property
    def tail(self) -> int | None:
        """Start of the windows that are most likely not kept, if there are.

        The others are, once such a range was read a moment ago.
        """
        tail = self._closed - (self.more - 1) * self.blocks.every
        tail = max(tail, self.blocks.first)
        return tail if self.end is None or tail < self.end else None

    @property
    def _closed(self) -> int:
        """End of the windows that can be kept."""
        return schema.floor(self.now - rollup_lines.CLOSED, self.blocks.every)

    def final(self, computed: Any) -> Array:
        """How many windows of each block could be kept at a time.

        :param computed: the time, or shape (..., blocks).
        """
        final: Array = (
            computed - rollup_lines.CLOSED - self.starts
        ) // self.blocks.every
        return final.clip(0, self.windows)

    def of(self, final: Array) -> Iterator[tuple[int, int | None]]:
        """Ranges of windows that are not kept, where so many are."""
        blocks = self.blocks
        for i, j in _runs(final < self.windows):
            start = int(self.starts[i] + final[i] * blocks.every)
            if j < blocks.number:
                yield start, int(self.starts[j])
            elif self.stop is None or start < self.stop:
                yield start, self.end


def _runs(flags: Array) -> list[tuple[int, int]]:
    """Where runs of true begin and end."""
    edges = numpy.flatnonzero(
        numpy.diff(flags, prepend=False, append=False)
    ).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))
