# Generated from tests/aio/test_capped_set.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""What a capped set promises to one member at a time, on a real server. Groups and order: `test_capped_set_groups`."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass, replace
from typing import Any

import bson
import pydantic
import pytest
from bson import Binary, Decimal128, Int64, ObjectId, UuidRepresentation
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from bson.son import SON
from pymongo.errors import ExecutionTimeout, NetworkTimeout
from pymongo.write_concern import WriteConcern
from typing_extensions import TypedDict

from mongopatterns import (
    CappedSet,
    CappedSetSpec,
    Close,
    DocumentNotFound,
    Durability,
    Field,
    JoinOutcome,
    Leader,
    LeaveOutcome,
    MemberOutcome,
    ObjectIdStr,
    StateError,
    UsageError,
    Waiting,
    may_have_applied,
)
from mongopatterns._driver_sync import settle
from mongopatterns.testing import race_threads

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
MS = dt.timedelta(milliseconds=1)
SECOND = dt.timedelta(seconds=1)
TTL = 30 * SECOND
LARGEST = 16 * 1024 * 1024

PLAIN = CappedSetSpec("parties", path="a.seats", member_key="id", cap=Field("cap", default=3), open_if={"ended": None})
TIMED = replace(PLAIN, member_ttl=30)
MERGING = replace(PLAIN, on_rejoin="merge")
LED = replace(PLAIN, leader=Leader("a.host"))
RICH = replace(
    TIMED,
    leader=Leader("a.host", sort=[("n", 1)]),
    close=Close(set={"why": "empty"}, set_now=["ended"]),
    waiting=Waiting("a.line", cap=5),
    on_rejoin="merge",
)
# A plain set is decided by a shorter command than the others: what they share is tested on each.
every_spec = pytest.mark.parametrize(
    "spec", [PLAIN, TIMED, MERGING, LED, RICH], ids=["plain", "timed", "merging", "led", "rich"]
)

J, L, M = JoinOutcome, LeaveOutcome, MemberOutcome


def put(db: Any, *ids: Any, **fields: Any) -> None:
    """Store the document 1 with so many members, who have time until NOON + TTL."""
    db.parties.delete_many({})
    seats = [{"id": member, "expires_at": NOON + TTL} for member in ids]
    db.parties.insert_one({"_id": 1, "a": {"seats": seats}, **fields})


def stored(db: Any, key: Any = 1) -> Any:
    """Read the whole document, with aware datetimes."""
    options: CodecOptions[Any] = CodecOptions(tz_aware=True, tzinfo=UTC)
    return db.get_collection("parties", codec_options=options).find_one({"_id": key})


def raw(db: Any) -> list[bytes]:
    """Read every document as the bytes that are stored."""
    options: Any = CodecOptions(document_class=RawBSONDocument)
    found = db.get_collection("parties", codec_options=options).find({}).sort("_id", 1).to_list(None)
    return [document.raw for document in found]


def seated(db: Any) -> list[Any]:
    """List the keys of those who are in the array."""
    return [member["id"] for member in stored(db)["a"]["seats"]]


def bare(member: Any) -> dict[str, Any]:
    """Leave out what only sets with a time have."""
    return {name: value for name, value in member.items() if name != "expires_at"}


def near(db: Any, free: int, *ids: Any, **fields: Any) -> None:
    """Store a document that is so many bytes short of what the server stores at most."""
    seats = [one if isinstance(one, dict) else {"id": one, "expires_at": NOON + TTL} for one in ids]
    document: dict[str, Any] = {"_id": 1, "a": {"seats": seats}, **fields}
    rest = LARGEST - free - len(bson.encode(document))
    db.parties.drop()
    db.parties.insert_one(document)
    # In parts: the server of the tests has a small cache, and a write is logged in the same transaction.
    overhead = len(bson.encode({"x0": b""})) - len(bson.encode({}))
    part = rest // 8
    for number in range(8):
        size = part if number < 7 else rest - 7 * part
        db.parties.update_one({"_id": 1}, {"$set": {f"x{number}": bytes(size - overhead)}})


# Outcomes ----------------------------------------------------------------------------------------------------


@every_spec
def test_every_outcome_of_join_is_told_by_one_command(db: Any, commands: Any, spec: CappedSetSpec) -> None:
    """JOINED, ALREADY, FULL (or WAITING), CLOSED and NOT_FOUND: told apart with size, cap and the member."""
    seats = CappedSet(db, spec)
    put(db, cap=2)
    full = J.WAITING if spec.waiting else J.FULL
    renews = spec.on_rejoin == "merge"
    steps: list[Any] = [
        ({"id": "a", "n": 1}, J.JOINED, 1, {"id": "a", "n": 1}),
        ({"id": "b"}, J.JOINED, 2, {"id": "b"}),
        ({"id": "a", "m": 2}, J.ALREADY, 2, {"id": "a", "n": 1, "m": 2} if renews else {"id": "a", "n": 1}),
        ({"id": "c"}, full, 2, None),
        ({"id": "b"}, J.ALREADY, 2, {"id": "b"}),
    ]
    for member, outcome, size, told in steps:
        commands.clear()
        joined = seats.join(1, member, now=NOON)
        assert commands.names == ["findAndModify"]
        assert commands.comments == {"mongopatterns.capped_set.join"}
        assert (joined.key, joined.outcome, joined.size, joined.cap) == (1, outcome, size, 2)
        assert bool(joined) is (outcome in (J.JOINED, J.ALREADY))
        assert (joined.position, joined.promoted, joined.document) == (1 if outcome is J.WAITING else None, (), None)
        assert joined.leader == ("a" if spec.leader else None)
        assert told is None if joined.member is None else bare(joined.member) == told
    assert seated(db) == ["a", "b"]
    db.parties.update_one({"_id": 1}, {"$set": {"ended": True}})
    assert seats.join(1, {"id": "d"}, now=NOON).outcome is J.CLOSED, "closed before full"
    assert seats.join(1, {"id": "a"}, now=NOON).outcome is J.ALREADY, "already before closed"
    db.parties.update_one({"_id": 1}, {"$set": {"cap": 9}})
    assert seats.join(1, {"id": "d"}, now=NOON).outcome is J.CLOSED
    gone = seats.join(2, {"id": "d"}, now=NOON)
    assert (gone.key, gone.outcome, gone.size, gone.cap, gone.member) == (2, J.NOT_FOUND, 0, None, None)
    assert db.parties.count_documents({}) == 1
    assert seated(db) == ["a", "b"]


@every_spec
def test_every_outcome_of_leave(db: Any, commands: Any, spec: CappedSetSpec) -> None:
    """LEFT, ABSENT and NOT_FOUND are told apart by one command; the order of the others stays."""
    seats = CappedSet(db, spec)
    put(db, "a", "b", "c")
    commands.clear()
    left = seats.leave(1, "b", now=NOON)
    assert (left.key, left.outcome, left.size, left.closed, left.promoted) == (1, L.LEFT, 2, False, ())
    assert left
    absent = seats.leave(1, "b", now=NOON)
    assert (absent.outcome, absent.size, absent.closed) == (L.ABSENT, 2, False)
    assert not absent
    gone = seats.leave(2, "a", now=NOON)
    assert (gone.key, gone.outcome, gone.size) == (2, L.NOT_FOUND, 0)
    assert commands.names == ["findAndModify"] * 3
    assert commands.comments == {"mongopatterns.capped_set.leave"}
    assert seated(db) == ["a", "c"]


