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
"""Runs the demonstration and says how it ended."""

import contextlib
import sys

from demo import arguments, environment, processes, report
from demo.run import Demo


def main() -> int:
    options = arguments.parse()
    environment.bypass_proxies()
    processes.SIGNALS.install()
    demo = Demo(options)
    try:
        with contextlib.ExitStack() as exits:
            try:
                result = demo.run(exits)
            finally:
                processes.SIGNALS.ignore()
    except processes.Stopped as stopped:
        demo.remove_state()
        report.Progress().say("Stopped; nothing is left running.")
        return 0 if options.keep else 128 + stopped.signum
    except Exception as error:
        return demo.fail(error)
    demo.remove_state()
    return demo.conclude(result)


if __name__ == "__main__":
    sys.exit(main())
