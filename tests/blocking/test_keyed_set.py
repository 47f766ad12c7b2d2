# Generated from tests/aio/test_keyed_set.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""What a keyed set promises, on a real server."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
from bson import Binary, Decimal128, ObjectId, UuidRepresentation, encode
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from bson.son import SON
from pymongo.errors import ConnectionFailure, ExecutionTimeout, NetworkTimeout, WriteConcernError, WriteError
from pymongo.write_concern import WriteConcern

from mongopatterns import (
    AddManyResult,
    DocumentNotFound,
    Durability,
    KeyedSet,
    KeyedSetOutcome,
    KeyedSetSpec,
    LimitExceeded,
    StateError,
    UsageError,
    may_have_applied,
)
from mongopatterns._driver_sync import settle
from mongopatterns.membership._commands import LARGEST_DOCUMENT
from mongopatterns.testing import race_threads

ADDED, ALREADY = KeyedSetOutcome.ADDED, KeyedSetOutcome.ALREADY
REMOVED, ABSENT = KeyedSetOutcome.REMOVED, KeyedSetOutcome.ABSENT
FULL, TOO_MANY_KEYS, NOT_FOUND = KeyedSetOutcome.FULL, KeyedSetOutcome.TOO_MANY_KEYS, KeyedSetOutcome.NOT_FOUND

REACT = KeyedSetSpec("messages", path="reactions", max_keys=3, max_members=2)
OPEN = KeyedSetSpec("messages", path="reactions")
MADE = KeyedSetSpec("messages", path="reactions", create={})
COUNTED = KeyedSetSpec("posts", path="votes.by", counts="votes.n", create={"kind": "$poll", "votes": {"open": True}})
TIGHT = KeyedSetSpec("messages", path="reactions", counts="numbers", create={}, max_keys=3, max_members=2)

NAMES = [
    "$price", "$$ROOT", "$$REMOVE", "$literal", "a.b", ".", "..", "$", "👍", "👍🏽", "__proto__", "0", "_id", "ключ",
    " ", "$ref", "$id", "$db", "{$gt: 1}", '"', "x" * 256, "👍" * 256, "constructor", "\u200b",
]  # fmt: skip
MEMBERS: list[Any] = [
    "$price", "$$ROOT", "", "u.1", 7, -(2**40), 1.5, True, False, b"\0\1", ObjectId(), Decimal128("0.1"),
    dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), {"a": "$x", "b": [1, {"c": None}]}, {},
]  # fmt: skip


def test_a_member_is_added_once_and_removed_once(db: Any) -> None:
    """Each call tells what it did and how the set stands after it; the map is that of the application."""
    db.messages.insert_one({"_id": 1, "text": "hello"})
    react = KeyedSet(db, REACT)
    seen = [
        react.add(1, "👍", "u1"),
        react.add(1, "👍", "u1"),
        react.add(1, "👍", "u2"),
        react.add(1, "❤", "u1"),
    ]
    assert [each.outcome for each in seen] == [ADDED, ALREADY, ADDED, ADDED]
    assert [(each.size, each.keys, each.present) for each in seen] == [(1, 1, True)] * 2 + [(2, 1, True), (1, 2, True)]
    stored = {"_id": 1, "text": "hello", "reactions": {"👍": ["u1", "u2"], "❤": ["u1"]}}
    assert db.messages.find_one() == stored
    gone = [react.remove(1, "👍", "u1"), react.remove(1, "👍", "u1"), react.remove(1, "❤", "u1")]
    assert [(each.outcome, each.size, each.keys) for each in gone] == [(REMOVED, 1, 2), (ABSENT, 1, 2), (REMOVED, 0, 1)]
    assert all(gone)
    assert not any(each.present for each in gone)
    assert db.messages.find_one() == {"_id": 1, "text": "hello", "reactions": {"👍": ["u2"]}}


def test_toggle_changes_sides(db: Any) -> None:
    """Toggle adds who is not there and removes who is, within the bounds; it is true when it has changed something."""
    db.messages.insert_one({"_id": 1})
    react = KeyedSet(db, REACT)
    for _ in range(2):
        on, off = react.toggle(1, "👍", "u1"), react.toggle(1, "👍", "u1")
        assert (on.outcome, on.present, bool(on), on.size, on.keys) == (ADDED, True, True, 1, 1)
        assert (off.outcome, off.present, bool(off), off.size, off.keys) == (REMOVED, False, True, 0, 0)
    react.add(1, "👍", "u1")
    react.add(1, "👍", "u2")
    full = react.toggle(1, "👍", "u3")
    assert (full.outcome, full.present, bool(full), full.size) == (FULL, False, False, 2)
    assert react.toggle(1, "👍", "u2").outcome is REMOVED


def test_bounds_hold_for_who_is_new(db: Any) -> None:
    """A full set refuses strangers, and a document with all its names another name; who is in stays in."""
    db.messages.insert_one({"_id": 1})
    react = KeyedSet(db, REACT)
    for name in ("a", "b", "c"):
        assert react.add(1, name, "u1")
    assert react.add(1, "a", "u2")
    before = db.messages.find_one()
    full, many = react.add(1, "a", "u3"), react.add(1, "d", "u1")
    assert (full.outcome, full.size, full.keys, bool(full)) == (FULL, 2, 3, False)
    assert (many.outcome, many.size, many.keys, bool(many)) == (TOO_MANY_KEYS, 0, 3, False)
    assert react.add(1, "a", "u2").outcome is ALREADY
    assert db.messages.find_one() == before
    for refused in (full, many):
        with pytest.raises(LimitExceeded) as caught:
            refused.require()
        assert caught.value.decision is refused
    react.remove(1, "c", "u1")
    assert react.add(1, "d", "u1")


