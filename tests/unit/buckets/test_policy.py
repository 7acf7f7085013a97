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
"""Names, retentions and shards of buckets."""

import itertools
import re

import numpy
import pytest
from gnocchi import archive_policy
from hypothesis import example, given
from hypothesis import strategies as st

from gnocchi_influxdb.buckets import policy as policies
from gnocchi_influxdb.buckets import shards

HOUR = 3600
DAY = 24 * HOUR
LONGEST = 9223372036

names = st.text(min_size=1, max_size=255)
prefixes = st.from_regex(
    r"([A-Za-z0-9.-][A-Za-z0-9_.-]{0,20})?", fullmatch=True
)


@given(prefixes, names)
@example("", "_monitoring")
def test_names_are_safe(prefix, policy):
    name = policies.name(prefix, policy)
    assert re.fullmatch(r"[A-Za-z0-9_.%-]+", name)
    assert not name.startswith("_")
    assert name.startswith(prefix)


@given(prefixes, names, names)
@example("", "_a", "%5Fa")
@example("", "a/b", "a%2Fb")
@example("p-", "é", "Ã©")
@example("p-", "%", "%25")
def test_no_two_policies_share_a_bucket(prefix, one, other):
    if one != other:
        assert policies.name(prefix, one) != policies.name(prefix, other)


def _unescaped(prefix, name):
    return re.sub(
        rb"%([0-9A-F]{2})",
        lambda match: bytes([int(match[1], 16)]),
        name.removeprefix(prefix).encode(),
    ).decode("utf-8", "surrogatepass")


@given(prefixes, st.text(st.characters(), min_size=1, max_size=50))
def test_a_name_can_be_read_back(prefix, policy):
    assert _unescaped(prefix, policies.name(prefix, policy)) == policy


# Of a retention policy: database, slash, and perhaps the start of its name.
prefixes_1x = st.from_regex(
    r"[A-Za-z0-9.-][A-Za-z0-9_.-]{0,20}/[A-Za-z0-9_.-]{0,20}", fullmatch=True
)


@given(prefixes_1x, st.text(max_size=255))
@example("gnocchi/", "")
@example("gnocchi/", "..")
@example("gnocchi/.", ".")
@example("gnocchi/", "日" * 255)
def test_names_of_retention_policies(prefix, policy):
    database, _, name = policies.name(prefix, policy).partition("/")
    assert database == prefix.partition("/")[0]
    assert re.fullmatch(r"[A-Za-z0-9_.%-]{1,255}", name)
    # It is that of a directory.
    assert name.strip(".")


@given(prefixes_1x, st.text(max_size=255), st.text(max_size=255))
@example("gnocchi/", "", "%")
@example("gnocchi/", ".", "%2E")
@example("gnocchi/", "日" * 254 + "a", "日" * 254 + "b")
def test_no_two_policies_share_a_retention_policy(prefix, one, other):
    if one != other:
        assert policies.name(prefix, one) != policies.name(prefix, other)


def test_usual_names_stay_as_they_are():
    for policy in ("low", "high", "bool", "ceilometer-low-rate", "a_b.c-1"):
        assert policies.name("gnocchi-", policy) == f"gnocchi-{policy}"
        assert policies.name("gnocchi/", policy) == f"gnocchi/{policy}"


def items(*definition):
    return [
        archive_policy.ArchivePolicyItem(granularity=g, timespan=t)
        for g, t in definition
    ]


def item(granularity, points):
    try:
        return archive_policy.ArchivePolicyItem(
            granularity=granularity, points=points
        )
    except OverflowError:
        # From numpy 2.5 on; before, such a timespan was any number.
        made = archive_policy.ArchivePolicyItem(
            granularity=granularity, points=1
        )
        made["points"] = points
        return made


@given(
    st.lists(
        st.tuples(st.integers(1, 10**6), st.integers(1, 10**5)),
        min_size=1,
        max_size=5,
    )
)
def test_retention_holds_each_definition(pairs):
    retention = policies.retention(itertools.starmap(item, pairs))
    longest = max(g * p for g, p in pairs)
    coarsest = max(g for g, _ in pairs)
    if longest + coarsest > LONGEST:
        assert retention == 0
    else:
        assert retention == max(longest + coarsest, HOUR)


def test_retention_at_its_limits():
    assert policies.retention(items((1, 1))) == HOUR
    assert policies.retention(items((1, HOUR - 1))) == HOUR
    assert policies.retention(items((1, HOUR))) == HOUR + 1
    assert policies.retention(items((0.25, HOUR))) == HOUR + 1
    assert policies.retention(items((1, LONGEST - 1))) == LONGEST
    assert policies.retention(items((1, LONGEST))) == 0
    assert policies.retention(items((1, 60), (60, None))) == 0


