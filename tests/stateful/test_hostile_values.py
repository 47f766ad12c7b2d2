"""Hostile values against the real server: whatever a caller sends is data, and comes back as it was sent."""

from __future__ import annotations

import base64
import datetime as dt
import secrets
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId, encode
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient

from mongopatterns import Counter, CounterSpec, Field, Quota, QuotaSpec, Rollover, StateError, UsageError, Window
from mongopatterns.expressions import bson_identity, literal, merge_at

EXAMPLES = settings.default.max_examples  # many more with --hypothesis-profile=deep

NOON = dt.datetime(2026, 3, 4, 12, 30, tzinfo=dt.timezone.utc)
relaxed = settings(
    max_examples=EXAMPLES * 2 // 5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
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


# What a quota refuses before anything is sent ----------------------------------------------------------------

NUMBERS = [
    float("nan"),
    float("inf"),
    float("-inf"),
    -1,
    10**15 + 1,
    10**400,
    1e16,
    True,
    "1",
    "$used",
    b"1",
    [1],
    {"$add": [1, 2]},
    1j,
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("Infinity"),
    Decimal("1E-19"),
    Decimal("0." + "1" * 40),
    Decimal("1E+400"),
    Decimal128("1"),
    dt.timedelta(1),
]
TEXTS = ["", "x" * 201, "a\0b", "\ud800", 5, b"id", True, ["x"], {"$gt": ""}, 1.5]
TIMES = [0, 0.0009, -1, 31 * 86_400 + 1, float("nan"), float("inf"), 10**400, True, "60", None, Decimal(5), [60]]
TOKENS = [
    None,
    "",
    "x",
    "$token",
    "\ud800",
    "\0",
    "é",
    5,
    b"\xff\xff",
    ObjectId(),
    {"k": 1},
    "AAAA",
    *(base64.urlsafe_b64encode(encode(document)).decode() for document in ({}, {"k": 1}, {"k": None, "i": ObjectId()})),
    base64.urlsafe_b64encode(encode({"k": 1, "i": "no id"})).decode(),
    base64.urlsafe_b64encode(encode({"k": [1], "i": ObjectId()})).decode(),
    base64.urlsafe_b64encode(encode({"k": {"$gt": ""}, "i": ObjectId()})).decode(),
]
METERS = [5, "cost", ["cost"], {"other": 1}, {"$cost": 1}, {None: 1}, {"co\0st": 1}, {"cost.x": 1}, {"\ud800": 1}]
STATES: list[tuple[str, dict[str, Any]]] = [
    ("used", {}),
    ("used", {"used": {}, "banked": {}}),
    ("used", {"used": 5}),
    ("used", {"used": [("hour", 1)]}),
    ("used", {"used": {"hour": 1, "year": 1}}),
    ("used", {"used": {"$set": 1}}),
    ("used", {"used": {None: 1}}),
    ("used", {"used": {"\ud800": 1}}),
    ("banked", {"banked": "hour"}),
    ("banked", {"banked": {"day": 1}}),  # has no rollover
    ("banked", {"used": {"hour": 1}, "banked": {"ho\0ur": 1}}),
]


def refused_calls(quota: Quota, token: str) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    """List the argument, a value that it cannot take, and the call."""
    for number in [*NUMBERS, None, 0]:
        yield "amount", number, lambda value: quota.consume("k", value)
        yield "amount", number, lambda value: quota.record("k", value)
        yield "amount", number, lambda value: quota.refund("k", value)
        yield "amount", number, lambda value: quota.grant("k", value)
        yield "amount", number, lambda value: quota.reserve("k", value, ttl=1)
    for number in [*NUMBERS, None]:
        yield "used", number, lambda value: quota.settle(token, value)
        yield "meters.cost", number, lambda value: quota.consume("k", 1, meters={"cost": value})
        yield "meters.cost", number, lambda value: quota.settle(token, 1, meters={"cost": value})
        yield "used.hour", number, lambda value: quota.set_state("k", used={"hour": value})
        yield "banked.hour", number, lambda value: quota.set_state("k", banked={"hour": value})
    for meters in METERS:
        yield "meters", meters, lambda value: quota.consume("k", 1, meters=value)
        yield "meters", meters, lambda value: quota.record("k", 1, meters=value)
        yield "meters", meters, lambda value: quota.refund("k", 1, meters=value)
        yield "meters", meters, lambda value: quota.settle(token, 1, meters=value)
    for text in TEXTS:
        yield "once", text, lambda value: quota.consume("k", 1, once=value)
        yield "once", text, lambda value: quota.refund("k", 1, once=value)
        yield "once", text, lambda value: quota.grant("k", 1, once=value)
    for time in TIMES:
        yield "ttl", time, lambda value: quota.reserve("k", 1, ttl=value)
    for bad in TOKENS:
        yield "token", bad, lambda value: quota.settle(value, 1)
        yield "token", bad, quota.release
    for argument, state in STATES:
        yield argument, state, lambda value: quota.set_state("k", **value)


@pytest.mark.parametrize(
    "argument",
    [
        "amount",
        "meters",
        "meters.cost",
        "used.hour",
        "banked",
        "banked.hour",
        "used",
        "once",
        "ttl",
        "token",
    ],
)
def test_what_a_quota_cannot_take_is_named_and_never_sent(
    mongopatterns_server: Any, recorder: Any, commands: Any, mongopatterns_db_name: str, argument: str
) -> None:
    """Hostile amounts, meters, ids, times, tokens and states are refused by the name of the argument, unsent."""
    windows = [Window.hour(5, rollover=Rollover(cap=9)), Window.day(50)]
    spec = QuotaSpec("q", path="q", windows=windows, meters=("cost",))
    wrong: list[Any] = []
    with (
        MongoClient(mongopatterns_server.uri, event_listeners=[recorder]) as client,
        Quota(client[mongopatterns_db_name], spec, combine=True) as quota,
    ):
        token = quota.reserve("k", 1, ttl=60).token
        assert token is not None
        commands.clear()
        for named, value, call in refused_calls(quota, token):
            if named != argument:
                continue
            try:
                call(value)
            except UsageError as error:
                told = error.argument
            except Exception as error:  # noqa: BLE001  # all that went wrong is shown at once
                told = repr(error)
            else:
                told = "was taken"
            if told != argument or commands.sent:
                wrong.append((argument, repr(value)[:60], told[:200], commands.names))
            commands.clear()
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        *(("once_kept", lambda value=value: {"once_kept": value}) for value in (0, -1, 1001, True, 1.5, "32", None)),
        *(
            ("meters", lambda value=value: {"meters": value})
            for value in ("cost", [5], ["a.b"], ["$a"], [""], ["a\0"], ["\ud800"], ["a", "a"], None, {"a": 1}.keys())
        ),
        *(("align", lambda value=value: {"align": value}) for value in (None, True, "first use", "$first_use", 1)),
        *(
            ("Window.align", lambda value=value: {"windows": [Window.hour(1, align=value)]})
            for value in (True, "now", 0, ["calendar"])
        ),
        *(
            ("Window.every", lambda value=value: {"windows": [Window.every(value, 1)]})
            for value in (
                60,
                "1h",
                dt.timedelta(0),
                dt.timedelta(-1),
                dt.timedelta(microseconds=1500),
                dt.timedelta.max,
            )
        ),
    ],
)
def test_what_a_definition_cannot_take_is_named(argument: str, make: Any) -> None:
    """A hostile definition is refused when it is made, by the name of the argument."""
    with pytest.raises(UsageError) as caught:
        QuotaSpec("q", **{"path": "q", "windows": [Window.hour(1)], **make()})
    assert caught.value.argument == argument


