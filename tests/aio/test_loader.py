"""What a loader promises, on a real server."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any

import pymongo
import pytest
from bson import Binary, Decimal128, Int64, ObjectId, UuidRepresentation
from bson.codec_options import CodecOptions
from bson.son import SON
from pydantic import BaseModel, ValidationError
from pymongo.errors import ExecutionTimeout, NetworkTimeout, OperationFailure

from mongopatterns import AsyncLoader, LoaderSpec, UsageError
from mongopatterns._driver_async import settle
from mongopatterns.testing import CommandWatcher, n_plus_one_guard, race

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)

USERS = LoaderSpec("users")
BY_EMAIL = LoaderSpec("users", key_field="email", fields=["name"])
BY_SLUG = LoaderSpec("pages", key_field="page.slug")


async def fill(db: Any, number: int) -> list[dict[str, Any]]:
    """Store users, and return them."""
    users = [{"_id": n, "name": f"user {n}", "email": f"u{n}@x", "tags": [n]} for n in range(number)]
    await db.users.insert_many(users)
    return users


# Loading -----------------------------------------------------------------------------------------------------


async def test_load_reads_one_document(db: Any, commands: Any) -> None:
    """A key gives its document, or None; each call is one plain read, marked as ours."""
    users = await fill(db, 3)
    commands.clear()
    loader = AsyncLoader(db, USERS)
    assert await loader.load(1) == users[1]
    assert await loader.load(7) is None
    assert commands.names == ["find", "find"]
    assert commands.comments == {"mongopatterns.loader.load"}
    assert commands.sent[0][1]["filter"] == {"_id": 1}


async def test_load_many_keeps_order_and_repetitions(db: Any, commands: Any) -> None:
    """Documents come in the order of the keys, None for each that is missing, in one command."""
    users = await fill(db, 10)
    commands.clear()
    loader = AsyncLoader(db, USERS)
    keys = [7, 3, 99, 3, 0, "3", 7.0]
    assert await loader.load_many(keys) == [users[7], users[3], None, users[3], users[0], None, users[7]]
    assert await loader.load_many([]) == []
    assert commands.names == ["find"]
    assert sorted(commands.sent[0][1]["filter"]["_id"]["$in"], key=str) == [0, 3, "3", 7, 99]


async def test_a_collection_will_do(db: Any) -> None:
    """A loader is bound to a database or to a collection of any name."""
    await db.people.insert_one({"_id": 1})
    assert await AsyncLoader(db.people, USERS).load(1) == {"_id": 1}


async def test_a_large_batch_takes_one_command(db: Any, commands: Any) -> None:
    """A thousand documents come in the first answer: the driver does not go back for the rest."""
    users = await fill(db, 1000)
    commands.clear()
    loader = AsyncLoader(db, USERS)
    assert await loader.load_many(range(1000)) == users
    assert await loader.load_many(range(500, 1500)) == users[500:] + [None] * 500
    assert commands.names == ["find", "find"]


async def test_batches_are_bounded(db: Any, commands: Any) -> None:
    """More keys than `max_batch` are sent as several commands, and the answer is the same."""
    users = await fill(db, 25)
    commands.clear()
    loader = AsyncLoader(db, LoaderSpec("users", max_batch=10))
    assert await loader.load_many(range(24, -1, -1)) == users[::-1]
    assert commands.names == ["find"] * 3
    assert [len(command["filter"]["_id"]["$in"]) for _, command in commands.sent] == [10, 10, 5]


async def test_long_keys_are_bounded_in_bytes(db: Any, commands: Any) -> None:
    """Keys of many megabytes are spread over commands that the server takes."""
    keys = [*(str(n) * 1_000_000 for n in range(1, 10)), "small"]
    await db.users.insert_many([{"_id": key} for key in keys])
    commands.clear()
    found = await AsyncLoader(db, USERS).load_many(keys * 2)
    assert [document and document["_id"] for document in found] == keys * 2
    assert [len(command["filter"]["_id"]["$in"]) for name, command in commands.sent if name == "find"] == [7, 3]


# generate: async only
async def test_loads_of_one_turn_share_a_command(db: Any, commands: Any) -> None:
    """A hundred tasks that each load something are one command, whichever call they use."""
    users = await fill(db, 50)
    commands.clear()
    loader = AsyncLoader(db, USERS)
    found = await asyncio.gather(
        *(loader.load(n % 60) for n in range(100)), loader.load_many([1, 2]), loader.scope().load(3)
    )
    assert found[:100] == [users[n % 60] if n % 60 < 50 else None for n in range(100)]
    assert found[100:] == [users[1:3], users[3]]
    assert commands.names == ["find"]
    assert len(commands.sent[0][1]["filter"]["_id"]["$in"]) == 60


async def test_keys_that_are_not_unique_give_the_first_by_id(db: Any) -> None:
    """Of several documents with one key it is always the one with the least `_id`, as the server orders them."""
    await db.users.insert_many(
        [
            {"_id": "b", "email": "a@x", "name": "text"},
            {"_id": 5.5, "email": "a@x", "name": "number"},
            {"_id": ObjectId(), "email": "a@x", "name": "id"},
            {"_id": 9, "email": ["c@x", "a@x"], "name": "list"},
        ]
    )
    loader = AsyncLoader(db, BY_EMAIL)
    for _ in range(3):
        found = await loader.load_many(["a@x", "b@x", "c@x"])
        assert [document and document["name"] for document in found] == ["number", None, "list"]
    assert await loader.load("a@x") == {"_id": 5.5, "name": "number"}


async def test_keys_inside_the_document(db: Any) -> None:
    """A dotted path is read as the server reads it: through lists of documents, and into a list at its end."""
    await db.pages.insert_many(
        [
            {"_id": 1, "page": {"slug": "home"}},
            {"_id": 2, "page": [{"slug": "news"}, {"slug": ["blog", "log"]}, "slug"]},
            {"_id": 3, "page.slug": "dotted"},
            {"_id": 4, "page": {"slug": {"de": "start"}}},
        ]
    )
    loader = AsyncLoader(db, BY_SLUG)
    found = await loader.load_many(["home", "news", "blog", "dotted", {"de": "start"}, "de"])
    assert [document and document["_id"] for document in found] == [1, 2, 2, None, 4, None]
    part = AsyncLoader(db, LoaderSpec("pages", key_field="page.slug", fields={"_id": 0, "x": 1}))
    assert await part.load_many(["home", "log", "x"]) == [{}, {}, None]


async def test_fields_are_all_that_travels(db: Any, commands: Any) -> None:
    """Only the fields that were asked for come, and a megabyte beside them stays where it is."""
    await db.users.insert_one({"_id": 1, "email": "a@x", "name": "Ann", "blob": b"x" * 1_000_000})
    commands.clear()
    assert await AsyncLoader(db, BY_EMAIL).load("a@x") == {"_id": 1, "name": "Ann"}
    both = LoaderSpec("users", fields={"name": 1, "email": 1, "_id": 0})
    assert await AsyncLoader(db, both).load(1) == {"email": "a@x", "name": "Ann"}
    assert max(commands.reply_bytes) < 500


async def test_the_options_of_the_client_do_not_matter(db: Any, commands: Any) -> None:
    """Reads go to the primary and give plain dicts with aware dates, whatever options the database came with."""
    await db.users.insert_one({"_id": 1, "at": NOON, "d": {"e": [{"f": NOON}]}})
    options: CodecOptions[Any] = CodecOptions(document_class=SON, tz_aware=False)
    odd = db.client.get_database(
        db.name, codec_options=options, read_preference=pymongo.ReadPreference.SECONDARY_PREFERRED
    )
    document = await AsyncLoader(odd, USERS).load(1)
    assert document == {"_id": 1, "at": NOON, "d": {"e": [{"f": NOON}]}}
    assert document is not None
    assert (type(document), type(document["d"]), type(document["d"]["e"][0])) == (dict, dict, dict)
    assert commands.sent[-1][1].get("$readPreference", {"mode": "primary"})["mode"] == "primary"


# Keys --------------------------------------------------------------------------------------------------------


async def test_keys_are_equal_as_the_server_says(db: Any) -> None:
    """Numbers of all types are one key, True is another, and a text is never an id."""
    some = ObjectId()
    stored = [1, True, "1", 0.5, some, b"1", NOON, {"a": 1, "b": [2]}, {"b": [2], "a": 1}, "True", 2**53]
    await db.users.insert_many([{"_id": value, "n": n} for n, value in enumerate(stored)])
    asked: list[tuple[Any, int | None]] = [
        (1.0, 0),
        (Decimal128("1.00"), 0),
        (Int64(1), 0),
        (True, 1),
        ("1", 2),
        (Decimal128("0.5"), 3),
        (some, 4),
        (str(some), None),
        (Binary(b"1", 0), 5),
        (Binary(b"1", 5), None),
        (NOON.astimezone(dt.timezone(dt.timedelta(hours=3))), 6),
        (NOON.replace(tzinfo=None), 6),
        ({"a": 1.0, "b": [Decimal128("2")]}, 7),
        ({"b": [2], "a": True}, None),
        (SON([("b", (2,)), ("a", 1)]), 8),
        (False, None),
        (0, None),
        (float(2**53), 10),
        (2**53 + 1, None),
    ]
    loader = AsyncLoader(db, USERS)
    for keys in (asked, asked[::-1], *([one] for one in asked)):
        found = await loader.load_many([key for key, _ in keys])
        assert [document and document["n"] for document in found] == [n for _, n in keys]


HOSTILE = ["$name", "$$ROOT", "a.b", "", "__proto__", '{"$gt": ""}', ".*", "ключ", "\0", "a\0b", "\u2028", "null"]


async def test_hostile_keys_are_data(db: Any) -> None:
    """No text is read as a path, a pattern or an operator, and each finds its own document only."""
    await db.users.insert_many([{"_id": {"k": key} if n % 2 else key, "n": n} for n, key in enumerate(HOSTILE)])
    keys: list[Any] = [{"k": key} if n % 2 else key for n, key in enumerate(HOSTILE)]
    loader = AsyncLoader(db, USERS)
    found = await loader.load_many(keys)
    assert [document and document["n"] for document in found] == list(range(len(HOSTILE)))
    assert await loader.load_many([{"k": key} if n % 2 == 0 else key for n, key in enumerate(HOSTILE)]) == [None] * len(
        HOSTILE
    )


@pytest.mark.parametrize("key", [None, {"$gt": ""}, {"$ne": None}, ["a"], float("nan"), {"a": {"$exists": True}}])
async def test_what_could_be_a_condition_is_refused(db: Any, commands: Any, key: Any) -> None:
    """A dict out of a request that looks like an operator is no key, and nothing is sent."""
    loader = AsyncLoader(db, USERS)
    with pytest.raises(UsageError, match=r"^key"):
        await loader.load(key)
    with pytest.raises(UsageError, match=r"^keys\[1\]"):
        await loader.load_many(["a", key])
    assert commands.names == []


# generate: async only
async def test_a_bad_key_is_the_affair_of_its_caller(db: Any, commands: Any) -> None:
    """One who gives a key that cannot be sent hears of it; those in the same turn get their documents."""
    users = await fill(db, 2)
    commands.clear()
    loader = AsyncLoader(db, USERS)
    deep: Any = 1
    for _ in range(190):
        deep = {"a": deep}
    bad = [None, {"$gt": 1}, deep, uuid.uuid4(), "x" * 17_000_000]
    found = await asyncio.gather(
        loader.load(0), *(loader.load(key) for key in bad), loader.load(1), return_exceptions=True
    )
    assert (found[0], found[-1]) == (users[0], users[1])
    assert [type(each) for each in found[1:-1]] == [UsageError] * len(bad)
    assert commands.names == ["find"]


async def test_ids_may_come_as_text(db: Any) -> None:
    """With `key_type=ObjectId`, text of 24 hexadecimal digits is the id; anything else is refused."""
    some = ObjectId()
    await db.users.insert_one({"_id": some})
    loader = AsyncLoader(db, LoaderSpec("users", key_type=ObjectId))
    assert await loader.load_many([str(some), some, str(some).upper()]) == [{"_id": some}] * 3
    with pytest.raises(UsageError, match="not an ObjectId"):
        await loader.load("me")


async def test_uuids_follow_the_client(db: Any) -> None:
    """A UUID is looked for as the bound database stores it."""
    key = uuid.uuid4()
    for representation in (UuidRepresentation.STANDARD, UuidRepresentation.JAVA_LEGACY):
        options: CodecOptions[Any] = CodecOptions(uuid_representation=representation)
        odd = db.client.get_database(db.name, codec_options=options)
        await odd.users.insert_one({"_id": key})
        assert await AsyncLoader(odd, USERS).load_many([key, uuid.uuid4()]) == [{"_id": key}, None]
        await odd.users.delete_many({})


async def test_dates_that_python_cannot_tell_apart(db: Any) -> None:
    """A document whose key is a date past the year 9999 is no stand-in for the last date that Python knows."""
    last = dt.datetime.max.replace(tzinfo=UTC)
    await db.command("insert", "users", documents=[{"_id": 1, "k": last + dt.timedelta(0)}])
    await db.users.update_one({"_id": 1}, [{"$set": {"k": {"$add": ["$k", 1000]}}}])
    loader = AsyncLoader(db, LoaderSpec("users", key_field="k"))
    assert await loader.load_many([last, NOON]) == [None, None]
    document = await AsyncLoader(db, USERS).load(1)
    assert document is not None
    assert document["k"].year == 9999


async def test_a_collation_finds_nothing_else(db: Any) -> None:
    """In a collection that is blind to case a key still finds its own document, and only that one."""
    await db.create_collection("users", collation={"locale": "en", "strength": 1})
    await db.users.insert_many([{"_id": 1, "email": "Ann"}, {"_id": 2, "email": "ann"}])
    loader = AsyncLoader(db, LoaderSpec("users", key_field="email"))
    found = await loader.load_many(["ann", "ANN", "Ann"])
    assert [document and document["_id"] for document in found] == [2, None, 1]
    assert (await loader.load("ann")) == {"_id": 2, "email": "ann"}


# Scopes ------------------------------------------------------------------------------------------------------


async def test_a_scope_reads_each_document_once(db: Any, commands: Any) -> None:
    """In a scope a document, and that there is none, is asked for once; outside, and in the next scope, anew."""
    users = await fill(db, 5)
    commands.clear()
    loader = AsyncLoader(db, USERS)
    async with loader.scope() as scope:
        assert await scope.load_many([1, 2, 9]) == [users[1], users[2], None]
        assert await scope.load_many([9.0, 2, Decimal128("1")]) == [None, users[2], users[1]]
        assert await scope.load(1) == users[1]
        assert commands.names == ["find"]
        assert await scope.load_many([1, 3, 4, 9]) == [users[1], users[3], users[4], None]
        assert commands.sent[-1][1]["filter"] == {"_id": {"$in": [3, 4]}}
        await db.users.update_one({"_id": 1}, {"$set": {"name": "new"}})
        assert (await scope.load(1)) == users[1]
        fresh = await loader.load(1)
        assert fresh is not None
        assert fresh["name"] == "new"
    async with loader.scope() as scope:
        assert await scope.load(1) == fresh
    assert commands.names == ["find", "find", "update", "find", "find"]


async def test_a_scope_that_is_over_keeps_nothing(db: Any, commands: Any) -> None:
    """After its block a scope is a loader without a memory."""
    users = await fill(db, 2)
    loader = AsyncLoader(db, USERS)
    async with loader.scope() as scope:
        await scope.load(1)
    commands.clear()
    assert [await scope.load(1), await scope.load(1)] == [users[1]] * 2
    assert commands.names == ["find", "find"]


async def test_a_scope_needs_no_block(db: Any, commands: Any) -> None:
    """A scope lives as long as somebody has it; two scopes know nothing of each other."""
    users = await fill(db, 2)
    commands.clear()
    loader = AsyncLoader(db, USERS)
    one, other = loader.scope(), loader.scope()
    for scope in (one, one, other, other, one.scope()):
        assert await scope.load(1) == users[1]
    assert commands.names == ["find"] * 3


async def test_clear_has_the_next_load_read_again(db: Any, commands: Any) -> None:
    """After `clear` what was written is seen, by any key that is the same to the server; other keys stay."""
    users = await fill(db, 3)
    scope = AsyncLoader(db, USERS).scope()
    await scope.load_many([1, 2])
    await db.users.delete_one({"_id": 1})
    scope.clear(1.0)
    scope.clear("never asked for")
    commands.clear()
    assert await scope.load_many([1, 2]) == [None, users[2]]
    assert commands.sent[0][1]["filter"] == {"_id": 1}
    AsyncLoader(db, USERS).clear(1)
    with pytest.raises(UsageError):
        scope.clear(None)


async def test_a_scope_is_bounded(db: Any, commands: Any) -> None:
    """At most `max_cache` documents are kept: those that were asked for last."""
    await fill(db, 10)
    scope = AsyncLoader(db, LoaderSpec("users", max_cache=3)).scope()
    await scope.load_many([0, 1, 2])
    await scope.load(0)
    await scope.load(5)
    commands.clear()
    await scope.load_many([0, 2, 5])
    assert commands.names == []
    await scope.load(1)
    assert commands.names == ["find"]
    assert [document and document["_id"] for document in await scope.load_many(range(10))] == list(range(10))


async def test_nobody_shares_a_document(db: Any) -> None:
    """What one caller changes in its document, no other caller sees, in a scope and out of it."""
    users = await fill(db, 2)
    loader = AsyncLoader(db, USERS)
    for each in (loader, loader.scope()):
        one, two = await each.load_many([1, 1])
        assert one is not None
        one["tags"].append("changed")
        one["name"] = "changed"
        assert two == users[1]
        assert await each.load(1) == users[1]


# generate: async only
async def test_tasks_share_no_document(db: Any, commands: Any) -> None:
    """Callers that were answered by one command have documents of their own."""
    users = await fill(db, 2)
    commands.clear()
    scope = AsyncLoader(db, USERS).scope()
    found = await asyncio.gather(*(scope.load(1) for _ in range(10)))
    assert len({id(document) for document in found}) == 10
    for document in found:
        assert document == users[1]
        document["tags"].append("changed")
    assert await scope.load(1) == users[1]
    assert commands.names == ["find"]


async def test_many_callers_at_once(db: Any) -> None:
    """Under a crowd on one scope everybody gets what was asked for, and nobody an error."""
    users = await fill(db, 40)
    scope = AsyncLoader(db, LoaderSpec("users", max_cache=15, max_batch=7)).scope()

    async def call(index: int) -> bool:
        keys = [(index * step) % 50 for step in (1, 3, 7)]
        if index % 9 == 0:
            scope.clear(keys[0])
        return await scope.load_many(keys) == [users[key] if key < 40 else None for key in keys]

    report = await race(call, times=300, concurrency=30)
    report.raise_errors()
    assert report.count(True) == 300


# Errors, time, sessions --------------------------------------------------------------------------------------

REFUSED = {"failCommands": ["find"], "errorCode": 11601}


async def test_errors_are_not_kept(db: Any, mongopatterns_server: Any) -> None:
    """The server's refusal reaches the caller as the driver raised it; the next load asks again."""
    users = await fill(db, 2)
    scope = AsyncLoader(db, USERS).scope()
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=REFUSED),
        pytest.raises(OperationFailure) as caught,
    ):
        await scope.load_many([0, 1])
    assert caught.value.code == 11601
    assert await scope.load_many([0, 1]) == users


