# Generated from tests/aio/test_join.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""What a join gives: which documents, in which order, in which shape, by every strategy. Promises of the calls."""

from __future__ import annotations

import copy
import datetime as dt
import math
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from bson import Code, DatetimeMS, DBRef, Decimal128, Int64, MinKey, ObjectId, Regex, UuidRepresentation, encode
from bson.codec_options import CodecOptions
from pymongo.errors import OperationFailure

from mongopatterns import CountOf, Exists, Join, JoinSpec, Many, One, Param, SumOf, UsageError, ValueOf

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
OID = ObjectId("0123456789abcdef01234567")
BY_ID = [("_id", 1)]
EVERY = pytest.mark.parametrize("strategy", ["batch", "lookup", "auto"])

QUESTIONS = JoinSpec(
    "questions",
    joins=[
        One("responses", local="_id", foreign="question_id", as_="response", where={"user_id": Param("user")}),
        CountOf("responses", local="_id", foreign="question_id", as_="answers"),
    ],
    computed={"status": ValueOf("response.status", default="not_answered")},
)


def fill(db: Any, **collections: list[dict[str, Any]]) -> None:
    for name, documents in collections.items():
        if documents:
            db[name].insert_many(copy.deepcopy(documents))


def ask(db: Any) -> None:
    """Store three questions, and what two users answered."""
    responses = [
        {"_id": 1, "question_id": 1, "user_id": "u1", "status": "done"},
        {"_id": 2, "question_id": 1, "user_id": "u2", "status": None},
        {"_id": 3, "question_id": 3, "user_id": "u2", "status": "open"},
    ]
    fill(db, questions=[{"_id": n, "title": f"t{n}"} for n in (3, 1, 2)], responses=responses)


def bind(db: Any, spec: Any, strategy: str = "auto") -> Join:
    """Bind a spec, or one join onto the documents of `p`."""
    spec = spec if isinstance(spec, JoinSpec) else JoinSpec("p", joins=[spec])
    return Join(db, spec, strategy=strategy, on_missing_index="ignore")  # type: ignore[arg-type]


def of(rows: list[dict[str, Any]], name: str = "f") -> list[Any]:
    """Return what was joined onto each row: ids instead of documents."""
    return [ids(row[name]) for row in rows]


def ids(joined: Any) -> Any:
    if isinstance(joined, list):
        return [each["_id"] for each in joined]
    return joined["_id"] if isinstance(joined, dict) and "_id" in joined else joined


def same(one: Any, other: Any) -> bool:
    """Compare to the byte: types too."""
    return encode({"": one}) == encode({"": other})


# What belongs to a parent --------------------------------------------------------------------------------------


@EVERY
def test_rows_are_parents_with_what_belongs_to_them(db: Any, strategy: str) -> None:
    """A row is the parent, and in it what is joined and computed; parents come in their own order."""
    ask(db)
    join = bind(db, QUESTIONS, strategy)
    rows = join.find(params={"user": "u1"}, sort=BY_ID)
    done = {"_id": 1, "question_id": 1, "user_id": "u1", "status": "done"}
    assert rows == [
        {"_id": 1, "title": "t1", "response": done, "answers": 2, "status": "done"},
        {"_id": 2, "title": "t2", "response": None, "answers": 0, "status": "not_answered"},
        {"_id": 3, "title": "t3", "response": None, "answers": 1, "status": "not_answered"},
    ]
    rows = join.find({"_id": {"$ne": 2}}, params={"user": "u2"}, sort=[("title", -1)])
    assert [(row["_id"], row["response"]["_id"], row["status"]) for row in rows] == [
        (3, 3, "open"),
        (1, 2, "not_answered"),
    ]


@EVERY
def test_one_is_the_first(db: Any, strategy: str) -> None:
    """One is the first by the order that is asked for, then by `_id`; by `_id` alone where none is asked for."""
    documents = [{"_id": n, "k": 1, "n": n % 2, "none": None} for n in (5, 3, 4, 2)]
    fill(db, p=[{"_id": 1}], f=documents)
    wanted: list[tuple[Any, int]] = [
        (None, 2),
        ([], 2),
        ([("n", 1)], 2),
        ([("n", -1)], 3),
        ([("n", -1), ("_id", -1)], 5),
        ([("none", 1)], 2),
        ([("_id", -1)], 5),
    ]
    for sort, first in wanted:
        part = One("f", local="_id", foreign="k", sort=sort)
        assert of(bind(db, part, strategy).find()) == [first], sort


