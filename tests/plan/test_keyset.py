"""What comes after a position: the filters, one for each part of the order. No server."""

from __future__ import annotations

import datetime as dt
import math
from itertools import product
from typing import Any

import pytest
from bson import Binary, Code, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from mongopatterns.expressions import ANY_UUID
from mongopatterns.order import rank
from mongopatterns.paging._keyset import after, follows, merges, near


def gt(path: str, value: Any) -> Any:
    return {"$expr": {"$gt": [f"${path}", given_as(value)]}}


def lt(path: str, value: Any) -> Any:
    return {"$expr": {"$lt": [f"${path}", given_as(value)]}}


def within(path: str, value: Any) -> Any:
    """Build what lies between null and a value."""
    return {"$expr": {"$and": [lt(path, value)["$expr"], gt(path, None)["$expr"]]}}


def given_as(value: Any) -> Any:
    """Return how a value stands in an expression: a number or null needs no `$literal`."""
    return value if value is None or isinstance(value, int) else {"$literal": value}


def eq(path: str, value: Any) -> Any:
    return {path: {"$eq": value}}


NULLS = {"a": {"$in": [None, MinKey()]}}


@pytest.mark.parametrize(
    ("direction", "value", "beyond"),
    [
        (1, 5, [gt("a", 5)]),
        (1, "$x", [gt("a", "$x")]),
        (1, None, [gt("a", None)]),
        (1, MinKey(), [eq("a", None), gt("a", None)]),
        (1, MaxKey(), []),
        (-1, 5, [within("a", 5), NULLS]),
        (-1, None, [eq("a", MinKey())]),
        (-1, MinKey(), []),
        (-1, MaxKey(), [within("a", MaxKey()), NULLS]),
    ],
)
def test_what_lies_beyond_a_value(direction: int, value: Any, beyond: list[Any]) -> None:
    """Of each value: what is equal and further in the id; then what is beyond, null and missing by name, in order."""
    first, *others = after((("a", direction), ("_id", direction)), [value, 7], {})
    assert first == {"$and": [eq("a", value), gt("_id", 7) if direction == 1 else lt("_id", 7)]}
    assert others == [{"$and": [each]} for each in beyond]


def test_nearer_parts_come_first() -> None:
    """The last key is looked at first; each part repeats the filter, for which an index is then chosen."""
    found = after((("a", 1), ("b", -1), ("_id", -1)), [1, 2, 3], {"x": 1})
    assert found == [
        {"$and": [{"x": 1}, eq("a", 1), eq("b", 2), lt("_id", 3)]},
        {"$and": [{"x": 1}, eq("a", 1), within("b", 2)]},
        {"$and": [{"x": 1}, eq("a", 1), {"b": {"$in": [None, MinKey()]}}]},
        {"$and": [{"x": 1}, gt("a", 1)]},
    ]


@pytest.mark.parametrize("value", [1, 1.5, Decimal128("1"), True, ObjectId("0" * 24), None])
def test_what_is_plainly_a_value_is_sent_as_it_is(value: Any) -> None:
    """Everything else stands under `$literal`, for the server would read a path or an operator in it."""
    assert after((("_id", 1),), [value], {}) == [{"$and": [{"$expr": {"$gt": ["$_id", value]}}]}]
    for other in ("$x", "x", {"$add": [1, 2]}, b"x", Regex("a"), Code("f")):
        assert after((("_id", 1),), [other], {}) == [{"$and": [{"$expr": {"$gt": ["$_id", {"$literal": other}]}}]}]


def test_the_position_itself_comes_first() -> None:
    """An inclusive position is its own first part."""
    inclusive = after((("_id", 1),), [3], {}, inclusive=True)
    assert inclusive == [{"$and": [eq("_id", 3)]}, {"$and": [gt("_id", 3)]}]
    assert after((("_id", 1),), [MaxKey()], {}) == []


@pytest.mark.parametrize(
    ("values", "whether"),
    [([1], True), ([None, 1], True), ([1, None, 2], True), ([None, 1, 2], False), ([1, None, 2, 3], False)],
)
def test_where_parts_do_not_merge(values: list[Any], whether: bool) -> None:
    """Two parts that are equal by null in the same key are told apart by a merge, and are read one after the other."""
    assert merges(values) is whether


# The filters, read as the server reads them --------------------------------------------------------------------

MISSING = object()
VALUES: list[Any] = [
    *[MISSING, None, MinKey(), MaxKey(), math.nan, -math.inf, 0, -0.0, 1, 1.0, Decimal128("1"), Decimal128("NaN"), 2],
    *["", "$a", "a", "b", {}, {"a": 1}, {"a": "x"}, {"b": None}, b"", b"x", Binary(b"x", 5), False, True],
    *[ObjectId("0" * 24), dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), Timestamp(1, 1), Regex("a"), Code("f")],
]
FEW: list[Any] = [MISSING, None, MinKey(), 1, "a"]


