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
"""gnocchi-influxdb migrate"""

import contextlib
import os
import pathlib
from typing import Any

import click
import gnocchi.indexer
import gnocchi.utils

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.cli import output
from gnocchi_influxdb.cli.deployment import Deployment
from gnocchi_influxdb.cli.migrate import (
    report,
    source,
    transfer,
    verify,
)
from gnocchi_influxdb.cli.migrate.journal import Journal
from gnocchi_influxdb.cli.migrate.migration import Migration, try_again
from gnocchi_influxdb.cli.output import Failure

workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1, max=64),
    default=min(4, os.cpu_count() or 1),
    show_default=True,
    help="Metrics are moved by so many threads.",
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Read everything, write nothing."
)
verify_option = click.option(
    "--verify",
    "verifies",
    is_flag=True,
    help="Afterwards compare every aggregate of all moved metrics.",
)
sample_option = click.option(
    "--sample",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="Verify so many metrics, picked at random, instead of all.",
)


@click.command()
@click.option(
    "--from-driver",
    metavar="NAME",
    help="Storage driver to move from: file, redis, swift, s3 or ceph, with"
    " its options in [storage].  [default: [storage] driver, if that is not"
    " influxdb]",
)
@workers_option
@click.option(
    "--journal",
    "path",
    type=click.Path(dir_okay=False, path_type=pathlib.Path),
    default="gnocchi-influxdb-migrate.journal",
    show_default=True,
    help="File that notes which metrics are moved.",
)
@dry_run_option
@verify_option
@sample_option
@output.format_option
@click.pass_context
def migrate(
    ctx: click.Context,
    from_driver: str | None,
    workers: int,
    path: pathlib.Path,
    dry_run: bool,
    verifies: bool,
    sample: int | None,
    format_: str,
) -> None:
    """Move the history of a Gnocchi into InfluxDB.

    First let Gnocchi store in InfluxDB, then move what its former storage
    driver holds. Nothing is removed or changed there. Interrupted, even
    killed, it goes on where it was when it is run again with the same
    journal; doing it all again changes nothing.

    Each aggregate of each granularity and method is stored as it is. What is
    older than InfluxDB keeps it can't be moved; --dry-run tells what that is.

    Exit status: 0, all is moved and, if that was asked for, verified; 1,
    something is not or can't be; 2, failed or interrupted.
    """
    deployment: Deployment = ctx.obj
    name = from_driver or deployment.conf.storage.driver
    if name == "influxdb":
        raise Failure("--from-driver must name the driver to move from")
    if deployment.conf.storage.driver != "influxdb" and not dry_run:
        click.echo(
            f"[storage] driver is {deployment.conf.storage.driver}: Gnocchi"
            " goes on storing there, and what comes for a metric after it has"
            " been moved is not moved.",
            err=True,
        )
    # Here are threads enough.
    gnocchi.utils.parallel_map.MAX_WORKERS = 1
    origin = source.Source(deployment.conf, name)
    storage = deployment.conf.storage
    moving = transfer.Transfer(origin, deployment.buckets, storage, dry_run)
    try:
        # Before it begins nobody waits for a server that is not there.
        deployment.client.ping()
        both = parties(origin, deployment)
        run = Migration(deployment, workers)
    except exceptions.UnavailableError as e:
        raise try_again(e) from None
    result: verify.Result | None = None
    try:
        with Journal(path, both, read_only=dry_run) as journal:
            before = [id_ for id_, note in journal.done.items() if note.losing]
            moved = run.move(moving, journal, dry_run)
            done = journal.done
        if verifies and not dry_run:
            result = run.verify(
                verify.Verifier(origin, moving, storage).compare, done, sample
            )
    except KeyboardInterrupt:
        raise Failure(
            "Interrupted. Run it again to go on where it was"
        ) from None
    ctx.exit(report.show(moved, result, run.known, dry_run, format_, before))


def parties(origin: source.Source, deployment: Deployment) -> dict[str, Any]:
    """Source and target; a migration with others needs another journal."""
    storage = deployment.conf.storage
    target = f"{deployment.client}, {storage.influxdb_bucket_prefix}*"
    if not storage.influxdb_retention:
        # Then more is moved.
        target += ", of any age"
    if deployment.client.capabilities.buckets:
        # A server that was set up anew has nothing that was moved before.
        with contextlib.suppress(exceptions.AccessError):
            target += f", organization {deployment.client.control.org_id()}"
    return {"from": str(origin), "to": target}
