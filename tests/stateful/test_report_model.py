"""Reports against plain Python: random documents, branches and measures, by every strategy.

The reference is written from the promises and shares no code with the package: it has its own order of BSON values, its
own paths, filters, sums and calendars. Numbers are compared to twelve digits, because sums of halves divided by sixty
have no end.
"""

from __future__ import annotations

import base64
import copy
import datetime as dt
import itertools
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from bson import Decimal128, ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mongopatterns import (
    Avg,
    CollectSet,
    Count,
    CountDistinct,
    CountOf,
    Distinct,
    First,
    GroupBy,
    Histogram,
    Last,
    Many,
    Max,
    Min,
    One,
    Param,
    Ratio,
    Raw,
    Report,
    ReportSpec,
    Sum,
    SumMap,
    TimeBuckets,
    Top,
    Totals,
)

EXAMPLES = settings.default.max_examples  # many more with --hypothesis-profile=deep

UTC = dt.timezone.utc
MS, MINUTE, HOUR, DAY = (dt.timedelta(milliseconds=n) for n in (1, 60_000, 3_600_000, 86_400_000))
MISSING: Any = ...  # (a copy of it is itself)
Document = Mapping[str, Any]


# What the server makes of values ------------------------------------------------------------------------------


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal128, Decimal)) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """Return a number as Python can reckon with it."""
    return value.to_decimal() if isinstance(value, Decimal128) else value


def rank(value: Any) -> tuple[Any, ...]:
    """Return what sorts as the server sorts values, and is equal for two values that are equal to it."""
    return next((place, *of(value)) for place, (kind, of) in enumerate(RANKS) if isinstance(value, kind))


def rank_number(value: Any) -> tuple[Any, ...]:
    number = plain(value)
    if math.isnan(number):
        return (0,)
    return (1, Fraction(number) if math.isfinite(number) else float(number))


RANKS: list[tuple[Any, Callable[[Any], tuple[Any, ...]]]] = [
    (type(None), lambda _: ()),
    (bool, lambda value: ("bool", value)),  # (moved to its place below; Python finds it a number)
    ((int, float, Decimal128, Decimal), rank_number),
    (str, lambda value: (value.encode(),)),
    (Mapping, lambda value: (tuple((rank(item)[0], name.encode(), rank(item)) for name, item in value.items()),)),
    (list, lambda value: (tuple(map(rank, value)),)),
    (bytes, lambda value: (len(value), value)),
    (ObjectId, lambda value: (value.binary,)),
    (dt.datetime, lambda value: (value,)),
]
ORDERED = ["null", "-", "number", "text", "document", "array", "binary", "id", "date"]


def order(value: Any) -> tuple[Any, ...]:
    """Return the rank of a value, bools between ids and dates, in what is nested too."""
    place, *rest = rank(value)
    if isinstance(value, Mapping):
        rest = [tuple((order(item)[0], name.encode(), order(item)) for name, item in value.items())]
    if isinstance(value, list):
        rest = [tuple(map(order, value))]
    return (7.5 if isinstance(value, bool) else place, *rest)


def at(value: Any, path: str) -> Any:
    """Return what an expression of a path gives: of a list on the way a list."""
    for name in path.split("."):
        value = step(value, name)
    return value


def step(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name, MISSING)
    if isinstance(value, list):
        return [item[name] for item in value if isinstance(item, Mapping) and name in item]
    return MISSING


def held(document: Document, path: str) -> Any:
    """Return the same, and None for what is missing."""
    value = at(document, path)
    return None if value is MISSING else value


def shown(value: Any) -> Any:
    """Return a value as it is told."""
    if isinstance(value, Mapping):
        return {name: shown(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shown(item) for item in value]
    if is_number(value):
        return plain(value) if math.isfinite(plain(value)) else None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value) if isinstance(value, ObjectId) else value


def passes(document: Document, where: Mapping[str, Any] | None, params: Mapping[str, Any]) -> bool:
    """Tell whether a document matches a filter with the operators that are drawn here."""
    return all(
        compares(at(document, path), operator, params[value.name] if isinstance(value, Param) else value)
        for path, test in (where or {}).items()
        for operator, value in (test if isinstance(test, Mapping) else {"$eq": test}).items()
    )


