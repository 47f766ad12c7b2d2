"""A set of members with a cap, on an asynchronous driver: sends what the plan built, hands the reply back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, overload

from mongopatterns import _driver_async as driver
from mongopatterns._driver import utc_now
from mongopatterns.membership._capped_set_plan import CappedSetPlan
from mongopatterns.membership._capped_set_spec import CappedSetSpec
from mongopatterns.membership._capped_set_verdicts import JoinManyResult, JoinResult, LeaveResult, MemberResult
from mongopatterns.membership._sending_async import AsyncSending
from mongopatterns.models import decode_all
from mongopatterns.specs import check_spec
from mongopatterns.typing import Durability

__all__ = ["AsyncCappedSet"]

T = TypeVar("T")


class AsyncCappedSet:
    """Seat members while there are seats: nobody twice, nobody lost, nobody refused who fits.

    Every call is one round trip on one document, found by `key_field`. (Should the driver have to repeat a write
    whose answer was lost, a read follows, which has the server tell what was done.)

    Args:
        target: A database, or the collection itself.
        spec: Where the set is, and who may join it.
        durability: What an acknowledgement means.

    Raises:
        UsageError: If `target` is of the other world, or no database or collection.
    """

    def __init__(
        self, target: driver.Target, spec: CappedSetSpec, *, durability: Durability = Durability.MAJORITY
    ) -> None:
        self.spec: CappedSetSpec = check_spec(spec, CappedSetSpec)
        collection = driver.bind(target, spec.collection, durability)
        self._plan = CappedSetPlan(spec, collection.name, collection.codec_options)
        self._sender = AsyncSending(collection, self._plan)

    async def join(
        self,
        key: Any,
        member: Mapping[str, Any],
        *,
        document: bool = False,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> JoinResult:
        """Give a member a seat if there is one.

        A member who has a seat keeps it (`ALREADY`), even if the set is closed or full by now. Expired members are
        evicted by the write that seats another one.

        Args:
            key: The value of the spec's key field.
            member: The member's document; it has the spec's `member_key`. Values, and names with dots or `$`, are
                stored as they are.
            document: Whether the whole document is wanted in the reply. (If the call makes it, a read follows, and an
                `_id` that is not the key is left out.)
            session: A session of the driver, to take part in its transaction.
            timeout: Seconds for the whole call.
            now: An aware time instead of the server's, for tests.

        Raises:
            UsageError: On a bad key, member (also one of 16 MB) or timeout; nothing was sent.
            StateError: If what stands at the path is no array, the cap is missing or no number, or the document
                would pass 16 MB. It stays as it is.
        """
        call = self._plan.join(key, member, document=document, now=now)
        return self._plan.joined(call, await self._sender.write(call.command, session, timeout), clock=utc_now())

    async def join_many(
        self,
        key: Any,
        members: Iterable[Mapping[str, Any]],
        *,
        all_or_none: bool = True,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> JoinManyResult:
        """Give several members seats, in one write.

        If the call makes the document, a read follows, which has the server tell who has a seat.

        Args:
            key: The value of the spec's key field.
            members: Up to 1,000 member documents, each member once.
            all_or_none: Whether nobody is seated unless there are seats for all of them who have none (and for
                all who wait in line: they come first, and take what is free in any case). Otherwise as many as fit
                are seated, in the order given.
            session: A session of the driver, to take part in its transaction.
            timeout: Seconds for the whole call.
            now: An aware time instead of the server's, for tests.

        Raises:
            UsageError: On a bad key, member or timeout, or more than 16 MB of members; nothing was sent.
            StateError: As for `join`.
        """
        call = self._plan.join_many(key, members, all_or_none=all_or_none, now=now)
        return self._plan.joined_many(call, await self._sender.write(call.command, session, timeout), clock=utc_now())

    async def leave(
        self,
        key: Any,
        member: Any,
        *,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> LeaveResult:
        """Take a member out, from a seat or from the line of those who wait.

        In the same write the first of those who wait takes the seat, the next leader leads, and the last one to
        leave closes the set, where the spec says so. Expired members are evicted.

        Args:
            key: The value of the spec's key field.
            member: The member's key.
            session: A session of the driver, to take part in its transaction.
            timeout: Seconds for the whole call.
            now: An aware time instead of the server's, for tests.

        Raises:
            UsageError: On a bad key or timeout; nothing was sent.
            StateError: If what stands at the path is no array (with a line of those who wait: or the cap is missing
                or no number). It stays as it is.
        """
        call = self._plan.leave(key, member, now=now)
        return self._plan.left(call, await self._sender.write(call.command, session, timeout))

    async def touch(
        self,
        key: Any,
        member: Any,
        *,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> MemberResult:
        """Renew a member's time: a heartbeat. One who has expired has no seat any more, and must join again.

        Args:
            key: The value of the spec's key field.
            member: The member's key.
            session: A session of the driver, to take part in its transaction.
            timeout: Seconds for the whole call.
            now: An aware time instead of the server's, for tests.

        Raises:
            UsageError: On a bad key or timeout, or if the spec has no `member_ttl`; nothing was sent.
            StateError: If what stands at the path is no array, or a member without a time is given one and the
                document would pass 16 MB. It stays as it is.
        """
        call = self._plan.touch(key, member, now=now)
        return self._plan.changed(call, await self._sender.write(call.command, session, timeout))

    async def update(
        self,
        key: Any,
        member: Any,
        fields: Mapping[str, Any],
        *,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> MemberResult:
        """Put fields over those of a member who has a seat; the others stay.

        Args:
            key: The value of the spec's key field.
            member: The member's key.
            fields: Fields of the member's document, stored as they are; not its key, and not its time.
            session: A session of the driver, to take part in its transaction.
            timeout: Seconds for the whole call.
            now: An aware time instead of the server's, for tests.

        Raises:
            UsageError: On a bad key, field or timeout; nothing was sent.
            StateError: If what stands at the path is no array, or the document would pass 16 MB. It stays as it is.
        """
        call = self._plan.update_member(key, member, fields, now=now)
        return self._plan.changed(call, await self._sender.write(call.command, session, timeout))

    @overload
    async def members(
        self,
        key: Any,
        *,
        model: None = None,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> list[dict[str, Any]]: ...

    @overload
    async def members(
        self,
        key: Any,
        *,
        model: type[T],
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> list[T]: ...

    async def members(
        self,
        key: Any,
        *,
        model: type[Any] | None = None,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> list[Any]:
        """Read who has a seat, in the order of the array. Expired members, and what is no document, are left out.

        Args:
            key: The value of the spec's key field.
            model: A Pydantic model, dataclass or typed dict to give each member as.
            session: A session of the driver, to read in its transaction.
            timeout: Seconds for the whole call.
            now: An aware time instead of the server's, for tests.

        Raises:
            UsageError: On a bad key, model or timeout.
            DocumentNotFound: If there is no such document and the spec says `create=None`.
            StateError: If what stands at the path is no array.
        """
        found = await self._sender.read(self._plan.look("members", key, now), session, timeout)
        return decode_all(self._plan.seen(key, found)["members"], model)

    async def waiting(
        self, key: Any, *, session: Any = None, timeout: float | None = None, now: dt.datetime | None = None
    ) -> list[dict[str, Any]]:
        """Read who waits in line, the next one first (see `members`)."""
        found = await self._sender.read(self._plan.look("waiting", key, now), session, timeout)
        return list(self._plan.seen(key, found)["waiting"])

    async def size(
        self, key: Any, *, session: Any = None, timeout: float | None = None, now: dt.datetime | None = None
    ) -> int:
        """Read how many seats are taken; the members stay where they are (see `members`)."""
        found = await self._sender.read(self._plan.look("size", key, now), session, timeout)
        return int(self._plan.seen(key, found)["size"])

    def explain(self, key: Any, member: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the one `find_one_and_update` that `join` sends, for reading. Sends nothing."""
        return self._plan.join(key, member).command.explained()