@EVERY
def test_many_are_all_in_order(db: Any, strategy: str) -> None:
    """Many are all, in the order that is asked for, then by `_id`; a limit keeps the first of each parent."""
    documents = [{"_id": n, "k": n % 2, "n": n // 3} for n in (5, 7, 3, 4, 6, 2, 1)]
    fill(db, p=[{"_id": 0}, {"_id": 1}, {"_id": 2}], f=documents)
    wanted: list[tuple[Any, int | None, Any]] = [
        (None, None, [[2, 4, 6], [1, 3, 5, 7], []]),
        (None, 1, [[2], [1], []]),
        ([("n", -1)], None, [[6, 4, 2], [7, 3, 5, 1], []]),
        ([("n", -1)], 2, [[6, 4], [7, 3], []]),
        ([("_id", -1)], 9, [[6, 4, 2], [7, 5, 3, 1], []]),
    ]
    for sort, limit, found in wanted:
        part = Many("f", local="_id", foreign="k", sort=sort, limit=limit)
        assert of(bind(db, part, strategy).find(sort=BY_ID)) == found, (sort, limit)


@EVERY
def test_ids_of_all_kinds_come_in_the_servers_order(db: Any, strategy: str) -> None:
    """Documents without an order come by `_id`, whatever types those have."""
    order = [None, -1, Decimal128("0.5"), 1.5, Int64(2), "", "a", "é", "😀", {"a": 1}, {"b": 0}, {"a": "x"}, b"x"]
    order += [b"aa", OID, False, True, dt.datetime(1960, 1, 1, tzinfo=UTC), NOON]
    fill(db, p=[{"_id": 1}], f=[{"_id": each, "k": 1} for each in reversed(order)])
    part = Many("f", local="_id", foreign="k")
    (found,) = of(bind(db, part, strategy).find())
    assert same(found, order)


@EVERY
def test_numbers_of_what_belongs_to_a_parent(db: Any, strategy: str) -> None:
    """A document counts once however often it matches; a sum takes numbers alone; nothing is 0 and False."""
    documents = [
        {"_id": 1, "k": [1, 2, 1], "v": 2},
        {"_id": 2, "k": 2, "v": 0.5},
        {"_id": 3, "k": 1, "v": "7"},
        {"_id": 4, "k": 1, "v": [5]},
        {"_id": 5, "k": 9, "v": 100},
        {"_id": 6, "k": 7},
    ]
    fill(db, p=[{"_id": n, "a": a} for n, a in ((1, [1, 2, 2]), (2, 1), (3, 3), (4, 7))], f=documents)
    joins = [
        CountOf("f", local="a", foreign="k", as_="n"),
        Exists("f", local="a", foreign="k", as_="any"),
        SumOf("f", local="a", foreign="k", amount="v", as_="sum"),
    ]
    rows = bind(db, JoinSpec("p", joins=joins), strategy).find(sort=BY_ID)
    assert [(row["n"], row["any"], row["sum"]) for row in rows] == [
        (4, True, 2.5),
        (3, True, 2),
        (0, False, 0),
        (1, True, 0),
    ]
    assert all(type(row["any"]) is bool and type(row["n"]) is int for row in rows)


SUMS: list[tuple[list[Any], Any]] = [
    ([1, 2], 3),
    ([1, 0.5], 1.5),
    ([Decimal128("0.1"), Decimal128("0.2")], Decimal128("0.3")),
    ([Decimal128("1"), 0.1], Decimal128("1.100000000000000005551115123125783")),
    ([math.inf, -math.inf], math.nan),
    ([1e308, 1e308], math.inf),
    ([Decimal128("Infinity"), Decimal128("-Infinity")], Decimal128("NaN")),
    ([Int64(2**63 - 1), 1], 2.0**63),
    ([Int64(2**62), Int64(2**62), -5], 2**63 - 5),
    ([0.1] * 10, 1.0),
]


@pytest.mark.parametrize(("amounts", "total"), SUMS, ids=str)
def test_a_sum_is_the_servers(db: Any, amounts: list[Any], total: Any) -> None:
    """Amounts add up as the server adds them, whether one key finds them or each its own."""
    apart = [{"_id": n, "k": n, "v": value} for n, value in enumerate(amounts)]
    together = [{"_id": 100 + n, "k": 100, "v": value} for n, value in enumerate(amounts)]
    fill(db, p=[{"_id": 1, "a": list(range(len(amounts)))}, {"_id": 2, "a": 100}], f=apart + together)
    for strategy in ("lookup", "batch"):
        rows = bind(db, SumOf("f", local="a", foreign="k", amount="v"), strategy).find(sort=BY_ID)
        for row in rows:
            assert type(row["f"]) in ({int, Int64} if isinstance(total, int) else {type(total)}), strategy
            assert str(row["f"]) == str(total), strategy


# Keys ----------------------------------------------------------------------------------------------------------


@EVERY
def test_a_parent_without_keys_joins_nothing(db: Any, strategy: str) -> None:
    """null, a missing field, MinKey, an empty list, and lists of such are no keys, and meet none of their kind."""
    parents: list[dict[str, Any]] = [{}, {"a": None}, {"a": []}, {"a": [None]}, {"a": MinKey()}, {"a": [MinKey()]}]
    strangers: list[dict[str, Any]] = [{}, {"k": None}, {"k": []}, {"k": [None]}, {"k": MinKey()}, {"k": [None, 1]}]
    fill(
        db,
        p=[{"_id": n, **parent} for n, parent in enumerate(parents)] + [{"_id": 9, "a": [None, 1]}],
        f=[{"_id": n, **stranger} for n, stranger in enumerate(strangers)],
    )
    options = {"local": "a", "foreign": "k"}
    joins = [
        One("f", as_="one", default="$none", **options),
        Many("f", as_="many", **options),
        CountOf("f", as_="count", **options),
        Exists("f", as_="exists", **options),
        SumOf("f", as_="sum", amount="_id", **options),
    ]
    rows = bind(db, JoinSpec("p", joins=joins), strategy).find(sort=BY_ID, fields=["_id"])
    nothing = {"one": "$none", "many": [], "count": 0, "exists": False, "sum": 0}
    assert rows[:-1] == [{"_id": n, **nothing} for n in range(len(parents))]
    five = {"_id": 5, "k": [None, 1]}
    assert rows[-1] == {"_id": 9, "one": five, "many": [five], "count": 1, "exists": True, "sum": 5}


@EVERY
def test_keys_are_compared_as_the_server_compares(db: Any, strategy: str) -> None:
    """Numbers of all types are equal by value, and nothing else is equal across types."""
    held: list[Any] = [
        1,
        1.0,
        Decimal128("1.00"),
        True,
        "1",
        math.nan,
        Decimal128("NaN"),
        0,
        -0.0,
        False,
        OID,
        str(OID),
    ]
    held += [
        {"a": 1, "b": 2},
        {"b": 2, "a": 1},
        {"a": 1.0, "b": 2},
        Regex("^1"),
        NOON,
        b"1",
        [1],
        [[1]],
        2**53,
        2**53 + 1,
    ]
    fill(
        db,
        p=[{"_id": n, "a": value} for n, value in enumerate(held)],
        f=[{"_id": n, "k": value} for n, value in enumerate(held)],
    )
    ones, nans, zeros, documents, whole, inner = [0, 1, 2, 18], [5, 6], [7, 8], [12, 14], [0, 1, 2, 18], [18, 19]
    wanted: list[Any] = [ones, ones, ones, [3], [4], nans, nans, zeros, zeros, [9], [10], [11]]
    wanted += [documents, [13], documents, [15], [16], [17], whole, inner, [20], [21]]
    rows = bind(db, Many("f", local="a", foreign="k"), strategy).find(sort=BY_ID)
    assert of(rows) == wanted


def refused_by_the_server(db: Any, key: Any) -> None:
    """See that the server looks up no list with a key that looks like an operator: `$lookup` makes an `$in` of it."""
    fill(db, p=[{"_id": 1, "a": [key, 1]}], f=[{"_id": 1, "k": key}])
    with pytest.raises(OperationFailure, match="cannot nest"):
        bind(db, Many("f", local="a", foreign="k"), "lookup").find()


@pytest.mark.parametrize("strategy", ["batch", "lookup"])
@pytest.mark.parametrize(
    "key",
    [{"$ne": None}, {"$x": 1}, {"y": {"$ne": None}}, "$a", Regex(".*"), Code("f"), {"$ref": "x", "$id": 1}],
    ids=str,
)
def test_stored_keys_are_values(db: Any, strategy: str, key: Any) -> None:
    """A key that looks like an operator, a path, a pattern or code finds its equal, bare or in a list."""
    if strategy == "lookup" and isinstance(key, dict) and next(iter(key)) in {"$ne", "$x"}:
        refused_by_the_server(db, key)
        return
    strangers: list[Any] = [1, "a", "f", "x", ".*", {"y": 1}, {"y": {"$ne": 1}}]
    fill(
        db,
        p=[{"_id": 1, "a": key}, {"_id": 2, "a": [key]}, {"_id": 3, "a": [key, 1]}],
        f=[{"_id": n, "k": value} for n, value in enumerate([key, *strangers])],
    )
    options = {"local": "a", "foreign": "k"}
    joins = [Many("f", **options), CountOf("f", as_="n", **options)]
    for place, wanted in ((1, [0]), (2, [0]), (3, [0, 1])):
        (row,) = bind(db, JoinSpec("p", joins=joins), strategy).find({"_id": place})
        assert ([each["_id"] for each in row["f"]], row["n"]) == (wanted, len(wanted)), place


@EVERY
def test_lists_are_entered_one_level(db: Any, strategy: str) -> None:
    """On a path the documents of a list are meant, and at its end its items; lists within lists are values."""
    parents: list[Any] = [
        {"d": {"k": 1}},
        {"d": [{"k": 1}, 5, {"x": 1}, {"k": [2, [3]]}]},
        {"d": [[{"k": 1}]]},
        {"d": {"k": [[1]]}},
        {"d": 1},
    ]
    documents: list[Any] = [{"e": [{"k": 1}]}, {"e": {"k": [2]}}, {"e": [[{"k": 1}]]}, {"e": [{"k": [[3]]}]}, {"e": 1}]
    documents += [{"e": [{"k": [1]}, {"k": 2}]}]
    fill(
        db,
        p=[{"_id": n, **parent} for n, parent in enumerate(parents)],
        f=[{"_id": n, **document} for n, document in enumerate(documents)],
    )
    joins = [Many("f", local="d.k", foreign="e.k"), CountOf("f", local="d.k", foreign="e.k", as_="n")]
    rows = bind(db, JoinSpec("p", joins=joins), strategy).find(sort=BY_ID)
    assert of(rows) == [[0, 5], [0, 1, 3, 5], [], [5], []]
    assert [row["n"] for row in rows] == [2, 4, 0, 1, 0]


@EVERY
def test_dates_that_python_has_no_year_for_are_keys(db: Any, strategy: str) -> None:
    """Dates past the year 9999 and before the year 1 find their equals alone, and are given as they are."""
    dates = [DatetimeMS(10**15), DatetimeMS(2 * 10**15), DatetimeMS(-(10**15)), dt.datetime(9999, 12, 31, tzinfo=UTC)]
    documents = [{"_id": date, "k": date, "n": n} for n, date in enumerate(dates)]
    fill(db, p=[{"_id": n, "k": date} for n, date in enumerate(dates)], f=documents)
    options = {"local": "k", "foreign": "k"}
    joins = [Many("f", **options), One("f", as_="one", **options), SumOf("f", as_="sum", amount="n", **options)]
    rows = bind(db, JoinSpec("p", joins=joins), strategy).find(sort=BY_ID)
    wanted = [{"k": each["k"], "f": [each], "one": each, "sum": each["n"]} for each in documents]
    assert [{**row, "_id": n} for n, row in enumerate(rows)] == [{"_id": n, **row} for n, row in enumerate(wanted)]


@EVERY
def test_paths_lead_into_references(db: Any, strategy: str) -> None:
    """What the driver reads as a DBRef is a document, and a path leads to the fields that lie in it."""
    parents = [{"d": DBRef("x", 1, k=1)}, {"d": [DBRef("x", 2, k=2), {"k": 3}]}, {"d": {"k": 3}}]
    documents = [{"e": DBRef("x", 1, k=1)}, {"e": [{"k": 2}]}, {"e": [DBRef("x", 3, k=3)]}]
    fill(
        db,
        p=[{"_id": n, **parent} for n, parent in enumerate(parents)],
        f=[{"_id": n, **document} for n, document in enumerate(documents)],
    )
    joins = [Many("f", local="d.k", foreign="e.k"), CountOf("f", local="d.k", foreign="e.k", as_="n")]
    spec = JoinSpec("p", joins=joins, computed={"first": ValueOf("d.k")})
    rows = bind(db, spec, strategy).find(sort=BY_ID)
    assert [(ids(row["f"]), row["n"], row["first"]) for row in rows] == [([0], 1, 1), ([1, 2], 2, [2, 3]), ([2], 1, 3)]


FORMS = [
    ("string", [OID, 7, Int64(8), "x"], [str(OID), "7", "8", "x"]),
    ("objectid", [OID, str(OID), str(OID).upper()], [OID, OID, OID]),
]


@EVERY
@pytest.mark.parametrize(("form", "held", "meant"), FORMS, ids=["string", "objectid"])
def test_keys_are_turned(db: Any, strategy: str, form: Any, held: list[Any], meant: list[Any]) -> None:
    """Keys are turned into text or ObjectIds first; those that cannot be join nothing."""
    lost: list[Any] = [1.0, True, None, {"a": 1}, b"x", NOON, Decimal128("7"), Code("x")]
    lost += ["123", f"{OID}\n", "z" * 24] if form == "objectid" else []
    lost += [7] if form == "objectid" else []
    targets = [*dict.fromkeys(meant), *(each for each in lost if each is not None and not isinstance(each, Code))]
    fill(
        db,
        p=[{"_id": n, "a": value} for n, value in enumerate([*held, *lost, held])],
        f=[{"_id": n, "k": value} for n, value in enumerate(targets)],
    )
    rows = bind(db, Many("f", local="a", foreign="k", local_as=form), strategy).find(sort=BY_ID)
    places = [targets.index(each) for each in meant]
    assert of(rows) == [*([place] for place in places), *([] for _ in lost), sorted(set(places))]


@EVERY
def test_uuids_are_keys_as_they_are_stored(db: Any, strategy: str) -> None:
    """A UUID finds itself, in whichever of the two forms the application stores them."""
    one, other = uuid.UUID(int=1), uuid.UUID(int=2)
    for form in (UuidRepresentation.STANDARD, UuidRepresentation.PYTHON_LEGACY):
        options: CodecOptions[Any] = CodecOptions(uuid_representation=form)
        database = db.client.get_database(db.name, codec_options=options)
        for name in "pf":
            db.drop_collection(name)
        fill(database, p=[{"_id": one, "a": [one, other]}], f=[{"_id": other, "k": one}, {"_id": one, "k": other}])
        (row,) = bind(database, Many("f", local="a", foreign="k"), strategy).find()
        assert [each["k"] for each in row["f"]] == [other, one]


# The shape of rows ---------------------------------------------------------------------------------------------


@EVERY
def test_keys_are_read_before_anything_is_joined(db: Any, strategy: str) -> None:
    """A join may take the place of the field that it, or another one, reads its keys from."""
    fill(db, p=[{"_id": 1, "user": 7, "d": {"k": 8}}], f=[{"_id": 7, "d": 8}, {"_id": 8, "d": 7}])
    joins = [
        One("f", local="user", foreign="_id", as_="user"),
        One("f", local="d.k", foreign="_id", as_="d"),
        Many("f", local="user", foreign="_id", as_="again"),
        CountOf("f", local="d.k", foreign="_id"),
    ]
    (row,) = bind(db, JoinSpec("p", joins=joins), strategy).find()
    seven, eight = {"_id": 7, "d": 8}, {"_id": 8, "d": 7}
    assert row == {"_id": 1, "user": seven, "d": eight, "again": [seven], "f": 1}


@EVERY
def test_fields_of_what_is_joined(db: Any, strategy: str) -> None:
    """Fields are given as PyMongo's projection gives them, after matching and sorting by others."""
    document = {"_id": 1, "k": 1, "n": 1, "d": {"x": 1, "y": 2}, "l": [{"x": 1, "y": 2}, 3, {"y": 4}]}
    fill(db, p=[{"_id": 1}], f=[document, {**document, "_id": 2, "n": 0}])
    wanted: list[tuple[Any, Any]] = [
        (None, {**document, "_id": 2, "n": 0}),
        (["n"], {"_id": 2, "n": 0}),
        (["d.x", "missing"], {"_id": 2, "d": {"x": 1}}),
        (["l.x"], {"_id": 2, "l": [{"x": 1}, {}]}),
        ({"n": 1, "_id": 0}, {"n": 0}),
        ({"k": True, "_id": False}, {"k": 1}),
        (["_id"], {"_id": 2}),
        ({"_id": 0, "missing": 1}, {}),
        (["k", "_id"], {"_id": 2, "k": 1}),
    ]
    for fields, given in wanted:
        for part in (One, Many):
            joined = part("f", local="_id", foreign="k", sort=[("n", 1)], where={"d.y": 2}, fields=fields)
            (row,) = bind(db, joined, strategy).find()
            assert same(row["f"] if part is One else row["f"][0], given), fields


@EVERY
def test_fields_of_the_parents(db: Any, strategy: str) -> None:
    """What is joined and computed always comes, and joins read keys that are not given."""
    parent = {"_id": 1, "a": 5, "d": {"k": 5, "x": 1, "y": 2}, "title": "t", "f": "old"}
    fill(db, p=[parent], f=[{"_id": 5}])
    spec = JoinSpec(
        "p",
        joins=[CountOf("f", local="a", foreign="_id"), One("f", local="d.k", foreign="_id", as_="one")],
        computed={"of_join": ValueOf("one._id"), "of_parent": ValueOf("title"), "none": ValueOf("x", default=["$x"])},
    )
    join = bind(db, spec, strategy)
    added = {"f": 1, "one": {"_id": 5}, "of_join": 5, "of_parent": "t", "none": ["$x"]}
    wanted: list[tuple[Any, Any]] = [
        (None, {**parent, **added}),
        (["title"], {"_id": 1, "title": "t", **added}),
        (["d.x"], {"_id": 1, "d": {"x": 1}, **added}),
        ({"d.k": 1, "_id": 0}, {"d": {"k": 5}, **added}),
        (["d"], {"_id": 1, "d": parent["d"], **added}),
        (["f", "one.x"], {"_id": 1, **added}),
        ({"a": 1, "_id": 0}, {"a": 5, **added}),
        (["_id"], {"_id": 1, **added}),
    ]
    for fields, row in wanted:
        assert join.find(fields=fields) == [row], fields
        assert join.find_one(fields=fields) == row, fields


@EVERY
def test_joins_within_joins(db: Any, strategy: str) -> None:
    """What is joined may be joined onto by the same rules, with parameters of its own, and in an order of its own."""
    fill(
        db,
        p=[{"_id": 1}, {"_id": 2}],
        f=[{"_id": n, "p": 1 + n % 2, "user": n % 3} for n in range(6)],
        g=[{"_id": n, "name": f"u{n}", "f": [n, n + 1], "v": n} for n in range(3)],
    )
    inner = [
        One(
            "g", local="user", foreign="_id", as_="user", fields={"name": 1, "_id": 0}, where={"v": {"$lt": Param("v")}}
        ),
        Many("g", local="_id", foreign="f", sort=[("v", -1)], fields=["v"], limit=1),
        CountOf("g", local="_id", foreign="f", as_="n"),
    ]
    spec = JoinSpec("p", joins=[Many("f", local="_id", foreign="p", fields=["p"], sort=[("user", 1)], joins=inner)])
    rows = bind(db, spec, strategy).find(params={"v": 2}, sort=BY_ID)

    def child(n: int) -> dict[str, Any]:
        user = {"name": f"u{n % 3}"} if n % 3 < 2 else None
        last = [{"_id": each, "v": each} for each in (n, n - 1) if 0 <= each < 3]
        return {"_id": n, "p": 1 + n % 2, "user": user, "g": last[:1], "n": len(last)}

    assert rows == [{"_id": 1, "f": [child(n) for n in (0, 4, 2)]}, {"_id": 2, "f": [child(n) for n in (3, 1, 5)]}]


@EVERY
def test_computed_fields(db: Any, strategy: str) -> None:
    """A path leads into what was joined; null and missing become the default; of lists it gives what they hold."""
    fill(
        db,
        p=[{"_id": 1, "n": None, "old": 1}, {"_id": 2, "n": 5}],
        f=[{"_id": 1, "k": 1, "x": [{"n": 1}, {}, {"n": None}], "d": {"n": 1}}, {"_id": 2, "k": 1, "x": 5}],
    )
    joins = [Many("f", local="_id", foreign="k"), One("f", local="_id", foreign="k", as_="one")]
    computed = {
        "number": ValueOf("n", default="$n"),
        "old": ValueOf("one.d.n", default={"$add": [1, 2]}),
        "many": ValueOf("f.k"),
        "deep": ValueOf("f.x.n"),
        "whole": ValueOf("one.d"),
    }
    rows = bind(db, JoinSpec("p", joins=joins, computed=computed), strategy).find(sort=BY_ID)
    found = [{name: row[name] for name in computed} for row in rows]
    assert found == [
        {"number": "$n", "old": 1, "many": [1, 1], "deep": [[1, None]], "whole": {"n": 1}},
        {"number": 5, "old": {"$add": [1, 2]}, "many": [], "deep": [], "whole": None},
    ]


@EVERY
@pytest.mark.parametrize("keys", [[1, 2, 9], [1, 1, 8, 9], [[1, 2], 1, [9, 2]]], ids=str)
def test_rows_share_nothing(db: Any, strategy: str, keys: list[Any]) -> None:
    """A row can be changed at any depth without another, or the spec, changing too."""
    parents = [{"_id": n, "a": key} for n, key in enumerate(keys)]
    document = {"_id": 1, "k": [1, 2], "e": [{"k": 1}, {"k": 2}], "d": [{"x": 1}]}
    fill(db, p=parents, f=[document], g=[{"_id": 1, "d": {}}])
    inner = [One("g", local="k", foreign="_id", default={"l": []})]
    joins: list[Any] = [
        One("f", local="a", foreign="k", as_="one", default={"d": []}, joins=inner),
        Many("f", local="a", foreign="k", as_="many", joins=inner),
        One("f", local="a", foreign="e.k", as_="listed", default=[[]]),
    ]
    computed = {"c": ValueOf("one"), "d": ValueOf("nothing", default=[{}])}
    join = bind(db, JoinSpec("p", joins=joins, computed=computed), strategy)
    seen: dict[int, Any] = {}
    for row in join.find():
        for value in mutable(row):
            assert id(value) not in seen, value
            seen[id(value)] = value
    before = join.find(sort=BY_ID)
    for value in list(mutable(copy.copy(join.find(sort=BY_ID)))):
        value.clear()
    assert join.find(sort=BY_ID) == before


def mutable(value: Any) -> Iterator[Any]:
    """Give all documents and lists within a value, and itself."""
    if isinstance(value, (dict, list)):
        yield value
        for item in list(value.values() if isinstance(value, dict) else value):
            yield from mutable(item)


# Parameters ----------------------------------------------------------------------------------------------------

HOSTILE: list[Any] = [{"$ne": None}, {"$gt": ""}, "$s", "$$ROOT", {"$regex": ""}, re.compile(".*"), [], None, {"a": 1}]


@pytest.mark.parametrize("operator", ["", "$eq", "$in", "$ne", "$nin"])
@pytest.mark.parametrize("value", HOSTILE, ids=str)
def test_parameters_are_data(db: Any, operator: str, value: Any) -> None:
    """Whatever a caller sends is compared and never run; what the server would run in that place is refused."""
    documents: list[dict[str, Any]] = [{"s": "x"}, {"s": 1}, {"s": "secret"}, {"s": {"b": 1}}]
    documents += [{"s": {"$ne": None}}, {"s": "$s"}, {"s": {"$regex": ""}}]
    fill(db, p=[{"_id": 1}], f=[{"_id": n, "k": 1, **each} for n, each in enumerate(documents)])
    where = {"s": {operator: Param("s")} if operator else Param("s")}
    wanted = [n for n, each in enumerate(documents) if (each["s"] == value) is (operator not in ("$ne", "$nin"))]
    for strategy in ("batch", "lookup"):
        join = bind(db, Many("f", local="_id", foreign="k", where=where), strategy)
        try:
            found = join.find(params={"s": [value] if operator in ("$in", "$nin") else value})
        except UsageError as error:
            assert "'s'" in str(error)  # noqa: PT017  # the rest is the same for both
            assert operator in ("$in", "$nin", "$ne")
            assert isinstance(value, re.Pattern) or next(iter(value)).startswith("$")
        else:
            assert of(found) == [wanted], strategy


@EVERY
def test_parameters_in_every_place(db: Any, strategy: str) -> None:
    """A parameter stands for a value under each comparison, at any depth of a filter, and as often as it is named."""
    fill(
        db, p=[{"_id": 1}], f=[{"_id": n, "k": 1, "n": n, "l": [{"n": n, "m": 1}, {"n": 9, "m": 2}]} for n in range(4)]
    )
    wheres: list[tuple[dict[str, Any], list[int]]] = [
        ({"n": Param("n")}, [2]),
        ({"n": {"$ne": Param("n")}}, [0, 1, 3]),
        ({"n": {"$gt": Param("n")}}, [3]),
        ({"n": {"$gte": Param("n"), "$lt": 3}}, [2]),
        ({"n": {"$lt": Param("n")}}, [0, 1]),
        ({"n": {"$lte": Param("n")}}, [0, 1, 2]),
        ({"n": {"$in": Param("list")}}, [0, 2]),
        ({"n": {"$nin": Param("list")}}, [1, 3]),
        ({"n": {"$not": {"$gt": Param("n")}}}, [0, 1, 2]),
        ({"$or": [{"n": Param("n")}, {"$and": [{"n": {"$lt": 1}}, {"n": {"$in": Param("list")}}]}]}, [0, 2]),
        ({"$nor": [{"n": Param("n")}, {"n": {"$gt": Param("n")}}]}, [0, 1]),
        ({"l": {"$elemMatch": {"n": Param("n"), "m": 1}}}, [2]),
        ({"l.n": Param("n")}, [2]),
        ({"k": {"$lt": Param("n")}}, [0, 1, 2, 3]),
        ({"k": 1, "n": Param("n")}, [2]),
    ]
    for where, found in wheres:
        join = bind(db, Many("f", local="_id", foreign="k", where=where), strategy)
        params = {name: {"n": 2, "list": [0, 2]}[name] for name in join.spec.params}
        assert of(join.find(params=params)) == [found], where


def test_a_list_of_values_is_any_sequence_or_set(db: Any) -> None:
    """$in takes lists, tuples and sets, and refuses what is not a list of values."""
    fill(db, p=[{"_id": 1}], f=[{"_id": 1, "k": 1, "n": 1}])
    join = bind(db, Many("f", local="_id", foreign="k", where={"n": {"$in": Param("n")}}))
    for several in ([1, 2], (1,), {1}, frozenset({1})):
        assert of(join.find(params={"n": several})) == [[1]]
    for wrong in ("1", b"1", 1, None, {"a": 1}, iter([1])):
        with pytest.raises(UsageError, match="'n'"):
            join.find(params={"n": wrong})


def test_parameters_are_named_exactly(db: Any, commands: Any) -> None:
    """A parameter that is missing, or that nothing asks for, is an error before anything is sent, in every call."""
    join = bind(db, QUESTIONS)
    for params, name in (({}, "user"), (None, "user"), ({"user": 1, "usr": 2}, "usr"), ([("user", 1)], "params")):
        with pytest.raises(UsageError, match=name):
            join.find(params=params)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=name):
            join.find_one(params=params)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=name):
            join.count(params=params)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=name):
            join.attach([], params=params)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=name):
            join.aggregate([], params=params)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=name):
            join.explain(params=params)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=name):
            for _ in join.stream(params=params):  # type: ignore[arg-type]
                pass
    assert commands.sent == []


