# Generated from tests/aio/test_report.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""What a report tells: branches, measures, pages, joins and values of callers, by every strategy."""

from __future__ import annotations

import copy
import datetime as dt
import json
import math
import re
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pydantic
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, UuidRepresentation
from bson.codec_options import CodecOptions
from bson.datetime_ms import DatetimeMS
from pydantic import BaseModel
from typing_extensions import TypedDict

from mongopatterns import (
    Avg,
    Capped,
    CollectSet,
    Count,
    CountDistinct,
    CountOf,
    Distinct,
    First,
    GroupBy,
    Histogram,
    InvalidCursor,
    Last,
    Many,
    Max,
    Min,
    One,
    PageOf,
    Param,
    Ratio,
    Raw,
    Report,
    ReportPage,
    ReportSpec,
    Sum,
    SumMap,
    TimeBuckets,
    Top,
    Total,
    Totals,
    UsageError,
)

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY = dt.timedelta(days=1)
OID = ObjectId("0123456789abcdef01234567")
EVERY = pytest.mark.parametrize("strategy", ["auto", "facet", "parallel"])
N = {"n": Count()}


def fill(db: Any, **collections: list[dict[str, Any]]) -> None:
    for name, documents in collections.items():
        db[name].insert_many(copy.deepcopy(documents))


def bind(db: Any, strategy: str = "auto", *, source: Any = (), **branches: Any) -> Report:
    """Bind a report on `events` with these branches."""
    return Report(db, ReportSpec("events", branches=branches, source=source), strategy=strategy)  # type: ignore[arg-type]


def of(db: Any, branch: Any, filter_: Any = None, **options: Any) -> Any:
    """Return what is told of one branch."""
    return bind(db, only=branch).run(filter_, **options)["only"]


SESSIONS = [
    {"_id": 1, "user": 1, "platform": "ios", "seconds": 60, "cost": Decimal128("0.10"), "errors": 0, "at": NOON},
    {"_id": 2, "user": 2, "platform": "web", "seconds": 90, "cost": Decimal128("0.25"), "errors": 1, "at": NOON + DAY},
    {"_id": 3, "user": 1, "platform": "web", "seconds": 30, "cost": Decimal128("0.05"), "errors": 2, "at": NOON + DAY},
    {"_id": 4, "user": 3, "seconds": 120, "errors": 0, "at": NOON + 3 * DAY},
]
DASHBOARD: dict[str, Any] = {
    "summary": Totals(
        {
            "n": Count(),
            "minutes": Sum("seconds", scale=1 / 60),
            "cost": Sum("cost", round=1),
            "errors": Ratio(Sum("errors"), Count(), scale=100),
            "users": CountDistinct("user"),
        }
    ),
    "page": PageOf(sort=[("at", -1)], limit=2, fields=["user"], count="exact"),
    "top": Top("user", sort=[("seconds", -1)], limit=2, measures={"seconds": Sum("seconds")}),
    "per_day": TimeBuckets("at", measures=N),
    "spread": Histogram("cost", boundaries=[0, Decimal("0.1"), 1]),
    "by_platform": GroupBy("platform", measures={"n": Count(), "mean": Avg("seconds")}),
    "platforms": Distinct("platform"),
    "raw": Raw([{"$sort": {"_id": -1}}, {"$limit": 1}, {"$project": {"_id": 1}}]),
}
BUCKETS = [dt.datetime(2026, 3, day, tzinfo=UTC) for day in (4, 5, 6, 7)]


# Branches --------------------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("consistent", [False, True])
def test_a_dashboard(db: Any, strategy: str, consistent: bool) -> None:
    """All branches of a report come in one call, by their names and in their order, at one instant or not."""
    fill(db, events=SESSIONS)
    result = bind(db, strategy, **DASHBOARD).run(consistent=consistent)
    page = result.pop("page")
    assert page == ReportPage([{"_id": 4, "user": 3}, {"_id": 3, "user": 1}], page.next, None, Total(4, "exact"))
    assert isinstance(page.next, str)
    assert list(result) == [name for name in DASHBOARD if name != "page"]
    assert result == {
        "summary": {"n": 4, "minutes": 5.0, "cost": Decimal("0.4"), "errors": 75.0, "users": 3},
        "top": [{"key": 3, "seconds": 120}, {"key": 1, "seconds": 90}],
        "per_day": [{"bucket": bucket, "n": n} for bucket, n in zip(BUCKETS, (1, 2, 0, 1), strict=True)],
        "spread": [{"low": 0, "high": Decimal("0.1"), "n": 1}, {"low": Decimal("0.1"), "high": 1, "n": 2}],
        "by_platform": [
            {"key": None, "n": 1, "mean": 120.0},
            {"key": "ios", "n": 1, "mean": 60.0},
            {"key": "web", "n": 2, "mean": 60.0},
        ],
        "platforms": ["ios", "web"],
        "raw": [{"_id": 4}],
    }


