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

"""The calls to InfluxDB's HTTP API that servers and tests need."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from servers.process import ServerError


class HTTPError(ServerError):
    """InfluxDB answered with an error status."""

    def __init__(self, method: str, url: str, status: int, text: str) -> None:
        super().__init__(f"{method} {url}: HTTP {status}: {text}")
        self.status = status


def call(
    method: str,
    url: str,
    path: str,
    *,
    token: str | None = None,
    query: dict[str, str] | None = None,
    body: dict[str, Any] | None = None,
    timeout: float = 30,
) -> dict[str, Any]:
    """Send a request and return its JSON answer.

    :raises HTTPError: the server answered with an error status
    :raises OSError: no answer
    """
    address = url.rstrip("/") + path
    if query:
        address += "?" + urllib.parse.urlencode(query)
    headers = {"Accept": "application/json"}
    data = None
    if token is not None:
        headers["Authorization"] = f"Token {token}"
    if body is not None:
        data = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(
        address, data=data, headers=headers, method=method
    )
    # A server on the loopback interface is never behind a proxy.
    local = urllib.parse.urlsplit(url).hostname in ("127.0.0.1", "localhost")
    opener = urllib.request.build_opener(
        *([urllib.request.ProxyHandler({})] if local else [])
    )
    try:
        with opener.open(request, timeout=timeout) as response:
            text = response.read()
    except urllib.error.HTTPError as error:
        with error:
            words = error.read(2000).decode(errors="replace").strip()
        raise HTTPError(method, address, error.code, words) from None
    answer = json.loads(text) if text.strip() else {}
    return answer if isinstance(answer, dict) else {"answer": answer}


def is_healthy(url: str) -> bool:
    """Whether the server is up and says that all is well."""
    try:
        health = call("GET", url, "/health", timeout=5)
    except (OSError, ValueError, HTTPError):
        return False
    return health.get("status") == "pass"


def version(url: str) -> str:
    """The server's version, without the leading v."""
    health = call("GET", url, "/health", timeout=10)
    return str(health.get("version", "unknown")).removeprefix("v")


def set_up(url: str, token: str, org: str, password: str) -> None:
    """Create the first user, organisation and an operator's token."""
    call(
        "POST",
        url,
        "/api/v2/setup",
        body={
            "username": "admin",
            "password": password,
            "org": org,
            "bucket": "default",
            "token": token,
        },
    )


def set_up_user(url: str, name: str, password: str) -> None:
    """Create the first user of an InfluxDB 1.x."""
    influxql(
        url,
        None,
        f"CREATE USER {name} WITH PASSWORD '{password}' WITH ALL PRIVILEGES",
    )


def influxql(
    url: str, token: str | None, statement: str, **form: str
) -> list[dict[str, Any]]:
    """The series that an InfluxQL statement answers.

    :param form: more parameters, such as db
    :raises ServerError: the answer is an error
    """
    answer = call(
        "POST", url, "/query", token=token, query={"q": statement, **form}
    )
    # To a DELETE 2.x has no result, and 1.x an empty one.
    (result,) = answer.get("results") or [{}]
    if "error" in result:
        raise ServerError(f"{url}: {statement}: {result['error']}")
    series: list[dict[str, Any]] = result.get("series", [])
    return series


def buckets(url: str, token: str, org: str, prefix: str) -> dict[str, str]:
    """Name -> id of the organisation's buckets whose names start so."""
    found: dict[str, str] = {}
    query = {"org": org, "limit": "100"}
    while True:
        page = call(
            "GET", url, "/api/v2/buckets", token=token, query=query
        ).get("buckets", [])
        for bucket in page:
            if bucket["name"].startswith(prefix):
                found[bucket["name"]] = bucket["id"]
        if len(page) < 100:
            return found
        query["after"] = page[-1]["id"]


def delete_buckets(url: str, token: str, org: str, prefix: str) -> int:
    """Delete the buckets whose names start with `prefix`; how many.

    A prefix with a slash is of an InfluxDB 1.x: its database is dropped.
    """
    if not prefix:
        raise ValueError("an empty prefix would delete every bucket")
    if "/" in prefix:
        # InfluxDB 1.x
        database = prefix.partition("/")[0]
        influxql(url, token, f'DROP DATABASE "{database}"')
        return 1
    found = buckets(url, token, org, prefix)
    for identity in found.values():
        call("DELETE", url, f"/api/v2/buckets/{identity}", token=token)
    return len(found)
