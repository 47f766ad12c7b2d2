"""A buffer that tasks share: who waits, for room or for an answer, who gives up, and an end that loses nothing."""
# generate: hand-written twin

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.errors import DuplicateKeyError

from mongopatterns import (
    AsyncWriteBuffer,
    DeadLetter,
    Dropped,
    NotSent,
    OutcomeUnknown,
    UsageError,
)
from mongopatterns._spool import Spool
from mongopatterns.buffer import _items
from mongopatterns.buffer._ack_async import AsyncAck
from mongopatterns.buffer._items import Target

EVERY = pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
LATER: dict[str, Any] = {"max_delay": 60.0}  # (nothing is sent because of its age)


def buffer(client: Any, **options: Any) -> AsyncWriteBuffer:
    return AsyncWriteBuffer(client, **options)


async def stored(db: Any, name: str = "events") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await db[name].find(sort=[("_id", 1)]).to_list(None)
    return found


async def test_flush_waits_for_what_was_put_in_before(client: Any, db: Any) -> None:
    """And not for what comes later; of nothing there is nothing to wait for."""
    async with buffer(client, **LATER) as buf:
        await buf.flush()
        first = await buf.insert(db.events, {"_id": 1})
        flushing = asyncio.ensure_future(buf.flush())
        await asyncio.sleep(0)
        second = await buf.insert(db.events, {"_id": 2})
        await flushing
        assert (first.done, second.done) == (True, False)
    assert second.done


@EVERY
async def test_what_nobody_waits_for_is_a_dead_letter(client: Any, db: Any, delivery: Any) -> None:
    """It is handed to a function, to one that is waited for, or stored; what somebody waits for is told to them."""
    await db.events.insert_one({"_id": 1})
    letters: list[DeadLetter] = []

    async def later(letter: DeadLetter) -> None:
        await asyncio.sleep(0)
        letters.append(letter)

    for kept in (letters.append, later, db.dead):
        async with buffer(client, delivery=delivery, on_dead_letter=kept, **LATER) as buf:
            await buf.insert(db.events, {"_id": 1, "n": 2})
            waiting = asyncio.ensure_future((await buf.insert(db.events, {"_id": 1, "n": 3})).result())
            await asyncio.sleep(0)
        with pytest.raises(DuplicateKeyError):
            await waiting
    assert [(each.collection, each.operation, each.key) for each in letters] == [(db.events.full_name, "insert", 1)] * 2
    assert all(isinstance(each.error, DuplicateKeyError) for each in letters)
    assert RawBSONDocument(letters[0].body)["n"] == 2
    [dead] = await stored(db, "dead")
    assert (dead["collection"], dead["operation"], dead["key"]) == (db.events.full_name, "insert", 1)
    assert dead["error"].startswith("DuplicateKeyError")


async def test_who_gives_up_waiting_hears_of_it_as_a_dead_letter(client: Any, db: Any) -> None:
    """A failure that comes after the time of a wait is over is not silent."""
    await db.events.insert_one({"_id": 1})
    letters: list[DeadLetter] = []
    async with buffer(client, on_dead_letter=letters.append, **LATER) as buf:
        ack = await buf.insert(db.events, {"_id": 1})
        with pytest.raises(NotSent):
            await ack.result(0.01)
        waiting = asyncio.ensure_future(ack.result())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert [letter.key for letter in letters] == [1]


async def test_who_finds_it_full_waits(client: Any, db: Any) -> None:
    """There are never more than the bound, and all of them are stored."""
    most = 0
    async with buffer(client, max_items=5, max_waiting=10, **LATER) as buf:

        async def put(number: int) -> Any:
            nonlocal most
            ack = await buf.insert(db.events, {"_id": number})
            most = max(most, buf.stats.waiting + buf.stats.under_way)
            return ack

        acks = await asyncio.gather(*(put(number) for number in range(200)))
        assert await asyncio.gather(*(ack.result() for ack in acks)) == list(range(200))
    assert most <= 10
    assert len(await stored(db)) == 200


async def test_the_oldest_is_dropped(client: Any, db: Any) -> None:
    """It is told to whoever waits for it, or is a dead letter; what is under way stays."""
    letters: list[DeadLetter] = []
    options: dict[str, Any] = {"max_items": 5, "max_waiting": 5, "when_full": "drop_oldest"}
    async with buffer(client, on_dead_letter=letters.append, max_bytes=10**6, **options, **LATER) as buf:
        first = asyncio.ensure_future((await buf.insert(db.events, {"_id": 0})).result())
        await asyncio.sleep(0)
        for number in range(1, 4):
            await buf.increment(db.events, "n", {"n": 10**number})
        for number in range(4, 8):
            await buf.insert(db.events, {"_id": number})
        with pytest.raises(Dropped):
            await first
    assert [each.key for each in letters] == ["n", "n"]
    assert all(isinstance(each.error, Dropped) for each in letters)
    assert [each for each in await stored(db) if each["_id"] != "n"] == [{"_id": number} for number in range(4, 8)]
    assert (await db.events.find_one({"_id": "n"}))["n"] == 1000
    assert buf.stats.dropped == 3


