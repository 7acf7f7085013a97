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

import click

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.cli import output
from gnocchi_influxdb.cli.check import buckets as bucket_checks
from gnocchi_influxdb.cli.check import findings, probe, report
from gnocchi_influxdb.cli.check import queue as queue_checks
from gnocchi_influxdb.cli.check import server as checks
from gnocchi_influxdb.cli.check.findings import Finding, Findings, Level
from gnocchi_influxdb.cli.deployment import Deployment
from gnocchi_influxdb.client import client
from gnocchi_influxdb.indexer import listing

# Cures of failures that are not InfluxDB's, by subject.
_CURES = {
    "configuration": "see --config-file, and Gnocchi's documentation",
    "indexer": "see [indexer] url, and whether the database runs",
    "metricd": "see [DEFAULT] coordination_url, and whether that service runs",
    "queue": "see [incoming] in gnocchi.conf, whether that service runs, and"
    " whether gnocchi-upgrade was run; run this as Gnocchi's user",
}


@click.command()
@output.options(nagios=True)
@click.option(
    "--latency",
    type=click.FloatRange(min=0),
    default=probe.LATENCY_WARN,
    show_default=True,
    metavar="SECONDS",
    help="Warn of queries that take longer.",
)
@click.pass_context
def check(ctx: click.Context, format_: str, latency: float) -> None:
    """Find out whether Gnocchi can work with its InfluxDB.

    Options, the queue and gnocchi-metricd, server, version, limits, open
    files, rights of the token, clocks, the buckets of each archive policy and
    their retention, points ahead of the clock, a probe that is written, read
    and deleted, and how long a query takes. Each line that is not OK says what
    to do.

    Exit status, for monitoring: 0, all is OK; 1, a WARN; 2, a FAIL. With
    --format nagios the first line has numbers to draw.
    """
    found = _Check(ctx.obj, latency).run()
    ctx.exit(int(report.show(found, format_)))


