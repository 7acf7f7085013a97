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
"""Requests over a connection that is open already."""

import contextlib
import gzip
import itertools
import random
import threading

import pytest

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.client import client, transport
from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support import proxy
from tests.support.by_hand import stored
from tests.support.samples import T0, metric, policy

M = metric(policy((10**6, 60)))


@pytest.fixture
def driver(make_conf, between):
    made = InfluxDBStorage(
        make_conf(
            influxdb_retention=False,
            influxdb_url=between.url,
            influxdb_max_retries=0,
            influxdb_timeout=2,
        ).storage
    )
    made.buckets.ensure(M.archive_policy)
    between.requests.clear()
    return made


def line(time):
    return f"measure,metric={M.id} value=1.0 {time}\n".encode()


def send(driver, lines):
    driver.client.write(driver.buckets.name(M.archive_policy), lines)


@pytest.fixture
def opened(driver, monkeypatch):
    """A driver with an open connection, and those that it opens more."""
    send(driver, line(T0))
    made = []
    connect = transport.Transport._connect

    def spy(*args):
        made.append(args)
        return connect(*args)

    monkeypatch.setattr(transport.Transport, "_connect", spy)
    return made


@pytest.mark.parametrize("size", [1, 3 * transport._COPIED])
def test_it_is_used_again(driver, opened, between, influxdb, size):
    text = b"".join(map(line, range(T0, T0 + size // 60 + 1)))
    for _ in range(3):
        send(driver, text)
    assert not opened
    assert {request.connection for request in between.requests} == {
        between.requests[0].connection
    }
    assert between.requests[-1].body == text
    found = stored(influxdb, driver.buckets.name(M.archive_policy), M)
    assert len(found) == size // 60 + 1


def test_the_head_is_as_before(driver, opened, between):
    """Over a new connection and over one that was used."""
    send(driver, line(T0))

    def head(request):
        first, *others = request.head.decode().split("\r\n")
        return first, sorted(other.lower() for other in others)

    first, second = between.requests[-2:]
    assert not opened
    assert head(first) == head(second)


def test_the_server_has_closed_it(driver, opened, between):
    between.after = lambda request, real: real.replace(
        b"\r\n", b"\r\n" + proxy.CLOSE, 1
    )
    for _ in range(3):
        send(driver, line(T0))
    numbers = [request.connection for request in between.requests]
    # The first of the three still came over the first connection.
    assert len(set(numbers)) == len(numbers) - 1
    between.after = None
    opened.clear()
    send(driver, line(T0))
    send(driver, line(T0))
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "broke the connection"),
        (b"HTTP/1.1", "broke the connection"),
        (b"hello\r\n\r\n", "broke the connection"),
        (b"HTTP/1.1 204 No\r\nX: " + b"x" * 70000, "broke the connection"),
        (
            b"HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\nabc",
            "broke the connection",
        ),
        (
            b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
            "broke the connection",
        ),
        (None, "did not answer within"),
    ],
)
def test_broken_answers(driver, opened, between, answer, told):
    """A connection that ends so does not see another request."""
    answered = threading.Event()

    def before(request):
        if answer is None:
            answered.wait()
        return answer

    between.before = before
    driver.client._timeout = 0.2
    for _ in range(2):
        with pytest.raises(exceptions.UnavailableError, match=told):
            send(driver, line(T0))
    answered.set()
    between.before = None
    driver.client._timeout = 30
    for _ in range(2):
        send(driver, line(T0))
    first, *others = [request.connection for request in between.requests]
    assert others[0] == first
    # The second of those that fail, and those that don't.
    assert len(set(others[1:])) == 2
    assert first not in others[1:]
    assert len(opened) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 X\r\n" + proxy.CLOSE + b"\r\n",
        b"hello\r\n\r\n",
        # http.client takes it for the answer, which is still to come.
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
    ],
)
def test_not_used_again_though_it_is_open(make_conf, answer):
    good = b"HTTP/1.1 204 X\r\n\r\n"
    answers = [good, good, answer, good]
    connections = itertools.count()
    used = []

    def serve(line):
        number = next(connections)
        for _ in proxy.Proxy._incoming(number, line.makefile("rb")):
            used.append(number)
            line.sendall(answers[len(used) - 1])

    with proxy.Listener(serve) as server:
        conf = make_conf(
            influxdb_url=f"http://127.0.0.1:{server.port}",
            influxdb_max_retries=0,
        )
        asking = client.Client(conf.storage)
        for _ in answers:
            with contextlib.suppress(exceptions.InfluxDBError):
                asking.ping()
    assert used == [0, 0, 0, 1]


