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
"""What the indexer knows of metrics that receive measures, and is to know.

Gnocchi's ``list_metrics`` makes SQLAlchemy objects, and decodes the archive
policy of each of them. Here PostgreSQL is asked for the few columns that
matter, and told of the measures (`bookkeeping`) in the same statement. For a
hundred metrics that takes a third of the time, and one transaction instead of
two.

So the indexer is told before the measures are stored. Where that fails they
are queued or stay in the queue, so the metrics have received them just the
same. A resource that had ended is restored afterwards.

Nothing is kept that could grow old: the archive policies come with each
answer, as text. What is remembered is what a text means.
"""

import datetime
import functools
import json
import uuid
from collections.abc import Iterable
from typing import Any

from gnocchi import archive_policy, indexer, utils
from gnocchi.indexer import sqlalchemy as sqlalchemy_indexer

from gnocchi_influxdb.indexer import postgresql

#: Metrics that are looked up in one query.
METRICS_PER_QUERY = 1000


class Metric(indexer.Metric):  # type: ignore[misc]
    """Stands for Gnocchi's own where measures are stored.

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
    :return: those that there are, in no order: `Metric` or
        gnocchi.indexer.Metric.
    :raises oslo_db.exception.DBError: the database fails.
    """
    find = _receivers if _takes_statements(indexer_driver) else _list
    return [
        metric
        for some in utils.grouper(ids, METRICS_PER_QUERY)
        for metric in find(indexer_driver, some)
    ]


def _takes_statements(indexer_driver: Any) -> bool:
    if not (
        isinstance(indexer_driver, sqlalchemy_indexer.SQLAlchemyIndexer)
        and hasattr(getattr(indexer_driver, "facade", None), "get_engine")
        and _has_columns()
    ):
        return False
    dialect = indexer_driver.facade.get_engine().dialect
    # Since 9.5 it skips locked rows.
    return bool(
        dialect.name == "postgresql" and dialect.server_version_info >= (9, 5)
    )


@functools.cache
def _has_columns() -> bool:
    return all(
        column in table.__table__.c
        for table, columns in (
            (sqlalchemy_indexer.Metric, postgresql.METRIC_COLUMNS),
            (sqlalchemy_indexer.ArchivePolicy, postgresql.POLICY_COLUMNS),
        )
        for column in columns
    )


def _list(indexer_driver: Any, ids: Iterable[uuid.UUID]) -> Iterable[Any]:
    metrics: Iterable[Any] = indexer_driver.list_metrics(
        attribute_filter={"in": {"id": list(ids)}}
    )
    return metrics


@sqlalchemy_indexer.retry_on_deadlock  # type: ignore[untyped-decorator]
def _receivers(indexer_driver: Any, ids: Iterable[uuid.UUID]) -> list[Metric]:
    # It is cheaper to compare texts than to make UUIDs that are there.
    pending = {str(id_): id_ for id_ in ids}
    # As in Gnocchi: naive, and UTC.
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    with indexer_driver.facade.writer() as session:
        rows = postgresql.receive(session, list(pending), now)
    metrics = [Metric(pending.pop(row[0]), row) for row in rows]
    if pending:
        # Some that are locked, or deleted.
        with indexer_driver.facade.independent_reader() as session:
            rows = postgresql.select(session, list(pending))
        metrics += [Metric(pending[row[0]], row) for row in rows]
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
