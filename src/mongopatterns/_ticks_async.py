"""Reads that share a command, asynchronous side: what is asked for in one turn of the event loop is sent together.

This is what data loaders do (`aiodataloader`, Strawberry's `DataLoader`, after Facebook's `dataloader`): nobody waits
for company, and yet a page of resolvers that each want one document sends one command. This one is our own because
theirs cannot promise what this package does, as they are. They compare keys as Python does (`1 == True`), and hand one
object to all. One future is shared, so the cancellation of a caller is that of all, and is kept like an answer. The
cache has no bound, and a batch runs in the context of the caller that happened to start it.

What is not obvious:

* A request (`_Tick`) leaves two turns after its first caller came, as with the others: a caller whose call runs in a
  task of its own (such as that of a resolver) comes one turn later.
* Each caller has a future of its own, and a task that belongs to no caller sends. The cancellation of a caller is its
  own affair, and each gets its own copy of an error.
* That task has of the callers' contexts what they have in common, without the variables of `pymongo.timeout()`: the
  deadline of one is not that of the others. What surrounds all of them (a guard of a test, a span of a trace)
  surrounds their command.
* Where answers are kept, a caller joins a request that is under way for its key, unless that has to end before the
  caller's own time does.

The hand-written sibling is `_ticks_sync.py`; both offer the same names.
"""
# generate: hand-written twin

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, Task, TimerHandle, get_running_loop
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from contextvars import Context, ContextVar, copy_context
from math import inf
from typing import Any, Final, Generic, TypeVar

import pymongo
from pymongo.errors import NetworkTimeout

from mongopatterns._driver import deadline
from mongopatterns._grouping import SHORTEST, own_copy
from mongopatterns._kept import Kept

__all__ = ["Ticks"]

CallT = TypeVar("CallT")
AnswerT = TypeVar("AnswerT")

_FURTHER_TURNS: Final = 1
_GONE: Final = object()


def _set_by_timeout() -> frozenset[ContextVar[Any]]:
    """Find the variables in which `pymongo.timeout()` keeps its deadline."""
    with pymongo.timeout(1):
        return frozenset(copy_context())


_OF_DEADLINES: Final = Context().run(_set_by_timeout)


class _Caller:
    """One that waits.

    Attributes:
        future: Done when all its requests are answered, or one of them has failed.
        left: How many of them are under way.
    """

    __slots__ = ("future", "left")

    def __init__(self, future: Future[None], left: int) -> None:
        self.future = future
        self.left = left


class _Tick(Generic[CallT, AnswerT]):
    """What is asked for in one turn.

    Attributes:
        loop: The event loop on which it was asked for.
        calls: What to send, by key.
        answers: What came back.
        callers: Who waits.
        contexts: The contexts of those that came before it was sent.
        kept: Where answers are expected, and for which keys.
        sent: Whether it has left.
        until: When the last of its callers gives up, in the loop's time; infinity if one never does.
    """

    __slots__ = ("answers", "callers", "calls", "contexts", "kept", "loop", "sent", "until")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self.calls: dict[Hashable, CallT] = {}
        self.answers: Mapping[Hashable, AnswerT] = {}
        self.callers: list[_Caller] = []
        self.contexts: list[Context] = []
        self.kept: list[tuple[Kept[_Tick[CallT, AnswerT], AnswerT], Iterable[Hashable]]] = []
        self.sent = False
        self.until = -inf

    def serves(self, loop: AbstractEventLoop, until: float) -> bool:
        """Tell whether a caller that waits until then can wait for this."""
        return self.loop is loop and (not self.sent or until <= self.until)

    def join(self, caller: _Caller, until: float) -> None:
        """Have a caller wait for the answers."""
        self.callers.append(caller)
        if not self.sent:
            self.contexts.append(copy_context())
            self.until = max(self.until, until)

    def remaining(self) -> float | None:
        """Tell how many seconds are left until the last caller gives up; None if one never does."""
        return None if self.until == inf else max(self.until - self.loop.time(), SHORTEST)

    def answer(self, answers: Mapping[Hashable, AnswerT]) -> None:
        """Tell the callers, and those that keep answers."""
        self.answers = answers
        for kept, keys in self.kept:
            kept.settle(self, answers, keys)
        for caller in self.callers:
            caller.left -= 1
            if not caller.left and not caller.future.done():
                caller.future.set_result(None)
        self.callers.clear()

    def refuse(self, error: BaseException) -> None:
        """Raise an error in every caller; nothing of it is kept."""
        self.drop()
        for caller in self.callers:
            if not caller.future.done():
                if isinstance(error, Exception):
                    caller.future.set_exception(own_copy(error))
                else:  # whoever sends was ended from outside, and so is the read
                    caller.future.cancel()
        self.callers.clear()

    def drop(self) -> None:
        """Let nobody wait for this from now on."""
        for kept, keys in self.kept:
            kept.drop(self, keys)


