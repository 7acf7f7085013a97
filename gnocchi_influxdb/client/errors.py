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
"""The meaning of statuses, errors and failures of connections. No I/O.

The functional tests provoke the wordings here on real servers: InfluxDB 2.7 to
2.9 and 1.8 to 1.13. Those of a cluster are from its source
(coordinator/points_writer.go).
"""

import gzip
import http.client
import json
import re
import ssl
import zlib
from typing import Any

from gnocchi_influxdb import exceptions

_DROPPED = re.compile(r"dropped[ =](\d+)")
# A write says the first, a query the second. (S3, say, has buckets, too.)
_NO_BUCKET = re.compile(r'bucket ".*" not found$|could not find bucket ".*"$')
# On 1.x a write says the first two, without a status of their own; Flux says
# the others.
_NO_POLICY = re.compile(
    r"^(database|retention policy) not found: "
    r"|execute state: (no database|invalid retention policy)$"
)
# 2.x says this with a 500 while a bucket is being made or deleted.
_NOT_YET = re.compile(r"\bdatabase not found: [0-9a-f]{16}$")
# Flux on 1.x has one status for all errors.
_FLUX_FAULT = re.compile(r"^(error |compilation failed|runtime error)")
_FLUX_FORBIDDEN = re.compile(r"execute state: user .*, requires ")
# Limits of a 1.x whose index is in memory.
_FULL = re.compile(r"max-(values-per-tag|series-per-database)( limit)? exc")
# A cluster says the last two while a node is away; it has then done a DELETE
# in part.
_BUSY_INFLUXQL = re.compile(
    rb"(max-concurrent-queries limit exceeded"
    rb"|(partial success, node \d+ may be down \()?dial tcp[: ])[ !#-~]*"
)
# {"error": "..."} as 1.x packs it: a map of one entry, "error", and a string
# of a length of less than 32, 1, 2 or 4 bytes.
_PACKED_ERROR = re.compile(
    rb"\x81\xa5error(?:[\xa0-\xbf]|\xd9.|\xda..|\xdb....)(.*)", re.DOTALL
)
_BUSY = frozenset([429, 500, 502, 503, 504])


_FORBIDDEN = exceptions.ForbiddenError
_BAD_TOKEN = "unable to parse authentication credentials"  # noqa: S105
_OF_1X = " (user:password, for InfluxDB 1.x)"


class ConnectError(OSError):
    """No connection could be opened, so nothing was sent."""


#: What can fail below HTTP, and what it means: the first match counts.
#: A connection that ends inside of TLS is one that ends, no more: the server
#: behind a proxy may be restarting.
_FAILURES: tuple[
    tuple[tuple[type[Exception], ...], type[exceptions.InfluxDBError], str],
    ...,
] = (
    (
        (ssl.SSLEOFError, ssl.SSLZeroReturnError),
        exceptions.UnavailableError,
        "InfluxDB at {url} broke the connection: {error}",
    ),
    (
        (ssl.SSLError,),
        exceptions.ConfigurationError,
        "No TLS with InfluxDB at {url}: {error}. See [storage] influxdb_url,"
        " influxdb_cafile, influxdb_certfile and influxdb_keyfile",
    ),
    (
        (TimeoutError,),
        exceptions.UnavailableError,
        "InfluxDB at {url} did not answer within [storage] influxdb_timeout:"
        " {error}",
    ),
    (
        (ConnectError,),
        exceptions.UnavailableError,
        "InfluxDB at {url} can't be reached ([storage] influxdb_url): {error}",
    ),
    (
        (zlib.error, gzip.BadGzipFile, EOFError),
        exceptions.ResponseError,
        "The answer of InfluxDB at {url} can't be decompressed: {error}",
    ),
    (
        (OSError, http.client.HTTPException),
        exceptions.UnavailableError,
        "InfluxDB at {url} broke the connection: {error}",
    ),
)
FAILURES = tuple(kind for kinds, _, _ in _FAILURES for kind in kinds)


def transport_error(url: str, error: Exception) -> exceptions.InfluxDBError:
    """The exception for one of `FAILURES`.

    :param url: of the server, fit to be shown.
    """
    for kinds, meaning, text in _FAILURES:
        if isinstance(error, kinds):
            return meaning(text.format(url=url, error=error))
    raise error


