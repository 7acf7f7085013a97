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
"""Line protocol in halves, and forms."""

import urllib.parse

import pytest

from gnocchi_influxdb.client import api

LONG = b"a" * 100 + b"\n"


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        (b"", b""),
        (b"a\n", b""),
        (b"a", b""),
        (b"a\nb\n", b"a\n"),
        (b"a\nb\nc\nd\n", b"a\nb\n"),
        (b"a\nb\n" + LONG, b"a\nb\n"),
        (LONG + b"b\nc\n", LONG),
        (LONG + b"b", LONG),
        # Not inside of a text.
        (b'a "\n\n\n\n\n\n\n\n"\nb\n', b'a "\n\n\n\n\n\n\n\n"\n'),
        (b'a "\\"\n\n\n\n\n\n\n\n"', b""),
        (b'a "\\\\"\nb\nc "\n"', b'a "\\\\"\n'),
    ],
)
def test_halves(lines, first):
    assert api.halves(lines) == (first, lines[len(first) :])


@pytest.mark.parametrize(
    "text", ["", ";", 'SELECT "a" WHERE b = 1;SELECT 2', "é & + % #;\n=?;;"]
)
def test_forms_are_quoted(text):
    form = {"q": text, "org": "a & b;c"}
    body = api.encode(form).decode("ascii")
    # Go refuses them, Python does not.
    assert ";" not in body
    found = urllib.parse.parse_qs(body, keep_blank_values=True)
    assert found == {name: [value] for name, value in form.items()}
