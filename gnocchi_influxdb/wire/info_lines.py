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
"""Names of metrics as line protocol (pure).

Beside the series of its points a metric has a second one, for people and
dashboards that look into InfluxDB without Gnocchi::

    metric_info,metric=5a301761-aaaa-46e2-8900-8b4f6fe6675a name="cpu",
        unit="ns",resource_id="...",archive_policy="low",creator="..." 14000000

(one line). All five fields are always there, and what Gnocchi does not know is
a dash. If a field were left out, an older value would stay, and a ``pivot()``
in Flux would lack the column. No field is an empty text: Flux of InfluxDB 2.7
and 2.8 loses empty texts where it joins tables, and the texts after them move
to other metrics.
https://github.com/influxdata/influxdb/issues/26916

https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

import uuid
from collections.abc import Iterable
from typing import NamedTuple

from gnocchi_influxdb.schema import NAMES, TAG

#: Stands for what Gnocchi does not know.
UNKNOWN = "-"


class Info(NamedTuple):
    """What Gnocchi's indexer knows of a metric.

    The attributes after `time` have the names of the fields in InfluxDB.

    :ivar time: of the point, ns since the epoch.
    """

    metric: uuid.UUID
    time: int
    name: str | None
    unit: str | None
    resource_id: uuid.UUID | None
    archive_policy: str
    creator: str | None


FIELDS = Info._fields[2:]


def encode(infos: Iterable[Info]) -> bytes:
    """One line for each, none for none.

    What is not valid UTF-8 (a lone surrogate) becomes a question mark.
    """
    return "".join(map(_line, infos)).encode("utf-8", "replace")


def _line(info: Info) -> str:
    fields = ",".join(
        f"{field}={_text(value)}"
        for field, value in zip(FIELDS, info[2:], strict=True)
    )
    # Nothing in a UUID needs to be escaped.
    return f"{NAMES},{TAG}={info.metric} {fields} {info.time:d}\n"


def _text(value: object) -> str:
    # Between quotes no other character is special, not even a line feed.
    text = UNKNOWN if value is None else str(value) or UNKNOWN
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