@EVERY
@pytest.mark.parametrize("consistent", [False, True])
def test_nothing_matches(db: Any, strategy: str, consistent: bool) -> None:
    """Of no documents there are zeros, None and empty lists, and never a row that is missing."""
    measures = {
        "count": Count(),
        "sum": Sum("n"),
        "avg": Avg("n"),
        "min": Min("n"),
        "max": Max("n", round=2),
        "distinct": CountDistinct("n"),
        "set": CollectSet("n"),
        "map": SumMap("n"),
        "first": First("n", by="at"),
        "last": Last("n", by="at"),
        "ratio": Ratio(Sum("n"), Count()),
    }
    empty = {
        "count": 0,
        "sum": 0,
        "avg": None,
        "min": None,
        "max": None,
        "distinct": 0,
        "set": [],
        "map": {},
        "first": None,
        "last": None,
        "ratio": None,
    }
    report = bind(
        db,
        strategy,
        **{**DASHBOARD, "summary": Totals(measures)},
        ranges=Histogram("n", boundaries=[0, 1], outside=True, measures=measures),
        chosen=Histogram("n", buckets=3),
        filled=TimeBuckets("at", measures=measures),
    )
    two_days = {"at": {"$gte": NOON, "$lt": NOON + DAY}, "user": "nobody"}
    for documents in ([], SESSIONS):
        if documents:
            fill(db, events=documents)
        else:
            db.create_collection("events")  # (a snapshot is read of what is there)
        result = report.run(two_days, consistent=consistent)
        assert result["summary"] == empty
        assert result["page"] == ReportPage([], None, None, Total(0, "exact"))
        assert [(row["low"], row["high"]) for row in result["ranges"]] == [(None, 0), (0, 1), (1, None)]
        assert all({**row, "low": 0, "high": 1} == {"low": 0, "high": 1, **empty} for row in result["ranges"])
        assert result["filled"] == [{"bucket": bucket, **empty} for bucket in BUCKETS[:2]]
        assert [row["n"] for row in result["spread"]] == [0, 0]
        assert [row["n"] for row in result["per_day"]] == [0, 0]
        assert [result[name] for name in ("top", "by_platform", "platforms", "raw", "chosen")] == [[]] * 5


def test_a_collection_that_is_not_there(db: Any) -> None:
    """A collection that nobody has written to is one without documents."""
    result = bind(db, **{**DASHBOARD, "page": PageOf(sort=[("at", 1)], count="estimated")}).run()
    assert result["summary"]["n"] == 0
    assert result["page"].items == []
    assert result["page"].total == Total(0, "about")


@EVERY
def test_a_branch_has_a_filter_of_its_own(db: Any, strategy: str) -> None:
    """The filter of a branch narrows that branch alone, and that of a measure the measure."""
    fill(db, events=SESSIONS)
    report = bind(
        db,
        strategy,
        web=Totals({"n": Count(), "long": Count(where={"seconds": {"$gt": 60}})}, where={"platform": "web"}),
        all=Totals(N),
        page=PageOf(sort=[("_id", 1)], where={"platform": "web"}, count="exact"),
        either=Totals(N, where={"$or": [{"platform": "web"}, {"user": 3}]}),
    )
    result = report.run({"seconds": {"$lt": 100}})
    assert result["web"] == {"n": 2, "long": 1}
    assert result["all"] == {"n": 3}
    assert [each["_id"] for each in result["page"].items] == [2, 3]
    assert result["page"].total == Total(2, "exact")
    assert result["either"] == {"n": 2}


def test_sums_keep_the_type_of_their_numbers(db: Any) -> None:
    """A sum of whole numbers is one, of doubles a double, and of decimals a Decimal; past 64 bits it is a double."""
    documents = [{"i": 1, "f": 0.5, "d": Decimal128("0.1"), "big": Int64(2**62)} for _ in range(10)]
    fill(db, events=documents)
    measures: dict[str, Any] = {name: Sum(name) for name in ("i", "f", "d", "big")}
    for branch in (Totals(measures), GroupBy("none", measures=measures)):
        told = of(db, branch)
        row = told if isinstance(told, dict) else told[0]
        assert [(type(row[name]), row[name]) for name in measures] == [
            (int, 10),
            (float, 5.0),
            (Decimal, Decimal("1.0")),
            (float, 10 * 2.0**62),
        ]


def test_rounding_is_half_to_even(db: Any) -> None:
    """Rounding is the server's: halves to the even digit, after scaling; of places before the point, too."""
    fill(db, events=[{"a": 0.25, "b": 0.75, "c": Decimal128("2.45"), "d": 15, "e": 0.125}])
    measures = {
        "a": Sum("a", round=1),
        "b": Sum("b", round=1),
        "c": Sum("c", round=1),
        "d": Sum("d", round=-1),
        "e": Avg("e", scale=100, round=0),
        "f": Ratio(Count(), Sum("a"), scale=Decimal("0.625"), round=0),
    }
    told = of(db, Totals(measures))
    assert told == {"a": 0.2, "b": 0.8, "c": Decimal("2.4"), "d": 20, "e": 12.0, "f": Decimal(2)}


def test_a_mean_is_weighted(db: Any) -> None:
    """A mean over buckets of a coarse unit is that of the documents, and not one of the means of what is finer."""
    fill(db, events=[{"at": NOON, "n": 1}, {"at": NOON + DAY, "n": 4}, {"at": NOON + DAY, "n": 4}])
    measures = {"mean": Avg("n"), "share": Ratio(Sum("n"), Count())}
    [month] = of(db, TimeBuckets("at", unit="month", measures=measures))
    assert month == {"bucket": dt.datetime(2026, 3, 1, tzinfo=UTC), "mean": 3.0, "share": 3.0}


