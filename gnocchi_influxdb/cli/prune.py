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
"""gnocchi-influxdb prune"""

import uuid
from collections.abc import Mapping
from typing import NamedTuple

import click
from gnocchi import utils

from gnocchi_influxdb.cli import output, series
from gnocchi_influxdb.cli.deployment import Deployment
from gnocchi_influxdb.indexer import listing
from gnocchi_influxdb.maintenance import deletes

_TIMEOUT = 300


class _Orphans(NamedTuple):
    """The orphan series of a bucket.

    :ivar ids: their metrics, sorted.
    :ivar owned: number of the other series, in all buckets of the policy.
    :ivar expire: whether they are left to the bucket's retention.
    """

    ids: list[uuid.UUID]
    owned: int
    expire: bool


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--dry-run", is_flag=True, help="Show what would be removed, no more."
)
@click.option(
    "--whole-buckets",
    is_flag=True,
    help="Prune also the buckets of a policy in which not one metric of the"
    " indexer has a series.",
)
@click.option(
    "--expiring",
    is_flag=True,
    help="Prune also what [storage] influxdb_expunge = expire leaves to a"
    " bucket's retention.",
)
@output.format_option
@click.pass_context
def prune(
    ctx: click.Context,
    yes: bool,
    dry_run: bool,
    whole_buckets: bool,
    expiring: bool,
    format_: str,
) -> None:
    """Remove orphan series: those whose metric the indexer does not know.

    Only series that Gnocchi has written, in the buckets of archive policies
    that the indexer knows. The series of a metric that is deleted and waits
    for gnocchi-metricd is not an orphan. Each metric is looked for again
    right before it is deleted.

    Exit status: 0, no orphan is left; 1, some are; 2, failed.
    """
    deployment: Deployment = ctx.obj
    deployment.be_patient(_TIMEOUT)
    found = _find(deployment)
    left_alone = 0
    if not expiring:
        left_alone = sum(len(one.ids) for one in found.values() if one.expire)
        found = {k: one for k, one in found.items() if not one.expire}
    suspicious = {
        bucket
        for bucket, orphans in found.items()
        if orphans.ids and not orphans.owned and not whole_buckets
    }
    for bucket in sorted(suspicious):
        click.echo(
            f"Bucket {bucket}: {len(found[bucket].ids):,} orphan series, and"
            " none of a metric of this indexer. It may belong to another"
            " Gnocchi: see [indexer] url and [storage]"
            " influxdb_bucket_prefix. It is left alone without"
            " --whole-buckets.",
            err=True,
        )
    doomed = {
        bucket: orphans.ids
        for bucket, orphans in found.items()
        if orphans.ids and bucket not in suspicious
    }
    total = sum(map(len, doomed.values()))
    for bucket, ids in doomed.items():
        click.echo(
            f"Bucket {bucket}: {len(ids):,} orphan series, {ids[0]} for one,"
            f" beside {found[bucket].owned:,} of metrics.",
            err=True,
        )
    removed = 0
    if total and not dry_run:
        if not yes:
            click.confirm(
                f"Delete all points of {total:,} orphan series in"
                f" {deployment.client}?",
                abort=True,
                err=True,
            )
        removed = _remove(deployment, doomed)
    left = sum(len(orphans.ids) for orphans in found.values()) - removed
    if format_ == "json":
        output.show_json(
            {"removed": removed, "left": left, "expiring": left_alone}
        )
    else:
        click.echo(
            f"{left:,} orphan series are there; nothing was removed."
            if dry_run
            else f"{removed:,} orphan series removed, {left:,} are left."
        )
        if left_alone:
            click.echo(
                f"{left_alone:,} more expire with their buckets; --expiring"
                " removes them now."
            )
    ctx.exit(1 if left else 0)


def _find(deployment: Deployment) -> Mapping[str, _Orphans]:
    stored: list[dict[str, set[uuid.UUID]]] = []
    expiring = set()
    expire = deployment.conf.storage.influxdb_expunge == "expire"
    for buckets in deployment.find_all().values():
        of_policy = {}
        for bucket in filter(None, buckets):
            found = series.find(deployment.client, bucket.name)
            of_policy[bucket.name] = found.ids | found.beside
            if expire and bucket.retention:
                expiring.add(bucket.name)
        stored.append(of_policy)
    # The series first, then the metrics: a metric is in the indexer before it
    # has points.
    known = set(listing.ids(deployment.indexer))
    return {
        bucket: _Orphans(
            sorted(ids - known),
            sum(len(each & known) for each in of_policy.values()),
            bucket in expiring,
        )
        for of_policy in stored
        for bucket, ids in of_policy.items()
    }


def _remove(
    deployment: Deployment, doomed: Mapping[str, list[uuid.UUID]]
) -> int:
    removed = 0
    with output.progressing(
        "Removing", sum(map(len, doomed.values())), "series"
    ) as advance:
        for bucket, ids in doomed.items():
            for batch in utils.grouper(ids, deletes.METRICS_PER_DELETE):
                owned = listing.known(deployment.indexer, batch)
                orphans = [id_ for id_ in batch if id_ not in owned]
                if orphans:
                    deletes.by_influxql(deployment.client, bucket, orphans)
                removed += len(orphans)
                advance(len(batch))
    return removed
