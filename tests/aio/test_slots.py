"""What slots promise, on a real server."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
from bson import Binary, ObjectId, UuidRepresentation
from bson.codec_options import CodecOptions
from pymongo.errors import ExecutionTimeout, NetworkTimeout, OperationFailure

from mongopatterns import (
    AsyncSlots,
    Durability,
    LimitExceeded,
    NotHeld,
    SlotOutcome,
    SlotsSpec,
    StateError,
    UsageError,
    may_have_applied,
)
from mongopatterns._driver_async import settle
from mongopatterns.commands import Aggregate
from mongopatterns.testing import race

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
MS = dt.timedelta(milliseconds=1)
SECOND = dt.timedelta(seconds=1)
MINUTE = dt.timedelta(minutes=1)

# (Without the TTL index: the server would delete what these tests date into its past.)
STREAMS = SlotsSpec("streams", cap=3, ttl=30, forget_after=None)
FOR_EVER = SlotsSpec("streams", cap=2, ttl=None, forget_after=None)

OWNERS = ["$name", "a.b.c", "", "$$NOW", "{$gt: 1}", "ключ", 7, True, 1.5, b"\0\1", ObjectId(), {"u": "$y", "d": NOON}]


async def streams(db: Any, spec: SlotsSpec = STREAMS, **options: Any) -> AsyncSlots:
    """Bind a spec whose indexes exist."""
    for index in spec.indexes():
        await db[spec.collection].create_index(index.keys, **index.options)
    return AsyncSlots(db, spec, **options)


async def documents(db: Any) -> list[Any]:
    found: list[Any] = await db.streams.find({}).sort("slot", 1).to_list(None)
    return found


# Acquired, full ----------------------------------------------------------------------------------------------


async def test_an_owner_has_so_many_slots_and_no_more(db: Any) -> None:
    """Each call takes a slot of its own, up to the cap; then the owner is full and nothing is written."""
    slots = await streams(db)
    held = [await slots.acquire("alice", now=NOON) for _ in range(3)]
    assert [slot.outcome for slot in held] == [SlotOutcome.ACQUIRED] * 3
    assert {slot.slot for slot in held} == {0, 1, 2}
    assert {(slot.owner, slot.since, slot.expires_at, slot.cap) for slot in held} == {
        ("alice", NOON, NOON + 30 * SECOND, 3)
    }
    before = await documents(db)
    full = await slots.acquire("alice", now=NOON)
    assert not full
    assert (full.outcome, full.slot, full.token, full.cap) == (SlotOutcome.FULL, None, None, 3)
    with pytest.raises(LimitExceeded, match="all 3 slots of 'alice' are held"):
        full.require()
    assert await documents(db) == before
    assert await slots.size("alice", now=NOON) == 3
    assert await slots.acquire("bob", now=NOON)


async def test_a_slot_is_one_document(db: Any) -> None:
    """What is stored is what the page says: owner, number, holder, times and data; a free one has no holder."""
    slots = await streams(db)
    slot = await slots.acquire("alice", data={"device": "tv"}, now=NOON)
    stored = {document["slot"]: document for document in await documents(db)}
    assert set(stored) == {0, 1, 2}
    held = stored.pop(slot.slot or 0)
    assert set(held) == {"_id", "owner", "slot", "holder", "since", "until", "data"}
    assert (held["owner"], held["data"]) == ("alice", {"device": "tv"})
    assert held["since"].replace(tzinfo=UTC) == NOON
    assert held["until"].replace(tzinfo=UTC) == NOON + 30 * SECOND
    for free in stored.values():
        assert (free["holder"], free["since"], free["data"]) == (None, None, {})
        assert free["until"].replace(tzinfo=UTC) == NOON - 5 * MINUTE


async def test_what_each_call_costs(db: Any, commands: Any) -> None:
    """One command where a slot is free, two to refuse, four for a new owner, one for everything else."""
    slots = await streams(db)
    commands.clear()
    slot = await slots.acquire("alice")
    assert commands.names == ["findAndModify", "aggregate", "insert", "findAndModify"]
    commands.clear()
    for _ in range(2):
        await slots.acquire("alice")
    assert commands.names == ["findAndModify"] * 2
    commands.clear()
    assert not await slots.acquire("alice")
    assert commands.names == ["findAndModify", "aggregate"]
    assert commands.sent[-1][1]["readConcern"] == {"level": "snapshot"}
    commands.clear()
    await slots.renew(slot)
    await slots.release(slot)
    await slots.holders("alice")
    await slots.size("alice")
    assert commands.names == ["findAndModify", "findAndModify", "aggregate", "aggregate"]
    assert commands.comments == {f"mongopatterns.slots.{call}" for call in ("renew", "release", "holders", "size")}


async def test_a_cap_of_ones_own(db: Any) -> None:
    """A caller whose plan decides the cap says it; slots at or above a lower one are not given again."""
    slots = await streams(db)
    held = [await slots.acquire("alice", cap=5, now=NOON) for _ in range(6)]
    assert [slot.outcome.value for slot in held] == ["acquired"] * 5 + ["full"]
    assert held[-1].cap == 5
    for slot in held[:5]:
        await slots.release(slot, now=NOON)
    again = [await slots.acquire("alice", cap=2, now=NOON) for _ in range(3)]
    assert [slot.slot for slot in again if slot] in ([0, 1], [1, 0])
    assert not again[2]
    assert not await slots.acquire("alice", cap=0, now=NOON)
    assert not await slots.acquire("new", cap=0, now=NOON)
    assert await slots.acquire("alice", now=NOON)


async def test_a_lower_cap_leaves_held_slots_until_they_run_out(db: Any) -> None:
    """What is held above a new cap stays and may be renewed; freed, it is not given again."""
    slots = await streams(db)
    held = {slot.slot: slot for slot in [await slots.acquire("alice", now=NOON) for _ in range(3)]}
    lower = AsyncSlots(db, SlotsSpec("streams", cap=1, ttl=30, forget_after=None))
    assert not await lower.acquire("alice", now=NOON)
    assert await lower.renew(held[2], now=NOON)
    assert await lower.release(held[2], now=NOON)
    assert not await lower.acquire("alice", now=NOON)
    await lower.release(held[0], now=NOON)
    assert (await lower.acquire("alice", now=NOON)).slot == 0
    assert await lower.size("alice", now=NOON) == 2


@pytest.mark.parametrize("owner", OWNERS)
async def test_any_value_is_an_owner_and_nothing_but_itself(db: Any, owner: Any) -> None:
    """Text that looks like an operator or a path, numbers, bytes and documents own slots of their own."""
    slots = await streams(db)
    await slots.acquire("other", now=NOON)
    first = await slots.acquire(owner, now=NOON)
    second = await slots.acquire(owner, now=NOON)
    assert await slots.size(owner, now=NOON) == 2
    assert await slots.renew(str(first.token), now=NOON)
    assert await slots.release(str(second.token), now=NOON)
    assert [held.slot for held in await slots.holders(owner, now=NOON)] == [first.slot]
    assert await slots.size("other", now=NOON) == 1


@pytest.mark.parametrize("owner", [None, ["a"], {"$x": 1}, float("nan"), 2**70])
async def test_values_without_one_equality_are_no_owners(db: Any, commands: Any, owner: Any) -> None:
    """None, lists, operators and NaN raise a UsageError that names the owner; nothing is sent."""
    slots = AsyncSlots(db, STREAMS)
    for call in (slots.acquire, slots.holders, slots.size):
        with pytest.raises(UsageError, match=r"^owner"):
            await call(owner)
    assert commands.names == []


async def test_ids_of_owners(db: Any) -> None:
    """With key_type=ObjectId an id as text is the same owner; a UUID is stored as the collection stores them."""
    slots = await streams(db, SlotsSpec("streams", cap=1, ttl=30, key_type=ObjectId, forget_after=None))
    owner = ObjectId()
    slot = await slots.acquire(str(owner))
    assert not await slots.acquire(owner)
    assert await slots.release(slot)
    with pytest.raises(UsageError, match="not an ObjectId"):
        await slots.acquire("alice")
    options: CodecOptions[Any] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
    key = uuid.uuid4()
    mine = AsyncSlots(db.get_collection("streams", codec_options=options), STREAMS)
    assert await mine.renew((await mine.acquire(key)).token or "")
    assert await db.streams.count_documents({"owner": Binary.from_uuid(key)}) == 3


@pytest.mark.parametrize("value", ["$name", "$$NOW", {"a": "$b"}, [{"x": "$y"}], {"n": {"m": None}}, b"\0", NOON])
async def test_data_is_data(db: Any, value: Any) -> None:
    """What a holder says about itself is stored and told as it is, and gone with the release."""
    slots = await streams(db)
    slot = await slots.acquire("alice", data={"old": 1}, now=NOON)
    await slots.release(slot, now=NOON)
    assert await db.streams.count_documents({"data": {}}) == 3
    for _ in range(3):
        slot = await slots.acquire("alice", data={"v": value}, now=NOON)
    assert [held.data for held in await slots.holders("alice", now=NOON)] == [{"v": value}] * 3


async def test_a_large_document_does_not_travel(db: Any, commands: Any) -> None:
    """A megabyte of data is sent once; no reply but that of `holders` carries it."""
    slots = await streams(db)
    slot = await slots.acquire("alice", data={"blob": "x" * 1_000_000})
    await slots.renew(slot)
    await slots.acquire("alice", cap=1)
    await slots.size("alice")
    await slots.release(slot)
    assert max(commands.reply_bytes) < 2000


# Renewed, expired, released ----------------------------------------------------------------------------------


async def test_a_slot_ends_by_itself(db: Any) -> None:
    """At its time, and not a millisecond before it, a slot is given again; its old token is worth nothing then."""
    slots = await streams(db, SlotsSpec("streams", cap=1, ttl=30, forget_after=None))
    slot = await slots.acquire("alice", now=NOON)
    end = NOON + 30 * SECOND
    assert not await slots.acquire("alice", now=end - MS)
    assert (await slots.size("alice", now=end - MS), await slots.size("alice", now=end)) == (1, 0)
    again = await slots.acquire("alice", now=end)
    assert (again.slot, again.since) == (0, end)
    for now in (NOON, end, end + MINUTE):
        assert (await slots.renew(slot, now=now)).outcome is SlotOutcome.LOST
        assert (await slots.release(slot, now=now)).outcome is SlotOutcome.LOST
    assert [held.token for held in await slots.holders("alice", now=end)] == [again.token]


async def test_renewing_holds_on(db: Any) -> None:
    """A renewed slot is held for its ttl from then on, under the same token, which any process may use."""
    slots = await streams(db, SlotsSpec("streams", cap=1, ttl=30, forget_after=None))
    slot = await slots.acquire("alice", data={"device": "tv"}, now=NOON)
    later = NOON + 30 * SECOND - MS
    elsewhere = AsyncSlots(db, STREAMS)
    renewed = await elsewhere.renew(str(slot.token), now=later)
    assert renewed.require().outcome is SlotOutcome.RENEWED
    assert (renewed.token, renewed.slot, renewed.owner) == (slot.token, slot.slot, "alice")
    assert (renewed.since, renewed.expires_at) == (NOON, later + 30 * SECOND)
    assert not await slots.acquire("alice", now=later + 30 * SECOND - MS)
    (held,) = await slots.holders("alice", now=later)
    assert (held.since, held.expires_at, held.data) == (NOON, later + 30 * SECOND, {"device": "tv"})
    assert await slots.renew(slot, now=later)  # again, at the same time: nothing changes, and it is still held


async def test_what_has_expired_cannot_be_renewed(db: Any) -> None:
    """A slot whose time is over is lost even if nobody took it: not one byte changes."""
    slots = await streams(db)
    slot = await slots.acquire("alice", now=NOON)
    before = await documents(db)
    for now in (NOON + 30 * SECOND, NOON + MINUTE):
        lost = await slots.renew(slot, now=now)
        assert (lost.outcome, lost.token, lost.expires_at) == (SlotOutcome.LOST, None, None)
        with pytest.raises(NotHeld, match="not held by this token"):
            lost.require()
        assert not await slots.release(slot, now=now)
    assert await documents(db) == before


async def test_a_released_slot_is_free_at_once(db: Any) -> None:
    """It can be taken at the same instant, and by a clock that lies minutes behind; releasing again is harmless."""
    slots = await streams(db, SlotsSpec("streams", cap=1, ttl=30, forget_after=None))
    slot = await slots.acquire("alice", now=NOON)
    released = await slots.release(slot, now=NOON)
    assert (released.outcome, released.slot, released.token) == (SlotOutcome.RELEASED, 0, None)
    before = await documents(db)
    assert not await slots.release(slot, now=NOON)
    assert not await slots.renew(slot, now=NOON)
    assert await documents(db) == before
    assert await slots.size("alice", now=NOON) == 0
    for now in (NOON, NOON - 5 * MINUTE):
        again = await slots.acquire("alice", now=now)
        assert again
        assert not await slots.release(slot, now=now)
        assert await slots.release(again, now=now)


async def test_nobody_releases_what_another_holds(db: Any) -> None:
    """A token of an earlier holder of the same slot neither renews nor releases it."""
    slots = await streams(db, SlotsSpec("streams", cap=1, ttl=30, forget_after=None))
    first = await slots.acquire("alice", now=NOON)
    await slots.release(first, now=NOON)
    second = await slots.acquire("alice", now=NOON)
    assert second.slot == first.slot
    before = await documents(db)
    assert not await slots.renew(first, now=NOON)
    assert not await slots.release(first, now=NOON)
    assert await documents(db) == before
    assert await slots.renew(second, now=NOON)


async def test_slots_without_a_ttl_are_held_for_ever(db: Any) -> None:
    """With ttl=None a slot is held until it is released, however much time passes; there is nothing to renew."""
    slots = await streams(db, FOR_EVER)
    slot, other = [await slots.acquire("alice", now=NOON) for _ in range(2)]
    assert slot.expires_at is None
    much_later = NOON + 30_000 * 24 * 60 * MINUTE
    assert not await slots.acquire("alice", now=much_later)
    assert [held.expires_at for held in await slots.holders("alice", now=much_later)] == [None, None]
    with pytest.raises(UsageError, match="ttl=None"):
        await slots.renew(slot)
    assert await slots.release(other, now=much_later)
    assert await slots.acquire("alice", now=much_later)


async def test_a_changed_ttl_works_on_what_is_stored(db: Any) -> None:
    """A slot held for ever gets an end when it is renewed under a spec with a ttl."""
    forever = await streams(db, FOR_EVER)
    slot = await forever.acquire("alice", now=NOON)
    renewed = await AsyncSlots(db, STREAMS).renew(slot, now=NOON)
    assert renewed.expires_at == NOON + 30 * SECOND


async def test_whoever_lists_the_holders_may_release_one(db: Any) -> None:
    """The token of a listed slot is that of its holder."""
    slots = await streams(db)
    for device in ("tv", "phone", "car"):
        await slots.acquire("alice", data={"device": device})
    assert not await slots.acquire("alice")
    phone = next(held for held in await slots.holders("alice") if held.data == {"device": "phone"})
    assert await slots.release(phone)
    assert await slots.acquire("alice")
    assert [held.slot for held in await slots.holders("alice")] == [0, 1, 2]


async def test_a_token_belongs_to_its_collection(db: Any) -> None:
    """A token of other slots is a UsageError that names both, and nothing is sent."""
    slot = await (await streams(db)).acquire("alice")
    other = AsyncSlots(db, SlotsSpec("seats", cap=3, ttl=30))
    with pytest.raises(UsageError, match=r"^token: is of a slot in 'streams:slots', and this is 'seats:slots'"):
        await other.release(slot)


async def test_the_servers_clock_counts(db: Any) -> None:
    """Without now= the times of a slot are the server's."""
    slots = await streams(db)
    before = (await db.command("hello"))["localTime"].replace(tzinfo=UTC)
    slot = await slots.acquire("alice")
    after = (await db.command("hello"))["localTime"].replace(tzinfo=UTC)
    assert slot.since is not None
    assert before <= slot.since <= after
    assert slot.expires_at == slot.since + 30 * SECOND


