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
"""Figures: medians and ratios, as data and as a table."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness import raw
from benchmarks.harness.sizes import Sizes
from benchmarks.harness.workload import Workload

OURS = "influxdb"


class Recorder:
    """Collects the samples of a run.

    A round's figure is the median of its samples, a driver's figure the
    median of its rounds. A ratio is the median of the rounds' ratios: within
    a round the machine was the same for both.
    """

    def __init__(
        self,
        workloads: Sequence[Workload],
        sizes: Sizes,
        left_out: Mapping[str, str],
        about: Mapping[str, Any],
    ) -> None:
        self._workloads = workloads
        self._head = {
            **about,
            "sizes": dataclasses.asdict(sizes),
            "left_out": dict(left_out),
        }
        self._rounds: dict[str, dict[str, list[float]]] = {}
        self._differences: dict[str, list[str]] = {}

    def record(
        self, workload: Workload, driver: str, samples: Sequence[float]
    ) -> None:
        """Add the samples of a round."""
        drivers = self._rounds.setdefault(workload.name, {})
        drivers.setdefault(driver, []).append(statistics.median(samples))

    def differ(self, workload: Workload, difference: str) -> None:
        """Note that two drivers answered differently."""
        self._differences.setdefault(workload.name, []).append(difference)

    def line(self, workload: Workload) -> str:
        """The figures of a workload's last round, in a line."""
        figures = ", ".join(
            f"{driver} {number(rounds[-1])}"
            for driver, rounds in self._rounds[workload.name].items()
        )
        wrong = self._differences.get(workload.name)
        return f"{workload.name}: {figures} {workload.unit}" + (
            f" NOT THE SAME: {wrong[-1]}" if wrong else ""
        )

    def result(self) -> dict[str, Any]:
        """All there is, fit for JSON."""
        return {
            **self._head,
            "rounds": min(
                len(figures)
                for drivers in self._rounds.values()
                for figures in drivers.values()
            ),
            "workloads": [
                self._of(workload)
                for workload in self._workloads
                if workload.name in self._rounds
            ],
        }

    def _of(self, workload: Workload) -> dict[str, Any]:
        rounds = self._rounds[workload.name]
        ours = rounds.get(OURS)
        ratios = {}
        if ours is not None:
            ratios = {
                driver: statistics.median(
                    our / other
                    for our, other in zip(ours, others, strict=True)
                )
                for driver, others in rounds.items()
                if driver != OURS
            }
        differences = self._differences.get(workload.name, [])
        return {
            "name": workload.name,
            "group": workload.group,
            "title": workload.title,
            "unit": workload.unit,
            "better": workload.better,
            "drivers": {
                driver: {
                    "median": statistics.median(figures),
                    "rounds": figures,
                }
                for driver, figures in rounds.items()
            },
            "ratios": ratios,
            "same_answers": not differences,
            "differences": differences,
        }


def number(value: float) -> str:
    """Two or three digits: the figures deserve no more."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(result: Mapping[str, Any]) -> str:
    """A result as text for people."""
    drivers: dict[str, None] = {}
    for workload in result["workloads"]:
        drivers.update(dict.fromkeys(workload["drivers"]))
    known = ("file", "redis", OURS, *raw.FLOORS)
    ordered = [driver for driver in known if driver in drivers]
    others = [driver for driver in ordered if driver != OURS]
    if OURS not in drivers:
        others = []
    header = [
        "workload",
        "unit",
        "better",
        *ordered,
        *(f"/{driver}" for driver in others),
    ]
    rows = [header]
    for workload in result["workloads"]:
        figures = workload["drivers"]
        rows.append(
            [
                workload["name"],
                workload["unit"],
                workload["better"],
                *(
                    number(figures[d]["median"]) if d in figures else "-"
                    for d in ordered
                ),
                *(
                    number(workload["ratios"][d])
                    if d in workload["ratios"]
                    else "-"
                    for d in others
                ),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if index < 3 else cell.rjust(width)
            for index, (cell, width) in enumerate(
                zip(row, widths, strict=True)
            )
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*_head(result), "", *lines, "", *_notes(result)])


def _head(result: Mapping[str, Any]) -> list[str]:
    about = result["machine"]
    versions = {**result["packages"], **result["versions"]}
    return [
        f"{about['cpus']} CPUs, {about['memory_gib']} GiB, "
        f"{about['architecture']}, files on "
        f"{about['file_system']}, servers on {about['temporary_files']}, "
        f"Python {about['python']}; load {about['load_at_start']} at the "
        f"start; {result['rounds']} rounds",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]


def _notes(result: Mapping[str, Any]) -> list[str]:
    notes = [
        "Medians over the rounds. /file is influxdb's figure divided by "
        "file's, and so on:",
        "above 1 is good where higher is better, below 1 where lower is.",
    ]
    notes += [
        f"{driver} was left out: {why}."
        for driver, why in result["left_out"].items()
    ]
    notes += [
        f"NOT THE SAME ANSWERS, {workload['name']}: {difference}"
        for workload in result["workloads"]
        for difference in workload["differences"]
    ]
    return notes
