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
"""Flux: text that means what it should, whatever goes into it."""

import re
import uuid

import numpy
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gnocchi_influxdb import schema
from gnocchi_influxdb.wire import flux

IDS = [uuid.UUID(int=i) for i in range(3)]

# A string literal as the specification of Flux has it, and no more.
LITERAL = re.compile(r'"(?:[^"\\$\x00-\x1f\x7f]|\\x[0-9a-f]{2})*"')


def meaning(literal):
    """What the scanner of Flux makes of a literal of ours."""
    assert LITERAL.fullmatch(literal), literal
    return re.sub(
        r"\\x([0-9a-f]{2})",
        lambda match: chr(int(match[1], 16)),
        literal[1:-1],
    )


@given(st.text())
@example('")\n|> yield() //')
@example("${1 + 1}")
@example("\\")
@example('\\"')
@example("\x00\n\r\t\x7f")
def test_a_string_means_itself(text):
    assert meaning(flux.string(text)) == text


@given(st.integers(0, 2**63 - 1))
def test_time(ns):
    text = flux.time(ns)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", text)
    assert int(numpy.datetime64(text[:-1], "ns").astype("int64")) == ns


@given(
    st.text(),
    st.integers(0, 2**62),
    st.integers(0, 2**62),
    st.integers(1, 10**18),
    st.sampled_from(sorted(schema.WINDOW_FUNCTIONS)),
)
def test_windows(bucket, start, stop, every, function):
    text = flux.windows(bucket, IDS, start, stop, every, function)
    beginning = f"from(bucket: {flux.string(bucket)}) |> range("
    assert text.startswith(beginning)
    rest = text[len(beginning) :]
    # Pushed down is what follows the filter at once.
    assert re.fullmatch(
        r"start: [\dT:.Z-]+, stop: [\dT:.Z-]+\) \|> filter\(fn: \(r\) =>"
        r" [^|]*\) \|> aggregateWindow\(every: \d+ns, fn: [a-z]+,"
        r' createEmpty: false, timeSrc: "_start"\) \|> keep\([^|]*\)'
        r" \|> group\(\)",
        rest,
    )
    for id_ in IDS:
        assert f'r.metric == "{id_}"' in rest
    assert f"start: {flux.time(start)}, stop: {flux.time(stop)}" in rest
    assert f"every: {every}ns, fn: {function}" in rest


def test_no_other_function():
    for function in ("stddev", "mean)", "", "median"):
        with pytest.raises(ValueError, match="not a window function"):
            flux.windows("b", IDS, 0, 1, 1, function)


def test_bounds():
    text = flux.points("b", IDS[:1], None, None)
    assert "start: 1970-01-01T00:00:00.000000000Z" in text
    assert f"stop: {flux.time(schema.MAX_TIME)}" in text
    text = flux.windows("b", IDS[:1], None, None, 60 * 10**9, "mean")
    assert f"stop: {flux.time(schema.last_window(60 * 10**9))}" in text


@given(st.integers(1, 2**60))
def test_the_last_window_ends_in_time(every):
    start = schema.last_window(every)
    assert start % every == 0
    assert start + every <= schema.MAX_TIME < start + 2 * every
