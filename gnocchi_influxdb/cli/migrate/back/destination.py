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
"""Storing history as another storage driver of Gnocchi stores it."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy
from gnocchi import carbonara

from gnocchi_influxdb.cli.migrate import source
from gnocchi_influxdb.cli.migrate.back import holding
from gnocchi_influxdb.cli.output import Failure
from gnocchi_influxdb.schema import Array


class Destination(source.Source):
    """The storage that a Gnocchi goes back to. Threads may share it.

    :param conf: the whole configuration.
    :param name: of a storage driver, such as file or ceph.
    :param dry_run: whether it is only looked at.
    :raises Failure: the driver can't be used.
    """

    def __init__(self, conf: Any, name: str, dry_run: bool) -> None:
        super().__init__(conf, name)
        if dry_run:
            return
        if name == "file":
            _check_owner(pathlib.Path(conf.storage.file_basepath))
        try:
            # It makes what the driver needs, as gnocchi-upgrade does.
            self.driver.upgrade()
        except Exception as e:
            raise Failure(
                f"Gnocchi's storage driver {name!r} can't be used: {e}"
            ) from None

    def points(self, metric: Any) -> Array:
        """The measures that the driver has of a metric, which it makes.

        :return: a structured array, sorted; maybe empty.
        :raises Exception: those of the driver.
        """
        data = self._unaggregated(metric)
        if not data:
            return holding.NOTHING
        policy = metric.archive_policy
        try:
            found: Array = carbonara.BoundTimeSerie.unserialize(
                data, policy.max_block_size, policy.back_window
            ).ts
        except carbonara.InvalidData:
            # Gnocchi would begin anew, too.
            return holding.NOTHING
        return found

    def store(self, metric: Any, held: holding.Holding) -> None:
        """Store what is to be held of a metric that `points` has made.

        What the driver holds already, and is not stored now, stays.

        :raises Exception: those of the driver; some may not be stored.
        """
        policy = metric.archive_policy
        oldest = holding.first_block(policy, held.newest())
        splits = _splits(held.series)
        if splits:
            self.driver._update_metric_splits(
                {metric: (splits, numpy.datetime64(oldest, "ns"))}
            )
        if len(held.points):
            self._store_unaggregated(
                metric,
                carbonara.BoundTimeSerie(
                    held.points, policy.max_block_size, policy.back_window
                ).serialize(),
            )


def _splits(series: Mapping[Any, Array]) -> dict[Any, Any]:
    return {
        (key, aggregation): split
        for aggregation, windows in series.items()
        for key, split in carbonara.AggregatedTimeSerie(
            aggregation, windows
        ).split()
    }


def _check_owner(directory: pathlib.Path) -> None:
    """Do not leave files behind that Gnocchi can't change."""
    try:
        owner = directory.stat().st_uid
    except OSError as e:
        raise Failure(
            f"[storage] file_basepath, {directory}: {e.strerror}"
        ) from None
    if os.geteuid() == 0 and owner != 0:
        raise Failure(
            f"Run it as the user with the number {owner}, who owns [storage]"
            f" file_basepath ({directory}): gnocchi-metricd could not change"
            " what root writes there"
        )
