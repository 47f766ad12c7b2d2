"""What a capped set promises to groups, and about order: join_many, the leader, closing, those who wait."""

from __future__ import annotations

import datetime as dt
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from bson import Decimal128
from bson.codec_options import CodecOptions

from mongopatterns import (
    AsyncCappedSet,
    CappedSetSpec,
    Close,
    Conflict,
    DocumentNotFound,
    Field,
    JoinOutcome,
    Leader,
    LeaveOutcome,
    LimitExceeded,
    MemberOutcome,
    StateError,
    UsageError,
    Waiting,
)
from mongopatterns.expressions import at_path

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
MS = dt.timedelta(milliseconds=1)
SECOND = dt.timedelta(seconds=1)
TTL = 30 * SECOND

J, L, M = JoinOutcome, LeaveOutcome, MemberOutcome
PLAIN = CappedSetSpec("parties", path="seats", member_key="id", cap=Field("cap", default=3), open_if={"ended": None})
TIMED = replace(PLAIN, member_ttl=30)
LED = replace(PLAIN, leader=Leader("host"))
CLOSING = replace(LED, close=Close(set={"why.text": "$empty"}, set_now=["ended", "why.at"]))
QUEUED = replace(PLAIN, cap=2, waiting=Waiting("line"))
RICH = replace(TIMED, cap=2, leader=Leader("host"), waiting=Waiting("line", cap=3), on_rejoin="merge")
every_spec = pytest.mark.parametrize("spec", [PLAIN, TIMED, LED, RICH], ids=["plain", "timed", "led", "rich"])


async def put(db: Any, *members: Any, **fields: Any) -> None:
    """Store the document 1 with so many members: keys, or whole documents. They have time until NOON + TTL."""
    until = {"expires_at": NOON + TTL}
    await db.parties.delete_many({})
    seats = [member if isinstance(member, dict) else {"id": member, **until} for member in members]
    await db.parties.insert_one({"_id": 1, "seats": seats, **fields})


async def stored(db: Any, key: Any = 1) -> Any:
    options: CodecOptions[Any] = CodecOptions(tz_aware=True, tzinfo=UTC)
    return await db.get_collection("parties", codec_options=options).find_one({"_id": key})


async def seated(db: Any, path: str = "seats") -> list[Any]:
    """List the keys of those who are in the array, or in the line."""
    return [member["id"] for member in (await stored(db)).get(path) or []]


def group(*ids: Any) -> list[dict[str, Any]]:
    return [{"id": one} for one in ids]


# Many at once ------------------------------------------------------------------------------------------------


@every_spec
async def test_a_group_is_seated_by_one_command(db: Any, commands: Any, spec: CappedSetSpec) -> None:
    """All of a group that fits are told JOINED, in their order, with the size; one command, of whatever iterable."""
    seats = AsyncCappedSet(db, replace(spec, cap=5))
    await put(db, "a")
    commands.clear()
    told = await seats.join_many(1, (member for member in [*group("b", "c"), {"id": "d", "$x": "$$NOW"}]), now=NOON)
    assert commands.names == ["findAndModify"]
    assert commands.comments == {"mongopatterns.capped_set.join_many"}
    assert (told.key, told.outcomes, told.joined) == (1, (J.JOINED,) * 3, ("b", "c", "d"))
    assert (told.size, told.cap, told.promoted) == (4, 5, ())
    assert told.require() is told
    members = await seats.members(1, now=NOON)
    assert [member["id"] for member in members] == ["a", "b", "c", "d"]
    assert members[-1]["$x"] == "$$NOW"
    assert {member.get("expires_at") for member in members[1:]} == {NOON + TTL if spec.member_ttl else None}


@every_spec
async def test_a_group_stays_together_or_out(db: Any, spec: CappedSetSpec) -> None:
    """With all_or_none nobody is seated unless all are; who was in already needs no seat."""
    seats = AsyncCappedSet(db, replace(spec, cap=3))
    await put(db, "a")
    refused = await seats.join_many(1, group("a", "b", "c", "d"), now=NOON)
    assert (refused.outcomes, refused.joined, refused.size) == ((J.ALREADY, J.FULL, J.FULL, J.FULL), (), 1)
    assert not refused
    with pytest.raises(LimitExceeded, match="1 of 3 seats are taken") as caught:
        refused.require()
    assert caught.value.decision is refused
    assert await seated(db) == ["a"]
    told = await seats.join_many(1, group("b", "a", "c"), now=NOON)
    assert (told.outcomes, told.joined, told.size) == ((J.JOINED, J.ALREADY, J.JOINED), ("b", "c"), 3)
    full = await seats.join_many(1, group("c", "b", "a"), now=NOON)
    assert (full.outcomes, full.size) == ((J.ALREADY,) * 3, 3)
    assert full
    assert await seated(db) == ["a", "b", "c"]


