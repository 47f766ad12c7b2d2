"""Keyed sets against a plain model in memory: random bounds, names, members, calls and edits by hand.

The model keeps documents as dicts, and works on them as one would by hand if nobody else were there. It is written
from the promises, and shares no code with the package.
"""

from __future__ import annotations

import copy
import secrets
from typing import Any

import pytest
from bson import Decimal128, encode
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from mongopatterns import DocumentNotFound, KeyedSet, KeyedSetSpec, StateError

EXAMPLES = settings.default.max_examples  # many more with --hypothesis-profile=deep

# Values that are one member to the server have one mark.
MEMBERS: list[tuple[Any, str]] = [
    (1, "one"),
    (1.0, "one"),
    (Decimal128("1.0"), "one"),
    (True, "true"),
    ("1", "text"),
    ("$u", "dollar"),
    ({"a": 1}, "document"),
    ({"a": 1.0}, "document"),
    (b"u", "bytes"),
]
MARKS = {encode({"": value}): mark for value, mark in MEMBERS}

keys = st.sampled_from("aab")
names = st.sampled_from(["👍", "👍", "a.b", "$x", "__proto__", "0"])
members = st.sampled_from([value for value, _ in MEMBERS])
lists = st.lists(members, max_size=4)
numbers = st.none() | st.integers(0, 5) | st.just("text")


def same(one: Any, other: Any) -> bool:
    return MARKS[encode({"": one})] == MARKS[encode({"": other})]


class Model:
    """Documents with sets, and what each call comes to."""

    def __init__(self, *, max_keys: int | None, max_members: int | None, counted: bool, create: Any) -> None:
        self.max_keys = max_keys
        self.max_members = max_members
        self.counted = counted
        self.create = create
        self.documents: dict[str, dict[str, Any]] = {}

    def sets(self, key: str) -> dict[str, Any]:
        return (self.documents.get(key, {}).get("s") or {}).get("by") or {}

    def broken(self, key: str, name: str) -> bool:
        return not isinstance(self.sets(key).get(name) or [], list)

    def used(self, key: str) -> int:
        return sum(bool(held) for held in self.sets(key).values() if isinstance(held, list))

    def has(self, key: str, name: str, member: Any) -> bool:
        return any(same(each, member) for each in self.sets(key).get(name) or [])

    def decide(self, call: str, key: str, name: str, member: Any) -> str:
        """Tell the outcome of a call, and do it."""
        held = self.sets(key).get(name) or []
        if key not in self.documents and self.create is None:
            outcome = "not_found"
        elif self.has(key, name, member):
            outcome = "already" if call == "add" else "removed"
        elif call == "remove":
            outcome = "absent"
        elif self.max_members is not None and len(held) >= self.max_members:
            outcome = "full"
        elif self.max_keys is not None and not held and self.used(key) >= self.max_keys:
            outcome = "too_many_keys"
        else:
            outcome = "added"
        if outcome == "added":
            self.put(key, name, [*held, member])
        elif outcome == "removed":
            self.put(key, name, [each for each in held if not same(each, member)])
        return outcome

    def put(self, key: str, name: str, held: list[Any]) -> None:
        document = self.documents.setdefault(key, {"_id": key})
        if set(document) == {"_id"}:
            document.update(copy.deepcopy(self.create or {}))
        document["s"] = document.get("s") or {}
        by = document["s"]["by"] = document["s"].get("by") or {}
        write(by, name, held, held)
        if self.counted:
            counts = document["n"] = document.get("n") or {}
            write(counts, name, held, len(held))


def write(map_: dict[str, Any], name: str, held: list[Any], value: Any) -> None:
    if held:
        map_[name] = value
    else:
        map_.pop(name, None)


