# Generated from tests/aio/test_documents.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""What get-or-create, upsert and take promise, on a real server."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from decimal import Decimal
from typing import Any

import pytest
from bson import Binary, Decimal128, Int64, ObjectId, UuidRepresentation, encode
from bson.codec_options import CodecOptions
from bson.son import SON
from pymongo.errors import DuplicateKeyError, ExecutionTimeout, NetworkTimeout, OperationFailure
from pymongo.write_concern import WriteConcern

from mongopatterns import (
    Documents,
    DocumentSpec,
    Durability,
    OutcomeUnknown,
    StateError,
    UsageError,
    may_have_applied,
)
from mongopatterns._driver_sync import settle
from mongopatterns.testing import race_threads

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
SECOND = dt.timedelta(seconds=1)
AWARE: CodecOptions[Any] = CodecOptions(tz_aware=True)

CODES = DocumentSpec("codes")
RESPONSES = DocumentSpec("responses", key=("question_id", "user_id"))
PAGES = DocumentSpec("pages", key="page.slug")

# The key of one document by each kind of key.
KEYED = pytest.mark.parametrize(
    ("spec", "key"), [(CODES, "a"), (RESPONSES, ("q", "u")), (PAGES, "home")], ids=["_id", "two fields", "nested"]
)
SPECS = pytest.mark.parametrize("spec", [CODES, RESPONSES, PAGES], ids=["_id", "two fields", "nested"])
HOSTILE = ["$name", "$$NOW", "a.b", "", "__proto__", "{$gt: 1}", "ключ", "\0", "$$ROOT"]
LOST_REPLY = ("onPrimaryTransactionalWrite", {"times": 1}, {"closeConnection": True})


def bind(db: Any, spec: DocumentSpec) -> Documents:
    for index in spec.indexes():
        db[spec.collection].create_index(index.keys, **index.options)
    return Documents(db, spec)


def every(db: Any, spec: DocumentSpec) -> list[dict[str, Any]]:
    """Read all documents, with aware dates as the primitive shows them."""
    found: list[dict[str, Any]] = db.get_collection(spec.collection, codec_options=AWARE).find().to_list(None)
    return found


def key_of(spec: DocumentSpec, value: Any) -> Any:
    """Return one of many keys."""
    return ("q", value) if spec is RESPONSES else value


def fields_of(spec: DocumentSpec, value: Any) -> dict[str, Any]:
    """Return the fields of that key, as they are stored."""
    if spec is CODES:
        return {"_id": value}
    return {"page": {"slug": value}} if spec is PAGES else {"question_id": "q", "user_id": value}