def test_an_interim_answer(driver, opened, between):
    between.after = lambda request, real: (
        b"HTTP/1.1 100 Continue\r\n\r\n" + real
    )
    send(driver, line(T0))
    assert not opened


def test_an_exception_from_outside(driver, opened, between, monkeypatch):
    """Somebody else's answer is not taken for one's own."""

    class Stop(BaseException):
        pass

    def stop(self):
        raise Stop

    with monkeypatch.context() as context:
        context.setattr(transport.http.client.HTTPResponse, "begin", stop)
        with pytest.raises(Stop):
            send(driver, line(T0))
    send(driver, line(T0))
    assert len({request.connection for request in between.requests}) == 2


@pytest.mark.only_2x("1.x may have no Flux at all")
def test_an_exception_of_who_takes_the_answer(
    driver, opened, between, monkeypatch
):
    """The rest of it is not read, whichever way it comes."""

    class Stop(BaseException):
        pass

    class Sink:
        def reset(self):
            pass

        def feed(self, piece):
            raise Stop

    query = "buckets()"
    whole = driver.client.query(query)
    monkeypatch.setattr(transport, "PIECE", 10)
    (connection,) = driver.client._transport._idle
    with pytest.raises(Stop):
        driver.client.query(query, Sink())
    assert connection.fileno() == -1
    assert not driver.client._transport._idle
    assert driver.client.query(query) == whole


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/a b", {}),
        ("/\u00e4", {}),
        ("/a\r\nX: y", {}),
        ("/a\n", {}),
        ("/a", {"Accept": "x\r\nX: y"}),
        ("/a", {"Accept": "x\n"}),
        ("/a", {"Accept": "x\r"}),
        ("/a", {"Accept": "\u00e4"}),
    ],
)
def test_nothing_is_smuggled_in(driver, between, path, headers):
    request = transport.Request("GET", path, 2, headers=headers)
    with pytest.raises(ValueError, match="quoted"):
        driver.client._transport.send(request)
    assert not between.requests


@pytest.mark.parametrize("size", [10, 10**6])
def test_compressed(make_conf, between, influxdb, size):
    """Both what is sent and what is answered, by hand or by InfluxDB."""
    body = random.Random(size).randbytes(size)
    packed = gzip.compress(body[: size // 2]) + gzip.compress(
        body[size // 2 :]
    )
    conf = make_conf(influxdb_url=between.url, influxdb_gzip=True)
    asking = client.Client(conf.storage, max_retries=0)

    def answer(content):
        return proxy.answer("200 OK", content).replace(
            b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1
        )

    between.before = lambda request: answer(packed)
    assert asking.get("/x") == body
    pieces = []

    class Sink:
        def reset(self):
            pieces.clear()

        def feed(self, piece):
            pieces.append(piece)

    assert asking.query("x", Sink()) == b""
    assert b"".join(pieces) == body
    for broken in (packed[:-1], packed[:5], packed[:-8] + 8 * b"x", b"hello"):
        between.before = lambda request, broken=broken: answer(broken)
        with pytest.raises(exceptions.ResponseError, match="decompressed"):
            asking.get("/x")
    # That it was cut on its way comes first.
    between.before = lambda request: answer(packed)[:-1]
    with pytest.raises(exceptions.UnavailableError, match="broke"):
        asking.get("/x")
    between.before = None
    asking.ping()


def test_idle_connections_are_bounded(driver, between, monkeypatch):
    monkeypatch.setattr(transport, "POOL_SIZE", 2)
    together = threading.Barrier(5)

    def before(request):
        together.wait(10)

    between.before = before
    threads = [
        threading.Thread(target=send, args=(driver, line(T0)))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(driver.client._transport._idle) == 2


@pytest.mark.parametrize(
    "url", ["http://:8086", "http://a..b:8086", f"http://{'x' * 64}.y:8086"]
)
def test_a_host_that_is_none(make_conf, url):
    asking = client.Client(make_conf(influxdb_url=url).storage)
    with pytest.raises(exceptions.InfluxDBError, match="influxdb_url"):
        asking.ping()
