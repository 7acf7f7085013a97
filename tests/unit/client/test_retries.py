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
"""How long to wait before a request is repeated."""

import pytest
import tenacity

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.client import retries


def state_of(error):
    state = tenacity.RetryCallState(None, None, (), {})
    state.set_exception((type(error), error, None))
    return state


def attempts(retrying, call, *args):
    for attempt in retrying:
        with attempt:
            call(*args)


@pytest.mark.parametrize("seconds", [0, 3, 30, 1e9])
def test_as_asked(seconds):
    wait = retries.wait_as_server_asks(tenacity.wait_fixed(17), longest=30)
    error = exceptions.UnavailableError("x", seconds)
    assert wait(state_of(error)) == min(seconds, 30)
    assert wait(state_of(exceptions.UnavailableError("x"))) == 17


def test_none_begins_too_late():
    """The server asks to come back when the time is over."""
    calls, slept = [], []

    def fail(seconds):
        calls.append(seconds)
        raise exceptions.UnavailableError("x", seconds)

    retrying = retries.retrying(3, 10).copy(sleep=slept.append)
    for seconds, times in ((10, 1), (9, 4)):
        calls.clear()
        with pytest.raises(exceptions.UnavailableError):
            attempts(retrying, fail, seconds)
        assert len(calls) == times
    assert slept == [9] * 3


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_only_what_may_help(max_retries):
    calls = []

    def fail(error):
        calls.append(error)
        raise error

    retrying = retries.retrying(max_retries, 100).copy(sleep=lambda _: None)
    for error, times in (
        (exceptions.UnavailableError("x"), 1 + max_retries),
        (exceptions.UnavailableError("x", 1), 1 + max_retries),
        (exceptions.AccessError("x"), 1),
        (exceptions.RefusedError("x", 400, "x"), 1),
        (exceptions.ResponseError("x"), 1),
        (exceptions.QueryError("x"), 1),
        (ValueError("x"), 1),
    ):
        calls.clear()
        with pytest.raises(type(error)) as raised:
            attempts(retrying, fail, error)
        assert raised.value is error
        assert len(calls) == times
