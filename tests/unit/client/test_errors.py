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
"""Statuses, words and small answers of a server.

The words are those of InfluxDB 2.9.1, 1.13.2 and of a cluster's source.
"""

import gzip
import http.client
import json
import ssl
import zlib

import msgpack
import pytest

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.client import errors, transport

URL = "http://influxdb.example:8086"
WRITE, QUERY = "/api/v2/write?org=gnocchi", "/api/v2/query?org=gnocchi"


def reply(status, text, **headers):
    body = text if isinstance(text, bytes) else text.encode()
    message = http.client.HTTPMessage()
    for name, value in headers.items():
        message[name] = value
    return transport.Response(status, message, body)


def said(status, message, path=WRITE, code="invalid", **headers):
    text = json.dumps({"code": code, "message": message})
    return errors.error(URL, "gnocchi", path, reply(status, text, **headers))


@pytest.mark.parametrize(
    ("status", "message", "path", "kind"),
    [
        (401, "unauthorized access", WRITE, exceptions.AccessError),
        (
            401,
            "write:orgs/82d809e615e25bcd/buckets is unauthorized",
            "/api/v2/buckets",
            exceptions.AccessError,
        ),
        (
            403,
            "insufficient permissions for write",
            WRITE,
            exceptions.ForbiddenError,
        ),
        (
            404,
            'bucket "nope" not found',
            WRITE,
            exceptions.BucketNotFoundError,
        ),
        (
            404,
            'failed to initialize execute state: could not find bucket "nope"',
            QUERY,
            exceptions.BucketNotFoundError,
        ),
        (
            404,
            'organization name "x" not found',
            WRITE,
            exceptions.ConfigurationError,
        ),
        (
            400,
            'failed to decode request body: organization name "x" not found',
            QUERY,
            exceptions.ConfigurationError,
        ),
        (404, "path not found", QUERY, exceptions.ConfigurationError),
        (
            400,
            "unable to parse 'm v=x 1': invalid boolean",
            WRITE,
            exceptions.RefusedError,
        ),
        (
            400,
            "failed to initialize execute state: queue length exceeded",
            QUERY,
            exceptions.UnavailableError,
        ),
        (
            400,
            "error @1:50-1:53: undefined identifier foo",
            QUERY,
            exceptions.QueryError,
        ),
        (
            422,
            "bucket with name x already exists",
            "/api/v2/buckets",
            exceptions.RefusedError,
        ),
        (
            # In passing, of a bucket that is being made.
            500,
            "unexpected error writing points to database: database not found:"
            " 56fdcb46af307627",
            WRITE,
            exceptions.BucketNotFoundError,
        ),
        (
            500,
            "database not found: 56fdcb46af307627",
            WRITE,
            exceptions.BucketNotFoundError,
        ),
        (
            500,
            "unexpected error writing points to database: engine: cache-max"
            "-memory-size exceeded: (1/1)",
            WRITE,
            exceptions.UnavailableError,
        ),
        (429, "too many requests", WRITE, exceptions.UnavailableError),
        (503, "unavailable", WRITE, exceptions.UnavailableError),
    ],
)
def test_error(status, message, path, kind):
    error = said(status, message, path)
    assert type(error) is kind
    assert URL in str(error)


WRITE_1X = "/write?db=gnocchi&rp=low&precision=n&consistency=one"


