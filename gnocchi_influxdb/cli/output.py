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
"""Output of the commands: tables or JSON on stdout, progress on stderr."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
from rich import box, cells, console, filesize, progress, table
from rich.text import Text

# A column of text may be folded to so many characters.
_FOLDED = 12
# So many characters come with each column.
_BETWEEN = 2

#: Seconds between two lines of progress where there is no terminal.
_LINE_EVERY = 30.0


def options(nagios: bool = False) -> Callable[[Any], Any]:
    """The option that says how to show the result.

    :param nagios: whether it may be shown to Nagios.
    """
    return click.option(
        "--format",
        "format_",
        type=click.Choice(["table", "json", *["nagios"] * nagios]),
        default="table",
        show_default=True,
        help="How to show the result on stdout.",
    )


format_option = options()


class Failure(click.ClickException):
    """The command has failed; it ends with status 2."""

    exit_code = 2


def show_json(found: Any) -> None:
    """Show one JSON document. What JSON does not know becomes text."""
    click.echo(json.dumps(found, indent=2, default=str))


def show_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: int = 1,
) -> None:
    """Show a table. The first `left` columns are text, the others numbers.

    Where the terminal is too narrow, text is folded; if that is not enough,
    each row becomes a paragraph. Numbers and times are never shortened.
    """
    texts = [[printable(text) for text in row] for row in rows]
    widths = [
        max(map(cells.cell_len, column))
        for column in zip(columns, *texts, strict=True)
    ]
    out = console.Console(highlight=False)
    if not out.is_terminal:
        # Do not cut lines to 80 columns in a pipe.
        room = sum(widths) + _BETWEEN * len(columns)
        out = console.Console(highlight=False, width=room)
    while sum(widths) + _BETWEEN * len(columns) > out.width:
        widest = max(range(left), key=widths.__getitem__)
        if widths[widest] <= _FOLDED:
            _show_paragraphs(columns, texts)
            return
        widths[widest] -= 1
    shown = table.Table(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for position, name in enumerate(columns):
        shown.add_column(
            name,
            justify="left" if position < left else "right",
            overflow="fold",
            width=widths[position],
        )
    for row in texts:
        shown.add_row(*map(Text, row))
    out.print(shown)


def _show_paragraphs(
    columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    """Show each row as lines of a column's name and its text."""
    for row in rows:
        click.echo()
        for name, text in zip(columns, row, strict=True):
            if text:
                click.echo(f"{name}: {text}")


def colour() -> bool | None:
    """What click takes: False for no colours, None: as the output is.

    click itself asks only whether it is a terminal.
    """
    shown = console.Console()
    return False if shown.is_dumb_terminal or shown.no_color else None


def printable(text: str) -> str:
    """A name as a terminal may be sent it: without control characters."""
    return "".join(
        letter
        if letter.isprintable()
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


def number(value: float | None, unit: str = "") -> str:
    """A number for people, with its unit; `-` for None."""
    if value is None:
        return "-"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
    return f"{text} {unit}".rstrip()


def size(value: int | None) -> str:
    """Bytes for people; `-` for None."""
    if value is None:
        return "-"
    return filesize.decimal(value)


def span(seconds: int) -> str:
    """Time in days, hours, minutes and seconds; a retention of 0 is `ever`."""
    if not seconds:
        return "ever"
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{n} {unit}" for n, unit in parts if n)


class _Speed(progress.ProgressColumn):
    """Speed: things done in a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: progress.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(
            "" if speed is None else f"{speed:,.1f} {self._unit}/s",
            style="progress.data.speed",
        )


@contextlib.contextmanager
def progressing(
    what: str, total: int, unit: str
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar with speed and time left.

    Without a terminal that can draw, show a line every 30 seconds.

    :param what: a title.
    :param unit: the things that are counted.
    :return: a function for one thread, called with the number of things done
        since its last call.
    """
    out = console.Console(stderr=True)
    if not out.is_terminal or out.is_dumb_terminal:
        yield _Lines(what, total, unit).advance
        return
    with progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        _Speed(unit),
        progress.TimeRemainingColumn(elapsed_when_finished=True),
        console=out,
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


class _Lines:
    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done = 0
        self._began = self._told = time.monotonic()

    def advance(self, done: int) -> None:
        self._done += done
        now = time.monotonic()
        if now - self._told < _LINE_EVERY:
            return
        self._told = now
        speed = self._done / (now - self._began)
        left = (self._total - self._done) / speed if speed else 0.0
        click.echo(
            f"{self._what}: {self._done} of {self._total} {self._unit},"
            f" {speed:,.1f} {self._unit}/s, {left / 60:,.1f} min left",
            err=True,
        )
