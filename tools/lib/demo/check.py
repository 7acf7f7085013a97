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
"""Computes the answers that Gnocchi must give to what it was sent."""

import itertools
import math
from collections.abc import Iterable

import numpy

#: Each aggregation that is read back; "count" tells how many it stands on.
METHODS = ("count", "mean", "max", "95pct", "rate:mean")


def expected(
    points: Iterable[tuple[int, float]], granularity: int
) -> dict[str, dict[int, float]]:
    """Aggregate measures the plain way.

    :param points: (Unix time in ns, value) of each measure, in their order.
    :param granularity: seconds.
    :return: method to window to value; a window is the Unix time in seconds
        that it starts at.
    """
    ordered = list(points)
    windows: dict[int, list[float]] = {}
    for timestamp, value in ordered:
        start = _window(timestamp, granularity)
        windows.setdefault(start, []).append(value)
    # A difference belongs to the window of its later measure, and counts
    # only if the earlier one is not more than a window before that.
    rates: dict[int, list[float]] = {}
    for (earlier, before), (timestamp, value) in itertools.pairwise(ordered):
        start = _window(timestamp, granularity)
        if earlier >= (start - granularity) * 10**9:
            rates.setdefault(start, []).append(value - before)
    return {
        "count": {w: float(len(v)) for w, v in windows.items()},
        "mean": {w: math.fsum(v) / len(v) for w, v in windows.items()},
        "max": {w: max(v) for w, v in windows.items()},
        "95pct": {
            w: float(numpy.percentile(v, 95)) for w, v in windows.items()
        },
        "rate:mean": {w: math.fsum(v) / len(v) for w, v in rates.items()},
    }


def differences(
    name: str,
    wanted: dict[str, dict[int, float]],
    answered: dict[str, dict[int, float]],
) -> list[str]:
    """Describe where an answer differs from the expected one.

    count and max are compared to the last bit, the others to 1e-9: a sum
    depends on the order of its terms.
    """
    found = []
    for method, windows in wanted.items():
        answers = answered.get(method, {})
        for window in sorted(windows.keys() | answers.keys()):
            want, got = windows.get(window), answers.get(window)
            if want is None or got is None or not _same(method, want, got):
                found.append(
                    f"{name} {method} at {window}: {got}, should be {want}"
                )
    return found


def _same(method: str, want: float, got: float) -> bool:
    if method in ("count", "max"):
        return want == got
    return math.isclose(want, got, rel_tol=1e-9, abs_tol=1e-9)


def _window(timestamp: int, granularity: int) -> int:
    return timestamp // 10**9 // granularity * granularity
