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
"""Measures that become batches."""

import uuid

import numpy

from gnocchi_influxdb import schema
from gnocchi_influxdb.write import batch


class Policy:
    def __init__(self, name):
        self.name = name


class Metric:
    def __init__(self, policy):
        self.id = uuid.uuid4()
        self.archive_policy = policy


def measures(*seconds):
    """Of these times; None is NaT."""
    made = numpy.zeros(len(seconds), dtype=schema.DTYPE)
    made["timestamps"] = [
        numpy.datetime64("NaT" if s is None else s * 10**9, "ns")
        for s in seconds
    ]
    return made


def test_a_batch_for_each_policy():
    low, high = Policy("low"), Policy("high")
    metrics = [Metric(policy) for policy in (low, high, low, high, high)]
    pairs = [(metric, measures(9, 3, 9)) for metric in metrics]
    made = batch.batches(pairs, lambda policy: f"b-{policy.name}")
    assert [(one.policy, one.bucket) for one in made] == [
        (low, "b-low"),
        (high, "b-high"),
    ]
    assert [list(one.received) for one in made] == [
        pairs[::2][:2],
        [pairs[1], *pairs[3:]],
    ]
    assert [one.points.ids for one in made] == [
        [metric.id for metric, _ in one.received] for one in made
    ]
    assert [one.measures for one in made] == [6, 9]
    assert [len(one.points) for one in made] == [4, 6]


def test_metrics_without_a_time_have_received_nothing():
    low = Policy("low")
    none, nat, mixed, good = (Metric(low) for _ in range(4))
    (made,) = batch.batches(
        [
            (none, measures()),
            (nat, measures(None, None)),
            (mixed, measures(None, 4, None)),
            (good, measures(1)),
        ],
        lambda policy: policy.name,
    )
    assert [metric for metric, _ in made.received] == [mixed, good]
    assert made.unstorable == [(nat.id, 0, 2), (mixed.id, 0, 2)]
    assert made.measures == 6
    assert len(made.points.ids) == 4
