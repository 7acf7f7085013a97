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
"""How PostgreSQL goes about our statements."""

import datetime

import pytest
import sqlalchemy

from gnocchi_influxdb.indexer import postgresql

pytestmark = pytest.mark.only_postgresql

METRICS = """
INSERT INTO metric (id, archive_policy_name, creator, status,
                    last_measure_timestamp, needs_raw_data_truncation)
SELECT CAST(md5(CAST(number AS text)) AS uuid), 'low', 'admin', 'active',
       now(), TRUE
FROM generate_series(1, 50000) AS number
RETURNING CAST(id AS text)
"""


@pytest.mark.parametrize(
    "statement", ["_SKIP", "_WAIT", "_SELECT_ROWS", "_RECEIVE_ROWS"]
)
@pytest.mark.parametrize("is_counted", [False, True])
def test_metrics_are_looked_for_by_their_ids(cloud, statement, is_counted):
    with cloud.index.facade.writer() as session:
        # Nobody counts meanwhile.
        session.execute(
            sqlalchemy.text(
                "ALTER TABLE metric SET (autovacuum_enabled = off)"
            )
        )
        ids = session.execute(sqlalchemy.text(METRICS)).scalars().all()
        if is_counted:
            session.execute(sqlalchemy.text("ANALYZE metric"))
    explained = f"EXPLAIN {getattr(postgresql, statement).text}"
    with cloud.index.facade.writer() as session:
        plan = session.execute(
            sqlalchemy.text(explained),
            {
                "ids": ids[:100],
                "truncated": [],
                "now": datetime.datetime(2026, 1, 1),
            },
        )
        text = "\n".join(plan.scalars())
    assert " on metric" in text
    assert "ix_metric_status" not in text
    if is_counted:
        assert "metric_pkey" in text
        assert "Seq Scan on metric" not in text
