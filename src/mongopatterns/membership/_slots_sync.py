# Generated from src/mongopatterns/membership/_slots_async.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""Slots on an asynchronous driver: sends what the plan built, hands the reply back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from bson import ObjectId
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from mongopatterns import _driver_sync as driver
from mongopatterns.commands import Aggregate, FindOneAndUpdate
from mongopatterns.membership._slots_plan import InsertMany, SlotsPlan
from mongopatterns.membership._slots_spec import HeldSlot, Slot, SlotsSpec
from mongopatterns.specs import check_spec
from mongopatterns.typing import CollectionLike, Durability

__all__ = ["Slots"]


class Slots:
    """Give each owner so many slots: never more are held than the cap, and nobody is refused while one is free.

    Args:
        target: A database, or the collection itself. Its indexes (`spec.indexes()`) must exist.
        spec: How many slots, for how long, and where.
        durability: What an acknowledgement means. With `Durability.FAST`, a refusal may be of a moment ago.

    Raises:
        UsageError: If `target` is of the other world, or no database or collection.
    """

    def __init__(self, target: driver.Target, spec: SlotsSpec, *, durability: Durability = Durability.MAJORITY) -> None:
        self.spec: SlotsSpec = check_spec(spec, SlotsSpec)
        self._collection = driver.bind(target, spec.collection, durability)
        self._snapshots: CollectionLike[dict[str, Any]] = self._collection.with_options(
            read_concern=ReadConcern("snapshot")  # (left out by the driver in a transaction, which has its own)
        )
        self._plan = SlotsPlan(spec, self._collection.name, self._collection.codec_options)
        self._senders: Mapping[type, Any] = {
            FindOneAndUpdate: self._write,
            Aggregate: self._look,
            InsertMany: self._insert,
        }

    def acquire(
        self,
        owner: Any,
        *,
        cap: int | None = None,
        data: Mapping[str, Any] | None = None,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> Slot:
        """Take a free slot of `owner`, if there is one.

        One round trip where a slot is free; two to refuse; four where slots have to be made first, as for an owner
        who is new. Each time that others take the last free slot in between, it goes round again, two round trips
        more; after 1,000 such rounds it gives up.

        A call whose outcome is unknown (`may_have_applied(error)`) may have taken a slot that nobody knows of: it is
        free again after the spec's `ttl`.

        Args:
            owner: Whose slot: any value with a plain equality.
            cap: How many slots this owner has, from 0 to 10,000, if another number than the spec's.
            data: Fields that are stored with the slot, and told by `holders`.
            session: A session of the driver, to take part in its transaction. In a transaction slots are seen as they
                were when it began, and a conflict with another caller ends it with an error of the driver that
                `with_transaction` repeats.
            timeout: Seconds for the whole call, all rounds included.
            now: The time to decide by, instead of the server's; for tests.

        Returns:
            The verdict: `ACQUIRED` with a token, or `FULL`.

        Raises:
            UsageError: On a bad owner, cap, data, time or timeout; nothing was sent.
            StateError: If no slot is free, and the `until` of one is neither a date nor null.
            Conflict: After 1,000 rounds in which others took all that came free; nothing is held.
            OperationFailure: In a transaction, if another caller takes or makes the same slot at the same time.
        """
        attempt = self._plan.acquire(owner, cap=cap, data=data, holder=ObjectId(), session=session, now=now)
        with driver.call(self._collection, timeout):
            while again := self._plan.again(attempt):
                attempt = self._plan.told(attempt, self._answer(again, session))
        return self._plan.acquired(attempt)

    def renew(
        self,
        slot: Slot | HeldSlot | str,
        *,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> Slot:
        """Hold on to a slot for another `ttl` from now, if its time is not over.

        One round trip. A slot whose time is over is lost even if nobody has taken it since: acquire again.

        Args:
            slot: What `acquire` returned, or its token, in this process or another.
            session: A session of the driver, to take part in its transaction.
            timeout: Seconds for the whole call.
            now: The time to decide by, instead of the server's; for tests.

        Returns:
            The verdict: `RENEWED` with the same token, or `LOST`.

        Raises:
            UsageError: On a bad token, time or timeout, or if slots of the spec never expire; nothing was sent.
            StateError: If the slot's `until` is neither a date nor null.
        """
        holding = self._plan.renew(slot, now=now)
        with driver.call(self._collection, timeout):
            return self._plan.held(holding, self._write(holding.command, session))

    def release(
        self,
        slot: Slot | HeldSlot | str,
        *,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> Slot:
        """Give a slot up: it is free at once.

        One round trip. To release again, or too late, changes nothing: nobody can release what another one holds.

        Args:
            slot: What `acquire` or `holders` returned, or its token, in this process or another.
            session: A session of the driver, to take part in its transaction.
            timeout: Seconds for the whole call.
            now: The time to decide by, instead of the server's; for tests.

        Returns:
            The verdict: `RELEASED`, or `LOST`.

        Raises:
            UsageError: On a bad token, time or timeout; nothing was sent.
            StateError: If the slot's `until` is neither a date nor null.
        """
        holding = self._plan.release(slot, released=ObjectId(), now=now)
        with driver.call(self._collection, timeout):
            return self._plan.held(holding, self._write(holding.command, session))

    def holders(
        self, owner: Any, *, session: Any = None, timeout: float | None = None, now: dt.datetime | None = None
    ) -> list[HeldSlot]:
        """List the slots of `owner` that are held, by their numbers.

        One round trip, to the primary.

        Raises:
            UsageError: On a bad owner, time or timeout.
            StateError: If what is stored is no slot.
        """
        command = self._plan.holders(owner, now=now)
        with driver.call(self._collection, timeout):
            return self._plan.listed(owner, self._read(self._collection, command, session))

    def size(
        self, owner: Any, *, session: Any = None, timeout: float | None = None, now: dt.datetime | None = None
    ) -> int:
        """Count the slots of `owner` that are held.

        One round trip, to the primary.

        Raises:
            UsageError: On a bad owner, time or timeout.
            StateError: If the `until` of a slot is neither a date nor null.
        """
        command = self._plan.size(owner, now=now)
        with driver.call(self._collection, timeout):
            return self._plan.counted(owner, self._read(self._collection, command, session))

    def _answer(self, command: Any, session: Any) -> Any:
        """Send one command of any kind, and return what came back: the plan knows what an error tells."""
        try:
            return self._senders[type(command)](command, session)
        except OperationFailure as error:
            return error

    def _write(self, command: FindOneAndUpdate, session: Any) -> Any:
        return self._collection.find_one_and_update(**command.arguments(), session=session)

    def _look(self, command: Aggregate, session: Any) -> list[dict[str, Any]]:
        return self._read(self._snapshots, command, session)

    def _insert(self, command: InsertMany, session: Any) -> None:
        self._collection.insert_many(command.documents, ordered=False, comment=command.comment, session=session)

    def _read(
        self, collection: CollectionLike[dict[str, Any]], command: Aggregate, session: Any
    ) -> list[dict[str, Any]]:
        cursor = driver.settle(
            collection.aggregate(command.pipeline, let=command.let, comment=command.comment, session=session)
        )
        found: list[dict[str, Any]] = cursor.to_list(None)
        return found