# What goes wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["soon", 7, {"a": 1}, [NOON], True])
async def test_an_until_of_the_wrong_type_is_an_error_and_stays(db: Any, wrong: Any) -> None:
    """What is neither a date nor null is nobody's free slot: calls that meet it raise, and change nothing."""
    slots = await streams(db, SlotsSpec("streams", cap=1, ttl=30, forget_after=None))
    slot = await slots.acquire("alice", now=NOON)
    await db.streams.update_one({}, {"$set": {"until": wrong}})
    before = await documents(db)
    for call in (slots.acquire, slots.size, slots.holders):
        with pytest.raises(StateError, match=r"'until'.* of 'streams'"):
            await call("alice", now=NOON)
    for call in (slots.renew, slots.release):
        with pytest.raises(StateError, match=r"'until'.* of 'streams'"):
            await call(slot, now=NOON)
    assert await documents(db) == before


async def test_documents_may_go_at_any_time(db: Any) -> None:
    """When the server has deleted slots that nobody uses, they are made again; a slot that is gone is lost."""
    slots = await streams(db)
    held = [await slots.acquire("alice", now=NOON) for _ in range(3)]
    await db.streams.delete_one({"slot": held[0].slot})
    assert not await slots.renew(held[0], now=NOON)
    assert not await slots.release(held[0], now=NOON)
    assert await slots.size("alice", now=NOON) == 2
    assert (await slots.acquire("alice", now=NOON)).slot == held[0].slot
    assert not await slots.acquire("alice", now=NOON)
    await db.streams.delete_many({})
    assert await slots.holders("alice", now=NOON) == []
    assert await slots.acquire("alice", now=NOON)


