"""Connections that are counted: against a plain model, at thresholds, and whatever is not reported."""

from __future__ import annotations

import json
import logging
import os
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo import monitoring

from mongopatterns import PoolAlert, PoolMonitor, SlowQueries, UsageError
from mongopatterns.client._pool_counts import PoolCounts

A, B = ("a", 27017), ("/tmp/mongodb.sock", None)


def pool(budget: Any = 10, thresholds: Any = (0.6, 0.8)) -> PoolCounts:
    counts = PoolCounts(budget, thresholds)
    counts.made(A, {})
    return counts


def take(counts: PoolCounts, *numbers: int) -> list[PoolAlert]:
    return [alert for number in numbers if (alert := counts.taken(A, number, 0.002))]


STEPS = st.lists(
    st.tuples(st.sampled_from(["opened", "shut", "taken", "returned"]), st.sampled_from([A, B]), st.integers(1, 4)),
    max_size=60,
)


@given(STEPS)
def test_the_numbers_are_those_of_a_plain_model(steps: list[tuple[str, Any, int]]) -> None:
    """Whatever is reported, in whatever order, what is open and in use is what was opened and taken and not ended."""
    counts = PoolCounts(None, ())
    opened: dict[Any, set[int]] = {A: set(), B: set()}
    taken: dict[Any, set[int]] = {A: set(), B: set()}
    created = closed = 0
    for step, address, number in steps:
        if step == "opened":
            counts.opened(address, number)
            opened[address].add(number)
            created += 1
        elif step == "shut":
            counts.shut(address, number, "idle")
            opened[address].discard(number)
            taken[address].discard(number)
            closed += 1
        elif step == "taken":
            counts.taken(address, number, 0.0)
            taken[address].add(number)
        else:
            counts.returned(address, number)
            taken[address].discard(number)
    told = counts.snapshot()
    assert told.open == len(opened[A]) + len(opened[B])
    assert told.in_use == len(taken[A]) + len(taken[B])
    assert sum(server.created for server in told.servers) == created
    assert sum(sum(server.closed.values()) for server in told.servers) == closed
    assert all(server.most_in_use >= server.in_use for server in told.servers)


def test_a_threshold_is_told_once_and_again_after_the_pool_sank() -> None:
    """Upwards only; a swing around it is silence; a tenth of the budget below it, it is armed again."""
    counts = pool()
    assert take(counts, 1, 2, 3, 4, 5) == []
    assert take(counts, 6) == [PoolAlert("a:27017", 0.6, 6, 10)]
    assert take(counts, 7) == []
    assert [alert.threshold for alert in take(counts, 8, 9, 10)] == [0.8]
    for number in (10, 9, 8):
        counts.returned(A, number)
    assert [alert.threshold for alert in take(counts, 8)] == [0.8]
    counts.returned(A, 8)
    for _ in range(5):
        counts.returned(A, 7)
        counts.taken(A, 7, 0.0)
    for number in (7, 6, 5, 4):
        counts.returned(A, number)
    assert [alert.threshold for alert in take(counts, 4, 5, 6)] == [0.6]


def test_of_several_thresholds_that_are_reached_at_once_the_highest_is_told() -> None:
    """In a pool of two, the second connection reaches both."""
    counts = pool(2)
    assert take(counts, 1) == []
    assert take(counts, 2) == [PoolAlert("a:27017", 0.8, 2, 2)]


def test_a_pool_of_one_has_nothing_to_tell() -> None:
    """It is full whenever it is used."""
    assert take(pool(1), 1) == []


