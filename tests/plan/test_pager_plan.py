"""How pages are read, step by step, without a server: what is asked, what is sent, and which cursors come of it."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import replace
from typing import Any

import pytest
from bson import Code, MinKey, ObjectId, Regex, UuidRepresentation
from bson.codec_options import CodecOptions
from hypothesis import given
from hypothesis import strategies as st
from pymongo.errors import OperationFailure

from mongopatterns import CountOf, Index, InvalidCursor, Many, One, PagerSpec, Param, StateError, UsageError
from mongopatterns.commands import Read
from mongopatterns.paging._cursors import Position
from mongopatterns.paging._pager_plan import PageQuery, PagerPlan

UTC = dt.timezone.utc
OPTIONS: CodecOptions[Any] = CodecOptions(tz_aware=True, uuid_representation=UuidRepresentation.STANDARD)
SIMPLE = {"locale": "simple"}
SEALED = "a secret of more than sixteen bytes"
NOTHING: dict[str, Any] = {"$nor": [{}]}


def plan(sort: Any = (("at", -1),), *, secret: Any = None, **options: Any) -> PagerPlan:
    spec = PagerSpec("messages", sort=sort, **{"limit": 2, **options})
    return PagerPlan(spec, secret=secret, codec_options=OPTIONS)


def run(plan_: PagerPlan, call: Any, *answers: list[Any]) -> tuple[list[Read], Any]:
    """Answer the reads of a call in turn; return them, and what came of it."""
    reads: list[Read] = []
    left = list(answers)
    answer = None
    while read := plan_.again(call, answer):
        reads.append(read)
        answer = left.pop(0)
    assert left == []
    return reads, call.result


def page(plan_: PagerPlan, *answers: list[Any], in_turn: bool = False, **query: Any) -> tuple[list[Read], Any]:
    call = plan_.find(plan_.query(query.pop("filter", None), **query), in_turn=in_turn)
    return run(plan_, call, *answers)


def rows(*numbers: int, **more: Any) -> list[dict[str, Any]]:
    return [{"_id": number, "at": number * 10, **more} for number in numbers]


def sent(reads: list[Read]) -> dict[str, Any]:
    """Return the arguments of the only read."""
    [read] = reads
    return read.arguments


def at(plan_: PagerPlan, where: Any = None, *values: Any, backward: bool = False) -> PageQuery:
    """Ask for what is beside a position."""
    return replace(plan_.query(where), position=Position(values, backward))


def filters(plan_: PagerPlan, query: PageQuery) -> Any:
    """Return what is sent first as the filter of a page."""
    reads, _ = run(plan_, plan_.find(query), [])
    return sent(reads)["filter"]


def up(path: str, value: Any) -> Any:
    """Build what is tried first for what comes after a value."""
    return {path: {"$not": {"$lte": value}}}


def down(path: str, value: Any) -> Any:
    return {path: {"$not": {"$gte": value}}}


def eq(path: str, value: Any) -> Any:
    return {path: {"$eq": value}}


def gt(path: str, value: Any) -> Any:
    return {"$expr": {"$gt": [f"${path}", value]}}


# What is sent ----------------------------------------------------------------------------------------------------


def test_the_first_page_is_a_find() -> None:
    """One more than the page, in the order in full, by the characters of text, in one answer."""
    reads, found = page(plan(), rows(3, 2, 1), filter={"party": "p"})
    [read] = reads
    assert (read.collection, read.method, read.apart) == ("messages", "find", False)
    assert read.arguments == {
        "filter": {"party": "p"},
        "sort": [("at", -1), ("_id", -1)],
        "limit": 3,
        "collation": SIMPLE,
        "comment": "mongopatterns.pager.page",
        "batch_size": 2**31 - 1,
    }
    assert found.items == rows(3, 2)


def test_the_next_page_begins_behind_the_last_row() -> None:
    """The filter of the call stands beside it; the order stays."""
    plan_ = plan([("at", 1)])
    _, first = page(plan_, rows(1, 2, 3), filter={"party": {"$gt": 0}})
    reads, _ = page(plan_, [], filter={"party": {"$gt": 0}}, cursor=first.next)
    assert sent(reads)["filter"] == {
        "party": {"$gt": 0},
        "$or": [up("at", 20), eq("at", 20) | up("_id", 2)],
    }
    assert sent(reads)["sort"] == [("at", 1), ("_id", 1)]


def test_the_page_before_is_read_backwards() -> None:
    """The order is turned round for the server, and the rows are turned round again."""
    plan_ = plan([("at", 1)])
    _, first = page(plan_, rows(1, 2, 3))
    _, second = page(plan_, rows(3, 4, 5), cursor=first.next)
    reads, back = page(plan_, rows(2, 1), cursor=second.previous)
    assert sent(reads)["sort"] == [("at", -1), ("_id", -1)]
    assert back.items == rows(1, 2)
    assert back.previous is None
    assert back.next is not None


def test_paths_that_the_filter_compares_decide_nothing() -> None:
    """A sort key that has one value in all rows is left out of what comes after; so is all of it if nothing is left."""
    plan_ = plan([("kind", 1), ("at", 1)])
    where = {"kind": "x"}
    assert filters(plan_, at(plan_, where, "x", 5, 1)) == {**where, "$or": [up("at", 5), eq("at", 5) | up("_id", 1)]}
    assert filters(plan_, at(plan_, where, "x", None, 1)) == {
        "$or": [{"$and": [where, eq("at", None), gt("_id", 1)]}, {"$and": [where, gt("at", None)]}]
    }
    both = {"$and": [{"kind": "x"}, {"at": 5}]}
    assert filters(plan_, at(plan_, both, "x", 5, 1)) == {**both, "$or": [up("_id", 1)]}
    assert filters(plan_, at(plan_, {"kind": "x", "at": 5, "_id": 1}, "x", 5, 1)) == NOTHING
    ranged = {"kind": {"$gte": "x"}}
    assert len(filters(plan_, at(plan_, ranged, "x", 5, 1))["$or"]) == 3


@pytest.mark.parametrize(
    ("first", "reads"),
    [
        ({"_id": 9, "at": 20}, 1),
        ({"_id": 9, "at": 20.5}, 1),
        ({"_id": "a", "at": 21}, 1),
        ({"_id": "a", "at": 20}, 2),
        ({"_id": 9, "at": None}, 2),
        ({"_id": 9}, 2),
        ({"_id": 9, "at": "text"}, 2),
        ({"_id": 9, "at": float("nan")}, 2),
    ],
)
def test_the_first_document_tells_whether_the_page_is_right(first: Any, reads: int) -> None:
    """If a sort key of it has another type, it may lie before the position: then it is asked exactly."""
    plan_ = plan([("at", 1)])
    exact = {"$or": [{"$and": [eq("at", 20), gt("_id", 2)]}, {"$and": [gt("at", 20)]}]}
    made, found = run(plan_, plan_.find(at(plan_, None, 20, 2)), *[[first]] * reads)
    quick = {"$or": [up("at", 20), eq("at", 20) | up("_id", 2)]}
    assert [read.arguments["filter"] for read in made] == [quick, exact][:reads]
    assert found.items == [first]


def test_a_filter_with_an_or_of_its_own_stays_apart() -> None:
    """The one of the position does not take its place."""
    plan_ = plan([("at", -1)])
    own = {"$or": [{"x": 1}, {"y": 1}]}
    assert filters(plan_, at(plan_, own, 5, 1)) == {
        "$and": [own, {"$or": [down("at", 5), eq("at", 5) | down("_id", 1)]}]
    }


def test_text_search_is_asked_once() -> None:
    """A `$text` stands beside the `$or`, where the server allows it."""
    plan_ = plan([("at", 1)])
    where = {"$text": {"$search": "tea"}}
    found = filters(plan_, at(plan_, where, 5, 1))
    assert found == {"$and": [where, {"$or": [{"$and": [eq("at", 5), gt("_id", 1)]}, {"$and": [gt("at", 5)]}]}]}


def test_parts_that_do_not_merge_are_read_one_after_the_other() -> None:
    """With null before the last two keys, one `$unionWith` for each part; in a transaction, a command for each."""
    plan_ = plan([("a", 1), ("b", 1)], source=[])
    query = at(plan_, {"x": 1}, None, 2, 3)
    reads, _ = run(plan_, plan_.find(query), [])
    [read] = reads
    assert (read.method, read.arguments["collation"]) == ("aggregate", SIMPLE)
    first, sort, limit, *others = read.arguments["pipeline"]
    parts = [
        {"$and": [{"x": 1}, eq("a", None), eq("b", 2), gt("_id", 3)]},
        {"$and": [{"x": 1}, eq("a", None), gt("b", 2)]},
        {"$and": [{"x": 1}, gt("a", None)]},
    ]
    within = [{"$sort": {"a": 1, "b": 1, "_id": 1}}, {"$limit": 3}]
    assert [first, sort, limit] == [{"$match": parts[0]}, *within]
    unions = [{"$unionWith": {"coll": "messages", "pipeline": [{"$match": each}, *within]}} for each in parts[1:]]
    assert others == [*unions, *within]

    one, two = ({"_id": number, "b": number} for number in (4, 5))
    reads, found = run(plan_, plan_.find(query, in_turn=True), [one], [two], [{"_id": 6, "a": 1}])
    assert [read.method for read in reads] == ["find"] * 3
    assert [read.arguments["filter"] for read in reads] == parts
    assert [read.arguments["limit"] for read in reads] == [3, 2, 1]
    assert (found.items, found.next is not None) == ([one, two], True)
    reads, _ = run(plan_, plan_.find(query, in_turn=True), [one, two, {"_id": 7}])
    assert len(reads) == 1, "the page is full"


def test_a_source_comes_first() -> None:
    """Stages of one's own make the rows, and the filter, the place and the order come behind them."""
    source = [{"$group": {"_id": "$by", "at": {"$sum": 1}}}]
    plan_ = plan([("at", 1)], source=source, fields=["at"])
    reads, _ = run(plan_, plan_.find(at(plan_, {"at": {"$gt": 1}}, 5, "ann")), [])
    [read] = reads
    assert read.method == "aggregate"
    first, match, *rest = read.arguments["pipeline"]
    assert [first] == source
    assert match["$match"] == {"at": {"$gt": 1}, "$or": [up("at", 5), eq("at", 5) | up("_id", "ann")]}
    assert rest == [{"$sort": {"at": 1, "_id": 1}}, {"$limit": 3}, {"$project": {"_id": 1, "at": 1}}]


