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
"""Text of InfluxQL statements (pure)."""

import uuid
from collections.abc import Iterable

from gnocchi_influxdb import line_protocol as lp


def delete(metrics: Iterable[uuid.UUID]) -> str:
    """Delete all points of some metrics."""
    # A UUID object has nothing but hexadecimal digits and dashes to give.
    terms = " OR ".join(f"\"{lp.TAG}\" = '{metric}'" for metric in metrics)
    return f'DELETE FROM "{lp.MEASUREMENT}" WHERE {terms}'  # noqa: S608
