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

"""What goes wrong around downsampling, one case each."""

import multiprocessing
import os
import signal
import threading
import time

import pytest

from gnocchi_influxdb import exceptions, schema
from gnocchi_influxdb.downsampling import downsampler, source
from gnocchi_influxdb.wire import influxql
from gnocchi_influxdb.write import delivery
from tests.functional.downsampling import passes
from tests.functional.downsampling.passes import (
    DAY,
    HOUR,
    MINUTE,
    assert_each,
    now,
)
from tests.support import by_hand, proxy
from tests.support.samples import NS, metric, policy, write

A_POLICY = policy((1440, MINUTE), (240, HOUR), (20, DAY))
COARSER = f"policy@{HOUR}s", f"policy@{DAY}s"


def minutes(start, number, value=1.0):
    return {start + i * MINUTE * NS: value + i % 7 for i in range(number)}


@pytest.fixture
def metrics(driver, indexer_driver):
    """Two metrics with two days of minutes."""
    made = [metric(A_POLICY) for _ in range(2)]
    start = now() - 2 * DAY * NS
    points = {m: minutes(start, 2880, i) for i, m in enumerate(made)}
    write(driver, points, indexer_driver)
    return made


def delete(driver, bucket, stop, measurement=schema.MEASUREMENT):
    """Delete by hand what lies before `stop`, ns."""
    text = f'DELETE FROM "{measurement}" WHERE time < {stop}'
    driver.client.influxql(bucket, text)


def watermarks(driver):
    return [
        driver.buckets.watermarks.read(target.name)
        for target in driver.buckets.downsampled(A_POLICY)
    ]


@pytest.mark.parametrize("late", [False, True])
def test_a_long_timeout_makes_no_present_measure_late(
    make_driver, indexer_driver, late
):
    driver = make_driver(influxdb_timeout=600)
    one = metric(A_POLICY)
    at = now() - (HOUR if late else 2 * MINUTE) * NS
    write(driver, {one: {at: 1.0}}, indexer_driver)
    (target, _) = driver.buckets.downsampled(A_POLICY)
    body = driver.client.influxql(target.name, influxql.marks_of_all(0))
    assert (str(one.id).encode() in body) == late


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_late_measures_of_many_metrics(
    driver, model, run, indexer_driver, monkeypatch, at_once
):
    """Their marks come in parts, and of too many metrics all are read."""
    monkeypatch.setattr(source, "_MARKS", at_once)
    monkeypatch.setattr(downsampler, "_MANY", 2 * at_once)
    some = [metric(A_POLICY) for _ in range(7)]
    start = now() - 5 * HOUR * NS
    write(driver, {m: minutes(start, 60) for m in some}, indexer_driver)
    run(A_POLICY)
    late = {m: {start + i * NS: 50.0 + i} for i, m in enumerate(some, 1)}
    write(driver, late, indexer_driver)
    run(A_POLICY)
    (target, _) = driver.buckets.downsampled(A_POLICY)
    # Nobody has to look for pending windows.
    delete(driver, target.name, now() + DAY * NS, schema.MARKS)
    assert_each(driver, model, some)


# Points expire -------------------------------------------------------------


