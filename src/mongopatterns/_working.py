"""What work in the background asks of its queue, whatever it is that waits. Pure."""

from __future__ import annotations

from typing import Protocol, TypeVar

__all__ = ["Mark", "Work"]

ItemT = TypeVar("ItemT")
BatchT = TypeVar("BatchT")


class Work(Protocol[ItemT, BatchT]):
    """A queue.

    Attributes:
        there: How many items wait or are under way.
        items: For how many items room is kept, those among them.
    """

    there: int
    items: int

    def reserve(self, item: ItemT) -> bool:
        """Keep room for an item, if there is any."""
        ...

    def release(self, item: ItemT) -> None:
        """Give the room back."""
        ...

    def put(self, item: ItemT) -> bool:
        """Take an item, if there is any room."""
        ...

    def add(self, item: ItemT) -> None:
        """Take an item for which room was kept."""
        ...

    def take_oldest(self) -> ItemT | None:
        """Take the oldest item that waits out again, and release its room."""
        ...

    def hurry(self) -> None:
        """Have everything that waits sent as soon as it can be."""
        ...

    def mark(self) -> Mark:
        """Follow what is there now."""
        ...

    @property
    def is_patient(self) -> bool:
        """Whether something waits for company, or for its time."""
        ...

    @property
    def is_due(self) -> bool:
        """Whether there is a batch that is full or overdue."""
        ...

    def cut(self) -> BatchT | None:
        """Return the next batch, if one is full or overdue."""
        ...

    def over(self, batch: BatchT) -> None:
        """Account for a batch of which everything is known."""
        ...

    def forget(self) -> None:
        """Be empty: what is there belongs to another process."""
        ...


class Mark(Protocol):
    """What was there at a time.

    Attributes:
        left: How much of it is not over.
    """

    left: int
