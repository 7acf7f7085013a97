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
"""What is counted, and its line."""

from gnocchi_influxdb.health.counts import SUMS, Counts


def test_a_line_has_each_sum_as_a_float():
    counts = Counts()
    counts.add("stored", 3)
    counts.raise_to("read_longest", 0.25)
    counts.latest["pid"] = 7
    tags, fields, time = (
        counts.line({"process": "api", "host": "a b,c=d"}, 12)
        .decode()
        .replace("a\\ b", "a_b")
        .split()
    )
    assert tags == r"driver,host=a_b\,c\=d,process=api"
    assert time == "12"
    found = dict(pair.split("=") for pair in fields.split(","))
    assert found == dict.fromkeys(SUMS, "0.0") | {
        "stored": "3.0",
        "read_longest": "0.25",
        "pid": "7.0",
    }


def test_a_line_that_was_not_written_goes_on():
    older, newer = Counts(), Counts()
    older.add("stored", 3)
    newer.add("stored", 4)
    older.raise_to("read_longest", 5)
    newer.raise_to("read_longest", 2)
    newer.raise_to("write_longest", 1)
    older.latest.update(queue_bundles=9.0, pid=1.0)
    newer.latest["queue_bundles"] = 0.0

    older.precede(newer)

    assert older.sums["stored"] == 7
    assert older.maxima == {"read_longest": 5, "write_longest": 1}
    assert older.latest == {"queue_bundles": 0.0, "pid": 1.0}
