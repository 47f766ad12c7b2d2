"""Reads that share a command, synchronous side: there is no event loop here, and each call is sent by itself.

What a thread asks for at once is one request. Threads do not wait for each other: what one of them is fetching, another
one fetches too, and either is kept.

The hand-written sibling is `_ticks_async.py`; both offer the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

from mongopatterns._driver import deadline
from mongopatterns._kept import Kept

__all__ = ["Ticks"]

CallT = TypeVar("CallT")
AnswerT = TypeVar("AnswerT")


class Ticks(Generic[CallT, AnswerT]):
    """Put the calls that are asked for at once into one request. For reads.

    Args:
        fetch: Sends calls, which are told apart by their keys: `fetch(calls, timeout)` returns an answer for each
            key.
    """

    def __init__(self, fetch: Callable[[dict[Hashable, CallT], float | None], Mapping[Hashable, AnswerT]]) -> None:
        self._fetch = fetch

    def ask(
        self, calls: Mapping[Hashable, CallT], kept: Kept[object, AnswerT], timeout: float | None
    ) -> dict[Hashable, AnswerT]:
        """Return the answer to each call, by its key.

        Args:
            calls: What to ask for.
            kept: Answers that do for these calls; takes those that come.
            timeout: Seconds for everything.

        Raises:
            UsageError: On a bad timeout; nothing was sent.
            Exception: What else `fetch` raised.
        """
        if timeout is not None:
            deadline(timeout)  # refuses a bad one
        answers, _ = kept.look(calls)
        fresh = {key: call for key, call in calls.items() if key not in answers}
        if fresh:
            request = object()
            try:
                kept.expect(request, fresh)
                told = self._fetch(fresh, timeout)
            except BaseException:
                kept.drop(request, fresh)
                raise
            kept.settle(request, told, fresh)
            answers.update(told)
        return answers