def error(
    url: str, org: str, path: str, reply: Any
) -> exceptions.InfluxDBError:
    """The exception for an answer whose status is not success.

    :param url: of the server, fit to be shown.
    :param path: of the request, to tell a write from a query.
    :param reply: a `transport.Response`.
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
    if status in (401, 403) or _FLUX_FORBIDDEN.search(reason):
        kind = exceptions.AccessError if status == 401 else _FORBIDDEN
        return kind(
            f"{_short(said)}. See [storage] influxdb_token"
            f"{_OF_1X if _BAD_TOKEN in reason else ''} and the rights of that"
            " token"
        )
    if "organization name" in reason and "not found" in reason:
        return exceptions.ConfigurationError(
            f"InfluxDB at {url} knows no organization {org!r}, or does not"
            " show it to the token: see [storage] influxdb_org and"
            " influxdb_token"
        )
    missing = _NOT_YET if path.startswith("/api/v2/write") else _NO_POLICY
    if _NO_BUCKET.search(reason) or missing.search(reason):
        return exceptions.BucketNotFoundError(said)
    if status == 404:
        return exceptions.ConfigurationError(
            f"{said}. Is that the URL of an InfluxDB ([storage]"
            " influxdb_url), and one that influxdb_bucket_prefix is for?"
        )
    if "partial write: " in reason:
        # A cluster has one status for all failures of a shard.
        return _partial_write(said, status, reason)
    is_flux = path.startswith("/api/v2/query")
    if is_flux and _FLUX_FAULT.search(reason):
        return exceptions.QueryError(said)
    if status in _BUSY or "queue length exceeded" in reason:
        # It may be a date, too; then we know as much as without it.
        asked = reply.headers.get("Retry-After", "")
        return exceptions.UnavailableError(
            said, float(asked) if asked.isdecimal() else None
        )
    if is_flux:
        return exceptions.QueryError(said)
    return exceptions.RefusedError(said, status, reason)


def _partial_write(
    said: str, status: int, reason: str
) -> exceptions.InfluxDBError:
    if _FULL.search(reason):
        # Not about the points.
        return exceptions.ConfigurationError(
            f"{said}. Set index-version to tsi1, or these limits to 0, in the"
            " configuration of InfluxDB; measures are kept until then"
        )
    found = _DROPPED.search(reason)
    return exceptions.PartialWriteError(
        said,
        status,
        reason,
        # 1.x stores the lines that it can parse, and counts no others.
        dropped=(int(found[1]) if found else 0)
        or reason.count("unable to parse '"),
        type_conflict="field type conflict" in reason,
    )


def json_object(url: str, reply: Any) -> dict[str, Any]:
    """The JSON object in an answer.

    :raises ResponseError: there is none.
    """
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


def check_influxql(url: str, bucket: str, body: bytes) -> None:
    """Raise the errors inside of a 200 that are not about a statement.

    :raises BucketNotFoundError: the bucket is not there, or the token may not
        read it.
    :raises AccessError: the token may not do that with it.
    :raises UnavailableError: the server is too busy.
    """
    # An answer of many points is not searched as a whole.
    start = body[:300]
    if b"error" not in start:
        return
    if (
        b"database not found" in start
        or b"retention policy not found" in start  # 1.x
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
    if busy := _BUSY_INFLUXQL.search(start):
        raise exceptions.UnavailableError(
            f"InfluxDB at {url} says: {busy[0].decode(errors='replace')}"
        )


def _text(reply: Any) -> str:
    text: str = reply.data.decode("utf-8", "replace")
    return text


def _reason(reply: Any) -> str | None:
    """The server's own words, None if this is not an error of InfluxDB."""
    if packed := _PACKED_ERROR.match(reply.data):
        return packed[1].decode("utf-8", "replace")
    try:
        found = json.loads(_text(reply))
    except ValueError:
        return _flux_reason(reply)
    if not isinstance(found, dict):
        return None
    reason = found.get("message") or found.get("error")
    return None if reason is None else str(reason)


def _flux_reason(reply: Any) -> str | None:
    """The error in a CSV: what Flux on 1.x sends once it has begun."""
    if not reply.headers.get("Content-Type", "").startswith("text/csv"):
        return None
    head, _, rest = _text(reply).partition("\n")
    is_error = head.strip().split(",")[0] == "error"
    return rest.strip() if is_error else None


def _short(said: str) -> str:
    """Without most of a statement that holds the ids of many metrics."""
    return said if len(said) < 600 else f"{said[:400]} ... {said[-160:]}"
