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
"""What is kept of the reads of an archive policy's metrics."""

import itertools
import operator
import uuid

import numpy
import pytest
from gnocchi import archive_policy, indexer

from gnocchi_influxdb.aggregation import span
from gnocchi_influxdb.read import plan
from gnocchi_influxdb.rollups import rollup_choice

NS = 10**9
DAY = 86400
NOW = 20300 * DAY * NS

GRANULARITY = operator.attrgetter("granularity")
METHODS = "mean", "last", "rate:mean", "rate:max", "std", "95pct"


def policy(granularities, methods):
    # None longer than numpy can say.
    definition = [
        (min(10**4, 10**9 // granularity), granularity)
        for granularity in granularities
    ]
    return archive_policy.ArchivePolicy("p", 0, definition, methods)


@pytest.mark.parametrize(
    ("granularities", "methods", "is_kept"),
    [
        # As Ceilometer has them.
        ([300], ["mean"], False),
        ([300], ["mean", "rate:mean"], False),
        ([1, 60, 3600], ["mean", "rate:mean"], True),
        # As Gnocchi has them.
        ([300], ["mean", "min", "max", "sum", "std", "count"], True),
        ([1], ["last"], False),
        ([300, 1199], ["mean"], False),
        ([300, 1200], ["mean"], True),
        ([300], ["rate:max"], False),
        ([300], ["95pct"], True),
        # Longer than a page.
        ([DAY, 29 * DAY], ["mean"], False),
        ([29 * DAY], ["std"], False),
    ],
)
def test_what_is_ever_kept(granularities, methods, is_kept):
    assert (
        rollup_choice.is_ever_kept(policy(granularities, methods)) is is_kept
    )


class Buckets:
    def name(self, policy):
        return "bucket"

    def retention(self, policy):
        return 0


@pytest.mark.parametrize(
    "granularities", [[300], [300, 1199], [300, 1200], [60, 300, 3600], [DAY]]
)
@pytest.mark.parametrize("number", [1, 2])
def test_what_is_never_kept_needs_no_marks(granularities, number):
    """Of some policies no read is kept, whatever it asks for."""
    answers = set()
    for methods in itertools.combinations(METHODS, number):
        a_policy = policy(granularities, methods)
        is_kept = rollup_choice.is_ever_kept(a_policy)
        assert is_kept == any(
            rollup_choice.split(job, NOW) for job in jobs(a_policy)
        )
        answers.add(is_kept)
    assert True in answers


def jobs(a_policy):
    """Reads of all that a policy has, and of each granularity alone."""
    metrics = [indexer.Metric(uuid.uuid4(), a_policy) for _ in range(30)]
    aggregations = sorted(a_policy.aggregations, key=GRANULARITY)
    by_granularity = [
        list(some) for _, some in itertools.groupby(aggregations, GRANULARITY)
    ]
    for wanted, finest in itertools.product(
        [aggregations, *by_granularity], map(GRANULARITY, aggregations)
    ):
        start = NOW - 200 * int(finest / numpy.timedelta64(1, "ns"))
        asked = span.Span(start, NOW, None)
        drafts = plan.draft(
            Buckets(), dict.fromkeys(metrics, wanted), asked, NOW
        )
        yield from plan.make(drafts, asked, {m.id: NOW for m in metrics})
