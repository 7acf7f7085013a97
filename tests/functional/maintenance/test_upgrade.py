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
"""What gnocchi-upgrade says, and what nobody ever says: the token."""

import contextlib
import io
import logging
import pathlib
import subprocess
import sys
import traceback

import pytest
from gnocchi import storage
from servers import free_port

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.incoming import InfluxDBIncoming
from gnocchi_influxdb.storage import InfluxDBStorage
from tests.support import by_hand, proxy
from tests.support.samples import (
    T0,
    fails_with,
    metric,
    policy,
    read,
    write,
)


def complaint(conf, kind):
    with fails_with(kind) as error:
        InfluxDBStorage(conf.storage).upgrade()
    said = str(error.value)
    # One sentence for a terminal, not the dump of an answer.
    assert "\n" not in said
    assert len(said) < 400
    return said


def test_all_is_well(storage_conf, influxdb, logged):
    driver = InfluxDBStorage(storage_conf.storage)
    driver.upgrade()
    assert logged.warnings() == []
    where = f"organization {influxdb.org}"
    if influxdb.release == 1:
        prefix = storage_conf.storage.influxdb_bucket_prefix
        where = f"database {prefix.removesuffix('/')}"
    assert str(driver) == f"InfluxDBStorage: {influxdb.url} ({where})"


@pytest.mark.parametrize("is_on", [True, False])
def test_downsampling_is_announced(make_conf, logged, is_on):
    conf = make_conf(influxdb_downsampling=is_on)
    InfluxDBStorage(conf.storage).upgrade()
    said = [record.getMessage() for record in logged.records]
    lines = [line for line in said if "gnocchi-influxdb downsample" in line]
    assert len(lines) == is_on


@pytest.mark.only_2x("a 1.x may have no users")
@pytest.mark.parametrize("token", [None, ""])
def test_no_token(make_conf, token):
    said = complaint(
        make_conf(influxdb_token=token), exceptions.ConfigurationError
    )
    assert "influxdb_token is not set" in said
    assert "influx auth create --org gnocchi" in said


def test_wrong_token(make_conf):
    said = complaint(make_conf(influxdb_token="wrong"), exceptions.AccessError)
    assert "401" in said
    assert "influxdb_token" in said


@pytest.mark.only_2x("1.x has no organizations")
def test_wrong_organization(make_conf):
    said = complaint(
        make_conf(influxdb_org="nobody"), exceptions.ConfigurationError
    )
    assert "knows no organization 'nobody'" in said
    assert "influxdb_org" in said


@pytest.mark.only_2x("1.x has no organizations")
def test_token_that_shows_nothing(make_conf, influxdb):
    token = by_hand.make_token(influxdb, ("read", "tasks"))
    said = complaint(make_conf(influxdb_token=token), exceptions.AccessError)
    assert "may not read the organization 'gnocchi'" in said
    assert "influxdb_token" in said


def test_no_server(make_conf):
    url = f"http://127.0.0.1:{free_port()}"
    said = complaint(
        make_conf(influxdb_url=url, influxdb_max_retries=0),
        exceptions.UnavailableError,
    )
    assert url in said
    assert "influxdb_url" in said


def test_no_such_host(make_conf):
    said = complaint(
        make_conf(
            influxdb_url="http://nobody.invalid:8086", influxdb_max_retries=0
        ),
        exceptions.UnavailableError,
    )
    assert "http://nobody.invalid:8086" in said
    assert "influxdb_url" in said


@pytest.mark.parametrize(
    "status",
    [
        "200 OK",
        "204 No Content",
        "301 Moved Permanently",
        "400 Bad Request",
        "404 Not Found",
        "405 Method Not Allowed",
    ],
)
def test_not_an_influxdb(make_conf, status):
    body = b"" if status.startswith("204") else proxy.PAGE * 50
    with proxy.Proxy(
        "http://127.0.0.1:1", before=lambda _: proxy.answer(status, body)
    ) as other:
        said = complaint(
            make_conf(influxdb_url=other.url), exceptions.InfluxDBError
        )
    assert other.url in said
    assert "influxdb_url" in said


