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
"""gnocchi-influxdb downsample"""

import time
from collections.abc import Callable
from typing import Any

import click
import daiquiri
import numpy
from gnocchi import utils

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets import watermark
from gnocchi_influxdb.buckets.policy import PolicyBucket
from gnocchi_influxdb.cli import output
from gnocchi_influxdb.cli.deployment import Deployment
from gnocchi_influxdb.cli.output import Failure
from gnocchi_influxdb.downsampling.downsampler import Downsampler
from gnocchi_influxdb.maintenance import downsample as maintenance

LOG = daiquiri.getLogger(__name__)

_MINUTE = 60 * schema.SECOND
_TIMEOUT = 300


def _moment(
    _ctx: click.Context, _option: click.Parameter, value: str | None
) -> int | None:
    """A time in ISO 8601 as ns since the epoch."""
    if value is None:
        return None
    try:
        return int(utils.to_timestamp(value).astype("int64"))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no time of ISO 8601") from None


@click.command()
@click.option(
    "--policy", "name", metavar="NAME", help="Only this archive policy."
)
@click.option(
    "--until",
    callback=_moment,
    metavar="TIME",
    help="Leave windows that end later for another time (ISO 8601, UTC).",
)
@click.option(
    "--forever",
    is_flag=True,
    help=f"Go on every {watermark.INTERVAL} s, until interrupted.",
)
@click.pass_context
def downsample(
    ctx: click.Context, name: str | None, until: int | None, forever: bool
) -> None:
    """Compute the windows of coarser definitions that are over.

    gnocchi-metricd does this by itself with [incoming] driver = influxdb. With
    another one, let this run with --forever. By hand it works through the
    history of an installation from before downsampling, or catches up after
    gnocchi-metricd has not run for long. Doing it twice changes nothing.

    Exit status: 0, nothing is due any more; 2, failed.
    """
    deployment: Deployment = ctx.obj
    deployment.be_patient(_TIMEOUT)
    if not deployment.conf.storage.influxdb_downsampling:
        raise Failure("[storage] influxdb_downsampling is false")
    deployment.buckets.overdue.is_seen_to = True
    work = _Work(deployment, until)
    try:
        while True:
            is_done = work.run(name)
            if not forever:
                break
            time.sleep(watermark.INTERVAL)
    except KeyboardInterrupt:
        if not forever:
            raise
        return
    ctx.exit(0 if is_done else 2)


class _Work:
    def __init__(self, deployment: Deployment, until: int | None) -> None:
        self._deployment = deployment
        self._buckets = deployment.buckets
        self._downsampler = Downsampler(
            deployment.buckets, deployment.conf.storage
        )
        self._until = until

    def run(self, name: str | None) -> bool:
        """Do what is due.

        :param name: of the only policy; None: all.
        :return: whether no policy has failed.
        """
        policies = []
        for policy in self._listed(name):
            if self._buckets.downsampled(policy):
                policies.append(policy)
            elif name is not None:
                few = len(policy.definition) < 2
                click.echo(
                    f"Archive policy {name!r}: there is nothing to downsample"
                    + (", it has one definition" if few else " on a cluster")
                )
        # Each sees to its own errors, and holds up no other.
        done = [self._policy(policy) for policy in policies]
        return all(done)

    def _listed(self, name: str | None) -> list[Any]:
        # Not those of the deployment: with --forever there are new ones.
        found = sorted(
            self._deployment.indexer.list_archive_policies(),
            key=lambda policy: str(policy.name),
        )
        if name is None:
            return found
        one = [policy for policy in found if policy.name == name]
        if not one:
            raise Failure(
                f"There is no archive policy {name!r}; there are: "
                + ", ".join(str(policy.name) for policy in found)
            )
        return one

    def _policy(self, policy: Any) -> bool:
        name = output.printable(str(policy.name))
        marks: dict[PolicyBucket, watermark.Watermark] = {}
        try:
            since = {
                target: self._since(policy, target)
                for target in self._buckets.downsampled(policy)
            }
            end = self._now() - watermark.DELAY
            if self._until is not None:
                end = min(end, self._until)
            total = sum(max(end - begin, 0) for begin in since.values())
            with output.progressing(
                f"Downsampling {name}", total // _MINUTE, "min"
            ) as advance:
                covered = _Covered(advance)
                for target, mark in maintenance.downsample(
                    self._buckets, self._downsampler, policy, self._until
                ):
                    marks[target] = mark
                    covered.add(mark.until - since[target])
                    since[target] = mark.until
        except Exception as e:
            LOG.error(
                "Downsampling of archive policy %s fails: %s",
                name,
                e,
                exc_info=not isinstance(e, exceptions.InfluxDBError),
            )
            return False
        for target, mark in marks.items():
            click.echo(
                f"Archive policy {name}: bucket {target.name} is"
                f" downsampled until {numpy.datetime64(mark.until, 'ns'):s}"
            )
        return True

    def _since(self, policy: Any, target: PolicyBucket) -> int:
        """Time (ns) up to which a definition is downsampled."""
        mark = self._buckets.watermarks.read(target.name)
        if mark is not None:
            return mark.until
        now = self._now()
        oldest = self._buckets.watermarks.oldest(self._buckets.name(policy))
        if oldest is None:
            return now
        if target.retention:
            oldest = max(oldest, now - target.retention * schema.SECOND)
        return schema.floor(oldest, target.every)

    def _now(self) -> int:
        return self._deployment.client.clock.now_ns()


class _Covered:
    """Shows how much time is covered, in whole minutes."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance
        self._ns = 0

    def add(self, ns: int) -> None:
        before = self._ns // _MINUTE
        self._ns += ns
        self._advance(self._ns // _MINUTE - before)
