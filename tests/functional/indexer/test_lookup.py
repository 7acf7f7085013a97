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
"""What the indexer says of metrics, beside its own list_metrics."""

import concurrent.futures
import contextlib
import datetime
import random
import uuid

import numpy
import pytest
import sqlalchemy
from gnocchi import archive_policy, utils
from gnocchi import indexer as gnocchi_indexer
from gnocchi.indexer import sqlalchemy as sqlalchemy_indexer
from sqlalchemy import orm

from gnocchi_influxdb import schema
from gnocchi_influxdb.indexer import (
    bookkeeping,
    capability,
    lookup,
    postgresql,
)

METRIC = sqlalchemy_indexer.Metric.__table__
LONG_AGO = datetime.datetime(2020, 1, 1)
NOW = numpy.datetime64("now", "ns")
ATTRIBUTES = [
    "id",
    "name",
    "unit",
    "resource_id",
    "creator",
    "archive_policy_name",
]


@pytest.fixture
def make_policy(indexer_driver):
    def make(definition=((8640, 300),), methods=("mean",), back_window=0):
        policy = archive_policy.ArchivePolicy(
            f"policy-{uuid.uuid4()}", back_window, definition, methods
        )
        indexer_driver.create_archive_policy(policy)
        return policy.name

    return make


@pytest.fixture
def make_metric(indexer_driver, make_policy):
    """The id of a metric that had its last measure long ago."""
    names = []

    def make(policy=None, **attributes):
        if policy is None:
            if not names:
                names.append(make_policy())
            policy = names[0]
        id_ = uuid.uuid4()
        indexer_driver.create_metric(id_, "me", policy, **attributes)
        with indexer_driver.facade.writer() as session:
            session.execute(
                sqlalchemy.update(METRIC)
                .where(METRIC.c.id == id_)
                .values(last_measure_timestamp=LONG_AGO)
            )
        return id_

    return make


@pytest.fixture
def make_resource(indexer_driver):
    def make(ended_at=None):
        id_ = uuid.uuid4()
        indexer_driver.create_resource(
            "generic", id_, "me", started_at=utils.datetime_utc(2021, 1, 1)
        )
        if ended_at is not None:
            indexer_driver.update_resource("generic", id_, ended_at=ended_at)
        return id_

    return make


def rows(indexer, ids):
    """{id: (has a new last_measure_timestamp, needs truncation)}"""
    with indexer.facade.independent_reader() as session:
        found = session.execute(
            sqlalchemy.select(
                METRIC.c.id,
                METRIC.c.last_measure_timestamp,
                METRIC.c.needs_raw_data_truncation,
            ).where(METRIC.c.id.in_(ids))
        ).all()
    return {id_: (at != LONG_AGO, needs) for id_, at, needs in found}


@contextlib.contextmanager
def locked(indexer, id_):
    with indexer.facade.independent_writer() as session:
        session.execute(
            sqlalchemy.select(METRIC.c.id)
            .where(METRIC.c.id == id_)
            .with_for_update()
        ).all()
        yield


def tell(indexer, metrics):
    """What follows when the measures are stored."""

    def fallback(metric, measures):
        raise AssertionError("the fallback is for other indexers")

    measures = numpy.array([(NOW, 1.0)], schema.DTYPE)
    bookkeeping.update_metadata(
        indexer, [(metric, measures) for metric in metrics], fallback
    )


def by_id(metrics):
    found = {metric.id: metric for metric in metrics}
    assert len(found) == len(metrics)
    return found


def test_says_the_same_as_list_metrics(
    indexer_driver, make_policy, make_metric, make_resource
):
    policies = [
        make_policy(),
        make_policy([(60, 1), (1440, 60), (8760, 3600)], ["*"], 7),
        make_policy([(10, 0.5)], ["rate:mean", "95pct", "-mean"]),
    ]
    resources = [make_resource(), make_resource(utils.utcnow()), None]
    ids = [
        make_metric(
            policy,
            name=name and name + policy,
            unit=unit,
            resource_id=resource,
        )
        for policy in policies
        for resource in resources
        for name, unit in (
            ("cpu", "ns"),
            ("größe %s :ids {0} 'x'", None),
            *([(None, "ms"), (None, None)] if resource is None else []),
        )
    ]
    wanted = by_id(
        indexer_driver.list_metrics(attribute_filter={"in": {"id": ids}})
    )
    found = by_id(lookup.receivers(indexer_driver, ids))
    assert found.keys() == wanted.keys() == set(ids)
    for id_, metric in found.items():
        assert isinstance(metric, gnocchi_indexer.Metric)
        assert str(metric) == str(wanted[id_])
        for name in ATTRIBUTES:
            assert getattr(metric, name) == getattr(wanted[id_], name)
            assert type(getattr(metric, name)) is type(
                getattr(wanted[id_], name)
            )
        policy, own = metric.archive_policy, wanted[id_].archive_policy
        assert policy == own
        assert type(policy) is type(own)
        assert policy.definition == own.definition
        assert set(map(type, policy.definition)) == {
            archive_policy.ArchivePolicyItem
        }
        assert policy.aggregation_methods == own.aggregation_methods
        assert policy.aggregations == own.aggregations
        assert policy.back_window == own.back_window
        assert policy.max_block_size == own.max_block_size


