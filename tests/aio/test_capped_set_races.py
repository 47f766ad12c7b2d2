"""What a capped set promises when many come at once, and when replies are lost: on a real server.

Nobody is in who was not told so, nobody was told so who is not in, and nobody was refused who fitted.
"""

from __future__ import annotations

import datetime as dt
import random
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from bson.codec_options import CodecOptions
from pymongo.errors import OperationFailure

from mongopatterns import (
    AsyncCappedSet,
    CappedSetSpec,
    Close,
    Field,
    JoinOutcome,
    Leader,
    LeaveOutcome,
    MemberOutcome,
    OutcomeUnknown,
    Waiting,
    may_have_applied,
)
from mongopatterns._driver_async import settle
from mongopatterns.testing import race

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
MS = dt.timedelta(milliseconds=1)
SECOND = dt.timedelta(seconds=1)
TTL = 30 * SECOND

J, L, M = JoinOutcome, LeaveOutcome, MemberOutcome
PLAIN = CappedSetSpec(
    "parties", path="seats", member_key="id", cap=Field("cap"), open_if={"ended": None}, create={"cap": 60}
)
TIMED = replace(PLAIN, member_ttl=30)
LED = replace(PLAIN, leader=Leader("host"))
RICH = replace(
    TIMED,
    leader=Leader("host", sort=[("n", 1)]),
    close=Close(set={"why": "empty"}, set_now=["ended"]),
    waiting=Waiting("line", cap=4),
    on_rejoin="merge",
)
every_spec = pytest.mark.parametrize("spec", [PLAIN, TIMED, LED, RICH], ids=["plain", "timed", "led", "rich"])


async def stored(db: Any, key: Any = 1) -> Any:
    options: CodecOptions[Any] = CodecOptions(tz_aware=True, tzinfo=UTC)
    return await db.get_collection("parties", codec_options=options).find_one({"_id": key})


def ids(members: Any) -> list[Any]:
    return [member["id"] for member in members or []]


# Races -------------------------------------------------------------------------------------------------------


@every_spec
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("cap", [60, 300])
async def test_exactly_as_many_join_as_there_are_seats(db: Any, spec: CappedSetSpec, fresh: bool, cap: int) -> None:
    """Of 200 who join at once min(200, cap) are told JOINED, and exactly these are stored, each once."""
    spec = replace(spec, create={"cap": cap})
    if not fresh:
        await db.parties.insert_one({"_id": 1, "cap": cap})
    seats = AsyncCappedSet(db, spec)
    report = await race(lambda index: seats.join(1, {"id": index}, now=NOON), times=200, concurrency=50)
    report.raise_errors()
    seated = [index for index, told in enumerate(report.outcomes) if told.outcome is J.JOINED]
    waiting = [index for index, told in enumerate(report.outcomes) if told.outcome is J.WAITING]
    document = await stored(db)
    assert sorted(ids(document["seats"])) == seated
    assert len(seated) == min(200, cap)
    assert sorted(ids(document.get("line"))) == waiting
    assert len(waiting) == (4 if spec.waiting and cap < 200 else 0)
    assert report.count(lambda told: told.outcome is J.FULL) == 200 - len(seated) - len(waiting)
    assert sorted(told.size for told in report.outcomes if told) == list(range(1, len(seated) + 1)), "told in an order"
    for told in report.outcomes:
        if not told:
            assert told.size == told.cap == cap, "nobody was refused while a seat was free"
    if spec.leader:
        assert {told.leader for told in report.outcomes} == {document["host"]} == {document["seats"][0]["id"]}


@every_spec
@pytest.mark.parametrize("fresh", [True, False])
async def test_one_member_has_one_seat(db: Any, spec: CappedSetSpec, fresh: bool) -> None:
    """However often a member joins at once, one call is told JOINED and the others ALREADY; there is one seat."""
    if not fresh:
        await db.parties.insert_one({"_id": 1, "cap": 60})
    seats = AsyncCappedSet(db, spec)
    report = await race(lambda index: seats.join(1, {"id": "a", "n": index}, now=NOON), times=50, concurrency=50)
    report.raise_errors()
    assert report.count(lambda told: told.outcome is J.JOINED) == 1
    assert report.count(lambda told: told.outcome is J.ALREADY) == 49
    assert {told.size for told in report.outcomes} == {1}
    assert ids((await stored(db))["seats"]) == ["a"]