def test_an_empty_list_is_no_name(db: Any) -> None:
    """Names without members do not count, are dropped where one is written, and stay where nothing is."""
    empty = {"a": [], "b": None, "c": []}
    db.messages.insert_one({"_id": 1, "reactions": {**empty, "d": ["u1"], "e": ["u1"]}})
    react = KeyedSet(db, REACT)
    gone = react.remove(1, "a", "u1")
    assert (gone.outcome, gone.size, gone.keys) == (ABSENT, 0, 2)
    added = react.add(1, "b", "u1")
    assert (added.outcome, added.size, added.keys) == (ADDED, 1, 3)
    refused = react.add(1, "a", "u1")
    assert (refused.outcome, refused.keys) == (TOO_MANY_KEYS, 3)
    assert list(db.messages.find_one()["reactions"].items()) == [
        ("a", []), ("b", ["u1"]), ("c", []), ("d", ["u1"]), ("e", ["u1"]),
    ]  # fmt: skip
    react.remove(1, "b", "u1")
    assert db.messages.find_one()["reactions"] == {"a": [], "c": [], "d": ["u1"], "e": ["u1"]}
    assert react.counts(1) == {"d": 1, "e": 1}
    assert react.get(1) == {"d": ["u1"], "e": ["u1"]}
    assert react.members(1, "a") == react.members(1, "b") == react.members(1, "zz") == []


def test_what_is_more_than_the_bounds_stays(db: Any) -> None:
    """Bounds that were lowered take nothing away: who is in stays, removing works, and nobody else gets in."""
    db.messages.insert_one({"_id": 1, "reactions": {name: ["u1", "u2", "u3"] for name in "abcde"}})
    react = KeyedSet(db, REACT)
    assert react.add(1, "a", "u3").outcome is ALREADY
    assert react.add(1, "a", "u4").outcome is FULL
    assert react.add(1, "f", "u1").outcome is TOO_MANY_KEYS
    assert react.remove(1, "a", "u3").size == 2
    assert react.add(1, "a", "u4").outcome is FULL


def test_a_member_that_is_stored_twice_goes_at_once(db: Any) -> None:
    """Remove takes every equal member, and leaves the others in their order; whatever else is in the list stays."""
    db.messages.insert_one({"_id": 1, "reactions": {"a": ["u1", 1, None, 1.0, ["x"], "u1", True, Decimal128("1")]}})
    react = KeyedSet(db, OPEN)
    assert react.add(1, "a", Decimal128("1.0")).outcome is ALREADY
    gone = react.remove(1, "a", 1)
    assert (gone.outcome, gone.size) == (REMOVED, 5)
    assert react.toggle(1, "a", "u1").size == 3
    assert react.members(1, "a") == [None, ["x"], True]


def test_any_text_is_a_name(db: Any) -> None:
    """Names that look like paths, variables and operators are stored as themselves, in both maps, and found again."""
    sets = KeyedSet(db, COUNTED)
    for key, name in enumerate(NAMES):
        assert sets.add(key, "other", "u1").keys == 1
        assert sets.add(key, name, "u1").keys == 2
        assert sets.toggle(key, name, "u2").size == 2
        document = db.posts.find_one({"_id": key})
        by, numbers = {"other": ["u1"], name: ["u1", "u2"]}, {"other": 1, name: 2}
        assert document["votes"] == {"open": True, "by": by, "n": numbers}
        assert sets.get(key) == COUNTED.read(document) == by
        assert sets.counts(key) == numbers
        assert sets.members(key, name) == ["u1", "u2"]
        assert sets.add_many([key, "none"], name, "u3").added == 1
        for member in ("u3", "u2", "u1"):
            assert sets.remove(key, name, member).outcome is REMOVED
        document = db.posts.find_one({"_id": key})
        assert document["votes"] == {"open": True, "by": {"other": ["u1"]}, "n": {"other": 1}}


def test_any_value_is_a_member_and_nothing_but_itself(db: Any) -> None:
    """Text that looks like an operator or a path, numbers, dates, bytes and documents are stored as themselves."""
    sets = KeyedSet(db, MADE)
    for key, member in enumerate(MEMBERS):
        assert sets.add(key, "a", "other").size == 1
        assert sets.add(key, "a", member).outcome is ADDED
        assert sets.add(key, "a", member).outcome is ALREADY
        found = sets.members(key, "a")
        assert found == ["other", member]
        assert isinstance(found[1], bool) is isinstance(member, bool)
        assert sets.add_many([key], "a", member) == AddManyResult(matched=1, added=0, missing=0)
        assert sets.toggle(key, "a", member).outcome is REMOVED
        assert sets.members(key, "a") == ["other"]


def test_members_compare_as_the_server_compares_them(db: Any) -> None:
    """1, 1.0 and Decimal 1 are one member, and True, "1" and a document are others; so is one of another order."""
    sets = KeyedSet(db, MADE)
    for member in (1, True, "1", {"a": 1, "b": 1}, {"b": 1, "a": 1}, 0.0):
        assert sets.add(1, "a", member).outcome is ADDED
    for member in (1.0, Decimal128("1"), {"a": 1.0, "b": 1}, -0.0, 0):
        assert sets.add(1, "a", member).outcome is ALREADY
    assert sets.remove(1, "a", False).outcome is ABSENT
    assert sets.remove(1, "a", 1.0).size == 5
    loose = db.create_collection("loose", collation={"locale": "en", "strength": 2})
    sets = KeyedSet(loose, MADE)
    assert sets.add("k", "a", "Ann").outcome is ADDED
    assert sets.add("k", "a", "ann").outcome is ALREADY
    assert sets.add("k", "A", "ann").keys == 2
    assert sets.remove("k", "a", "ANN").outcome is REMOVED


