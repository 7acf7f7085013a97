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
"""The batched indexer updates, on a real database and beside Gnocchi's own."""

import concurrent.futures
import contextlib
import datetime
import logging
import random
import time
import uuid
from unittest import mock

import numpy
import pytest
import sqlalchemy
import sqlalchemy_utils
from gnocchi import archive_policy, service, storage
from gnocchi import indexer as gnocchi_indexer
from gnocchi.indexer import sqlalchemy as sqlalchemy_indexer
from oslo_db import exception as db_exception
from sqlalchemy.dialects import mysql, postgresql

from gnocchi_influxdb import schema
from gnocchi_influxdb.indexer import bookkeeping, capability

UTC = datetime.timezone.utc
METRIC = sqlalchemy_indexer.Metric.__table__
RESOURCE = sqlalchemy_indexer.Resource.__table__
LONG_AGO = datetime.datetime(2020, 1, 1)
STARTED = datetime.datetime(2021, 1, 1, tzinfo=UTC)
ENDED = datetime.datetime(2023, 11, 4, 12, 30, 15, 123456, tzinfo=UTC)
BEFORE = numpy.datetime64("2023-11-03T00:00:00", "ns")
AT = numpy.datetime64("2023-11-04T12:30:15.123456", "ns")
AFTER = numpy.datetime64("2023-11-05T00:00:00", "ns")


class UpstreamStorage(storage.StorageDriver):
    """Gnocchi's own bookkeeping, which needs nothing else of a driver."""

    def __init__(self):
        pass


def upstream(indexer, metrics_and_latest):
    driver = UpstreamStorage()
    for metric, latest in metrics_and_latest.items():
        measures = numpy.array(
            [(latest - numpy.timedelta64(1, "h"), 1.0), (latest, 2.0)],
            dtype=[("timestamps", "datetime64[ns]"), ("values", "float64")],
        )
        driver.execute_metadata_updates_if_needed(indexer, measures, metric)


def received(metrics_and_latest):
    """Measures in no order, and one without a time."""
    return [
        (
            metric,
            numpy.array(
                [
                    (latest - numpy.timedelta64(1, "h"), 1.0),
                    (latest, 2.0),
                    (numpy.datetime64("NaT"), 3.0),
                    (latest - numpy.timedelta64(2, "h"), 1.0),
                ],
                schema.DTYPE,
            ),
        )
        for metric, latest in metrics_and_latest.items()
    ]


def batched(indexer, metrics_and_latest):
    def fallback(metric, measures):
        raise AssertionError("the fallback is for other indexers")

    bookkeeping.update_metadata(
        indexer, received(metrics_and_latest), fallback
    )


def portable(monkeypatch):
    """Go the way of databases that are not PostgreSQL."""
    of = capability.of
    monkeypatch.setattr(
        capability,
        "of",
        lambda indexer: of(indexer)._replace(one_statement=False),
    )


@pytest.fixture(params=["one statement", "portable"], autouse=True)
def way(request, monkeypatch):
    """The way of PostgreSQL, and that of the others."""
    if request.param == "portable":
        portable(monkeypatch)


@pytest.fixture(scope="module")
def indexer(indexer_url, tmp_path_factory):
    url = sqlalchemy_indexer.SQLAlchemyIndexer._create_new_database(
        indexer_url
    )
    config = tmp_path_factory.mktemp("indexer") / "gnocchi.conf"
    config.write_text(f"[indexer]\nurl = {url}\n")
    conf = service.prepare_service(
        [],
        default_config_files=[str(config)],
        logging_level=logging.WARNING,
        skip_log_opts=True,
    )
    driver = gnocchi_indexer.get_driver(conf)
    driver.upgrade()
    driver.create_archive_policy(
        archive_policy.ArchivePolicy.from_dict(
            {
                "name": "low",
                "back_window": 0,
                "definition": [{"granularity": 300, "points": 8640}],
                "aggregation_methods": ["mean"],
            }
        )
    )
    driver.create_resource_type(
        driver.get_resource_type_schema().resource_type_from_dict(
            "instance",
            {"booted": {"type": "bool", "required": False}},
            "creating",
        )
    )
    yield driver
    driver.disconnect()
    sqlalchemy_utils.drop_database(url)


