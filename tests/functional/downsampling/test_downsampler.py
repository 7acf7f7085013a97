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
"""Downsampling changes no answer."""

import random

import pytest

from gnocchi_influxdb.downsampling import source
from tests.functional.downsampling import passes
from tests.functional.downsampling.passes import DAY, HOUR, assert_each, now
from tests.support.samples import NS, metric, policy, write


def test_answers_are_the_same(driver, model, run, indexer_driver):
    a_policy = policy((1440, 60), (48, 3600), (10, DAY))
    metrics = [metric(a_policy) for _ in range(3)]
    start = now() - 20 * HOUR * NS
    points = {
        m: {
            start + i * 60 * NS: random.uniform(-10, 10)
            for i in range(20 * 60)
        }
        for m in metrics
    }
    write(driver, points, indexer_driver)
    assert_each(driver, model, metrics)
    assert run(a_policy)
    assert driver.buckets.watermarks.read(
        driver.buckets.downsampled(a_policy)[0].name
    )
    assert_each(driver, model, metrics)
    late = {start + 5 * HOUR * NS + 7 * NS: 1000.0, start + 7: -500.0}
    write(driver, {metrics[0]: late}, indexer_driver)
    driver.buckets.watermarks.forget()
    assert_each(driver, model, metrics)
    run(a_policy)
    assert_each(driver, model, metrics)


@pytest.mark.parametrize("language", ["flux", "influxql"])
def test_a_pass_reads_in_parts(
    make_driver, model, influxdb, indexer_driver, monkeypatch, language
):
    """Also where nearly all metrics have been silent since an hour."""
    if language == "flux" and influxdb.release == 1:
        pytest.skip("no Flux")
    monkeypatch.setattr(source, "_IN_FLUX", 300)
    monkeypatch.setattr(source, "_IN_INFLUXQL", 300)
    driver = make_driver(influxdb_query_language=language)
    a_policy = policy((1440, 60), (48, HOUR))
    metrics = [metric(a_policy) for _ in range(40)]
    hour = now() // (HOUR * NS) * HOUR * NS - 3 * HOUR * NS
    points = {
        m: {hour + i * 60 * NS: random.uniform(-10, 10) for i in range(60)}
        for m in metrics
    }
    points[metrics[0]][hour + HOUR * NS + 7] = 5.0
    write(driver, points, indexer_driver)
    read, sizes = source.PointSource.read, []

    def counted(*asked):
        for rows in read(*asked):
            sizes.append(sum(map(len, rows.values())))
            yield rows

    monkeypatch.setattr(source.PointSource, "read", counted)
    assert passes.run(driver, a_policy)
    assert_each(driver, model, metrics)
    assert sum(sizes) > 2400
    # Ids are random.
    assert max(sizes) < 1200


def test_downsampled_from_the_first_measure_on(make_driver):
    """A server that was asked nothing yet is not taken for a cluster."""
    a_policy = policy((1440, 60), (48, HOUR))
    assert len(make_driver().buckets.downsampled(a_policy)) == 1
