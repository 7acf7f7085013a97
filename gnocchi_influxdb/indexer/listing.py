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
"""Lists of metrics, some thousand at a time.

`gnocchi.indexer.list_metrics` makes an object of each metric and knows no
count, so these functions ask for columns.
"""

import datetime
import uuid
from collections.abc import Collection, Iterator
from typing import Any

import sqlalchemy
from gnocchi.indexer import sqlalchemy_base

_PAGE = 10000

ACTIVE = "active"

_TABLE = sqlalchemy_base.Metric.__table__


def count(indexer: Any) -> dict[tuple[str, str], int]:
    """Number of metrics by (name of the archive policy, status)."""
    key = _TABLE.c.archive_policy_name, _TABLE.c.status
    with indexer.facade.independent_reader() as session:
        rows = session.execute(
            sqlalchemy.select(*key, sqlalchemy.func.count()).group_by(*key)
        )
        return {(str(p), str(s)): int(n) for p, s, n in rows}


def ids(
    indexer: Any, policy: str | None = None, status: str | None = None
) -> Iterator[uuid.UUID]:
    """Ids of metrics, sorted.

    :param policy: name of an archive policy; None: of all.
    :param status: None: of any, also those that wait to be deleted.
    """
    page = sqlalchemy.select(_TABLE.c.id).order_by(_TABLE.c.id).limit(_PAGE)
    if policy is not None:
        page = page.where(_TABLE.c.archive_policy_name == policy)
    if status is not None:
        page = page.where(_TABLE.c.status == status)
    last = None
    while True:
        here = page if last is None else page.where(_TABLE.c.id > last)
        with indexer.facade.independent_reader() as session:
            found = list(session.scalars(here))
        yield from found
        if len(found) < _PAGE:
            return
        last = found[-1]


def attributes(
    indexer: Any,
    first: uuid.UUID,
    last: uuid.UUID,
    measured_since: datetime.datetime,
    limit: int,
) -> list[Any]:
    """What active metrics of a range of ids are called, sorted by id.

    :param last: inclusive.
    :param measured_since: naive, UTC; leave out metrics that have received
        no measures since then.
    :param limit: so many metrics at most.
    :return: rows of id, name, unit, resource_id, archive_policy_name, creator
        and last_measure_timestamp.
    """
    columns = _TABLE.c
    page = (
        sqlalchemy.select(
            columns.id,
            columns.name,
            columns.unit,
            columns.resource_id,
            columns.archive_policy_name,
            columns.creator,
            columns.last_measure_timestamp,
        )
        .where(
            columns.id.between(first, last),
            columns.status == ACTIVE,
            columns.last_measure_timestamp >= measured_since,
        )
        .order_by(columns.id)
        .limit(limit)
    )
    with indexer.facade.independent_reader() as session:
        return list(session.execute(page))


def known(indexer: Any, some: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Which of at most some thousand ids belong to a metric of any status."""
    with indexer.facade.independent_reader() as session:
        return set(
            session.scalars(
                sqlalchemy.select(_TABLE.c.id).where(
                    _TABLE.c.id.in_(list(some))
                )
            )
        )