def new_resource(indexer, ended_at=None, type_="generic"):
    resource_id = uuid.uuid4()
    indexer.create_resource(
        type_,
        resource_id,
        "creator",
        started_at=STARTED,
        ended_at=ended_at,
    )
    return resource_id


def new_metrics(indexer, number=1, resource_id=None, truncation=False):
    """Metrics with an old timestamp, as the API and metricd get them."""
    rows = [
        {
            "id": uuid.uuid4(),
            "creator": "creator",
            "archive_policy_name": "low",
            "name": f"metric-{uuid.uuid4()}",
            "resource_id": resource_id,
            "needs_raw_data_truncation": truncation,
            "last_measure_timestamp": LONG_AGO,
        }
        for _ in range(number)
    ]
    with indexer.facade.writer() as session:
        session.execute(sqlalchemy.insert(METRIC), rows)
    return indexer.list_metrics(
        attribute_filter={"in": {"id": [row["id"] for row in rows]}}
    )


def new_metric(indexer, *args, **kwargs):
    return new_metrics(indexer, 1, *args, **kwargs)[0]


def rows_of(indexer, metrics):
    with indexer.facade.independent_reader() as session:
        rows = session.execute(
            sqlalchemy.select(METRIC).where(
                METRIC.c.id.in_([metric.id for metric in metrics])
            )
        )
        return {row.id: row for row in rows}


def are_recorded(indexer, metrics):
    """Whether each of the metrics that exist has a new timestamp."""
    rows = rows_of(indexer, metrics).values()
    return all(row.last_measure_timestamp > LONG_AGO for row in rows)


def ended_at(indexer, resource_id):
    return indexer.get_resource("generic", resource_id).ended_at


def utcnow():
    return datetime.datetime.now(UTC).replace(tzinfo=None)


class TestSameAsUpstream:
    """A batch leaves what Gnocchi leaves, metric by metric."""

    #: type, end of the resource, newest measure of each metric, truncation
    CASES = (
        ("generic", None, [AFTER], False),
        ("generic", None, [AFTER, BEFORE], True),
        ("generic", ENDED, [BEFORE], True),
        ("generic", ENDED, [AT], False),
        ("generic", ENDED, [AFTER], True),
        ("generic", ENDED, [BEFORE, AFTER, BEFORE], False),
        ("generic", ENDED, [AFTER, AFTER], False),
        ("generic", ENDED, [BEFORE, BEFORE], True),
        ("instance", None, [AFTER], True),
        ("instance", ENDED, [BEFORE], False),
        ("instance", ENDED, [AT, BEFORE], True),
        ("instance", ENDED, [AFTER], False),
        (None, None, [AFTER], True),
        (None, None, [AFTER], False),
    )

    def populate(self, indexer):
        groups, metrics_and_latest = [], {}
        for type_, ended, newest, truncation in self.CASES:
            resource_id = None
            if type_ is not None:
                resource_id = new_resource(indexer, ended, type_)
            metrics = [
                new_metric(indexer, resource_id, truncation) for _ in newest
            ]
            metrics_and_latest.update(zip(metrics, newest, strict=True))
            groups.append((resource_id, metrics))
        return groups, metrics_and_latest

    @staticmethod
    def metrics(indexer, resource_id, metrics, earliest):
        # MySQL keeps whole seconds.
        second = datetime.timedelta(seconds=1)
        earliest, latest = earliest - second, utcnow() + second
        rows = rows_of(indexer, metrics)
        return [
            {
                **rows[metric.id]._mapping,
                "id": None,
                "name": None,
                "resource_id": rows[metric.id].resource_id == resource_id,
                "last_measure_timestamp": (
                    earliest
                    <= rows[metric.id].last_measure_timestamp
                    <= latest
                ),
            }
            for metric in metrics
        ]

    @staticmethod
    def revisions(indexer, resource_ids):
        revisions = {resource_id: [] for resource_id in resource_ids}
        for resource in indexer.list_resources(
            attribute_filter={"in": {"id": list(revisions)}},
            history=True,
            sorts=["revision_start:asc"],
        ):
            revisions[resource.id].append(
                (
                    resource.type,
                    resource.creator,
                    resource.started_at,
                    resource.ended_at,
                    resource.revision_start > STARTED,
                    resource.revision_end is None,
                    len(resource.metrics),
                )
            )
        return list(revisions.values())

    def test_twins(self, indexer):
        outcomes = []
        for update in upstream, batched:
            groups, metrics_and_latest = self.populate(indexer)
            earliest = utcnow()
            update(indexer, metrics_and_latest)
            metrics = [
                row
                for resource_id, group in groups
                for row in self.metrics(indexer, resource_id, group, earliest)
            ]
            assert all(row["last_measure_timestamp"] for row in metrics)
            assert not any(row["needs_raw_data_truncation"] for row in metrics)
            revisions = self.revisions(
                indexer, [id_ for id_, _ in groups if id_ is not None]
            )
            outcomes.append((metrics, revisions))
        assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("ended", "latest", "restored"),
    [
        (ENDED, "2023-11-04T12:30:15.123455999", False),
        (ENDED, "2023-11-04T12:30:15.123456000", True),
        (ENDED, "2023-11-04T12:30:15.123456001", True),
        (ENDED, "2023-11-04T12:30:15.123455000", False),
        # Beyond what 64 bits of nanoseconds hold.
        (datetime.datetime(9999, 12, 31, tzinfo=UTC), "2262-01-01", False),
    ],
)
def test_ends_are_compared_exactly(indexer, ended, latest, restored):
    resource_id = new_resource(indexer, ended)
    metric = new_metric(indexer, resource_id)
    batched(indexer, {metric: numpy.datetime64(latest, "ns")})
    assert ended_at(indexer, resource_id) == (None if restored else ended)


