"""How pages are asked for and put together: definitions, filters, commands, indexes, cursors. No server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from bson import MinKey

from mongopatterns import InvalidCursor, One, Page, PagerSpec, Param, StateError, UsageError
from mongopatterns.indexes import Index
from mongopatterns.paging._pager_plan import PagerPlan

CHAT = PagerSpec("messages", sort=[("at", -1)], limit=2, filter_by=["party"])

BAD: list[dict[str, Any]] = [
    {"collection": ""},
    {"collection": 5},
    {"sort": None},
    {"sort": []},
    {"sort": "at"},
    {"sort": {"at": 1}},
    {"sort": [("at", 0)]},
    {"sort": [("at", True)]},
    {"sort": [("at", 1), ("at", -1)]},
    {"sort": [("a.0", 1)]},
    {"sort": [("$at", 1)]},
    {"sort": [("", 1)]},
    {"limit": 0},
    {"limit": 10_001},
    {"limit": True},
    {"limit": 2.0},
    {"filter_by": "party"},
    {"filter_by": 5},
    {"filter_by": ["$x"]},
    {"fields": "at"},
    {"fields": {"at": 0}},
    {"fields": ["a", "a.b"]},
    {"joins": [5]},
    {"source": {"$match": {}}},
    {"source": [{"$out": "x"}]},
    {"source": [{"match": {}}]},
    {"collation": "de"},
    {"collation": {"strength": 2}},
]


@pytest.mark.parametrize("wrong", BAD, ids=str)
def test_bad_definitions_are_refused(wrong: dict[str, Any]) -> None:
    """Each argument that is none of its kind names itself, when the definition is made."""
    with pytest.raises(UsageError, match=f"^{next(iter(wrong))}"):
        PagerSpec(**{"collection": "m", "sort": [("at", 1)], **wrong})


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ([("a", 1)], (("a", 1), ("_id", 1))),
        ([("a", 1), ("b", -1)], (("a", 1), ("b", -1), ("_id", -1))),
        ([("_id", -1)], (("_id", -1),)),
        ([("a", -1), ("_id", 1), ("b", 1)], (("a", -1), ("_id", 1))),
    ],
)
def test_an_order_ends_with_the_id(sort: Any, order: Any) -> None:
    """The id decides at the end, in the direction of the last key, unless it is named; nothing comes behind it."""
    assert PagerSpec("m", sort=sort).order == order


def test_the_index_of_a_definition() -> None:
    """Paths with one value come first, then the order; none is needed for the id alone, or can be for stages."""
    german = {"locale": "de"}
    assert CHAT.indexes() == (Index("party", ("at", -1), ("_id", -1)),)
    assert PagerSpec("m", sort=[("_id", 1)]).indexes() == ()
    assert PagerSpec("m", sort=[("_id", 1)], filter_by=["a"]).indexes() == (Index("a", "_id"),)
    assert PagerSpec("m", sort=[("a", 1), ("b", 1)], filter_by=["b"]).indexes() == (Index("b", "a", "_id"),)
    assert PagerSpec("m", sort=[("a", 1)], source=[{"$match": {}}]).indexes() == ()
    [collated] = PagerSpec("m", sort=[("a", 1)], collation=german).indexes()
    assert collated.options == {"collation": german}


def test_a_definition_is_a_value() -> None:
    """It can be compared, hashed and changed into another; what it was made of can change no more."""
    fields = ["a"]
    spec = PagerSpec("m", sort=[["a", 1]], fields=fields)  # type: ignore[list-item]
    fields.append("b")
    assert spec == PagerSpec("m", sort=[("a", 1)], fields=["a"])
    assert len({spec, replace(spec, limit=2), replace(spec)}) == 2


# What is sent ----------------------------------------------------------------------------------------------------


def sent(plan: PagerPlan, where: Any = None, *, in_turn: bool = False, **options: Any) -> Any:
    return plan.again(plan.find(plan.query(where, **options), in_turn=in_turn), None)


def page_of(plan: PagerPlan, documents: list[dict[str, Any]], where: Any = None, **options: Any) -> Page[Any]:
    call = plan.find(plan.query(where, **options))
    plan.again(call, None)
    assert plan.again(call, documents) is None
    return call.result  # type: ignore[no-any-return]


def test_the_first_page_is_a_find() -> None:
    """It asks for one document more than a page has, by the whole order, compared by characters."""
    read = sent(PagerPlan(CHAT), {"party": 1}, fields=["n"])
    assert (read.collection, read.method) == ("messages", "find")
    assert read.arguments == {
        "filter": {"party": 1},
        "sort": [("at", -1), ("_id", -1)],
        "limit": 3,
        "projection": {"_id": 1, "n": 1, "_mongopatterns": {"v0": "$at"}},
        "collation": {"locale": "simple"},
        "comment": "mongopatterns.pager.page",
        "batch_size": 2**31 - 1,
    }


def test_the_way_back_turns_the_order_round() -> None:
    """A previous page is read from its position backwards, and given forwards."""
    plan = PagerPlan(CHAT)
    documents = [{"_id": n, "at": n} for n in (9, 8, 7)]
    second = page_of(plan, documents, {"party": 1}, cursor=page_of(plan, documents, {"party": 1}).next)
    read = sent(plan, {"party": 1}, cursor=second.previous)
    assert read.arguments["sort"] == [("at", 1), ("_id", 1)]
    back = page_of(plan, [{"_id": n, "at": n} for n in (5, 6)], {"party": 1}, cursor=second.previous)
    assert ([row["_id"] for row in back], back.previous) == ([6, 5], None)
    assert back.next is not None


def test_parts_that_do_not_merge_are_one_aggregate() -> None:
    """Where a key before the last two is null, the parts are read in turn; with a session by a find each."""
    plan = PagerPlan(PagerSpec("m", sort=[("a", 1), ("b", 1)], limit=1))
    cursor = page_of(plan, [{"_id": 1, "b": 1}, {"_id": 2}]).next
    read = sent(plan, cursor=cursor)
    assert read.method == "aggregate"
    assert [next(iter(stage)) for stage in read.arguments["pipeline"]] == [
        *["$match", "$sort", "$limit", "$unionWith", "$unionWith", "$sort", "$limit"]
    ]
    call = plan.find(plan.query(None, cursor=cursor), in_turn=True)
    first = plan.again(call, None)
    assert first is not None
    assert (first.method, first.arguments["limit"]) == ("find", 2)
    second = plan.again(call, [{"_id": 2, "b": 1}])
    assert second is not None
    assert (second.method, second.arguments["limit"]) == ("find", 1)
    assert plan.again(call, [{"_id": 3, "b": 2}]) is None
    assert [row["_id"] for row in call.result] == [2]


def test_what_a_filter_fixes_decides_nothing() -> None:
    """A sort key that the filter compares with one value has no part of its own."""
    plan = PagerPlan(PagerSpec("m", sort=[("a", 1), ("b", 1)], limit=1))
    for where in ({"a": {"$eq": None}}, {"a": 1}, {"$and": [{"a": {"$eq": "x"}}]}):
        read = sent(plan, where, cursor=page_of(plan, [{"_id": 1, "b": 1}, {"_id": 2}], where).next)
        assert len(read.arguments["filter"]["$or"]) == 2


def test_nothing_can_come_after_the_least() -> None:
    """Where no value lies beyond a position, nothing is found."""
    plan = PagerPlan(PagerSpec("m", sort=[("_id", -1)], limit=1))
    read = sent(plan, cursor=page_of(plan, [{"_id": MinKey()}, {"_id": MinKey()}]).next)
    assert read.arguments["filter"] == {"$nor": [{}]}


def test_malformed_filters_are_left_to_the_server() -> None:
    """What is no filter to the server is no crash of ours."""
    plan = PagerPlan(CHAT)
    malformed: list[dict[str, Any]] = [{"$and": None}, {"$and": [5]}, {"$or": {"a": 1}}, {"a": {}}, {"$and": "x"}]
    for where in malformed:
        assert sent(plan, where).arguments["filter"] == where
        assert plan.unserved(plan.query(where), []) != []


# Cursors and documents -------------------------------------------------------------------------------------------


def test_lists_and_text_that_have_no_place() -> None:
    """A list in a sort key, and an id with text under a collation, are errors that name the document."""
    rows: list[dict[str, Any]] = [{"_id": 1, "a": 1}, {"_id": 2, "a": []}]
    with pytest.raises(StateError, match=r"'a' in the document 2 of 'm'"):
        page_of(PagerPlan(PagerSpec("m", sort=[("a", 1)])), rows)
    collated = PagerPlan(PagerSpec("m", sort=[("a", 1)], collation={"locale": "de"}))
    for key in ("x", {"a": "x"}, {"a": {"b": ["x"]}}):
        with pytest.raises(StateError, match="two ids may be one"):
            page_of(collated, [{"_id": key, "a": 1}])
    assert len(page_of(collated, [{"_id": 5, "a": "text"}])) == 1


def test_a_bound_collection_is_another_one() -> None:
    """A cursor belongs to the collection that is read, whatever the definition names."""
    one, other = PagerPlan(CHAT, "tenant_1"), PagerPlan(CHAT, "tenant_2")
    cursor = page_of(one, [{"_id": n, "at": n} for n in range(3)]).next
    assert one.query(None, cursor=cursor).position is not None
    with pytest.raises(InvalidCursor) as caught:
        other.query(None, cursor=cursor)
    assert caught.value.reason == "filter"


def test_parameters_are_checked() -> None:
    """A pager with joins takes the values that they ask for, and no others."""
    part = One("users", local="by", foreign="_id", as_="by", where={"team": Param("team")})
    plan = PagerPlan(PagerSpec("m", sort=[("a", 1)], joins=[part]))
    assert plan.joined == ["users"]
    assert plan.query(None, params={"team": 1}).params == {"team": 1}
    for params in (None, {}, {"team": 1, "x": 2}, 5, {"team": object()}):
        with pytest.raises(UsageError, match=r"^params"):
            plan.query(None, params=params)


# Indexes ---------------------------------------------------------------------------------------------------------


def index(*keys: tuple[str, Any], **options: Any) -> dict[str, Any]:
    return {"name": "x", "key": dict(keys), **options}


GOOD: list[dict[str, Any]] = [
    index(("party", 1), ("at", -1), ("_id", -1)),
    index(("party", -1), ("at", 1), ("_id", 1)),
    index(("party", 1.0), ("at", -1.0), ("_id", -1.0)),
    index(("party", 1), ("at", -1), ("_id", -1), ("more", 1)),
    index(("party", 1), ("at", -1), ("_id", -1), unique=True),
    index(("party", 1), ("at", -1), ("_id", -1), collation={"locale": "simple"}),
]
USELESS: list[dict[str, Any]] = [
    index(("_id", 1)),
    index(("party", 1), ("at", -1)),
    index(("at", -1), ("_id", -1)),
    index(("party", 1), ("at", -1), ("_id", 1)),
    index(("party", 1), ("more", 1), ("at", -1), ("_id", -1)),
    index(("at", -1), ("party", 1), ("_id", -1)),
    index(("party", "hashed"), ("at", -1)),
    index(("$**", 1)),
    *(
        index(("party", 1), ("at", -1), ("_id", -1), **options)
        for options in (
            {"sparse": True},
            {"hidden": True},
            {"partialFilterExpression": {"a": 1}},
            {"collation": {"locale": "de"}},
        )
    ),
]


@pytest.mark.parametrize(("there", "serves"), [*((each, True) for each in GOOD), *((each, False) for each in USELESS)])
def test_which_index_serves_a_page(there: dict[str, Any], serves: bool) -> None:
    """An index serves that has the paths with one value first, then the order, in one direction or the other."""
    plan = PagerPlan(CHAT)
    findings = plan.unserved(plan.query({"party": 1}), [there])
    assert [finding.code for finding in findings] == ([] if serves else ["missing-index"])


def test_an_index_compares_as_the_pages_do() -> None:
    """An index of another collation serves nothing; what a collation does not say is the server's default."""
    spec = PagerSpec("m", sort=[("a", 1)], collation={"locale": "de", "strength": 3})
    plan = PagerPlan(spec)
    full = {"locale": "de", "strength": 3, "caseLevel": False, "numericOrdering": False, "version": "57.1"}
    for collation, serves in ((full, True), ({**full, "strength": 2}, False), ({**full, "locale": "en"}, False)):
        there = index(("a", 1), ("_id", 1), collation=collation)
        assert (plan.unserved(plan.query(None), [there]) == []) is serves
    assert plan.unserved(plan.query(None), [index(("a", 1), ("_id", 1))]) != []


def test_the_remedy_fits_the_call() -> None:
    """What is suggested serves the filter of this call, and not that of another."""
    plan = PagerPlan(CHAT)
    [finding] = plan.unserved(plan.query({"room": 1, "party": 2}), [])
    assert finding.remedy == "Create Index('party', 'room', ('at', -1), ('_id', -1))"
    [finding] = plan.unserved(plan.query({"party": {"$gt": 2}}), [])
    assert finding.remedy == "Create Index(('at', -1), ('_id', -1))"
    assert plan.unserved(plan.query({"_id": 2}), []) == []