def test_the_collation_is_always_said() -> None:
    """A collation of the definition is sent; without one, text is compared by its characters."""
    german = {"locale": "de", "strength": 2}
    reads, _ = page(plan(collation=german), [])
    assert sent(reads)["collation"] == german


def test_sort_keys_are_read_beside_the_fields() -> None:
    """What is not given is fetched under a name of our own, and taken away again; cursors are made of it."""
    plan_ = plan([("n.x", 1)], fields=["text"])
    answer = [{"_id": number, "text": "t", "_mongopatterns": {"v0": number}} for number in (1, 2, 3)]
    reads, found = page(plan_, answer)
    assert sent(reads)["projection"] == {"_id": 1, "text": 1, "_mongopatterns": {"v0": "$n.x"}}
    assert found.items == [{"_id": 1, "text": "t"}, {"_id": 2, "text": "t"}]
    assert filters(plan_, plan_.query(None, cursor=found.next))["$or"][0] == up("n.x", 2)


@pytest.mark.parametrize(
    ("fields", "projection"),
    [
        (["at"], {"_id": 1, "at": 1}),
        ({"at": 1, "_id": 0}, {"_id": 0, "at": 1, "_mongopatterns": {"v0": "$_id"}}),
        ({"_id": 1}, {"_id": 1, "_mongopatterns": {"v0": "$at"}}),
    ],
)
def test_fields_of_a_call(fields: Any, projection: Any) -> None:
    """They take the place of those of the definition."""
    reads, _ = page(plan(fields=["text"]), [], fields=fields)
    assert sent(reads)["projection"] == projection


