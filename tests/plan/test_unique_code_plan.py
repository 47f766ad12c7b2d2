"""What unique codes send and how their replies are read: no server."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from decimal import Decimal
from typing import Any

import pytest
from bson import MinKey, ObjectId, Regex, Timestamp
from bson.codec_options import CodecOptions
from hypothesis import given
from hypothesis import strategies as st
from pymongo.errors import DuplicateKeyError

from mongopatterns import Conflict, DocumentNotFound, StateError, UniqueCodeSpec, UsageError
from mongopatterns.commands import REPLY
from mongopatterns.membership._unique_code_plan import ALPHABET, UniqueCodePlan

UTC = dt.timezone.utc
ID = ObjectId()
OPEN = UniqueCodeSpec("parties", path="room_code", live={"ended_at": None}, tries=3)
PLAN = UniqueCodePlan(OPEN, "parties")


class InTransaction:
    in_transaction = True


def taken(path: str = "room_code", **more: Any) -> DuplicateKeyError:
    return DuplicateKeyError("E11000", 11000, {"keyPattern": {path: 1}, **more})


def inserting(document: Any = None, plan: UniqueCodePlan = PLAN, **options: Any) -> Any:
    given = {"name": "x"} if document is None else document
    return plan.insert(given, **{"code": None, "fresh": ID, **options})


def assigned(reply: Any, plan: UniqueCodePlan = PLAN, code: str | None = None) -> Any:
    claim = plan.again(plan.assign("p", code=code), "DRAWN")
    assert claim is not None
    return plan.told(claim, reply).result


def told(code: Any = None, *, live: bool = True, kinds: tuple[str, ...] = ()) -> dict[str, Any]:
    return {REPLY: {"live": live, "kinds": list(kinds), **({} if code is None else {"code": code})}}


# Defined -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"collection": ""}, "collection"),
        ({"path": "$code"}, "path"),
        ({"path": "_id"}, "path"),
        ({"path": "a.0"}, "path"),
        ({"path": "key.code", "key_field": "key"}, "path"),
        ({"key_type": str}, "key_type"),
        ({"live": ["ended_at"]}, "live"),
        ({"live": {"$or": 1}}, "live"),
        ({"live": {"code": 1}}, "live"),
        ({"live": {"code.x": None}}, "live"),
        ({"live": {"a": 1, "a.b": 2}}, "live"),
        ({"live": {"a": {"$gt": 1}}}, r"live\.a"),
        ({"live": {"a": [1]}}, r"live\.a"),
        ({"live": {"a": Regex("x")}}, r"live\.a"),
        ({"live": {"a": float("nan")}}, r"live\.a"),
        ({"live": {"a": dt.datetime(2026, 1, 1)}}, r"live\.a"),  # noqa: DTZ001  # naive, which is the point
        ({"length": 0}, "length"),
        ({"length": 65}, "length"),
        ({"length": True}, "length"),
        ({"length": 3, "alphabet": "ABC"}, "length"),
        ({"alphabet": "A"}, "alphabet"),
        ({"alphabet": ""}, "alphabet"),
        ({"alphabet": "ABCA"}, "alphabet"),
        ({"alphabet": "AB C"}, "alphabet"),
        ({"alphabet": "AB\n"}, "alphabet"),
        ({"alphabet": ["A", "B"]}, "alphabet"),
        ({"tries": 0}, "tries"),
        ({"tries": 101}, "tries"),
    ],
)
def test_a_spec_that_cannot_work_is_refused(options: dict[str, Any], argument: str) -> None:
    """Paths that overlap, conditions that no partial index takes and codes without room are UsageErrors."""
    given = {"collection": "parties", "path": "code", **options}
    with pytest.raises(UsageError, match=rf"^{argument}: "):
        UniqueCodeSpec(given.pop("collection"), **given)


def test_codes_can_be_read_aloud() -> None:
    """The default alphabet has none of the characters that are mistaken for others, and six of it make many codes."""
    assert not set("0O1IL") & set(ALPHABET)
    assert (len(set(ALPHABET)), OPEN.room) == (31, 31**6)


def test_a_spec_names_its_indexes() -> None:
    """The index of the codes holds live documents whose code is text; a key field of one's own has its index, too."""
    (code,) = OPEN.indexes()
    assert (code.keys, code.unique) == ((("room_code", 1),), True)
    assert code.where == {"ended_at": None, "room_code": {"$type": "string"}}
    keyed = UniqueCodeSpec("parties", path="m.code", key_field="slug")
    assert [(index.keys, index.where) for index in keyed.indexes()] == [
        ((("slug", 1),), None),
        ((("m.code", 1),), {"m.code": {"$type": "string"}}),
    ]


