"""Changes that interrupt each other, as signal handlers and finalizers do: none waits for itself, and none is lost."""

from __future__ import annotations

import datetime as dt
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pymongo import monitoring

from mongopatterns import PoolMonitor, SlowQueries
from mongopatterns.client._turns import Turns

SERVER = ("localhost", 27017)
TOOK = dt.timedelta(seconds=1)


def test_a_change_within_a_change_is_made_after_it() -> None:
    """What interrupts comes next, and is told that it did not come yet; a reader in between does not wait."""
    turns, done = Turns(), list[str]()

    def outer() -> None:
        done.append("outer begins")
        assert not turns.change(lambda: done.append("inner"))
        assert turns.read(lambda: list(done)) == ["outer begins"]
        done.append("outer ends")

    assert turns.change(outer)
    assert done == ["outer begins", "outer ends", "inner"]


def test_a_change_within_a_reader_is_made_after_it() -> None:
    """What is read does not change meanwhile."""
    turns, done = Turns(), list[int]()

    def read() -> int:
        turns.change(lambda: done.append(1))
        return len(done)

    assert turns.read(read) == 0
    assert done == [1]


def test_a_change_that_fails_stops_no_other() -> None:
    """The error is the caller's; the next change is made."""
    turns, done = Turns(), list[int]()
    with pytest.raises(ZeroDivisionError):
        turns.change(lambda: 1 / 0)
    assert turns.change(lambda: done.append(1))
    assert done == [1]


@contextmanager
def interrupted(handler: Callable[[], None]) -> Iterator[None]:
    """Call something between any two steps of this thread."""

    def handle(*_: object) -> None:
        handler()
        signal.setitimer(signal.ITIMER_REAL, 0.0003)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0003)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers of that kind on Windows")


def test_connections_are_counted_by_a_signal_handler_too() -> None:
    """A handler that asks for the numbers and takes connections, anywhere in the same thread: all are counted."""
    assert threading.current_thread() is threading.main_thread()
    monitor, taken = PoolMonitor(), [0]

    def take() -> None:
        taken[0] += 1
        server = ("other", taken[0] % 500)
        monitor.connection_checked_out(monitoring.ConnectionCheckedOutEvent(server, taken[0], 0.001))
        monitor.connection_checked_in(monitoring.ConnectionCheckedInEvent(server, taken[0]))
        monitor.snapshot()

    with interrupted(take):
        for number in range(5_000):
            monitor.connection_checked_out(monitoring.ConnectionCheckedOutEvent(SERVER, number, 0.001))
            monitor.connection_checked_in(monitoring.ConnectionCheckedInEvent(SERVER, number))
            if number % 50 == 0:
                monitor.snapshot()
    told = monitor.snapshot()
    assert taken[0]
    assert sum(server.checked_out for server in told.servers) == 5_000 + taken[0]
    assert told.in_use == 0


def test_slow_commands_are_counted_by_a_signal_handler_too() -> None:
    """A handler whose own commands are slow, anywhere in the same thread: all are counted."""
    queries, sent = SlowQueries(threshold=0, keep=5), [0]

    def run(collection: str, number: int) -> None:
        command: dict[str, Any] = {"find": collection, "filter": {"a": 1}}
        queries.started(monitoring.CommandStartedEvent(command, "app", number, SERVER, number))
        about: Any = (TOOK, {"ok": 1}, "find", number, SERVER, number)
        queries.succeeded(monitoring.CommandSucceededEvent(*about, database_name="app"))

    def handle() -> None:
        sent[0] += 1
        run(f"other{sent[0] % 20}", 1_000_000 + sent[0])
        queries.snapshot()

    with interrupted(handle):
        for number in range(3_000):
            run(f"users{number % 10}", number)
            if number % 50 == 0:
                queries.snapshot()
    told = queries.snapshot()
    assert sent[0]
    assert sum(shape.count for shape in told.shapes) + told.others == 3_000 + sent[0]
    assert not queries._watching.running
