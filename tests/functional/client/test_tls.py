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
"""TLS: what is trusted, what is shown, and what is said if it fails."""

import itertools
import socket
import ssl
import threading
import warnings

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.client import client
from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support import proxy
from tests.support.samples import T0, fails_with, metric, policy, read, write


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def cafile(authority, tmp_path):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def serving(certificate, demanded=None):
    """What a server needs to show a certificate, and to demand one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if demanded is not None:
        demanded.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture
def behind_tls(influxdb):
    """Callable: InfluxDB behind something that speaks TLS."""
    running = []

    def start(context):
        between = proxy.Proxy(influxdb.url, context=context)
        running.append(between.__enter__())
        return between

    yield start
    for between in running:
        between.__exit__(None, None, None)


def make(make_conf, between, **options):
    return InfluxDBStorage(
        make_conf(
            influxdb_url=between.url,
            influxdb_retention=False,
            influxdb_max_retries=0,
            **options,
        ).storage
    )


def test_not_used_again_with_more_behind_an_answer(
    make_conf, authority, cafile
):
    """Decrypted bytes that nobody has read are not the next answer."""
    context = serving(authority.issue_cert("127.0.0.1"))
    good = b"HTTP/1.1 204 X\r\n\r\n"
    more = b"HTTP/1.1 500 Not yours\r\n\r\n"
    connections = itertools.count()
    used = []

    def serve(line):
        number = next(connections)
        with context.wrap_socket(line, server_side=True) as tls:
            for _ in proxy.Proxy._incoming(number, tls.makefile("rb")):
                used.append(number)
                # A record, half of which http.client buffers.
                tls.sendall(good + more * 500 if len(used) == 2 else good)

    with proxy.Listener(serve) as server:
        conf = make_conf(
            influxdb_url=f"https://127.0.0.1:{server.port}",
            influxdb_cafile=cafile,
            influxdb_max_retries=0,
        )
        asking = client.Client(conf.storage)
        for _ in range(3):
            asking.ping()
    assert used == [0, 0, 1]


def works(driver, indexer_driver):
    driver.upgrade()
    m = metric(policy((10**6, 60)))
    write(driver, {m: {T0: 1.0}}, indexer_driver)
    assert list(read(driver, m, "mean", 60).values()) == [1.0]


def fails(driver, indexer_driver, *words):
    m = metric(policy((10**6, 60)))
    for attempt in (
        driver.upgrade,
        lambda: write(driver, {m: {T0: 1.0}}, indexer_driver),
        lambda: read(driver, m, "mean", 60),
    ):
        with fails_with(exceptions.ConfigurationError) as error:
            attempt()
        for word in words:
            assert word in str(error.value)


def test_private_authority(
    make_conf, authority, cafile, behind_tls, indexer_driver, logged
):
    between = behind_tls(serving(authority.issue_cert("127.0.0.1")))
    works(make(make_conf, between, influxdb_cafile=cafile), indexer_driver)
    assert logged.warnings() == []


def test_unknown_authority(
    make_conf, authority, behind_tls, indexer_driver, tmp_path
):
    between = behind_tls(serving(authority.issue_cert("127.0.0.1")))
    # That of the system does not know it.
    fails(
        make(make_conf, between),
        indexer_driver,
        between.url,
        "certificate verify failed",
        "influxdb_cafile",
    )
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    fails(
        make(make_conf, between, influxdb_cafile=str(other)),
        indexer_driver,
        "certificate verify failed",
    )
    assert between.requests == []


def test_wrong_host_name(
    make_conf, authority, cafile, behind_tls, indexer_driver
):
    between = behind_tls(serving(authority.issue_cert("influxdb.example")))
    fails(
        make(make_conf, between, influxdb_cafile=cafile),
        indexer_driver,
        between.url,
        "127.0.0.1",
        "influxdb_url",
    )
    assert between.requests == []


def test_mutual(
    make_conf, authority, cafile, behind_tls, indexer_driver, tmp_path
):
    clients = trustme.CA()
    between = behind_tls(serving(authority.issue_cert("127.0.0.1"), clients))
    gnocchi = clients.issue_cert("gnocchi.example")
    both = tmp_path / "both.pem"
    gnocchi.private_key_and_cert_chain_pem.write_to_path(both)
    works(
        make(
            make_conf,
            between,
            influxdb_cafile=cafile,
            influxdb_certfile=str(both),
        ),
        indexer_driver,
    )
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    gnocchi.private_key_pem.write_to_path(key)
    gnocchi.cert_chain_pems[0].write_to_path(certificate)
    works(
        make(
            make_conf,
            between,
            influxdb_cafile=cafile,
            influxdb_certfile=str(certificate),
            influxdb_keyfile=str(key),
        ),
        indexer_driver,
    )


def test_mutual_without_a_certificate(
    make_conf, authority, cafile, behind_tls, indexer_driver
):
    between = behind_tls(
        serving(authority.issue_cert("127.0.0.1"), trustme.CA())
    )
    driver = make(make_conf, between, influxdb_cafile=cafile)
    for _ in range(5):
        # Whether the server's complaint comes before the end of the
        # connection is a matter of luck.
        with pytest.raises(exceptions.InfluxDBError) as error:
            driver.upgrade()
        assert isinstance(
            error.value.__cause__,
            exceptions.ConfigurationError | exceptions.UnavailableError,
        )
        assert between.url in str(error.value)
    assert between.requests == []


def test_insecure(make_conf, authority, behind_tls, indexer_driver, logged):
    between = behind_tls(serving(authority.issue_cert("influxdb.example")))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        driver = make(make_conf, between, influxdb_insecure=True)
        for _ in range(3):
            works(driver, indexer_driver)
    (warning,) = logged.warnings()
    assert "influxdb_insecure" in warning
    assert [w for w in caught if "Unverified" in str(w.message)] == []


def test_http_to_somewhere_else(make_conf, logged):
    InfluxDBStorage(make_conf(influxdb_url="http://10.0.0.1:8086").storage)
    (warning,) = logged.warnings()
    assert "influxdb_url uses http" in warning


@pytest.mark.parametrize(
    "option", ["influxdb_cafile", "influxdb_certfile", "influxdb_keyfile"]
)
@pytest.mark.parametrize("state", ["absent", "garbage", "directory"])
def test_unusable_file(
    make_conf, authority, indexer_driver, tmp_path, logged, option, state
):
    path = tmp_path / "file.pem"
    if state == "garbage":
        path.write_text("not a certificate\n")
    elif state == "directory":
        path.mkdir()
    certificate = tmp_path / "good.pem"
    authority.issue_cert("x").cert_chain_pems[0].write_to_path(certificate)
    options = {"influxdb_certfile": str(certificate)}
    if option != "influxdb_keyfile":
        options = {}
    driver = InfluxDBStorage(
        make_conf(
            influxdb_url="https://127.0.0.1:1",
            **options,
            **{option: str(path)},
        ).storage
    )
    # Once when it starts, and whenever it is used.
    (error,) = logged.warnings()
    assert str(path) in error
    assert option in error
    fails(driver, indexer_driver, option, str(path))


def test_key_without_certificate(make_conf, indexer_driver, tmp_path):
    driver = InfluxDBStorage(
        make_conf(
            influxdb_url="https://127.0.0.1:1",
            influxdb_keyfile=str(tmp_path / "key.pem"),
        ).storage
    )
    fails(driver, indexer_driver, "influxdb_keyfile needs influxdb_certfile")


def test_encrypted_key(make_conf, authority, indexer_driver, tmp_path):
    """Nobody is there to type its password."""
    issued = authority.issue_cert("gnocchi.example")
    certificate, path = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    key = serialization.load_pem_private_key(
        issued.private_key_pem.bytes(), None
    )
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    driver = InfluxDBStorage(
        make_conf(
            influxdb_url="https://127.0.0.1:1",
            influxdb_certfile=str(certificate),
            influxdb_keyfile=str(path),
        ).storage
    )
    fails(driver, indexer_driver, "influxdb_keyfile", "encrypted", str(path))


def test_https_to_a_server_without(make_conf, influxdb, indexer_driver):
    driver = InfluxDBStorage(
        make_conf(influxdb_url=influxdb.url.replace("http", "https")).storage
    )
    fails(driver, indexer_driver, "influxdb_url", "No TLS")


def test_http_to_a_server_with_tls(
    make_conf, authority, behind_tls, indexer_driver
):
    between = behind_tls(serving(authority.issue_cert("127.0.0.1")))
    between.url = between.url.replace("https", "http")
    driver = make(make_conf, between)
    with pytest.raises(exceptions.InfluxDBError) as error:
        driver.upgrade()
    assert between.url in str(error.value)


def test_gone_in_the_middle_of_a_handshake(make_conf, cafile, indexer_driver):
    """What a restart looks like from behind a balancer of TCP: no reason to
    look at options, and one to try again."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up():
            while True:
                try:
                    line, _ = server.accept()
                except OSError:
                    return
                with line:
                    asked.append(line.recv(10))
                    line.shutdown(socket.SHUT_WR)
                    while line.recv(1000):
                        pass

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        driver = InfluxDBStorage(
            make_conf(
                influxdb_url=f"https://127.0.0.1:{server.getsockname()[1]}",
                influxdb_cafile=cafile,
                influxdb_max_retries=1,
            ).storage
        )
        with fails_with(exceptions.UnavailableError):
            driver.upgrade()
        server.shutdown(socket.SHUT_RDWR)
    assert len(asked) == 2
