"""What a keyed set sends, and how it reads what comes back: without a server."""

from __future__ import annotations

import copy
import datetime as dt
import json
import pickle
import subprocess
import sys
from enum import Enum
from typing import Any

import pytest
from bson import Decimal128, ObjectId, Regex, decode, encode
from hypothesis import given
from hypothesis import strategies as st

from mongopatterns import (
    AddManyResult,
    DocumentNotFound,
    Index,
    KeyedSetOutcome,
    KeyedSetResult,
    KeyedSetSpec,
    LimitExceeded,
    StateError,
    UsageError,
)
from mongopatterns.commands import REPLY
from mongopatterns.membership._commands import LARGEST_DOCUMENT
from mongopatterns.membership._keyed_set_pipeline import Call
from mongopatterns.membership._keyed_set_plan import KeyedSetPlan
from mongopatterns.verdicts import Verdict

REACT = KeyedSetSpec("messages", path="reactions", max_keys=20, max_members=100)
MADE = KeyedSetSpec("messages", path="a.sets", counts="a.n", create={"kind": "$note"})
CALLS: list[Call] = ["add", "remove", "toggle"]
HOSTILE = ["$price", "$$CURRENT", "a.b", ".", "$", "👍", "__proto__", "0", "_id", "x" * 256, "{$gt: 1}", " ", "$ref"]
O = KeyedSetOutcome  # noqa: E741


def plan(spec: KeyedSetSpec = REACT) -> KeyedSetPlan:
    return KeyedSetPlan(spec, spec.collection)


def told(size: int, used: int, **more: Any) -> dict[str, Any]:
    return {REPLY: {"size": size, "used": used, "bytes": 100, **more}}


# The definition ----------------------------------------------------------------------------------------------

BAD_SPECS: list[dict[str, Any]] = [
    *({name: bound} for name in ("max_keys", "max_members") for bound in (0, -1, True, 1.0, "5", 1_000_001, [1])),
    {"path": ""},
    {"path": "$x"},
    {"path": "a.0"},
    {"path": "_id"},
    {"path": "slug.x", "key_field": "slug"},
    {"counts": ""},
    {"counts": 5},
    {"counts": "$n"},
    {"counts": "n.1"},
    {"counts": "reactions"},
    {"counts": "reactions.n"},
    {"counts": "_id"},
    {"counts": "_id.n"},
    {"counts": "slug", "key_field": "slug"},
    {"counts": "n", "create": {"n": {}}},
    {"counts": "a.n", "create": {"a": 5}},
    {"path": "a.sets", "counts": "a"},
    {"create": {"reactions": {}}},
    {"create": {"_id": 1}},
    {"create": "text"},
    {"key_type": str},
    {"collection": ""},
]


@pytest.mark.parametrize("options", BAD_SPECS)
def test_a_definition_that_cannot_work_is_refused(options: dict[str, Any]) -> None:
    """Bounds that mean nothing, and paths that overlap, raise a UsageError when the spec is made."""
    with pytest.raises(UsageError):
        KeyedSetSpec(**{"collection": "messages", "path": "reactions", **options})


def test_a_definition_is_a_plain_value() -> None:
    """Equal definitions are equal and hash alike; by default nothing is bounded, counted or made."""
    assert KeyedSetSpec("messages", path="reactions", max_keys=20, max_members=100) == REACT
    assert hash(copy.copy(MADE)) == hash(MADE)
    plain = KeyedSetSpec("messages", path="reactions")
    assert (plain.create, plain.max_keys, plain.max_members, plain.counts, plain.key_field) == (None,) * 4 + ("_id",)
    assert plain.indexes() == ()
    assert KeyedSetSpec("m", path="r", key_field="slug").indexes() == (Index("slug", unique=True),)
    assert pickle.loads(pickle.dumps(MADE)) == MADE