@pytest.mark.only_2x("a DELETE is of all retention policies")
@pytest.mark.parametrize("slack", [1 * HOUR, 8 * HOUR])
def test_expired_points_leave_coarser_answers(
    make_driver, indexer_driver, bucket_prefix, monkeypatch, slack
):
    """Hours go by, points expire, and late ones come until the last moment."""
    # A few hours of points.
    a_policy = policy((360, MINUTE), (240, HOUR))
    driver = make_driver(influxdb_raw_slack=slack)
    # Where nothing expires.
    model = make_driver(
        influxdb_downsampling=False,
        influxdb_retention=False,
        influxdb_bucket_prefix=f"{bucket_prefix}model",
    )
    hours = 0
    real = driver.client.clock.now_ns

    def present():
        return real() + hours * HOUR * NS

    for one in driver, model:
        monkeypatch.setattr(one.client.clock, "now_ns", present)
    wanted = [
        a
        for a in a_policy.aggregations
        if schema.ns_of(a.granularity) == HOUR * NS
    ]
    one = metric(a_policy)
    start = now() - 3 * HOUR * NS
    points = driver.buckets.name(a_policy)
    oldest = {}
    for hours in range(24):
        late = driver.buckets.oldest_taken(a_policy) + MINUTE * NS
        batch = minutes(start + hours * HOUR * NS, 60, hours)
        batch |= {max(late, start) + i * NS: -hours for i in range(2)}
        for both in driver, model:
            write(both, {one: batch}, indexer_driver)
        passes.run(driver, a_policy)
        kept = driver.buckets.of(a_policy).retention * NS
        delete(driver, points, present() - kept)
        oldest[hours] = driver.buckets.watermarks.oldest(points)
        passes.assert_same(driver, model, [one], wanted=wanted)
        passes.run(driver, a_policy)
        passes.assert_same(driver, model, [one], wanted=wanted)
    assert oldest[23] > oldest[0]
    # Nor when all is done again as far as there are points.
    target = driver.buckets.downsampled(a_policy)[0]
    mark = driver.buckets.watermarks.read(target.name)
    driver.buckets.watermarks.write(target.name, mark._replace(began=0))
    passes.run(driver, a_policy)
    passes.assert_same(driver, model, [one], wanted=wanted)
    # Nor when nobody knows how far it was done.
    delete(driver, target.name, schema.MAX_TIME, schema.WATERMARKS)
    assert passes.run(driver, a_policy)
    passes.assert_same(driver, model, [one], wanted=wanted)


# Somebody is killed --------------------------------------------------------


def test_influxd_killed_in_a_pass(make_driver, fresh_influxd, indexer_driver):
    fresh_influxd.start()
    driver = make_driver(server=fresh_influxd)
    model = make_driver(server=fresh_influxd, influxdb_downsampling=False)
    one = metric(A_POLICY)
    write(driver, {one: minutes(now() - DAY * NS, 1440)}, indexer_driver)
    passing = passes.steps(driver, A_POLICY)
    next(passing)
    fresh_influxd.kill()
    with pytest.raises(exceptions.UnavailableError):
        list(passing)
    fresh_influxd.start()
    assert_each(driver, model, [one])
    passes.run(driver, A_POLICY)
    assert all(watermarks(driver))
    assert_each(driver, model, [one])


def test_process_killed_in_a_pass(
    driver, model, make_driver, metrics, influxdb, run
):
    reached = threading.Event()

    def before(request):
        # The windows are on their way, and nobody waits for the answer.
        if b"aggregate,metric" in request.body:
            os.kill(child.pid, signal.SIGKILL)
            reached.set()
        return None

    with proxy.Proxy(influxdb.url, before) as between:
        worker = make_driver(influxdb_url=between.url)
        fork = multiprocessing.get_context("fork")
        child = fork.Process(target=passes.run, args=(worker, A_POLICY))
        child.start()
        child.join(60)
    assert reached.is_set()
    assert child.exitcode == -signal.SIGKILL
    assert_each(driver, model, metrics)
    assert run(A_POLICY)
    assert all(watermarks(driver))
    assert_each(driver, model, metrics)


def test_two_at_the_same_time(
    driver, model, make_driver, metrics, indexer_driver
):
    errors = []

    def work(worker):
        try:
            for _ in range(3):
                passes.run(worker, A_POLICY)
        except Exception as e:
            errors.append(e)

    workers = [
        threading.Thread(target=work, args=(make_driver(),)) for _ in range(2)
    ]
    for thread in workers:
        thread.start()
    late = now() - 20 * HOUR * NS
    while any(thread.is_alive() for thread in workers):
        write(driver, {metrics[0]: {late + 7: late % 97}}, indexer_driver)
        late += 5 * MINUTE * NS
        driver.buckets.watermarks.forget()
        assert_each(driver, model, metrics[:1])
    assert not errors
    driver.buckets.watermarks.forget()
    assert_each(driver, model, metrics)