@EVERY
def test_equal_keys_are_one_row(db: Any, strategy: str) -> None:
    """1 and 1.0 are one key, True is another, null and what is missing are one, and a list is one value."""
    keys: list[Any] = [1, 1.0, Decimal128("1"), True, "1", None, [1, 2], [1, 2.0], {"a": 1}, {"a": 1.0}]
    fill(db, events=[*({"_id": n, "k": key} for n, key in enumerate(keys)), {"_id": 99}])
    rows = bind(db, strategy, by=GroupBy("k", measures={"n": Count(), "m": SumMap("none")})).run()["by"]
    assert sorted((str(row["key"]).replace("1.0", "1"), row["n"], row["m"]) for row in rows) == [
        ("1", 1, {}),
        ("1", 3, {}),
        ("None", 2, {}),
        ("True", 1, {}),
        ("[1, 2]", 2, {}) if [1, 2] in [row["key"] for row in rows] else ("[1, 2.0]", 2, {}),
        ("{'a': 1}", 2, {}),
    ]


def test_keys_of_several_fields(db: Any) -> None:
    """A list of paths makes keys with their names, a dict of paths keys with its names; what is missing is None."""
    fill(db, events=[{"a": 1, "b": {"c": 2}}, {"a": 1}, {"a": 1, "b": {"c": 2}}])
    rows = of(db, GroupBy(["a", "b"], measures=N))
    assert rows == [{"key": {"a": 1, "b": None}, "n": 1}, {"key": {"a": 1, "b": {"c": 2}}, "n": 2}]
    rows = of(db, GroupBy({"x": "b.c"}, measures=N, sort=[("key", -1)]))
    assert rows == [{"key": {"x": 2}, "n": 2}, {"key": {"x": None}, "n": 1}]


def test_rows_are_sorted_then_cut(db: Any) -> None:
    """Rows come by what is asked for, ties by their key in the server's order, and a limit keeps the first ones."""
    fill(db, events=[{"k": key, "n": n} for key, n in [("b", 1), ("a", 1), ("c", 5), ("d", 0), (None, 1)]])
    by = {"k": Sum("n")}
    for sort, keys in (
        (None, [None, "a", "b", "c", "d"]),
        ([("key", -1)], ["d", "c", "b", "a", None]),
        ([("k", -1)], ["c", None, "a", "b", "d"]),
        ([("k", 1), ("key", -1)], ["d", "b", "a", None, "c"]),
    ):
        assert [row["key"] for row in of(db, GroupBy("k", measures=by, sort=sort))] == keys
        assert [row["key"] for row in of(db, GroupBy("k", measures=by, sort=sort, limit=2))] == keys[:2]
    assert [row["key"] for row in of(db, Top("k", measures=by, sort=[("k", -1)], limit=1))] == ["c"]


def test_lists_are_sorted_as_one_value(db: Any) -> None:
    """Keys and values that are lists come behind what is none, by their items in turn; several may be in an order."""
    keys: list[Any] = [[2, 1], [1, 3], [1], [], 5, "a", None, {"a": 1}, [[0]]]
    fill(db, events=[{"_id": n, "k": key} for n, key in enumerate(keys)])
    ordered: list[Any] = [None, 5, "a", {"a": 1}, [], [1], [1, 3], [2, 1], [[0]]]
    measures = {"n": Count(), "last": Max("k")}
    for strategy in ("auto", "facet"):
        for sort, wanted in (
            (None, ordered),
            ([("key", -1)], ordered[::-1]),
            ([("n", 1), ("last", -1)], ordered[::-1]),
        ):
            branch = GroupBy("k", measures=measures, sort=sort)
            rows = bind(db, strategy, by=branch, all=Totals(N)).run()["by"]
            assert [row["key"] for row in rows] == wanted
            assert list(rows[0]) == ["key", "n", "last"]
    top = of(db, Top("k", measures=N, sort=[("key", -1)], limit=2))
    assert [row["key"] for row in top] == [[[0]], [2, 1]]


def test_names_that_look_like_syntax(db: Any) -> None:
    """Names of branches, measures and keys may be whatever a name can be: they meet none of our own."""
    fill(db, events=[{"k": 1, "$n": 1}])
    names = ["m0", "rows", "n", "value", "low", "é", "a b", "constructor", "__proto__", "p", "sum", "k"]
    measures = {name: Sum("k") for name in names} | {"map": SumMap("none")}
    branches: dict[str, Any] = {
        "$where": Totals(measures),
        "a.b": GroupBy({"m0": "k", "_": "k"}, measures=measures),
        "p0": GroupBy("k", measures={**measures, "bucket": Count()}),
        " ": TimeBuckets("k", measures={**measures, "key": Count()}),
        "é\0": Histogram("k", boundaries=[0, 5], measures={"key": Count(), "bucket": Count()}),
    }
    for strategy in ("auto", "facet", "parallel"):
        result = bind(db, strategy, **branches).run()
        assert list(result) == list(branches)
        assert result["$where"] == {**dict.fromkeys(names, 1), "map": {}}
        assert result["a.b"] == [{"key": {"m0": 1, "_": 1}, **dict.fromkeys(names, 1), "map": {}}]
        assert result["p0"] == [{"key": 1, **dict.fromkeys(names, 1), "map": {}, "bucket": 1}]
        assert result[" "] == []
        assert result["é\0"] == [{"low": 0, "high": 5, "key": 1, "bucket": 1}]