def rest(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document without its id and its key."""
    return {name: value for name, value in document.items() if name not in {"_id", "question_id", "user_id", "page"}}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Compare documents byte by byte: types and the order of fields too, at every depth."""
    return encode(one) == encode(other)


# Get or create -----------------------------------------------------------------------------------------------


@KEYED
def test_get_or_create_makes_the_document_once(db: Any, spec: DocumentSpec, key: Any) -> None:
    """The first call stores the defaults and says so; later ones return what is stored and change nothing."""
    docs = bind(db, spec)
    defaults = {
        "status": "$new",
        "when": NOON + dt.timedelta(microseconds=1999),
        "tags": ("a", "b"),
        "10": 1,
        "9": None,
    }
    made, created = docs.get_or_create(key, defaults)
    assert created
    assert made["when"] == NOON + dt.timedelta(microseconds=1000)
    (stored,) = every(db, spec)
    assert same(made, stored)
    assert docs.get_or_create(key, {"status": "other"}) == (stored, False)
    assert docs.get_or_create(key) == (stored, False)
    assert every(db, spec) == [stored]


# Names in the order in which the server stores those of an update operator.
APPLIED = [
    " 1",
    "!",
    "+1",
    "-1",
    "-10",
    "-2",
    "/",
    "0",
    "00",
    "007",
    "00x",
    "01",
    "0x1",
    "1",
    "2",
    "7",
    "9",
    "1 ",
    "10",
]
APPLIED += ["1a", "9z", "100", "1e5", "1é", "4294967296", "18446744073709551616", "99999999999999999999999"]
APPLIED += [":", "Z", "_id2", "a", "a1", "a10", "a2", "b", "~", "²", "é", "٣", "\uffff", "🎉"]


@KEYED
@pytest.mark.parametrize("seed", range(3))
def test_names_are_told_in_the_order_in_which_they_are_stored(db: Any, spec: DocumentSpec, key: Any, seed: int) -> None:
    """Signs, zeros in front, numbers of any length and names that begin with a digit are where the server puts them."""
    docs = bind(db, spec)
    names = random.Random(seed).sample(APPLIED, len(APPLIED))
    made, _ = docs.get_or_create(key, dict.fromkeys(names, seed))
    (stored,) = every(db, spec)
    assert same(made, stored)
    assert list(rest(stored)) == APPLIED


def test_get_or_create_fills_no_document_that_is_there(db: Any) -> None:
    """A document that holds nothing but its key stays as it is: it is there."""
    db.codes.insert_one({"_id": "a"})
    assert Documents(db, CODES).get_or_create("a", {"x": 1}) == ({"_id": "a"}, False)
    assert every(db, CODES) == [{"_id": "a"}]


@KEYED
def test_one_of_many_makes_the_document(db: Any, spec: DocumentSpec, key: Any) -> None:
    """Of fifty concurrent calls on a fresh key one made the document, and all were given that one."""
    docs = bind(db, spec)
    report = race_threads(lambda index: docs.get_or_create(key, {"by": index}), times=50, concurrency=50)
    report.raise_errors()
    assert report.count(lambda stored: stored.created) == 1
    (stored,) = every(db, spec)
    assert [document for document, _ in report.outcomes] == [stored] * 50


def test_many_fresh_keys_at_once(db: Any) -> None:
    """When many callers meet on many keys, each key has one maker and one document, and nobody sees an error."""
    docs = bind(db, RESPONSES)
    report = race_threads(lambda index: docs.get_or_create((index % 40, "u"), {"by": index}), times=400, concurrency=80)
    report.raise_errors()
    assert report.count(lambda stored: stored.created) == 40
    stored = {document["question_id"]: document for document in every(db, RESPONSES)}
    assert len(stored) == 40
    assert all(document == stored[document["question_id"]] for document, _ in report.outcomes)


# Upsert ------------------------------------------------------------------------------------------------------


@KEYED
def test_upsert_makes_and_then_changes(db: Any, spec: DocumentSpec, key: Any) -> None:
    """What the call returns is what is then stored, field by field; only the first call says created."""
    docs = bind(db, spec)
    for turn in range(4):
        document, created = docs.upsert(
            key,
            set={"answer.text": f"${turn}", "answer.at": NOON, "nothing": None},
            set_on_insert={"answer.first": "$$NOW", "score": 0.5, "tags": {"a": 1}},
            inc={"count": 2, "sums.cost": Decimal("0.1"), "sums.time": 0.25},
            push_last={"history": {"turn": turn}, "deep.er": [turn]},
            keep=3,
            set_now=["seen.last"],
        )
        assert created is (turn == 0)
        (stored,) = every(db, spec)
        assert same(document, stored)
    assert stored["answer"] == {"first": "$$NOW", "text": "$3", "at": NOON}
    assert (stored["count"], stored["sums"]) == (8, {"cost": Decimal128("0.4"), "time": 1.0})
    assert stored["history"] == [{"turn": 1}, {"turn": 2}, {"turn": 3}]
    assert stored["deep"] == {"er": [[1], [2], [3]]}
    assert (stored["score"], stored["tags"], stored["nothing"]) == (0.5, {"a": 1}, None)


@SPECS
def test_upsert_leaves_what_it_does_not_name(db: Any, spec: DocumentSpec) -> None:
    """Fields beside the paths stay, at every depth, and in their places; a missing or null parent is made."""
    docs = bind(db, spec)
    fields = {"x": {"y": {"z": 1}, "n": None}, "w": [1], "$odd": {"a.b": 1}, "v": 5, "p": None, "l": None, "k": None}
    db[spec.collection].insert_one({**fields_of(spec, "a"), **fields})
    document, created = docs.upsert(
        key_of(spec, "a"),
        set={"x.y.new": 1, "x.n.m": 2},
        inc={"v": -7, "p": 3},
        push_last={"w": "$x", "l": 1, "new": 1},
        set_on_insert={"no": 1, "x.no": 1, "k.no": 1, "never.no": 1},
    )
    assert not created
    assert rest(document) == {
        "x": {"y": {"z": 1, "new": 1}, "n": {"m": 2}},
        "w": [1, "$x"],
        "$odd": {"a.b": 1},
        "v": -2,
        "p": 3,
        "l": [1],
        "k": None,
        "new": [1],
    }
    assert same(document, every(db, spec)[0])


@KEYED
def test_upsert_past_16_mb_is_the_servers_to_refuse(db: Any, spec: DocumentSpec, key: Any) -> None:
    """The server's error has the code that it has for this; the document stays as it was."""
    docs = bind(db, spec)
    made, _ = docs.get_or_create(key, {"n": 1, "big": "x" * (15 * 2**20)})
    with pytest.raises(OperationFailure) as caught:
        docs.upsert(key, set={"more": "x" * 2**21}, inc={"n": 1})
    assert caught.value.code == 10334
    assert not may_have_applied(caught.value)
    assert every(db, spec) == [made]


@KEYED
def test_upsert_without_changes_makes_what_is_missing(db: Any, spec: DocumentSpec, key: Any) -> None:
    """A call that changes nothing makes the document, and leaves one that is there alone."""
    docs = bind(db, spec)
    made, created = docs.upsert(key)
    assert created
    assert every(db, spec) == [made]
    assert docs.upsert(key, set={}, inc={}, push_last={}, keep=5) == (made, False)


def test_on_insert_means_the_call_that_made_the_document(db: Any) -> None:
    """Under another key than _id a document with nothing but the key is an old one; under _id it counts as new."""
    responses = bind(db, RESPONSES)
    db.responses.insert_one({"_id": 1, "question_id": "q", "user_id": "u"})
    assert responses.upsert(("q", "u"), set_on_insert={"x": 1}).document == every(db, RESPONSES)[0]
    assert "x" not in every(db, RESPONSES)[0]
    db.codes.insert_one({"_id": Int64(5)})
    document, created = Documents(db, CODES).upsert(5.0, set_on_insert={"x": 1})
    assert (document, created) == ({"_id": 5, "x": 1}, False)
    assert every(db, CODES) == [document]


def test_an_id_of_the_callers_own(db: Any) -> None:
    """`_id` may be said for a document that is made, in both calls; another document of that id is a duplicate."""
    docs = bind(db, RESPONSES)
    assert docs.get_or_create((1, 1), {"_id": "mine"}).document["_id"] == "mine"
    document, created = docs.upsert((2, 2), set_on_insert={"_id": "other"}, set={"x": 1})
    assert created
    assert list(document.items()) == [("_id", "other"), ("question_id", 2), ("user_id", 2), ("x", 1)]
    assert docs.upsert((2, 2), set_on_insert={"_id": "third"}) == (document, False)
    for call in (
        lambda: docs.get_or_create((3, 3), {"_id": "mine"}),
        lambda: docs.upsert((3, 3), set_on_insert={"_id": "mine"}),
    ):
        with pytest.raises(DuplicateKeyError):
            call()
    assert len(every(db, RESPONSES)) == 2


@KEYED
def test_concurrent_upserts_lose_nothing(db: Any, spec: DocumentSpec, key: Any) -> None:
    """Fifty first saves at once: one document, one maker, every entry kept, the sum exact, every answer different."""
    docs = bind(db, spec)
    report = race_threads(
        lambda index: docs.upsert(key, inc={"n": 2, "cost": Decimal("0.1")}, push_last={"history": index}, keep=50),
        times=50,
        concurrency=50,
    )
    report.raise_errors()
    (stored,) = every(db, spec)
    assert (stored["n"], stored["cost"]) == (100, Decimal128("5.0"))
    assert sorted(stored["history"]) == list(range(50))
    assert report.count(lambda told: told.created) == 1
    told = sorted((document for document, _ in report.outcomes), key=lambda document: document["n"])
    assert [document["n"] for document in told] == list(range(2, 101, 2))
    assert [document["history"] for document in told] == [stored["history"][: 1 + turn] for turn in range(50)]


@KEYED
def test_concurrent_pushes_keep_the_last(db: Any, spec: DocumentSpec, key: Any) -> None:
    """Past the cap the oldest entries go: each answer ends in its own entry and is a run of the order of writes."""
    docs = bind(db, spec)
    report = race_threads(
        lambda index: docs.upsert(key, push_last={"h": index}, keep=7, inc={"n": 1}), times=120, concurrency=40
    )
    report.raise_errors()
    told = sorted((document for document, _ in report.outcomes), key=lambda document: document["n"])
    order = [document["h"][-1] for document in told]
    assert sorted(order) == list(range(120))
    for turn, document in enumerate(told):
        assert document["h"] == order[max(0, turn - 6) : turn + 1]


NUMBERS = [
    (None, 5, 5),
    (3, 5, 8),
    (3, 0, 3),
    (3, -5, -2),
    (3, 0.5, 3.5),
    (0.1, 0.2, 0.1 + 0.2),
    (1.5, 2, 3.5),
    (2**31 - 1, 1, 2**31),
    (Int64(2**63 - 2), 1, 2**63 - 1),
    (Int64(-(2**63) + 1), -1, -(2**63)),
    (Decimal128("0.1"), 1, Decimal128("1.1")),
    (Decimal128("0.1"), Decimal("0.20"), Decimal128("0.30")),
    (3, Decimal("0.1"), Decimal128("3.1")),
    (float("inf"), 1, float("inf")),
]


@SPECS
def test_inc_adds_as_the_driver_would(db: Any, spec: DocumentSpec) -> None:
    """Sums and their types are those of `$inc`; null counts as 0, as a missing number does."""
    docs = bind(db, spec)
    for key, (stored, amount, total) in enumerate(NUMBERS):
        fields = {"_id": key, **fields_of(spec, key)}
        db[spec.collection].insert_one({**fields, "n": stored})
        document, _ = docs.upsert(key_of(spec, key), inc={"n": amount, "new": amount})
        assert document["n"] == total
        assert same(document, db[spec.collection].find_one({"_id": key}))
        if stored is not None:
            travels = Decimal128(amount) if isinstance(amount, Decimal) else amount
            db.other.insert_one({**fields, "n": stored})
            db.other.update_one({"_id": key}, {"$inc": {"n": travels, "new": travels}})
            assert same(document, db.other.find_one({"_id": key}))


@SPECS
def test_inc_counts_to_the_end_of_64_bits(db: Any, spec: DocumentSpec) -> None:
    """The largest and the smallest integer can be reached, in one step or many; one step further is refused."""
    docs = bind(db, spec)
    for end, sign in ((2**63 - 1, 1), (-(2**63), -1)):
        key = key_of(spec, f"end {sign}")
        docs.upsert(key, inc={"n": end - sign * 10, "m": 1.5, "d": Decimal(1), "i": sign})
        for step, left in ((5, 5), (2, 3), (2, 1), (1, 0)):
            document, _ = docs.upsert(key, inc={"n": sign * step})
            assert document["n"] == end - sign * left
        for step in (sign, end):
            with pytest.raises(StateError, match="the sum would not fit into 64 bits") as caught:
                docs.upsert(key, inc={"i": 0, "n": step}, set={"new": 1})
            assert caught.value.path == "n"
        with pytest.raises(StateError, match="the sum would not fit into 64 bits") as caught:
            docs.upsert(key, inc={"i": end})
        assert caught.value.path == "i"
        document, _ = docs.upsert(key, inc={"n": 0, "m": end, "d": end})
        assert (document["n"], document["i"], document["m"]) == (end, sign, 1.5 + end)
        assert document["d"].to_decimal() == end + 1
        assert same(document, next(one for one in every(db, spec) if one["_id"] == document["_id"]))


DATE = dt.datetime(2026, 1, 1, tzinfo=UTC)
MISFITS = [
    *((wrong, {"inc": {"x": 1}}, "x") for wrong in ("5", True, [1], {"n": 1}, DATE, Binary(b"x"), ObjectId())),
    *((wrong, {"inc": {"x": 0.5}}, "x") for wrong in ("5", True, DATE)),
    *((wrong, {"push_last": {"x": 1}}, "x") for wrong in ("text", 5, {"0": 1}, True, DATE)),
    *((wrong, {"set": {"x.y": 1}}, "x") for wrong in ("text", 5, [{"y": 1}], [], True, DATE)),
    *((wrong, {"set_now": ["x.y"]}, "x") for wrong in ("text", [{}])),
    ([{"y": 1}], {"inc": {"x.y": 1}}, "x"),
    ({"y": [1]}, {"inc": {"x.y.0": 1}}, "x.y"),
    ({"y": 5}, {"push_last": {"x.y": 1}}, "x.y"),
    (Int64(2**63 - 5), {"inc": {"x": 10}}, "x"),
    (Int64(-(2**63) + 5), {"inc": {"x": -10}}, "x"),
]


@SPECS
def test_what_does_not_fit_is_an_error_and_nothing_changes(db: Any, spec: DocumentSpec) -> None:
    """A value of another type, or a sum past 64 bits, raises a StateError that names it; no other change is made."""
    docs = bind(db, spec)
    both: dict[str, Any] = {"set": {"new": 1}, "inc": {"n": 1}, "push_last": {"h": 2}, "set_now": ["seen"]}
    for number, (wrong, changes, path) in enumerate(MISFITS):
        fields = fields_of(spec, f"$key {number}")
        key = key_of(spec, f"$key {number}")
        db[spec.collection].insert_one({**fields, "x": wrong, "n": 1, "h": [1]})
        before = every(db, spec)
        more = {name: ["seen", "x.y"] if name == "set_now" else {**both[name], **changes[name]} for name in changes}
        for on_insert in ({}, {"o": 1}):
            with pytest.raises(StateError, match=f"of '{spec.collection}'") as caught:
                docs.upsert(key, **{**both, **more}, set_on_insert=on_insert)
            told = fields if spec is RESPONSES else f"$key {number}"
            assert (caught.value.path, caught.value.key) == (path, told), (wrong, changes)
            assert every(db, spec) == before


@SPECS
def test_names_of_digits_are_names(db: Any, spec: DocumentSpec) -> None:
    """A part of digits is the name of a field of a document, and never an index of an array."""
    docs = bind(db, spec)
    for _ in range(2):
        document, _ = docs.upsert(key_of(spec, "a"), inc={"years.2026": 1}, set={"0.1": "x"})
    assert rest(document) == {"years": {"2026": 2}, "0": {"1": "x"}}
    assert every(db, spec) == [document]


@SPECS
def test_a_path_may_be_as_deep_as_a_path_gets(db: Any, spec: DocumentSpec) -> None:
    """32 parts are taken by every kind of change, on a new document and on one that is there."""
    docs = bind(db, spec)
    deep = ".".join("abcdefghijklmnopqrstuvwxyzABCDE")
    for turn in (1, 2):
        document, _ = docs.upsert(
            key_of(spec, "a"),
            set={f"{deep}.s": 1},
            inc={f"{deep}.n": 1},
            push_last={f"{deep}.h": 1},
            set_on_insert={f"{deep}.i": 1},
        )
        inner: Any = document
        for part in deep.split("."):
            inner = inner[part]
        assert inner == {"i": 1, "s": 1, "n": turn, "h": [1] * turn}
    assert every(db, spec) == [document]


@SPECS
def test_many_changes_in_one_call(db: Any, spec: DocumentSpec) -> None:
    """Hundreds of paths are one command, and none is lost."""
    docs = bind(db, spec)
    for _ in range(2):
        document, _ = docs.upsert(
            key_of(spec, "a"),
            set={f"m.k{index}": index for index in range(300)},
            inc={f"c.k{index}": index for index in range(100)},
        )
    assert document["m"] == {f"k{index}": index for index in range(300)}
    assert document["c"] == {f"k{index}": 2 * index for index in range(100)}


@SPECS
def test_calls_of_one_shape_keep_to_their_own_values(db: Any, spec: DocumentSpec) -> None:
    """Calls that share paths share nothing else: values, types of numbers, caps and times are those of each call."""
    docs = bind(db, spec)
    key = key_of(spec, "a")
    calls: list[tuple[Any, int | None, dt.datetime]] = [(1, 2, NOON), (0.5, 2, NOON + SECOND), (Decimal(1), 3, NOON)]
    for amount, keep, now in (*calls, *calls):
        document, _ = docs.upsert(
            key, set={"s": str(amount)}, inc={"n": amount}, push_last={"h": keep}, keep=keep, set_now=["t"], now=now
        )
        assert (document["s"], document["t"], document["h"][-1]) == (str(amount), now, keep)
        assert len(document["h"]) <= (keep or 0)
    assert document["n"] == Decimal128("5.0")
    docs.upsert(key, set={"n": Int64(2**63 - 1)})
    with pytest.raises(StateError, match="64 bits"):
        docs.upsert(key, inc={"n": 1})
    assert docs.upsert(key, inc={"n": 1.0}).document["n"] == 2.0**63


@KEYED
def test_set_now_is_the_servers_time(db: Any, spec: DocumentSpec, key: Any) -> None:
    """The time is that of the write, told as stored whether the call made the document or changed it."""
    docs = bind(db, spec)
    for created in (True, False):
        before = db.command("hello")["localTime"].replace(tzinfo=UTC)
        told = docs.upsert(key, set_now=["at", "deep.at"])
        after = db.command("hello")["localTime"].replace(tzinfo=UTC)
        assert told.created is created
        assert before <= told.document["at"] == told.document["deep"]["at"] <= after
        assert every(db, spec) == [told.document]
    assert docs.upsert(key, set_now=["at"], now=NOON).document["at"] == NOON
    assert docs.take(key)
    made, created = docs.upsert(key, set_now=["at"], now=NOON)
    assert (created, rest(made)) == (True, {"at": NOON})


# Take --------------------------------------------------------------------------------------------------------


@KEYED
def test_take_gives_the_document_once(db: Any, spec: DocumentSpec, key: Any) -> None:
    """The first call returns the whole document, which is gone then; later ones return None."""
    docs = bind(db, spec)
    made, _ = docs.get_or_create(key, {"secret": "$x", "at": NOON})
    assert docs.take(key) == made
    assert docs.take(key) is None
    assert every(db, spec) == []


@KEYED
def test_one_of_many_takes_the_document(db: Any, spec: DocumentSpec, key: Any) -> None:
    """Of fifty concurrent calls exactly one gets the document, and the others None."""
    docs = bind(db, spec)
    made, _ = docs.get_or_create(key, {"until": NOON})
    report = race_threads(lambda _: docs.take(key, unexpired="until", now=NOON - SECOND), times=50, concurrency=50)
    report.raise_errors()
    assert [document for document in report.outcomes if document is not None] == [made]
    assert every(db, spec) == []


def test_nobody_takes_what_has_expired(db: Any) -> None:
    """At its end and after it the document is given to nobody, and stays for the TTL index to delete."""
    docs = Documents(db, CODES)
    made, _ = docs.get_or_create("a", {"until": NOON})
    for now in (NOON, NOON + SECOND):
        report = race_threads(lambda _, now=now: docs.take("a", unexpired="until", now=now), times=20, concurrency=20)
        assert report.outcomes == [None] * 20
    assert every(db, CODES) == [made]
    assert docs.take("a", unexpired="until", now=NOON - dt.timedelta(milliseconds=1)) == made


def test_no_date_in_the_future_counts_as_expired(db: Any) -> None:
    """By the server's own time: a missing, null or past expiry, and anything that is no date, is not taken."""
    docs = Documents(db, CODES)
    future = dt.datetime(2999, 1, 1, tzinfo=UTC)
    for key, expiry in enumerate([None, "2999-01-01", 2**60, True, {}, [future], ObjectId(), DATE]):
        db.codes.insert_one({"_id": key, "meta": {"until": expiry}})
        assert docs.take(key, unexpired="meta.until") is None
        docs.upsert(key, set={"meta.until": future})
        assert docs.take(key, unexpired="meta.until") == {"_id": key, "meta": {"until": future}}
    db.codes.insert_one({"_id": "b"})
    assert docs.take("b", unexpired="meta.until") is None
    assert docs.take("b") == {"_id": "b"}


def test_takers_and_makers_together(db: Any) -> None:
    """While some make a document and others take it, each one that was made is taken once or still there."""
    docs = bind(db, RESPONSES)

    def turn(index: int) -> Any:
        if index % 2:
            return "took", docs.take(("q", "u"))
        return "made", docs.get_or_create(("q", "u"), {"by": index})

    report = race_threads(turn, times=300, concurrency=50)
    report.raise_errors()
    made = [told.document["_id"] for kind, told in report.outcomes if kind == "made" and told.created]
    taken = [document["_id"] for kind, document in report.outcomes if kind == "took" and document]
    left = [document["_id"] for document in every(db, RESPONSES)]
    assert sorted(made) == sorted(taken + left)
    assert len(set(made)) == len(made)


# Values and keys ---------------------------------------------------------------------------------------------


def test_hostile_values_are_values(db: Any) -> None:
    """Text that looks like a path, a variable or an operator is a key and a value like any other."""
    docs = bind(db, RESPONSES)
    codes = Documents(db, CODES)
    for value in HOSTILE:
        key = (value, value)
        docs.get_or_create(("other", value), {"x": "untouched"})
        assert docs.get_or_create(key, {"x": value, "l": [value]}).created
        changes: dict[str, Any] = {"set": {"s": value, "d.e": [value]}, "set_on_insert": {"o": value}}
        document, created = docs.upsert(key, **changes, push_last={"l": value}, keep=5)
        assert not created
        assert (document["x"], document["s"], document["d"]["e"], document["l"]) == (value, value, [value], [value] * 2)
        document, created = codes.upsert(value, **changes, push_last={"l": value}, keep=5)
        assert created
        assert document == {"_id": value, "o": value, "s": value, "d": {"e": [value]}, "l": [value]}
        assert every(db, CODES) == [document]
        assert codes.take(value) == document
        assert (docs.take(key) or {})["x"] == value
    assert {document["x"] for document in every(db, RESPONSES)} == {"untouched"}
    assert len(every(db, RESPONSES)) == len(HOSTILE)


@SPECS
def test_odd_names_are_names(db: Any, spec: DocumentSpec) -> None:
    """Names of fields that are odd and allowed are stored as themselves, at the top and inside."""
    docs = bind(db, spec)
    for name in ("__proto__", "a b", "ключ", "a$b", "constructor", "x" * 500, "0", '"', "id", "_mongopatterns"):
        key = key_of(spec, name)
        for turn in (1, 2):
            document, created = docs.upsert(
                key, set={f"s.{name}": {name: 1}}, inc={name: 1}, push_last={f"p.{name}": 1}, set_now=[f"t.{name}"]
            )
            assert created is (turn == 1)
            assert (document[name], document["s"], document["p"]) == (turn, {name: {name: 1}}, {name: [1] * turn})
            assert same(document, db[spec.collection].find_one({"_id": document["_id"]}))
        made, _ = docs.get_or_create(key_of(spec, f"{name} 2"), {name: {name: [name]}})
        assert same(made, db[spec.collection].find_one({"_id": made["_id"]}))


def test_any_value_is_a_key_and_nothing_but_itself(db: Any) -> None:
    """Numbers, bytes, ids, dates and documents are stored as themselves, alone and in a compound key."""
    docs, codes = bind(db, RESPONSES), Documents(db, CODES)
    keys = [1, True, -(2**40), 1.5, b"\0\1", ObjectId(), {"u": "$y"}, NOON]
    for key in keys:
        for turn in (1, 2):
            document, _ = codes.upsert(key, inc={"n": 1})
            pair, _ = docs.upsert((key, key), inc={"n": 1})
            assert document == {"_id": key, "n": turn}
            assert (pair["question_id"], pair["user_id"], pair["n"]) == (key, key, turn)
            assert isinstance(document["_id"], bool) is isinstance(pair["user_id"], bool) is isinstance(key, bool)
    assert [document["_id"] for document in every(db, CODES)] == keys
    assert [document["user_id"] for document in every(db, RESPONSES)] == keys


def test_hostile_names_are_refused_before_anything_is_sent(db: Any, commands: Any) -> None:
    """Operators and dotted names where a field's name belongs raise a UsageError; no command leaves."""
    docs = Documents(db, CODES)
    for call in (
        lambda: docs.get_or_create({"$gt": ""}),
        lambda: docs.get_or_create("a", {"$set": {"x": 1}}),
        lambda: docs.get_or_create("a", {"x": {"$gt": 1}}),
        lambda: docs.get_or_create("a", {"x.y": 1}),
        lambda: docs.upsert("a", set={"$x": 1}),
        lambda: docs.upsert("a", set={"x": {"$gt": 1}}),
        lambda: docs.upsert("a", push_last={"x": {"a.b": 1}}),
        lambda: docs.take({"$ne": None}),
        lambda: docs.take("a", unexpired="$until"),
        lambda: docs.take("a", timeout=0),
    ):
        with pytest.raises(UsageError):
            call()
    assert commands.names == []


def test_uuid_keys_and_values_follow_the_callers_own_representation(db: Any) -> None:
    """A UUID is stored as the collection that was handed in stores UUIDs, and comes back as one."""
    key = uuid.uuid4()
    options: CodecOptions[Any] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
    docs = Documents(db.get_collection("codes", codec_options=options), CODES)
    assert docs.get_or_create(key, {"u": key}) == ({"_id": key, "u": key}, True)
    assert docs.upsert(key, set={"v": key}).document == {"_id": key, "u": key, "v": key}
    assert every(db, CODES)[0] == {"_id": Binary.from_uuid(key), **dict.fromkeys("uv", Binary.from_uuid(key))}


# Commands ----------------------------------------------------------------------------------------------------


def test_one_command_a_call_with_a_comment(db: Any, commands: Any) -> None:
    """Each call is one command, and its comment names the pattern and the call; a set_now that is made takes two."""
    docs = Documents(db, CODES)
    docs.get_or_create("a", {"x": 1})
    docs.get_or_create("a")
    docs.upsert("a", set={"y": 1}, inc={"n": 1}, push_last={"h": 1}, set_now=["t"])
    docs.upsert("b", set={"y": 1}, inc={"n": 1}, push_last={"h": 1})
    docs.take("a")
    assert commands.names == ["findAndModify"] * 5
    assert commands.comments == {f"mongopatterns.documents.{call}" for call in ("get_or_create", "upsert", "take")}
    commands.clear()
    docs.upsert("c", set_now=["t"])
    assert commands.names == ["findAndModify", "aggregate"]
    assert commands.comments == {"mongopatterns.documents.upsert"}


@pytest.mark.parametrize(("spec", "key"), [(RESPONSES, ("q", "u")), (PAGES, "home")], ids=["two fields", "nested"])
def test_one_command_under_a_key_of_your_own(db: Any, commands: Any, spec: DocumentSpec, key: Any) -> None:
    """A document that is made tells its times itself, and null is no reason to ask again; only a refusal takes two."""
    docs = bind(db, spec)
    commands.clear()
    for value in (None, None, 1):
        docs.upsert(key, set={"x": value}, set_on_insert={"y": None, "h": None}, set_now=["t.x"])
        docs.upsert(key, inc={"y": 1}, push_last={"h": 1}, set={"x": None})
        docs.upsert(key, set={"x.z": 1}, set_now=["t.x"])
    assert commands.names == ["findAndModify"] * 9
    commands.clear()
    with pytest.raises(StateError):
        docs.upsert(key, inc={"x": 1})
    assert commands.names == ["findAndModify"] * 2
    assert commands.comments == {"mongopatterns.documents.upsert"}


def test_a_refusal_that_no_longer_stands_is_none(db: Any) -> None:
    """If what was in the way is gone when a refused call asks what it was, the call is done, and told as it was."""
    docs = bind(db, RESPONSES)
    plan = docs._plan
    options: dict[str, Any] = {"push_last": None, "keep": None, "set_now": ["t"], "session": None, "now": None}
    changes: dict[str, Any] = {"set": {"x": "$x"}, "inc": {"n": 1}}
    for stored in ({"n": 5}, None):
        db.responses.delete_many({})
        db.responses.insert_one({"question_id": "q", "user_id": "u", "n": "text", "big": "x" * 100_000})
        asked = plan.upsert(("q", "u"), changes, made=ObjectId(), **options)
        with pytest.raises(OperationFailure) as caught:
            db.responses.find_one_and_update(**asked.command.arguments())
        assert len(str(caught.value)) < 1000  # (a refusal does not repeat the document)
        if stored:
            db.responses.update_one({}, {"$set": stored})
        else:
            db.responses.delete_many({})
        asked = plan.refused(asked, caught.value)
        reply = db.responses.find_one_and_update(**asked.command.arguments())
        if again := plan.again(asked, reply):
            reply = settle(db.responses.aggregate(again.pipeline, let=again.let)).to_list(None)[0]
        document, created = plan.upserted(asked, reply)
        assert (created, document["n"], document["x"]) == (stored is None, 6 if stored else 1, "$x")
        assert same(document, db.responses.find_one({}))


def test_an_error_that_is_no_refusal_is_raised(db: Any, commands: Any) -> None:
    """What another index or the collection's own rules say of a call is raised as it is, after one command."""
    docs = bind(db, RESPONSES)
    db.responses.create_index("email", unique=True, sparse=True)
    docs.upsert((1, 1), set={"email": "a"})
    docs.upsert((2, 2), set={"n": 1})
    before = every(db, RESPONSES)
    db.command("collMod", "responses", validator={"n": {"$not": {"$gt": 5}}})
    commands.clear()
    with pytest.raises(DuplicateKeyError):
        docs.upsert((2, 2), set={"email": "a"}, inc={"n": 1})
    with pytest.raises(DuplicateKeyError):
        docs.upsert((3, 3), set={"email": "a"}, inc={"n": 1})
    with pytest.raises(OperationFailure) as caught:
        docs.upsert((2, 2), inc={"n": 9})
    assert caught.value.code == 121
    assert commands.names == ["findAndModify"] * 3
    assert every(db, RESPONSES) == before


def test_values_travel_once_each_way(db: Any, commands: Any) -> None:
    """A megabyte that is set is sent once and comes back once, with the document that is asked for."""
    docs = Documents(db, CODES)
    big = "x" * 1_000_000
    docs.get_or_create("a", {"big": big})
    assert commands.reply_bytes[-1] < 1000  # (what was made is not sent back)
    for _ in range(2):
        docs.upsert("a", set={"big": big}, inc={"n": 1})
        assert len(str(commands.sent[-1][1])) < 1_100_000
        assert commands.reply_bytes[-1] < 1_100_000
    docs.upsert("b", set={"big": big})
    assert commands.reply_bytes[-1] < 1000
    docs = bind(db, RESPONSES)
    for created in (True, False):
        assert docs.upsert(("q", "u"), set={"big": big}, inc={"n": 1}).created is created
        assert len(str(commands.sent[-1][1])) < 1_100_000
        assert commands.reply_bytes[-1] < 1_100_000
    with pytest.raises(StateError):
        docs.upsert(("q", "u"), inc={"big": 1})
    assert commands.reply_bytes[-1] < 1000


def test_the_options_of_the_collection_do_not_matter(db: Any, commands: Any) -> None:
    """Majority, plain dicts and aware dates whatever the collection came with; durability= relaxes it openly."""
    options: CodecOptions[Any] = CodecOptions(document_class=SON)
    odd = db.get_collection("odd", codec_options=options, write_concern=WriteConcern(w=0))
    docs = Documents(odd, CODES)
    for _ in range(2):
        document, _ = docs.get_or_create("a", {"at": NOON, "d": {"e": 1}})
        assert (type(document), type(document["d"]), document["at"]) == (dict, dict, NOON)
        assert commands.sent[-1][1]["writeConcern"] == {"w": "majority"}
    Documents(odd, CODES, durability=Durability.FAST).take("a")
    assert commands.sent[-1][1]["writeConcern"] == {"w": 1}


def test_timeout_bounds_the_whole_call(db: Any, mongopatterns_server: Any) -> None:
    """A server that does not answer in time raises the driver's timeout, and the outcome is unknown."""
    docs = Documents(db, CODES)
    block = {"failCommands": ["findAndModify"], "blockConnection": True, "blockTimeMS": 600}
    for call in (docs.get_or_create, docs.upsert, docs.take):
        with (
            mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=block),
            pytest.raises((NetworkTimeout, ExecutionTimeout)) as caught,
        ):
            call("a", timeout=0.2)
        assert may_have_applied(caught.value)


