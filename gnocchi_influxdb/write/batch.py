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
"""Measures of one archive policy on their way into its bucket.

Grouping, cleaning and sorting happen once, when a batch is made. The circuit
breakers, the writer, the report of failures and the bookkeeping then speak of
whole batches.
"""

import dataclasses
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy

from gnocchi_influxdb.schema import DTYPE, MAX_TIME, Array
from gnocchi_influxdb.wire import line_protocol


class Unstorable(NamedTuple):
    """How many measures of a metric InfluxDB can't hold, and why."""

    metric: uuid.UUID
    not_finite: int
    out_of_time: int


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Points for one bucket. Never changed, so threads may share it.

    :ivar policy: the archive policy of all metrics.
    :ivar bucket: name of its bucket.
    :ivar points: of all metrics, those that can be stored.
    :ivar unstorable: of each metric with measures that can't.
    :ivar measures: number of measures, those that can't be stored included.
    :ivar received: each metric that has received a time, and its measures.
    """

    policy: Any
    bucket: str
    points: line_protocol.PointTable
    unstorable: Sequence[Unstorable] = ()
    measures: int = 0
    received: Sequence[tuple[Any, Array]] = ()

    def part(self, start: int, stop: int) -> "Batch":
        """The points from `start` to before `stop`, without bookkeeping."""
        return Batch(self.policy, self.bucket, self.points.part(start, stop))


def batches(
    measures: Iterable[tuple[Any, Array]], name: Callable[[Any], str]
) -> list[Batch]:
    """Group measures by the archive policy of their metrics.

    :param measures: metrics, each once, and their structured arrays with the
        fields of `schema.DTYPE`, in the order of arrival. Pairs, since a
        metric takes Python code to be a key.
    :param name: gives the name of an archive policy's bucket.
    """
    groups: dict[str, tuple[Any, list[Any], list[tuple[Any, Array]]]] = {}
    policy = None
    for pair in measures:
        metric = pair[0]
        # An attribute of a SQLAlchemy object takes three times as long as
        # the entry of its __dict__.
        loaded = metric.__dict__
        of_metric = loaded.get("archive_policy") or metric.archive_policy
        # Most have the policy of the one before.
        if policy is not of_metric:
            policy = of_metric
            _, ids, received = groups.setdefault(policy.name, (policy, [], []))
        ids.append(loaded.get("id") or metric.id)
        received.append(pair)
    made = []
    for policy, ids, received in groups.values():
        arrays = [array for _, array in received]
        points, unstorable = clean(ids, arrays)
        counts = list(map(len, arrays))
        if unstorable or not all(counts):
            suspects = {one.metric for one in unstorable}
            received = [
                (metric, array)
                for metric, array in received
                if len(array)
                and not (
                    metric.id in suspects
                    and numpy.isnat(array["timestamps"]).all()
                )
            ]
        made.append(
            Batch(
                policy,
                name(policy),
                points,
                unstorable,
                sum(counts),
                received,
            )
        )
    return made


def clean(
    ids: list[uuid.UUID], arrays: Sequence[Array]
) -> tuple[line_protocol.PointTable, list[Unstorable]]:
    """Bring measures into the order and shape in which they are written.

    Sorted by time, since InfluxDB sets memory aside for a whole batch in
    each shard that the batch touches. The last of several measures of one
    metric at one time stays. Measures that InfluxDB can't hold (NaN,
    infinities, times that it can't express or that lie before 1970) are left
    out.

    :param ids: of metrics, each once.
    :param arrays: of each of them, a structured array with the fields
        `timestamps` (datetime64[ns]) and `values` (float64), in the order of
        arrival. They are not changed.
    """
    counts = [len(array) for array in arrays]
    # At once for all metrics: there are often thousands with a point each.
    # Joined as bytes, since numpy takes 3 us to see that two structured
    # arrays are of the same type.
    dtype = DTYPE
    joined = numpy.frombuffer(
        b"".join([numpy.asarray(a, dtype).tobytes() for a in arrays]), dtype
    )
    metrics = numpy.arange(len(ids))
    # Then no metric has points to be brought in order or to be left out.
    one_each = counts.count(1) == len(ids)
    if not one_each:
        metrics = numpy.repeat(metrics, counts)
    times = joined["timestamps"].copy().view("int64")
    values = joined["values"].copy()
    finite = numpy.isfinite(values)
    # NaT is the smallest integer.
    in_time = (times >= 0) & (times <= MAX_TIME)
    good = finite & in_time
    unstorable = []
    if not good.all():
        not_finite = numpy.bincount(metrics[~finite], minlength=len(ids))
        out_of_time = numpy.bincount(
            metrics[finite & ~in_time], minlength=len(ids)
        )
        unstorable = [
            Unstorable(ids[i], int(not_finite[i]), int(out_of_time[i]))
            for i in numpy.unique(metrics[~good]).tolist()
        ]
        metrics, times, values = metrics[good], times[good], values[good]
    if not (
        one_each
        or ((times[1:] > times[:-1]) | (metrics[1:] > metrics[:-1])).all()
    ):
        order = numpy.lexsort((times, metrics))  # stable
        metrics, times, values = metrics[order], times[order], values[order]
        last = numpy.ones(len(times), dtype=bool)
        last[:-1] = (times[1:] != times[:-1]) | (metrics[1:] != metrics[:-1])
        metrics, times, values = metrics[last], times[last], values[last]
    if not (times[1:] >= times[:-1]).all():
        order = numpy.argsort(times, kind="stable")
        metrics, times, values = metrics[order], times[order], values[order]
    prefixes = [line_protocol.prefix(id_.int) for id_ in ids]
    return (
        line_protocol.PointTable(metrics, times, values, prefixes, ids),
        unstorable,
    )
