"""A buffer on a real server: what is accepted is stored, in order, in few commands; each is told what came of it."""

from __future__ import annotations

import datetime as dt
import errno
import os
import time
from decimal import Decimal
from typing import Any

import pytest
from bson import Code, DBRef, Decimal128, Int64, ObjectId, encode
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.errors import DuplicateKeyError, OperationFailure, WriteError

from mongopatterns import (
    AsyncWriteBuffer,
    BatchReport,
    DeadLetter,
    DeploymentError,
    LimitExceeded,
    OutcomeUnknown,
    UsageError,
)
from mongopatterns._driver_async import pause, settle
from mongopatterns._spool import Journal
from mongopatterns.buffer._batches_async import AsyncBatches

EVERY = pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
LATER: dict[str, Any] = {"max_delay": 60.0}  # (nothing is sent because of its age)


def buffer(client: Any, **options: Any) -> AsyncWriteBuffer:
    return AsyncWriteBuffer(client, **options)


async def stored(db: Any, name: str = "events") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await db[name].find(sort=[("_id", 1)]).to_list(None)
    return found


def writes(commands: Any) -> list[str]:
    return [name for name in commands.names if name in ("insert", "update", "delete")]


# What is accepted is stored --------------------------------------------------------------------------------------


@EVERY
async def test_documents_are_stored_in_batches(client: Any, db: Any, commands: Any, delivery: Any) -> None:
    """A hundred documents are one command, and each acknowledgement tells its id."""
    async with buffer(client, delivery=delivery, **LATER) as buf:
        events = db.events
        acks = [await buf.insert(events, {"_id": number, "n": number * 2}) for number in range(100)]
        assert not any(ack.done for ack in acks)
        await buf.flush()
        assert [await ack.result() for ack in acks] == list(range(100))
    assert await stored(db) == [{"_id": number, "n": number * 2} for number in range(100)]
    assert writes(commands) == ["insert"]
    assert buf.stats.acknowledged == buf.stats.accepted == 100
    assert (buf.stats.batches, buf.stats.failed, buf.stats.waiting, buf.stats.under_way) == (1, 0, 0, 0)
    assert sum(buf.stats.latency.values()) == 1


@EVERY
async def test_everything_that_can_be_written(client: Any, db: Any, delivery: Any) -> None:
    """Documents are stored, updated, counted in, replaced and deleted, by any unique field, in several collections."""
    await db.users.create_index("email", unique=True)
    await db.users.insert_many([{"_id": number, "email": f"{number}@x"} for number in range(4)])
    async with buffer(client, delivery=delivery, **LATER) as buf:
        await buf.insert(db.events, {"_id": "a"})
        await buf.update(db.users, 0, {"$set": {"name": "ann"}})
        await buf.update(db.users, 1, [{"$set": {"copy": "$email"}}])
        await buf.replace(db.users, "2@x", {"email": "2@x", "new": True}, key_field="email")
        await buf.delete(db.users, "3@x", key_field="email")
        await buf.increment(db.counts, "home", {"hits": 1, "cost": 0.1, "by.mobile": -2}, set_now=["seen"])
    assert await stored(db) == [{"_id": "a"}]
    assert await stored(db, "users") == [
        {"_id": 0, "email": "0@x", "name": "ann"},
        {"_id": 1, "email": "1@x", "copy": "1@x"},
        {"_id": 2, "email": "2@x", "new": True},
    ]
    [count] = await stored(db, "counts")
    assert isinstance(count.pop("seen"), dt.datetime)
    assert count == {"_id": "home", "hits": 1, "cost": Decimal128("0.1"), "by": {"mobile": -2}}


@EVERY
async def test_what_is_not_there_is_made_or_not(client: Any, db: Any, delivery: Any) -> None:
    """`upsert` makes the document; without it, an update that finds nothing is acknowledged all the same."""
    async with buffer(client, delivery=delivery) as buf:
        acks = [
            await buf.update(db.events, 1, {"$set": {"a": 1}}),
            await buf.update(db.events, 2, {"$set": {"a": 2}}, upsert=True),
            await buf.replace(db.events, 3, {"a": 3}, upsert=True),
            await buf.replace(db.events, 4, {"a": 4}),
            await buf.increment(db.events, 5, {"a": 5}, upsert=False),
            await buf.delete(db.events, 6),
        ]
        assert [await ack.result() for ack in acks] == [1, 2, 3, 4, 5, 6]
    assert await stored(db) == [{"_id": 2, "a": 2}, {"_id": 3, "a": 3}]


