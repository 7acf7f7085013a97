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
"""How a migration waits for InfluxDB."""

import logging
from concurrent import futures

import pytest

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.cli.migrate.migration import Patience

AWAY = exceptions.UnavailableError("InfluxDB can't be reached")


def failing(*errors):
    """Work that raises these errors, one each time, then is done."""
    left = [*errors]

    def work(result):
        if left:
            raise left.pop(0)
        return result

    return work


def test_waits_and_says_so_once(caplog):
    caplog.set_level(logging.WARNING)
    patience = Patience(pause=0)
    cut = exceptions.ResponseError("the answer is cut")
    assert patience.call(failing(AWAY, cut, AWAY), 7) == 7
    assert patience.call(failing(), 8) == 8
    assert [r.getMessage() for r in caplog.records] == [
        "InfluxDB can't be reached. Waiting for InfluxDB, up to 10 minutes",
        "InfluxDB is back",
    ]


def test_does_not_wait_for_ever():
    patience = Patience(limit=0, pause=0)
    with pytest.raises(exceptions.UnavailableError):
        patience.call(failing(AWAY), 7)
    # The others need not wait as long once more.
    with pytest.raises(exceptions.UnavailableError):
        patience.call(failing(AWAY), 7)


def test_gives_up_at_once():
    patience = Patience(pause=3600)
    with futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(patience.call, failing(AWAY), 7)
        patience.give_up()
        with pytest.raises(exceptions.UnavailableError):
            waiting.result(60)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.AccessError("no such token"),
        exceptions.RefusedError("no", 400, "no"),
        exceptions.QueryError("no"),
    ],
)
def test_what_waiting_does_not_mend(error):
    with pytest.raises(type(error)):
        Patience(pause=3600).call(failing(error), 7)
