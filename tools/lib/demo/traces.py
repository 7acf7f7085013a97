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
"""Removing what a run wrote to servers that are not its own."""

import contextlib
from collections.abc import Callable
from typing import Any

import gnocchiclient.exceptions
import tenacity

# Seconds that gnocchi-metricd has to delete the metrics.
_TIMEOUT = 20


def remove_resource(client: Any, resource_id: str, policy: str) -> None:
    """Delete the resource, its metrics and their archive policy."""
    with contextlib.suppress(gnocchiclient.exceptions.NotFound):
        client.resource.delete(resource_id)
    # The policy is in use until gnocchi-metricd has deleted the metrics.
    # Gnocchi says so with a 400, or, where oslo.db does not know the newer
    # PostgreSQL's error, with a 500 that never ends.
    with contextlib.suppress(gnocchiclient.exceptions.NotFound):
        tenacity.retry(
            retry=tenacity.retry_if_not_exception_type(
                gnocchiclient.exceptions.NotFound
            ),
            wait=tenacity.wait_fixed(1),
            stop=tenacity.stop_after_delay(_TIMEOUT),
            reraise=True,
        )(client.archive_policy.delete)(policy)


def attempt(
    what: str, say: Callable[[str], None], remove: Callable[[], object]
) -> None:
    """Remove something; tell, but do not fail, if that can't be done."""
    try:
        remove()
    except Exception as error:
        say(f"{what} could not be removed: {error}")