async def test_the_server_takes_the_indexes_and_uses_them(db: Any) -> None:
    """A free slot is found among ten thousand by one entry of an index, and slots are counted by an index alone."""
    spec = SlotsSpec("streams", cap=10_000, ttl=3600)
    slots = await streams(db, spec)
    start = dt.datetime.now(UTC)
    held = {"owner": "alice", "holder": ObjectId(), "since": start, "until": start + 60 * MINUTE, "data": {}}
    await db.streams.insert_many([{**held, "slot": slot} for slot in range(10_000)])
    await db.streams.update_one({"slot": 7777}, {"$set": {"until": start - MINUTE}})
    attempt = slots._plan.acquire("alice", cap=None, data=None, holder=ObjectId())
    take = {
        "findAndModify": "streams",
        "query": attempt.take.filter,
        "update": [{"$set": {"data": 1}}],
        "let": attempt.take.let,
    }
    told = await db.command({"explain": take, "verbosity": "executionStats"})
    assert told["executionStats"]["totalKeysExamined"] <= 2
    look = {"aggregate": "streams", "pipeline": attempt.look.pipeline, "let": attempt.look.let, "cursor": {}}
    told = await db.command({"explain": look, "verbosity": "executionStats"})
    assert told["stages"][0]["$cursor"]["executionStats"]["totalDocsExamined"] == 0
    assert (await slots.acquire("alice")).slot == 7777
    assert not await slots.acquire("alice")