@every_spec
async def test_as_many_as_fit_are_seated_in_the_order_given(db: Any, spec: CappedSetSpec) -> None:
    """Without all_or_none the first of the group take what seats there are; the others are told FULL (or wait)."""
    seats = AsyncCappedSet(db, replace(spec, cap=3))
    await put(db, "a")
    told = await seats.join_many(1, group("z", "a", "y", "x", "w"), all_or_none=False, now=NOON)
    rest = J.WAITING if spec.waiting else J.FULL
    assert told.outcomes == (J.JOINED, J.ALREADY, J.JOINED, rest, rest)
    assert (told.joined, told.size, bool(told)) == (("z", "y"), 3, False)
    assert await seated(db) == ["a", "z", "y"]
    assert await seated(db, "line") == (["x", "w"] if spec.waiting else [])
    again = await seats.join_many(1, group("x", "y"), all_or_none=False, now=NOON)
    assert (again.outcomes, again.joined) == ((rest, J.ALREADY), ())


@every_spec
async def test_a_group_meets_closed_and_missing_documents(db: Any, spec: CappedSetSpec) -> None:
    """CLOSED and NOT_FOUND are told for each of those who are not in; nothing is written."""
    seats = AsyncCappedSet(db, spec)
    await put(db, "a", ended="yes")
    for together in (True, False):
        told = await seats.join_many(1, group("b", "a"), all_or_none=together, now=NOON)
        assert (told.outcomes, told.size) == ((J.CLOSED, J.ALREADY), 1)
        with pytest.raises(Conflict):
            told.require()
        gone = await seats.join_many(2, group("b", "a"), all_or_none=together, now=NOON)
        assert (gone.outcomes, gone.joined, gone.size, gone.cap) == ((J.NOT_FOUND,) * 2, (), 0, None)
        with pytest.raises(DocumentNotFound):
            gone.require()
    assert await seated(db) == ["a"]
    assert await db.parties.count_documents({}) == 1


@every_spec
@pytest.mark.parametrize("together", [True, False])
async def test_a_group_makes_the_document_if_it_fits(db: Any, spec: CappedSetSpec, together: bool) -> None:
    """With create= a group that fits makes the document; one that does not makes none, or seats as many as fit."""
    seats = AsyncCappedSet(db, replace(spec, create={"cap": 2, "kind": "$x"}, cap=Field("cap")))
    told = await seats.join_many(1, group("a", "b", "c"), all_or_none=together, now=NOON)
    if together:
        assert (told.outcomes, told.size, told.cap) == ((J.FULL,) * 3, 0, 2)
        assert await db.parties.count_documents({}) == 0
        told = await seats.join_many(1, group("a", "b"), now=NOON)
        assert (told.outcomes, told.size, told.cap) == ((J.JOINED,) * 2, 2, 2)
    else:
        rest = J.WAITING if spec.waiting else J.FULL
        assert (told.outcomes, told.size, told.cap) == ((J.JOINED, J.JOINED, rest), 2, 2)
    assert told.joined == ("a", "b")
    assert told.leader == ("a" if spec.leader else None)
    document = await stored(db)
    assert await seated(db) == ["a", "b"]
    assert await seated(db, "line") == (["c"] if spec.waiting and not together else [])
    assert (document["kind"], document.get("host")) == ("$x", told.leader)
    assert [member.get("expires_at") for member in document["seats"]] == [NOON + TTL if spec.member_ttl else None] * 2


@every_spec
async def test_a_thousand_join_at_once(db: Any, commands: Any, spec: CappedSetSpec) -> None:
    """The largest group is seated by one command, and known again by another; no list of members comes back."""
    seats = AsyncCappedSet(db, replace(spec, cap=1500))
    await put(db)
    members = [{"id": number, "text": "x" * 50} for number in range(1000)]
    commands.clear()
    assert await seats.join_many(1, members, now=NOON)
    assert (await seats.join_many(1, members, now=NOON)).outcomes == (J.ALREADY,) * 1000
    half = await seats.join_many(1, group(*range(500, 1500)), all_or_none=False, now=NOON)
    assert (half.outcomes, half.size) == ((J.ALREADY,) * 500 + (J.JOINED,) * 500, 1500)
    assert commands.names == ["findAndModify"] * 3
    assert max(commands.reply_bytes) < 60_000, "yes or no for each of them, and no documents"


