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
"""Metrics that receive measures, looked up and updated in one statement.

Gnocchi's ``list_metrics`` makes SQLAlchemy objects and decodes the archive
policy of each of them. Here PostgreSQL answers the few columns that matter,
and the same statement updates the rows as `bookkeeping` does. For a hundred
metrics that takes a third of the time, and one transaction instead of two.

So the indexer is told before the measures are stored. If storing fails, they
go to the queue or stay there: the metrics have received them all the same. A
resource that had ended is restored afterwards.

Nothing is remembered that could grow old: the archive policies come with each
answer, as text. Only the meaning of a text is cached.
"""

import datetime
import functools
import json
import uuid
from collections.abc import Iterable
from typing import Any

from gnocchi import archive_policy, indexer, utils
from gnocchi.indexer import sqlalchemy as sqlalchemy_indexer

from gnocchi_influxdb.indexer import capability, postgresql


class Receiver(indexer.Metric):  # type: ignore[misc]
    """A metric that receives measures, in place of Gnocchi's own.

    :ivar is_updated: the indexer has been told of the measures: only
        the resource may have to be restored.
    :ivar may_have_ended: the metric is updated and its resource may have
        ended.
    """

    def __init__(self, id: uuid.UUID, row: postgresql.Row) -> None:
        # Runs for each metric of each batch.
        (
            _,
            self.name,
            self.unit,
            resource_id,
            self.creator,
            self.needs_raw_data_truncation,
            self.archive_policy_name,
            back_window,
            items,
            methods,
            may_have_ended,
        ) = row
        self.is_updated = may_have_ended is not None
        self.may_have_ended = bool(may_have_ended)
        self.id = id
        self.resource_id = None if resource_id is None else _uuid(resource_id)
        self.archive_policy = _policy(
            self.archive_policy_name, back_window, items, methods
        )


def receivers(indexer_driver: Any, ids: Iterable[uuid.UUID]) -> list[Any]:
    """Metrics that are about to receive measures.

    An indexer that is not Gnocchi's on PostgreSQL is asked as Gnocchi does
    it, and told nothing.

    :param ids: of metrics that there may be.
    :return: those that there are, in no order: `Receiver` or
        gnocchi.indexer.Metric.
    :raises oslo_db.exception.DBError: the database fails.
    """
    can = capability.of(indexer_driver)
    find = _receivers if can.one_statement else _list
    return [
        metric
        for some in utils.grouper(ids, capability.CHUNK_SIZE)
        for metric in find(indexer_driver, some)
    ]


def _list(indexer_driver: Any, ids: Iterable[uuid.UUID]) -> Iterable[Any]:
    metrics: Iterable[Any] = indexer_driver.list_metrics(
        attribute_filter={"in": {"id": list(ids)}}
    )
    return metrics


@sqlalchemy_indexer.retry_on_deadlock  # type: ignore[untyped-decorator]
def _receivers(
    indexer_driver: Any, ids: Iterable[uuid.UUID]
) -> list[Receiver]:
    # It is cheaper to compare texts than to make UUIDs that are there.
    pending = {str(id_): id_ for id_ in ids}
    # As in Gnocchi: naive, and UTC.
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    with indexer_driver.facade.writer() as session:
        rows = postgresql.receive(session, list(pending), now)
    metrics = [Receiver(pending.pop(row[0]), row) for row in rows]
    if pending:
        # Some that are locked, or deleted.
        with indexer_driver.facade.independent_reader() as session:
            rows = postgresql.select(session, list(pending))
        metrics += [Receiver(pending[row[0]], row) for row in rows]
    return metrics


# Several metrics have the same resource.
_uuid = functools.lru_cache(1024)(uuid.UUID)


@functools.lru_cache(1024)
def _policy(name: str, back_window: int, items: str, methods: str) -> Any:
    """What Gnocchi would have made of a row.

    :param items: JSON, as `methods`.
    """
    return sqlalchemy_indexer.ArchivePolicy(
        name=name,
        back_window=back_window,
        definition=[
            archive_policy.ArchivePolicyItem(**item)
            for item in json.loads(items)
        ],
        aggregation_methods=set(json.loads(methods)),
    )
