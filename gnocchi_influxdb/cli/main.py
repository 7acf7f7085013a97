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
"""The command gnocchi-influxdb, which looks after Gnocchi in InfluxDB.

Exit status: 0, all is well; 1, done, but not all is well; 2, failed. The help
of each command says more.
"""

import logging

import click
import sqlalchemy.exc
from gnocchi import indexer
from oslo_config import cfg
from oslo_db import exception as db_exception

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.cli import downsample, names, prune, status
from gnocchi_influxdb.cli.check.command import check
from gnocchi_influxdb.cli.deployment import Deployment
from gnocchi_influxdb.cli.migrate.back.command import migrate_back
from gnocchi_influxdb.cli.migrate.command import migrate
from gnocchi_influxdb.cli.output import Failure


class _Group(click.Group):
    """Turns errors that operators can mend into one line."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except cfg.Error as e:
            raise Failure(f"Gnocchi's configuration: {e}") from None
        except exceptions.InfluxDBError as e:
            raise Failure(str(e)) from None
        except (
            db_exception.DBError,
            sqlalchemy.exc.SQLAlchemyError,
            indexer.IndexerException,
        ) as e:
            raise Failure(
                f"Gnocchi's indexer ([indexer] url): {str(e).splitlines()[0]}"
            ) from None


def _name_files(
    ctx: click.Context, _option: click.Parameter, names: tuple[str, ...]
) -> None:
    ctx.ensure_object(Deployment).files.extend(names)


def _name_directories(
    ctx: click.Context, _option: click.Parameter, names: tuple[str, ...]
) -> None:
    ctx.ensure_object(Deployment).directories.extend(names)


def _let_debug(
    ctx: click.Context, _option: click.Parameter, debug: bool
) -> None:
    if debug:
        ctx.ensure_object(Deployment).level = logging.DEBUG


# They may stand before the command and behind it.
_OPTIONS = (
    click.Option(
        ["--config-file"],
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, readable=True),
        callback=_name_files,
        expose_value=False,
        help="Gnocchi's configuration, as for gnocchi-api and"
        " gnocchi-metricd. Later ones win.  [default: where they look for"
        " gnocchi.conf]",
    ),
    click.Option(
        ["--config-dir"],
        multiple=True,
        type=click.Path(exists=True, file_okay=False),
        callback=_name_directories,
        expose_value=False,
        help="Directory of *.conf files, read after the files.",
    ),
    click.Option(
        ["--debug"],
        is_flag=True,
        callback=_let_debug,
        expose_value=False,
        help="Log in detail, to stderr.",
    ),
)


@click.group(
    cls=_Group,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 79,
    },
)
@click.version_option(package_name="gnocchi-influxdb")
def cli() -> None:
    """Look after a Gnocchi that keeps its measures in InfluxDB.

    Reads the gnocchi.conf that Gnocchi itself reads.

    Exit status: 0, all is well; 1, done, but not all is well; 2, failed.
    """


for _command in (
    check,
    status.status,
    prune.prune,
    downsample.downsample,
    migrate,
    migrate_back,
    names.names,
):
    _command.params.extend(_OPTIONS)
    cli.add_command(_command)
cli.params.extend(_OPTIONS)


def main() -> None:
    """Entry point."""
    cli(prog_name="gnocchi-influxdb")
