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
"""Answers that are cut, garbled, or not InfluxDB's.

A series is complete or it is an error. The answers are those of a real
server; a proxy harms them on the way.
"""

import functools
import gzip
import json
import re

import pytest

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.client import transport
from gnocchi_influxdb.storage import InfluxDBStorage
from gnocchi_influxdb.wire import flux_response
from tests.support import proxy
from tests.support.by_hand import WRITES
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

METHODS = ["mean", "std", "rate:mean"]
FLUX = "/api/v2/query"
QUERIES = (FLUX, "/query")


def is_query(request):
    return request.path.startswith(QUERIES)


@pytest.fixture
def between(influxdb):
    with proxy.Proxy(influxdb.url) as harmful:
        yield harmful


@pytest.fixture(params=["flux", "influxql", "pieces"])
def driver(request, make_conf, between, monkeypatch):
    language = request.param
    if language == "pieces":
        # As an answer in Flux is taken that is long.
        monkeypatch.setattr(transport, "PIECE", 100)
        monkeypatch.setattr(flux_response, "_PIECE", 500)
        language = "flux"
    return make_driver(make_conf, between, influxdb_query_language=language)


def make_driver(make_conf, between, **options):
    return InfluxDBStorage(
        make_conf(
            influxdb_retention=False,
            influxdb_url=between.url,
            influxdb_max_retries=0,
            **options,
        ).storage
    )


@pytest.fixture
def stored(driver, indexer_driver):
    """Metrics of some points."""
    a_policy = policy((10**6, 60))
    metrics = [metric(a_policy) for _ in range(3)]
    points = {T0 + i * 20 * NS: float(i % 7) / 3 for i in range(60)}
    write(driver, dict.fromkeys(metrics, points), indexer_driver)
    return metrics


def read_all(driver, metrics, method):
    a = aggregation(metrics[0], method, 60)
    answers = driver.get_aggregated_measures({m: [a] for m in metrics})
    return {m: as_dict(answers[m][a]) for m in metrics}


def split(answer):
    head, body = answer.split(b"\r\n\r\n", 1)
    return head + b"\r\n\r\n", body


def rebuilt(answer, body, *headers):
    """The answer with another body, its end marked by its length."""
    head, _ = split(answer)
    lines = [
        line
        for line in head.strip().split(b"\r\n")
        if not re.match(rb"(?i)content-length|transfer-encoding", line)
    ]
    lines += [b"Content-Length: %d" % len(body), b"Connection: close"]
    return b"\r\n".join([*lines, *headers]) + b"\r\n\r\n" + body


def content(answer):
    """The body without its chunks."""
    head, body = split(answer)
    if b"chunked" not in head.lower():
        return body
    found = b""
    while True:
        size, body = body.split(b"\r\n", 1)
        length = int(size, 16)
        if not length:
            return found
        found += body[:length]
        body = body[length + 2 :]


@pytest.mark.parametrize("method", METHODS)
def test_cut_off(driver, between, stored, method):
    """The connection ends in the middle."""
    whole = read_all(driver, stored, method)
    assert len(whole[stored[0]]) == 20
    for share in (0, 0.1, 0.3, 0.5, 0.77, 0.9, 0.99):

        def cut(request, answer, share=share):
            if not is_query(request):
                return answer
            head, body = split(answer)
            return head + body[: int(len(body) * share)] if share else b""

        between.after = cut
        with fails_with(exceptions.UnavailableError) as error:
            read_all(driver, stored, method)
        assert between.url in str(error.value)
    # Python takes the head of an answer for complete wherever it ends.
    for length in (10, 40, 100):
        between.after = lambda request, answer, length=length: (
            answer[:length] if is_query(request) else answer
        )
        with pytest.raises(exceptions.InfluxDBError):
            read_all(driver, stored, method)
    between.after = None
    assert read_all(driver, stored, method) == whole