async def test_many_slots_are_made_a_few_at_a_time(db: Any) -> None:
    """An owner who uses few of many slots has few documents, and one who uses them all is given them all."""
    slots = await streams(db)
    assert await slots.acquire("alice", cap=200)
    assert await db.streams.count_documents({}) == 8
    held = [await slots.acquire("alice", cap=200) for _ in range(200)]
    assert [slot.outcome.value for slot in held] == ["acquired"] * 199 + ["full"]
    assert sorted(document["slot"] for document in await documents(db)) == list(range(200))


async def test_a_snapshot_that_is_not_there_yet_is_asked_for_again(db: Any, mongopatterns_server: Any) -> None:
    """Where the server has no snapshot of a collection made a moment ago, the call goes round and is decided."""
    slots = await streams(db)
    with mongopatterns_server.fail_point(
        "failCommand", mode={"times": 2}, data={"failCommands": ["aggregate"], "errorCode": 246}
    ):
        assert await slots.acquire("alice")
    refused = {"failCommands": ["aggregate"], "errorCode": 13}
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=refused),
        pytest.raises(OperationFailure) as caught,
    ):
        await slots.acquire("bob")
    assert caught.value.code == 13
    assert not may_have_applied(caught.value)


async def test_a_lost_reply_changes_no_verdict(db: Any, mongopatterns_server: Any) -> None:
    """When replies are lost after their writes, the driver's own repeats are told what was done, once."""
    slots = await streams(db)

    def lost() -> Any:
        name = "onPrimaryTransactionalWrite"
        return mongopatterns_server.fail_point(name, mode={"times": 1}, data={"closeConnection": True})

    with lost():
        assert await slots.acquire("alice", now=NOON)  # that of the insert of the new slots
    with lost():
        slot = await slots.acquire("alice", data={"x": 1}, now=NOON)
    assert (slot.outcome, slot.expires_at) == (SlotOutcome.ACQUIRED, NOON + 30 * SECOND)
    assert await slots.size("alice", now=NOON) == 2
    with lost():
        renewed = await slots.renew(slot, now=NOON + SECOND)
    assert (renewed.outcome, renewed.expires_at) == (SlotOutcome.RENEWED, NOON + 31 * SECOND)
    with lost():
        released = await slots.release(slot, now=NOON + SECOND)
    assert released.outcome is SlotOutcome.RELEASED
    assert await slots.size("alice", now=NOON) == 1


