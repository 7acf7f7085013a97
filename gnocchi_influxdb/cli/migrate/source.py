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
"""Reading the history that another storage driver of Gnocchi has stored."""

import urllib.parse
from typing import Any

import daiquiri
import numpy
from gnocchi import carbonara
from gnocchi import storage as gnocchi_storage
from stevedore import driver
from stevedore.exception import NoMatches

from gnocchi_influxdb import schema
from gnocchi_influxdb.cli.migrate import history
from gnocchi_influxdb.cli.output import Failure
from gnocchi_influxdb.schema import Array

LOG = daiquiri.getLogger(__name__)


class Source:
    """The former storage of a Gnocchi. Threads may share it.

    :param conf: the whole configuration.
    :param name: of a storage driver, such as file or ceph.
    :raises Failure: the driver can't be used.
    """

    def __init__(self, conf: Any, name: str) -> None:
        self._name = name
        self._conf = conf.storage
        try:
            self.driver = driver.DriverManager(
                "gnocchi.storage",
                name,
                invoke_on_load=True,
                invoke_args=(conf.storage,),
            ).driver
        except NoMatches:
            raise Failure(
                f"Gnocchi has no storage driver {name!r}, or what that needs"
                " is not installed"
            ) from None
        except Exception as e:
            # Each driver has exceptions of its own for what is missing.
            raise Failure(
                f"Gnocchi's storage driver {name!r} can't be used: {e}"
            ) from None

    def __str__(self) -> str:
        if self._name != "redis":
            return str(self.driver)
        # The driver's own text differs from process to process, and may hold
        # the password.
        url = urllib.parse.urlsplit(self._conf.redis_url)
        query = urllib.parse.urlencode(
            [
                (key, value)
                for key, value in urllib.parse.parse_qsl(url.query)
                if key in ("db", "sentinel")
            ]
        )
        host = url.netloc.rpartition("@")[2]
        shown = urllib.parse.SplitResult(url.scheme, host, url.path, query, "")
        return f"Redis: {shown.geturl()}"

    def levels(
        self, metric: Any, method: str | None
    ) -> list[history.HistoryLevel]:
        """The stored series of a metric, the finest first.

        :param method: the aggregation method whose values are taken; None:
            only the measures.
        :raises gnocchi.storage.MetricDoesNotExist: nothing is stored.
        """
        policy = metric.archive_policy
        # Asked for also without a method: it tells whether there is a metric.
        # To ask for its measures would make one.
        methods = [method] if method else sorted(policy.aggregation_methods)
        aggregations = [
            policy.get_aggregation(one, item.granularity)
            for one in methods[:1]
            for item in sorted(policy.definition, key=lambda i: i.granularity)
        ]
        found = self.aggregated(metric, aggregations)
        levels = []
        for aggregation in aggregations if method else ():
            series = found[aggregation]
            every = schema.ns_of(aggregation.granularity)
            times = as_ns(series.timestamps)
            timespan = aggregation.timespan
            levels.append(
                history.HistoryLevel(
                    every,
                    history.complete_from(
                        int(times[-1]),
                        None if timespan is None else schema.ns_of(timespan),
                        every,
                    )
                    if len(times)
                    else None,
                    times,
                    series.values,
                )
            )
        measures = self._measures(metric)
        return levels if measures is None else [measures, *levels]

    def aggregated(
        self, metric: Any, aggregations: list[Any]
    ) -> dict[Any, Any]:
        """The aggregated series: {aggregation: AggregatedTimeSerie}.

        :raises gnocchi.storage.MetricDoesNotExist: nothing is stored.
        """
        found: dict[Any, Any] = self.driver.get_aggregated_measures(
            {metric: aggregations}
        )[metric]
        return found

    def _measures(self, metric: Any) -> history.HistoryLevel | None:
        """The measures of the back window; None if there are none."""
        policy = metric.archive_policy
        data = self.driver._get_or_create_unaggregated_timeseries([metric])[
            metric
        ]
        if not data:
            return None
        block = policy.max_block_size
        try:
            series = carbonara.BoundTimeSerie.unserialize(
                data, block, policy.back_window
            )
        except carbonara.InvalidData:
            LOG.warning(
                "The measures of the back window of metric %s can't be read;"
                " its aggregates are taken instead",
                metric.id,
            )
            return None
        if not len(series):
            return None
        times = as_ns(series.timestamps)
        every = schema.ns_of(block)
        # Gnocchi drops whole blocks. The measures are complete from where they
        # should begin or from where they do begin, whichever is later: the
        # back window may just have become longer.
        begin = max(
            as_ns(numpy.array([series.first_block_timestamp()]))[0],
            schema.floor(int(times[0]), every),
        )
        return history.HistoryLevel(
            history.MEASURE, int(begin), times, series.values
        )


def as_ns(times: Any) -> Array:
    """Times as int64, ns since the epoch."""
    found: Array = times.astype("datetime64[ns]").astype("int64")
    return found


NO_METRIC = gnocchi_storage.MetricDoesNotExist