def test_any_order_of_a_resources_metrics_restores_it_once(indexer):
    resource_id = new_resource(indexer, ENDED)
    metrics = new_metrics(indexer, 5, resource_id)
    newest = [BEFORE, AFTER, BEFORE, AT, BEFORE]
    with mock.patch.object(
        indexer, "update_resource", wraps=indexer.update_resource
    ) as update_resource:
        batched(indexer, dict(zip(metrics, newest, strict=True)))
    update_resource.assert_called_once_with(
        "generic", resource_id, ended_at=None
    )
    assert ended_at(indexer, resource_id) is None


def test_truncation_is_cleared_only_where_it_was_seen(indexer):
    stale = new_metric(indexer)
    # Set after the metric was read: its measures went by the old window.
    indexer.update_needs_raw_data_truncation(stale.id, True)
    seen = new_metric(indexer, truncation=True)
    batched(indexer, {stale: AFTER, seen: AFTER})
    rows = rows_of(indexer, [stale, seen])
    assert rows[stale.id].needs_raw_data_truncation
    assert not rows[seen.id].needs_raw_data_truncation
    assert are_recorded(indexer, [stale, seen])


def test_one_metric_in_two_objects(indexer):
    resource_id = new_resource(indexer, ENDED)
    metric = new_metric(indexer, resource_id, truncation=True)
    plain = gnocchi_indexer.Metric(
        metric.id, metric.archive_policy, resource_id=resource_id
    )
    batched(indexer, {metric: AFTER, plain: BEFORE})
    assert not rows_of(indexer, [metric])[metric.id].needs_raw_data_truncation
    assert ended_at(indexer, resource_id) is None


def test_nothing_to_do(indexer):
    batched(indexer, {})


def test_a_restored_resource_is_logged(indexer, caplog, logged):
    restored, ended = (new_resource(indexer, ENDED) for _ in range(2))
    newest = {
        new_metric(indexer, restored): AFTER,
        new_metric(indexer, ended): BEFORE,
        new_metric(indexer, new_resource(indexer)): AFTER,
    }
    with caplog.at_level(logging.INFO, "gnocchi_influxdb.indexer.restore"):
        batched(indexer, newest)
        batched(indexer, newest)
    (record,) = logged.records
    assert record.levelno == logging.INFO
    assert str(restored) in record.getMessage()
    assert "restored" in record.getMessage()


