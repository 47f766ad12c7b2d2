"""What can be said of collections, and how what several say is put together."""

from __future__ import annotations

from typing import Any

import pytest

from mongopatterns import (
    CascadeSpec,
    CollectionSpec,
    Index,
    JoinSpec,
    LoaderSpec,
    Many,
    QuotaSpec,
    SchemaSpec,
    SearchIndex,
    SlotsSpec,
    TimeSeries,
    UsageError,
    Validator,
    Window,
)

ANY = Validator({"a": 1})
USERS = QuotaSpec("c", path="q", key_field="a", windows=[Window.hour(1)])
SERIES = TimeSeries("ts", "meta")


def only(*specs: Any) -> CollectionSpec:
    (collection,) = SchemaSpec(specs).collections
    return collection


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"timeseries": SERIES, "validator": ANY}, "takes no validator="),
        ({"timeseries": SERIES, "capped_size": 5}, "takes no capped_size="),
        ({"timeseries": SERIES, "clustered": True}, "takes no clustered="),
        ({"timeseries": SERIES, "pre_and_post_images": False}, "takes no pre_and_post_images="),
        ({"timeseries": SERIES, "expire_after": 5}, "say expire_after= in TimeSeries"),
        ({"timeseries": SERIES, "indexes": [Index("a", unique=True)]}, "cannot be unique"),
        ({"timeseries": SERIES, "indexes": [Index.ttl("a")]}, "cannot delete"),
        ({"timeseries": SERIES, "indexes": [Index(("a", "text"))]}, "cannot hold text"),
        ({"timeseries": SERIES, "indexes": [Index(("a", "hashed"))]}, "'a' is measured"),
        ({"timeseries": SERIES, "indexes": [Index("$**")]}, "is measured"),
        ({"timeseries": SERIES, "indexes": [Index("meta.a", "b", sparse=True)]}, "cannot be sparse"),
        ({"timeseries": SERIES, "indexes": [Index("a", where={"b": None})]}, "cannot ask 'b'"),
        ({"timeseries": SERIES, "indexes": [Index("a", where={"$or": [{"b": {"$type": "int"}}]})]}, "cannot ask 'b'"),
        ({"timeseries": SERIES, "indexes": [Index("a", where={"ts": {"$gt": 1}})]}, "cannot ask 'ts'"),
        (
            {"timeseries": SERIES, "indexes": [Index("a", where={"$and": [{"meta.a": 1}, {"c": 1}], "b": None})]},
            "cannot ask 'b'",
        ),
        (
            {"timeseries": SERIES, "indexes": [Index("a", where={"b": 1}, collation={"locale": "en"})]},
            "a filter or a collation",
        ),
        ({"timeseries": SERIES, "indexes": [Index(("ts", "2dsphere"))]}, "'ts' is measured"),
        ({"expire_after": 5}, "use Index.ttl for another field"),
        ({"clustered": True, "expire_after": 0.5}, "whole seconds"),
        ({"capped_size": 5, "clustered": True}, "cannot be capped"),
        ({"capped_size": 5, "indexes": [Index.ttl("a")]}, "deletes the oldest, and nothing else"),
        ({"capped_max": 5}, "needs capped_size="),
        ({"capped_size": 0}, "greater than 0"),
        ({"validator": {"a": 1}}, r"expected Validator\(...\)"),
        ({"indexes": ["a"]}, r"expected Index\(...\)"),
        ({"indexes": "a"}, "expected a list of Index"),
        ({"collation": {}}, "locale"),
        ({"options": {"capped": True}}, "argument of its own"),
        ({"options": {"flags": 1}}, "leave it out"),
        ({"options": {"idIndex": {"key": {"_id": 1}, "name": "_id_"}}}, "leave it out"),
        ({"collation": {"locale": "en", "strength": None}}, "leave it out"),
        ({"search_indexes": [SearchIndex("a"), SearchIndex("a")]}, "two are named 'a'"),
        ({"indexes": [Index("a"), Index("a", unique=True)]}, "with and without the same unique"),
        ({"indexes": [Index("a"), Index.ttl("a")]}, "with and without the same expire_after"),
        ({"indexes": [Index("a", name="x"), Index("b", name="x")]}, "two are named 'x'"),
        ({"indexes": [Index("a", name="x"), Index("a", name="y")]}, "named 'x' and 'y'"),
        ({"indexes": [Index(("a", "text")), Index(("b", "text"))]}, "one index of text"),
    ],
)
def test_what_the_server_refuses(arguments: dict[str, Any], problem: str) -> None:
    """What the server refuses is refused when it is said, with the reason."""
    with pytest.raises(UsageError, match=problem):
        CollectionSpec("c", **arguments)


