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
"""What metrics are called, as line protocol."""

import re
import uuid

from hypothesis import example, given
from hypothesis import strategies as st

from gnocchi_influxdb.wire import info_lines

ID = uuid.UUID("5a301761-aaaa-46e2-8900-8b4f6fe6675a")

# What a database in UTF-8 may hold, and nothing.
texts = st.none() | st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0")
)


def parse(line):
    """What a line says, as the specification of line protocol has it: in a
    string a backslash stands before a backslash or a double quote."""
    head, _, rest = line.partition(" ")
    fields = {}
    while True:
        match = re.match(r'(\w+)="((?:\\["\\]|[^"\\])*)"([, ])', rest)
        assert match, rest
        fields[match[1]] = re.sub(r"\\(.)", r"\1", match[2])
        rest = rest[match.end() :]
        if match[3] == " ":
            assert rest.endswith("\n")
            return head, fields, int(rest)


def info(name=None, unit=None, resource=None, policy="low", creator=None):
    return info_lines.Info(ID, 14, name, unit, resource, policy, creator)


def test_a_line():
    assert info_lines.encode(
        [info("cpu", "ns", uuid.UUID(int=1), "low", "me:us"), info()]
    ).decode() == (
        f'metric_info,metric={ID} name="cpu",unit="ns",'
        'resource_id="00000000-0000-0000-0000-000000000001",'
        'archive_policy="low",creator="me:us" 14\n'
        f'metric_info,metric={ID} name="-",unit="-",resource_id="-",'
        'archive_policy="low",creator="-" 14\n'
    )
    assert info_lines.encode([]) == b""


@given(texts, texts, texts.filter(bool), texts)
@example("", None, "p", "")
@example('"', "\\", '\\"', ' ,="\\\n')
@example("\\", "a\\", 'a\\" 5\nmeasure,metric=b value=1', "\n")
def test_every_text_is_one_field(name, unit, policy, creator):
    line = info_lines.encode([info(name, unit, None, policy, creator)])
    assert parse(line.decode()) == (
        f"metric_info,metric={ID}",
        {
            "name": name or "-",
            "unit": unit or "-",
            "resource_id": "-",
            "archive_policy": policy,
            "creator": creator or "-",
        },
        14,
    )
