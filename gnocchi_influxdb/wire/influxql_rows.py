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
"""The envelope of the answers to InfluxQL statements (pure).

All answers of ``/query`` look alike: ``{"results": [...]}``, where each
result has ``series`` or an ``error``, or there is an ``error`` and nothing
else. This is the one place that knows so, but for `influxql_points`, which
takes the many points of a large answer from where they lie.
"""

import json
from typing import Any

import msgpack

from gnocchi_influxdb import exceptions


def results(body: bytes) -> list[dict[str, Any]]:
    """The result of each statement.

    :param body: MessagePack or JSON, the whole answer.
    :return: of each statement what the server says: `series`, if there are
        any, and `error`, if it failed. 2.x has no result for a DELETE, and
        1.x an empty one.
    :raises ResponseError: it is no such answer.
    """
    try:
        is_json = body.startswith(b"{")
        found = json.loads(body) if is_json else msgpack.unpackb(body)
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


def check(body: bytes) -> list[dict[str, Any]]:
    """The results of statements of which none has failed.

    :param body: MessagePack or JSON, the whole answer.
    :raises QueryError: the server reports an error.
    :raises ResponseError: it is something else.
    """
    found = results(body)
    for result in found:
        if "error" in result:
            raise exceptions.QueryError(f"InfluxDB failed: {result['error']}")
    return found


def series(body: bytes) -> list[dict[str, Any]]:
    """All series of the answer to one statement.

    :return: of each series `name`, `tags`, `columns` and `values`.
    :raises QueryError: the server reports an error inside the answer.
    :raises ResponseError: it is something else.
    """
    found = check(body)
    if len(found) != 1:
        raise exceptions.ResponseError(
            f"InfluxDB has {len(found)} answers: {body[:60]!r}"
        )
    return list(found[0].get("series") or ())


def rows(body: bytes) -> list[list[Any]]:
    """Rows of the answer to one statement that makes one series at most.

    :return: shape (rows, columns), empty without a series.
    :raises QueryError: the server reports an error inside the answer.
    :raises ResponseError: it is something else.
    """
    found = series(body)
    return list(found[0].get("values") or ()) if found else []