# Pages ---------------------------------------------------------------------------------------------------------


@EVERY
def test_pages_are_cut_before_the_join(db: Any, strategy: str) -> None:
    """Filter, order, skip and limit are those of PyMongo's find on the parents."""
    fill(db, p=[{"_id": n, "n": n % 3} for n in range(9)], f=[{"_id": n} for n in range(0, 9, 2)])
    join = bind(db, One("f", local="_id", foreign="_id"), strategy)
    rows = join.find({"_id": {"$gt": 0}}, sort=[("n", -1), ("_id", 1)], skip=1, limit=4)
    assert [(row["_id"], ids(row["f"])) for row in rows] == [(5, None), (8, 8), (1, None), (4, 4)]
    assert [row["_id"] for row in join.find({"n": 1}, sort=[("_id", -1)])] == [7, 4, 1]
    assert len(join.find()) == 9
    assert len(join.find({}, limit=0)) == 9
    assert join.find({}, skip=9) == []
    assert join.count({"n": 1}) == 3
    assert join.count() == 9
    assert join.count({"n": 7}) == 0
    first = join.find_one(sort=[("_id", -1)], skip=2)
    assert first == {"_id": 6, "n": 0, "f": {"_id": 6}}
    assert join.find_one({"n": 7}) is None


@pytest.mark.parametrize("strategy", ["lookup", "auto"])
def test_rows_are_filtered_before_pages_are_cut(db: Any, strategy: str) -> None:
    """Rows are filtered by what is joined and computed, defaults included; the count is that of all pages."""
    fill(
        db,
        p=[{"_id": n, "n": n % 2} for n in range(8)],
        f=[{"_id": n, "k": n, "status": "done" if n % 4 else "open"} for n in range(6)],
    )
    spec = JoinSpec(
        "p",
        joins=[
            One("f", local="_id", foreign="k", as_="one", default={"status": "none"}),
            Many("f", local="_id", foreign="k", as_="many"),
            CountOf("f", local="_id", foreign="k", as_="count"),
        ],
        computed={"status": ValueOf("one.status"), "first": ValueOf("many.status", default=[])},
    )
    join = bind(db, spec, strategy)
    wanted: list[tuple[dict[str, Any], list[int]]] = [
        ({"one.status": "done"}, [1, 2, 3, 5]),
        ({"one.status": "none"}, [6, 7]),
        ({"status": "open"}, [0, 4]),
        ({"status": {"$in": ["none", "open"]}, "n": 0}, [0, 4, 6]),
        ({"many": []}, [6, 7]),
        ({"many.status": "open"}, [0, 4]),
        ({"count": 0}, [6, 7]),
        ({"count": {"$gt": 0}, "status": "done"}, [1, 2, 3, 5]),
        ({"$or": [{"count": 0}, {"status": "open"}]}, [0, 4, 6, 7]),
        ({"$nor": [{"one.status": "done"}, {"$and": [{"count": 0}]}]}, [0, 4]),
        ({"first": "open"}, [0, 4]),
    ]
    for joined, kept in wanted:
        rows = join.find(joined=joined, sort=BY_ID)
        assert [row["_id"] for row in rows] == kept, joined
        page = join.find(joined=joined, sort=[("_id", -1)], skip=1, limit=2, fields=["_id"])
        assert page == [
            {name: row[name] for name in ("_id", "one", "many", "count", "status", "first")} for row in rows[::-1][1:3]
        ], joined
        assert join.count(joined=joined) == len(kept)
        assert join.count({"n": 0}, joined=joined) == len([each for each in kept if each % 2 == 0])
        assert [row["_id"] for row in join.stream(joined=joined, sort=BY_ID)] == kept
        one = join.find_one(joined=joined, sort=BY_ID)
        assert one == rows[0]


