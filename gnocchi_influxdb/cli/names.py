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
"""gnocchi-influxdb names"""

import click

from gnocchi_influxdb import schema
from gnocchi_influxdb.cli import output
from gnocchi_influxdb.cli.deployment import Deployment
from gnocchi_influxdb.cli.output import Failure
from gnocchi_influxdb.indexer import listing
from gnocchi_influxdb.maintenance.names import IdRange, NamesJob


@click.command()
@output.format_option
@click.pass_context
def names(ctx: click.Context, format_: str) -> None:
    """Write the names of metrics for dashboards (`metric_info`).

    gnocchi-metricd does this by itself with [incoming] driver = influxdb. With
    another one, run this by hand or from a timer, at least once a week. It
    names the metrics that have received measures in the last one or two weeks;
    writing a name again changes nothing.

    Exit status: 0, all are written; 1, some are not; 2, failed.
    """
    deployment: Deployment = ctx.obj
    storage = deployment.conf.storage
    if not storage.influxdb_metric_info:
        raise Failure("[storage] influxdb_metric_info is false")
    job = NamesJob(
        deployment.client,
        deployment.buckets,
        deployment.indexer,
        storage.influxdb_batch_size,
    )
    counts = listing.count(deployment.indexer)
    total = sum(n for (_, s), n in counts.items() if s == listing.ACTIVE)
    everything = IdRange()
    written, failed = 0, {}
    with output.progressing("Naming", total, "metrics") as advance:
        while everything.next is not None:
            number, errors = job.write_page(everything)
            failed.update(errors)
            written += number
            advance(number)
    if format_ == "json":
        output.show_json({"written": written, "failed": failed})
    else:
        click.echo(f"{schema.counted(written, 'name')} written.")
        for bucket, error in failed.items():
            click.echo(f"Bucket {bucket}: some names are missing: {error}")
    ctx.exit(1 if failed else 0)
