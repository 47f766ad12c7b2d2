# Generated from tests/aio/test_unique_code.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""What unique codes promise, on a real server."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from bson import DatetimeMS, Int64, ObjectId, Regex, encode
from pymongo.errors import DocumentTooLarge, DuplicateKeyError, ExecutionTimeout, NetworkTimeout, OperationFailure

from mongopatterns import (
    Conflict,
    DocumentNotFound,
    Durability,
    StateError,
    UniqueCode,
    UniqueCodeSpec,
    UsageError,
    may_have_applied,
)
from mongopatterns._driver_sync import settle
from mongopatterns.testing import race_threads

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)

PARTIES = UniqueCodeSpec("parties", path="room_code", live={"ended_at": None})
TINY = UniqueCodeSpec("parties", path="room_code", live={"ended_at": None}, length=3, alphabet="ABCD", tries=100)
ALL_TINY = {a + b + c for a in "ABCD" for b in "ABCD" for c in "ABCD"}
DEEP = UniqueCodeSpec("parties", path="meta.code", live={"state.open": True, "kind": "$x"}, key_field="slug")


def bound(db: Any, spec: UniqueCodeSpec = PARTIES, **options: Any) -> UniqueCode:
    """Bind a spec whose indexes exist."""
    for index in spec.indexes():
        db[spec.collection].create_index(index.keys, **index.options)
    return UniqueCode(db, spec, **options)


# Inserted ----------------------------------------------------------------------------------------------------


def test_a_document_is_stored_with_a_code(db: Any) -> None:
    """Insert returns what is stored: the caller's fields, an `_id`, and a code of the spec's length and alphabet."""
    codes = bound(db)
    given = {"name": "$name", "guests": [1, {"a": 2}]}
    party = codes.insert(given)
    assert given == {"name": "$name", "guests": [1, {"a": 2}]}
    assert set(party) == {"_id", "name", "guests", "room_code"}
    assert isinstance(party["_id"], ObjectId)
    assert len(party["room_code"]) == 6
    assert set(party["room_code"]) <= set(PARTIES.alphabet)
    assert db.parties.find_one() == party
    assert codes.insert({"_id": "mine", "room_code": None})["_id"] == "mine"


def test_insert_tells_what_a_read_would(db: Any) -> None:
    """Tuples are lists, and dates are aware and have milliseconds: what is told is what `find` gives."""
    codes = bound(db)
    party = codes.insert({"at": NOON + dt.timedelta(microseconds=1999), "pair": (1, ("$x",)), "a.b": {"$c": 1}})
    assert (party["at"], party["pair"]) == (NOON + dt.timedelta(microseconds=1000), [1, ["$x"]])
    found = codes.find(party["room_code"])
    assert found is not None
    assert encode(found) == encode(party)
    assert found == party


def test_insert_stores_a_date_of_any_year(db: Any) -> None:
    """A date that Python cannot hold is stored as it is, and told as `find` gives it: the nearest that Python can."""
    codes = bound(db)
    for date in (10**15, -(10**15)):
        party = codes.insert({"until": DatetimeMS(date)})
        query = {"_id": party["_id"], "$expr": {"$eq": [{"$toLong": "$until"}, date]}}
        assert db.parties.count_documents(query) == 1
        assert codes.find(party["room_code"]) == party


def test_a_document_past_16_mb_is_the_drivers_to_refuse(db: Any) -> None:
    """The driver does not send it: its error says so, and nothing is stored."""
    codes = bound(db)
    with pytest.raises(DocumentTooLarge) as caught:
        codes.insert({"big": "x" * (17 * 2**20)})
    assert not may_have_applied(caught.value)
    assert db.parties.count_documents({}) == 0


def test_a_code_has_any_place_and_letters(db: Any) -> None:
    """A dotted path, letters beyond ASCII, and conditions on other paths work; fields beside the code stay."""
    spec = UniqueCodeSpec("parties", path="meta.code", live={"a.b": None, "on": True}, alphabet="äöü🎉", length=4)
    codes = bound(db, spec)
    party = codes.insert({"meta": {"x": 1}, "on": True, "a": None})
    assert party["meta"]["x"] == 1
    assert set(party["meta"]["code"]) <= set("äöü🎉")
    assert codes.find(party["meta"]["code"]) == party
    party = codes.insert({"on": True, "meta": None})
    assert db.parties.find_one({"_id": party["_id"]}) == party


