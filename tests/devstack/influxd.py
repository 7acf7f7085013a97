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

"""influxd.py file: an InfluxDB 2.x that nobody has set up yet.

Writes its URL to the file once it is healthy, and runs until SIGTERM.
"""

import pathlib
import signal
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "lib"))

import servers  # noqa: E402


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main(path: str) -> None:
    server = servers.find_influxdb_server(say)
    # start() sets up what has not been set up, which is the plugin's part
    # here.
    server._is_set_up = True
    # Blocked rather than handled: a signal before sigwait() is not lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with server:
        ready = pathlib.Path(path)
        new = ready.with_suffix(".new")
        new.write_text(server.url)
        new.rename(ready)
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main(sys.argv[1])
