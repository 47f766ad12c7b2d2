"""What definitions of pages take and refuse, which index they ask for, and what a page is. No server."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import Any

import pytest
from bson import ObjectId

from mongopatterns import CountOf, Index, Many, One, Page, PagerSpec, Param, UsageError

UTC = dt.timezone.utc
GERMAN = {"locale": "de", "strength": 2}


def spec(sort: Any = (("at", -1),), **options: Any) -> PagerSpec:
    return PagerSpec("messages", sort=sort, **options)


def test_what_is_not_said() -> None:
    """A definition is a collection and an order; the rest has plain defaults."""
    made = spec([("at", -1), ["by", 1]])
    assert made.sort == (("at", -1), ("by", 1))
    assert (made.limit, made.reading_order, made.filter_by) == (50, False, ())
    assert (made.fields, made.joins, made.source, made.collation) == (None, (), (), None)


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ([("a", 1)], [("a", 1), ("_id", 1)]),
        ([("a", 1), ("b.c", -1)], [("a", 1), ("b.c", -1), ("_id", -1)]),
        ([("a", 1), ("_id", -1)], [("a", 1), ("_id", -1)]),
        ([("_id", 1)], [("_id", 1)]),
        ([("a", 1), ("_id", -1), ("b", 1)], [("a", 1), ("_id", -1)]),
        ([("_id.day", 1)], [("_id.day", 1), ("_id", 1)]),
    ],
)
def test_no_two_documents_are_equal_in_an_order(sort: Any, order: Any) -> None:
    """`_id` decides last, in the direction of the last key, unless it is in the order; behind it nothing decides."""
    assert spec(sort).order == tuple(order)


@pytest.mark.parametrize(
    ("made", "indexes"),
    [
        (spec(), [Index(("at", -1), ("_id", -1))]),
        (spec([("a", 1), ("b", -1)]), [Index("a", ("b", -1), ("_id", -1))]),
        (spec(filter_by=["party", "kind"]), [Index("party", "kind", ("at", -1), ("_id", -1))]),
        (spec(filter_by=["party", "party"]), [Index("party", ("at", -1), ("_id", -1))]),
        (spec([("at", -1), ("by", 1)], filter_by=["by"]), [Index("by", ("at", -1), "_id")]),
        (spec(collation=GERMAN), [Index(("at", -1), ("_id", -1), collation=GERMAN)]),
        (spec([("_id", -1)]), []),
        (spec([("_id", -1)], filter_by=["party"]), [Index("party", ("_id", -1))]),
        (spec(filter_by=["_id"]), []),
        (spec(source=[{"$match": {}}]), []),
    ],
)
def test_a_definition_names_its_index(made: PagerSpec, indexes: list[Index]) -> None:
    """What every filter compares comes first, then the order in full; none where `_id` serves, or none helps."""
    assert list(made.indexes()) == indexes
    assert [each.options for each in made.indexes()] == [each.options for each in indexes]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sort": []}, "sort"),
        ({"sort": None}, "sort"),
        ({"sort": "at"}, "sort"),
        ({"sort": [("at", 2)]}, "sort"),
        ({"sort": [("at", True)]}, "sort"),
        ({"sort": [("at", 1), ("at", -1)]}, "sort"),
        ({"sort": [("$at", 1)]}, "sort"),
        ({"sort": [("a..b", 1)]}, "sort"),
        ({"sort": [("items.0", 1)]}, "sort"),
        ({"limit": 0}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"limit": True}, "limit"),
        ({"limit": 5.0}, "limit"),
        ({"limit": "5"}, "limit"),
        ({"filter_by": "party"}, "filter_by"),
        ({"filter_by": 5}, "filter_by"),
        ({"filter_by": ["$party"]}, "filter_by"),
        ({"fields": "text"}, "fields"),
        ({"fields": {"text": 0}}, "fields"),
        ({"fields": ["a", "a.b"]}, "fields"),
        ({"joins": "users"}, "joins"),
        ({"joins": [5]}, "joins"),
        ({"source": {"$match": {}}}, "source"),
        ({"source": [{"$out": "x"}]}, "source"),
        ({"source": [{"match": {}}]}, "source"),
        ({"collation": "de"}, "collation"),
        ({"collation": {"strength": 2}}, "collation"),
    ],
)
def test_bad_definitions_are_refused(options: dict[str, Any], named: str) -> None:
    """A mistake is told when the definition is made, and by the name of the argument."""
    with pytest.raises(UsageError) as caught:
        spec(**options)
    assert caught.value.argument == named


def test_a_collection_has_a_name() -> None:
    """A definition without one is refused."""
    with pytest.raises(UsageError, match="collection"):
        PagerSpec("", sort=[("at", 1)])


def test_two_joins_may_not_share_a_name() -> None:
    """What is joined has a field of its own."""
    with pytest.raises(UsageError):
        spec(joins=[One("users", local="by", foreign="_id", as_="x"), Many("tags", local="t", foreign="_id", as_="x")])


def test_a_definition_does_not_change() -> None:
    """It is frozen, can be a key, and keeps its own copy of what it was given."""
    sort: Any = [["at", -1]]
    stages: Any = [{"$match": {"a": {"$in": [1]}}}]
    fields: Any = ["text"]
    collation: Any = dict(GERMAN)
    filter_by = ["party"]
    made = spec(sort, source=stages, fields=fields, collation=collation, filter_by=filter_by)
    sort[0][1] = 1
    stages[0]["$match"]["a"]["$in"].append(2)
    fields.append("by")
    collation["locale"] = "fr"
    filter_by.append("kind")
    again = spec(
        [("at", -1)],
        source=[{"$match": {"a": {"$in": [1]}}}],
        fields=["text"],
        collation=GERMAN,
        filter_by=["party"],
    )
    assert made == again
    assert hash(made) == hash(again)
    assert {made: 1}[again] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.limit = 5  # type: ignore[misc]


def test_params_are_those_of_all_joins() -> None:
    """The values that a call has to give are named by the joins, nested ones included."""
    inner = CountOf("votes", local="_id", foreign="post", where={"by": Param("me")})
    joins = [Many("posts", local="_id", foreign="user", where={"lang": Param("lang")}, joins=[inner])]
    assert spec(joins=joins).params == {"me", "lang"}
    assert spec().params == frozenset()


def test_a_page_is_a_plain_value() -> None:
    """It is as long as its items, gives them in turn, and becomes JSON."""
    oid = ObjectId("0123456789abcdef01234567")
    page = Page([{"_id": oid, "at": dt.datetime(2026, 3, 4, tzinfo=UTC)}], "next", None)
    assert (len(page), list(page)) == (1, page.items)
    assert json.loads(json.dumps(page.to_dict())) == {
        "items": [{"_id": str(oid), "at": "2026-03-04T00:00:00+00:00"}],
        "next": "next",
        "previous": None,
    }
    with pytest.raises(dataclasses.FrozenInstanceError):
        page.next = None  # type: ignore[misc]