# generate: async only
async def test_an_error_reaches_everybody(db: Any, mongopatterns_server: Any) -> None:
    """Each caller of the turn has the error, each its own, and only these."""
    users = await fill(db, 3)
    scope = AsyncLoader(db, USERS).scope()
    assert await scope.load(2) == users[2]
    with mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=REFUSED):
        found = await asyncio.gather(
            scope.load(0), scope.load_many([1, 0]), scope.load(2), scope.load(9), return_exceptions=True
        )
    assert found[2] == users[2]
    errors = [found[0], found[1], found[3]]
    assert [type(error) for error in errors] == [OperationFailure] * 3
    assert len({id(error) for error in errors}) == 3
    assert await scope.load(0) == users[0]


async def test_a_lost_connection_is_repaired(db: Any, mongopatterns_server: Any) -> None:
    """A read whose connection breaks is repeated by the driver, and nobody sees it."""
    users = await fill(db, 2)
    data = {"failCommands": ["find"], "closeConnection": True}
    with mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=data):
        assert await AsyncLoader(db, USERS).load_many([0, 1]) == users


async def test_timeout_bounds_the_whole_call(db: Any, mongopatterns_server: Any) -> None:
    """A server that does not answer in time raises the driver's timeout; what was late is not kept as an error."""
    users = await fill(db, 2)
    scope = AsyncLoader(db, USERS).scope()
    block = {"failCommands": ["find"], "blockConnection": True, "blockTimeMS": 600}
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=block),
        pytest.raises((NetworkTimeout, ExecutionTimeout)) as caught,
    ):
        await scope.load(0, timeout=0.2)
    assert caught.value.timeout
    assert await scope.load(0, timeout=5) == users[0]
    for timeout in (0, -1, "5", True):
        with pytest.raises(UsageError, match="timeout"):
            await scope.load(0, timeout=timeout)  # type: ignore[arg-type]