async def test_where_nothing_can_be_dropped_the_newest_waits(client: Any, db: Any) -> None:
    """What is under way is not dropped: the bound holds, and everything is stored."""
    options: dict[str, Any] = {"max_items": 3, "max_waiting": 3, "when_full": "drop_oldest"}
    fail = {"configureFailPoint": "failCommand"}
    blocked = {"failCommands": ["insert"], "blockConnection": True, "blockTimeMS": 300}
    where = {"namespace": db.events.full_name}
    await client.admin.command({**fail, "mode": {"times": 1}, "data": {**blocked, **where}})
    async with buffer(client, **options, **LATER) as buf:
        for number in range(4):
            await buf.insert(db.events, {"_id": number})
            assert buf.stats.waiting + buf.stats.under_way <= 3
    assert buf.stats.dropped == 0
    assert len(await stored(db)) == 4


async def test_what_is_put_in_while_it_closes_is_done_or_refused(client: Any, db: Any, tmp_path: Any) -> None:
    """What a call has accepted is stored when `close` is over, whenever that began; nobody waits for ever."""
    buf = buffer(client, spool=tmp_path, fsync=True, max_items=7, **LATER)
    accepted = []

    async def put(caller: int) -> None:
        for number in range(10_000):
            try:
                accepted.append(await buf.insert(db.events, {"_id": f"{caller} {number}"}))
            except UsageError:
                return

    putting = [asyncio.ensure_future(put(caller)) for caller in range(8)]
    while len(accepted) < 100:
        await asyncio.sleep(0.001)
    await buf.close()
    await asyncio.gather(*putting)
    assert all(ack.done for ack in accepted)
    assert await db.events.count_documents({}) == len(accepted)


async def test_who_gives_up_waiting_takes_no_room(client: Any, db: Any) -> None:
    """A cancelled caller is not accepted, and those behind it are."""
    async with buffer(client, max_items=2, max_waiting=2, max_bytes=10**6, **LATER) as buf:
        for number in range(2):
            await buf.insert(db.events, {"_id": number})
        waiting = [asyncio.ensure_future(buf.insert(db.events, {"_id": number})) for number in range(2, 8)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[3].cancel()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in found] == [True, False, False, True, False, False]
    assert [each["_id"] for each in await stored(db)] == [0, 1, 3, 4, 6, 7]
    assert buf.stats.accepted == 6


async def test_a_close_that_may_not_take_long(client: Any, db: Any, mongopatterns_server: Any) -> None:
    """What was not sent in time is told to be so, and is a dead letter; nobody hangs."""
    letters: list[DeadLetter] = []
    buf = buffer(client, max_items=1, in_flight=1, on_dead_letter=letters.append)
    fail = {"configureFailPoint": "failCommand"}
    blocked = {
        "failCommands": ["insert"],
        "blockConnection": True,
        "blockTimeMS": 1500,
        "namespace": db.events.full_name,
    }
    await client.admin.command({**fail, "mode": {"times": 1}, "data": blocked})
    first, second, third = [await buf.insert(db.events, {"_id": number}) for number in range(3)]
    await asyncio.sleep(0.05)
    waiting = asyncio.ensure_future(third.result())
    await asyncio.sleep(0)
    await buf.close(timeout=0.1)
    assert (first.done, second.done) == (True, True)
    assert [type(each.error).__name__ for each in letters] == ["OutcomeUnknown", "NotSent"]
    with pytest.raises(NotSent):
        await waiting
    await client.admin.command({**fail, "mode": "off"})