# What changes behind its back ----------------------------------------------


def test_an_outage_whose_queue_is_emptied_late(
    driver, model, metrics, indexer_driver, run
):
    run(A_POLICY)
    assert_each(driver, model, metrics)
    start = now() - 9 * HOUR * NS + 30 * NS
    late = {m: minutes(start, 8 * 60, 1e4) for m in metrics}
    write(driver, late, indexer_driver)
    assert_each(driver, model, metrics)
    driver.buckets.watermarks.forget()
    assert_each(driver, model, metrics)
    run(A_POLICY)
    assert_each(driver, model, metrics)


def test_a_longer_timespan(driver, model, metrics, indexer_driver, run):
    run(A_POLICY)
    longer = policy((5 * 1440, MINUTE), (240, HOUR), (40, DAY))
    one = metric(longer)
    one.id = metrics[0].id
    assert_each(driver, model, [one])
    late = {now() - 30 * HOUR * NS + 1: 1e4}
    write(driver, {one: late}, indexer_driver)
    assert_each(driver, model, [one])
    passes.run(driver, longer)
    assert_each(driver, model, [one])


@pytest.mark.only_2x("a DELETE is of all retention policies")
def test_a_metric_deleted_while_it_is_computed(
    driver, model, metrics, influxdb, make_driver
):
    gone, stays = metrics

    def before(request):
        if b"aggregate,metric" in request.body:
            # Read already, and not yet written.
            for bucket in driver.buckets.all_of(A_POLICY).points, *targets:
                driver.client.influxql(bucket.name, influxql.delete([gone.id]))
        return None

    targets = driver.buckets.downsampled(A_POLICY)
    with proxy.Proxy(influxdb.url, before) as between:
        passes.run(make_driver(influxdb_url=between.url), A_POLICY)
    passes.run(driver, A_POLICY)
    assert_each(driver, model, [stays])


@pytest.mark.only_2x("of buckets")
@pytest.mark.parametrize("target", [0, 1])
def test_bucket_of_windows_deleted_by_hand(
    driver, model, make_driver, metrics, influxdb, run, target
):
    run(A_POLICY)
    reader = make_driver()
    assert_each(reader, model, metrics)
    name = driver.buckets.downsampled(A_POLICY)[target].name
    by_hand.delete_bucket(influxdb, name)
    driver.buckets.watermarks.forget()
    assert_each(driver, model, metrics)
    # When the watermark that it believed is too old.
    reader.buckets.watermarks._known.clear()
    assert_each(reader, model, metrics)
    # metricd makes it again, at the latest when it looks again.
    driver.buckets._known.clear()
    assert run(A_POLICY)
    assert all(watermarks(driver))
    assert_each(driver, model, metrics)


def test_metric_with_a_mark_and_no_point(
    driver, model, make_driver, metrics, influxdb, indexer_driver, run
):
    """The write failed between the two."""
    run(A_POLICY)
    one = metric(A_POLICY)

    def before(request):
        if request.body.startswith(b"measure,"):
            return proxy.answer("503 Service Unavailable")
        return None

    with proxy.Proxy(influxdb.url, before) as between:
        writer = make_driver(influxdb_url=between.url)
        with pytest.raises(exceptions.UnavailableError):
            write(writer, {one: {now() - HOUR * NS: 1.0}}, indexer_driver)
    assert_each(driver, model, [one])


# Values of another type ----------------------------------------------------


@pytest.mark.parametrize("language", ["auto", "influxql"])
def test_foreign_series(
    make_driver, model, influxdb, indexer_driver, language
):
    """Somebody else writes to our measurements, of no metric of Gnocchi."""
    driver = make_driver(influxdb_query_language=language)
    one = metric(A_POLICY)
    points = minutes(now() - 5 * HOUR * NS, 300)
    write(driver, {one: points}, indexer_driver)
    hour = now() - 3 * HOUR * NS
    name = driver.buckets.name(A_POLICY)
    for tags in (
        "",
        ",host=a",
        ",metric=mine",
        f",metric={str(one.id).upper()}",
    ):
        by_hand.write_lines(
            influxdb, name, f"{schema.MEASUREMENT}{tags} value=7 {hour}\n"
        )
        for target in driver.buckets.downsampled(A_POLICY):
            by_hand.write_lines(
                influxdb,
                target.name,
                f"{schema.MARKS}{tags} {schema.MARK}=7.0 {now()}\n",
            )
    assert passes.run(driver, A_POLICY)
    assert all(watermarks(driver))
    assert_each(driver, model, [one])