@pytest.mark.parametrize("code", ["my-slug", "$name", "a.b", "$$NOW", "ключ 🎉", "x" * 200, "{$gt: 1}"])
def test_a_code_of_ones_own(db: Any, code: str) -> None:
    """A code that the caller wants is stored as it is, or is a Conflict if another live document has it."""
    codes = bound(db)
    first = codes.insert({"n": 1}, code=code)
    second = codes.insert({"n": 2})["_id"]
    third = db.parties.insert_one({"ended_at": None}).inserted_id
    assert codes.assign(first["_id"], code=code) == code
    with pytest.raises(Conflict, match="is taken") as caught:
        codes.insert({"n": 3}, code=code)
    assert caught.value.key == code
    with pytest.raises(Conflict, match="already") as caught:
        codes.assign(second, code=code)
    assert caught.value.key == second
    with pytest.raises(Conflict, match="is taken") as caught:
        codes.assign(third, code=code)
    assert caught.value.key == code
    assert codes.find(code) == first
    assert db.parties.count_documents({"room_code": {"$exists": True}}) == 2


def test_documents_without_a_code_of_their_own_are_refused(db: Any, commands: Any) -> None:
    """A document that has a code already, or is not live, is a UsageError; nothing is sent."""
    codes = UniqueCode(db, PARTIES)
    for wrong in ({"room_code": "X"}, {"ended_at": NOON}, [], None):
        with pytest.raises(UsageError, match=r"^document: "):
            codes.insert(wrong)  # type: ignore[arg-type]
    for bad in (object(), {1: 2}, {"a\0": 1}, 2**70):
        with pytest.raises(UsageError, match=r"^document: cannot be stored"):
            codes.insert({"x": bad})
    for bad in (None, [1], {"$x": 1}, Regex("x")):
        with pytest.raises(UsageError, match=r"^document\._id"):
            codes.insert({"_id": bad})
    for bad in ("", 5, "a\n"):
        with pytest.raises(UsageError, match=r"^code: "):
            codes.insert({}, code=bad)  # type: ignore[arg-type]
    assert commands.names == []


def test_another_unique_index_speaks_for_itself(db: Any, commands: Any) -> None:
    """A duplicate that is not the code's raises the driver's error at once, and stores nothing."""
    codes = bound(db)
    db.parties.create_index("slug", unique=True, sparse=True)
    codes.insert({"_id": 1, "slug": "a"})
    commands.clear()
    for document in ({"_id": 1, "slug": "b"}, {"_id": 2, "slug": "a"}):
        with pytest.raises(DuplicateKeyError) as caught:
            codes.insert(document)
        assert not may_have_applied(caught.value)
    assert commands.names == ["insert"] * 2
    assert db.parties.count_documents({}) == 1


def test_a_taken_code_costs_one_more_try(db: Any, commands: Any) -> None:
    """Each code that is taken is followed by another one, by as many as the spec says, and then by a Conflict."""
    codes = bound(db, TINY)
    db.parties.insert_many([{"room_code": code} for code in ALL_TINY - {"ABC"}])
    commands.clear()
    wider = UniqueCodeSpec("parties", path="room_code", live={"ended_at": None}, length=3, alphabet="ABCD", tries=7)
    drawn = ["AAA", "BBB", "ABC", *["DDD"] * 20]
    trying = UniqueCode(db, wider)
    trying._draw = lambda: drawn.pop(0)  # type: ignore[method-assign]
    assert trying.insert({"n": 1})["room_code"] == "ABC"
    assert commands.names == ["insert"] * 3
    commands.clear()
    with pytest.raises(Conflict, match=r"all of 7 random codes are taken: of 64 codes more than 65% are likely in use"):
        trying.insert({"n": 2})
    assert commands.names == ["insert"] * 7
    party = db.parties.insert_one({"n": 3}).inserted_id
    commands.clear()
    with pytest.raises(Conflict, match="all of 7") as caught:
        trying.assign(party)
    assert caught.value.key == "DDD"
    assert commands.names == ["findAndModify"] * 7
    assert db.parties.find_one({"_id": party}) == {"_id": party, "n": 3}
    with pytest.raises(Conflict):
        codes.insert({})


# Assigned ----------------------------------------------------------------------------------------------------


