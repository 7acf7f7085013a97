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
"""Small answers to InfluxQL statements (pure)."""

import json
from typing import Any

import msgpack

from gnocchi_influxdb import exceptions


def check(body: bytes) -> None:
    """Raise what the server says of statements that answer nothing.

    :param body: MessagePack or JSON.
    :raises QueryError: the server reports an error.
    :raises ResponseError: it is something else.
    """
    for result in _results(body):
        _raise_error(result)


def rows(body: bytes) -> list[list[Any]]:
    """Rows of the answer to one statement that makes one series at most.

    :raises QueryError: the server reports an error inside the answer.
    :raises ResponseError: it is something else.
    """
    found = series(body)
    return list(found[0].get("values") or ()) if found else []


def series(body: bytes) -> list[dict[str, Any]]:
    """All series of the answer to one statement: `name`, `tags`, `columns`
    and `values`.

    :raises QueryError: the server reports an error inside the answer.
    :raises ResponseError: it is something else.
    """
    found = _results(body)
    if len(found) != 1:
        raise exceptions.ResponseError(
            f"InfluxDB has {len(found)} answers: {body[:60]!r}"
        )
    _raise_error(found[0])
    return list(found[0].get("series") or ())


def _results(body: bytes) -> list[dict[str, Any]]:
    try:
        is_json = body.startswith(b"{")
        found = json.loads(body) if is_json else msgpack.unpackb(body)
        # To a DELETE 2.x has no result, and 1.x an empty one.
        return [dict(one) for one in found.get("results", [found])]
    except (
        msgpack.UnpackException,
        ValueError,
        TypeError,
        AttributeError,
    ) as e:
        raise exceptions.ResponseError(
            f"The answer of InfluxDB makes no sense ({e}): {body[:60]!r}"
        ) from None


def _raise_error(result: dict[str, Any]) -> None:
    if "error" in result:
        raise exceptions.QueryError(f"InfluxDB failed: {result['error']}")