def test_joins_are_asked_for_the_page() -> None:
    """A join is one read with the keys of the page's rows, and not of the one more."""
    joins = [
        One("users", local="by", foreign="_id", as_="by", where={"ok": Param("ok")}),
        CountOf("votes", local="_id", foreign="m"),
    ]
    plan_ = plan([("by", 1)], joins=joins, fields=["by"])
    assert plan_.joined == ["users", "votes"]
    reads, found = page(
        plan_,
        [{"_id": number, "by": number * 10} for number in (1, 2, 3)],
        [{"_id": 10, "ok": 1}],
        [{"_id": 2, "n": 7}],
        params={"ok": {"$ne": 1}},
    )
    assert [(read.collection, read.method) for read in reads] == [
        ("messages", "find"),
        ("users", "find"),
        ("votes", "aggregate"),
    ]
    assert reads[1].arguments["filter"] == {"_id": {"$in": [10, 20]}, "ok": {"$eq": {"$ne": 1}}}
    assert found.items == [{"_id": 1, "by": {"_id": 10, "ok": 1}, "votes": 0}, {"_id": 2, "by": None, "votes": 7}]
    # The cursor is made of the document's own key, whose place the join takes.
    where = filters(plan_, plan_.query(None, params={"ok": 1}, cursor=found.next))
    assert where["$or"][0] == up("by", 20)


