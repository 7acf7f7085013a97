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
"""Metrics as the indexer knows them, a hundred thousand at a time.

`gnocchi.indexer.list_metrics` makes an object a metric and knows no count, so
the columns are asked for here.
"""

import uuid
from collections.abc import Collection, Iterator
from typing import Any

import sqlalchemy
from gnocchi.indexer import sqlalchemy_base

_PAGE = 10000

ACTIVE = "active"


def count(indexer: Any) -> dict[tuple[str, str], int]:
    """Number of metrics by (name of the archive policy, status)."""
    policy, status = _columns("archive_policy_name", "status")
    with indexer.facade.independent_reader() as session:
        rows = session.execute(
            sqlalchemy.select(
                policy, status, sqlalchemy.func.count()
            ).group_by(policy, status)
        )
        return {(str(p), str(s)): int(n) for p, s, n in rows}


def ids(
    indexer: Any, policy: str | None = None, status: str | None = None
) -> Iterator[uuid.UUID]:
    """Ids of metrics, in the order of the indexer.

    :param policy: name of an archive policy; None: of all.
    :param status: None: of any, also those that wait to be deleted.
    """
    id_, policy_column, status_column = _columns(
        "id", "archive_policy_name", "status"
    )
    page = sqlalchemy.select(id_).order_by(id_).limit(_PAGE)
    if policy is not None:
        page = page.where(policy_column == policy)
    if status is not None:
        page = page.where(status_column == status)
    last = None
    while True:
        here = page if last is None else page.where(id_ > last)
        with indexer.facade.independent_reader() as session:
            found = list(session.scalars(here))
        yield from found
        if len(found) < _PAGE:
            return
        last = found[-1]


def known(indexer: Any, some: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Those of at most some thousand ids that the indexer has a metric of,
    whatever its status."""
    (id_,) = _columns("id")
    with indexer.facade.independent_reader() as session:
        return set(
            session.scalars(sqlalchemy.select(id_).where(id_.in_(list(some))))
        )


def _columns(*names: str) -> list[Any]:
    table = sqlalchemy_base.Metric.__table__
    return [table.c[name] for name in names]