@every_spec
async def test_as_many_workers_as_seats_are_never_refused(db: Any, spec: CappedSetSpec) -> None:
    """Where each of cap workers holds one seat at most, nobody is ever told FULL, however they come and go."""
    seats = AsyncCappedSet(db, replace(spec, cap=8, create={}, close=None))

    async def work(index: int) -> list[Any]:
        told: list[Any] = []
        for turn in range(12):
            joined = await seats.join(1, {"id": f"{index} {turn}"}, now=NOON)
            assert 1 <= joined.size <= 8
            told.append(joined.outcome)
            left = await seats.leave(1, f"{index} {turn}", now=NOON)
            assert 0 <= left.size < 8
            told.append(left.outcome)
        return told

    report = await race(work, times=8, concurrency=8)
    report.raise_errors()
    assert report.outcomes == [[J.JOINED, L.LEFT] * 12] * 8
    document = await stored(db)
    assert document["seats"] == []
    assert not document.get("line")
    assert document.get("host") is None


async def test_a_seat_that_expires_is_given_to_one(db: Any) -> None:
    """At the moment of expiry holders renew and strangers join: each seat is one's, who was told so; none is empty."""
    seats = AsyncCappedSet(db, replace(TIMED, cap=5, create=None))
    held = [{"id": f"old {number}", "expires_at": NOON + TTL} for number in range(5)]
    for _ in range(5):
        await db.parties.delete_many({})
        await db.parties.insert_one({"_id": 1, "seats": held})

        async def come(index: int) -> Any:
            if index % 4 == 0:
                return await seats.touch(1, f"old {index // 4}", now=NOON + TTL - MS)
            return await seats.join(1, {"id": index}, now=NOON + TTL)

        report = await race(come, times=20, concurrency=20)
        report.raise_errors()
        touched = [told.id for told in report.outcomes if told.outcome is M.UPDATED]
        joined = [told.member["id"] for told in report.outcomes if told.outcome is J.JOINED]
        assert len(touched) + len(joined) == 5
        members = ids(await seats.members(1, now=NOON + TTL))
        assert sorted(map(str, members)) == sorted(map(str, [*touched, *joined]))
        assert report.count(lambda told: told.outcome is J.FULL) == 15 - len(joined)
        for told in report.outcomes:
            assert told.outcome is not J.FULL or told.size == 5


async def test_before_its_moment_no_seat_expires(db: Any) -> None:
    """A millisecond earlier nobody gets in, a millisecond later the first do: as many as there are seats."""
    seats = AsyncCappedSet(db, replace(TIMED, cap=5))
    await seats.join_many(1, [{"id": f"old {number}"} for number in range(5)], now=NOON)
    for now, admitted in ((NOON + TTL - MS, 0), (NOON + TTL, 5), (NOON + TTL + MS, 0)):
        report = await race(
            lambda index, now=now: seats.join(1, {"id": f"{now} {index}"}, now=now), times=20, concurrency=20
        )
        report.raise_errors()
        assert report.count(bool) == admitted
    assert len((await stored(db))["seats"]) == 5


@pytest.mark.parametrize("ttl", [None, 30])
async def test_churn_leaves_the_line_the_leader_and_the_seats_in_order(db: Any, ttl: Any) -> None:
    """While people come, wait and go, nobody both waits and sits, no seat is free while one waits, a member leads."""
    spec = replace(LED, cap=4, create={}, waiting=Waiting("line"), member_ttl=ttl)
    seats = AsyncCappedSet(db, spec)

    def check(document: Any) -> None:
        sitting, waiting = ids(document["seats"]), ids(document["line"])
        assert len(set(sitting) | set(waiting)) == len(sitting) + len(waiting), "each of them once"
        assert len(sitting) == 4 or not waiting
        assert len(sitting) <= 4
        assert document["host"] == (document["host"] if document["host"] in sitting else None)
        assert (document["host"] is None) is (sitting == [])

    async def work(index: int) -> None:
        choice = random.Random(index)
        for _ in range(15):
            member = choice.randrange(10)
            if choice.random() < 0.5:
                joined = await seats.join(1, {"id": member}, document=True, now=NOON)
                assert joined.outcome in (J.JOINED, J.ALREADY, J.WAITING)
                document: Any = joined.document
                assert bool(joined) is (member in ids(document["seats"]))
                assert (joined.position is None) is bool(joined)
                assert joined.position is None or ids(document["line"])[joined.position - 1] == member
            else:
                left = await seats.leave(1, member, now=NOON)
                assert len(left.promoted) <= 1
                document = await stored(db)
            if document:
                check(document)

    report = await race(work, times=10, concurrency=10)
    report.raise_errors()
    check(await stored(db))


