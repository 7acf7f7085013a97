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
"""The report at the end of `gnocchi-influxdb migrate`."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import click

from gnocchi_influxdb.cli import output
from gnocchi_influxdb.cli.migrate import transfer, verify


class LeftOut(NamedTuple):
    """An archive policy whose metrics are not moved.

    :ivar metrics: number of its metrics.
    :ivar methods: its aggregation methods that would be wrong.
    """

    policy: str
    metrics: int
    methods: list[str]


def show(
    moved: transfer.Moved,
    result: verify.Result | None,
    known: int,
    left_out: Sequence[LeftOut],
    dry_run: bool,
    format_: str,
) -> int:
    """Show the report on stdout.

    :param known: number of active metrics in the indexer.
    :param result: of the comparison; None if there was none.
    :param format_: "table" or "json".
    :return: the exit status.
    """
    wrong = sum(compared.wrong for compared in (result or {}).values())
    # Most likely Gnocchi has stored elsewhere.
    offered = known - sum(one.metrics for one in left_out)
    lost = 0 < offered == moved.empty
    if format_ == "json":
        output.show_json(_document(moved, result, known, left_out, dry_run))
    else:
        _show_moved(moved, known, left_out, dry_run)
        if result is not None:
            _show_compared(result)
    failed = moved.failed or moved.refused or wrong or lost or left_out
    return 1 if failed else 0


def _document(
    moved: transfer.Moved,
    result: verify.Result | None,
    known: int,
    left_out: Sequence[LeftOut],
    dry_run: bool,
) -> dict[str, object]:
    counts = dataclasses.asdict(moved)
    return {
        "dry_run": dry_run,
        "left_out": [one._asdict() for one in left_out],
        "metrics_known": known,
        "metrics_moved": len(moved.points),
        **counts,
        "points": sum(moved.points.values()),
        "verified": None
        if result is None
        else [
            {
                "granularity": every / 1e9,
                "method": method,
                **dataclasses.asdict(compared),
            }
            for (every, method), compared in sorted(result.items())
        ],
    }


def _show_moved(
    moved: transfer.Moved,
    known: int,
    left_out: Sequence[LeftOut],
    dry_run: bool,
) -> None:
    would = "would be moved" if dry_run else "moved"
    here = len(moved.points) + len(moved.failed) + moved.empty
    offered = known - sum(one.metrics for one in left_out)
    click.echo(
        f"{len(moved.points):,} metrics {would}:"
        f" {sum(moved.points.values()):,} points, {moved.measures:,} of them"
        " measures as they were sent."
    )
    for number, text in (
        (offered - here, "metrics had been moved before"),
        (
            moved.empty,
            "metrics have no history"
            + (
                ": NOT ONE has. Is that where Gnocchi has stored"
                if offered == moved.empty
                else ""
            ),
        ),
        (moved.too_old, "points are too old for their bucket's retention"),
        (moved.not_finite, "values are not finite numbers"),
        (moved.occupied, "windows have measures in InfluxDB already"),
        (moved.refused, "points were REFUSED by InfluxDB, see above"),
        (len(moved.failed), "metrics could NOT BE READ, see above"),
    ):
        if number:
            click.echo(f"{number:,} {text}.")
    for one in left_out:
        click.echo(
            f"{one.metrics:,} metrics of archive policy {one.policy} are NOT"
            f" MOVED: their history would answer {', '.join(one.methods)}"
            " wrongly, since each window becomes one point. To move them all"
            " the same, add --distorted."
        )


def _show_compared(result: verify.Result) -> None:
    output.show_table(
        (
            "granularity",
            "method",
            "compared",
            "equal",
            "unavoidable",
            "largest",
            "absent",
            "wrong",
            "own",
        ),
        [
            (
                f"{every / 1e9:g} s" if every else "-",
                method,
                output.number(compared.windows),
                output.number(compared.equal),
                output.number(compared.unavoidable),
                f"{100 * compared.worst:.3g} %"
                if compared.unavoidable
                else "-",
                output.number(compared.absent),
                output.number(compared.wrong),
                output.number(compared.own),
            )
            for (every, method), compared in sorted(result.items())
        ],
        left=2,
    )
    click.echo(
        "unavoidable: differs since Gnocchi has dropped the measures, by at"
        " most `largest`.\nabsent: what is left does not make a value.\nown:"
        " not compared, InfluxDB has got other measures in that window."
        "\nwrong: must not be."
    )
    wrong = sum(compared.wrong for compared in result.values())
    if wrong:
        click.echo(f"{wrong:,} comparisons are WRONG.")
    else:
        click.echo("All that must be equal is equal.")