def test_the_sets_of_a_document_in_hand() -> None:
    """Reading a document gives the names in use in their order, with aware dates; a missing map has none."""
    day = dt.datetime(2026, 1, 1)  # noqa: DTZ001  # as a client without tz_aware gives it
    document = {"_id": 1, "reactions": {"b": ["u2", "u1"], "empty": [], "null": None, "a.b": [day]}}
    assert REACT.read(document) == {"b": ["u2", "u1"], "a.b": [day.replace(tzinfo=dt.timezone.utc)]}
    assert list(REACT.read(document)) == ["b", "a.b"]
    for nothing in ({}, {"reactions": None}, {"reactions": {}}):
        assert REACT.read(nothing) == {}
    assert MADE.read({"a": None}) == {}


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"a": 5}, "a"),
        ({"a": [{"sets": {}}]}, "a"),
        ({"a": {"sets": ["u1"]}}, "a.sets"),
        ({"a": {"sets": {"👍": "u1"}}}, "a.sets.👍"),
        ({"a": {"sets": {"👍": {"0": "u1"}}}}, "a.sets.👍"),
    ],
)
def test_a_document_in_hand_of_another_shape_is_an_error(document: dict[str, Any], path: str) -> None:
    """What is no map of lists raises a StateError that names the place and the document."""
    with pytest.raises(StateError, match=r"in the document 7 of 'messages'") as caught:
        MADE.read({"_id": 7, **document})
    assert (caught.value.path, caught.value.key) == (path, 7)


@pytest.mark.parametrize("document", [None, [], "text", 5])
def test_what_is_no_document_is_refused(document: Any) -> None:
    """Reading something else than a document raises a UsageError."""
    with pytest.raises(UsageError, match=r"^document: "):
        REACT.read(document)


# What is sent ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
def test_the_filter_is_plain_equality_on_the_key(call: Call) -> None:
    """Whatever is asked, the filter has the key alone; only what may add makes a document, and only with create."""
    for spec in (REACT, MADE, KeyedSetSpec("m", path="r", key_field="user.id", create={})):
        command = plan(spec).change(call, "k", "👍", "u1").command
        assert command.filter == {spec.key_field: "k"}
        assert command.upsert is (spec.create is not None and call != "remove")
        assert command.before
        assert command.comment == f"mongopatterns.keyed_set.{call}"