async def test_timeout_bounds_the_whole_call(db: Any, mongopatterns_server: Any) -> None:
    """A server that does not answer in time raises the driver's timeout, and the outcome is unknown."""
    slots = await streams(db)
    await slots.acquire("alice")
    block = {"failCommands": ["findAndModify"], "blockConnection": True, "blockTimeMS": 3000}
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=block),
        pytest.raises((NetworkTimeout, ExecutionTimeout)) as caught,
    ):
        await slots.acquire("alice", timeout=0.3)
    assert may_have_applied(caught.value)
    for call in (slots.acquire, slots.size, slots.holders):
        with pytest.raises(UsageError, match=r"^timeout: "):
            await call("alice", timeout=0)


async def test_durability(db: Any, commands: Any) -> None:
    """Writes are acknowledged by a majority unless the binding says otherwise."""
    await (await streams(db)).acquire("alice")
    assert commands.sent[-1][1]["writeConcern"] == {"w": "majority"}
    fast = await streams(db, durability=Durability.FAST)
    held = [await fast.acquire("alice") for _ in range(3)]
    assert commands.sent[-2][1]["writeConcern"] == {"w": 1}
    assert [slot.outcome.value for slot in held] == ["acquired", "acquired", "full"]


# Transactions ------------------------------------------------------------------------------------------------


