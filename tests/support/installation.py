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
"""An installation of Gnocchi for the command line: a configuration file, an
indexer of its own, and what its former storage driver holds.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid

import numpy
import pytest
from gnocchi import archive_policy, incoming, indexer, service, storage
from gnocchi.indexer import sqlalchemy
from gnocchi.tests import utils
from servers.redis import redis_server

from gnocchi_influxdb import opts
from tests.support.samples import NS, as_dict, write


class Installation:
    """A Gnocchi with its gnocchi.conf.

    :param options: of [storage], to differ from the defaults.
    """

    def __init__(self, directory, server, indexer_url, prefix, **options):
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.server = server
        self.prefix = prefix
        self.url = sqlalchemy.SQLAlchemyIndexer._create_new_database(
            indexer_url
        )
        self.data = directory / "gnocchi"
        (self.data / "tmp").mkdir(parents=True)
        self.path = directory / "gnocchi.conf"
        self.options = {
            "driver": "influxdb",
            "file_basepath": self.data,
            "influxdb_url": server.url,
            "influxdb_token": server.token,
            "influxdb_org": server.org,
            "influxdb_bucket_prefix": prefix,
            **options,
        }
        self.write_configuration()
        self.conf = self._conf(self.path)
        self.indexer = indexer.get_driver(self.conf)
        self.indexer.upgrade()

    def close(self):
        self.indexer.disconnect()

    def write_configuration(self, path=None, **options):
        lines = ["[indexer]", f"url = {self.url}", "[storage]"]
        lines += [
            f"{name} = {value}"
            for name, value in {**self.options, **options}.items()
        ]
        path = path or self.path
        path.write_text("\n".join(lines) + "\n")
        return path

    def _conf(self, path):
        conf = service.prepare_service(
            [],
            conf=utils.prepare_conf(),
            default_config_files=[str(path)],
            skip_log_opts=True,
        )
        opts.register(conf.storage)
        return conf

    def storage(self, name):
        """A storage driver of this Gnocchi."""
        self.conf.set_override("driver", name, "storage")
        driver = storage.get_driver(self.conf)
        driver.upgrade()
        return driver

    def queue(self, conf=None):
        """The queue that Gnocchi has by a configuration, made ready."""
        driver = incoming.get_driver(self._conf(conf or self.path)).queue
        driver.upgrade(8)
        return driver

    def policy(self, name, *definition, methods=("mean",), back_window=0):
        """Make an archive policy of (points, granularity in seconds)."""
        self.indexer.create_archive_policy(
            archive_policy.ArchivePolicy(
                name, back_window, definition, methods
            )
        )

    def metric(self, policy):
        """A new metric."""
        id_ = uuid.uuid4()
        self.indexer.create_metric(id_, "creator", policy)
        return self.indexer.list_metrics(
            attribute_filter={"in": {"id": [id_]}}
        )[0]

    # The command ------------------------------------------------------

    def start(self, *arguments, conf=None, **more):
        # The path of the tests' process: the package may not be installed.
        environment = dict(
            os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path))
        )
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gnocchi_influxdb.cli",
                f"--config-file={conf or self.path}",
                *arguments,
            ],
            cwd=self.directory,
            env=environment,
            # A job in the background of a shell ignores it, and its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **more,
        )

    def run(self, *arguments, said="", conf=None):
        """(exit status, stdout, stderr)"""
        process = self.start(*arguments, conf=conf)
        out, err = process.communicate(said, timeout=300)
        return process.returncode, out, err

    def json(self, *arguments, conf=None):
        """(exit status, the document on stdout)"""
        status, out, err = self.run(*arguments, "--format=json", conf=conf)
        assert out, err
        return status, json.loads(out)


@contextlib.contextmanager
def with_redis(gnocchi, directory):
    """The installation with a Redis of its own to store in."""
    with redis_server(directory) as server:
        if server is None:
            pytest.skip("no redis-server on PATH")
        gnocchi.options["redis_url"] = server.url(0)
        gnocchi.write_configuration()
        gnocchi.conf.set_override("redis_url", server.url(0), "storage")
        yield gnocchi


def fill(gnocchi, metrics, points, batches=2, driver="file"):
    """What metricd does with measures that arrive in batches.

    :return: the storage driver.
    """
    made = gnocchi.storage(driver)
    for part in numpy.array_split(numpy.array(points, dtype=object), batches):
        batch = [(int(t), float(v)) for t, v in part]
        write(made, dict.fromkeys(metrics, batch), gnocchi.indexer)
    return made


def answers(gnocchi, metric, driver):
    """All that a driver answers: {(method, s): {ns: value}}."""
    aggregations = metric.archive_policy.aggregations
    found = gnocchi.storage(driver).get_aggregated_measures(
        {metric: aggregations}
    )[metric]
    return {
        (a.method, int(a.granularity / numpy.timedelta64(1, "s"))): as_dict(
            found[a]
        )
        for a in aggregations
    }


def series(start, stop, every, rng):
    """Measures, about `every` ns apart."""
    number = (stop - start) // every
    times = start + numpy.arange(number) * every
    times = times + rng.integers(0, every // 2, number)
    return list(
        zip(times.tolist(), rng.normal(50, 20, number).tolist(), strict=True)
    )


HOUR = 3600 * NS
DAY = 24 * HOUR
