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
"""Reads of very many points, which are never there as a whole but once."""

import itertools

import numpy
import pytest

from gnocchi_influxdb.client import transport
from gnocchi_influxdb.client.client import Client
from gnocchi_influxdb.read import cost
from gnocchi_influxdb.storage import InfluxDBStorage
from gnocchi_influxdb.wire import flux_csv, flux_response
from tests.support.samples import NS, T0, metric, policy, read, write

MINUTE = 60 * NS


@pytest.fixture
def asked(monkeypatch):
    """The languages that points are asked for in."""
    languages = []
    query, influxql = Client.query, Client.influxql

    def in_flux(self, *arguments):
        languages.append("flux")
        return query(self, *arguments)

    def in_influxql(self, *arguments):
        if arguments[1].startswith('SELECT "value"'):
            languages.append("influxql")
        return influxql(self, *arguments)

    monkeypatch.setattr(Client, "query", in_flux)
    monkeypatch.setattr(Client, "influxql", in_influxql)
    return languages


@pytest.fixture
def driver(make_conf):
    conf = make_conf(
        influxdb_retention=False,
        influxdb_downsampling=False,
        # Points are not counted before.
        influxdb_max_points=0,
    )
    return InfluxDBStorage(conf.storage)


def rates(points):
    values = [points[t] for t in sorted(points)]
    return [b - a for a, b in itertools.pairwise(values)]


@pytest.mark.only_2x("1.x may have no Flux at all")
@pytest.mark.parametrize("most", [199, 200, 201])
def test_too_many_for_influxql(
    driver, indexer_driver, asked, monkeypatch, most
):
    monkeypatch.setattr(cost, "_MOST_POINTS", most)
    m = metric(policy((10**6, 60)))
    points = {T0 + i * MINUTE: float(i % 17) for i in range(200)}
    write(driver, {m: points}, indexer_driver)
    for first in (True, False):
        asked.clear()
        found = read(driver, m, "rate:max", 60)
        assert list(found.values()) == rates(points)
        if most > len(points):
            assert asked == ["influxql"]
        else:
            # How many there are is not tried out each time.
            assert asked == ["influxql", "flux"][not first :]


@pytest.mark.only_2x("1.x may have no Flux at all")
def test_answer_in_pieces(driver, indexer_driver, monkeypatch):
    """A larger one: all of its points, and never many lines at once."""
    monkeypatch.setattr(transport, "PIECE", 2**14)
    monkeypatch.setattr(flux_response, "_PIECE", 2**16)
    monkeypatch.setattr(cost, "_MOST_POINTS", 1)
    parsed = []
    runs = flux_csv.runs
    monkeypatch.setattr(
        flux_csv, "runs", lambda body: parsed.append(body) or runs(body)
    )
    m = metric(policy((10**6, 60)))
    values = numpy.random.default_rng(1).normal(size=9000).tolist()
    points = {T0 + i * MINUTE: value for i, value in enumerate(values)}
    write(driver, {m: points}, indexer_driver)
    found = read(driver, m, "rate:max", 60)
    assert list(found.values()) == rates(points)
    assert len(parsed) > 5
    assert max(map(len, parsed)) < 2**16 + 2**14 + 2**10
