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
"""Which buckets hold many points in a window."""

import time

from gnocchi_influxdb.read import fetcher


def test_it_is_of_a_bucket_and_a_granularity():
    memory = fetcher.Density()
    assert not memory.is_dense("a", 60, 2)
    memory.note_dense("a", 60, 2)
    assert memory.is_dense("a", 60, 2)
    assert not memory.is_dense("a", 300, 2)
    assert not memory.is_dense("a", 60, 16)
    assert not memory.is_dense("b", 60, 2)


def test_it_fades(monkeypatch):
    memory = fetcher.Density()
    memory.note_dense("a", 60, 2)
    later = time.monotonic() + 3600
    monkeypatch.setattr(fetcher.time, "monotonic", lambda: later)
    assert not memory.is_dense("a", 60, 2)