def compared(value: Any) -> Any:
    """Rank a value as an expression compares it: what is missing lies between MinKey and null."""
    return (0.5,) if value is MISSING else rank(value, ANY_UUID)


def sorted_by(value: Any) -> Any:
    """Rank a value as a sort does: what is missing is null."""
    return rank(None if value is MISSING else value, ANY_UUID)


def matches(document: dict[str, Any], where: Any) -> bool:  # noqa: PLR0911  # (a way of reading each)
    """Tell whether a document matches one of the filters that are built here."""
    if len(where) > 1:
        return all(matches(document, {name: test}) for name, test in where.items())
    [(name, test)] = where.items()
    if name == "$or":
        return any(matches(document, each) for each in test)
    if name == "$and":
        return all(matches(document, each) for each in test)
    if name == "$expr":
        if "$and" in test:
            return all(matches(document, {"$expr": each}) for each in test["$and"])
        [(operator, (path, value))] = test.items()
        plain = value["$literal"] if isinstance(value, dict) else value
        held, given_ = compared(document.get(path[1:], MISSING)), compared(plain)
        return bool(held > given_) if operator == "$gt" else bool(held < given_)
    [(operator, value)] = test.items()
    if operator == "$not":
        return not typed(document.get(name, MISSING), test["$not"])
    asked = value if operator == "$in" else [value]
    return any(sorted_by(document.get(name, MISSING)) == sorted_by(each) for each in asked)


def typed(value: Any, test: Any) -> bool:
    """Compare as a filter does: with values of the same type alone; nothing is less or more than NaN."""
    [(operator, limit)] = test.items()
    held, asked = sorted_by(value), rank(limit, ANY_UUID)
    number, nan = rank(0, ANY_UUID)[0], rank(math.nan, ANY_UUID)
    if held[0] != asked[0] or (asked[0] == number and (held == nan) != (asked == nan)):
        return False
    return bool(held <= asked if operator == "$lte" else held >= asked)


TRIED = {int, float, str, bool, bytes, Binary, ObjectId, dt.datetime}
many_rows = st.sampled_from([VALUES, FEW]).flatmap(
    lambda pool: st.lists(st.tuples(st.sampled_from(pool), st.sampled_from(pool)), max_size=12)
)
all_directions = st.sampled_from(list(product([1, -1], repeat=3)))


def in_their_order(held: list[Any], order: Any) -> list[dict[str, Any]]:
    """Make documents, and sort them as the server does."""
    rows = [
        {name: value for name, value in (("a", a), ("b", b), ("_id", number)) if value is not MISSING}
        for number, (a, b) in enumerate(held)
    ]
    for path, direction in reversed(order):
        rows.sort(key=lambda row, path=path: sorted_by(row.get(path, MISSING)), reverse=direction == -1)  # type: ignore[misc]
    return rows


@given(many_rows, all_directions, st.booleans())
def test_each_part_finds_its_own_stretch_of_the_order(held: list[Any], directions: Any, inclusive: bool) -> None:
    """Read one after the other, the parts give exactly what a sort puts behind a row, each once, in its place."""
    order = tuple(zip(("a", "b", "_id"), directions, strict=True))
    rows = in_their_order(held, order)
    for place, row in enumerate(rows):
        parts = after(order, [row.get(path) for path, _ in order], {}, inclusive=inclusive)
        behind = [each["_id"] for each in rows[place + (not inclusive) :]]
        assert [each["_id"] for part in parts for each in rows if matches(each, part)] == behind


@given(many_rows, all_directions, st.booleans())
def test_what_is_tried_first_is_all_of_it_or_is_known_not_to_be(
    held: list[Any], directions: Any, inclusive: bool
) -> None:
    """It leaves nothing out; what it finds too much, its first row tells. Same types, and nothing is too much."""
    order = tuple(zip(("a", "b", "_id"), directions, strict=True))
    rows = in_their_order(held, order)
    for place, row in enumerate(rows):
        values = [row.get(path) for path, _ in order]
        where = near(order, values, {}, inclusive=inclusive)
        if where is None:
            assert any(not (type(value) in TRIED and value == value) for value in values)  # noqa: PLR0124
            continue
        found = [each for each in rows if matches(each, where)]
        behind = rows[place + (not inclusive) :]
        assert [each for each in behind if each not in found] == []
        first = [found[0].get(path) for path, _ in order] if found else values
        if follows(first, values):
            assert found == behind
        else:
            assert any(type(one) is not type(other) or one != one for one, other in zip(first, values, strict=True))  # noqa: PLR0124


@pytest.mark.parametrize("value", [None, math.nan, MinKey(), Decimal128("1"), {}, Regex("a"), Timestamp(1, 1)])
def test_values_that_are_not_told_from_others_are_not_tried(value: Any) -> None:
    """Null stands for what is missing, too; documents, decimals and rarities are asked exactly at once."""
    assert near((("a", 1), ("_id", 1)), [value, 1], {}) is None
