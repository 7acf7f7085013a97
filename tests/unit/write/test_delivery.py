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
"""How long a write waits for a bucket."""

import time
import types

import pytest

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.client import api
from gnocchi_influxdb.write import delivery
from gnocchi_influxdb.write.batch import Batch, clean
from tests.support.clock import Clock

NO_POINTS = clean([], [])[0]


class Missing:
    """Buckets that are seen, and can be neither written to nor changed."""

    def __init__(self, *, ensured):
        self._ensured = ensured
        self.looks = 0
        self._known = False

    def ensure(self, policy):
        self.looks += not self._known
        if not self._ensured:
            raise exceptions.BucketNotFoundError("not yet")
        self._known = True

    def forget(self, bucket):
        self._known = False


class NotYet:
    capabilities = api.INFLUXDB_1
    clock = types.SimpleNamespace(now_ns=time.time_ns)
    writes = 0

    def write(self, bucket, lines):
        self.writes += 1
        raise exceptions.BucketNotFoundError("not yet")


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(delivery, "time", made)
    return made


@pytest.mark.parametrize("ensured", [True, False])
@pytest.mark.parametrize(
    ("timeout", "tries"),
    # After 0.05, 0.1, 0.2, 0.4 and 0.8 s, then each second.
    [(0.04, 1), (0.06, 2), (1, 5), (30, 34)],
)
def test_as_long_as_the_timeout(clock, ensured, timeout, tries):
    buckets = Missing(ensured=ensured)
    client = NotYet()
    one = delivery.Delivery(client, buckets, timeout)
    with pytest.raises(exceptions.BucketNotFoundError):
        one.write(Batch("low", "gnocchi-low", NO_POINTS), b"")
    assert buckets.looks == tries
    assert client.writes == (tries if ensured else 0)
    assert clock.now <= 1000 + timeout