class TestDeletedMeanwhile:
    @pytest.mark.parametrize("expunge", [False, True])
    def test_metric(self, indexer, expunge):
        resource_id = new_resource(indexer, ENDED)
        gone = new_metric(indexer, resource_id, truncation=True)
        left = new_metric(indexer)
        indexer.delete_metric(gone.id)
        if expunge:
            indexer.expunge_metric(gone.id)
        batched(indexer, {gone: AFTER, left: AFTER})
        assert are_recorded(indexer, [left])
        assert ended_at(indexer, resource_id) == ENDED
        assert (gone.id not in rows_of(indexer, [gone])) == expunge
        assert expunge or not are_recorded(indexer, [gone])

    def test_resource(self, indexer):
        gone, left = new_resource(indexer, ENDED), new_resource(indexer, ENDED)
        newest = {
            new_metric(indexer, gone): AFTER,
            new_metric(indexer, left): AFTER,
        }
        indexer.delete_resource(gone)
        batched(indexer, newest)
        assert ended_at(indexer, left) is None
        assert indexer.get_resource("generic", gone) is None

    def test_resource_of_a_metric_that_stays(self, indexer):
        gone = new_resource(indexer, ENDED)
        metric = new_metric(indexer, gone)
        indexer.update_resource("generic", gone, metrics={})
        indexer.delete_resource(gone)
        batched(indexer, {metric: AFTER})
        assert are_recorded(indexer, [metric])

    @pytest.mark.parametrize("before", ["get_resource", "update_resource"])
    def test_resource_at_the_last_moment(self, indexer, before):
        gone, left = sorted(new_resource(indexer, ENDED) for _ in range(2))
        newest = {
            new_metric(indexer, gone): AFTER,
            new_metric(indexer, left): AFTER,
        }
        original = getattr(indexer, before)

        def delete_first(type_, resource_id, **kwargs):
            if resource_id == gone:
                with contextlib.suppress(gnocchi_indexer.NoSuchResource):
                    indexer.delete_resource(gone)
            return original(type_, resource_id, **kwargs)

        with mock.patch.object(indexer, before, delete_first):
            batched(indexer, newest)
        assert indexer.get_resource("generic", gone) is None
        assert ended_at(indexer, left) is None


def test_an_end_set_meanwhile_stays(indexer):
    resource_id = new_resource(indexer, ENDED)
    metric = new_metric(indexer, resource_id)
    later = datetime.datetime(2024, 1, 1, tzinfo=UTC)
    original = indexer.list_resources

    def then_set_another_end(*args, **kwargs):
        resources = original(*args, **kwargs)
        indexer.update_resource("generic", resource_id, ended_at=later)
        return resources

    with mock.patch.object(indexer, "list_resources", then_set_another_end):
        batched(indexer, {metric: AFTER})
    assert ended_at(indexer, resource_id) == later


def test_a_resource_type_in_change_holds_up_nobody(indexer, logged):
    busy = [new_resource(indexer, ENDED, "instance") for _ in range(3)]
    others = [new_resource(indexer, ENDED) for _ in range(3)]
    newest = {new_metric(indexer, id_): AFTER for id_ in [*busy, *others]}
    indexer._set_resource_type_state("instance", "updating")
    try:
        batched(indexer, newest)
    finally:
        indexer._set_resource_type_state("instance", "active")
    assert [ended_at(indexer, id_) for id_ in others] == [None] * 3
    assert [ended_at(indexer, id_) for id_ in busy] == [ENDED] * 3
    # One line, however many there are.
    (record,) = (r for r in logged.records if r.levelno == logging.WARNING)
    said = record.getMessage()
    assert said.startswith("3 resources cannot be restored yet")
    assert sum(str(id_) in said for id_ in busy) == 1
    batched(indexer, newest)
    assert [ended_at(indexer, id_) for id_ in busy] == [None] * 3


