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
from typing import Any

import tenacity
import urllib3

from gnocchi_influxdb import exceptions

_DROPPED = re.compile(r"dropped[ =](\d+)")
_BUSY = frozenset([429, 500, 502, 503, 504])


class RetryAfterError(exceptions.UnavailableError):
    """The server says in how many seconds to come back."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class wait_as_asked(tenacity.wait.wait_base):
    """Wait as long as the server asks, or as another strategy says."""

    def __init__(
        self, otherwise: tenacity.wait.wait_base, longest: float
    ) -> None:
        self.otherwise = otherwise
        self.longest = longest

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        outcome = retry_state.outcome
        error = outcome.exception() if outcome is not None else None
        if isinstance(error, RetryAfterError):
            return min(error.seconds, self.longest)
        return float(self.otherwise(retry_state))


def transport_error(
    url: str, error: urllib3.exceptions.HTTPError
) -> exceptions.InfluxDBError:
    """What a failure below HTTP means."""
    if isinstance(error, urllib3.exceptions.SSLError):
        return exceptions.ConfigurationError(
            f"No TLS with InfluxDB at {url}: {error}. See [storage]"
            " influxdb_url, influxdb_cafile, influxdb_certfile and"
            " influxdb_keyfile"
        )
    if isinstance(error, urllib3.exceptions.DecodeError):
        return exceptions.ResponseError(
            f"The answer of InfluxDB at {url} can't be decompressed: {error}"
        )
    if isinstance(error, urllib3.exceptions.TimeoutError):
        what = "did not answer within [storage] influxdb_timeout"
    elif isinstance(error, urllib3.exceptions.NewConnectionError):
        what = "can't be reached ([storage] influxdb_url)"
    else:
        what = "broke the connection"
    return exceptions.UnavailableError(f"InfluxDB at {url} {what}: {error}")


def error(
    url: str, org: str, path: str, reply: Any
) -> exceptions.InfluxDBError:
    """The exception for an answer that is no success.

    :param path: what was asked for, to tell a write from a query.
    """
    status: int = reply.status
    reason = _reason(reply)
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
        if "bucket" in reason:
            return exceptions.BucketNotFoundError(said)
        return exceptions.ConfigurationError(
            f"{said}. Is that the URL of an InfluxDB 2.x ([storage]"
            " influxdb_url)?"
        )
    if status in _BUSY or "queue length exceeded" in reason:
        try:
            return RetryAfterError(said, float(reply.headers["Retry-After"]))
        except (KeyError, ValueError):
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


def check_influxql(url: str, bucket: str, reply: Any) -> None:
    """Raise what an InfluxQL statement reports inside of a 200."""
    answer = json_object(url, reply)
    reasons = [answer.get("error")] + [
        result.get("error") for result in answer.get("results", ())
    ]
    for reason in filter(None, reasons):
        said = f"InfluxDB at {url} says of bucket {bucket!r}: {reason}"
        if "database not found" in reason or "no dbrp mapping" in reason:
            raise exceptions.BucketNotFoundError(said)
        raise exceptions.QueryError(said)


def _reason(reply: Any) -> str:
    """The server's own words."""
    text: str = reply.data.decode("utf-8", "replace")
    try:
        found = json.loads(text)
        return str(found.get("message") or found.get("error") or text)
    except (ValueError, AttributeError):
        # A proxy's page, most likely.
        return text[:200].strip() or "(nothing)"
