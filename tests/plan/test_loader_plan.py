"""What a loader sends, and whose each document of an answer is, without a server."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import pytest
from bson import (
    Binary,
    Code,
    DatetimeMS,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
    UuidRepresentation,
    encode,
)
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st

from mongopatterns import Index, LoaderSpec, UsageError
from mongopatterns.expressions import bson_identity
from mongopatterns.joins._loader_plan import MAX_BYTES, Find, Key, LoaderPlan

OPTIONS: CodecOptions[Any] = CodecOptions(
    document_class=dict,
    tz_aware=True,
    tzinfo=dt.timezone.utc,
    datetime_conversion=DatetimeConversion.DATETIME_CLAMP,
    uuid_representation=UuidRepresentation.STANDARD,
)
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=dt.timezone.utc)
ID = ObjectId("0123456789abcdef01234567")


def plan_of(**options: Any) -> LoaderPlan:
    return LoaderPlan(LoaderSpec("users", **options), OPTIONS)


def calls_of(plan: LoaderPlan, *keys: Any) -> dict[Any, Key]:
    return {key.identity: key for key in plan.keys(keys)}


def raw(*documents: dict[str, Any]) -> list[RawBSONDocument]:
    return [RawBSONDocument(encode(document, codec_options=OPTIONS), plan_of().raw_options) for document in documents]


def load(plan: LoaderPlan, keys: list[Any], *documents: dict[str, Any]) -> list[Any]:
    """Answer keys as a server would that has these documents, and does not look at what is asked for."""
    asked = plan.keys(keys)
    commands = plan.commands({key.identity: key for key in asked})
    return plan.documents(asked, plan.found(commands, [raw(*documents)] * len(commands)))


# The definition ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("collection", {"collection": ""}),
        ("collection", {"collection": 5}),
        ("key_field", {"key_field": ""}),
        ("key_field", {"key_field": "$a"}),
        ("key_field", {"key_field": "a..b"}),
        ("key_field", {"key_field": "a.0.b"}),
        ("key_field", {"key_field": None}),
        ("key_type", {"key_type": str}),
        ("fields", {"fields": "name"}),
        ("fields", {"fields": ["$a"]}),
        ("fields", {"fields": ["a", "a.b"]}),
        ("fields", {"fields": {"a": 0}}),
        ("fields", {"fields": {"_id": 0}}),
        ("max_batch", {"max_batch": 0}),
        ("max_batch", {"max_batch": True}),
        ("max_cache", {"max_cache": 0}),
        ("max_cache", {"max_cache": 1.5}),
    ],
)
def test_a_bad_definition_names_its_argument(argument: str, options: dict[str, Any]) -> None:
    """What cannot be a loader is refused where it is defined."""
    with pytest.raises(UsageError) as caught:
        LoaderSpec(**{"collection": "users", **options})
    assert caught.value.argument == argument


def test_a_definition_is_a_value() -> None:
    """Two specs of one meaning are equal and hash alike, and a list that is changed later changes nothing."""
    fields = ["name"]
    spec = LoaderSpec("users", fields=fields)
    fields.append("email")
    assert spec == LoaderSpec("users", fields=("name",))
    assert hash(spec) == hash(LoaderSpec("users", fields=["name"]))


def test_the_index_that_is_needed() -> None:
    """A key other than `_id` needs an index, which need not be unique."""
    assert LoaderSpec("users").indexes() == ()
    assert LoaderSpec("users", key_field="email").indexes() == (Index("email"),)


# What is sent ------------------------------------------------------------------------------------------------


def test_one_key_is_asked_for_by_plain_equality() -> None:
    """A single key goes in bare, but for documents, which would read as operators."""
    plan = plan_of()
    (command,) = plan.commands(calls_of(plan, "a"))
    assert command.arguments() == {
        "filter": {"_id": "a"},
        "projection": None,
        "batch_size": 2,
        "comment": "mongopatterns.loader.load",
    }
    (command,) = plan.commands(calls_of(plan, {"a": 1}))
    assert command.filter == {"_id": {"$eq": {"a": 1}}}


def test_several_keys_are_one_in() -> None:
    """Keys that the server finds equal are asked for once; the first answer has room for all documents."""
    plan = plan_of(key_field="n", fields=["name"])
    keys = [1, 1.0, Decimal128("1.00"), Int64(1), True, "1", 2, 2]
    (command,) = plan.commands(calls_of(plan, *keys))
    assert len(command.filter["n"]["$in"]) == 4
    assert command.arguments()["batch_size"] == 5
    assert command.projection == {"_id": 1, "name": 1, "n": 1}


def test_commands_are_bounded_by_count() -> None:
    """No command asks for more than `max_batch` keys, and each key is asked for once, in order."""
    plan = plan_of(max_batch=3)
    commands = plan.commands(calls_of(plan, *range(8)))
    assert [command.filter["_id"] for command in commands] == [{"$in": [0, 1, 2]}, {"$in": [3, 4, 5]}, {"$in": [6, 7]}]
    assert plan.commands({}) == []


def test_commands_are_bounded_by_bytes() -> None:
    """Long keys make more commands; one that is too long for company goes by itself."""
    plan = plan_of()
    long = "x" * (MAX_BYTES // 3)
    commands = plan.commands(calls_of(plan, "a", *(long + str(number) for number in range(4)), "b", "y" * MAX_BYTES))
    assert [len(command.keys) for command in commands] == [3, 3, 1]
    assert all(len(encode(command.filter)) < MAX_BYTES * 1.01 for command in commands)


def test_many_short_keys_stay_below_the_bound_in_bytes() -> None:
    """What a key is counted as covers what it takes as an item of a list."""
    plan = plan_of(max_batch=10**6)
    commands = plan.commands(calls_of(plan, *(b"%06d" % number + b"x" * 9 for number in range(400_000))))
    assert len(commands) == 2
    assert all(len(encode(command.filter)) <= MAX_BYTES for command in commands)


def test_text_is_converted_where_ids_are_asked_for() -> None:
    """`key_type=ObjectId` takes ids and their text as one key, and refuses anything else."""
    plan = plan_of(key_type=ObjectId)
    (command,) = plan.commands(calls_of(plan, ID, str(ID)))
    assert command.filter == {"_id": ID}
    with pytest.raises(UsageError, match=r"keys\[1\]: 'a' is not an ObjectId"):
        plan.keys([ID, "a"])


DEEP: dict[str, Any] = {}
for _ in range(5000):
    DEEP = {"a": DEEP}

BAD_KEYS = [
    None,
    float("nan"),
    [1],
    {1},
    Regex("a"),
    Code("a"),
    DBRef("a", 1),
    MinKey(),
    MaxKey(),
    Timestamp(1, 1),
    2**63,
    "\ud800",
    Decimal(1),
    object(),
    {"$gt": 1},
    {"a.b": 1},
    {"a": {"$in": [1]}},
    {"a": 2**63},
    {"a": [Decimal(1)]},
    {"a": DEEP},
    "x" * (16 * 2**20),
]


@pytest.mark.parametrize("key", BAD_KEYS, ids=lambda key: f"{type(key).__name__} {str(type(key))[:10]}")
def test_a_bad_key_is_refused_before_it_meets_others(key: Any) -> None:
    """What has no plain equality, or could make the command of all fail, is a UsageError of its own caller."""
    with pytest.raises(UsageError, match=r"^key"):
        plan_of().key("key", key)
    with pytest.raises(UsageError, match=r"^keys\[1\]"):
        plan_of().keys(["a", key])


def test_a_uuid_needs_a_representation() -> None:
    """A UUID of which the client does not say how it is stored is refused; with one it is a key."""
    key = uuid.UUID(int=1)
    assert plan_of().key("key", key).identity == bson_identity(Binary.from_uuid(key))
    with pytest.raises(UsageError, match="cannot be stored"):
        LoaderPlan(LoaderSpec("users"), CodecOptions()).key("key", key)


@pytest.mark.parametrize("keys", ["abc", b"abc", {"a": 1}, None, 5])
def test_several_keys_are_a_list(keys: Any) -> None:
    """Text is not taken for its letters, nor a dict for its names."""
    with pytest.raises(UsageError, match=r"^keys: expected a list of keys"):
        plan_of().keys(keys)


def test_any_iterable_of_keys_will_do() -> None:
    """Tuples, sets and generators are taken in the order in which they come."""
    assert [key.value for key in plan_of().keys(str(n) for n in range(3))] == ["0", "1", "2"]


def test_deep_keys_up_to_what_a_server_stores() -> None:
    """A key is refused at the depth at which no document is stored, and not before."""
    key: Any = 1
    for _ in range(179):
        key = {"a": [key]} if isinstance(key, int) else {"a": key}
    plan_of().key("key", key)
    with pytest.raises(UsageError, match="180 levels"):
        plan_of().key("key", {"a": key})


# Whose is what -----------------------------------------------------------------------------------------------


def test_documents_come_in_the_order_of_the_keys() -> None:
    """Order and repetitions are the caller's, and what is missing is None."""
    documents = [{"_id": "a", "n": 1}, {"_id": "b", "n": 2}]
    assert load(plan_of(), ["b", "x", "a", "b"], *documents) == [documents[1], None, documents[0], documents[1]]
    assert load(plan_of(), []) == []