async def test_duplicates_and_crowds_are_refused_before_anything_is_sent(db: Any, commands: Any) -> None:
    """The same member twice, as the server compares them, nobody at all, or more than 1,000 raise a UsageError."""
    seats = AsyncCappedSet(db, PLAIN)
    for members in (group("a", "b", "a"), group(1, 1.0), group(Decimal128("1"), True, 1), [], group(*range(1001))):
        for together in (True, False):
            with pytest.raises(UsageError, match=r"^members: "):
                await seats.join_many(1, members, all_or_none=together)
    assert commands.names == []


async def test_who_of_a_group_is_in_already_is_renewed_and_merged(db: Any) -> None:
    """Each member who joins again gets its own fields merged, and its time renewed, also if the others find no seat."""
    seats = AsyncCappedSet(db, replace(TIMED, cap=3, on_rejoin="merge"))
    await put(db, "a", "b", "c")
    late = NOON + 5 * SECOND
    told = await seats.join_many(1, [{"id": "c", "n": 3}, {"id": "x"}, {"id": "a", "n": 1}], now=late)
    assert told.outcomes == (J.ALREADY, J.FULL, J.ALREADY)
    assert (await stored(db))["seats"] == [
        {"id": "a", "n": 1, "expires_at": late + TTL},
        {"id": "b", "expires_at": NOON + TTL},
        {"id": "c", "n": 3, "expires_at": late + TTL},
    ]


async def test_a_group_takes_the_seats_of_those_who_expired(db: Any) -> None:
    """Seats whose time is over are free for a group, in the same write."""
    seats = AsyncCappedSet(db, replace(TIMED, cap=3))
    await put(db, "old", "a", "older")
    await seats.touch(1, "a", now=NOON + SECOND)
    pair = group("x", "y")
    early = await seats.join_many(1, pair, now=NOON + TTL - MS)
    assert (early.outcomes, early.size) == ((J.FULL, J.FULL), 3)
    told = await seats.join_many(1, pair, now=NOON + TTL)
    assert (told.outcomes, told.size) == ((J.JOINED, J.JOINED), 3)
    assert await seated(db) == ["a", "x", "y"]


# The leader --------------------------------------------------------------------------------------------------


async def test_the_first_leads_and_hands_over_to_who_has_been_there_longest(db: Any) -> None:
    """Whoever joins first leads; when the leader leaves, the same write names the next; in the end nobody leads."""
    seats = AsyncCappedSet(db, LED)
    await put(db)
    told = [(await seats.join(1, {"id": member})).leader for member in ("a", "b", "c", "d")]
    assert told == ["a", "a", "a", "a"]
    assert (await stored(db))["host"] == "a"
    assert (await seats.leave(1, "b")).leader == "a"
    assert (await seats.leave(1, "a")).leader == "c"
    assert (await stored(db))["host"] == "c"
    assert (await seats.join(1, {"id": "a"})).leader == "c"
    assert (await seats.leave(1, "ghost")).leader == "c"
    assert (await seats.leave(1, "c")).leader == "a"
    last = await seats.leave(1, "a")
    assert (last.leader, last.size, last.closed) == (None, 0, False)
    assert (await stored(db))["host"] is None
    assert (await seats.join_many(1, group("y", "z"))).leader == "y"


