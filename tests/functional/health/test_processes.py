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
"""gnocchi-api's and gnocchi-metricd's processes, as they are deployed."""

import contextlib
import datetime
import signal
import time

import psutil
import pytest

from gnocchi_influxdb.client import client
from gnocchi_influxdb.health import summary
from tests.functional.deployment import test_uwsgi
from tests.functional.health.test_recorder import lines
from tests.support.by_hand import bucket

pytestmark = pytest.mark.only_2x("the processes are the same")

gnocchi = test_uwsgi.gnocchi


def post(api, metrics):
    connection = api.connection()
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    for metric in metrics:
        test_uwsgi.call(
            connection,
            "POST",
            f"/v1/metric/{metric}/measures",
            [{"timestamp": now.isoformat(), "value": 1.0}],
        )
        test_uwsgi.call(
            connection, "GET", f"/v1/metric/{metric}/measures?refresh=false"
        )
    connection.close()


def test_each_process_writes_a_line(
    gnocchi, tmp_path, influxdb, bucket_prefix, make_conf
):
    """Those that uWSGI and metricd have forked, and they end as before."""
    with test_uwsgi.Api(tmp_path, gnocchi) as api, contextlib.ExitStack() as x:
        gnocchi.start_metricd(x)
        while b"READY=1" not in api.notify.recv(4096):
            pass
        connection = api.connection()
        metrics = [
            test_uwsgi.call(
                connection,
                "POST",
                "/v1/metric",
                {"archive_policy_name": "low"},
            )["id"]
            for _ in range(4)
        ]
        connection.close()
        post(api, metrics)
        deadline = time.monotonic() + 240
        pids, stored = {"api": set(), "metricd": set()}, 0
        while not (pids["api"] and pids["metricd"]) or stored < len(metrics):
            assert time.monotonic() < deadline, (pids, stored)
            time.sleep(1)
            if bucket(influxdb, f"{bucket_prefix}@health") is None:
                continue
            found = lines(influxdb, bucket_prefix)
            stored = sum(line["stored"] for line in found)
            for line in found:
                pids[line["process"]].add(int(line["pid"]))
        assert stored == len(metrics)
        workers = {
            child.pid for child in psutil.Process(api.process.pid).children()
        }
        assert pids["api"] <= workers
        metricd = gnocchi._metricd
        assert pids["metricd"] <= {
            child.pid
            for child in psutil.Process(metricd.pid).children(recursive=True)
        }
        conf = make_conf()
        said = [*summary.lines(client.Client(conf.storage), conf.storage)]
        print(*said, sep="\n")
        assert f"{len(metrics)} stored, 0 refused, 0 queued" in said[1]
        api.process.send_signal(signal.SIGTERM)
        assert api.process.wait(60) == 0
        metricd.stop(60)
        assert metricd.exit_status == 0
    assert "Traceback" not in api.said()
    assert "Traceback" not in gnocchi.logs()