@pytest.mark.parametrize("strategy", ["lookup", "auto"])
def test_expressions_in_a_filter_on_rows(db: Any, strategy: str) -> None:
    """Every join that a filter on rows reads is there when it is applied, or the filter is refused."""
    fill(db, p=[{"_id": 1}, {"_id": 2}], f=[{"_id": 1, "k": 1}, {"_id": 2, "k": 1}, {"_id": 3, "k": 2}])
    joins = [CountOf("f", local="_id", foreign="k", as_="n"), Many("f", local="_id", foreign="k", as_="many")]
    join = bind(db, JoinSpec("p", joins=joins), strategy)
    joined = {"n": {"$gt": 0}, "$expr": {"$eq": [{"$size": {"$ifNull": ["$many", []]}}, 2]}}
    try:
        rows = join.find(joined=joined, sort=BY_ID)
    except UsageError as error:
        assert "joined" in str(error)  # noqa: PT017  # either is right
    else:
        assert [row["_id"] for row in rows] == [1]


def test_batches_do_not_filter_rows(db: Any, commands: Any) -> None:
    """A filter on rows is refused where the server was told not to join, and one that names no join everywhere."""
    joined = {"response.status": "done"}
    params = {"user": "u1"}
    for strategy, given, named in (
        ("batch", joined, "joined"),
        ("auto", {"title": 1}, "response"),
        ("auto", 5, "joined"),
    ):
        join = bind(db, QUESTIONS, strategy)
        with pytest.raises(UsageError, match=named):
            join.find(params=params, joined=given)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=named):
            join.count(params=params, joined=given)  # type: ignore[arg-type]
    assert commands.sent == []
    assert bind(db, QUESTIONS, "batch").find(params=params, joined={}) == []


