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
"""Repeating a request that may succeed the next time."""

import time

import daiquiri
import tenacity

from gnocchi_influxdb import exceptions

LOG = daiquiri.getLogger(__name__)

# Seconds between two lines of the log about repetitions.
_SILENCE = 300.0


def retrying(max_retries: int, longest: float) -> tenacity.Retrying:
    """Attempts at a request, repeated after an UnavailableError.

    Use it as ``for attempt in retrying: with attempt: ...``; the last error
    is raised as it is. Repetitions are logged now and then. Threads may share
    it.

    :param longest: seconds after which no repetition begins, and the longest
        wait for a server that says when to come back.
    """

    told = float("-inf")
    untold = 0

    def log(state: tenacity.RetryCallState) -> None:
        # Threads may race; then there is a line more or less.
        nonlocal told, untold
        now = time.monotonic()
        if now - told < _SILENCE:
            untold += 1
            return
        LOG.warning(
            "%s; trying again (%d of %d)%s",
            state.outcome and state.outcome.exception(),
            state.attempt_number,
            max_retries,
            f", and {untold} more since the last such line" * bool(untold),
        )
        told, untold = now, 0

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(exceptions.UnavailableError),
        stop=tenacity.stop_any(
            tenacity.stop_after_attempt(1 + max_retries),
            tenacity.stop_before_delay(longest),
        ),
        wait=wait_as_server_asks(
            tenacity.wait_random_exponential(multiplier=0.2, max=5), longest
        ),
        before_sleep=log,
        reraise=True,
    )


class wait_as_server_asks(tenacity.wait.wait_base):
    """Wait as long as the server asks, or as another strategy says.

    :param longest: seconds to wait at most for the server.
    """

    def __init__(
        self, otherwise: tenacity.wait.wait_base, longest: float
    ) -> None:
        self.otherwise = otherwise
        self.longest = longest

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        outcome = retry_state.outcome
        error = outcome.exception() if outcome is not None else None
        asked = getattr(error, "retry_after", None)
        if asked is not None:
            return min(float(asked), self.longest)
        return float(self.otherwise(retry_state))