class _Check:
    """Makes all checks.

    :param latency: seconds that a query may take.
    """

    def __init__(self, deployment: Deployment, latency: float) -> None:
        self._deployment = deployment
        self._latency = latency
        self._found: list[Finding] = []
        self._influxdb: client.Client | None = None
        self._knows_metricd = False

    def run(self) -> list[Finding]:
        """Make them.

        :return: what was found, never empty.
        """
        if self._try("configuration", self._configuration()):
            used = self._indexer()
            self._queue()
            conf = self._deployment.conf
            # Nobody wants to wait for repetitions here.
            influxdb = client.Client(conf.storage, max_retries=0)
            self._influxdb = influxdb
            if self._try("server", checks.server(influxdb)) and self._try(
                "token", checks.token(influxdb, conf.storage)
            ):
                self._rest(influxdb, used)
        return self._found

    def _configuration(self) -> Findings:
        yield from checks.options(self._deployment.conf)

    def _indexer(self) -> dict[str, int] | None:
        """How many metrics the policies that are used have, by name.

        :return: None: that is not known.
        """
        used: dict[str, int] = {}

        def look() -> Findings:
            yield from checks.indexer(self._deployment.indexer)
            counts = listing.count(self._deployment.indexer)
            used.update(
                {p: n for (p, s), n in counts.items() if s == listing.ACTIVE}
            )

        return used if self._try("indexer", look()) else None

    def _queue(self) -> None:
        conf = self._deployment.conf
        number: int | None = None

        def metricd() -> Findings:
            nonlocal number
            number = queue_checks.in_time(lambda: queue_checks.workers(conf))
            self._knows_metricd = number is not None
            yield from queue_checks.metricd(number)

        def queue() -> Findings:
            waiting = queue_checks.open_queue(conf)
            yield from queue_checks.queue(waiting, number)

        self._try("metricd", metricd())
        self._try("queue", queue())

    def _rest(
        self, influxdb: client.Client, used: dict[str, int] | None
    ) -> None:
        if not self._knows_metricd:
            storage = self._deployment.conf.storage
            self._try("metricd", queue_checks.seen(influxdb, storage))
        self._try("limits", checks.limits(influxdb))
        self._try("files", checks.open_files(influxdb))
        self._try("clock", checks.clock(influxdb))
        if used is None:
            return  # Which buckets there should be the indexer knows.
        try:
            self._buckets(influxdb, used)
        except exceptions.UnavailableError as e:
            # Once, not once for each bucket.
            self._found.append(self._failure("server", e))

    def _buckets(self, influxdb: client.Client, used: dict[str, int]) -> None:
        conf = self._deployment.conf
        known = self._deployment.buckets
        policies = self._deployment.policies
        may_make = known.server.may_make()
        incoming = conf.incoming.driver
        if incoming != "influxdb" and any(map(known.downsampled, policies)):
            self._found.append(
                Finding(
                    Level.WARN,
                    "downsampling",
                    "gnocchi-metricd does not downsample with [incoming]"
                    f" driver = {incoming}",
                    "let this run: gnocchi-influxdb downsample --forever",
                )
            )
        found: list[Finding] = []
        for policy in policies:
            for one in known.of(policy), *known.downsampled(policy):
                found += self._look(
                    f"bucket {one.name}",
                    bucket_checks.bucket(
                        influxdb,
                        known,
                        policy,
                        one,
                        may_make,
                        policy.name in used,
                    ),
                )
            found += self._look(
                f"bucket {known.name(policy)}",
                bucket_checks.ahead(
                    influxdb, known, policy, used.get(policy.name, 0)
                ),
            )
            found += self._look(
                f"downsampling {policy.name}",
                bucket_checks.overdue(
                    known, policy, conf.storage.influxdb_raw_slack
                ),
            )
        self._found += findings.joined(found)
        bad = {
            finding.subject
            for finding in found
            if finding.level is not Level.OK
        }
        self._probe(
            influxdb,
            [known.name(policy) for policy in policies],
            bad,
        )

    def _probe(
        self, influxdb: client.Client, names: list[str], bad: set[str]
    ) -> None:
        """Probe the first bucket that can be used.

        :param bad: what there are other findings about than OK.
        """
        for name in names:
            try:
                if self._deployment.buckets.find(name) is None:
                    continue
                influxdb.probe(name)
            except exceptions.UnavailableError:
                raise
            except exceptions.InfluxDBError:
                continue
            self._found += self._look(
                "probe", probe.probe_series(influxdb, name)
            )
            self._found += self._look(
                "latency", probe.latency(influxdb, name, self._latency)
            )
            return
        if not bad.intersection(f"bucket {name}" for name in names):
            self._found.append(
                Finding(
                    Level.WARN,
                    "probe",
                    "no bucket to write to yet, so neither a write nor a read"
                    " was tried",
                    "send Gnocchi a measure, then check again",
                )
            )

    def _look(self, subject: str, look: Findings) -> list[Finding]:
        """What is found, the failure to find out among it.

        :raises UnavailableError: InfluxDB is away.
        """
        found: list[Finding] = []
        try:
            found.extend(look)
        except exceptions.UnavailableError:
            raise
        except Exception as e:
            # Whatever went wrong, go on with the other checks.
            found.append(self._failure(subject, e))
        return found

    def _try(self, subject: str, look: Findings) -> bool:
        """Report the findings.

        :return: whether the check could be made.
        """
        try:
            for finding in look:
                self._found.append(finding)
        except Exception as e:
            # Whatever went wrong, go on with the other checks.
            self._found.append(self._failure(subject, e))
            return False
        return True

    def _failure(self, subject: str, error: Exception) -> Finding:
        text = str(error).strip() or type(error).__name__
        if self._influxdb is None or (
            subject in _CURES
            and not isinstance(error, exceptions.InfluxDBError)
        ):
            cure = _CURES.get(subject, "")
        else:
            storage = self._deployment.conf.storage
            cure = findings.cure(error, self._influxdb, storage)
        return Finding(Level.FAIL, subject, text.splitlines()[0], cure)