def test_maps_are_added_name_by_name(db: Any) -> None:
    """The sums of a map have the names that users gave them, whatever they look like; other values do not count."""
    maps: list[Any] = [{"👍": 1, "$a": 2, "x.y": 3, "": 4}, {"👍": 2.5, "x.y": "3", "z": None}, [{"👍": 1}], None, 5]
    fill(db, events=[{"m": each, "at": NOON} for each in maps])
    wanted = {"": 4, "$a": 2, "x.y": 3, "👍": 3.5}
    assert of(db, Totals({"m": SumMap("m")}))["m"] == wanted
    assert of(db, TimeBuckets("at", measures={"m": SumMap("m"), "n": Count()})) == [
        {"bucket": BUCKETS[0], "m": wanted, "n": 5}
    ]
    assert of(db, GroupBy("none", measures={"m": SumMap("m", where={"m.z": {"$exists": True}})})) == [
        {"key": None, "m": {"👍": 2.5}}
    ]


# Pages -----------------------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("consistent", [False, True])
def test_pages_lead_forward_and_back(db: Any, strategy: str, consistent: bool) -> None:
    """Every document is on one page, in order; the cursors of a page lead to the next and to the previous one."""
    fill(db, events=[{"_id": n, "a": n // 3, "x": n % 2} for n in range(11)])
    report = bind(db, strategy, page=PageOf(sort=[("a", -1)], limit=3, where={"_id": {"$ne": 5}}), all=Totals(N))
    pages, cursor = [], None
    while True:
        page = report.run({"_id": {"$gt": 0}}, cursors={"page": cursor}, consistent=consistent)["page"]
        pages.append([each["_id"] for each in page.items])
        assert page.total is None
        if page.next is None:
            break
        cursor = page.next
    assert pages == [[10, 9, 8], [7, 6, 4], [3, 2, 1]]
    back = []
    while page.previous is not None:
        page = report.run({"_id": {"$gt": 0}}, cursors={"page": page.previous})["page"]
        back.append([each["_id"] for each in page.items])
    assert back == pages[-2::-1]


@EVERY
def test_dates_without_a_year_of_pythons_have_their_place(db: Any, strategy: str) -> None:
    """A page ends exactly where it ends, though several such dates are shown as the same nearest one."""
    dates = [
        *(DatetimeMS(10**15 + number) for number in range(4)),
        DatetimeMS(-(10**15)),
        dt.datetime(2026, 1, 1, tzinfo=UTC),
    ]
    fill(db, events=[{"_id": -number, "at": date} for number, date in enumerate(dates)])
    totals = Totals({"last": Max("at"), "all": CollectSet("at")})
    report = bind(db, strategy, page=PageOf(sort=[("at", -1)], limit=1), totals=totals)
    told = report.run()
    found = told["page"].items
    for _ in dates[1:]:
        told = report.run(cursors={"page": told["page"].next})
        found += told["page"].items
    assert [each["_id"] for each in found] == [-3, -2, -1, 0, -5, -4]
    assert told["page"].next is None
    latest = dt.datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)
    earliest, known = dt.datetime(1, 1, 1, tzinfo=UTC), dt.datetime(2026, 1, 1, tzinfo=UTC)
    assert [each["at"] for each in found] == [*[latest] * 4, known, earliest]
    assert told["totals"] == {"last": latest, "all": [earliest, known, *[latest] * 4]}


def test_how_the_documents_behind_a_page_are_counted(db: Any, commands: Any) -> None:
    """They are not counted, or exactly, or up to a number, or as the server knows it where nothing filters."""
    fill(db, events=[{"_id": n, "x": n % 2} for n in range(10)])
    sort = [("_id", 1)]
    wanted: list[tuple[Any, Any, Any, Any]] = [
        ("none", {}, None, None),
        ("exact", {}, None, Total(10, "exact")),
        ("exact", {"x": 1}, None, Total(5, "exact")),
        ("exact", {"x": 1}, {"_id": {"$lt": 4}}, Total(2, "exact")),
        (Capped(4), {"x": 1}, None, Total(4, "at_least")),
        (Capped(5), {"x": 1}, None, Total(5, "exact")),
        (Capped(6), {"x": 1}, None, Total(5, "exact")),
        (Capped(6), {}, {"x": 0}, Total(5, "exact")),
        ("estimated", {}, None, Total(10, "about")),
        ("estimated", {"x": 1}, None, Total(5, "exact")),
        ("estimated", {}, {"x": 1}, Total(5, "exact")),
    ]
    for strategy in ("auto", "facet", "parallel"):
        for mode, filter_, where, total in wanted:
            report = bind(db, strategy, page=PageOf(sort=sort, limit=2, count=mode, where=where), all=Totals(N))
            assert report.run(filter_)["page"].total == total, (strategy, mode, filter_, where)
        estimated = bind(db, strategy, page=PageOf(sort=sort, count="estimated"))
        assert estimated.run(consistent=True)["page"].total == Total(10, "exact")
        given = bind(db, strategy, source=[{"$match": {"x": 1}}], page=PageOf(sort=sort, count="estimated"))
        assert given.run()["page"].total == Total(5, "exact")


def test_cursors_that_are_none(db: Any, commands: Any) -> None:
    """A bad cursor is refused with the name of its branch, and nothing is sent; so is one of another filter."""
    fill(db, events=[{"_id": n} for n in range(9)])
    page = PageOf(sort=[("_id", 1)], limit=2, where={"_id": {"$gte": Param("from")}})
    report = bind(db, page=page, other=PageOf(sort=[("x", 1)], limit=2), all=Totals(N))
    first = report.run(params={"from": 0})["page"]
    commands.clear()
    for bad in ("", "x", first.next[:-2], first.next + "A", "\0", "é", 5, b"x", {"$ne": None}):
        with pytest.raises(InvalidCursor, match=r"^cursors: 'page': "):
            report.run(params={"from": 0}, cursors={"page": bad})
    for options in ({"params": {"from": 1}}, {"params": {"from": 0}, "filter": {"x": 1}}):
        with pytest.raises(InvalidCursor, match=r"^cursors: 'page': ") as caught:
            report.run(**options, cursors={"page": first.next})
        assert caught.value.reason == "filter"
    with pytest.raises(InvalidCursor, match=r"^cursors: 'other': "):
        report.run(params={"from": 0}, cursors={"other": first.next})
    for wrong in ({"all": first.next}, {"nothing": None}, first.next, 5, [first.next]):
        with pytest.raises(UsageError, match=r"^cursors:"):
            report.run(params={"from": 0}, cursors=wrong)
    assert commands.sent == []


def test_cursors_are_signed(db: Any) -> None:
    """With a secret a cursor of another one is refused, and one's own goes on."""
    fill(db, events=[{"_id": n} for n in range(4)])
    spec = ReportSpec("events", branches={"page": PageOf(sort=[("_id", 1)], limit=2)})
    ours, theirs = (Report(db, spec, secret=secret) for secret in ("a" * 32, "b" * 32))
    first = ours.run()["page"]
    assert [each["_id"] for each in ours.run(cursors={"page": first.next})["page"].items] == [2, 3]
    with pytest.raises(InvalidCursor) as caught:
        theirs.run(cursors={"page": first.next})
    assert caught.value.reason == "signature"


def test_a_page_in_reading_order_with_joins(db: Any) -> None:
    """A page may be turned round, and what is joined is on its rows alone."""
    fill(db, events=[{"_id": n, "user": n % 2} for n in range(5)], users=[{"_id": 0, "name": "Ann"}])
    page = PageOf(
        sort=[("_id", -1)],
        limit=2,
        reading_order=True,
        fields=["who"],
        joins=[One("users", local="user", foreign="_id", as_="who", fields={"name": 1, "_id": 0})],
    )
    told = of(db, page)
    assert told.items == [{"_id": 3, "who": None}, {"_id": 4, "who": {"name": "Ann"}}]
    assert told.next is not None


# Joins -----------------------------------------------------------------------------------------------------------


@EVERY
def test_what_is_joined_is_measured(db: Any, strategy: str) -> None:
    """Keys, measures and the filter of a branch may name what is joined onto each document, with values of the call."""
    fill(
        db,
        events=[{"_id": n, "user": n % 3, "n": n} for n in range(6)],
        users=[{"_id": 0, "team": "red", "age": 30}, {"_id": 1, "team": "blue", "age": 50}],
        votes=[{"event": 0, "by": "$x"}, {"event": 0, "by": "$x"}, {"event": 1, "by": "y"}],
    )
    joins = [
        One("users", local="user", foreign="_id", as_="who"),
        CountOf("votes", local="_id", foreign="event", as_="votes", where={"by": Param("voter")}),
        Many("votes", local="_id", foreign="event", as_="all"),
    ]
    measures = {"n": Count(), "age": Avg("who.age"), "votes": Sum("votes"), "voters": CollectSet("all.by")}
    report = bind(
        db,
        strategy,
        teams=GroupBy("who.team", joins=joins, measures=measures),
        red=Totals({"n": Sum("n")}, joins=joins[:1], where={"who.team": "red", "n": {"$gt": 0}}),
        some=Totals(N, joins=joins[:1], where={"$or": [{"who.team": "blue"}, {"n": 2}]}),
        plain=Totals(N),
    )
    halves = {"half": Ratio(Count(where={"who.team": "red"}), Count()), "n": Count()}
    [row] = of(db, GroupBy({"t": "none.x"}, joins=joins[:1], measures=halves), params=None)
    assert row == {"key": {"t": None}, "half": 2 / 6, "n": 6}
    rows = of(db, GroupBy("who.age", joins=joins[:1], measures=halves))
    assert [(each["key"], each["half"]) for each in rows] == [(None, 0.0), (30, 1.0), (50, 0.0)]
    result = report.run(params={"voter": "$x"})
    teams = result["teams"]
    assert [{**row, "voters": len(row["voters"])} for row in teams] == [
        {"key": None, "n": 2, "age": None, "votes": 0, "voters": 1},
        {"key": "blue", "n": 2, "age": 50.0, "votes": 0, "voters": 2},
        {"key": "red", "n": 2, "age": 30.0, "votes": 2, "voters": 2},
    ]
    assert (result["red"], result["some"], result["plain"]) == ({"n": 3}, {"n": 3}, {"n": 6})


@EVERY
def test_what_is_joined_onto_finished_rows(db: Any, strategy: str, commands: Any) -> None:
    """A name may be joined onto the rows that are given, by their key or a part of it, or by a measure."""
    fill(
        db,
        events=[{"user": n % 3, "place": {"_id": n % 2}} for n in range(7)],
        users=[{"_id": n, "name": f"u{n}"} for n in range(3)],
    )
    joins = [One("users", local="key", foreign="_id", as_="user", fields=["name"])]
    parts = [
        One("users", local="key.who", foreign="_id", as_="user"),
        CountOf("users", local="n", foreign="_id", as_="c"),
    ]
    last = [One("users", local="last", foreign="_id", as_="seen", where={"name": Param("name")})]
    report = bind(
        db,
        strategy,
        top=Top("user", measures=N, sort=[("n", -1)], limit=2, row_joins=joins),
        two=GroupBy({"who": "user", "at": "place._id"}, measures=N, limit=1, row_joins=parts),
        seen=GroupBy("none", measures={"last": Max("user")}, row_joins=last),
    )
    result = report.run(params={"name": "u2"})
    assert result["top"] == [
        {"key": 0, "n": 3, "user": {"_id": 0, "name": "u0"}},
        {"key": 1, "n": 2, "user": {"_id": 1, "name": "u1"}},
    ]
    assert result["two"] == [{"key": {"who": 0, "at": 0}, "n": 2, "user": {"_id": 0, "name": "u0"}, "c": 1}]
    assert result["seen"] == [{"key": None, "last": 2, "seen": {"_id": 2, "name": "u2"}}]
    assert report.run(params={"name": {"$ne": None}})["seen"][0]["seen"] is None


# Where documents come from -----------------------------------------------------------------------------------------


@EVERY
def test_source_stages_make_the_documents(db: Any, strategy: str) -> None:
    """Stages of one's own come before the filter: what they take apart is filtered, measured and paged."""
    fill(db, events=[{"_id": 1, "tags": ["a", "b"]}, {"_id": 2, "tags": ["b"]}, {"_id": 3}])
    source = [{"$unwind": "$tags"}, {"$set": {"_id": {"$concat": [{"$toString": "$_id"}, "$tags"]}}}]
    report = bind(
        db,
        strategy,
        source=source,
        tags=GroupBy("tags", measures=N),
        page=PageOf(sort=[("tags", -1)], limit=2, count="exact"),
    )
    result = report.run()
    assert result["tags"] == [{"key": "a", "n": 1}, {"key": "b", "n": 2}]
    assert [each["_id"] for each in result["page"].items] == ["2b", "1b"]
    assert result["page"].total == Total(3, "exact")
    following = report.run(cursors={"page": result["page"].next})["page"]
    assert [each["_id"] for each in following.items] == ["1a"]
    assert report.run({"tags": "a"})["tags"] == [{"key": "a", "n": 1}]


@EVERY
@pytest.mark.parametrize("consistent", [False, True])
def test_sources_that_stand_at_the_start_alone(db: Any, strategy: str, consistent: bool) -> None:
    """What the server takes at the start of a pipeline alone works: by distance, and by text."""
    db.events.create_index([("place", "2dsphere")])
    db.events.create_index([("title", "text")])
    fill(
        db,
        events=[{"_id": n, "place": [n, 0], "title": "red fox" if n % 2 else "blue fox", "n": n} for n in range(4)],
    )
    near = {
        "$geoNear": {"near": {"type": "Point", "coordinates": [0, 0]}, "distanceField": "far", "maxDistance": 250_000}
    }
    branches: dict[str, Any] = {
        "far": Totals({"n": Count(), "far": Max("far", scale=1 / 1000, round=0)}),
        "by": GroupBy("title", measures=N),
        "page": PageOf(sort=[("n", -1)], limit=1, count="exact"),
    }
    result = bind(db, strategy, source=[near], **branches).run({"n": {"$gt": 0}}, consistent=consistent)
    assert result["far"] == {"n": 2, "far": 223.0}
    assert [each["_id"] for each in result["page"].items] == [2]
    text = {"$match": {"$text": {"$search": "red"}}}
    result = bind(db, strategy, source=[text], by=branches["by"], page=branches["page"]).run(consistent=consistent)
    assert result["by"] == [{"key": "red fox", "n": 2}]
    assert (result["page"].items[0]["_id"], result["page"].total) == (3, Total(2, "exact"))
    result = bind(db, strategy, by=branches["by"], more=Totals(N)).run({"$text": {"$search": "blue"}})
    assert result == {"by": [{"key": "blue fox", "n": 2}], "more": {"n": 2}}


def test_stages_that_stand_alone(db: Any) -> None:
    """A Raw branch may hold what the server takes nowhere within a shared pass."""
    fill(db, events=[{"_id": 1}, {"_id": 2}])
    facets = Raw([{"$facet": {"a": [{"$count": "n"}], "b": [{"$limit": 1}]}}])
    for strategy in ("auto", "facet", "parallel"):
        result = bind(db, strategy, facets=facets, all=Totals(N), more=GroupBy("_id", measures=N)).run({"_id": 1})
        assert result["facets"] == [{"a": [{"n": 1}], "b": [{"_id": 1}]}]
        assert result["all"] == {"n": 1}


# Values of callers -------------------------------------------------------------------------------------------------

HOSTILE: list[Any] = [
    "$n",
    "$$ROOT",
    "$$NOW",
    {"$ne": None},
    {"$gt": ""},
    {"$where": "1"},
    {"$literal": 1},
    {"a": "$n"},
    ["$n"],
    "",
    "\0",
    None,
    True,
    Regex(".*"),
    Code("1"),
    MinKey(),
    MaxKey(),
    Decimal128("1"),
    math.inf,
]


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_values_of_callers_are_data(db: Any, value: Any) -> None:
    """Whatever a caller gives is compared, in filters of branches, measures and joins: it is never run."""
    fill(db, events=[{"_id": 1, "v": value}, {"_id": 2, "v": "other"}, {"_id": 3, "v": 7}], f=[{"_id": 1, "v": value}])
    equal = {"v": {"$eq": Param("v")}}
    branches: dict[str, Any] = {
        "branch": Totals(N, where={"v": Param("v")}),
        "eq": Totals(N, where=equal),
        "joined": Totals(
            {"n": Sum("c")}, joins=[CountOf("f", local="_id", foreign="_id", as_="c", where={"v": Param("v")})]
        ),
        "page": PageOf(sort=[("_id", 1)], where={"v": Param("v")}, count="exact"),
        "measure": Totals({"n": Count(where={"v": Param("v")}), "s": Sum("_id", where=equal)}),
    }
    for strategy in ("auto", "facet", "parallel"):
        result = bind(db, strategy, **branches).run(params={"v": value})
        assert result["branch"] == result["eq"] == result["joined"] == {"n": 1}
        assert result["page"].total == Total(1, "exact")
        assert result["measure"] == {"n": 1, "s": 1}


def test_params_are_asked_for_by_name(db: Any, commands: Any) -> None:
    """A value that is missing, or that nothing asks for, or that cannot be sent is refused; nothing is sent."""
    report = bind(
        db,
        a=Totals({"n": Count(where={"x": Param("one")})}),
        b=GroupBy("x", measures=N, row_joins=[One("f", local="key", foreign="_id", where={"y": Param("two")})]),
    )
    for params in (None, {}, {"one": 1}, {"one": 1, "two": 2, "three": 3}, 5, {"one": object(), "two": 2}):
        with pytest.raises(UsageError, match=r"^params:"):
            report.run(params=params)  # type: ignore[arg-type]
    assert commands.sent == []


VALUES: dict[str, Any] = {
    "oid": OID,
    "bytes": b"\xff\x00",
    "binary": Binary(b"x", 5),
    "uuid": Binary.from_uuid(uuid.UUID(int=7)),
    "nan": math.nan,
    "inf": math.inf,
    "decimal": Decimal128("1.50"),
    "decimal_nan": Decimal128("NaN"),
    "date": NOON,
    "timestamp": Timestamp(1, 1),
    "regex": Regex("^a", "i"),
    "code": Code("f()"),
    "ref": DBRef("users", OID),
    "min": MinKey(),
    "max": MaxKey(),
    "long": Int64(2**60),
    "list": [OID, [math.nan], {"a": b"x"}],
    "map": {"$a": OID, "x.y": None},
}
JSON = {
    "oid": str(OID),
    "bytes": "/wA=",
    "binary": "eA==",
    "uuid": "AAAAAAAAAAAAAAAAAAAABw==",
    "nan": None,
    "inf": None,
    "decimal": "1.50",
    "decimal_nan": None,
    "date": NOON.isoformat(),
    "timestamp": "1970-01-01T00:00:01+00:00",
    "regex": "^a",
    "code": "f()",
    "ref": {"$ref": "users", "$id": str(OID)},
    "min": "MinKey()",
    "max": "MaxKey()",
    "long": 2**60,
    "list": [str(OID), [None], {"a": "eA=="}],
    "map": {"$a": str(OID), "x.y": None},
}


def simple(value: Any) -> Any:
    """Encode what a web framework knows besides JSON."""
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value)} reached the encoder")


