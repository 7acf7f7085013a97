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
"""Telemetry of a small cloud, for queries that are made by people.

The ids are those of the documentation's examples.
"""

import csv
import io
import json
import urllib.error
import urllib.request
import uuid

from tests.support.samples import recent, write

INSTANCE = uuid.UUID("9e0c7bdc-5d9f-4a33-8a5f-6ac3cbb9c3a1")
CPU = uuid.UUID("5a301761-aaaa-46e2-8900-8b4f6fe6675a")

NAMES = {
    "cpu": "ns",
    "disk.device.read.bytes": "B",
    "memory.usage": "MB",
    'a "strange" name/1': "",
}
HOURS = 4
EVERY = 300


def fill(cloud):
    """Two instances and a metric of none; one of the second has been silent
    for two hours. In the policy `high` there is one metric.

    :return: the metrics, the silent one
    """
    cloud.index.create_metric(CPU, "me:us", "low", unit="ns")
    for number, id_ in enumerate((INSTANCE, uuid.uuid4())):
        cloud.index.create_resource(
            "generic",
            id_,
            "me:us",
            metrics={
                name: {"unit": unit, "archive_policy_name": "low"}
                for name, unit in NAMES.items()
                if (number, name) != (0, "cpu")
            },
        )
    cloud.index.update_resource(
        "generic", INSTANCE, metrics={"cpu": CPU}, append_metrics=True
    )
    cloud.metrics(1, "low")
    cloud.metrics(1, "high")
    made = cloud.index.list_metrics()
    (silent,) = [
        metric
        for metric in made
        if metric.name == "memory.usage" and metric.resource_id != INSTANCE
    ]
    points = {}
    for metric in made:
        last = 2 * 3600 if metric is silent else 60
        points[metric] = {
            recent(age): float(HOURS * 3600 - age) * 1e6
            for age in range(last, HOURS * 3600, EVERY)
        }
    write(cloud.storage, points, cloud.index)
    cloud.write_names()
    return made, silent


def flux(server, query, token=None):
    """Rows of the answer, as dictionaries, of all its tables."""
    request = urllib.request.Request(
        f"{server.url}/api/v2/query?org={server.org}",
        data=json.dumps(
            {
                "query": query,
                "dialect": {"header": True, "annotations": ["datatype"]},
            }
        ).encode(),
        headers={
            "Authorization": f"Token {token or server.token}",
            "Content-Type": "application/json",
            "Accept": "application/csv",
        },
    )
    try:
        with urllib.request.urlopen(request) as reply:
            text = reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(
                f"{error.code}: {error.read().decode()}\n{query}"
            ) from None
    rows = []
    for part in text.split("\r\n\r\n"):
        lines = part.split("\r\n")
        if not lines[0].startswith("#datatype"):
            assert not part.strip(), part
            continue
        types = lines[0].split(",")
        for row in csv.DictReader(io.StringIO("\r\n".join(lines[1:]))):
            assert "error" not in row, row
            rows.append(
                {
                    name: _value(text, kind)
                    for (name, text), kind in zip(
                        row.items(), types, strict=True
                    )
                    if name
                }
            )
    return rows


def _value(text, kind):
    if kind in ("double", "long", "unsignedLong") and text:
        return float(text)
    return text
