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
"""The newest measure of each metric, for the indexer."""

from collections.abc import Container, Iterator, Mapping
from typing import Any

import numpy


class Latest(Mapping[Any, Any]):
    """The newest timestamp of each metric, found out only where it is asked.

    It is of interest for metrics of resources that have ended. Metrics
    without any timestamp are left out.

    :param metrics_and_measures: {metric: structured array}.
    :param suspects: ids of metrics that may have no timestamp but NaT.
    """

    def __init__(
        self, metrics_and_measures: Mapping[Any, Any], suspects: Container[Any]
    ) -> None:
        if suspects or not all(map(len, metrics_and_measures.values())):
            metrics_and_measures = {
                metric: measures
                for metric, measures in metrics_and_measures.items()
                if len(measures)
                and not (
                    metric.id in suspects
                    and numpy.isnat(measures["timestamps"]).all()
                )
            }
        self._measures = metrics_and_measures

    def __getitem__(self, metric: Any) -> Any:
        # fmax passes over NaT.
        return numpy.fmax.reduce(self._measures[metric]["timestamps"])

    def __iter__(self) -> Iterator[Any]:
        return iter(self._measures)

    def __len__(self) -> int:
        return len(self._measures)
