"""Definitions of reports and branches: what is refused, what is derived, what is copied. No server."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import math
import pickle
from decimal import Decimal
from typing import Any

import pytest
from bson import Decimal128
from pydantic import BaseModel

from mongopatterns import (
    Branch,
    Capped,
    CollectSet,
    Count,
    CountOf,
    Distinct,
    GroupBy,
    Histogram,
    Index,
    One,
    PageOf,
    Param,
    Percentiles,
    Raw,
    ReportSpec,
    Sum,
    SumMap,
    TimeBuckets,
    Top,
    Totals,
    UsageError,
)

UTC = dt.timezone.utc
N = {"n": Count()}
KINDS: dict[Any, dict[str, Any]] = {
    Totals: {"measures": N},
    GroupBy: {"by": "k", "measures": N},
    Top: {"by": "k", "measures": N, "sort": [("n", -1)]},
    TimeBuckets: {"path": "at", "measures": N},
    Histogram: {"path": "v", "boundaries": [0, 1]},
    Distinct: {"path": "v"},
    Percentiles: {"path": "v"},
    PageOf: {"sort": [("at", -1)]},
    Raw: {"stages": [{"$limit": 1}]},
}
MEASURED = [Totals, GroupBy, Top, TimeBuckets, Histogram]
OF_PATH = [TimeBuckets, Histogram, Distinct, Percentiles]
JOIN = One("users", local="key", foreign="_id", as_="user")


def make(kind: Any, **options: Any) -> Any:
    return kind(**{**KINDS[kind], **options})


def refused(kind: Any, argument: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"^{argument}: ") as caught:
        make(kind, **{argument: value})
    assert caught.value.argument == argument


# Every branch ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "wrong",
    [
        5,
        "x",
        [("a", 1)],
        {"$where": "1"},
        {"a": {"$near": [0, 0]}},
        {"a": {"$mod": [2, Param("n")]}},
        {"a": ...},
        {"$or": {}},
        {5: 1},
        {"a..b": 1},
        {"a": 2**64},
    ],
    ids=str,
)
def test_a_filter_that_is_none_is_refused(kind: Any, wrong: Any) -> None:
    """Every branch checks its own filter, and parameters stay where they are data."""
    refused(kind, "where", wrong)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("wrong", [5, "x", [5], [Count()], {"a": 1}], ids=str)
def test_joins_that_are_none_are_refused(kind: Any, wrong: Any) -> None:
    """Every branch checks what is joined onto its documents, and that no name is there twice."""
    refused(kind, "joins", wrong)
    with pytest.raises(UsageError, match="two joins give 'user'"):
        make(kind, joins=[JOIN, JOIN])


@pytest.mark.parametrize("kind", OF_PATH, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "wrong", ["", None, 5, "a..b", "$a", "a.$b", "a\0", "a.0", "0", ["a"], "a" + ".a" * 32], ids=str
)
def test_a_path_that_is_none_is_refused(kind: Any, wrong: Any) -> None:
    """A path is text that can mean nothing else: no operator, no place in a list."""
    refused(kind, "path", wrong)


@pytest.mark.parametrize("kind", MEASURED, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "wrong",
    [
        {},
        None,
        5,
        "n",
        [Count()],
        {"n": 1},
        {"n": Count},
        {"": Count()},
        {"$n": Count()},
        {"a.b": Count()},
        {"_id": Count()},
        {"a\0": Count()},
        {5: Count()},
        {"n": Totals(N)},
    ],
    ids=str,
)
def test_measures_that_are_none_are_refused(kind: Any, wrong: Any) -> None:
    """A branch that measures has at least one measure, and each a name that a row can have."""
    refused(kind, "measures", wrong)


@pytest.mark.parametrize(
    ("kind", "names"),
    [(GroupBy, ["key"]), (Top, ["key"]), (TimeBuckets, ["bucket"]), (Histogram, ["low", "high"])],
    ids=str,
)
def test_names_of_every_row_are_taken(kind: Any, names: list[str]) -> None:
    """A measure cannot have the name that every row of its branch has; that of another kind of rows it can."""
    for name in names:
        with pytest.raises(UsageError, match="is a name of every row"):
            make(kind, measures={name: Count(), "n": Count()})
    others = {name: Count() for name in ("key", "bucket", "low", "high") if name not in names}
    assert list(make(kind, measures={**others, "n": Count()}).measures) == [*others, "n"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_definition_is_frozen_and_its_own(kind: Any) -> None:
    """A definition cannot be changed, nor can it be through what it was made of; it can be copied and pickled."""
    given: dict[str, Any] = {"a": {"$in": [1, 2]}}
    branch = make(kind, where=given)
    given["a"]["$in"].append(3)
    given["b"] = 1
    assert branch.where == {"a": {"$in": [1, 2]}}
    with pytest.raises(dataclasses.FrozenInstanceError):
        branch.where = {}
    again = copy.deepcopy(branch)
    assert again == branch
    assert pickle.loads(pickle.dumps(branch)) == branch
    assert isinstance(branch, Branch)
    assert dataclasses.replace(branch, where=None).where is None
    assert hash(branch) == hash(again)


@pytest.mark.parametrize("kind", MEASURED, ids=lambda kind: kind.__name__)
def test_params_of_a_branch(kind: Any) -> None:
    """A branch asks for the values of its filter, its joins and its measures."""
    joins = [CountOf("f", local="a", foreign="b", as_="c", where={"x": Param("join")})]
    measures = {"n": Count(where={"x": {"$gte": Param("measure")}}), "m": Sum("v", where={"y": Param("other")})}
    branch = make(
        kind,
        joins=joins,
        measures=measures,
        where={"x": Param("where")},
        **({"sort": [("n", 1)]} if kind is Top else {}),
    )
    assert branch.params == {"join", "measure", "other", "where"}


def test_params_of_what_is_joined_onto_rows() -> None:
    """A branch asks for the values of what is joined onto its finished rows, too."""
    part = One("users", local="key", foreign="_id", as_="user", where={"team": Param("team")})
    assert make(GroupBy, row_joins=[part]).params == {"team"}


# Groups ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [GroupBy, Top], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(
            ("by", wrong)
            for wrong in ("", None, 5, [], {}, [5], ["a.b"], ["a", "a"], {"x.y": "a"}, {"$x": "a"}, {"x": 5})
        ),
        *(("by", wrong) for wrong in ({"_id": "a"}, {"x": "a.0"}, "a.0", "$a", ["$a"], ["_id"], b"a", {5: "a"})),
        *(
            ("sort", wrong)
            for wrong in ("n", 5, [("n",)], [("n", 0)], [("n", 1.0)], [("other", 1)], [("n", 1), ("n", -1)])
        ),
        *(("limit", wrong) for wrong in (0, -1, True, 1.0, "5", 100_001)),
        *(("row_joins", wrong) for wrong in (5, [5], JOIN)),
        ("row_joins", [One("users", local="other", foreign="_id", as_="user")]),
        ("row_joins", [One("users", local="_id", foreign="_id", as_="user")]),
        ("row_joins", [One("users", local="key", foreign="_id", as_="key")]),
        ("row_joins", [One("users", local="key", foreign="_id", as_="n")]),
    ],
    ids=str,
)
def test_groups_that_are_none_are_refused(kind: Any, argument: str, value: Any) -> None:
    """Keys, order, limit and what is joined onto rows are checked; the argument at fault is named."""
    refused(kind, argument, value)


def test_a_map_of_sums_is_no_part_of_a_row_yet() -> None:
    """Rows are not sorted by a map of sums or a set, and nothing is joined by a map: it is worked out beside them."""
    measures = {"n": Count(), "m": SumMap("m")}
    with pytest.raises(UsageError, match=r"^sort: 'm'"):
        GroupBy("k", measures=measures, sort=[("n", 1), ("m", 1)])
    with pytest.raises(UsageError, match=r"^row_joins: local='m"):
        GroupBy("k", measures=measures, row_joins=[One("f", local="m.x", foreign="_id", as_="j")])
    with pytest.raises(UsageError, match=r"^sort: 's' is a set"):
        GroupBy("k", measures={"s": CollectSet("v")}, sort=[("s", 1)])
    assert GroupBy("k", measures=measures, sort=[("n", 1)]).order == (("n", 1), ("key", 1))


def test_keys_and_orders() -> None:
    """A path is a key, several paths have names; ties come by the key, unless the order says how."""
    assert GroupBy("a.b", measures=N).keys == "a.b"
    assert GroupBy(["a", "b"], measures=N).keys == {"a": "a", "b": "b"}
    assert GroupBy({"x": "a.b"}, measures=N).keys == {"x": "a.b"}
    assert GroupBy("a", measures=N).order == (("key", 1),)
    assert GroupBy("a", measures=N, sort=[("key", -1)]).order == (("key", -1),)
    assert Top("a", measures=N, sort=[("n", -1)]).order == (("n", -1), ("key", 1))
    assert Top("a", measures=N, sort=[("n", -1)]).limit == 10


def test_a_top_has_an_order_and_a_limit() -> None:
    """Without an order there are no first ones, and without a limit it is a GroupBy."""
    for sort in (None, []):
        refused(Top, "sort", sort)
    refused(Top, "limit", None)


# Ranges ------------------------------------------------------------------------------------------------------------

DATES = [dt.datetime(2026, 1, 1, tzinfo=UTC), dt.datetime(2026, 2, 1, tzinfo=UTC)]


@pytest.mark.parametrize(
    "wrong",
    [
        5,
        "01",
        b"01",
        [],
        [0],
        [1, 0],
        [0, 0],
        [0, 0.0],
        [0, Decimal(0)],
        [0, math.nan],
        [0, math.inf],
        [0, "1"],
        [0, None],
        [False, True],
        [0, Decimal("NaN")],
        [0, DATES[0]],
        [DATES[0], 5],
        [DATES[1], DATES[0]],
        [each.replace(tzinfo=None) for each in DATES],
        list(range(1001)),
        {0: 1, 1: 2},
        [0, [1]],
    ],
    ids=str,
)
def test_boundaries_that_are_none_are_refused(wrong: Any) -> None:
    """Boundaries are at least two rising finite numbers, or aware dates, and not both."""
    refused(Histogram, "boundaries", wrong)


@pytest.mark.parametrize(
    "bounds",
    [[0, 1], (0.5, Decimal("0.75"), 1), [-(2**62), 2**62], DATES, list(range(1000)), [Decimal("0.1"), 0.2]],
    ids=lambda bounds: str(bounds)[:40],
)
def test_boundaries_that_are_some(bounds: Any) -> None:
    """Numbers of several kinds may stand beside each other; decimals are sent as such."""
    branch = Histogram("v", boundaries=bounds)
    assert branch.boundaries == tuple(bounds)
    assert branch.of_dates is (bounds is DATES)
    assert not any(isinstance(bound, Decimal) for bound in branch.bounds)
    assert [Decimal128(each) if isinstance(each, Decimal) else each for each in bounds] == list(branch.bounds)


def test_chosen_ranges() -> None:
    """Boundaries or a number of ranges are given; what cannot be with ranges that the server chooses is refused."""
    for options in ({}, {"boundaries": [0, 1], "buckets": 2}):
        with pytest.raises(UsageError, match=r"^boundaries: "):
            Histogram("v", **options)
    for wrong in (0, -1, True, 2.0, "2", 1001):
        with pytest.raises(UsageError, match=r"^buckets: "):
            Histogram("v", buckets=wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"^outside: "):
        Histogram("v", buckets=2, outside=True)
    with pytest.raises(UsageError, match=r"^measures: 'm'"):
        Histogram("v", buckets=2, measures={"m": SumMap("m")})
    assert Histogram("v", buckets=2).measures == {"n": Count()}


# Other branches ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "argument", "value"),
    [
        *((TimeBuckets, "unit", wrong) for wrong in ("minute", "days", "", None, 5, ["day"])),
        *((TimeBuckets, "timezone", wrong) for wrong in ("Berlin", "", None, 5, "+01:00", "europe/nowhere", "../etc")),
        *((Distinct, "limit", wrong) for wrong in (0, -1, True, 1.0, None, 100_001)),
        (Distinct, "model", dict),
        *(
            (Percentiles, "p", wrong)
            for wrong in (5, "0.5", [], [2], [-0.1], [True], ["0.5"], [math.nan], [0.5, 0.5], None)
        ),
        *(
            (PageOf, "sort", wrong)
            for wrong in ((), None, "at", [("at", 2)], [("at", 1), ("at", 1)], [("$at", 1)], [("a.0", 1)])
        ),
        *((PageOf, "limit", wrong) for wrong in (0, -1, True, "5", None, 10_001)),
        *((PageOf, "fields", wrong) for wrong in (5, "a", {"a": 0}, ["$a"], ["a", "a.b"])),
        *((PageOf, "count", wrong) for wrong in ("all", None, True, 5, Capped)),
        *(
            (Raw, "stages", wrong)
            for wrong in ((), None, 5, "x", {"$match": {}}, [5], [{}], [{"match": {}}], [{"$a": 1, "$b": 1}])
        ),
        *((Raw, "stages", [{"$limit": 1}, {writes: "x"}]) for writes in ("$out", "$merge")),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_branch_is_named(kind: Any, argument: str, value: Any) -> None:
    """Each branch names the argument that it cannot use."""
    refused(kind, argument, value)


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "5", None, 100_001])
def test_a_cap_is_a_number(wrong: Any) -> None:
    """A count is capped at a whole number."""
    with pytest.raises(UsageError, match=r"^Capped\.at: "):
        Capped(wrong)


def test_the_names_of_percentiles() -> None:
    """A percentile is named by its per cent, however it was written."""
    assert Percentiles("v").names == ["p50", "p90", "p99"]
    assert Percentiles("v", p=[0, 0.29, 0.999, 1, 0.07]).names == ["p0", "p29", "p99.9", "p100", "p7"]


def test_stages_are_copied() -> None:
    """Stages of a caller's own cannot be changed from outside, and their operators are told."""
    stages: list[dict[str, Any]] = [{"$match": {"a": [1]}}, {"$limit": 1}]
    raw, spec = Raw(stages), ReportSpec("events", branches={"a": Totals(N)}, source=stages)
    stages[0]["$match"]["a"].append(2)
    stages.append({"$out": "x"})
    assert raw.stages == spec.source == ({"$match": {"a": [1]}}, {"$limit": 1})
    assert list(raw.operators) == ["$match", "$limit"]


