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
"""Gnocchi's incoming driver in front of InfluxDB."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from gnocchi import incoming
from stevedore import driver

from gnocchi_influxdb import opts


class InfluxDBIncoming(incoming.IncomingDriver):  # type: ignore[misc]
    """Hands everything to the queue that `influxdb_queue_driver` names."""

    def __init__(self, conf: Any, greedy: bool = True) -> None:
        opts.register(conf)
        name = conf.influxdb_queue_driver
        if name == "influxdb":
            raise ValueError(
                "[incoming] influxdb_queue_driver must name one of Gnocchi's"
                " own drivers, such as file or redis"
            )
        self.queue: Any = driver.DriverManager(
            "gnocchi.incoming", name
        ).driver(conf, greedy)

    def __str__(self) -> str:
        return f"{type(self).__name__}: {self.queue}"

    # Sacks -----------------------------------------------------------------

    @property
    def NUM_SACKS(self) -> int:
        """How many sacks the queue has."""
        return int(self.queue.NUM_SACKS)

    def upgrade(self, num_sacks: int) -> None:
        self.queue.upgrade(num_sacks)

    def set_storage_settings(self, num_sacks: int) -> None:
        self.queue.set_storage_settings(num_sacks)

    def remove_sacks(self) -> None:
        self.queue.remove_sacks()

    def remove_sack_group(self, num_sacks: int) -> None:
        self.queue.remove_sack_group(num_sacks)

    def group_metrics_by_sack(self, metrics: Iterable[Any]) -> Iterator[Any]:
        return iter(self.queue.group_metrics_by_sack(metrics))

    def sack_for_metric(self, metric_id: Any) -> incoming.Sack:
        return self.queue.sack_for_metric(metric_id)

    def iter_sacks(self) -> Iterator[incoming.Sack]:
        return iter(self.queue.iter_sacks())

    def iter_on_sacks_to_process(self) -> Iterator[incoming.Sack]:
        return iter(self.queue.iter_on_sacks_to_process())

    def finish_sack_processing(self, sack: incoming.Sack) -> None:
        self.queue.finish_sack_processing(sack)

    # Measures --------------------------------------------------------------

    def add_measures(self, metric_id: Any, measures: Iterable[Any]) -> None:
        self.add_measures_batch({metric_id: measures})

    def add_measures_batch(
        self, metrics_and_measures: Mapping[Any, Iterable[Any]]
    ) -> None:
        self.queue.add_measures_batch(metrics_and_measures)

    def measures_report(self, details: bool = True) -> dict[str, Any]:
        report: dict[str, Any] = self.queue.measures_report(details)
        return report

    def delete_unprocessed_measures_for_metric(self, metric_id: Any) -> None:
        self.queue.delete_unprocessed_measures_for_metric(metric_id)

    def process_measure_for_metrics(
        self, metric_ids: Iterable[Any]
    ) -> AbstractContextManager[dict[Any, Any]]:
        return self.queue.process_measure_for_metrics(  # type: ignore[no-any-return]
            metric_ids
        )

    def process_measures_for_sack(
        self, sack: incoming.Sack
    ) -> AbstractContextManager[dict[Any, Any]]:
        return self.queue.process_measures_for_sack(  # type: ignore[no-any-return]
            sack
        )

    def has_unprocessed(self, metric_id: Any) -> bool:
        return bool(self.queue.has_unprocessed(metric_id))