def test_rows_can_be_encoded_as_json(db: Any) -> None:
    """Rows of every branch are what JSON has, and dates and Decimals: ids, bytes and NaN are told in its terms."""
    fill(db, events=[{"_id": OID, "at": NOON, **VALUES}])
    names = list(VALUES)
    firsts = {name: First(name, by="at") for name in names}
    branches: dict[str, Any] = {
        "totals": Totals({**firsts, **{f"{name}_set": CollectSet(name) for name in names}}),
        "keys": GroupBy({name: name for name in names}, measures=N),
        "series": TimeBuckets("at", measures=firsts),
        "page": PageOf(sort=[("_id", 1)]),
        "raw": Raw([{"$limit": 1}]),
        **{f"d_{name}": Distinct(name) for name in names},
    }
    result = bind(db, **branches).run()
    result["page"] = result["page"].items
    plain = json.loads(json.dumps(result, default=simple, allow_nan=False))
    assert {name: plain["totals"][name] for name in names} == JSON
    assert plain["keys"] == [{"key": JSON, "n": 1}]
    assert plain["series"] == [{"bucket": BUCKETS[0].isoformat(), **JSON}]
    assert plain["page"] == plain["raw"] == [{"_id": str(OID), "at": NOON.isoformat(), **JSON}]
    assert plain["d_map"] == [JSON["map"]]
    assert plain["d_list"] == [[None], {"a": "eA=="}, str(OID)] or len(plain["d_list"]) == 3