# generate: async only
async def test_the_deadline_of_one_is_not_that_of_all(db: Any, mongopatterns_server: Any) -> None:
    """Neither a `pymongo.timeout()` around one caller nor its `timeout` ends the read of the others."""
    users = await fill(db, 3)
    loader = AsyncLoader(db, USERS)

    async def hurried() -> Any:
        with pymongo.timeout(0.1):
            return await loader.load(0)

    block = {"failCommands": ["find"], "blockConnection": True, "blockTimeMS": 500}
    with mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=block):
        found = await asyncio.gather(
            hurried(), loader.load(1, timeout=0.1), loader.load(2), loader.load(9, timeout=20), return_exceptions=True
        )
    assert found[0] == users[0]
    assert isinstance(found[1], NetworkTimeout)
    assert found[2:] == [users[2], None]


# generate: async only
async def test_a_cancelled_caller_cancels_nobody(db: Any, mongopatterns_server: Any) -> None:
    """One that gives up while the command is under way leaves the others their documents."""
    users = await fill(db, 3)
    scope = AsyncLoader(db, USERS).scope()
    block = {"failCommands": ["find"], "blockConnection": True, "blockTimeMS": 300}
    with mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=block):
        tasks = [asyncio.create_task(scope.load(n)) for n in range(3)]
        _, pending = await asyncio.wait(tasks, timeout=0.1)
        assert len(pending) == 3
        tasks[0].cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == users[1:]
    assert await scope.load(0) == users[0]