class TestFallback:
    @pytest.mark.parametrize(
        "driver",
        [
            mock.Mock(),
            # One of SQLAlchemy's, but not made as we know it.
            object.__new__(sqlalchemy_indexer.SQLAlchemyIndexer),
        ],
    )
    def test_other_indexers(self, driver):
        metrics = [
            gnocchi_indexer.Metric(uuid.uuid4(), None) for _ in range(3)
        ]
        fallback = mock.Mock()
        pairs = received(dict.fromkeys(metrics, AFTER))
        bookkeeping.update_metadata(driver, pairs, fallback)
        assert fallback.mock_calls == [mock.call(*pair) for pair in pairs]
        assert getattr(driver, "mock_calls", []) == []


class TestBatches:
    @pytest.fixture
    def statements(self, indexer):
        """The number of values bound to each statement."""
        seen = []

        def count(conn, cursor, statement, parameters, context, many):
            seen.append(len(parameters))

        engine = indexer.get_engine()
        sqlalchemy.event.listen(engine, "before_cursor_execute", count)
        yield seen
        sqlalchemy.event.remove(engine, "before_cursor_execute", count)

    @pytest.mark.parametrize("truncation", [False, True])
    def test_statements_do_not_grow_with_metrics(
        self, indexer, statements, truncation
    ):
        resource_id = new_resource(indexer)
        counts = []
        for number in 2, 50, 500:
            metrics = new_metrics(indexer, number, resource_id, truncation)
            statements.clear()
            batched(indexer, dict.fromkeys(metrics, AFTER))
            counts.append(len(statements))
        assert counts[0] == counts[1] == counts[2] < 8

    def test_statements_do_not_grow_with_deleted_metrics(
        self, indexer, statements
    ):
        counts = []
        for number in 2, 50:
            metrics = new_metrics(indexer, number)
            for metric in metrics:
                indexer.delete_metric(metric.id)
            statements.clear()
            batched(indexer, dict.fromkeys(metrics, AFTER))
            counts.append(len(statements))
        assert counts[0] == counts[1]

    def test_statements_do_not_grow_with_ended_resources(
        self, indexer, statements
    ):
        counts = []
        for number in 2, 20:
            resource_ids = [
                new_resource(indexer, ENDED) for _ in range(number)
            ]
            metrics = [new_metric(indexer, id_) for id_ in resource_ids]
            statements.clear()
            batched(indexer, dict.fromkeys(metrics, BEFORE))
            counts.append(len(statements))
        assert counts[0] == counts[1]

    def test_more_than_20000_metrics(self, indexer, statements):
        resource_ids = [uuid.uuid4() for _ in range(2100)]
        with indexer.facade.writer() as session:
            session.execute(
                sqlalchemy.insert(RESOURCE),
                [
                    {
                        "id": id_,
                        "type": "generic",
                        "started_at": STARTED,
                        "revision_start": STARTED,
                        "original_resource_id": str(id_),
                        "ended_at": ENDED if index % 100 == 0 else None,
                    }
                    for index, id_ in enumerate(resource_ids)
                ],
            )
        metrics = []
        for index, resource_id in enumerate(resource_ids):
            metrics.extend(
                gnocchi_indexer.Metric(
                    uuid.uuid4(),
                    None,
                    resource_id=resource_id,
                    needs_raw_data_truncation=index % 2 == 0,
                )
                for _ in range(10)
            )
        with indexer.facade.writer() as session:
            session.execute(
                sqlalchemy.insert(METRIC),
                [
                    {
                        "id": metric.id,
                        "archive_policy_name": "low",
                        "name": str(metric.id),
                        "resource_id": metric.resource_id,
                        "last_measure_timestamp": LONG_AGO,
                        "needs_raw_data_truncation": (
                            metric.needs_raw_data_truncation
                        ),
                    }
                    for metric in metrics
                ],
            )
        random.shuffle(metrics)
        assert len(metrics) > 20000
        statements.clear()
        batched(indexer, dict.fromkeys(metrics, AFTER))
        assert max(statements) < 2000
        assert are_recorded(indexer, metrics)
        rows = rows_of(indexer, metrics).values()
        assert len(rows) == len(metrics)
        assert not any(row.needs_raw_data_truncation for row in rows)
        with indexer.facade.independent_reader() as session:
            still_ended = session.scalar(
                sqlalchemy.select(sqlalchemy.func.count()).where(
                    RESOURCE.c.id.in_(resource_ids),
                    RESOURCE.c.ended_at.is_not(None),
                )
            )
        assert still_ended == 0