# Lost replies ------------------------------------------------------------------------------------------------


@KEYED
def test_a_lost_reply_makes_once(db: Any, mongopatterns_server: Any, spec: DocumentSpec, key: Any) -> None:
    """When the reply is lost after the write, the driver's repeat still says who made the document, and which."""
    docs = bind(db, spec)
    name, mode, data = LOST_REPLY
    with mongopatterns_server.fail_point(name, mode=mode, data=data):
        made, created = docs.get_or_create(key, {"x": 1})
    assert created
    assert every(db, spec) == [made]
    assert docs.get_or_create(key, {"x": 2}) == (made, False)


@KEYED
def test_a_lost_reply_changes_once(db: Any, mongopatterns_server: Any, spec: DocumentSpec, key: Any) -> None:
    """The repeat of a made and of a changed document tells what is stored, times included; nothing is done twice."""
    docs = bind(db, spec)
    name, mode, data = LOST_REPLY
    for turn, times in enumerate([("t.x", "now"), ("t.x", "now"), ()], start=1):
        with mongopatterns_server.fail_point(name, mode=mode, data=data):
            document, created = docs.upsert(
                key,
                set={"_mongopatterns": {"a": "$field"}},  # (a field of the reply's own name)
                set_on_insert={"o": "$x"},
                inc={"n.m": 1},
                push_last={"h": turn},
                keep=2,
                set_now=times,
            )
        assert created is (turn == 1)
        (stored,) = every(db, spec)
        assert same(document, stored)
    assert (stored["n"], stored["h"], stored["o"]) == ({"m": 3}, [2, 3], "$x")


