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
"""What the statuses, errors and small JSON answers of InfluxDB mean (pure).

The wordings are those of InfluxDB 2.7 to 2.9, each provoked on a real
server by the functional tests.
"""

import json
import re
import ssl
from typing import Any

import urllib3

from gnocchi_influxdb import exceptions

_DROPPED = re.compile(r"dropped[ =](\d+)")
# Of a write, and of a query. Others, S3 for one, have buckets, too.
_NO_BUCKET = re.compile(r'bucket ".*" not found$|could not find bucket ".*"$')
# urllib3 begins with the repr of its connection.
_REPR = re.compile(r"^<[^<>]*>: ")
_BUSY = frozenset([429, 500, 502, 503, 504])


class RetryAfterError(exceptions.UnavailableError):
    """The server says in how many seconds to come back."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


def transport_error(
    url: str, error: urllib3.exceptions.HTTPError
) -> exceptions.InfluxDBError:
    """What a failure below HTTP means."""
    reason = error.args[-1] if error.args else ""
    said = _REPR.sub("", reason if isinstance(reason, str) else str(error))
    # A connection that ends inside of TLS is one that ends, no more: the
    # server behind a proxy may be restarting.
    if isinstance(error, urllib3.exceptions.SSLError) and not any(
        isinstance(reason, ssl.SSLEOFError | ssl.SSLZeroReturnError)
        for reason in (error, *error.args)
    ):
        return exceptions.ConfigurationError(
            f"No TLS with InfluxDB at {url}: {said}. See [storage]"
            " influxdb_url, influxdb_cafile, influxdb_certfile and"
            " influxdb_keyfile"
        )
    if isinstance(error, urllib3.exceptions.DecodeError):
        return exceptions.ResponseError(
            f"The answer of InfluxDB at {url} can't be decompressed: {said}"
        )
    # Some versions of urllib3 count this one among the timeouts.
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        what = "can't be reached ([storage] influxdb_url)"
    elif isinstance(error, urllib3.exceptions.TimeoutError):
        what = "did not answer within [storage] influxdb_timeout"
    else:
        what = "broke the connection"
    return exceptions.UnavailableError(f"InfluxDB at {url} {what}: {said}")


def error(
    url: str, org: str, path: str, reply: Any
) -> exceptions.InfluxDBError:
    """The exception for an answer that is no success.

    :param path: what was asked for, to tell a write from a query.
    """
    status: int = reply.status
    reason = _reason(reply)
    if reason is None:
        # A proxy's page, most likely.
        reason = " ".join(_text(reply).split())[:160] or "(nothing)"
        said = (
            f"{url} answers {status}, and not as InfluxDB does: {reason!r}."
            " See [storage] influxdb_url, and what lies in between"
        )
    else:
        said = f"InfluxDB at {url} says {status}: {reason}"
    if status in (401, 403):
        return exceptions.AccessError(
            f"{said}. See [storage] influxdb_token and the rights of that"
            " token"
        )
    if "organization name" in reason and "not found" in reason:
        return exceptions.ConfigurationError(
            f"InfluxDB at {url} knows no organization {org!r}, or does not"
            " show it to the token: see [storage] influxdb_org and"
            " influxdb_token"
        )
    if status == 404:
        if _NO_BUCKET.search(reason):
            return exceptions.BucketNotFoundError(said)
        return exceptions.ConfigurationError(
            f"{said}. Is that the URL of an InfluxDB 2.x ([storage]"
            " influxdb_url)?"
        )
    if status in _BUSY or "queue length exceeded" in reason:
        # It may be a date, too; then we know as much as without it.
        if (asked := reply.headers.get("Retry-After", "")).isdecimal():
            return RetryAfterError(said, float(asked))
        return exceptions.UnavailableError(said)
    if "partial write" in reason:
        dropped = _DROPPED.search(reason)
        return exceptions.PartialWriteError(
            said,
            status,
            reason,
            dropped=int(dropped.group(1)) if dropped else 0,
            type_conflict="field type conflict" in reason,
        )
    if path.startswith("/api/v2/query"):
        return exceptions.QueryError(said)
    return exceptions.RefusedError(said, status, reason)


def json_object(url: str, reply: Any) -> dict[str, Any]:
    """The JSON object that an answer consists of."""
    try:
        found = json.loads(reply.data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise exceptions.ResponseError(
            f"{url} answered with something else than InfluxDB's JSON:"
            f" {reply.data[:80]!r}. Is [storage] influxdb_url right?"
        )
    return found


def check_database(url: str, bucket: str, body: bytes) -> None:
    """Raise what InfluxQL says of a bucket inside of a 200.

    :raises BucketNotFoundError: it is not there, or the token may not read
        it.
    :raises AccessError: the token may not do that with it.
    """
    # Where it is an answer of many points it is not looked through.
    start = body[:300]
    if (
        b"database not found" in start
        or b"no dbrp mapping" in start
        or b"default retention policy not set" in start  # 2.7
    ):
        raise exceptions.BucketNotFoundError(
            f"InfluxDB at {url} shows no bucket {bucket!r} to InfluxQL"
        )
    if b"insufficient permissions" in start:
        raise exceptions.AccessError(
            f"InfluxDB at {url} says of bucket {bucket!r}: insufficient"
            " permissions. See [storage] influxdb_token and the rights of"
            " that token"
        )


def _text(reply: Any) -> str:
    text: str = reply.data.decode("utf-8", "replace")
    return text


def _reason(reply: Any) -> str | None:
    """The server's own words, None if it does not speak as InfluxDB does."""
    try:
        found = json.loads(_text(reply))
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    reason = found.get("message") or found.get("error")
    return None if reason is None else str(reason)
