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
"""What the driver answers, compared with arithmetic done here."""

import itertools
import math
import time

import numpy
import pytest
from gnocchi import archive_policy, carbonara, storage

from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support.samples import (
    METHODS,
    NS,
    T0,
    aggregation,
    as_dict,
    at,
    metric,
    policy,
    read,
    recent,
    write,
)


@pytest.fixture(params=["auto", "flux", "influxql"])
def driver(make_conf, request):
    return InfluxDBStorage(
        make_conf(
            influxdb_retention=False,
            influxdb_query_language=request.param,
        ).storage
    )


# The arithmetic, in Python's own integers and a value at a time.


def expected(points, method, every):
    """Aggregates of all {ns: value}, by the definitions of Gnocchi."""
    points = dict(sorted(points.items()))
    if method.startswith("rate:"):
        times = list(points)
        points = {
            later: points[later] - points[earlier]
            for earlier, later in itertools.pairwise(times)
            if earlier >= later // every * every - every
        }
        method = method[5:]
    windows = {}
    for t, v in points.items():
        windows.setdefault(t // every * every, []).append(v)
    answers = {w: one_value(method, v) for w, v in windows.items()}
    return {w: v for w, v in answers.items() if v is not None}


def one_value(method, values):
    if method == "mean":
        return math.fsum(values) / len(values)
    if method == "sum":
        return math.fsum(values)
    if method == "count":
        return float(len(values))
    if method == "min":
        return min(values)
    if method == "max":
        return max(values)
    if method == "first":
        return values[0]
    if method == "last":
        return values[-1]
    if method == "std":
        if len(values) < 2:
            return None
        mean = math.fsum(values) / len(values)
        return math.sqrt(
            math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
        )
    percent = 50 if method == "median" else int(method[:-3])
    return float(numpy.percentile(values, percent))


def assert_same(got, wanted, method):
    assert list(got) == sorted(wanted)
    exact = method in ("count", "first", "last", "min", "max", "rate:count")
    for window, value in wanted.items():
        if exact:
            assert got[window] == value
        else:
            assert got[window] == pytest.approx(value, rel=1e-9, abs=1e-9)


def irregular(count, seed, start=T0, longest_gap=150):
    """Points with gaps of up to `longest_gap` seconds, to the ns."""
    random = numpy.random.default_rng(seed)
    gaps = random.integers(1, longest_gap * NS, count)
    times = start + numpy.cumsum(gaps)
    return dict(
        zip(
            times.tolist(),
            (random.normal(size=count) * 1e3).tolist(),
            strict=True,
        )
    )


@pytest.mark.parametrize("method", METHODS)
def test_each_method(driver, indexer_driver, method):
    m = metric(policy((100000, 60), (100000, 300), (100000, 3600)))
    points = irregular(800, seed=1)
    write(driver, {m: points}, indexer_driver)
    for seconds in (60, 300, 3600):
        every = seconds * NS
        wanted = expected(points, method, every)
        assert_same(read(driver, m, method, seconds), wanted, method)
        # A range that begins and ends inside of windows.
        start, stop = T0 + 5000 * NS + 1, T0 + 20000 * NS + 17
        assert_same(
            read(driver, m, method, seconds, start, stop),
            {
                w: v
                for w, v in wanted.items()
                if start // every * every <= w < stop
            },
            method,
        )


def test_all_methods_at_once(driver, indexer_driver):
    a_policy = policy((100000, 60), (100000, 300))
    points = {metric(a_policy): irregular(300, seed) for seed in range(5)}
    write(driver, points, indexer_driver)
    answers = driver.get_aggregated_measures(
        dict.fromkeys(points, a_policy.aggregations),
        at(T0 + 1000 * NS),
        at(T0 + 9000 * NS),
    )
    assert set(answers) == set(points)
    for m in points:
        assert set(answers[m]) == set(a_policy.aggregations)
        for a, series in answers[m].items():
            assert series.aggregation == a
            every = int(a.granularity.astype("timedelta64[ns]").astype(int))
            assert_same(
                as_dict(series),
                {
                    w: v
                    for w, v in expected(points[m], a.method, every).items()
                    if (T0 + 1000 * NS) // every * every <= w < T0 + 9000 * NS
                },
                a.method,
            )


@pytest.mark.parametrize("method", ["count", "max", "median", "rate:count"])
@pytest.mark.parametrize("seconds", [60, 0.5, 1 / 3])
def test_window_edges_are_exact_to_the_ns(
    driver, indexer_driver, method, seconds
):
    every = int(seconds * NS)
    m = metric(policy((10**6, seconds)))
    edge = (T0 // every + 1) * every
    points = {
        edge + window * every + offset: float(offset + window)
        for window in range(3)
        for offset in (-128, -100, -1, 0, 1)
    }
    write(driver, {m: points}, indexer_driver)
    a = m.archive_policy.aggregations[0]
    a = a._replace(method=method)
    every = int(a.granularity.astype("timedelta64[ns]").astype(int))
    got = as_dict(driver.get_aggregated_measures({m: [a]})[m][a])
    assert_same(got, expected(points, method, every), method)


def test_range_is_cut_as_gnocchi_cuts_it(driver, indexer_driver):
    m = metric(policy((1000, 60)))
    points = {T0 + i * 10 * NS: float(i) for i in range(60)}
    write(driver, {m: points}, indexer_driver)
    minute = 60 * NS

    def windows(start, stop):
        return [
            (w - T0) // minute
            for w in read(driver, m, "count", 60, start, stop)
        ]

    assert windows(T0 + 2 * minute, T0 + 4 * minute) == [2, 3]
    assert windows(T0 + 2 * minute + 1, T0 + 4 * minute + 1) == [2, 3, 4]
    assert windows(T0 + 3 * minute - 1, T0 + 3 * minute) == [2]
    assert windows(None, T0 + minute) == [0]
    assert windows(T0 + 9 * minute, None) == [9]
    # Rounded down to its granularity, such a range still holds a window.
    assert windows(T0 + 90 * NS, T0 + 90 * NS) == [1]
    assert windows(T0 + 2 * minute, T0 + 2 * minute) == []
    assert windows(T0 + 5 * minute, T0) == []
    # The window that contains the end is complete.
    assert read(driver, m, "count", 60, T0, T0 + 1) == {T0: 6.0}
    assert read(driver, m, "median", 60, T0, T0 + 1) == {T0: 2.5}


def test_extreme_floats(driver, indexer_driver):
    values = [
        5e-324,
        -5e-324,
        2.2250738585072014e-308,
        1.7976931348623157e308,
        -1.7976931348623157e308,
        0.1 + 0.2,
        1 / 3,
        -0.0,
        9007199254740993.0,
        1e16,
        123456789.12345678,
    ]
    m = metric(policy((1000, 1)))
    points = {T0 + i * NS: v for i, v in enumerate(values)}
    write(driver, {m: points}, indexer_driver)
    for method in ("first", "last", "min", "max", "mean", "sum"):
        got = read(driver, m, method, 1)
        assert list(got.values()) == values, method
    assert [math.copysign(1, v) for v in read(driver, m, "last", 1).values()][
        7
    ] == -1


def test_the_first_and_the_last_times_there_are(driver, indexer_driver):
    m = metric(
        archive_policy.ArchivePolicy(
            "endless",
            0,
            [
                archive_policy.ArchivePolicyItem(
                    granularity=g, timespan=None, points=None
                )
                for g in (60, 86400 * 365)
            ],
            METHODS,
        )
    )
    last = 2**63 - 2 - 86400 * 365 * 2 * NS
    write(driver, {m: {0: 1.0, last: 2.0}}, indexer_driver)
    for seconds in (60, 86400 * 365):
        every = seconds * NS
        for method in ("mean", "median"):
            assert read(driver, m, method, seconds) == {
                0: 1.0,
                last // every * every: 2.0,
            }


def test_a_hundred_metrics_in_one_call(driver, indexer_driver):
    # More than one query holds, and of two policies.
    low = policy((100000, 300), name="low")
    high = policy((100000, 60), name="high")
    points = {metric(low): irregular(20, seed) for seed in range(130)}
    points.update({metric(high): irregular(20, seed) for seed in range(30)})
    write(driver, points, indexer_driver)
    answers = driver.get_aggregated_measures(
        {
            m: m.archive_policy.get_aggregations_for_method("max")
            for m in points
        }
    )
    for m, of_metric in points.items():
        for a, series in answers[m].items():
            every = int(a.granularity.astype("timedelta64[ns]").astype(int))
            assert_same(
                as_dict(series), expected(of_metric, "max", every), "max"
            )


def test_policies_that_differ_in_their_names_only(driver, indexer_driver):
    points = {
        metric(policy((1000, 60), name=name)): {T0: value}
        for name, value in (("one", 1.0), ("other", 2.0))
    }
    write(driver, points, indexer_driver)
    answers = driver.get_aggregated_measures(
        {m: [aggregation(m, "mean", 60)] for m in points}
    )
    for m, of_metric in points.items():
        (found,) = answers[m].values()
        assert list(as_dict(found).values()) == list(of_metric.values())


def test_existence(driver, indexer_driver):
    a_policy = policy((1000, 60))
    known, unknown = metric(a_policy), metric(a_policy)
    # Not even the bucket is there.
    with pytest.raises(storage.MetricDoesNotExist) as error:
        read(driver, unknown, "mean", 60)
    assert error.value.metric is unknown
    write(driver, {known: {T0: 1.0}}, indexer_driver)
    for method in ("mean", "std"):
        with pytest.raises(storage.MetricDoesNotExist):
            read(driver, unknown, method, 60)
        # Points, but none in the range.
        assert read(driver, known, method, 60, T0 + 10**12) == {}
        assert read(driver, known, method, 60, T0, T0) == {}
        with pytest.raises(storage.MetricDoesNotExist):
            read(driver, unknown, method, 60, T0, T0)
        # One unknown metric fails the call.
        a = aggregation(known, method, 60)
        with pytest.raises(storage.MetricDoesNotExist) as error:
            driver.get_aggregated_measures({known: [a], unknown: [a]})
        assert error.value.metric is unknown


def test_truncation_follows_the_newest_aggregate(driver, indexer_driver):
    m = metric(policy((3, 60), (100, 300)))
    points = {T0 + i * 30 * NS: float(i) for i in range(40)}
    newest = T0 + 19 * 60 * NS
    write(driver, {m: points}, indexer_driver)
    for method in ("mean", "std", "rate:mean"):
        # The three newest windows, wherever the range lies.
        wanted = [newest - 2 * 60 * NS, newest - 60 * NS, newest]
        assert list(read(driver, m, method, 60)) == wanted
        assert list(read(driver, m, method, 60, T0, newest)) == wanted[:2]
        assert read(driver, m, method, 60, T0, T0 + 600 * NS) == {}
        assert len(read(driver, m, method, 300)) == 4
    # A deviation and a rate need two points: their newest window is older.
    write(driver, {m: {T0 + 21 * 60 * NS: 1.0}}, indexer_driver)
    assert list(read(driver, m, "count", 60)) == [newest, T0 + 21 * 60 * NS]
    for method in ("std", "rate:mean"):
        assert list(read(driver, m, method, 60)) == wanted
        assert list(read(driver, m, method, 60, T0, newest)) == wanted[:2]
    # But not by more than a timespan.
    write(driver, {m: {T0 + 25 * 60 * NS: 1.0}}, indexer_driver)
    assert list(read(driver, m, "count", 60)) == [T0 + 25 * 60 * NS]
    for method in ("std", "rate:mean"):
        for start, stop in ((None, None), (T0, newest), (None, newest)):
            assert read(driver, m, method, 60, start, stop) == {}


def test_truncation_by_what_is_newer_than_the_range(driver, indexer_driver):
    m = metric(policy((60, 60)))
    minute = 60 * NS
    now = time.time_ns() // minute * minute
    points = {now - i * minute: float(i) for i in range(120)}
    write(driver, {m: points}, indexer_driver)
    start, stop = now - 90 * minute, now - 45 * minute
    for method in ("mean", "rate:mean"):
        # Of the hour that counts; more than one lies in the range.
        assert list(read(driver, m, method, 60, start, stop)) == [
            now - i * minute for i in range(59, 45, -1)
        ]


def test_late_points_and_last_write_wins(driver, indexer_driver):
    m = metric(policy((100000, 60)))
    write(driver, {m: {T0 + 3600 * NS: 1.0}}, indexer_driver)
    # Much later than any back window, and out of order.
    write(
        driver,
        {m: [(T0 + 120 * NS, 7.0), (T0, 5.0), (T0 + 60 * NS, 6.0), (T0, 5.5)]},
        indexer_driver,
    )
    assert read(driver, m, "last", 60) == {
        T0: 5.5,
        T0 + 60 * NS: 6.0,
        T0 + 120 * NS: 7.0,
        T0 + 3600 * NS: 1.0,
    }
    write(driver, {m: {T0: 9.0}}, indexer_driver)
    assert read(driver, m, "sum", 60)[T0] == 9.0


class TestResample:
    def points(self):
        return {T0 + i * 20 * NS: float(i % 13) for i in range(400)}

    def reference(self, points, method, every, sampling, start, stop):
        """Aggregate all, aggregate the aggregates, cut."""
        inner = expected(points, method, every)
        if method.startswith("rate:"):
            times = sorted(inner)
            inner = {
                b: inner[b] - inner[a] for a, b in itertools.pairwise(times)
            }
            method = method[5:]
        wanted = expected(inner, method, sampling)
        return {
            w: v
            for w, v in wanted.items()
            if start // sampling * sampling <= w < stop
        }

    @pytest.mark.parametrize(
        "method",
        ["mean", "count", "max", "std", "median", "rate:mean", "rate:count"],
    )
    @pytest.mark.parametrize("sampling", [120, 420, 3600, 45])
    def test_by_timespan(self, driver, indexer_driver, method, sampling):
        m = metric(policy((100000, 60)))
        write(driver, {m: self.points()}, indexer_driver)
        span = numpy.timedelta64(sampling, "s")
        wanted = aggregation(m, method, 60)
        for start, stop in (
            (T0 + 1000 * NS, T0 + 6000 * NS),
            (T0 + 1260 * NS, T0 + 1270 * NS),
            (T0 - 86400 * NS, T0 + 86400 * NS),
        ):
            series = driver.get_aggregated_measures(
                {m: [wanted]}, at(start), at(stop), resample=span
            )[m][wanted]
            assert series.aggregation.granularity == span
            assert_same(
                as_dict(series),
                self.reference(
                    self.points(), method, 60 * NS, sampling * NS, start, stop
                ),
                method,
            )

    def test_by_calendar(self, driver, indexer_driver):
        m = metric(policy((100000, 86400)))
        points = {T0 + i * 86400 * NS: 1.0 for i in range(500)}
        write(driver, {m: points}, indexer_driver)
        wanted = aggregation(m, "sum", 86400)
        series = driver.get_aggregated_measures({m: [wanted]}, resample="Y")[
            m
        ][wanted]
        assert series.values.tolist() == [366.0, 134.0]
        assert series.aggregation.granularity == "Y"
        # From and to lie inside of months that are answered whole.
        series = driver.get_aggregated_measures(
            {m: [wanted]},
            numpy.datetime64("2024-02-10"),
            numpy.datetime64("2024-04-02"),
            resample="M",
        )[m][wanted]
        assert series.values.tolist() == [29.0, 31.0, 30.0]
        rate = aggregation(m, "rate:mean", 86400)
        with pytest.raises(TypeError):
            driver.get_aggregated_measures({m: [rate]}, resample="M")


def test_rate_never_depends_on_the_range(driver, indexer_driver):
    m = metric(policy((100000, 60)))
    minute = 60 * NS
    points = {
        T0: 1.0,
        T0 + minute - 1: 2.0,  # two windows before: too far for the next
        T0 + 2 * minute: 5.0,
        T0 + 3 * minute: 9.0,  # exactly one granularity before its window
        T0 + 4 * minute: 20.0,
    }
    write(driver, {m: points}, indexer_driver)
    wanted = {T0: 1.0, T0 + 3 * minute: 4.0, T0 + 4 * minute: 11.0}
    assert read(driver, m, "rate:mean", 60) == wanted
    for start in range(0, 6):
        for stop in range(start, 6):
            got = read(
                driver,
                m,
                "rate:mean",
                60,
                T0 + start * minute,
                T0 + stop * minute,
            )
            assert got == {
                w: v
                for w, v in wanted.items()
                if T0 + start * minute <= w < T0 + stop * minute
            }


def test_delete(driver, indexer_driver):
    a_policy = policy((100000, 60))
    gone, kept = metric(a_policy), metric(a_policy)
    points = irregular(50, seed=4)
    write(driver, {gone: points, kept: points}, indexer_driver)
    driver._delete_metric(gone)
    with pytest.raises(storage.MetricDoesNotExist):
        read(driver, gone, "mean", 60)
    assert len(read(driver, kept, "count", 60)) == len(
        expected(points, "count", 60 * NS)
    )
    driver._delete_metric(gone)
    # Its bucket was never made.
    driver._delete_metric(metric(policy((1, 60), name="unused")))
    # A metric may come back.
    write(driver, {gone: {T0: 3.0}}, indexer_driver)
    assert read(driver, gone, "mean", 60) == {T0: 3.0}


def test_janitor_leaves_the_points_alone(driver, indexer_driver):
    m = metric(policy((100000, 60)))
    write(driver, {m: {T0: 3.0}}, indexer_driver)
    assert driver._get_or_create_unaggregated_timeseries([m]) == {m: None}
    assert driver._get_or_create_unaggregated_timeseries_unbatched(m) is None
    driver._store_unaggregated_timeseries([(m, b"")])
    assert read(driver, m, "mean", 60) == {T0: 3.0}


def test_what_the_policy_does_not_have_is_empty(driver, indexer_driver):
    m = metric(policy((100000, 60), methods=["mean"]))
    write(driver, {m: {T0: 3.0}}, indexer_driver)
    for a in (
        carbonara.Aggregation("mean", numpy.timedelta64(42, "s"), None),
        carbonara.Aggregation("max", numpy.timedelta64(60, "s"), None),
        carbonara.Aggregation("std", numpy.timedelta64(42, "s"), None),
    ):
        assert as_dict(driver.get_aggregated_measures({m: [a]})[m][a]) == {}
        nobody = metric(m.archive_policy)
        with pytest.raises(storage.MetricDoesNotExist):
            driver.get_aggregated_measures({nobody: [a]})


@pytest.mark.parametrize("method", ["std", "median", "95pct", "rate:mean"])
@pytest.mark.parametrize("start", [None, 86400])
def test_timespan_of_a_range_in_the_past(
    make_conf, indexer_driver, method, start
):
    """The timespan ends with the newest point, wherever the range does."""
    driver = InfluxDBStorage(make_conf().storage)
    m = metric(policy((60, 60), (720, 3600)))
    minute = 60 * NS
    now = recent() // minute * minute
    points = {
        t: float(t // NS % 977)
        for first, last in ((100, 95), (50, 40), (5, 0))
        for t in range(now - first * minute, now - last * minute, 10 * NS)
    }
    write(driver, {m: points}, indexer_driver)
    begin = None if start is None else now - start * NS
    stop = now - 30 * minute
    expected = list(read(driver, m, "mean", 60, begin, stop))
    assert len(expected) == 10
    found = list(read(driver, m, method, 60, begin, stop))
    # The first rate has nothing before it.
    assert found == expected[-len(found) :]
    assert len(found) >= 9
