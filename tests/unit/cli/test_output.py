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
"""Tables on terminals of any width, and in a pipe."""

import os
import pty
import re
import subprocess
import sys
import termios

import pytest

from gnocchi_influxdb.cli import output

COLUMNS = ("archive policy", "metrics", "points", "newest")
ROWS = [
    ("a-policy-with-a-name-of-forty-letters-ab", "1,234,567", "12", ""),
    ("low", "3", "484,123,456,789", "2026-11-29 06:43"),
]
SHOW = """
import sys
from gnocchi_influxdb.cli import output
output.show_table({columns!r}, {rows!r})
with output.progressing("Counting", 3, "ranges") as advance:
    advance(3)
"""


CHECK = """
from gnocchi_influxdb.cli.check import findings, report
found = findings.Finding(findings.Level.FAIL, "token", "is not known")
report.show([found], "table")
"""


def show(width, term="xterm", columns=COLUMNS, rows=ROWS):
    """The lines that a terminal of so many columns shows."""
    said = sent(SHOW.format(columns=columns, rows=rows), width, term)
    return re.sub(r"\x1b\[[0-9;]*m", "", said).splitlines()


def sent(script, width, term, **more):
    """What a terminal of so many columns is sent."""
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (25, width))
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("COLUMNS", "NO_COLOR", "TTY_COMPATIBLE")
    }
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=child,
        stdout=child,
        stderr=subprocess.PIPE,
        env={
            **environment,
            "TERM": term,
            "PYTHONPATH": os.pathsep.join(sys.path),
            **more,
        },
    )
    os.close(child)
    said = b""
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:
            break
        if not part:
            break
        said += part
    os.close(parent)
    _, err = process.communicate()
    assert process.returncode == 0, err
    return said.decode()


@pytest.mark.parametrize("width", [20, 40, 60, 70, 80, 120, 200])
@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_no_number_and_no_time_is_shortened(width, term):
    lines = show(width, term)

    text = "\n".join(lines)
    for row in ROWS:
        for number in row[1:]:
            assert number in text
    for name in ("metrics", "points", "newest"):
        assert name in text
    assert "…" not in text
    assert "..." not in text
    # The name may be folded, but all of it is there.
    letters = "".join(re.findall(r"[a-z-]+", text.replace("─", "")))
    assert "low" in letters
    if width >= 60 and term == "xterm":
        assert max(map(len, lines)) <= width


def test_narrow_terminals_fold_names():
    (folded,) = [line for line in show(70) if "1,234,567" in line]
    begin, *numbers = folded.split()
    assert "a-policy-with-a-name-of-forty-letters-ab".startswith(begin)
    assert len(begin) < 40
    # It is still a row.
    assert numbers == ["1,234,567", "12"]
    (whole,) = [line for line in show(120) if "1,234,567" in line]
    assert "a-policy-with-a-name-of-forty-letters-ab" in whole


@pytest.mark.parametrize(
    ("term", "more", "has_colours"),
    [
        ("xterm", {}, True),
        ("dumb", {}, False),
        ("xterm", {"NO_COLOR": "1"}, False),
    ],
)
def test_colours_of_check(term, more, has_colours):
    text = sent(CHECK, 80, term, **more)
    assert "token: is not known" in text
    assert ("\x1b" in text) == has_colours


def test_a_pipe_gets_whole_lines(capsys):
    name = "x" * 2000
    output.show_table(COLUMNS, [(name, "1,234,567", "12", "never")])

    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if "1,234,567" in line]
    assert line.split() == [name, "1,234,567", "12", "never"]


def test_control_characters_do_not_reach_the_terminal(capsys):
    output.show_table(COLUMNS, [("a\x1b[2J\nb\x07ö", "1", "2", "")])

    out = capsys.readouterr().out
    assert r"a\x1b[2J\nb\x07ö" in out
