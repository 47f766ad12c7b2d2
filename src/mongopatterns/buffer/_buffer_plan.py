"""What a buffer is told, checked, and what it keeps: the queue, the numbers, the collections. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

from mongopatterns._grouping import unknown
from mongopatterns.buffer._items import UPDATE, Item
from mongopatterns.buffer._outcomes import Attempt, Send, at_least_once, exactly_once, stored_before
from mongopatterns.buffer._queue import Batch, Queue
from mongopatterns.buffer._stats import BatchReport, BufferStats, Counts
from mongopatterns.calls import Call, again
from mongopatterns.errors import Dropped, LimitExceeded, NotSent, UsageError
from mongopatterns.indexes import Index

ItemT = TypeVar("ItemT", bound=Item)

Delivery: TypeAlias = Literal["at_least_once", "exactly_once"]
WhenFull: TypeAlias = Literal["wait", "reject", "drop_oldest"]

LEDGER: Final = ("mongopatterns", "buffer_ledger")
"""The database and the collection of the ledger, where none is given."""

LEDGER_DAYS: Final = 30
"""How long the ledger knows a batch, by the index that it asks for."""

_LONGEST: Final = 3600.0


@dataclass(frozen=True)
class Bounds:
    """How much a buffer takes, and when it sends.

    Attributes:
        max_items: How many operations make a batch.
        max_bytes: How many bytes make a batch.
        max_delay: Seconds that an operation waits for company at most.
        in_flight: How many batches are under way at most.
        max_waiting: How many operations are there at most, waiting or under way.
        max_waiting_bytes: How many bytes they have at most.
        when_full: What becomes of one for which there is no room.
        delivery: What is promised.
        retry_for: Seconds for which what is safe to repeat is repeated.
        spooled: Whether what is accepted is on disk.

    Raises:
        UsageError: If one of them is wrong.
    """

    max_items: int
    max_bytes: int
    max_delay: float
    in_flight: int
    max_waiting: int
    max_waiting_bytes: int
    when_full: WhenFull
    delivery: Delivery
    retry_for: float
    spooled: bool = False

    def __post_init__(self) -> None:
        for name in ("max_items", "max_bytes", "in_flight", "max_waiting", "max_waiting_bytes"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise UsageError(name, f"expected a whole number from 1, got {value!r:.100}")
        for name in ("max_delay", "retry_for"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _LONGEST:
                raise UsageError(name, f"expected seconds greater than 0, at most {_LONGEST:.0f}, got {value!r:.100}")
        if self.max_waiting < self.max_items:
            raise UsageError("max_waiting", f"is less than max_items={self.max_items}: no batch could ever be full")
        if self.when_full not in ("wait", "reject", "drop_oldest"):
            raise UsageError("when_full", f"expected 'wait', 'reject' or 'drop_oldest', got {self.when_full!r:.100}")
        if self.delivery not in ("at_least_once", "exactly_once"):
            raise UsageError("delivery", f"expected 'at_least_once' or 'exactly_once', got {self.delivery!r:.100}")


def ledger_indexes(name: str) -> dict[str, tuple[Index, ...]]:
    """Return the indexes that a ledger needs."""
    return {name: (Index.ttl("at", after=LEDGER_DAYS * 86_400),)}


@dataclass(frozen=True)
class DeadLetter:
    """An operation that is not stored, as far as anybody knows, and that nobody waited for.

    Attributes:
        collection: `database.collection`.
        operation: `"insert"`, `"update"`, `"replace"` or `"delete"`.
        key_field: The field by which the document is found.
        key: Its value.
        body: What was to be stored: the document (of an insert as BSON), the update, or the replacement.
        upsert: Whether a document that is not there was to be made.
        error: Why it is not stored. Of an `OutcomeUnknown`, it may be.
    """

    collection: str
    operation: str
    key_field: str
    key: Any
    body: Any
    upsert: bool
    error: BaseException

    @classmethod
    def of(cls, item: Item) -> DeadLetter:
        """Return what is told of an item."""
        error = item.error or NotSent("nobody knows why")
        return cls(item.target.name, item.kind, item.field, item.key, item.body, item.upsert, error)

    def document(self) -> dict[str, Any]:
        """Return it as a document that can be stored."""
        body = list(self.body.items()) if self.operation == UPDATE and isinstance(self.body, Mapping) else self.body
        return {
            "collection": self.collection,
            "operation": self.operation,
            "key_field": self.key_field,
            "key": self.key,
            "body": body,
            "upsert": self.upsert,
            "error": f"{type(self.error).__name__}: {self.error}"[:1000],
        }


class BufferPlan(Generic[ItemT]):
    """The state of a buffer.

    Args:
        bounds: How much it takes.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.queue: Queue[ItemT] = Queue(
            bounds.max_items, bounds.max_bytes, bounds.max_waiting, bounds.max_waiting_bytes
        )
        self._counts = Counts()

    again = staticmethod(again)

    @property
    def is_exact(self) -> bool:
        """Whether each batch is a transaction."""
        return self.bounds.delivery == "exactly_once"

    def at_least_once(self, batch: Batch[ItemT]) -> Call[list[Send[ItemT]]]:
        """Send a batch."""
        return Call(at_least_once(batch))

    def exactly_once(self, batch: Batch[ItemT]) -> Call[Attempt[ItemT]]:
        """Send a batch in a transaction."""
        return Call(exactly_once(batch, self.bounds.retry_for, insistent=self.bounds.spooled))

    def ended(self, batch: Batch[ItemT], error: BaseException) -> None:
        """Settle what is left of a batch that came to an end before its answers: nobody knows what comes of it."""
        for item in batch.members:
            item.settle(unknown(error))

    @property
    def stats(self) -> BufferStats:
        """What it has done so far."""
        queue, counts = self.queue, self._counts
        return BufferStats(
            accepted=queue.accepted,
            acknowledged=counts.acknowledged,
            failed=counts.failed,
            dropped=counts.dropped,
            recovered=counts.recovered,
            merged=queue.merged,
            waiting=queue.waiting,
            under_way=queue.there - queue.waiting,
            batches=counts.batches,
            bytes=counts.bytes,
            seconds=counts.seconds,
            latency=counts.latency,
        )

    def left(self, items: Mapping[int, ItemT], batches: Mapping[Any, Sequence[int]]) -> Iterator[Batch[ItemT]]:
        """Give the batches by which what was left on disk is done: first those that may be done already, as they were.

        Args:
            items: What is left, by place, in order.
            batches: The places of those that were sent together, by the batch's id.
        """
        sent: set[int] = set()
        for id_, places in batches.items():
            sent.update(places)
            for batch in self._batches_of([items[place] for place in places], whole=True):
                batch.id = id_
                yield batch
        yield from self._batches_of([item for place, item in items.items() if place not in sent], whole=False)

    def _batches_of(self, items: Sequence[ItemT], *, whole: bool) -> Iterator[Batch[ItemT]]:
        bounds = self.bounds
        largest = max(len(items), 1)
        queue: Queue[ItemT] = Queue(
            largest if whole else bounds.max_items, 2**62 if whole else bounds.max_bytes, largest, 2**62
        )
        for item in items:
            queue.reserve(item)
            queue.add(item)
        queue.hurry()
        while batch := queue.cut():
            yield batch
            queue.over(batch)

    def full(self) -> LimitExceeded:
        """Return what a caller is told for whom there is no room."""
        return LimitExceeded(
            f"the buffer is full: {self.queue.items:,} operations with {self.queue.size:,} bytes are there, of "
            f"max_waiting={self.bounds.max_waiting:,} and max_waiting_bytes={self.bounds.max_waiting_bytes:,}"
        )

    def dropped(self, items: list[ItemT]) -> list[ItemT]:
        """Settle items that were dropped to make room; return those of which nobody will hear otherwise."""
        self._counts.dropped += len(items)
        return _refused(items, lambda: Dropped("it was dropped, because the buffer was full and newer ones came"))

    def given_up(self, items: list[ItemT]) -> list[ItemT]:
        """Settle items that were not sent before the end; return those of which nobody will hear otherwise."""
        self._counts.failed += len(items)
        return _refused(items, lambda: NotSent("the buffer was closed, and the time ran out before it was sent"))

    def redone(self, batch: Batch[ItemT]) -> None:
        """Account for a batch of what was left on disk: what was stored before is stored."""
        self._counts.recovered += len(batch.members)
        for item in batch.members:
            if stored_before(item):
                item.error = None

    def sent(self, batch: Batch[ItemT], seconds: float) -> tuple[BatchReport, list[ItemT]]:
        """Count a batch; return what is told of it, and the items that failed and of which nobody hears otherwise."""
        failed = [item for item in batch.members if item.error is not None]
        report = BatchReport(len(batch.members), batch.steps, batch.size, len(failed), seconds)
        self._counts.count(report)
        return report, [item for item in failed if item.waiters is None]


def _refused(items: list[ItemT], error: Callable[[], BaseException]) -> list[ItemT]:
    for item in items:
        item.settle(error())
    return [item for item in items if item.waiters is None]