async def test_an_id_is_made_and_the_document_left_alone(client: Any, db: Any) -> None:
    """A document without an id is given one, which the acknowledgement tells; later changes of it are not stored."""
    document = {"n": 1, "list": [1]}
    async with buffer(client) as buf:
        ack = await buf.insert(db.events, document)
        assert document == {"n": 1, "list": [1]}
        document["list"].append(2)  # type: ignore[attr-defined]
        update = {"$set": {"tags": ["a"]}}
        await buf.update(db.events, ack.key, update)
        update["$set"]["tags"].append("b")
    assert isinstance(ack.key, ObjectId)
    assert await stored(db) == [{"_id": ack.key, "n": 1, "list": [1], "tags": ["a"]}]


async def test_raw_documents_are_sent_as_they_are(client: Any, db: Any) -> None:
    """A RawBSONDocument needs an id of its own, for none can be put into it."""
    async with buffer(client) as buf:
        await buf.insert(db.events, RawBSONDocument(encode({"_id": 1, "n": 2})))
        with pytest.raises(UsageError, match="_id"):
            await buf.insert(db.events, RawBSONDocument(encode({"n": 2})))
    assert await stored(db) == [{"_id": 1, "n": 2}]


@pytest.mark.parametrize("value", ["$n", "$$NOW", {"$gt": 1}, {"a.b": 1}, "", {"": None}, [{"$set": 1}]])
async def test_values_are_data(client: Any, db: Any, value: Any) -> None:
    """What looks like a path or an operator is stored as it is."""
    async with buffer(client) as buf:
        await (await buf.insert(db.events, {"_id": 1, "v": value})).result()
        await buf.update(db.events, 1, {"$set": {"w": value}})
        if isinstance(value, str):
            await buf.increment(db.events, value, {"n": 1})
    found = {each["_id"]: each for each in await stored(db)}
    assert found[1] == {"_id": 1, "v": value, "w": value}
    if isinstance(value, str):
        assert found[value] == {"_id": value, "n": 1}


# When it is sent -------------------------------------------------------------------------------------------------


async def test_a_full_batch_is_sent_at_once(client: Any, db: Any) -> None:
    """So many operations are a batch, and what is left waits."""
    async with buffer(client, max_items=10, **LATER) as buf:
        acks = [await buf.insert(db.events, {"_id": number}) for number in range(25)]
        for ack in acks[:20]:
            await ack.result()
        await pause(0.05)
        assert [ack.done for ack in acks] == [True] * 20 + [False] * 5
        assert buf.stats.waiting == 5
    assert buf.stats.batches == 3


async def test_so_many_bytes_are_a_batch(client: Any, db: Any) -> None:
    """A batch is sent when it has enough bytes, and never has more, but for one large document."""
    async with buffer(client, max_bytes=10_000, **LATER) as buf:
        acks = [await buf.insert(db.events, {"_id": number, "v": "x" * 3000}) for number in range(4)]
        for ack in acks[:3]:
            await ack.result()
        assert not acks[3].done
        large = await buf.insert(db.events, {"_id": 9, "v": "x" * 50_000})
        await large.result()
    assert len(await stored(db)) == 5


async def test_age_sends_what_waits(client: Any, db: Any) -> None:
    """Nobody has to put in anything more, or to flush."""
    async with buffer(client, max_delay=0.02) as buf:
        assert await (await buf.insert(db.events, {"_id": 1})).result() == 1
        assert await (await buf.insert(db.events, {"_id": 2})).result() == 2
    assert buf.stats.batches == 2


async def test_one_buffer_for_several_databases(client: Any, db: Any) -> None:
    """A batch may hold operations on any collection of the client."""
    other = client[f"{db.name}_2"]
    try:
        async with buffer(client, **LATER) as buf:
            await buf.insert(db.events, {"_id": 1})
            await buf.insert(other.events, {"_id": 2})
            await buf.insert(other.more, {"_id": 3})
        assert buf.stats.batches == 1
        assert [await stored(db), await stored(other), await stored(other, "more")] == [
            [{"_id": 1}],
            [{"_id": 2}],
            [{"_id": 3}],
        ]
    finally:
        await client.drop_database(other.name)


# Order and merging -----------------------------------------------------------------------------------------------


@EVERY
async def test_what_is_done_to_a_document_is_done_in_order(client: Any, db: Any, delivery: Any) -> None:
    """Operations of all kinds on one document end as if each had been waited for."""
    async with buffer(client, delivery=delivery, max_items=3, max_delay=0.001) as buf:
        await buf.insert(db.events, {"_id": 1, "n": 0})
        await buf.increment(db.events, 1, {"n": 2})
        await buf.update(db.events, 1, {"$mul": {"n": 10}})
        await buf.increment(db.events, 1, {"n": 1})
        await buf.update(db.events, 1, [{"$set": {"m": {"$add": ["$n", 1]}}}])
        await buf.delete(db.events, 1)
        await buf.insert(db.events, {"_id": 1, "again": True})
        await buf.update(db.events, 1, {"$set": {"last": 1}})
    assert await stored(db) == [{"_id": 1, "again": True, "last": 1}]