@every_spec
def test_every_outcome_of_update(db: Any, commands: Any, spec: CappedSetSpec) -> None:
    """UPDATED merges fields into the member's own document, and no other; ABSENT and NOT_FOUND write nothing."""
    seats = CappedSet(db, spec)
    put(db, "a", "b")
    commands.clear()
    told = seats.update(1, "b", {"muted": True, "a.b": {"$x": [1]}}, now=NOON)
    changed = {"id": "b", "expires_at": NOON + TTL, "muted": True, "a.b": {"$x": [1]}}
    assert (told.key, told.id, told.outcome, told.member) == (1, "b", M.UPDATED, changed)
    assert stored(db)["a"]["seats"] == [{"id": "a", "expires_at": NOON + TTL}, changed]
    again = seats.update(1, "b", {"muted": None}, now=NOON)
    assert again.member == {**changed, "muted": None}, "what is not named stays"
    before = raw(db)
    for key, member, outcome in ((1, "z", M.ABSENT), (2, "a", M.NOT_FOUND)):
        told = seats.update(key, member, {"muted": True}, now=NOON)
        assert (told.key, told.id, told.outcome, told.member) == (key, member, outcome, None)
        assert not told
    assert raw(db) == before
    assert commands.names.count("findAndModify") == 4
    assert "mongopatterns.capped_set.update" in commands.comments


def test_every_outcome_of_touch(db: Any, commands: Any) -> None:
    """UPDATED renews one member's time, and no other; ABSENT and NOT_FOUND write nothing."""
    seats = CappedSet(db, TIMED)
    put(db, "a", "b")
    commands.clear()
    told = seats.touch(1, "b", now=NOON + SECOND)
    renewed = {"id": "b", "expires_at": NOON + SECOND + TTL}
    assert (told.key, told.id, told.outcome, told.member) == (1, "b", M.UPDATED, renewed)
    assert stored(db)["a"]["seats"] == [{"id": "a", "expires_at": NOON + TTL}, renewed]
    before = raw(db)
    for key, member, outcome in ((1, "z", M.ABSENT), (2, "a", M.NOT_FOUND)):
        told = seats.touch(key, member, now=NOON)
        assert (told.outcome, told.member) == (outcome, None)
    assert raw(db) == before
    assert commands.names.count("findAndModify") == 3
    assert "mongopatterns.capped_set.touch" in commands.comments


def test_reading_is_one_command_and_tells_who_is_there(db: Any, commands: Any) -> None:
    """members, size and waiting: one aggregate each, without those who have expired, in the stored order."""
    seats = CappedSet(db, RICH)
    put(db, "a", "b")
    push = {"a.seats": {"id": "old", "expires_at": NOON}, "a.line": {"id": "w"}}
    db.parties.update_one({"_id": 1}, {"$push": push})
    commands.clear()
    assert [member["id"] for member in seats.members(1, now=NOON)] == ["a", "b"]
    assert seats.size(1, now=NOON) == 2
    assert seats.waiting(1, now=NOON) == [{"id": "w"}]
    assert seats.size(1, now=NOON - MS) == 3
    assert seats.size(1) == 0, "by the server's own clock all of them have expired"
    assert commands.names == ["aggregate"] * 5
    assert commands.comments == {f"mongopatterns.capped_set.{call}" for call in ("members", "size", "waiting")}


def test_a_document_that_is_not_there_has_members_only_if_it_may_be_made(db: Any) -> None:
    """With create=None reading raises DocumentNotFound; else a set that is not made yet is an empty one."""
    seats = CappedSet(db, replace(PLAIN, waiting=Waiting("line")))
    for call in (seats.members, seats.size, seats.waiting):
        with pytest.raises(DocumentNotFound, match="'ghost'"):
            call("ghost")
    made = CappedSet(db, replace(PLAIN, waiting=Waiting("line"), create={}))
    assert [made.members("ghost"), made.size("ghost"), made.waiting("ghost")] == [[], 0, []]
    assert db.parties.count_documents({}) == 0


# The cap -----------------------------------------------------------------------------------------------------

CAPS: list[tuple[Any, int]] = [
    (2, 2),
    (10.0, 10),
    (2.9, 2),
    (Int64(3), 3),
    (Decimal128("2"), 2),
    (Decimal128("2.7"), 2),
    (Decimal128("1E+2"), 100),
    (2**31 - 1, 2**31 - 1),
    (0, 0),
    (0.5, 0),
    (-0.0, 0),
    (Decimal128("0.0"), 0),
]


@every_spec
def test_any_number_is_a_cap(db: Any, spec: CappedSetSpec) -> None:
    """A cap of any numeric type counts as the whole seats that it holds, and is told as a plain int."""
    seats = CappedSet(db, spec)
    for cap, told in CAPS:
        put(db, cap=cap)
        for number in range(min(told, 4)):
            joined = seats.join(1, {"id": number}, now=NOON)
            assert (joined.outcome, joined.size, joined.cap) == (J.JOINED, number + 1, told)
            assert type(joined.cap) is int
        if told < 4:
            refused = seats.join(1, {"id": "late"}, now=NOON)
            assert (refused.outcome, refused.size, refused.cap) == (J.WAITING if spec.waiting else J.FULL, told, told)


NO_CAPS = [
    "5",
    True,
    [3],
    {"n": 3},
    float("nan"),
    float("inf"),
    Decimal128("NaN"),
    Decimal128("Infinity"),
    -1,
    -0.5,
    2**31,
]


@every_spec
def test_what_is_no_cap_is_an_error_and_stays(db: Any, spec: CappedSetSpec) -> None:
    """A cap of the wrong type or out of bounds raises a StateError that names path and document; nothing changes."""
    seats = CappedSet(db, spec)
    for cap in NO_CAPS:
        put(db, "a", cap=cap)
        before = raw(db)
        for call in (
            lambda: seats.join(1, {"id": "b"}, now=NOON),
            lambda: seats.join(1, {"id": "a"}, now=NOON),
            lambda: seats.join_many(1, [{"id": "b"}], now=NOON),
        ):
            with pytest.raises(StateError, match="'cap' in the document 1 of 'parties': expected how many") as caught:
                call()
            assert (caught.value.collection, caught.value.key, caught.value.path) == ("parties", 1, "cap")
        assert raw(db) == before


@every_spec
def test_a_missing_cap_is_the_default_or_an_error(db: Any, spec: CappedSetSpec) -> None:
    """Missing and null count as the Field's default; without one they are an error, never "unlimited"."""
    strict = CappedSet(db, replace(spec, cap=Field("limits.n")))
    lenient = CappedSet(db, replace(spec, cap=Field("limits.n", default=7)))
    for missing in ({}, {"limits": None}, {"limits": {}}, {"limits": {"n": None}}):
        put(db, **missing)
        before = raw(db)
        with pytest.raises(StateError, match=r"'limits\.n' in the document 1 of 'parties'"):
            strict.join(1, {"id": "a"}, now=NOON)
        assert raw(db) == before
        joined = lenient.join(1, {"id": "a"}, now=NOON)
        assert (joined.outcome, joined.cap) == (J.JOINED, 7)


@every_spec
def test_a_cap_below_the_size_takes_no_seat_away(db: Any, spec: CappedSetSpec) -> None:
    """When the cap is lowered those who are in stay; nobody joins until enough have left."""
    seats = CappedSet(db, spec)
    put(db, "a", "b", "c", cap=1)
    full = seats.join(1, {"id": "d"}, now=NOON)
    assert (full.size, full.cap, bool(full)) == (3, 1, False)
    assert seats.join(1, {"id": "c"}, now=NOON).outcome is J.ALREADY
    for member, size in (("a", 2), ("b", 1)):
        assert seats.leave(1, member, now=NOON).size == size
        assert not seats.join(1, {"id": "d"}, now=NOON)
    left = seats.leave(1, "c", now=NOON)
    assert left.size == (1 if spec.waiting else 0), "who has waited takes the seat"
    assert seats.join(1, {"id": "d"}, now=NOON)
    assert seated(db) == ["d"]


def test_the_cap_and_the_condition_are_read_in_the_write_itself(db: Any) -> None:
    """What another writer changes counts at once: no copy of cap or condition is kept."""
    seats = CappedSet(db, PLAIN)
    put(db, cap=1)
    told = []
    for change in ({"cap": 1}, {"cap": 2}, {"ended": "x"}, {"ended": None, "cap": 9}):
        db.parties.update_one({"_id": 1}, {"$set": change})
        told.append(seats.join(1, {"id": len(told)}).outcome)
    assert told == [J.JOINED, J.JOINED, J.CLOSED, J.JOINED]


# open_if -----------------------------------------------------------------------------------------------------

