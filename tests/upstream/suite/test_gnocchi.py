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

"""Discovers the modules of Gnocchi's own suite that exercise its storage."""

import faulthandler
import os
import pathlib
import signal
import tempfile
import unittest

from gnocchi import service

MODULES = (
    "gnocchi.tests.test_storage",
    "gnocchi.tests.test_aggregates",
    "gnocchi.tests.test_chef",
    "gnocchi.tests.test_incoming",
    "gnocchi.tests.test_statsd",
    "gnocchi.tests.test_influxdb",
    "gnocchi.tests.test_rest",
    "gnocchi.tests.functional.test_gabbi",
)

_SCRATCH = pathlib.Path(os.environ["UPSTREAM_SCRATCH"])

_prepare_service = service.prepare_service


def _prepare_service_with_own_queue(*arguments, **options):
    """Give each test a queue of its own.

    Gnocchi's base classes isolate the queue of the drivers they know (a
    directory for file, a prefix for redis) where the storage driver is one
    of those.
    """
    conf = _prepare_service(*arguments, **options)
    conf.set_override(
        "file_basepath",
        tempfile.mkdtemp(dir=_SCRATCH),
        "incoming",
    )
    return conf


def load_tests(loader, tests, pattern):
    # Asked for where a test hangs. The file must stay open.
    faulthandler.register(
        signal.SIGUSR1, (_SCRATCH / f"stacks-{os.getpid()}").open("w")
    )
    service.prepare_service = _prepare_service_with_own_queue
    suite = unittest.TestSuite()
    for module in MODULES:
        suite.addTests(loader.loadTestsFromName(module))
    return suite