async def test_increments_of_one_document_are_one_write(client: Any, db: Any, commands: Any) -> None:
    """A thousand of them are sent as one, exact also in fractions, and each is acknowledged."""
    async with buffer(client, **LATER) as buf:
        acks = [await buf.increment(db.counts, f"k{n % 2}", {"hits": 1, "cost": 0.1}) for n in range(1000)]
        await buf.flush()
        assert [await ack.result() for ack in acks] == [f"k{n % 2}" for n in range(1000)]
    [(_, command)] = [sent for sent in commands.sent if sent[0] == "update"]
    assert len(command["updates"]) == 2
    assert await stored(db, "counts") == [{"_id": key, "hits": 500, "cost": Decimal128("50.0")} for key in ("k0", "k1")]
    assert buf.stats.merged == 998


async def test_what_was_merged_and_is_refused_is_told_apart(client: Any, db: Any) -> None:
    """Of two updates that were sent as one, the one that the server refuses fails, and the other is stored."""
    await db.command("create", "strict", validator={"n": {"$not": {"$gt": 5}}})
    async with buffer(client, **LATER) as buf:
        good = await buf.update(db.strict, 1, {"$set": {"a": 1}}, upsert=True)
        bad = await buf.update(db.strict, 1, {"$set": {"n": 9}}, upsert=True)
        fine = await buf.update(db.strict, 1, {"$set": {"b": 1}}, upsert=True)
        await buf.flush()
        assert buf.stats.merged == 2
        assert await good.result() == await fine.result() == 1
        with pytest.raises(WriteError, match="validation"):
            await bad.result()
    assert await stored(db, "strict") == [{"_id": 1, "a": 1, "b": 1}]


async def test_two_fields_may_mean_one_document(client: Any, db: Any) -> None:
    """What is named by another field waits until everything before it is done."""
    await db.users.insert_one({"_id": 1, "email": "a"})
    async with buffer(client, max_delay=0.001, in_flight=4) as buf:
        for turn in range(10):
            await buf.update(db.users, 1, {"$push": {"log": (turn, "id")}})
            await buf.update(db.users, "a", {"$push": {"log": (turn, "email")}}, key_field="email")
            await buf.delete(db.others, turn)
    [user] = await stored(db, "users")
    assert user["log"] == [[turn, by] for turn in range(10) for by in ("id", "email")]


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, Int64(1)), ("a", "a"), ({"a": 1}, {"a": 1.0})])
async def test_keys_are_equal_as_they_are_to_the_server(client: Any, db: Any, one: Any, other: Any) -> None:
    """What is one key to the server is one lane."""
    async with buffer(client, max_items=1, in_flight=4) as buf:
        for turn in range(20):
            await buf.update(db.events, (one, other)[turn % 2], {"$push": {"log": turn}}, upsert=True)
    assert [each["log"] for each in await stored(db)] == [list(range(20))]


# What fails ------------------------------------------------------------------------------------------------------


@EVERY
async def test_one_bad_item_fails_alone(client: Any, db: Any, delivery: Any) -> None:
    """Its own error is told to its own caller, and everything else is stored."""
    await db.events.create_index("u", unique=True)
    await db.events.insert_one({"_id": 0, "u": 0})
    async with buffer(client, delivery=delivery, **LATER) as buf:
        acks = [await buf.insert(db.events, {"_id": n, "u": n if n != 5 else 0}) for n in range(1, 10)]
        text = await buf.update(db.events, 0, {"$set": {"t": "text"}})
        wrong = await buf.increment(db.events, 0, {"t": 1})
        await buf.flush()
        for number, ack in enumerate(acks, start=1):
            if number == 5:
                with pytest.raises(DuplicateKeyError, match="u_1"):
                    await ack.result()
            else:
                assert await ack.result() == number
        assert await text.result() == 0
        with pytest.raises(WriteError, match="non-numeric"):
            await wrong.result()
        assert isinstance(wrong.error, WriteError)
    assert [each["_id"] for each in await stored(db)] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert (buf.stats.failed, buf.stats.acknowledged) == (2, 9)


async def test_a_collection_that_takes_no_transactions_fails_alone(client: Any, db: Any) -> None:
    """With exactly_once, what is for a time-series collection is refused with the reason, and all else is stored."""
    await db.create_collection("series", timeseries={"timeField": "at"})
    async with buffer(client, delivery="exactly_once", **LATER) as buf:
        before = await buf.insert(db.events, {"_id": 1})
        series = [await buf.insert(db.series, {"at": dt.datetime.now(dt.timezone.utc)}) for _ in range(2)]
        after = await buf.insert(db.events, {"_id": 2})
        await buf.flush()
        assert [await before.result(), await after.result()] == [1, 2]
        for ack in series:
            with pytest.raises(DeploymentError, match=r"in a transaction.*time-series"):
                await ack.result()
    assert [each["_id"] for each in await stored(db)] == [1, 2]
    assert await db.series.count_documents({}) == 0


