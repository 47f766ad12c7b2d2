"""What a counter promises, on a real server."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import pytest
from bson import Binary, Decimal128, ObjectId, UuidRepresentation
from bson.codec_options import CodecOptions
from bson.son import SON
from pymongo.errors import ExecutionTimeout, NetworkTimeout, OperationFailure
from pymongo.write_concern import WriteConcern

from mongopatterns import (
    AsyncCounter,
    CounterSpec,
    DocumentNotFound,
    Durability,
    StateError,
    UsageError,
    may_have_applied,
)
from mongopatterns._driver_async import settle
from mongopatterns.testing import race

HITS = CounterSpec("counters", path="n")
VIEWS = CounterSpec("posts", path="stats.views", key_field="slug")

BAD_AMOUNTS = [0, -1, 0.0, -0.5, float("nan"), float("inf"), True, False, "1", None, Decimal("NaN"), 10**16, [1], 1j]
KEYS = [
    "$name",
    "a.b.c",
    "",
    "$$NOW",
    "{$gt: 1}",
    "ключ",
    7,
    -(2**40),
    True,
    1.5,
    b"\0\1",
    ObjectId(),
    {"$x": 1},
    {"u": "$y"},
]


async def test_add_returns_the_new_total(db: Any) -> None:
    """The first add makes the document, every add returns what is then stored."""
    hits = AsyncCounter(db, HITS)
    assert await hits.add("home") == 1
    assert await hits.add("home", 3) == 4
    assert await db.counters.find_one({"_id": "home"}) == {"_id": "home", "n": 4}


async def test_fractions_add_up_exactly(db: Any) -> None:
    """Ten times 0.1 is 1, whether it came as float or Decimal."""
    hits = AsyncCounter(db, HITS)
    for _ in range(5):
        await hits.add("home", 0.1)
    for _ in range(4):
        await hits.add("home", Decimal("0.1"))
    assert await hits.add("home", 0.1) == 1
    assert (await db.counters.find_one())["n"] == Decimal128("1.0")


@pytest.mark.parametrize("amount", BAD_AMOUNTS)
async def test_bad_amounts_are_refused_before_anything_is_sent(db: Any, commands: Any, amount: Any) -> None:
    """A bad amount raises a UsageError that names the argument; no command leaves."""
    with pytest.raises(UsageError, match=r"^amount: ") as caught:
        await AsyncCounter(db, HITS).add("home", amount)
    assert caught.value.argument == "amount"
    assert commands.names == []


@pytest.mark.parametrize("key", [key for key in KEYS if not isinstance(key, dict) or "$x" not in key])
async def test_any_value_is_a_key_and_nothing_but_itself(db: Any, key: Any) -> None:
    """Text that looks like an operator or a path, numbers, bytes and documents are stored as themselves."""
    hits = AsyncCounter(db, HITS)
    await hits.add("other")
    assert await hits.add(key, 2) == 2
    assert await hits.value(key) == 2
    assert await db.counters.count_documents({}) == 2
    stored = (await db.counters.find_one({"n": 2}))["_id"]
    assert stored == key
    assert isinstance(stored, bool) is isinstance(key, bool)


@pytest.mark.parametrize("key", [None, ["a"], {"$x": 1}, {"a": {"$gt": 1}}, float("nan"), 2**70])
async def test_values_without_one_equality_are_no_keys(db: Any, commands: Any, key: Any) -> None:
    """None, lists, operators, NaN and numbers past 64 bits raise a UsageError that names the key."""
    hits = AsyncCounter(db, HITS)
    for call in (hits.add, hits.value):
        with pytest.raises(UsageError, match=r"^key"):
            await call(key)
    assert commands.names == []


async def test_uuid_keys_follow_the_callers_own_representation(db: Any) -> None:
    """A UUID is stored as the collection that was handed in stores UUIDs."""
    key = uuid.uuid4()
    options: CodecOptions[Any] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
    await AsyncCounter(db.get_collection("mine", codec_options=options), HITS).add(key)
    assert (await db.mine.find_one())["_id"] == Binary.from_uuid(key)


async def test_key_type_turns_text_into_object_ids(db: Any) -> None:
    """With key_type=ObjectId an id as text finds the same document, and other text is refused."""
    spec = CounterSpec("counters", path="n", key_type=ObjectId)
    key = ObjectId()
    hits = AsyncCounter(db, spec)
    await hits.add(key)
    assert await hits.add(str(key)) == 2
    assert await hits.values([str(key), key]) == {str(key): 2, key: 2}
    with pytest.raises(UsageError, match="not an ObjectId"):
        await hits.add("alice")


async def test_a_counter_lives_in_the_callers_document(db: Any) -> None:
    """A dotted path in a document found by another field changes that number and nothing else."""
    await db.posts.create_index("slug", unique=True)
    await db.posts.insert_one({"_id": 1, "slug": "a", "stats": {"likes": 5}, "text": "$x"})
    views = AsyncCounter(db, VIEWS)
    assert await views.add("a", 2) == 2
    assert await db.posts.find_one() == {"_id": 1, "slug": "a", "stats": {"likes": 5, "views": 2}, "text": "$x"}
    assert await views.values(["a", "b"]) == {"a": 2, "b": 0}


async def test_create_fills_a_new_document_and_no_other(db: Any) -> None:
    """The fields of create= are stored by the add that makes the document, as they are."""
    hits = AsyncCounter(db, CounterSpec("counters", path="n", create={"kind": "$page", "tags": {"a": 1}}))
    await db.counters.insert_one({"_id": "old"})
    await hits.add("old")
    await hits.add("new")
    await hits.add("new")
    assert await db.counters.find_one({"_id": "old"}) == {"_id": "old", "n": 1}
    assert await db.counters.find_one({"_id": "new"}) == {"_id": "new", "kind": "$page", "tags": {"a": 1}, "n": 2}


async def test_create_none_never_makes_a_document(db: Any) -> None:
    """With create=None an unknown key is an error, and stays unknown."""
    hits = AsyncCounter(db, CounterSpec("counters", path="n", create=None))
    with pytest.raises(DocumentNotFound, match="'ghost'"):
        await hits.add("ghost")
    assert await db.counters.count_documents({}) == 0
    assert await hits.value("ghost") == 0


async def test_values_answers_in_the_order_asked_in_one_command(db: Any, commands: Any) -> None:
    """Many keys cost one command; unknown ones are 0; keys compare as the server compares them."""
    hits = AsyncCounter(db, HITS)
    for key in ("b", "a", 1):
        await hits.add(key, 2)
    commands.clear()
    assert list((await hits.values(["a", "c", "b", 1.0])).items()) == [("a", 2), ("c", 0), ("b", 2), (1.0, 2)]
    assert commands.names == ["find"]
    assert await hits.values([]) == {}
    assert await hits.values([True]) == {True: 0}
    with pytest.raises(UsageError, match=r"^keys: expected a list"):
        await hits.values("ab")
    with pytest.raises(UsageError, match=r"^keys: "):
        await hits.values([1, True])


async def test_values_reads_keys_from_any_iterable(db: Any) -> None:
    """A generator of keys is read once, and answered in full."""
    hits = AsyncCounter(db, HITS)
    await hits.add("a", 3)
    assert await hits.values(key for key in ("b", "a")) == {"b": 0, "a": 3}


async def test_values_never_tells_zero_for_what_it_cannot_match(db: Any) -> None:
    """Where a collation or an array matches another key than the one asked for, values raises instead of saying 0."""
    loose = await db.create_collection("loose", collation={"locale": "en", "strength": 2})
    await loose.insert_one({"_id": "Alice", "n": 3})
    await db.lists.insert_one({"_id": 1, "key": ["a", "b"], "n": 3})
    for collection, spec, key in (
        (loose, HITS, "alice"),
        (db.lists, CounterSpec("lists", path="n", key_field="key"), "a"),
    ):
        hits = AsyncCounter(collection, spec)
        assert await hits.value(key) == 3
        with pytest.raises(StateError, match="ask for one value at a time"):
            await hits.values([key])


@pytest.mark.parametrize("wrong", ["text", {"n": 1}, [1], None, dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)])
async def test_a_stored_value_of_the_wrong_type_is_an_error_and_stays(db: Any, wrong: Any) -> None:
    """Adding to something that is no number raises and changes nothing; reading it raises too."""
    await db.counters.insert_one({"_id": "home", "n": wrong})
    before = await db.counters.find_one()
    hits = AsyncCounter(db, HITS)
    with pytest.raises(OperationFailure):
        await hits.add("home")
    assert await db.counters.find_one() == before
    if wrong is not None:
        with pytest.raises(StateError, match="'n' in the document 'home' of 'counters'"):
            await hits.value("home")


async def test_nan_in_storage_is_told_and_not_passed_on(db: Any) -> None:
    """A counter that somebody set to NaN raises a StateError that names the document."""
    await db.counters.insert_one({"_id": "home", "n": float("nan")})
    with pytest.raises(StateError, match="expected a finite number"):
        await AsyncCounter(db, HITS).value("home")


async def test_one_command_a_call_with_a_comment(db: Any, commands: Any) -> None:
    """Each call is one command, and its comment names the pattern and the call."""
    hits = AsyncCounter(db, HITS)
    await hits.add("home")
    await hits.value("home")
    await hits.values(["home"])
    assert commands.names == ["findAndModify", "find", "find"]
    assert commands.comments == {
        "mongopatterns.counter.add",
        "mongopatterns.counter.value",
        "mongopatterns.counter.values",
    }


async def test_the_options_of_the_collection_do_not_matter(db: Any, commands: Any) -> None:
    """Majority and plain replies whatever options the collection came with; durability= relaxes it openly."""
    options: CodecOptions[Any] = CodecOptions(document_class=SON)
    odd = db.get_collection("odd", codec_options=options, write_concern=WriteConcern(w=0))
    assert await AsyncCounter(odd, HITS).add("home", 5) == 5
    assert commands.sent[-1][1]["writeConcern"] == {"w": "majority"}
    assert await AsyncCounter(odd, HITS, durability=Durability.FAST).add("home", 5) == 10
    assert commands.sent[-1][1]["writeConcern"] == {"w": 1}
    patient = db.get_collection("odd", write_concern=WriteConcern(w=0, wtimeout=4000))
    await AsyncCounter(patient, HITS).add("home")
    assert commands.sent[-1][1]["writeConcern"] == {"w": "majority", "wtimeout": 4000}


async def test_a_large_document_does_not_travel(db: Any, commands: Any) -> None:
    """The reply holds the number, not the megabyte that stands beside it."""
    await db.counters.insert_one({"_id": "big", "blob": "x" * 1_000_000})
    commands.clear()
    hits = AsyncCounter(db, HITS)
    await hits.add("big")
    await hits.value("big")
    await hits.values(["big"])
    assert max(commands.reply_bytes) < 1000


async def test_a_call_takes_part_in_a_transaction(client: Any, db: Any) -> None:
    """With session= an aborted transaction takes the addition with it, and a committed one keeps it."""
    hits = AsyncCounter(db, HITS)
    await hits.add("home")
    async with await settle(client.start_session()) as session:
        await settle(session.start_transaction())
        assert await hits.add("home", 5, session=session) == 6
        assert await hits.value("home", session=session) == 6
        assert await hits.value("home") == 1
        await session.abort_transaction()
        assert await hits.value("home") == 1
        await settle(session.start_transaction())
        await hits.add("home", 7, session=session)
        await session.commit_transaction()
    assert await hits.value("home") == 8


async def test_timeout_bounds_the_whole_call(db: Any, mongopatterns_server: Any) -> None:
    """A server that does not answer in time raises the driver's timeout, and the outcome is unknown."""
    hits = AsyncCounter(db, HITS)
    await hits.add("home")
    block = {"failCommands": ["findAndModify"], "blockConnection": True, "blockTimeMS": 3000}
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=block),
        pytest.raises((NetworkTimeout, ExecutionTimeout)) as caught,
    ):
        await hits.add("home", timeout=0.3)
    assert may_have_applied(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "1", True, 1e7])
