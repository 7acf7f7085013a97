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
"""The benchmark runs, and all drivers answer the same in it."""

import json
import os
import subprocess
import sys
from xml.etree import ElementTree

import numpy
import pytest

from tests.support import ROOT

_FLOORS = {"raw", "raw-in-a-row"}


def bench(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(ROOT), str(ROOT / "tools" / "lib")]
            ),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def names():
    """Of the workloads: as --list has them."""
    listed = bench("--list")
    assert listed.returncode == 0, listed.stderr
    return [line.split()[0] for line in listed.stdout.splitlines()]


def test_all_workloads(influxdb, indexer_url, names, tmp_path):
    figures, drawing = tmp_path / "bench.json", tmp_path / "bench.svg"
    done = bench(
        "--size=tiny",
        f"--json={figures}",
        f"--svg={drawing}",
        GNOCCHI_INDEXER_URL=indexer_url,
        TMPDIR=str(tmp_path),
        **influxdb.environment(),
    )
    assert done.returncode == 0, done.stdout + done.stderr

    result = json.loads(figures.read_text())
    found = {w["name"]: w for w in result["workloads"]}
    left_out = set(result["left_out"])
    assert list(found) == [name for name in names if name not in left_out]
    assert left_out <= {"redis"} | {n for n in names if "redis" in n}
    drivers = {"file", "redis", "influxdb"} - left_out
    for name, workload in found.items():
        assert workload["same_answers"], workload["differences"]
        assert set(workload["drivers"]) - _FLOORS == drivers, name
        for figure in workload["drivers"].values():
            assert len(figure["rounds"]) == 1
            assert figure["median"] > 0
        assert workload["ratios"].keys() == (
            workload["drivers"].keys() - {"influxdb"}
        )
        assert name in done.stdout
    floors = {
        name: set(workload["drivers"]) & _FLOORS
        for name, workload in found.items()
    }
    assert floors["polling-low"] == {"raw"}
    assert floors["backfill"] == _FLOORS
    assert floors["read-month-mean-100"] == {"raw"}

    texts = {element.text for element in ElementTree.parse(drawing).iter()}
    assert texts >= found.keys()
    # Nothing of it stays.
    assert not list(tmp_path.glob("gnocchi-bench-*"))


def test_postgresql_waits_for_its_disk(influxdb, monkeypatch, tmp_path):
    """Where it is one that the benchmarks have started."""
    monkeypatch.delenv("GNOCCHI_INDEXER_URL", raising=False)
    figures = tmp_path / "bench.json"
    done = bench(
        "polling-low",
        "--size=tiny",
        "--drivers=influxdb",
        f"--json={figures}",
        **influxdb.environment(),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    version = json.loads(figures.read_text())["versions"]["PostgreSQL"]
    assert version.endswith(
        "(fsync on, full_page_writes on, synchronous_commit on)"
    )


@pytest.mark.parametrize(
    ("times", "values", "told"),
    [
        ([1, 2], [1.0, 2 + 1e-12], None),
        ([1, 2], [1.0, 2.1], "values"),
        ([1, 3], [1.0, 2.0], "times"),
        ([1], [1.0], "times"),
        (None, None, "metrics"),
    ],
)
def test_answers_that_differ_are_told(monkeypatch, times, values, told):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.harness import measures

    answer = {"metric": (numpy.array([1, 2]), numpy.array([1.0, 2.0]))}
    other = {"metric": (numpy.array(times), numpy.array(values))}
    if times is None:
        other = {}
    difference = measures.difference(answer, other)
    if told is None:
        assert difference is None
    else:
        assert told in difference


def test_unknown_workload(names):
    done = bench("read-nothing")
    assert done.returncode == 2
    assert "read-nothing" in done.stderr


def test_selection(names):
    done = bench("--list", "read-day-*")
    listed = [line.split()[0] for line in done.stdout.splitlines()]
    assert listed
    assert listed == [n for n in names if n.startswith("read-day-")]