def test_a_lost_reply_of_a_document_that_is_gone(db: Any, commands: Any, mongopatterns_server: Any) -> None:
    """What the repeat has to tell is told from the stored image, even if somebody took the document meanwhile."""
    docs = Documents(db, CODES)
    plan = docs._plan
    docs.get_or_create("a", {"n": 1})
    options: dict[str, Any] = {"push_last": None, "keep": None, "made": ObjectId(), "session": None, "now": None}
    for set_now in ((), ("t",)):
        asked = plan.upsert("gone", {"inc": {"n": 1}}, set_now=set_now, **options)
        again = plan.again(asked, {"_id": "gone", "n": 5})
        assert again is not None
        cursor = settle(db.codes.aggregate(again.pipeline, let=again.let))
        document, created = plan.upserted(asked, cursor.to_list(None)[0])
        assert (document["_id"], document["n"], created) == ("gone", 6, False)
        assert set(document) == {"_id", "n", *set_now}


@KEYED
def test_a_lost_reply_of_a_refusal_is_a_refusal(
    db: Any, mongopatterns_server: Any, spec: DocumentSpec, key: Any
) -> None:
    """A call that changed nothing raises its error whether or not the driver had to repeat it."""
    docs = bind(db, spec)
    docs.upsert(key, set={"n": "text"})
    before = every(db, spec)
    for name, mode, data in (
        LOST_REPLY,
        ("failCommand", {"times": 1}, {"failCommands": ["findAndModify"], "closeConnection": True}),
    ):
        with mongopatterns_server.fail_point(name, mode=mode, data=data), pytest.raises(StateError):
            docs.upsert(key, inc={"n": 1}, set_now=["t"])
        assert every(db, spec) == before


