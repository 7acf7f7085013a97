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
"""Building servers before they are needed, beside tests that need none.

A build takes minutes and all processors, those tests take minutes and one.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import sys
from collections.abc import Iterator, Sequence

from servers import process


@contextlib.contextmanager
def ahead(lines: Sequence[str]) -> Iterator[None]:
    """Let a process build the InfluxDBs that have to be built.

    Whoever needs one waits for it, and if its build has failed, builds it
    again and says why.

    :param lines: of `build.RELEASES`, in the order in which they are needed;
        without any nothing is done
    """
    if not lines:
        yield
        return
    builder = process.spawn(
        # Tests go first.
        ("nice", sys.executable, "-m", "servers", "build", *lines),
        pathlib.Path(os.devnull),
    )
    try:
        yield
    finally:
        process.stop(builder, signal.SIGINT, 10)