@pytest.mark.only_postgresql
def test_leaves_out_what_is_not_there(indexer_driver, make_metric):
    there, deleted = make_metric(), make_metric()
    indexer_driver.delete_metric(deleted)
    (found,) = lookup.receivers(
        indexer_driver, iter([deleted, uuid.uuid4(), there])
    )
    assert found.id == there
    assert lookup.receivers(indexer_driver, []) == []
    assert lookup.receivers(indexer_driver, [deleted]) == []
    assert rows(indexer_driver, [there, deleted]) == {
        there: (True, False),
        deleted: (False, True),
    }


@pytest.mark.only_postgresql
def test_more_than_fit_into_a_query(indexer_driver, make_metric, monkeypatch):
    monkeypatch.setattr(capability, "CHUNK_SIZE", 3)
    ids = [make_metric() for _ in range(8)]
    found = lookup.receivers(indexer_driver, ids)
    assert by_id(found).keys() == set(ids)
    assert set(rows(indexer_driver, ids).values()) == {(True, False)}


def test_an_archive_policy_is_as_it_is_now(
    indexer_driver, make_policy, make_metric
):
    name = make_policy([(100, 60)])
    id_ = make_metric(name)

    def timespans():
        (found,) = lookup.receivers(indexer_driver, [id_])
        return [
            item.timespan / numpy.timedelta64(1, "s")
            for item in found.archive_policy.definition
        ], found.archive_policy.back_window

    assert timespans() == ([6000], 0)
    indexer_driver.update_archive_policy(
        name,
        [archive_policy.ArchivePolicyItem(granularity=60, points=500)],
        back_window=3,
    )
    assert timespans() == ([30000], 3)


@pytest.mark.only_postgresql
def test_tells_the_indexer(indexer_driver, make_metric):
    received, other = make_metric(), make_metric()
    before = datetime.datetime.now(datetime.timezone.utc)
    (found,) = lookup.receivers(indexer_driver, [received])
    after = datetime.datetime.now(datetime.timezone.utc)
    assert rows(indexer_driver, [received, other]) == {
        received: (True, False),
        other: (False, True),
    }
    (metric,) = indexer_driver.list_metrics(
        attribute_filter={"=": {"id": received}}
    )
    told = metric.last_measure_timestamp.replace(tzinfo=datetime.timezone.utc)
    assert before <= told <= after
    # Once is enough.
    tell(indexer_driver, [found])
    (metric,) = indexer_driver.list_metrics(
        attribute_filter={"=": {"id": received}}
    )
    assert metric.last_measure_timestamp == told.replace(tzinfo=None)


@pytest.mark.only_postgresql
def test_a_resource_is_restored_afterwards(
    indexer_driver, make_metric, make_resource
):
    ended = utils.to_datetime(NOW) - datetime.timedelta(hours=1)
    resources = [make_resource(ended), make_resource(), None]
    metrics = by_id(
        lookup.receivers(
            indexer_driver,
            [
                make_metric(name="cpu", resource_id=resource)
                for resource in resources
            ],
        )
    )
    assert {m.resource_id: m.may_have_ended for m in metrics.values()} == {
        resources[0]: True,
        resources[1]: False,
        None: False,
    }
    resource = indexer_driver.get_resource("generic", resources[0])
    assert resource.ended_at == ended
    tell(indexer_driver, list(metrics.values()))
    resource = indexer_driver.get_resource("generic", resources[0])
    assert resource.ended_at is None


