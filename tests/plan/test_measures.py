"""Measures: what is refused, what is sent of them, and what their values are told as. No server."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
from bson import Decimal128, Regex

from mongopatterns import (
    Avg,
    CollectSet,
    Count,
    CountDistinct,
    First,
    Last,
    Max,
    Measure,
    Min,
    Param,
    Ratio,
    Sum,
    SumMap,
    UsageError,
)
from mongopatterns.reports._measures import TooMany

OF_PATH: list[Any] = [Sum, Avg, Min, Max, CountDistinct, CollectSet, SumMap, First, Last]
SCALED: list[Any] = [Sum, Avg, Min, Max, Ratio]
EVERY: list[Any] = [Count, *OF_PATH, Ratio]


def make(kind: Any, path: Any = "v", **options: Any) -> Any:
    if kind in (First, Last):
        options.setdefault("by", "at")
    if kind is Ratio:
        return Ratio(options.pop("of", Sum("v")), options.pop("by", Count()), **options)
    return kind(**options) if kind is Count else kind(path, **options)


def value(end: str) -> str:
    return f"$m{end}"


def inside(expression: Any) -> Iterator[Any]:
    """Give all values within an expression, but for what is literal."""
    yield expression
    if isinstance(expression, Mapping):
        if "$literal" in expression:
            return
        for name, item in expression.items():
            yield name
            yield from inside(item)
    elif isinstance(expression, list):
        for item in expression:
            yield from inside(item)


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OF_PATH, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("wrong", ["", None, 5, "a..b", "$a", "a.$b", "a\0", "a.0", "0.a", ["a"]], ids=str)
def test_a_path_that_is_none_is_refused(kind: Any, wrong: Any) -> None:
    """A path is text that can mean nothing else: no operator, no place in a list; so is what orders documents."""
    with pytest.raises(UsageError, match=r"^path: "):
        make(kind, wrong)
    if kind in (First, Last):
        with pytest.raises(UsageError, match=r"^by: "):
            make(kind, by=wrong)


@pytest.mark.parametrize("kind", [each for each in EVERY if each is not Ratio], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "wrong",
    [
        5,
        "x",
        {"$where": "1"},
        {"a": {"$regex": "x"}},
        {"a": Regex("x")},
        {"a": {"$type": 2}},
        {"a": {"$elemMatch": {"b": 1}}},
        {"a": {"$size": 1}},
        {"a": {"$all": [1]}},
        {"a.0": 1},
        {"$and": []},
        {"a": {"$in": 5}},
        {"a": {"$in": [Regex("x")]}},
        {"a": {"$exists": 1}},
        {"a": {"$gt": Regex("x")}},
        {"$text": {"$search": "x"}},
        {"a": ...},
    ],
    ids=str,
)
def test_a_filter_that_is_no_condition_is_refused(kind: Any, wrong: Any) -> None:
    """What cannot be told within a group is refused when the measure is made, with the name of the argument."""
    with pytest.raises(UsageError, match=r"^where: "):
        make(kind, where=wrong)


@pytest.mark.parametrize("kind", SCALED, ids=lambda kind: kind.__name__)
def test_scale_and_places_are_numbers(kind: Any) -> None:
    """A scale is a finite number of 64 bits, and places are whole numbers that the server takes."""
    for wrong in (None, "2", True, math.nan, math.inf, Decimal("NaN"), 2**64, -(2**63) - 1, [1], Decimal128("1")):
        with pytest.raises(UsageError, match=r"^scale: "):
            make(kind, scale=wrong)
    for wrong in (1.0, "2", True, 101, -21):
        with pytest.raises(UsageError, match=r"^round: "):
            make(kind, round=wrong)
    for scale in (0, -1, 1 / 60, Decimal("0.1"), 2**62):
        for places in (None, 0, -20, 100):
            made = make(kind, scale=scale, round=places)
            assert (made.scale, made.round) == (scale, places)


@pytest.mark.parametrize("kind", [CollectSet, SumMap], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("wrong", [0, -1, True, 1.0, None, "5", 1_000_001], ids=str)
def test_a_limit_is_a_number(kind: Any, wrong: Any) -> None:
    """A limit is a whole number up to a million."""
    with pytest.raises(UsageError, match=r"^limit: "):
        make(kind, limit=wrong)


def test_a_ratio_is_of_numbers() -> None:
    """Counts, sums and means are divided: nothing else can be, and it has no filter of its own."""
    for wrong in (Min("a"), First("a", by="b"), CollectSet("a"), SumMap("a"), Ratio(Count(), Count()), 5, None, Sum):
        with pytest.raises(UsageError, match=r"^of: "):
            Ratio(wrong, Count())  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=r"^by: "):
            Ratio(Count(), wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"^where: "):
        Ratio(Count(), Count(), where={"a": 1})
    for part in (Count(), Sum("a"), Avg("a"), CountDistinct("a")):
        assert Ratio(part, part).of == part


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_a_measure_is_frozen_and_its_own(kind: Any) -> None:
    """A measure cannot be changed, nor through what it was made of; it can be copied, pickled and be a key."""
    given: dict[str, Any] = {"a": {"$in": [1, 2]}}
    made = make(kind) if kind is Ratio else make(kind, where=given)
    given["a"]["$in"].append(3)
    assert made.where in (None, {"a": {"$in": [1, 2]}})
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.where = {}
    again = copy.deepcopy(made)
    assert again == pickle.loads(pickle.dumps(made)) == made
    assert len({made, again}) == 1
    assert isinstance(made, Measure)
    if kind not in (Count, Ratio):
        assert make(kind, "other") != make(kind)


# What is sent ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_the_fields_of_the_steps_belong_together(kind: Any) -> None:
    """What is kept of documents and what is merged have the same fields, so that it can be merged again."""
    made = make(kind)
    assert made.partial({}).keys() == made.merge(value).keys() >= made.merged(value).keys()
    for accumulators in (made.partial({}), made.merge(value), made.whole({})):
        assert all(len(each) == 1 and next(iter(each)).startswith("$") for each in accumulators.values())
    read = {
        each for each in inside([made.merge(value), made.merged(value), made.final(value)]) if isinstance(each, str)
    }
    known = {f"$m{end}" for end in made.partial({})}
    assert {each.split(".")[0] for each in read if each.startswith("$m") and not each.islower()} <= known


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("hostile", ["$v", "$$ROOT", {"$ne": None}, {"$literal": "$v"}, ["$v"], {"a": "$v"}], ids=str)
def test_values_of_callers_are_literal(kind: Any, hostile: Any) -> None:
    """A value of a call goes into the accumulators as data: nowhere is it a path or an operator."""
    where = {"user": Param("u")}
    made = Ratio(Sum("v", where=where), Count(where=where)) if kind is Ratio else make(kind, where=where)
    assert made.params == {"u"}
    for accumulators in (made.partial({"u": hostile}), made.whole({"u": hostile})):
        assert {"$literal": hostile} in list(inside(accumulators))
        plain = [each for each in inside(accumulators) if each == hostile and hostile != "$v"]
        assert plain == []


def test_paths_of_measures() -> None:
    """A measure knows the paths that it reads, those of its filter aside."""
    assert Count(where={"a": 1}).paths == frozenset()
    assert Sum("a.b", where={"c": 1}).paths == {"a.b"}
    assert Last("a", by="b").paths == {"a", "b"}
    assert Ratio(Sum("a"), CountDistinct("b")).paths == {"a", "b"}


def test_which_measures_merge_for_little() -> None:
    """Sets cost twice where they are merged, and so does a ratio of one."""
    assert [kind.__name__ for kind in EVERY if not make(kind).merges] == ["CountDistinct", "CollectSet"]
    assert not Ratio(CountDistinct("a"), Count()).merges
    assert not Ratio(Count(), CountDistinct("a")).merges
    assert [kind.__name__ for kind in EVERY if make(kind).apart] == ["SumMap"]


def test_a_mean_is_kept_as_a_sum_and_a_number() -> None:
    """A mean of means would be wrong: what is kept of it is its sum, and how many numbers are in it."""
    assert Avg("v").partial({}) == {"": {"$sum": "$v"}, "n": {"$sum": {"$cond": [{"$isNumber": "$v"}, 1, 0]}}}
    assert Avg("v").whole({}) == {"": {"$avg": "$v"}}
    assert Ratio(Avg("v"), Count()).partial({}).keys() == {"a", "an", "b"}


def test_a_scale_of_one_and_no_places_cost_nothing() -> None:
    """Where nothing is scaled or rounded, nothing is sent for it; a Decimal travels as such."""
    assert Sum("v").final(value) == "$m"
    assert Sum("v", scale=2).final(value) == {"$multiply": ["$m", 2]}
    assert Sum("v", scale=Decimal("0.1"), round=2).final(value) == {
        "$round": [{"$multiply": ["$m", Decimal128("0.1")]}, 2]
    }
    assert Max("v").final(value) == "$m"


# What is told ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "empty"),
    [(Count, 0), (Sum, 0), (Avg, None), (Min, None), (Max, None), (CountDistinct, 0), (CollectSet, []), (SumMap, {}),
     (First, None), (Last, None), (Ratio, None)],
    ids=str,
)  # fmt: skip
def test_what_is_told_of_no_documents(kind: Any, empty: Any) -> None:
    """Numbers of documents and sums are zero, lists and maps empty, and there is no mean of nothing."""
    assert make(kind).empty == empty


def test_too_many_values_are_not_told() -> None:
    """A set or a map past its limit comes as its size, and is told as an error that names the limit."""
    assert CollectSet("v", limit=2).told([1, 2]) == [1, 2]
    assert SumMap("v").told([{"k": "b", "v": 1}, {"k": "$a", "v": 2.5}]) == {"$a": 2.5, "b": 1}
    with pytest.raises(TooMany, match="1,234 different values of 'v', more than limit=2"):
        CollectSet("v", limit=2).told(1234)
    with pytest.raises(TooMany, match="3 names in 'v', more than limit=2"):
        SumMap("v", limit=2).told(3)