def test_a_lost_reply_with_an_id_of_the_callers_own(db: Any, mongopatterns_server: Any) -> None:
    """Where the caller gives the `_id` that could be a token, the repeat still says who made the document."""
    docs = bind(db, RESPONSES)
    name, mode, data = LOST_REPLY
    for created in (True, False):
        with mongopatterns_server.fail_point(name, mode=mode, data=data):
            told = docs.upsert((1, 1), set_on_insert={"_id": "mine"}, inc={"n": 1}, set_now=["t"])
        assert told.created is created
        assert every(db, RESPONSES) == [told.document]
    assert told.document["n"] == 2


def test_a_call_that_was_applied_is_never_told_as_refused(db: Any, mongopatterns_server: Any) -> None:
    """Where the read after the write fails, even by a refusal of the server, the error says that it may be stored."""
    docs = Documents(db, CODES)
    refused = {"failCommands": ["aggregate"], "errorCode": 13}
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=refused),
        pytest.raises(OutcomeUnknown) as caught,
    ):
        docs.upsert("a", inc={"n": 1}, set_now=["t"])
    assert may_have_applied(caught.value)
    assert isinstance(caught.value.__cause__, OperationFailure)
    assert [document["n"] for document in every(db, CODES)] == [1]


def test_a_lost_reply_takes_once(db: Any, mongopatterns_server: Any) -> None:
    """The repeat of a deletion gives its document to the same caller; with replies lost on the way still to one."""
    docs = Documents(db, CODES)
    name, _, data = LOST_REPLY
    made, _ = docs.get_or_create("a", {"until": NOON})
    with mongopatterns_server.fail_point(name, mode={"times": 1}, data=data):
        assert docs.take("a", unexpired="until", now=NOON - SECOND) == made
    assert docs.take("a") is None
    made, _ = docs.get_or_create("b", {"x": 1})
    with mongopatterns_server.fail_point(name, mode={"times": 1}, data=data):
        report = race_threads(lambda _: docs.take("b"), times=30, concurrency=30)
    report.raise_errors()
    assert [document for document in report.outcomes if document is not None] == [made]


