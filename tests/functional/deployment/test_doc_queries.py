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
"""Every query on the documentation's pages, on a real InfluxDB."""

import re
import textwrap
import uuid

import pytest
from gnocchi import archive_policy

from tests.functional.deployment.test_grafana import (
    DASHBOARDS,
    Grafana,
    downsample,
)
from tests.support import ROOT
from tests.support.by_hand import call, make_token
from tests.support.cloud import Cloud
from tests.support.samples import recent, write
from tests.support.telemetry import CPU, INSTANCE, NAMES, fill, flux

pytestmark = pytest.mark.only_2x(
    "the page is about buckets and Flux as 2.x has them"
)

MEDIUM = uuid.UUID("7e5a4c0e-93cf-4d0b-8a6a-3f2d1c5b9e60")
PAGES = ROOT / "doc" / "source"

_BLOCK = re.compile(
    r"^\.\. code-block:: text\n   :class: (\w+)\n\n((?:   .*\n|\n)+)", re.M
)


def blocks(page, language):
    """Examples of a page, each with the words before it."""
    text = (PAGES / f"{page}.rst").read_text()
    return [
        pytest.param(
            textwrap.dedent(match[2]),
            id=" ".join(text[: match.start()].split()[-4:]),
        )
        for match in _BLOCK.finditer(text)
        if match[1] == language
    ]


@pytest.fixture
def cloud(make_conf):
    made = Cloud(make_conf())
    fill(made)
    medium = archive_policy.ArchivePolicy(
        "medium", 0, [(10080, 60), (8760, 3600)], ["mean", "max", "rate:mean"]
    )
    made.index.create_archive_policy(medium)
    made.index.create_metric(
        MEDIUM, "me:us", "medium", name="memory.usage", unit="MB"
    )
    (metric,) = made.index.list_metrics(attribute_filter={"=": {"id": MEDIUM}})
    values = {recent(age): age / 1e3 for age in range(60, 5 * 3600, 60)}
    write(made.storage, {metric: values}, made.index)
    made.write_names()
    downsample(made, medium)
    yield made
    made.close()


def of_the_test(query, prefix):
    """The pages' buckets are those of the default prefix."""
    assert "gnocchi-" in query or "${bucket}" in query
    return query.replace('"gnocchi-', f'"{prefix}')


def attributes(metric):
    """As the driver writes them."""
    return {
        "name": metric.name or "-",
        "unit": metric.unit or "-",
        "resource_id": str(metric.resource_id or "-"),
        "creator": metric.creator,
    }


@pytest.mark.parametrize(
    "query", blocks("flux", "flux") + blocks("flux-many", "flux")
)
def test_flux(cloud, influxdb, bucket_prefix, query):
    token = make_token(influxdb, ("read", "buckets"))
    rows = flux(influxdb, of_the_test(query, bucket_prefix), token)
    assert rows
    columns = set().union(*rows) - {"result", "table"}
    if "metric_info" in query and "reduce" not in query:
        assert columns & {"name", "_value"}
    names = {row["name"] for row in rows if "name" in row}
    assert names <= {*NAMES, "-"}
    # Each metric's own.
    metrics = {str(metric.id): metric for metric in cloud.index.list_metrics()}
    for row in rows:
        if "metric" in row:
            known = attributes(metrics[row["metric"]])
            told = {key: row[key] for key in known.keys() & row.keys()}
            assert told == {key: known[key] for key in told}
    if f'resource_id == "{INSTANCE}"' in query:
        assert names == set(NAMES)
    if "reduce" in query:
        assert rows[0]["metrics"] == 2
    if "derivative" in query:
        assert {round(row["_value"] / 1e3) for row in rows} == {1000}
    if "date.sub" in query:
        (row,) = rows
        assert row["name"] == "memory.usage"
    if "bucket: bucket" in query:
        assert len({row["bucket"] for row in rows}) == 2
    if f'metric == "{CPU}"' in query and "derivative" not in query:
        assert len(rows) == 1
    if f'metric == "{MEDIUM}"' in query:
        assert 3 <= len(rows) <= 6
        # The first and the last hour may have a single point.
        assert all(row["mean"] < row["max"] for row in rows[1:-1])
        assert all(row["mean"] <= row["max"] for row in rows)
    if '"downsampled"' in query:
        assert len(rows) == 1
    if "top(n: 10)" in query and "points" in query:
        points = [row["points"] for row in rows]
        assert points == sorted(points, reverse=True)


@pytest.mark.parametrize("query", blocks("flux", "influxql"))
def test_influxql(cloud, influxdb, bucket_prefix, query):
    found = call(
        influxdb,
        "GET",
        "/query",
        query={"db": f"{bucket_prefix}low", "q": query},
    )["results"][0]
    assert "error" not in found, found
    series = found["series"][0]
    assert series["values"]
    if "cpu" in query:
        metrics = {
            row[series["columns"].index("metric")] for row in series["values"]
        }
        assert str(CPU) in metrics
        assert len(metrics) == 2


@pytest.mark.parametrize("query", blocks("grafana", "flux"))
def test_panels(cloud, influxdb, bucket_prefix, query):
    grafana = Grafana(influxdb, None, DASHBOARDS["gnocchi-telemetry"]).load(
        prefix=bucket_prefix, bucket=f"{bucket_prefix}low"
    )
    rows = flux(influxdb, grafana.complete(of_the_test(query, bucket_prefix)))
    assert rows
    assert all({"_time", "_value"} <= row.keys() for row in rows)
    if "info" in query and "ids" not in query:
        assert {row["name"] for row in rows} == {*NAMES, "-"}


def test_there_are_examples():
    """Else a page that is marked up in another way would pass."""
    assert len(blocks("flux", "flux")) == 6
    assert len(blocks("flux-many", "flux")) == 7
    assert len(blocks("flux", "influxql")) == 5
    assert len(blocks("grafana", "flux")) == 4