def test_foreign_mark(driver, influxdb, indexer_driver, run, logged):
    driver.buckets.ensure(A_POLICY)
    for target in driver.buckets.downsampled(A_POLICY):
        # The driver's come some minutes later, maybe into another shard.
        for later in 100, 400:
            by_hand.write_lines(
                influxdb,
                target.name,
                f"{schema.MARKS},metric={metric(A_POLICY).id}"
                f" {schema.MARK}=1i {now() + later * NS}\n",
            )
    late = {now() - 3 * HOUR * NS + 7: 1e4}
    one = metric(A_POLICY)
    for _ in range(2):
        write(driver, {one: late}, indexer_driver)
    assert by_hand.select(
        influxdb, driver.buckets.name(A_POLICY), "max(value)", one
    )
    told = [m for m in logged.warnings() if "can't be marked" in m]
    assert len(told) == 2  # one a bucket
    run(A_POLICY)


@pytest.mark.parametrize("language", ["auto", "influxql", "flux"])
def test_foreign_window(
    make_driver, model, metrics, influxdb, indexer_driver, language
):
    driver = make_driver(influxdb_query_language=language)
    driver.buckets.ensure(A_POLICY)
    target = driver.buckets.downsampled(A_POLICY)[0]
    at = now() - 2 * DAY * NS
    by_hand.write_lines(
        influxdb, target.name, f"{schema.AGGREGATES},metric=x mean=1i {at}\n"
    )
    with pytest.raises(exceptions.PartialWriteError):
        passes.run(driver, A_POLICY)
    before = driver.buckets.watermarks.read(target.name)
    with pytest.raises(exceptions.PartialWriteError):
        passes.run(driver, A_POLICY)
    assert driver.buckets.watermarks.read(target.name) == before
    assert_each(driver, model, metrics)


@pytest.mark.parametrize("language", ["auto", "influxql", "flux"])
def test_foreign_window_after_ours(
    make_driver, model, metrics, influxdb, indexer_driver, language
):
    """In an old shard, so that a read in Flux leaves out the later ones."""
    driver = make_driver(influxdb_query_language=language)
    passes.run(driver, A_POLICY)
    target = driver.buckets.downsampled(A_POLICY)[0]
    at = now() - 9 * DAY * NS
    by_hand.write_lines(
        influxdb,
        target.name,
        f"{schema.AGGREGATES},metric=x mean=1i {at}\n",
    )
    driver.buckets.watermarks.forget()
    assert_each(driver, model, metrics)


@pytest.mark.parametrize("kind", ["1.5", '"x"', "t"])
def test_foreign_watermark(driver, model, metrics, influxdb, kind):
    driver.buckets.ensure(A_POLICY)
    target = driver.buckets.downsampled(A_POLICY)[0]
    by_hand.write_lines(
        influxdb,
        target.name,
        f"{schema.WATERMARKS} until={kind} {now()}\n",
    )
    assert_each(driver, model, metrics)
    with pytest.raises(exceptions.PartialWriteError):
        passes.run(driver, A_POLICY)
    driver.buckets.watermarks.forget()
    assert_each(driver, model, metrics)


