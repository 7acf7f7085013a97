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
"""Points are kept for longer while their windows are not computed.

Otherwise they would expire while gnocchi-metricd stands still, and what waits
in Gnocchi's queue during an outage would be too old after it. Whoever writes
sees to it, since it is there when points are; and whoever downsamples takes it
back, a day later: the queue may still hold measures of that time.

Where points have expired before their bucket was made longer, windows stay as
they are: see `Watermark.whole`.
"""

import contextlib
import dataclasses
import logging
import shlex
from collections.abc import Sequence

import daiquiri

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.buckets import watermark
from gnocchi_influxdb.buckets.api_1x import RetentionPolicyAPI
from gnocchi_influxdb.buckets.api_2x import BucketAPI
from gnocchi_influxdb.buckets.policy import (
    Bucket,
    Lengthened,
    PolicyBucket,
    longer,
)
from gnocchi_influxdb.client.clock import Clock

LOG = daiquiri.getLogger(__name__)

_DAY = 86400


class Overdue:
    """Watches that points outlive the downsampling. Threads may share it.

    :param slack: the option influxdb_raw_slack, s.
    :ivar is_seen_to: whether this process is there to downsample by hand, so
        that nobody needs to be told to.
    """

    is_seen_to = False

    def __init__(
        self,
        server: BucketAPI | RetentionPolicyAPI,
        watermarks: watermark.Watermarks,
        clock: Clock,
        slack: int,
    ) -> None:
        self._server = server
        self._watermarks = watermarks
        self._clock = clock
        self._slack = slack

    def seconds(self, points: str, downsampled: Sequence[PolicyBucket]) -> int:
        """For how long windows of a policy could have been computed.

        :param points: name of the policy's bucket of points.
        :param downsampled: the buckets of its windows.
        :raises InfluxDBError: that can't be seen.
        """
        return self._late(points, downsampled)[0]

    def _late(
        self, points: str, downsampled: Sequence[PolicyBucket]
    ) -> tuple[int, int]:
        """As `seconds`; and from when on (ns) there are windows to compute."""
        now = self._clock.now_ns()
        late, first = 0, int(now)
        for one in downsampled:
            mark = self._watermarks.read(one.name)
            since = mark.until if mark else self._watermarks.oldest(points)
            if since is not None:
                late = max(late, watermark.overdue(since, one.every, now))
                first = min(first, since)
        return late // schema.SECOND, first

    def noted(self, bucket: str, retention: int) -> Lengthened | None:
        """What is known of the points of a bucket, see `Lengthened`.

        :param retention: as it is, s.
        :return: None: nothing, or its retention has been changed since.
        """
        note = self._watermarks.read_lengthened(bucket)
        if note is None or note.lengthened != retention:
            return None
        return note

    def seen(self, bucket: str, retention: int) -> Lengthened | None:
        """As `noted`; and remember the retention of the bucket."""
        if self._watermarks.read_kept(bucket) != retention:
            # What can't be written there must not hold up points.
            with contextlib.suppress(*exceptions.OF_ONE_BUCKET):
                self._watermarks.write_kept(bucket, retention)
        return self.noted(bucket, retention)

    def _protect(
        self,
        wanted: PolicyBucket,
        found: Bucket | None,
        downsampled: Sequence[PolicyBucket],
    ) -> None:
        """Let windows stay whose points are gone from the bucket of points.

        Either they expired before it has grown, or it was deleted.

        :param wanted: as the bucket will be.
        :param found: as it is.
        """
        now = self._clock.now_ns()
        if found is not None:
            before = self._before(wanted, found)
            if before is None:
                return
            note = self.noted(found.name, found.retention)
            complete = note.complete if note else 0
            since = max(now - before * schema.SECOND, complete)
        elif any(self._watermarks.read(one.name) for one in downsampled):
            if self._watermarks.is_there(wanted.name):
                return  # The token may not see it.
            since = now
        else:
            return
        for one in downsampled:
            # A rate needs the points of the window before.
            whole = schema.ceil(since, one.every) + one.every
            with contextlib.suppress(*exceptions.OF_ONE_BUCKET):
                self._watermarks.protect(one.name, whole)

    def _before(self, wanted: PolicyBucket, found: Bucket) -> int | None:
        """The retention (s) before a bucket of points has grown, or grows.

        :return: None: it keeps points for as long as it did.
        """
        kept = self._watermarks.read_kept(found.name)
        if kept is not None and longer(found.retention, kept):
            return kept  # Somebody else has lengthened it.
        if longer(wanted.retention, found.retention):
            return found.retention
        return None

    def lengthened(
        self, wanted: PolicyBucket, downsampled: Sequence[PolicyBucket]
    ) -> PolicyBucket:
        """The bucket of points, for longer if windows are overdue.

        :param wanted: the bucket that the policy asks for.
        """
        if not downsampled:
            return wanted
        found = self._server.find(wanted.name)
        self._protect(wanted, found, downsampled)
        if not wanted.retention:
            return wanted
        late, first = self._late(wanted.name, downsampled)
        longest = wanted.retention + -(-late // _DAY) * _DAY
        # Windows expire themselves.
        ends = [one.retention for one in downsampled]
        if all(ends):
            longest = max(min(longest, *ends), wanted.retention)
        if (
            late <= self._slack / 4
            or found is None
            or not longer(longest, found.retention)
        ):
            return wanted
        LOG.log(
            logging.INFO if self.is_seen_to else logging.ERROR,
            "Archive policy %s has not been downsampled for %d h, so its"
            " points are kept for longer. Start gnocchi-metricd, with"
            " [incoming] driver = influxdb, or run: gnocchi-influxdb"
            " downsample --policy %s",
            wanted.policy,
            late // 3600,
            shlex.quote(wanted.policy),
        )
        now = self._clock.now_ns()
        # Older ones have expired, or wait in Gnocchi's queue if no window of
        # theirs was computed.
        complete = min(now - found.retention * schema.SECOND, first)
        note = self.noted(found.name, found.retention)
        self._watermarks.write_lengthened(
            wanted.name,
            Lengthened(
                before=note.before if note else found.retention,
                lengthened=longest,
                complete=max(complete, note.complete if note else 0),
                since=now,
            ),
        )
        return dataclasses.replace(wanted, retention=longest)

    def take_back(
        self, wanted: PolicyBucket, found: Bucket
    ) -> PolicyBucket | None:
        """The bucket of points as it was before `lengthened`, and note that.

        :param wanted: the bucket that the policy asks for.
        :param found: the bucket as it is.
        :return: None: it was not lengthened, or a short while ago, or somebody
            has changed it since.
        """
        if not longer(found.retention, wanted.retention):
            return None
        note = self.noted(found.name, found.retention)
        now = self._clock.now_ns()
        if note is None or now - note.since < _DAY * schema.SECOND:
            return None
        self._watermarks.write_lengthened(
            wanted.name, note._replace(lengthened=note.before)
        )
        return dataclasses.replace(wanted, retention=note.before)