# Cursors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "more"), [([], False), (rows(1), False), (rows(1, 2), False), (rows(1, 2, 3), True)]
)
def test_a_page_knows_what_is_behind_it(answer: Any, more: bool) -> None:
    """There is a next page if one row more was found, and nothing is before the first page."""
    _, found = page(plan([("at", 1)]), answer)
    assert (found.next is not None, found.previous) == (more, None)


def test_a_page_knows_what_is_before_it() -> None:
    """Before a page that a cursor led to there is where it came from; backwards, one row more tells."""
    plan_ = plan([("at", 1)])
    _, first = page(plan_, rows(1, 2, 3))
    _, second = page(plan_, rows(3, 4), cursor=first.next)
    assert (second.next, second.previous is not None) == (None, True)
    _, back = page(plan_, rows(2, 1, 0), cursor=second.previous)
    assert back.items == rows(1, 2)
    assert (back.next is not None, back.previous is not None) == (True, True)


def test_an_empty_page_leads_back_to_the_row_itself() -> None:
    """What a cursor led to is gone: the way back begins with the row that the cursor was made of."""
    plan_ = plan([("at", 1)])
    _, first = page(plan_, rows(1, 2, 3))
    _, empty = page(plan_, [], cursor=first.next)
    assert (empty.items, empty.next) == ([], None)
    query = plan_.query(None, cursor=empty.previous)
    assert query.position == Position((20, 2), backward=True, inclusive=True)
    assert filters(plan_, query)["$or"][-1] == eq("at", 20) | eq("_id", 2)
    _, back = page(plan_, rows(2, 1), cursor=empty.previous)
    assert back.items == rows(1, 2)
    _, before = page(plan_, [], cursor=back.next)  # (and forward there is still nothing)
    assert before.items == []

    _, second = page(plan_, rows(3, 4), cursor=first.next)
    _, nothing = page(plan_, [], cursor=second.previous)
    assert (nothing.items, nothing.previous) == ([], None)
    assert plan_.query(None, cursor=nothing.next).position == Position((30, 3), inclusive=True)


def test_reading_order_turns_the_rows_and_not_the_pages() -> None:
    """A page reads from its oldest row on, and the next page is still the older one."""
    plan_ = plan(reading_order=True)
    _, newest = page(plan_, rows(6, 5, 4))
    assert newest.items == rows(5, 6)
    assert plan_.query(None, cursor=newest.next).position == Position((50, 5))
    _, older = page(plan_, rows(4, 3), cursor=newest.next)
    assert older.items == rows(3, 4)
    reads, back = page(plan_, rows(5, 6), cursor=older.previous)
    assert sent(reads)["sort"] == [("at", 1), ("_id", 1)]
    assert back.items == rows(5, 6)
    _, walked = run(plan_, plan_.further(plan_.walk(None, params=None, batch=2, fields=None)), rows(6, 5))
    assert walked == rows(6, 5), "a stream keeps to the order"


@pytest.mark.parametrize(
    "other",
    [
        plan([("at", 1)]),
        plan([("at", -1), ("by", 1)]),
        plan(collation={"locale": "de"}),
        plan(source=[{"$match": {"a": 1}}]),
        PagerPlan(PagerSpec("other", sort=[("at", -1)])),
    ],
)
def test_a_cursor_is_of_one_definition(other: PagerPlan) -> None:
    """Another order, collation, source or collection does not take it; what is only given or joined may change."""
    _, first = page(plan(), rows(3, 2, 1))
    with pytest.raises(InvalidCursor) as caught:
        other.query(None, cursor=first.next)
    assert caught.value.reason == "filter"
    same = plan(
        limit=50, fields=["text"], reading_order=True, joins=[Many("tags", local="t", foreign="_id")], filter_by=["x"]
    )
    assert same.query(None, cursor=first.next).position == Position((20, 2))