CONDITIONS: list[tuple[Any, Any, bool]] = [
    ({"e": None}, {}, True),
    ({"e": None}, {"e": None}, True),
    ({"e": None}, {"e": False}, False),
    ({"e": None}, {"e": 0}, False),
    ({"e": None}, {"e": []}, False),
    ({"e.x": None}, {}, True),
    ({"e.x": None}, {"e": 5}, True),
    ({"e.x": None}, {"e": {"x": 1}}, False),
    ({"kind": "open"}, {"kind": "open"}, True),
    ({"kind": "open"}, {"kind": "OPEN"}, False),
    ({"kind": "open"}, {"kind": ["open"]}, False),
    ({"kind": "open"}, {}, False),
    ({"kind": "$kind"}, {"kind": "$kind"}, True),
    ({"kind": "$kind"}, {"kind": "other"}, False),
    ({"kind": 1}, {"kind": 1.0}, True),
    ({"kind": 1}, {"kind": True}, False),
    ({"a b.c": 1, "kind": "x"}, {"a b": {"c": Decimal128("1.0")}, "kind": "x"}, True),
    ({"a b.c": 1, "kind": "x"}, {"a b": {"c": 1}, "kind": "y"}, False),
    ({"kind": {"a": 1, "b": [1]}}, {"kind": {"a": 1, "b": [1]}}, True),
    ({"kind": {"a": 1, "b": 2}}, {"kind": {"b": 2, "a": 1}}, False),
    ({"kind": [1, 2]}, {"kind": [1, 2]}, True),
    ({"kind": [1, 2]}, {"kind": [2, 1]}, False),
    ({"at": NOON}, {"at": NOON}, True),
    ({"at": NOON}, {"at": NOON + MS}, False),
]


@pytest.mark.parametrize("base", [PLAIN, RICH], ids=["plain", "rich"])
def test_open_if_is_plain_equality(db: Any, base: Any) -> None:
    """A set is open when each path holds exactly that value; None is null or missing."""
    for open_if, fields, opened in CONDITIONS:
        seats = CappedSet(db, replace(base, close=None, open_if=open_if))
        put(db, **fields)
        before = raw(db)
        joined = seats.join(1, {"id": "a"}, now=NOON)
        assert joined.outcome is (J.JOINED if opened else J.CLOSED), (open_if, fields)
        assert (raw(db) == before) is not opened


@every_spec
def test_already_is_told_before_closed_and_closed_before_full(db: Any, spec: CappedSetSpec) -> None:
    """A member of a closed, full set is told ALREADY; a stranger to it CLOSED, whether or not it is full."""
    seats = CappedSet(db, spec)
    put(db, "a", cap=1, ended="yes")
    assert seats.join(1, {"id": "a"}, now=NOON).outcome is J.ALREADY
    assert seats.join(1, {"id": "b"}, now=NOON).outcome is J.CLOSED
    db.parties.update_one({"_id": 1}, {"$unset": {"ended": 1}})
    assert seats.join(1, {"id": "a"}, now=NOON).outcome is J.ALREADY
    assert seats.join(1, {"id": "b"}, now=NOON).outcome is (J.WAITING if spec.waiting else J.FULL)
    for member in ("a", "b"):
        db.parties.update_one({"_id": 1}, {"$set": {"ended": "yes"}})
        assert bool(seats.leave(1, member, now=NOON)) is (member == "a" or bool(spec.waiting))


# Documents that the first join makes -------------------------------------------------------------------------


@every_spec
def test_the_first_join_makes_the_document(db: Any, commands: Any, spec: CappedSetSpec) -> None:
    """With create= the first member makes the document, with those fields as they are; the second finds it."""
    seats = CappedSet(db, replace(spec, create={"kind": "$kind", "a": {"t": "$$NOW"}, "cap": 2.0}))
    commands.clear()
    joined = seats.join("p", {"id": "x", "n": 1}, now=NOON)
    assert commands.names == ["findAndModify"]
    member = {"id": "x", "n": 1, **({"expires_at": NOON + TTL} if spec.member_ttl else {})}
    assert (joined.outcome, joined.size, joined.cap, joined.member) == (J.JOINED, 1, 2, member)
    assert joined.leader == ("x" if spec.leader else None)
    parts = {**({"host": "x"} if spec.leader else {}), **({"line": []} if spec.waiting else {})}
    assert stored(db, "p") == {
        "_id": "p",
        "kind": "$kind",
        "cap": 2.0,
        "a": {"t": "$$NOW", "seats": [member], **parts},
    }
    second = seats.join("p", {"id": "y"}, now=NOON)
    assert (second.outcome, second.size) == (J.JOINED, 2)
    assert not seats.join("p", {"id": "z"}, now=NOON)
    assert seats.leave("q", "x", now=NOON).outcome is L.NOT_FOUND
    assert seats.update("q", "x", {"n": 2}, now=NOON).outcome is M.NOT_FOUND
    assert db.parties.count_documents({}) == 1, "only joining makes a document"


@every_spec
def test_a_race_to_make_the_document_makes_one(db: Any, spec: CappedSetSpec) -> None:
    """Fifty who join a set that is not there yet make it once; as many are in as it has seats, and nobody else."""
    seats = CappedSet(db, replace(spec, create={"kind": "new"}, cap=20))
    report = race_threads(lambda index: seats.join("p", {"id": index}, now=NOON), times=50, concurrency=50)
    report.raise_errors()
    joined = {call.member["id"] for call in report.outcomes if call.member and call.outcome is J.JOINED}
    assert len(joined) == report.count(bool) == 20
    document = stored(db, "p")
    assert document["kind"] == "new"
    assert {member["id"] for member in document["a"]["seats"]} == joined
    assert db.parties.count_documents({}) == 1


@pytest.mark.parametrize("base", [PLAIN, RICH], ids=["plain", "rich"])
@pytest.mark.parametrize("whole", [True, False])
def test_another_key_field_races_without_false_refusals(db: Any, base: Any, whole: bool) -> None:
    """With a unique index on a nested key field, too, the document is made once, and found by everybody."""
    spec = replace(base, key_field="room.code", create={"kind": "$x", "cap": 9}, cap=Field("cap"))
    (index,) = spec.indexes()
    db.parties.create_index(index.keys, **index.options)
    seats = CappedSet(db, spec)
    for key in ("p", 5, {"x": 1, "y": "$z"}, NOON):
        report = race_threads(
            lambda number, key=key: seats.join(key, {"id": number}, document=whole, now=NOON), times=30, concurrency=15
        )
        report.raise_errors()
        assert report.count(bool) == 9
        (document,) = db.parties.find({}).to_list(None)
        assert (document["kind"], len(document["a"]["seats"])) == ("$x", 9)
        assert {outcome.cap for outcome in report.outcomes} == {9}
        if whole:
            firsts = [outcome.document for outcome in report.outcomes if outcome and "_id" not in outcome.document]
            assert len(firsts) == 1, "who made the document is told all but the _id"
            assert firsts[0]["kind"] == "$x"
        db.parties.delete_many({})


@every_spec
def test_the_whole_document_is_told_if_asked_for(db: Any, spec: CappedSetSpec) -> None:
    """With document=True the verdict holds the document as it is after the call, made by it or not, refused or not."""
    seats = CappedSet(db, replace(spec, create={"cap": 1, "text": "$x"}))
    full = J.WAITING if spec.waiting else J.FULL
    for key in ("p", 7, ObjectId(), {"a": 1}, {"a": {"literal": "$b"}}):
        for member, outcome in (("a", J.JOINED), ("a", J.ALREADY), ("b", full)):
            told = seats.join(key, {"id": member}, document=True, now=NOON)
            assert told.outcome is outcome
            assert told.document == stored(db, key)
        db.parties.update_one({"_id": key}, {"$set": {"ended": True}})
        closed = seats.join(key, {"id": "c"}, document=True, now=NOON)
        assert (closed.outcome, closed.document) == (J.CLOSED, stored(db, key))
    absent = CappedSet(db, spec).join("other", {"id": "a"}, document=True, now=NOON)
    assert (absent.outcome, absent.document) == (J.NOT_FOUND, None)