async def test_the_last_to_leave_and_the_next_to_join_agree(db: Any) -> None:
    """Either the last one closes the set and the next is told CLOSED, or the next is in and the set stays open."""
    seats = AsyncCappedSet(db, replace(LED, close=Close(set_now=["ended"])))
    seen = set()
    for turn in range(20):
        await db.parties.insert_one({"_id": turn, "cap": 5, "seats": [{"id": "last"}], "host": "last"})
        report = await race(
            lambda index, turn=turn: seats.join(turn, {"id": index}) if index % 2 else seats.leave(turn, "last"),
            times=4,
            concurrency=4,
        )
        report.raise_errors()
        document = await stored(db, turn)
        joined = {index for index, told in enumerate(report.outcomes) if told.outcome is J.JOINED}
        assert set(ids(document["seats"])) == joined
        closed = report.count(lambda told: isinstance(told.outcome, L) and told.closed)
        assert closed == (document.get("ended") is not None)
        assert (closed == 1) is (joined == set())
        assert document["host"] == (ids(document["seats"])[0] if joined else None)
        seen.add(closed)
    assert seen <= {0, 1}


@every_spec
async def test_groups_that_race_stay_whole(db: Any, spec: CappedSetSpec) -> None:
    """Of groups that must stay together as many are in as fit whole, and no part of another."""
    seats = AsyncCappedSet(db, replace(spec, cap=10, create={}))
    report = await race(
        lambda index: seats.join_many(1, [{"id": f"{index} {part}"} for part in range(3)], now=NOON),
        times=30,
        concurrency=15,
    )
    report.raise_errors()
    assert report.count(bool) == 3
    told = [one for verdict in report.outcomes for one in verdict.joined]
    document = await stored(db)
    assert sorted(ids(document["seats"])) == sorted(told)
    assert not document.get("line")
    partly = await race(
        lambda index: seats.join_many(
            1, [{"id": f"more {index} {part}"} for part in range(3)], all_or_none=False, now=NOON
        ),
        times=10,
        concurrency=10,
    )
    partly.raise_errors()
    assert sum(len(verdict.joined) for verdict in partly.outcomes) == 1
    assert len((await stored(db))["seats"]) == 10


# Lost replies ------------------------------------------------------------------------------------------------


def lost(server: Any) -> AbstractContextManager[Any]:
    """Lose the reply of the next write after it was applied: the driver repeats it, and gets the stored image."""
    return server.fail_point(  # type: ignore[no-any-return]
        "onPrimaryTransactionalWrite", mode={"times": 1}, data={"closeConnection": True}
    )


def told_of(verdict: Any) -> dict[str, Any]:
    """Return a verdict but for the key of its document."""
    told = {**vars(verdict), "key": None}
    if told.get("document"):
        told["document"] = {**told["document"], "_id": None}
    return told


SCRIPT: list[tuple[str, Any]] = [
    ("join", {"id": "a", "n": 5}),
    ("join", {"id": "b", "n": 1, "$x": "$$NOW"}),
    ("join", {"id": "a", "n": 6, "m": 1}),
    ("whole", {"id": "c", "n": 3}),
    ("join", {"id": "d"}),
    ("many", ["d", "e", "a"]),
    ("update", ("a", {"n": 7, "a.b": "$c"})),
    ("touch", "b"),
    ("leave", "a"),
    ("join", {"id": "f"}),
    ("late", {"id": "g"}),
    ("whole", {"id": "b"}),
    ("leave", "f"),
    ("some", ["x", "y", "z", "g"]),
    ("leave", "d"),
    ("leave", "e"),
    ("leave", "g"),
    ("leave", "b"),
    ("leave", "c"),
    ("leave", "x"),
    ("leave", "y"),
    ("leave", "z"),
    ("join", {"id": "a"}),
]


