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
"""Several errors at once."""

import pytest

from gnocchi_influxdb import exceptions


def test_the_first_is_raised():
    exceptions.raise_first({})
    first, second = (exceptions.ForbiddenError(text) for text in "ab")
    with pytest.raises(exceptions.ForbiddenError) as raised:
        exceptions.raise_first({"low": first, "high": second})
    assert raised.value is first


def test_an_upgrade_that_fails_ends_the_command():
    error = exceptions.UpgradeError(exceptions.AccessError("no right"))
    assert isinstance(error, SystemExit)
    assert error.code == 1
    assert str(error) == "no right"