@pytest.mark.parametrize("name", HOSTILE)
def test_names_and_members_are_data(name: str) -> None:
    """A name stands in what is sent as a literal field of $getField and $setField, and a member as a literal."""

    def places(node: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        if isinstance(node, dict):
            return [place for key, value in node.items() for place in places(value, (*path, key))]
        if isinstance(node, list):
            return [place for value in node for place in places(value, path)]
        return [path] if node == name else []

    sent = plan(MADE).explain("key", name, name)
    assert sent["let"]["member"] == {"$literal": name}
    found = places(sent["update"]) + places(sent["projection"])
    assert len(found) >= 4
    assert {place[-3:] for place in found} == {
        (operator, "field", "$literal") for operator in ("$getField", "$setField")
    }


@pytest.mark.parametrize("name", ["", "x" * 257, "a\0b", "\0", None, 5, b"a", ["a"], True, "\ud800"])
@pytest.mark.parametrize("call", CALLS)
def test_bad_names_are_refused(call: Call, name: Any) -> None:
    """A name is text of 1 to 256 characters without a NUL; anything else raises a UsageError."""
    with pytest.raises(UsageError, match=r"^name: "):
        plan().change(call, 1, name, "u1")
    with pytest.raises(UsageError, match=r"^name: "):
        plan().add_many([1], name, "u1")
    with pytest.raises(UsageError, match=r"^name: "):
        plan().members(1, name)


class Mood(str, Enum):
    GOOD = "👍"


def test_a_member_of_an_enum_is_a_name() -> None:
    """A name from an enum of texts is the text, wherever it is told or sent."""
    change = plan().change("add", 1, Mood.GOOD, "u1")
    assert type(change.name) is str
    assert (change.name, change.command) == ("👍", plan().change("add", 1, "👍", "u1").command)


@pytest.mark.parametrize("member", [None, ["u1"], {"$x": 1}, float("nan"), 2**63, Regex("u"), object(), {1, 2}])
def test_bad_members_are_refused(member: Any) -> None:
    """A member has one equality, as a key has: anything else raises a UsageError."""
    with pytest.raises(UsageError, match=r"^member"):
        plan().change("add", 1, "👍", member)
    with pytest.raises(UsageError, match=r"^member"):
        plan().add_many([1], "👍", member)


@pytest.mark.parametrize("key", [None, ["a"], {"$x": 1}, float("nan")])
def test_bad_keys_are_refused(key: Any) -> None:
    """A key without one equality raises a UsageError, alone and among others."""
    for call in (lambda: plan().change("add", key, "👍", "u1"), lambda: plan().members(key, "👍")):
        with pytest.raises(UsageError, match=r"^key"):
            call()
    for call in (plan().counts, plan().get):
        with pytest.raises(UsageError, match=r"^key"):
            call(key)
    with pytest.raises(UsageError, match=r"^keys"):
        plan().add_many(["a", key], "👍", "u1")


@pytest.mark.parametrize("keys", ["ab", b"ab", {"a": 1}, 5, None])
def test_many_keys_are_a_list(keys: Any) -> None:
    """One text is not a list of its letters, and a mapping is none of its keys."""
    with pytest.raises(UsageError, match=r"^keys: expected a list"):
        plan().add_many(keys, "👍", "u1")


def test_many_keys_are_sent_once_each() -> None:
    """Keys that are one to the server are one, text becomes ObjectIds where the spec says so, True is not 1."""
    many = plan().add_many((key for key in [1, 1.0, Decimal128("1"), True, "a", "a"]), "👍", "u1")
    assert (many.asked, many.filter) == (3, {"_id": {"$in": [1, True, "a"]}})
    key = ObjectId()
    spec = KeyedSetSpec("m", path="r", key_type=ObjectId)
    assert plan(spec).add_many([key, str(key)], "👍", "u1").filter == {"_id": {"$in": [key]}}
    assert plan().add_many([1], "👍", "u1").asked == 1


@pytest.mark.parametrize("keys", [[], (), iter(()), set()])
def test_no_keys_are_refused(keys: Any) -> None:
    """A call for no document at all is a mistake, and is not sent."""
    with pytest.raises(UsageError, match=r"^keys: expected at least one"):
        plan().add_many(keys, "👍", "u1")


def test_many_are_decided_as_one_is() -> None:
    """What add_many sends for each document is what add sends."""
    one, many = plan().change("add", 1, "👍", "u1").command, plan().add_many([1, 2], "👍", "u1")
    assert [encode(stage) for stage in many.update] == [encode(stage) for stage in one.update]
    assert many.let == one.let
    assert many.arguments()["comment"] == "mongopatterns.keyed_set.add_many"
    assert "upsert" not in many.arguments()


def test_what_a_name_needs_is_encoded_once() -> None:
    """The commands of a name that comes again are not built again; only so many are kept."""
    same = plan()
    first = same.change("add", 1, "👍", "u1").command
    assert same.change("add", 2, "👍", "u2").command.update is first.update
    assert same.change("toggle", 1, "👍", "u1").command.update is not first.update
    for number in range(200):
        same.change("add", 1, f"n{number}", "u1")
    again = same.change("add", 1, "👍", "u1").command
    assert again.update is not first.update
    assert list(map(encode, again.update)) == list(map(encode, first.update))


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=6)
members = st.text(max_size=6) | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.binary(max_size=9)
paths = st.sampled_from([("r", None), ("r", "n"), ("a.r", "a.n"), ("a.b.r", "ключ.n")])