def test_uuids_follow_the_callers_own_representation(db: Any) -> None:
    """A member that is a UUID is stored as the collection that was handed in stores UUIDs."""
    member = uuid.uuid4()
    options: CodecOptions[Any] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
    sets = KeyedSet(db.get_collection("mine", codec_options=options), MADE)
    assert sets.add(1, "a", member)
    assert sets.members(1, "a") == [member]
    assert db.mine.find_one()["reactions"] == {"a": [Binary.from_uuid(member)]}


def test_key_type_turns_text_into_object_ids(db: Any) -> None:
    """With key_type=ObjectId an id as text finds the same document, in every call."""
    sets = KeyedSet(db, KeyedSetSpec("messages", path="r", key_type=ObjectId))
    key = db.messages.insert_one({}).inserted_id
    assert sets.add(str(key), "a", "u1").key == key
    assert sets.add(key, "a", "u1").outcome is ALREADY
    assert sets.get(str(key)) == {"a": ["u1"]}
    assert sets.add_many([str(key), key, ObjectId()], "b", "u1") == AddManyResult(1, 1, 1)
    with pytest.raises(UsageError, match="not an ObjectId"):
        sets.add("alice", "a", "u1")


# Documents that are not there --------------------------------------------------------------------------------


def test_without_create_no_document_is_made(db: Any) -> None:
    """By default an unknown key is NOT_FOUND in every call, and stays unknown; reads raise."""
    react = KeyedSet(db, REACT)
    for call in (react.add, react.toggle, react.remove):
        lost = call("ghost", "👍", "u1")
        assert (lost.outcome, bool(lost), lost.present, lost.size, lost.keys) == (NOT_FOUND, False, False, 0, 0)
        with pytest.raises(DocumentNotFound, match="'ghost'"):
            lost.require()
    for read in (react.get, react.counts, lambda key: react.members(key, "👍")):
        with pytest.raises(DocumentNotFound, match="'ghost'"):
            read("ghost")
    assert db.messages.count_documents({}) == 0


def test_create_makes_the_document_of_the_first_member(db: Any) -> None:
    """With create the first add or toggle makes the document, with these fields as they are; remove makes none."""
    sets = KeyedSet(db, COUNTED)
    gone = sets.remove("a", "👍", "u1")
    assert (gone.outcome, bool(gone), gone.size) == (ABSENT, True, 0)
    assert (sets.get("a"), sets.counts("a"), sets.members("a", "👍")) == ({}, {}, [])
    assert sets.add_many(["a", "b"], "👍", "u1") == AddManyResult(0, 0, 2)
    assert db.posts.count_documents({}) == 0
    for key, call in (("a", sets.add), ("b", sets.toggle)):
        made = call(key, "👍", "u1")
        assert (made.outcome, made.size, made.keys) == (ADDED, 1, 1)
        votes = {"open": True, "by": {"👍": ["u1"]}, "n": {"👍": 1}}
        assert db.posts.find_one({"_id": key}) == {"_id": key, "kind": "$poll", "votes": votes}
    db.posts.insert_one({"_id": "old", "text": "mine"})
    sets.add("old", "👍", "u1")
    assert set(db.posts.find_one({"_id": "old"})) == {"_id", "text", "votes"}
    assert "open" not in db.posts.find_one({"_id": "old"})["votes"]


def test_a_document_is_found_by_another_field(db: Any) -> None:
    """With key_field the document is found, and made, by that field; nothing else of it changes."""
    db.posts.create_index("page.slug", unique=True)
    db.posts.insert_one({"_id": 1, "page": {"slug": "a", "title": "$t"}})
    sets = KeyedSet(db, KeyedSetSpec("posts", path="page.tags", key_field="page.slug", create={"by": "me"}))
    for key in ("a", "b"):
        assert sets.add(key, "red", 1).outcome is ADDED
        assert sets.add(key, "red", 1).outcome is ALREADY
    old, new = db.posts.find({}, {"_id": 0}).sort("page.slug", 1).to_list(None)
    assert old == {"page": {"slug": "a", "title": "$t", "tags": {"red": [1]}}}
    assert new == {"page": {"slug": "b", "tags": {"red": [1]}}, "by": "me"}
    assert sets.add_many(["a", "b", "c"], "blue", 1) == AddManyResult(2, 2, 1)


@pytest.mark.parametrize("nothing", [{}, {"votes": None}, {"votes": {}}, {"votes": {"by": None, "n": None}}])
def test_a_missing_or_null_map_is_an_empty_one(db: Any, nothing: dict[str, Any]) -> None:
    """Whatever is not there yet on the way to the maps is made by the first member; before that, it is empty."""
    db.posts.insert_one({"_id": 1, "x": 1, **nothing})
    before = db.posts.find_one()
    sets = KeyedSet(db, COUNTED)
    assert sets.remove(1, "👍", "u1").outcome is ABSENT
    assert (sets.get(1), sets.counts(1), sets.members(1, "👍")) == ({}, {}, [])
    assert db.posts.find_one() == before
    assert sets.add(1, "👍", "u1").outcome is ADDED
    assert db.posts.find_one() == {"_id": 1, "x": 1, "votes": {"by": {"👍": ["u1"]}, "n": {"👍": 1}}}