# Reports -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("collection", wrong) for wrong in ("", None, 5)),
        *(
            ("branches", wrong)
            for wrong in (None, {}, [], 5, [Totals(N)], {"": Totals(N)}, {5: Totals(N)}, {"a": Count()})
        ),
        *(("branches", wrong) for wrong in ({"a": Totals}, {"a": None})),
        *(("source", wrong) for wrong in (None, 5, {"$match": {}}, [5], [{}], [{"$out": "x"}], [{"$merge": "x"}], "x")),
    ],
    ids=str,
)
def test_a_report_that_is_none_is_refused(argument: str, value: Any) -> None:
    """The collection, the branches and the source of a report are checked."""
    with pytest.raises(UsageError, match=f"^{argument}: "):
        ReportSpec(**{"collection": "events", "branches": {"a": Totals(N)}, argument: value})


class Row(BaseModel):
    """A row."""

    n: int


def test_what_a_report_knows_of_its_branches() -> None:
    """A report knows the parameters, models and pages of its branches, and the indexes that pages need."""
    spec = ReportSpec(
        "events",
        branches={
            "all": Totals(N, model=Row, where={"x": Param("one")}),
            "page": PageOf(sort=[("at", -1)], where={"y": Param("two")}),
            "same": PageOf(sort=[("at", -1)], limit=5),
            "other": PageOf(sort=[("a", 1), ("b", -1)]),
        },
    )
    assert spec.params == {"one", "two"}
    assert spec.models == {"all": Row}
    assert list(spec.pages) == ["page", "same", "other"]
    assert spec.indexes() == (Index(("at", -1), ("_id", -1)), Index("a", ("b", -1), ("_id", -1)))
    branches: dict[str, Any] = {"a": Totals(N)}
    made = ReportSpec("events", branches=branches)
    branches["b"] = 5
    assert list(made.branches) == ["a"]
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert hash(spec) == hash(copy.deepcopy(spec))
