"""What comes after a position: the filters, one for each part of the order. No server."""

from __future__ import annotations

from typing import Any

import pytest
from bson import MaxKey, MinKey

from mongopatterns.paging._keyset import after, merges


def gt(path: str, value: Any) -> Any:
    return {"$expr": {"$gt": [f"${path}", {"$literal": value}]}}


def lt(path: str, value: Any) -> Any:
    return {"$expr": {"$lt": [f"${path}", {"$literal": value}]}}


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
        (-1, 5, [{"$and": [lt("a", 5), gt("a", None)]}, NULLS]),
        (-1, None, [eq("a", MinKey())]),
        (-1, MinKey(), []),
        (-1, MaxKey(), [{"$and": [lt("a", MaxKey()), gt("a", None)]}, NULLS]),
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
        {"$and": [{"x": 1}, eq("a", 1), {"$and": [lt("b", 2), gt("b", None)]}]},
        {"$and": [{"x": 1}, eq("a", 1), {"b": {"$in": [None, MinKey()]}}]},
        {"$and": [{"x": 1}, gt("a", 1)]},
    ]


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
