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
"""The disk below an InfluxDB of the test's own."""

import contextlib
import shutil
import subprocess

import pytest


@contextlib.contextmanager
def slow(server, seconds):
    """Each time the server waits for its disk it waits so much longer."""
    if server.pid is None or shutil.which("strace") is None:
        pytest.skip("needs a process of InfluxDB, and strace")
    calls = "fsync,fdatasync"
    with subprocess.Popen(
        [
            *("strace", "--follow-forks", f"--attach={server.pid}"),
            *("--output=/dev/null", f"--trace={calls}"),
            f"--inject={calls}:delay_enter={int(1e6 * seconds)}",
        ],
        stderr=subprocess.PIPE,
        text=True,
    ) as strace:
        try:
            said = strace.stderr.readline()
            if " attached" not in said:
                pytest.skip(f"strace may not look at InfluxDB: {said}")
            yield
        finally:
            strace.terminate()
