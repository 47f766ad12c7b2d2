"""The asynchronous API as type checkers see it: checked, never run."""

from __future__ import annotations

import datetime as dt
from typing import Any, TypedDict

from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from typing_extensions import assert_type

from mongopatterns import (
    AsyncCounter,
    AsyncQuota,
    AsyncRateLimiter,
    CounterSpec,
    Decision,
    Field,
    QuotaSpec,
    Rate,
    RateDecision,
    RateLimiterSpec,
    Reservation,
    Rollover,
    Settlement,
    SettleOutcome,
    Times,
    Window,
)
from mongopatterns.typing import AsyncCollectionLike, AsyncDatabaseLike, DocumentT, Number

HITS = CounterSpec("counters", path="n", key_type=ObjectId)
MINUTES = QuotaSpec(
    "users",
    path="quota.subtitle",
    key_field="user_id",
    timezone="Europe/Berlin",
    windows=[Window.hour(Field("limits.hour", default=60), rollover=Rollover(cap=Times(2))), Window.day(None)],
    create={"plan": "free"},
    meters=("cost",),
    align="first_use",
)
LOGIN = RateLimiterSpec("limits", Rate(100, per=60), algorithm="token_bucket", burst=20)


class User(TypedDict):
    name: str


async def first(collection: AsyncCollectionLike[DocumentT]) -> DocumentT | None:
    return await collection.find_one({})


def collection_of(database: AsyncDatabaseLike[DocumentT]) -> AsyncCollectionLike[DocumentT]:
    return database.get_collection("users")


async def documents_keep_their_type(
    users: AsyncCollection[User],
    db: AsyncDatabase[User],
    motor_users: AsyncIOMotorCollection[User],
    motor_db: AsyncIOMotorDatabase[User],
) -> None:
    assert_type(await first(users), User | None)
    assert_type(await first(motor_users), User | None)
    assert_type(await first(collection_of(db)), User | None)
    assert_type(await first(collection_of(motor_db)), User | None)


async def both_drivers_are_accepted(client: AsyncMongoClient[Any], motor: AsyncIOMotorClient[Any]) -> None:
    AsyncQuota(client["app"], MINUTES)
    AsyncQuota(client["app"]["users"], MINUTES)
    AsyncQuota(motor["app"], MINUTES)
    AsyncQuota(motor["app"]["users"], MINUTES)
    AsyncCounter(client["app"], HITS)
    AsyncCounter(motor["app"]["hits"], HITS)
    AsyncRateLimiter(client["app"], LOGIN, combine=True)
    AsyncRateLimiter(motor["app"], LOGIN)
    async with AsyncQuota(client["app"], MINUTES, combine=True) as quota:
        assert_type(quota, AsyncQuota)
    async with AsyncCounter(client["app"], HITS, combine=True) as counter:
        assert_type(counter, AsyncCounter)


async def verdicts(quota: AsyncQuota, counter: AsyncCounter) -> None:
    decision = await quota.consume("alice", 5, timeout=1.5)
    assert_type(decision, Decision)
    assert_type(decision.require(), Decision)
    assert_type(decision.allowed, bool)
    assert_type(decision.limited_by, str | None)
    assert_type(decision.used, dict[str, Number])
    assert_type(decision.remaining, dict[str, Number | None])
    assert_type(decision.resets_at, dict[str, dt.datetime])
    assert_type(decision.retry_after, float | None)
    assert_type(decision.to_dict(), dict[str, Any])
    assert_type(await quota.record("alice"), Decision)
    assert_type(await quota.peek("alice"), Decision)
    assert_type(await quota.reset("alice"), bool)
    assert_type(await quota.refund("alice", 2), Decision)
    assert_type(await quota.grant("alice", 30, once="order-7"), Decision)
    assert_type(await quota.set_state("alice", used={"hour": 3}, banked={"hour": 20}), Decision)
    assert_type(await quota.peek_many(["alice", "bob"]), dict[Any, Decision])
    assert_type(decision.headers(), dict[str, str])
    assert_type(decision.meters, dict[str, Number])
    assert_type(MINUTES.read({"_id": "alice"}), Decision)
    reservation = await quota.reserve("alice", 10, ttl=60)
    assert_type(reservation, Reservation)
    assert_type(reservation.require(), Reservation)
    assert_type(reservation.token, str | None)
    settlement = await quota.settle(reservation.token or "", used=6.5)
    assert_type(settlement, Settlement)
    assert_type(settlement.outcome, SettleOutcome)
    assert_type(await quota.release(""), bool)
    assert_type(await counter.add("home", 0.5), Number)
    assert_type(await counter.value("home"), Number)
    assert_type(await counter.values(["a", "b"]), dict[Any, Number])
    assert_type(HITS.read({"n": 1}), Number)


async def hits(limiter: AsyncRateLimiter) -> None:
    decision = await limiter.hit("ip:1.2.3.4", 2)
    assert_type(decision, RateDecision)
    assert_type(decision.require(), RateDecision)
    assert_type(decision.remaining, int)
    assert_type(decision.headers(), dict[str, str])
    assert_type(await limiter.peek("ip:1.2.3.4"), RateDecision)
    assert_type(await limiter.reset("ip:1.2.3.4"), bool)


# generate: async only
async def must_fail(quota: AsyncQuota, client: AsyncMongoClient[Any]) -> None:
    AsyncQuota(client, MINUTES)  # type: ignore[arg-type]
    AsyncQuota(client["app"], HITS)  # type: ignore[arg-type]
    await quota.consume("alice", "5")  # type: ignore[arg-type]
    await quota.consume("alice", 5, 1.5)  # type: ignore[arg-type, call-arg]
    (await quota.consume("alice")).used = {}  # type: ignore[misc]
    quota.consume("alice").require()  # type: ignore[attr-defined]
    QuotaSpec("users", "quota", windows=[])  # type: ignore[call-arg]
    QuotaSpec("users", path="quota")  # type: ignore[call-arg]
    Window.hour("60")  # type: ignore[arg-type]
    Rollover(cap=1, spend="bank")  # type: ignore[arg-type]
    (await quota.consume("alice")).remianing  # type: ignore[attr-defined]  # noqa: B018
    await quota.reserve("alice", 10)  # type: ignore[call-arg]
    Window.every(60, 5)  # type: ignore[arg-type]
    Window.day(5, align="utc")  # type: ignore[arg-type]
    RateLimiterSpec("limits", Rate(1, per=1), algorithm="leaky")  # type: ignore[arg-type]
