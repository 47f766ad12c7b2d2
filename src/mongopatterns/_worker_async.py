"""Work in the background, asynchronous side: takes items into a queue, and sends them in batches.

The queue decides what is sent together, and when (see `buffer/_queue.py`); here is what needs a clock and somebody who
waits. A batch is sent when the queue says that it is full, when an item has waited for the longest time, or when
somebody wants everything sent; so many batches at most are under way.

What is not obvious:

* Nothing runs while nothing is to be done: a batch is a task of its own, and there is one timer, while something waits
  for company.
* Batches are sent in an empty context, because `pymongo.timeout()` lives in the context: the deadline of whoever filled
  the batch is not that of the others.
* Those who wait for room get it in the order in which they came: who comes later does not pass them.

The hand-written sibling is `_worker_sync.py`; both offer the same names.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Future, Task, TimerHandle, get_running_loop
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Final, Generic, TypeVar

from mongopatterns._grouping import closed
from mongopatterns._working import Mark, Work
from mongopatterns.errors import NotSent, UsageError

__all__ = ["Worker"]

_TURN: Final = 50
"""After how many items the event loop has its turn: for what is under way, and for the timer."""

ItemT = TypeVar("ItemT")
BatchT = TypeVar("BatchT")


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
        send: Callable[[BatchT], Awaitable[None]],
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
        self._loop: AbstractEventLoop | None = None
        self._tasks: set[Task[None]] = set()
        self._timer: TimerHandle | None = None
        self._waiters: dict[Future[None], ItemT] = {}  # for room, in the order in which they came
        self._flushers: dict[Future[None], Mark] = {}
        self._closed = False
        self._since_turn = 0

    def check(self) -> None:
        """Refuse a call that comes too late, or from another event loop.

        Raises:
            UsageError: If it does.
        """
        if self._closed:
            raise closed(self._name)
        loop = get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and self._queue.there:
                raise UsageError(self._name, "belongs to another event loop, in which items still wait: flush it there")
            self._loop = loop

    def ends_with(self, close: Callable[[float | None], Awaitable[None]]) -> None:
        """Say what closes it when the interpreter ends: by then an event loop is over, and nothing can be done."""

    def reserve(self, item: ItemT) -> bool:
        """Keep room for an item, if there is any and nobody waits for it."""
        self.check()
        return not self._waiters and self._queue.reserve(item)

    async def wait_for_room(self, item: ItemT) -> None:
        """Keep room for an item as soon as there is any, behind those who wait already.

        Raises:
            UsageError: If it is closed meanwhile.
        """
        waiter: Future[None] = get_running_loop().create_future()
        self._waiters[waiter] = item
        self._hurry()  # (nobody waits for company while others wait for room)
        self._invite()
        try:
            await waiter
        except BaseException:
            if self._waiters.pop(waiter, None) is None and not waiter.exception():
                self.release(item)  # (it was let in, and has left since)
            raise

    def make_room(self, item: ItemT) -> tuple[bool, list[ItemT]]:
        """Keep room for an item, if those that wait have any; return the oldest ones, which were taken out for it."""
        self.check()
        gone: list[ItemT] = []
        while not (has_room := self._queue.reserve(item)) and (oldest := self._queue.take_oldest()) is not None:
            gone.append(oldest)
        self._tell_flushers()
        return has_room, gone

    def release(self, item: ItemT) -> None:
        """Give the room of an item back that is not put in after all."""
        self._queue.release(item)
        self._invite()
        self._tell_flushers()

    def put(self, item: ItemT) -> bool:
        """Take an item, if there is room for it and nobody waits."""
        self.check()
        queue = self._queue
        if self._waiters or not queue.put(item):
            return False
        if queue.is_due or self._timer is None:
            self._added()
        return True

    def is_greedy(self) -> bool:
        """Tell whether it is time that those who send have their turn: who only puts in never gives way by itself."""
        self._since_turn += 1
        if self._since_turn < _TURN:
            return False
        self._since_turn = 0
        return True

    def add(self, item: ItemT) -> None:
        """Take an item for which room was kept."""
        self._queue.add(item)
        self._added()

    def _added(self) -> None:
        if self._queue.is_due:
            self._start()
        if self._timer is None:
            self._arm()

    async def flush(self, timeout: float | None) -> None:
        """Send everything that was put in, and wait until it is known what came of it.

        Raises:
            NotSent: If the time runs out; it is sent all the same.
        """
        mark = self._queue.mark()
        if not mark.left:
            return
        self._hurry()
        done: Future[None] = get_running_loop().create_future()
        self._flushers[done] = mark
        try:
            await asyncio.wait_for(done, timeout)
        except asyncio.TimeoutError:
            raise NotSent("the time ran out before everything was sent; what is left is sent later") from None
        finally:
            self._flushers.pop(done, None)

    async def close(self, timeout: float | None) -> list[ItemT]:
        """Take nothing more, and send what was put in.

        Returns:
            What was not sent when the time ran out.
        """
        self._closed = True
        for waiter in list(self._waiters):
            if not waiter.done():
                waiter.set_exception(closed(self._name))
        self._waiters.clear()
        given_up: list[ItemT] = []
        try:
            await self.flush(timeout)
        except NotSent:
            while (item := self._queue.take_oldest()) is not None:
                given_up.append(item)
            await asyncio.sleep(0)  # (a task that has not begun would be over without a word)
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return given_up

    # Inside ......................................................................................................

    def _arm(self) -> None:
        """See to it that what waits for company does not wait too long."""
        if self._timer is None and self._queue.is_patient and self._loop is not None:
            self._timer = self._loop.call_later(self._max_delay, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._hurry()

    def _hurry(self) -> None:
        self._queue.hurry()
        self._start()

    def _start(self) -> None:
        """Send batches, as many as may be under way."""
        while len(self._tasks) < self._in_flight and (batch := self._queue.cut()) is not None:
            # `create_task(context=...)` is not there in Python 3.10.
            task = Context().run(get_running_loop().create_task, self._fly(batch))
            self._tasks.add(task)
            task.add_done_callback(self._landed)

    async def _fly(self, batch: BatchT) -> None:
        try:
            await self._send(batch)
        finally:
            self._queue.over(batch)

    def _landed(self, task: Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # (`send` has told everybody)
        self._start()
        self._arm()
        self._invite()
        self._tell_flushers()

    def _invite(self) -> None:
        """Let those in who wait for room, as far as there is any."""
        for waiter, item in list(self._waiters.items()):
            if not waiter.done():
                if not self._queue.reserve(item):
                    return
                waiter.set_result(None)
            del self._waiters[waiter]

    def _tell_flushers(self) -> None:
        for done, mark in list(self._flushers.items()):
            if not mark.left and not done.done():
                done.set_result(None)
