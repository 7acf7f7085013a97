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
"""A short run of tools/soak: its load and its trouble, and its checks."""

import json
import subprocess
import sys

import pytest
from soak import ledger

from tests.conftest import TOOLS


def test_a_minute(monkeypatch, fresh_influxd):
    # It starts an InfluxDB of its own; this one only says that it can.
    fresh_influxd.stop()
    monkeypatch.setenv("PYTHONPATH", str(TOOLS))
    done = subprocess.run(
        [sys.executable, "-m", "soak", "--minutes", "1", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    summary = json.loads(done.stdout)
    assert summary["ok"] is True
    assert summary["wrong"] == []
    # All that it is for has happened.
    assert summary["accepted"] > 1000
    assert summary["compared"] >= summary["accepted"]
    assert summary["deleted"] > 0
    assert {"crash", "restart_metricd", "stop"} <= summary["trouble"].keys()
    assert {"gnocchi-api", "gnocchi-metricd"} == summary["memory"].keys()


# The checker, which must not be one that is always content.


def found(*seconds):
    return {second: ledger.value_at(second) for second in seconds}


def test_checker_is_content():
    metric = ledger.Metric("m", accepted={1, 2}, unsure={3, 4})
    assert metric.wrong(found(1, 2)) == []
    assert metric.wrong(found(1, 2, 4)) == []


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (found(1), "1 measures lost"),
        ({}, "2 measures lost"),
        (found(1, 2, 5), "1 measures that nobody sent"),
        (found(1, 3) | {2: 0.5}, "1 measures with another value"),
    ],
)
def test_checker_complains(answer, complaint):
    metric = ledger.Metric("m", accepted={1, 2}, unsure={3, 4})
    (said,) = metric.wrong(answer)
    assert complaint in said
    assert metric.id in said


def test_ledger_keeps_accepted_and_unsure_apart():
    book = ledger.Ledger()
    book.created("a")
    book.sending(["a"], range(10))
    book.accept(["a"], range(5))
    (metric,) = book.metrics()
    assert metric.accepted == set(range(5))
    assert metric.unsure == set(range(5, 10))
    assert book.accepted() == 5
    book.deleted("a")
    assert book.gone() == {"a"}
    assert book.metrics() == []
