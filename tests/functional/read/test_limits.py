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
"""An InfluxDB that limits what may be asked in InfluxQL."""

import pytest
from servers import server as servers
from servers import version1

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.read import cost
from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support.samples import (
    NS,
    aggregation,
    as_dict,
    at,
    fails_with,
    metric,
    policy,
    read,
    recent,
    write,
)

MINUTE = 60 * NS
DAY = 1440 * MINUTE
COUNT = 4000
LIMITS = {"buckets": 1000, "point": 1000, "series": 5}


@pytest.fixture(scope="module")
def limited(new_influxd):
    """A server with all three limits."""
    server = new_influxd()
    if isinstance(server, version1.InfluxDB1Process):
        server.settings["coordinator"] = {
            f"max-select-{name}": limit for name, limit in LIMITS.items()
        }
    elif isinstance(server, servers.InfluxDBProcess):
        server.flags = [
            f"--influxql-max-select-{name}={limit}"
            for name, limit in LIMITS.items()
        ]
    else:
        pytest.skip("only a process is given flags")
    with server:
        yield server


def make(make_conf, limited, language):
    return InfluxDBStorage(
        make_conf(
            server=limited,
            influxdb_retention=False,
            influxdb_downsampling=False,
            influxdb_query_language=language,
        ).storage
    )


@pytest.mark.only_2x("1.x may have no Flux at all")
def test_flux_answers_what_influxql_refuses(
    make_conf, limited, indexer_driver, logged, monkeypatch
):
    # Windows are asked for, and not only points.
    monkeypatch.setattr(cost, "_MOST_INSTEAD", 500)
    auto = make(make_conf, limited, "auto")
    a_policy = policy((25000, 60), (5000, 300), name="limited")
    metrics = [metric(a_policy) for _ in range(6)]
    now = recent() // (5 * MINUTE) * 5 * MINUTE
    points = {now - i * MINUTE: float(i % 7) for i in range(COUNT)}
    write(auto, dict.fromkeys(metrics, points), indexer_driver)
    for method in ("mean", "std", "rate:mean"):
        for seconds in (60, 300):
            a = aggregation(metrics[0], method, seconds)
            begin = now - 2 * DAY
            for start, stop in (
                (None, None),
                (begin, None),
                (begin, now - DAY),
            ):
                found = read(auto, metrics[0], method, seconds, start, stop)
                least = (stop or now) - (start or now - COUNT * MINUTE)
                if (method, seconds) != ("std", 60):
                    assert len(found) >= least // (seconds * NS) - 1
            of_all = auto.get_aggregated_measures(
                {one: [a] for one in metrics}, at(begin)
            )
            assert len({tuple(as_dict(of_all[m][a])) for m in metrics}) == 1
    warnings = logged.warnings()
    assert 1 <= len(warnings) <= 3
    assert all("influxql-max-select-" in text for text in warnings)


def test_windows_end_with_the_present(make_conf, limited, indexer_driver):
    """InfluxQL alone answers what is no more than the limit."""
    driver = make(make_conf, limited, "influxql")
    m = metric(policy((25000, 60), name="ending"))
    now = recent() // MINUTE * MINUTE
    points = {now - i * 20 * NS: float(i) for i in range(900)}
    # Points of the future count, too.
    points |= {now + DAY + i * 20 * NS: float(i) for i in range(4)}
    write(driver, {m: points}, indexer_driver)
    for method, last in (("mean", 3.0), ("count", 1.0), ("max", 3.0)):
        found = read(driver, m, method, 60, now - 200 * MINUTE)
        assert len(found) == 201 + 2
        assert found[now + DAY + MINUTE] == last
    assert read(driver, m, "sum", 60, now + DAY) == {
        now + DAY: 3.0,
        now + DAY + MINUTE: 3.0,
    }
    with fails_with(exceptions.QueryError, "influxql-max-select-buckets"):
        read(driver, m, "mean", 60, now - DAY)
