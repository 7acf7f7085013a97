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
"""What a metric is called, as line protocol (pure).

Beside its points a metric has a second series, so that a UUID has a face for
whoever looks into InfluxDB without Gnocchi::

    metric_info,metric=5a301761-aaaa-46e2-8900-8b4f6fe6675a name="cpu",
        unit="ns",resource_id="...",archive_policy="low",creator="..." 14000000

(one line). All five fields are always there. One that is left out would leave
an older value standing, and a ``pivot()`` in Flux without its column: what
Gnocchi does not know is a dash. None is empty: where Flux of InfluxDB 2.7 and
2.8 puts tables together it loses empty texts, and those after them move up, to
other metrics.
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
    """What Gnocchi's indexer knows of a metric; but for the first two, the
    names are those of the fields.

    :ivar time: ns since the epoch that it is written at.
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
    """A line for each."""
    return "".join(map(_line, infos)).encode("utf-8", "replace")


def _line(info: Info) -> str:
    fields = ",".join(
        f"{field}={_text(value)}"
        for field, value in zip(FIELDS, info[2:], strict=True)
    )
    # A UUID has nothing in it that would have to be escaped.
    return f"{NAMES},{TAG}={info.metric} {fields} {info.time:d}\n"


def _text(value: object) -> str:
    # Between quotes nothing else has a meaning, not even the end of a line.
    text = UNKNOWN if value is None else str(value) or UNKNOWN
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
