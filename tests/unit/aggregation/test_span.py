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
"""Ranges, and the windows that they need."""

import numpy
import pytest
from gnocchi import carbonara
from hypothesis import given
from hypothesis import strategies as st

from gnocchi_influxdb.aggregation import span as spans

TOP = 2**40
times = st.integers(0, TOP)
durations = st.integers(1, 2**20)


def timedelta(ns):
    return numpy.timedelta64(ns, "ns")


def aggregation(every, method="mean"):
    return carbonara.Aggregation(method, timedelta(every), None)


@given(times, times, durations)
def test_windows_hold_the_range(start, stop, every):
    span = spans.Span(start, stop)
    a = aggregation(every)
    first, end = span.windows(a)
    assert span.first(a) == start // every * every
    assert (first or 0) == start // every * every
    assert end % every == 0
    # The window that contains the end is whole, and there is no further one.
    assert end - every < stop <= end
    # Empty is what holds no start of a window.
    holds = any(
        start // every * every <= w < stop
        for w in (start // every * every, stop // every * every)
    )
    assert span.is_empty(a) == (not holds)


@given(durations)
def test_without_bounds(every):
    span = spans.Span(None, None)
    assert span.windows(aggregation(every)) == (None, None)
    assert span.first(aggregation(every)) is None
    assert not span.is_empty(aggregation(every))
    assert spans.Span(None, 0).windows(aggregation(every)) == (None, 0)


@given(times, times, durations, durations)
def test_resampled_windows_are_whole(start, stop, every, sampling):
    span = spans.Span(start, stop, timedelta(sampling))
    a = aggregation(every)
    first, end = span.windows(a)
    outer = start // sampling * sampling
    assert span.first(a) == outer
    # All that lies in the first and the last resampled window.
    assert (first or 0) <= outer < (first or 0) + every
    assert end % every == 0
    assert end >= -(-stop // sampling) * sampling


@given(times, times, durations, durations)
def test_resampled_rates_need_all_before(start, stop, every, sampling):
    span = spans.Span(start, stop, timedelta(sampling))
    first, end = span.windows(aggregation(every, "rate:mean"))
    assert first is None
    assert end >= stop


def test_far_away():
    a = aggregation(60 * 10**9)
    assert spans.Span(0, 2**63 - 1).windows(a) == (None, None)
    assert spans.Span(-(2**62), 0).windows(a) == (None, 0)


@pytest.mark.parametrize(
    ("sampling", "start"),
    [
        ("Y", "2024-01-01"),
        ("H", "2024-01-01"),
        ("Q", "2024-04-01"),
        ("M", "2024-05-01"),
        ("W", "2024-05-12"),
    ],
)
def test_calendar(sampling, start):
    at = numpy.datetime64("2024-05-15T12:34:56", "ns").astype("int64")
    span = spans.Span(int(at), int(at) + 1, sampling)
    first = span.first(aggregation(86400 * 10**9))
    assert numpy.datetime64(first, "ns") == numpy.datetime64(start)