def test_a_bare_document_of_a_refused_call_stays_bare(db: Any) -> None:
    """A document with nothing but its key gets the fields of create with its first member, and not before."""
    db.posts.insert_one({"_id": 1})
    sets = KeyedSet(db, COUNTED)
    sets.remove(1, "👍", "u1")
    assert db.posts.find_one() == {"_id": 1}
    sets.add(1, "👍", "u1")
    assert db.posts.find_one()["kind"] == "$poll"


def test_the_deepest_paths_work(db: Any) -> None:
    """Paths of 32 parts, for both maps and the key, are not too much for the server."""
    parts = [f"p{number}" for number in range(31)]
    path, counts, field = (".".join((*parts, last)) for last in ("sets", "n", "key"))
    db.deep.create_index(field, unique=True)
    spec = KeyedSetSpec("deep", path=path, counts=counts, key_field=field, create={}, max_keys=2, max_members=2)
    sets = KeyedSet(db, spec)
    assert [call("k", "a", 1).outcome for call in (sets.add, sets.toggle, sets.toggle)] == [
        ADDED,
        REMOVED,
        ADDED,
    ]
    assert sets.add_many(["k"], "b", 1).added == 1
    assert (sets.get("k"), sets.counts("k"), sets.members("k", "a")) == (
        {"a": [1], "b": [1]},
        {"a": 1, "b": 1},
        [1],
    )


# counts= -----------------------------------------------------------------------------------------------------


def test_counts_are_kept_and_repair_themselves_name_by_name(db: Any) -> None:
    """A name that is written gets its real number, whatever was counted before; other names stay as they are."""
    by = {"a": ["u1"], "b": ["u1", "u2"], "c": ["u1"]}
    db.posts.insert_one({"_id": 1, "votes": {"by": by, "n": {"b": 99, "c": "text", "gone": 7}}})
    sets = KeyedSet(db, COUNTED)

    def counted() -> Any:
        return db.posts.find_one()["votes"]["n"]

    sets.add(1, "a", "u1")  # (already there: nothing is written)
    assert counted() == {"b": 99, "c": "text", "gone": 7}
    sets.add(1, "a", "u2")
    assert counted() == {"a": 2, "b": 99, "c": "text", "gone": 7}
    sets.remove(1, "b", "u1")
    assert counted() == {"a": 2, "b": 1, "c": "text", "gone": 7}
    sets.toggle(1, "c", "u1")
    assert counted() == {"a": 2, "b": 1, "gone": 7}
    assert sets.counts(1) == {"a": 2, "b": 1}


# Wrong types -------------------------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str]] = [
    *(({"votes": wrong}, "votes") for wrong in ("text", 5, [], [{"by": {}}], True)),
    *(({"votes": {"by": wrong}}, "votes.by") for wrong in ("text", 5, ["u1"], [{"a": ["u1"]}], True)),
    *(({"votes": {"by": {"a.b": wrong}}}, "votes.by.a.b") for wrong in ("u1", 5, {"0": "u1"}, True, ObjectId())),
]


@pytest.mark.parametrize(("document", "path"), WRONG)
def test_a_stored_value_of_the_wrong_type_is_an_error_and_stays(db: Any, document: dict[str, Any], path: str) -> None:
    """What is no map, or no list under the name, raises an error that names it; nothing is changed."""
    db.posts.insert_one({"_id": "k", "text": "kept", **document})
    db.posts.insert_one({"_id": "good"})
    before = db.posts.find_one({"_id": "k"})
    for spec in (COUNTED, KeyedSetSpec("posts", path="votes.by", max_keys=2, max_members=2)):
        sets = KeyedSet(db, spec)
        calls = [
            *(lambda call=call: call("k", "a.b", "u1") for call in (sets.add, sets.remove, sets.toggle, sets.members)),
            *(lambda read=read: read("k") for read in (sets.get, sets.counts)),
        ]
        calls[3] = lambda sets=sets: sets.members("k", "a.b")
        for call in calls:
            with pytest.raises(StateError, match=r"in the document 'k' of 'posts'") as caught:
                call()
            assert caught.value.path == path
        many = sets.add_many(["k", "good"], "a.b", "u1")
        assert (many.matched, many.missing) == (2, 0)
        assert db.posts.find_one({"_id": "k"}) == before
    assert COUNTED.read(db.posts.find_one({"_id": "good"})) == {"a.b": ["u1"]}


@pytest.mark.parametrize("wrong", ["text", 5, 1.5, [], [{"a": ["u1"]}], True, ObjectId(), b"x", {"a": "u1"}, {"a": {}}])
def test_a_map_of_the_wrong_type_at_the_top_is_an_error_and_stays(db: Any, wrong: Any) -> None:
    """The same holds of a map that no path leads to, whether or not documents are made and bounds are set."""
    db.messages.insert_one({"_id": 1, "reactions": wrong})
    before = db.messages.find_one()
    path = "reactions.a" if isinstance(wrong, dict) else "reactions"
    for spec in (OPEN, MADE, REACT, TIGHT, KeyedSetSpec("messages", path="reactions", create={"kind": "$note"})):
        sets = KeyedSet(db, spec)
        for call in (sets.add, sets.remove, sets.toggle):
            with pytest.raises(StateError) as caught:
                call(1, "a", "u1")
            assert caught.value.path == path
    assert db.messages.find_one() == before


@pytest.mark.parametrize("wrong", ["text", 5, [], True])
def test_counts_of_the_wrong_type_are_an_error_and_stay(db: Any, wrong: Any) -> None:
    """What is no map where the counts are raises an error in every call that writes; reads do not mind."""
    db.posts.insert_one({"_id": 1, "votes": {"by": {"a": ["u1"]}, "n": wrong}})
    before = db.posts.find_one()
    sets = KeyedSet(db, COUNTED)
    for call in (sets.add, sets.remove, sets.toggle):
        with pytest.raises(StateError) as caught:
            call(1, "a", "u1")
        assert caught.value.path == "votes.n"
    assert db.posts.find_one() == before
    assert (sets.get(1), sets.counts(1), sets.members(1, "a")) == ({"a": ["u1"]}, {"a": 1}, ["u1"])