@pytest.mark.only_postgresql
def test_waits_for_no_disk(indexer_driver, make_metric):
    """Neither does `bookkeeping`; what comes after either of them does."""
    ids = [str(make_metric()), str(make_metric())]
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)

    def waits(session):
        return session.scalar(sqlalchemy.text("SHOW synchronous_commit"))

    engine = indexer_driver.facade.get_engine()
    with engine.connect() as connection:
        with orm.Session(connection) as session, session.begin():
            # Neither the default nor what is to come.
            session.execute(
                sqlalchemy.text("SET SESSION synchronous_commit = 'local'")
            )
        for tell_ in (
            lambda session: postgresql.receive(session, ids, now),
            lambda session: postgresql.update(session, ids, [], now),
        ):
            with orm.Session(connection) as session, session.begin():
                assert waits(session) == "local"
                tell_(session)
                assert waits(session) == "off"
        with orm.Session(connection) as session, session.begin():
            assert waits(session) == "local"
            session.execute(sqlalchemy.text("RESET synchronous_commit"))


@pytest.mark.only_postgresql
@pytest.mark.parametrize("others", [0, 1])
def test_waits_for_nobody(indexer_driver, make_metric, others):
    held = make_metric()
    free = [make_metric() for _ in range(others)]
    with (
        concurrent.futures.ThreadPoolExecutor() as pool,
        locked(indexer_driver, held),
    ):
        found = by_id(
            pool.submit(
                lookup.receivers, indexer_driver, [held, *free]
            ).result(60)
        )
    assert found.keys() == {held, *free}
    assert not found[held].is_updated
    assert rows(indexer_driver, [held, *free]) == {
        held: (False, True),
        **dict.fromkeys(free, (True, False)),
    }
    assert found[held].needs_raw_data_truncation
    tell(indexer_driver, list(found.values()))
    assert rows(indexer_driver, [held])[held] == (True, False)


class Other:
    """An indexer that is not Gnocchi's SQLAlchemy driver."""

    def __init__(self, indexer):
        self._indexer = indexer

    def list_metrics(self, **arguments):
        return self._indexer.list_metrics(**arguments)


def test_another_indexer_is_asked_as_gnocchi_does(indexer_driver, make_metric):
    ids = [make_metric(), make_metric()]
    found = lookup.receivers(Other(indexer_driver), [*ids, uuid.uuid4()])
    assert by_id(found).keys() == set(ids)
    assert {type(metric) for metric in found} == {sqlalchemy_indexer.Metric}
    assert set(rows(indexer_driver, ids).values()) == {(False, True)}


@pytest.mark.parametrize(
    ("name", "version"), [("mysql", (8, 4, 3)), ("postgresql", (9, 4))]
)
def test_another_database_is_asked_as_gnocchi_does(
    indexer_driver, make_metric, monkeypatch, name, version
):
    ids = [make_metric()]
    dialect = indexer_driver.facade.get_engine().dialect
    with monkeypatch.context() as patch:
        patch.setattr(dialect, "name", name)
        patch.setattr(dialect, "server_version_info", version)
        assert not capability.of(indexer_driver).one_statement
    monkeypatch.setattr(
        capability,
        "of",
        lambda indexer: capability.IndexerCapabilities(True, True, False),
    )
    (found,) = lookup.receivers(indexer_driver, ids)
    assert isinstance(found, sqlalchemy_indexer.Metric)
    tell(indexer_driver, [found])
    assert rows(indexer_driver, ids) == {ids[0]: (True, False)}


@pytest.mark.only_postgresql
def test_a_gnocchi_with_other_columns(indexer_driver, monkeypatch):
    assert capability.of(indexer_driver).one_statement
    monkeypatch.setattr(postgresql, "POLICY_COLUMNS", ("name", "is_new"))
    capability.has_tables.cache_clear()
    try:
        assert not capability.of(indexer_driver).one_statement
    finally:
        capability.has_tables.cache_clear()


def test_many_at_once_for_the_same_metrics(indexer_driver, make_metric):
    ids = [make_metric() for _ in range(40)]

    def receive(seed):
        chosen = random.Random(seed).sample(ids, 30)
        for _ in range(10):
            found = lookup.receivers(indexer_driver, chosen)
            assert by_id(found).keys() == set(chosen)
            tell(indexer_driver, found)

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(receive, seed) for seed in range(6)]:
            done.result(120)
    assert set(rows(indexer_driver, ids).values()) == {(True, False)}
