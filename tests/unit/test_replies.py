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

The words are those of InfluxDB 2.9.1.
"""

import io
import json
import ssl

import pytest
import urllib3
from urllib3 import exceptions as urllib3_exceptions

from gnocchi_influxdb import exceptions, replies

URL = "http://influxdb.example:8086"
WRITE, QUERY = "/api/v2/write?org=gnocchi", "/api/v2/query?org=gnocchi"


def reply(status, text, **headers):
    body = text if isinstance(text, bytes) else text.encode()
    return urllib3.HTTPResponse(
        body=io.BytesIO(body), headers=headers, status=status
    )


def said(status, message, path=WRITE, code="invalid", **headers):
    text = json.dumps({"code": code, "message": message})
    return replies.error(URL, "gnocchi", path, reply(status, text, **headers))


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
            exceptions.AccessError,
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
    assert isinstance(error, replies.RetryAfterError)
    assert error.seconds == seconds


@pytest.mark.parametrize(
    "value", ["Fri, 31 Dec 1999 23:59:59 GMT", "-5", "nan", "", "soon", "\xb2"]
)
def test_retry_after_of_no_use(value):
    error = said(503, "busy", **{"Retry-After": value})
    assert type(error) is exceptions.UnavailableError


@pytest.mark.parametrize("status", [400, 404, 405, 301, 422])
@pytest.mark.parametrize("path", [WRITE, QUERY])
def test_not_influxdb(status, path):
    page = "<html>\n<h1>NoSuchBucket</h1>\n" + "x" * 5000
    error = replies.error(URL, "gnocchi", path, reply(status, page))
    assert not isinstance(
        error, exceptions.BucketNotFoundError | exceptions.PartialWriteError
    )
    assert "influxdb_url" in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 500


@pytest.mark.parametrize("text", ["", "[]", "3", "null", '{"a": 1}', "\xff"])
def test_words_that_are_none(text):
    error = replies.error(URL, "gnocchi", WRITE, reply(400, text))
    assert type(error) is exceptions.RefusedError
    error = replies.error(
        URL, "gnocchi", WRITE, reply(503, text.encode("latin-1"))
    )
    assert type(error) is exceptions.UnavailableError


@pytest.mark.parametrize("text", [b"", b"[]", b"<html>", b"\xff", b"null"])
def test_json_object(text):
    assert replies.json_object(URL, reply(200, b'{"a": 1}')) == {"a": 1}
    with pytest.raises(exceptions.ResponseError, match="influxdb_url"):
        replies.json_object(URL, reply(200, text))


def pool():
    return urllib3.HTTPConnectionPool("influxdb.example")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            urllib3_exceptions.NewConnectionError(
                pool(), "Connection refused"
            ),
            exceptions.UnavailableError,
            "influxdb_url",
        ),
        (
            urllib3_exceptions.ReadTimeoutError(pool(), "/", "timed out"),
            exceptions.UnavailableError,
            "influxdb_timeout",
        ),
        (
            urllib3_exceptions.ConnectTimeoutError(pool(), "timed out"),
            exceptions.UnavailableError,
            "influxdb_timeout",
        ),
        (
            urllib3_exceptions.ProtocolError("Connection aborted."),
            exceptions.UnavailableError,
            "broke the connection",
        ),
        (
            urllib3_exceptions.SSLError(
                ssl.SSLCertVerificationError("certificate verify failed")
            ),
            exceptions.ConfigurationError,
            "influxdb_cafile",
        ),
        (
            urllib3_exceptions.SSLError(ssl.SSLEOFError(8, "EOF occurred")),
            exceptions.UnavailableError,
            "broke the connection",
        ),
        (
            urllib3_exceptions.DecodeError("failed to decode it"),
            exceptions.ResponseError,
            "decompressed",
        ),
    ],
)
def test_transport_error(error, kind, words):
    found = replies.transport_error(URL, error)
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
        (b"insufficient permissions", exceptions.AccessError),
    ],
)
def test_check_database(words, kind):
    body = b'{"results":[{"statement_id":0,"error":"%s"}]}' % words
    with pytest.raises(kind, match="'x'"):
        replies.check_database(URL, "x", body)
    replies.check_database(URL, "x", b'{"results":[{"statement_id":0}]}')
