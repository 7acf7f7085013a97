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
"""What InfluxDB 1.x is asked, and how it spells things."""

import types
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnocchi_influxdb.buckets import api_1x
from gnocchi_influxdb.client import api as dialects
from gnocchi_influxdb.wire import influxql


def api(prefix, **options):
    return dialects.of(
        types.SimpleNamespace(
            influxdb_bucket_prefix=prefix,
            influxdb_org="gnocchi",
            **{
                "influxdb_consistency": "one",
                "influxdb_replication": 1,
                **options,
            },
        )
    )


def test_the_prefix_decides():
    for prefix in "gnocchi/", "gnocchi/a-":
        assert not api(prefix).capabilities.buckets
        assert str(api(prefix)) == "database gnocchi"
    for prefix in "gnocchi-", "":
        assert api(prefix).capabilities.buckets


@given(st.text(), st.text())
def test_names_reach_the_server_as_they_are(database, policy):
    bucket = f"{database.replace('/', '')}/{policy}"
    path = api("gnocchi/").write_path(bucket)
    query = urllib.parse.parse_qs(
        urllib.parse.urlsplit(path).query, keep_blank_values=True
    )
    assert (query["db"][0], query["rp"][0]) == dialects.names(bucket)
    assert query["consistency"] == ["one"]
    form = api("gnocchi/").influxql(bucket, "SHOW DATABASES")
    assert (form["db"], form["rp"]) == dialects.names(bucket)


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ("0s", 0),
        ("1h0m0s", 3600),
        ("720h0m0s", 2592000),
        ("2562047h47m16s", 9223372036),
        ("168h30m10s", 606610),
        ("1h0m0.5s", 3600),
    ],
)
def test_durations(duration, seconds):
    assert api_1x.seconds(duration) == seconds


def test_statements():
    create = influxql.create_policy("gnocchi", "low", 0, 3600, 2)
    assert create == (
        'CREATE RETENTION POLICY "low" ON "gnocchi" DURATION INF'
        " REPLICATION 2 SHARD DURATION 3600s"
    )
    alter = influxql.alter_policy("gnocchi", "low", 7200, 3600)
    assert alter == (
        'ALTER RETENTION POLICY "low" ON "gnocchi" DURATION 7200s'
        " SHARD DURATION 3600s"
    )


@given(st.text())
def test_an_identifier_ends_where_it_should(name):
    quoted = influxql.identifier(name)
    assert (quoted[0], quoted[-1]) == ('"', '"')
    inner, plain = iter(quoted[1:-1]), []
    for character in inner:
        assert character not in '"\n'
        if character == "\\":
            character = {"\\": "\\", '"': '"', "n": "\n"}[next(inner)]
        plain.append(character)
    assert "".join(plain) == name
