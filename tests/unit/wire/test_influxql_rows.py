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
"""Small answers to InfluxQL, as InfluxDB 1.13.2 and 2.9.1 give them."""

import json

import msgpack
import pytest

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.wire import influxql_rows


@pytest.fixture(params=["json", "msgpack"])
def pack(request):
    if request.param == "msgpack":
        return msgpack.packb
    return lambda answer: json.dumps(answer).encode()


def test_rows(pack):
    series = {"name": "databases", "columns": ["name"], "values": [["a"]]}
    body = pack({"results": [{"statement_id": 0, "series": [series]}]})
    assert influxql_rows.rows(body) == [["a"]]
    assert influxql_rows.series(body) == [series]


def test_nothing(pack):
    for result in (
        {"statement_id": 0},
        {"statement_id": 0, "series": []},
        {"statement_id": 0, "series": [{"columns": ["name"]}]},
    ):
        body = pack({"results": [result]})
        assert influxql_rows.rows(body) == []
        influxql_rows.check(body)


def test_a_delete_has_no_result_on_2x(pack):
    influxql_rows.check(pack({"results": []}))


@pytest.mark.parametrize(
    "answer",
    [
        {"results": [{"statement_id": 0, "error": "out of luck"}]},
        {"error": "out of luck"},
        {"results": [{"statement_id": 0}, {"error": "out of luck"}]},
    ],
)
def test_error(pack, answer):
    with pytest.raises(exceptions.QueryError, match="out of luck"):
        influxql_rows.check(pack(answer))


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{", b"[]", b"\xc1", b'{"results": 1}']
)
def test_nonsense(body):
    for read in influxql_rows.check, influxql_rows.rows:
        with pytest.raises(exceptions.ResponseError):
            read(body)


def test_more_than_was_asked_for(pack):
    body = pack({"results": [{"statement_id": 0}, {"statement_id": 1}]})
    with pytest.raises(exceptions.ResponseError):
        influxql_rows.rows(body)
