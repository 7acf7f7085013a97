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
"""Which reads are worth to keep (pure).

What a policy never has kept needs no marks either (`is_ever_kept`). So who
lets more be kept one day must see to it that nothing counts that was computed
while other hosts did not mark it yet.
"""

from typing import Any

from gnocchi_influxdb import schema
from gnocchi_influxdb.aggregation import methods, rates
from gnocchi_influxdb.rollups import rollup_lines, rollup_response, rollups

# For fewer blocks it is not worth a request: of each metric, and of all.
_LEAST_BLOCKS = 4
_LEAST_BLOCKS_OF_ALL = 20
# Windows of a read, and of each of its metrics, at most: they are all set
# aside, whether there are points or not.
_MOST_WINDOWS = 5 * 10**6
_MOST_WINDOWS_OF_METRIC = 50000


def is_ever_kept(policy: Any) -> bool:
    """Whether any read of an archive policy's metrics may be kept.

    Neither the granularities nor the methods of a policy change.
    """
    granularities = [schema.ns_of(d.granularity) for d in policy.definition]
    least = _least_granularity(
        granularities,
        any(map(_is_from_points_alone, policy.aggregation_methods)),
    )
    return any(least <= every <= rollup_lines.PAGE for every in granularities)


def _is_from_points_alone(method: str) -> bool:
    """Whether a fine granularity is no reason to compute it anew."""
    return not (methods.is_pushed_down(method) or methods.is_rate(method))


def _least_granularity(granularities: list[int], from_points: bool) -> int:
    """Of what is kept, ns.

    :param granularities: those of the policy.
    :param from_points: whether one of the methods is `_is_from_points_alone`.
    """
    finest = min(granularities)
    return finest if from_points else rates.DENSE * finest


def split(job: Any, now: int) -> list[rollups.Rolled]:
    """A read for each granularity of a job.

    :param now: ns since the epoch.
    :return: none if the job is better read as it is.
    """
    granularities: dict[Any, list[Any]] = {}
    for a in job.aggregations:
        granularities.setdefault(a.granularity, []).append(a)
    found = []
    for aggregations in granularities.values():
        ranges = {job.windows[a] for a in aggregations}
        start, stop = ranges.pop()
        blocks = _blocks(job, aggregations, start, stop, now)
        # Of a rate that is resampled another range is read.
        if start is None or blocks is None or ranges:
            return []
        found.append(
            rollups.Rolled(job, aggregations, blocks, start, stop, now)
        )
    return found


def _blocks(
    job: Any,
    aggregations: list[Any],
    start: int | None,
    stop: int | None,
    now: int,
) -> rollup_response.Range | None:
    """The blocks of a range, if it is worth to keep them."""
    every = schema.ns_of(aggregations[0].granularity)
    if start is None or every > rollup_lines.PAGE:
        return None
    definition = job.metrics[0].archive_policy.definition
    if every < _least_granularity(
        [schema.ns_of(d.granularity) for d in definition],
        any(_is_from_points_alone(a.method) for a in aggregations),
    ):
        return None
    span = rollup_lines.span(every)
    first = schema.floor(start, span)
    end = schema.ceil(now if stop is None else min(stop, now), span)
    number = (end - first) // span
    windows = number * rollup_lines.windows(every)
    if (
        number < _LEAST_BLOCKS
        or number * len(job.metrics) < _LEAST_BLOCKS_OF_ALL
        or windows > _MOST_WINDOWS_OF_METRIC
        or windows * len(job.metrics) > _MOST_WINDOWS
    ):
        return None
    has_rates = any(methods.is_rate(a.method) for a in aggregations)
    return rollup_response.Range(
        every, first, number, every if has_rates else 0
    )