@given(st.integers(HOUR, LONGEST))
def test_shards(retention):
    shard = shards.duration(retention)
    assert HOUR <= shard <= retention
    # Some tens of them, and of one that is kept for decades more.
    assert retention <= 60 * shard or shard == 84 * DAY
    assert retention <= 6 * HOUR or retention >= 4 * shard


def test_shards_of_what_never_expires():
    assert shards.duration(0) == 84 * DAY


@given(st.integers(0, 2**63 - 2), st.sampled_from([HOUR, DAY, 7 * DAY]))
def test_start_of_a_shard(ns, duration):
    (start,) = shards.starts(numpy.array([ns]), duration)
    since_year_1 = ns // 10**9 + 62135596800
    assert start % duration == 0
    assert start <= since_year_1 < start + duration


def test_year_1():
    seconds = numpy.datetime64("1970-01-01", "s") - numpy.datetime64(
        "0001-01-01", "s"
    )
    starts = shards.starts(numpy.array([0]), 1)
    assert starts.tolist() == [seconds.astype(int)]


@pytest.mark.parametrize(
    ("one", "other", "is_longer"),
    [
        (2, 1, True),
        (1, 2, False),
        (1, 1, False),
        (0, 1, True),
        (1, 0, False),
        (0, 0, False),
    ],
)
def test_longer(one, other, is_longer):
    assert policies.longer(one, other) == is_longer


@given(st.lists(st.integers(0, 100), min_size=3, max_size=3))
def test_longer_is_an_order(durations):
    a, b, c = durations
    for x, y in itertools.permutations(durations, 2):
        assert not (policies.longer(x, y) and policies.longer(y, x))
    if policies.longer(a, b) and policies.longer(b, c):
        assert policies.longer(a, c)


def test_bounds_of_shards():
    times = numpy.array([0, 1, DAY - 1, DAY, 3 * DAY, 3 * DAY]) * 10**9
    assert shards.bounds(times, DAY) == [0, 3, 4, 6]
    assert shards.bounds(times[:1], DAY) == [0, 1]


definitions = st.lists(
    st.tuples(
        st.integers(1, 10**4),
        st.sampled_from([1, 60, 300, HOUR, DAY]),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda item: item[1],
)


def of_definitions(items, *, rates=False, expire=True, slack=2 * DAY):
    return policies.buckets(
        "p-",
        "low",
        tuple(
            policies.Definition(
                every * 10**9,
                points,
                numpy.timedelta64(points * every, "s"),
            )
            for points, every in sorted(items, key=lambda item: item[1])
        ),
        rates,
        expire,
        slack,
    )


@given(definitions, st.booleans(), st.integers(HOUR, 30 * DAY))
def test_what_is_taken_can_be_computed(items, rates, slack):
    found = of_definitions(items, rates=rates, slack=slack)
    finest, *coarser = sorted(every for _points, every in items)
    assert [one.every for one in found.windows] == [
        every * 10**9 for every in coarser
    ]
    assert found.moved.every == finest * 10**9
    names = [found.points.name, found.moved.name]
    names += [one.name for one in found.windows]
    assert len(set(names)) == len(items) + 1
    if not coarser:
        assert found.taken == 0
        return
    # All points of the window of the oldest measure that is taken are there
    # for half of the slack, and for a rate those of the window before.
    reach = coarser[-1] * (2 if rates else 1)
    oldest = found.taken / 10**9 + reach
    assert found.points.retention - oldest >= slack / 2 - 1
    for one in found.windows:
        timespan = max(p * e for p, e in items if e * 10**9 == one.every)
        assert one.retention >= timespan + one.every // 10**9


@given(definitions, st.booleans())
def test_without_downsampling_points_are_kept_for_the_longest(items, rates):
    found = of_definitions(items, rates=rates, slack=None)
    assert found.windows == ()
    assert found.taken == 0
    assert found.points.retention >= max(p * e for p, e in items)


@given(definitions)
def test_for_ever(items):
    found = of_definitions(items, expire=False)
    assert found.taken == 0
    assert {found.points.retention} == {0}
    assert all(one.retention == 0 for one in found.windows)


@pytest.mark.parametrize(
    ("every", "suffix"),
    [(10**9, "@1s"), (10**8, "@0.1s"), (86400 * 10**9, "@86400s")],
)
def test_names_of_windows(every, suffix):
    name = policies.downsampled_name("p-", "low", every)
    assert name == f"p-low{suffix}"