async def test_bad_timeouts_are_refused(db: Any, commands: Any, timeout: Any) -> None:
    """A timeout that is no positive number of seconds raises a UsageError that names it."""
    with pytest.raises(UsageError, match=r"^timeout: "):
        await AsyncCounter(db, HITS).add("home", timeout=timeout)
    assert commands.names == []


async def test_a_lost_reply_adds_once(db: Any, mongopatterns_server: Any) -> None:
    """When the reply is lost after the write, the driver's own retry is told the stored total; nothing is doubled."""
    hits = AsyncCounter(db, HITS)
    await hits.add("home", 4)
    with mongopatterns_server.fail_point(
        "onPrimaryTransactionalWrite",
        mode={"times": 1},
        data={"closeConnection": True},
    ):
        assert await hits.add("home", 3) == 7
    assert await hits.value("home") == 7


@pytest.mark.parametrize("fresh", [True, False])
async def test_concurrent_adds_are_all_counted(db: Any, fresh: bool) -> None:
    """However many add at once, every one is stored, and every caller is told a total of its own."""
    hits = AsyncCounter(db, HITS)
    start = 0 if fresh else await hits.add("home", 10)
    report = await race(lambda _: hits.add("home"), times=300, concurrency=50)
    assert report.errors == []
    assert sorted(report.outcomes) == [start + 1 + index for index in range(300)]
    assert await hits.value("home") == start + 300


async def test_what_is_no_database_is_refused(clients: Any) -> None:
    """A client, or something else that is no database or collection, raises a UsageError that names the target."""
    for target in (clients["pymongo"], None, "db", object()):
        with pytest.raises(UsageError, match=r"^target: expected a database or a collection"):
            AsyncCounter(target, HITS)