@every_spec
@pytest.mark.parametrize("fresh", [True, False])
def test_a_member_is_told_as_it_is_stored(db: Any, spec: CappedSetSpec, fresh: bool) -> None:
    """The verdict's member equals what is read later: milliseconds, UTC, lists; in a new document and in an old one."""
    seats = CappedSet(db, replace(spec, create={}))
    if not fresh:
        put(db)
    precise = NOON + dt.timedelta(microseconds=123_456)
    zone = dt.timezone(dt.timedelta(hours=1))
    member = {"id": Int64(5), "at": precise.astimezone(zone), "naive": precise.replace(tzinfo=None), "t": (1, (2,))}
    joined = seats.join(1, member, now=precise)
    assert joined.outcome is J.JOINED
    assert [joined.member] == seats.members(1, now=NOON)
    assert joined.member is not None
    assert (joined.member["at"], joined.member["t"]) == (NOON + 123 * MS, [1, [2]])
    again = seats.join(1, member, now=precise)
    assert [again.member] == seats.members(1, now=NOON)


# Time --------------------------------------------------------------------------------------------------------


def test_a_seat_is_held_to_the_millisecond(db: Any) -> None:
    """A member has the seat until the time of expiry, and not at it; then the next takes it in one write."""
    seats = CappedSet(db, replace(TIMED, cap=1))
    put(db)
    first = seats.join(1, {"id": "a"}, now=NOON)
    assert first.member == {"id": "a", "expires_at": NOON + TTL}
    last = NOON + TTL - MS
    assert seats.join(1, {"id": "b"}, now=last).outcome is J.FULL
    assert [member["id"] for member in seats.members(1, now=last)] == ["a"]
    assert seats.update(1, "a", {"n": 1}, now=last)
    over = NOON + TTL
    assert seats.members(1, now=over) == []
    assert seats.update(1, "a", {"n": 2}, now=over).outcome is M.ABSENT
    assert seats.touch(1, "a", now=over).outcome is M.ABSENT
    assert seats.leave(1, "a", now=over).outcome is L.ABSENT
    assert seats.join(1, {"id": "b"}, now=over).outcome is J.JOINED
    assert seated(db) == ["b"]


def test_those_who_expired_go_in_the_write_that_needs_them_to(db: Any) -> None:
    """Expired members are evicted by whoever is seated or leaves, and by no call that changes nothing of the kind."""
    seats = CappedSet(db, replace(TIMED, cap=2, on_rejoin="keep"))
    put(db, "old", "older")
    late = NOON + TTL + SECOND
    before = raw(db)
    assert seats.leave(1, "ghost", now=late).outcome is L.ABSENT
    assert seats.touch(1, "old", now=late).outcome is M.ABSENT
    db.parties.update_one({"_id": 1}, {"$set": {"ended": 1}})
    assert seats.join(1, {"id": "a"}, now=late).outcome is J.CLOSED
    db.parties.update_one({"_id": 1}, {"$unset": {"ended": 1}})
    assert raw(db) == before
    joined = seats.join(1, {"id": "a"}, now=late)
    assert (joined.outcome, joined.size) == (J.JOINED, 1)
    assert seated(db) == ["a"]
    put(db, "old", "a")
    seats.touch(1, "a", now=NOON + SECOND)
    assert seats.update(1, "a", {"n": 1}, now=late - SECOND)
    assert seated(db) == ["old", "a"], "who changes a seat evicts nobody"
    left = seats.leave(1, "a", now=late - SECOND)
    assert (left.outcome, left.size) == (L.LEFT, 0)
    assert seated(db) == []


def test_touch_and_joining_again_renew_the_time(db: Any) -> None:
    """A heartbeat, or an ALREADY, gives the whole time again, from the moment of the call; update does not."""
    seats = CappedSet(db, TIMED)
    put(db)
    seats.join(1, {"id": "a"}, now=NOON)
    assert seats.touch(1, "a", now=NOON + 29 * SECOND).member == {"id": "a", "expires_at": NOON + 59 * SECOND}
    again = seats.join(1, {"id": "a", "ignored": 1}, now=NOON + 58 * SECOND)
    assert (again.outcome, again.member) == (J.ALREADY, {"id": "a", "expires_at": NOON + 88 * SECOND})
    kept = seats.update(1, "a", {"n": 1}, now=NOON + 80 * SECOND)
    assert kept.member == {"id": "a", "expires_at": NOON + 88 * SECOND, "n": 1}
    assert seats.members(1, now=NOON + 88 * SECOND - MS) == [kept.member]
    assert seats.size(1, now=NOON + 88 * SECOND) == 0


@pytest.mark.parametrize("how", ["keep", "merge"])
def test_who_comes_back_after_expiry_joins_anew(db: Any, how: Any) -> None:
    """A member who has expired joins again as anybody does: JOINED, with the new fields alone, at the end."""
    seats = CappedSet(db, replace(TIMED, on_rejoin=how))
    put(db)
    seats.join(1, {"id": "a", "old": 1}, now=NOON)
    seats.join(1, {"id": "b"}, now=NOON + SECOND)
    back = seats.join(1, {"id": "a", "new": 1}, now=NOON + TTL)
    assert (back.outcome, back.size) == (J.JOINED, 2)
    assert back.member == {"id": "a", "new": 1, "expires_at": NOON + 2 * TTL}
    assert seated(db) == ["b", "a"]


def test_members_without_a_time_stay(db: Any) -> None:
    """Where the time is missing, null or no date, the member never expires: such seats are somebody else's to end."""
    seats = CappedSet(db, replace(TIMED, cap=5))
    odd: list[Any] = [
        {"id": 1},
        {"id": 2, "expires_at": None},
        {"id": 3, "expires_at": "2020"},
        {"id": 4, "expires_at": 0},
    ]
    db.parties.insert_one({"_id": 1, "a": {"seats": odd}})
    assert [member["id"] for member in seats.members(1)] == [1, 2, 3, 4]
    joined = seats.join(1, {"id": 5}, now=NOON)
    assert (joined.outcome, joined.size) == (J.JOINED, 5)
    assert seats.join(1, {"id": 6}, now=NOON).outcome is J.FULL
    assert seats.touch(1, 3, now=NOON).member == {"id": 3, "expires_at": NOON + TTL}
    assert seats.join(1, {"id": 1}, now=NOON).member == {"id": 1, "expires_at": NOON + TTL}


def test_the_servers_clock_decides(db: Any) -> None:
    """Without now= a seat is dated by the server, whichever clock the client has."""
    seats = CappedSet(db, replace(TIMED, create={}))
    put(db)

    def server_time() -> dt.datetime:
        return db.command("hello")["localTime"].replace(tzinfo=UTC)

    for call in ("join", "join", "touch"):
        before = server_time()
        told: Any = seats.touch(1, "a") if call == "touch" else seats.join(1, {"id": "a"})
        assert before <= told.member["expires_at"] - TTL <= server_time()
    made = seats.join("new", {"id": "a"})
    document = stored(db, "new")
    assert made.member is not None
    assert abs(made.member["expires_at"] - document["a"]["seats"][0]["expires_at"]) < 60 * SECOND


@pytest.mark.parametrize("how", ["keep", "merge"])
@pytest.mark.parametrize("ttl", [None, 30])
def test_joining_again_keeps_or_merges_the_fields(db: Any, how: Any, ttl: Any) -> None:
    """With "keep" the fields of a member who joins again stay; with "merge" the new ones go over them, whole."""
    seats = CappedSet(db, replace(PLAIN, on_rejoin=how, member_ttl=ttl))
    put(db)
    seats.join(1, {"id": "z"}, now=NOON)
    seats.join(1, {"id": 1, "n": 1, "deep": {"x": 1}, "only": "$old"}, now=NOON)
    before = raw(db)
    again = seats.join(1, {"deep": {"y": 2}, "n": None, "id": 1.0, "a.b": 3}, now=NOON)
    kept = {"id": 1, "n": 1, "deep": {"x": 1}, "only": "$old"}
    merged = {"id": 1, "n": None, "deep": {"y": 2}, "only": "$old", "a.b": 3}
    assert again.outcome is J.ALREADY
    assert again.member is not None
    assert bare(again.member) == (kept if how == "keep" else merged)
    assert stored(db)["a"]["seats"][1] == again.member
    assert seated(db) == ["z", 1]
    assert (raw(db) == before) is (how == "keep")