def compares(value: Any, operator: str, other: Any) -> bool:
    if operator == "$exists":
        return (value is not MISSING) is other
    given = None if value is MISSING else value
    if operator in ("$eq", "$ne"):
        return (order(given) == order(other)) is (operator == "$eq")
    if operator in ("$in", "$nin"):
        return any(order(given) == order(each) for each in other) is (operator == "$in")
    if isinstance(given, list):
        return any(compares(item, operator, other) for item in given)
    if type(given) is not type(other) and not (is_number(given) and is_number(other)):
        return False
    given = plain(given)
    return bool({"$gte": given >= other, "$lt": given < other, "$lte": given <= other}[operator])


# Numbers ---------------------------------------------------------------------------------------------------------


def reckoned(operation: Callable[[Any, Any], Any], one: Any, other: Any) -> Any:
    """Reckon in the wider of two types: whole numbers, doubles, decimals."""
    one, other = plain(one), plain(other)
    if isinstance(one, Decimal) or isinstance(other, Decimal):
        with localcontext() as context:
            context.prec = 34
            return operation(Decimal(one), Decimal(other))
    return operation(one, other)


def added(values: list[Any]) -> Any:
    """Add numbers exactly; the sum has the widest of their types."""
    numbers = [plain(value) for value in values if is_number(value)]
    wide = Decimal if any(isinstance(each, Decimal) for each in numbers) else float
    if odd := [float(each) for each in numbers if not math.isfinite(each)]:
        return wide(sum(odd))
    total = sum(map(Fraction, numbers), start=Fraction(0))
    if all(isinstance(each, int) for each in numbers):
        return int(total)
    return Decimal(total.numerator) / total.denominator if wide is Decimal else float(total)


def product(one: Any, other: Any) -> Any:
    return one if other == 1 else reckoned(lambda a, b: a * b, one, other)


def quotient(one: Any, other: Any) -> Any:
    if not math.isfinite(one):
        return math.nan  # (it is told as None)
    return reckoned(lambda a, b: a / b, one, other)


@dataclass
class Rounded:
    """Stand for a number that is rounded to some places: to which side, where it lies in the middle, is not said."""

    value: Any
    places: int


def same(given: Any, wanted: Any) -> bool:
    """Tell whether what is told is what it should be."""
    if isinstance(wanted, Rounded):
        if wanted.value is None or not math.isfinite(wanted.value):
            return given is None
        step = Fraction(10) ** -wanted.places
        near = abs(Fraction(given) - Fraction(wanted.value)) <= step * Fraction(500_001, 1_000_000)
        return near and abs(Fraction(given) / step - round(Fraction(given) / step)) < Fraction(1, 10**6)
    if isinstance(wanted, Mapping):
        return (
            isinstance(given, Mapping)
            and list(given) == list(wanted)
            and all(same(given[n], wanted[n]) for n in wanted)
        )
    if isinstance(wanted, list):
        return isinstance(given, list) and len(given) == len(wanted) and all(map(same, given, wanted))
    if is_number(wanted) and is_number(given):
        return math.isclose(given, wanted, rel_tol=1e-12)  # (of equal values of several types any may be told)
    return type(given) is type(wanted) and bool(given == wanted)


# Measures, by hand -----------------------------------------------------------------------------------------------


def measured(measure: Any, documents: list[Any], params: Mapping[str, Any]) -> Any:
    """Return what a measure comes to over documents, before it is told."""
    counted = [document for document in documents if passes(document, measure.where, params)]
    if isinstance(measure, Ratio):
        above, below = (measured(part, documents, params) for part in (measure.of, measure.by))
        if above is None or below is None or below == 0:
            return None
        return scaled(quotient(above, below), measure)
    if isinstance(measure, Count):
        return len(counted)
    values = [held(document, measure.path) for document in counted]
    return BY_KIND[type(measure)](measure, values, counted)


def scaled(value: Any, measure: Any) -> Any:
    value = product(value, measure.scale)
    return value if measure.round is None else Rounded(value, measure.round)


def mean(measure: Any, values: list[Any], _: Any) -> Any:
    numbers = [value for value in values if is_number(value)]
    if not numbers:
        return None
    total = added(numbers)
    return scaled(reckoned(lambda a, b: a / b, total, len(numbers)) if math.isfinite(total) else total, measure)


