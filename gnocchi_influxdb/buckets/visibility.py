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
"""Telling a bucket that is absent from one that the token may not see.

For a bucket that the token may not read, InfluxDB answers queries, deletes and
lookups as if it were absent. A write of zero bytes tells the two apart.
"""

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.client.client import Client


def is_absent(client: Client, bucket: str) -> bool:
    """Whether a bucket that was not found is not there.

    :return: False: it is hidden from the token.
    :raises ForbiddenError: that can't be told; the token may not write to a
        bucket of that name.
    """
    try:
        client.probe(bucket)
    except exceptions.BucketNotFoundError:
        return True
    return False


def takes_writes(client: Client, bucket: str) -> bool:
    """Whether the token may write to a bucket, and the bucket is there."""
    try:
        return not is_absent(client, bucket)
    except exceptions.ForbiddenError:
        return False
