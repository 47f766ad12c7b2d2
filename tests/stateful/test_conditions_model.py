"""Filters as conditions against the server's own `find`: random documents and filters, through every kind of list.

The server is the reference: what `find` gives for a filter is what the condition has to be true for, in `$expr` and
within a `$group`, where another engine of the server may compute it.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
import secrets
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient

from mongopatterns.conditions import check_condition, condition
from mongopatterns.filters import Param, Where

EXAMPLES = settings.default.max_examples  # many more with --hypothesis-profile=deep

OID = ObjectId("0123456789abcdef01234567")
DAY = dt.datetime(2026, 3, 4)  # noqa: DTZ001  # as the client of these tests gives it back

# Few values, so that documents and filters meet: neighbours, what is equal in part, and what looks alike.
SCALARS: list[Any] = [
    None,
    MinKey(),
    MaxKey(),
    math.nan,
    Decimal128("NaN"),
    -math.inf,
    math.inf,
    -1,
    -0.0,
    0,
    Decimal128("-0"),
    Decimal128("0.1"),
    0.1,
    1,
    1.0,
    Int64(1),
    Decimal128("1.00"),
    2,
    2**53,
    Int64(2**53 + 1),
    "",
    "a",
    "b",
    "1",
    "$a",
    "$$ROOT",
    "a\0b",
    b"",
    b"a",
    Binary(b"a", 5),
    Binary.from_uuid(uuid.UUID(int=7)),
    OID,
    ObjectId("0123456789abcdef01234568"),
    False,
    True,
    DAY,
    DAY + dt.timedelta(days=1),
    DatetimeMS(-(2**63)),
    Timestamp(1, 1),
    Timestamp(2, 1),
    Code("f"),
    Code("g"),
    Code("f", {"x": 1}),
]
PATTERNS: list[Any] = [Regex("a", ""), Regex("a", "i")]
NAMES = ["a", "b", "c"]
names = st.sampled_from(NAMES)
scalars = st.sampled_from(SCALARS)
stored_scalars = scalars | st.sampled_from([*PATTERNS, {"$gt": 0}, {"$literal": "$a"}])


def nest(inner: Any) -> Any:
    documents = st.dictionaries(names, inner, max_size=3)
    return documents | documents | st.lists(inner, max_size=3) | st.lists(documents, max_size=3)


stored: Any = st.recursive(stored_scalars, nest, max_leaves=8)
documents: Any = st.dictionaries(names, stored, max_size=3)

PATHS = [f"{'.'.join(parts)}" for size in (1, 2, 3) for parts in itertools.product(NAMES, repeat=size)]
compared: Any = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2), max_leaves=3
)
ORDERED = ["$gt", "$gte", "$lt", "$lte"]
OPERATORS = [*ORDERED, *ORDERED, "$eq", "$ne", "$in", "$nin", "$exists", "$not"]


@st.composite
def field_tests(draw: Any) -> Any:
    """Draw what a field is tested for: a value, or one operator or two."""
    if draw(st.booleans()):
        return draw(compared)
    return {
        operator: draw(operand(operator))
        for operator in draw(st.lists(st.sampled_from(OPERATORS), min_size=1, max_size=2))
    }


@st.composite
def operand(draw: Any, operator: str) -> Any:
    if operator == "$exists":
        return draw(st.booleans())
    if operator == "$not":
        inner = draw(st.sampled_from(OPERATORS))
        return {inner: draw(operand(inner))}
    if operator in ("$in", "$nin"):
        return draw(st.lists(compared, max_size=3)) + draw(st.sampled_from([[], [], [f"x{n}" for n in range(20)]]))
    if operator == "$eq":
        return draw(compared | st.sampled_from([*PATTERNS, {"$gt": 0}, {"$literal": "$a"}]))
    value = draw(compared)
    return None if operator in ORDERED and isinstance(value, Code) and value.scope is not None else value


@st.composite
def filters(draw: Any, depth: int = 2) -> Any:
    """Draw a filter: of fields, or of filters that belong together."""
    where = {path: draw(field_tests()) for path in draw(st.lists(st.sampled_from(PATHS), max_size=2))}
    if depth and draw(st.integers(0, 2)) == 0:
        logic = draw(st.sampled_from(["$and", "$or", "$nor"]))
        where[logic] = [draw(filters(depth - 1)) for _ in range(draw(st.integers(1, 2)))]
    return where


def check(database: Any, stored: list[dict[str, Any]], where: dict[str, Any]) -> None:
    """Compare what find gives for a filter with what its condition is true for."""
    collection = database.conditions
    collection.delete_many({})
    collection.insert_many([{**document, "_id": place} for place, document in enumerate(stored)])
    checked = Where(where)
    check_condition("where", checked)
    built = condition(checked)
    found = sorted(document["_id"] for document in collection.find(where, {"_id": 1}))
    assert found == sorted(document["_id"] for document in collection.find({"$expr": built}, {"_id": 1}))
    group = {"_id": None, "ids": {"$push": {"$cond": [{"$eq": [built, True]}, "$_id", "$$REMOVE"]}}}
    (grouped,) = collection.aggregate([{"$group": group}])
    assert found == sorted(grouped["ids"])
    # Every value is true or false, and nothing else that only counts as such.
    assert collection.count_documents({"$expr": {"$ne": [{"$type": built}, "bool"]}}) == 0


@settings(
    max_examples=EXAMPLES * 3 // 4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(documents, min_size=1, max_size=12), filters())
def test_a_condition_is_true_for_what_find_gives(mongopatterns_db: Any, stored: list[Any], where: Any) -> None:
    """The condition of a filter holds for the documents that the filter matches, and for no other."""
    check(mongopatterns_db, stored, where)


# Every operator with every value -------------------------------------------------------------------------------

WHOLES: list[Any] = [[], [1], [[1]], [None], {}, {"a": 1}, {"b": 1}, {"a": [1]}, {"b": None}]
STORED: list[Any] = [
    {},
    *({name: value} for name in "ac" for value in ([], [[]], [1, [2]], [{}], [{}, 1], [[{}]])),
    *({"a": {"b": value}} for value in ([], [[]], {})),
    {"a": [{"b": 0}, {"b": [2, 0.1]}]},
    {"a": [{"c": 1}, {"b": 1}]},
]
for one in [*SCALARS, *PATTERNS, *WHOLES, {"$gt": 0}]:
    STORED += [{"a": one}, {"a": [one]}, {"a": [2, one]}, {"a": [[one]]}, {"a": {"b": one}}, {"a": {"b": [one]}}]
    STORED += [{"a": {"b": [[one]]}}, {"a": [{"b": one}]}, {"a": [{"b": [one]}]}, {"a": [{"b": [[one]]}, "x"]}]
    STORED += [
        {"a": [[{"b": one}]]},
        {"a": {"b": {"c": one}}},
        {"a": [{"b": {"c": one}}]},
        {"a": {"b": [{"c": [one]}]}},
    ]
    STORED += [{"a": [{"b": [{"c": one}, {}]}]}, {"a": [{"b": [{"c": [[one]]}, 1]}]}, {"a": [{"b": [[{"c": one}]]}]}]


@pytest.fixture(scope="module")
def stored_of_all_kinds(mongopatterns_client: MongoClient[dict[str, Any]]) -> Iterator[Any]:
    collection = mongopatterns_client[f"conditions_{secrets.token_hex(4)}"].c
    collection.insert_many([{**document, "_id": place} for place, document in enumerate(STORED)])
    yield collection
    mongopatterns_client.drop_database(collection.database)


def operands(operator: str) -> list[Any]:
    values = [*SCALARS, *WHOLES]
    if operator == "$exists":
        return [True, False]
    if operator in ("$in", "$nin"):
        lists = [values[place : place + 2] for place in range(len(values))]
        return [[], *lists, *([*range(1000, 1020), *items] for items in lists)]
    if operator == "$eq":
        return [*values, *PATTERNS, {"$gt": 0}]
    return [value for value in values if operator == "$ne" or not (isinstance(value, Code) and value.scope is not None)]


@pytest.mark.parametrize("path", ["a", "a.b", "a.b.c"])
@pytest.mark.parametrize("operator", ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists"])
def test_every_operator_with_every_value(stored_of_all_kinds: Any, operator: str, path: str) -> None:
    """One operator and one value of any kind, against every kind of value at any place."""
    wheres = [{path: {operator: value}} for value in operands(operator)]
    built = {f"c{place}": condition(Where(where)) for place, where in enumerate(wheres)}
    computed = list(stored_of_all_kinds.aggregate([{"$project": built}]))
    for place, where in enumerate(wheres):
        found = {document["_id"] for document in stored_of_all_kinds.find(where, {"_id": 1})}
        assert {document["_id"] for document in computed if document[f"c{place}"]} == found, where


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"$expr": {"$gt": ["$a", 1]}},
        {"$expr": "$a.b"},
        {"$or": [{"$expr": "$a"}, {"a": None}]},
        {"a": {"$gt": 0, "$lt": 2, "$ne": 1}},
        {"a": {"$not": {"$not": {"$gt": 0, "$lt": 2}}}},
        {".".join("a" * 32): 1},
        {".".join("a" * 32): {"$not": {"$in": [1, [2], None]}}},
    ],
    ids=lambda where: f"{where}"[:60],
)
def test_whole_filters(stored_of_all_kinds: Any, where: Any) -> None:
    """Filters of nothing, of expressions, of several operators, and of the longest path that there is."""
    found = [document["_id"] for document in stored_of_all_kinds.find(where, {"_id": 1}).sort("_id")]
    built = condition(Where(where))
    assert found == [row["_id"] for row in stored_of_all_kinds.find({"$expr": built}, {"_id": 1}).sort("_id")]
    assert stored_of_all_kinds.count_documents({"$expr": {"$ne": [{"$type": built}, "bool"]}}) == 0


HOSTILE = ["$a", "$$ROOT", {"$literal": 1}, {"$gt": 0}, {"$ne": None}, [{"$add": [1, 2]}], Regex("a"), {"a": "$a"}]


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_a_value_of_a_call_is_data(stored_of_all_kinds: Any, value: Any) -> None:
    """What a call gives is compared, whatever it looks like."""
    where = Where({"a": Param("value")})
    check_condition("where", where)
    found = list(stored_of_all_kinds.find({"a": {"$eq": value}}, {"_id": 1}))
    assert found == list(stored_of_all_kinds.find({"$expr": condition(where, {"value": value})}, {"_id": 1}))
