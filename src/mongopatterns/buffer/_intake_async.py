"""How a buffer takes what it is given, and what becomes of it: room, disk, batches, dead letters.

What a full buffer, a spool and a failure ask for is decided here, where they are met; what is sent, in which order and
what an answer means is the plan's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from os import PathLike, getpid
from time import perf_counter
from typing import Any, Final

from bson import ObjectId
from pymongo.errors import PyMongoError

from mongopatterns import _driver_async as driver
from mongopatterns._driver import deadline
from mongopatterns._group_async import Groups
from mongopatterns._spool import Journal, Spool
from mongopatterns._worker_async import Worker
from mongopatterns.buffer import _items
from mongopatterns.buffer._ack_async import AsyncAck
from mongopatterns.buffer._batches_async import AsyncBatches
from mongopatterns.buffer._buffer_plan import Bounds, BufferPlan, DeadLetter
from mongopatterns.buffer._items import Target
from mongopatterns.buffer._queue import Batch
from mongopatterns.buffer._stats import BatchReport, BufferStats
from mongopatterns.errors import UsageError
from mongopatterns.typing import Durability

__all__ = ["AsyncIntake"]

_LOG: Final = logging.getLogger("mongopatterns.buffer")
_NAME: Final = "WriteBuffer"


class AsyncIntake:
    """Take operations, and see to it that each is stored, or that somebody hears of it.

    Args:
        client: The driver's client.
        bounds: How much it takes, and when it sends.
        ledger: Where the ids of batches are written.
        durability: What an acknowledgement promises.
        spool: The directory of what is on disk; None for memory alone.
        fsync: Whether that survives a failure of the machine.
        on_dead_letter: What becomes of operations that are not stored, and that nobody waits for.
        on_batch: What is called after each batch.
    """

    def __init__(
        self,
        client: Any,
        bounds: Bounds,
        ledger: Any,
        *,
        durability: Durability,
        spool: str | PathLike[str] | None,
        fsync: bool,
        on_dead_letter: Any,
        on_batch: Callable[[BatchReport], None] | None,
    ) -> None:
        self._client = client
        self._durability = durability
        self._on_dead_letter, self._on_batch = on_dead_letter, on_batch
        self._targets: dict[str, Target] = {}
        self._last: tuple[Any, Target] | None = None  # the collection of the last call, and what is known of it
        self._plan: BufferPlan[AsyncAck] = BufferPlan(bounds)
        self._batches = AsyncBatches(self._plan, client, ledger)
        self._worker: Worker[AsyncAck, Batch[AsyncAck]] = Worker(
            self._plan.queue, self._send, name=_NAME, in_flight=bounds.in_flight, max_delay=bounds.max_delay
        )
        self._worker.ends_with(self.close)
        self._spool = None if spool is None else Spool(spool, fsync=fsync)
        self._fsync = fsync
        self._journal: Journal | None = None
        self._disk = Groups(self._written, self._written_together, name=_NAME, max_runs=1000)
        self._opening = driver.Lock()
        self._process = 0

    @property
    def stats(self) -> BufferStats:
        """What was done so far."""
        return self._plan.stats

    @property
    def is_exact(self) -> bool:
        """Whether each batch is a transaction."""
        return self._plan.is_exact

    async def open(self) -> None:
        """Do what others have left in the spool."""
        if self._spool is not None:
            await self._open(self._spool)

    async def flush(self, timeout: float | None) -> None:
        """Send what was taken so far, and wait until it is known what came of it."""
        await self._worker.flush(timeout)

    async def close(self, timeout: float | None) -> None:
        """Take nothing more, and send what was taken."""
        given_up = self._plan.given_up(await self._worker.close(timeout))
        if self._journal is None:
            await self._bury(given_up)
        # (What is under way is noted there; in a fork it is the parent's.)
        elif self._process == getpid() and not self._plan.queue.there:  # pragma: no branch
            self._journal.close()
            self._journal = None

    def target(self, collection: Any) -> Target:
        """Return what is known of a collection."""
        last = self._last
        if last is None or collection is not last[0]:
            last = self._last = collection, self._bound(collection)
        return last[1]

    def _bound(self, collection: Any) -> Target:
        if not hasattr(type(collection), "find_one_and_update"):
            raise UsageError("collection", f"expected a collection, got {type(collection).__name__}")
        name = collection.full_name
        if collection.database.client is not self._client:
            raise UsageError("collection", f"{name} belongs to another client than the buffer")
        found = self._targets.get(name)
        if found is None:
            bound: Any = driver.bind(collection, collection.name, self._durability)
            found = self._targets.setdefault(name, Target(name, bound, bound.codec_options))
        if collection.codec_options.uuid_representation != found.codec_options.uuid_representation:
            raise UsageError("collection", f"{name} came with another uuid_representation before: use the same one")
        return found

    async def accept(self, item: AsyncAck) -> AsyncAck:
        """Take an operation, if there is room for it, or when there is."""
        worker = self._worker
        if worker.is_greedy():
            await driver.pause(0)
        if self._spool is None:
            if worker.put(item):
                return item
        else:
            worker.check()
            if self._process != getpid():
                await self._open(self._spool)
        if not worker.reserve(item):
            if self._plan.bounds.when_full == "reject":
                raise self._plan.full()
            if self._plan.bounds.when_full == "wait" or not await self._drop_for(item):
                await worker.wait_for_room(item)
        if self._journal is not None:
            try:
                await self._disk.submit(None, item, None) if self._fsync else self._write([item])
            except BaseException:
                worker.release(item)
                raise
        worker.add(item)
        return item

    async def _drop_for(self, item: AsyncAck) -> bool:
        """Keep room for an item where the oldest ones were; tell whether there is any."""
        has_room, dropped = self._worker.make_room(item)
        try:
            self._over(dropped)
            await self._bury(self._plan.dropped(dropped))
        except BaseException:
            if has_room:  # pragma: no branch  # there is none if it needs more bytes than those had
                self._worker.release(item)
            raise
        return has_room

    async def _send(self, batch: Batch[AsyncAck]) -> None:
        """Send a batch, and tell of it."""
        started = perf_counter()
        try:
            if self._plan.is_exact:
                batch.id = ObjectId()
                if self._journal is not None:
                    self._journal.begin(batch.id, _places(batch))
            await self._batches.send(batch)
        except BaseException as error:
            # It was ended from outside, or its id cannot be written: what is on disk will be done, the rest is unknown.
            self._plan.ended(batch, error)
            await self._tell(batch, perf_counter() - started, lost=self._journal is None)
            if not isinstance(error, Exception):
                raise
            return
        self._over(batch.members)
        await self._tell(batch, perf_counter() - started)

    async def _tell(self, batch: Batch[AsyncAck], seconds: float, *, lost: bool = True) -> None:
        """Tell of a batch, and of what in it is lost."""
        report, failed = self._plan.sent(batch, seconds)
        if self._on_batch is not None:
            self._told(self._on_batch, report)
        await self._bury(failed if lost else ())

    # On disk .....................................................................................................

    async def _open(self, spool: Spool) -> None:
        """Do what others have left to be done, and begin a journal."""
        async with self._opening:
            if self._process == getpid():
                return
            for journal in spool.adopt():
                try:
                    await self._redo(journal)
                finally:  # (what is not done by now is left to others)
                    journal.close()
            self._journal = spool.journal()
            self._process = getpid()

    async def _redo(self, journal: Journal) -> None:
        """Do what is left in a journal."""
        left = journal.left()
        items = {place: self._restored(record, place) for place, record in left.items.items()}
        for batch in self._plan.left(items, left.batches):
            if batch.id is None and self._plan.is_exact:
                batch.id = ObjectId()
                journal.begin(batch.id, _places(batch))
            started = perf_counter()
            await self._batches.send(batch)
            self._plan.redone(batch)
            journal.done(_places(batch))
            await self._tell(batch, perf_counter() - started)

    def _restored(self, record: Mapping[str, Any], place: int) -> AsyncAck:
        database, _, name = record["to"].partition(".")
        target = self.target(self._client[database][name])
        item = _items.restored(AsyncAck, target, record)
        item.place = place
        return item

    def _write(self, items: Sequence[AsyncAck]) -> None:
        """Have operations on disk."""
        if self._journal is not None:  # pragma: no branch  # it is called with one alone
            places = self._journal.accept([_items.record(item) for item in items])
            for item, place in zip(items, places, strict=True):
                item.place = place

    async def _written(self, item: AsyncAck, _: float | None) -> None:
        await driver.in_thread(partial(self._write, [item]))

    async def _written_together(self, items: list[AsyncAck], _: float | None) -> list[None]:
        await driver.in_thread(partial(self._write, items))
        return [None] * len(items)

    def _over(self, items: Sequence[AsyncAck]) -> None:
        """Note on disk that operations need not be done again."""
        if self._journal is not None:
            self._journal.done(item.place for item in items if item.place is not None)

    async def _bury(self, items: Sequence[AsyncAck]) -> None:
        """Tell of operations of which nobody hears otherwise."""
        letters = [DeadLetter.of(item) for item in items]
        if letters and hasattr(type(self._on_dead_letter), "insert_many"):
            await self._store(letters)
            return
        for letter in letters:
            if self._on_dead_letter is None:
                _LOG.error(
                    "not stored: %s of %r in %s: %s", letter.operation, letter.key, letter.collection, letter.error
                )
                continue
            try:
                await driver.settle(self._on_dead_letter(letter))
            except Exception:  # noqa: BLE001  # whatever somebody's function does
                self._lost(letter)

    async def _store(self, letters: Sequence[DeadLetter]) -> None:
        """Store dead letters, all at once; each by itself if that fails, for one of them may be too large."""
        documents = [letter.document() for letter in letters]
        with deadline(self._plan.bounds.retry_for):
            with suppress(PyMongoError):
                await self._on_dead_letter.insert_many(documents, ordered=False)
                return
            for letter, document in zip(letters, documents, strict=True):
                try:
                    # (the driver gave it an _id, by which it is known if it is there)
                    await self._on_dead_letter.replace_one({"_id": document["_id"]}, document, upsert=True)
                except Exception:  # noqa: BLE001, PERF203  # whatever there is to say
                    self._lost(letter)

    @staticmethod
    def _lost(letter: DeadLetter) -> None:
        _LOG.exception("a dead letter was lost: %s of %r in %s", letter.operation, letter.key, letter.collection)

    @staticmethod
    def _told(hook: Callable[[Any], None], what: Any) -> None:
        try:
            hook(what)
        except Exception:  # noqa: BLE001  # whatever somebody's function does
            _LOG.exception("on_batch failed")


def _places(batch: Batch[Any]) -> list[int]:
    """Return where the items of a batch lie in the journal."""
    return [item.place for item in batch.members if item.place is not None]
