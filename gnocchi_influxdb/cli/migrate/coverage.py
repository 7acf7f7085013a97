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
"""Seeing to it that moved windows are read, and are not computed again."""

from typing import Any, NamedTuple

from gnocchi_influxdb import schema
from gnocchi_influxdb.buckets.manager import Buckets
from gnocchi_influxdb.buckets.watermark import DELAY, Watermark
from gnocchi_influxdb.downsampling.downsampler import Downsampler


class Covered(NamedTuple):
    """Up to where an archive policy is downsampled.

    :ivar began: when that was seen to, ns since the epoch.
    :ivar until: coarser windows that begin before are read from their
        buckets, ns.
    """

    began: int
    until: int


class Coverage:
    """Moves watermarks. For one thread.

    :param conf: the group of options that the buckets were made with.
    """

    def __init__(self, buckets: Buckets, conf: Any) -> None:
        self._buckets = buckets
        self._downsampler = Downsampler(buckets, conf)

    def extend(self, policy: Any) -> Covered:
        """Downsample all that is over, and close it.

        Before windows are moved, so that what is made of the points in
        InfluxDB, which are not all, does not overwrite them later; and
        afterwards, since metricd may have written a watermark meanwhile that
        it had read before.

        :raises InfluxDBError: it can't be done.
        """
        now = self._buckets.client.clock.now_ns()
        until = schema.MAX_TIME
        self._buckets.ensure(policy)
        self._buckets.ensure_moved(policy)
        for target in self._buckets.downsampled(policy):
            for _mark in self._downsampler.downsample(policy, target):
                pass
            mark = self._buckets.watermarks.read(target.name)
            if mark is None:
                # There are no points in any window that is over.
                end = schema.floor(now - DELAY, target.every)
                mark = Watermark(end, now, end)
            last = max(mark.last, mark.until)
            self._buckets.watermarks.write(
                target.name, mark._replace(last=last)
            )
            until = min(until, mark.until)
        return Covered(now, until)