def test_every_document_is_a_new_one() -> None:
    """No two callers, and no two places of one list, share anything that can be changed."""
    plan = plan_of()
    asked = plan.keys(["a", "a"])
    found = plan.found(plan.commands({key.identity: key for key in asked}), [raw({"_id": "a", "d": {"l": [1]}})])
    one, two = plan.documents(asked, found)
    one["d"]["l"].append(2)
    assert two == {"_id": "a", "d": {"l": [1]}}
    assert plan.documents(asked, found)[0] == two
    assert type(two["d"]) is dict
    one, two = load(plan_of(key_field="k"), [1, 2], {"_id": 0, "k": [1, 2], "d": {}})
    one["d"]["x"] = 1
    assert two == {"_id": 0, "k": [1, 2], "d": {}}


EQUAL = [
    (1, [1.0, Decimal128("1"), Decimal128("1.000"), Int64(1)]),
    (0, [-0.0, Decimal128("-0"), 0.0]),
    (0.1, [0.1]),
    (2**53, [float(2**53), Int64(2**53), Decimal128(str(2**53))]),
    (True, [True]),
    ("a", ["a"]),
    (ID, [ID]),
    (b"\x00", [b"\x00", Binary(b"\x00", 0)]),
    (uuid.UUID(int=7), [Binary(uuid.UUID(int=7).bytes, 4)]),
    (NOON, [NOON, NOON + dt.timedelta(microseconds=1), DatetimeMS(NOON)]),
    (DatetimeMS(2**60), [DatetimeMS(2**60)]),
    ({"a": 1, "b": [1]}, [{"a": 1.0, "b": [Decimal128("1")]}]),
    ({"a": DBRef("c", 1)}, [{"a": {"$ref": "c", "$id": 1}}]),
    ({}, [{}]),
]
UNEQUAL = [
    (1, [True, "1", b"1", {"a": 1}, NOON]),
    (0.1, [Decimal128("0.1"), 0]),
    (2**53 + 1, [float(2**53 + 1)]),
    (str(ID), [ID, Code(str(ID))]),
    (ID, [str(ID), ID.binary]),
    (b"a", ["a", Binary(b"a", 5)]),
    ({"a": 1, "b": 2}, [{"b": 2, "a": 1}, {"a": 1}]),
    (dt.datetime.max.replace(tzinfo=dt.timezone.utc), [DatetimeMS(2**60)]),
    ("a", ["A", Regex("a")]),
]


