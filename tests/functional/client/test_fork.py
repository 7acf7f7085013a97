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
"""Processes that were forked with a driver in use, and the end of one."""

import collections
import subprocess
import sys
import threading

import pytest

from gnocchi_influxdb.client import client
from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support import processes, proxy
from tests.support.samples import NS, T0, metric, policy, read, write

CHILDREN = 6
ROUNDS = 15


def test_no_connection_is_shared(make_conf, influxdb, indexer_driver):
    """Connections of the parent are the parent's, also later on."""
    with proxy.Proxy(influxdb.url) as between:
        driver = InfluxDBStorage(
            make_conf(
                influxdb_retention=False, influxdb_url=between.url
            ).storage
        )
        a_policy = policy((10**6, 60))
        metrics = [metric(a_policy) for _ in range(CHILDREN + 1)]
        parents = metrics[-1]
        write(driver, {parents: {T0: 0.0}}, indexer_driver)
        assert len(read(driver, parents, "mean", 60)) == 1

        def use(m, index):
            for i in range(ROUNDS):
                write(driver, {m: {T0 + i * 60 * NS: float(i)}}, index)
                got = read(driver, m, "mean", 60)
                wanted = {T0 + j * 60 * NS: float(j) for j in range(i + 1)}
                assert got == wanted

        done = []
        thread = threading.Thread(
            target=lambda: done.append(use(parents, indexer_driver))
        )
        thread.start()
        outcomes = processes.in_processes(
            CHILDREN,
            lambda i: use(metrics[i], processes.own_indexer(indexer_driver)),
        )
        thread.join()
        assert outcomes == [None] * CHILDREN
        assert done == [None]
    # Whose metrics went over which connection?
    owners = collections.defaultdict(set)
    for request in between.requests:
        for m in metrics:
            if str(m.id).encode() in request.body:
                owners[request.connection].add(m.id)
    assert {len(of_one) for of_one in owners.values()} == {1}
    # And they are kept: the proxy would see one for each request otherwise.
    assert len(owners) < len(between.requests) / 4


def test_a_child_closes_what_it_has_inherited(make_conf):
    """Else a connection that the parent closes stays open."""
    asking = client.Client(make_conf().storage)
    asking.ping()
    (inherited,) = asking._transport._idle

    def use(_):
        asking.ping()
        return inherited.fileno()

    assert processes.in_processes(1, use) == [-1]
    assert inherited.fileno() != -1
    asking.ping()


PROGRAM = """
import sys, uuid
import numpy
from gnocchi import archive_policy, carbonara, indexer
from oslo_config import cfg
from gnocchi_influxdb import opts
from gnocchi_influxdb.client import client
from gnocchi_influxdb.storage import InfluxDBStorage

conf = cfg.ConfigOpts()
conf([])
conf.register_opt(cfg.StrOpt("driver"), group="storage")
conf.register_opt(cfg.StrOpt("driver"), group="incoming")
opts.register(conf.storage)
url, prefix = sys.argv[1:]
settings = dict(
    influxdb_url=url,
    influxdb_token=sys.stdin.read(),
    influxdb_bucket_prefix=prefix,
    influxdb_retention=False,
)
for name, value in settings.items():
    conf.set_override(name, value, "storage")
driver = InfluxDBStorage(conf.storage)
a_policy = archive_policy.ArchivePolicy("p", 0, [(1000, 60)], ["mean"])
m = indexer.Metric(uuid.uuid4(), a_policy)
points = numpy.zeros(10, dtype=carbonara.TIMESERIES_ARRAY_DTYPE)
points["timestamps"] = numpy.arange(10) * numpy.timedelta64(1, "s")
a = a_policy.aggregations[0]
driver._writer.write(*driver.batches([(m, points)]))
print(len(driver.get_aggregated_measures({m: [a]})[m][a]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="seen on Linux only")
def test_no_connection_is_left_open_at_exit(influxdb, bucket_prefix):
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "dev",
            "-W",
            "ignore",
            "-W",
            "always::ResourceWarning",
            "-c",
            PROGRAM,
            influxdb.url,
            bucket_prefix,
        ],
        input=influxdb.token,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1"
    assert "unclosed" not in done.stderr