def test_other_names_of_the_wrong_type_do_not_matter(db: Any) -> None:
    """What somebody keeps beside the lists is no name in use, stays, and stops only those who read it."""
    db.messages.insert_one({"_id": 1, "reactions": {"total": 5, "a": ["u1"]}})
    react = KeyedSet(db, REACT)
    assert react.add(1, "b", "u1").keys == 2
    assert react.members(1, "a") == ["u1"]
    assert db.messages.find_one()["reactions"] == {"total": 5, "a": ["u1"], "b": ["u1"]}
    for read in (react.get, react.counts):
        with pytest.raises(StateError, match=r"'reactions\.total'"):
            read(1)


# Many documents ----------------------------------------------------------------------------------------------


def test_many_documents_in_one_command(db: Any, commands: Any) -> None:
    """One command adds the member wherever it is admitted, and tells how many documents there are and changed."""
    db.messages.insert_many([
        {"_id": 1},
        {"_id": 2, "reactions": {"👍": ["u1"]}},
        {"_id": 3, "reactions": {"👍": ["u2", "u3"]}},
        {"_id": 4, "reactions": {"a": ["u1"], "b": ["u1"], "c": ["u1"], "empty": []}},
        {"_id": 5, "reactions": {"👍": "text"}},
        {"_id": 6, "reactions": {"👍": ["u2"]}},
    ])  # fmt: skip
    before = {document["_id"]: document for document in db.messages.find().to_list(None)}
    commands.clear()
    many = KeyedSet(db, REACT).add_many([1, 2, 3, 4, 5, 6, 7, 1.0], "👍", "u1")
    assert commands.names == ["update"]
    assert commands.comments == {"mongopatterns.keyed_set.add_many"}
    assert many == AddManyResult(matched=6, added=2, missing=1)
    assert (many.unchanged, bool(many)) == (4, False)
    after = {document["_id"]: document for document in db.messages.find().to_list(None)}
    assert after == {
        **before,
        1: {"_id": 1, "reactions": {"👍": ["u1"]}},
        6: {"_id": 6, "reactions": {"👍": ["u2", "u1"]}},
    }
    assert KeyedSet(db, REACT).add_many([1, 6], "👍", "u1") == AddManyResult(2, 0, 0)
    with pytest.raises(UsageError, match=r"^keys: "):
        KeyedSet(db, REACT).add_many([], "👍", "u1")
    assert KeyedSet(db, REACT).add_many([1], "a", "u1")


def test_many_are_not_repeated_by_the_driver_and_repeating_is_harmless(db: Any, mongopatterns_server: Any) -> None:
    """A lost connection is the driver's error, with an unknown outcome; a repeat of the call adds what is missing."""
    db.messages.insert_many([{"_id": 1}, {"_id": 2}])
    react = KeyedSet(db, COUNTED)
    sets = KeyedSet(db, TIGHT)
    lost = {"failCommands": ["update"], "closeConnection": True, "namespace": f"{db.name}.messages"}
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=lost),
        pytest.raises(ConnectionFailure) as caught,
    ):
        sets.add_many([1, 2], "👍", "u1")
    assert may_have_applied(caught.value)
    stale = {"failCommands": ["update"], "writeConcernError": {"code": 100, "errmsg": "not enough members"}}
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=stale),
        pytest.raises(WriteConcernError) as unsure,
    ):
        sets.add_many([1], "👍", "u1")
    assert may_have_applied(unsure.value)
    assert sets.add_many([1, 2], "👍", "u1") == AddManyResult(matched=2, added=1, missing=0)
    assert [sets.get(key) for key in (1, 2)] == [{"👍": ["u1"]}] * 2
    assert react.add_many([1], "👍", "u1") == AddManyResult(0, 0, 1)


# What travels ------------------------------------------------------------------------------------------------


def test_one_command_a_call_with_a_comment(db: Any, commands: Any) -> None:
    """Each call is one command, and its comment names the pattern and the call."""
    sets = KeyedSet(db, TIGHT)
    sets.add(1, "a", "u1")
    sets.toggle(1, "a", "u1")
    sets.remove(1, "a", "u1")
    sets.members(1, "a")
    sets.counts(1)
    sets.get(1)
    sets.add_many([1], "a", "u1")
    assert commands.names == ["findAndModify"] * 3 + ["aggregate"] * 3 + ["update"]
    calls = ("add", "toggle", "remove", "members", "counts", "get", "add_many")
    assert commands.comments == {f"mongopatterns.keyed_set.{call}" for call in calls}


def test_what_is_refused_leaves_no_trace_in_the_oplog(client: Any, db: Any) -> None:
    """Calls that change nothing are not logged by the server, one by one and many at once."""
    sets = KeyedSet(db, TIGHT)
    for name in ("a", "b", "c"):
        for member in ("u1", "u2"):
            sets.add(1, name, member)
    mine = {"ns": f"{db.name}.messages"}
    oplog = client.local["oplog.rs"]
    before = oplog.count_documents(mine)
    assert before
    assert sets.add(1, "a", "u1").outcome is ALREADY
    assert sets.add(1, "a", "u3").outcome is FULL
    assert sets.add(1, "d", "u1").outcome is TOO_MANY_KEYS
    assert sets.toggle(1, "a", "u3").outcome is FULL
    assert sets.remove(1, "a", "u3").outcome is ABSENT
    assert sets.remove(2, "a", "u1").outcome is ABSENT
    assert sets.add_many([1, 2], "a", "u1").added == 0
    assert oplog.count_documents(mine) == before


