"""Which definitions of indexes serve a join. That the server agrees is tested in tests/joins."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from bson import SON, Int64, Regex
from hypothesis import given
from hypothesis import strategies as st

from mongopatterns.filters import Param
from mongopatterns.indexes import Index
from mongopatterns.joins._foreign_indexes import serves_sort, unique_on, usable, wanted

PATHS = st.sampled_from(["a", "b.c", "b.d", "e", "f.g.h"])


def index(keys: Any, **options: Any) -> dict[str, Any]:
    """Make a definition as `list_indexes` gives it."""
    return {"v": 2, "key": SON(keys), "name": "_".join(keys), **options}


def found(keys: Any, *equal: str, where: Any = None, **options: Any) -> bool:
    return usable([index(keys, **options)], "f", equal, where) is not None


@given(
    PATHS, st.lists(PATHS, unique=True), st.lists(st.tuples(PATHS, st.sampled_from([1, -1])), unique_by=lambda p: p[0])
)
def test_the_wanted_index_always_serves(foreign: str, equal: list[str], sort: list[tuple[str, int]]) -> None:
    """Whatever is asked for, the index for it counts, once it is there, and begins with the keys."""
    wish = wanted(foreign, equal, sort)
    assert wish is not None
    there = [index(dict(wish.keys))]
    assert usable(there, foreign, equal, dict.fromkeys(equal, 1)) is not None
    assert wish.keys[0] == (foreign, 1)
    assert {path for path, _ in wish.keys} == {foreign, *equal, *(path for path, _ in sort)}
    kin = {path for path, _ in sort if path.split(".")[0] == foreign.split(".", maxsplit=1)[0] or path in equal}
    assert serves_sort(there, foreign, sort, equal, dict.fromkeys(equal, 1)) is not bool(kin)


def test_what_is_wanted() -> None:
    """The keys, then what is equal, then the order, each path once; nothing for the primary key."""
    assert wanted("f") == Index("f")
    assert wanted("f", ["b", "a"], [("a", -1), ("c", -1), ("f", -1), ("_id", 1)]) == Index(
        "f", "b", "a", ("c", -1), "_id"
    )
    assert wanted("_id", ["a"], [("c", 1)]) is None


def test_the_first_index_that_serves_is_named() -> None:
    """The answer is the name, whatever else is there; none if nothing serves."""
    there = [index({"x": 1}), index({"f": 1}, hidden=True), index({"f": -1, "x": 1}), index({"f": 1})]
    assert usable(there, "f") == "f_x"
    assert usable(there, "g") is None
    assert usable([], "f") is None
    assert usable(iter(there), "f") == "f_x"


def test_numbers_of_any_type_are_directions() -> None:
    """Shells and tools write directions as floats and long integers."""
    assert found({"f": 1.0})
    assert serves_sort([index({"f": Int64(1), "x": -1.0})], "f", [("x", 1)])


def test_a_value_that_each_call_gives_is_not_known() -> None:
    """It is an equality, but not one with a value that a partial or sparse index could rely on."""
    where = {"x": Param("x")}
    assert found({"x": 1, "f": 1}, "x", where=where)
    assert not found({"x": 1, "f": 1}, "x", where=where, sparse=True)
    assert not found({"f": 1}, "x", where=where, partialFilterExpression={"x": {"$exists": True}})
    assert not found({"f": 1}, where={"x": {"$eq": Param("x")}}, partialFilterExpression={"x": 1})
    assert not found({"f": 1}, where={"x": {"$in": [Param("x")]}}, partialFilterExpression={"x": {"$in": [1]}})
    assert not found({"f": 1}, where={"x": [Param("x")]}, partialFilterExpression={"x": {"$exists": True}})
    assert found({"x": 1, "f": 1}, "x", where={"x": 1}, sparse=True)


@pytest.mark.parametrize("pattern", [Regex("^a"), re.compile("^a")])
def test_a_pattern_is_no_equality(pattern: Any) -> None:
    """A pattern is matched, even if somebody counts its path as an equality; under $eq it is a value."""
    assert not found({"x": 1, "f": 1}, "x", where={"x": pattern})
    assert not found({"f": 1}, "x", where={"x": pattern}, partialFilterExpression={"x": {"$exists": True}})
    assert found({"x": 1, "f": 1}, "x", where={"x": {"$eq": pattern}})
    assert found({"f": 1}, where={"x": {"$eq": pattern}}, partialFilterExpression={"x": {"$exists": True}})


@pytest.mark.parametrize("value", [1, True, "a", None, {"a": 1}, [1, 2], uuid.UUID(int=1)], ids=str)
def test_a_partial_index_of_a_constant(value: Any) -> None:
    """A constant passes an equality with itself as BSON compares it, however either is written, and with no other."""
    for where in ({"x": value}, {"x": {"$eq": value}}):
        for term in ({"x": value}, {"x": {"$eq": value}}, {"x": {"$in": ["other", value]}}, {"$and": [{"x": value}]}):
            assert found({"f": 1}, where=where, partialFilterExpression=term)
        for other in ("other", 0, False, {"a": 1, "b": 2}, [2, 1], uuid.UUID(int=2)):
            assert not found({"f": 1}, where=where, partialFilterExpression={"x": other})


@pytest.mark.parametrize(
    "term",
    [
        {"$or": [{"x": 1}, {"x": 2}]},
        {"x": {"$gt": 0}},
        {"x": {"$eq": 1, "$lt": 5}},
        {"f": {"$type": "string"}},
        {"f": {"$exists": True, "$gt": 0}},
        {"f": "k"},
        {"y": {"$exists": True}},
    ],
    ids=str,
)
def test_a_term_that_is_not_known_to_hold(term: dict[str, Any]) -> None:
    """One term that may not hold is enough: the index may lack a document."""
    known = {"f": {"$exists": True}, "z": 1}
    assert found({"f": 1}, where={"x": 1, "z": 1}, partialFilterExpression=known)
    assert not found({"f": 1}, where={"x": 1, "z": 1}, partialFilterExpression={"$and": [known, term]})


def test_collations() -> None:
    """Text is found in an index of the simple collation alone, which may be written out."""
    assert found({"f": 1}, collation={"locale": "simple"})
    assert not found({"f": 1}, collation={"locale": "en"})


@pytest.mark.parametrize(
    ("keys", "projection", "has"),
    [
        ({"$**": 1}, None, {"f", "f.g", "h"}),
        ({"$**": -1}, None, {"f", "f.g", "h"}),
        ({"f.$**": 1}, None, {"f", "f.g"}),
        ({"f.g.$**": 1}, None, {"f.g"}),
        ({"$**": 1}, {"f": 1}, {"f", "f.g"}),
        ({"$**": 1}, {"f.g": 1, "_id": 1}, {"f.g", "_id"}),
        ({"$**": 1}, {"f": 0}, {"h"}),
        ({"$**": 1}, {"f.g": 0, "_id": 1}, {"h", "_id"}),
        ({"$**": 1}, {"_id": 1}, {"_id"}),
        ({"$**": 1}, {"f": {"g": 1}}, set()),
        ({"$**": "columnstore"}, None, set()),
        ({"h": 1, "$**": 1}, {"f": 1}, {"h"}),
    ],
)
def test_wildcards(keys: dict[str, Any], projection: Any, has: set[str]) -> None:
    """A wildcard index has the paths of its root and its projection; those with further keys are not looked at."""
    definition = index(keys, **({"wildcardProjection": projection} if projection else {}))
    assert {path for path in ("f", "f.g", "h", "_id") if usable([definition], path)} == has
    assert not any(serves_sort([definition], path, [("x", 1)]) for path in has)
    assert all(serves_sort([definition], path, []) for path in has)


def test_unique() -> None:
    """At most one document has a key if exactly its path is unique, among all documents in question."""
    assert unique_on([index({"f": -1}, unique=True)], "f")
    assert unique_on([index({"x": 1}), index({"f": 1}, unique=True, hidden=True, collation={"locale": "en"})], "f")
    assert unique_on([index({"_id": 1})], "_id")
    assert unique_on([index({"f": 1}, unique=True, partialFilterExpression={"x": 1})], "f", {"x": 1})
    assert not unique_on([index({"f": 1, "x": 1}, unique=True)], "f")
    assert not unique_on([index({"x": 1, "f": 1}, unique=True)], "f", {"x": 1})
    assert not unique_on([index({"f": 1})], "f")
    assert not unique_on([index({"f": 1}, unique=True, partialFilterExpression={"x": 1})], "f", {"x": Param("x")})