def test_marks_outlast_a_slow_server(make_driver, influxdb, indexer_driver):
    """They say until when the measures have come, however long they took."""
    timeout = 2.0
    until, left = [], []

    def before(request):
        if request.body.startswith(schema.MARKS.encode()):
            until.append(int(request.body.split()[-1]))
            time.sleep(0.8 * timeout)
        elif request.body.startswith(schema.MEASUREMENT.encode()):
            left.append(until[-1] / NS - time.time())
        return None

    a_policy = policy(
        (60, MINUTE), (60, 300), (60, HOUR), (30, 2 * HOUR), (20, DAY)
    )
    with proxy.Proxy(influxdb.url, before) as between:
        writer = make_driver(
            influxdb_url=between.url, influxdb_timeout=timeout
        )
        late = {now() - HOUR * NS: 1.0}
        write(writer, {metric(a_policy): late}, indexer_driver)
    # As long as the write may take; marks are of whole seconds.
    assert left[-1] >= delivery.LONGEST * timeout - 1


def test_present_measures_are_not_late(make_driver, influxdb, indexer_driver):
    """However long a read may take."""
    with proxy.Proxy(influxdb.url) as between:
        writer = make_driver(influxdb_url=between.url, influxdb_timeout=600)
        write(
            writer,
            {metric(A_POLICY): minutes(now() - 300 * NS, 5)},
            indexer_driver,
        )
    bodies = b"".join(request.body for request in between.requests)
    assert schema.MEASUREMENT.encode() in bodies
    assert b"\n" + schema.MARKS.encode() not in b"\n" + bodies


def test_nothing_is_larger_than_a_proxy_lets_through(
    make_driver, influxdb, indexer_driver
):
    """Points, marks of late ones, and windows."""
    refused = set()

    def limit(request):
        if (
            request.path.startswith(by_hand.WRITES)
            and len(request.body) > 2000
        ):
            refused.add(request.body.split(b",")[0].decode())
            return proxy.answer("413 Request Entity Too Large", proxy.PAGE)
        return None

    made = [metric(A_POLICY) for _ in range(25)]
    start = now() - 2 * DAY * NS
    with proxy.Proxy(influxdb.url, before=limit) as between:
        driver = make_driver(influxdb_url=between.url)
        write(
            driver,
            {m: minutes(start, 2000, i) for i, m in enumerate(made)},
            indexer_driver,
        )
        passes.run(driver, A_POLICY)
        late = {m: {start + 30 * NS: 100.0 + i} for i, m in enumerate(made)}
        write(driver, late, indexer_driver)
        model = make_driver(influxdb_downsampling=False)
        passes.assert_same(driver, model, made)
        passes.run(driver, A_POLICY)
        passes.assert_same(driver, model, made)
    assert refused == {schema.MEASUREMENT, schema.MARKS, schema.AGGREGATES}


@pytest.mark.parametrize("language", ["auto", "flux"])
def test_foreign_points(make_driver, influxdb, indexer_driver, language):
    """In a shard in the middle of those of late measures."""
    driver = make_driver(
        influxdb_query_language=language, influxdb_raw_slack=2 * DAY
    )
    model = make_driver(
        influxdb_downsampling=False, influxdb_query_language="influxql"
    )
    points = driver.buckets.ensure(A_POLICY)
    shard = driver.buckets.of(A_POLICY).shard_duration
    middle = (now() // NS - 12 * HOUR) // shard * shard * NS
    by_hand.write_lines(
        influxdb,
        points,
        f"{schema.MEASUREMENT},metric={metric(A_POLICY).id} value=1i"
        f" {middle}\n",
    )
    one = metric(A_POLICY)
    start, stop = middle - 3 * HOUR * NS, middle + (shard + 2 * HOUR) * NS
    step = 10 * MINUTE * NS
    for part in range(2):
        batch = {
            time + part: 1.0 + part * time % 97
            for time in range(start, min(stop, now()), step)
        }
        write(driver, {one: batch}, indexer_driver)
        passes.run(driver, A_POLICY)
    worker = driver.buckets.watermarks
    for target in driver.buckets.downsampled(A_POLICY):
        # What came late counts as computed.
        mark = worker.read(target.name)
        worker.write(target.name, mark._replace(began=now() + DAY * NS))
    reader = make_driver(influxdb_query_language="influxql")
    assert_each(reader, model, [one])
