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
"""What Gnocchi's indexer can be asked and told in a few statements."""

import functools
from typing import Any, NamedTuple

from gnocchi.indexer import sqlalchemy as sqlalchemy_indexer

from gnocchi_influxdb.indexer import postgresql

#: Most metrics or resources that one statement names.
CHUNK_SIZE = 1000

# The first versions that know SKIP LOCKED.
_SKIP_LOCKED_SINCE = {
    "postgresql": (9, 5),
    "mysql": (8, 0, 1),
    "mariadb": (10, 6),
}


class IndexerCapabilities(NamedTuple):
    """What an indexer driver and its database can do.

    :ivar batches: it is Gnocchi's SQLAlchemy driver, with the tables that
        the statements here are written for.
    :ivar skip_locked: the database can leave out rows that are locked.
    :ivar one_statement: it is PostgreSQL, see `postgresql`.
    """

    batches: bool
    skip_locked: bool
    one_statement: bool


def of(indexer: Any) -> IndexerCapabilities:
    """What an indexer driver can do. Costs no query."""
    if not (
        isinstance(indexer, sqlalchemy_indexer.SQLAlchemyIndexer)
        and hasattr(getattr(indexer, "facade", None), "get_engine")
        and has_tables()
    ):
        return IndexerCapabilities(False, False, False)
    dialect = indexer.facade.get_engine().dialect
    skip_locked = can_skip_locked(dialect)
    return IndexerCapabilities(
        True, skip_locked, skip_locked and dialect.name == "postgresql"
    )


@functools.cache
def has_tables() -> bool:
    """Whether Gnocchi's tables have the columns that `postgresql` names."""
    return all(
        column in table.__table__.c
        for table, columns in (
            (sqlalchemy_indexer.Metric, postgresql.METRIC_COLUMNS),
            (sqlalchemy_indexer.ArchivePolicy, postgresql.POLICY_COLUMNS),
        )
        for column in columns
    )


def can_skip_locked(dialect: Any) -> bool:
    """Whether a database server knows SKIP LOCKED.

    :param dialect: SQLAlchemy's, of a connection that was made.
    """
    server = "mariadb" if getattr(dialect, "is_mariadb", 0) else dialect.name
    since = _SKIP_LOCKED_SINCE.get(server)
    return since is not None and dialect.server_version_info >= since