def test_a_bound_collection_is_another_one() -> None:
    """A cursor belongs to the collection that is read, whatever the definition names."""
    one, other = (PagerPlan(plan().spec, name) for name in ("tenant_1", "tenant_2"))
    _, first = page(one, rows(3, 2, 1))
    assert one.query(None, cursor=first.next).position is not None
    with pytest.raises(InvalidCursor) as caught:
        other.query(None, cursor=first.next)
    assert caught.value.reason == "filter"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": {"$gt": 1, "$lt": 5}}, {"a": {"$lt": 5, "$gt": 1}}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, {"a": 1.0}, False),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, False),
        (None, {}, True),
        ({}, {"a": None}, False),
        ({"a": re.compile("^x")}, {"a": Regex("^x", re.UNICODE)}, True),
    ],
)
def test_a_cursor_is_of_one_filter(one: Any, other: Any, same: bool) -> None:
    """A filter with its names in another order is the same; one that may find others is not."""
    _, first = page(plan(), rows(3, 2, 1), filter=one)
    if same:
        assert plan().query(other, cursor=first.next).position == Position((20, 2))
    else:
        with pytest.raises(InvalidCursor) as caught:
            plan().query(other, cursor=first.next)
        assert caught.value.reason == "filter"


def test_a_cursor_of_a_secret() -> None:
    """It is refused without it, and another one is refused with it."""
    _, sealed = page(plan(secret=SEALED), rows(3, 2, 1))
    _, plain = page(plan(), rows(3, 2, 1))
    for secret, cursor in [(None, sealed.next), (SEALED, plain.next), (SEALED[::-1], sealed.next)]:
        with pytest.raises(InvalidCursor) as caught:
            plan(secret=secret).query(None, cursor=cursor)
        assert caught.value.reason == "signature"
    assert plan(secret=[SEALED[::-1], SEALED]).query(None, cursor=sealed.next).position is not None


@given(st.text(max_size=200) | st.binary(max_size=50) | st.integers() | st.lists(st.text()))
def test_what_is_no_cursor_is_refused(cursor: Any) -> None:
    """Whatever a client sends, it is a page's cursor or an InvalidCursor that names it."""
    with pytest.raises(InvalidCursor) as caught:
        plan().query(None, cursor=cursor)
    assert caught.value.argument == "cursor"


# What has no place -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [[1, 2], []])
def test_lists_have_no_place(held: Any) -> None:
    """A list in a sort key is an error that names row and key; what is beyond the page is not looked at."""
    answer = rows(3, 2, 1)
    answer[1]["at"] = held
    with pytest.raises(StateError) as caught:
        page(plan(), answer)
    assert (caught.value.key, caught.value.path) == (2, "at")
    _, found = page(plan(), [*rows(3, 2), {"_id": 1, "at": held}])
    assert len(found) == 2


def test_a_list_on_the_way_has_no_place() -> None:
    """A path that leads through a list has several values, and such a row is refused as well."""
    for n in ([{"x": 1}], [], [5]):
        with pytest.raises(StateError) as caught:
            page(plan([("n.x", 1)]), [{"_id": 7, "n": n}])
        assert (caught.value.key, caught.value.path) == (7, "n.x")


@pytest.mark.parametrize("id_", ["a", {"x": "a"}, {"x": [{"y": "a"}]}])
def test_ids_that_a_collation_may_take_for_one(id_: Any) -> None:
    """With a collation, an id that is text or holds text is refused; without one it is fine."""
    answer = [{"_id": id_, "at": 1}]
    assert page(plan(), answer)[1].items == answer
    with pytest.raises(StateError) as caught:
        page(plan(collation={"locale": "de"}), answer)
    assert (caught.value.key, caught.value.path) == (id_, "_id")
    assert len(page(plan(collation={"locale": "de"}), [{"_id": ObjectId(), "at": "x"}])[1]) == 1


