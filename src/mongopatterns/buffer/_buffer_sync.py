# Generated from src/mongopatterns/buffer/_buffer_async.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""A buffer for writes on an asynchronous driver: what its callers see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any

from bson import ObjectId
from typing_extensions import Self

from mongopatterns import _driver_sync as driver
from mongopatterns._driver import deadline
from mongopatterns.buffer import _items
from mongopatterns.buffer._ack_sync import Ack
from mongopatterns.buffer._buffer_plan import LEDGER, Bounds, Delivery, WhenFull, ledger_indexes
from mongopatterns.buffer._intake_sync import Intake
from mongopatterns.buffer._stats import BatchReport, BufferStats
from mongopatterns.indexes import Index
from mongopatterns.typing import Durability

__all__ = ["WriteBuffer"]


class WriteBuffer:
    """Take writes of single documents, and send them in batches, in the background.

    A call returns as soon as the write is accepted, which needs no round trip; what it returns is acknowledged when the
    server has stored it. Writes of one document, named by its key, are sent in the order in which they were accepted;
    updates that follow each other on one document are merged where that is sound. One bad write fails alone.

    Use it as a context, or call `close`: what was accepted is sent before it ends. One buffer serves a whole
    application.

    Args:
        client: The driver's client.
        max_items: How many operations make a batch.
        max_bytes: How many bytes of BSON make a batch.
        max_delay: Seconds that an operation waits for company at most.
        in_flight: How many batches are under way at most; no two of them touch the same document.
        max_waiting: How many operations are there at most, waiting or under way.
        max_waiting_bytes: How many bytes they have at most; one is always taken.
        when_full: What becomes of an operation for which there is no room. `"wait"`: the caller waits; `"reject"`: it
            is refused; `"drop_oldest"`: the oldest that waits is dropped.
        delivery: `"at_least_once"`: what was acknowledged is stored, and what was not may be. `"exactly_once"`: each
            batch is one transaction with its id in a ledger, and is never stored twice; needs a replica set.
        ledger: The collection of the ledger; by default `mongopatterns.buffer_ledger`.
        durability: What an acknowledgement promises; a transaction always asks the majority.
        retry_for: Seconds for which the driver repeats what is safe to repeat.
        spool: A directory of this machine. What is accepted is on disk before it is accepted, and is done by the next
            process that opens a buffer there, if this one ends before: with `exactly_once`, each exactly once.
        fsync: Whether what is accepted also survives a failure of the machine, for the price of a disk flush.
        on_dead_letter: What becomes of operations that are not stored, and that nobody waits for: a function that is
            called with each `DeadLetter`, or a collection. By default they are logged, as errors of
            `mongopatterns.buffer`.
        on_batch: A function that is called with a `BatchReport` after each batch.

    Raises:
        UsageError: If an argument is wrong.
    """

    def __init__(
        self,
        client: Any,
        *,
        max_items: int = 500,
        max_bytes: int = 8_000_000,
        max_delay: float = 0.05,
        in_flight: int = 2,
        max_waiting: int = 10_000,
        max_waiting_bytes: int = 64_000_000,
        when_full: WhenFull = "wait",
        delivery: Delivery = "at_least_once",
        ledger: Any = None,
        durability: Durability = Durability.MAJORITY,
        retry_for: float = 30.0,
        spool: str | PathLike[str] | None = None,
        fsync: bool = False,
        on_dead_letter: Any = None,
        on_batch: Callable[[BatchReport], None] | None = None,
    ) -> None:
        bounds = Bounds(
            max_items=max_items,
            max_bytes=max_bytes,
            max_delay=max_delay,
            in_flight=in_flight,
            max_waiting=max_waiting,
            max_waiting_bytes=max_waiting_bytes,
            when_full=when_full,
            delivery=delivery,
            retry_for=retry_for,
            spooled=spool is not None,
        )
        driver.check_client(client)
        self._ledger = driver.bind(client[LEDGER[0]] if ledger is None else ledger, LEDGER[1], Durability.MAJORITY)
        self._intake = Intake(
            client,
            bounds,
            self._ledger,
            durability=durability,
            spool=spool,
            fsync=fsync,
            on_dead_letter=on_dead_letter,
            on_batch=on_batch,
        )

    def __enter__(self) -> Self:
        """Begin: what others have left in the spool is done first."""
        self._intake.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what was accepted, also if the body has failed."""
        self.close()

    @property
    def stats(self) -> BufferStats:
        """What it has done so far."""
        return self._intake.stats

    def indexes(self) -> dict[str, tuple[Index, ...]]:
        """Return the indexes that `exactly_once` needs, by collection: the ledger forgets after 30 days."""
        return ledger_indexes(self._ledger.name) if self._intake.is_exact else {}

    # What is written .............................................................................................

    def insert(self, collection: Any, document: Mapping[str, Any]) -> Ack:
        """Store a document.

        Args:
            collection: A collection of the buffer's client.
            document: What is stored. If it has no `_id`, it is given one, which the acknowledgement tells; the document
                itself is left as it is.

        Raises:
            UsageError: If it cannot be stored, or the buffer is closed; nothing was accepted.
            LimitExceeded: If there is no room, with `when_full="reject"`.
        """
        return self._intake.accept(_items.insert(Ack, self._intake.target(collection), document, ObjectId))

    def increment(
        self,
        collection: Any,
        key: Any,
        amounts: Mapping[str, Any],
        *,
        set_now: Sequence[str] = (),
        key_field: str = "_id",
        upsert: bool = True,
    ) -> Ack:
        """Add to numbers of a document. Those that follow each other on one document are sent as one.

        Args:
            collection: A collection of the buffer's client.
            key: The document's key.
            amounts: What is added, by dotted path: ints, floats and Decimals, negative ones too. What is not whole is
                stored as Decimal128.
            set_now: Paths that are set to the server's time.
            key_field: The field that holds the key; it must be `_id` or uniquely indexed.
            upsert: Whether a document that is not there is made.

        Raises:
            UsageError: If an argument is wrong, or the buffer is closed; nothing was accepted.
            LimitExceeded: If there is no room, with `when_full="reject"`.
        """
        target = self._intake.target(collection)
        return self._intake.accept(
            _items.increment(Ack, target, key, amounts, set_now=set_now, key_field=key_field, upsert=upsert)
        )

    def update(self, collection: Any, key: Any, update: Any, *, key_field: str = "_id", upsert: bool = False) -> Ack:
        """Update a document, as PyMongo's `update_one` does.

        Args:
            collection: A collection of the buffer's client.
            key: The document's key.
            update: Operators, or a pipeline. It must not change the key.
            key_field: The field that holds the key; it must be `_id` or uniquely indexed.
            upsert: Whether a document that is not there is made.

        Raises:
            UsageError: If an argument is wrong, or the buffer is closed; nothing was accepted.
            LimitExceeded: If there is no room, with `when_full="reject"`.
        """
        target = self._intake.target(collection)
        return self._intake.accept(_items.update(Ack, target, key, update, key_field=key_field, upsert=upsert))

    def replace(
        self,
        collection: Any,
        key: Any,
        document: Mapping[str, Any],
        *,
        key_field: str = "_id",
        upsert: bool = False,
    ) -> Ack:
        """Put a document into the place of another one.

        Args:
            collection: A collection of the buffer's client.
            key: The document's key.
            document: What is stored. It must have the same key.
            key_field: The field that holds the key; it must be `_id` or uniquely indexed.
            upsert: Whether a document that is not there is made.

        Raises:
            UsageError: If an argument is wrong, or the buffer is closed; nothing was accepted.
            LimitExceeded: If there is no room, with `when_full="reject"`.
        """
        target = self._intake.target(collection)
        return self._intake.accept(_items.replace(Ack, target, key, document, key_field=key_field, upsert=upsert))

    def delete(self, collection: Any, key: Any, *, key_field: str = "_id") -> Ack:
        """Delete a document.

        Args:
            collection: A collection of the buffer's client.
            key: The document's key.
            key_field: The field that holds the key; it must be `_id` or uniquely indexed.

        Raises:
            UsageError: If an argument is wrong, or the buffer is closed; nothing was accepted.
            LimitExceeded: If there is no room, with `when_full="reject"`.
        """
        return self._intake.accept(_items.delete(Ack, self._intake.target(collection), key, key_field=key_field))

    def flush(self, timeout: float | None = None) -> None:
        """Send what was accepted so far, and wait until it is known what came of it.

        Args:
            timeout: Seconds to wait.

        Raises:
            NotSent: If the time runs out; what is left is sent later.
        """
        with deadline(timeout):  # (refuses a bad one)
            pass
        self._intake.flush(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Accept nothing more, and send what was accepted. May be called more than once.

        Args:
            timeout: Seconds to wait. What was not sent by then is not sent: its acknowledgement raises `NotSent`, and
                it is a dead letter. What is under way is ended, and nobody knows what came of it; in threads it goes
                on.
        """
        with deadline(timeout):  # (refuses a bad one)
            pass
        self._intake.close(timeout)
