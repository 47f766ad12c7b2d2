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

from mongopatterns import AsyncCounter, AsyncQuota, CounterSpec, Decision, Field, QuotaSpec, Rollover, Times, Window
from mongopatterns.typing import AsyncCollectionLike, AsyncDatabaseLike, DocumentT, Number

HITS = CounterSpec("counters", path="n", key_type=ObjectId)
MINUTES = QuotaSpec(
    "users",
    path="quota.subtitle",
    key_field="user_id",
    timezone="Europe/Berlin",
    windows=[Window.hour(Field("limits.hour", default=60), rollover=Rollover(cap=Times(2))), Window.day(None)],
    create={"plan": "free"},
)


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
    assert_type(await counter.add("home", 0.5), Number)
    assert_type(await counter.value("home"), Number)
    assert_type(await counter.values(["a", "b"]), dict[Any, Number])


# generate: async only
async def must_fail(quota: AsyncQuota, client: AsyncMongoClient[Any]) -> None:
    AsyncQuota(client, MINUTES)  # type: ignore[arg-type]
    AsyncQuota(client["app"], HITS)  # type: ignore[arg-type]
    await quota.consume("alice", "5")  # type: ignore[arg-type]
    await quota.consume("alice", 5, 1.5)  # type: ignore[call-arg]
    (await quota.consume("alice")).used = {}  # type: ignore[misc]
    quota.consume("alice").require()  # type: ignore[attr-defined]
    QuotaSpec("users", "quota", windows=[])  # type: ignore[call-arg]
    QuotaSpec("users", path="quota")  # type: ignore[call-arg]
    Window.hour("60")  # type: ignore[arg-type]
    Rollover(cap=1, spend="bank")  # type: ignore[arg-type]