@pytest.mark.parametrize(("delivery", "batches"), [("at_least_once", 1), ("exactly_once", 3)])
async def test_the_largest_documents_are_stored(client: Any, db: Any, delivery: Any, batches: int) -> None:
    """Three of nearly 16 MB are more than one message takes, and are one batch; in transactions each is one."""
    size = 60_000_000 // batches
    async with buffer(client, delivery=delivery, **LATER, max_bytes=size) as buf:
        for number in range(3):
            await buf.insert(db.events, {"_id": number, "b": b"x" * (16 * 1024 * 1024 - 100)})
        await buf.flush()
        assert (buf.stats.batches, buf.stats.acknowledged) == (batches, 3)
    assert await db.events.count_documents({}) == 3


async def test_a_dead_letter_that_cannot_be_stored_takes_no_other_with_it(client: Any, db: Any, caplog: Any) -> None:
    """A letter is larger than its document, and may be too large; it is logged, and the others are stored."""
    await db.events.insert_many([{"_id": number} for number in range(3)])
    async with buffer(client, on_dead_letter=db.letters, **LATER) as buf:
        for number in range(3):
            size = 16 * 1024 * 1024 - 40 if number == 1 else 1
            await buf.insert(db.events, {"_id": number, "b": b"x" * size})
    assert sorted(letter["key"] for letter in await stored(db, "letters")) == [0, 2]
    assert [record.getMessage()[:32] for record in caplog.records] == ["a dead letter was lost: insert o"]


async def test_dead_letters_are_logged_by_default(client: Any, db: Any, caplog: Any) -> None:
    """Nothing is lost in silence: neither without a function, nor if it fails."""
    await db.events.insert_one({"_id": 1})

    def fails(_: Any) -> None:
        raise RuntimeError("no")

    for kept, text in ((None, "not stored: insert of 1"), (fails, "a dead letter was lost")):
        caplog.clear()
        async with buffer(client, on_dead_letter=kept) as buf:
            await buf.insert(db.events, {"_id": 1})
        [record] = caplog.records
        assert (record.name, text in record.getMessage()) == ("mongopatterns.buffer", True)


async def test_hooks_hear_of_each_batch(client: Any, db: Any, caplog: Any) -> None:
    """A hook that fails harms nobody."""
    reports: list[BatchReport] = []

    def hook(report: BatchReport) -> None:
        reports.append(report)
        raise RuntimeError("no")

    async with buffer(client, on_batch=hook, **LATER) as buf:
        for _ in range(3):
            await buf.increment(db.counts, 1, {"n": 1})
    [report] = reports
    assert (report.items, report.steps, report.failed) == (3, 1, 0)
    assert report.bytes > 0
    assert report.seconds > 0
    assert "on_batch failed" in caplog.text
    assert buf.stats.acknowledged == 3


def nest(levels: int) -> Any:
    """Make a value of so many documents and lists in each other."""
    value: Any = 1
    for level in range(levels):
        value = {"n": value} if level % 3 else [value]
    return value


def raw(damage: bytes, by: bytes) -> RawBSONDocument:
    """Make a document that is right on top, and whose `s.t` is not."""
    whole = encode({"_id": 1, "s": {"t": "hello"}})
    assert whole.count(damage) == 1
    return RawBSONDocument(whole.replace(damage, by))


def cycle() -> dict[str, Any]:
    """Make a document that holds itself."""
    made: dict[str, Any] = {}
    made["n"] = made
    return made


