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
"""Which part of a read is downsampled, and which is made of points."""

import gc
from concurrent import futures

import pytest

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.read.guard import Total


class Series(list):
    """Like a carbonara series: it has a length, and can be referred to."""

    __hash__ = object.__hash__


def answer(*numbers):
    return {
        metric: {"mean": Series(range(n))} for metric, n in enumerate(numbers)
    }


@pytest.fixture
def total():
    return Total(10)


def test_what_is_in_use_counts(total):
    held = answer(6)
    total.hold(held)
    total.check(answer(4))
    with pytest.raises(exceptions.TooLargeError, match="more than 10"):
        total.check(answer(2, 3))


def test_what_nobody_uses_does_not_count(total):
    for _ in range(5):
        held = answer(3, 4, 0)
        total.hold(held)
        del held
        gc.collect()
    assert total._held == {}


def test_what_a_refused_request_left_does_not_count(total):
    left = answer(9)
    total.hold(left)
    with pytest.raises(exceptions.TooLargeError):
        total.hold(answer(2))
    held = answer(8)
    total.hold(held)
    del left, held
    gc.collect()
    assert total._held == {}


def test_the_threads_of_a_request_count_together(total):
    def in_pool():
        with futures.ThreadPoolExecutor(3) as pool:
            return [*pool.map(hold, [3, 3, 3])]

    def hold(number):
        held = answer(number)
        total.hold(held)
        return held

    first, second = in_pool(), in_pool()
    assert sorted(total._held.values()) == [9, 9]
    with (
        pytest.raises(exceptions.TooLargeError),
        futures.ThreadPoolExecutor(3) as pool,
    ):
        list(pool.map(hold, [4, 4, 4]))
    del first, second
    gc.collect()
    assert total._held == {}


def test_any_number():
    unbounded = Total(0)
    held = answer(10**5)
    unbounded.check(held)
    unbounded.hold(held)
    assert unbounded._held == {}
