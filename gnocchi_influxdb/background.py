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
"""Work that nobody waits for, done by a thread of its own."""

import os
import threading
from collections.abc import Callable


class Background:
    """Does one kind of work, whenever there is some.

    The thread is there as long as there is work, and a process that ends
    waits for it. Threads may share one, and it may be carried over a fork:
    what was under way then is the parent's.

    :param work: what is to be done.
    :param name: of the thread.
    """

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self._work = work
        self._name = name
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._is_wanted = False
        self._is_running = False
        # The last: who finds it right takes the lock.
        self._pid = os.getpid()

    def start(self) -> None:
        """Have the work done, once more if it is being done.

        :raises RuntimeError: no thread can be started.
        """
        # No thread survives a fork, and its lock may have been taken.
        if self._pid != os.getpid():
            self._begin()
        with self._changed:
            self._is_wanted = True
            if not self._is_running:
                threading.Thread(target=self._run, name=self._name).start()
                self._is_running = True

    def wait(self) -> None:
        """Wait until everything is done."""
        if self._pid == os.getpid():
            with self._changed:
                self._changed.wait_for(lambda: not self._is_running)

    def _run(self) -> None:
        try:
            while self._goes_on():
                self._work()
        except BaseException:
            self._stop()
            raise

    def _goes_on(self) -> bool:
        with self._changed:
            if not self._is_wanted:
                self._stop()
                return False
            self._is_wanted = False
            return True

    def _stop(self) -> None:
        with self._changed:
            self._is_running = False
            self._changed.notify_all()