TOO_LONG = "p" * (16 * 1024 * 1024)
BAD: list[Any] = [
    ("insert", ({"_id": 1, "v": nest(180)},), "document"),
    ("insert", ({"_id": 1, "v": nest(250)},), "document"),
    ("insert", ({"_id": 1, "v": nest(5000)},), "document"),
    ("insert", (cycle(),), "document"),
    ("insert", (raw(b"\x02t\x00", b"\x60t\x00"),), "document"),
    ("insert", (raw(b"\x06\x00\x00\x00hello", b"\x66\x00\x00\x00hello"),), "document"),
    ("insert", (raw(b"hello", b"hell\xff"),), "document"),
    ("insert", ({"_id": 1, "v": {"$ref": "a", "$id": nest(179)}},), "document"),
    ("insert", ({"_id": 1, "v": DBRef("a", nest(179))},), "document"),
    ("insert", ({"_id": 1, "v": Code("f()", nest(180))},), "document"),
    ("insert", ({"_id": 1, "v": (nest(179),)},), "document"),
    ("insert", (RawBSONDocument(encode({"_id": 1, "v": nest(180)})),), "document"),
    ("insert", (RawBSONDocument(encode({"_id": 1}).replace(b"\x10", b"\x60")),), "document"),
    ("update", (1, [1]), "update"),
    ("update", (1, [{}]), "update"),
    ("update", (1, [{"$set": {"a": 1}, "$unset": "b"}]), "update"),
    ("update", (1, [{"$set": {"a": 1}}, {"$match": {"a": 1}}]), "update"),
    ("update", (1, [{"$bogus": 1}]), "update"),
    ("update", (1, {"$set": {"v": nest(199)}}), "update"),
    ("update", (1, [{"$set": {"v": {"$literal": nest(197)}}}]), "update"),
    ("update", (1, {"$set": cycle()}), "update"),
    ("update", (1, {"$set": {"v": raw(b"\x02t\x00", b"\x60t\x00")}}), "update"),
    ("update", ({"a": nest(179)}, {"$unset": {"a": 1}}), "key"),
    ("update", (cycle(), {"$set": {"a": 1}}), "key"),
    ("increment", (1, {TOO_LONG: 1}), "amounts"),
    ("increment", (1, {"_id": 1}), "amounts"),
    ("increment", (1, {"a": Decimal("-1E-30")}), "amounts['a']"),
    ("increment", (1, {"a": Decimal("nan")}), "amounts['a']"),
    ("increment", (1, {"a": Decimal("-snan")}), "amounts['a']"),
    ("increment", ({"a": nest(179)}, {"n": 1}), "key"),
    ("replace", (1, {"_id": object()}), "document"),
    ("replace", (object(), {"_id": 1}), "key"),
    ("replace", (1, cycle()), "document"),
    ("replace", (1, {"v": nest(180)}), "document"),
    ("insert", ([],), "document"),
    ("insert", ({"_id": 1, "v": object()},), "document"),
    ("insert", ({"v": 2**64},), "document"),
    ("insert", ({"v": "\ud800"},), "document"),
    ("insert", ({"v": "x" * (16 * 1024 * 1024)},), "document"),
    ("insert", ({1: 2},), "document"),
    ("update", (1, {}), "update"),
    ("update", (1, {"a": 1}), "update"),
    ("update", (1, []), "update"),
    ("update", (1, "x"), "update"),
    ("update", (1, {"$set": {"a": object()}}), "update"),
    ("update", (1, {"$set": {"_id": 2}}), "update"),
    ("update", (None, {"$set": {"a": 1}}), "key"),
    ("update", ([1], {"$set": {"a": 1}}), "key"),
    ("increment", (1, {}), "amounts"),
    ("increment", (1, {"a": "x"}), "amounts['a']"),
    ("increment", (1, {"a": float("nan")}), "amounts['a']"),
    ("increment", (1, {"$a": 1}), "amounts"),
    ("increment", (1, {"a": 1, "a.b": 1}), "amounts"),
    ("replace", (1, {"_id": 2}), "document"),
    ("replace", (1, {"$set": {}}), "document"),
    ("replace", (1, [1]), "document"),
    ("delete", (float("nan"),), "key"),
]


@pytest.mark.parametrize(("method", "arguments", "argument"), BAD)
async def test_what_cannot_be_sent_is_refused_at_the_call(
    client: Any, db: Any, method: str, arguments: Any, argument: str
) -> None:
    """With the argument's name, before anything is accepted; the buffer goes on."""
    async with buffer(client) as buf:
        with pytest.raises(UsageError) as caught:
            await getattr(buf, method)(db.events, *arguments)
        assert caught.value.argument == argument
        assert buf.stats.accepted == 0
        await buf.insert(db.events, {"_id": 1})
    assert await stored(db) == [{"_id": 1}]


async def test_further_arguments_that_are_refused(client: Any, db: Any) -> None:
    """Options, collections and paths are checked as well."""
    for options in (
        {"max_items": 0},
        {"max_bytes": True},
        {"max_delay": 0},
        {"in_flight": "2"},
        {"max_waiting": 10},
        {"max_waiting_bytes": -1},
        {"when_full": "drop"},
        {"delivery": "twice"},
        {"retry_for": -1},
    ):
        with pytest.raises(UsageError) as caught:
            buffer(client, **options)
        assert caught.value.argument == next(iter(options))
    with pytest.raises(UsageError, match="client"):
        buffer(db)
    async with buffer(client) as buf:
        for wrong in ("events", db, None):
            with pytest.raises(UsageError, match="collection"):
                await buf.insert(wrong, {})
        await buf.insert(db.events, {"_id": 1})
        other = type(client)(host="127.0.0.1", port=1)
        with pytest.raises(UsageError, match="another client"):
            await buf.insert(other[db.name].events, {"_id": 2})
        await settle(other.close())
        with pytest.raises(UsageError, match="key_field"):
            await buf.delete(db.events, 1, key_field="$x")
        for wrong in ("b", [["b"]], [{}], [1], ["a.b"], ["_id"]):
            with pytest.raises(UsageError, match="set_now"):
                await buf.increment(db.events, 1, {"a": 1}, set_now=wrong)
        for method, what in (("increment", {"a": 1}), ("update", {"$set": {"a": 1}}), ("replace", {"a": 1})):
            with pytest.raises(UsageError, match="key_field"):
                await getattr(buf, method)(db.events, 1, what, key_field=["x"])
        with pytest.raises(UsageError, match="email"):
            await buf.replace(db.events, "x", {"a": 1}, key_field="email")
        for timeout in (0, -1, "1"):
            with pytest.raises(UsageError, match="timeout"):
                await buf.flush(timeout)  # type: ignore[arg-type]


