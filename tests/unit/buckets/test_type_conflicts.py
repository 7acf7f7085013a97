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
"""What InfluxDB says of the types of fields."""

import msgpack
import pytest

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.buckets import type_conflicts


def answer(**result):
    return msgpack.packb({"results": [{"statement_id": 0, **result}]})


def test_types():
    values = [["value", "float"], ["value", "integer"], ["other", "string"]]
    series = [{"name": "measure", "values": values}]
    assert type_conflicts._types(answer(series=series)) == {"float", "integer"}
    assert type_conflicts._types(answer()) == set()


@pytest.mark.parametrize(
    "body",
    [answer(error="timeout"), msgpack.packb({"error": "timeout"})],
)
def test_an_error_is_not_no_other_type(body):
    with pytest.raises(exceptions.QueryError, match="timeout"):
        type_conflicts._types(body)
