"""Group commit, asynchronous side: callers that come while a request is in flight share the next one.

Callers are told apart by *lane*, which is the key that they act on. The first one on an idle lane sends its call
by itself, at once. Those that come before its answer wait in a queue; when it is over, a task of ours (the
*runner*) sends them together, and goes on until nobody waits. So there is one request in flight per lane, and a
group is as large as the server is slow.

What is not obvious:

* A queue is a dict from a caller's future to its call. It keeps the order, a caller that gives up leaves it at
  once, and "was it sent?" is "is it gone from the queue?": there is nothing else to keep per call.
* Groups are sent by the runner and not by one of the callers: the cancellation of a caller would be that of all.
* The runner starts in an empty context, because `pymongo.timeout()` lives in the context: the deadline of the
  caller that happened to start it is not that of the others.
* Having answered a group, the runner lets the event loop turn before it sends the next one. The callers that were
  just answered and call again are then in it; otherwise groups would alternate between one call and all others.

The hand-written sibling is `_group_sync.py`; both offer the same names.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Future, Task, get_running_loop
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from contextvars import Context
from itertools import filterfalse, islice
from math import inf
from operator import methodcaller
from typing import Any, Final, Generic, TypeAlias, TypeVar

from mongopatterns._driver import deadline
from mongopatterns._grouping import (
    NOT_SENT,
    SHORTEST,
    check_bound,
    closed,
    group_size,
    leaves_open,
    one_each,
    own_copy,
    timed_out,
    unknown,
)
from mongopatterns.errors import NotSent

__all__ = ["Groups"]

CallT = TypeVar("CallT")
AnswerT = TypeVar("AnswerT")

_Queue: TypeAlias = dict[Future[AnswerT], CallT]

_is_done: Final = methodcaller("done")
_GONE: Final = object()
# A caller that was answered calls again in the first turn of the event loop; through `asyncio.wait_for` or another
# task of its own, in the fourth.
_TURNS: Final = 4


class _Lanes(Generic[CallT, AnswerT]):
    """Who waits, on one event loop.

    Attributes:
        loop: The loop.
        queues: By lane, the calls that wait for the request in flight. A lane with nothing in flight has none.
        deadlines: When those that wait give up, in the loop's time; only of callers that have a timeout.
        runners: The tasks that send groups: the event loop itself holds on to no task.
        closers: Who waits for all lanes to be idle.
    """

    __slots__ = ("closers", "deadlines", "loop", "queues", "runners")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self.queues: dict[Hashable, _Queue[AnswerT, CallT]] = {}
        self.deadlines: dict[Future[AnswerT], float] = {}
        self.runners: set[Task[None]] = set()
        self.closers: list[Future[None]] = []

    def expire(self, queue: _Queue[AnswerT, CallT], futures: Iterable[Future[AnswerT]]) -> None:
        """Tell those whose time has run out, where the timer is late."""
        now = self.loop.time()
        for future in futures:
            if self.deadlines.get(future, inf) <= now:
                _expire(queue, future)

    def remaining(self, futures: Iterable[Future[AnswerT]]) -> float | None:
        """Tell how many seconds are left until the last of them gives up; None if one never does."""
        latest = max((self.deadlines.get(future, inf) for future in futures), default=inf)
        return None if latest == inf else max(latest - self.loop.time(), SHORTEST)

    def remove(self, lane: Hashable) -> None:
        """Forget a lane on which nothing is in flight and nobody waits."""
        del self.queues[lane]
        if self.closers and not self.queues:
            for closer in self.closers:
                if not closer.done():
                    closer.set_result(None)
            self.closers.clear()


class Groups(Generic[CallT, AnswerT]):
    """Put callers that act on the same lane at the same time into one request.

    It moves opaque calls and answers. A call is any value; equal calls that follow each other make a run.

    Args:
        alone: Sends one call: `alone(call, timeout)` returns its answer. It keeps to the timeout by itself. It is
            called in the caller's own context if nobody was in flight, and in that of nobody if the caller waited.
        together: Sends the calls of one lane in one command: `together(calls, timeout)` returns one answer for
            each, in their order. It is called without the context of any caller.
        name: What it is, for the message to those that come after `close`.
        max_calls: How many calls one group has at most.
        max_runs: How many runs one group has at most.

    Raises:
        UsageError: If a bound is no whole number from 1.
    """

    def __init__(
        self,
        alone: Callable[[CallT, float | None], Awaitable[AnswerT]],
        together: Callable[[list[CallT], float | None], Awaitable[Sequence[AnswerT]]],
        *,
        name: str,
        max_calls: int = 1000,
        max_runs: int = 64,
    ) -> None:
        check_bound("max_calls", max_calls)
        check_bound("max_runs", max_runs)
        self.name = name
        self.max_calls = max_calls
        self.max_runs = max_runs
        self._alone = alone
        self._together = together
        self._lanes: _Lanes[CallT, AnswerT] | None = None
        self._closed = False

    async def submit(self, lane: Hashable, call: CallT, timeout: float | None) -> AnswerT:
        """Send `call`, by itself if its lane is idle, else in the next group of its lane.

        Args:
            lane: The key that the call acts on.
            call: What to send.
            timeout: Seconds for everything, waiting included.

        Returns:
            The answer to this call.

        Raises:
            UsageError: On a bad timeout, or after `close`; nothing was sent.
            NotSent: If the timeout ran out in the queue; it was not sent, and will not be.
            OutcomeUnknown: If it was sent and nobody knows what came of it. The reason is its `__cause__`.
            Exception: What else `alone` or `together` raised; each caller gets a copy of its own.
        """
        loop = get_running_loop()
        lanes = self._lanes
        if lanes is None or lanes.loop is not loop:
            # Another loop (the second `asyncio.run` of a script): whoever waits on the old one is not our company.
            self._lanes = lanes = _Lanes(loop)
        if self._closed:
            raise closed(self.name)
        if timeout is not None:
            deadline(timeout)  # refuses a bad one
        queue = lanes.queues.get(lane)
        if queue is None:
            return await self._go_alone(lanes, lane, call, timeout)
        future: Future[AnswerT] = loop.create_future()
        queue[future] = call
        timer = None
        if timeout is not None:
            timer = loop.call_later(timeout, _expire, queue, future)
            lanes.deadlines[future] = timer.when()
        try:
            return await future
        except BaseException:
            queue.pop(future, None)
            if not loop.is_closed():
                future.cancel()  # a caller that was closed instead of cancelled has left it pending
            raise
        finally:
            if timer is not None:
                timer.cancel()
                del lanes.deadlines[future]
            del future  # an error knows this frame, and the future knows the error

    async def close(self) -> None:
        """Take no further calls, and wait for those that were taken. May be called more than once.

        If it is cancelled, the calls go on all the same.
        """
        self._closed = True
        lanes = self._lanes
        if lanes and lanes.loop is get_running_loop() and lanes.queues:
            closer: Future[None] = lanes.loop.create_future()
            lanes.closers.append(closer)
            await closer

    async def _go_alone(
        self, lanes: _Lanes[CallT, AnswerT], lane: Hashable, call: CallT, timeout: float | None
    ) -> AnswerT:
        """Send the call of the first caller on an idle lane in its own task; then see who came behind it."""
        queue: _Queue[AnswerT, CallT] = {}
        lanes.queues[lane] = queue
        try:
            return await self._alone(call, timeout)
        except Exception as error:
            if leaves_open(error):
                raise unknown(error) from error
            raise
        finally:
            self._next(lanes, lane, queue)

    def _next(self, lanes: _Lanes[CallT, AnswerT], lane: Hashable, queue: _Queue[AnswerT, CallT]) -> None:
        """Leave a lane: to a task of ours that serves it until nobody waits there, if anybody does."""
        # Nobody waits, or they were cancelled and have not run since; or the loop has died under them.
        if all(map(_is_done, queue)) or lanes.loop.is_closed():
            lanes.remove(lane)
            return
        # `create_task(context=...)` is not there in Python 3.10.
        runner = Context().run(lanes.loop.create_task, self._run(lanes, lane, queue))
        lanes.runners.add(runner)
        runner.add_done_callback(lanes.runners.discard)

    async def _run(self, lanes: _Lanes[CallT, AnswerT], lane: Hashable, queue: _Queue[AnswerT, CallT]) -> None:
        """Send group after group."""
        try:
            while queue:
                size = await self._send(lanes, queue)
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                    if len(queue) >= size:
                        break
        finally:
            # When somebody cancels every task that there is, those that are not among them are still served.
            self._next(lanes, lane, queue)

    async def _send(self, lanes: _Lanes[CallT, AnswerT], queue: _Queue[AnswerT, CallT]) -> int:
        """Send one group, tell its members, and return how many there were."""
        futures, calls, timeout = self._take(lanes, queue)
        if not calls:
            return 0
        try:
            if len(calls) == 1:
                answers = [await self._alone(calls[0], timeout)]
            else:
                answers = one_each(await self._together(calls, timeout), len(futures))
        except BaseException as error:
            _refuse(futures, unknown(error) if leaves_open(error) else error)
            futures.clear()  # the error knows this frame: without this, it would know everybody who knows the error
            if not isinstance(error, Exception):
                raise
        else:
            for future, answer in zip(futures, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
        return len(calls)

    def _take(
        self, lanes: _Lanes[CallT, AnswerT], queue: _Queue[AnswerT, CallT]
    ) -> tuple[list[Future[AnswerT]], list[CallT], float | None]:
        """Take the next group from the queue: its callers, their calls, and how long it may take."""
        futures = list(islice(queue, self.max_calls))
        if lanes.deadlines:
            lanes.expire(queue, futures)
        if any(map(_is_done, futures)):  # cancelled or out of time, and the caller has not run since
            for future in filter(_is_done, futures):
                queue.pop(future, None)
            futures = list(filterfalse(_is_done, futures))
        calls = list(islice(queue.values(), len(futures)))
        size = group_size(calls, self.max_calls, self.max_runs)
        if size == len(queue):
            queue.clear()
        else:
            del futures[size:], calls[size:]
            for future in futures:
                del queue[future]
        return futures, calls, lanes.remaining(futures) if lanes.deadlines else None


def _expire(queue: _Queue[Any, Any], future: Future[Any]) -> None:
    """Tell a caller that its timeout has run out."""
    if not future.done():
        future.set_exception(timed_out() if queue.pop(future, _GONE) is _GONE else NotSent(NOT_SENT))


def _refuse(futures: Iterable[Future[Any]], error: BaseException) -> None:
    """Raise an error in every caller that still waits."""
    for future in futures:
        if not future.done():
            future.set_exception(own_copy(error))