def test_too_long_a_key_fits_into_no_cursor() -> None:
    """A page that ends there names the key; where no cursor is needed, it is given."""
    long = "x" * 10_000
    plan_ = plan([("a", 1), ("text", 1)])
    answer: list[Any] = [{"_id": number, "a": 1, "text": long} for number in (1, 2, 3)]
    with pytest.raises(StateError) as caught:
        page(plan_, answer)
    assert (caught.value.key, caught.value.path) == (2, "text")
    assert len(page(plan_, answer[:2])[1]) == 2
    walk = plan_.walk(None, params=None, batch=2, fields=None)
    assert len(run(plan_, plan_.further(walk), answer)[1]) == 2
    assert walk.query is not None


# What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"filter": "x"}, "filter"),
        ({"filter": [("a", 1)]}, "filter"),
        ({"filter": {"a": object()}}, "filter"),
        ({"filter": {"a": 2**64}}, "filter"),
        ({"filter": {1: 2}}, "filter"),
        ({"filter": {"at": {"$near": [0, 0]}}}, "filter"),
        ({"filter": {"$or": [{"$and": [{"at": {"$nearSphere": [0, 0]}}]}]}}, "filter"),
        ({"filter": {"$where": "true"}}, "filter"),
        ({"filter": {"$and": [{"$where": Code("true")}]}}, "filter"),
        ({"limit": 0}, "limit"),
        ({"limit": -5}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"limit": False}, "limit"),
        ({"limit": "7"}, "limit"),
        ({"fields": "text"}, "fields"),
        ({"fields": {"text": 0}}, "fields"),
        ({"params": {"me": 1}}, "params"),
        ({"cursor": ""}, "cursor"),
        ({"cursor": 7}, "cursor"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], named: str) -> None:
    """Each names itself."""
    with pytest.raises(UsageError) as caught:
        plan().query(arguments.pop("filter", None), **arguments)
    assert caught.value.argument == named


@pytest.mark.parametrize("where", [{"$and": None}, {"$and": [5]}, {"$or": {"a": 1}}, {"a": {}}, {"$and": "x"}])
def test_malformed_filters_are_left_to_the_server(where: Any) -> None:
    """What is no filter to the server is no crash of ours."""
    plan_ = plan()
    reads, _ = page(plan_, [], filter=where)
    assert sent(reads)["filter"] == where
    assert plan_.unserved(plan_.query(where), []) != []


def test_text_search_stands_before_all_stages() -> None:
    """With a source, `$text` belongs into it."""
    with pytest.raises(UsageError, match="source"):
        plan(source=[{"$match": {}}]).query({"$text": {"$search": "x"}})


def test_joins_get_all_their_values() -> None:
    """A `Param` without a value is told before anything is sent, and so is a value that would be run."""
    joins = [One("users", local="by", foreign="_id", where={"ok": {"$in": Param("ok")}})]
    for params in (None, {}, {"no": 1}, {"ok": [1], "no": 2}, 5, {"ok": 5}):
        with pytest.raises(UsageError) as caught:
            plan(joins=joins).query(None, params=params)
        assert caught.value.argument == "params"


def test_a_batch_is_named_as_such() -> None:
    """The length of a stream's batches is checked under its own name."""
    for batch in (0, 10_001, None):
        with pytest.raises(UsageError) as caught:
            plan().walk(None, params=None, batch=batch, fields=None)
        assert caught.value.argument == "batch"


def test_a_source_that_cannot_be_sent_is_refused() -> None:
    """It is looked at when the pager is made."""
    with pytest.raises(UsageError, match="source"):
        plan(source=[{"$match": {"a": object()}}])


# Streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_reads_on_until_nothing_is_left() -> None:
    """Each batch begins behind the last row of the one before; a batch that finds no more row is the last."""
    plan_ = plan([("at", 1)], limit=7)
    walk = plan_.walk({"x": 1}, params=None, batch=2, fields=None)
    reads, found = run(plan_, plan_.further(walk), rows(1, 2, 3))
    assert (sent(reads)["limit"], found) == (3, rows(1, 2))
    reads, found = run(plan_, plan_.further(walk), rows(3, 4))
    assert sent(reads)["filter"] == {"x": 1, "$or": [up("at", 20), eq("at", 20) | up("_id", 2)]}
    assert found == rows(3, 4)
    assert run(plan_, plan_.further(walk)) == ([], [])


