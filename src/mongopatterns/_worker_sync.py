"""Work in the background, synchronous side: takes items into a queue, and sends them in batches.

The queue decides what is sent together, and when (see `buffer/_queue.py`); here is what needs a clock and somebody who
waits. A batch is sent when the queue says that it is full, when an item has waited for the longest time, or when
somebody wants everything sent. As many threads as batches may be under way look for batches and send them.

What is not obvious:

* One lock guards the queue, and is never held while something is sent. Threads, those who flush, and those who wait for
  room have conditions and locks of their own, so that nobody is woken for nothing.
* A forked child has none of the threads. What waits belongs to the parent, which sends it: the child starts with an
  empty queue, and threads of its own.
* The threads are daemons, which end with the process: so when the interpreter ends in order, what is left is sent first
  (`atexit`), as far as that takes no longer than `AT_EXIT` seconds.
* Those who wait for room get it in the order in which they came: who comes later does not pass them.

The hand-written sibling is `_worker_async.py`; both offer the same names.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from threading import Condition, Lock, Thread
from time import monotonic
from typing import Any, Final, Generic, TypeVar
from weakref import WeakMethod, WeakSet

from mongopatterns._grouping import closed
from mongopatterns._working import Work
from mongopatterns.errors import NotSent

__all__ = ["AT_EXIT", "Worker"]

ItemT = TypeVar("ItemT")
BatchT = TypeVar("BatchT")

AT_EXIT: Final = 30.0
"""Seconds for which the end of the interpreter waits for what was not sent yet."""

_TURN: Final = 200
"""After how many items those who send have their turn, if anything is under way: it costs as much as ten items."""


class _Waiter(Generic[ItemT]):
    """One that waits for room.

    Attributes:
        item: For what.
        lock: Free when there is room, or will never be.
        admitted: Whether room is kept.
    """

    __slots__ = ("admitted", "item", "lock")

    def __init__(self, item: ItemT) -> None:
        self.item = item
        self.lock = Lock()
        self.lock.acquire()
        self.admitted = False


class Worker(Generic[ItemT, BatchT]):
    """Send what is put in.

    Args:
        queue: What waits.
        send: Sends a batch: `send(batch)`. It has an answer for everything in it, and raises nothing.
        name: What it is, for the message to those that come after `close`.
        in_flight: How many batches are under way at most.
        max_delay: Seconds that an item waits for company at most.
    """

    def __init__(
        self,
        queue: Work[ItemT, BatchT],
        send: Callable[[BatchT], None],
        *,
        name: str,
        in_flight: int,
        max_delay: float,
    ) -> None:
        self._queue = queue
        self._send = send
        self._name = name
        self._in_flight = in_flight
        self._max_delay = max_delay
        self._closed = False
        self._close: Callable[[], Callable[[float | None], Any] | None] = lambda: None
        self._begin()
        _everywhere.add(self)

    def _begin(self) -> None:
        """Start with locks that nobody holds, and no threads."""
        self._lock = Lock()
        self._work = Condition(self._lock)  # for threads: there may be a batch
        self._over = Condition(self._lock)  # for those who flush: a batch is over
        self._threads: list[Thread] = []
        self._waiters: dict[_Waiter[ItemT], None] = {}  # for room, in the order in which they came
        self._until: float | None = None  # when what waits has waited for long enough
        self._idle = 0
        self._since_turn = 0

    def check(self) -> None:
        """Refuse a call that comes too late.

        Raises:
            UsageError: If it does.
        """
        if self._closed:
            raise closed(self._name)

    def ends_with(self, close: Callable[[float | None], None]) -> None:
        """Say what closes it when the interpreter ends."""
        self._close = WeakMethod(close)

    def reserve(self, item: ItemT) -> bool:
        """Keep room for an item, if there is any and nobody waits for it."""
        with self._lock:
            self.check()
            return not self._waiters and self._queue.reserve(item)

    def wait_for_room(self, item: ItemT) -> None:
        """Keep room for an item as soon as there is any, behind those who wait already.

        Raises:
            UsageError: If it is closed meanwhile.
        """
        waiter = _Waiter(item)
        with self._lock:
            self.check()
            self._waiters[waiter] = None
            self._hurry()  # (nobody waits for company while others wait for room)
            self._invite()
        try:
            waiter.lock.acquire()
        except BaseException:
            with self._lock:
                self._waiters.pop(waiter, None)
                if waiter.admitted:
                    self._queue.release(item)
                    self._invite()
            raise
        if not waiter.admitted:
            raise closed(self._name)

    def make_room(self, item: ItemT) -> tuple[bool, list[ItemT]]:
        """Keep room for an item, if those that wait have any; return the oldest ones, which were taken out for it."""
        gone: list[ItemT] = []
        with self._lock:
            self.check()
            while not (has_room := self._queue.reserve(item)) and (oldest := self._queue.take_oldest()) is not None:
                gone.append(oldest)
            self._over.notify_all()
        return has_room, gone

    def release(self, item: ItemT) -> None:
        """Give the room of an item back that is not put in after all."""
        with self._lock:
            self._queue.release(item)
            self._invite()
            self._over.notify_all()

    def put(self, item: ItemT) -> bool:
        """Take an item, if there is room for it and nobody waits; `reserve` tells those why who come too late."""
        with self._lock:
            if self._closed or self._waiters or not self._queue.put(item):
                return False
            self._added()
            return True

    def is_greedy(self) -> bool:
        """Tell whether it is time that those who send have their turn, which the interpreter gives them late."""
        self._since_turn += 1
        if self._since_turn < _TURN or self._idle == len(self._threads):
            return False
        self._since_turn = 0
        return True

    def add(self, item: ItemT) -> None:
        """Take an item for which room was kept."""
        with self._lock:
            self._queue.add(item)
            self._added()

    def _added(self) -> None:
        if self._until is None:
            self._until = monotonic() + self._max_delay
            self._work.notify()
        elif self._idle and self._queue.is_due:
            self._work.notify()
        if len(self._threads) < self._in_flight:
            self._start()

    def flush(self, timeout: float | None) -> None:
        """Send everything that was put in, and wait until it is known what came of it.

        Raises:
            NotSent: If the time runs out; it is sent all the same.
        """
        until = None if timeout is None else monotonic() + timeout
        with self._lock:
            mark = self._queue.mark()
            self._hurry()
            while mark.left:
                left = None if until is None else until - monotonic()
                if left is not None and left <= 0:
                    raise NotSent("the time ran out before everything was sent; what is left is sent later")
                self._over.wait(left)

    def close(self, timeout: float | None) -> list[ItemT]:
        """Take nothing more, and send what was put in.

        Returns:
            What was not sent when the time ran out.
        """
        with self._lock:
            self._closed = True
            for waiter in self._waiters:
                waiter.lock.release()
            self._waiters.clear()
        given_up: list[ItemT] = []
        try:
            self.flush(timeout)
        except NotSent:
            with self._lock:
                while (item := self._queue.take_oldest()) is not None:
                    given_up.append(item)
        with self._lock:
            self._work.notify_all()
            self._over.notify_all()
        return given_up

    # Inside ......................................................................................................

    def _hurry(self) -> None:
        self._queue.hurry()
        self._until = None
        self._work.notify_all()

    def _start(self) -> None:
        """Start one more thread."""
        thread = Thread(target=self._run, name=f"mongopatterns-{self._name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        """Send batch after batch."""
        while (batch := self._next()) is not None:
            try:
                with suppress(SystemExit):  # (of a hook: it ends no thread that others wait for)
                    Context().run(self._send, batch)
            finally:
                with self._lock:
                    self._queue.over(batch)
                    self._invite()
                    self._work.notify()
                    self._over.notify_all()

    def _next(self) -> BatchT | None:
        """Wait for a batch; None if there will be none."""
        with self._lock:
            while True:
                now = monotonic()
                if self._until is not None and now >= self._until:
                    self._queue.hurry()
                    self._until = None
                    self._work.notify()
                if (batch := self._queue.cut()) is not None:
                    return batch
                if self._closed and not self._queue.items:
                    self._work.notify_all()  # (all threads end)
                    return None
                self._idle += 1
                self._work.wait(None if self._until is None else self._until - now)
                self._idle -= 1

    def _invite(self) -> None:
        """Let those in who wait for room, as far as there is any."""
        for waiter in list(self._waiters):
            if not self._queue.reserve(waiter.item):
                return
            del self._waiters[waiter]
            waiter.admitted = True
            waiter.lock.release()

    def _forget(self) -> None:
        """Be new in a forked child."""
        self._begin()
        self._queue.forget()


_everywhere: Final[WeakSet[Worker[Any, Any]]] = WeakSet()


def _after_fork() -> None:
    for worker in list(_everywhere):
        worker._forget()  # noqa: SLF001  # of this module


def _at_exit() -> None:
    for worker in list(_everywhere):
        (worker._close() or worker.close)(AT_EXIT)  # noqa: SLF001  # of this module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
