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
"""Many processes write at once, and metrics are deleted meanwhile."""

import contextlib
import itertools
import threading
import uuid

import pytest
from gnocchi import archive_policy, incoming, indexer
from servers import api

from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support import samples
from tests.support.by_hand import stored
from tests.support.cloud import Cloud
from tests.support.processes import in_processes
from tests.support.samples import NS, recent, write

PROCESSES = 8


@pytest.fixture
def cloud(make_conf):
    made = Cloud(make_conf())
    yield made
    made.close()


def test_processes_write_the_same_metrics_and_new_policies(cloud, influxdb):
    """Nothing is lost, and there is no error."""
    now = recent(600) // NS * NS
    shared = cloud.metrics(30) + cloud.metrics(30, "high")
    names = [f"new {uuid.uuid4()}" for _ in range(4)]
    for name in names:
        cloud.index.create_archive_policy(
            archive_policy.ArchivePolicy(name, 0, [(9999, 60)], ["mean"])
        )
    # Metrics of policies that nobody has written to yet.
    new = [m for name in names for m in cloud.metrics(5, name)]
    (idle,) = cloud.metrics(1, names[0])
    before = last_measures(cloud)

    def work(process):
        index = indexer.get_driver(cloud.conf)
        driver = InfluxDBStorage(cloud.conf.storage)
        with contextlib.ExitStack() as exits:
            exits.callback(index.disconnect)
            for batch in range(6):
                # At times of its own, and at one that all share.
                points = {
                    m: {
                        now + (batch * PROCESSES + process) * NS: process
                        + 0.5,
                        now - (1 + batch) * NS: float(batch),
                    }
                    for m in itertools.chain(
                        # In another order in each process.
                        (shared + new)[process * 7 :],
                        (shared + new)[: process * 7],
                    )
                }
                write(driver, points, index)
        return None

    assert in_processes(PROCESSES, work) == [None] * PROCESSES
    wanted = {now - (1 + batch) * NS: float(batch) for batch in range(6)} | {
        now + (batch * PROCESSES + process) * NS: process + 0.5
        for batch in range(6)
        for process in range(PROCESSES)
    }
    for m in shared + new:
        assert stored(influxdb, cloud.bucket(m), m) == wanted
    after = last_measures(cloud)
    assert after[idle.id] == before[idle.id]
    assert all(after[m.id] > before[m.id] for m in shared + new)


def last_measures(cloud):
    return {m.id: m.last_measure_timestamp for m in cloud.index.list_metrics()}


def test_janitor_while_others_write(cloud, influxdb):
    """200 of 2,000 metrics are deleted: they are gone, the rest complete."""
    metrics = cloud.metrics(2000)
    doomed, kept = metrics[::10], [m for i, m in enumerate(metrics) if i % 10]
    now = recent(3000) // NS * NS
    rounds = itertools.count()
    state = threading.Condition()
    accepted, wrong, stop = [], [], threading.Event()

    def writer():
        # As the API does: whoever is not there any more is left out.
        while not stop.is_set():
            number = next(rounds)
            at = samples.at(now + number * NS)
            try:
                cloud.incoming.add_measures_batch(
                    {
                        m.id: [incoming.Measure(at, float(number))]
                        for m in metrics
                    }
                )
            except BaseException as e:
                wrong.append(e)
            with state:
                accepted.append(number)
                state.notify_all()

    def wait_for_a_round():
        with state:
            # The second one from now on has begun after now.
            wanted = len(accepted) + len(threads) + 1
            assert state.wait_for(lambda: len(accepted) >= wanted, 60)

    threads = [threading.Thread(target=writer, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        wait_for_a_round()
        cloud.mark_deleted(doomed)
        # Whoever still took them for alive has written.
        wait_for_a_round()
        cloud.chef.expunge_metrics(10000, sync=True)
        wait_for_a_round()
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert wrong == []
    assert cloud.incoming.measures_report(False)["summary"]["measures"] == 0
    found = all_stored(influxdb, cloud.bucket(metrics[0]))
    wanted = {now + number * NS: float(number) for number in accepted}
    assert found == {str(m.id): wanted for m in kept}
    assert cloud.index.list_metrics(status="delete") == []


def all_stored(server, bucket):
    """{metric: {ns: value}} of a bucket."""
    database, _, retention_policy = bucket.partition("/")
    return {
        series["tags"]["metric"]: dict(series["values"])
        for series in api.influxql(
            server.url,
            server.token,
            "SELECT value FROM measure GROUP BY metric",
            db=database,
            rp=retention_policy,
            epoch="ns",
        )
    }