@pytest.mark.parametrize(
    ("status", "reason", "path", "kind"),
    [
        (401, "authorization failed", WRITE_1X, exceptions.AccessError),
        (
            403,
            "error authorizing query: a not authorized to execute statement"
            " 'CREATE DATABASE x', requires admin privilege",
            "/query",
            exceptions.ForbiddenError,
        ),
        (
            403,
            '"a" user is not authorized to write to database "gnocchi"',
            WRITE_1X,
            exceptions.ForbiddenError,
        ),
        (
            403,
            "Flux query service disabled. Verify flux-enabled=true in the"
            " [http] section of the InfluxDB config.",
            QUERY,
            exceptions.ForbiddenError,
        ),
        (
            500,
            'failed to initialize execute state: user "a", requires READ for'
            ' database "gnocchi"',
            QUERY,
            exceptions.ForbiddenError,
        ),
        (
            404,
            'database not found: "gnocchi"',
            WRITE_1X,
            exceptions.BucketNotFoundError,
        ),
        (
            500,
            "retention policy not found: low",
            WRITE_1X,
            exceptions.BucketNotFoundError,
        ),
        (
            500,
            "failed to initialize execute state: no database",
            QUERY,
            exceptions.BucketNotFoundError,
        ),
        (
            500,
            "failed to initialize execute state: invalid retention policy",
            QUERY,
            exceptions.BucketNotFoundError,
        ),
        (
            500,
            "compilation failed: error @1:1-1:5: expected RPAREN, got EOF",
            QUERY,
            exceptions.QueryError,
        ),
        (
            500,
            "error @1:1-1:5: undefined identifier form",
            QUERY,
            exceptions.QueryError,
        ),
        (
            400,
            "error parsing query: found SELEC, expected SELECT",
            "/query",
            exceptions.RefusedError,
        ),
        (
            413,
            "Request Entity Too Large",
            WRITE_1X,
            exceptions.RefusedError,
        ),
        (500, "timeout", WRITE_1X, exceptions.UnavailableError),
        (
            500,
            "engine: cache-max-memory-size exceeded: (1048582/1048576)",
            WRITE_1X,
            exceptions.UnavailableError,
        ),
        # Of a cluster, from coordinator/points_writer.go.
        (500, "write failed", WRITE_1X, exceptions.UnavailableError),
        # Not as many copies as influxdb_consistency asks for.
        (500, "partial write", WRITE_1X, exceptions.UnavailableError),
        (
            500,
            "write failed: hinted handoff queue not empty",
            WRITE_1X,
            exceptions.UnavailableError,
        ),
        (
            500,
            "write failed: error code 1: write shard 7: partial write: field"
            ' type conflict: input field "value" on measurement "measure" is'
            " type float, already exists as type integer dropped=2",
            WRITE_1X,
            exceptions.PartialWriteError,
        ),
        (
            400,
            "partial write: max-values-per-tag limit exceeded (61/50):"
            ' measurement="measure" tag="metric" value="b" dropped=1',
            WRITE_1X,
            exceptions.ConfigurationError,
        ),
        (
            400,
            "partial write: max-series-per-database exceeded database=gnocchi"
            " limit=20 series=20 keys=30 dropped=30",
            WRITE_1X,
            exceptions.ConfigurationError,
        ),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_error_of_1x(status, reason, path, kind, packed):
    said = {"error": reason}
    answered = reply(status, json.dumps(said))
    if packed:
        kind_of = {"Content-Type": "application/x-msgpack"}
        answered = reply(status, msgpack.packb(said), **kind_of)
    error = errors.error(URL, "gnocchi", path, answered)
    assert type(error) is kind
    assert URL in str(error)
    assert reason.split(" (")[0] in str(error)


@pytest.mark.parametrize(
    ("reason", "dropped", "is_conflict"),
    [
        (
            "partial write: points beyond retention policy dropped=3",
            3,
            False,
        ),
        (
            "partial write: dropped 1 points outside retention policy of"
            " duration 720h0m0s - oldest point m at 1970-01-01T00:00:00Z"
            " dropped because it violates a Retention Policy Lower Bound at"
            " 2026-10-23T16:40:18Z dropped=1 for database: gnocchi for"
            " retention policy: low",
            1,
            False,
        ),
        (
            'partial write: field type conflict: input field "value" on'
            ' measurement "measure" is type integer, already exists as type'
            " float dropped=4 for database: gnocchi",
            4,
            True,
        ),
        (
            "partial write: unable to parse 'm va lue=1i 1': invalid field"
            " format\nunable to parse '= =': missing tag key dropped=0",
            2,
            False,
        ),
    ],
)
def test_partial_write_of_1x(reason, dropped, is_conflict):
    error = errors.error(
        URL, "gnocchi", WRITE_1X, reply(400, json.dumps({"error": reason}))
    )
    assert type(error) is exceptions.PartialWriteError
    assert (error.dropped, error.type_conflict) == (dropped, is_conflict)


def test_error_of_flux_of_1x_inside_of_csv():
    answered = reply(
        500,
        "error\r\nruntime error @2:272: out of order\r\n",
        **{"Content-Type": "text/csv; charset=utf-8"},
    )
    error = errors.error(URL, "gnocchi", QUERY, answered)
    assert type(error) is exceptions.QueryError
    assert "out of order" in str(error)


def test_token_of_2x_for_1x():
    error = errors.error(
        URL,
        "gnocchi",
        WRITE_1X,
        reply(
            401,
            json.dumps(
                {"error": "unable to parse authentication credentials"}
            ),
        ),
    )
    assert "(user:password, for InfluxDB 1.x)" in str(error)


def test_long_statement():
    reason = (
        "error authorizing query: a not authorized to execute statement 'SEL"
        + " OR metric = 'x'" * 100
        + "', requires READ on gnocchi"
    )
    error = errors.error(
        URL, "gnocchi", "/query", reply(403, json.dumps({"error": reason}))
    )
    assert len(str(error)) < 800
    assert "requires READ on gnocchi" in str(error)


def test_out_of_retention():
    error = said(
        422,
        "failure writing points to database: partial write: dropped 2 points"
        " outside retention policy of duration 720h0m0s - oldest point"
        " measure,metric=x at 2020-01-01T00:00:00Z dropped because it violates"
        " a Retention Policy Lower Bound at 2026-10-23T14:00:00Z, newest point"
        " measure,metric=x at 2020-01-01T00:00:00Z dropped because it violates"
        " a Retention Policy Lower Bound at 2026-10-23T14:00:00Z dropped=2"
        " for database: 1 for retention policy: autogen",
    )
    assert type(error) is exceptions.PartialWriteError
    assert error.dropped == 2
    assert not error.type_conflict
    assert error.status == 422
    assert "outside retention policy" in error.reason


def test_type_conflict():
    error = said(
        422,
        "failure writing points to database: partial write: field type"
        ' conflict: input field "value" on measurement "measure" is type'
        " float, already exists as type integer dropped=10 for database: 1"
        " for retention policy: autogen",
    )
    assert type(error) is exceptions.PartialWriteError
    assert error.dropped == 10
    assert error.type_conflict


@pytest.mark.parametrize(("value", "seconds"), [("7", 7), ("0", 0)])
def test_retry_after(value, seconds):
    error = said(503, "busy", **{"Retry-After": value})
    assert type(error) is exceptions.UnavailableError
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    "value", ["Fri, 31 Dec 1999 23:59:59 GMT", "-5", "nan", "", "soon", "\xb2"]
)
def test_retry_after_of_no_use(value):
    error = said(503, "busy", **{"Retry-After": value})
    assert type(error) is exceptions.UnavailableError
    assert error.retry_after is None


@pytest.mark.parametrize("status", [400, 404, 405, 301, 422])
@pytest.mark.parametrize("path", [WRITE, QUERY])
def test_not_influxdb(status, path):
    page = "<html>\n<h1>NoSuchBucket</h1>\n" + "x" * 5000
    error = errors.error(URL, "gnocchi", path, reply(status, page))
    assert not isinstance(
        error, exceptions.BucketNotFoundError | exceptions.PartialWriteError
    )
    assert "influxdb_url" in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 500


@pytest.mark.parametrize("text", ["", "[]", "3", "null", '{"a": 1}', "\xff"])
def test_words_that_are_none(text):
    error = errors.error(URL, "gnocchi", WRITE, reply(400, text))
    assert type(error) is exceptions.RefusedError
    error = errors.error(
        URL, "gnocchi", WRITE, reply(503, text.encode("latin-1"))
    )
    assert type(error) is exceptions.UnavailableError


@pytest.mark.parametrize("text", [b"", b"[]", b"<html>", b"\xff", b"null"])
def test_json_object(text):
    assert errors.json_object(URL, reply(200, b'{"a": 1}')) == {"a": 1}
    with pytest.raises(exceptions.ResponseError, match="influxdb_url"):
        errors.json_object(URL, reply(200, text))


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            errors.ConnectError(111, "Connection refused"),
            exceptions.UnavailableError,
            "influxdb_url",
        ),
        (
            TimeoutError("timed out"),
            exceptions.UnavailableError,
            "influxdb_timeout",
        ),
        (
            ConnectionResetError(104, "Connection reset by peer"),
            exceptions.UnavailableError,
            "broke the connection",
        ),
        (
            http.client.IncompleteRead(b"", 9),
            exceptions.UnavailableError,
            "broke the connection",
        ),
        (
            ssl.SSLCertVerificationError("certificate verify failed"),
            exceptions.ConfigurationError,
            "influxdb_cafile",
        ),
        (
            ssl.SSLEOFError(8, "EOF occurred"),
            exceptions.UnavailableError,
            "broke the connection",
        ),
        (
            ssl.SSLZeroReturnError(6, "TLS/SSL connection has been closed"),
            exceptions.UnavailableError,
            "broke the connection",
        ),
        (
            gzip.BadGzipFile("Not a gzipped file"),
            exceptions.ResponseError,
            "decompressed",
        ),
        (
            zlib.error("invalid stored block lengths"),
            exceptions.ResponseError,
            "decompressed",
        ),
    ],
)
def test_transport_error(error, kind, words):
    found = errors.transport_error(URL, error)
    assert type(found) is kind
    assert words in str(found)
    assert URL in str(found)
    assert " at 0x" not in str(found)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (b"database not found: x", exceptions.BucketNotFoundError),
        (
            b"no dbrp mappings found: db=x, rp=, please check to make sure db"
            b" and rp exist",
            exceptions.BucketNotFoundError,
        ),
        # 1.x
        (b"retention policy not found: x", exceptions.BucketNotFoundError),
        (
            b"max-concurrent-queries limit exceeded(2, 2)",
            exceptions.UnavailableError,
        ),
        # A cluster with a node away, seen with 1.8.11-c1.2.0.
        (
            b"partial success, node 6 may be down (dial tcp 127.0.0.23:8088:"
            b" connect: connection refused)",
            exceptions.UnavailableError,
        ),
        (
            b"dial tcp 127.0.0.23:8088: connect: connection refused",
            exceptions.UnavailableError,
        ),
        (
            b"dial tcp: lookup data3 on 127.0.0.53:53: no such host",
            exceptions.UnavailableError,
        ),
        (b"insufficient permissions", exceptions.AccessError),
    ],
)
def test_check_influxql(words, kind):
    body = b'{"results":[{"statement_id":0,"error":"%s"}]}' % words
    with pytest.raises(kind) as error:
        errors.check_influxql(URL, "x", body)
    assert URL in str(error.value)
    if kind is exceptions.UnavailableError:
        # Which node it is, and why.
        assert str(error.value).endswith(words.decode())
    errors.check_influxql(URL, "x", b'{"results":[{"statement_id":0}]}')