#: How many connections wait for a lock, by the kind of database server.
WAITING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname ="
    " current_database() AND wait_event_type = 'Lock'",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx"
    " WHERE trx_state = 'LOCK WAIT'",
}


class Rival:
    """Another transaction, on a connection of its own."""

    def __init__(self, connection):
        self.connection = connection

    def look_for_deadlocks(self, after):
        """Who finds a deadlock first is its victim. InnoDB finds it at once,
        and its victim is who has changed least."""
        if self.connection.dialect.name == "postgresql":
            self.connection.exec_driver_sql(
                f"SET deadlock_timeout = '{after}'"
            )

    def update(self, metric):
        self.connection.execute(
            sqlalchemy.update(METRIC)
            .where(METRIC.c.id == metric.id)
            .values(unit="s")
        )

    def delete(self, metric):
        self.connection.execute(
            sqlalchemy.delete(METRIC).where(METRIC.c.id == metric.id)
        )

    def commit(self):
        self.connection.commit()


class TestConcurrently:
    @pytest.fixture
    def pool(self):
        with concurrent.futures.ThreadPoolExecutor(8) as executor:
            yield executor

    @pytest.fixture
    def rival(self, indexer):
        """Makes rivals; what they hold is released in the end."""
        engine = sqlalchemy.create_engine(
            indexer.conf.database.connection,
            poolclass=sqlalchemy.pool.NullPool,
        )
        with contextlib.ExitStack() as stack:
            yield lambda: Rival(stack.enter_context(engine.connect()))

    @staticmethod
    def wait_for_waiting(indexer, number):
        """Return once so many connections wait for a lock."""
        query = sqlalchemy.text(WAITING[indexer.get_engine().dialect.name])
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with indexer.facade.independent_reader() as session:
                if session.scalar(query) >= number:
                    return
            # InnoDB looks again when nobody has asked for a tenth of a second.
            time.sleep(0.2 if "innodb" in query.text else 0.005)
        raise AssertionError("nobody waits for a lock")

    @pytest.fixture
    def failures(self, monkeypatch):
        """The exceptions that ended a transaction of ours."""
        seen = []
        original = bookkeeping._update_rows

        def spy(*args, **kwargs):
            try:
                return original(*args, **kwargs)
            except Exception as e:
                seen.append(type(e))
                raise

        monkeypatch.setattr(bookkeeping, "_update_rows", spy)
        return seen

    @pytest.mark.parametrize("can_skip", [True, False])
    def test_batches_of_the_same_metrics(
        self, indexer, pool, failures, monkeypatch, can_skip
    ):
        if not can_skip:
            monkeypatch.setattr(capability, "_SKIP_LOCKED_SINCE", {})
        resource_ids = [new_resource(indexer, ENDED) for _ in range(20)]
        metrics = [
            metric
            for resource_id in resource_ids
            for metric in new_metrics(indexer, 20, resource_id)
        ]

        def run(seed):
            shuffled = random.Random(seed).sample(metrics, len(metrics))
            for _ in range(5):
                batched(indexer, dict.fromkeys(shuffled, AFTER))

        list(pool.map(run, range(8)))
        assert failures == []
        assert are_recorded(indexer, metrics)
        assert [ended_at(indexer, id_) for id_ in resource_ids] == [None] * 20

    def test_other_transactions_are_never_the_victims(
        self, indexer, pool, rival, failures
    ):
        low, high = new_metrics(indexer, 2)
        other = rival()
        # Would find a deadlock first, and so be the one that fails.
        other.look_for_deadlocks("1ms")
        other.update(high)
        batch = pool.submit(batched, indexer, {high: AFTER, low: AFTER})
        self.wait_for_waiting(indexer, 1)
        other.update(low)
        other.commit()
        batch.result()
        assert failures == []
        assert are_recorded(indexer, [low, high])
        rows = rows_of(indexer, [low, high]).values()
        assert [row.unit for row in rows] == ["s", "s"]

    def test_metrics_that_are_free_do_not_wait(self, indexer, pool, rival):
        locked, *free = new_metrics(indexer, 10)
        other = rival()
        other.update(locked)
        batch = pool.submit(
            batched, indexer, dict.fromkeys([locked, *free], AFTER)
        )
        self.wait_for_waiting(indexer, 1)
        assert are_recorded(indexer, free)
        assert not are_recorded(indexer, [locked])
        other.commit()
        batch.result()
        assert are_recorded(indexer, [locked])

    def test_metrics_deleted_while_waiting(self, indexer, pool, rival):
        resource_id = new_resource(indexer, ENDED)
        first, second = new_metrics(indexer, 2, resource_id)
        left = new_metric(indexer)
        other = rival()
        other.delete(first)
        other.delete(second)
        batch = pool.submit(
            batched, indexer, dict.fromkeys([first, second, left], AFTER)
        )
        self.wait_for_waiting(indexer, 1)
        other.commit()
        batch.result()
        assert set(rows_of(indexer, [first, second, left])) == {left.id}
        assert are_recorded(indexer, [left])
        assert ended_at(indexer, resource_id) == ENDED

    def test_a_deadlock_is_retried(
        self, indexer, pool, rival, failures, monkeypatch
    ):
        """On a server that can't skip rows, which may deadlock."""
        monkeypatch.setattr(capability, "_SKIP_LOCKED_SINCE", {})
        low, middle, high = new_metrics(indexer, 3)
        gate, other = rival(), rival()
        # The batch closes the circle, so the batch is the victim.
        other.look_for_deadlocks("10min")
        gate.update(middle)
        other.update(high)
        batch = pool.submit(
            batched, indexer, dict.fromkeys([low, middle, high], AFTER)
        )
        self.wait_for_waiting(indexer, 1)
        blocked = pool.submit(other.update, low)
        self.wait_for_waiting(indexer, 2)
        gate.commit()
        blocked.result()
        other.commit()
        batch.result()
        assert failures == [db_exception.DBDeadlock]
        assert are_recorded(indexer, [low, middle, high])