@given(
    name=names,
    member=members,
    where=paths,
    others=st.lists(members, max_size=20),
    known=st.booleans(),
    counted=st.booleans(),
)
def test_the_bound_of_what_a_document_grows_by_holds(
    *, name: str, member: Any, where: Any, others: list[Any], known: bool, counted: bool
) -> None:
    """No document grows by more bytes than was said, whether or not the maps, the name and its count were there."""
    path, counts = where
    spec = KeyedSetSpec("m", path=path, counts=counts, create={"kind": 1})
    sent = plan(spec).change("add", 7, name, member).command.let
    assert sent is not None

    def put(document: dict[str, Any], place: str, value: Any) -> None:
        *holders, last = place.split(".")
        for holder in holders:
            document = document.setdefault(holder, {})
        document.setdefault(last, {})[name] = value

    small: dict[str, Any] = {"_id": 7}
    if known:
        put(small, path, others)
    if counts and counted:
        put(small, counts, len(others))
    large = copy.deepcopy(small)
    put(large, path, [*(others if known else []), member])
    if counts:
        put(large, counts, len(others) + 1)
    more = LARGEST_DOCUMENT - sent["room"]
    assert len(encode(large)) <= len(encode(small)) + more <= len(encode(large)) + 300
    if counts and known and others:
        # And when one of two equal members goes, what stays may have to be counted for the first time.
        before = copy.deepcopy(small)
        put(before, path, [*others, member])
        after = copy.deepcopy(small)
        put(after, path, others)
        put(after, counts, len(others))
        if counted:
            put(before, counts, len(others) + 1)
        assert counted or len(encode(after)) <= len(encode(before)) + LARGEST_DOCUMENT - sent["spare"]


def test_a_document_is_made_only_where_it_fits() -> None:
    """An upsert that would be refused still leaves a document behind, so what cannot fit is sent without it."""
    spec = KeyedSetSpec("m", path="r", create={"blob": "x" * (LARGEST_DOCUMENT - 1000)})
    assert plan(spec).change("add", 1, "👍", "u1").command.upsert
    too_long = plan(spec).change("add", 1, "👍", "u" * 1000)
    assert not too_long.command.upsert
    with pytest.raises(StateError, match="no room for the change"):
        plan(spec).decide(too_long, None)
    assert not plan(spec).change("toggle", "k" * 1000, "👍", "u1").command.upsert
    with pytest.raises(UsageError, match=r"^member: takes 16777221 bytes"):
        plan().change("add", 1, "👍", "u" * LARGEST_DOCUMENT)


def test_explain_shows_what_add_sends() -> None:
    """The plain form encodes to the bytes that travel."""
    command = plan().change("add", 1, "👍", "u1").command
    shown = plan().explain(1, "👍", "u1")
    assert [encode(stage) for stage in shown["update"]] == [stage.raw for stage in command.update]
    assert encode(shown["projection"]) == command.projection.raw
    assert shown["filter"] == {"_id": 1}


# What came back ----------------------------------------------------------------------------------------------

ANSWERS = [
    ("add", told(0, 2, has=False), O.ADDED, True, True, 1, 3),
    ("add", told(4, 2, has=False), O.ADDED, True, True, 5, 2),
    ("add", told(4, 20, has=False), O.ADDED, True, True, 5, 20),
    ("add", told(4, 2, has=True), O.ALREADY, True, True, 4, 2),
    ("add", told(101, 21, has=True), O.ALREADY, True, True, 101, 21),
    ("add", told(100, 2, has=False), O.FULL, False, False, 100, 2),
    ("add", told(0, 20, has=False), O.TOO_MANY_KEYS, False, False, 0, 20),
    ("toggle", told(0, 2, without=0), O.ADDED, True, True, 1, 3),
    ("toggle", told(99, 2, without=99), O.ADDED, True, True, 100, 2),
    ("toggle", told(100, 2, without=100), O.FULL, False, False, 100, 2),
    ("toggle", told(0, 20, without=0), O.TOO_MANY_KEYS, False, False, 0, 20),
    ("toggle", told(101, 21, without=99), O.REMOVED, True, False, 99, 21),
    ("toggle", told(1, 2, without=0), O.REMOVED, True, False, 0, 1),
    ("remove", told(3, 2, without=1), O.REMOVED, True, False, 1, 2),
    ("remove", told(0, 2, without=0), O.ABSENT, True, False, 0, 2),
    ("remove", told(101, 21, without=101), O.ABSENT, True, False, 101, 21),
]


