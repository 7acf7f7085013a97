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
"""The two APIs of InfluxDB: paths, forms and what they can do. No I/O.

On InfluxDB 2.x an archive policy is a bucket of an organization, on 1.x and
its clusters a retention policy of a database. [storage] influxdb_bucket_prefix
tells which: what stands before a slash in it is the database. So nobody has to
ask the server first, or wait for one that is away; gnocchi-upgrade checks that
the server fits.
"""

import dataclasses
import re
import urllib.parse
from typing import Any

# Characters besides letters and digits that a form need not quote. urllib
# returns a text of such characters as it is, and else quotes each one, which
# takes longer than to make a statement.
_PLAIN = " \"'(),/:<=>"
_QUOTED_OR_END = re.compile(rb'"(?:[^"\\]|\\.)*"|\n', re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True)
class Capabilities:
    """What the server and its API can do: a field for each difference.

    :ivar buckets: an archive policy is a bucket with an index of its own,
        made by /api/v2/buckets; if not, a retention policy of a database,
        made by InfluxQL.
    :ivar tokens: [storage] influxdb_token is a token; if not, user:password.
    :ivar flux: Flux aggregates in the storage engine and sends the first rows
        before it has the last; if not, InfluxQL is always faster.
    :ivar delete_by_tag: /api/v2/delete takes a predicate of tags.
    :ivar hides: a bucket that the token may not read looks absent.
    :ivar may_lag: copies of a point may differ for a while.
    :ivar counts: `count` in InfluxQL is right. On a cluster the nodes that
        lack a series answer with an empty iterator of floats, and the counts
        of the others, integers, are dropped because of it.
    """

    buckets: bool
    tokens: bool
    flux: bool
    delete_by_tag: bool
    hides: bool
    may_lag: bool
    counts: bool


INFLUXDB_2 = Capabilities(
    buckets=True,
    tokens=True,
    flux=True,
    delete_by_tag=True,
    hides=True,
    may_lag=False,
    counts=True,
)
#: A cluster has the API of InfluxDB 1.8.
CLUSTER = Capabilities(
    buckets=False,
    tokens=False,
    flux=False,
    delete_by_tag=False,
    hides=False,
    may_lag=True,
    counts=False,
)
INFLUXDB_1 = dataclasses.replace(CLUSTER, counts=True, may_lag=False)


class Version2:
    """InfluxDB 2.x."""

    capabilities = INFLUXDB_2

    def __init__(self, conf: Any) -> None:
        self._org: str = conf.influxdb_org
        org = urllib.parse.quote(self._org, safe="")
        self.flux_path = f"/api/v2/query?org={org}"
        self._write_path = f"/api/v2/write?org={org}&precision=ns&bucket="

    def __str__(self) -> str:
        return f"organization {self._org}"

    def write_path(self, bucket: str) -> str:
        """Path and query of a write of line protocol with ns timestamps."""
        return self._write_path + urllib.parse.quote(bucket, safe="")

    def influxql(self, bucket: str, statement: str) -> dict[str, str]:
        """Form of a POST to /query, which answers with times in ns."""
        return {
            "db": bucket,
            "q": statement,
            "epoch": "ns",
            "org": self._org,
        }


class Version1:
    """InfluxDB 1.x, and clusters with its API.

    Writes go to /write, where the consistency of a cluster is documented; a
    single server ignores it.

    :ivar capabilities: those of a cluster until the server has answered.
    :ivar replication: copies that a new retention policy asks for.
    """

    capabilities = CLUSTER
    flux_path = "/api/v2/query"

    def __init__(self, conf: Any) -> None:
        self._database = conf.influxdb_bucket_prefix.partition("/")[0]
        self._consistency: str = conf.influxdb_consistency
        self.replication: int = conf.influxdb_replication

    def __str__(self) -> str:
        return f"database {self._database}"

    def write_path(self, bucket: str) -> str:
        """Path and query of a write of line protocol with ns timestamps."""
        database, policy = names(bucket)
        query = urllib.parse.urlencode(
            {
                "db": database,
                "rp": policy,
                "precision": "n",
                "consistency": self._consistency,
            }
        )
        return f"/write?{query}"

    def influxql(self, bucket: str, statement: str) -> dict[str, str]:
        """Form of a POST to /query, which answers with times in ns."""
        database, policy = names(bucket)
        return {
            "db": database,
            "rp": policy,
            "q": statement,
            "epoch": "ns",
        }


def of(conf: Any) -> Version1 | Version2:
    """The API that the options ask for.

    :param conf: the group of options.
    """
    if "/" in conf.influxdb_bucket_prefix:
        return Version1(conf)
    return Version2(conf)


def encode(form: dict[str, str]) -> bytes:
    """A form as the body of a POST."""
    return "&".join(
        f"{name}={_quoted(value)}" for name, value in form.items()
    ).encode()


def _quoted(text: str) -> str:
    # What stands between statements is all that is not plain in them.
    return "%3B".join(
        urllib.parse.quote(part, safe=_PLAIN) for part in text.split(";")
    )


def names(bucket: str) -> tuple[str, str]:
    """Database and retention policy of a bucket on 1.x."""
    database, _, policy = bucket.partition("/")
    return database, policy


def halves(lines: bytes) -> tuple[bytes, bytes]:
    """Line protocol in two parts of whole lines, about as long.

    :return: the first is empty if there is one line only.
    """
    # Between quotes a line feed ends no line.
    ends = (
        found.end()
        for found in _QUOTED_OR_END.finditer(lines)
        if found[0] == b"\n" and found.end() < len(lines)
    )
    middle = min(ends, key=lambda end: abs(2 * end - len(lines)), default=0)
    return lines[:middle], lines[middle:]
