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
"""gnocchi-influxdb check"""

from collections.abc import Callable
from typing import Any

import click

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.cli import output
from gnocchi_influxdb.cli.check import buckets as bucket_checks
from gnocchi_influxdb.cli.check import server as checks
from gnocchi_influxdb.cli.check.server import Finding, Level
from gnocchi_influxdb.cli.deployment import Deployment
from gnocchi_influxdb.client import client
from gnocchi_influxdb.indexer import listing

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


@click.command()
@output.format_option
@click.option(
    "--latency",
    type=click.FloatRange(min=0),
    default=bucket_checks.LATENCY_WARN,
    show_default=True,
    metavar="SECONDS",
    help="Warn of queries that take longer.",
)
@click.pass_context
def check(ctx: click.Context, format_: str, latency: float) -> None:
    """Find out whether Gnocchi can work with its InfluxDB.

    Options, server, version, open files, rights of the token, clocks, the
    buckets of each archive policy and their retention, a probe that is
    written, read and deleted, and how long a query takes. Each line that is
    not OK says what to do.

    Exit status, for monitoring: 0, all is OK; 1, a WARN; 2, a FAIL.
    """
    findings: list[Finding] = []

    def found(finding: Finding) -> None:
        findings.append(finding)
        if format_ == "table":
            _show(finding)

    _Check(ctx.obj, latency, found).run()
    worst = max(finding.level for finding in findings)
    if format_ == "json":
        output.show_json(
            {
                "status": worst.name,
                "checks": [
                    {**finding._asdict(), "level": finding.level.name}
                    for finding in findings
                ],
            }
        )
    ctx.exit(int(worst))


def _show(finding: Finding) -> None:
    level = click.style(f"{finding.level.name:<5}", fg=_COLOURS[finding.level])
    click.echo(f"{level} {finding.subject}: {finding.text}")
    if finding.cure:
        click.echo(f"      -> {finding.cure}")


class _Check:
    def __init__(
        self,
        deployment: Deployment,
        latency: float,
        found: Callable[[Finding], None],
    ) -> None:
        self._deployment = deployment
        self._latency = latency
        self._found = found

    def run(self) -> None:
        conf = None

        def configuration() -> checks.Findings:
            nonlocal conf
            conf = self._deployment.conf
            yield from checks.options(conf)

        self._try("configuration", configuration())
        if conf is None:
            return
        counts: dict[tuple[str, str], int] = {}
        policies: list[Any] = []

        def indexer() -> checks.Findings:
            yield from checks.indexer(self._deployment.indexer)
            policies.extend(self._deployment.policies)
            counts.update(listing.count(self._deployment.indexer))

        self._try("indexer", indexer())
        # Nobody wants to wait for repetitions here.
        influxdb = client.Client(conf.storage, max_retries=0)
        if self._try("server", checks.server(influxdb)):
            self._rest(influxdb, policies, counts)

    def _rest(
        self,
        influxdb: client.Client,
        policies: list[Any],
        counts: dict[tuple[str, str], int],
    ) -> None:
        storage = self._deployment.conf.storage
        if not self._try("token", checks.token(influxdb, storage)):
            return
        self._try("files", checks.open_files(influxdb))
        known = self._deployment.buckets
        may_make = known.server.may_make()
        self._try("clock", checks.clock(influxdb))
        incoming = self._deployment.conf.incoming.driver
        if incoming != "influxdb" and any(map(known.downsampled, policies)):
            self._found(
                Finding(
                    Level.WARN,
                    "downsampling",
                    "gnocchi-metricd does not downsample with [incoming]"
                    f" driver = {incoming}",
                    "let this run: gnocchi-influxdb downsample --forever",
                )
            )
        for policy in policies:
            used = (policy.name, listing.ACTIVE) in counts
            for one in known.of(policy), *known.downsampled(policy):
                self._try(
                    f"bucket {one.name}",
                    bucket_checks.bucket(
                        influxdb, known, policy, one, may_make, used
                    ),
                )
            self._try(
                f"downsampling {policy.name}",
                bucket_checks.overdue(
                    known, policy, storage.influxdb_raw_slack
                ),
            )
        self._probe(influxdb, [known.name(policy) for policy in policies])

    def _probe(self, influxdb: client.Client, names: list[str]) -> None:
        for name in names:
            try:
                influxdb.probe(name)
            except exceptions.InfluxDBError:
                continue
            self._try("probe", bucket_checks.probe_series(influxdb, name))
            self._try(
                "latency",
                bucket_checks.latency(influxdb, name, self._latency),
            )
            return
        self._found(
            Finding(
                Level.WARN,
                "probe",
                "no bucket to write to yet, so neither a write nor a read"
                " was tried",
                "send Gnocchi a measure, then check again",
            )
        )

    def _try(self, subject: str, look: checks.Findings) -> bool:
        """Report the findings.

        :return: whether the check could be made.
        """
        try:
            for finding in look:
                self._found(finding)
        except Exception as e:
            # Whatever went wrong, go on with the other checks.
            self._failed(subject, e)
            return False
        return True

    def _failed(self, subject: str, error: Exception) -> None:
        text, cure = str(error) or type(error).__name__, ""
        if subject == "indexer":
            cure = "see [indexer] url, and whether the database runs"
        elif subject == "configuration":
            cure = "see --config-file, and Gnocchi's documentation"
        lines = text.strip().splitlines()
        self._found(Finding(Level.FAIL, subject, lines[0], cure))