@pytest.mark.parametrize("method", METHODS)
def test_shorter_than_announced(driver, between, stored, method):
    whole = read_all(driver, stored, method)

    def cut(request, answer):
        return answer if not is_query(request) else announced(answer)[:-20]

    def announced(answer):
        return rebuilt(answer, content(answer))

    # A first connection, and one after a failure.
    for _ in range(2):
        between.after = cut
        with fails_with(exceptions.UnavailableError):
            read_all(driver, stored, method)
        between.after = None
        assert read_all(driver, stored, method) == whole


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("framing", ["length", "close"])
def test_cut_by_something_that_hides_it(
    driver, between, stored, method, framing
):
    """HTTP says that all is well: a proxy had no room for more."""
    whole = read_all(driver, stored, method)
    positions = [*range(1, 200, 13), -1, -2, -3, -20, -60]

    def shorten(request, answer, position=None):
        if not is_query(request):
            return answer
        body = content(answer)[:position]
        if framing == "length":
            return rebuilt(answer, body)
        head = (
            b"HTTP/1.0 200 OK\r\nContent-Type: "
            + re.search(rb"(?i)content-type: (.*)\r\n", answer).group(1)
            + b"\r\n\r\n"
        )
        return head + body

    for position in positions:
        between.after = functools.partial(shorten, position=position)
        with fails_with(exceptions.ResponseError):
            read_all(driver, stored, method)
    between.after = shorten
    assert read_all(driver, stored, method) == whole


@pytest.mark.parametrize("method", METHODS)
def test_repeated_after_a_part(driver, between, stored, method):
    """What came of the first answer counts for nothing."""
    whole = read_all(driver, stored, method)
    driver.conf._conf.set_override("influxdb_max_retries", 2, "storage")
    patient = InfluxDBStorage(driver.conf)
    cuts = [0.9, 0.7]

    def cut(request, answer):
        if not is_query(request) or not cuts:
            return answer
        head, body = split(answer)
        return head + body[: int(len(body) * cuts.pop())]

    between.after = cut
    assert read_all(patient, stored, method) == whole
    assert not cuts


