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
"""What is asked of InfluxDB, in its two languages (pure).

Each kind of query is a class, and knows how it is rendered, which way to its
answer is the quicker one, and how its rows become windows of an aggregation.
"""

from gnocchi_influxdb.read.query.base import Ids, Query
from gnocchi_influxdb.read.query.points import NewestQuery, PointsQuery
from gnocchi_influxdb.read.query.stored import DownsampledQuery, FieldQuery
from gnocchi_influxdb.read.query.windows import RateEndsQuery, WindowsQuery

__all__ = [
    "DownsampledQuery",
    "FieldQuery",
    "Ids",
    "NewestQuery",
    "PointsQuery",
    "Query",
    "RateEndsQuery",
    "WindowsQuery",
]
