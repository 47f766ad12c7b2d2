"""Group commit, synchronous side: callers that come while a request is in flight share the next one.

Callers are told apart by *lane*, which is the key that they act on. The first one on an idle lane sends its call
by itself, at once. Those that come before its answer wait in a queue; when it is over, one of them gets the *lead*:
it sends the calls of all in its own thread, tells each its answer, and the lead goes on until nobody waits. So there
is one request in flight per lane, and a group is as large as the server is slow.

What is not obvious:

* A queue is a dict from a caller to its call. It keeps the order, a caller that gives up leaves it at once, and
  "was it sent?" is "is it gone from the queue?".
* Each caller waits at a lock of its own. One condition for all would wake everybody to wake one.
* The next leader is woken by the last of those that were just answered, on its way out. By then the others may have
  called again, and are in the next group; a leader that is woken at once finds a queue of one.
* The leader is the caller of its group that has the longest time left (to within `_SLACK`), so that nobody is held
  up, or cut short, by the deadline of another. It sends in an empty context, because `pymongo.timeout()` lives in the
  context.
* A caller may be interrupted anywhere (`KeyboardInterrupt`). What it has to leave in order is left in order by
  `_leave`, which may be interrupted and called once more.

The hand-written sibling is `_group_async.py`; both offer the same names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextvars import Context
from itertools import islice, takewhile
from math import inf
from operator import attrgetter
from threading import Lock
from time import monotonic
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

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

# Seconds that a leader may be late for the sake of those who came while it woke up. Callers with equal timeouts give
# up one after the other: if each had to lead those before it, two threads would never be in one group.
_SLACK: Final = 0.01


class _Caller(Generic[AnswerT]):
    """One that waits.

    Attributes:
        until: When it gives up, by the monotonic clock; infinity if never.
        lock: Free when it is answered, or has the lead.
        answered: Whether it may read `answer` or `error`.
        answer: What it returns.
        error: What it raises instead.
        gone: Whether it has given up.
    """

    __slots__ = ("answer", "answered", "error", "gone", "lock", "until")

    answer: AnswerT

    def __init__(self, until: float) -> None:
        self.until = until
        self.lock = Lock()
        self.lock.acquire()
        self.answered = False
        self.error: BaseException | None = None
        self.gone = False

    def outcome(self) -> AnswerT:
        """Return the answer, or raise the error."""
        if self.error is None:
            return self.answer
        try:
            raise self.error
        finally:
            self.error = None  # it knows this frame, which knows who has it

    def wake(self) -> None:
        """Let it go on, if it does not do so already."""
        if self.lock.locked():
            self.lock.release()


class _Lane(Generic[CallT, AnswerT]):
    """A lane with a request in flight, or with a group on its way out.

    Attributes:
        queue: Who waits, and with what.
        leader: Who sends: one of those that waited, or the lane itself for a call by itself; None between groups.
        leaving: Who was answered and has not left yet.
    """

    __slots__ = ("leader", "leaving", "queue")

    def __init__(self) -> None:
        self.queue: dict[_Caller[AnswerT], CallT] = {}
        self.leader: object = self
        self.leaving: set[_Caller[AnswerT]] = set()


class Groups(Generic[CallT, AnswerT]):
    """Put callers that act on the same lane at the same time into one request.

    It moves opaque calls and answers. A call is any value; equal calls that follow each other make a run.

    Args:
        alone: Sends one call: `alone(call, timeout)` returns its answer. It keeps to the timeout by itself. It is
            called in the caller's own thread and context.
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
        alone: Callable[[CallT, float | None], AnswerT],
        together: Callable[[list[CallT], float | None], Sequence[AnswerT]],
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
        self._closed = False
        self._forget()
        _everywhere.add(self)

    def _forget(self) -> None:
        """Start with no lanes, and a lock that nobody holds."""
        self._lock = Lock()  # held for as long as it takes to change a queue, never while something is sent
        self._lanes: dict[Hashable, _Lane[CallT, AnswerT]] = {}
        self._closers: list[Lock] = []

    def submit(self, lane: Hashable, call: CallT, timeout: float | None) -> AnswerT:
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
        until = inf
        if timeout is not None:
            deadline(timeout)  # refuses a bad one
            until = monotonic() + timeout
        state: _Lane[CallT, AnswerT] | None = None
        me: _Lane[CallT, AnswerT] | _Caller[AnswerT] | None = None
        try:
            with self._lock:
                if self._closed:
                    raise closed(self.name)
                state = self._lanes.get(lane)
                if state is None:
                    me = state = _Lane()
                    self._lanes[lane] = state
                else:
                    me = _Caller(until)
                    state.queue[me] = call
            if isinstance(me, _Caller):
                return self._wait(state, me)
            return self._call_alone(call, timeout)
        finally:
            if state is not None and me is not None:
                try:
                    self._leave(lane, state, me)
                except BaseException:
                    self._leave(lane, state, me)
                    raise

    def close(self) -> None:
        """Take no further calls, and wait for those that were taken. May be called more than once.

        If it is interrupted, the calls go on all the same.
        """
        with self._lock:
            self._closed = True
            if not self._lanes:
                return
            closer = Lock()
            closer.acquire()
            self._closers.append(closer)
        closer.acquire()

    def _call_alone(self, call: CallT, timeout: float | None) -> AnswerT:
        try:
            return self._alone(call, timeout)
        except Exception as error:
            if leaves_open(error):
                raise unknown(error) from error
            raise

    def _wait(self, state: _Lane[CallT, AnswerT], me: _Caller[AnswerT]) -> AnswerT:
        """Wait for the answer; or for the lead, and then send."""
        if not me.lock.acquire(timeout=-1 if me.until == inf else max(me.until - monotonic(), 0)):
            with self._lock:
                if not me.answered:
                    raise NotSent(NOT_SENT) if me in state.queue else timed_out()
        if not me.answered:
            self._lead(state, me)
        return me.outcome()

    def _lead(self, state: _Lane[CallT, AnswerT], me: _Caller[AnswerT]) -> None:
        """Send one group, and tell its members."""
        members: list[_Caller[AnswerT]] = []
        try:
            with self._lock:
                calls, timeout = self._take(state, me, members)
            if len(calls) == 1:
                answers = [self._alone(calls[0], timeout)]
            else:
                answers = one_each(Context().run(self._together, calls, timeout), len(members))
            self._release(state, members)
            for member, answer in zip(members, answers, strict=True):
                member.answer = answer
                member.answered = True
                member.wake()
        except BaseException as error:
            self._release(state, members)
            for member in members:
                if not member.answered:  # pragma: no branch  # a signal may come while they are told
                    member.error = unknown(error) if leaves_open(error) else own_copy(error)
                    member.answered = True
                member.wake()
            members.clear()  # the error knows this frame: without this, it would know everybody who knows the error
            if not isinstance(error, Exception) or not me.answered:
                raise

    def _take(
        self, state: _Lane[CallT, AnswerT], me: _Caller[AnswerT], members: list[_Caller[AnswerT]]
    ) -> tuple[list[CallT], float | None]:
        """Take the next group from the queue.

        Args:
            state: The lane.
            me: Who leads.
            members: Takes the callers of the group, before the first of them leaves the queue.

        Returns:
            The calls, and how long they may take.

        Raises:
            NotSent: If the leader's own time has run out.
        """
        front = list(islice(state.queue, self.max_calls))
        timeout = None
        now = monotonic()
        for late in [caller for caller in front if caller.until <= now]:
            if late is me:
                raise NotSent(NOT_SENT)
            front.remove(late)
            del state.queue[late]
            late.error = NotSent(NOT_SENT)
            late.answered = True
            late.wake()
        if me.until != inf:
            # Who came since this leader was chosen, and has much longer: the next group has another leader.
            front = list(takewhile(lambda caller: caller.until <= me.until + _SLACK, front))
        calls = [state.queue[caller] for caller in front]
        del calls[group_size(calls, self.max_calls, self.max_runs) :]
        members += front[: len(calls)]
        for member in members:
            del state.queue[member]
        if me.until != inf:
            timeout = max(max(member.until for member in members) - now, SHORTEST)
        return calls, timeout

    def _release(self, state: _Lane[CallT, AnswerT], members: Iterable[_Caller[AnswerT]]) -> None:
        """Let the members of a group go: the last of them wakes the next leader."""
        with self._lock:
            for member in members:
                state.queue.pop(member, None)
                if not member.gone:
                    state.leaving.add(member)

    def _leave(self, lane: Hashable, state: _Lane[CallT, AnswerT], me: object) -> None:
        """Leave a lane in order, whatever happened. Being interrupted and called once more is part of it."""
        with self._lock:
            if isinstance(me, _Caller):
                me.gone = True
                state.queue.pop(me, None)
                state.leaving.discard(me)
            if state.leader is me:
                state.leader = None
            if state.leader is not None or state.leaving:
                return
            if state.queue:
                leader = self._longest(state.queue)
                leader.wake()
                state.leader = leader
            elif self._lanes.get(lane) is state:
                del self._lanes[lane]
                if not self._lanes:
                    for closer in self._closers:
                        closer.release()
                    self._closers.clear()

    def _longest(self, queue: dict[_Caller[AnswerT], CallT]) -> _Caller[AnswerT]:
        """Choose who leads: the caller of the next group that has the longest time left."""
        first = next(iter(queue))
        if first.until == inf:
            return first
        return max(islice(queue, group_size(queue.values(), self.max_calls, self.max_runs)), key=attrgetter("until"))


_everywhere: Final[WeakSet[Groups[Any, Any]]] = WeakSet()


def _after_fork() -> None:
    """Forget, in a child process, the lanes of its parent: the threads that would answer are not there."""
    for groups in _everywhere:
        groups._forget()  # noqa: SLF001  # of this module


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork)