def test_a_large_document_does_not_travel(db: Any, commands: Any) -> None:
    """The reply tells of the set, not of the megabyte that stands beside it; a verdict carries no members."""
    reactions = {"👍": [f"user {number}" for number in range(10_000)]}
    db.messages.insert_one({"_id": 1, "blob": "x" * 1_000_000, "reactions": reactions})
    commands.clear()
    react = KeyedSet(db, KeyedSetSpec("messages", path="reactions", counts="counts"))
    assert react.add(1, "👍", "u1").size == 10_001
    assert react.toggle(1, "👍", "u1").size == 10_000
    assert react.remove(1, "👍", "user 5").size == 9_999
    assert react.counts(1) == {"👍": 9_999}
    assert react.members(1, "❤") == []
    assert react.add_many([1], "👍", "u2").added == 1
    assert max(commands.reply_bytes) < 1000


def test_explain_shows_the_command_that_add_sends(db: Any, commands: Any) -> None:
    """What explain returns is what travels, but for what the driver adds; and it can be sent by hand."""
    react = KeyedSet(db, TIGHT)
    shown = react.explain(1, "$a.b", "$u1")
    assert commands.names == []
    react.add(1, "$a.b", "$u1")
    (_, sent), *_ = commands.sent
    plain = [
        RawBSONDocument(stage.raw if isinstance(stage, RawBSONDocument) else encode(stage)) for stage in sent["update"]
    ]
    assert [encode(stage) for stage in shown["update"]] == [stage.raw for stage in plain]
    assert sent["query"] == shown["filter"] == {"_id": 1}
    db.messages.delete_one({"_id": 1})
    assert db.messages.find_one_and_update(**shown) is None
    assert db.messages.find_one()["reactions"] == {"$a.b": ["$u1"]}


def test_the_options_of_the_collection_do_not_matter(db: Any, commands: Any) -> None:
    """Majority and plain replies whatever options the collection came with; durability= relaxes it openly."""
    options: CodecOptions[Any] = CodecOptions(document_class=SON)
    odd = db.get_collection("odd", codec_options=options, write_concern=WriteConcern(w=0))
    sets = KeyedSet(odd, MADE)
    assert sets.add(1, "a", "u1")
    assert type(sets.get(1)) is dict
    assert sets.add_many([1], "b", "u1").added == 1
    assert {tuple(sent["writeConcern"].items()) for _, sent in commands.sent if "writeConcern" in sent} == {
        (("w", "majority"),)
    }
    assert KeyedSet(odd, MADE, durability=Durability.FAST).add(1, "a", "u2")
    assert commands.sent[-1][1]["writeConcern"] == {"w": 1}


def test_calls_take_part_in_a_transaction(client: Any, db: Any) -> None:
    """With session= an aborted transaction takes what was added with it, and a committed one keeps it."""
    sets = KeyedSet(db, MADE)
    sets.add(1, "a", "u1")
    with settle(client.start_session()) as session:
        settle(session.start_transaction())
        assert sets.toggle(1, "a", "u2", session=session).size == 2
        assert sets.add_many([1], "b", "u1", session=session).added == 1
        assert sets.counts(1, session=session) == {"a": 2, "b": 1}
        assert sets.members(1, "a", session=session) == ["u1", "u2"]
        assert sets.get(1) == {"a": ["u1"]}
        session.abort_transaction()
        assert sets.get(1, session=session) == {"a": ["u1"]}
        settle(session.start_transaction())
        assert sets.remove(1, "a", "u1", session=session).keys == 0
        assert sets.add(1, "c", "u1", session=session).keys == 1
        session.commit_transaction()
    assert sets.get(1) == {"c": ["u1"]}


def test_timeout_bounds_the_whole_call(db: Any, mongopatterns_server: Any) -> None:
    """A server that does not answer in time raises the driver's timeout, and the outcome is unknown."""
    sets = KeyedSet(db, MADE)
    sets.add(1, "a", "u1")
    block = {"failCommands": ["findAndModify", "update"], "blockConnection": True, "blockTimeMS": 700}
    with mongopatterns_server.fail_point("failCommand", mode={"times": 2}, data=block):
        for call in (
            lambda: sets.add(1, "a", "u2", timeout=0.3),
            lambda: sets.add_many([1], "a", "u2", timeout=0.3),
        ):
            with pytest.raises((NetworkTimeout, ExecutionTimeout)) as caught:
                call()
            assert may_have_applied(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "1", True])
def test_bad_timeouts_are_refused(db: Any, commands: Any, timeout: Any) -> None:
    """A timeout that is no positive number of seconds raises a UsageError that names it."""
    sets = KeyedSet(db, MADE)
    for call in (sets.add, sets.toggle, sets.remove):
        with pytest.raises(UsageError, match=r"^timeout: "):
            call(1, "a", "u1", timeout=timeout)
    with pytest.raises(UsageError, match=r"^timeout: "):
        sets.add_many([1], "a", "u1", timeout=timeout)
    assert commands.names == []


@pytest.mark.parametrize(
    ("argument", "arguments"), [("name", (1, "", "u1")), ("member", (1, "a", None)), ("key", (None, "a", "u1"))]
)
def test_bad_arguments_are_refused_before_anything_is_sent(
    db: Any, commands: Any, argument: str, arguments: tuple[Any, ...]
) -> None:
    """A bad key, name or member raises a UsageError that names the argument; no command leaves."""
    sets = KeyedSet(db, MADE)
    for call in (sets.add, sets.remove, sets.toggle):
        with pytest.raises(UsageError) as caught:
            call(*arguments)
        assert caught.value.argument == argument
    assert commands.names == []


