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
import uuid
from collections.abc import Collection, Iterable

import click
import numpy

from gnocchi_influxdb import schema
from gnocchi_influxdb.cli import output
from gnocchi_influxdb.cli.migrate import history, verify

# Metrics and windows that a line names, at most.
_NAMED = 5


def show(
    moved: history.Moved,
    result: verify.Result | None,
    known: int,
    dry_run: bool,
    format_: str,
    before: Collection[uuid.UUID] = (),
    is_back: bool = False,
) -> int:
    """Show the report on stdout.

    :param before: metrics that an earlier run has moved, with aggregates that
        could not be kept.
    :param is_back: whether it was moved out of InfluxDB.
    :param known: number of active metrics in the indexer.
    :param result: of the comparison; None if there was none.
    :param format_: "table" or "json".
    :return: the exit status.
    """
    wrong = sum(compared.wrong for compared in (result or {}).values())
    # Most likely Gnocchi has stored elsewhere.
    lost = 0 < known == moved.empty
    if format_ == "json":
        output.show_json(
            _document(moved, result, known, dry_run)
            | {"losing_before": sorted(before)}
        )
    else:
        _show_moved(moved, known, dry_run, is_back)
        if is_back:
            _show_ahead(moved.losing)
        else:
            can_not = "can't be" if dry_run else "could not be"
            _show_losing(moved.losing, can_not)
        _show_losing(sorted(before), "could not be, in an earlier run,")
        if result is not None:
            _show_compared(result)
    failed = (
        moved.failed
        or moved.refused
        or moved.losing
        or before
        or wrong
        or lost
    )
    return 1 if failed else 0


def _document(
    moved: history.Moved,
    result: verify.Result | None,
    known: int,
    dry_run: bool,
) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "metrics_known": known,
        "metrics_moved": len(moved.aggregates),
        "aggregates": sum(moved.aggregates.values()),
        "measures": moved.measures,
        "empty": moved.empty,
        "refused": moved.refused,
        "failed": moved.failed,
        "losing": moved.losing,
        "kept": [
            {
                "policy": policy,
                "granularity": every / 1e9,
                "method": method,
                **dataclasses.asdict(counts),
            }
            for (policy, every, method), counts in sorted(moved.kept.items())
        ],
        "verified": None
        if result is None
        else [
            {
                "granularity": every / 1e9,
                "method": method,
                "windows": compared.windows,
                "equal": compared.equal,
                "open": compared.open,
                "wrong": compared.wrong,
                "open_windows": _named(compared.open_windows),
                "wrong_windows": _named(compared.wrong_windows),
            }
            for (every, method), compared in sorted(result.items())
        ],
    }


def _named(windows: Iterable[verify.Window]) -> list[dict[str, str]]:
    return [
        {"metric": str(metric), "start": _time(start)}
        for metric, start in windows
    ]


def _time(ns: int) -> str:
    return f"{numpy.datetime64(ns, 'ns').astype('<M8[ms]')}Z"


def _show_moved(
    moved: history.Moved, known: int, dry_run: bool, is_back: bool
) -> None:
    would = "would be moved" if dry_run else "moved"
    here = len(moved.aggregates) + len(moved.failed) + moved.empty
    click.echo(
        f"{schema.counted(len(moved.aggregates), 'metric')} {would}:"
        f" {schema.counted(sum(moved.aggregates.values()), 'aggregate')}, and"
        f" {schema.counted(moved.measures, 'recent measure')}."
    )
    for number, noun, text in (
        (known - here, "metric", "had been moved before"),
        (
            moved.empty,
            "metric",
            "without history"
            + (
                ": NOT ONE has one. Is that where Gnocchi has stored"
                if known == moved.empty
                else ""
            ),
        ),
        (moved.refused, "point", "REFUSED by InfluxDB, see above"),
        (
            len(moved.failed),
            "metric",
            f"could NOT BE {'STORED' if is_back else 'READ'}, see above",
        ),
    ):
        if number:
            click.echo(f"{schema.counted(number, noun)} {text}.")
    if dry_run or any(
        counts.too_old or counts.not_finite for counts in moved.kept.values()
    ):
        output.show_table(
            (
                "archive policy",
                "granularity",
                "method",
                "aggregates",
                "too old",
                "not finite",
            ),
            [
                (
                    policy,
                    f"{every / 1e9:g} s",
                    method,
                    *map(output.number, dataclasses.astuple(counts)),
                )
                for (policy, every, method), counts in sorted(
                    moved.kept.items()
                )
            ],
            left=3,
        )


def _show_losing(losing: list[uuid.UUID], can_not: str) -> None:
    if losing:
        click.echo(
            f"Of {schema.counted(len(losing), 'metric')} some aggregates"
            f" {can_not} KEPT: they are older than their bucket keeps them,"
            " since the metric has received nothing for a while, or are not"
            " finite numbers."
            f" Metrics: {_some(losing)}; --format json names all. With"
            " [storage] influxdb_retention = false and another --journal"
            " InfluxDB takes them of any age. If you can do without them, all"
            " is done."
        )


def _show_ahead(losing: list[uuid.UUID]) -> None:
    if losing:
        click.echo(
            f"Of {schema.counted(len(losing), 'metric')} some measures lie"
            " more than an hour in the future. These are left out: Gnocchi"
            " would drop the metrics' history for them. Metrics:"
            f" {_some(losing)}."
        )


def _some(metrics: list[uuid.UUID]) -> str:
    more = ", ..." if len(metrics) > _NAMED else ""
    return ", ".join(map(str, metrics[:_NAMED])) + more


def _show_compared(result: verify.Result) -> None:
    output.show_table(
        ("granularity", "method", "compared", "equal", "open", "wrong"),
        [
            (
                f"{every / 1e9:g} s",
                method,
                output.number(compared.windows),
                output.number(compared.equal),
                output.number(compared.open),
                output.number(compared.wrong),
            )
            for (every, method), compared in sorted(result.items())
        ],
        left=2,
    )
    for kind in ("open", "wrong"):
        for (every, method), compared in sorted(result.items()):
            windows = getattr(compared, f"{kind}_windows")
            if windows:
                named = ", ".join(
                    f"{metric} {_time(start)}"
                    for metric, start in windows[:_NAMED]
                )
                more = ", ..." if getattr(compared, kind) > _NAMED else ""
                click.echo(
                    f"{kind}, {method} of {every / 1e9:g} s: {named}{more}"
                )
    click.echo(
        "open: differs, and may: when it was moved the window was not over,"
        " or one of\nboth has got other measures of it.\nwrong: must not be."
    )
    wrong = sum(compared.wrong for compared in result.values())
    if wrong:
        click.echo(f"{schema.counted(wrong, 'comparison')} WRONG.")
    else:
        click.echo("All that must be equal is equal.")
