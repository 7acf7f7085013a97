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

import itertools
import random

import numpy
import pytest

from gnocchi_influxdb.cli import queries
from gnocchi_influxdb.cli.migrate import history, verify
from gnocchi_influxdb.cli.migrate.history import MEASURE


def level(every, complete_from, *times):
    """A level; the values tell the granularity."""
    return history.HistoryLevel(
        every,
        complete_from,
        numpy.array(times, dtype="int64"),
        numpy.full(len(times), float(every)),
    )


def moved(*levels):
    found = history.points(levels)
    assert (found.values == found.every).all()
    return list(zip(found.times.tolist(), found.every.tolist(), strict=True))


def test_nothing():
    assert moved() == []
    assert moved(level(10, None), level(60, None)) == []


def test_one_level():
    assert moved(level(10, 0, 0, 10, 30)) == [(0, 10), (10, 10), (30, 10)]


def test_measures_come_after_windows():
    assert moved(
        level(MEASURE, 20, 21, 27, 33), level(10, 0, 0, 10, 20, 30)
    ) == [
        (0, 10),
        (10, 10),
        (21, 0),
        (27, 0),
        (33, 0),
    ]


def test_measures_that_begin_inside_of_a_window():
    """Its aggregate knows more than what is left of its measures."""
    assert moved(level(MEASURE, 25, 27, 33), level(10, 0, 10, 20, 30)) == [
        (10, 10),
        (20, 10),
        (33, 0),
    ]


def test_coarser_ones_fill_what_lies_before():
    assert moved(
        level(10, 120, *range(120, 180, 10)), level(60, 0, 0, 60, 120)
    ) == [(0, 60), (60, 60), *((t, 10) for t in range(120, 180, 10))]


def test_a_coarser_window_is_not_covered_twice():
    assert moved(
        level(10, 90, *range(90, 150, 10)), level(60, 0, 0, 60, 120)
    ) == [(0, 60), (60, 60), (120, 10), (130, 10), (140, 10)]


def test_nothing_is_left_for_a_coarser_window_that_is_not_there():
    assert moved(level(10, 90, 90, 100, 130), level(60, 0, 120)) == [
        (90, 10),
        (100, 10),
        (130, 10),
    ]


def test_a_young_metric_keeps_all_of_its_resolution():
    """Nothing was dropped, so the coarser ones know nothing more."""
    assert moved(level(10, -500, 70, 80, 120), level(60, -5000, 60, 120)) == [
        (70, 10),
        (80, 10),
        (120, 10),
    ]


def test_without_a_timespan_nothing_coarser_is_needed():
    assert moved(level(10, None, 10, 70, 80), level(60, 0, 0, 60)) == [
        (10, 10),
        (70, 10),
        (80, 10),
    ]


@pytest.mark.parametrize("complete_from", [None, -1000, 0])
def test_a_timespan_that_was_made_longer(complete_from):
    """What Gnocchi had dropped by then does not come back."""
    assert moved(
        level(10, complete_from, *range(240, 300, 10)),
        level(60, 0, 0, 60, 180, 240),
    ) == [
        (0, 60),
        (60, 60),
        (180, 60),
        *((t, 10) for t in range(240, 300, 10)),
    ]


def test_a_hole_is_filled_by_the_next_coarser_one():
    assert moved(
        level(10, -1000, 60, 70, 310),
        level(60, -1000, 0, 60, 120, 300),
        level(600, -6000, -600, 0, 600),
    ) == [
        (-600, 600),
        (0, 60),
        (60, 10),
        (70, 10),
        (120, 60),
        (310, 10),
        (600, 600),
    ]


def test_three_levels():
    assert moved(
        level(1, 118, 118, 119, 120, 121),
        level(10, 50, *range(50, 130, 10)),
        level(60, -1000, 0, 60, 120),
    ) == [
        (0, 60),
        *((t, 10) for t in range(60, 120, 10)),
        (120, 1),
        (121, 1),
    ]


def test_a_level_in_between_that_is_empty():
    assert moved(
        level(1, 118, 118, 119), level(10, None), level(60, 0, 0, 60)
    ) == [(0, 60), (60, 60)]


def test_a_level_in_between_that_begins_no_earlier():
    """As of a policy with one timespan for two granularities."""
    assert moved(
        level(1, 100, *range(100, 200)),
        level(10, 100, *range(100, 200, 10)),
        level(60, -1000, 0, 60, 120, 180),
    ) == [(0, 60), (60, 60), *((t, 1) for t in range(120, 200))]