async def test_a_call_takes_part_in_a_transaction(client: Any, db: Any) -> None:
    """An aborted transaction takes its slots with it, new owners too; a committed one keeps them."""
    slots = await streams(db)
    async with await settle(client.start_session()) as session:
        assert await slots.acquire("alice", session=session)
        await settle(session.start_transaction())
        first = await slots.acquire("alice", session=session)
        assert await slots.acquire("alice", session=session)
        assert not await slots.acquire("alice", session=session)
        assert await slots.acquire("new", session=session)
        assert await slots.release(first, session=session)
        assert await slots.size("alice", session=session) == 2
        assert await slots.size("alice") == 1
        await session.abort_transaction()
        assert [await slots.size(owner) for owner in ("alice", "new")] == [1, 0]
        await settle(session.start_transaction())
        second = await slots.acquire("alice", session=session)
        assert await slots.renew(second, session=session)
        assert len(await slots.holders("alice", session=session)) == 2
        await session.commit_transaction()
    assert await slots.size("alice") == 2
    assert await slots.renew(second)


async def test_transactions_that_conflict_are_repeated(client: Any, db: Any) -> None:
    """Callers that acquire in transactions of their own, on a new owner, get as many slots as there are."""
    slots = await streams(db)

    async def acquire(_: int) -> bool:
        async with await settle(client.start_session()) as session:

            async def body(session: Any) -> bool:
                return bool(await slots.acquire("alice", session=session))

            return bool(await session.with_transaction(body))

    report = await race(acquire, times=12, concurrency=6)
    assert report.errors == []
    assert report.count(bool) == 3
    assert await slots.size("alice") == 3