async def test_a_session_reads_by_itself(client: Any, db: Any, commands: Any) -> None:
    """In a transaction a load sees what the transaction sees; nothing of it is kept, and nothing kept is used."""
    users = await fill(db, 2)
    scope = AsyncLoader(db, USERS).scope()
    await scope.load(0)
    async with await settle(client.start_session()) as session:
        await settle(session.start_transaction())
        await db.users.update_one({"_id": 0}, {"$set": {"name": "inside"}}, session=session)
        inside = await scope.load(0, session=session)
        assert inside == {**users[0], "name": "inside"}
        assert await scope.load_many([0, 1], session=session) == [inside, users[1]]
        assert await scope.load(0) == users[0]
        commands.clear()
        assert await scope.load_many([], session=session) == []
        assert await scope.load(1) == users[1]
        assert commands.names == ["find"]
        await session.abort_transaction()
    assert await scope.load(0) == users[0]


# Models, guards ----------------------------------------------------------------------------------------------


class User(BaseModel):
    name: str


@dataclass
class Tagged:
    tags: list[int]


async def test_documents_come_as_the_callers_own_types(db: Any) -> None:
    """`model` gives instances, None stays None, and what does not fit is an error of that call alone."""
    users = await fill(db, 3)
    await db.users.insert_one({"_id": "bad"})
    scope = AsyncLoader(db, USERS).scope()
    assert await scope.load(1, model=User) == User(name="user 1")
    assert await scope.load(99, model=User) is None
    assert await scope.load_many([2, 99, 2], model=Tagged) == [Tagged([2]), None, Tagged([2])]
    with pytest.raises(ValidationError):
        await scope.load_many([1, "bad"], model=User)
    with pytest.raises(UsageError, match="model"):
        await scope.load(1, model="User")  # type: ignore[call-overload]
    assert await scope.load_many([1, "bad"]) == [users[1], {"_id": "bad"}]


