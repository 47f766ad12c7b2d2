"""Answers that are kept for a while: the last ones that were asked for, up to a number. For tasks and threads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["Kept"]

AnswerT = TypeVar("AnswerT")
RequestT = TypeVar("RequestT")


class Kept(Generic[RequestT, AnswerT]):
    """Keep answers by their key, and which keys are being asked for.

    An answer is kept only if its request is still the one that is expected for its key. So whoever clears a key while
    its answer is under way never finds that answer here.

    Args:
        size: How many answers are kept at most; those that were not asked for the longest go first. 0: none.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = Lock()
        self._answers: OrderedDict[Hashable, AnswerT] = OrderedDict()
        self._requests: dict[Hashable, RequestT] = {}

    def look(self, keys: Iterable[Hashable]) -> tuple[dict[Hashable, AnswerT], dict[Hashable, RequestT]]:
        """Return which answers are here, and which requests are under way for the others."""
        answers: dict[Hashable, AnswerT] = {}
        requests: dict[Hashable, RequestT] = {}
        with self._lock:
            for key in keys:
                if key in self._answers:
                    self._answers.move_to_end(key)
                    answers[key] = self._answers[key]
                elif key in self._requests:
                    requests[key] = self._requests[key]
        return answers, requests

    def expect(self, request: RequestT, keys: Iterable[Hashable]) -> None:
        """Expect the answers for these keys from `request`."""
        with self._lock:
            if self._size:
                self._requests.update(dict.fromkeys(keys, request))

    def settle(self, request: RequestT, answers: Mapping[Hashable, AnswerT], keys: Iterable[Hashable]) -> None:
        """Keep the answers for those of the keys that are still expected from `request`."""
        with self._lock:
            for key in keys:
                if self._requests.get(key) is request:
                    del self._requests[key]
                    self._answers[key] = answers[key]
            while len(self._answers) > self._size:
                self._answers.popitem(last=False)

    def drop(self, request: RequestT, keys: Iterable[Hashable]) -> None:
        """Expect nothing more from `request`."""
        with self._lock:
            for key in keys:
                if self._requests.get(key) is request:
                    del self._requests[key]

    def clear(self, key: Hashable) -> None:
        """Forget one key, and what is under way for it."""
        with self._lock:
            self._answers.pop(key, None)
            self._requests.pop(key, None)

    def close(self) -> None:
        """Forget everything, and keep nothing from now on."""
        with self._lock:
            self._size = 0
            self._answers.clear()
            self._requests.clear()