@pytest.mark.parametrize(("call", "reply", "outcome", "good", "present", "size", "keys"), ANSWERS)
def test_an_answer_becomes_a_verdict(
    *, call: Call, reply: Any, outcome: KeyedSetOutcome, good: bool, present: bool, size: int, keys: int
) -> None:
    """The verdict is true when what was asked for holds, and tells the set after the call."""
    found = plan().decide(plan().change(call, 1, "👍", "u1"), reply)
    assert found == KeyedSetResult(1, outcome, "👍", present, size, keys, "messages")
    assert bool(found) is good
    if good:
        assert found.require() is found
    else:
        with pytest.raises(LimitExceeded, match="'👍'") as caught:
            found.require()
        assert (caught.value.key, caught.value.decision) == (1, found)


@pytest.mark.parametrize("call", CALLS)
def test_without_a_document(call: Call) -> None:
    """A missing document is NOT_FOUND; with create it is an empty one, and what adds has made it."""
    lost = plan().decide(plan().change(call, 1, "👍", "u1"), None)
    assert (lost.outcome, bool(lost), lost.present, lost.size, lost.keys) == (O.NOT_FOUND, False, False, 0, 0)
    with pytest.raises(DocumentNotFound, match="'messages' has the key 1"):
        lost.require()
    made = plan(MADE).decide(plan(MADE).change(call, 1, "👍", "u1"), None)
    gone = call == "remove"
    assert (made.outcome, made.size, made.keys) == ((O.ABSENT, 0, 0) if gone else (O.ADDED, 1, 1))
    assert made.require().present is not gone


@pytest.mark.parametrize(
    ("kinds", "path", "problem"),
    [
        (["array", "missing", "missing", "array"], "a", "expected a document"),
        (["object", "string", "missing", "array"], "a.sets", "expected a document"),
        (["object", "object", "array", "array"], "a.n", "expected a document"),
        (["object", "object", "object", "int"], "a.sets.👍", "expected an array"),
        (["object", "object", "object", "array"], "a.sets", "the server refused"),
    ],
)
def test_an_answer_about_another_shape_is_an_error(kinds: list[str], path: str, problem: str) -> None:
    """What the server refuses to change raises a StateError that names the place."""
    for call in CALLS:
        with pytest.raises(StateError, match=problem) as caught:
            plan(MADE).decide(plan(MADE).change(call, 1, "👍", "u1"), {REPLY: kinds})
        assert caught.value.path == path


def test_an_answer_about_a_document_of_16_mb_is_an_error() -> None:
    """Where there is no room in the document, the error says so, and names it; what fits to the byte is no error."""
    for call, facts in (("add", {"has": False}), ("toggle", {"without": 5})):
        change = plan().change(call, 1, "👍", "u1")  # type: ignore[arg-type]
        assert change.command.let is not None
        room = change.command.let["room"]
        assert plan().decide(change, told(5, 1, bytes=room, **facts)).outcome is O.ADDED
        with pytest.raises(StateError, match=r"'reactions' in the document 1 .* no room .* \(16777216 bytes\)"):
            plan().decide(change, told(5, 1, bytes=room + 1, **facts))


@pytest.mark.parametrize("call", ["remove", "toggle"])
def test_a_name_that_cannot_be_counted_stays(call: Call) -> None:
    """Taking a member out needs room only where its name has no number yet."""
    change = plan(MADE).change(call, 1, "👍", "u1")
    assert change.command.let is not None
    spare = change.command.let["spare"]
    for bytes_, counted in ((spare, False), (spare + 1, True)):
        found = plan(MADE).decide(change, told(2, 1, without=1, bytes=bytes_, counted=counted))
        assert (found.outcome, found.size) == (O.REMOVED, 1)
    with pytest.raises(StateError, match="no room for the change"):
        plan(MADE).decide(change, told(2, 1, without=1, bytes=spare + 1, counted=False))