async def test_explain_sends_nothing(db: Any, commands: Any) -> None:
    """What would be sent can be read."""
    loader = AsyncLoader(db, LoaderSpec("users", max_batch=2, fields=["name"]))
    told = loader.explain([1, 2, 1.0, 3])
    assert [each["filter"] for each in told] == [{"_id": {"$in": [1, 2]}}, {"_id": 3}]
    assert told[0]["projection"] == {"_id": 1, "name": 1}
    assert commands.names == []


# generate: async only
async def test_a_guard_counts_the_commands_of_a_loader(client: Any, db: Any, mongopatterns_server: Any) -> None:
    """A guard around a page that loads in one turn passes, and one around a page that loads in a loop does not."""
    users = await fill(db, 10)
    watched = type(client)(mongopatterns_server.uri, event_listeners=[CommandWatcher()])
    loader = AsyncLoader(watched[db.name], USERS)
    with n_plus_one_guard(watched, repeats=1) as guard:
        assert await asyncio.gather(*(loader.load(n) for n in range(10))) == users
    assert list(guard.counts.values()) == [1]
    with n_plus_one_guard(watched, repeats=20) as guard:
        assert [await loader.load(n) for n in range(10)] == users
    assert list(guard.counts.values()) == [10]
    await settle(watched.close())


# generate: async only
def test_a_loader_outlives_its_event_loop(mongopatterns_server: Any, mongopatterns_db_name: str) -> None:
    """A script that calls `asyncio.run` twice, with a client for each loop, gets its documents both times."""

    async def work(place: int) -> Any:
        async with pymongo.AsyncMongoClient(mongopatterns_server.uri) as client:
            db = client[mongopatterns_db_name]
            await db.users.insert_one({"_id": place})
            loaders.append(AsyncLoader(db, USERS))
            return await asyncio.gather(*(loaders[-1].load(n) for n in range(3)))

    loaders: list[AsyncLoader] = []
    assert asyncio.run(work(0)) == [{"_id": 0}, None, None]
    assert asyncio.run(work(1)) == [{"_id": 0}, {"_id": 1}, None]