# Stages ----------------------------------------------------------------------------------------------------------


def test_stages_are_the_page_of_a_pipeline() -> None:
    """They find, sort and cut; what they give makes the same page as a find does."""
    plan_ = plan([("at", 1)], fields=["text"])
    query = plan_.query({"x": 1})
    project = {"$project": {"_id": 1, "text": 1, "_mongopatterns": {"v0": "$at"}}}
    order = {"$sort": {"at": 1, "_id": 1}}
    assert plan_.stages(query) == [{"$match": {"x": 1}}, order, {"$limit": 3}, project]
    answer = [{"_id": number, "text": "t", "_mongopatterns": {"v0": number * 10}} for number in (1, 2, 3)]
    found = plan_.page(query, answer)
    assert found.items == [{"_id": 1, "text": "t"}, {"_id": 2, "text": "t"}]
    after = plan_.query({"x": 1}, cursor=found.next)
    assert after.position == Position((20, 2))
    match, *rest = plan_.stages(after)
    parts = [[{"x": 1}, eq("at", 20), gt("_id", 2)], [{"x": 1}, gt("at", 20)]]
    assert match == {"$match": {"$or": [{"$and": part} for part in parts]}}  # (nobody could ask again)
    assert rest == [order, {"$limit": 3}, project]
    assert plan([("at", 1)]).stages(plan([("at", 1)]).query(None)) == [order, {"$limit": 3}]


def test_stages_join_behind_the_cut() -> None:
    """Joins are looked up for the rows of the page; sort keys are kept beside them."""
    plan_ = plan([("by", 1)], joins=[One("users", local="by", foreign="_id", as_="by")])
    names = [next(iter(stage)) for stage in plan_.stages(plan_.query(None))]
    assert names == ["$sort", "$limit", "$set", "$set", "$lookup", "$set", "$unset"]
    answer = [{"_id": n, "by": {"_id": n}, "_mongopatterns": {"v0": n, "v1": n}} for n in (1, 2, 3)]
    found = plan_.page(plan_.query(None), answer)
    assert found.items == [{"_id": 1, "by": {"_id": 1}}, {"_id": 2, "by": {"_id": 2}}]
    assert plan_.query(None, cursor=found.next).position == Position((2, 2))


# Indexes ---------------------------------------------------------------------------------------------------------


def index(*keys: tuple[str, Any], **options: Any) -> dict[str, Any]:
    return {"name": "it", "key": dict(keys), **options}


ON_ID = {"name": "_id_", "key": {"_id": 1}}
WANTED = index(("party", 1), ("at", -1), ("_id", -1))


@pytest.mark.parametrize(
    ("found", "where", "served"),
    [
        (WANTED, {"party": 1}, True),
        (index(("party", 1), ("at", 1), ("_id", 1)), {"party": 1}, True),
        (index(("party", -1), ("at", -1), ("_id", -1), ("more", 1)), {"party": 1}, True),
        (index(("party", 1), ("kind", 1), ("at", -1), ("_id", -1)), {"party": 1, "kind": 2}, True),
        (index(("party", 1), ("kind", 1), ("at", -1), ("_id", -1)), {"party": 1}, False),
        (index(("party", 1), ("at", -1), ("_id", 1)), {"party": 1}, False),
        (index(("party", 1), ("at", -1)), {"party": 1}, False),
        (index(("at", -1), ("_id", -1)), {}, True),
        (index(("at", -1), ("_id", -1)), {"party": 1}, False),
        (WANTED, {"party": {"$gt": 1}}, False),
        (WANTED, {}, False),
        ({**WANTED, "sparse": True}, {"party": 1}, False),
        ({**WANTED, "hidden": True}, {"party": 1}, False),
        ({**WANTED, "partialFilterExpression": {"a": 1}}, {"party": 1}, False),
        ({**WANTED, "collation": {"locale": "de", "strength": 3}}, {"party": 1}, False),
        (index(("$**", 1)), {"party": 1}, False),
        (index(("party", 1.0), ("at", -1.0), ("_id", -1.0), unique=True), {"party": 1}, True),
        ({**WANTED, "collation": SIMPLE}, {"party": 1}, True),
        (index(("at", -1), ("party", 1), ("_id", -1)), {"party": 1}, False),
        (index(("party", "hashed"), ("at", -1)), {"party": 1}, False),
        (index(("party", 1), ("at", "hashed")), {"party": 1}, False),
    ],
)
def test_which_indexes_serve_a_page(found: Any, where: Any, served: bool) -> None:
    """One that gives the order in full, in either direction, behind paths that the filter compares with one value."""
    plan_ = plan(filter_by=["party"])
    query = plan_.query(where)
    _, told = run(plan_, plan_.explain(query), [ON_ID, found])
    assert told.served_by == ("it" if served else None)
    assert [finding.code for finding in told.findings] == ([] if served else ["missing-index"])
    assert plan_.unserved(query, [ON_ID, found]) == list(told.findings)