async def play(seats: AsyncCappedSet, key: Any, step: tuple[str, Any], now: dt.datetime) -> Any:
    """Make one call of the script."""
    call, what = step
    if call == "update":
        return await seats.update(key, *what, now=now)
    if call in ("touch", "leave"):
        touches = call == "touch" and seats.spec.member_ttl
        return await seats.touch(key, what, now=now) if touches else await seats.leave(key, what, now=now)
    if call in ("many", "some"):
        return await seats.join_many(key, [{"id": one} for one in what], all_or_none=call == "many", now=now)
    return await seats.join(key, what, document=call == "whole", now=now)


class Forgetful:
    """A collection whose writes answer as the server answers a repeated one: with the image, without the projection."""

    def __init__(self, collection: Any) -> None:
        self.collection = collection

    async def find_one_and_update(self, **arguments: Any) -> Any:
        return await self.collection.find_one_and_update(**{**arguments, "projection": None})

    def aggregate(self, *arguments: Any, **options: Any) -> Any:
        return self.collection.aggregate(*arguments, **options)


async def compare(seats: AsyncCappedSet, forgetful: AsyncCappedSet, db: Any, script: Any, losing: Any) -> None:
    """Make the calls of a script on two documents, and assert that they tell and store the same."""
    if seats.spec.create is None:
        await db.parties.insert_many([{"_id": key, "cap": 3, "kind": "$new", "text": "$x"} for key in (1, 2)])
    now = NOON
    for step in script:
        now += 2 * TTL if step[0] == "late" else SECOND
        calm = await play(seats, 1, step, now)
        with losing():
            told = await play(forgetful, 2, step, now)
        assert told_of(told) == told_of(calm), step
        assert {**await stored(db, 2), "_id": None} == {**await stored(db, 1), "_id": None}, step


@every_spec
@pytest.mark.parametrize("create", [None, {"cap": 3, "kind": "$new"}], ids=["there", "made"])
async def test_an_answer_without_the_verdict_changes_no_verdict(db: Any, spec: CappedSetSpec, create: Any) -> None:
    """Whatever the call, what the stored image tells of it is what its own answer tells, in every field."""
    spec = replace(spec, create=create)
    forgetful = AsyncCappedSet(db, spec)
    forgetful._sender._collection = Forgetful(forgetful._sender._collection)  # type: ignore[assignment]
    await compare(AsyncCappedSet(db, spec), forgetful, db, SCRIPT, nullcontext)


@pytest.mark.parametrize("spec", [PLAIN, RICH], ids=["plain", "rich"])
async def test_a_lost_reply_changes_no_verdict(
    db: Any, commands: Any, mongopatterns_server: Any, spec: CappedSetSpec
) -> None:
    """When replies are lost after the writes, the driver's repeats are told the same verdicts; nothing is doubled."""
    seats = AsyncCappedSet(db, replace(spec, create={"cap": 3, "kind": "$new"}))
    script = [SCRIPT[number] for number in (0, 1, 2, 3, 6, 7, 8, 13)]
    await compare(seats, seats, db, script, lambda: lost(mongopatterns_server))
    writes = commands.names.count("findAndModify")
    assert writes >= 2 * len(script) + 5, "most of them were repeated"
    assert 0 < commands.names.count("aggregate") <= writes - 2 * len(script), "of the repeated ones alone it is asked"


