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
"""What the demonstration shows: progress, tables, charts, JSON."""

import datetime
import json
import sys
import time
from typing import Any

import rich.box
import rich.console
import rich.markup
import rich.status
import rich.table

from demo import check, host

_BARS = "▁▂▃▄▅▆▇█"
_PLAIN_BARS = ".:-=+*#@"
#: Windows shown of each metric; JSON has all.
_ROWS = 4


class Progress:
    """Tells the progress on stderr; stdout is for the results."""

    def __init__(self) -> None:
        self._console = rich.console.Console(stderr=True, highlight=False)
        self._start = time.monotonic()
        self._status: rich.status.Status | None = None
        self._ticks = 0

    def say(self, message: str) -> None:
        elapsed = time.monotonic() - self._start
        self._console.print(
            f"[dim]\\[{elapsed:6.1f} s][/dim] {rich.markup.escape(message)}",
            soft_wrap=True,
        )

    def tick(self, values: dict[str, float]) -> None:
        """Tell that the measures of one more second were sent."""
        self._ticks += 1
        text = f"second {self._ticks}: " + ", ".join(
            f"{meter.name} {amount(meter.unit, values[meter.name])}"
            for meter in host.METERS
        )
        if not self._console.is_terminal:
            if self._ticks % 5 == 1:
                self.say(text)
            return
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        self._status.update(text)

    def ticks_done(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def amount(unit: str, value: float | None) -> str:
    """A value in a form that people read."""
    if value is None:
        return "-"
    if unit != "B":
        return f"{value:.1f} {unit}"
    for prefix in ("", "Ki", "Mi"):
        if abs(value) < 1024:
            return f"{value:.1f} {prefix}B" if prefix else f"{value:.0f} B"
        value /= 1024
    return f"{value:.2f} GiB"


def sparkline(values: list[float], bars: str = _BARS) -> str:
    """One character a value, the lowest and the highest at the ends."""
    low, high = min(values), max(values)
    if low == high:
        return bars[0] * len(values)
    step = (high - low) / len(bars)
    return "".join(
        bars[min(int((value - low) / step), len(bars) - 1)] for value in values
    )


def show(result: dict[str, Any]) -> None:
    """Print tables and charts of a result on stdout."""
    console = rich.console.Console(highlight=False)
    bars = _BARS
    if not console.encoding.lower().startswith("utf"):
        bars = _PLAIN_BARS
    console.print(_aggregates(result))
    console.print(_charts(result, bars))
    latency = result["post_to_readable"]
    if latency["samples"]:
        console.print(
            f"From POST to readable: {latency['median_ms']:.0f} ms (median "
            f"of {latency['samples']}; longest {latency['max_ms']:.0f} ms)."
        )
    console.print(
        f"Sent {result['sent']} measures, read {result['read']}; "
        f"{result['compared']} aggregates compared with the measures "
        f"that were sent: {_verdict(result)}."
    )


def print_json(result: dict[str, Any]) -> None:
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")
    sys.stdout.flush()


def _verdict(result: dict[str, Any]) -> str:
    wrong = len(result["differences"])
    return (
        f"[red]{wrong} differ[/red]" if wrong else "[green]all equal[/green]"
    )


def _aggregates(result: dict[str, Any]) -> rich.table.Table:
    granularity = result["granularity"]
    table = rich.table.Table(
        title=f"Aggregates over {granularity} s, read from the HTTP API",
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("metric", no_wrap=True)
    table.add_column("UTC", no_wrap=True)
    for method in check.METHODS:
        table.add_column(method, justify="right", no_wrap=True)
    for meter in host.METERS:
        answers = result["metrics"][meter.name]["aggregates"]
        windows = sorted(answers["count"])[-_ROWS:]
        for window in windows:
            cells = [f"{answers['count'][window]:.0f}"]
            cells += [
                amount(meter.unit, answers[method].get(window))
                for method in check.METHODS[1:]
            ]
            last = window == windows[-1]
            table.add_row(
                meter.name if window == windows[0] else "",
                _clock(window),
                *cells,
                end_section=last,
            )
    return table


def _charts(result: dict[str, Any], bars: str) -> rich.table.Table:
    table = rich.table.Table(
        title="Every second (counters: rate:mean)",
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("metric")
    table.add_column("lowest", justify="right")
    table.add_column("chart")
    table.add_column("highest", justify="right")
    for meter in host.METERS:
        series = result["metrics"][meter.name]["each_second"]
        values = [series[second] for second in sorted(series)][-60:]
        if values:
            table.add_row(
                meter.name,
                amount(meter.unit, min(values)),
                sparkline(values, bars),
                amount(meter.unit, max(values)),
            )
    return table


def _clock(window: int) -> str:
    moment = datetime.datetime.fromtimestamp(window, datetime.timezone.utc)
    return moment.strftime("%H:%M:%S")