@pytest.mark.parametrize(("key", "stored"), [(key, each) for key, many in EQUAL for each in many], ids=repr)
def test_keys_are_equal_as_the_server_says(key: Any, stored: Any) -> None:
    """A document is found under every key that the server finds equal to its own."""
    plan = plan_of(key_field="k")
    assert load(plan, [key], {"_id": 1, "k": stored}) != [None]
    assert load(plan, [{"x": 1}, key], {"_id": 1, "k": stored})[1] is not None


@pytest.mark.parametrize(("key", "stored"), [(key, each) for key, many in UNEQUAL for each in many], ids=repr)
def test_keys_are_not_equal_as_python_says(key: Any, stored: Any) -> None:
    """What only Python, or a case-blind collation, finds equal is another document's key."""
    assert load(plan_of(key_field="k"), [key], {"_id": 1, "k": stored}) == [None]


def test_the_first_of_several_is_the_one_with_the_least_id() -> None:
    """Where a key is not unique the order of the answer does not matter; that of ids is the server's."""
    plan = plan_of(key_field="k", fields={"n": 1, "_id": 0})
    documents = [{"_id": "b", "k": 1, "n": 1}, {"_id": 3.5, "k": 1.0, "n": 2}, {"_id": ID, "k": 1, "n": 3}]
    for order in (documents, documents[::-1]):
        assert load(plan, [1, 2], *order) == [{"n": 2}, None]