@pytest.mark.parametrize("spec", [PLAIN, RICH], ids=["plain", "rich"])
async def test_a_lost_reply_tells_of_the_new_document_under_another_key(
    db: Any, mongopatterns_server: Any, spec: CappedSetSpec
) -> None:
    """A document that the call made is told in full, its nested key too, whether the reply came or not."""
    spec = replace(spec, key_field="room.code", create={"cap": 2, "kind": "$x"})
    await db.parties.create_index("room.code", unique=True)
    seats = AsyncCappedSet(db, spec)
    for key in ("p", {"x": "$y"}):
        with lost(mongopatterns_server):
            made = await seats.join(key, {"id": "a"}, document=True, now=NOON)
        document = await db.parties.find_one({"room.code": {"$eq": key}}, {"_id": 0})
        assert (made.outcome, made.size, made.cap) == (J.JOINED, 1, 2)
        assert made.document is not None
        assert {**made.document, "seats": None} == {**document, "seats": None}
        with lost(mongopatterns_server):
            again = await seats.join(key, {"id": "b"}, document=True, now=NOON)
        assert (again.outcome, again.size) == (J.JOINED, 2)
        assert again.document is not None
        assert again.document["_id"] == (await db.parties.find_one({"room.code": {"$eq": key}}))["_id"]


async def test_a_lost_reply_is_told_although_the_document_is_gone(db: Any, mongopatterns_server: Any) -> None:
    """What the call has done is told by the image before it: another who deletes the document changes nothing."""
    seats = AsyncCappedSet(db, replace(TIMED, create=None))
    call = seats._plan.join(1, {"id": "b"})
    await db.parties.insert_one({"_id": 1, "cap": 3, "seats": [{"id": "a"}]})
    arguments = call.command.arguments()
    image = await db.parties.find_one_and_update(**{**arguments, "projection": None})
    await db.parties.delete_many({})
    again = seats._plan.again(call.command, image)
    assert again is not None
    (reply,) = await seats._sender.read(again, None, None)
    told = seats._plan.joined(call, reply, clock=NOON)
    assert (told.outcome, told.size, told.cap) == (J.JOINED, 2, 3)


async def test_a_call_that_was_applied_is_never_told_as_refused(db: Any, mongopatterns_server: Any) -> None:
    """Where the read after the write fails, even by a refusal of the server, the error says that it may be stored."""
    seats = AsyncCappedSet(db, PLAIN)
    refused = {"failCommands": ["aggregate"], "errorCode": 13}
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=refused),
        pytest.raises(OutcomeUnknown) as caught,
    ):
        await seats.join_many(1, [{"id": "a"}, {"id": "b"}])
    assert may_have_applied(caught.value)
    assert isinstance(caught.value.__cause__, OperationFailure)
    assert ids((await stored(db))["seats"]) == ["a", "b"]


async def test_a_read_that_ends_a_transaction_has_it_run_again(client: Any, db: Any, mongopatterns_server: Any) -> None:
    """In a transaction the error of the read after the write is the driver's, which `with_transaction` answers."""
    seats = AsyncCappedSet(db, PLAIN)
    await db.create_collection("parties")
    runs = []

    async def work(session: Any) -> Any:
        runs.append(session)
        return await seats.join_many(1, [{"id": "a"}, {"id": "b"}], session=session)

    ended = {"failCommands": ["aggregate"], "errorCode": 251, "errorLabels": ["TransientTransactionError"]}
    session: Any = await settle(client.start_session())
    async with session:
        with mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=ended):
            told = await session.with_transaction(work)
        assert told.joined == ("a", "b")
    assert len(runs) == 2
    assert ids((await stored(db))["seats"]) == ["a", "b"]


async def test_a_lost_reply_of_a_large_document_is_told(db: Any, mongopatterns_server: Any) -> None:
    """The image of a document of nearly 16 MB can be told of, too."""
    seats = AsyncCappedSet(db, replace(PLAIN, create=None))
    await db.parties.insert_one({"_id": 1, "cap": 3, "seats": [{"id": "a"}]})
    for part in range(8):  # (the server of the tests has a small cache, and a write is logged in the same transaction)
        await db.parties.update_one({"_id": 1}, {"$set": {f"x{part}": bytes(2 * 1024 * 1024 - 100)}})
    with lost(mongopatterns_server):
        told = await seats.join(1, {"id": "b"})
    assert (told.outcome, told.size) == (J.JOINED, 2)
    assert ids((await stored(db))["seats"]) == ["a", "b"]