def test_mysql_is_told_to_go_by_the_primary_key(indexer, monkeypatch):
    """Else it locks rows of others. What comes of that a MySQL shows, see
    GNOCCHI_INDEXER_URL: free metrics that wait for one that is locked."""
    portable(monkeypatch)
    seen = []

    def note(connection, statement, *more):
        locks = getattr(statement, "_for_update_arg", None) is not None
        if locks or statement.is_update:
            seen.append(statement)

    engine = indexer.get_engine()
    sqlalchemy.event.listen(engine, "before_execute", note)
    try:
        batched(indexer, dict.fromkeys(new_metrics(indexer, 2), AFTER))
    finally:
        sqlalchemy.event.remove(engine, "before_execute", note)
    assert len(seen) == 2
    hint = "metric FORCE INDEX (PRIMARY)"
    for statement in seen:
        assert hint in str(statement.compile(dialect=mysql.dialect()))
        assert hint not in str(statement.compile(dialect=postgresql.dialect()))


@pytest.mark.parametrize(
    ("name", "is_mariadb", "version", "can_skip"),
    [
        ("postgresql", None, (15, 4), True),
        ("postgresql", None, (9, 4), False),
        ("mysql", False, (8, 4, 3), True),
        ("mysql", False, (5, 7, 44), False),
        ("mysql", True, (10, 11, 6), True),
        ("mysql", True, (10, 5, 27), False),
        ("sqlite", None, (3, 40, 1), False),
    ],
)
def test_servers_that_can_skip_locked_rows(
    name, is_mariadb, version, can_skip
):
    dialect = mock.Mock(spec=["name", "server_version_info"])
    dialect.name, dialect.server_version_info = name, version
    if is_mariadb is not None:
        dialect.is_mariadb = is_mariadb
    assert capability.can_skip_locked(dialect) is can_skip