def test_a_document_gets_a_code_once(db: Any) -> None:
    """Assign gives a code to a document that has none, keeps its other fields, and returns the same one ever after."""
    codes = bound(db)
    for party in ({"_id": 1, "name": "$x"}, {"_id": 2, "room_code": None, "ended_at": None}):
        db.parties.insert_one(party)
        code = codes.assign(party["_id"])
        assert len(code) == 6
        assert [codes.assign(party["_id"]) for _ in range(3)] == [code] * 3
        assert db.parties.find_one({"_id": party["_id"]}) == {**party, "room_code": code}
    with pytest.raises(DocumentNotFound, match="'ghost'"):
        codes.assign("ghost")
    assert db.parties.count_documents({}) == 2


def test_documents_are_found_by_the_key_field(db: Any) -> None:
    """A key field of one's own, ids as text, and places below other documents work."""
    codes = bound(db, DEEP)
    live = {"state": {"open": True}, "kind": "$x"}
    for meta in ({}, {"meta": None}, {"meta": {"a": 1}}):
        key = f"party {meta}"
        db.parties.insert_one({"slug": key, **live, **meta})
        code = codes.assign(key)
        stored = db.parties.find_one({"slug": key})
        assert stored["meta"] == {**(meta.get("meta") or {}), "code": code}
        assert codes.find(code) == stored
    typed = bound(db, UniqueCodeSpec("typed", path="code", key_type=ObjectId))
    key = db.typed.insert_one({}).inserted_id
    assert typed.assign(str(key)) == typed.assign(key)
    with pytest.raises(UsageError, match="not an ObjectId"):
        typed.assign("alice")


@pytest.mark.parametrize(
    "party",
    [
        {"state": {"open": False}, "kind": "$x"},
        {"state": {"open": 1}, "kind": "$x"},
        {"state": {}, "kind": "$x"},
        {"state": "open", "kind": "$x"},
        {"state": [{"open": True}], "kind": "$x"},
        {"state": {"open": True}, "kind": "y"},
        {"state": {"open": True}, "kind": "$x", "meta": {"code": "OLD"}, "slug": "b"},
    ],
)
def test_what_is_not_live_gets_no_code(db: Any, party: dict[str, Any]) -> None:
    """A document that does not meet the conditions has no code of its own: a Conflict, and it stays as it is."""
    codes = bound(db, DEEP)
    stored = {"_id": 1, "slug": "a", **party}
    if stored["slug"] == "b":
        stored["kind"] = "over"
    db.parties.insert_one(stored)
    with pytest.raises(Conflict, match="is not live"):
        codes.assign(stored["slug"])
    assert db.parties.find_one() == stored


@pytest.mark.parametrize("wrong", [5, True, Int64(7), ["A"], {"a": 1}, NOON, b"ABC"])
def test_a_code_of_the_wrong_type_is_an_error_and_stays(db: Any, wrong: Any) -> None:
    """What stands in the place of the code and is no text raises, names the document, and is not overwritten."""
    codes = bound(db, DEEP)
    live = {"state": {"open": True}, "kind": "$x"}
    for meta in (wrong, {"code": wrong}):
        if meta == {"a": 1}:  # (a place for a code like any other)
            continue
        db.parties.replace_one({"slug": "a"}, {"slug": "a", **live, "meta": meta}, upsert=True)
        before = db.parties.find_one()
        with pytest.raises(StateError, match=r"'meta.*' in the document 'a' of 'parties'"):
            codes.assign("a")
        assert db.parties.find_one() == before


@pytest.mark.parametrize("key", ["$name", "a.b", "", 7, b"\0", {"u": "$y"}, ObjectId()])
def test_any_value_is_a_key(db: Any, key: Any) -> None:
    """Keys that look like operators or paths find their own document."""
    codes = bound(db)
    db.parties.insert_many([{"_id": key}, {"_id": "other"}])
    code = codes.assign(key)
    assert (codes.find(code) or {})["_id"] == key
    assert "room_code" not in db.parties.find_one({"_id": "other"})


@pytest.mark.parametrize("key", [None, ["a"], {"$x": 1}, float("nan")])
def test_bad_keys_are_refused(db: Any, commands: Any, key: Any) -> None:
    """Values without one equality raise a UsageError that names the key; nothing is sent."""
    with pytest.raises(UsageError, match=r"^key"):
        UniqueCode(db, PARTIES).assign(key)
    assert commands.names == []


# Live, and not any more --------------------------------------------------------------------------------------


