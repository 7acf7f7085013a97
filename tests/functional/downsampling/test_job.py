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

"""DownsampleJob through the incoming driver, as gnocchi-metricd runs it."""

import pytest

from gnocchi_influxdb import outages
from gnocchi_influxdb.maintenance import downsample
from tests.functional.downsampling.passes import DAY, HOUR, MINUTE, now
from tests.support import proxy
from tests.support.clock import Clock
from tests.support.samples import NS, policy, write

NAMES = [f"policy-{i}" for i in range(4)]


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(downsample, "time", made)
    monkeypatch.setattr(outages, "time", made)
    return made


@pytest.fixture
def policies(cloud):
    made = [
        policy((1440, MINUTE), (240, HOUR), (20, DAY), name=name)
        for name in NAMES
    ]
    for one in made:
        cloud.index.create_archive_policy(one)
        (m,) = cloud.metrics(1, one.name)
        points = {now() - i * HOUR * NS: 1.0 for i in range(40)}
        write(cloud.storage, {m: points}, cloud.index)
    return made


def metricd(cloud):
    """Process all sacks once."""
    for sack in cloud.incoming.iter_sacks():
        cloud.chef.process_new_measures_for_sack(
            sack, blocking=True, sync=True
        )


def downsampled(cloud, policies):
    """How far each of the definitions is downsampled, None: not at all."""
    return [
        cloud.storage.buckets.watermarks.read(target.name)
        for one in policies
        for target in cloud.storage.buckets.downsampled(one)
    ]


def test_each_policy_is_of_one_sack(cloud, policies, clock, monkeypatch):
    passed = []
    real = downsample.Downsampler.downsample

    def noted(self, one, target, until=None):
        passed.append(target.name)
        return real(self, one, target, until)

    monkeypatch.setattr(downsample.Downsampler, "downsample", noted)
    metricd(cloud)
    assert all(downsampled(cloud, policies))
    assert len(passed) == len(set(passed)) == 2 * len(NAMES)
    metricd(cloud)  # It is not time yet.
    assert len(passed) == 2 * len(NAMES)
    clock.now += 301
    metricd(cloud)
    assert len(passed) == 4 * len(NAMES)


def test_an_error_is_logged_now_and_then(
    cloud, policies, clock, between, logged
):
    def refuse(request):
        if b"aggregate,metric" in request.body:
            return proxy.answer("400 Bad Request", b"no")
        return None

    between.before = refuse

    def told():
        return [m for m in logged.warnings() if "not downsampled" in m]

    metricd(cloud)
    assert len(told()) == 1
    for _ in range(3):
        clock.now += 301
        metricd(cloud)
    assert len(told()) == 4
    assert all(name in told()[-1] for name in NAMES)
    assert not any(downsampled(cloud, policies))
    between.before = None
    clock.now += 301
    metricd(cloud)
    assert all(downsampled(cloud, policies))
    assert "windows are downsampled again" in logged.warnings()[-1]


@pytest.mark.only_2x("a 1.x is asked first what it is, of no policy")
def test_a_server_that_is_away_is_asked_about_one_policy(
    cloud, policies, clock, between, logged
):
    asked = []

    def refuse(request):
        asked.append(request)
        return proxy.answer("503 Service Unavailable", b"no")

    between.before = refuse
    metricd(cloud)
    assert 1 <= len(asked) <= 5
    clock.now += 31
    metricd(cloud)
    assert len(asked) <= 10
    assert len([m for m in logged.warnings() if "not downsampled" in m]) == 1
    between.before = None
    clock.now += 301
    metricd(cloud)
    assert all(downsampled(cloud, policies))


def test_a_slow_pass_goes_on_at_the_next_call(cloud, policies, clock, between):
    def slow(request):
        if b"downsampled until" in request.body:
            clock.now += 11
        return None

    between.before = slow
    metricd(cloud)
    first = [bool(mark) for mark in downsampled(cloud, policies)]
    assert first == [True, False] * len(NAMES)
    for _ in range(10):
        metricd(cloud)
    assert all(downsampled(cloud, policies))


def test_one_that_fails_holds_up_no_other(cloud, policies, clock, between):
    def refuse(request):
        if f"{HOUR}s" in request.path and b"aggregate,metric" in request.body:
            return proxy.answer("400 Bad Request", b"no")
        return None

    between.before = refuse
    for _ in range(2):
        metricd(cloud)
        clock.now += 301
    found = [bool(mark) for mark in downsampled(cloud, policies)]
    assert found == [False, True] * len(NAMES)
