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

"""How points of all metrics are shared out, and windows are joined."""

import itertools
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnocchi_influxdb.downsampling import downsampler, source


@pytest.mark.parametrize("number", [0, 1, 2, 3, 5, 16, 17, 100, 300])
def test_parts_share_out_all_metrics(number):
    parts = source.parts(number)
    assert max(number, 1) <= len(parts) <= max(2 * number, 1) * 2
    for _ in range(50):
        id_ = str(uuid.uuid4())
        assert sum(bool(re.search(part, id_)) for part in parts) == 1
        for foreign in f"{id_}0", f"0{id_}", id_[1:], id_.replace("-", ""):
            assert not any(re.search(part, foreign) for part in parts)


@given(st.sets(st.integers(0, 60)), st.sampled_from([1, 7, 3600]))
def test_runs_are_the_windows(windows, every):
    starts = [window * every for window in sorted(windows)]
    runs = list(downsampler._runs(starts, every))
    assert [
        at for start, stop in runs for at in range(start, stop, every)
    ] == starts
    # And as few as there can be.
    for (_start, stop), (start, _stop) in itertools.pairwise(runs):
        assert stop < start
