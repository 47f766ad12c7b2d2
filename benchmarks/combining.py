"""Combined calls: many callers of one process on one hot key.

With `combine=True`, callers that act on one key at the same time share a round trip. The peer of the first rows is
the least that a caller could do without it: one `$inc` per call, which counts, decides nothing and tells nothing.
Both sides use one client with the driver's own `maxPoolSize` of 100, so that of 512 callers of `$inc` 100 are served
at a time; clients of 200 and 512 connections were not quicker. `limits` is called through its asynchronous
storage, on the client that this makes: Motor, with 32 threads, which was quicker here than its default of 10. Nothing
is refused: the limits are too high. Its moving window is left out, because it stores a number for every call.

What combining cannot help is here, too: a thousand keys that are never called twice at once, and a caller who is
alone. A verdict knows whether the call was allowed; its other fields are worked out when somebody asks for them,
and the timed calls do not, except where the table says so. When a row is through, what is stored must be the number
of the calls that were made.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from benchmarks import counters
from benchmarks._ratios import AtLeastTimes, AtMost, Target
from benchmarks._rows import MANY_KEYS, Calls, Measurable, Row
from benchmarks._worlds import Stage, Tally, World
from mongopatterns import (
    AsyncCounter,
    AsyncQuota,
    AsyncRateLimiter,
    Counter,
    CounterSpec,
    Decision,
    Quota,
    QuotaSpec,
    Rate,
    RateDecision,
    RateLimiter,
    RateLimiterSpec,
    Window,
)

LIMIT: Final = counters.LIMIT
RATE_LIMIT: Final = 10**7  # the most that a limiter takes; the timed hits, of 1 each, stay below a tenth of it
MANY: Final = World("async", 64)
CROWD: Final = World("async", 512)
THREADS: Final = World("sync", 64)
LONE: Final = (World("async", 1), World("sync", 1))


def stored(collection: str, path: str) -> Tally:
    """Add up one number of the documents of some keys."""

    def tally(database: Any, keys: Collection[Any]) -> int:
        match = {"$match": {"_id": {"$in": list(keys)}}}
        found = database[collection].aggregate([match, {"$group": {"_id": None, "sum": {"$sum": f"${path}"}}}])
        return next((document["sum"] for document in found), 0)

    return tally


# One raw $inc per call ---------------------------------------------------------------------------------------


def async_raw_increment(database: Any) -> Callable[..., Any]:
    counts = counters.majority(database)

    async def add(key: str, amount: int = 1) -> None:
        await counts.update_one({"_id": key}, {"$inc": {"n": amount}}, upsert=True)

    return add


def raw_increment(database: Any) -> Callable[..., Any]:
    counts = counters.majority(database)

    def add(key: str, amount: int = 1) -> None:
        counts.update_one({"_id": key}, {"$inc": {"n": amount}}, upsert=True)

    return add


def untold(reply: object) -> None:
    """Agree on nothing but what is stored: the peer is not told more."""


RAW: Final = Calls(async_raw_increment, raw_increment, untold, stored("by_hand", "n"))


# The limiters of `limits` ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """A limiter of the package `limits`, with its own MongoDB storage and the client that this makes.

    Attributes:
        name: What its strategy is called there.
        limit: What it admits in a day, which begins with the first hit.
        answer: It tells whether a hit was allowed, and no more.
        tally: Nothing, for its fixed window counts refused hits, too.
    """

    name: str
    limit: int
    answer: Callable[[Any], Any] = bool
    tally: Tally | None = None

    def bind(self, world: World, stage: Stage) -> Callable[..., Any]:
        if world.driver != "async":
            raise ValueError("its synchronous storage is not compared")
        os.environ.setdefault("MOTOR_MAX_WORKERS", "32")  # read once, when Motor is imported by what follows
        from limits import RateLimitItemPerDay  # noqa: PLC0415
        from limits.aio.storage import MongoDBStorage  # noqa: PLC0415
        from limits.aio.strategies import STRATEGIES  # noqa: PLC0415

        storage = MongoDBStorage(f"async+{stage.uri}", database_name=stage.database.name, w="majority")
        stage.exits.callback(storage.storage.close)
        limiter = STRATEGIES[self.name.replace(" ", "-")](storage)
        item = RateLimitItemPerDay(self.limit)

        async def hit(key: str, amount: int = 1, *, cost: int = 1) -> bool:  # (a limiter calls the amount cost)
            return await limiter.hit(item, key, cost=amount * cost)

        return hit


FIXED_WINDOW: Final = Limits("fixed window", LIMIT)
FIXED_HITS: Final = Limits("fixed window", RATE_LIMIT)
SLIDING_HITS: Final = Limits("sliding window counter", RATE_LIMIT)


# What both sides must agree on -------------------------------------------------------------------------------


def told(decision: Decision) -> tuple[Any, ...]:
    """Read what two calls at nearly the same time are told alike: everything but the seconds to wait."""
    *answer, wait = counters.answer_of(decision)
    return (*answer, wait is None)


def rate_told(decision: RateDecision) -> tuple[Any, ...]:
    return decision.allowed, decision.limit, decision.remaining


def allowed(decision: Decision | RateDecision) -> bool:
    return decision.allowed


def mixed(**amount: Sequence[int]) -> list[dict[str, Any]]:
    """Make calls on three keys, with amounts of those."""
    dice = random.Random(1)
    [(name, amounts)] = amount.items()
    return [{"key": f"agree-{dice.randrange(3)}", name: dice.choice(amounts)} for _ in range(60)]


def many(**amount: int) -> list[dict[str, Any]]:
    """Make forty equal calls on one key; if one is a tenth of the limit, ten of them fit."""
    return [{"key": "together", **amount}] * 40


SMALL: Final = mixed(amount=(1, 2, 5))  # all of them fit
LARGE: Final = mixed(amount=(1, LIMIT // 4, LIMIT // 2, LIMIT, 4 * LIMIT))
# `limits` charges its fixed window for refused calls, and then refuses what would still fit: equal calls only.
EQUAL: Final = [{"key": "agree", "amount": LIMIT // 4}] * 6
EQUAL_HITS: Final = [{"key": "agree", "cost": RATE_LIMIT // 4}] * 6


# Our sides ---------------------------------------------------------------------------------------------------

HITS: Final = CounterSpec("combined", path="n")
# A month, so that no window ends between the calls and the look at what is stored.
MONTH: Final = QuotaSpec("combined", path="quota", windows=[Window.month(LIMIT)])
PLAN: Final = replace(counters.PLAN, collection="combined")

IN_MONTH: Final = "quota.month.used"  # whatever the other windows and the bank do, this one is charged every call


def counter(*, combine: bool) -> Calls:
    spec = HITS if combine else replace(HITS, collection="alone")
    return Calls(
        lambda db: AsyncCounter(db, spec, combine=combine).add,
        lambda db: Counter(db, spec, combine=combine).add,
        tally=stored(spec.collection, "n"),
    )


def quota(spec: QuotaSpec, *, combine: bool) -> Calls:
    if not combine:
        spec = replace(spec, collection="alone")
    return Calls(
        lambda db: AsyncQuota(db, spec, combine=combine).consume,
        lambda db: Quota(db, spec, combine=combine).consume,
        told,
        stored(spec.collection, IN_MONTH),
    )


def limiter(algorithm: Literal["fixed", "sliding"], *, combine: bool) -> Calls:
    rate = Rate(RATE_LIMIT, per=24 * counters.HOUR)
    spec = RateLimiterSpec("combined" if combine else "alone", rate, algorithm=algorithm)
    return Calls(
        lambda db: AsyncRateLimiter(db, spec, combine=combine).hit,
        lambda db: RateLimiter(db, spec, combine=combine).hit,
        allowed,
        stored(spec.collection, "rate.n"),
        {spec.collection: "expires_at"},
    )


# The rows ----------------------------------------------------------------------------------------------------

READ: Final = Calls(
    lambda db: counters.async_reading(AsyncQuota(db, PLAN, combine=True).consume),
    lambda db: counters.reading(Quota(db, PLAN, combine=True).consume),
    untold,
    stored(PLAN.collection, IN_MONTH),
)
LONGER: Final = 4  # a caller of `$inc` among 64 makes a dozen calls in such a turn, and a combined one a hundred


@dataclass(frozen=True)
class Case:
    """A primitive, combined and not."""

    name: str
    combined: Calls
    alone: Calls
    agree: Sequence[Mapping[str, Any]]
    together: Sequence[Mapping[str, Any]]

    def hot(self, world: World, times: float) -> Row:
        return raw(f"{self.name}, combined", replace(self.combined, answer=untold), world, AtLeastTimes(times))

    def cold(self) -> Row:
        return self._against_alone("1,000 keys", keys=MANY_KEYS, worlds=(MANY,), longer=2)

    def lone(self) -> Row:
        return self._against_alone("one hot key", target=AtMost(1.1), worlds=LONE)

    def _against_alone(self, what: str, **options: Any) -> Row:
        name = f"{self.name}, combined, {what}"
        return Row(name, "the same, uncombined", self.combined, self.alone, self.agree, self.together, **options)


def raw(name: str, ours: Calls, world: World, target: Target | None) -> Row:
    together = many(amount=3)
    options: Any = {"target": target, "worlds": (world,), "longer": LONGER}
    return Row(f"{name}, one hot key", "one $inc per call", ours, RAW, SMALL, together, **options)


def limits(name: str, ours: Calls, peer: Limits, agree: Sequence[Mapping[str, Any]], **tenth: int) -> Row:
    against = f"limits, {peer.name}"
    options: Any = {"target": AtLeastTimes(15), "worlds": (MANY,), "longer": LONGER}
    return Row(f"{name}, combined, one hot key", against, ours, peer, agree, many(**tenth), **options)


COUNTER: Final = Case("Counter.add", counter(combine=True), counter(combine=False), SMALL, many(amount=3))
TENTHS: Final = many(amount=LIMIT // 10)
ONE: Final = Case("Quota.consume", quota(MONTH, combine=True), quota(MONTH, combine=False), LARGE, TENTHS)
THREE: Final = Case(
    "Quota.consume, three windows and a bank", quota(PLAN, combine=True), quota(PLAN, combine=False), LARGE, TENTHS
)

ROWS: Final[tuple[Measurable, ...]] = (
    COUNTER.hot(MANY, 12),
    ONE.hot(MANY, 12),
    THREE.hot(MANY, 9),
    raw(f"{THREE.name}, combined, every field read", READ, MANY, None),
    COUNTER.hot(CROWD, 30),
    ONE.hot(CROWD, 30),
    THREE.hot(CROWD, 30),
    COUNTER.hot(THREADS, 4),
    ONE.hot(THREADS, 4),
    THREE.hot(THREADS, 4),
    limits("Quota.consume", replace(ONE.combined, answer=allowed), FIXED_WINDOW, EQUAL, amount=LIMIT // 10),
    limits("RateLimiter.hit, fixed", limiter("fixed", combine=True), FIXED_HITS, EQUAL_HITS, cost=RATE_LIMIT // 10),
    limits(
        "RateLimiter.hit, sliding", limiter("sliding", combine=True), SLIDING_HITS, EQUAL_HITS, cost=RATE_LIMIT // 10
    ),
    COUNTER.cold(),
    ONE.cold(),
    THREE.cold(),
    COUNTER.lone(),
    ONE.lone(),
    THREE.lone(),
)
