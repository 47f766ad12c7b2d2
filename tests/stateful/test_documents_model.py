"""Documents against a plain model in memory: random calls, values and writes of somebody else, on the real server.

The model keeps plain dicts and puts values into them one by one. It is written from the promises, and shares no code
with the package. After each call the answer, the model and what is stored must be the same, types and order included.
"""

from __future__ import annotations

import copy
import datetime as dt
import secrets
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from bson import Decimal128, Int64
from bson.codec_options import CodecOptions
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from mongopatterns import Documents, DocumentSpec, StateError

EXAMPLES = settings.default.max_examples  # many more with --hypothesis-profile=deep

UTC = dt.timezone.utc
START = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
AWARE: CodecOptions[Any] = CodecOptions(tz_aware=True, tzinfo=UTC)
LARGEST = 2**63 - 1

texts = st.sampled_from(["", "x", "$n", "$$NOW", "a.b", "__proto__", "{$gt: 1}"])
times = st.integers(-3, 3).map(lambda seconds: START + dt.timedelta(seconds=seconds))
ints = st.integers(-5, 5) | st.sampled_from([2**31, 2**62, -(2**62), LARGEST, -LARGEST - 1])
floats = st.sampled_from([0.5, -0.25, 3.0])
numbers = ints | floats | st.sampled_from([Decimal("0.1"), Decimal("-2.50"), Decimal(7)])
stored_numbers = numbers.map(lambda number: Decimal128(number) if isinstance(number, Decimal) else number)
plain = st.one_of(st.none(), st.booleans(), texts, times, stored_numbers)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("bcx"), inner, max_size=2)
)
PATHS = ["a", "a.b", "a.c", "n", "n.b", "n.b.x", "h", "z", "t", "k.other", "0", "10.1", "9"]
paths = st.sampled_from(PATHS)
kinds = st.sampled_from(["set", "set_on_insert", "inc", "push_last", "set_now"])
keys = st.sampled_from(["x", "$x", 7])
defaults = st.dictionaries(st.sampled_from(["a", "h", "n", "t", "9", "10"]), values, max_size=4)


class Misfit(Exception):
    """The model refuses."""


