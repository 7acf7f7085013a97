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
"""What is compared: Gnocchi with one storage driver."""

import contextlib
import functools
import pathlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import gnocchi.rest
import sqlalchemy
from demo_stack import services
from gnocchi import chef, incoming, indexer, service, storage
from gnocchi.cli import metricd
from gnocchi.indexer import sqlalchemy as sqlalchemy_indexer
from gnocchi.indexer import sqlalchemy_base
from oslo_config import cfg

from benchmarks import measures as measures_
from benchmarks import policies
from gnocchi_influxdb.rollups import rollup_lines
from gnocchi_influxdb.write import delivery

CREATOR = "admin"
METRICS_PER_RESOURCE = 10
#: That each driver's queue has.
SACKS = 8

Write = Callable[[], None]


class Target:
    """One driver with a Gnocchi configuration and a database of its own.

    :ivar name: the driver's.
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, str],
        indexer_url: str,
        redis_url: str | None,
        state: pathlib.Path,
        say: Callable[[str], None],
    ) -> None:
        """:param options: ``[storage]``.

        :param redis_url: a database for a queue.
        """
        self.name = name
        self._redis_url = redis_url
        self._state = state
        self._say = say
        self._exits = contextlib.ExitStack()
        self._apis: dict[int | None, str] = {}
        self._cache: dict[Any, Any] = {}
        try:
            # The name that Gnocchi's own tests make theirs with.
            self._url = (
                sqlalchemy_indexer.SQLAlchemyIndexer._create_new_database(
                    indexer_url
                )
            )
            self._exits.callback(_drop_database, self._url)
            self._options = dict(options)
            self._gnocchi = self._services("gnocchi")
            # With as many sacks as `SACKS`.
            self._gnocchi.upgrade(shared=False)
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        self.conf = service.prepare_service(
            [
                f"--config-file={self._gnocchi.config_file}",
                f"--config-dir={self._state / 'gnocchi' / 'gnocchi.conf.d'}",
            ],
            conf=cfg.ConfigOpts(),
            skip_log_opts=True,
        )
        self.indexer = indexer.get_driver(self.conf)
        self._exits.callback(self.indexer.disconnect)
        self.storage = storage.get_driver(self.conf)
        coordinator = metricd.get_coordinator_and_start(
            str(uuid.uuid4()), self.conf.coordination_url
        )
        self._exits.callback(coordinator.stop)
        self._chef = self._chef_of(coordinator, incoming.get_driver(self.conf))
        #: A second one, whose queue is Redis whatever the driver.
        self._redis_chef: chef.Chef | None = None
        if self._redis_url is not None:
            self._redis_chef = self._chef_of(coordinator, self._in_redis())
        policies.create(self.indexer)

    def _in_redis(self) -> Any:
        """An incoming driver whose queue is in Redis."""
        # Ours has one behind it.
        ours = self.name == "influxdb"
        name = "influxdb_queue_driver" if ours else "driver"
        with contextlib.ExitStack() as exits:
            for option, value in (
                ("redis_url", self._redis_url),
                (name, "redis"),
            ):
                self.conf.set_override(option, value, "incoming")
                exits.callback(self.conf.clear_override, option, "incoming")
            queue = incoming.get_driver(self.conf)
        queue.upgrade(SACKS)
        return queue

    def _chef_of(self, coordinator: Any, queue: Any) -> chef.Chef:
        return chef.Chef(coordinator, queue, self.indexer, self.storage)

    def close(self) -> None:
        self._exits.close()

    # Metrics ---------------------------------------------------------------

    def create_metrics(
        self, ids: Sequence[uuid.UUID], policy: str
    ) -> list[Any]:
        """Metrics with resources in the indexer, in the order of their ids.

        In one transaction: Gnocchi's own calls take one a metric.
        """
        found = self.find_metrics(ids)
        if found:  # made for the floor
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
        with self.indexer.facade.writer() as session:
            session.add_all(rows)
        return self.find_metrics(ids)

    @functools.cached_property
    def computing_storage(self) -> Any:
        """The storage driver, keeping no aggregates beyond Gnocchi's own."""
        if self.name != "influxdb":
            return self.storage
        self.conf.set_override("influxdb_rollups", False, "storage")
        try:
            return storage.get_driver(self.conf)
        finally:
            self.conf.clear_override("influxdb_rollups", "storage")

    def settle(self) -> None:
        """Wait until what was written just now is like what was long ago.

        InfluxDB's driver keeps no aggregates of days that had late measures a
        few minutes ago, and here all are late.
        """
        if self.name == "influxdb":
            marked = delivery.MARKED * self.conf.storage.influxdb_timeout
            self._say("Waiting until rollups of the history count")
            time.sleep(marked + rollup_lines.SKEW / 1e9 + 1)

    def find_metrics(self, ids: Sequence[uuid.UUID]) -> list[Any]:
        """Metrics that there may be, in the order of their ids."""
        found = {
            metric.id: metric
            for metric in self.indexer.list_metrics(
                attribute_filter={"in": {"id": list(ids)}}
            )
        }
        return [found[id_] for id_ in ids if id_ in found]

    def cached(self, key: Any, make: Callable[[], Any]) -> Any:
        """What is made once a run."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    # Storage ---------------------------------------------------------------

    def write(self, batches: Iterable[Mapping[Any, Any]]) -> Write:
        """What writes the batches when it is called, without the indexer."""
        calls = list(batches)

        def write() -> None:
            with _without_bookkeeping(self.storage):
                for batch in calls:
                    self.storage.add_measures_to_metrics(batch, None)

        return write

    def read_all(self, metrics: Iterable[Any]) -> measures_.Answer:
        """All that the metrics' policies have, see `comparable`."""
        return measures_.of_storage(
            self.storage.get_aggregated_measures(
                {
                    metric: measures_.comparable(metric.archive_policy)
                    for metric in metrics
                }
            )
        )

    # Processes -------------------------------------------------------------

    def queue(
        self, measures: Mapping[uuid.UUID, Any], *, in_redis: bool = False
    ) -> Write:
        """Leave measures for metricd.

        :param in_redis: in Redis, else where the configuration says.
        :return: does what metricd does with them.
        """
        chef_ = self._redis_chef if in_redis else self._chef
        assert chef_ is not None
        # Ours writes through, unless InfluxDB is away.
        queue = getattr(chef_.incoming, "queue", chef_.incoming)
        queue.add_measures_batch(measures)
        return lambda: _process(chef_, chef_.incoming.iter_sacks())

    def process(self, metrics: Iterable[uuid.UUID]) -> None:
        """What metricd does with the measures of some metrics."""
        sack_for = self._chef.incoming.sack_for_metric
        _process(self._chef, {sack_for(id_) for id_ in metrics})

    def api(self, parallel_operations: int | None = None) -> str:
        """URL of a gnocchi-api, started when first asked for."""
        if parallel_operations not in self._apis:
            services_ = self._gnocchi
            if parallel_operations is not None:
                services_ = self._services(
                    f"gnocchi-{parallel_operations}",
                    parallel_operations=str(parallel_operations),
                )
            services_.start_api(self._exits)
            self._apis[parallel_operations] = services_.url
        return self._apis[parallel_operations]

    @contextlib.contextmanager
    def metricd(self) -> Iterator[None]:
        """A gnocchi-metricd while the context lasts.

        None where measures are written through.
        """
        with contextlib.ExitStack() as exits:
            if self.name != "influxdb":
                self._gnocchi.start_metricd(exits)
            yield

    def _services(self, name: str, **default: str) -> services.Gnocchi:
        directory = self._state / name
        directory.mkdir(parents=True)
        paste = pathlib.Path(gnocchi.rest.__file__).with_name("api-paste.ini")
        sections: dict[str, dict[str, str]] = {
            "DEFAULT": default,
            "storage": self._options,
            "indexer": {"url": self._url},
            "api": {
                "auth_mode": "basic",
                "host": "127.0.0.1",
                "port": "8041",
                "paste_config": str(paste),
            },
            # Without a delay it would only be a matter of the delay.
            "metricd": {"workers": "1", "metric_processing_delay": "1"},
        }
        text = "\n".join(
            line
            for section, options in sections.items()
            for line in (
                f"[{section}]",
                *(
                    f"{option} = {value.replace('$', '$$')}"
                    for option, value in options.items()
                ),
                "",
            )
        )
        return services.Gnocchi(directory, text, self._say)


def _process(chef_: chef.Chef, sacks: Iterable[Any]) -> None:
    for sack in sacks:
        chef_.process_new_measures_for_sack(sack, blocking=True, sync=True)


@contextlib.contextmanager
def _without_bookkeeping(driver: Any) -> Iterator[None]:
    """Leave the indexer out, in the same way for each driver.

    Gnocchi's drivers call this method for each metric. So does ours when the
    indexer it is given is not Gnocchi's SQLAlchemy driver; None is not.
    """
    driver.execute_metadata_updates_if_needed = lambda *args: None
    try:
        yield
    finally:
        del driver.execute_metadata_updates_if_needed


def _drop_database(url: str) -> None:
    """Drop a database, also one that a driver is connected to."""
    parsed = sqlalchemy.make_url(url)
    engine = sqlalchemy.create_engine(
        parsed.set(database="postgres"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        name = connection.dialect.identifier_preparer.quote(parsed.database)
        connection.execute(
            sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)")
        )
    engine.dispose()
