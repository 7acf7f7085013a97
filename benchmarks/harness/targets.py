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
"""The targets that are compared: Gnocchi with one storage driver each."""

import contextlib
import pathlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import gnocchi.rest
from demo import services
from gnocchi import incoming, indexer, service, storage
from gnocchi.chef import Chef
from gnocchi.cli import metricd
from gnocchi.indexer import sqlalchemy as sqlalchemy_indexer
from oslo_config import cfg

from benchmarks.harness import indexing, measures, policies
from gnocchi_influxdb.buckets import watermark
from gnocchi_influxdb.downsampling import downsampler
from gnocchi_influxdb.write import delivery

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
        """:param options: of the section ``[storage]``.
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
            self._exits.callback(indexing.drop_database, self._url)
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
            self.configuration,
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
        self._redis_chef: Chef | None = None
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

    def _chef_of(self, coordinator: Any, queue: Any) -> Chef:
        return Chef(coordinator, queue, self.indexer, self.storage)

    @property
    def configuration(self) -> list[str]:
        """Arguments that name Gnocchi's configuration to a command."""
        return [
            f"--config-file={self._gnocchi.config_file}",
            f"--config-dir={self._state / 'gnocchi' / 'gnocchi.conf.d'}",
        ]

    def close(self) -> None:
        """Stop its processes and drop its database."""
        self._exits.close()

    # Metrics ---------------------------------------------------------------

    def create_metrics(
        self, ids: Sequence[uuid.UUID], policy: str
    ) -> list[Any]:
        """Metrics with resources in the indexer, in the order of their ids."""
        return indexing.create_metrics(self.indexer, ids, policy)

    def settle(self) -> None:
        """Let metricd's work on what was just written be done.

        InfluxDB's driver downsamples it; the others have no such work. All is
        late here, so its marks are pending for some minutes.
        """
        if self.name != "influxdb":
            return
        self._say("Waiting until the history can be downsampled")
        marked = delivery.MARKED * self.conf.storage.influxdb_timeout
        time.sleep(marked + watermark.SKEW + 1)
        buckets = self.storage.buckets
        one = downsampler.Downsampler(buckets, self.conf.storage)
        for policy in self.indexer.list_archive_policies():
            for definition in buckets.downsampled(policy):
                for _ in one.downsample(policy, definition):
                    pass
        buckets.watermarks.forget()

    def cached(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` makes, made once a run."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    # Storage ---------------------------------------------------------------

    def write(self, batches: Iterable[Mapping[Any, Any]]) -> Write:
        """A function that writes the batches, without the indexer."""
        calls = list(batches)

        def write() -> None:
            with _without_bookkeeping(self.storage):
                for batch in calls:
                    self.storage.add_measures_to_metrics(batch, None)

        return write

    def read_all(self, wanted: Iterable[Any]) -> measures.Answer:
        """All windows of some metrics, as far as they are comparable."""
        return measures.read_all(self.storage, wanted)

    # Processes -------------------------------------------------------------

    def queue(
        self, points: Mapping[uuid.UUID, Any], *, in_redis: bool = False
    ) -> Write:
        """Leave measures for metricd.

        :param points: by metric id.
        :param in_redis: in Redis, else where the configuration says.
        :return: does what metricd does with them.
        """
        chef = self._redis_chef if in_redis else self._chef
        assert chef is not None
        # Ours writes through, unless InfluxDB is away.
        queue = getattr(chef.incoming, "queue", chef.incoming)
        queue.add_measures_batch(points)
        return lambda: _process(chef, chef.incoming.iter_sacks())

    def process(self, ids: Iterable[uuid.UUID]) -> None:
        """Do what metricd does with the queued measures of some metrics."""
        sack_for = self._chef.incoming.sack_for_metric
        _process(self._chef, {sack_for(metric) for metric in ids})

    def api(self, parallel_operations: int | None = None) -> str:
        """URL of a gnocchi-api, started when first asked for."""
        if parallel_operations not in self._apis:
            started = self._gnocchi
            if parallel_operations is not None:
                started = self._services(
                    f"gnocchi-{parallel_operations}",
                    parallel_operations=str(parallel_operations),
                )
            started.start_api(self._exits)
            self._apis[parallel_operations] = started.url
        return self._apis[parallel_operations]

    def start_metricd(self) -> int | None:
        """Run a gnocchi-metricd until the target is closed; its pid."""
        pid: int | None = self._gnocchi.start_metricd(self._exits)
        return pid

    def expunge(self, number: int) -> None:
        """Do what Gnocchi's janitor does with so many deleted metrics."""
        self._chef.expunge_metrics(number, sync=True)

    @contextlib.contextmanager
    def metricd(self) -> Iterator[None]:
        """Run a gnocchi-metricd while the context lasts.

        Without one if the driver's measures are not queued.
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
                # uWSGI's HTTP router sends the head and the body of an answer
                # apart, and a client that keeps its connection confirms the
                # head 40 ms later: that would hide what is measured.
                "uwsgi_mode": "http-socket",
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


def _process(chef: Chef, sacks: Iterable[Any]) -> None:
    for sack in sacks:
        chef.process_new_measures_for_sack(sack, blocking=True, sync=True)


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
