"""A counter on an asynchronous driver: sends what the plan built, hands the reply back."""

from __future__ import annotations

import datetime as dt
import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import Self

from mongopatterns import _driver_async as driver
from mongopatterns.amounts import Amount, Number
from mongopatterns.counters._combining_async import AsyncCombining
from mongopatterns.counters._commands import Ask
from mongopatterns.counters._counter_plan import CounterPlan
from mongopatterns.counters._specs import CounterSpec
from mongopatterns.specs import check_spec
from mongopatterns.typing import Durability

__all__ = ["AsyncCounter"]


class AsyncCounter:
    """Add up exactly, however many callers add at once.

    Args:
        target: A database, or the collection itself.
        spec: What to count, and where.
        combine: Whether callers of this process that add to one key at the same time share round trips. Each
            gets its own exact total, after the acknowledgement. `close()` waits for those under way.
        durability: What an acknowledgement means.

    Raises:
        UsageError: If `target` is of the other world, or no database or collection.
    """

    def __init__(
        self,
        target: driver.Target,
        spec: CounterSpec,
        *,
        combine: bool = False,
        durability: Durability = Durability.MAJORITY,
    ) -> None:
        self.spec: CounterSpec = check_spec(spec, CounterSpec)
        self._collection = driver.bind(target, spec.collection, durability)
        self._plan = CounterPlan(spec, self._collection.name, self._collection.codec_options)
        self._sender = AsyncCombining(self._alone, self._together, self._plan.lane, combine=combine, name="counter")
        # Each process starts somewhere else, and then goes round: the stripes are used alike.
        self._stripes = itertools.count(random.randrange(spec.stripes))  # noqa: S311  # nothing to guess

    async def add(
        self,
        key: Any,
        amount: Amount = 1,
        *,
        meters: Mapping[str, Amount] | None = None,
        once: str | None = None,
        session: Any = None,
        timeout: float | None = None,
    ) -> Number:
        """Add `amount` to the number of `key` and return the new total (of a striped counter: of one stripe).

        One round trip, shared if `combine` is on. A float is taken as the decimal that its text spells, so ten
        times 0.1 is 1. If the driver's error says that the outcome is unknown, `may_have_applied(error)` is true.

        Args:
            key: The value of the spec's key field.
            amount: Greater than 0 and at most 10**15.
            meters: What is added to the spec's meters in the same write, by path.
            once: An id, of at most 200 characters: a repeat with the same id adds nothing, as long as the spec's
                `once_kept` later ids have not displaced it. Such a call travels alone.
            session: A session of the driver, to take part in its transaction. Such a call travels alone.
            timeout: Seconds for the whole call.

        Raises:
            UsageError: On a bad key, amount, meter, id or timeout; nothing was sent.
            DocumentNotFound: If there is no such document and the spec says `create=None`.
            StateError: If the number stored is not finite.
            OutcomeUnknown: With `combine` on, if nobody can tell whether the call was applied.
            NotSent: With `combine` on, if `timeout` ran out before it was sent.
            OperationFailure: If something else than a number is stored (code 14), or the sum would leave 64
                bits; nothing was changed. (A number that somebody else stored as a double stays one, and counts
                exactly up to 2**53.)
        """
        return await self._sender.send(self._plan.ask(key, amount, meters), session, timeout, None, once)

    async def _alone(
        self,
        ask: Ask,
        timeout: float | None,
        *,
        session: Any = None,
        now: dt.datetime | None = None,  # noqa: ARG002  # a counter keeps no time
        once: str | None = None,
    ) -> Number:
        command = self._plan.add(ask, stripe=self._next_stripe(), once=once)
        async with driver.call(self._collection, timeout):
            reply = await self._collection.find_one_and_update(**command.arguments(), session=session)
        return self._plan.total(ask.key, reply, written=True)

    async def _together(self, asks: Sequence[Ask], timeout: float | None) -> Sequence[Number]:
        command = self._plan.add_all(asks, stripe=self._next_stripe())
        async with driver.call(self._collection, timeout):
            reply = await self._collection.find_one_and_update(**command.arguments())
        return self._plan.totals_after(asks, reply)

    def _next_stripe(self) -> int:
        return next(self._stripes) % self.spec.stripes

    async def value(self, key: Any, *, session: Any = None, timeout: float | None = None) -> Number:
        """Return the number of `key`; 0 if nothing was added yet.

        One round trip, to the primary.

        Raises:
            UsageError: On a bad key or timeout.
            StateError: If what is stored is not a finite number.
        """
        query = self._plan.value(key)
        async with driver.call(self._collection, timeout):
            cursor = self._collection.find(
                query, self._plan.projection, session=session, comment="mongopatterns.counter.value"
            )
            documents = await cursor.to_list(None)
        return self._plan.whole(key, documents)

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

    async def close(self) -> None:
        """Wait for the calls that share round trips; later ones raise `UsageError`. Without `combine`: nothing."""
        await self._sender.close()

    async def __aenter__(self) -> Self:
        """Return the counter; it is closed at the end of the block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()
