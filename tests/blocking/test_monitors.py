# Generated from tests/aio/test_monitors.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""Monitors on a real client: connections that are counted, and commands that are slow."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo.errors import OperationFailure, PyMongoError, WaitQueueTimeoutError

from mongopatterns import Counter, CounterSpec, PoolAlert, PoolMonitor, SlowCommand, SlowQueries
from mongopatterns._driver_sync import pause, settle, together
from mongopatterns.testing import EmbeddedMongo, race_threads

HITS = CounterSpec("counters", path="n")
SECRET = "hunter2"

# PyMongo's asynchronous monitor leaves a socket to the collector when it is closed while it tries to connect.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


def blocking(milliseconds: int, **more: Any) -> dict[str, Any]:
    return {"failCommands": ["find"], "blockConnection": True, "blockTimeMS": milliseconds, **more}


# Connections -------------------------------------------------------------------------------------------------


def test_connections_in_use_are_counted_and_a_threshold_is_told(
    connect: Any, mongopatterns_server: Any, mongopatterns_db_name: str
) -> None:
    """Four of five at once: that is 80 % of the pool, told once on the way up; afterwards all are free."""
    alerts: list[PoolAlert] = []
    monitor = PoolMonitor(on_threshold=alerts.append)
    own = connect(mongopatterns_server.uri, maxPoolSize=5, event_listeners=[monitor])
    things = own[mongopatterns_db_name].things
    own.admin.command("ping")

    def find() -> Any:
        return things.find_one({})

    def look() -> Any:
        pause(0.5)
        return monitor.snapshot()

    with mongopatterns_server.fail_point("failCommand", data=blocking(1000)):
        during = together([find, find, find, find, look])[-1]
    after = monitor.snapshot()
    (server,) = during.servers
    assert (server.limit, server.in_use, server.most_in_use, server.open) == (5, 4, 4, 4)
    assert server.server in mongopatterns_server.uri
    assert [(alert.threshold, alert.in_use, alert.limit) for alert in alerts] == [(0.6, 3, 5), (0.8, 4, 5)]
    assert (after.in_use, after.open) == (0, 4)
    assert json.dumps(after.to_dict())
    settle(own.close())
    closed = monitor.snapshot()
    assert closed.open == 0
    assert closed.servers[0].closed == {"poolClosed": 4}


def test_a_budget_below_the_pool_is_what_thresholds_are_parts_of(connect: Any, mongopatterns_server: Any) -> None:
    """A client that may open a hundred is told of the second connection, if two are its share."""

    class Plan:
        max_pool_size = 2

    alerts: list[PoolAlert] = []
    monitor = PoolMonitor(budget=Plan(), thresholds=(1.0,), on_threshold=alerts.append)
    own = connect(mongopatterns_server.uri, event_listeners=[monitor])

    def find() -> Any:
        return own.app.things.find_one({})

    with mongopatterns_server.fail_point("failCommand", data=blocking(800)):
        together([find, find])
    assert [(alert.in_use, alert.limit) for alert in alerts] == [(2, 2)]


def test_a_caller_who_gets_no_connection_is_counted(
    connect: Any, mongopatterns_server: Any, mongopatterns_db_name: str
) -> None:
    """The pool is full and the wait is over: a failure with its reason, and no connection in use for it."""
    monitor = PoolMonitor()
    own = connect(mongopatterns_server.uri, maxPoolSize=1, waitQueueTimeoutMS=100, event_listeners=[monitor])
    things = own[mongopatterns_db_name].things
    own.admin.command("ping")

    def find() -> Any:
        return things.find_one({})

    def too_late() -> Any:
        pause(0.2)
        with pytest.raises(WaitQueueTimeoutError):
            own.admin.command("ping")  # which the driver does not repeat
        return monitor.snapshot().in_use

    with mongopatterns_server.fail_point("failCommand", data=blocking(800)):
        _, in_use = together([find, too_late])
    (server,) = monitor.snapshot().servers
    assert in_use == 1
    assert server.failed == {"timeout": 1}
    assert (server.in_use, server.open) == (0, 1)


def test_connections_that_break_are_counted_by_their_reason(connect: Any) -> None:
    """The server is killed: what was open is closed, and the pool cleared."""
    monitor = PoolMonitor()
    with EmbeddedMongo(members=0) as server:
        own = connect(server.uri, event_listeners=[monitor], serverSelectionTimeoutMS=300)
        own.admin.command("ping")
        assert monitor.snapshot().open == 1
        server.kill(0)
        for _ in range(2):
            with pytest.raises(PyMongoError):
                own.admin.command("ping")
    (told,) = monitor.snapshot().servers
    assert (told.in_use, told.open) == (0, 0)
    assert told.created == sum(told.closed.values())
    assert told.closed.keys() <= {"error", "stale", "poolClosed"}
    assert told.cleared >= 1