# The rest of a quota's state: grants, reservations, meters and ids.
instants = st.sampled_from([NOON - dt.timedelta(hours=1), NOON + dt.timedelta(hours=1)])
parts: Any = values | stored_numbers
holds = st.fixed_dictionaries({}, optional={"id": values, "n": parts, "until": values | instants})
rest = st.fixed_dictionaries(
    {},
    optional={
        "extra": values | st.fixed_dictionaries({}, optional={"left": parts, "lent": parts}),
        "holds": values | st.lists(holds, max_size=3),
        "meters": values | st.fixed_dictionaries({}, optional={"cost": parts, "other": values}),
        "once": values | st.lists(values, max_size=3),
        "note": values,
    },
)


@relaxed
@example({"holds": [7]}, "grant")
@example({"holds": [{"id": 1, "n": -50, "until": NOON + dt.timedelta(hours=1)}]}, "consume")
@example({"extra": [{"left": 5}]}, "consume")
@example({"meters": 7}, "record")
@example({"once": 7}, "consume once")
@given(rest, st.sampled_from(["consume", "record", "refund", "grant", "reserve", "consume once", "set_state"]))
def test_server_and_reader_agree_on_the_rest_of_a_state(mongopatterns_db: Any, stored: Any, name: str) -> None:
    """Whatever stands beside the windows: a call is applied and told so, or it is an error and changes nothing."""
    window = {"end": NOON + dt.timedelta(hours=1), "used": 1}
    mongopatterns_db.q.delete_many({})
    mongopatterns_db.q.insert_one({"_id": 1, "q": {"at": NOON, "hour": window, **stored}})
    quota = Quota(mongopatterns_db, QuotaSpec("q", path="q", windows=[Window.hour(4)], meters=("cost",)))
    calls: dict[str, Callable[[], Any]] = {
        "consume": lambda: quota.consume(1, 2, now=NOON),
        "record": lambda: quota.record(1, 2, now=NOON),
        "refund": lambda: quota.refund(1, 1, now=NOON),
        "grant": lambda: quota.grant(1, 2, now=NOON),
        "reserve": lambda: quota.reserve(1, 2, ttl=60, now=NOON),
        "consume once": lambda: quota.consume(1, 2, once="x", now=NOON),
        "set_state": lambda: quota.set_state(1, used={"hour": 2}, now=NOON),
    }
    before = mongopatterns_db.command("find", "q")["cursor"]["firstBatch"]
    try:
        told = calls[name]()
    except StateError:
        granted = False
    else:
        granted = bool(told)
        verdict = getattr(told, "decision", told)
        assert verdict.to_dict()["used"].keys() == {"hour"}  # (worked out only now: it can be told)
        assert granted or verdict.limited_by == "hour"
    after = mongopatterns_db.command("find", "q")["cursor"]["firstBatch"]
    assert (str(after) != str(before)) is granted
