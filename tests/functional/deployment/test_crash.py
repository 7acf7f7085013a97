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
"""InfluxDB crashes, hangs and comes back while measures are written."""

import threading
import time
import urllib.error
import urllib.request

import pytest

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support.by_hand import stored
from tests.support.samples import (
    NS,
    T0,
    fails_with,
    metric,
    policy,
    read,
    write,
)

WRITERS = 4
CRASHES = 5


def bucket_of(driver, a_metric):
    return driver.buckets.name(a_metric.archive_policy)


class Writer(threading.Thread):
    """Writes batches one after the other and knows which were accepted."""

    def __init__(self, driver, index, metrics, may_write):
        super().__init__(daemon=True)
        self.driver, self.index, self.metrics = driver, index, metrics
        self.may_write = may_write
        self.stopped = threading.Event()
        self.accepted = {m: {} for m in metrics}
        self.batches = 0
        self.raised = 0
        self.wrong = []

    def run(self):
        number = 0
        while not self.stopped.is_set():
            self.may_write.wait(1)
            number += 1
            batch = {
                m: {
                    T0 + (number * 100 + i) * NS: number + i / 256
                    for i in range(100)
                }
                for m in self.metrics
            }
            try:
                write(self.driver, batch, self.index)
            except exceptions.UnavailableError:
                self.raised += 1
                time.sleep(0.02)
            except BaseException as e:
                self.wrong.append(e)
                return
            else:
                self.batches += 1
                for m, points in batch.items():
                    self.accepted[m].update(points)