def test_many_callers_leave_nothing_in_use(connect: Any, mongopatterns_server: Any, mongopatterns_db_name: str) -> None:
    """Whatever tasks or threads do at once, each checkout is in the histogram, and every connection comes back."""
    monitor = PoolMonitor()
    own = connect(mongopatterns_server.uri, maxPoolSize=8, event_listeners=[monitor])
    things = own[mongopatterns_db_name].things

    def find(number: int) -> Any:
        return things.find_one({"_id": number})

    race_threads(find, times=300, concurrency=30).raise_errors()
    (server,) = monitor.snapshot().servers
    assert server.in_use == 0
    assert server.checked_out == sum(server.waits.values()) >= 300
    assert 1 <= server.most_in_use <= 8
    assert server.open == server.created - sum(server.closed.values())


# Commands ----------------------------------------------------------------------------------------------------


def test_a_slow_command_is_found_by_its_shape_and_without_its_values(
    connect: Any, mongopatterns_server: Any, mongopatterns_db_name: str
) -> None:
    """The quick one is not told, the slow ones are one shape, and what they looked for is nowhere."""
    told: list[SlowCommand] = []
    slow = SlowQueries(threshold=0.5, on_slow=told.append)
    own = connect(mongopatterns_server.uri, event_listeners=[slow])
    users = own[mongopatterns_db_name].users
    users.insert_one({"password": SECRET})
    with mongopatterns_server.fail_point("failCommand", mode={"times": 2}, data=blocking(600)):
        assert users.find_one({"password": SECRET}, comment="login")
        assert users.find_one({"password": "wrong"}, comment="login") is None
    assert users.find_one({"password": SECRET})
    (shape,) = slow.snapshot().shapes
    assert shape.shape == f"find {mongopatterns_db_name}.users filter={{password: ?}}"
    assert (shape.count, shape.failed, shape.collection, shape.comment) == (2, 0, "users", "login")
    assert shape.worst >= 0.6
    assert len(told) == 2
    assert SECRET not in repr([told, slow.snapshot(), vars(slow), vars(slow._watching)])


def test_a_slow_command_that_fails_is_counted(
    connect: Any, mongopatterns_server: Any, mongopatterns_db_name: str
) -> None:
    """One that ran out of time is the slowest of all, and its error is not kept."""
    slow = SlowQueries(threshold=0.1)
    own = connect(mongopatterns_server.uri, event_listeners=[slow])
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=blocking(150, errorCode=50)),
        pytest.raises(OperationFailure),
    ):
        own[mongopatterns_db_name].users.find_one({"password": SECRET})
    (shape,) = slow.snapshot().shapes
    assert (shape.command, shape.count, shape.failed) == ("find", 1, 1)
    assert SECRET not in repr(slow.snapshot())


def test_a_change_stream_that_waits_is_not_slow(
    connect: Any, mongopatterns_server: Any, mongopatterns_db_name: str
) -> None:
    """It waits 300 ms for something to happen, and that is no query to be mended."""
    slow = SlowQueries(threshold=0.2)
    own = connect(mongopatterns_server.uri, event_listeners=[slow])
    stream = settle(own[mongopatterns_db_name].events.watch(max_await_time_ms=300))
    for _ in range(2):
        assert stream.try_next() is None
    stream.close()
    assert "getMore" not in {shape.command for shape in slow.snapshot().shapes}


def test_a_callback_that_raises_does_not_break_the_call(
    connect: Any, mongopatterns_server: Any, mongopatterns_db_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The command and the connection are there all the same, and what the callbacks raised is in the log."""

    def broken(_: Any) -> None:
        raise ZeroDivisionError

    listeners = [
        SlowQueries(threshold=0, on_slow=broken),
        PoolMonitor(budget=2, thresholds=(0.1,), on_threshold=broken),
    ]
    own = connect(mongopatterns_server.uri, event_listeners=listeners)
    assert own[mongopatterns_db_name].users.find_one({}) is None
    assert {
        record.getMessage().split(":")[0] for record in caplog.records if record.name == "mongopatterns.client"
    } == {
        "on_slow failed",
        "on_threshold failed",
    }


def test_the_commands_of_a_primitive_say_which_it_is(
    connect: Any, mongopatterns_server: Any, mongopatterns_db_name: str
) -> None:
    """Its comment is with the shape."""
    slow = SlowQueries(threshold=0)
    own = connect(mongopatterns_server.uri, event_listeners=[slow])
    Counter(own[mongopatterns_db_name], HITS).add("home")
    (shape,) = slow.snapshot().shapes
    assert shape.comment == "mongopatterns.counter.add"