# Other ways in -------------------------------------------------------------------------------------------------


@EVERY
def test_attach_joins_onto_documents_in_hand(db: Any, strategy: str) -> None:
    """Documents in hand become rows, in their order and as often as they are given; they stay as they are."""
    ask(db)
    join = bind(db, QUESTIONS, strategy)
    in_hand = [{"_id": 3, "more": [1]}, {"_id": 9}, {"_id": 1}, {"_id": 3, "more": [1]}]
    in_hand.append(in_hand[0])
    before = copy.deepcopy(in_hand)
    rows = join.attach(in_hand, params={"user": "u2"})
    assert [(row["_id"], ids(row["response"]), row["answers"], row["status"]) for row in rows] == [
        (3, 3, 1, "open"),
        (9, None, 0, "not_answered"),
        (1, 2, 2, "not_answered"),
        (3, 3, 1, "open"),
        (3, 3, 1, "open"),
    ]
    rows[0]["more"].append(2)
    rows[0]["response"].clear()
    rows[1].clear()
    assert in_hand == before
    assert rows[4]["more"] == [1]
    assert rows[4]["response"]["_id"] == 3
    assert join.attach([], params={"user": "u2"}) == []
    assert len(join.attach(tuple(in_hand), params={"user": "u2"})) == 5


