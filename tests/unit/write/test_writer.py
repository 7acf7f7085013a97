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
"""How a call's points are divided."""

import os

import pytest
from gnocchi import utils

from gnocchi_influxdb.write import writer


@pytest.fixture(params=[(1, 8), (2, 8), (64, 2), (3, 4)])
def at_once(request, monkeypatch):
    workers, processors = request.param
    monkeypatch.setattr(utils.parallel_map, "MAX_WORKERS", workers)
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    return min(workers, processors)


@pytest.mark.parametrize("number", [10, 11, 28, 100, 101])
def test_parts(number, at_once):
    parts = writer.request_bounds(number, 10)
    assert [i for part in parts for i in range(*part)] == list(range(number))
    sizes = [stop - start for start, stop in parts]
    assert max(sizes) <= 10
    assert max(sizes) - min(sizes) <= 1
    assert len(parts) == 1 if number == 10 else len(parts) % at_once == 0


def test_no_points():
    assert writer.request_bounds(0, 10) == []
