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
"""The code blocks of a page, and a shell to run them in."""

import contextlib
import os
import re
import subprocess
import textwrap
import threading
from typing import NamedTuple

import psutil

_DIRECTIVE = re.compile(r"\.\. code-block:: (\w+)$")
_LEFT_OUT = re.compile(r"\.\. left out of the test: (.+)$")


class Block(NamedTuple):
    """A code block.

    :ivar left_out: why it is not run; empty if it is.
    """

    language: str
    text: str
    left_out: str


def blocks(page):
    """The code blocks of a page, in their order.

    A comment ``.. left out of the test: reason`` is about the next one.
    """
    found, reason = [], ""
    lines = page.splitlines()
    for number, line in enumerate(lines):
        if comment := _LEFT_OUT.match(line):
            reason = comment[1]
        elif directive := _DIRECTIVE.match(line):
            body = []
            for inner in lines[number + 1 :]:
                if inner and not inner.startswith(" "):
                    break
                body.append(inner)
            text = textwrap.dedent("\n".join(body)).strip() + "\n"
            found.append(Block(directive[1], text, reason))
            reason = ""
        elif line.endswith("::") and not line.startswith(".."):
            raise AssertionError(f"of which language is this? {line!r}")
    return found


class Shell:
    """A bash that keeps its variables and jobs from block to block.

    It ends at the first command that fails.

    :param directory: what it writes is noted there.
    """

    def __init__(self, directory, cwd, environment, timeout=900):
        self._script = directory / "block.sh"
        self._seen = set()
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._timer = threading.Timer(timeout, self._end)
        self._timer.start()
        self.run("set -euo pipefail\n")

    def run(self, text):
        """What the commands print.

        :raises AssertionError: one of them has failed.
        """
        self._script.write_text(text)
        end = f"end of {os.urandom(8).hex()}"
        # Commands get no input of the shell's own.
        with contextlib.suppress(BrokenPipeError):
            self._bash.stdin.write(
                f"source {self._script} </dev/null\necho; echo {end}\n"
            )
            self._bash.stdin.flush()
        said = []
        for line in self._bash.stdout:
            if line.strip() == end:
                self._started()
                return "".join(said)
            said.append(line)
        raise AssertionError(f"failed:\n{text}\nIt said:\n{''.join(said)}")

    def close(self):
        self._timer.cancel()
        self._end()
        self._bash.communicate()

    def _end(self):
        """Kill it and all that it has started: metricd has a session of its
        own."""
        for process in self._started():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _started(self):
        # A bash that has ended left its jobs to others; by then each has
        # been seen in a look after a block.
        with contextlib.suppress(psutil.NoSuchProcess):
            bash = psutil.Process(self._bash.pid)
            self._seen.update(bash.children(recursive=True))
            self._seen.add(bash)
        return self._seen