async def test_an_error_in_a_transaction_is_not_hidden(client: Any, db: Any) -> None:
    """What others have made meanwhile ends a transaction: the caller gets the driver's error."""
    slots = await streams(db)
    await db.streams.insert_one({"owner": "other", "slot": 0})
    async with await settle(client.start_session()) as session:
        await settle(session.start_transaction())
        assert await slots.size("other", session=session) == 1  # (the transaction sees what is there now)
        await slots.acquire("alice", now=NOON)
        with pytest.raises(OperationFailure) as caught:
            await slots.acquire("alice", session=session, now=NOON)
        assert caught.value.has_error_label("TransientTransactionError")
        await session.abort_transaction()
    assert await slots.acquire("alice", now=NOON)


# Races -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cap", "callers"), [(1, 40), (3, 60), (10, 10), (40, 60), (100, 70)])
async def test_as_many_get_in_as_there_are_slots(db: Any, cap: int, callers: int) -> None:
    """Of callers that race for a new owner exactly as many get a slot as there are, each one of its own."""
    slots = await streams(db)
    report = await race(lambda _: slots.acquire("alice", cap=cap), times=callers, concurrency=callers)
    assert report.errors == []
    held = [slot for slot in report.outcomes if slot]
    assert len(held) == min(cap, callers)
    assert len({slot.slot for slot in held}) == len({slot.token for slot in held}) == len(held)
    assert all(0 <= (slot.slot or 0) < cap for slot in held)
    assert {slot.outcome for slot in report.outcomes if not slot} <= {SlotOutcome.FULL}
    assert {each.token for each in await slots.holders("alice")} == {slot.token for slot in held}
    assert await db.streams.count_documents({"owner": "alice", "slot": {"$gte": cap}}) == 0


@pytest.mark.parametrize(
    ("happens", "outcome", "sent"),
    [
        ("nothing", "full", 2),
        ("one is released", "acquired", 3),
        ("one is deleted", "acquired", 4),
        ("one is released and taken before", "full", 2),
        ("one is released, and taken after", "full", 4),
    ],
)
async def test_a_refusal_is_decided_at_one_instant(
    db: Any, commands: Any, happens: str, outcome: str, sent: int
) -> None:
    """Whatever others do after a call has found nothing free: it is refused only if nothing was free when it looked."""
    slots, others = await streams(db), AsyncSlots(db, STREAMS)
    held = [await slots.acquire("alice", now=NOON) for _ in range(3)]
    senders = slots._senders

    async def look_later(*given: Any) -> Any:
        slots._senders = senders  # (only the first time)
        own = len(commands.sent)
        if "released" in happens:
            assert await others.release(held[0], now=NOON)
        if "deleted" in happens:
            await db.streams.delete_one({"slot": held[0].slot})
        if "before" in happens:
            assert await others.acquire("alice", now=NOON)
        del commands.sent[own:]
        seen = await senders[Aggregate](*given)
        own = len(commands.sent)
        if "after" in happens:
            assert await others.acquire("alice", now=NOON)
        del commands.sent[own:]
        return seen

    slots._senders = {**senders, Aggregate: look_later}
    commands.clear()
    assert (await slots.acquire("alice", now=NOON)).outcome.value == outcome
    assert len(commands.sent) == sent
    assert await slots.size("alice", now=NOON) == 3