@pytest.mark.parametrize("call", CALLS)
def test_what_is_told_is_what_the_verdict_needs(call: Call) -> None:
    """The server tells as little as will do: a removal without counts needs no room, and only `add` asks who is in."""

    def facts(spec: KeyedSetSpec) -> set[str]:
        projection = decode(plan(spec).change(call, 1, "👍", "u1").command.projection.raw)[REPLY]
        while "$let" in projection:
            projection = projection["$let"]["in"]
        return set(projection["$cond"][1])

    who = {"has"} if call == "add" else {"without"}
    assert facts(REACT) == {"size", "used", *who, *(["bytes"] if call != "remove" else [])}
    assert facts(MADE) == {"size", "used", "bytes", *who, *(["counted"] if call != "add" else [])}


def test_what_a_read_finds() -> None:
    """Reads give names in use; a name of another shape is an error; without a document, create decides."""
    kinds = {"kinds": ["object", "object"]}
    read = plan(MADE).members(1, "👍")
    assert plan(MADE).members_found(read, [{REPLY: {**kinds, "held": "array", "members": ["u1"]}}]) == ["u1"]
    rows = [{"name": "a", "kind": "array", "size": 2}, {"name": "b", "kind": "null", "size": 0}]
    assert plan(MADE).counts_found(read, [{REPLY: {**kinds, "told": rows}}]) == {"a": 2}
    assert plan(MADE).sets_found(read, [{REPLY: {**kinds, "told": {"a": ["u"], "b": []}}}]) == {"a": ["u"]}
    with pytest.raises(StateError, match=r"'a\.sets\.c'"):
        plan(MADE).counts_found(read, [{REPLY: {**kinds, "told": [{"name": "c", "kind": "int", "size": 0}]}}])
    with pytest.raises(StateError, match=r"'a\.sets\.c'"):
        plan(MADE).sets_found(read, [{REPLY: {**kinds, "told": {"c": 5}}}])
    found = plan(MADE)
    assert (found.members_found(read, []), found.counts_found(read, []), found.sets_found(read, [])) == ([], {}, {})
    for tell in (plan().members_found, plan().counts_found, plan().sets_found):
        with pytest.raises(DocumentNotFound):
            tell(read, [])


def test_verdicts_are_plain_values() -> None:
    """They are frozen, compare, cross processes, and become JSON."""
    key = ObjectId()
    verdict = KeyedSetResult(key, O.ADDED, "👍", True, 1, 1, "messages")
    assert isinstance(verdict, Verdict)
    assert pickle.loads(pickle.dumps(verdict)) == verdict
    assert json.loads(json.dumps(verdict.to_dict())) == {
        "key": str(key),
        "outcome": "added",
        "name": "👍",
        "present": True,
        "size": 1,
        "keys": 1,
        "collection": "messages",
    }
    with pytest.raises(AttributeError):
        verdict.size = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("matched", "modified", "asked", "good", "missing", "unchanged"),
    [
        (3, 3, 3, True, 0, 0),
        (3, 2, 3, False, 0, 1),
        (2, 2, 3, False, 1, 0),
        (3, 3, 2, True, 0, 0),
    ],
)
def test_the_verdict_about_many(
    *, matched: int, modified: int, asked: int, good: bool, missing: int, unchanged: int
) -> None:
    """It is true when this call has added the member under every key, and tells how many have no document."""
    many = plan().add_many(range(asked), "👍", "u1")
    found = plan().added(many, matched, modified)
    assert found == AddManyResult(matched, modified, missing)
    assert (bool(found), found.unchanged) == (good, unchanged)
    assert found.to_dict() == {"matched": matched, "added": modified, "missing": missing}


@pytest.mark.parametrize("home", ["mongopatterns", "mongopatterns.membership"])
def test_who_imports_a_keyed_set_waits_for_nothing_else(home: str) -> None:
    """Keyed sets are loaded without the other patterns of their folder."""
    code = f"from {home} import KeyedSet; import sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    mine = {name.rpartition(".")[2] for name in loaded if name.startswith("mongopatterns.membership._")}
    assert {"_keyed_set_sync", "_keyed_set_plan"} <= mine
    assert {name for name in mine if not name.startswith("_keyed_set_")} == {"_commands", "_sending_sync"}