# Lost answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [OPEN, TIGHT])
def test_a_lost_reply_changes_once_and_tells_what_was_done(
    db: Any, mongopatterns_server: Any, commands: Any, spec: KeyedSetSpec
) -> None:
    """When the reply is lost after the write, the driver's repeat changes nothing, and is told what the write did."""
    db.messages.insert_one({"_id": 1, "blob": "$x" * 100, "reactions": {"a.b": ["u1"], "$x": []}})
    sets = KeyedSet(db, spec)

    def lost(call: Any, key: Any, name: str, member: str) -> Any:
        commands.clear()
        point = mongopatterns_server.fail_point(
            "onPrimaryTransactionalWrite", mode={"times": 1}, data={"closeConnection": True}
        )
        with point:
            found = call(key, name, member)
        assert commands.names == ["findAndModify", "findAndModify", "aggregate"]
        return found.outcome, found.present, found.size, found.keys

    assert lost(sets.add, 1, "a.b", "u2") == (ADDED, True, 2, 1)
    assert lost(sets.toggle, 1, "a.b", "u1") == (REMOVED, False, 1, 1)
    assert lost(sets.toggle, 1, "$x", "u1") == (ADDED, True, 1, 2)
    assert lost(sets.remove, 1, "a.b", "u2") == (REMOVED, False, 0, 1)
    assert sets.get(1) == {"$x": ["u1"]}


def test_a_lost_reply_about_a_document_that_was_made(db: Any, mongopatterns_server: Any, commands: Any) -> None:
    """When the reply about a new document is lost, the repeat tells that it was made; there is one document."""
    sets = KeyedSet(db, TIGHT)
    for call, key in ((sets.add, 1), (sets.toggle, 2)):
        commands.clear()
        with mongopatterns_server.fail_point(
            "onPrimaryTransactionalWrite", mode={"times": 1}, data={"closeConnection": True}
        ):
            made = call(key, "a", "u1")
        assert (made.outcome, made.size, made.keys) == (ADDED, 1, 1)
        assert commands.names == ["findAndModify", "findAndModify"]
        assert db.messages.find_one({"_id": key}) == {"_id": key, "reactions": {"a": ["u1"]}, "numbers": {"a": 1}}


# 16 MB -------------------------------------------------------------------------------------------------------


def resize_cache(db: Any, size: int) -> int:
    """Give the server's cache another size, and return the one that it had."""
    status = db.client.admin.command("serverStatus")
    wanted = f"cache_size={size}"
    db.client.admin.command({"setParameter": 1, "wiredTigerEngineRuntimeConfig": wanted})
    return int(status["wiredTiger"]["cache"]["maximum bytes configured"])


def test_no_document_passes_16_mb(db: Any, mongopatterns_server: Any) -> None:
    """Near 16 MB what does not fit is refused with an error that says so, and nothing changes; removing still works."""
    before = resize_cache(db, 2**30)  # (the cache of the tests is too small for writes of 16 MB)
    try:
        room = 3000
        names = {"👍": ["u0"], "big": ["x" * (LARGEST_DOCUMENT - room - 100)]}
        db.messages.insert_one({"_id": 1, "reactions": names})
        db.messages.insert_one({"_id": 2})
        sets = KeyedSet(db, KeyedSetSpec("messages", path="reactions", counts="numbers"))
        members = [f"{number:0>900}" for number in range(5)]
        for member in members[:3]:
            assert sets.toggle(1, member[-3:], member).outcome is ADDED
        with pytest.raises(StateError, match=r"'reactions' in the document 1 .* no room for the change") as caught:
            sets.toggle(1, "003", members[3])
        assert not may_have_applied(caught.value)
        size = {"$project": {"_id": 0, "size": {"$bsonSize": "$$ROOT"}}}
        cursor = settle(db.messages.aggregate([{"$match": {"_id": 1}}, size]))
        (stored,) = [each["size"] for each in cursor.to_list(None)]
        assert LARGEST_DOCUMENT - 1100 < stored <= LARGEST_DOCUMENT
        assert sets.add_many([1, 2], "no", members[4]) == AddManyResult(matched=2, added=1, missing=0)
        with mongopatterns_server.fail_point(
            "onPrimaryTransactionalWrite", mode={"times": 1}, data={"closeConnection": True}
        ):
            assert sets.remove(1, "👍", "u0").outcome is REMOVED
        assert sets.remove(1, "000", members[0]).outcome is REMOVED
        assert sets.add(1, "new", members[4]).outcome is ADDED
        # Removing needs room only to count a name for the first time.
        for key, numbers, free in ((3, {"n": 2}, 0), (4, {}, 14), (5, {}, 15)):
            document = {"_id": key, "reactions": {"n": [1, 2]}, "numbers": numbers, "blob": ""}
            document["blob"] = "x" * (LARGEST_DOCUMENT - len(encode(document)) - free)
            db.messages.insert_one(document)
        assert sets.remove(3, "n", 2).size == 1
        with pytest.raises(StateError, match="no room for the change"):
            sets.remove(4, "n", 2)
        assert sets.remove(5, "n", 2).size == 1
        # What is told is what was done, to the byte.
        let = sets._plan.change("toggle", 6, "n", "u1").command.let  # type: ignore[attr-defined]
        for key, free in ((6, 0), (7, -1)):
            document = {"_id": key, "blob": ""}
            document["blob"] = "x" * (let["room"] - len(encode(document)) - free)
            db.messages.insert_one(document)
        with pytest.raises(StateError, match="no room for the change"):
            sets.toggle(7, "n", "u1")
        assert sets.get(7) == {}
        assert sets.toggle(6, "n", "u1").outcome is ADDED
        assert sets.get(6) == {"n": ["u1"]}
    finally:
        db.messages.drop()
        resize_cache(db, before)


