"""Counters and quotas on an asynchronous driver: sends what the plan built, hands the reply back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from bson import ObjectId

from mongopatterns import _driver_async as driver
from mongopatterns._driver import utc_now
from mongopatterns.amounts import Amount, Number
from mongopatterns.counters._plan import Consumption, CounterPlan, QuotaPlan
from mongopatterns.counters._specs import CounterSpec, Decision, QuotaSpec
from mongopatterns.typing import Durability

__all__ = ["AsyncCounter", "AsyncQuota"]


class AsyncCounter:
    """Add up exactly, however many callers add at once.

    Args:
        target: A database, or the collection itself.
        spec: What to count, and where.
        durability: What an acknowledgement means.

    Raises:
        UsageError: If `target` is of the other world, or no database or collection.
    """

    def __init__(
        self, target: driver.Target, spec: CounterSpec, *, durability: Durability = Durability.MAJORITY
    ) -> None:
        self.spec = spec
        self._collection = driver.bind(target, spec.collection, durability)
        self._plan = CounterPlan(spec, self._collection.name)

    async def add(self, key: Any, amount: Amount = 1, *, session: Any = None, timeout: float | None = None) -> Number:
        """Add `amount` to the number of `key` and return the new total.

        One round trip. A float is taken as the decimal that its text spells, so ten times 0.1 is 1. If the
        driver's error says that the outcome is unknown, `may_have_applied(error)` is true.

        Args:
            key: The value of the spec's key field.
            amount: Greater than 0 and at most 10**15.
            session: A session of the driver, to take part in its transaction.
            timeout: Seconds for the whole call.

        Raises:
            UsageError: On a bad key, amount or timeout; nothing was sent.
            DocumentNotFound: If there is no such document and the spec says `create=None`.
            StateError: If the number stored is not finite.
            OperationFailure: If something else than a number is stored (code 14), or the sum would leave 64
                bits; nothing was changed. (A number that somebody else stored as a double stays one, and counts
                exactly up to 2**53.)
        """
        command = self._plan.add(key, amount)
        async with driver.call(self._collection, timeout):
            reply = await self._collection.find_one_and_update(**command.arguments(), session=session)
        return self._plan.total(key, reply, written=True)

    async def value(self, key: Any, *, session: Any = None, timeout: float | None = None) -> Number:
        """Return the number of `key`; 0 if nothing was added yet.

        One round trip, to the primary.

        Raises:
            UsageError: On a bad key or timeout.
            StateError: If what is stored is not a finite number.
        """
        async with driver.call(self._collection, timeout):
            reply = await self._collection.find_one(
                self._plan.filter(key),
                self._plan.projection,
                session=session,
                comment="mongopatterns.counter.value",
            )
        return self._plan.total(key, reply)

    async def values(
        self, keys: Sequence[Any], *, session: Any = None, timeout: float | None = None
    ) -> dict[Any, Number]:
        """Return the number of every key, in the order asked; 0 where nothing was added yet.

        One round trip for as many keys as fit into one command (16 MB of keys) and one reply.

        Raises:
            UsageError: On a bad key or timeout.
            StateError: If what is stored for one of them is not a finite number, or a document matched by a
                collation or an array in the key field.
        """
        asked = self._plan.values(keys)
        async with driver.call(self._collection, timeout):
            cursor = self._collection.find(
                asked.filter, asked.projection, session=session, comment="mongopatterns.counter.values"
            )
            documents = await cursor.to_list(None)
        return self._plan.totals(asked, documents)


class AsyncQuota:
    """Grant while every calendar window has room: exactly, in one write, for any number of callers.

    Args:
        target: A database, or the collection itself.
        spec: The windows, and where their state lives.
        durability: What an acknowledgement means.

    Raises:
        UsageError: If `target` is of the other world, or no database or collection.
    """

    def __init__(self, target: driver.Target, spec: QuotaSpec, *, durability: Durability = Durability.MAJORITY) -> None:
        self.spec = spec
        self._collection = driver.bind(target, spec.collection, durability)
        self._plan = QuotaPlan(spec, self._collection.name, self._collection.codec_options)

    async def consume(
        self,
        key: Any,
        amount: Amount = 1,
        *,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> Decision:
        """Charge `amount` to all windows of `key` if each of them has room; else to none.

        One round trip. A refused call writes nothing and creates nothing. If the driver's error says that the
        outcome is unknown, `may_have_applied(error)` is true.

        Args:
            key: The value of the spec's key field.
            amount: Greater than 0 and at most 10**15; fractions are exact decimals.
            session: A session of the driver, to take part in its transaction.
            timeout: Seconds for the whole call.
            now: An aware datetime instead of the server's clock, for tests.

        Returns:
            The verdict: true if granted. `.require()` raises if not.

        Raises:
            UsageError: On a bad key, amount, timeout or now; nothing was sent.
            DocumentNotFound: If there is no such document and the spec says `create=None`.
            StateError: If the stored state, or a limit read from the document, is not what the spec describes;
                nothing was changed.
        """
        return await self._charge(self._plan.consume(key, amount, token=ObjectId(), now=now), session, timeout)

    async def record(
        self,
        key: Any,
        amount: Amount = 1,
        *,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> Decision:
        """Charge `amount` to all windows of `key`, room or not: metering of what has already happened.

        One round trip. Arguments and errors are those of `consume`.

        Returns:
            The verdict: always true; `exceeded` names the windows that are past their limit.
        """
        return await self._charge(self._plan.record(key, amount, token=ObjectId(), now=now), session, timeout)

    async def _charge(self, call: Consumption, session: Any, timeout: float | None) -> Decision:
        async with driver.call(self._collection, timeout):
            reply = await self._collection.find_one_and_update(**call.command.arguments(), session=session)
        return self._plan.decide(call, reply, clock=utc_now())

    async def peek(
        self,
        key: Any,
        amount: Amount = 1,
        *,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> Decision:
        """Tell what `consume` would decide now, and how every window stands. Writes nothing.

        One round trip, to the primary. Another caller may be quicker: to act on it, `consume`.

        Raises:
            UsageError: On a bad key, amount, timeout or now.
            DocumentNotFound: If there is no such document and the spec says `create=None`.
            StateError: If the stored state, or a limit read from the document, is not what the spec describes.
        """
        pipeline, variables = self._plan.peek(key, now=now)
        async with driver.call(self._collection, timeout):
            cursor = await driver.settle(
                self._collection.aggregate(pipeline, let=variables, session=session, comment="mongopatterns.quota.peek")
            )
            replies = await cursor.to_list(1)
        return self._plan.look(key, amount, replies)

    async def reset(self, key: Any, *, session: Any = None, timeout: float | None = None) -> bool:
        """Forget what was used and banked for `key`; the rest of its document stays. True if there was any.

        One round trip. A state of the wrong type, which every other call refuses, is removed as well.

        Raises:
            UsageError: On a bad key or timeout.
        """
        query, update = self._plan.reset(key)
        async with driver.call(self._collection, timeout):
            result = await self._collection.update_one(
                query, update, session=session, comment="mongopatterns.quota.reset"
            )
        return bool(result.modified_count)

    def explain(self, key: Any, amount: Amount = 1) -> dict[str, Any]:
        """Return the arguments of the one `find_one_and_update` that `consume` sends, for reading. Sends nothing."""
        return self._plan.explain(key, amount)
