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
"""What `check` finds, and the cures of errors."""

import enum
from collections.abc import Iterator
from typing import Any, NamedTuple

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.client import control_plane
from gnocchi_influxdb.client.client import Client

# Buckets that a line names, at most.
_NAMED = 5


class Level(enum.IntEnum):
    """How bad a finding is. The worst one is the exit status."""

    OK = 0
    WARN = 1
    FAIL = 2


class Value(NamedTuple):
    """A number for a monitoring system to draw.

    :ivar unit: "s", or empty for a count.
    :ivar warn: from which on it is a WARN; None: no number is.
    :ivar fail: from which on it is a FAIL; None: no number is.
    """

    name: str
    number: float
    unit: str = ""
    warn: float | None = None
    fail: float | None = None


class Finding(NamedTuple):
    """One line of the report.

    :ivar cure: what to do about it; empty if nothing.
    """

    level: Level
    subject: str
    text: str
    cure: str = ""
    values: tuple[Value, ...] = ()


Findings = Iterator[Finding]


def level(number: float, warn: float, fail: float) -> Level:
    """The level of a number that is the worse the larger it is."""
    if number >= fail:
        return Level.FAIL
    return Level.WARN if number >= warn else Level.OK


def joined(found: list[Finding]) -> Findings:
    """The findings, with one for all buckets that share a cause.

    :param found: subjects are "bucket" and its name.
    """
    alike: dict[tuple[str, str], list[Finding]] = {}
    for one in found:
        if one.level is not Level.OK:
            alike.setdefault((one.text, one.cure), []).append(one)
    for one in found:
        same = alike.get((one.text, one.cure), [one])
        if len(same) == 1:
            yield one
        elif one is same[0]:
            names = [each.subject.partition(" ")[2] for each in same]
            more = ", ..." if len(names) > _NAMED else ""
            yield one._replace(
                level=max(each.level for each in same),
                subject=f"{len(names)} buckets",
                text=f"{one.text} ({', '.join(names[:_NAMED])}{more})",
            )


def to_make_token(influxdb: Client) -> str:
    """What to do about a token, or a user of 1.x, that lacks a right."""
    if influxdb.capabilities.tokens:
        return control_plane.to_make_token(influxdb.org)
    return (
        "let an administrator of InfluxDB say: GRANT ALL ON the database of"
        " [storage] influxdb_bucket_prefix TO the user of [storage]"
        " influxdb_token"
    )


def cure(error: Exception, influxdb: Client, conf: Any) -> str:
    """What to do about an error of InfluxDB.

    :param conf: the group of options that the client was made with.
    """
    if isinstance(error, exceptions.UnavailableError):
        return (
            f"see whether influxd runs at {influxdb.url} ([storage]"
            " influxdb_url), its log, and what lies in between; measures wait"
            " in the queue meanwhile"
        )
    if isinstance(error, exceptions.ForbiddenError):
        return to_make_token(influxdb)
    if isinstance(error, exceptions.AccessError):
        if not influxdb.capabilities.tokens:
            return "set [storage] influxdb_token = user:password"
        return (
            "set [storage] influxdb_token to a token of this server; "
            + control_plane.to_make_token(influxdb.org)
        )
    if isinstance(
        error, (exceptions.ConfigurationError, exceptions.ResponseError)
    ):
        if influxdb.capabilities.tokens and not conf.influxdb_token:
            return control_plane.to_make_token(influxdb.org)
        return "correct [storage] in gnocchi.conf, and restart Gnocchi"
    if isinstance(error, exceptions.InfluxDBError):
        return f"see the log of InfluxDB at {influxdb.url}"
    return "this is a fault of the command: report it, with what --debug says"
