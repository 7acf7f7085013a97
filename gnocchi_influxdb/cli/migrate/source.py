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

from gnocchi_influxdb.cli.migrate import history
from gnocchi_influxdb.cli.output import Failure

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

    def measures(self, metric: Any) -> history.Measures | None:
        """The measures that Gnocchi has not dropped; None if there are none.

        :param metric: one that `aggregated` has found: to ask for measures of
            another one would make it.
        """
        policy = metric.archive_policy
        data = self._unaggregated(metric)
        if not data:
            return None
        try:
            # With rates there is one block more, which has the measures
            # before the first block.
            series = carbonara.BoundTimeSerie.unserialize(
                data, policy.max_block_size, policy.back_window
            )
        except carbonara.InvalidData:
            LOG.warning(
                "The measures of the back window of metric %s can't be read;"
                " only its aggregates are moved",
                metric.id,
            )
            return None
        if not len(series):
            return None
        first_block = numpy.array([series.first_block_timestamp()])
        return history.measures(
            policy, series.ts, int(history.as_ns(first_block)[0])
        )

    # Where a driver does that for a metric at a time, Gnocchi only logs what
    # goes wrong.

    def _unaggregated(self, metric: Any) -> Any:
        if self._is_batched("_get_or_create_unaggregated_timeseries"):
            found = self.driver._get_or_create_unaggregated_timeseries(
                [metric]
            )
            return found[metric]
        return self.driver._get_or_create_unaggregated_timeseries_unbatched(
            metric
        )

    def _store_unaggregated(self, metric: Any, data: bytes) -> None:
        if self._is_batched("_store_unaggregated_timeseries"):
            self.driver._store_unaggregated_timeseries([(metric, data)])
        else:
            self.driver._store_unaggregated_timeseries_unbatched(metric, data)

    def _is_batched(self, name: str) -> bool:
        general = getattr(gnocchi_storage.StorageDriver, name)
        return getattr(type(self.driver), name) is not general


NO_METRIC = gnocchi_storage.MetricDoesNotExist