async def test_a_collection_is_of_one_client_and_stores_ids_in_one_way(
    client: Any, db: Any, mongopatterns_server: Any
) -> None:
    """Another client on the same server has no part in its transactions; another representation is another value."""
    async with buffer(client) as buf:
        await buf.insert(db.events, {"_id": 1})
        other = type(client)(mongopatterns_server.uri)
        with pytest.raises(UsageError, match="another client"):
            await buf.insert(other[db.name].events, {"_id": 2})
        await settle(other.close())
        options = CodecOptions(uuid_representation=UuidRepresentation.JAVA_LEGACY)
        with pytest.raises(UsageError, match="uuid_representation"):
            await buf.insert(db.events.with_options(codec_options=options), {"_id": 3})


async def test_an_error_is_about_its_own_command(client: Any, db: Any) -> None:
    """Updates that nobody may make do not make it look as if the documents beside them had failed."""
    await db.create_collection("log", capped=True, size=100_000)
    await db.log.insert_one({"_id": 0, "n": 0})
    fail = {"configureFailPoint": "failCommand", "mode": "alwaysOn"}
    what = {"failCommands": ["update"], "errorCode": 13, "namespace": db.log.full_name}
    await client.admin.command({**fail, "data": what})
    try:
        async with buffer(client, **LATER) as buf:
            acks = [await buf.insert(db.log, {"_id": 1}), await buf.increment(db.log, 0, {"n": 1})]
            await buf.flush()
            assert await acks[0].result() == 1
            with pytest.raises(OperationFailure):
                await acks[1].result()
    finally:
        await client.admin.command({**fail, "mode": "off"})
    assert await db.log.count_documents({}) == 2


@pytest.mark.parametrize("spooled", [False, True])
async def test_who_only_puts_in_lets_others_have_their_turn(client: Any, db: Any, tmp_path: Any, spooled: bool) -> None:
    """What is old enough is sent while somebody goes on without ever waiting, with a spool as well."""
    await db.create_collection("events")
    async with buffer(client, max_delay=0.01, spool=tmp_path if spooled else None) as buf:
        first = await buf.insert(db.events, {"_id": 0})
        number = 0
        deadline = time.monotonic() + 30
        while not first.done:
            number += 1
            await buf.increment(db.counts, "n", {"n": 1})
            assert time.monotonic() < deadline
    assert (await db.counts.find_one())["n"] == number


@EVERY
async def test_what_is_nested_as_deeply_as_may_be_is_stored(client: Any, db: Any, delivery: Any) -> None:
    """The bound refuses nothing that the server would store."""
    deep = nest(179)
    key = {"a": nest(178)}
    async with buffer(client, delivery=delivery, **LATER) as buf:
        await buf.insert(db.events, {"_id": 1, "v": deep})
        await buf.insert(db.events, RawBSONDocument(encode({"_id": 2, "v": deep})))
        await buf.update(db.events, 3, {"$set": {"v": deep}}, upsert=True)
        await buf.update(db.events, 4, [{"$set": {"v": {"$literal": deep}}}], upsert=True)
        await buf.replace(db.events, 5, {"v": deep}, upsert=True)
        await buf.update(db.events, 5, {"$unset": {"w": nest(198)}})
        await buf.increment(db.counts, key, {"n": 1})
    assert await stored(db) == [{"_id": number, "v": deep} for number in range(1, 6)]
    assert await stored(db, "counts") == [{"_id": key, "n": 1}]


# Bounds ----------------------------------------------------------------------------------------------------------


