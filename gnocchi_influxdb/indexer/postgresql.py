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
"""What PostgreSQL can be asked and told of many metrics in one statement.

The bookkeeping of a batch takes a third of the time of locking, updating and
looking for resources one after the other: most of that is the client's work
for each statement and each id that one names.
"""

import datetime
import uuid
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, TypeAlias

import sqlalchemy

# All that is active is in an index, too. As long as nobody has counted how
# many that are, after a restore for instance, PostgreSQL would rather go
# through all of them than look for a hundred ids: 20 ms of 100,000 metrics
# instead of 3. So it is not to see what is compared here.
_ACTIVE = "CAST(metric.status AS text) = 'active'"

# A row is locked with the very lock that an UPDATE takes. The resource is
# only looked at.
#
# The transaction has nothing else in it, so its COMMIT need not wait for the
# disk, which may take longer than all the rest: if PostgreSQL crashes in the
# next half second, last_measure_timestamp is an older one until the next
# measure, and what is left is consistent.
# https://www.postgresql.org/docs/current/wal-async-commit.html
_UPDATE = """
WITH due AS (
    SELECT metric.id, resource.ended_at IS NOT NULL AS has_ended{columns}
    FROM metric{join}
        LEFT JOIN resource ON resource.id = metric.resource_id
    WHERE metric.id = ANY(CAST(:ids AS uuid[])) AND {active}
    ORDER BY metric.id
    FOR NO KEY UPDATE OF metric {locked}
), at_once AS (
    SELECT set_config('synchronous_commit', 'off', TRUE)
)
UPDATE metric
SET last_measure_timestamp = :now, needs_raw_data_truncation = {truncation}
FROM due, at_once
WHERE metric.id = due.id
RETURNING {row}, due.has_ended
"""
_SKIP, _WAIT = (
    sqlalchemy.text(
        _UPDATE.format(
            columns="",
            join="",
            active=_ACTIVE,
            locked=locked,
            truncation="needs_raw_data_truncation"
            " AND NOT metric.id = ANY(CAST(:truncated AS uuid[]))",
            row="metric.id",
        )
    )
    for locked in ("SKIP LOCKED", "")
)

#: id, name, unit, resource's id, creator, needs_raw_data_truncation; of the
#: archive policy name, back_window, definition, aggregation_methods, the last
#: two as JSON; whether the resource may have ended, or None where the metric
#: was not updated.
Row: TypeAlias = tuple[
    str,
    str | None,
    str | None,
    str | None,
    str | None,
    bool,
    str,
    int,
    str,
    str,
    bool | None,
]

#: What a `Row` needs of Gnocchi's tables.
METRIC_COLUMNS = (
    "id",
    "name",
    "unit",
    "resource_id",
    "creator",
    "archive_policy_name",
    "needs_raw_data_truncation",
    "last_measure_timestamp",
    "status",
)
POLICY_COLUMNS = ("name", "back_window", "definition", "aggregation_methods")

# As text: of what most rows have in common the client need not make the same
# object for each of them.
_ROW = """
    CAST(metric.id AS text), metric.name, metric.unit,
    CAST(metric.resource_id AS text), metric.creator,
    metric.needs_raw_data_truncation, metric.archive_policy_name,
    {policy}.back_window, CAST({policy}.definition AS text),
    CAST({policy}.aggregation_methods AS text)"""
_JOIN = (
    " JOIN archive_policy ON archive_policy.name = metric.archive_policy_name"
)
_SELECT = """
SELECT {row}, NULL
FROM metric {join}
WHERE metric.id = ANY(CAST(:ids AS uuid[])) AND {active}
"""
_SELECT_ROWS = sqlalchemy.text(
    _SELECT.format(
        row=_ROW.format(policy="archive_policy"), join=_JOIN, active=_ACTIVE
    )
)
_RECEIVE_ROWS = sqlalchemy.text(
    _UPDATE.format(
        columns=", archive_policy.back_window, archive_policy.definition,"
        " archive_policy.aggregation_methods",
        join=_JOIN,
        active=_ACTIVE,
        locked="SKIP LOCKED",
        truncation="FALSE",
        row=_ROW.format(policy="due"),
    )
)


class Updated(NamedTuple):
    """What a statement has updated.

    :ivar metrics: those that are there, and that nobody else had locked.
    :ivar may_have_ended: those of them whose resource may have ended.
    """

    metrics: set[uuid.UUID]
    may_have_ended: set[uuid.UUID]


def update(
    session: Any,
    ids: Sequence[uuid.UUID],
    truncated: Collection[uuid.UUID],
    now: datetime.datetime,
) -> Updated:
    """Tell PostgreSQL, from 9.5 on, which metrics have received measures.

    Of several metrics, those whose rows are locked are left out; a single
    one is waited for.

    :param session: SQLAlchemy's, of Gnocchi's indexer.
    :param truncated: those whose raw points need no more truncation.
    :param now: naive, UTC.
    """
    rows = session.execute(
        _SKIP if len(ids) > 1 else _WAIT,
        {
            "ids": list(map(str, ids)),
            "truncated": list(map(str, truncated)),
            "now": now,
        },
    ).all()
    return Updated(
        {row[0] for row in rows}, {row[0] for row in rows if row[1]}
    )


def receive(
    session: Any, ids: Sequence[str], now: datetime.datetime
) -> list[Row]:
    """Update metrics that receive measures, as `update` does, and read them.

    None is waited for: those whose rows are locked are left out.
    """
    return _rows(session, _RECEIVE_ROWS, {"ids": ids, "now": now})


def select(session: Any, ids: Sequence[str]) -> list[Row]:
    """Read metrics, and nothing else. Deleted ones are left out."""
    return _rows(session, _SELECT_ROWS, {"ids": ids})


def _rows(session: Any, statement: Any, values: dict[str, Any]) -> list[Row]:
    rows: list[Row] = session.execute(statement, values).all()
    return rows
