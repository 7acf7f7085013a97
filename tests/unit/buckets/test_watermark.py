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

"""What of a watermark and of marks counts (pure)."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnocchi_influxdb import schema
from gnocchi_influxdb.buckets import watermark

NS = schema.SECOND


def test_marks_count_until_a_pass_began_after_them():
    assert watermark.Watermark(0, 0, 0).pending_since == 0
    began = 10**18
    since = watermark.Watermark(0, began, 0).pending_since
    # Of two hosts one may be so far behind.
    assert since == began - watermark.SKEW * NS


@pytest.mark.parametrize("every", [NS // 10, NS, 300 * NS, 86400 * NS])
def test_overdue_is_what_passes_have_missed(every):
    over = 10**18 // every * every
    soon = over + every + watermark.DELAY + watermark.INTERVAL * NS
    assert watermark.overdue(over, every, soon) == 0
    assert watermark.overdue(over, every, soon + 10**6 * NS) > 0


@given(
    st.sampled_from([NS // 10, NS, 60 * NS, 3600 * NS, 86400 * NS]),
    st.integers(0, 2 * 10**18),
)
def test_marks_say_which_window(every, time):
    start = schema.floor(time, every)
    marks = schema.points(
        numpy.array([1], "M8[ns]"), numpy.array([start / NS])
    )
    assert watermark.marked(marks, every).tolist() == [start]
