"""What the caller of a buffer is given, synchronous side: an item that can be waited for.

The hand-written sibling is `_ack_async.py`.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import Any

from mongopatterns._grouping import own_copy
from mongopatterns.buffer._items import Item
from mongopatterns.errors import NotSent

__all__ = ["Ack"]

_LOCK = Lock()  # held for the moment in which it is decided whether somebody waits


class Ack(Item):
    """An operation that a buffer has accepted.

    Attributes:
        key: The document's key; of an insert its `_id`.
        done: Whether it is known what came of it.
        error: Why it is not stored; None if it is, or if that is not known yet.
    """

    __slots__ = ()

    waiters: list[Lock] | None

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the acknowledgement.

        Args:
            timeout: Seconds to wait; None: as long as it takes.

        Returns:
            The document's key.

        Raises:
            OutcomeUnknown: If it was sent, and nobody knows what came of it.
            NotSent: If the time ran out, and it may still be sent; or if the buffer was closed before it was sent.
            Dropped: If it was dropped to make room.
            Exception: What else the driver said of it.
        """
        if not self.done:
            waiter = Lock()
            waiter.acquire()
            with _LOCK:
                if self._is_open():
                    self.waiters = [*(self.waiters or ()), waiter]
                else:  # pragma: no cover  # it came between these lines
                    waiter.release()
            if not waiter.acquire(timeout=-1 if timeout is None else timeout) and self._gives_up(waiter):
                raise NotSent("the time ran out before the acknowledgement came; it is sent all the same")
        if self.error is not None:
            raise own_copy(self.error)
        return self.key

    def _gives_up(self, waiter: Any) -> bool:
        """Wait no more, if it is not known by now what came of it: then a failure is a dead letter."""
        with _LOCK:
            if self._is_open():  # pragma: no branch  # it may have come since
                self.waiters = [each for each in self.waiters or () if each is not waiter] or None
            return self._is_open()

    def _is_open(self) -> bool:
        """Tell whether it is not known yet what came of it."""
        return not self.done

    def settle(self, error: BaseException | None) -> None:
        """Say what came of it, if that was not said before."""
        with _LOCK:
            if self.done:
                return
            self.error = error
            self.done = True
            waiters = self.waiters
        for waiter in waiters or ():
            waiter.release()


def _after_fork() -> None:
    global _LOCK  # noqa: PLW0603  # a thread that is not there any more may have held it
    _LOCK = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
