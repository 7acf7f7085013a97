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
"""Telling the indexer of new measures, in batches.

Gnocchi updates the indexer a metric at a time: an UPDATE in a transaction of
its own, then a SELECT of the metric's resource. Here a few statements do it
for a thousand metrics, with the same outcome:

* ``last_measure_timestamp`` is the present time,
* ``needs_raw_data_truncation`` is cleared where it was set,
* a resource that had ended, but not after the newest measure, is restored.

An UPDATE of one row never deadlocks; one of a thousand rows can, and
PostgreSQL is free to lock them in any order. The victim may be the other
side, and not every statement of Gnocchi's is retried (changing the
back window of an archive policy is not). So a batch never waits for a row
while it holds others: it skips those that are locked and comes back for
them. Database servers that cannot skip get the rows locked in the order of
their ids, and a deadlock is retried there.
"""

import datetime
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy
import sqlalchemy
from gnocchi import utils
from gnocchi.indexer import sqlalchemy as sqlalchemy_indexer

from gnocchi_influxdb.indexer import capability, postgresql, restore
from gnocchi_influxdb.schema import Array

#: InnoDB locks each row that it goes through, not only those it is asked for:
#: of a table that is not much larger than a batch all of them, and by way of
#: the index on the status it deadlocks even on a single row.
_BY_ID = "FORCE INDEX (PRIMARY)"
_WITH_INNODB = ("mysql", "mariadb")


class UpdatableMetric(Protocol):
    """The attributes of ``gnocchi.indexer.Metric`` that matter here."""

    id: uuid.UUID
    resource_id: uuid.UUID | None
    needs_raw_data_truncation: bool


_M = TypeVar("_M", bound=UpdatableMetric)


def update_metadata(
    indexer: Any,
    received: Sequence[tuple[_M, Array]],
    fallback: Callable[[_M, Array], None],
) -> None:
    """Tell the indexer which metrics have just received measures.

    Metrics and resources that were deleted in the meantime are skipped.
    Several threads and processes may do this for the same metrics at the
    same time.

    :param indexer: the indexer driver.
    :param received: each metric and its measures, a structured array with at
        least one time in the field `timestamps` (datetime64[ns]).
    :param fallback: tells the indexer of one metric; called for each of them
        when the indexer is not Gnocchi's SQLAlchemy driver.
    :raises oslo_db.exception.DBError: what was done until then stays done,
        and doing all of it again is harmless.
    """
    if not capability.of(indexer).batches:
        for metric, measures in received:
            fallback(metric, measures)
        return

    truncated: dict[uuid.UUID, bool] = {}
    may_have_ended: set[uuid.UUID] = set()
    for metric, _ in received:
        if not getattr(metric, "is_updated", False):
            truncated[metric.id] = truncated.get(metric.id, False) or bool(
                metric.needs_raw_data_truncation
            )
        elif metric.may_have_ended:  # type: ignore[attr-defined]
            may_have_ended.add(metric.id)
    for ids in utils.grouper(truncated, capability.CHUNK_SIZE):
        may_have_ended |= _record_measures(indexer, ids, truncated)

    newest: dict[uuid.UUID, numpy.datetime64] = {}
    for metric, measures in received if may_have_ended else ():
        resource_id = metric.resource_id
        if resource_id is not None and metric.id in may_have_ended:
            # fmax passes over NaT.
            latest: Any = numpy.fmax.reduce(measures["timestamps"])
            newest[resource_id] = max(newest.get(resource_id, latest), latest)
    restore.restore_resources(indexer, newest, capability.CHUNK_SIZE)


def _record_measures(
    indexer: Any,
    ids: Sequence[uuid.UUID],
    truncated: Mapping[uuid.UUID, bool],
) -> set[uuid.UUID]:
    """Update the rows of at most `capability.CHUNK_SIZE` metrics.

    :returns: the metrics that exist and whose resource may have ended
    """
    update_rows = sqlalchemy_indexer.retry_on_deadlock(_update_rows)
    may_have_ended: set[uuid.UUID] = set()
    pending = list(ids)
    while pending:
        updated = update_rows(indexer, pending, truncated)
        may_have_ended |= updated.may_have_ended
        if len(updated.metrics) == len(pending):
            break
        pending = _existing(
            indexer, [id_ for id_ in pending if id_ not in updated.metrics]
        )
        if pending:
            # Wait for one. Whoever holds it often holds the others, too:
            # once it is free, it is worth trying all of them again.
            updated = update_rows(indexer, pending[:1], truncated)
            may_have_ended |= updated.may_have_ended
            pending = pending[1:]
    return may_have_ended


def _update_rows(
    indexer: Any,
    ids: Sequence[uuid.UUID],
    truncated: Mapping[uuid.UUID, bool],
) -> postgresql.Updated:
    """Update metrics in one transaction.

    Of several metrics, those whose rows are locked are left out where the
    server is able to; a single one is waited for.
    """
    table = sqlalchemy_indexer.Metric.__table__
    can = capability.of(indexer)
    # As in Gnocchi: naive, and UTC.
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    with indexer.facade.writer() as session:
        if can.one_statement:
            clear = [id_ for id_ in ids if truncated[id_]]
            return postgresql.update(session, ids, clear, now)
        locked = _lock_rows(session, ids, can.skip_locked and len(ids) > 1)
        values: dict[str, Any] = {"last_measure_timestamp": now}
        for clear_ in False, True:
            if clear_:
                values["needs_raw_data_truncation"] = False
            group = [id_ for id_ in locked if truncated[id_] is clear_]
            if group:
                update = sqlalchemy.update(table)
                for name in _WITH_INNODB:
                    update = update.with_hint(_BY_ID, dialect_name=name)
                session.execute(
                    update.where(table.c.id.in_(group)).values(values)
                )
    return postgresql.Updated(set(locked), set(locked))


def _lock_rows(
    session: Any, ids: Sequence[uuid.UUID], skip_locked: bool
) -> list[uuid.UUID]:
    table = sqlalchemy_indexer.Metric.__table__
    rows = (
        sqlalchemy.select(table.c.id, table.c.status)
        .where(table.c.id.in_(ids))
        .order_by(table.c.id)
        # With key_share this is the very lock an UPDATE takes.
        .with_for_update(key_share=True, skip_locked=skip_locked)
    )
    for name in _WITH_INNODB:
        rows = rows.with_hint(table, _BY_ID, name)
    return [row.id for row in session.execute(rows) if row.status == "active"]


def _existing(indexer: Any, ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    table = sqlalchemy_indexer.Metric.__table__
    with indexer.facade.independent_reader() as session:
        rows = (
            sqlalchemy.select(table.c.id)
            .where(table.c.id.in_(ids), table.c.status == "active")
            .order_by(table.c.id)
        )
        return list(session.scalars(rows))