def extreme(measure: Any, values: list[Any], _: Any) -> Any:
    found = sorted((value for value in values if value is not None), key=order)
    if not found:
        return None
    chosen = found[0] if isinstance(measure, Min) else found[-1]
    return scaled(plain(chosen), measure) if is_number(chosen) else chosen


def distinct(values: list[Any]) -> list[Any]:
    found = {order(value): value for value in values if value is not None}
    return [found[each] for each in sorted(found)]


def placed(measure: Any, _: Any, counted: list[Any]) -> Any:
    found = [document for document in counted if held(document, measure.by) is not None]
    if not found:
        return None
    found.sort(key=lambda each: (order(held(each, measure.by)), order(each["_id"])))
    return held(found[0 if isinstance(measure, First) else -1], measure.path)


def sums_by_name(_: Any, values: list[Any], __: Any) -> Any:
    maps = [value for value in values if isinstance(value, Mapping)]
    names = sorted({name for each in maps for name, value in each.items() if is_number(value)})
    return {name: added([each[name] for each in maps if name in each]) for name in names}


BY_KIND: dict[Any, Callable[[Any, list[Any], list[Any]], Any]] = {
    Sum: lambda measure, values, _: scaled(added(values), measure),
    Avg: mean,
    Min: extreme,
    Max: extreme,
    CountDistinct: lambda _, values, __: len(distinct(values)),
    CollectSet: lambda _, values, __: distinct(values),
    First: placed,
    Last: placed,
    SumMap: sums_by_name,
}


def row(branch: Any, documents: list[Any], params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: measured(measure, documents, params) for name, measure in branch.measures.items()}


def told(value: Any) -> Any:
    """Return a row as it is told, what is rounded as it is."""
    if isinstance(value, Mapping):
        return {name: told(item) for name, item in value.items()}
    return value if isinstance(value, Rounded) else shown(value)


# Branches, by hand -------------------------------------------------------------------------------------------------


def groups(branch: GroupBy, documents: list[Any], params: Mapping[str, Any]) -> list[Any]:
    """Return the rows of a branch, before they are cut."""
    found: dict[Any, tuple[Any, list[Any]]] = {}
    for document in documents:
        by = branch.by
        key = held(document, by) if isinstance(by, str) else {name: held(document, path) for name, path in by.items()}  # type: ignore[union-attr]
        found.setdefault(order(key), (key, []))[1].append(document)
    rows = [{"key": key, **row(branch, each, params)} for key, each in found.values()]
    for name, direction in reversed((*(branch.sort or ()), ("key", 1))):
        rows.sort(key=lambda each: order(each[name]), reverse=direction < 0)
    return rows


def midnights(day: dt.date, zone: str) -> set[dt.datetime]:
    """Return the instants at which a local day may be said to begin: two of them where midnight comes twice."""
    local = [dt.datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone), fold=fold) for fold in (0, 1)]
    found = {each.astimezone(UTC) for each in local}
    if (
        local[0].astimezone(UTC).astimezone(ZoneInfo(zone)).date()
        == day
        == local[1].astimezone(UTC).astimezone(ZoneInfo(zone)).date()
    ):
        return found
    return {max(found)}  # (it is skipped: the day begins where the clocks go on)


