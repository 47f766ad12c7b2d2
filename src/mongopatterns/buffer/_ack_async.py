"""What the caller of a buffer is given, asynchronous side: an item that can be waited for.

The hand-written sibling is `_ack_sync.py`.
"""
# generate: hand-written twin

from __future__ import annotations

from asyncio import Future, get_running_loop, wait_for
from asyncio.exceptions import TimeoutError as AsyncTimeoutError  # another class than the built-in on Python 3.10
from collections.abc import Generator
from typing import Any

from mongopatterns._grouping import own_copy
from mongopatterns.buffer._items import Item
from mongopatterns.errors import NotSent

__all__ = ["AsyncAck"]


class AsyncAck(Item):
    """An operation that a buffer has accepted. Awaited, it is the document's key, as soon as the server has stored it.

    Attributes:
        key: The document's key; of an insert its `_id`.
        done: Whether it is known what came of it.
        error: Why it is not stored; None if it is, or if that is not known yet.
    """

    __slots__ = ()

    waiters: list[Future[None]] | None

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the acknowledgement, as long as it takes."""
        if not self.done:
            waiter: Future[None] = get_running_loop().create_future()
            if self.waiters is None:
                self.waiters = []
            self.waiters.append(waiter)
            try:
                yield from waiter
            except BaseException:  # (who gives up does not wait any more: then a failure is a dead letter)
                self.waiters = [each for each in self.waiters if each is not waiter] or None
                raise
        if self.error is not None:
            raise own_copy(self.error)
        return self.key

    async def result(self, timeout: float | None = None) -> Any:
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
        try:
            return await wait_for(self, timeout)
        except AsyncTimeoutError:
            if self.done:
                raise
            raise NotSent("the time ran out before the acknowledgement came; it is sent all the same") from None

    def settle(self, error: BaseException | None) -> None:
        """Say what came of it, if that was not said before."""
        if self.done:
            return
        self.done = True
        self.error = error
        for waiter in self.waiters or ():
            if not waiter.done():
                waiter.set_result(None)