def test_a_code_is_free_when_its_document_stops_being_live(db: Any) -> None:
    """An ended document leaves its code to others; to open it again meets a duplicate key while another has it."""
    codes = bound(db)
    first = codes.insert({"n": 1}, code="ABC")
    db.parties.update_one({"n": 1}, {"$set": {"ended_at": NOON}})
    assert codes.find("ABC") is None
    second = codes.insert({"n": 2}, code="ABC")
    assert codes.find("ABC") == second
    with pytest.raises(DuplicateKeyError):
        db.parties.update_one({"_id": first["_id"]}, {"$unset": {"ended_at": ""}})
    db.parties.delete_one({"_id": second["_id"]})
    db.parties.update_one({"_id": first["_id"]}, {"$set": {"ended_at": None}})
    assert (codes.find("ABC") or {})["n"] == 1


def test_find_reads_one_entry_of_the_index(db: Any, commands: Any) -> None:
    """A code is found through the index, whatever else is stored; only the fields that are wanted come back."""
    codes = bound(db, DEEP)
    live = {"state": {"open": True}, "kind": "$x"}
    db.parties.insert_many([{"slug": f"p{n}", **live, "meta": {"code": f"C{n}"}} for n in range(200)])
    db.parties.insert_one({"slug": "big", **live, "blob": "x" * 1_000_000})
    db.parties.insert_one({"slug": "over", "meta": {"code": "C7"}})
    code = codes.assign("big")
    commands.clear()
    found = codes.find("C7", fields=["slug", "state.open"])
    assert found is not None
    assert found.pop("_id")
    assert found == {"slug": "p7", "state": {"open": True}}
    assert codes.assign("big") == code
    assert codes.find(code, fields=[]) is not None
    assert commands.names == ["find", "findAndModify", "find"]
    assert max(commands.reply_bytes) < 1000
    for missing in ("", "C200", "c7", "$x"):
        assert codes.find(missing) is None
    query = codes._plan.find("C7", fields=None)
    told = db.command({"explain": {"find": "parties", "filter": query.filter}, "verbosity": "executionStats"})
    assert told["executionStats"]["totalKeysExamined"] == 1
    assert told["queryPlanner"]["winningPlan"]["inputStage"]["stage"] == "IXSCAN"
    assert told["queryPlanner"]["winningPlan"]["inputStage"]["isPartial"]


def test_one_command_a_call_with_a_comment(db: Any, commands: Any) -> None:
    """Each call is one command where the first code is free, and its comment names the pattern and the call."""
    codes = bound(db)
    commands.clear()
    party = codes.insert({})
    codes.assign(party["_id"])
    codes.find(party["room_code"])
    assert commands.names == ["insert", "findAndModify", "find"]
    assert commands.comments == {f"mongopatterns.unique_code.{call}" for call in ("insert", "assign", "find")}
    assert commands.sent[0][1]["writeConcern"] == {"w": "majority"}
    bound(db, durability=Durability.FAST).insert({})
    assert commands.sent[-1][1]["writeConcern"] == {"w": 1}


# What goes wrong ---------------------------------------------------------------------------------------------


def test_a_lost_reply_claims_once(db: Any, mongopatterns_server: Any) -> None:
    """When the reply is lost after the write, the driver's repeat is told what is stored: one document, one code."""
    codes = bound(db)

    def lost() -> Any:
        name = "onPrimaryTransactionalWrite"
        return mongopatterns_server.fail_point(name, mode={"times": 1}, data={"closeConnection": True})

    with lost():
        party = codes.insert({"n": 1})
    assert db.parties.find({}).to_list(None) == [party]
    db.parties.insert_one({"_id": 2, "blob": "x"})
    with lost():
        code = codes.assign(2)
    assert db.parties.find_one({"_id": 2}) == {"_id": 2, "blob": "x", "room_code": code}


def test_timeout_bounds_the_whole_call(db: Any, mongopatterns_server: Any) -> None:
    """A server that does not answer in time raises the driver's timeout, and the outcome is unknown."""
    codes = bound(db)
    block = {"failCommands": ["insert"], "blockConnection": True, "blockTimeMS": 1000}
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=block),
        pytest.raises((NetworkTimeout, ExecutionTimeout)) as caught,
    ):
        codes.insert({}, timeout=0.3)
    assert may_have_applied(caught.value)
    for call, argument in ((codes.insert, {}), (codes.assign, 1), (codes.find, "X")):
        with pytest.raises(UsageError, match=r"^timeout: "):
            call(argument, timeout=0)


