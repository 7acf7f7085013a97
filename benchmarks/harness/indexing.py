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

"""Metrics, straight in the indexer, and databases that are dropped."""

import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy
from gnocchi.indexer import sqlalchemy_base

CREATOR = "admin"
METRICS_PER_RESOURCE = 10


def create_metrics(
    indexer: Any, ids: Sequence[uuid.UUID], policy: str
) -> list[Any]:
    """Metrics with resources, in the order of their ids.

    They are made in one transaction: Gnocchi's own calls take one a metric.
    Metrics that are there already are left as they are.
    """
    found = find_metrics(indexer, ids)
    if found:  # Made for another target with the same indexer.
        return found
    resource: uuid.UUID | None = None
    rows: list[Any] = []
    for index, id_ in enumerate(ids):
        if index % METRICS_PER_RESOURCE == 0:
            resource = uuid.uuid4()
            rows.append(
                sqlalchemy_base.Resource(
                    id=resource,
                    type="generic",
                    creator=CREATOR,
                    original_resource_id=str(resource),
                )
            )
        rows.append(
            sqlalchemy_base.Metric(
                id=id_,
                name=f"metric-{index}",
                creator=CREATOR,
                archive_policy_name=policy,
                resource_id=resource,
                # As it is once a metric has had measures.
                needs_raw_data_truncation=False,
            )
        )
    with indexer.facade.writer() as session:
        session.add_all(rows)
    return find_metrics(indexer, ids)


def find_metrics(indexer: Any, ids: Sequence[uuid.UUID]) -> list[Any]:
    """Those of the metrics that there are, in the order of their ids."""
    found = {
        metric.id: metric
        for metric in indexer.list_metrics(
            attribute_filter={"in": {"id": list(ids)}}
        )
    }
    return [found[id_] for id_ in ids if id_ in found]


def drop_database(url: str) -> None:
    """Drop a database, also one that a driver is connected to."""
    parsed = sqlalchemy.make_url(url)
    engine = sqlalchemy.create_engine(
        parsed.set(database="postgres"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        name = connection.dialect.identifier_preparer.quote(
            str(parsed.database)
        )
        connection.execute(
            sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)")
        )
    engine.dispose()
