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

"""Downsampling changes no answer, whatever happens and whenever."""

import contextlib
import random
import time

import numpy
import pytest

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.buckets import watermark
from gnocchi_influxdb.client import clock
from gnocchi_influxdb.downsampling import source
from gnocchi_influxdb.write import delivery
from tests.functional.downsampling import passes
from tests.functional.downsampling.passes import DAY, HOUR, MINUTE
from tests.support import proxy
from tests.support.clock import Host
from tests.support.samples import METHODS, NS, at, measures, metric, policy

GRANULARITIES = [1, 10, MINUTE, 5 * MINUTE, HOUR, 4 * HOUR, DAY]
STEPS = 4


def random_policy(chance):
    granularities = sorted(
        chance.sample(GRANULARITIES, chance.choice([1, 2, 2, 3, 3]))
    )
    return policy(
        *(
            # Windows that expire while they are in the answer of a metric
            # that has stopped are another matter.
            (
                chance.choice([5, 50, 500]) * max(1, HOUR // every)
                + (every > granularities[0]) * 8 * DAY // every,
                every,
            )
            for every in granularities
        ),
        methods=chance.sample(METHODS, 5),
    )


class Points:
    """Batches of measures as they come: in order, late, or again."""

    def __init__(self, chance, finest):
        self.chance = chance
        self.now = passes.now()
        self.newest = self.now - chance.choice([HOUR, DAY, 3 * DAY]) * NS
        self.every = finest * NS
        self.seen = [self.newest]

    def batch(self):
        kind = self.chance.choice(["next", "next", "late", "again"])
        if kind == "again":
            times = self.chance.sample(self.seen, min(5, len(self.seen)))
        elif kind == "late":
            start = self.now - NS * int(
                self.chance.choice([MINUTE, HOUR, DAY, 4 * DAY])
                * self.chance.uniform(0.1, 1)
            )
            step = self.chance.choice([self.every, 7 * MINUTE * NS, NS // 7])
            times = [
                start + i * step for i in range(self.chance.randint(1, 9))
            ]
        else:
            number = self.chance.choice([1, 10, 150])
            step = max(self.every, 20 * NS) * self.chance.choice([1, 3])
            times = [self.newest + i * step for i in range(1, number)]
            self.newest = max([self.newest, *times])
        times = [each for each in times if each < self.now]
        self.seen += times
        return {each: self.chance.uniform(-1e3, 1e3) for each in times}


class Trouble:
    """Fails some of the writes to buckets of windows, or to any.

    :ivar odds: of a failure.
    """

    odds = 0.0

    def __init__(self, chance):
        self.chance = chance

    def before(self, request):
        windows = "%40" in request.path or "@" in request.path
        if (
            "/write" in request.path
            and request.body
            and self.chance.random() < self.odds * (1 if windows else 0.3)
        ):
            return proxy.answer("503 Service Unavailable")
        return None

    def after(self, request, answer):
        # It is stored, and nobody knows.
        if (
            "/write" in request.path
            and request.body
            and self.chance.random() < self.odds * 0.3
        ):
            return proxy.answer("503 Service Unavailable")
        return answer


def offer(driver, batch, index, trouble):
    """Write a batch as metricd does: again and again until it is stored."""
    wanted = {m: measures(points) for m, points in batch.items() if points}
    if not wanted:
        return
    is_stored = False
    while not is_stored:
        with contextlib.suppress(exceptions.UnavailableError):
            driver.add_measures_to_metrics(wanted, index)
            is_stored = True
        if not is_stored:
            yield
            trouble.odds *= 0.9


def random_read(chance, points, a_policy):
    """A range, a resampling and aggregations of a read."""
    start, stop = sorted(
        chance.choice([points.now - chance.randint(0, 5 * DAY) * NS, each])
        for each in chance.choices(points.seen, k=2)
    )
    start = chance.choice([None, start])
    stop = chance.choice([None, stop])
    granularity = chance.choice(a_policy.definition).granularity
    aggregations = [
        a for a in a_policy.aggregations if a.granularity == granularity
    ]
    sampling = chance.choice([None, chance.randint(2, 30) * granularity])
    if sampling is None:
        aggregations = None
    return (at(start), at(stop), sampling), aggregations


@pytest.mark.parametrize("seed", range(9))
def test_no_answer_depends_on_downsampling(
    seed, make_driver, model, influxdb, indexer_driver, monkeypatch
):
    chance = random.Random(seed)
    most = chance.choice([50, 500, 10**6])
    monkeypatch.setattr(source, "_IN_FLUX", most)
    monkeypatch.setattr(source, "_IN_INFLUXQL", most)
    settles = seed % 3 == 2
    if settles:
        # Marks are pending for minutes, and all is late here: windows would
        # hardly ever be answered as they are stored.
        monkeypatch.setattr(watermark, "SKEW", 3)
        monkeypatch.setattr(delivery, "LONGEST", 0)
        monkeypatch.setattr(delivery, "MARKED", 0.02)
    host = Host(chance.choice([0, 0, -3 * HOUR, 5 * HOUR]))
    monkeypatch.setattr(clock, "time", host)
    trouble = Trouble(chance)
    a_policy = random_policy(chance)
    metrics = [metric(a_policy) for _ in range(3)]
    points = Points(chance, finest_of(a_policy))
    languages = ["auto", "influxql"]
    if influxdb.release == 2:
        languages.append("flux")
    with proxy.Proxy(influxdb.url, trouble.before, trouble.after) as between:
        writer = make_driver(influxdb_url=between.url)
        worker = make_driver(
            influxdb_url=between.url,
            influxdb_query_language=chance.choice(languages),
        )
        readers = [
            make_driver(influxdb_query_language=language)
            for language in languages
        ]
        stale = make_driver()

        def compare():
            reader = chance.choice(readers)
            reader.buckets.watermarks.forget()
            span, wanted = random_read(chance, points, a_policy)
            for one in reader, stale:
                passes.assert_same(one, model, metrics)
                passes.assert_same(one, model, metrics, *span, wanted=wanted)

        for _ in range(STEPS):
            trouble.odds = chance.choice([0, 0, 0.3])
            if chance.random() < 0.2:
                host.ahead += chance.choice([-1, 1]) * chance.choice([5, HOUR])
            batch = {
                m: points.batch()
                for m in chance.sample(metrics, chance.randint(0, 2))
            }
            for _failed in offer(writer, batch, indexer_driver, trouble):
                if chance.random() < 0.3:
                    compare()
            compare()
            if settles:
                time.sleep(4.5)
            with contextlib.suppress(exceptions.UnavailableError):
                passes.run(
                    worker,
                    a_policy,
                    chance.choice([None, None, points.now - DAY * NS]),
                    chance.choice([None, None, 1, 3]),
                )
            compare()
        trouble.odds = 0
        if settles:
            time.sleep(4.5)
        passes.run(worker, a_policy)
        compare()


def finest_of(a_policy):
    """The finest granularity in whole seconds."""
    finest = min(d.granularity for d in a_policy.definition)
    return int(finest / numpy.timedelta64(1, "s"))