def test_an_index_compares_as_the_pages_do() -> None:
    """An index of another collation serves nothing; what a collation does not say is the server's default."""
    plan_ = plan([("a", 1)], collation={"locale": "de", "strength": 3})
    full = {"locale": "de", "strength": 3, "caseLevel": False, "numericOrdering": False, "version": "57.1"}
    for collation, serves in ((full, True), ({**full, "strength": 2}, False), ({**full, "locale": "en"}, False)):
        there = index(("a", 1), ("_id", 1), collation=collation)
        assert (plan_.unserved(plan_.query(None), [there]) == []) is serves
    assert plan_.unserved(plan_.query(None), [index(("a", 1), ("_id", 1))]) != []


def test_the_remedy_fits_the_call() -> None:
    """What is suggested serves the filter of this call, and not that of another."""
    plan_ = plan(filter_by=["party"])
    [finding] = plan_.unserved(plan_.query({"room": 1, "party": 2}), [])
    assert finding.remedy == "Create Index('party', 'room', ('at', -1), ('_id', -1))"
    [finding] = plan_.unserved(plan_.query({"party": {"$gt": 2}}), [])
    assert finding.remedy == "Create Index(('at', -1), ('_id', -1))"
    assert plan_.unserved(plan_.query({"_id": 2}), []) == []


def test_what_is_suggested() -> None:
    """The index for this filter: what it compares with one value, then the order in full."""
    plan_ = plan([("at", -1), ("by", 1)], filter_by=["party"])
    _, told = run(plan_, plan_.explain(plan_.query({"kind": 1, "party": {"$eq": 5}, "n": {"$gt": 5}})), [ON_ID])
    assert told.index == Index("party", "kind", ("at", -1), "by", "_id")
    assert told.command[:2] == ("messages", "find")
    [finding] = told.findings
    assert (finding.code, finding.subject) == ("missing-index", "messages.at")
    assert "Index('party', 'kind', ('at', -1), 'by', '_id')" in finding.remedy


def test_what_needs_no_index() -> None:
    """By the id alone every collection has one; of a source, and of what nobody may know, nothing is said."""
    by_id = plan([("_id", 1)])
    _, told = run(by_id, by_id.explain(by_id.query(None)), [ON_ID])
    assert (told.index, told.findings) == (None, ())
    sourced = plan(source=[{"$match": {}}])
    _, told = run(sourced, sourced.explain(sourced.query(None)), [ON_ID])
    assert (told.index, told.served_by, told.findings) == (None, None, ())
    _, told = run(plan(), plan().explain(plan().query(None)), [])
    assert (told.served_by, told.findings) == (None, ())


def test_who_may_not_list_indexes() -> None:
    """What nobody may tell about a collection is no error; anything else that the server says is."""
    plan_ = plan()
    call = plan_.explain(plan_.query(None))
    read = plan_.again(call, None)
    assert read is not None
    assert (read.method, read.apart) == ("list_indexes", True)
    plan_.refused(read, OperationFailure("no", 13))
    with pytest.raises(OperationFailure):
        plan_.refused(read, OperationFailure("no", 50))
    with pytest.raises(OperationFailure):
        plan_.refused(replace(read, apart=False), OperationFailure("no", 13))


def test_the_least_value_has_nothing_before_it() -> None:
    """Behind the last of all values there is nothing to look for."""
    plan_ = plan([("_id", -1)])
    assert filters(plan_, at(plan_, None, MinKey())) == NOTHING