@EVERY
def test_aggregate_joins_onto_what_stages_give(db: Any, strategy: str) -> None:
    """What a caller's own stages give becomes rows, in their order, whatever documents they make."""
    ask(db)
    stages = [{"$group": {"_id": "$question_id", "users": {"$sum": 1}}}, {"$sort": {"_id": -1}}]
    spec = JoinSpec("responses", joins=[One("questions", local="_id", foreign="_id", as_="question", fields=["title"])])
    rows = bind(db, spec, strategy).aggregate(stages)
    assert rows == [
        {"_id": 3, "users": 1, "question": {"_id": 3, "title": "t3"}},
        {"_id": 1, "users": 2, "question": {"_id": 1, "title": "t1"}},
    ]
    assert len(bind(db, spec, strategy).aggregate([])) == 3
    bare = [{"$sort": {"_id": 1}}, {"$project": {"_id": 0, "user_id": 1}}]
    assert bind(db, spec, strategy).aggregate(bare) == [
        {"user_id": user, "question": None} for user in ("u1", "u2", "u2")
    ]


@EVERY
def test_stream_gives_all_rows(db: Any, strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream gives the rows of `find`, a stretch at a time; it may be left before its end."""
    monkeypatch.setattr("mongopatterns.joins._join_sync.STREAMED", 3)
    fill(db, p=[{"_id": n} for n in range(10)], f=[{"_id": n, "k": n // 2} for n in range(10)])
    join = bind(db, Many("f", local="_id", foreign="k", limit=1), strategy)
    rows = join.find(sort=[("_id", -1)], fields=["_id"])
    assert list(join.stream(sort=[("_id", -1)], fields=["_id"])) == rows
    assert [row["_id"] for row in join.stream({"_id": {"$gt": 6}}, sort=BY_ID)] == [7, 8, 9]
    assert list(join.stream({"_id": 77})) == []
    left = join.stream(sort=BY_ID)
    assert next(left) == {"_id": 0, "f": [{"_id": 0, "k": 0}]}


@EVERY
def test_collections_that_are_not_there(db: Any, strategy: str) -> None:
    """Nothing is joined from a collection that does not exist, and nothing is given of parents that do not."""
    join = bind(db, Many("nowhere", local="_id", foreign="k", limit=2), strategy)
    assert join.find() == []
    assert join.count() == 0
    fill(db, p=[{"_id": 1}])
    assert join.find() == [{"_id": 1, "nowhere": []}]


@EVERY
def test_a_collection_joined_onto_itself(db: Any, strategy: str) -> None:
    """Parents may be joined with others of their own collection."""
    fill(db, p=[{"_id": 1}, {"_id": 2, "parent": 1}, {"_id": 3, "parent": 1}])
    part = Many("p", local="_id", foreign="parent", as_="children")
    assert of(bind(db, part, strategy).find(sort=BY_ID), "children") == [[2, 3], [], []]
