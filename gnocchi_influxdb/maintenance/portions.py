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
"""As many metrics at a time as InfluxDB manages in time."""

import uuid
from collections.abc import Callable, Sequence

from gnocchi_influxdb import exceptions

_Buckets = tuple[str, ...]

# So many may have taken too long, have been too large for a proxy (413), or
# have more series than InfluxDB may select.
_TOO_MANY = (
    exceptions.UnavailableError,
    exceptions.RefusedError,
    exceptions.QueryError,
)


class Portions:
    """Makes portions smaller that are too large, and larger again.

    :param most: metrics in a portion.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = most

    def first(
        self,
        do: Callable[[_Buckets, Sequence[uuid.UUID]], Sequence[uuid.UUID]],
        buckets: _Buckets,
        ids: Sequence[uuid.UUID],
    ) -> Sequence[uuid.UUID]:
        """Do it for the first of some metrics.

        :return: what is returned for them.
        :raises InfluxDBError: it fails for one alone, too.
        """
        while True:
            some = ids[: self._size]
            try:
                done = do(buckets, some)
                break
            except _TOO_MANY:
                if len(some) == 1:
                    raise
                self._size = max(len(some) // 4, 1)
        self._size = min(self._size * 2, self._most)
        return done