@given(st.integers(2, 500), st.sampled_from([0.1, 0.3, 0.6, 0.7, 0.8, 1.0]))
def test_a_threshold_is_reached_at_its_part_of_the_limit(limit: int, part: float) -> None:
    """No rounding error moves it: 7 of 100 is 7 %."""
    counts = pool(limit, (part,))
    (alert,) = take(counts, *range(limit))
    tenths = round(part * 10)
    assert alert.in_use == max(1, -(-limit * tenths // 10))


@pytest.mark.parametrize(
    ("options", "limit"),
    [({}, 100), ({"maxPoolSize": 7}, 7), ({"maxPoolSize": 0}, None), ({"maxPoolSize": None}, None)],
)
def test_without_a_budget_the_pool_says_how_large_it_may_be(options: dict[str, Any], limit: int | None) -> None:
    """The driver reports its size unless it is the default; a pool without bounds has no thresholds."""
    counts = PoolCounts(None, (0.6,))
    counts.made(A, options)
    assert counts.snapshot().servers[0].limit == limit
    alerts = take(counts, *range(100))
    assert [alert.limit for alert in alerts] == ([] if limit is None else [limit])


def test_a_plan_is_a_budget() -> None:
    """What has a `max_pool_size` says how many there may be."""

    class Plan:
        max_pool_size = 5

    counts = PoolCounts(Plan(), (1.0,))
    counts.made(A, {"maxPoolSize": 50})
    assert [alert.in_use for alert in take(counts, 1, 2, 3, 4, 5)] == [5]


def test_waits_and_failures_are_counted_by_bound_and_reason() -> None:
    """A wait belongs to the smallest bound that it does not exceed, the longest of all to infinity."""
    counts = pool()
    for seconds in (0.001, 0.0011, 30.0):
        counts.taken(A, 1, seconds)
    counts.refused(A, "timeout")
    counts.refused(A, "timeout")
    counts.emptied(A)
    (server,) = counts.snapshot().servers
    assert {bound: count for bound, count in server.waits.items() if count} == {0.001: 1, 0.0025: 1, float("inf"): 1}
    assert server.wait_seconds == pytest.approx(30.0021)
    assert (server.failed, server.cleared, server.checked_out) == ({"timeout": 2}, 1, 3)


def test_a_snapshot_is_json_and_does_not_change() -> None:
    """It is the numbers of one moment, and `json.dumps` takes it."""
    counts = pool()
    counts.opened(B, 1)
    before = counts.snapshot()
    counts.opened(B, 2)
    assert [server.server for server in before.servers] == ["/tmp/mongodb.sock", "a:27017"]
    assert before.open == 1
    alert = PoolAlert("a:27017", 0.6, 6, 10)
    assert json.loads(json.dumps(alert.to_dict())) == {"server": "a:27017", "threshold": 0.6, "in_use": 6, "limit": 10}
    told = json.loads(json.dumps(before.to_dict()))
    assert told["servers"][0]["open"] == 1
    assert told["servers"][0]["waits"]["inf"] == 0


@pytest.mark.parametrize("bad", [0, -1, True, 1.5, "100", object()])
def test_a_budget_that_cannot_work_is_refused(bad: Any) -> None:
    """When the monitor is made, and not when the first connection is."""
    with pytest.raises(UsageError, match="budget"):
        PoolMonitor(budget=bad)


@pytest.mark.parametrize("bad", [0.6, (0,), (1.1,), (True,), ("0.6",), (float("nan"),)])
def test_thresholds_that_cannot_work_are_refused(bad: Any) -> None:
    """60 is meant as 0.6, and is said so."""
    with pytest.raises(UsageError, match="thresholds"):
        PoolMonitor(thresholds=bad)


def test_a_callback_that_raises_is_logged_and_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    """The driver's call is not broken, and what went wrong is not lost."""

    def broken(alert: PoolAlert) -> None:
        raise ZeroDivisionError(str(alert))

    monitor = PoolMonitor(budget=2, on_threshold=broken)
    with caplog.at_level(logging.ERROR, "mongopatterns.client"):
        for number in (1, 2):
            monitor.connection_checked_out(monitoring.ConnectionCheckedOutEvent(A, number, 0.1))
    assert [(record.name, record.exc_info is not None) for record in caplog.records] == [("mongopatterns.client", True)]
    assert "2 of 2 connections to a:27017" in caplog.text
    assert monitor.snapshot().in_use == 2


def test_a_callback_may_ask_the_monitor() -> None:
    """It is called without the lock."""
    seen: list[int] = []
    monitor = PoolMonitor(budget=2, on_threshold=lambda _: seen.append(monitor.snapshot().in_use))
    for number in (1, 2):
        monitor.connection_checked_out(monitoring.ConnectionCheckedOutEvent(A, number, None))
    assert seen == [2]


def test_a_forked_child_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connections are not its parent's, and a lock that another thread held at the fork is not waited for."""
    monitor, queries = PoolMonitor(), SlowQueries(threshold=0)
    monitor.connection_checked_out(monitoring.ConnectionCheckedOutEvent(A, 1, 0.1))
    for lock in (monitor._counting.turns._lock, queries._watching.lock, queries._watching.turns._lock):
        thread = threading.Thread(target=lock.acquire)
        thread.start()
        thread.join()
    monkeypatch.setattr(os, "getpid", lambda: 0)
    assert monitor.snapshot().servers == ()
    monitor.connection_checked_out(monitoring.ConnectionCheckedOutEvent(A, 1, 0.1))
    assert monitor.snapshot().in_use == 1
    assert queries.snapshot().shapes == ()