class Ticks(Generic[CallT, AnswerT]):
    """Put the calls of one turn of the event loop into one request. For reads: what is asked for twice is sent once.

    Args:
        fetch: Sends calls, which are told apart by their keys: `fetch(calls, timeout)` returns an answer for each
            key. It is called without the deadline of any caller.
    """

    def __init__(
        self, fetch: Callable[[dict[Hashable, CallT], float | None], Awaitable[Mapping[Hashable, AnswerT]]]
    ) -> None:
        self._fetch = fetch
        self._open: _Tick[CallT, AnswerT] | None = None
        self._tasks: set[Task[None]] = set()  # the event loop itself holds on to no task

    async def ask(
        self,
        calls: Mapping[Hashable, CallT],
        kept: Kept[_Tick[CallT, AnswerT], AnswerT],
        timeout: float | None,
    ) -> dict[Hashable, AnswerT]:
        """Return the answer to each call, by its key.

        Args:
            calls: What to ask for.
            kept: Answers that do for these calls; takes those that come.
            timeout: Seconds for everything, waiting included.

        Raises:
            UsageError: On a bad timeout; nothing was sent.
            NetworkTimeout: If the timeout ran out before the answer came.
            Exception: What else `fetch` raised; each caller gets a copy of its own.
        """
        loop = get_running_loop()
        until = inf
        if timeout is not None:
            deadline(timeout)  # refuses a bad one
            until = loop.time() + timeout
        answers, requests = kept.look(calls)
        if len(answers) == len(calls):
            return answers
        asked = {key: tick for key, tick in requests.items() if tick.serves(loop, until)}
        fresh = {key: call for key, call in calls.items() if key not in answers and key not in asked}
        if fresh:
            tick = self._current(loop)
            tick.calls.update(fresh)
            tick.kept.append((kept, fresh))
            kept.expect(tick, fresh)
            asked.update(dict.fromkeys(fresh, tick))
        await self._wait(loop, set(asked.values()), until)
        for key, tick in asked.items():
            answers[key] = tick.answers[key]
        return answers

    def _current(self, loop: AbstractEventLoop) -> _Tick[CallT, AnswerT]:
        """Return the request that has not left yet."""
        tick = self._open
        if tick is None or tick.loop is not loop:  # (another loop: whoever waits on the old one is not our company)
            self._open = tick = _Tick(loop)
            loop.call_soon(self._turn, tick, _FURTHER_TURNS, context=Context())
        return tick

    async def _wait(self, loop: AbstractEventLoop, ticks: set[_Tick[CallT, AnswerT]], until: float) -> None:
        """Wait for all of these, at most until then."""
        caller = _Caller(loop.create_future(), len(ticks))
        for tick in ticks:
            tick.join(caller, until)
        timer: TimerHandle | None = None
        if until != inf:
            timer = loop.call_at(until, _expire, caller.future, context=Context())
        try:
            await caller.future
        finally:
            if timer is not None:
                timer.cancel()
            del caller  # an error knows this frame, and the future knows the error

    def _turn(self, tick: _Tick[CallT, AnswerT], turns: int) -> None:
        """Send a request when enough turns have passed."""
        if turns:
            tick.loop.call_soon(self._turn, tick, turns - 1)
            return
        if self._open is tick:
            self._open = None
        tick.sent = True
        if all(caller.future.done() for caller in tick.callers):  # everybody has given up
            tick.drop()
            return
        # `create_task(context=...)` is not there in Python 3.10.
        task = _in_common(tick.contexts).run(tick.loop.create_task, self._send(tick))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, tick: _Tick[CallT, AnswerT]) -> None:
        try:
            tick.answer(await self._fetch(tick.calls, tick.remaining()))
        except BaseException as error:
            tick.refuse(error)
            if not isinstance(error, Exception):
                raise


def _expire(future: Future[None]) -> None:
    """Tell a caller that its timeout has run out, in the words of the driver."""
    if not future.done():  # pragma: no branch  # the answer may have come in the same turn
        future.set_exception(NetworkTimeout("the timeout ran out before the answer came"))


def _in_common(contexts: Iterable[Context]) -> Context:
    """Return a context of what all of these have in common, deadlines aside."""
    first, *others = contexts
    shared = {variable: value for variable, value in first.items() if variable not in _OF_DEADLINES}
    for other in others:
        shared = {variable: value for variable, value in shared.items() if other.get(variable, _GONE) is value}
    context = Context()
    for variable, value in shared.items():
        context.run(variable.set, value)
    return context
