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
"""Runs the load and says how it ended."""

import contextlib
import json
import pathlib
import shutil
import sys
import tempfile

import servers
from demo import environment, processes

from soak import arguments
from soak import run as soak


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main() -> int:
    options = arguments.parse()
    environment.bypass_proxies()
    processes.SIGNALS.install()
    state = pathlib.Path(tempfile.mkdtemp(prefix="gnocchi-soak-"))
    try:
        with contextlib.ExitStack() as exits:
            try:
                summary = soak.run(exits, state, options.minutes, say)
            finally:
                processes.SIGNALS.ignore()
    except processes.Stopped as stopped:
        shutil.rmtree(state, ignore_errors=True)
        say("Stopped; nothing is left running.")
        return 128 + stopped.signum
    except (processes.DemoError, servers.ServerError) as error:
        log = getattr(error, "log", "")
        say(f"{log}\nFailed: {error}\nThe logs were left in {state}")
        print(json.dumps({"ok": False, "wrong": [str(error)]}))
        return 1
    summary["ok"] = not summary["wrong"]
    print(json.dumps(summary, indent=None if options.json else 2))
    for wrong in summary["wrong"]:
        say(f"Wrong: {wrong}")
    if summary["ok"]:
        shutil.rmtree(state, ignore_errors=True)
        return 0
    say(f"The logs were left in {state}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
