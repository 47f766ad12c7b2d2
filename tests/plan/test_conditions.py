"""Filters as conditions, without a server: what is refused, what is built, and that values stay data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from bson import Code, Decimal128, ObjectId, Regex, encode
from bson.timestamp import Timestamp

from mongopatterns import UsageError
from mongopatterns.conditions import check_condition, condition
from mongopatterns.filters import Param, Where


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ({"a": re.compile("x")}, "a pattern"),
        ({"a": Regex("x")}, "a pattern"),
        ({"a": {"$regex": "x"}}, "$regex"),
        ({"a": {"$in": [1, re.compile("x")]}}, "a pattern within $in"),
        ({"a": {"$nin": [Regex("x")]}}, "a pattern within $nin"),
        ({"a": {"$not": re.compile("x")}}, "$not of something else than operators"),
        ({"a": {"$not": {"b": 1}}}, "$not of something else than operators"),
        ({"a": {"$not": {}}}, "$not of something else than operators"),
        ({"a": {"$not": {"$size": 1}}}, "$size"),
        ({"a": {"$elemMatch": {"b": 1}}}, "$elemMatch"),
        ({"a": {"$gt": 1, "$size": 1}}, "$size"),
        ({"a": {"$type": "string"}}, "$type"),
        ({"a": {"$mod": [2, 0]}}, "$mod"),
        ({"a": {"$all": [1]}}, "$all"),
        ({"a": {"$geoWithin": {}}}, "$geoWithin"),
        ({"a": {"$gt": 1, "b": 1}}, "b"),
        ({"a": {"$gt": Code("f", {"x": 1})}}, "$gt with a Code"),
        ({"$comment": "x"}, "$comment"),
        ({"$jsonSchema": {}}, "$jsonSchema"),
        ({"$or": [{"a": 1}, {"$and": [{"a": {"$size": 1}}]}]}, "$size"),
    ],
)
def test_what_cannot_be_a_condition_is_named_with_the_remedy(where: dict[str, Any], named: str) -> None:
    """Whatever has no exact expression is refused when the measure is defined."""
    with pytest.raises(UsageError, match=re.escape(f"{named} cannot be a condition")) as caught:
        check_condition("Sum.where", Where(where))
    assert caught.value.argument == "Sum.where"
    assert "give the branch a where= instead, which is a filter of its own" in str(caught.value)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"a.0": 1}, "digits"),
        ({"a.0.b": {"$exists": True}}, "digits"),
        ({"$or": []}, "empty"),
        ({"a": {"$in": 5}}, "takes a list"),
        ({"a": {"$nin": "text"}}, "takes a list"),
        ({"a": {"$in": [{"$gt": 5}]}}, "takes no operators"),
        ({"a": {"$exists": "yes"}}, "True or False"),
        ({"a": {"$exists": 1}}, "True or False"),
        ({"a": {"$ne": Regex("x")}}, "takes no pattern"),
        ({"a": {"$gte": re.compile("x")}}, "takes no pattern"),
    ],
)
def test_what_the_server_would_refuse_or_read_in_two_ways(where: dict[str, Any], message: str) -> None:
    """A filter that is none, or may mean two things, is refused as well."""
    with pytest.raises(UsageError, match=message) as caught:
        check_condition("where", Where(where))
    assert caught.value.argument == "where"


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"a": None, "b.c": [1, 2], "d": {"x": 1, "$y": 2}},
        {"a": {"$eq": Regex("x")}},
        {"a": {"$gt": Param("x"), "$in": Param("y")}, "b": Param("z")},
        {"$expr": {"$gt": ["$a", "$b"]}},
        {"$nor": [{"a": {"$not": {"$lt": Decimal128("1")}}}, {"a.b.c": {"$exists": False}}]},
    ],
    ids=repr,
)
def test_what_can_be_a_condition(where: dict[str, Any]) -> None:
    """What has an exact expression passes, values of later calls included."""
    check_condition("where", Where(where))


def test_the_common_case_is_small() -> None:
    """One field and one value: what is a list is asked once, and the rest is one comparison."""
    value = {"$literal": "subtitle"}
    assert condition(Where({"type": "subtitle"})) == {
        "$cond": [{"$isArray": "$type"}, {"$in": [value, "$type"]}, {"$eq": ["$type", value]}]
    }


def test_shapes() -> None:
    """Filters combine as they are written; nothing is wrapped that is alone."""
    one, two = condition(Where({"a": 1})), condition(Where({"b": 2}))
    assert condition(Where({})) == {"$and": []}
    assert condition(Where({"a": 1, "b": 2})) == {"$and": [one, two]}
    assert condition(Where({"$or": [{"a": 1}, {"b": 2}]})) == {"$or": [one, two]}
    assert condition(Where({"$nor": [{"a": 1}]})) == {"$not": [{"$or": [one]}]}
    assert condition(Where({"$expr": "$a"})) == {"$and": ["$a"]}
    assert condition(Where({"a": {"$eq": 1}})) == one
    assert condition(Where({"a": Param("x")}), {"x": 1}) == one
    # A list as a whole is compared only where one value is a list.
    assert "$or" not in str(condition(Where({"a": {"$in": [1, 2]}})))
    assert "$or" in str(condition(Where({"a": {"$in": [1, [2]]}})))


def test_a_list_is_searched_and_a_long_one_is_looked_up() -> None:
    """Up to eight values are compared one by one; more are a set, which the server builds once."""
    assert "'$in': ['$a'," in str(condition(Where({"a": {"$in": list(range(8))}})))
    assert "'$setIsSubset': [['$a']," in str(condition(Where({"a": {"$in": list(range(9))}})))


def test_a_value_of_a_call_that_cannot_be_compared() -> None:
    """What only the call shows to be impossible is refused then."""
    with pytest.raises(UsageError, match="Code"):
        condition(Where({"a": {"$gt": Param("x")}}), {"x": Code("f", {"y": 1})})
    with pytest.raises(UsageError, match="pattern"):
        condition(Where({"a": {"$in": Param("x")}}), {"x": [re.compile("x")]})


VALUES: list[Any] = ["$gt", {"$secret": 1}, ["$secret"], {"a": "$secret"}, ObjectId(b"secret secret"[:12]), b"$secret"]
WHERES: list[dict[str, Any]] = [
    *({path: {operator: Param("x")}} for path in ("a", "a.b", "a.b.c") for operator in ("$eq", "$ne", "$gt", "$lte")),
    {"a": Param("x")},
    {"a.b": {"$not": {"$lt": Param("x")}}},
    {"a": {"$in": Param("list")}},
    {"a.b.c": {"$nin": Param("list")}},
]


def values_outside_literals(expression: Any) -> Iterator[Any]:
    """List every text and name in an expression that is not under a $literal."""
    if isinstance(expression, dict):
        for name, value in expression.items():
            if name != "$literal":
                yield name
                yield from values_outside_literals(value)
    elif isinstance(expression, list):
        for item in expression:
            yield from values_outside_literals(item)
    else:
        yield expression


@pytest.mark.parametrize("where", WHERES, ids=repr)
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_are_literals(where: dict[str, Any], value: Any) -> None:
    """The expression outside of its literals is the same whatever value of a type is compared."""
    checked = Where(where)

    def built(given: Any) -> list[Any]:
        items = [given] if not isinstance(given, dict) else [[given]]
        return list(
            values_outside_literals(
                condition(checked, {name: {"x": given, "list": items}[name] for name in checked.params})
            )
        )

    plain = {str: "p", dict: {"p": 1}, list: [1], ObjectId: ObjectId(), bytes: b"p"}[type(value)]
    assert built(value) == built(plain)
    assert not [item for item in built(value) if "secret" in str(item)]


@pytest.mark.parametrize("depth", [1, 2, 3, 32])
def test_the_size_grows_with_the_path_and_not_beyond(depth: int) -> None:
    """Each part of a path adds a fixed amount to what is sent."""
    assert len(encode(condition(Where({".".join("a" * depth): {"$lt": Timestamp(1, 1)}})))) < 700 + 350 * depth
