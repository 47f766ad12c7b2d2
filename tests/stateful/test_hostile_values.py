"""Hostile values against the real server: whatever a caller sends is data, and comes back as it was sent."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Any

from bson import Decimal128, Int64
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mongopatterns import Counter, CounterSpec, Field, Quota, QuotaSpec, Rollover, StateError, UsageError, Window
from mongopatterns.expressions import bson_identity, literal, merge_at

NOON = dt.datetime(2026, 3, 4, 12, 30, tzinfo=dt.timezone.utc)
relaxed = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
dollars = st.sampled_from(["$name", "$$ROOT", "$$NOW", "$a.b", "$", "a.b", "", "$literal", "\0", "{$gt: ''}"])
texts = dollars | st.text(max_size=8)
safe = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
names = st.sampled_from(["$set", "$add", "a.b", "x", "", "$"]) | st.text(safe, max_size=4)
values: Any = st.recursive(
    texts | st.integers(-9, 9) | st.none() | st.booleans() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


stored_numbers = (
    st.floats()
    | st.integers(0, 9)
    | st.integers(0, 2**63 - 1).map(Int64)
    | st.sampled_from(["0.1", "3", "2.5", "NaN", "-1", "Infinity", "1E+6000", "1E-30"]).map(Decimal128)
)


@relaxed
@example({"$add": [1, 2]})
@example([{"$literal": "$$ROOT"}])
@given(values)
def test_a_literal_is_never_computed(mongopatterns_db: Any, value: Any) -> None:
    """The server gives back under $literal what was put there, whatever it looks like."""
    mongopatterns_db.one.replace_one({"_id": 1}, {"_id": 1}, upsert=True)
    (document,) = mongopatterns_db.one.aggregate([{"$project": {"value": literal(value)}}])
    assert document["value"] == value


@relaxed
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=3), values)
def test_merging_touches_its_path_alone(mongopatterns_db: Any, parts: list[str], value: Any) -> None:
    """merge_at stores the value at its path, and what stood beside every part of the path is still there."""
    document: dict[str, Any] = {"kept": 0}
    for depth, part in enumerate(reversed(parts[:-1]), start=1):
        document = {"kept": depth, part: document}
    mongopatterns_db.one.replace_one({"_id": 1}, document, upsert=True)
    update = [{"$replaceWith": merge_at("$$ROOT", ".".join(parts), literal(value))}]
    mongopatterns_db.one.update_one({"_id": 1}, update)
    stored = mongopatterns_db.one.find_one({}, {"_id": 0})
    for depth, part in enumerate(parts):
        assert set(stored) == {"kept", part}
        assert stored["kept"] == len(parts) - 1 - depth
        stored = stored[part]
    assert stored == value


@relaxed
@given(values)
def test_a_key_is_itself_or_refused(mongopatterns_db: Any, key: Any) -> None:
    """Whatever is given as a key is either refused, or stored and found as exactly that value."""
    mongopatterns_db.drop_collection("c")
    mongopatterns_db.drop_collection("q")
    counter = Counter(mongopatterns_db, CounterSpec("c", path="n"))
    quota = Quota(mongopatterns_db, QuotaSpec("q", path="q", windows=[Window.hour(1)]))
    try:
        counter.add(key)
    except UsageError as error:
        assert error.argument.startswith("key")  # noqa: PT017  # one of two right outcomes
        assert mongopatterns_db.c.count_documents({}) == 0
        return
    assert counter.add(key) == 2
    assert [bool(quota.consume(key, now=NOON)) for _ in range(2)] == [True, False]
    for collection in (mongopatterns_db.c, mongopatterns_db.q):
        assert [bson_identity(document["_id"]) for document in collection.find()] == [bson_identity(key)]


@relaxed
@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), values, max_size=3))
def test_created_fields_are_stored_as_given(mongopatterns_db: Any, create: Any) -> None:
    """create= is refused, or every field of it is stored as it was given, by counters and quotas alike."""
    name = secrets.token_hex(4)
    try:
        counts = CounterSpec(name, path="n", create=create)
        grants = QuotaSpec(name, path="n", windows=[Window.hour(1)], create=create)
    except UsageError as error:
        assert error.argument.startswith("create")  # noqa: PT017  # one of two right outcomes
        return
    Counter(mongopatterns_db, counts).add("counter")
    assert Quota(mongopatterns_db, grants).consume("quota", now=NOON)
    for document in mongopatterns_db[name].find():
        assert {key: item for key, item in document.items() if key not in ("_id", "n")} == create


@relaxed
@example({"end": NOON, "used": 1, "bank": 2}, 3)
@example({"end": NOON + dt.timedelta(days=1), "used": 1}, 3.5)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "end": values | st.just(NOON + dt.timedelta(hours=1)),
            "used": values | stored_numbers,
            "bank": values | stored_numbers,
        },
    )
    | values,
    values | stored_numbers,
)
def test_server_and_reader_agree_on_what_is_a_state(mongopatterns_db: Any, window: Any, limit: Any) -> None:
    """For any stored state and limit: either the call is charged and told so, or nothing at all is changed."""
    mongopatterns_db.q.delete_many({})
    mongopatterns_db.q.insert_one({"_id": 1, "q": {"hour": window}, "limit": limit})
    before = mongopatterns_db.command("find", "q")["cursor"]["firstBatch"]
    windows = [Window.hour(Field("limit", default=4), rollover=Rollover(cap=5))]
    quota = Quota(mongopatterns_db, QuotaSpec("q", path="q", windows=windows))
    try:
        decision = quota.consume(1, 2, now=NOON)
    except StateError:
        granted = False
    else:
        granted = decision.allowed
    after = mongopatterns_db.command("find", "q")["cursor"]["firstBatch"]
    assert (str(after) != str(before)) is granted
    if granted:
        assert after[0]["q"]["at"] == NOON.replace(tzinfo=None)
