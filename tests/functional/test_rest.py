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
"""What a client of Gnocchi's API is answered while InfluxDB is away."""

import logging

import numpy
import pytest
import webtest
from gnocchi.rest import app as gnocchi_app

from gnocchi_influxdb import exceptions, outages
from tests.support import samples
from tests.support.cloud import Cloud

AUTHORIZATION = "basic YWRtaW46"


@pytest.fixture
def away(make_conf, fresh_influxd):
    """A Gnocchi whose InfluxDB was there, with one metric."""
    cloud = Cloud(
        make_conf(
            server=fresh_influxd, influxdb_timeout=5, influxdb_max_retries=1
        )
    )
    (metric,) = cloud.metrics(1)
    api = webtest.TestApp(
        gnocchi_app.load_app(cloud.conf), extra_environ={"REMOTE_USER": "me"}
    )
    yield api, metric, fresh_influxd
    cloud.close()


def post(api, metric, seconds):
    """A measure of so many seconds ago."""
    time = numpy.datetime64(samples.recent(seconds), "ns")
    return api.post_json(
        f"/v1/metric/{metric.id}/measures",
        [{"timestamp": str(time), "value": 1.0}],
        headers={"Authorization": AUTHORIZATION},
    )


def requests(metric):
    measures = f"/v1/metric/{metric.id}/measures"
    aggregates = {"operations": f"(metric {metric.id} mean)"}
    return {
        "measures": ("GET", measures, None),
        "refresh": ("GET", measures + "?refresh=true", None),
        "aggregates": ("POST", "/v1/aggregates", aggregates),
    }


@pytest.mark.parametrize("what", ["measures", "refresh", "aggregates"])
@pytest.mark.parametrize("accept", ["application/json", "*/*"])
def test_reads_are_answered_503(away, caplog, what, accept):
    api, metric, server = away
    headers = {"Authorization": AUTHORIZATION, "Accept": accept}

    def ask(status):
        method, path, body = requests(metric)[what]
        if method == "GET":
            return api.get(path, headers=headers, status=status)
        return api.post_json(path, body, headers=headers, status=status)

    post(api, metric, 60)
    ask(200)
    server.stop()
    # Taken all the same, by the queue.
    assert post(api, metric, 0).status_int == 202
    with caplog.at_level(logging.ERROR, "gnocchi_influxdb"):
        answer = ask(503)
    assert "Please retry" in answer.text
    # That is the operator's.
    assert server.url not in answer.text
    assert server.url in caplog.text
    assert server.token not in answer.text + caplog.text
    server.start()
    ask(200)


def test_cause_and_words_stay():
    for error in (
        exceptions.RefusedError("words", 422, "reason"),
        exceptions.UnavailableError("words", retry_after=3),
    ):
        with (
            pytest.raises(exceptions.ReadFailedError) as raised,
            outages.answered(outages.Outage("Away", "Back")),
        ):
            raise error
        assert str(raised.value) == "words"
        assert raised.value.__cause__ is error
        assert raised.value.status_int == 503
