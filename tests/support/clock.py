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
"""Clocks that tests set."""

import time


class Clock:
    """In place of a module's `time`."""

    now = 1000.0

    def monotonic(self):
        return self.now

    def time_ns(self):
        return int(1e9 * self.now)

    def sleep(self, seconds):
        self.now += seconds


class Host:
    """In place of a module's `time`: that of a host whose clock is wrong.

    :ivar ahead: by how many seconds; changing it is a jump.
    """

    def __init__(self, ahead=0.0):
        self.ahead = ahead

    def monotonic(self):
        return time.monotonic()

    def time(self):
        return time.time() + self.ahead

    def time_ns(self):
        return time.time_ns() + int(1e9 * self.ahead)