async def test_who_finds_it_full_is_refused(client: Any, db: Any) -> None:
    """The call says so, and nothing was accepted."""
    async with buffer(client, max_items=5, max_waiting=5, when_full="reject", **LATER) as buf:
        acks = [await buf.insert(db.events, {"_id": number}) for number in range(5)]
        with pytest.raises(LimitExceeded, match="the buffer is full: 5 operations"):
            await buf.insert(db.events, {"_id": 9})
        for ack in acks:
            await ack.result()
        await buf.insert(db.events, {"_id": 6})
    assert [each["_id"] for each in await stored(db)] == [0, 1, 2, 3, 4, 6]


class Stop(BaseException):
    """What ends a program."""


async def test_what_ends_the_program_in_the_middle_of_a_drop_takes_no_room(client: Any, db: Any) -> None:
    """The newest was not accepted then; the oldest is dropped all the same."""

    def stop(_: DeadLetter) -> None:
        raise Stop

    options: dict[str, Any] = {"max_items": 2, "max_waiting": 2, "when_full": "drop_oldest", "max_bytes": 10**6}
    async with buffer(client, on_dead_letter=stop, **options, **LATER) as buf:
        for number in range(2):
            await buf.increment(db.counts, 1, {"n": 10**number})
        with pytest.raises(Stop):
            await buf.increment(db.counts, 1, {"n": 100})
        await buf.increment(db.counts, 1, {"n": 1000})
        assert (buf.stats.dropped, buf.stats.accepted) == (1, 3)
    assert await stored(db, "counts") == [{"_id": 1, "n": 1010}]


async def test_bytes_are_bounded_too(client: Any, db: Any) -> None:
    """One document is always taken, however large it is."""
    async with buffer(client, max_waiting_bytes=1000, when_full="reject", **LATER) as buf:
        large = await buf.insert(db.events, {"_id": 1, "v": "x" * 5000})
        with pytest.raises(LimitExceeded):
            await buf.insert(db.events, {"_id": 2})
        await buf.flush()
        assert await large.result() == 1
        await buf.insert(db.events, {"_id": 2})
    assert len(await stored(db)) == 2


# The end ---------------------------------------------------------------------------------------------------------


async def insert_and_fail(client: Any, db: Any) -> None:
    async with buffer(client, **LATER) as buf:
        await buf.insert(db.events, {"_id": 1})
        raise KeyError("x")


async def test_what_was_accepted_is_stored_though_the_body_fails(client: Any, db: Any) -> None:
    """The error of the body goes on."""
    with pytest.raises(KeyError):
        await insert_and_fail(client, db)
    assert await stored(db) == [{"_id": 1}]


async def test_nothing_is_accepted_after_the_end(client: Any, db: Any) -> None:
    """It says so; to close once more is fine."""
    buf = buffer(client)
    await buf.insert(db.events, {"_id": 1})
    await buf.close()
    await buf.close()
    with pytest.raises(UsageError, match="closed"):
        await buf.insert(db.events, {"_id": 2})
    assert await stored(db) == [{"_id": 1}]


async def test_amounts_are_exact(client: Any, db: Any) -> None:
    """Ten times a tenth is one; whole numbers stay whole, and Decimals keep their digits."""
    async with buffer(client) as buf:
        for _ in range(10):
            await buf.increment(db.counts, 1, {"tenth": 0.1, "n": 3, "d": Decimal("1.25")})
        for less in (Decimal("-0.25"), Decimal(-1), -0.25, -1):
            await buf.increment(db.counts, 2, {"n": less})
    assert await stored(db, "counts") == [
        {"_id": 1, "tenth": Decimal128("1.0"), "n": 30, "d": Decimal128("12.50")},
        {"_id": 2, "n": Decimal128("-2.50")},
    ]


async def test_nothing_may_be_added(client: Any, db: Any) -> None:
    """Zero is an amount like any other, of whatever type and sign: afterwards the field is there, a whole number."""
    async with buffer(client) as buf:
        for nothing in (0, 0.0, -0.0, Decimal("-0"), Decimal("0.00")):
            await buf.increment(db.counts, 1, {"n": nothing, "m": 2})
    [count] = await stored(db, "counts")
    assert count == {"_id": 1, "n": 0, "m": 10}
    assert type(count["n"]) is int


async def test_the_ledger_says_which_index_it_needs(client: Any, db: Any) -> None:
    """It forgets after thirty days; without it, there is none."""
    assert buffer(client).indexes() == {}
    [(name, [index])] = buffer(client, delivery="exactly_once", ledger=db.ledger).indexes().items()
    assert (name, index.options["expireAfterSeconds"]) == ("ledger", 30 * 86_400)
    async with buffer(client, delivery="exactly_once", ledger=db.ledger) as buf:
        await buf.insert(db.events, {"_id": 1})
    [batch] = await stored(db, "ledger")
    assert batch["n"] == 1


# On disk ---------------------------------------------------------------------------------------------------------


