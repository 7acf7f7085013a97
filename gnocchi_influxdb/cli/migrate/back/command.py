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
"""gnocchi-influxdb migrate-back"""

import pathlib

import click
import gnocchi.utils

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.cli import output
from gnocchi_influxdb.cli.deployment import Deployment
from gnocchi_influxdb.cli.migrate import command, report, verify
from gnocchi_influxdb.cli.migrate.back.archive import Archive
from gnocchi_influxdb.cli.migrate.back.comparison import Comparison
from gnocchi_influxdb.cli.migrate.back.destination import Destination
from gnocchi_influxdb.cli.migrate.back.retreat import Retreat
from gnocchi_influxdb.cli.migrate.journal import Journal
from gnocchi_influxdb.cli.migrate.migration import try_again
from gnocchi_influxdb.cli.output import Failure


@click.command("migrate-back")
@click.option(
    "--to-driver",
    metavar="NAME",
    required=True,
    help="Storage driver to move to: file, redis, swift, s3 or ceph, with its"
    " options in [storage].",
)
@command.workers_option
@click.option(
    "--journal",
    "path",
    type=click.Path(dir_okay=False, path_type=pathlib.Path),
    default="gnocchi-influxdb-migrate-back.journal",
    show_default=True,
    help="File that notes which metrics are moved.",
)
@command.dry_run_option
@command.verify_option
@command.sample_option
@output.format_option
@click.pass_context
def migrate_back(
    ctx: click.Context,
    to_driver: str,
    workers: int,
    path: pathlib.Path,
    dry_run: bool,
    verifies: bool,
    sample: int | None,
    format_: str,
) -> None:
    """Move the history out of InfluxDB, into another storage of Gnocchi.

    Stores what InfluxDB answers as the other storage driver stores it: all
    aggregates, and the measures of the back window, so that Gnocchi goes on
    there as if it had never stored elsewhere. Nothing is removed, neither in
    InfluxDB nor there.

    It may run while Gnocchi still stores in InfluxDB. Run it again when
    Gnocchi stores in the other storage, with the same journal and before
    gnocchi-metricd is started: it moves the metrics that have received
    measures meanwhile, and those that are left after an interruption.

    Exit status: 0, all is moved and, if that was asked for, verified; 1,
    something is not or can't be; 2, failed or interrupted.
    """
    deployment: Deployment = ctx.obj
    if to_driver == "influxdb":
        raise Failure("--to-driver must name the driver to move to")
    if not dry_run:
        click.echo(
            "Gnocchi stores in InfluxDB ([storage] driver = influxdb). When"
            f" it stores in {to_driver}, run this again, before"
            " gnocchi-metricd is started."
            if deployment.conf.storage.driver == "influxdb"
            else "Leave gnocchi-metricd stopped until this is done.",
            err=True,
        )
    # Here are threads enough.
    gnocchi.utils.parallel_map.MAX_WORKERS = 1
    destination = Destination(deployment.conf, to_driver, dry_run)
    try:
        deployment.client.ping()
        there = command.parties(destination, deployment)
    except exceptions.UnavailableError as e:
        raise try_again(e) from None
    run = Retreat(deployment, workers, destination, dry_run)
    result: verify.Result | None = None
    try:
        with Journal(
            path,
            {"from": there["to"], "to": there["from"]},
            read_only=dry_run,
        ) as journal:
            moved = run.move(journal)
            done = journal.done
        if verifies and not dry_run:
            comparison = Comparison(Archive(deployment), destination)
            result = run.verify(comparison.compare, done, sample)
    except KeyboardInterrupt:
        raise Failure(
            "Interrupted. Run it again to go on where it was"
        ) from None
    ctx.exit(
        report.show(moved, result, run.known, dry_run, format_, is_back=True)
    )
