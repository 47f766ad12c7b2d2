"""What a buffer accepts: checked and measured at the call. No server."""

from __future__ import annotations

from contextlib import suppress
from types import MappingProxyType
from typing import Any

import pytest
from bson import Code, DBRef, ObjectId, encode
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st

from mongopatterns.buffer import _items
from mongopatterns.buffer._items import MAX_LEVELS, Item, Target
from mongopatterns.errors import UsageError
from mongopatterns.expressions import ANY_UUID

A = Target("db.a", None, ANY_UUID)
WRAPS: dict[str, Any] = {
    "dict": lambda value: {"a": 3, "n": value, "z": 4},
    "list": lambda value: [3, value, 4],
    "tuple": lambda value: (value,),
    "ref": lambda value: DBRef("x", value),
    "ref as dict": lambda value: {"$ref": "x", "$id": value},
    "code": lambda value: Code("f()", {"n": value}),
    "raw": lambda value: RawBSONDocument(encode({"n": value})),
}


def insert(document: Any) -> Item:
    return _items.insert(Item, A, document, ObjectId)


def increment(amounts: Any, *, set_now: Any = (), key_field: str = "_id") -> Item:
    return _items.increment(Item, A, "k", amounts, set_now=set_now, key_field=key_field, upsert=True)


@given(st.lists(st.sampled_from(list(WRAPS)), min_size=1, max_size=4), st.integers(MAX_LEVELS - 3, MAX_LEVELS + 3))
def test_levels_are_counted_whatever_makes_them(kinds: list[str], levels: int) -> None:
    """Exactly the documents with more than so many are refused."""
    value: Any = 1
    for level in range(levels - 2):
        value = WRAPS[kinds[level % len(kinds)]](value)
    document = {"_id": 1, "v": [value]}
    if levels <= MAX_LEVELS:
        assert insert(document).size == len(encode(document))
    else:
        with pytest.raises(UsageError, match="at most 180 levels"):
            insert(document)


def test_many_documents_in_one_are_not_deep() -> None:
    """Nor are bytes that look like some."""
    insert({"_id": 1, "v": [{"a": [1]} for _ in range(1000)]})
    insert({"_id": 1, "v": bytes([3, 4, 15]) * 1000})


def test_an_increment_is_measured_the_same_when_it_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its paths are remembered by what they are for; those that are wrong are refused each time."""
    monkeypatch.setattr(_items, "_known", {})
    for _ in range(2):
        assert increment({"a": 1, "b.c": 2}, set_now=["d"]).size == increment({"a": 1, "b.c": 2}, set_now=("d",)).size
        with pytest.raises(UsageError, match="overlap"):
            increment({"a": 1}, set_now=["a"])
        with pytest.raises(UsageError, match="is the key"):
            increment({"a": 1}, key_field="a")
        with pytest.raises(UsageError, match="expected a field path"):
            increment({1: 1})
    assert increment({"a": 1}).size < increment({"a": 1, "b": 1}).size < increment({"a": 1}, set_now=["long.path"]).size


def test_what_is_remembered_of_paths_is_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long ones are not, nor many; nothing is of those that are refused."""
    known: dict[Any, int] = {}
    monkeypatch.setattr(_items, "_known", known)
    for number in range(20):
        increment({f"{number}" + "p" * 1_000_000: 1})
        increment({f"{number}.{place}": 1 for place in range(100)})
        with suppress(UsageError):
            increment({f"${number}": 1})
    assert known == {}
    for number in range(5000):
        increment({f"path{number}": 1})
        assert len(known) <= 1024
    assert known


def test_any_mapping_is_a_document() -> None:
    """It is encoded, and so copied, at the call."""
    assert insert(MappingProxyType({"_id": 1, "n": 2})).body == encode({"_id": 1, "n": 2})
    assert RawBSONDocument(insert(MappingProxyType({"n": 2})).body)["n"] == 2


@pytest.mark.parametrize("upsert", [1, None, "yes"])
def test_upsert_is_true_or_false(upsert: Any) -> None:
    """Nothing that is only like it: it would be kept on disk, and sent."""
    with pytest.raises(UsageError, match="upsert: expected True or False"):
        _items.update(Item, A, 1, {"$set": {"a": 1}}, key_field="_id", upsert=upsert)


def test_what_came_of_an_item_is_said_once() -> None:
    """What is said later changes nothing."""
    item = insert({"_id": 1})
    item.settle(None)
    item.settle(ValueError("too late"))
    assert (item.done, item.error) == (True, None)