async def left_behind(client: Any, db: Any, spool: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Put things in and have them sent, and end as if killed before the journal was told."""
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "done", lambda *_: None)
        buf = buffer(client, spool=spool, ledger=db.ledger, **options, **LATER)
        for number in (1, 2, 3):
            await buf.insert(db.events, {"_id": number})
            await buf.increment(db.counts, 1, {"n": 1})
        await buf.flush()
        patch.setattr(Journal, "close", lambda journal: [file.close() for file in journal._files])
        await buf.close()


@EVERY
async def test_what_is_left_on_disk_is_done_by_the_next(
    client: Any, db: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, delivery: Any
) -> None:
    """What the ledger knows is not done again, and what was refused then is told; without it, all is done again."""
    await db.events.insert_one({"_id": 2})
    await left_behind(client, db, tmp_path, monkeypatch, delivery=delivery)
    letters: list[DeadLetter] = []
    async with buffer(
        client, spool=tmp_path, ledger=db.ledger, delivery=delivery, on_dead_letter=letters.append
    ) as buf:
        assert buf.stats.recovered == 6
    assert [each["_id"] for each in await stored(db)] == [1, 2, 3]
    [count] = await stored(db, "counts")
    if delivery == "exactly_once":
        assert count["n"] == 3
        assert [(each.key, "refused" in str(each.error)) for each in letters] == [(2, True)]
    else:
        assert count["n"] == 6
        assert letters == []
    assert list(tmp_path.iterdir()) == []


async def test_what_one_cannot_do_again_is_left_to_the_next(
    client: Any, db: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal whose items could not be sent is not held by the process that has tried."""
    await left_behind(client, db, tmp_path, monkeypatch, delivery="exactly_once")
    options: dict[str, Any] = {"spool": tmp_path, "ledger": db.ledger, "delivery": "exactly_once"}

    async def failing(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(AsyncBatches, "send", failing)
        with pytest.raises(ZeroDivisionError):
            await buffer(client, **options).__aenter__()
    async with buffer(client, **options) as buf:
        assert buf.stats.recovered == 6
    assert [each["_id"] for each in await stored(db)] == [1, 2, 3]
    assert list(tmp_path.iterdir()) == []


async def test_a_ledger_that_may_not_be_read_leaves_it_open_what_was_refused(
    client: Any, db: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is known to be done, and is not done again; of what is in it, nothing more is known."""
    await db.events.insert_one({"_id": 2})
    await left_behind(client, db, tmp_path, monkeypatch, delivery="exactly_once")
    letters: list[DeadLetter] = []
    options: dict[str, Any] = {"spool": tmp_path, "ledger": db.ledger, "delivery": "exactly_once"}
    fail = {"configureFailPoint": "failCommand", "mode": {"times": 1}}
    refused = {"failCommands": ["find"], "errorCode": 13, "namespace": db.ledger.full_name}
    await client.admin.command({**fail, "data": refused})
    async with buffer(client, on_dead_letter=letters.append, **options):
        pass
    assert [type(each.error) for each in letters] == [OutcomeUnknown] * 6
    assert (await stored(db, "counts"))[0]["n"] == 3
    assert [each["_id"] for each in await stored(db)] == [1, 2, 3]


async def test_what_was_begun_in_a_transaction_is_ended_in_one(
    client: Any, db: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a buffer that promises less."""
    await left_behind(client, db, tmp_path, monkeypatch, delivery="exactly_once")
    async with buffer(client, spool=tmp_path, ledger=db.ledger):
        pass
    [count] = await stored(db, "counts")
    assert count["n"] == 3


async def test_a_full_disk_is_told_to_the_caller(
    client: Any, db: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was accepted then, and nothing else is lost."""

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with buffer(client, spool=tmp_path, **LATER) as buf:
        await buf.insert(db.events, {"_id": 1})
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(DeploymentError, match="No space left"):
                await buf.insert(db.events, {"_id": 2})
        assert buf.stats.accepted == 1
        await buf.insert(db.events, {"_id": 3})
    assert [each["_id"] for each in await stored(db)] == [1, 3]


async def test_a_batch_whose_id_cannot_be_written_is_not_sent(
    client: Any, db: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever, the buffer goes on, and the next one does what is on disk."""

    def full(*_: Any) -> Any:
        raise DeploymentError("No space left on device")

    options: dict[str, Any] = {"spool": tmp_path, "ledger": db.ledger, "delivery": "exactly_once"}
    async with buffer(client, **options, **LATER) as buf:
        for number in range(3):
            with monkeypatch.context() as patch:
                patch.setattr(Journal, "begin", full)
                ack = await buf.insert(db.events, {"_id": number})
                await buf.flush()
            with pytest.raises(OutcomeUnknown):
                await ack.result()
        assert await stored(db) == []
    async with buffer(client, **options):
        pass
    assert [each["_id"] for each in await stored(db)] == [0, 1, 2]