# Inserted ----------------------------------------------------------------------------------------------------


def test_the_document_is_a_copy_with_a_code() -> None:
    """What is inserted has an `_id`, the caller's fields and the code; the caller's own document stays as it was."""
    given = {"name": "$x", "meta": {"a": 1}}
    plan = UniqueCodePlan(UniqueCodeSpec("parties", path="meta.codes.room"), "parties")
    claim: Any = plan.again(inserting(given, plan), "DRAWN")
    stored = {"_id": ID, "name": "$x", "meta": {"a": 1, "codes": {"room": "DRAWN"}}}
    assert claim.command.document == stored
    assert given == {"name": "$x", "meta": {"a": 1}}
    done = plan.told(claim, None)
    assert done.result == stored
    assert plan.again(done, "OTHER") is None


@pytest.mark.parametrize("empty", [{}, {"meta": None}, {"meta": {}}, {"meta": {"code": None}}])
def test_null_is_nothing(empty: dict[str, Any]) -> None:
    """A missing or null code, or place for one, is filled; a given `_id` is kept."""
    plan = UniqueCodePlan(UniqueCodeSpec("parties", path="meta.code"), "parties")
    claim: Any = plan.again(inserting({"_id": 7, **empty}, plan), "DRAWN")
    assert claim.command.document == {"_id": 7, "meta": {"code": "DRAWN"}}


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], "expected a document"),
        ({"meta": {"code": "X"}}, "something at 'meta.code' already"),
        ({"meta": {"code": 0}}, "something at 'meta.code' already"),
        ({"meta": "x"}, "'meta' must be a document"),
        ({"meta": [{}]}, "'meta' must be a document"),
        ({"state": "closed"}, "'state' must be 'open'"),
        ({}, "'state' must be 'open'"),
        ({"state": "open", "end": {"at": 0}}, "'end.at' must be None"),
        ({"state": ["open"]}, "'state' is a list"),
        ({"state": "open", "end": [{"at": 1}]}, "'end' is a list"),
        ({"state": "open", "on": 1}, "'on' must be True"),
    ],
)
def test_documents_whose_code_would_not_be_theirs_are_refused(document: Any, problem: str) -> None:
    """A document that has a code, has no place for one or is not live is a UsageError, before anything is sent."""
    spec = UniqueCodeSpec("parties", path="meta.code", live={"state": "open", "end.at": None, "on": True})
    with pytest.raises(UsageError, match=r"^document: .*") as caught:
        UniqueCodePlan(spec, "parties").insert(document, code=None, fresh=ID)
    assert problem in str(caught.value)


LOOP: dict[str, Any] = {}
LOOP["self"] = LOOP


@pytest.mark.parametrize(
    "document",
    [
        {"a": object()},
        {"a": {1, 2}},
        {"a": [{"b": Decimal(1)}]},
        {"ended_at": object()},
        {"room_code": object()},
        {1: "a"},
        {"a": {1: "b"}},
        {"a\0b": 1},
        {"a": {"\0": 1}},
        {"a": "\ud800"},
        {"a": 2**70},
        {"a": [-(2**70)]},
        {"_id": 2**70},
        {"a": Regex("a\0b")},
        LOOP,
    ],
)
def test_a_document_that_cannot_be_stored_is_refused(document: Any) -> None:
    """What BSON does not know, names that are no text or hold a NUL, and integers past 64 bits are UsageErrors."""
    with pytest.raises(UsageError, match=r"^document: cannot be stored: "):
        inserting(document)


def test_a_uuid_is_stored_as_the_collection_says_or_not_at_all() -> None:
    """Where the collection's codec options name no representation of UUIDs, the driver could not send one."""
    value = uuid.UUID(int=7)
    assert inserting({"u": value}).document["u"] == value
    options: CodecOptions[Any] = CodecOptions(tz_aware=True)
    with pytest.raises(UsageError, match=r"^document: cannot be stored: "):
        inserting({"u": value}, UniqueCodePlan(OPEN, "parties", options))