class Model:
    """What is stored, by the key of a call."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.fields = fields
        self.documents: dict[Any, dict[str, Any]] = {}

    def bare(self, key: Any, made: Any) -> dict[str, Any]:
        """Begin a document: its id, and the fields of the key by name."""
        document: dict[str, Any] = {"_id": made}
        for field in sorted(self.fields):
            self.put(document, field, key)
        return document

    def put(self, document: dict[str, Any], path: str, value: Any) -> None:
        holder, last = self.holder(document, path)
        holder[last] = value

    def holder(self, document: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
        *way, last = path.split(".")
        for part in way:
            if document.get(part) is None:
                document[part] = {}
            document = document[part]
            if not isinstance(document, dict):
                raise Misfit
        return document, last

    def changed(self, document: dict[str, Any], changes: list[Any], keep: int | None, now: dt.datetime) -> None:
        for kind, path, value in changes:
            holder, last = self.holder(document, path)
            old = holder.get(last)
            if kind == "inc":
                holder[last] = total(old, value)
            elif kind == "push_last":
                if not isinstance(old, (list, type(None))):
                    raise Misfit
                longer = [*(old or []), value]
                holder[last] = longer if keep is None else longer[-keep:]
            else:
                holder[last] = now if kind == "set_now" else value


def total(stored: Any, amount: Any) -> Any:
    """Add as a pocket calculator would; the answer is of the wider type."""
    if stored is None:
        return Decimal128(amount) if isinstance(amount, Decimal) else amount
    if isinstance(stored, bool) or not isinstance(stored, (int, float, Decimal128)):
        raise Misfit
    exact = fraction(stored) + fraction(amount)
    if isinstance(stored, Decimal128) or isinstance(amount, Decimal):
        scale = 10**6  # more places than any sum of these has
        return Decimal128(Decimal(int(exact * scale)) / scale)
    if isinstance(stored, float) or isinstance(amount, float):
        return float(exact)
    if not -LARGEST - 1 <= exact <= LARGEST:
        raise Misfit
    return int(exact)


def fraction(number: Any) -> Fraction:
    return Fraction(number.to_decimal() if isinstance(number, Decimal128) else number)


def shape(value: Any) -> Any:
    """Return what is equal for two values that look the same to whoever reads them."""
    if isinstance(value, dict):
        return [(name, shape(item)) for name, item in value.items()]
    if isinstance(value, (list, tuple)):
        return ("list", [shape(item) for item in value])
    if isinstance(value, (int, float, Decimal128)) and not isinstance(value, bool):
        kind = "int" if isinstance(value, (int, Int64)) else type(value).__name__
        return kind, fraction(value)
    return type(value).__name__, value


def overlaps(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


class DocumentsMachine(RuleBasedStateMachine):
    database: Any  # a function: Hypothesis looks for attributes, and a database has every one

    @initialize(fields=st.sampled_from([("_id",), ("k.id",), ("z", "b")]))
    def define(self, fields: tuple[str, ...]) -> None:
        """Draw the key, and make its index."""
        spec = DocumentSpec(secrets.token_hex(6), key=fields)
        self.collection = self.database().get_collection(spec.collection, codec_options=AWARE)
        for index in spec.indexes():
            self.collection.create_index(index.keys, **index.options)
        self.docs = Documents(self.database(), spec)
        self.model = Model(fields)
        self.now = START

    def key(self, key: Any) -> Any:
        return key if len(self.model.fields) == 1 else (key,) * len(self.model.fields)

    @rule(seconds=st.integers(1, 2))
    def time_passes(self, seconds: int) -> None:
        self.now += dt.timedelta(seconds=seconds)

    @rule(key=keys, defaults=defaults)
    def get_or_create(self, key: Any, defaults: dict[str, Any]) -> None:
        """What is missing is made of the key and the defaults; what is there is returned untouched."""
        told = self.docs.get_or_create(self.key(key), defaults)
        known = self.model.documents.get(key)
        assert told.created is (known is None)
        if known is None:
            known = self.model.bare(key, told.document["_id"])
            for name in sorted(
                defaults, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name)
            ):
                known[name] = copy.deepcopy(defaults[name])
            self.model.documents[key] = known
        assert shape(told.document) == shape(known)

    @rule(
        key=keys,
        drawn=st.lists(st.tuples(kinds, paths, values, numbers), max_size=6),
        keep=st.none() | st.integers(1, 3),
    )
    def upsert(self, key: Any, drawn: list[Any], keep: int | None) -> None:
        """All changes are made or none is, and the answer is the document after them."""
        taken = ["_id", *self.model.fields]
        order = ["set", "set_on_insert", "inc", "push_last", "set_now"]
        changes = []
        for kind, path, value, number in sorted(drawn, key=lambda change: order.index(change[0])):
            if not any(overlaps(path, other) for other in taken):
                taken.append(path)
                changes.append((kind, path, number if kind == "inc" else value))
        call: dict[str, Any] = {
            kind: {path: copy.deepcopy(value) for what, path, value in changes if what == kind} for kind in order[:-1]
        }
        call["set_now"] = [path for what, path, _ in changes if what == "set_now"]
        before = self.model.documents.get(key)
        made = before is None
        fresh = made or (self.model.fields == ("_id",) and set(before or {}) == {"_id"})
        document = self.model.bare(key, None) if before is None else copy.deepcopy(before)
        changes.sort(key=lambda change: change[0] != "set_on_insert")  # (a document that is made begins with those)
        changes = [change for change in changes if fresh or change[0] != "set_on_insert"]
        try:
            self.model.changed(document, changes, keep, self.now)
        except Misfit:
            with pytest.raises(StateError):
                self.docs.upsert(self.key(key), **call, keep=keep, now=self.now)
            return
        told = self.docs.upsert(self.key(key), **call, keep=keep, now=self.now)
        assert told.created is made
        if made and self.model.fields != ("_id",):
            document["_id"] = told.document["_id"]
        self.model.documents[key] = document
        assert shape(told.document) == shape(document)

    @rule(key=keys, number=st.sampled_from([2**62, -(2**62), LARGEST, -LARGEST - 1]))
    def count_far(self, key: Any, number: int) -> None:
        """Sums come to where 64 bits end, and not past it."""
        for _ in range(3):
            self.upsert(key, [("inc", "n", None, number)], None)

    @rule(key=keys, unexpired=st.sampled_from([None, "t", "t", "a.b", "n"]))
    def take(self, key: Any, unexpired: str | None) -> None:
        """The document is given and gone, unless a date was asked for that is not there or not in the future."""
        known = self.model.documents.get(key)
        expiry: Any = known
        for part in (unexpired or "").split("."):
            expiry = expiry.get(part) if isinstance(expiry, dict) else None
        fits = unexpired is None or (isinstance(expiry, dt.datetime) and expiry > self.now)
        taken = self.docs.take(self.key(key), unexpired=unexpired, now=self.now)
        assert (taken is not None) is (known is not None and fits)
        if taken is not None:
            assert shape(taken) == shape(self.model.documents.pop(key))

    @rule(key=keys, path=paths, value=values)
    def somebody_else_writes(self, key: Any, path: str, value: Any) -> None:
        """Another program puts something of any type into a document that is there."""
        known = self.model.documents.get(key)
        if known is None or any(overlaps(path, field) for field in self.model.fields):
            return
        changed = copy.deepcopy(known)
        try:
            self.model.put(changed, path, copy.deepcopy(value))
        except Misfit:
            return
        self.collection.replace_one({"_id": changed["_id"]}, changed)
        self.model.documents[key] = changed

    @rule(key=keys)
    def somebody_else_inserts(self, key: Any) -> None:
        """Another program inserts a document that holds nothing but the key."""
        if key not in self.model.documents:
            document = self.model.bare(key, secrets.token_hex(6))
            self.collection.insert_one(document)
            self.model.documents[key] = document

    @invariant()
    def what_is_stored_is_what_the_model_says(self) -> None:
        """No document more and none less, and each of them the same."""
        if not hasattr(self, "collection"):
            return
        stored = {str(document["_id"]): shape(document) for document in self.collection.find()}
        assert stored == {str(document["_id"]): shape(document) for document in self.model.documents.values()}


def test_documents_do_what_a_plain_model_does(mongopatterns_db: Any) -> None:
    """Over random keys, values, calls and writes of others, every answer and all that is stored equal the model's."""
    machine = type("Machine", (DocumentsMachine,), {"database": staticmethod(lambda: mongopatterns_db)})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=EXAMPLES // 2,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