def test_a_refusal_of_the_server_is_the_drivers(db: Any, mongopatterns_server: Any) -> None:
    """An error that is no duplicate key is raised as it is, at the first try."""
    codes = bound(db)
    refused = {"failCommands": ["insert"], "errorCode": 13}
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=refused),
        pytest.raises(OperationFailure) as caught,
    ):
        codes.insert({})
    assert caught.value.code == 13


def test_a_call_takes_part_in_a_transaction(client: Any, db: Any) -> None:
    """An aborted transaction takes its codes with it; a taken code is a Conflict at the first try."""
    codes = bound(db, TINY)
    db.parties.insert_one({"_id": 1})
    with settle(client.start_session()) as session:
        codes.insert({"n": 0}, code="DDD", session=session)
        settle(session.start_transaction())
        # (of so few codes, one by chance would now and then be taken)
        party = codes.insert({"n": 1}, code="ABA", session=session)
        code = codes.assign(1, code="BAB", session=session)
        assert codes.find(party["room_code"], session=session) == party
        assert codes.find(code) is None
        session.abort_transaction()
        assert codes.find(code) is None
        settle(session.start_transaction())
        db.parties.insert_many([{"room_code": code} for code in ALL_TINY - {"DDD"}], session=session)
        with pytest.raises(Conflict, match="ended the transaction"):
            codes.insert({"n": 2}, session=session)
        session.abort_transaction()
        settle(session.start_transaction())
        assert codes.assign(1, code="AAA", session=session) == "AAA"
        session.commit_transaction()
    assert (codes.find("AAA") or {})["_id"] == 1


# Races -------------------------------------------------------------------------------------------------------


def test_a_race_for_few_codes_gives_each_to_one(db: Any) -> None:
    """Of 200 callers for 64 codes every one that is told yes is stored, no two share a code, and all are given."""
    codes = bound(db, TINY)
    report = race_threads(lambda index: codes.insert({"n": index}), times=200, concurrency=50)
    assert {type(error) for _, error in report.errors} == {Conflict}
    stored = db.parties.find({}).to_list(None)
    assert len(stored) == len(report.outcomes)
    assert {(party["n"], party["room_code"]) for party in stored} == {
        (party["n"], party["room_code"]) for party in report.outcomes
    }
    given = {party["room_code"] for party in stored}
    assert len(given) == len(stored)
    assert given <= ALL_TINY
    # A call that draws 100 codes misses a free one with a chance of (63/64)**100, which is a fifth; all of the many
    # that come at the end miss it in no run that anybody sees.
    assert given == ALL_TINY


def test_a_race_for_one_code_has_one_winner(db: Any) -> None:
    """Of callers that want the same code, by insert and by assign, exactly one has it."""
    codes = bound(db)
    db.parties.insert_many([{"_id": index} for index in range(20)])

    def call(index: int) -> Any:
        if index % 2:
            return codes.insert({"n": index}, code="mine")["room_code"]
        return codes.assign(index // 2, code="mine")

    report = race_threads(call, times=40, concurrency=20)
    assert report.outcomes == ["mine"]
    assert {type(error) for _, error in report.errors} == {Conflict}
    assert db.parties.count_documents({"room_code": "mine"}) == 1
    assert db.parties.count_documents({}) in (20, 21)


def test_a_race_to_assign_gives_one_code(db: Any) -> None:
    """Callers that assign a code to one document at once are all told the same, and it is stored."""
    codes = bound(db)
    db.parties.insert_one({"_id": 1})
    report = race_threads(lambda _: codes.assign(1), times=60, concurrency=30)
    assert report.errors == []
    assert set(report.outcomes) == {db.parties.find_one()["room_code"]}


def test_codes_come_and_go_without_two_sharing_one(db: Any) -> None:
    """While documents end and others begin, no live code is ever had twice, and every end frees one."""
    codes = bound(db, TINY)
    live: set[str] = set()

    def turns(worker: int) -> int:
        for _ in range(8):
            party = codes.insert({"worker": worker})
            assert party["room_code"] not in live, "two share a code"
            live.add(party["room_code"])
            assert (codes.find(party["room_code"], fields=["worker"]) or {})["worker"] == worker
            live.discard(party["room_code"])
            db.parties.update_one({"_id": party["_id"]}, {"$set": {"ended_at": NOON}})
        return worker

    report = race_threads(turns, times=30, concurrency=30)
    assert report.errors == []
    assert db.parties.count_documents({"ended_at": NOON}) == 240