class KeyedSetMachine(RuleBasedStateMachine):
    database: Any  # a function: Hypothesis looks for attributes, and a database has every one

    @initialize(
        max_keys=st.none() | st.integers(1, 3),
        max_members=st.none() | st.integers(1, 3),
        counted=st.booleans(),
        create=st.sampled_from([None, {}, {"kind": "$k", "s": {"open": True}}]),
    )
    def define(self, *, max_keys: int | None, max_members: int | None, counted: bool, create: Any) -> None:
        """Draw a spec and write the same thing down for the model."""
        name = secrets.token_hex(6)
        spec = KeyedSetSpec(
            name,
            path="s.by",
            create=create,
            max_keys=max_keys,
            max_members=max_members,
            counts="n" if counted else None,
        )
        self.sets = KeyedSet(self.database(), spec)
        self.collection = self.database()[name]
        self.model = Model(max_keys=max_keys, max_members=max_members, counted=counted, create=create)

    @rule(key=keys, bare=st.booleans())
    def somebody_makes_the_document(self, key: str, bare: bool) -> None:
        if key not in self.model.documents:
            self.model.documents[key] = {"_id": key} if bare else {"_id": key, "s": None, "text": "$t"}
            self.collection.insert_one(self.model.documents[key])

    @rule(key=keys, name=names, held=lists | st.none(), number=numbers)
    def somebody_writes_by_hand(self, key: str, name: str, held: Any, number: Any) -> None:
        """Whatever stands there: empty lists, members twice, more than the bounds, numbers that are wrong."""
        if document := self.model.documents.get(key):
            document["s"] = {**(document.get("s") or {}), "by": {**self.model.sets(key), name: held}}
            if number is not None:
                document["n"] = {**(document.get("n") or {}), name: number}
            self.collection.replace_one({"_id": key}, document)

    @rule(key=keys, name=names, wrong=st.sampled_from(["u1", 5, {"0": "u1"}, True]))
    def somebody_breaks_a_list(self, key: str, name: str, wrong: Any) -> None:
        if key in self.model.documents and not any(self.model.broken(key, each) for each in self.model.sets(key)):
            self.somebody_writes_by_hand(key=key, name=name, held=wrong, number=None)

    @rule(key=keys)
    def somebody_mends_it(self, key: str) -> None:
        for name in list(self.model.sets(key)):
            if self.model.broken(key, name):
                self.somebody_writes_by_hand(key=key, name=name, held=["1"], number=None)

    @rule(call=st.sampled_from(["add", "add", "toggle", "remove"]), key=keys, name=names, member=members)
    def one(self, call: str, key: str, name: str, member: Any) -> None:
        """The verdict is the model's, and tells how the set stands then."""
        if self.model.broken(key, name):
            with pytest.raises(StateError):
                getattr(self.sets, call)(key, name, member)
            return
        wanted = self.model.decide(call, key, name, member)
        told = getattr(self.sets, call)(key, name, member)
        assert told.outcome.value == wanted
        assert told.present is self.model.has(key, name, member)
        assert told.size == len(self.model.sets(key).get(name) or [])
        assert told.keys == self.model.used(key)
        assert bool(told) is (wanted in {"added", "already", "removed", "absent"})

    @rule(keys_=st.lists(st.sampled_from("abc"), min_size=1, max_size=4), name=names, member=members)
    def many(self, keys_: list[str], name: str, member: Any) -> None:
        """Each document decides as for one call; those that are not there, or hold something else, stay so."""
        asked = set(keys_)
        there = [key for key in asked if key in self.model.documents]
        sound = [key for key in there if not self.model.broken(key, name)]
        outcomes = [self.model.decide("add", key, name, member) for key in sound]
        told = self.sets.add_many(keys_, name, member)
        assert (told.matched, told.missing) == (len(there), len(asked) - len(there))
        assert told.added == outcomes.count("added")

    @rule(key=keys, name=names)
    def read(self, key: str, name: str) -> None:
        """Reads tell what the model holds, in its order; what is broken or missing is an error."""
        held = {each: value for each, value in self.model.sets(key).items() if value}
        if key not in self.model.documents and self.model.create is None:
            for call in (self.sets.get, self.sets.counts, lambda key: self.sets.members(key, name)):
                with pytest.raises(DocumentNotFound):
                    call(key)
        elif any(self.model.broken(key, each) for each in held):
            for read in (self.sets.get, self.sets.counts):
                with pytest.raises(StateError):
                    read(key)
            with pytest.raises(StateError):
                self.sets.spec.read(self.model.documents[key])
        else:
            found = self.sets.get(key)
            assert encode(found) == encode(held)
            assert list(self.sets.counts(key).items()) == [(each, len(value)) for each, value in held.items()]
            assert encode({"": self.sets.members(key, name)}) == encode({"": held.get(name, [])})
            assert encode(self.sets.spec.read(self.model.documents.get(key, {}))) == encode(held)

    @invariant()
    def what_is_stored_is_what_the_model_holds(self) -> None:
        """Every document equals the model's, to the byte: types, order and whatever stands beside the sets."""
        if hasattr(self, "collection"):
            stored = {document["_id"]: document for document in self.collection.find()}
            assert set(stored) == set(self.model.documents)
            for key, document in self.model.documents.items():
                assert flat(stored[key]) == flat(document)


def flat(document: dict[str, Any]) -> bytes:
    """Encode a document with its own fields in one order, which is nobody's promise; that of the names is kept."""
    inner = document.get("s")
    if isinstance(inner, dict):
        document = {**document, "s": dict(sorted(inner.items()))}
    return encode(dict(sorted(document.items())))


def test_keyed_sets_do_what_a_plain_model_does(mongopatterns_db: Any) -> None:
    """Over random bounds, names, members, calls and edits, every verdict and every stored byte equals the model's."""
    machine = type("Machine", (KeyedSetMachine,), {"database": staticmethod(lambda: mongopatterns_db)})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=EXAMPLES * 3 // 4,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