# What is stored there already --------------------------------------------------------------------------------


@every_spec
def test_a_missing_or_null_array_is_an_empty_one(db: Any, spec: CappedSetSpec) -> None:
    """Where there is no array yet, nobody is in; the first join makes it, and whatever stands beside it stays."""
    seats = CappedSet(db, spec)
    places: list[Any] = [{}, {"a": None}, {"a": {}}, {"a": {"seats": None}}, {"a": {"seats": [], "x": 1}}]
    for fields in places:
        db.parties.delete_many({})
        db.parties.insert_one({"_id": 1, "text": "$x", **fields})
        before = raw(db)
        assert seats.members(1, now=NOON) == []
        assert seats.size(1, now=NOON) == 0
        left = seats.leave(1, "x", now=NOON)
        assert (left.outcome, left.size, left.leader, left.closed) == (L.ABSENT, 0, None, False)
        assert seats.update(1, "x", {"n": 1}, now=NOON).outcome is M.ABSENT
        assert raw(db) == before
        assert seats.join(1, {"id": "x"}, now=NOON).size == 1
        assert seated(db) == ["x"]
        document = stored(db)
        assert document["text"] == "$x"
        assert document["a"].get("x") == (fields.get("a") or {}).get("x")


WRONG = ["text", 5, True, {}, {"id": "a"}, NOON, b"x", Decimal128("1"), ObjectId()]
PLACES = [*(("a.seats", {"a": {"seats": wrong}}) for wrong in WRONG)]
PLACES += [*(("a", {"a": wrong}) for wrong in (*WRONG[:3], *WRONG[5:], [], [{"seats": []}]))]


@every_spec
def test_what_is_no_array_is_an_error_and_stays(db: Any, spec: CappedSetSpec) -> None:
    """A value of the wrong type, there or on the way there, raises a StateError that names it; nothing changes."""
    seats = CappedSet(db, spec)
    calls: list[Any] = [
        lambda: seats.join(1, {"id": "a"}, now=NOON),
        lambda: seats.join(1, {"id": "a"}, document=True, now=NOON),
        lambda: seats.join_many(1, [{"id": "a"}, {"id": "b"}], now=NOON),
        lambda: seats.leave(1, "a", now=NOON),
        lambda: seats.update(1, "a", {"n": 1}, now=NOON),
        lambda: seats.members(1, now=NOON),
        lambda: seats.size(1, now=NOON),
    ]
    if spec.member_ttl:
        calls.append(lambda: seats.touch(1, "a", now=NOON))
    for path, fields in PLACES:
        db.parties.delete_many({})
        db.parties.insert_one({"_id": 1, **fields})
        before = raw(db)
        for call in calls:
            with pytest.raises(StateError, match=r"in the document 1 of 'parties': expected an? ") as caught:
                call()
            assert (caught.value.collection, caught.value.key, caught.value.path) == ("parties", 1, path)
        assert raw(db) == before


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("l", {"l": 5}),
        ("l", {"l": [{"host": 1}]}),
        ("l.line", {"l": {"line": {"0": "x"}}}),
        ("l.line", {"l": {"line": "x"}}),
        ("c", {"c": "closed"}),
    ],
)
def test_whatever_is_written_leads_through_documents(db: Any, path: str, fields: Any) -> None:
    """The paths of leader, line and closing too: where they lead through no document, nothing is written."""
    spec = replace(RICH, leader=Leader("l.host"), waiting=Waiting("l.line"), close=Close(set_now=["ended", "c.d"]))
    seats = CappedSet(db, spec)
    put(db, "a", **fields)
    before = raw(db)
    calls = [lambda: seats.leave(1, "a", now=NOON)]
    if path != "c":  # (who joins closes nothing)
        calls.append(lambda: seats.join(1, {"id": "b"}, now=NOON))
    for call in calls:
        with pytest.raises(StateError) as caught:
            call()
        assert caught.value.path == path
    assert raw(db) == before


CLOSING = CappedSetSpec(
    "parties", path="m", member_key="id", cap=3, open_if={"meta.ended": None}, close=Close(set_now=["meta.ended"])
)


def test_a_plain_set_that_closes_below_another_document(db: Any) -> None:
    """A join tells what it stored wherever closing would write; the last one to leave closes there."""
    seats = CappedSet(db, CLOSING)
    db.parties.insert_one({"_id": 1})
    assert seats.join(1, {"id": "a"}).outcome is J.JOINED
    assert seats.join(1, {"id": "a"}).outcome is J.ALREADY
    assert seats.leave(1, "a").closed
    assert isinstance(stored(db)["meta"]["ended"], dt.datetime)
    assert seats.join(1, {"id": "a"}).outcome is J.CLOSED


@pytest.mark.parametrize("spec", [CLOSING, replace(CLOSING, member_ttl=30)], ids=["plain", "timed"])
def test_what_only_closing_writes_stands_in_nobody_s_way(db: Any, spec: CappedSetSpec) -> None:
    """Where closing would lead through text, all calls work but `leave`, which is the one that may close."""
    seats = CappedSet(db, replace(spec, open_if={"open": None, "meta.ended": None}))
    db.parties.insert_one({"_id": 1, "meta": "text", "m": [{"id": "a"}]})
    assert seats.join(1, {"id": "b"}).outcome is J.JOINED
    assert seats.join_many(1, [{"id": "c"}]).outcomes == (J.JOINED,)
    assert seats.size(1) == len(seats.members(1)) == 3
    assert seats.update(1, "a", {"n": 1})
    with pytest.raises(StateError) as caught:
        seats.leave(1, "a")
    assert caught.value.path == "meta"


def test_a_set_is_closed_once(db: Any) -> None:
    """Whoever leaves a set that was closed by other code leaves the time of that closing as it is."""
    seats = CappedSet(db, CLOSING)
    db.parties.insert_one({"_id": 1, "m": [{"id": "a"}], "meta": {"ended": "by hand"}})
    left = seats.leave(1, "a")
    assert (left.outcome, left.size, left.closed) == (L.LEFT, 0, False)
    assert stored(db)["meta"] == {"ended": "by hand"}


@pytest.mark.parametrize("spec", [PLAIN, RICH], ids=["plain", "rich"])
def test_a_collation_finds_members_equal(db: Any, spec: CappedSetSpec) -> None:
    """Where the collection's own collation says that two keys are one, they are one member: also among several."""
    collation = {"locale": "en", "strength": 2}
    db.create_collection("parties", collation=collation)
    for made in (False, True):
        seats = CappedSet(db, replace(spec, create={"ended": None} if made else None))
        db.parties.delete_many({})
        if not made:
            db.parties.insert_one({"_id": 1})
        told = seats.join_many(1, [{"id": "Bob"}, {"id": "ann"}, {"id": "BOB"}], all_or_none=False, now=NOON)
        assert (told.outcomes, told.size) == ((J.JOINED, J.JOINED, J.ALREADY), 2)
        assert [member["id"] for member in stored(db)["a"]["seats"]] == ["Bob", "ann"]
        assert seats.join(1, {"id": "ANN"}, now=NOON).outcome is J.ALREADY
        assert seats.leave(1, "bob", now=NOON).size == 1


def test_members_that_look_like_references_are_documents(db: Any) -> None:
    """A member with the names `$ref` and `$id` is told as the document that it is."""
    seats = CappedSet(db, replace(PLAIN, waiting=Waiting("a.line"), cap=1))
    put(db, line=None)
    odd = {"$ref": "users", "$id": 5, "id": "b"}
    assert seats.join(1, {"id": "a"}).outcome is J.JOINED
    assert seats.join(1, odd).outcome is J.WAITING
    assert seats.leave(1, "a").promoted == (odd,)
    assert seats.members(1) == [odd]
    assert seats.join(1, odd).member == odd