def test_uuids_of_a_client_that_knows_them(db: Any) -> None:
    """A client may know how UUIDs are stored: they are keys, members of sets and values of callers, told as text."""
    options: CodecOptions[Any] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
    known = db.client.get_database(db.name, codec_options=options)
    one = uuid.UUID(int=7)
    fill(known, events=[{"_id": one, "u": one, "n": 1}, {"_id": 1, "u": one, "n": 1}])
    report = bind(
        known,
        by=GroupBy("u", measures={"n": Count(), "s": CollectSet("u"), "m": SumMap("none")}),
        page=PageOf(sort=[("n", 1)], limit=1, where={"u": Param("u")}),
    )
    result = report.run(params={"u": one})
    assert result["by"] == [{"key": str(one), "n": 2, "s": [str(one)], "m": {}}]
    following = report.run(params={"u": one}, cursors={"page": result["page"].next})["page"]
    assert [each["_id"] for each in (*result["page"].items, *following.items)] == [1, str(one)]


# Models ----------------------------------------------------------------------------------------------------------


class Summary(BaseModel):
    """A row, as a model."""

    n: int
    mean: float | None


@dataclass
class Platform:
    """A row, as a dataclass."""

    key: str | None
    n: int


class Item(TypedDict):
    """A document of a page, as a typed dict."""

    user: int


