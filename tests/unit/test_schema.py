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
"""The smallest helpers."""

import pytest

from gnocchi_influxdb import schema


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        (0, "metric", "0 metrics"),
        (1, "metric", "1 metric"),
        (2000, "metric", "2,000 metrics"),
        (1, "series", "1 series"),
        (2, "series", "2 series"),
    ],
)
def test_a_count(number, noun, said):
    assert schema.counted(number, noun) == said