def test_keys_are_read_where_the_server_reads_them() -> None:
    """A path leads through a list of documents one level, and a list at its end stands for itself and its items."""
    plan = plan_of(key_field="a.k")
    keys = [1, 2, 3]
    for document, found in [
        ({"_id": 0, "a": {"k": 1}}, [True, False, False]),
        ({"_id": 0, "a": {"k": [1, 3]}}, [True, False, True]),
        ({"_id": 0, "a": [{"k": 1}, {"k": [2]}, 3, [{"k": 3}]]}, [True, True, False]),
        ({"_id": 0, "a": {"k": [[1], 2]}}, [False, True, False]),
        ({"_id": 0, "a.k": 1}, [False, False, False]),
        ({"_id": 0, "a": [[{"k": 1}]]}, [False, False, False]),
    ]:
        assert [each is not None for each in load(plan, keys, document)] == found


def test_a_command_tells_of_its_own_keys_only() -> None:
    """What a command happens to see of another one's key does not count: that one sees which document is the first."""
    plan = plan_of(key_field="tags", max_batch=1)
    both, first = {"_id": 2, "tags": ["a", "b"]}, {"_id": 1, "tags": ["b"]}
    for keys in (["a", "b"], ["b", "a"]):
        asked = plan.keys(keys)
        commands = plan.commands({key.identity: key for key in asked})
        replies = {"a": raw(both), "b": raw(both, first)}
        found = plan.found(commands, [replies[key] for key in keys])
        assert plan.documents(asked, found) == [{"a": both, "b": first}[key] for key in keys]


@pytest.mark.parametrize(
    ("key_field", "fields", "given"),
    [
        ("a.k", ["n"], {"_id": 0, "n": 5}),
        ("a.k", {"n": 1, "_id": 0}, {"n": 5}),
        ("a.k", ["a.k"], {"_id": 0, "a": {"k": 1}}),
        ("_id", {"n": 1, "_id": 0}, {"n": 5}),
        ("k", ["n"], {"_id": 0, "n": 5}),
    ],
)
def test_the_key_is_fetched_and_not_shown(key_field: str, fields: Any, given: dict[str, Any]) -> None:
    """What is read only to find out whose a document is, is not given to the caller."""
    plan = plan_of(key_field=key_field, fields=fields)
    (command,) = plan.commands(calls_of(plan, 0))
    assert command.projection is not None
    document = {"_id": 0, "n": 5, "k": 0, "a": {"k": 1}}
    stored = {name: value for name, value in document.items() if command.projection.get(name)}
    if "_mongopatterns" in command.projection:
        stored["_mongopatterns"] = {name: [1] for name in command.projection["_mongopatterns"]}
    if any(name.startswith("a.") for name in command.projection):
        stored["a"] = {"k": 1}
    assert load(plan, [1 if key_field == "a.k" else 0], stored) == [given]


numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.decimals(allow_nan=False, places=3, min_value=-(10**9), max_value=10**9).map(Decimal128),
    st.booleans(),
    st.sampled_from([0, 1, 1.0, True, False, -0.0, Decimal128("1"), Decimal128("0E-3")]),
)
scalars = st.one_of(numbers, st.text(st.characters(codec="utf-8"), max_size=3), st.binary(max_size=2))
values = st.one_of(scalars, st.dictionaries(st.sampled_from(["a", "b"]), scalars, max_size=2))


@given(keys=st.lists(values, max_size=6), stored=st.lists(values, max_size=6), max_batch=st.integers(1, 4))
def test_each_key_gets_its_own_document(keys: list[Any], stored: list[Any], max_batch: int) -> None:
    """For any keys and documents, each key is given the first document with an equal key, or None."""
    documents = [{"_id": place, "k": value} for place, value in enumerate(stored)]
    expected = [
        next((place for place, value in enumerate(stored) if bson_identity(value) == bson_identity(key)), None)
        for key in keys
    ]
    found = load(plan_of(key_field="k", max_batch=max_batch), keys, *documents[::-1])
    assert [document and document["_id"] for document in found] == expected


def test_a_command_is_a_value() -> None:
    """Commands can be compared and read; what is sent is nothing else."""
    assert Find(frozenset(["a"]), {"_id": "a"}, None) == Find(frozenset(["a"]), {"_id": "a"}, None)
