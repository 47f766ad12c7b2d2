"""A rate limiter on an asynchronous driver: sends what the plan built, hands the reply back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from bson import ObjectId
from typing_extensions import Self

from mongopatterns import _driver_async as driver
from mongopatterns._driver import utc_now
from mongopatterns.amounts import Amount
from mongopatterns.commands import Aggregate, FindOneAndUpdate
from mongopatterns.counters._combining_async import AsyncCombining
from mongopatterns.counters._commands import Ask
from mongopatterns.counters._limiter_plan import Hits, LimiterPlan
from mongopatterns.counters._specs import RateLimiterSpec
from mongopatterns.counters._verdicts import RateDecision
from mongopatterns.specs import check_spec
from mongopatterns.typing import Durability

__all__ = ["AsyncRateLimiter"]


class AsyncRateLimiter:
    """Admit so much in so much time: exactly, in one write, for any number of callers and processes.

    The server's clock decides. Every call is one round trip, with the arguments `session` (a session of the driver,
    to take part in its transaction), `timeout` (seconds for the whole call) and `now` (an aware datetime instead of
    the server's clock, for tests). If the driver's error says that the outcome of a write is unknown,
    `may_have_applied(error)` is true. What every call raises: `UsageError` on a bad argument, and nothing was
    sent; `DocumentNotFound` if there is no document and the spec says `create=None`; `StateError` if what is stored
    is not the state of such a limiter, or its `ttl_field` holds no date, and nothing was changed.

    Args:
        target: A database, or the collection itself.
        spec: The rate, the algorithm, and where the state lives.
        combine: Whether callers of this process that `hit` one key at the same time share round trips. The server
            decides on each in its order, and each gets its own exact verdict, after the acknowledgement;
            `OutcomeUnknown` and `NotSent` may be raised. `close()` waits for those under way.
        durability: What an acknowledgement means.

    Raises:
        UsageError: If `target` is of the other world, or no database or collection.
    """

    def __init__(
        self,
        target: driver.Target,
        spec: RateLimiterSpec,
        *,
        combine: bool = False,
        durability: Durability = Durability.MAJORITY,
    ) -> None:
        self.spec: RateLimiterSpec = check_spec(spec, RateLimiterSpec)
        self._collection = driver.bind(target, spec.collection, durability)
        self._plan = LimiterPlan(spec, self._collection.name, self._collection.codec_options)
        self._sender = AsyncCombining(
            self._alone, self._together, self._plan.lane, combine=combine, name="rate limiter"
        )

    async def hit(
        self,
        key: Any,
        cost: Amount = 1,
        *,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> RateDecision:
        """Admit a hit of `key` if there is room for its cost.

        A refused hit counts for nothing: it writes nothing and creates nothing.

        Args:
            key: The value of the spec's key field.
            cost: Greater than 0 and at most 10**15; fractions are exact decimals of up to 16 places.
            session: A session of the driver. Calls with a session or a time travel alone.
            timeout: Seconds for the whole call.
            now: An aware datetime instead of the server's clock, for tests.

        Returns:
            The verdict: true if admitted. `.require()` raises if not.
        """
        return await self._sender.send(self._plan.ask("hit", key, cost), session, timeout, now)

    async def peek(
        self,
        key: Any,
        cost: Amount = 1,
        *,
        session: Any = None,
        timeout: float | None = None,
        now: dt.datetime | None = None,
    ) -> RateDecision:
        """Tell what `hit` would decide now. Writes nothing.

        Read from the primary. Another caller may be quicker: to act on it, `hit`.
        """
        ask = self._plan.ask("peek", key, cost)
        replies = await self._read(self._plan.peek(ask, now=now), session, timeout)
        return self._plan.seen(ask, replies, now=now, clock=utc_now())

    async def reset(self, key: Any, *, session: Any = None, timeout: float | None = None) -> bool:
        """Forget what counts against `key`; the rest of its document stays. True if there was anything.

        A state of the wrong type, which every other call refuses, is removed as well.
        """
        query, update = self._plan.reset(key)
        async with driver.call(self._collection, timeout):
            result = await self._collection.update_one(
                query, update, session=session, comment="mongopatterns.rate_limiter.reset"
            )
        return bool(result.modified_count)

    def explain(self, key: Any, cost: Amount = 1) -> dict[str, Any]:
        """Return the arguments of the one `find_one_and_update` that `hit` sends, for reading. Sends nothing."""
        return self._plan.explain(key, cost)

    async def close(self) -> None:
        """Wait for the calls that share round trips; later ones raise `UsageError`. Without `combine`: nothing."""
        await self._sender.close()

    async def __aenter__(self) -> Self:
        """Return the limiter; it is closed at the end of the block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()

    async def _alone(
        self,
        ask: Ask,
        timeout: float | None,
        *,
        session: Any = None,
        now: dt.datetime | None = None,
        once: str | None = None,  # noqa: ARG002  # nobody gives one
    ) -> RateDecision:
        call = self._plan.hit(ask, token=ObjectId(), now=now)
        return self._plan.decide(call, await self._write(call.command, session, timeout), clock=utc_now())

    async def _together(self, asks: Sequence[Ask], timeout: float | None) -> Sequence[RateDecision]:
        call = self._plan.group(asks, token=ObjectId())
        async with driver.call(self._collection, timeout):
            call, reply = await self._answered(call)
        return self._plan.decide_all(call, reply, clock=utc_now())

    async def _answered(self, call: Hits) -> tuple[Hits, Any]:
        """Send a group, once more if there is no room for all of it; return what was sent last, and the reply."""
        reply = await self._send(call.command, None)
        if again := self._plan.again(call, reply):
            return again, await self._send(again.command, None)
        return call, reply

    async def _write(self, command: FindOneAndUpdate, session: Any, timeout: float | None) -> Any:
        async with driver.call(self._collection, timeout):
            return await self._send(command, session)

    async def _send(self, command: FindOneAndUpdate, session: Any) -> Any:
        return await self._collection.find_one_and_update(**command.arguments(), session=session)

    async def _read(self, command: Aggregate, session: Any, timeout: float | None) -> list[Any]:
        async with driver.call(self._collection, timeout):
            cursor = await driver.settle(
                self._collection.aggregate(command.pipeline, let=command.let, session=session, comment=command.comment)
            )
            documents: list[Any] = await cursor.to_list(None)
        return documents