JUNK: list[Any] = [
    5,
    None,
    "a",
    True,
    [],
    ["a"],
    [{"id": "a"}],
    [[{"id": "a"}]],
    {},
    {"n": 1},
    {"id": None},
    {"Id": "a"},
]


@every_spec
def test_elements_that_are_no_members_are_left_alone(db: Any, spec: CappedSetSpec) -> None:
    """What has no key is nobody: it stays where it is, takes its seat, and is never matched, led by or read."""
    seats = CappedSet(db, replace(spec, cap=len(JUNK) + 2))
    db.parties.insert_one({"_id": 1, "a": {"seats": JUNK}})
    assert seats.size(1, now=NOON) == len(JUNK)
    assert seats.members(1, now=NOON) == [item for item in JUNK if isinstance(item, dict)]
    for member in ("a", "b"):
        joined = seats.join(1, {"id": member}, now=NOON)
        assert joined.outcome is J.JOINED
        assert joined.leader == ("a" if spec.leader else None)
    assert seats.join(1, {"id": "c"}, now=NOON).size == len(JUNK) + 2
    assert seats.join(1, {"id": "a"}, now=NOON).outcome is J.ALREADY
    assert seats.update(1, "b", {"n": 2}, now=NOON)
    assert seats.leave(1, "c", now=NOON) or not spec.waiting
    left = seats.leave(1, "a", now=NOON)
    assert (left.outcome, left.size) == (L.LEFT, len(JUNK) + 1)
    assert left.leader == ("b" if spec.leader else None)
    assert seats.leave(1, "b", now=NOON)
    assert stored(db)["a"]["seats"] == JUNK


def test_members_that_somebody_put_in_twice_are_one_to_every_call(db: Any) -> None:
    """A member whom a hand-written push has seated twice is changed and taken out as a whole."""
    seats = CappedSet(db, TIMED)
    put(db, "a", "b", "a")
    assert seats.join(1, {"id": "a"}, now=NOON).outcome is J.ALREADY
    assert seats.update(1, "a", {"n": 1}, now=NOON)
    assert [member.get("n") for member in seats.members(1, now=NOON)] == [1, None, 1]
    left = seats.leave(1, "a", now=NOON)
    assert (left.outcome, left.size) == (L.LEFT, 1)


# Values as data ----------------------------------------------------------------------------------------------

HOSTILE: list[Any] = ["$name", "$$NOW", "$$ROOT", "$a.seats", "", "a.b", "__proto__", "constructor", "{$gt: 1}", "ключ"]
HOSTILE += ["x" * 5000, {"u": "$id"}, {"d": {"gt": "$$NOW"}}, b"\0", 1.5, True, -(2**40), ObjectId(), NOON, {}]


@every_spec
def test_any_value_is_a_key_and_nothing_but_itself(db: Any, spec: CappedSetSpec) -> None:
    """Keys that look like paths, variables and operators, of documents and members, are stored as themselves."""
    seats = CappedSet(db, replace(spec, create={}))
    for key in HOSTILE:
        put(db, "other")
        assert seats.join(key, {"id": key, "n": 1}, now=NOON).outcome is J.JOINED
        assert seats.join(key, {"id": key}, now=NOON).outcome is J.ALREADY
        assert seats.update(key, key, {"n": 2}, now=NOON).outcome is M.UPDATED
        (member,) = seats.members(key, now=NOON)
        assert bare(member) == {"id": key, "n": 2}
        assert isinstance(member["id"], bool) is isinstance(key, bool)
        document = stored(db, key)
        assert (document["_id"], document["a"]["seats"]) == (key, [member])
        assert not spec.leader or document["a"]["host"] == key
        assert seats.leave(key, key, now=NOON).outcome is L.LEFT
        assert seated(db) == ["other"]
        assert db.parties.count_documents({}) == 2


NAMES: dict[str, Any] = {
    "$x": 1,
    "a.b": {"c.d": "$e"},
    "": 0,
    "$$NOW": "$$NOW",
    "__proto__": {"$gt": 1},
    "0": [],
    ".": ".",
}
NAMES |= {"$literal": {"$add": [1, 2]}, "$ref": 5, "$id": "$id", "_id": {"$oid": "x"}, "$": None, "ключ": ["$$ROOT"]}


@every_spec
def test_fields_of_members_are_data_by_name_and_by_value(db: Any, spec: CappedSetSpec) -> None:
    """Names with `$` and dots, and values that look like operators, are stored as themselves by join and by update."""
    seats = CappedSet(db, spec)
    put(db)
    joined = seats.join(1, {"id": "a", **NAMES}, now=NOON)
    assert joined.member is not None
    assert bare(joined.member) == {"id": "a", **NAMES}
    assert seats.join(1, {"id": "b"}, now=NOON)
    updated = seats.update(1, "b", NAMES, now=NOON)
    assert updated.member is not None
    assert bare(updated.member) == {"id": "b", **NAMES}
    again = seats.join(1, {"id": "b", "$x": 2, "a.b": 3}, now=NOON)
    assert again.member is not None
    changed = {"$x": 2, "a.b": 3} if spec.on_rejoin == "merge" else {}
    assert bare(again.member) == {"id": "b", **NAMES, **changed}
    assert [bare(one) for one in stored(db)["a"]["seats"]] == [{"id": "a", **NAMES}, bare(again.member)]


@pytest.mark.parametrize("name", ["a b", "ключ", "a$b", "__proto__", "0", "_id", "this", "x" * 200, "{$gt}"])
def test_names_of_the_spec_are_names(db: Any, name: str) -> None:
    """Odd names of the member key, the time, and of every path are stored as themselves."""
    spec = CappedSetSpec(
        "parties",
        path=f"p.{name} s",
        member_key=name,
        cap=Field(f"c.{name}", default=1),
        open_if={f"o.{name}": None},
        member_ttl=30,
        ttl_field=f"{name} t",
        leader=Leader(f"l.{name}", sort=[(name, 1)]),
        waiting=Waiting(f"w.{name}"),
        close=Close(set={f"o.{name}": "$$NOW"}, set_now=[f"t.{name}"]),
        create={},
    )
    seats = CappedSet(db, spec)
    assert seats.join(1, {name: "a"}, now=NOON).leader == "a"
    assert seats.join(1, {name: "b"}, now=NOON).position == 1
    assert seats.touch(1, "a", now=NOON)
    left = seats.leave(1, "a", now=NOON)
    assert left.promoted == ({name: "b", f"{name} t": NOON + TTL},)
    assert seats.leave(1, "b", now=NOON).closed
    assert seats.join(1, {name: "c"}, now=NOON).outcome is J.CLOSED
    assert stored(db) == {
        "_id": 1,
        "p": {f"{name} s": []},
        "l": {name: None},
        "w": {name: []},
        "o": {name: "$$NOW"},
        "t": {name: NOON},
    }


@every_spec
def test_numbers_that_are_equal_are_one_member(db: Any, spec: CappedSetSpec) -> None:
    """1, 1.0 and Decimal128("1") are one member, and True is another; so are documents of them."""
    seats = CappedSet(db, replace(spec, cap=9))
    put(db)
    ones = [1, 1.0, Int64(1), Decimal128("1"), Decimal128("1.00")]
    told = [seats.join(1, {"id": one}, now=NOON).outcome for one in (*ones, True, "1", {"n": 1}, {"n": 1.0})]
    assert told == [J.JOINED, *[J.ALREADY] * 4, J.JOINED, J.JOINED, J.JOINED, J.ALREADY]
    assert seats.update(1, Decimal128("1.0"), {"x": 1}, now=NOON).outcome is M.UPDATED
    assert seats.leave(1, 1.0, now=NOON).outcome is L.LEFT
    assert seated(db) == [True, "1", {"n": 1}]