NEXT: list[tuple[Any, list[Any], Any]] = [
    ([("n", 1)], [{"n": 3}, {"n": 1}, {"n": 2}], 1),
    ([("n", -1)], [{"n": 3}, {"n": 1}, {"n": 2}], 0),
    ([("n", 1)], [{"n": 2}, {"n": 1}, {"n": 1.0}], 1),
    ([("n", -1)], [{"n": 1}, {"n": 2}, {"n": Decimal128("2")}], 1),
    ([("n", 1)], [{"n": 5}, {}, {"n": None}], 1),
    ([("n", -1)], [{}, {"n": None}, {"n": -5}], 2),
    ([("n", 1)], [{"n": None}, {}, {}], 1),
    ([("n", 1)], [{"n": "5"}, {"n": 9}, {"n": {}}], 1),
    ([("n", -1)], [{"n": True}, {"n": 9}, {"n": "z"}], 0),
    ([("n", 1)], [{}, {}, {}], 0),
    ([("a", 1), ("b", -1)], [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 0, "b": 0}], 2),
    ([("a", 1), ("b", -1)], [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 9}], 1),
    ([("a", -1), ("b", 1), ("c", 1)], [{"a": 1, "b": 1, "c": 2}, {"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 2}], 1),
    ([("a", 1), ("b", 1)], [{"b": 2}, {"b": 1}, {"a": None, "b": 0}], 1),
    ([("x.y", -1)], [{"x": {"y": 1}}, {"x": 5}, {"x": {"y": 2}}], 2),
    ([("$x"[1:], 1)], [{"x": "$n"}, {"x": "$$NOW"}, {"x": "$a"}], 1),
    ([("at", 1)], [{"at": NOON}, {"at": NOON - MS}, {"at": NOON + MS}], 1),
]


async def test_the_next_leader_is_found_by_the_order_stated(db: Any) -> None:
    """The order compares as the server does: missing before null before numbers; of equals, who stands first."""
    for sort, members, wanted in NEXT:
        seats = AsyncCappedSet(db, replace(LED, cap=9, leader=Leader("host", sort=sort)))
        ids = [{"id": number, **member} for number, member in enumerate(members)]
        await put(db, {"id": "boss", "n": -99}, *ids, host="boss")
        assert (await seats.join(1, {"id": "new", "n": 5, "a": 5})).leader == "boss", "no order takes the lead away"
        assert (await seats.leave(1, "new")).leader == "boss"
        left = await seats.leave(1, "boss")
        assert left.leader == wanted, (sort, members)
        assert (await stored(db))["host"] == wanted
        # The same when the whole group comes at once, and makes the document.
        await db.parties.delete_many({})
        made = AsyncCappedSet(db, replace(seats.spec, create={}))
        assert (await made.join_many(1, ids)).leader == wanted
        assert (await stored(db))["host"] == wanted


async def test_a_leader_who_expired_is_followed_by_the_next_write(db: Any) -> None:
    """Once the leader's time is over, who joins, joins again or leaves hands the lead on, and is told who has it."""
    spec = replace(LED, member_ttl=30, cap=5)
    seats = AsyncCappedSet(db, spec)
    late = NOON + TTL
    young = {"expires_at": late + SECOND}
    for call in ("join", "again", "leave", "many"):
        await put(db, "a", {"id": "b", **young}, {"id": "c", **young}, host="a")
        told: Any
        if call == "leave":
            told = await seats.leave(1, "c", now=late)
        elif call == "many":
            told = await seats.join_many(1, group("c", "d"), now=late)
        else:
            told = await seats.join(1, {"id": "d" if call == "join" else "c"}, now=late)
        assert told.leader == "b"
        assert (await stored(db))["host"] == "b"
        assert "a" not in await seated(db)
    await put(db, "a", host="a")
    alone = await seats.join(1, {"id": "z"}, now=late)
    assert (alone.leader, alone.size) == ("z", 1)
    back = await seats.join(1, {"id": "a"}, now=late)
    assert (back.outcome, back.leader) == (J.JOINED, "z"), "who comes back does not get the lead back"


async def test_a_refused_call_tells_who_leads_those_who_are_in(db: Any) -> None:
    """Where nothing is written, the leader that is told is the stored one, if that member has a seat, or nobody."""
    seats = AsyncCappedSet(db, replace(LED, member_ttl=30, cap=2))
    young = {"expires_at": NOON + 2 * TTL}
    await put(db, "a", {"id": "b", **young}, {"id": "c", **young}, host="a")
    before = await stored(db)
    for now, leader in ((NOON, "a"), (NOON + TTL, None), (NOON + 2 * TTL, None)):
        absent = await seats.leave(1, "ghost", now=now)
        assert (absent.outcome, absent.leader) == (L.ABSENT, leader)
        if leader:
            full = await seats.join(1, {"id": "z"}, now=now)
            assert (full.outcome, full.leader) == (J.FULL, leader)
    assert await stored(db) == before


@pytest.mark.parametrize("host", ["ghost", None, 5, {"$gt": 1}, ["a"], {"id": "a"}, "", "missing", "$seats.id"])
async def test_a_leader_that_somebody_wrote_by_hand_is_kept_if_he_is_a_member(db: Any, host: Any) -> None:
    """Whoever is named leader from outside leads if he has a seat; else the next write names one who has."""
    seats = AsyncCappedSet(db, replace(LED, cap=9))
    await put(db, "a", "b", "c", **({} if host == "missing" else {"host": host}))
    assert (await seats.join(1, {"id": "d"})).leader == "a"
    assert (await stored(db))["host"] == "a"
    await db.parties.update_one({"_id": 1}, {"$set": {"host": "c"}})
    assert (await seats.join(1, {"id": "e"})).leader == "c"
    assert (await seats.leave(1, "a")).leader == "c"
    await db.parties.update_one({"_id": 1}, {"$set": {"host": host}})
    assert (await seats.leave(1, "c")).leader == "b"
    assert (await stored(db))["host"] == "b"


# Closing -----------------------------------------------------------------------------------------------------


async def test_the_last_who_leaves_closes_the_set(db: Any, commands: Any) -> None:
    """What Close says is written with the last leave, with the write's own time; then nobody joins any more."""
    seats = AsyncCappedSet(db, CLOSING)
    await put(db, "a", "b", text="$x", why={"who": 1})
    assert not (await seats.leave(1, "a", now=NOON)).closed
    assert (await stored(db)).get("ended") is None
    commands.clear()
    last = await seats.leave(1, "b", now=NOON)
    assert commands.names == ["findAndModify"]
    assert (last.outcome, last.size, last.leader, last.closed) == (L.LEFT, 0, None, True)
    closed = await stored(db)
    assert closed == {
        "_id": 1,
        "seats": [],
        "text": "$x",
        "host": None,
        "ended": NOON,
        "why": {"who": 1, "text": "$empty", "at": NOON},
    }
    assert (await seats.join(1, {"id": "c"}, now=NOON)).outcome is J.CLOSED
    assert (await seats.join_many(1, group("c", "d"), now=NOON)).outcomes == (J.CLOSED, J.CLOSED)
    absent = await seats.leave(1, "b", now=NOON + SECOND)
    assert (absent.outcome, absent.closed) == (L.ABSENT, False)
    assert await stored(db) == closed


async def test_closing_writes_however_many_fields(db: Any) -> None:
    """What is sent is no deeper for a hundred fields than for one: the server takes it and stores each in place."""
    values: dict[str, Any] = {("deep." + "x." * 20 if n % 2 else "n") + str(n): n for n in range(100)}
    seats = AsyncCappedSet(db, replace(RICH, close=Close(set={**values, "ended": "yes"}, set_now=["deep.at"])))
    await put(db, "a", deep={"kept": "$x", "x": {"kept": 1}})
    assert (await seats.leave(1, "a", now=NOON)).closed
    document = await stored(db)
    assert {path: at_path(document, path) for path in values} == values
    assert (document["deep"]["kept"], document["deep"]["x"]["kept"], document["deep"]["at"]) == ("$x", 1, NOON)


async def test_closing_is_dated_by_the_server(db: Any) -> None:
    """Without now= the time that closing writes is the server's own."""
    seats = AsyncCappedSet(db, CLOSING)
    await put(db, "a")
    before = (await db.command("hello"))["localTime"].replace(tzinfo=UTC)
    assert (await seats.leave(1, "a")).closed
    after = (await db.command("hello"))["localTime"].replace(tzinfo=UTC)
    document = await stored(db)
    assert before <= document["ended"] <= after
    assert document["why"]["at"] == document["ended"]


async def test_those_who_expired_keep_no_set_open(db: Any) -> None:
    """The last who is still there closes the set, whoever has expired beside; who has expired cannot close it."""
    seats = AsyncCappedSet(db, replace(CLOSING, member_ttl=30))
    late = NOON + TTL
    await put(db, "old", {"id": "a", "expires_at": late + SECOND}, "older")
    assert not (await seats.leave(1, "old", now=late)).closed
    last = await seats.leave(1, "a", now=late)
    assert (last.closed, last.size) == (True, 0)
    assert (await stored(db))["seats"] == []


async def test_a_set_that_somebody_waits_for_is_not_closed(db: Any) -> None:
    """When the last one leaves and somebody waits, he is seated, and leads; the set stays open."""
    seats = AsyncCappedSet(db, replace(CLOSING, cap=1, waiting=Waiting("line")))
    await put(db, "a", line=group("b"), host="a")
    left = await seats.leave(1, "a", now=NOON)
    assert (left.closed, left.size, left.leader) == (False, 1, "b")
    last = await seats.leave(1, "b", now=NOON)
    assert (last.closed, last.size, last.leader) == (True, 0, None)


# Those who wait ----------------------------------------------------------------------------------------------


async def test_who_waits_keeps_the_place_and_is_seated_in_order(db: Any, commands: Any) -> None:
    """Who finds the set full stands in line, in the order of coming; who frees a seat gives it to the first."""
    seats = AsyncCappedSet(db, QUEUED)
    await put(db, "a", "b")
    for place, member in enumerate(("c", "d", "e"), start=1):
        told = await seats.join(1, {"id": member, "n": place})
        assert (told.outcome, told.position, told.size, told.cap, told.member) == (J.WAITING, place, 2, 2, None)
        assert not told
        with pytest.raises(LimitExceeded):
            told.require()
    again = await seats.join(1, {"id": "d", "n": 99})
    assert (again.outcome, again.position) == (J.WAITING, 2)
    assert await seats.waiting(1) == [{"id": "c", "n": 1}, {"id": "d", "n": 2}, {"id": "e", "n": 3}]
    commands.clear()
    left = await seats.leave(1, "a")
    assert commands.names == ["findAndModify"]
    assert (left.outcome, left.size, left.promoted) == (L.LEFT, 2, ({"id": "c", "n": 1},))
    assert [await seated(db), await seated(db, "line")] == [["b", "c"], ["d", "e"]]
    assert (await seats.join(1, {"id": "e"})).position == 2
    assert (await seats.join(1, {"id": "c"})).outcome is J.ALREADY
    out = await seats.leave(1, "d")
    assert (out.outcome, out.size, out.promoted) == (L.LEFT, 2, ())
    assert [await seated(db), await seated(db, "line")] == [["b", "c"], ["e"]]
    assert (await seats.update(1, "e", {"n": 5})).outcome is M.ABSENT, "who waits has no seat"
    assert (await seats.leave(1, "d")).outcome is L.ABSENT


async def test_a_line_has_an_end(db: Any) -> None:
    """With a cap of its own the line takes no more than that; a longer one that stands there is not cut."""
    seats = AsyncCappedSet(db, replace(QUEUED, waiting=Waiting("line", cap=2)))
    await put(db, "a", "b")
    told = [(await seats.join(1, {"id": member})).outcome for member in ("c", "d", "e", "d")]
    assert told == [J.WAITING, J.WAITING, J.FULL, J.WAITING]
    await put(db, "a", "b", line=group("w", "x", "y", "z"))
    assert (await seats.join(1, {"id": "e"})).outcome is J.FULL
    assert (await seats.join(1, {"id": "z"})).position == 4
    await seats.leave(1, "a")
    assert (await seats.join(1, {"id": "e"})).outcome is J.FULL
    assert [await seated(db), await seated(db, "line")] == [["b", "w"], ["x", "y", "z"]]


async def test_a_line_that_is_missing_or_null_is_an_empty_one(db: Any) -> None:
    """Where there is no line yet, nobody waits; the first who does makes it. What is no array is an error."""
    seats = AsyncCappedSet(db, replace(QUEUED, waiting=Waiting("x.line")))
    for fields in ({}, {"x": None}, {"x": {}}, {"x": {"line": None, "y": 1}}):
        await put(db, "a", "b", **fields)
        assert await seats.waiting(1) == []
        assert not (await seats.leave(1, "ghost")).promoted
        assert (await seats.join(1, {"id": "c"})).position == 1
        assert (await stored(db))["x"] == {**(fields.get("x") or {}), "line": [{"id": "c"}]}
    await put(db, "a", "b", x={"line": {"0": "c"}})
    before = await stored(db)
    for call in (lambda: seats.join(1, {"id": "c"}), lambda: seats.leave(1, "a"), lambda: seats.waiting(1)):
        with pytest.raises(StateError, match=r"'x\.line' in the document 1 of 'parties': expected an array"):
            await call()
    assert await stored(db) == before


async def test_seats_that_expired_go_to_the_line_first(db: Any) -> None:
    """Who waits has the right to a seat whose time is over before anybody who comes now; the verdict names them."""
    seats = AsyncCappedSet(db, replace(RICH, leader=None))
    await put(db, "a", "b", line=[{"id": "c", "n": 1}, {"id": "d"}, {"id": "e"}])
    late = NOON + TTL
    for call in (lambda: seats.leave(1, "ghost", now=late), lambda: seats.update(1, "a", {"n": 1}, now=late)):
        assert not await call()
    assert [await seated(db), await seated(db, "line")] == [["a", "b"], ["c", "d", "e"]]
    told = await seats.join(1, {"id": "new"}, now=late)
    until = {"expires_at": late + TTL}
    assert (told.outcome, told.position, told.size) == (J.WAITING, 2, 2)
    assert told.promoted == ({"id": "c", "n": 1, **until}, {"id": "d", **until})
    assert (await stored(db))["seats"] == list(told.promoted)
    assert await seated(db, "line") == ["e", "new"]


async def test_who_waits_and_asks_again_is_seated_when_it_is_their_turn(db: Any) -> None:
    """A waiting member whose turn has come by expiry is told JOINED with the fields given at first; else the place."""
    seats = AsyncCappedSet(db, replace(RICH, leader=None))
    late = NOON + TTL
    for member, outcome, position in (("c", J.JOINED, None), ("d", J.WAITING, 1)):
        await put(db, "a", {"id": "b", "expires_at": late + SECOND}, line=[{"id": "c", "n": 1}, {"id": "d"}])
        told = await seats.join(1, {"id": member, "n": 2}, now=late)
        assert (told.outcome, told.position, told.size) == (outcome, position, 2)
        first = {"id": "c", "n": 1, "expires_at": late + TTL}
        assert told.member == (first if outcome is J.JOINED else None)
        assert told.promoted == (() if outcome is J.JOINED else (first,)), "the caller is told by the outcome"
        assert [await seated(db), await seated(db, "line")] == [["b", "c"], ["d"]]


async def test_an_absent_member_frees_no_seat(db: Any) -> None:
    """A leave that finds nobody writes nothing and tells of nobody promoted, even if seats have come free meanwhile."""
    seats = AsyncCappedSet(db, RICH)
    await put(db, "a", "b", line=group("c"), host="a")
    before = await stored(db)
    absent = await seats.leave(1, "ghost", now=NOON + TTL)
    assert (absent.outcome, absent.size, absent.leader, absent.promoted) == (L.ABSENT, 0, None, ())
    assert await stored(db) == before


async def test_a_closed_set_seats_nobody_from_the_line(db: Any) -> None:
    """While the set is closed the line stands still; whoever waits is told so, and may leave; opened, it moves on."""
    seats = AsyncCappedSet(db, QUEUED)
    await put(db, "a", "b", line=group("c", "d", "e"), ended="yes")
    left = await seats.leave(1, "a")
    assert (left.outcome, left.size, left.promoted) == (L.LEFT, 1, ())
    told = await seats.join(1, {"id": "d"})
    assert (told.outcome, told.position) == (J.WAITING, 2)
    assert (await seats.join(1, {"id": "x"})).outcome is J.CLOSED
    assert (await seats.leave(1, "c")).outcome is L.LEFT
    assert [await seated(db), await seated(db, "line")] == [["b"], ["d", "e"]]
    await db.parties.update_one({"_id": 1}, {"$unset": {"ended": 1}})
    told = await seats.join(1, {"id": "x"})
    assert (told.outcome, told.position, told.promoted) == (J.WAITING, 2, ({"id": "d"},))
    assert [await seated(db), await seated(db, "line")] == [["b", "d"], ["e", "x"]]


async def test_a_raised_cap_is_used_by_the_next_write(db: Any) -> None:
    """When there are more seats than before, whoever comes or goes next has the line seated."""
    seats = AsyncCappedSet(db, replace(QUEUED, cap=Field("cap"), on_rejoin="merge"))
    for call in ("join", "again", "leave", "many"):
        await put(db, "a", "b", line=group("c", "d", "e"), cap=4)
        told: Any
        if call == "leave":
            told = await seats.leave(1, "e")
        elif call == "many":
            told = await seats.join_many(1, group("a", "b"))
        else:
            told = await seats.join(1, {"id": "x" if call == "join" else "a"})
        assert told.promoted == ({"id": "c"}, {"id": "d"}), call
        assert (await seated(db))[2:] == ["c", "d"]
        assert (await seated(db, "line"))[:1] == ([] if call == "leave" else ["e"])


async def test_a_group_waits_behind_those_who_were_there_before(db: Any) -> None:
    """A group takes what seats the line leaves, and stands behind it; all_or_none counts the line, and never waits."""
    seats = AsyncCappedSet(db, replace(QUEUED, cap=4, waiting=Waiting("line", cap=2)))
    await put(db, "a", line=group("c"))
    refused = await seats.join_many(1, group("x", "y", "z"))
    assert (refused.outcomes, refused.size, refused.promoted) == ((J.FULL,) * 3, 2, ({"id": "c"},))
    assert [await seated(db), await seated(db, "line")] == [["a", "c"], []]
    told = await seats.join_many(1, group("c", "v", "w", "x", "y", "z"), all_or_none=False)
    assert told.outcomes == (J.ALREADY, J.JOINED, J.JOINED, J.WAITING, J.WAITING, J.FULL)
    assert (told.joined, told.size) == (("v", "w"), 4)
    assert [await seated(db), await seated(db, "line")] == [["a", "c", "v", "w"], ["x", "y"]]
    mixed = await seats.join_many(1, group("y", "a"))
    assert mixed.outcomes == (J.WAITING, J.ALREADY)
    await seats.leave(1, "a")
    assert await seated(db) == ["c", "v", "w", "x"]


async def test_what_stands_in_line_and_is_no_member_takes_its_turn(db: Any) -> None:
    """Elements of the line without a key are moved as they are; places are counted with them; nobody fails by them."""
    junk: list[Any] = [5, {"n": 1}, None, ["c"]]
    for spec in (replace(QUEUED, cap=3), replace(RICH, cap=3, waiting=Waiting("line"))):
        seats = AsyncCappedSet(db, spec)
        await put(db, "a", "b", "c", line=[*junk, {"id": "d"}])
        told = await seats.join(1, {"id": "d"}, now=NOON)
        assert (told.outcome, told.position) == (J.WAITING, 5)
        assert await seats.waiting(1, now=NOON) == [{"n": 1}, {"id": "d"}]
        for member in ("a", "b", "c"):
            assert (await seats.leave(1, member, now=NOON)).size == 3
        document = await stored(db)
        dated = {"expires_at": NOON + TTL} if spec.member_ttl else {}
        assert document["seats"] == [5, {"n": 1, **dated}, None]
        assert (document["line"], document.get("host")) == ([["c"], {"id": "d"}], None)


@pytest.mark.parametrize("spec", [QUEUED, RICH], ids=["queued", "rich"])
async def test_who_sits_does_not_wait(db: Any, spec: CappedSetSpec) -> None:
    """Who was seated past the line, by a $push or a spec that knows none, waits no more, and gets no second seat."""
    seats = AsyncCappedSet(db, spec)
    await put(db, "a", "b", cap=2, line=group("b", "c"))
    assert await seats.waiting(1, now=NOON) == [{"id": "c"}]
    told = await seats.join(1, {"id": "d"}, now=NOON)
    assert (told.outcome, told.position, told.size) == (J.WAITING, 2, 2)
    assert await seated(db, "line") == ["c", "d"]
    await put(db, "a", "b", cap=2, line=group("b", "b", "c"))
    left = await seats.leave(1, "a", now=NOON)
    assert ([one["id"] for one in left.promoted], left.size) == (["c"], 2)
    assert [await seated(db), await seated(db, "line")] == [["b", "c"], []]
    await put(db, "a", "b", cap=2, line=group("b"))
    assert (await seats.leave(1, "b", now=NOON)).size == 1
    assert [await seated(db), await seated(db, "line")] == [["a"], []]
    await put(db, "a", {"id": None}, cap=2, line=[{"id": None}, {"n": 1}])  # (nobody is not anybody)
    assert (await seats.leave(1, "a", now=NOON)).size == 2
    document = await stored(db)
    assert ([one["id"] for one in document["seats"]], document["line"]) == ([None, None], [{"n": 1}])


@pytest.mark.parametrize("spec", [QUEUED, RICH], ids=["queued", "rich"])
async def test_who_sits_and_waits_is_told_the_same_after_a_lost_reply(
    db: Any, mongopatterns_server: Any, spec: CappedSetSpec
) -> None:
    """What the stored image tells of a line in which one has a seat is what the call's own answer tells."""
    seats = AsyncCappedSet(db, spec)
    until = dt.datetime.now(UTC) + 10 * TTL
    lost = {"mode": {"times": 1}, "data": {"closeConnection": True}}
    for call in (lambda: seats.leave(1, "a"), lambda: seats.join(1, {"id": "d"})):
        told = []
        for losing in (nullcontext(), mongopatterns_server.fail_point("onPrimaryTransactionalWrite", **lost)):
            await put(db, *({"id": one, "expires_at": until} for one in ("a", "b")), cap=2, line=group("b", "c"))
            with losing:
                verdict = await call()
            promoted = [one["id"] for one in verdict.promoted]
            told.append((verdict.outcome, verdict.size, verdict.leader, promoted))
        assert told[0] == told[1]


async def test_who_waits_does_not_expire(db: Any) -> None:
    """A place in line has no time; the seat that it becomes has all of it, from the write that gives it."""
    seats = AsyncCappedSet(db, RICH)
    await put(db, {"id": "a"}, {"id": "b", "expires_at": NOON + 100 * TTL})
    assert (await seats.join(1, {"id": "c", "n": 1}, now=NOON)).position == 1
    much_later = NOON + 50 * TTL
    left = await seats.leave(1, "a", now=much_later)
    assert left.promoted == ({"id": "c", "n": 1, "expires_at": much_later + TTL},)
    assert (await seats.touch(1, "c", now=much_later + SECOND)).outcome is M.UPDATED


async def test_who_was_promoted_can_lead(db: Any) -> None:
    """When all who sat are gone, one of those who waited leads, by the order stated."""
    seats = AsyncCappedSet(db, replace(RICH, leader=Leader("host", sort=[("rank", -1)])))
    await put(db, "a", line=[{"id": "c", "rank": 1}, {"id": "d", "rank": 2}], host="a")
    left = await seats.leave(1, "a", now=NOON)
    assert (left.leader, [member["id"] for member in left.promoted]) == ("d", ["c", "d"])
    assert (await stored(db))["host"] == "d"
