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
"""Figures as a chart: how many times as fast as Gnocchi's file driver."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.harness import raw, results

_COLOURS = {
    "file": "#8a8f98",
    "redis": "#d1605e",
    "influxdb": "#2f6fb5",
    raw.AT_ONCE: "#b9c7d8",
    raw.IN_A_ROW: "#dfe6ee",
}
_NAMES = {
    raw.AT_ONCE: "raw line protocol",
    raw.IN_A_ROW: "the same in a row",
}
_BASES = ("file", "redis", "influxdb")
_LEFT, _WIDTH, _RIGHT = 330, 500, 70
_BAR, _GAP, _TOP, _BOTTOM = 11, 10, 84, 34
_FONT = "font-family='sans-serif'"


def svg(result: Mapping[str, Any]) -> str:
    """The chart as text of an SVG; its scale is logarithmic."""
    workloads = result["workloads"]
    drivers = [
        driver
        for driver in _COLOURS
        if any(driver in workload["drivers"] for workload in workloads)
    ]
    # Without the file driver, the next one.
    base = next((d for d in _BASES if d in drivers), None)
    rows = [
        (workload, _speeds(workload, base))
        for workload in workloads
        if base in workload["drivers"]
    ]
    low, high = _decades([s for _, row in rows for s in row.values()])
    scale = _Scale(low, high)
    heights = [len(row) * _BAR + _GAP for _, row in rows]
    height = _TOP + sum(heights) + _BOTTOM
    width = _LEFT + _WIDTH + _RIGHT
    about = result["machine"]
    subtitle = (
        f"{about['cpus']} CPUs, {about['memory_gib']} GiB, "
        f"{result['rounds']} rounds; logarithmic, further right is "
        "faster"
    )
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' "
        f"height='{height}' viewBox='0 0 {width} {height}' {_FONT}>",
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>",
        _text(16, 26, f"Speed, {base} = 1", 17, weight="bold"),
        _text(16, 46, subtitle, 12, fill="#555555"),
        *_legend([driver for driver in drivers if driver != base]),
        *_grid(scale, height - _BOTTOM),
    ]
    y = float(_TOP)
    for (workload, row), tall in zip(rows, heights, strict=True):
        lines += _row(workload, row, y, tall - _GAP, scale)
        y += tall
    return "\n".join([*lines, "</svg>"]) + "\n"


class _Scale:
    """Powers of ten to pixels."""

    def __init__(self, low: int, high: int) -> None:
        self.decades = range(low, high + 1)
        self._low = low
        self._unit = _WIDTH / (high - low)

    def __call__(self, speed: float) -> float:
        return _LEFT + (math.log10(speed) - self._low) * self._unit


def _speeds(workload: Mapping[str, Any], base: str | None) -> dict[str, float]:
    """Median of the rounds' ratios, as the table has it."""
    drivers = workload["drivers"]
    return {
        driver: statistics.median(
            other / figure if workload["better"] == "lower" else figure / other
            for figure, other in zip(
                drivers[driver]["rounds"], drivers[base]["rounds"], strict=True
            )
        )
        for driver in _COLOURS
        if driver in drivers and driver != base
    }


def _decades(speeds: Sequence[float]) -> tuple[int, int]:
    low = math.floor(math.log10(min(speeds, default=0.1)))
    high = math.ceil(math.log10(max(speeds, default=10)))
    return min(low, -1), max(high, 1)


def _legend(drivers: Sequence[str]) -> Iterator[str]:
    x = _LEFT
    for driver in drivers:
        name = _NAMES.get(driver, driver)
        yield (
            f"<rect x='{x}' y='56' width='11' height='11' "
            f"fill='{_COLOURS[driver]}'/>"
        )
        yield _text(x + 16, 66, name, 12)
        x += 32 + 7 * len(name)


def _grid(scale: _Scale, bottom: int) -> Iterator[str]:
    for decade in scale.decades:
        x = scale(10**decade)
        strong = "#333333" if decade == 0 else "#dddddd"
        yield (
            f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{_TOP - 6}' y2='{bottom}' "
            f"stroke='{strong}'/>"
        )
        label = f"{10**decade:,}" if decade >= 0 else f"1/{10**-decade:,}"
        yield _text(x, bottom + 18, label, 11, anchor="middle")


def _row(
    workload: Mapping[str, Any],
    speeds: Mapping[str, float],
    y: float,
    tall: int,
    scale: _Scale,
) -> Iterator[str]:
    yield _text(
        _LEFT - 12, y + tall / 2 + 4, workload["name"], 12, anchor="end"
    )
    for driver, speed in speeds.items():
        left, right = sorted((scale(1), scale(speed)))
        figure = workload["drivers"][driver]["median"]
        title = f"{driver}: {results.number(figure)} {workload['unit']}"
        yield (
            f"<rect x='{left:.1f}' y='{y:.1f}' "
            f"width='{max(right - left, 1.5):.1f}' height='{_BAR - 2}' "
            f"fill='{_COLOURS[driver]}'><title>{escape(title)}</title></rect>"
        )
        if driver == results.OURS:
            yield _text(
                max(right, scale(1)) + 4,
                y + _BAR - 2.5,
                f"{results.number(speed)} ×",
                10,
            )
        y += _BAR


def _text(
    x: float,
    y: float,
    text: str,
    size: int,
    *,
    anchor: str = "start",
    weight: str = "normal",
    fill: str = "#222222",
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' "
        f"font-weight='{weight}' text-anchor='{anchor}' fill='{fill}'>"
        f"{escape(text)}</text>"
    )