@pytest.mark.parametrize("name", ["", "system.views", "a$b", ".a", "a.", "a\0b", "\ud800", 1, None])
def test_names_that_are_not_yours(name: Any) -> None:
    """What is no name, or one of the server's own, is refused."""
    with pytest.raises(UsageError, match="collection"):
        CollectionSpec(name)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("a.b",), "top-level"),
        (("ts", "ts"), "of its own"),
        (("ts", "_id"), "of its own"),
        (("ts", "m", "days"), "'seconds', 'minutes' or 'hours'"),
        (("ts", "m", "hours", -1), "whole seconds"),
    ],
)
def test_time_series_that_are_none(arguments: tuple[Any, ...], problem: str) -> None:
    """What the server refuses of a time series is refused when it is said."""
    with pytest.raises(UsageError, match=problem):
        TimeSeries(*arguments)


@pytest.mark.parametrize(
    "arguments", [{"name": ""}, {"definition": []}, {"type": "vector"}], ids=lambda arguments: next(iter(arguments))
)
def test_search_indexes_that_are_none(arguments: Any) -> None:
    """A search index has a name, a definition and a type."""
    with pytest.raises(UsageError, match=f"SearchIndex.{next(iter(arguments))}"):
        SearchIndex(**arguments)


def test_a_pattern_stands_for_its_indexes() -> None:
    """What patterns need is there once, where they need it, by whatever collection they name it."""
    spec = SchemaSpec(
        [
            QuotaSpec("users", path="quota", key_field="user_id", windows=[Window.hour(1)]),
            LoaderSpec("users", key_field="user_id"),
            SlotsSpec("streams", cap=3, ttl=30),
            CascadeSpec("questions", children=[("responses", "_id", "question_id")]),
            JoinSpec("questions", joins=[Many("responses", local="_id", foreign="question_id", as_="all")]),
        ]
    )
    found = {one.collection: one.indexes for one in spec.collections}
    assert found["users"] == (Index("user_id", unique=True),)
    assert found["responses"] == (Index("question_id"),)
    assert Index("owner", "slot", unique=True) in found["streams"]


def test_what_is_needed_is_served_by_what_is_said() -> None:
    """An index that begins with the keys of a need serves it, if it has all documents; else the need stands."""
    need = LoaderSpec("c", key_field="a")
    assert only(need, CollectionSpec("c", indexes=[Index("a", "b")])).indexes == (Index("a", "b"),)
    assert only(CollectionSpec("c", indexes=[Index("a", unique=True)]), need).indexes == (Index("a", unique=True),)
    for index in (Index("b", "a"), Index("a", "b", sparse=True), Index("a", "b", collation={"locale": "en"})):
        assert only(CollectionSpec("c", indexes=[index]), need).indexes == (index, Index("a"))


def test_what_several_say_is_put_together() -> None:
    """Of one collection each says a part; what is said twice is there once, under the name that one of them gives."""
    found = only(
        CollectionSpec("c", indexes=[Index("a"), Index("a", where={"b": 1})], validator=ANY),
        CollectionSpec("c", indexes=[Index("a", name="mine")], pre_and_post_images=True, options={"x": 1}),
        CollectionSpec("c", capped_size=5),
    )
    assert found.indexes == (Index("a", name="mine"), Index("a", where={"b": 1}))
    assert (found.validator, found.pre_and_post_images, found.options) == (ANY, True, {"x": 1})
    assert (found.clustered, found.capped_size) == (False, 5)


@pytest.mark.parametrize(
    ("one", "other", "problem"),
    [
        (
            CollectionSpec("c", validator=ANY),
            CollectionSpec("c", validator=Validator({"a": 2})),
            "two values of validator",
        ),
        (CollectionSpec("c", timeseries=SERIES), CollectionSpec("c", validator=ANY), "takes no validator="),
        (CollectionSpec("c", timeseries=SERIES), LoaderSpec("c", key_field="a"), None),
        (
            CollectionSpec("c", timeseries=SERIES),
            QuotaSpec("c", path="q", key_field="a", windows=[Window.hour(1)]),
            "unique",
        ),
        (CollectionSpec("c", indexes=[Index("a")]), CollectionSpec("c", indexes=[Index("a", sparse=True)]), "sparse"),
        (CollectionSpec("c", options={"x": 1}), CollectionSpec("c", options={"x": 2}), "two values of x"),
    ],
)
def test_contradictions(one: Any, other: Any, problem: str | None) -> None:
    """What two say of one collection and what cannot both be is refused when they are put together."""
    if problem is None:
        assert len(SchemaSpec([one, other]).collections) == 1
        return
    with pytest.raises(UsageError, match=problem):
        SchemaSpec([one, other])


@pytest.mark.parametrize("where", [{"$and": {"a": 1}}, {"$or": []}, {"$or": [{"$and": "a"}]}])
def test_a_filter_whose_terms_are_no_list(where: Any) -> None:
    """What is to be put together by $and and $or is a list of filters."""
    with pytest.raises(UsageError, match=r"Index.where: \$(and|or) takes a list of filters"):
        Index("a", where=where)


@pytest.mark.parametrize("specs", ["users", [1], [CollectionSpec], {"a": 1}, 5, [Index("a")]])
def test_what_is_no_spec(specs: Any) -> None:
    """Whatever has no collection and no indexes is refused."""
    with pytest.raises(UsageError, match="specs"):
        SchemaSpec(specs)
