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
"""How the findings of `check` are shown."""

from collections.abc import Sequence

import click

from gnocchi_influxdb.cli import output
from gnocchi_influxdb.cli.check.findings import Finding, Level, Value

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}
_NAGIOS = {Level.OK: "OK", Level.WARN: "WARNING", Level.FAIL: "CRITICAL"}


def show(findings: Sequence[Finding], format_: str) -> Level:
    """Show the findings on stdout, what they come to first.

    :param format_: "table", "json" or "nagios".
    :return: the worst level.
    """
    worst = max(finding.level for finding in findings)
    if format_ == "json":
        output.show_json(_document(findings, worst))
    elif format_ == "nagios":
        _show_nagios(findings, worst)
    else:
        _show_line(worst, f"check: {summary(findings)}")
        for finding in findings:
            _show_line(finding.level, f"{finding.subject}: {finding.text}")
            if finding.cure:
                click.echo(f"      -> {output.printable(finding.cure)}")
    return worst


def summary(findings: Sequence[Finding]) -> str:
    """What the findings come to, in one line."""
    bad = [
        finding
        for level in (Level.FAIL, Level.WARN)
        for finding in findings
        if finding.level is level
    ]
    if not bad:
        return f"all is well, {len(findings)} findings"
    counted = ", ".join(
        f"{number} {level.name}"
        for level in reversed(Level)
        if (number := sum(finding.level is level for finding in findings))
    )
    subjects = dict.fromkeys(finding.subject for finding in bad)
    return f"{counted}: {', '.join(subjects)}"


def _document(findings: Sequence[Finding], worst: Level) -> dict[str, object]:
    return {
        "status": worst.name,
        "summary": summary(findings),
        "checks": [
            {
                **finding._asdict(),
                "level": finding.level.name,
                "values": {
                    value.name: value.number for value in finding.values
                },
            }
            for finding in findings
        ],
    }


def _show_line(level: Level, text: str) -> None:
    shown = click.style(f"{level.name:<5}", fg=_COLOURS[level])
    click.echo(f"{shown} {output.printable(text)}", color=output.colour())


def _show_nagios(findings: Sequence[Finding], worst: Level) -> None:
    """Show what Nagios and its like take: a line with numbers, and more.

    https://nagios-plugins.org/doc/guidelines.html
    """
    numbers = " ".join(
        _number(value) for finding in findings for value in finding.values
    )
    said = f"GNOCCHI-INFLUXDB {_NAGIOS[worst]}: {summary(findings)}"
    first = next((f for f in findings if f.level is worst), None)
    if first is not None and worst is not Level.OK:
        said += f"; {first.subject}: {first.text}"
    click.echo(f"{_plain(said)} | {numbers}" if numbers else _plain(said))
    for finding in findings:
        if finding.level is not Level.OK:
            click.echo(
                _plain(
                    f"{finding.level.name} {finding.subject}: {finding.text}"
                )
            )
            if finding.cure:
                click.echo(_plain(f"-> {finding.cure}"))


def _number(value: Value) -> str:
    limits = [
        "" if limit is None else f"{limit:g}"
        for limit in (value.warn, value.fail)
    ]
    number = f"{round(value.number, 6):.12g}{value.unit}"
    text = ";".join([number, *limits]).rstrip(";")
    return f"{value.name}={text}"


def _plain(text: str) -> str:
    """On one line, and without the sign that begins the numbers."""
    return output.printable(text).replace("|", "/")