def test_killed_again_and_again(make_conf, fresh_influxd, indexer_driver):
    """What a call returned for is there, and all else raises."""
    driver = InfluxDBStorage(
        make_conf(
            server=fresh_influxd,
            influxdb_retention=False,
            influxdb_max_retries=0,
            influxdb_timeout=5,
        ).storage
    )
    a_policy = policy((10**6, 1))
    may_write = threading.Event()
    may_write.set()
    writers = [
        Writer(
            driver,
            indexer_driver,
            [metric(a_policy) for _ in range(20)],
            may_write,
        )
        for _ in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    try:
        for _ in range(CRASHES):
            before = [w.batches for w in writers]
            deadline = time.monotonic() + 60
            while any(
                w.batches < b + 3 for w, b in zip(writers, before, strict=True)
            ):
                assert not [e for w in writers for e in w.wrong]
                assert time.monotonic() < deadline, "no batch is accepted"
                time.sleep(0.01)
            failures = [w.raised for w in writers]
            fresh_influxd.kill()
            while any(
                w.raised == f for w, f in zip(writers, failures, strict=True)
            ):
                assert not [e for w in writers for e in w.wrong]
                assert time.monotonic() < deadline, "a call hangs"
                time.sleep(0.01)
            # The second start before traffic that the server needs, see
            # test_torn_log.
            may_write.clear()
            fresh_influxd.start()
            fresh_influxd.restart()
            may_write.set()
    finally:
        may_write.set()
        for writer in writers:
            writer.stopped.set()
        for writer in writers:
            writer.join(60)
    assert not any(w.is_alive() for w in writers)
    assert not [e for w in writers for e in w.wrong]
    fresh_influxd.kill()
    fresh_influxd.start()
    for writer in writers:
        assert writer.batches >= 3 * CRASHES
        for m, accepted in writer.accepted.items():
            found = stored(fresh_influxd, bucket_of(driver, m), m)
            # More may be there: what was written before the crash, and
            # not answered any more.
            assert {t: found.get(t) for t in accepted} == accepted


def every_call(driver, index, m):
    # A request that a frozen server had taken is carried out when it wakes
    # up, maybe.
    doomed = metric(m.archive_policy)
    return {
        "write": lambda: write(driver, {m: {T0: 1.0}}, index),
        "read": lambda: read(driver, m, "mean", 1),
        "read points": lambda: read(driver, m, "95pct", 1),
        "delete": lambda: driver._delete_metric(doomed),
        "upgrade": driver.upgrade,
    }


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_each_call_raises_while_it_is_away(
    make_conf, fresh_influxd, indexer_driver, how, monkeypatch
):
    driver = InfluxDBStorage(
        make_conf(
            server=fresh_influxd,
            influxdb_retention=False,
            influxdb_max_retries=1,
            influxdb_timeout=1,
        ).storage
    )
    # A server is back sooner than it is asked to delete again.
    monkeypatch.setattr(driver._deletes.server, "_shortest", 0.0)
    m, new = metric(policy((10**6, 1))), metric(policy((9, 9), name="new"))
    write(driver, {m: {T0: 5.0}}, indexer_driver)
    if how == "killed":
        fresh_influxd.kill()
    else:
        fresh_influxd.freeze()
    try:
        calls = every_call(driver, indexer_driver, m)
        calls["first write"] = lambda: write(
            driver, {new: {T0: 1.0}}, indexer_driver
        )
        for call_ in calls.values():
            with fails_with(exceptions.UnavailableError) as raised:
                call_()
            assert fresh_influxd.url in str(raised.value)
            assert fresh_influxd.token not in str(raised.value)
    finally:
        if how == "frozen":
            fresh_influxd.thaw()
    fresh_influxd.start()
    # The very same driver works again.
    write(driver, {m: {T0 + NS: 2.0}}, indexer_driver)
    assert read(driver, m, "mean", 1)[T0 + NS] == 2.0
    write(driver, {new: {T0: 1.0}}, indexer_driver)
    driver.upgrade()
    driver._delete_metric(m)
    assert stored(fresh_influxd, bucket_of(driver, m), m) == {}


# A server that was killed while it wrote an entry of its write-ahead log. A
# kill hits that moment once in a while; here the log is cut by hand.


def write_40_around_a_torn_log(server, driver, index):
    m = metric(policy((10**6, 1)))
    for i in range(20):
        write(driver, {m: {T0 + i * NS: float(i)}}, index)
    server.kill()
    logs = list(server.directory.rglob("*.wal"))
    if not logs:
        pytest.skip("no write-ahead log to be seen")
    log = max(logs, key=lambda path: path.stat().st_size)
    with log.open("ab") as stream:
        # Type of the entry, its length, and less than that.
        stream.write(b"\x01" + (4096).to_bytes(4, "big") + b"abc" * 20)
    server.start()
    return m


def write_other_20(driver, m, index):
    for i in range(20, 40):
        write(driver, {m: {T0 + i * NS: float(i)}}, index)


def back_up(server):
    """Have all shards sent, as `influx backup` does."""
    for shard in range(1, 100):
        request = urllib.request.Request(
            f"{server.url}/api/v2/backup/shards/{shard}",
            headers={"Authorization": f"Token {server.token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                reply.read()
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return


ALL_40 = {T0 + i * NS: float(i) for i in range(40)}


@pytest.fixture
def torn_driver(make_conf, fresh_influxd):
    return InfluxDBStorage(
        make_conf(server=fresh_influxd, influxdb_retention=False).storage
    )


@pytest.mark.xfail(
    reason="InfluxDB up to 2.9.1 goes on writing behind the torn entry, and"
    " its next start does not read what lies there"
)
def test_torn_log(torn_driver, fresh_influxd, indexer_driver):
    m = write_40_around_a_torn_log(fresh_influxd, torn_driver, indexer_driver)
    write_other_20(torn_driver, m, indexer_driver)
    bucket = bucket_of(torn_driver, m)
    assert stored(fresh_influxd, bucket, m) == ALL_40
    fresh_influxd.restart()
    assert stored(fresh_influxd, bucket, m) == ALL_40


def test_torn_log_and_a_restart_before_traffic(
    torn_driver, fresh_influxd, indexer_driver
):
    """The cure in the documentation."""
    m = write_40_around_a_torn_log(fresh_influxd, torn_driver, indexer_driver)
    fresh_influxd.restart()
    write_other_20(torn_driver, m, indexer_driver)
    fresh_influxd.kill()
    fresh_influxd.start()
    fresh_influxd.restart()
    assert stored(fresh_influxd, bucket_of(torn_driver, m), m) == ALL_40


@pytest.mark.only_2x("a backup of 1.x goes over a port of its own")
def test_torn_log_and_a_backup_after_traffic(
    torn_driver, fresh_influxd, indexer_driver
):
    """The other one: a backup makes the server write all to data files."""
    m = write_40_around_a_torn_log(fresh_influxd, torn_driver, indexer_driver)
    write_other_20(torn_driver, m, indexer_driver)
    back_up(fresh_influxd)
    fresh_influxd.restart()
    assert stored(fresh_influxd, bucket_of(torn_driver, m), m) == ALL_40
