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
"""Work in a thread of its own."""

import os
import signal
import threading

import pytest

from gnocchi_influxdb.background import Background


class Work:
    """Counts, and waits to be let through."""

    def __init__(self):
        self.begun = threading.Semaphore(0)
        self.goes_on = threading.Semaphore(0)
        self.number = 0

    def __call__(self):
        self.number += 1
        self.begun.release()
        assert self.goes_on.acquire(timeout=30)


def threads():
    return [t for t in threading.enumerate() if t.name == "test"]


def test_in_a_thread_of_its_own():
    seen = []
    background = Background(
        lambda: seen.append(threading.current_thread()), "test"
    )
    background.wait()
    assert seen == []
    for number in 1, 2:
        background.start()
        background.wait()
        assert len(seen) == number
        assert seen[-1] is not threading.main_thread()
        seen[-1].join(30)
        assert threads() == []


def test_once_more_for_what_has_come_meanwhile():
    work = Work()
    background = Background(work, "test")
    background.start()
    assert work.begun.acquire(timeout=30)
    for _ in range(5):
        background.start()
    assert len(threads()) == 1
    work.goes_on.release(10)
    background.wait()
    assert work.number == 2


def test_after_a_failure(monkeypatch):
    failures = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    outcomes = [ZeroDivisionError, SystemExit]
    done = []

    def work():
        if outcomes:
            raise outcomes.pop()
        done.append(True)

    background = Background(work, "test")
    for _ in range(3):
        background.start()
        background.wait()
    assert done == [True]
    for thread in threads():
        thread.join(30)
    # As of any thread; nobody hears of a SystemExit.
    assert [f.exc_type for f in failures] in (
        [ZeroDivisionError],
        [SystemExit, ZeroDivisionError],
    )


def test_no_thread_to_be_had(monkeypatch):
    done = []
    background = Background(lambda: done.append(True), "test")

    def fail(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError):
            background.start()
    background.wait()
    assert done == []
    background.start()
    background.wait()
    assert done == [True]


def test_in_a_child():
    work = Work()
    background = Background(work, "test")
    background.start()
    assert work.begun.acquire(timeout=30)
    # As if another thread were just looking.
    with background._changed:
        child = os.fork()
        if child == 0:
            # Whatever happens, this must not go on with the tests.
            signal.alarm(60)
            try:
                background.wait()
                work.goes_on.release()
                background.start()
                background.wait()
            finally:
                os._exit(work.number)
    # The parent's one, which the child was told of, and the child's.
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 2
    work.goes_on.release(2)
    background.wait()
    assert work.number == 1