def with_version(version):
    def change(request, answer):
        return answer.replace(b"X-Influxdb-Version: v2.", b"X-Was: ").replace(
            b"\r\n",
            f"\r\nX-Influxdb-Version: {version}\r\n".encode() + proxy.CLOSE,
            1,
        )

    return change


@pytest.mark.parametrize("version", ["0.13.0", "v3.0.1", "3.4.0"])
def test_another_influxdb(make_conf, influxdb, version):
    with proxy.Proxy(influxdb.url, after=with_version(version)) as between:
        said = complaint(
            make_conf(influxdb_url=between.url), exceptions.ConfigurationError
        )
    assert version.removeprefix("v") in said
    assert "InfluxDB 2.7 or a later 2.x, or 1.8 or a later 1.x" in said


@pytest.mark.only_2x("see test_version1")
@pytest.mark.parametrize(
    ("version", "warns"),
    [("2.0.9", True), ("v2.6.1", True), ("v2.7.0", False), ("2.10.0", False)],
)
def test_older_or_newer(make_conf, influxdb, logged, version, warns):
    with proxy.Proxy(influxdb.url, after=with_version(version)) as between:
        InfluxDBStorage(make_conf(influxdb_url=between.url).storage).upgrade()
    warnings = logged.warnings()
    assert len(warnings) == warns
    if warns:
        assert "tested with 2.7 and later" in warnings[0]


def test_below_a_path(make_conf, influxdb, indexer_driver):
    def strip(request):
        if not request.path.startswith("/tsdb/"):
            return proxy.answer("404 Not Found", proxy.PAGE)
        request.head = request.head.replace(b" /tsdb/", b" /", 1)
        return None

    with proxy.Proxy(influxdb.url, before=strip) as between:
        m = metric(policy((10**6, 60)))
        for url in (f"{between.url}/tsdb", f"{between.url}/tsdb/"):
            driver = InfluxDBStorage(
                make_conf(influxdb_url=url, influxdb_retention=False).storage
            )
            driver.upgrade()
            write(driver, {m: {T0: 1.0}}, indexer_driver)
            assert list(read(driver, m, "mean", 60).values()) == [1.0]
            assert f"{between.url}/tsdb (" in str(driver)


# The token -----------------------------------------------------------------


