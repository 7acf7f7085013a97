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
"""How much work a run does."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Amounts.

    :ivar rounds: each workload runs once a round, with each driver in turn.
    :ivar metrics: metrics that are polled.
    :ivar in_sack: metrics of a sack, where that is what differs.
    :ivar batch: metrics that one call of the driver brings.
    :ivar passes: measures that each metric gets at least in a round of
        polling, each pass timed by itself.
    :ivar history: measures that each metric has before that.
    :ivar backfill: metrics that are filled, with `backfill_points` each.
    :ivar posts: POSTs a round.
    :ivar posted: metrics in a POST.
    :ivar reads: metrics that a read is for.
    :ivar read_days: days of history that they have, a measure each 5 minutes.
    :ivar settles: whether drivers get the time that they want after that.
    :ivar repeats: passes and reads a round, at most.
    :ivar budget: seconds that passes and reads may take in a round before
        there are no more of them.
    """

    rounds: int
    metrics: int
    in_sack: tuple[int, ...]
    batch: int
    passes: int
    history: int
    backfill: int
    backfill_points: int
    posts: int
    posted: int
    reads: tuple[int, ...]
    read_days: int
    settles: bool
    repeats: int
    budget: float


FULL = Sizes(
    rounds=5,
    metrics=1000,
    in_sack=(8, 500),
    batch=100,
    passes=3,
    history=12,
    backfill=100,
    backfill_points=288,
    posts=10,
    posted=50,
    reads=(1, 50, 100),
    read_days=30,
    settles=True,
    repeats=30,
    budget=2,
)
QUICK = dataclasses.replace(
    FULL, rounds=3, metrics=500, passes=1, backfill=50, posts=5, budget=0.5
)
#: To see that it works at all.
TINY = dataclasses.replace(
    FULL,
    rounds=1,
    metrics=6,
    in_sack=(1, 2),
    batch=3,
    passes=2,
    history=3,
    backfill=2,
    backfill_points=30,
    posts=1,
    posted=3,
    reads=(1, 2, 3),
    read_days=2,
    settles=False,
    repeats=2,
    budget=0,
)

BY_NAME = {"full": FULL, "quick": QUICK, "tiny": TINY}