def test_a_level_in_between_that_begins_later():
    assert moved(
        level(1, 95, *range(95, 200)),
        level(10, 110, *range(110, 200, 10)),
        level(60, 60, 60, 120, 180),
        level(600, -6000, -600, 0),
    ) == [(-600, 600), (0, 600)]


@pytest.mark.parametrize("seed", range(50))
def test_no_moment_is_covered_twice(seed):
    rng = random.Random(seed)
    last = rng.randrange(10**4, 10**5)
    levels = []
    every = 1
    for _ in range(rng.randrange(1, 5)):
        newest = last // every * every
        timespan = rng.randrange(1, 50) * every * rng.choice((1, 60))
        oldest = newest - timespan + every
        times = [
            t for t in range(oldest, newest + 1, every) if rng.random() < 0.8
        ]
        levels.append(level(every, oldest, *times))
        every *= rng.choice((2, 10, 60))
    found = moved(*levels)
    assert found
    for (one, length), (other, _) in itertools.pairwise(found):
        assert one + length <= other
    # And nothing is forgotten.
    points = history.points(levels)
    for one in levels:
        assert history.covered(points, one.times, one.every).all()


def test_covered():
    points = history.HistoryPoints(
        numpy.array([0, 100, 160, 300]),
        numpy.zeros(4),
        numpy.array([60, 60, MEASURE, 10]),
    )
    mask = history.covered(
        points, numpy.array([-60, -30, 0, 59, 60, 61, 99, 300, 310]), 40
    )
    assert mask.tolist() == [
        False,
        True,
        True,
        True,
        False,
        True,
        True,
        True,
        False,
    ]
    assert history.covered(points, numpy.array([150]), 10).tolist() == [True]
    assert history.covered(points, numpy.array([160]), 1).tolist() == [True]
    assert history.covered(points, numpy.array([161]), 99).tolist() == [False]


@pytest.mark.parametrize(
    ("methods", "chosen"),
    [
        ({"mean", "last", "max"}, "mean"),
        ({"last", "max", "min"}, "last"),
        ({"min", "max", "count"}, "max"),
        ({"count", "sum", "std", "rate:mean", "95pct"}, None),
    ],
)
def test_method(methods, chosen):
    assert history.method(methods) == chosen


def test_complete_from():
    # Gnocchi keeps what lies less than a timespan before the newest window.
    assert history.complete_from(100, 30, 10) == 80
    assert history.complete_from(100, None, 10) is None


def test_storable():
    found = history.HistoryPoints(
        numpy.array([5, 10, 20, 30, 2**63 - 1]),
        numpy.array([1.0, 2.0, numpy.nan, numpy.inf, 1.0]),
        numpy.zeros(5, dtype="int64"),
    )
    good, too_old, not_finite = history.storable(found, 10)
    assert good.times.tolist() == [10]
    assert (too_old, not_finite) == (2, 2)


def unoccupied(points, there):
    found = history.HistoryPoints(
        *(numpy.array(column) for column in zip(*points, strict=True))
    )
    return history.unoccupied(
        found,
        numpy.array([t for t, _ in there], dtype="int64"),
        numpy.array([v for _, v in there], dtype="float64"),
    ).tolist()


def test_unoccupied():
    points = [(0, 1.0, 10), (10, 2.0, 10), (20, 3.0, 10), (30, 4.0, MEASURE)]
    assert unoccupied(points, []) == [True] * 4
    assert unoccupied(points, [(10, 2.0)]) == [True] * 4
    assert unoccupied(points, [(10, 2.5)]) == [True, False, True, True]
    assert unoccupied(points, [(19, 2.0)]) == [True, False, True, True]
    assert unoccupied(points, [(10, 2.0), (15, 9.0)]) == [
        True,
        False,
        True,
        True,
    ]
    assert unoccupied(points, [(30, 9.0), (-1, 1.0)][::-1]) == [True] * 4


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
    assert foreign == 4


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


def test_results_of_a_comparison_add_up():
    one = verify.Compared(10, 5, 2, 1, 1, 1, 0.5)
    one.add(verify.Compared(10, 5, 2, 1, 1, 1, 0.25))
    assert one == verify.Compared(20, 10, 4, 2, 2, 2, 0.5)
