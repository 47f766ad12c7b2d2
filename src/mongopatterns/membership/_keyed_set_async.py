"""A keyed set on an asynchronous driver: sends what the plan built, hands the reply back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mongopatterns import _driver_async as driver
from mongopatterns.membership._keyed_set_plan import Change, KeyedSetPlan
from mongopatterns.membership._keyed_set_spec import KeyedSetSpec
from mongopatterns.membership._keyed_set_verdicts import AddManyResult, KeyedSetResult
from mongopatterns.membership._sending_async import AsyncSending
from mongopatterns.specs import check_spec
from mongopatterns.typing import Durability

__all__ = ["AsyncKeyedSet"]


class AsyncKeyedSet:
    """Keep sets under names in documents of yours: reactions, votes, tags, likes.

    Each call is one round trip (after a lost answer that the driver has repeated, one read more), and each decides in
    the write itself. A call that changes nothing writes nothing. A name is any text of 1 to 256 characters without a
    NUL, stored as itself, whatever it looks like. A member is any value with one equality, as a key is, and is equal
    to what the server finds equal: 1 is 1.0 and not True.

    What every call takes: `session` (a session of the driver, to take part in its transaction) and `timeout` (seconds
    for the whole call). What every call raises: `UsageError` on a bad argument, and nothing was sent; `StateError` if
    the path of the map (or of `counts`) leads to something else than a document, or the name to something else than
    an array, or if the document would pass the 16 MB that the server stores, and nothing was changed. If the driver's
    error says that the outcome of a write is unknown, `may_have_applied(error)` is true.

    Args:
        target: A database, or the collection itself.
        spec: Where the map is, and how much it may hold.
        durability: What an acknowledgement means.

    Raises:
        UsageError: If `target` is of the other world, or no database or collection.
    """

    def __init__(
        self, target: driver.Target, spec: KeyedSetSpec, *, durability: Durability = Durability.MAJORITY
    ) -> None:
        self.spec: KeyedSetSpec = check_spec(spec, KeyedSetSpec)
        self._collection = driver.bind(target, spec.collection, durability)
        self._plan = KeyedSetPlan(spec, self._collection.name, self._collection.codec_options)
        self._sending = AsyncSending(self._collection, self._plan)

    async def add(
        self, key: Any, name: str, member: Any, *, session: Any = None, timeout: float | None = None
    ) -> KeyedSetResult:
        """Put `member` into the set of `name`, behind those who are in it. Repeating it is harmless.

        Returns:
            The verdict: true if the member is in the set now (ADDED, ALREADY); false for FULL, TOO_MANY_KEYS and
            NOT_FOUND. `.require()` raises if it is false.
        """
        return await self._write(self._plan.change("add", key, name, member), session, timeout)

    async def remove(
        self, key: Any, name: str, member: Any, *, session: Any = None, timeout: float | None = None
    ) -> KeyedSetResult:
        """Take `member` out of the set of `name`, every time that it is stored there. Repeating it is harmless.

        A name that loses its last member is removed from the map. Makes no document: with `create=`, one that is not
        there yet counts as an empty one.

        Returns:
            The verdict: true if the member is not in the set now (REMOVED, ABSENT); false for NOT_FOUND.
        """
        return await self._write(self._plan.change("remove", key, name, member), session, timeout)

    async def toggle(
        self, key: Any, name: str, member: Any, *, session: Any = None, timeout: float | None = None
    ) -> KeyedSetResult:
        """Take `member` out of the set of `name` if it is there, else put it in.

        Repeating it undoes it: where that may happen (a message that is delivered twice, an error after which nobody
        knows whether it was applied), tell the server what is wanted, by `add` or `remove`. What the driver
        repeats by itself is applied once.

        Returns:
            The verdict: true if the member has changed sides (ADDED, REMOVED), and `present` tells to which; false
            for FULL, TOO_MANY_KEYS and NOT_FOUND.
        """
        return await self._write(self._plan.change("toggle", key, name, member), session, timeout)

    async def add_many(
        self, keys: Iterable[Any], name: str, member: Any, *, session: Any = None, timeout: float | None = None
    ) -> AddManyResult:
        """Put `member` into the set of `name` in the documents of all `keys`, in one command.

        The server decides on each document as `add` does, one after the other: bounds hold for each, and callers in
        between see some changed and some not. Documents that refuse stay as they are: also those where something
        else than such a map is stored, and those that would pass 16 MB; they are matched and not added. No document
        is made, even with `create=`.

        The driver does not repeat such a write by itself: when the connection is lost or a primary steps down under
        way, its error arrives, and some of the documents may have been changed. Repeating the call is harmless, and
        adds what is missing.

        Args:
            keys: At least one, and as many as fit into one command (16 MB of keys). One that is named twice counts
                once.
            name: The name of the set.
            member: Who is added.
            session: A session of the driver.
            timeout: Seconds for the whole call.

        Returns:
            How many keys have a document, to how many the member was added, and how many have none; true if it was
            added under every key.
        """
        many = self._plan.add_many(keys, name, member)
        async with driver.call(self._collection, timeout):
            result = await self._collection.update_many(**many.arguments(), session=session)
        return self._plan.added(many, result.matched_count, result.modified_count)

    async def members(self, key: Any, name: str, *, session: Any = None, timeout: float | None = None) -> list[Any]:
        """Return the members of one name, in the stored order; none of a name that is not in use.

        Raises:
            DocumentNotFound: If there is no such document, and the spec says `create=None`.
        """
        read = self._plan.members(key, name)
        return self._plan.members_found(read, await self._sending.read(read.command, session, timeout))

    async def counts(self, key: Any, *, session: Any = None, timeout: float | None = None) -> dict[str, int]:
        """Return how many members each name in use has, in the stored order. They are counted on the server.

        Raises:
            DocumentNotFound: If there is no such document, and the spec says `create=None`.
        """
        read = self._plan.counts(key)
        return self._plan.counts_found(read, await self._sending.read(read.command, session, timeout))

    async def get(self, key: Any, *, session: Any = None, timeout: float | None = None) -> dict[str, list[Any]]:
        """Return the members of every name in use, in the stored order.

        Raises:
            DocumentNotFound: If there is no such document, and the spec says `create=None`.
        """
        read = self._plan.get(key)
        return self._plan.sets_found(read, await self._sending.read(read.command, session, timeout))

    def explain(self, key: Any, name: str, member: Any) -> dict[str, Any]:
        """Return the arguments of the one `find_one_and_update` that `add` sends, for reading. Sends nothing."""
        return self._plan.explain(key, name, member)

    async def _write(self, change: Change, session: Any, timeout: float | None) -> KeyedSetResult:
        return self._plan.decide(change, await self._sending.write(change.command, session, timeout))
