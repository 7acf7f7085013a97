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
"""InfluxDB, asked and changed without the driver."""

import urllib.parse
import urllib.request

from servers import api

from tests.support import version1

#: Beginnings of the path of a write, on InfluxDB 2.x and 1.x.
WRITES = ("/api/v2/write", "/write")


def call(server, method, path, token=None, **more):
    return api.call(
        method, server.url, path, token=token or server.token, **more
    )


def org_id(server, name=None):
    orgs = call(
        server, "GET", "/api/v2/orgs", query={"org": name or server.org}
    )["orgs"]
    return orgs[0]["id"]


def make_token(server, *permissions, org=None):
    """A token of some rights.

    :param permissions: ("read" or "write", "buckets" or "orgs", id), the id
        may be left out.
    :param org: name of the organization, if not the server's.
    """
    org = org_id(server, org)
    return call(
        server,
        "POST",
        "/api/v2/authorizations",
        body={
            "orgID": org,
            "permissions": [
                {
                    "action": action,
                    "resource": {
                        "type": kind,
                        **(
                            {"id": one[0] if one else org}
                            if kind == "orgs"
                            else {"orgID": org}
                            | ({"id": one[0]} if one else {})
                        ),
                    },
                }
                for action, kind, *one in permissions
            ],
        },
    )["token"]


def make_bucket(server, name, retention=0, shard_duration=None, org=None):
    """Make a bucket by hand; its id."""
    if server.release == 1:
        return version1.make_policy(server, name, retention, shard_duration)
    rule = {"type": "expire", "everySeconds": retention}
    if shard_duration is not None:
        rule["shardGroupDurationSeconds"] = shard_duration
    body = {
        "orgID": org or org_id(server),
        "name": name,
        "retentionRules": [rule],
    }
    return call(server, "POST", "/api/v2/buckets", body=body)["id"]


def change_bucket(server, bucket_id, retention, shard_duration):
    if server.release == 1:
        version1.change_policy(server, bucket_id, retention, shard_duration)
        return
    rule = {
        "type": "expire",
        "everySeconds": retention,
        "shardGroupDurationSeconds": shard_duration,
    }
    call(
        server,
        "PATCH",
        f"/api/v2/buckets/{bucket_id}",
        body={"retentionRules": [rule]},
    )


def bucket(server, name, org=None):
    """(id, retention, duration of shards) of a bucket; None: not there."""
    if server.release == 1:
        return version1.policy(server, name)
    try:
        found = call(
            server,
            "GET",
            "/api/v2/buckets",
            query={"org": org or server.org, "name": name},
        )["buckets"]
    except api.HTTPError as error:
        if error.status != 404:
            raise
        return None
    rule = found[0]["retentionRules"][0]
    return (
        found[0]["id"],
        rule["everySeconds"],
        rule["shardGroupDurationSeconds"],
    )


def delete_bucket(server, name):
    if server.release == 1:
        version1.drop_policy(server, name)
        return
    call(server, "DELETE", f"/api/v2/buckets/{bucket(server, name)[0]}")


def write_lines(server, bucket_name, lines):
    """Write line protocol as it is."""
    request = urllib.request.Request(
        f"{server.url}/api/v2/write?"
        + urllib.parse.urlencode(
            {"org": server.org, "bucket": bucket_name, "precision": "ns"}
        ),
        data=lines.encode(),
        headers={"Authorization": f"Token {server.token}"},
    )
    with urllib.request.urlopen(request) as reply:
        assert reply.status == 204


def select(server, bucket_name, what, a_metric=None, of="measure"):
    """Rows of an InfluxQL SELECT; unlike Flux it shows what lies in shards
    that hold another type of the field."""
    where = "" if a_metric is None else f" WHERE metric = '{a_metric.id}'"
    database, _, retention_policy = bucket_name.partition("/")
    found = api.influxql(
        server.url,
        server.token,
        f"SELECT {what} FROM {of}{where}",
        db=database,
        rp=retention_policy,
        epoch="ns",
    )
    return found[0]["values"] if found else []


def stored(server, bucket_name, a_metric):
    """{ns: value} of all points of a metric."""
    return dict(select(server, bucket_name, "value", a_metric))


def stored_count(server, bucket_name):
    """How many points there are of all metrics."""
    rows = select(server, bucket_name, "count(value)")
    return rows[0][1] if rows else 0