def test_cut_at_the_end_of_a_line(driver, between, stored):
    """Where what is left looks like a whole answer of fewer rows."""

    def shorten(request, answer):
        if not is_query(request):
            return answer
        lines = content(answer).splitlines(keepends=True)
        return rebuilt(answer, b"".join(lines[: len(lines) // 2]))

    between.after = shorten
    with fails_with(exceptions.ResponseError):
        read_all(driver, stored, "mean")


@pytest.mark.parametrize("method", METHODS)
def test_once_is_no_harm(make_conf, between, indexer_driver, method):
    """With retries a broken connection is not even noticed."""
    driver = InfluxDBStorage(
        make_conf(influxdb_retention=False, influxdb_url=between.url).storage
    )
    metrics = [metric(policy((10**6, 60)))]
    points = {T0 + i * 20 * NS: float(i % 7) / 3 for i in range(60)}
    write(driver, {metrics[0]: points}, indexer_driver)
    whole = read_all(driver, metrics, method)
    broken = []

    def once(request, answer):
        if is_query(request) and not broken:
            broken.append(request)
            head, body = split(answer)
            return head + body[: len(body) // 2]
        return answer

    between.after = once
    assert read_all(driver, metrics, method) == whole
    assert broken


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("status", ["200 OK", "203 Non-Authoritative"])
def test_page_of_a_proxy(driver, between, stored, method, status):
    for page in (proxy.PAGE, proxy.PAGE + b"\r\n\r\n", b"", b"{}", b"\n"):
        between.before = lambda request, page=page: (
            proxy.answer(status, page) if is_query(request) else None
        )
        with fails_with(
            exceptions.ResponseError | exceptions.ConfigurationError
        ):
            read_all(driver, stored, method)


def test_page_of_a_proxy_to_a_write(driver, between, indexer_driver, stored):
    between.before = lambda request: (
        proxy.answer("200 OK", proxy.PAGE)
        if request.path.startswith(WRITES)
        else None
    )
    with pytest.raises(exceptions.ResponseError) as error:
        write(driver, {stored[0]: {T0: 1.0}}, indexer_driver)
    assert "influxdb_url" in str(error.value)


@pytest.mark.parametrize("what", ["cut", "garbage", "sum", "not gzip"])
def test_gzip(make_conf, between, indexer_driver, what):
    driver = make_driver(make_conf, between, influxdb_gzip=True)
    m = metric(policy((10**6, 60)))
    write(
        driver,
        {m: {T0 + i * NS: float(i) for i in range(600)}},
        indexer_driver,
    )
    read_all(driver, [m], "mean")
    seen = []

    def harm(request, answer):
        if not is_query(request):
            return answer
        assert b"gzip" in request.head
        head, _ = split(answer)
        packed = content(answer)
        if b"content-encoding: gzip" not in head.lower():
            packed = gzip.compress(packed)
        assert gzip.decompress(packed)
        seen.append(request)
        if what == "cut":
            packed = packed[: len(packed) // 2]
        elif what == "garbage":
            packed = packed[:20] + b"\xff\x00" * 20 + packed[60:]
        elif what == "sum":
            packed = packed[:-8] + b"\0\0\0\0" + packed[-4:]
        else:
            packed = b"nothing that anybody packed"
        extra = (
            ()
            if b"content-encoding" in head.lower()
            else (b"Content-Encoding: gzip",)
        )
        return rebuilt(answer, packed, *extra)

    between.after = harm
    for method in METHODS:
        with fails_with(exceptions.ResponseError):
            read_all(driver, [m], method)
    assert seen


def test_error_in_the_middle_of_an_answer(make_conf, between, indexer_driver):
    """A Flux error that occurs once rows are on their way is inside a 200.

    On the way the query gets a second part, one that fails late.
    """
    driver = make_driver(make_conf, between, influxdb_query_language="flux")
    m = metric(policy((10**6, 60)))
    write(
        driver,
        {m: {T0 + i * NS: float(i) for i in range(60000)}},
        indexer_driver,
    )
    seen = []

    def make_it_fail(request):
        if request.path.startswith(FLUX):
            asked = json.loads(request.body)
            before, found, _ = asked["query"].partition(" |> keep(")
            assert found
            failing = (
                f"{before} |> filter(fn: (r) => if r._value > 59990.0 then"
                ' die(msg: "out of order") else true) |> yield(name: "b")'
            )
            # Without a group(), which would hold back everything.
            asked["query"] = f'{before} |> yield(name: "a")\n{failing}'
            request.body = json.dumps(asked).encode()
        return None

    def look(request, answer):
        if request.path.startswith(FLUX):
            seen.append(answer)
        return answer

    between.before, between.after = make_it_fail, look
    for _ in range(50):
        with fails_with(exceptions.QueryError) as error:
            read_all(driver, [m], "std")
        assert "out of order" in str(error.value)
        # Which part it does first is up to the server.
        if seen[-1].startswith(b"HTTP/1.1 200"):
            assert str(m.id).encode() in seen[-1]
            assert b",error,reference" in seen[-1]
            break
    else:
        pytest.skip("InfluxDB noticed each time before it answered")


def test_error_of_a_query(driver, between, stored):
    """One that the server turns down."""

    def garble(request):
        if is_query(request):
            request.body = request.body.replace(b"from", b"form").replace(
                b"FROM", b"FORM"
            )
        return None

    between.before = garble
    # Over a connection that is open, and over a new one.
    for reader in (driver, InfluxDBStorage(driver.conf)):
        between.requests.clear()
        with pytest.raises(exceptions.InfluxDBError) as error:
            read_all(reader, stored, "mean")
        assert not isinstance(
            error.value.__cause__, exceptions.UnavailableError
        )
        assert "form" in str(error.value).lower()
        # Nothing that would be repeated.
        assert len([r for r in between.requests if is_query(r)]) == 1


# Statuses ------------------------------------------------------------------


def flaky(times, status, *headers, paths=(*WRITES, *QUERIES)):
    """Answers with a status some times, and then lets InfluxDB do it."""
    left = [times]

    def answer(request):
        if request.path.startswith(paths) and left[0]:
            left[0] -= 1
            return proxy.answer(
                status, b'{"message": "for now"}', "application/json", *headers
            )
        return None

    return answer


@pytest.mark.parametrize(
    "status",
    [
        "429 Too Many Requests",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
        "504 Gateway Timeout",
    ],
)
def test_repeated_while_that_may_help(
    make_conf, between, indexer_driver, logged, status
):
    driver = InfluxDBStorage(
        make_conf(
            influxdb_retention=False,
            influxdb_metric_info=False,
            influxdb_url=between.url,
            influxdb_max_retries=2,
        ).storage
    )
    m = metric(policy((10**6, 60)))
    driver.buckets.ensure(m.archive_policy)
    between.requests.clear()
    between.before = flaky(2, status)
    write(driver, {m: {T0: 1.0}}, indexer_driver)
    assert len(between.requests) == 3
    # Said once in five minutes.
    (warning,) = logged.warnings()
    assert "for now" in warning
    between.before = flaky(2, status)
    assert read_all(driver, [m], "mean") == {m: {T0: 1.0}}
    # No more than that.
    between.before = flaky(100, status)
    for attempt in (
        lambda: write(driver, {m: {T0: 2.0}}, indexer_driver),
        lambda: read_all(driver, [m], "mean"),
    ):
        between.requests.clear()
        with fails_with(exceptions.UnavailableError) as error:
            attempt()
        assert status[:3] in str(error.value)
        assert len(between.requests) == 3
    between.before = None
    assert read_all(driver, [m], "mean") == {m: {T0: 1.0}}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request", exceptions.RefusedError),
        ("401 Unauthorized", exceptions.AccessError),
        ("403 Forbidden", exceptions.AccessError),
        ("404 Not Found", exceptions.ConfigurationError),
        ("422 Unprocessable Entity", exceptions.RefusedError),
    ],
)
def test_not_repeated(make_conf, between, indexer_driver, status, kind):
    driver = InfluxDBStorage(
        make_conf(influxdb_retention=False, influxdb_url=between.url).storage
    )
    m = metric(policy((10**6, 60)))
    driver.buckets.ensure(m.archive_policy)
    between.requests.clear()
    between.before = flaky(100, status)
    with pytest.raises(kind) as error:
        write(driver, {m: {T0: 2.0}}, indexer_driver)
    assert "for now" in str(error.value)
    if kind is not exceptions.RefusedError:
        assert "[storage] influxdb_" in str(error.value)
    assert len(between.requests) == 1
    # Nothing was dropped as if it were the points' fault.
    assert driver.statistics["refused measures"] == 0


def test_retry_after(make_conf, between, indexer_driver):
    """The server says when to come back."""
    driver = InfluxDBStorage(
        make_conf(
            influxdb_retention=False,
            influxdb_metric_info=False,
            influxdb_url=between.url,
            influxdb_max_retries=1,
        ).storage
    )
    m = metric(policy((10**6, 60)))
    driver.buckets.ensure(m.archive_policy)
    between.requests.clear()
    between.before = flaky(1, "503 Service Unavailable", "Retry-After: 2")
    write(driver, {m: {T0: 1.0}}, indexer_driver)
    first, second = between.requests
    assert second.started - first.answered >= 2


def test_retry_after_is_bounded(make_conf, between, indexer_driver):
    driver = InfluxDBStorage(
        make_conf(
            influxdb_retention=False,
            influxdb_metric_info=False,
            influxdb_url=between.url,
            influxdb_max_retries=5,
            influxdb_timeout=1,
        ).storage
    )
    m = metric(policy((10**6, 60)))
    driver.buckets.ensure(m.archive_policy)
    between.requests.clear()
    between.before = flaky(
        100, "503 Service Unavailable", "Retry-After: 86400"
    )
    # The test would not end if it were.
    with pytest.raises(exceptions.UnavailableError):
        write(driver, {m: {T0: 1.0}}, indexer_driver)
    assert len(between.requests) <= 6
