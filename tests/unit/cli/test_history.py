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
"""What the history of a metric becomes."""

import uuid

import pytest

from gnocchi_influxdb import schema
from gnocchi_influxdb.cli import queries
from gnocchi_influxdb.cli.migrate import history, verify
from tests.support import samples
from tests.support.samples import NS, policy

IDS = [uuid.UUID(int=1), uuid.UUID(int=2)]


def array(points):
    return samples.measures(points).astype(schema.DTYPE)


def test_a_line_for_each_window_of_all_metrics():
    table = history.table(
        [
            {"mean": array({60: 1.0, 180: 2.0}), "std": array({180: 0.5})},
            {"mean": array({120: 3.0}), "std": array({})},
        ]
    )
    assert len(table) == 3
    assert table.lines(IDS, 0, 3) == [
        f"aggregate,metric={IDS[0]} mean=1.0 60\n".encode(),
        f"aggregate,metric={IDS[1]} mean=3.0 120\n".encode(),
        f"aggregate,metric={IDS[0]} mean=2.0,std=0.5 180\n".encode(),
    ]
    assert table.lines(IDS, 1, 2) == table.lines(IDS, 0, 3)[1:2]


def test_no_windows():
    table = history.table([{"mean": array({})}, {"mean": array({})}])
    assert len(table) == 0
    assert table.lines(IDS, 0, 0) == []


def kept(a_policy, first_block, *seconds):
    return history.measures(
        a_policy, array({t * NS: 1.0 for t in seconds}), first_block * NS
    )


HOURS = policy((60, 60), (24, 3600), methods=["mean", "rate:mean"])


@pytest.mark.parametrize(
    ("first_block", "first", "starts"),
    [
        (7200, 7300, [7200]),
        # With rates Gnocchi keeps a block more.
        (7200, 3700, [3600, 7200]),
        # The back window has just become longer.
        (3600, 7300, [7200]),
    ],
)
def test_measures_are_complete_from_a_block_on(first_block, first, starts):
    found = kept(HOURS, first_block, first, 7400)
    assert [start // NS for start in found.starts] == starts


def test_no_window_lies_across_the_first_measure():
    """Hours do not begin with a window of seven minutes."""
    odd = policy((60, 420), (24, 3600))
    assert kept(odd, 3600, 3700, 40000).starts == (7 * 3600 * NS,)


def seconds_of(found):
    return (history.as_ns(found["timestamps"]) // NS).tolist()


@pytest.mark.parametrize(
    ("oldest", "covered", "times", "moved"),
    [
        (0, 7200, (3610, 3620, 7300, 7400), [3610, 3620, 7300, 7400]),
        # The window before is not stored, but made of points.
        (0, 7199, (3610, 3620, 7300, 7400), [7300, 7400]),
        # It is too old in part, or all are.
        (3611, 7200, (3610, 3620, 7300), [7300]),
        (7301, 7200, (3610, 7300, 7400), []),
        # There is none, before or at all.
        (0, 7200, (7300, 7400), [7300, 7400]),
        (0, 7200, (3610, 3620), [3610, 3620]),
        (0, 0, (3610, 3620), []),
    ],
)
def test_measures_that_become_points(oldest, covered, times, moved):
    found = kept(HOURS, 7200, *times).movable(oldest * NS, covered * NS, HOURS)
    assert seconds_of(found) == moved


@pytest.mark.parametrize(
    ("times", "moved"),
    [
        ((310, 610, 650), [310, 610, 650]),
        # Its rate would come out wrong.
        ((310, 350, 610, 650), [610, 650]),
    ],
)
def test_one_definition(times, moved):
    one = policy((60, 300), methods=["rate:mean"])
    found = kept(one, 600, *times).movable(0, 2**62, one)
    assert seconds_of(found) == moved


def test_without_rates_nothing_before_is_needed():
    plain = policy((60, 60), (24, 3600), methods=["mean"])
    found = kept(plain, 7200, 7190, 7300).movable(0, 7200 * NS, plain)
    assert seconds_of(found) == [7300]


def test_counts_add_up():
    key = history.Key("low", 300 * NS, "mean")
    one, other = history.Moved(), history.Moved()
    for moved, number in ((one, 1), (other, 2)):
        moved.aggregates = {IDS[number - 1]: number}
        moved.kept = {key: history.Kept(number, 10 * number, 100 * number)}
        moved.measures = moved.empty = moved.refused = number
        moved.losing = [IDS[number - 1]]
        moved.failed = [IDS[number - 1]]
    one.add(other)
    assert one == history.Moved(
        aggregates={IDS[0]: 1, IDS[1]: 2},
        kept={key: history.Kept(3, 30, 300)},
        measures=3,
        losing=IDS,
        empty=3,
        refused=3,
        failed=IDS,
    )


def test_what_is_no_metrics_series():
    one = "5a301761-aaaa-46e2-8900-8b4f6fe6675a"
    two = "6a301761-aaaa-46e2-8900-8b4f6fe6675a"
    ids, beside, foreign = queries.metrics_of(
        [
            [f"measure,metric={one}"],
            [f"measure,host=a,metric={one}"],
            [f"measure,metric={one.upper()}"],
            [f"measure,metric={one}\\,a"],
            ["measure,metric=mine"],
            [f"metric_info,metric={one[::-1]}"],
            [f"aggregate,metric={two}"],
        ]
    )
    assert [str(id_) for id_ in ids] == [one]
    assert [str(id_) for id_ in beside] == [two]
    assert foreign == 5


def test_disk_sizes():
    text = (
        b"# TYPE storage_shard_disk_size gauge\n"
        b'storage_shard_disk_size{bucket="a",engine="tsm1",id="1",'
        b'path="e/{x}",walPath="w"} 2.5e+07\n'
        b'storage_shard_disk_size{bucket="a",engine="tsm1",id="2"} 3\n'
        b'storage_shard_disk_size{bucket="b",engine="tsm1",id="3"} 0\n'
        b'storage_bucket_series_num{bucket="a"} 7\n'
    )
    assert queries.disk_sizes(text) == {"a": 25000003, "b": 0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"process_open_fds 81\nprocess_max_fds 1.048576e+06\n", (81, 2**20)),
        (b"# HELP process_max_fds most\nprocess_max_fds 9\nx 1\n", None),
        (b"", None),
    ],
)
def test_open_files(text, expected):
    assert queries.open_files(text) == expected


def test_results_of_a_comparison_add_up():
    windows = [(IDS[0], n) for n in range(60)]
    one = verify.Compared(10, 7, 2, 1, windows[:2], windows[2:3])
    one.add(verify.Compared(10, 7, 2, 1, windows[3:5], windows[5:6]))
    assert one == verify.Compared(
        20, 14, 4, 2, windows[:2] + windows[3:5], [windows[2], windows[5]]
    )
    # Some are named.
    many = verify.Compared(open_windows=windows.copy())
    many.add(verify.Compared(open_windows=windows))
    assert len(many.open_windows) == 100