@SPECS
def test_calls_take_part_in_a_transaction(client: Any, db: Any, spec: DocumentSpec) -> None:
    """An aborted transaction takes all calls with it, each call sees what came before, and a refusal aborts nothing."""
    docs = bind(db, spec)
    one, other, old = (key_of(spec, name) for name in ("a", "b", "old"))
    known, _ = docs.get_or_create(old, {"n": 1, "s": "text", "m": Int64(2**63 - 1)})
    with settle(client.start_session()) as session:
        settle(session.start_transaction())
        assert docs.get_or_create(one, {"n": 1}, session=session).created
        told = docs.upsert(one, inc={"n": 1}, set_now=["t"], session=session)
        assert (told.created, told.document["n"]) == (False, 2)
        for path in ("s", "m"):
            with pytest.raises(StateError):
                docs.upsert(old, inc={path: 1}, session=session)
        made = docs.upsert(other, set_now=["t"], session=session)
        assert made.created
        assert docs.take(other, session=session) == made.document
        assert docs.take(old, session=session) == known
        session.abort_transaction()
        assert not docs.upsert(old, inc={"n": 1}, session=session).created
        with pytest.raises(StateError):
            docs.upsert(old, inc={"s": 1}, session=session)
    assert every(db, spec) == [{**known, "n": 2}]