def label(instant: dt.datetime, unit: str, zone: str) -> Any:
    """Name the bucket of an instant: the first day of it, or the start of an hour."""
    local = instant.astimezone(ZoneInfo(zone))
    if unit == "hour":
        return instant - dt.timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    day = local.date()
    return {
        "day": day,
        "week": day - dt.timedelta(days=day.weekday()),
        "month": day.replace(day=1),
        "quarter": day.replace(month=[1, 4, 7, 10][(day.month - 1) // 3], day=1),
        "year": day.replace(month=1, day=1),
    }[unit]


def series(branch: TimeBuckets, documents: list[Any], params: Any, bounds: list[dt.datetime]) -> list[Any]:
    """Return the rows of a branch, with a label in place of the instant at which a bucket begins."""
    unit, zone = branch.unit, branch.timezone
    found: dict[Any, list[Any]] = {}
    for document in documents:
        if isinstance(instant := held(document, branch.path), dt.datetime):
            found.setdefault(label(instant, unit, zone), []).append(document)
    labels = sorted(found)
    if branch.fill and (labels or len(bounds) == 2):
        ends = sorted({*labels, *(label(bound, unit, zone) for bound in bounds)})
        if unit == "hour":
            first, last = ends[0], ends[-1]
            every = (first + n * 15 * MINUTE for n in range(int((last - first) / MINUTE) // 15 + 1))
            labels = sorted({*ends, *(each for each in (label(one, unit, zone) for one in every) if each >= first)})
        else:
            days = (dt.date.fromordinal(n) for n in range(ends[0].toordinal(), ends[-1].toordinal() + 1))
            labels = sorted({each for each in (label(noon(day, zone), unit, zone) for day in days) if each >= ends[0]})
    return [{"bucket": each, **row(branch, found.get(each, []), params)} for each in labels]


def noon(day: dt.date, zone: str) -> dt.datetime:
    return dt.datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def in_range(value: Any, low: Any, high: Any) -> bool:
    """Tell whether a value is of the kind of a range, and in it."""
    bound = low if low is not None else high
    if isinstance(bound, dt.datetime) != isinstance(value, dt.datetime):
        return False
    if not isinstance(value, dt.datetime) and (not is_number(value) or math.isnan(plain(value))):
        return False
    return (low is None or order(low) <= order(value)) and (high is None or order(value) < order(high))


def ranges(branch: Histogram, documents: list[Any], params: Any) -> list[Any]:
    edges = list(itertools.pairwise([None, *(branch.boundaries or ()), None]))
    return [
        {
            "low": low,
            "high": high,
            **row(branch, [each for each in documents if in_range(held(each, branch.path), low, high)], params),
        }
        for low, high in (edges if branch.outside else edges[1:-1])
    ]


def check(branch: Any, given: Any, documents: list[Any], params: Any, bounds: list[dt.datetime]) -> None:
    """Assert that what is told of a branch is what it should be."""
    documents = [{**document, **{part.as_: joined(document, part) for part in branch.joins}} for document in documents]
    documents = [document for document in documents if passes(document, branch.where, params)]
    if isinstance(branch, Totals):
        assert same(given, told(row(branch, documents, params)))
    elif isinstance(branch, GroupBy):
        rows = [told(each) for each in groups(branch, documents, params)]
        assert same(given, rows[: branch.limit]), rows
    elif isinstance(branch, TimeBuckets):
        rows = series(branch, documents, params, bounds)
        assert len(given) == len(rows), [each["bucket"] for each in rows]
        for each, wanted in zip(given, rows, strict=True):
            named = wanted["bucket"]
            assert each["bucket"] in ({named} if branch.unit == "hour" else midnights(named, branch.timezone))
            assert same(each, told({**wanted, "bucket": each["bucket"]}))
    elif isinstance(branch, Histogram) and branch.boundaries:
        assert same(given, [told(each) for each in ranges(branch, documents, params)])
    elif isinstance(branch, Histogram):
        check_chosen(branch, given, documents, params)
    elif isinstance(branch, Distinct):
        values = [held(each, branch.path) for each in documents]
        items = [item for value in values for item in (value if isinstance(value, list) else [value])]
        assert same(given, shown(distinct(items)))
    else:
        assert same(given, [shown({"_id": each["_id"]}) for each in documents])


def check_chosen(branch: Histogram, given: list[Any], documents: list[Any], params: Any) -> None:
    """Assert that ranges hold all numbers once, one range after the other, and measure what is in them."""
    numbers = [
        each for each in documents if is_number(value := held(each, branch.path)) and not math.isnan(plain(value))
    ]
    assert (not given) is (not numbers)
    assert len(given) <= (branch.buckets or 0)
    assert all(one["high"] == other["low"] for one, other in itertools.pairwise(given))
    left = list(numbers)
    for each in given:
        inside = [one for one in left if order(each["low"]) <= order(held(one, branch.path)) < order(each["high"])]
        if each is given[-1]:
            inside = left
            assert order(each["high"]) == max(order(held(one, branch.path)) for one in inside)
        assert same(each, told({"low": each["low"], "high": each["high"], **row(branch, inside, params)}))
        left = [one for one in left if one not in inside]
    assert left == []


# What is joined: whole numbers, by a field that holds one, or nothing.
FOREIGN: list[dict[str, Any]] = [
    {"_id": 0, "x": 0, "team": "red", "w": 2.5},
    {"_id": 1, "x": 0, "team": "blue", "w": Decimal128("7")},
    {"_id": 2, "x": 2, "w": -1},
    {"_id": 3, "x": 0, "team": None},
]
JOINS = [
    One("f", local="n", foreign="_id", as_="j"),
    CountOf("f", local="n", foreign="x", as_="c"),
    Many("f", local="n", foreign="x", as_="all", fields=["w"]),
]

# By their names: filters on what is joined, and paths of it.
JOINED: dict[str, tuple[list[Any], list[str]]] = {
    "j": ([{"j.team": "red"}, {"j": None}, {"j.w": {"$exists": True}, "n": 0}], ["j.w", "j.team", "j", "j.team"]),
    "c": ([{"c": {"$gte": 1}}, {"c": 0, "n": {"$exists": True}}], ["c"]),
    "all": ([{"all": []}], ["all.w", "all._id", "all"]),
}


def joined(document: Document, part: Any) -> Any:
    """Return what is joined onto a document."""
    found = [each for each in FOREIGN if document.get("n") is not None and each[part.foreign] == plain(document["n"])]
    if isinstance(part, CountOf):
        return len(found)
    if isinstance(part, Many):
        return [{name: each[name] for name in ("_id", "w") if name in each} for each in found]
    return found[0] if found else None


# What is drawn -----------------------------------------------------------------------------------------------------

ZONES = ["UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Atlantic/Azores", "Asia/Kathmandu"]
ZONES += ["America/St_Johns", "America/Havana", "America/Santiago", "Africa/Casablanca"]
# A change of the clocks in each, and a moment that is none.
MOMENTS = {
    "UTC": ["2016-02-29T00:00", "2017-01-01T00:00"],
    "America/New_York": ["2017-03-12T07:00", "2017-11-05T06:00"],
    "Europe/Berlin": ["2018-03-25T01:00", "2018-10-28T01:00"],
    "Australia/Lord_Howe": ["2017-04-01T15:00", "2017-09-30T15:30"],
    "Atlantic/Azores": ["2018-03-25T01:00", "2018-10-28T01:00"],
    "Asia/Kathmandu": ["1985-12-31T18:30", "2016-12-31T18:15"],
    "America/St_Johns": ["2009-03-08T03:31", "2010-11-07T02:31", "2017-11-05T04:30"],
    "America/Havana": ["2016-03-13T05:00", "2016-11-06T05:00"],
    "America/Santiago": ["2017-08-13T04:00", "2017-05-14T03:00"],
    "Africa/Casablanca": ["2017-05-21T02:00", "2017-07-02T02:00"],
}
UNITS = ["hour", "day", "week", "month", "quarter", "year"]
IDS = [ObjectId(f"{n:024x}") for n in range(3)]
NUMBERS: list[Any] = [
    0,
    1,
    1.0,
    2,
    -3,
    0.5,
    -0.25,
    7,
    10,
    2.75,
    Decimal128("1"),
    Decimal128("2.5"),
    Decimal128("-0.1"),
    100,
]
ODD_NUMBERS: list[Any] = [math.nan, math.inf, -math.inf, Decimal128("NaN"), -0.0, Decimal128("Infinity")]
JUNK: list[Any] = [None, None, MISSING, MISSING, "a", "", "$a", True, False, {"a": 1}, {"a": 1.0}, {}, b"x", IDS[0]]
LISTS: list[Any] = [[], [1], [1, 2], [2, None], [[1]], [[None]], ["a", 1.0], [{"a": 1}]]
OLD = [dt.datetime(1955, 6, 15, 12, 7, tzinfo=UTC), dt.datetime(1969, 12, 30, 23, 59, 59, 999000, tzinfo=UTC)]
OLD += [dt.datetime(1979, 12, 31, 23, 59, 59, 999000, tzinfo=UTC), dt.datetime(1980, 1, 1, tzinfo=UTC)]
NAMES = ["like", "love", "", "$a", "é", "x.y", "m0"]


class Drawn:
    """Draw documents, branches and measures by chance, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.zone = self.one(ZONES)
        self.moment = dt.datetime.fromisoformat(self.one(MOMENTS[self.zone])).replace(tzinfo=UTC)
        self.params = {"n": self.chance.randrange(3), "s": self.one(["x", "$x", {"$ne": None}, None])}
        self.days = self.one([1, 3, 40, 800])
        self.lists = self.often(0.4)
        self.odd = self.often(0.4)
        self.joined: list[str] = []
        self.alike = self.often(0.4)  # (branches about the same documents, which may be told from the same groups)

    def one(self, choices: Any) -> Any:
        return self.chance.choice(choices)

    def often(self, probability: float) -> bool:
        return self.chance.random() < probability

    def some(self, choices: list[Any], most: int) -> list[Any]:
        return self.chance.sample(choices, self.chance.randrange(1, most + 1))

    # Documents

    def value(self) -> Any:
        if self.lists and self.often(0.2):
            return copy.deepcopy(self.one(LISTS))
        if self.odd and self.often(0.1):
            return self.one(ODD_NUMBERS)
        return copy.deepcopy(self.one(JUNK) if self.often(0.3) else self.one(NUMBERS))

    def instant(self) -> dt.datetime:
        if self.often(0.6):
            distance = self.one([0, 15, 30, 60, 120, 1440]) * self.one([1, -1]) * MINUTE
            return self.moment + distance + self.one([-MS, 0 * MS, 0 * MS, MS, MINUTE - MS])
        return self.moment + self.chance.randrange(-self.days * 86_400_000, self.days * 86_400_000) * MS

    def date(self) -> Any:
        if self.often(0.15):
            return self.one([None, MISSING, "2017-01-01", 5, [self.moment], *(OLD if self.days > 100 else [])])
        return self.instant()

    def names(self) -> Any:
        if self.often(0.2):
            return self.one([None, MISSING, 5, [{"like": 1}], {}])
        return {name: self.value() for name in self.some(NAMES, 4)} | {"like": self.one(NUMBERS)}

    def document(self, n: int) -> dict[str, Any]:
        drawn = {
            "_id": n,
            "k": self.value(),
            "g": self.one(["a", "b", "b", 1, 1.0, None, MISSING]),
            "v": self.value(),
            "w": self.one([*NUMBERS, None, "x", math.nan]),
            "n": self.one([0, 1, 2, 1.0, Decimal128("2"), None, MISSING]),
            "s": self.one(["x", "$x", {"$ne": None}, None, MISSING]),
            "at": self.date(),
            "m": self.names(),
            "d": {"v": self.value(), "k": self.one(["a", 1, None])} if self.often(0.7) else self.value(),
        }
        return without_missing(drawn)

    # Branches

    def where(self) -> Any:
        if self.joined and self.often(0.3):
            return self.one(JOINED[self.one(self.joined)][0])
        return self.one(
            [None] * 6
            + [
                {"n": 1},
                {"n": None},
                {"n": {"$ne": Param("n")}},
                {"n": {"$gte": Param("n"), "$lt": 3}},
                {"s": Param("s")},
            ]
            + [{"s": {"$in": ["x", None]}}, {"n": {"$exists": False}}, {"_id": -1}, {"s": {"$eq": Param("s")}, "n": 0}]
        )

    def path(self) -> str:
        if self.joined and self.often(0.5):
            return str(self.one(JOINED[self.one(self.joined)][1]))
        return str(self.one(["v", "v", "w", "d.v", "k", "at", "none", "d"]))

    def plain_measure(self) -> Any:
        options: dict[str, Any] = {"where": self.where()}
        kind = self.one([Count, Sum, Avg] if self.alike else [Count, Sum, Avg, CountDistinct])
        if kind in (Sum, Avg):
            options["scale"] = self.one([1, 1, 1, 2, 0.5, Decimal("0.1"), -1, 1 / 60])
        return kind(**options) if kind is Count else kind(self.path(), **options)

    def measure(self) -> Any:
        kinds = [None, None, None, Min, Max, First, Last, Ratio]
        kind = self.one(kinds if self.alike else [*kinds, CollectSet, SumMap])
        rounded = {"round": self.one([None, None, 0, 1, 2, -1])}
        scale = {"scale": self.one([1, 1, 2, Decimal("0.5"), -0.5, 100])}
        where = {"where": self.where()}
        if kind is None:
            made = self.plain_measure()
            return (
                type(made)(made.path, where=made.where, scale=made.scale, **rounded)
                if isinstance(made, (Sum, Avg))
                else made
            )
        if kind in (Min, Max):
            return kind(self.path(), **where, **scale, **rounded)
        if kind in (First, Last):
            return kind(self.path(), by=self.one(["at", "v", "w", "d.v"]), **where)
        if kind is Ratio:
            return Ratio(self.plain_measure(), self.plain_measure(), **scale, **rounded)
        return SumMap("m", **where) if kind is SumMap else CollectSet(self.path(), **where)

    def measures(self, *, apart: bool = True) -> dict[str, Any]:
        drawn = [self.measure() for _ in range(self.chance.randrange(1, 5))]
        kept = [each for each in drawn if apart or not each.apart] or [Count()]
        return {f"{'abcde'[n]}x": each for n, each in enumerate(kept)}

    def branch(self) -> Any:  # noqa: PLR0911  # one for each kind
        kind = self.one([Totals, GroupBy, GroupBy, Top, TimeBuckets, TimeBuckets, Histogram, Histogram, Distinct, Raw])
        joins = self.some(JOINS, 3) if self.often(0.4) and not self.alike else []
        self.joined = [part.as_ for part in joins]
        options: dict[str, Any] = {"joins": joins, "where": None if self.alike else self.where()}
        if kind is Distinct:
            return Distinct(self.path(), **options)
        if kind is Raw:
            return Raw([{"$sort": {"_id": 1}}, {"$project": {"_id": 1}}], **options)
        if self.often(0.5):
            self.joined = []  # (what is joined is a key, and is not measured)
        options["measures"] = self.measures()
        if kind is TimeBuckets:
            unit = self.one(UNITS if self.days < 100 else UNITS[1:])
            return TimeBuckets("at", unit=unit, timezone=self.zone, fill=self.often(0.6), **options)
        if kind is Histogram:
            return self.histogram(options)
        if kind is Totals:
            return Totals(**options)
        by = self.one(["g", "k", "d.k", "d.v", "d", "n", ["g", "n"], {"one": "d.k", "two": "k"}, ["k"]])
        if joins and self.often(0.8):
            path = str(self.one(JOINED[str(self.one([part.as_ for part in joins]))][1]))
            by = self.one([path, path, {"t": path, "n": "n"}, {"g": "g", "t": path}, "n"])
        sortable = [name for name, each in options["measures"].items() if self.is_sortable(each)]
        sort = [(name, self.one([1, -1])) for name in (self.some(sortable, len(sortable)) if sortable else [])]
        if kind is Top:
            return Top(by, sort=sort or [("key", -1)], limit=self.one([1, 2, 10]), **options)
        return GroupBy(by, sort=self.one([None, sort, [("key", -1)]]), limit=self.one([None, None, 2]), **options)

    def is_sortable(self, measure: Any) -> bool:
        if isinstance(measure, (Sum, Min, Max)):
            return measure.round is None and measure.scale == 1
        return isinstance(measure, (Count, CountDistinct, First, Last))

    def histogram(self, options: dict[str, Any]) -> Histogram:
        if self.often(0.3):
            return Histogram(
                "w", buckets=self.one([1, 2, 3, 10]), **{**options, "measures": self.measures(apart=False)}
            )
        numbers = sorted(
            self.chance.sample([-3, -0.25, 0, Decimal("0.5"), 1, 2.5, Decimal("2.75"), 10, 200], self.one([2, 3, 6]))
        )
        dates = sorted(
            {self.moment + self.chance.randrange(-self.days * 24, self.days * 24 + 1) * HOUR for _ in range(4)}
        )
        bounds = dates if len(dates) > 1 and self.often(0.3) else numbers
        path = "at" if bounds is dates else self.one(["v", "w", "d.v", "k"])
        return Histogram(path, boundaries=bounds, outside=self.often(0.5), **options)

    def filter(self) -> tuple[dict[str, Any], list[dt.datetime]]:
        """Draw a filter of the whole report, and the first and last instants that it lets through."""
        if self.often(0.5):
            return self.one([{}, {"n": {"$in": [0, 1, None]}}, {"n": 99}]), []
        first, last = sorted([self.instant(), self.instant()])
        closed = self.often(0.5)
        bounds = {"$gte": first, "$lte" if closed else "$lt": last}
        return {"at": bounds}, [first, last if closed else last - MS] if closed or first < last else []


def without_missing(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_missing(item) for name, item in value.items() if item is not MISSING}
    return value


@pytest.fixture
def stored(mongopatterns_db: Any) -> Callable[[list[dict[str, Any]]], Any]:
    """Give what stores documents in place of those that were."""
    mongopatterns_db.f.insert_many(copy.deepcopy(FOREIGN))

    def store(documents: list[dict[str, Any]]) -> Any:
        mongopatterns_db.events.delete_many({})
        if documents:
            mongopatterns_db.events.insert_many(copy.deepcopy(documents))
        return mongopatterns_db

    return store


quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2**48)


@settings(quick, max_examples=EXAMPLES * 3 // 2)
@given(seeds)
def test_every_branch_is_what_plain_python_makes_of_it(stored: Any, seed: int) -> None:
    """Whatever is stored and asked for: every branch is what loops over the documents give, by every strategy."""
    drawn = Drawn(seed)
    documents = [drawn.document(n) for n in range(drawn.one([0, 1, 5, 12, 25]))]
    branches = {f"b{n}": drawn.branch() for n in range(drawn.chance.randrange(1, 6))}
    filter_, bounds = drawn.filter()
    database = stored(documents)
    spec = ReportSpec("events", branches=branches)
    params = {name: value for name, value in drawn.params.items() if name in spec.params}
    found = [document for document in documents if passes(document, filter_, params)]
    for strategy in ("auto", "facet", "parallel"):
        report = Report(database, spec, strategy=strategy)  # type: ignore[arg-type]
        for _ in range(2):  # (what it has learned of groups may change how it goes on, and nothing else)
            result = report.run(filter_, params=params, consistent=drawn.often(0.1))
            assert list(result) == list(branches)
            for name, branch in branches.items():
                check(branch, result[name], found, params, bounds)


# The algebra of measures -------------------------------------------------------------------------------------------


def fields_of(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"m{end}": value for end, value in values.items()}


def value_of(end: str) -> str:
    return f"$m{end}"


def made_again(measure: Any) -> list[dict[str, Any]]:
    merged = fields_of(measure.merged(value_of))
    return [{"$set": merged}] if merged else []


def finished(measure: Any, value: Any) -> Any:
    """Return what is told, a set in its order."""
    told_ = measure.told(value)
    return shown(sorted(told_, key=order) if isinstance(measure, CollectSet) else told_)


@settings(quick, max_examples=EXAMPLES * 3 // 2)
@given(seeds)
def test_parts_that_are_kept_and_merged_are_the_whole(stored: Any, seed: int) -> None:
    """What is kept of some documents, and merged later with what was kept of others, tells the same as all at once."""
    drawn = Drawn(seed)
    documents = [drawn.document(n) for n in range(drawn.one([0, 1, 5, 12, 25]))]
    measure, params = drawn.measure(), drawn.params
    database = stored(documents)
    parts = drawn.one([1, 2, 3, 5])
    database.kept.drop()
    for part in range(parts):
        # (the pairs of maps are lists of lists until they are merged, which is why such a measure is apart)
        again = made_again(measure) if measure.apart else []
        group = {"$group": {"_id": part, **fields_of(measure.partial(params))}}
        of_part = {"$match": {"$expr": {"$eq": [{"$mod": ["$_id", parts]}, part]}}}
        database.events.aggregate([of_part, group, *again, {"$merge": "kept"}])
    merge: list[dict[str, Any]] = [
        {"$group": {"_id": None, **fields_of(measure.merge(value_of))}},
        *made_again(measure),
    ]
    two = {"$group": {"_id": {"$mod": ["$_id", 2]}, **fields_of(measure.merge(value_of))}}
    final = {"$project": {"_id": 0, "told": measure.final(value_of)}}
    wanted = told(measured(measure, documents, params))
    for stages in ([*merge, final], [two, *made_again(measure), *merge, final]):
        rows = list(database.kept.aggregate(stages))
        given = [finished(measure, each["told"]) for each in rows] or [measure.empty]
        assert len(given) == 1
        assert same(given[0], wanted), (measure, stages)
    if not measure.apart:
        whole = [
            {"$group": {"_id": None, **fields_of(measure.whole(params))}},
            {"$project": {"told": measure.final_of_whole(value_of)}},
        ]
        for each in database.events.aggregate(whole):
            assert same(finished(measure, each["told"]), wanted), measure
