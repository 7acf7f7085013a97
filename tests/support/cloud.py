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
"""A Gnocchi without its processes: the parts that a janitor is made of."""

import uuid

from gnocchi import archive_policy, chef, incoming, indexer, storage
from gnocchi.cli import metricd
from gnocchi.indexer import sqlalchemy

from gnocchi_influxdb.maintenance import names
from gnocchi_influxdb.storage import InfluxDBStorage

POLICIES = [
    archive_policy.ArchivePolicy(name, 0, [(9999, 60)], ["mean"])
    for name in ("low", "high")
]


class Cloud:
    """On a database of its own.

    :ivar chef: the janitor's.
    """

    def __init__(self, conf):
        conf.set_override(
            "url",
            sqlalchemy.SQLAlchemyIndexer._create_new_database(
                conf.indexer.url
            ),
            "indexer",
        )
        self.conf = conf
        self.index = indexer.get_driver(conf)
        self.index.upgrade()
        for policy in POLICIES:
            self.index.create_archive_policy(policy)
        self.storage = storage.get_driver(conf)
        self.incoming = incoming.get_driver(conf)
        self.incoming.upgrade(8)
        self.coordinator = metricd.get_coordinator_and_start(
            str(uuid.uuid4()), conf.coordination_url
        )
        self.chef = self.new_chef()

    def new_chef(self):
        """That of a janitor that was just started."""
        return chef.Chef(
            self.coordinator,
            self.incoming,
            self.index,
            InfluxDBStorage(self.conf.storage),
        )

    def metrics(self, number, policy="low"):
        ids = [
            self.index.create_metric(uuid.uuid4(), "me", policy).id
            for _ in range(number)
        ]
        return self.index.list_metrics(attribute_filter={"in": {"id": ids}})

    def mark_deleted(self, metrics):
        for metric in metrics:
            self.index.delete_metric(metric.id)

    def write_names(self):
        """What gnocchi-metricd does within some minutes."""
        job = names.NamesJob(
            self.storage.client, self.storage.buckets, self.index, 10000
        )
        _, failed = job.write_page(names.IdRange())
        assert failed == {}

    def bucket(self, metric):
        return self.storage.buckets.name(metric.archive_policy)

    def close(self):
        self.coordinator.stop()
        self.index.disconnect()
