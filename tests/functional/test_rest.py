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
from gnocchi import utils
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


@pytest.fixture
def bounded(make_conf):
    """An API that gives out little, and three metrics of 20 minutes."""
    cloud = Cloud(
        make_conf(influxdb_max_points=15, influxdb_max_aggregates=25)
    )
    metrics = cloud.metrics(3)
    api = webtest.TestApp(
        gnocchi_app.load_app(cloud.conf), extra_environ={"REMOTE_USER": "me"}
    )
    minute = 60 * samples.NS
    now = samples.recent() // minute * minute
    points = {now - i * minute: float(i) for i in range(20)}
    samples.write(cloud.storage, dict.fromkeys(metrics, points), cloud.index)
    yield api, metrics, numpy.datetime64(now, "ns")
    cloud.close()


def aggregates(api, metrics, start, status, operation=""):
    names = " ".join(f"({metric.id} mean)" for metric in metrics)
    text = f"(metric {names})"
    if operation:
        text = f"(aggregate {operation} {text})"
    return api.post_json(
        f"/v1/aggregates?start={start}",
        {"operations": text},
        headers={"Authorization": AUTHORIZATION, "Accept": "application/json"},
        status=status,
    )


@pytest.mark.parametrize("what", ["measures", "refresh", "aggregates"])
@pytest.mark.parametrize("accept", ["application/json", "*/*"])
def test_too_many_points_are_answered_400(bounded, what, accept):
    api, (metric, *_), _now = bounded
    headers = {"Authorization": AUTHORIZATION, "Accept": accept}
    method, path, body = requests(metric)[what]
    if method == "GET":
        answer = api.get(path, headers=headers, status=400)
    else:
        answer = api.post_json(path, body, headers=headers, status=400)
    assert "about 20 measures" in answer.text
    assert str(metric.id) in answer.text
    assert "influxdb_max_points" in answer.text


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("operation", ["", "mean"])
def test_too_many_metrics_are_answered_400(
    bounded, monkeypatch, threads, operation
):
    api, metrics, now = bounded
    monkeypatch.setattr(utils.parallel_map, "MAX_WORKERS", threads)
    start = now - numpy.timedelta64(9, "m")
    for _ in range(3):
        # What was answered before does not count.
        aggregates(api, metrics[:2], start, 200, operation)
        aggregates(api, metrics[:2], start, 200, operation)
        answer = aggregates(api, metrics, start, 400, operation)
        assert "more than 25 aggregates" in answer.text
        assert "influxdb_max_aggregates" in answer.text


def test_search_in_too_many_metrics_is_answered_400(bounded):
    api, metrics, now = bounded
    start = now - numpy.timedelta64(9, "m")

    def search(wanted, status):
        ids = "&".join(f"metric_id={metric.id}" for metric in wanted)
        return api.post_json(
            f"/v1/search/metric?{ids}&start={start}&aggregation=mean",
            {"≥": 0},
            headers={
                "Authorization": AUTHORIZATION,
                "Accept": "application/json",
            },
            status=status,
        )

    found = search(metrics[:2], 200).json
    assert sorted(map(len, found.values())) == [10, 10]
    assert "influxdb_max_aggregates" in search(metrics, 400).text
