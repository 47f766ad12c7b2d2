"""What can be said of an index, and what is refused when it is said."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from mongopatterns import Index, UsageError


def test_what_create_index_takes() -> None:
    """Keys and options are those of the drivers' `create_index`, and only what was said."""
    index = Index(
        ("p", -1), ("a", "text"), weights={"a": 5}, default_language="german", hidden=True, where={"b": 1}, name="mine"
    )
    assert index.keys == (("p", -1), ("a", "text"))
    assert index.options == {
        "name": "mine",
        "partialFilterExpression": {"b": 1},
        "hidden": True,
        "weights": {"a": 5},
        "default_language": "german",
    }
    assert Index("$**", projection={"a": 0, "_id": 1}).options == {"wildcardProjection": {"a": 0, "_id": 1}}
    assert Index("a", sparse=True).options == {"sparse": True}
    assert (index.is_text, index.is_wildcard, Index("a.$**").is_wildcard) == (True, False, True)


@pytest.mark.parametrize("after", [3600, 3600.0, dt.timedelta(hours=1)])
def test_expiry_is_whole_seconds(after: Any) -> None:
    """Seconds and timedeltas say the same."""
    index = Index.ttl("at", after=after, where={"kind": "guest"}, name="gone")
    assert index.options == {
        "name": "gone",
        "expireAfterSeconds": 3600,
        "partialFilterExpression": {"kind": "guest"},
    }


@pytest.mark.parametrize("after", [-1, 0.5, True, 2**31, "5", dt.timedelta(milliseconds=1), float("nan"), None])
def test_expiry_that_is_none(after: Any) -> None:
    """What the server has no place for is refused."""
    with pytest.raises(UsageError, match="whole seconds"):
        Index.ttl("at", after=after)


@pytest.mark.parametrize(
    ("keys", "options", "problem"),
    [
        ((), {}, "at least one"),
        ((1,), {}, "expected a path or a pair"),
        ((("a", 2),), {}, "not 2"),
        ((("a", True),), {}, "not True"),
        ((("a", 1.0),), {}, "not 1.0"),
        ((("a", "2d"),), {}, "not '2d'"),
        (("a..b",), {}, "empty part"),
        (("$a",), {}, "begins with"),
        (("a", ("a", -1)), {}, "named twice"),
        (tuple(f"a{number}" for number in range(33)), {}, "at most 32"),
        (("_id",), {}, "every collection has this"),
        ((("_id", -1),), {}, "both directions"),
        ((("a", "hashed"),), {"unique": True}, "a hash cannot"),
        ((("a", "hashed"), ("b", "hashed")), {}, "one key at most is hashed"),
        ((("a", "hashed"), ("b", "text")), {}, "cannot be in one index"),
        (("a",), {"sparse": True, "where": {"a": 1}}, "cannot be combined"),
        (("$**",), {"unique": True}, "keep values unique"),
        (("$**",), {"sparse": True}, "by itself"),
        (("$**", "a"), {}, "no other keys"),
        ((("$**", -1),), {}, "ascending"),
        (("a.$**",), {"projection": {"a": 1}}, "alone"),
        ((("$**", "text"),), {"projection": {"a": 1}}, "alone"),
        (("$**",), {"projection": {"a": 1, "b": 0}}, "no mixture"),
        (("$**",), {"projection": {}}, "dict of paths"),
        (("$**",), {"projection": {"a": True}}, "1 or 0"),
        (("a",), {"projection": {"a": 1}}, "'[$][*][*]' alone"),
        ((("a", "text"), "b", ("c", "text")), {}, "next to each other"),
        ((("a", "text"),), {"weights": {"b": 2}}, "names b"),
        ((("a", "text"),), {"weights": {"a": 0}}, "from 1 to 99999"),
        ((("a", "text"),), {"weights": {"a": 1.5}}, "whole number"),
        ((("a", "text"),), {"collation": {"locale": "en"}}, "no collation"),
        ((("a", "text"),), {"sparse": True}, "by itself"),
        ((("a", "2dsphere"),), {"sparse": True}, "by itself"),
        (("a",), {"weights": {"a": 2}}, "keys of text"),
        (("a",), {"default_language": "german"}, "keys of text"),
        (("a",), {"unique": 1}, "True or False"),
        (("a",), {"name": ""}, "expected text"),
        (("a",), {"name": "*"}, "server's own"),
        (("a",), {"collation": {"strength": 2}}, "locale"),
        (("a",), {"where": {}}, "expected a filter"),
        (("a",), {"where": {"a": {"$ne": 1}}}, "[$]ne cannot say"),
        (("a",), {"where": {"$or": [{"a": 1}, {"a": {"$regex": "x"}}]}}, "[$]regex cannot say"),
        (("a",), {"where": {"$nor": [{"a": 1}]}}, "[$]nor cannot say"),
        (("a",), {"where": {"a": {"$exists": False}}}, "covers missing and null"),
    ],
)
def test_what_the_server_refuses(keys: tuple[Any, ...], options: dict[str, Any], problem: str) -> None:
    """Each combination that the server refuses is refused at once, with the reason."""
    with pytest.raises(UsageError, match=problem):
        Index(*keys, **options)


def test_printed_as_written() -> None:
    """Its repr is what makes an equal index; its text leaves the options out."""
    indexes = [
        Index("a", ("b", -1), unique=True, where={"a": {"$gt": 1}}, collation={"locale": "en"}, name="x"),
        Index.ttl("at", after=0),
        Index.ttl("at", after=5, where={"a": 1}),
        Index(("a", "text"), weights={"a": 2}, default_language="none", hidden=True),
        Index("$**", projection={"a": 1}),
    ]
    for index in indexes:
        assert eval(repr(index)) == index
    assert repr(indexes[1]) == "Index.ttl('at', after=0)"
    assert str(indexes[0]) == "Index('a', ('b', -1))"


def test_ttl_of_what_cannot_expire() -> None:
    """The server deletes nothing by _id, and nothing by all paths."""
    for path in ("_id", "$**", "a.$**"):
        with pytest.raises(UsageError, match="deletes nothing"):
            Index.ttl(path)


def test_an_index_is_a_value() -> None:
    """What a caller changes later in what it gave is not changed in the index; equal ones are equal, and hashable."""
    where = {"a": {"$gt": 1}}
    index = Index("a", where=where)
    where["a"]["$gt"] = 2
    assert index.where == {"a": {"$gt": 1}}
    assert {index, Index("a", where={"a": {"$gt": 1}})} == {index}
    assert Index("a") != Index("a", name="a")
