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
"""InfluxDB 1.x, asked without the driver: buckets are retention policies."""

import re

from servers import api


def ask(server, statement, bucket="/", **form):
    """The series that a statement answers; bucket: database/policy."""
    database, _, policy = bucket.partition("/")
    return api.influxql(
        server.url, server.token, statement, db=database, rp=policy, **form
    )


def quoted(bucket):
    """The database and the policy, as InfluxQL has them."""
    return [f'"{name}"' for name in bucket.split("/")]


def make_policy(server, name, retention, shard_duration, replication=1):
    database, policy = quoted(name)
    ask(server, f"CREATE DATABASE {database}")
    statement = (
        f"CREATE RETENTION POLICY {policy} ON {database} DURATION"
        f" {retention}s REPLICATION {replication}"
    )
    if shard_duration is not None:
        statement += f" SHARD DURATION {shard_duration}s"
    ask(server, statement)
    return name


def change_policy(server, name, retention, shard_duration):
    database, policy = quoted(name)
    ask(
        server,
        f"ALTER RETENTION POLICY {policy} ON {database} DURATION"
        f" {retention}s SHARD DURATION {shard_duration}s",
    )


def policy(server, name):
    """(name, retention, duration of shards), None: not there."""
    database, _, wanted = name.partition("/")
    databases = ask(server, "SHOW DATABASES")[0].get("values", [])
    if [database] not in databases:
        return None
    (series,) = ask(server, f'SHOW RETENTION POLICIES ON "{database}"')
    for row in series.get("values", []):
        one = dict(zip(series["columns"], row, strict=True))
        if one["name"] == wanted:
            return (
                name,
                _seconds(one["duration"]),
                _seconds(one["shardGroupDuration"]),
            )
    return None


def drop_policy(server, name):
    database, policy_name = quoted(name)
    ask(server, f"DROP RETENTION POLICY {policy_name} ON {database}")


def _seconds(duration):
    hours, minutes, seconds = re.fullmatch(
        r"(?:(\d+)h)?(?:(\d+)m)?(\d+)s", duration
    ).groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds)