def test_rows_are_decoded_into_models(db: Any) -> None:
    """Each branch has its own model: of a row, of rows, of the items of a page; a row that does not fit is an error."""
    fill(db, events=SESSIONS)
    branches: dict[str, Any] = {
        "summary": Totals({"n": Count(), "mean": Avg("seconds")}, model=Summary),
        "by": GroupBy("platform", measures=N, model=Platform),
        "page": PageOf(sort=[("_id", 1)], limit=1, model=Item),
        "plain": Totals(N),
    }
    report = bind(db, **branches)
    result = report.run()
    assert result["summary"] == Summary(n=4, mean=75.0)
    assert result["by"][1:] == [Platform("ios", 1), Platform("web", 2)]
    assert result["page"].items == [{"user": 1}]
    assert isinstance(result["page"].next, str)
    assert result["plain"] == {"n": 4}
    assert report.run({"_id": 0})["summary"] == Summary(n=0, mean=None)
    db.events.insert_one({"platform": 5})
    with pytest.raises(pydantic.ValidationError):
        report.run()
    with pytest.raises(UsageError, match=r"^model:"):
        bind(db, a=Totals(N, model="Summary")).run()  # type: ignore[arg-type]


# What is refused -------------------------------------------------------------------------------------------------


def test_bad_arguments_are_named(db: Any, commands: Any) -> None:
    """A bad argument of a call is refused by name, before anything is sent."""
    report = bind(db, all=Totals(N), page=PageOf(sort=[("_id", 1)]))
    wrong: list[tuple[str, Any]] = [("filter", 5), ("filter", [("a", 1)]), ("filter", "x"), ("params", {"x": 1})]
    wrong += [("params", [1]), ("consistent", 1), ("consistent", None), ("cursors", "x"), ("timeout", 0)]
    wrong += [("timeout", -1), ("timeout", "1"), ("timeout", True)]
    for argument, value in wrong:
        with pytest.raises(UsageError, match=f"^{argument}:"):
            report.run(**{argument: value})
        if argument != "timeout":
            with pytest.raises(UsageError, match=f"^{argument}:"):
                report.explain(**{argument: value})
    assert commands.sent == []


