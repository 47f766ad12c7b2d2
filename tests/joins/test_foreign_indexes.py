"""The rules for indexes of joins, against the planner of a real server: what counts is used, and what does not is not.

The planner is asked with `explain`: it takes an index whenever it has one that serves, however small the collection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from bson import MinKey, Regex

from mongopatterns.filters import Param, Where
from mongopatterns.joins._foreign_indexes import serves_sort, unique_on, usable, wanted

if TYPE_CHECKING:
    from pymongo.collection import Collection
    from pymongo.database import Database

Keys = dict[str, Any]
EN = {"locale": "en", "strength": 2}


class Case(NamedTuple):
    """An index, and the filter of a join on `f`."""

    keys: Keys
    options: dict[str, Any] = {}  # noqa: RUF012  # never changed
    where: dict[str, Any] = {}  # noqa: RUF012


def partial(**terms: Any) -> dict[str, Any]:
    return {"partialFilterExpression": terms}


USED = {
    "ascending": Case({"f": 1}),
    "descending": Case({"f": -1}),
    "hashed": Case({"f": "hashed"}),
    "hashed and more": Case({"f": "hashed", "x": 1}),
    "compound": Case({"f": 1, "x": 1}),
    "unique": Case({"f": 1, "g": 1}, {"unique": True}),
    "expiring": Case({"f": 1}, {"expireAfterSeconds": 3600}),
    "behind an equality": Case({"x": 1, "f": 1}, where={"x": 1}),
    "behind an equality with $eq": Case({"x": 1, "f": 1}, where={"x": {"$eq": 1}}),
    "behind an equality with a document": Case({"x": 1, "f": 1}, where={"x": {"a": 1}}),
    "behind a hashed equality": Case({"x": "hashed", "f": 1}, where={"x": 1}),
    "hashed behind an equality": Case({"x": 1, "f": "hashed"}, where={"x": 1}),
    "behind two equalities": Case({"y": -1, "x": 1, "f": 1}, where={"x": 1, "y": 2}),
    "behind a path of documents": Case({"d.x": 1, "f": 1}, where={"d.x": 1}),
    "sparse": Case({"f": 1}, {"sparse": True}),
    "sparse and more": Case({"f": 1, "none": 1}, {"sparse": True}),
    "sparse behind an equality": Case({"x": 1, "f": 1}, {"sparse": True}, {"x": 1}),
    "wildcard": Case({"$**": 1}),
    "wildcard below the path": Case({"f.$**": 1}),
    "wildcard with the path": Case({"$**": 1}, {"wildcardProjection": {"f": 1}}),
    "wildcard without another": Case({"$**": 1}, {"wildcardProjection": {"g": 0}}),
    "wildcard without _id": Case({"$**": 1}, {"wildcardProjection": {"_id": 0, "g": 0}}),
    "partial: the path exists": Case({"f": 1}, partial(f={"$exists": True})),
    "partial: an equality": Case({"f": 1}, partial(x=1), {"x": 1}),
    "partial: an equality of another type": Case({"f": 1}, partial(x=1), {"x": 1.0}),
    "partial: an equality with $eq": Case({"f": 1}, partial(x={"$eq": 1}), {"x": {"$eq": 1}}),
    "partial: an equality with null": Case({"f": 1}, partial(x=None), {"x": None}),
    "partial: an equality with a document": Case({"f": 1}, partial(x={"a": 1}), {"x": {"a": 1}}),
    "partial: an equality with a list": Case({"f": 1}, partial(x=[1, 2]), {"x": [1, 2]}),
    "partial: a constant exists": Case({"f": 1}, partial(x={"$exists": True}), {"x": 1}),
    "partial: a constant is in a list": Case({"f": 1}, partial(x={"$in": [1, 2]}), {"x": 2}),
    "partial: the same test": Case({"f": 1}, partial(x={"$gt": 0}), {"x": {"$gt": 0}}),
    "partial: the same type": Case({"f": 1}, partial(x={"$type": "string"}), {"x": {"$type": "string"}}),
    "partial: several terms": Case(
        {"f": 1}, partial(**{"$and": [{"x": 1}, {"y": 2}], "f": {"$exists": True}}), {"x": 1, "y": 2}
    ),
    "partial: two tests of a constant": Case({"f": 1}, partial(x={"$eq": 1, "$exists": True}), {"x": 1}),
    "partial wildcard": Case({"$**": 1}, partial(x=1), {"x": 1}),
}

UNUSED = {
    "of another path": Case({"g": 1}),
    "of a path below": Case({"f.a": 1}),
    "behind another path": Case({"x": 1, "f": 1}),
    "hidden": Case({"f": 1}, {"hidden": True}),
    "with a collation": Case({"f": 1}, {"collation": EN}),
    "of text": Case({"f": "text"}),
    "and text": Case({"f": 1, "t": "text"}),
    "and a place": Case({"f": 1, "loc": "2dsphere"}),
    "behind a flat place": Case({"loc": "2d", "f": 1}),
    "sparse behind an equality with null": Case({"x": 1, "f": 1}, {"sparse": True}, {"x": None}),
    "wildcard below another path": Case({"g.$**": 1}),
    "wildcard with another path": Case({"$**": 1}, {"wildcardProjection": {"g": 1}}),
    "wildcard with a path below": Case({"$**": 1}, {"wildcardProjection": {"f.a": 1}}),
    "wildcard with _id alone": Case({"$**": 1}, {"wildcardProjection": {"_id": 1}}),
    "wildcard without the path": Case({"$**": 1}, {"wildcardProjection": {"f": 0}}),
    "wildcard, hidden": Case({"$**": 1}, {"hidden": True}),
    "partial: the path has a type": Case({"f": 1}, partial(f={"$type": "string"})),
    "partial: the path is not the smallest": Case({"f": 1}, partial(f={"$gt": MinKey()})),
    "partial: nothing is said of it": Case({"f": 1}, partial(x=1)),
    "partial: another value": Case({"f": 1}, partial(x=1), {"x": 2}),
    "partial: a test instead of a value": Case({"f": 1}, partial(x=1), {"x": {"$gte": 1}}),
    "partial: null does not exist": Case({"f": 1}, partial(x={"$exists": True}), {"x": None}),
    "partial: a constant has a type": Case({"f": 1}, partial(x={"$type": "string"}), {"x": "a"}),
    "partial: half of it": Case({"f": 1}, partial(**{"$and": [{"x": 1}, {"y": 2}]}), {"x": 1}),
    "partial: not in the list": Case({"f": 1}, partial(x={"$in": [1, 2]}), {"x": 3}),
}

# What the planner uses although the definitions cannot promise it, or do not say it plainly.
CAUTIOUS = {
    "behind a pattern": Case({"x": 1, "f": 1}, where={"x": Regex("^a")}),
    "behind a range": Case({"x": 1, "f": 1}, where={"x": {"$gt": 0}}),
    "behind a value that each call gives": Case({"x": 1, "f": 1}, {"sparse": True}, {"x": Param("x")}),
    "partial: a value that each call gives": Case({"f": 1}, partial(x=1), {"x": Param("x")}),
    "partial: a constant in a range": Case({"f": 1}, partial(x={"$gt": 0}), {"x": 1}),
    "partial: one of two": Case({"f": 1}, partial(**{"$or": [{"x": 1}, {"x": 2}]}), {"x": 1}),
    "partial: keys in a range": Case({"f": 1}, partial(f={"$gt": ""})),
}

DOCUMENTS: list[dict[str, Any]] = [
    {
        "f": f"k{i}", "x": i % 3, "y": 2, "g": i, "d": {"f": f"k{i}", "x": i % 3},
        "i": [{"f": f"k{i}", "x": i % 3}, {"f": f"l{i}", "x": i % 2}],
    }
    for i in range(30)
]  # fmt: skip


def things(db: Database[dict[str, Any]], keys: Keys, options: Mapping[str, Any]) -> Collection[dict[str, Any]]:
    things = db["things"]
    things.insert_many([dict(document) for document in DOCUMENTS])
    things.create_index(list(keys.items()), name="it", **options)
    return things


def stages(plan: Any) -> Iterator[dict[str, Any]]:
    """Give every stage of a plan."""
    if isinstance(plan, dict):
        if "stage" in plan:
            yield plan
        for part in plan.values():
            yield from stages(part)
    elif isinstance(plan, list):
        for part in plan:
            yield from stages(part)


def plan_of(db: Database[dict[str, Any]], query: Mapping[str, Any], sort: Mapping[str, int] | None = None) -> list[Any]:
    command = {"find": "things", "filter": query, **({"sort": sort} if sort else {})}
    explained = db.command("explain", command, verbosity="queryPlanner")
    return list(stages(explained["queryPlanner"]["winningPlan"]))


def finds_by_index(db: Database[dict[str, Any]], where: Mapping[str, Any], path: str = "f") -> bool:
    """Tell whether the planner looks the keys up in an index."""
    bounds = [
        stage["indexBounds"].get(path)
        for stage in plan_of(db, {path: {"$in": ["k1", "k2"]}, **where})
        if stage["stage"] == "IXSCAN" and stage["indexName"] == "it"
    ]
    return bool(bounds) and all(bound not in (None, ["[MinKey, MaxKey]"]) for bound in bounds)


def read_by_lookup(db: Database[dict[str, Any]], where: Mapping[str, Any]) -> tuple[list[str], int]:
    """Return the indexes that a `$lookup` uses for its two parents, and how many documents it reads.

    Without an index for the keys it may still use another one, for the order, and read every document.
    """
    db["parents"].insert_many([{"keys": ["k1", "k2"]}, {"keys": ["k3"]}])
    lookup = {
        "from": "things", "localField": "keys", "foreignField": "f", "as": "j",
        "pipeline": [{"$match": where}, {"$sort": {"_id": 1}}],
    }  # fmt: skip
    command = {"aggregate": "parents", "pipeline": [{"$lookup": lookup}], "cursor": {}}
    explained = db.command("explain", command, verbosity="executionStats")
    (stage,) = [stage for stage in explained["stages"] if "$lookup" in stage]
    return list(stage["indexesUsed"]), int(stage["totalDocsExamined"])


def bound(case: Case) -> dict[str, Any]:
    return Where(case.where).bound({"x": 1})


def answer(db: Database[dict[str, Any]], case: Case) -> str | None:
    return usable(things(db, case.keys, case.options).list_indexes(), "f", Where(case.where).equal, case.where)


@pytest.mark.parametrize("case", USED.values(), ids=USED)
def test_an_index_that_counts_is_used(case: Case, mongopatterns_db: Database[dict[str, Any]]) -> None:
    """The planner looks the keys of a batch up in it, and a `$lookup` does, without reading the collection."""
    assert answer(mongopatterns_db, case) == "it"
    assert finds_by_index(mongopatterns_db, bound(case))
    used, read = read_by_lookup(mongopatterns_db, bound(case))
    assert used == ["it"]
    assert read <= 3


@pytest.mark.parametrize("case", UNUSED.values(), ids=UNUSED)
def test_an_index_that_does_not_count_is_not_used(case: Case, mongopatterns_db: Database[dict[str, Any]]) -> None:
    """The planner reads the whole collection for a batch, and a `$lookup` does for each parent."""
    assert answer(mongopatterns_db, case) is None
    assert not finds_by_index(mongopatterns_db, bound(case))
    assert read_by_lookup(mongopatterns_db, bound(case))[1] >= 2 * len(DOCUMENTS)


@pytest.mark.parametrize("case", CAUTIOUS.values(), ids=CAUTIOUS)
def test_what_cannot_be_promised_does_not_count(case: Case, mongopatterns_db: Database[dict[str, Any]]) -> None:
    """Where the server uses more than definitions promise, the answer is the cautious one."""
    assert answer(mongopatterns_db, case) is None
    assert finds_by_index(mongopatterns_db, bound(case))


def test_an_equality_with_null_leads_to_the_keys(mongopatterns_db: Database[dict[str, Any]]) -> None:
    """Whoever counts null as an equality is right, but for sparse indexes."""
    indexes = list(things(mongopatterns_db, {"x": 1, "f": 1}, {}).list_indexes())
    assert usable(indexes, "f", ["x"], {"x": None}) == "it"
    assert finds_by_index(mongopatterns_db, {"x": None})


@pytest.mark.parametrize(("path", "is_list"), [("d", False), ("i", True)])
def test_paths_through_one_field(path: str, is_list: bool, mongopatterns_db: Database[dict[str, Any]]) -> None:
    """An equality before the keys narrows nothing down if both lie in one list, which no definition tells."""
    keys = {f"{path}.x": 1, f"{path}.f": 1}
    indexes = list(things(mongopatterns_db, keys, {}).list_indexes())
    where = {f"{path}.x": 1}
    assert usable(indexes, f"{path}.f", where, where) is None
    assert finds_by_index(mongopatterns_db, where, f"{path}.f") is not is_list


def test_the_order_of_keys_of_the_wanted_index_does_not_depend_on_lists(
    mongopatterns_db: Database[dict[str, Any]],
) -> None:
    """The index that is asked for begins with the keys, and so serves where paths lead through a list, too."""
    index = wanted("i.f", ["i.x"])
    assert index is not None
    indexes = list(things(mongopatterns_db, dict(index.keys), index.options).list_indexes())
    assert usable(indexes, "i.f", ["i.x"], {"i.x": 1}) == "it"
    assert finds_by_index(mongopatterns_db, {"i.x": 1}, "i.f")


def test_a_wildcard_index_does_not_serve_every_key(mongopatterns_db: Database[dict[str, Any]]) -> None:
    """Keys that are documents or lists are not looked up in a wildcard index: what definitions do not tell."""
    things(mongopatterns_db, {"$**": 1}, {})
    for key in ({"a": 1}, [1]):
        assert {stage["stage"] for stage in plan_of(mongopatterns_db, {"f": {"$in": ["k", key]}})} == {"COLLSCAN"}


def test_the_primary_key(mongopatterns_db: Database[dict[str, Any]]) -> None:
    """Every collection has the index of `_id`, which is unique; it is not asked for."""
    indexes = list(things(mongopatterns_db, {"$**": 1}, {}).list_indexes())
    assert usable(indexes, "_id") == "_id_"
    assert unique_on(indexes, "_id")
    assert wanted("_id", ["x"], [("y", 1)]) is None


# Orders ------------------------------------------------------------------------------------------------------

ORDERED: list[tuple[Keys, dict[str, Any], dict[str, Any], dict[str, int]]] = [
    ({"f": 1, "x": 1}, {}, {}, {"x": 1}),
    ({"f": 1, "x": 1}, {}, {}, {"x": -1}),
    ({"f": -1, "x": 1}, {}, {}, {"x": 1}),
    ({"f": 1, "x": 1, "y": -1}, {}, {}, {"x": 1, "y": -1}),
    ({"f": 1, "x": 1, "y": -1}, {}, {}, {"x": -1, "y": 1}),
    ({"f": 1, "x": 1, "y": -1}, {}, {}, {"x": 1}),
    ({"f": 1, "x": 1, "_id": 1}, {}, {}, {"x": 1, "_id": 1}),
    ({"f": 1, "y": 1, "x": 1}, {}, {"y": 2}, {"x": 1}),
    ({"y": 1, "f": 1, "x": 1}, {}, {"y": 2}, {"x": 1}),
    ({"f": "hashed", "x": 1}, {}, {}, {"x": 1}),
    ({"f": 1, "x": 1}, {"sparse": True}, {}, {"x": 1}),
    ({"f": 1, "x": 1}, partial(f={"$exists": True}), {}, {"x": 1}),
]
SORTED: list[tuple[Keys, dict[str, Any], dict[str, Any], dict[str, int]]] = [
    ({"f": 1}, {}, {}, {"x": 1}),
    ({"f": 1}, {}, {}, {"_id": 1}),
    ({"f": 1, "x": 1, "y": -1}, {}, {}, {"x": 1, "y": 1}),
    ({"f": 1, "x": 1}, {}, {}, {"x": 1, "_id": 1}),
    ({"f": 1, "y": 1, "x": 1}, {}, {}, {"x": 1}),
    ({"f": 1, "x": 1}, {}, {"y": 2}, {"y": 1, "x": 1}),
    ({"f": 1, "y": 1, "x": 1}, {}, {"y": 2}, {"y": 1, "x": 1}),
    ({"f": 1, "y": 1, "x": 1}, {}, {"y": 2}, {"y": 1, "x": -1}),
    ({"f": 1, "x": "hashed"}, {}, {}, {"x": 1}),
    ({"$**": 1}, {}, {}, {"x": 1}),
    ({"f": 1, "x": 1}, partial(x=1), {}, {"x": 1}),
    ({"f": 1, "x": 1}, {"hidden": True}, {}, {"x": 1}),
]


def is_sorted(db: Database[dict[str, Any]], where: Mapping[str, Any], sort: Mapping[str, int]) -> bool:
    """Tell whether the planner sorts, or reads without an index."""
    names = [stage["stage"] for stage in plan_of(db, {"f": {"$in": ["k1", "k2"]}, **where}, sort)]
    return "SORT" in names or "IXSCAN" not in names


@pytest.mark.parametrize(("keys", "options", "where", "sort"), ORDERED, ids=str)
def test_an_index_that_gives_the_order(
    keys: Keys, options: Any, where: Any, sort: dict[str, int], mongopatterns_db: Database[dict[str, Any]]
) -> None:
    """The planner takes the order from it, and merges those of several keys."""
    indexes = list(things(mongopatterns_db, keys, options).list_indexes())
    assert serves_sort(indexes, "f", list(sort.items()), where, where)
    assert not is_sorted(mongopatterns_db, where, sort)


@pytest.mark.parametrize(("keys", "options", "where", "sort"), SORTED, ids=str)
def test_an_index_that_does_not_give_the_order(
    keys: Keys, options: Any, where: Any, sort: dict[str, int], mongopatterns_db: Database[dict[str, Any]]
) -> None:
    """The planner sorts what it finds, or has to read everything."""
    indexes = list(things(mongopatterns_db, keys, options).list_indexes())
    assert not serves_sort(indexes, "f", list(sort.items()), where, where)
    assert is_sorted(mongopatterns_db, where, sort)


@pytest.mark.parametrize("sort", [[], [("x", 1)], [("x", -1), ("g", 1), ("_id", 1)]], ids=str)
@pytest.mark.parametrize("where", [{}, {"y": 2}, {"y": 2, "x": 1}], ids=str)
def test_the_wanted_index_serves(
    where: dict[str, Any], sort: list[tuple[str, int]], mongopatterns_db: Database[dict[str, Any]]
) -> None:
    """The index that is asked for, once created, counts and is used, for the keys and for the order."""
    index = wanted("f", where, sort)
    assert index is not None
    indexes = list(things(mongopatterns_db, dict(index.keys), index.options).list_indexes())
    assert usable(indexes, "f", where, where) == "it"
    assert finds_by_index(mongopatterns_db, where)
    if not where.keys() & dict(sort).keys():  # (by what is equal anyway the server does not merge)
        assert serves_sort(indexes, "f", sort, where, where)
        assert not sort or not is_sorted(mongopatterns_db, where, dict(sort))


# One document per key ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({}, {}),
        ({"sparse": True}, {}),
        ({"hidden": True}, {}),
        ({"collation": EN}, {}),
        (partial(f={"$exists": True}), {}),
        (partial(x=1), {"x": 1}),
    ],
    ids=str,
)
def test_a_second_document_with_the_key_is_refused(
    options: Any, where: dict[str, Any], mongopatterns_db: Database[dict[str, Any]]
) -> None:
    """A unique index that has every document in question lets no second one in."""
    from pymongo.errors import DuplicateKeyError  # noqa: PLC0415

    collection = mongopatterns_db["ones"]
    collection.create_index("f", unique=True, **options)
    assert unique_on(collection.list_indexes(), "f", where)
    for key in ("k", 1, {"a": 1}, True):
        collection.insert_one({"f": key, **where})
        with pytest.raises(DuplicateKeyError):
            collection.insert_one({"f": 1.0 if key == 1 and key is not True else key, **where})


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"unique": False}, {}),
        ({"unique": True, **partial(f={"$type": "string"})}, {}),
        ({"unique": True, **partial(x=1)}, {}),
        ({"unique": True, **partial(x=1)}, {"x": 2}),
    ],
    ids=str,
)
def test_a_second_document_with_the_key_may_be_there(
    options: Any, where: dict[str, Any], mongopatterns_db: Database[dict[str, Any]]
) -> None:
    """Any other index lets a second one in."""
    collection = mongopatterns_db["ones"]
    collection.create_index("f", **options)
    assert not unique_on(collection.list_indexes(), "f", where)
    collection.insert_many([{"f": 1, **where}, {"f": 1, **where}])
    assert collection.count_documents({"f": {"$in": [1]}, **where}) == 2
