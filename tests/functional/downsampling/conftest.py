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

"""Drivers with and without downsampling on the same buckets."""

import pytest

from gnocchi_influxdb.storage import InfluxDBStorage
from tests.functional.downsampling import passes

# Points must all be there for the model.
SLACK = 60 * 86400


@pytest.fixture
def make_driver(make_conf):
    """Makes drivers that downsample, as other processes would."""

    def make(**options):
        conf = make_conf(
            **{
                "influxdb_retention": True,
                "influxdb_raw_slack": SLACK,
                **options,
            }
        )
        return InfluxDBStorage(conf.storage, max_retries=0)

    return make


@pytest.fixture
def driver(make_driver):
    return make_driver()


@pytest.fixture
def model(make_driver):
    """The same without downsampling: all is computed from the points."""
    return make_driver(influxdb_downsampling=False)


@pytest.fixture
def run(driver):
    """Does what is due for policies, until nothing is."""

    def do(*policies, until=None):
        return sum(passes.run(driver, one, until) for one in policies)

    return do