def test_what_a_report_is_made_of(db: Any) -> None:
    """Target, spec and options are checked when the report is made."""
    spec = ReportSpec("events", branches={"a": Totals(N)})
    wrong: list[tuple[str, Any]] = [
        ("strategy", "fast"),
        ("strategy", None),
        ("spec", "events"),
        ("spec", spec.branches),
    ]
    wrong += [("target", db.client), ("target", "db"), ("read_preference", "secondary"), ("read_preference", 2)]
    wrong += [("allow_disk_use", 1), ("allow_disk_use", "yes")]
    for argument, value in wrong:
        with pytest.raises(UsageError, match=f"^{argument}:"):
            Report(**{"target": db, "spec": spec, argument: value})


def test_a_pattern_of_a_filter_is_the_callers(db: Any) -> None:
    """The filter of a call is as PyMongo's `find` takes it: patterns, operators and `$expr` included."""
    fill(db, events=SESSIONS)
    for filter_, n in (
        ({"platform": re.compile("^w")}, 2),
        ({"$expr": {"$gt": ["$seconds", 60]}}, 2),
        ({"$nor": [{"user": 1}]}, 2),
        ({"_id": {"$in": [1, 4]}}, 2),
    ):
        result = bind(db, all=Totals(N), page=PageOf(sort=[("_id", 1)], count="exact")).run(filter_)
        assert (result["all"]["n"], result["page"].total.value, len(result["page"].items)) == (n, n, n)
