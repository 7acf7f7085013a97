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
"""Shards in which somebody else has written values of another type."""

import datetime
import logging
import re

import pytest

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.read import query
from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support import by_hand, proxy, samples, version1
from tests.support.samples import (
    NS,
    T0,
    aggregation,
    as_dict,
    fails_with,
    metric,
    policy,
    write,
)

DAY = 86400
METRICS = 60  # as many as are read in Flux where there is the choice
MIDNIGHT = T0 // (DAY * NS) * DAY * NS


@pytest.fixture(params=["integer", "string"])
def foreign(request):
    return {"integer": "7i", "string": '"seven"'}[request.param]


class Spoiled:
    """Metrics with floats on each of five days, but not on the third.

    :param days: foreign ones, if it is not the third.
    """

    def __init__(self, driver, server, index, value, days=(2,)):
        a_policy = policy((10**6, 60), (10**4, DAY))
        self.driver, self.server, self.index = driver, server, index
        self.metrics = [metric(a_policy) for _ in range(METRICS)]
        self.bucket = driver.buckets.name(a_policy)
        by_hand.make_bucket(server, self.bucket, 0, DAY)
        bad = [MIDNIGHT + day * DAY * NS for day in days]
        self.bad = bad[0]
        self.days = {time // (DAY * NS) for time in bad}
        by_hand.write_lines(
            server,
            self.bucket,
            "\n".join(
                f"measure,metric=foreign value={value} {time + NS}"
                for time in bad
            ),
        )
        self.points = {
            m: {
                MIDNIGHT + (d * DAY + s) * NS: float(i + d + s)
                for d in range(5)
                for s in (10, 20)
            }
            for i, m in enumerate(self.metrics)
        }
        write(driver, self.points, index)

    def kept(self, m):
        return {
            t: v
            for t, v in self.points[m].items()
            if t // (DAY * NS) not in self.days
        }

    def read(self, method, metrics):
        found = self.driver.get_aggregated_measures(
            {m: [aggregation(m, method, DAY)] for m in metrics}
        )
        return {
            m: as_dict(series)
            for m, (series,) in (
                (m, answers.values()) for m, answers in found.items()
            )
        }

    def expected(self, method, m):
        windows = {}
        for t, v in self.kept(m).items():
            windows.setdefault(t // (DAY * NS) * DAY * NS, []).append(v)
        compute = {
            "count": len,
            "max": max,
            "median": lambda values: sum(values) / 2,  # of two
        }[method]
        return {t: compute(values) for t, values in windows.items()}


def make_driver(make_conf, **options):
    return InfluxDBStorage(
        make_conf(influxdb_retention=False, **options).storage
    )


def errors(logged):
    return [
        record.getMessage()
        for record in logged.records
        if record.levelno == logging.ERROR
    ]


@pytest.mark.parametrize("number", [1, METRICS])
@pytest.mark.parametrize("method", ["count", "max", "median"])
@pytest.mark.parametrize("language", ["auto", "influxql"])
def test_reads_leave_out_nothing(
    make_conf,
    influxdb,
    indexer_driver,
    foreign,
    language,
    method,
    number,
):
    spoiled = Spoiled(
        make_driver(make_conf, influxdb_query_language=language),
        influxdb,
        indexer_driver,
        foreign,
    )
    some = spoiled.metrics[:number]
    assert spoiled.read(method, some) == {
        m: spoiled.expected(method, m) for m in some
    }


@pytest.mark.parametrize("days", [(2,), (0,), (2, 3), (0, 1, 4)])
def test_reads_that_flux_would_be_quicker_for(
    make_conf, influxdb, indexer_driver, days, monkeypatch
):
    """InfluxDB answers Flux without what lies behind such a shard."""
    for kind in query.Query, query.PointsQuery:
        monkeypatch.setattr(kind, "suits_influxql", lambda *_: False)
    driver = make_driver(make_conf)
    spoiled = Spoiled(driver, influxdb, indexer_driver, "7i", days)
    for method in ("count", "max", "median"):
        assert spoiled.read(method, spoiled.metrics) == {
            m: spoiled.expected(method, m) for m in spoiled.metrics
        }


def test_reads_in_flux(make_conf, influxdb, indexer_driver, foreign):
    """They would not be complete."""
    spoiled = Spoiled(
        make_driver(make_conf, influxdb_query_language="flux"),
        influxdb,
        indexer_driver,
        foreign,
    )
    m = spoiled.metrics[0]
    for method in ("max", "median"):
        with fails_with(exceptions.QueryError) as raised:
            spoiled.read(method, [m])
        assert spoiled.bucket in str(raised.value)
        assert "influxdb_query_language" in str(raised.value)


@pytest.mark.only_2x("points are never asked for in Flux, and complete")
def test_log_of_reads(make_conf, influxdb, indexer_driver, foreign, logged):
    """Said once, with the bucket and the type."""
    spoiled = Spoiled(
        make_driver(make_conf), influxdb, indexer_driver, foreign
    )
    reader = make_driver(make_conf)
    logged.records.clear()
    for _ in range(3):
        spoiled.driver = reader
        spoiled.read("median", spoiled.metrics)
    (message,) = errors(logged)
    assert spoiled.bucket in message
    assert {"7i": "integer", '"seven"': "string"}[foreign] in message


@pytest.mark.only_2x("1.x always has InfluxQL")
def test_flux_without_influxql(make_conf, influxdb, indexer_driver):
    """Where nobody can be asked for the types, reads go on."""

    def no_influxql(request):
        if request.path.startswith("/query"):
            return proxy.answer("404 Not Found", b"404 page not found")
        return None

    with proxy.Proxy(influxdb.url, before=no_influxql) as between:
        driver = make_driver(
            make_conf,
            influxdb_query_language="flux",
            influxdb_url=between.url,
        )
        m = metric(policy((10**6, 60)))
        write(driver, {m: {T0: 1.0, T0 + NS: 3.0}}, indexer_driver)
        for _ in range(3):
            found = samples.read(driver, m, "median", 60)
            assert found == {T0: 2.0}
            # The types, and the watermark.
            assert len(between.paths("/query")) == 2


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def delete_measurement(influxdb, spoiled, messages):
    """Do as the messages say."""
    cures = {
        re.search(
            r"influx delete --org (\S+) --bucket (\S+) --start (\S+)"
            r" --stop (\S+) --predicate '(.+)'$",
            message,
        ).groups()
        for message in messages
    }
    ((org, bucket, start, stop, predicate),) = cures
    assert (org, bucket) == (influxdb.org, spoiled.bucket)
    assert int(moment(start).timestamp()) * NS == spoiled.bad
    assert int(moment(stop).timestamp()) * NS == spoiled.bad + DAY * NS
    # What `influx delete` sends.
    by_hand.call(
        influxdb,
        "POST",
        "/api/v2/delete",
        query={"org": org, "bucket": bucket},
        body={"start": start, "stop": stop, "predicate": predicate},
    )


def drop_shards(influxdb, spoiled, messages):
    """Do as the messages say."""
    cures = {
        re.search(
            r"SHOW SHARDS, and DROP SHARD with the id of each one of database"
            r" (\S+) and retention policy (\S+) from (\S+) to (\S+)$",
            message,
        ).groups()
        for message in messages
    }
    ((database, policy_name, start, stop),) = cures
    assert f"{database}/{policy_name}" == spoiled.bucket
    (shards,) = [
        series
        for series in version1.ask(influxdb, "SHOW SHARDS")
        if series["name"] == database
    ]
    rows = [
        dict(zip(shards["columns"], row, strict=True))
        for row in shards["values"]
    ]
    dropped = [
        row["id"]
        for row in rows
        if row["retention_policy"] == policy_name
        and (row["start_time"], row["end_time"]) == (start, stop)
    ]
    assert dropped
    for shard in dropped:
        version1.ask(influxdb, f"DROP SHARD {shard}")


def test_the_log_names_the_cure_and_it_works(
    make_conf, influxdb, indexer_driver, foreign, logged
):
    spoiled = Spoiled(
        make_driver(make_conf), influxdb, indexer_driver, foreign
    )
    messages = errors(logged)
    assert messages
    bucket = spoiled.bucket
    heed = drop_shards if influxdb.release == 1 else delete_measurement
    heed(influxdb, spoiled, messages)
    for m in spoiled.metrics:
        assert by_hand.stored(influxdb, bucket, m) == spoiled.kept(m)
    logged.records.clear()
    write(spoiled.driver, spoiled.points, indexer_driver)
    assert errors(logged) == []
    for m in spoiled.metrics:
        assert by_hand.stored(influxdb, bucket, m) == spoiled.points[m]
    spoiled.read("median", spoiled.metrics)
    assert errors(logged) == []