def test_a_validator_of_the_collection_is_the_servers_own_answer(db: Any) -> None:
    """Where the application's validator refuses what would be stored, the driver's error arrives as it is."""
    db.create_collection("strict", validator={"reactions.bad": {"$exists": False}})
    db.strict.insert_one({"_id": 1})
    sets = KeyedSet(db.strict, OPEN)
    assert sets.add(1, "good", "u1")
    with pytest.raises(Exception, match="Document failed validation") as caught:
        sets.add(1, "bad", "u1")
    assert not may_have_applied(caught.value)
    with pytest.raises(WriteError, match="Document failed validation"):
        sets.add_many([1], "bad", "u1")
    assert sets.get(1) == {"good": ["u1"]}


# Races -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", [True, False])
def test_a_race_for_the_last_places(db: Any, fresh: bool) -> None:
    """Of many who want into one set as many get in as it holds, and all who were told so are stored."""
    if not fresh:
        db.messages.insert_one({"_id": 1, "text": "hello"})
    sets = KeyedSet(db, KeyedSetSpec("messages", path="r", max_members=25, counts="n", create={}))
    report = race_threads(lambda number: sets.add(1, "👍", number), times=120, concurrency=40)
    assert report.errors == []
    told = report.outcomes
    assert sum(each.outcome is ADDED for each in told) == 25
    assert sum(each.outcome is FULL for each in told) == 95
    assert sorted(each.size for each in told if each) == list(range(1, 26))
    assert {each.size for each in told if not each} == {25}
    stored = sets.members(1, "👍")
    assert len(set(stored)) == 25
    again = race_threads(lambda number: sets.add(1, "👍", number), times=120, concurrency=40)
    assert sum(each.outcome is ALREADY for each in again.outcomes) == 25
    assert sets.members(1, "👍") == stored
    assert db.messages.find_one()["n"] == {"👍": 25}


def test_a_race_for_the_last_names(db: Any) -> None:
    """Of many new names exactly as many are taken as there may be, and every name that was granted is stored."""
    sets = KeyedSet(db, KeyedSetSpec("messages", path="r", max_keys=10, create={}))
    report = race_threads(lambda number: sets.add(1, f"n.{number % 40}", number), times=120, concurrency=40)
    assert report.errors == []
    granted = {each.name for each in report.outcomes if each}
    assert len(granted) == 10
    assert all(each.outcome is ADDED for each in report.outcomes if each)
    assert {each.outcome for each in report.outcomes if not each} == {TOO_MANY_KEYS}
    stored = sets.get(1)
    assert set(stored) == granted
    # Every call for a name that was granted got in, unless it came when the name was not yet in use.
    assert sum(len(members) for members in stored.values()) == sum(map(bool, report.outcomes))
    assert {each.keys for each in report.outcomes if not each} == {10}


def test_a_race_of_the_same_member(db: Any) -> None:
    """However often one member is added at once it is stored once, and one caller is told that it was his call."""
    sets = KeyedSet(db, MADE)
    report = race_threads(lambda _: sets.add(1, "👍", "u1"), times=100, concurrency=40)
    assert report.errors == []
    assert sorted(each.outcome.value for each in report.outcomes) == ["added"] + ["already"] * 99
    assert sets.get(1) == {"👍": ["u1"]}
    report = race_threads(lambda _: sets.remove(1, "👍", "u1"), times=100, concurrency=40)
    assert sorted(each.outcome.value for each in report.outcomes) == ["absent"] * 99 + ["removed"]
    assert sets.get(1) == {}


def test_a_race_of_toggles(db: Any) -> None:
    """Every toggle changes sides once: as many were added as removed, and the last one is what is stored."""
    sets = KeyedSet(db, TIGHT)
    report = race_threads(lambda number: sets.toggle(1, "👍", f"u{number % 2}"), times=150, concurrency=40)
    assert report.errors == []
    assert all(report.outcomes)
    added = sum(each.outcome is ADDED for each in report.outcomes)
    removed = sum(each.outcome is REMOVED for each in report.outcomes)
    stored = sets.get(1).get("👍", [])
    assert (added + removed, added - removed) == (150, len(stored))
    assert sorted(stored) == ["u0", "u1"]  # 75 toggles each


def test_a_race_of_everything(db: Any) -> None:
    """Calls on one and on many documents at once: who was added and not removed is in, and the counts are right."""
    db.messages.insert_many([{"_id": key} for key in range(4)])
    sets = KeyedSet(db, KeyedSetSpec("messages", path="r", counts="n"))

    def one(number: int) -> Any:
        if number % 4 == 0:
            return sets.add_many(range(4), "👍", f"many {number}")
        key = number % 3
        assert sets.add(key, "👍", number).outcome is ADDED
        if number % 2:
            assert sets.remove(key, "👍", number).outcome is REMOVED
        return None

    report = race_threads(one, times=120, concurrency=30)
    report.raise_errors()
    many = {f"many {number}" for number in range(0, 120, 4)}
    for key in range(4):
        mine = {number for number in range(120) if number % 4 and not number % 2 and key < 3 and number % 3 == key}
        document = db.messages.find_one({"_id": key})
        assert set(document["r"]["👍"]) == many | mine
        assert len(document["r"]["👍"]) == document["n"]["👍"] == len(many | mine)