def test_uuids_follow_the_callers_own_representation(db: Any) -> None:
    """A member's UUID is stored as the collection that was handed in stores UUIDs, and is found again."""
    key = uuid.uuid4()
    options: CodecOptions[Any] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
    seats = CappedSet(db.get_collection("parties", codec_options=options), replace(TIMED, create={}))
    for outcome in (J.JOINED, J.ALREADY):
        joined = seats.join(key, {"id": key})
        assert joined.outcome is outcome
        assert joined.member is not None
        assert joined.member["id"] == key
    assert db.parties.find_one()["a"]["seats"][0]["id"] == Binary.from_uuid(key)
    with pytest.raises(UsageError, match=r"^member: cannot be stored"):
        CappedSet(db, TIMED).join(1, {"id": "a", "uuid": key})


def test_key_type_turns_text_into_object_ids(db: Any) -> None:
    """With key_type=ObjectId an id as text finds the same document, and other text is refused."""
    seats = CappedSet(db, replace(PLAIN, key_type=ObjectId, create={}))
    key = ObjectId()
    assert seats.join(str(key), {"id": "a"}).key == key
    assert seats.join(key, {"id": "a"}).outcome is J.ALREADY
    assert seats.size(str(key)) == 1
    with pytest.raises(UsageError, match="not an ObjectId"):
        seats.leave("party", "a")


# Sizes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [PLAIN, TIMED, RICH], ids=["plain", "timed", "rich"])
def test_a_large_document_does_not_travel(db: Any, commands: Any, spec: CappedSetSpec) -> None:
    """Replies hold the verdict, not the megabyte that stands beside the set, nor the other members."""
    seats = CappedSet(db, replace(spec, cap=2000, create={}))
    put(db, *range(1000), blob=bytes(1_000_000))
    db.parties.update_one({"_id": 1}, {"$set": {"a.seats.$[].text": "x" * 200}})
    commands.clear()
    for member in ("new", "new", 5):
        assert seats.join(1, {"id": member}, now=NOON)
    assert seats.join_many(1, [{"id": "more"}, {"id": 6}], now=NOON)
    assert seats.update(1, "new", {"n": 1}, now=NOON)
    assert seats.leave(1, "new", now=NOON)
    if spec.member_ttl:
        assert seats.touch(1, 5, now=NOON)
    assert seats.size(1, now=NOON) == 1001
    assert max(commands.reply_bytes) < 2000
    assert sum(name == "findAndModify" for name in commands.names) == len(commands.names) - 1


@pytest.mark.parametrize("spec", [PLAIN, TIMED, RICH], ids=["plain", "timed", "rich"])
def test_a_document_of_nearly_16_mb_is_told_plainly(db: Any, spec: CappedSetSpec) -> None:
    """Where the server could not store the result, a StateError says so before it does; the document stays."""
    seats = CappedSet(db, replace(spec, cap=9))
    late = NOON + SECOND
    near(db, 20, "a", "b")
    before = raw(db)
    calls: list[Any] = [
        lambda: seats.join(1, {"id": "c"}, now=late),
        lambda: seats.join_many(1, [{"id": "c"}, {"id": "d"}], now=late),
        lambda: seats.update(1, "a", {"text": "x" * 100}, now=late),
    ]
    if spec.on_rejoin == "merge":
        calls.append(lambda: seats.join(1, {"id": "a", "more": 1}, now=late))
    for call in calls:
        with pytest.raises(StateError, match=r"'a\.seats' in the document 1 of 'parties': .*16 MB") as caught:
            call()
        assert not may_have_applied(caught.value)
    assert raw(db) == before
    assert seats.leave(1, "x", now=late).outcome is L.ABSENT
    assert seats.size(1, now=late) == 2
    if spec.on_rejoin == "keep" and not spec.member_ttl:
        assert seats.join(1, {"id": "a"}, now=late).outcome is J.ALREADY, "it writes nothing"
    assert seats.leave(1, "a", now=late)
    if not spec.leader:
        assert seated(db) == ["b"]


@pytest.mark.parametrize("spec", [PLAIN, TIMED, RICH], ids=["plain", "timed", "rich"])
def test_a_full_or_closed_set_says_so_however_large_the_document_is(db: Any, spec: CappedSetSpec) -> None:
    """A call that would write nothing in any case needs no room: FULL and CLOSED are told as ever."""
    seats = CappedSet(db, replace(spec, cap=2, waiting=None))
    near(db, 5, "a", "b", cap=2)
    assert seats.join(1, {"id": "c"}, now=NOON).outcome is J.FULL
    assert (
        CappedSet(db, replace(spec, open_if={"x0": None}, close=None)).join(1, {"id": "c"}, now=NOON).outcome
        is J.CLOSED
    )


def test_a_time_that_cannot_be_renewed_is_not_told_as_renewed(db: Any) -> None:
    """Without room for more, touch renews a member's time in its place; a join says that it cannot, closed or not."""
    seats = CappedSet(db, TIMED)
    near(db, 0, "a", ended="yes")
    assert seats.touch(1, "a", now=NOON + SECOND).member == {"id": "a", "expires_at": NOON + SECOND + TTL}
    before = raw(db)
    with pytest.raises(StateError, match="16 MB"):
        seats.join(1, {"id": "a"}, now=NOON + 2 * SECOND)
    assert raw(db) == before
    near(db, 0, {"id": "a"})
    with pytest.raises(StateError, match="16 MB"):
        seats.touch(1, "a", now=NOON)


@pytest.mark.parametrize("spec", [PLAIN, TIMED, RICH], ids=["plain", "timed", "rich"])
def test_the_room_that_is_there_can_be_used(db: Any, spec: CappedSetSpec) -> None:
    """A few hundred bytes below the limit a member still joins: nobody is refused who fits by more than that."""
    seats = CappedSet(db, replace(spec, cap=9))
    near(db, 300, "a")
    assert seats.join(1, {"id": "b"}, now=NOON).outcome is J.JOINED
    assert seated(db) == ["a", "b"]


def test_what_fits_into_no_document_makes_none(db: Any, commands: Any) -> None:
    """A member of 16 MB is refused before anything is sent; one of 9 MB is stored, leader or not."""
    seats = CappedSet(db, replace(LED, create={}))
    commands.clear()
    with pytest.raises(UsageError, match="16 MB"):
        seats.join("p", {"id": "a", "blob": bytes(LARGEST)})
    assert commands.names == []
    assert seats.join("p", {"id": "a", "blob": bytes(9_000_000)}).outcome is J.JOINED
    assert [len(member["blob"]) for member in seats.members("p")] == [9_000_000]


# Refused calls -----------------------------------------------------------------------------------------------


@every_spec
def test_a_refused_call_writes_nothing(client: Any, db: Any, spec: CappedSetSpec) -> None:
    """FULL, CLOSED, ABSENT and NOT_FOUND leave every byte as it was, make no document, and are not in the oplog."""
    seats = CappedSet(db, replace(spec, waiting=None, cap=1, create=None))
    made = CappedSet(db, replace(spec, waiting=None, cap=1, create={}))
    put(db, "a", spare={"z": 1, "b": [None]})
    db.parties.insert_many([{"_id": 2, "ended": 1}, {"_id": 3, "a": {"seats": [{"id": "b"}]}, "ended": 1}])
    oplog = client.local["oplog.rs"]
    mine = {"ns": f"{db.name}.parties"}
    logged, before = oplog.count_documents(mine), raw(db)
    assert logged
    pair = [{"id": "x"}, {"id": "y"}]
    for key, outcome in ((1, J.FULL), (2, J.CLOSED), (3, J.CLOSED), (4, J.NOT_FOUND)):
        assert seats.join(key, pair[0], now=NOON).outcome is outcome
        assert seats.join(key, pair[0], document=True, now=NOON).outcome is outcome
        assert seats.join_many(key, pair, now=NOON).outcomes == (outcome, outcome)
        assert seats.join_many(key, pair, all_or_none=False, now=NOON).outcomes == (outcome, outcome)
        assert not seats.leave(key, "x", now=NOON)
        assert not seats.update(key, "x", {"n": 1}, now=NOON)
    assert made.join_many(4, pair, now=NOON).outcomes == (J.FULL, J.FULL)
    assert not made.leave(4, "x", now=NOON)
    assert not made.update(4, "x", {"n": 1}, now=NOON)
    if not made._plan._pipeline.renews:
        assert seats.join(1, {"id": "a", "n": 5}, now=NOON).outcome is J.ALREADY
    assert raw(db) == before
    assert oplog.count_documents(mine) == logged


