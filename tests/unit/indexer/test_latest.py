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
"""The newest measure of each metric, for the indexer."""

import numpy
import pytest

from gnocchi_influxdb import schema
from gnocchi_influxdb.indexer import latest


def measures(*seconds):
    """Of these times; None is NaT."""
    made = numpy.zeros(len(seconds), dtype=schema.DTYPE)
    made["timestamps"] = [
        numpy.datetime64("NaT" if s is None else s * 10**9, "ns")
        for s in seconds
    ]
    return made


class Metric:
    def __init__(self, id_):
        self.id = id_


def test_newest_in_any_order():
    one, other = Metric(1), Metric(2)
    found = latest.Latest({one: measures(3, 9, 5), other: measures(2)}, ())
    assert list(found) == [one, other]
    assert found[one] == numpy.datetime64(9, "s")
    assert found[other] == numpy.datetime64(2, "s")


def test_those_without_a_time_are_left_out():
    none, nat, mixed, good = (Metric(i) for i in range(4))
    found = latest.Latest(
        {
            none: measures(),
            nat: measures(None, None),
            mixed: measures(None, 4, None),
            good: measures(1),
        },
        {1, 2},
    )
    assert list(found) == [mixed, good]
    assert len(found) == 2
    assert found[mixed] == numpy.datetime64(4, "s")
    with pytest.raises(KeyError):
        found[nat]