@pytest.fixture
def everything_said(capfd):
    """Callable: all that was logged, at any level, and printed so far."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        logging.Formatter("%(name)s %(levelname)s %(message)s")
    )
    handler.setLevel(logging.DEBUG)
    root = logging.getLogger()
    ours = logging.getLogger("gnocchi_influxdb")
    before = root.level

    def listen():
        # Gnocchi replaces handlers and levels with each configuration.
        root.setLevel(logging.DEBUG)
        ours.setLevel(logging.DEBUG)
        for name in ("urllib3", "gnocchi", "influxdb_client"):
            logging.getLogger(name).setLevel(logging.DEBUG)
        if handler not in root.handlers:
            root.addHandler(handler)

    def said():
        out, err = capfd.readouterr()
        return stream.getvalue() + out + err

    said.listen = listen
    yield said
    root.removeHandler(handler)
    root.setLevel(before)


def with_locals(error):
    """A traceback with the local variables of our own frames, and all
    exceptions that led to this one."""
    trace = traceback.TracebackException.from_exception(
        error, capture_locals=True
    )
    text = "".join(traceback.format_exception(error))
    while trace is not None:
        for frame in trace.stack:
            if "gnocchi_influxdb/" in frame.filename:
                text += f"{frame}: {frame.locals}\n"
        trace = trace.__cause__ or trace.__context__
    return text


def outcome(attempt):
    try:
        attempt()
    except (exceptions.InfluxDBError, storage.MetricDoesNotExist) as error:
        return error
    return None


def use(conf, indexer_driver, everything_said):
    """Everything that a driver can be asked for, whatever comes of it."""
    text = []
    errors = 0
    driver = InfluxDBStorage(conf.storage)
    queue = InfluxDBIncoming(conf.incoming)
    everything_said.listen()
    m = metric(policy((10**6, 60)))
    text += [
        str(driver),
        repr(driver),
        repr(driver.client),
        str(driver.client),
        repr(driver.buckets),
        str(queue),
        repr(queue),
        repr(conf),
        repr(conf.storage),
    ]
    for attempt in (
        driver.upgrade,
        lambda: write(driver, {m: {T0: 1.0}}, indexer_driver),
        lambda: read(driver, m, "mean", 60),
        lambda: read(driver, m, "std", 60),
        lambda: driver._delete_metric(m),
        driver.client.ping,
    ):
        error = outcome(attempt)
        if error is not None:
            errors += 1
            text += [str(error), repr(error), with_locals(error)]
            logging.getLogger("somebody").error("It failed", exc_info=error)
    conf.log_opt_values(logging.getLogger("somebody"), logging.DEBUG)
    return "\n".join(text) + everything_said(), errors


SECRET = "qDZ81KfTOKENpW0v"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"influxdb_org": "nobody"},
        {"influxdb_max_retries": 1},
        {"influxdb_cafile": "/nowhere/ca.pem"},
        {"influxdb_token": SECRET + "\n"},
        {"influxdb_token": SECRET + "é"},
        {"influxdb_token": "admin:" + SECRET},
        {"influxdb_token": " " + SECRET},
        {"influxdb_gzip": True},
    ],
)
@pytest.mark.parametrize("server", ["real", "none", "page", "cut", "tls"])
def test_nobody_says_the_token(
    make_conf,
    influxdb,
    indexer_driver,
    everything_said,
    options,
    server,
):
    options = {"influxdb_token": SECRET, "influxdb_max_retries": 0, **options}
    with contextlib.ExitStack() as stack:
        if server == "none":
            options["influxdb_url"] = f"http://127.0.0.1:{free_port()}"
        elif server == "page":
            other = stack.enter_context(
                proxy.Proxy(
                    influxdb.url,
                    before=lambda r: proxy.answer("200 OK", proxy.PAGE),
                )
            )
            options["influxdb_url"] = other.url
        elif server == "cut":
            other = stack.enter_context(
                proxy.Proxy(influxdb.url, after=lambda _, a: a[: len(a) // 2])
            )
            options["influxdb_url"] = other.url
        elif server == "tls":
            options["influxdb_url"] = influxdb.url.replace("http", "https")
        conf = make_conf(**options)
        text, errors = use(conf, indexer_driver, everything_said)
    assert errors >= 1
    assert "influxdb_token" in text  # of log_opt_values, at least
    assert SECRET not in text


def test_nobody_says_the_right_token(
    make_conf, influxdb, indexer_driver, everything_said
):
    conf = make_conf(influxdb_retention=False)
    text, errors = use(conf, indexer_driver, everything_said)
    assert errors == 0
    assert "POST" in text  # of the transport, at DEBUG
    assert influxdb.token not in text


def test_credentials_in_the_url(
    make_conf, influxdb, indexer_driver, everything_said
):
    url = influxdb.url.replace("://", f"://user:{SECRET}@")
    conf = make_conf(influxdb_url=url, influxdb_retention=False)
    driver = InfluxDBStorage(conf.storage)
    everything_said.listen()
    assert SECRET not in str(driver)
    driver.upgrade()
    assert SECRET not in everything_said()


def test_the_command_says_it_in_a_line(installation):
    """As the operator sees it, who has a wrong token."""
    path = installation.write_configuration(
        influxdb_token="wrong", influxdb_max_retries=0
    )
    done = subprocess.run(
        [
            pathlib.Path(sys.executable).with_name("gnocchi-upgrade"),
            f"--config-file={path}",
            "--skip-index",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=installation.directory,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = [x for x in done.stderr.splitlines() if "influxdb_token" in x]
    assert " ERROR " in line
    assert "wrong" not in line
