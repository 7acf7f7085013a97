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
"""The bucket of the driver's health.

No archive policy has it: the names of their buckets have no ``@``, and those
of windows have a number behind it.
"""

import dataclasses
from typing import Any

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.buckets.api_1x import RetentionPolicyAPI
from gnocchi_influxdb.buckets.api_2x import BucketAPI
from gnocchi_influxdb.buckets.policy import PolicyBucket

#: Seconds for which lines are kept: a week.
KEPT = 7 * 86400


@dataclasses.dataclass(frozen=True, slots=True)
class HealthBucket(PolicyBucket):
    """The bucket as it is made; whoever wants to may change it later."""

    @property
    def description(self) -> str:
        """What InfluxDB shows beside its name."""
        return "Health of Gnocchi's driver for InfluxDB"


def name(conf: Any) -> str:
    """Name of the bucket.

    :param conf: the group of options.
    """
    return f"{conf.influxdb_bucket_prefix}@health"


def make(server: BucketAPI | RetentionPolicyAPI, bucket: str) -> None:
    """Make the bucket; another process may do so at the same moment.

    :raises AccessError: the token may not.
    """
    wanted = HealthBucket("", bucket, KEPT, shards=7)
    try:
        server.make(wanted)
    except exceptions.AccessError as e:
        raise type(e)(f"{e}. Make it with: {server.to_make(wanted)}") from None