@pytest.mark.parametrize("cap", [1, 4, 9])
@pytest.mark.parametrize("deleting", [False, True])
async def test_nobody_is_refused_while_a_slot_is_free(db: Any, cap: int, deleting: bool) -> None:
    """As many callers as slots, each holding one at most, are never told FULL, whatever the server deletes."""
    slots = await streams(db)
    inside: set[int] = set()

    async def turns(worker: int) -> list[str]:
        outcomes = []
        for _ in range(25):
            slot = await slots.acquire("alice", cap=cap, data={"worker": worker})
            outcomes.append(slot.outcome.value)
            if slot:
                assert slot.slot not in inside, "two hold one slot"
                inside.add(slot.slot or 0)
                if deleting:
                    # As the TTL index does, only sooner: every slot that is free.
                    gone = dt.datetime.now(UTC) - 2 * MINUTE
                    await db.streams.delete_many({"owner": "alice", "until": {"$lte": gone}})
                inside.discard(slot.slot or 0)
                outcomes.append((await slots.release(slot)).outcome.value)
        return outcomes

    report = await race(turns, times=cap, concurrency=cap)
    assert report.errors == []
    for outcomes in report.outcomes:
        assert outcomes == ["acquired", "released"] * 25
    assert await slots.size("alice") == 0


async def test_more_callers_than_slots_never_hold_more_than_the_cap(db: Any) -> None:
    """Under callers that come and go no slot is held twice, and every one of them gets in now and then."""
    slots = await streams(db)
    inside: set[int] = set()

    async def turns(_: int) -> int:
        got = 0
        while got < 5:
            slot = await slots.acquire("alice")
            if slot:
                assert slot.slot not in inside, "two hold one slot"
                inside.add(slot.slot or 0)
                assert len(inside) <= 3
                got += 1
                assert await slots.renew(slot)
                inside.discard(slot.slot or 0)
                assert await slots.release(slot)
        return got

    report = await race(turns, times=12, concurrency=12)
    assert report.errors == []
    assert report.outcomes == [5] * 12


async def test_expired_slots_are_given_once(db: Any) -> None:
    """At the moment when two of three slots end, exactly two callers get one, and the renewed one stays."""
    slots = await streams(db)
    held = [await slots.acquire("alice", now=NOON) for _ in range(3)]
    await slots.renew(held[1], now=NOON + SECOND)
    end = NOON + 30 * SECOND
    early = await race(lambda _: slots.acquire("alice", now=end - MS), times=20, concurrency=10)
    assert (early.errors, early.count(bool)) == ([], 0)
    report = await race(lambda _: slots.acquire("alice", now=end), times=30, concurrency=15)
    assert report.errors == []
    assert {slot.slot for slot in report.outcomes if slot} == {held[0].slot, held[2].slot}
    assert report.count(bool) == 2
    assert await slots.renew(held[1], now=end)


async def test_a_renewal_and_its_successor_do_not_both_win(db: Any) -> None:
    """A holder that renews in its last millisecond, and callers that come at its end: exactly one has the slot."""
    slots = await streams(db, SlotsSpec("streams", cap=1, ttl=30, forget_after=None))
    end = NOON + 30 * SECOND
    for turn in range(10):
        owner = f"owner {turn}"
        slot = await slots.acquire(owner, now=NOON)

        async def call(index: int, owner: str = owner, slot: Any = slot) -> Any:
            if index % 4 == 2:
                return await slots.renew(slot, now=end - MS)
            return await slots.acquire(owner, now=end)

        report = await race(call, times=8, concurrency=8)
        assert report.errors == []
        won = {verdict.token for verdict in report.outcomes if verdict}
        assert len(won) == 1
        assert {held.token for held in await slots.holders(owner, now=end)} == won


async def test_a_slot_is_released_once(db: Any) -> None:
    """Of callers that release one slot at the same time exactly one is told so."""
    slots = await streams(db)
    slot = await slots.acquire("alice")
    report = await race(lambda _: slots.release(slot), times=20, concurrency=20)
    assert report.errors == []
    assert report.count(bool) == 1
    assert await slots.size("alice") == 0
