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
"""The driver as it was before there was downsampling, in a process of its own.

It kept the points of a policy for its longest timespan, and the aggregates of
long reads beside them. As a program it is that process: it runs on the
modules of then, and knows nothing of those of today but this one.
"""

import os
import pathlib
import pickle
import subprocess
import sys
import time
from unittest import mock

import numpy
import pytest
from gnocchi import archive_policy, carbonara, indexer, service

ROOT = pathlib.Path(__file__).resolve().parents[2]

#: The last commit without downsampling.
COMMIT = "231a73cfbf94404ef13ca31c7d78fb052ff545f2"

_HOUR = 3600 * 10**9


def check_out(directory):
    """Put the package as it was into a directory; skip where nobody knows it.

    A copy of the sources may be without their history.
    """
    archive = subprocess.run(
        ["git", "archive", COMMIT, "gnocchi_influxdb"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=False,
    )
    if archive.returncode:
        pytest.skip(
            "the history of this checkout does not reach that far back"
        )
    directory.mkdir()
    subprocess.run(
        ["tar", "-x", "-C", directory], input=archive.stdout, check=True
    )


def store(directory, conf, index, a_policy, batches):
    """Store measures with it, and read them.

    :param directory: where `check_out` has put it.
    :param conf: where to store them.
    :param index: Gnocchi's indexer.
    :param batches: for each call a dict {metric id: [(ns, value), ...]}.
    :return: {metric id: {(method, granularity in ns): {ns: value}}}, all that
        it answers in the end.
    """
    names = ("url", "token", "org", "bucket_prefix")
    settings = {
        f"OS_STORAGE__INFLUXDB_{name.upper()}": conf.storage[
            f"influxdb_{name}"
        ]
        for name in names
    }
    wanted = {
        "definition": [
            (
                int(item.points),
                int(item.granularity / numpy.timedelta64(1, "s")),
            )
            for item in a_policy.definition
        ],
        "name": a_policy.name,
        "methods": list(a_policy.aggregation_methods),
        "batches": batches,
    }
    done = subprocess.run(
        [sys.executable, __file__],
        input=pickle.dumps(wanted),
        stdout=subprocess.PIPE,
        env={
            **os.environ,
            **settings,
            "OS_INDEXER__URL": index.conf.indexer.url,
            "OS_STORAGE__DRIVER": "influxdb",
            "OS_STORAGE__INFLUXDB_ROLLUPS": "true",
            "PYTHONPATH": str(directory),
        },
        check=True,
    )
    return pickle.loads(done.stdout)


def _main():
    from gnocchi_influxdb import opts
    from gnocchi_influxdb.storage import InfluxDBStorage

    wanted = pickle.load(sys.stdin.buffer)
    conf = service.prepare_service(
        [], default_config_files=[], skip_log_opts=True
    )
    opts.register(conf.storage)
    driver = InfluxDBStorage(conf.storage)
    assert hasattr(driver, "_rollups")  # It is the one of then.
    driver.upgrade()
    a_policy = archive_policy.ArchivePolicy(
        wanted["name"], 0, wanted["definition"], wanted["methods"]
    )
    metrics = {
        id_: indexer.Metric(id_, a_policy)
        for batch in wanted["batches"]
        for id_ in batch
    }
    index = indexer.get_driver(conf)
    answers = {}
    for batch in wanted["batches"]:
        measures = {}
        for id_, points in batch.items():
            array = numpy.zeros(
                len(points), dtype=carbonara.TIMESERIES_ARRAY_DTYPE
            )
            times, array["values"] = zip(*points, strict=True)
            array["timestamps"] = numpy.array(times).astype("datetime64[ns]")
            measures[metrics[id_]] = array
        # The first as if it came an hour ago: then its aggregates are kept.
        ago = 0 if answers else _HOUR
        then = time.time_ns() - ago
        with mock.patch.object(
            driver.client.clock, "now_ns", return_value=then
        ):
            driver.add_measures_to_metrics(measures, index)
        newest = max(at for of_one in batch.values() for at, _ in of_one)
        answers = _read(driver, metrics, a_policy, newest)
    sys.stdout.buffer.write(pickle.dumps(answers))


def _read(driver, metrics, a_policy, newest):
    answers = {id_: {} for id_ in metrics}
    for item in a_policy.definition:
        # It keeps what it answers of one granularity, with a start.
        found = driver.get_aggregated_measures(
            {
                m: [
                    a
                    for a in a_policy.aggregations
                    if a.granularity == item.granularity
                ]
                for m in metrics.values()
            },
            numpy.datetime64(newest, "ns") - item.timespan,
        )
        for m, of_metric in found.items():
            for a, series in of_metric.items():
                every = int(a.granularity / numpy.timedelta64(1, "ns"))
                times = series.timestamps.astype("datetime64[ns]")
                answers[m.id][a.method, every] = dict(
                    zip(
                        times.astype("int64").tolist(),
                        series.values.tolist(),
                        strict=True,
                    )
                )
    return answers


if __name__ == "__main__":
    _main()