# What is called on a set of `a`, who leads, and `b`; and further options of the spec.
EXPIRING: dict[str, tuple[Any, dict[str, Any]]] = {
    "update": (lambda seats: seats.update(1, "b", {"n": 1}), {}),
    "touch": (lambda seats: seats.touch(1, "b"), {}),
    "join": (lambda seats: seats.join(1, {"id": "b"}), {}),
    "leave": (lambda seats: seats.leave(1, "b"), {}),
    "hand over": (lambda seats: seats.leave(1, "a"), {}),
    "promote": (lambda seats: seats.leave(1, "a"), {"waiting": Waiting("line")}),
    "wait": (lambda seats: seats.join(1, {"id": "c"}), {"waiting": Waiting("line"), "cap": 2}),
    "some": (lambda seats: seats.join_many(1, [{"id": "c"}, {"id": "d"}], all_or_none=False), {"cap": 3}),
}


async def lose_until_expired(db: Any, server: Any, name: str) -> tuple[Any, Any]:
    """Make a call whose reply is lost, and have the driver's answer come when all who had seats have expired.

    Returns:
        The verdict, and the document.
    """
    call, options = EXPIRING[name]
    spec = replace(TIMED, **{"cap": 5, "leader": Leader("host"), "member_ttl": 3600, "create": None, **options})
    seats = AsyncCappedSet(db, replace(spec, close=Close(set_now=["ended"])))
    for margin in (0.25, 1, 4):
        until = (await db.command("hello"))["localTime"].replace(tzinfo=UTC) + margin * SECOND
        held = [{"id": member, "expires_at": until} for member in ("a", "b")]
        line = [{"id": "w"}] if name == "promote" else None
        await db.parties.delete_many({})
        await db.parties.insert_one({"_id": 1, "seats": held, "host": "a", "line": line})
        slow = {"failCommands": ["aggregate"], "blockConnection": True, "blockTimeMS": int(1000 * margin) + 100}
        with lost(server), server.fail_point("failCommand", mode={"times": 1}, data=slow):
            told = await call(seats)
        document = await stored(db)
        # Who is there if it was applied in time: afterwards, somebody who comes again would be there alone.
        stays = {"leave": {"a"}, "hand over": {"b"}, "promote": {"b"}}.get(name, {"a", "b"})
        if stays == {"a", "b"} & set(ids(document["seats"])):
            return told, document
    raise AssertionError("this machine is too slow to be in time")


@pytest.mark.parametrize("name", ["update", "touch"])
async def test_a_change_is_told_although_the_seat_has_expired_since(
    db: Any, mongopatterns_server: Any, name: str
) -> None:
    """A change that was applied while the seat was held is UPDATED, even if the answer comes after its end."""
    told, document = await lose_until_expired(db, mongopatterns_server, name)
    assert (told.outcome, told.member) == (M.UPDATED, document["seats"][1])


@pytest.mark.parametrize("name", ["leave", "hand over", "promote"])
async def test_a_leave_is_told_as_it_was_when_it_was_written(db: Any, mongopatterns_server: Any, name: str) -> None:
    """Seats that were held when a leave was applied count in its verdict: the set was not closed by expiry since."""
    told, document = await lose_until_expired(db, mongopatterns_server, name)
    assert (told.outcome, told.closed, document.get("ended")) == (L.LEFT, False, None)
    assert told.size == len(document["seats"])
    assert told.leader == document["host"] == ("a" if name == "leave" else "b")
    assert list(told.promoted) == [one for one in document["seats"] if one["id"] == "w"]
    assert len(told.promoted) == (name == "promote")


@pytest.mark.parametrize("name", ["join", "wait", "some"])
async def test_a_join_is_told_as_it_was_when_it_was_written(db: Any, mongopatterns_server: Any, name: str) -> None:
    """Nobody is told JOINED into a seat that had not expired yet when the write was applied."""
    told, document = await lose_until_expired(db, mongopatterns_server, name)
    assert told.size == len(document["seats"])
    assert told.leader == document["host"] == "a"
    if name == "some":
        assert (told.outcomes, told.joined) == ((J.JOINED, J.FULL), ("c",))
        assert ids(document["seats"]) == ["a", "b", "c"]
    elif name == "wait":
        assert (told.outcome, told.position, ids(document["line"])) == (J.WAITING, 1, ["c"])
    else:
        assert (told.outcome, told.member) == (J.ALREADY, document["seats"][1])