@pytest.mark.parametrize(
    "member", [None, {}, {"name": "Ann"}, {"id": None}, {"id": {"$gt": 1}}, {"id": "a", "x": object()}]
)
def test_bad_members_are_refused_before_anything_is_sent(db: Any, commands: Any, member: Any) -> None:
    """A member without its key, or one that cannot be stored, raises a UsageError; no command leaves."""
    seats = CappedSet(db, TIMED)
    with pytest.raises(UsageError, match=r"^member"):
        seats.join(1, member)
    with pytest.raises(UsageError, match=r"^members"):
        seats.join_many(1, [member])
    for call in (
        lambda: seats.join(None, {"id": "a"}),
        lambda: seats.leave(1, None),
        lambda: seats.touch(1, ["a"]),
        lambda: seats.members({"$gt": 1}),
    ):
        with pytest.raises(UsageError, match=r"^(key|member)"):
            call()
    assert commands.names == []


# Readers -----------------------------------------------------------------------------------------------------


class Guest(pydantic.BaseModel):
    id: ObjectIdStr
    name: str = "nobody"


@dataclass
class Player:
    id: ObjectId
    name: str = "nobody"
    expires_at: dt.datetime | None = None


class Row(TypedDict, total=False):
    id: ObjectId
    name: str
    expires_at: dt.datetime


def test_members_are_given_as_the_callers_own_type(db: Any) -> None:
    """model= takes a Pydantic model, a dataclass or a typed dict; ids can be text; what does not fit raises."""
    seats = CappedSet(db, replace(TIMED, create={}))
    ann, bob = ObjectId(), ObjectId()
    seats.join(1, {"id": ann, "name": "Ann"}, now=NOON)
    seats.join(1, {"id": bob}, now=NOON)
    guests = seats.members(1, model=Guest, now=NOON)
    assert guests == [Guest(id=ObjectIdStr(ann), name="Ann"), Guest(id=ObjectIdStr(bob))]
    assert guests[0].id == str(ann)
    config: Any = {"arbitrary_types_allowed": True}
    Player.__pydantic_config__ = config  # type: ignore[attr-defined]
    Row.__pydantic_config__ = config  # type: ignore[attr-defined]
    players = seats.members(1, model=Player, now=NOON)
    assert players == [Player(ann, "Ann", NOON + TTL), Player(bob, "nobody", NOON + TTL)]
    rows = seats.members(1, model=Row, now=NOON)
    assert rows[1] == {"id": bob, "expires_at": NOON + TTL}
    seats.update(1, bob, {"name": 5}, now=NOON)
    with pytest.raises(pydantic.ValidationError):
        seats.members(1, model=Guest, now=NOON)
    with pytest.raises(UsageError, match=r"^model: "):
        seats.members(1, model=object(), now=NOON)  # type: ignore[call-overload]


def test_what_the_server_tells_and_what_read_tells_are_the_same(db: Any) -> None:
    """spec.read of the whole document gives what members gives, at any time."""
    seats = CappedSet(db, replace(TIMED, cap=99, create={}))
    for number in range(5):
        seats.join(1, {"id": number}, now=NOON + number * SECOND)
    db.parties.update_one({"_id": 1}, {"$push": {"a.seats": {"$each": JUNK}}})
    document = db.parties.find_one()
    for seconds in range(-1, 40):
        now = NOON + seconds * SECOND
        assert seats.spec.read(document, now=now) == seats.members(1, now=now)


# Sessions, time, options -------------------------------------------------------------------------------------


@every_spec
def test_calls_take_part_in_a_transaction(client: Any, db: Any, spec: CappedSetSpec) -> None:
    """With session= an aborted transaction takes everything with it, and a committed one keeps it."""
    seats = CappedSet(db, replace(spec, cap=2))
    put(db, "a")
    before = raw(db)
    with settle(client.start_session()) as session:
        for commits in (False, True):
            settle(session.start_transaction())
            assert seats.join(1, {"id": "b"}, session=session, now=NOON).outcome is J.JOINED
            assert not seats.join(1, {"id": "c"}, session=session, now=NOON)
            assert seats.update(1, "b", {"n": 1}, session=session, now=NOON)
            assert seats.leave(1, "a", session=session, now=NOON)
            assert seats.size(1, session=session, now=NOON) == (2 if spec.waiting else 1)
            assert seats.size(1, now=NOON) == 1, "others do not see it yet"
            if commits:
                session.commit_transaction()
            else:
                session.abort_transaction()
                assert raw(db) == before
    assert seated(db) == (["b", "c"] if spec.waiting else ["b"])


def test_timeout_bounds_the_whole_call(db: Any, mongopatterns_server: Any) -> None:
    """A server that does not answer in time raises the driver's timeout, and the outcome is unknown."""
    seats = CappedSet(db, PLAIN)
    put(db)
    block = {"failCommands": ["findAndModify"], "blockConnection": True, "blockTimeMS": 3000}
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=block),
        pytest.raises((NetworkTimeout, ExecutionTimeout)) as caught,
    ):
        seats.join(1, {"id": "a"}, timeout=0.3)
    assert may_have_applied(caught.value)


@pytest.mark.parametrize("timeout", [0, float("nan"), "1"])
def test_bad_timeouts_are_refused(db: Any, commands: Any, timeout: Any) -> None:
    """A timeout that is no positive number of seconds raises a UsageError that names it."""
    seats = CappedSet(db, TIMED)
    for call in (
        lambda: seats.join(1, {"id": "a"}, timeout=timeout),
        lambda: seats.join_many(1, [{"id": "a"}], timeout=timeout),
        lambda: seats.leave(1, "a", timeout=timeout),
        lambda: seats.touch(1, "a", timeout=timeout),
        lambda: seats.update(1, "a", {"n": 1}, timeout=timeout),
        lambda: seats.members(1, timeout=timeout),
        lambda: seats.size(1, timeout=timeout),
    ):
        with pytest.raises(UsageError, match=r"^timeout: "):
            call()
    assert commands.names == []


def test_the_options_of_the_collection_do_not_matter(db: Any, commands: Any) -> None:
    """Majority and plain replies whatever options the collection came with; durability= relaxes it openly."""
    options: CodecOptions[Any] = CodecOptions(document_class=SON)
    odd = db.get_collection("odd", codec_options=options, write_concern=WriteConcern(w=0))
    spec = replace(TIMED, create={})
    assert type(CappedSet(odd, spec).join(1, {"id": "a"}).member) is dict
    assert commands.sent[-1][1]["writeConcern"] == {"w": "majority"}
    joined = CappedSet(odd, spec, durability=Durability.FAST).join(1, {"id": "b"}, document=True)
    assert type(joined.document) is dict
    assert commands.sent[-1][1]["writeConcern"] == {"w": 1}
    assert joined.member is not None
    assert joined.member["expires_at"].utcoffset() == dt.timedelta(0)


def test_what_is_no_database_is_refused(clients: Any) -> None:
    """A client, or something else that is no database or collection, raises a UsageError that names the target."""
    for target in (clients["pymongo"], None, "db", object()):
        with pytest.raises(UsageError, match=r"^target: expected a database or a collection"):
            CappedSet(target, PLAIN)


def test_explain_shows_what_is_sent(db: Any, commands: Any) -> None:
    """explain() prints the command that join sends, and sends nothing."""
    for spec in (PLAIN, replace(RICH, create={})):
        seats = CappedSet(db, spec)
        commands.clear()
        shown = seats.explain("p", {"id": "a", "x": "$y"})
        assert commands.names == []
        seats.join("p", {"id": "a", "x": "$y"})
        ((_, sent),) = commands.sent
        assert shown["filter"] == sent["query"]
        assert bson.encode({"": shown["update"]}) == bson.encode({"": sent["update"]})
        assert bson.encode(shown["projection"]) == bson.encode(sent["fields"])
        assert shown["let"] == sent["let"]