@pytest.mark.parametrize(
    "key",
    [
        None,
        [1],
        (1,),
        {"$x": 1},
        {"a": {"$x": 1}},
        Regex("x"),
        re.compile("x"),
        float("nan"),
        MinKey(),
        Timestamp(1, 1),
    ],
)
def test_an_id_is_a_key(key: Any) -> None:
    """A given `_id` has one equality, as any key has; nothing else is sent."""
    with pytest.raises(UsageError, match=r"^document\._id"):
        inserting({"_id": key})


def test_what_is_inserted_is_told_as_a_read_would_give_it() -> None:
    """Tuples are lists, dates are aware and have milliseconds; later changes to the caller's document do not matter."""
    plan = UniqueCodePlan(OPEN, "parties", CodecOptions(tz_aware=True))
    at = dt.datetime(2026, 3, 4, 12, 0, 0, 123456, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    given = {"at": at, "pair": (1, (2,)), "n": {"at": [at]}}
    claim = inserting(given, plan)
    given["n"].clear()  # type: ignore[attr-defined]
    tried: Any = plan.again(claim, "DRAWN")
    read = at.replace(microsecond=123000)
    stored = {"_id": ID, "at": read, "pair": [1, [2]], "n": {"at": [read]}, "room_code": "DRAWN"}
    assert plan.told(tried, None).result == stored
    assert tried.command.document["at"].tzinfo is not None


@pytest.mark.parametrize("live", [1, 1.0])
def test_live_compares_as_the_server_does(live: Any) -> None:
    """1 and 1.0 are one value, and True is another."""
    plan = UniqueCodePlan(UniqueCodeSpec("parties", path="code", live={"n": 1}), "parties")
    assert inserting({"n": live}, plan)
    with pytest.raises(UsageError):
        inserting({"n": True}, plan)


@pytest.mark.parametrize("code", ["", "x" * 201, "a\nb", "a\0", 5, b"x", ["x"]])
def test_bad_codes_are_refused(code: Any) -> None:
    """A code that a caller wants is 1 to 200 printable characters."""
    for call in (lambda: inserting(code=code), lambda: PLAN.assign("p", code=code)):
        with pytest.raises(UsageError, match=r"^code: "):
            call()


def test_a_taken_code_is_followed_by_another() -> None:
    """Each refusal by the index of the codes leads to one more try, with the same `_id`, as often as the spec says."""
    claim = inserting()
    for drawn in ("AAA", "BBB", "CCC"):
        tried: Any = PLAN.again(claim, drawn)
        assert tried.command.document == {"_id": ID, "name": "x", "room_code": drawn}
        if drawn == "CCC":
            break
        claim = PLAN.told(tried, taken())
    with pytest.raises(Conflict, match=r"all of 3 random codes are taken: of 887503681 codes more than 37%") as caught:
        PLAN.told(tried, taken())
    assert isinstance(caught.value.__cause__, DuplicateKeyError)
    assert caught.value.key == "CCC"


def test_a_code_of_ones_own_is_tried_once() -> None:
    """A code that the caller wants is that or none."""
    claim: Any = PLAN.again(inserting(code="my-slug"), "DRAWN")
    assert claim.command.document["room_code"] == "my-slug"
    with pytest.raises(Conflict, match=r"the code 'my-slug' is taken") as caught:
        PLAN.told(claim, taken())
    assert caught.value.key == "my-slug"


def test_a_transaction_has_one_try() -> None:
    """The server has ended the transaction with the first refusal: the message says to run it again."""
    claim: Any = PLAN.again(inserting(session=InTransaction()), "DRAWN")
    with pytest.raises(Conflict, match=r"'DRAWN' is taken, and that has ended the transaction") as caught:
        PLAN.told(claim, taken())
    assert caught.value.key == "DRAWN"


@pytest.mark.parametrize("error", [taken("_id"), taken("slug"), DuplicateKeyError("E11000"), taken(keyPattern=None)])
def test_other_duplicates_are_the_callers(error: DuplicateKeyError) -> None:
    """A duplicate of another index is the driver's error, and no reason to try again."""
    claim: Any = PLAN.again(inserting(), "DRAWN")
    with pytest.raises(DuplicateKeyError) as caught:
        PLAN.told(claim, error)
    assert caught.value is error


# Assigned ----------------------------------------------------------------------------------------------------


def test_a_document_is_found_by_exactly_its_key() -> None:
    """The filter is the key alone; the code travels as data."""
    claim: Any = PLAN.again(PLAN.assign("p", code="$name"), "DRAWN")
    assert claim.command.filter == {"_id": "p"}
    assert claim.command.let == {"code": {"$literal": "$name"}}
    assert claim.command.upsert is False


def test_the_code_that_stands_is_told() -> None:
    """A code that the document had is told as one that it got; of a repeated write, that of the try."""
    assert assigned(told("DRAWN")) == "DRAWN"
    assert assigned(told("OLDER")) == "OLDER"
    assert assigned(told("mine"), code="mine") == "mine"
    assert assigned({"_id": "p", "room_code": "DRAWN", "name": "x"}) == "DRAWN"


def test_what_cannot_be_assigned_is_told() -> None:
    """No document, one that is not live, another code than the one asked for, and wrong types are errors."""
    with pytest.raises(DocumentNotFound, match="'p'"):
        assigned(None)
    for reply in (told(live=False), told("OLDER", live=False)):
        with pytest.raises(Conflict, match=r"the document 'p' is not live") as caught:
            assigned(reply)
        assert caught.value.key == "p"
    with pytest.raises(Conflict, match=r"the document 'p' has the code 'OLDER' already") as caught:
        assigned(told("OLDER"), code="mine")
    assert caught.value.key == "p"
    with pytest.raises(StateError, match=r"'room_code' in the document 'p' of 'parties': expected a code as text"):
        assigned(told(5))
    deep = UniqueCodePlan(UniqueCodeSpec("parties", path="a.b.code"), "parties")
    with pytest.raises(StateError, match=r"'a.b' in the document 'p'.*: expected a document, found a value of array"):
        assigned(told(kinds=("object", "array")), deep)
    assert assigned(told("X", kinds=("object", "missing")), deep) == "X"


def test_assign_tries_as_insert_does() -> None:
    """A taken code is followed by another one, and then by a Conflict whose key is the last of them."""
    claim = PLAN.assign("p", code=None)
    for drawn in ("AAA", "BBB"):
        claim = PLAN.told(PLAN.again(claim, drawn) or claim, taken())
    with pytest.raises(Conflict, match="all of 3") as caught:
        PLAN.told(PLAN.again(claim, "CCC") or claim, taken())
    assert caught.value.key == "CCC"
    wanted: Any = PLAN.again(PLAN.assign("p", code="mine"), "DRAWN")
    with pytest.raises(Conflict, match="the code 'mine' is taken") as caught:
        PLAN.told(wanted, taken())
    assert caught.value.key == "mine"


# Found -------------------------------------------------------------------------------------------------------


def test_find_asks_as_the_index_is_defined() -> None:
    """The filter says all that the index says, without which the server could not use it."""
    query = PLAN.find("ABC", fields=None)
    assert query.filter == {"ended_at": None, "room_code": {"$eq": "ABC", "$type": "string"}}
    assert query.projection is None
    assert PLAN.find("ABC", fields=["name", "a.b"]).projection == {"_id": 1, "name": 1, "a.b": 1}
    assert PLAN.find("ABC", fields=[]).projection == {"_id": 1}


@pytest.mark.parametrize("fields", ["name", 5, ["$x"], ["a", "a.b"], [5], {"a": 1}])
def test_bad_fields_are_refused(fields: Any) -> None:
    """The fields wanted are a list of paths that do not overlap."""
    with pytest.raises(UsageError, match=r"^fields: "):
        PLAN.find("ABC", fields=fields)


@given(st.text())
def test_find_takes_any_text(code: str) -> None:
    """What a visitor types is compared as it is; text that cannot be stored is a UsageError."""
    try:
        query = PLAN.find(code, fields=None)
    except UsageError:
        with pytest.raises(UnicodeError):
            code.encode()
        return
    assert query.filter["room_code"]["$eq"] == code


@pytest.mark.parametrize("code", [None, 5, {"$gt": ""}, b"x", ["x"]])
def test_find_takes_nothing_but_text(code: Any) -> None:
    """An operator in the place of a code is a UsageError."""
    with pytest.raises(UsageError, match=r"^code: expected text"):
        PLAN.find(code, fields=None)