async def test_an_acknowledgement_may_be_waited_for_for_a_while(client: Any, db: Any) -> None:
    """Who stops waiting has changed nothing, and may wait again; so may others."""
    async with buffer(client, **LATER) as buf:
        ack = await buf.insert(db.events, {"_id": 1})
        with pytest.raises(NotSent):
            await ack.result(0.01)
        tasks = [asyncio.ensure_future(ack.result()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await buf.flush()
        assert await asyncio.gather(*tasks[1:]) == [1, 1]
        assert await ack == 1


@pytest.mark.parametrize("fsync", [False, True])
async def test_callers_share_a_journal(client: Any, db: Any, tmp_path: Any, fsync: bool) -> None:
    """What was accepted is on disk; when everything is done, nothing is left there."""
    async with buffer(client, spool=tmp_path, fsync=fsync, **LATER) as buf:
        acks = await asyncio.gather(*(buf.insert(db.events, {"_id": number}) for number in range(100)))
        [path] = tmp_path.iterdir()
        assert path.stat().st_size > 100 * 50
        await buf.flush()
        assert [await ack for ack in acks] == list(range(100))
    assert list(tmp_path.iterdir()) == []
    assert len(await stored(db)) == 100


@pytest.mark.parametrize("turns", range(7))
async def test_who_gives_up_at_any_moment_takes_no_room(client: Any, db: Any, turns: int) -> None:
    """Also one who was let in, and has not heard of it yet: all the room is there for those who come later."""
    async with buffer(client, max_items=2, max_waiting=2, **LATER) as buf:
        acks = [await buf.insert(db.events, {"_id": number}) for number in range(2)]
        waiting = asyncio.ensure_future(buf.insert(db.events, {"_id": 2}))
        while not acks[0].done:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        [came_in] = await asyncio.gather(waiting, return_exceptions=True)
        for number in (3, 4, 5):
            await asyncio.wait_for(buf.insert(db.events, {"_id": number}), timeout=30)
    more = [] if isinstance(came_in, asyncio.CancelledError) else [2]
    assert [each["_id"] for each in await stored(db)] == [0, 1, *more, 3, 4, 5]
    assert buf.stats.accepted == 5 + len(more)


async def test_who_waits_for_room_when_it_is_closed_is_told_so(client: Any, db: Any) -> None:
    """What was accepted is stored; who has given up meanwhile is told nothing."""
    buf = buffer(client, max_items=2, max_waiting=2, **LATER)
    for number in range(2):
        await buf.insert(db.events, {"_id": number})
    waiting = [asyncio.ensure_future(buf.insert(db.events, {"_id": number})) for number in (2, 3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await buf.close()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in told] == [UsageError, asyncio.CancelledError]
    assert [each["_id"] for each in await stored(db)] == [0, 1]


async def test_a_close_in_the_middle_of_a_batch(client: Any, db: Any) -> None:
    """What was acknowledged stays so; of the rest of the batch nobody knows."""
    buf = buffer(client, **LATER)
    first = await buf.insert(db.events, {"_id": 1})
    second = await buf.update(db.events, 1, {"$set": {"a": 1}})
    fail = {"configureFailPoint": "failCommand"}
    blocked = {
        "failCommands": ["update"],
        "blockConnection": True,
        "blockTimeMS": 3000,
        "namespace": db.events.full_name,
    }
    await client.admin.command({**fail, "mode": {"times": 1}, "data": blocked})
    flushing = asyncio.ensure_future(buf.flush())
    assert await first == 1
    await buf.close(timeout=0.05)
    assert (first.error, type(second.error)) == (None, OutcomeUnknown)
    await flushing
    await client.admin.command({**fail, "mode": "off"})


async def test_a_buffer_with_items_belongs_to_its_loop(client: Any, db: Any) -> None:
    """Another loop is refused: it could not send what waits in this one."""
    async with buffer(client, **LATER) as buf:
        await buf.insert(db.events, {"_id": 1})

        async def put() -> None:
            await buf.insert(db.events, {"_id": 2})

        with pytest.raises(UsageError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, put())
    assert await stored(db) == [{"_id": 1}]


async def test_those_who_come_first_open_the_spool_once(client: Any, db: Any, tmp_path: Any) -> None:
    """Without a context, the first call does what is left there; those who come meanwhile wait for it."""
    journal = Spool(tmp_path).journal()
    left = _items.insert(AsyncAck, Target(db.events.full_name, db.events, db.codec_options), {"_id": 9}, ObjectId)
    journal.accept([_items.record(left)])
    for file in journal._files:
        file.close()
    buf = buffer(client, spool=tmp_path, **LATER)
    await asyncio.gather(*(buf.insert(db.events, {"_id": number}) for number in range(3)))
    assert (buf.stats.recovered, len(list(tmp_path.iterdir()))) == (1, 1)
    await buf.close()
    assert list(tmp_path.iterdir()) == []
    assert [each["_id"] for each in await stored(db)] == [0, 1, 2, 9]


async def test_who_gave_up_waiting_for_an_answer_is_not_told() -> None:
    """Nor does it harm those who wait on, if the answer comes before anybody has noticed."""
    ack = AsyncAck(Target("db.events", None, CodecOptions()), "insert", 1, b"", 1)
    waiting = [asyncio.ensure_future(ack.result()) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    ack.settle(None)
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(told[0]), told[1]] == [asyncio.CancelledError, 1]
