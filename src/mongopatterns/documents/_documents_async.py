"""Documents by their unique key on an asynchronous driver: sends what the plan built, hands the reply back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from bson import Decimal128, ObjectId
from pymongo.errors import OperationFailure

from mongopatterns import _driver_async as driver
from mongopatterns._driver import after_a_write
from mongopatterns.commands import Aggregate
from mongopatterns.documents._documents_plan import DocumentPlan, Stored
from mongopatterns.documents._documents_spec import DocumentSpec
from mongopatterns.specs import check_spec
from mongopatterns.typing import Durability

__all__ = ["AsyncDocuments"]


class AsyncDocuments:
    """Create, change and take documents that many callers want at once: one command a call, exactly.

    Needs the unique index that `spec.indexes()` names, unless the key is `_id`. Without it every promise about one
    document for one key is void: two callers make two. A collection may be sharded by the key.

    Args:
        target: A database, or the collection itself.
        spec: The collection, and the key of its documents.
        durability: What an acknowledgement means.

    Raises:
        UsageError: If `target` is of the other world, or no database or collection.
    """

    def __init__(
        self, target: driver.Target, spec: DocumentSpec, *, durability: Durability = Durability.MAJORITY
    ) -> None:
        self.spec: DocumentSpec = check_spec(spec, DocumentSpec)
        self._collection = driver.bind(target, spec.collection, durability)
        self._plan = DocumentPlan(spec, self._collection.name, self._collection.codec_options)

    async def get_or_create(
        self,
        key: Any,
        defaults: Mapping[str, Any] | None = None,
        *,
        session: Any = None,
        timeout: float | None = None,
    ) -> Stored:
        """Return the document of `key`; make it first if it is not there.

        One round trip. However many callers ask at once, one makes the document and all others get that one. A
        document that is there is not changed.

        Args:
            key: The value of the key's field; for several fields a tuple in their order, or a dict.
            defaults: The other fields of a document that is made, stored as they are. Its `_id` may be among them;
                otherwise it is a fresh ObjectId.
            session: A session of the driver, to take part in its transaction.
            timeout: Seconds for the whole call.

        Returns:
            The document, and whether this call made it.

        Raises:
            UsageError: On a bad key, timeout, or field name in `defaults`, and if those hold a field of the key;
                nothing was sent.
            DuplicateKeyError: Only if another unique index stands against the document that would be made.
        """
        asked = self._plan.get_or_create(key, defaults, ObjectId())
        async with driver.call(self._collection, timeout):
            reply = await self._collection.find_one_and_update(**asked.command.arguments(), session=session)
        return self._plan.got(asked, reply)

    async def upsert(
        self,
        key: Any,
        *,
        set: Mapping[str, Any] | None = None,  # noqa: A002  # what MongoDB calls it
        set_on_insert: Mapping[str, Any] | None = None,
        inc: Mapping[str, int | float | Decimal | Decimal128] | None = None,
        push_last: Mapping[str, Any] | None = None,
        keep: int | None = None,
        set_now: Iterable[str] = (),
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> Stored:
        """Change the document of `key`, or make it with these changes if it is not there.

        One round trip, and all changes or none. (Two before a StateError. Where `_id` is the key or among
        `set_on_insert`, and in a transaction, two in other cases instead: the call made the document and `set_now`
        names fields, whose times are then read back; or the driver had to repeat the write.) Changes are given by
        dotted path. A path leads through documents; parents that are missing or null are made. What a path does not
        name stays as it is. Without any change the document is made if it is missing.

        Args:
            key: The value of the key's field; for several fields a tuple in their order, or a dict.
            set: Values that are put at their paths, as they are.
            set_on_insert: Values that only a document gets which this call makes. (Where `_id` is the key: also one
                that holds nothing but its `_id`.) `_id` may be among them if it is not the key.
            inc: Numbers that are added, negative ones too. Missing and null count as 0. An int is added as an
                integer, a float as a double, a Decimal exactly, as a Decimal128: what is stored keeps or takes
                the wider type, as with `$inc`.
            push_last: Values that are appended, each to the array at its path. Missing and null count as empty.
            keep: How many of its last entries each of these arrays keeps; None: all. Only with `push_last`.
            set_now: Paths that are set to the server's time.
            session: A session of the driver, to take part in its transaction.
            timeout: Seconds for the whole call.
            now: An aware datetime instead of the server's time, for tests.

        Returns:
            The document after the call, and whether this call made it.

        Raises:
            UsageError: On a bad key, path, value or timeout, if two paths overlap each other or the key, and if
                `keep` is given without `push_last`; nothing was sent.
            StateError: If something else than a number, an array or a document stands where one is needed, or an
                integer would leave 64 bits; the document stays as it was.
            DuplicateKeyError: Only if another unique index stands against the document after the call.
            OutcomeUnknown: If the call was applied, and a second round trip that would tell more failed.
            OperationFailure: Of the server, with the code 10334 (`BSONObjectTooLarge`), if the document would pass
                the 16 MB that it stores; the document stays as it was.
        """
        changes = {"set": set, "set_on_insert": set_on_insert, "inc": inc}
        made = ObjectId()
        asked = self._plan.upsert(
            key, changes, push_last=push_last, keep=keep, set_now=set_now, made=made, session=session, now=now
        )
        async with driver.call(self._collection, timeout):
            try:
                reply = await self._collection.find_one_and_update(**asked.command.arguments(), session=session)
            except OperationFailure as error:
                asked = self._plan.refused(asked, error)
                reply = await self._collection.find_one_and_update(**asked.command.arguments(), session=session)
            if again := self._plan.again(asked, reply):
                with after_a_write(session):
                    reply = await self._read(again, session)
        return self._plan.upserted(asked, reply)

    async def take(
        self,
        key: Any,
        *,
        unexpired: str | None = None,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> dict[str, Any] | None:
        """Delete the document of `key` and return it: of all callers, at most one ever gets it.

        One round trip. If the call ends with an error of which `may_have_applied(error)` is true, the document may
        be gone without anybody having got it.

        Args:
            key: The value of the key's field; for several fields a tuple in their order, or a dict.
            unexpired: The path of a date. The document is taken only while that is in the server's future; one
                where it is missing, null or no date counts as expired, and stays.
            session: A session of the driver, to take part in its transaction.
            timeout: Seconds for the whole call.
            now: An aware datetime instead of the server's time, for tests.

        Returns:
            The document; None if there is none, it has been taken, or it has expired.

        Raises:
            UsageError: On a bad key, path or timeout; nothing was sent.
        """
        command = self._plan.take(key, unexpired, now)
        async with driver.call(self._collection, timeout):
            taken: dict[str, Any] | None = await self._collection.find_one_and_delete(
                **command.arguments(), session=session
            )
        return taken

    async def _read(self, command: Aggregate, session: Any) -> dict[str, Any]:
        cursor = await driver.settle(
            self._collection.aggregate(command.pipeline, let=command.let, comment=command.comment, session=session)
        )
        found: list[dict[str, Any]] = await cursor.to_list(None)
        return found[0]
