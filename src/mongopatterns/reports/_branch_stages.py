"""What a branch asks the server for: its parts, each a list of stages behind the filter of the report. Pure.

Nearly every branch is one part. A measure that cannot be an accumulator (`SumMap`) is a part of its own, and so is the
number of the documents behind a page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mongopatterns.commands import REPLY
from mongopatterns.filters import LOGIC
from mongopatterns.joins._join_lookup import joined_stages
from mongopatterns.joins._join_spec import JoinPart
from mongopatterns.reports._branches import (
    Branch,
    Distinct,
    GroupBy,
    Histogram,
    Measured,
    Percentiles,
    Raw,
    TimeBuckets,
)
from mongopatterns.reports._measures import Avg, Count, CountDistinct, Measure, Ratio, Sum, Value
from mongopatterns.reports._times import slot, start

Stage: TypeAlias = dict[str, Any]
Stages: TypeAlias = list[Stage]

ROWS: Final = "rows"
COUNT: Final = "count"
PAGE: Final = "page"
MEASURE: Final = "measure "
"""What the role of a measure that is a part of its own begins with."""

NAN: Final = float("nan")
BELOW: Final = -1
"""The place of what lies below the first bound of a histogram."""

# What the server takes at the start of a pipeline alone, or nowhere within `$facet`.
_NOT_WITHIN_FACET: Final = frozenset(
    {
        "$collStats",
        "$currentOp",
        "$documents",
        "$facet",
        "$geoNear",
        "$indexStats",
        "$planCacheStats",
        "$search",
        "$searchMeta",
        "$vectorSearch",
    }
)

_FIRST: Final = "_mongopatterns_m"
"""What the fields of measures begin with where they stand beside fields of documents."""

# Measures that are told as numbers, and never as lists.
_NUMBERS: Final = (Avg, Count, CountDistinct, Ratio, Sum)

# What a part costs, besides its accumulators: about what the server does for each document anyway.
_BASE: Final = 2
# What it costs to find the bucket of a date, as much as so many accumulators.
_TIME: Final = 3


@dataclass(frozen=True)
class Part:
    """One pipeline of a branch, behind the filter of the report.

    Attributes:
        branch: The name of the branch.
        role: What it gives: `ROWS`, `COUNT`, `PAGE`, or `MEASURE` and the name of one.
        stages: The stages.
        weight: What it costs for each document, about, among its like.
        apart: Why it is never put beside others in one pass; empty if it may be.
    """

    branch: str
    role: str
    stages: Stages
    weight: int = _BASE
    apart: str = ""


@dataclass(frozen=True)
class Key:
    """What documents are grouped by.

    Attributes:
        first: The expression over documents.
        shown: The expressions over a finished group, by name.
        coarser: Turns the expression for the first key into that for the key of groups that belong together; None if
            documents are grouped once.
        whole: The expression over documents where they are to be grouped once all the same.
        some: Whether documents without a key (null) are in no group.
    """

    first: Any
    shown: Mapping[str, Any]
    coarser: Callable[[str], Any] | None = None
    whole: Any = None
    some: bool = False


def parts_of(name: str, branch: Branch, params: Mapping[str, Any]) -> list[Part]:
    """Build the parts of a branch; those of a page come from its pager."""
    early, late = _filters(branch, params)
    before = [*early, *joined_stages(branch.parts, params), *late]
    if isinstance(branch, GroupBy) and (stages := _grouped_before_joins(branch, early, late, params)):
        return [Part(name, ROWS, [*stages, *_after(branch, params)])]
    if isinstance(branch, Measured):
        return _measured(name, branch, before, params)
    if isinstance(branch, Percentiles):
        asked = {"input": f"${branch.path}", "p": list(branch.p), "method": "approximate"}
        return [Part(name, ROWS, [*before, {"$group": {"_id": None, "p": {"$percentile": asked}}}])]
    if isinstance(branch, Distinct):
        return [Part(name, ROWS, [*before, *_distinct(branch)])]
    if isinstance(branch, Raw):
        never = next((operator for operator in branch.operators if operator in _NOT_WITHIN_FACET), "")
        return [
            Part(
                name, ROWS, [*before, *map(dict, branch.stages)], apart=f"{never} cannot share a pass" if never else ""
            )
        ]
    raise TypeError(f"no branch: {branch!r:.100}")


def _filters(branch: Branch, params: Mapping[str, Any]) -> tuple[Stages, Stages]:
    """Build the filter of a branch: what there is to say before its joins, and what names what they join."""
    where = branch.filter.bound(params)
    joined = {part.as_ for part in branch.parts}
    late = {path: test for path, test in where.items() if _names(path, test, joined)}
    early = {path: test for path, test in where.items() if path not in late}
    return [{"$match": early}] if early else [], [{"$match": late}] if late else []


def _names(path: str, test: Any, joined: set[str]) -> bool:
    """Tell whether a part of a filter may name what is joined."""
    if path in LOGIC:
        return any(_names(inner, each, joined) for item in test for inner, each in item.items())
    return bool(joined) and (path.startswith("$") or _root(path) in joined)


def _distinct(branch: Distinct) -> Stages:
    return [
        {"$group": {"_id": f"${branch.path}"}},
        {"$unwind": "$_id"},  # (lists alone are taken apart; null and nothing are left out)
        {"$group": {"_id": "$_id"}},
        {"$match": {"$expr": {"$ne": ["$_id", None]}}},  # (and a list with null in it is a value)
        {"$sort": {"_id": 1}},
        {"$limit": branch.limit + 1},
    ]


# Measures ----------------------------------------------------------------------------------------------------


def _measured(name: str, branch: Measured, before: Stages, params: Mapping[str, Any]) -> list[Part]:
    within = {each: measure for each, measure in branch.measures.items() if not measure.apart}
    if isinstance(branch, Histogram) and branch.buckets is not None:
        return [Part(name, ROWS, [*before, *_chosen_ranges(branch, within, params)], 2 * _BASE)]
    key = _key(branch)
    stages = _grouped(key, within, params)
    weight = _BASE + len(stages[0].get("$group", ())) + _TIME * isinstance(branch, TimeBuckets)
    parts = [Part(name, ROWS, [*before, *stages, *_after(branch, params)], weight)]
    for each, measure in branch.measures.items():
        if measure.apart:
            parts.append(Part(name, f"{MEASURE}{each}", [*before, *_named_sums(key, measure, params)], 2 * _BASE))
    return parts


def _key(branch: Measured) -> Key:
    """Return what a branch groups documents by."""
    if isinstance(branch, GroupBy):
        if isinstance(branch.keys, str):
            return Key(f"${branch.keys}", {"key": "$_id"})
        # In a list, what is missing is null.
        paths = [f"${path}" for path in branch.keys.values()]
        return Key(paths, {"key": {each: {"$arrayElemAt": ["$_id", n]} for n, each in enumerate(branch.keys)}})
    if isinstance(branch, TimeBuckets):
        date, unit, zone = f"${branch.path}", branch.unit, branch.timezone
        whole = {"$cond": [{"$eq": [{"$type": date}, "date"]}, start(date, unit, zone), None]}
        return Key(
            slot(date, unit, zone),
            {"bucket": "$_id"},
            coarser=lambda begun: start(begun, unit, zone),
            whole=whole,
            some=True,
        )
    if isinstance(branch, Histogram):
        return Key(_range(branch), {"low": "$_id"}, some=True)
    return Key(None, {})


def _grouped_before_joins(branch: GroupBy, early: Stages, late: Stages, params: Mapping[str, Any]) -> Stages:
    """Build the stages of a branch whose keys are joined, and whose measures are not; none for any other.

    What is joined onto a document depends on the fields that the joins compare, and on nothing else. So documents are
    grouped by those first, and the joins are made onto the groups: a join for each airline, and not for each flight.
    """
    joined = {part.as_ for part in branch.parts}
    own = [path for path in _key_paths(branch) if _root(path) not in joined]
    kept = list(dict.fromkeys([*(part.local for part in branch.parts), *own]))
    filtered = {path for stage in late for path in _paths(stage["$match"])}
    measured = {path for measure in branch.measures.values() for path in _read(measure)}
    if (
        not branch.parts
        or any("." in path or path.startswith(_FIRST) for path in kept)
        or "_id" in kept  # (there would be as many groups as documents)
        or any(part.local_as for part in branch.parts)  # (1 and 1.0 are one group, and not one text)
        or not {_root(path) for path in filtered} <= joined  # (what is missing is null in a group)
        or joined & {_root(path) for path in measured}
        or any(path.startswith("$") for path in measured)
        or not all(measure.merges and not measure.apart for measure in branch.measures.values())
    ):
        return []
    key = _key(branch)
    fields = {path: {"$arrayElemAt": ["$_id", place]} for place, path in enumerate(kept)}
    first, again = _twice([f"${path}" for path in kept], key.first, key, _numbered(branch.measures, _FIRST), params)
    return [*early, first, {"$set": fields}, *joined_stages(branch.parts, params), *late, *again]


def _key_paths(branch: GroupBy) -> list[str]:
    return [branch.keys] if isinstance(branch.keys, str) else list(branch.keys.values())


def _read(measure: Measure) -> set[str]:
    """List the paths that a measure reads, and those that its filters name."""
    parts = (measure.of, measure.by) if isinstance(measure, Ratio) else (measure,)
    return {path for part in parts for path in (*part.paths, *_paths(part.where or {}))}


def _root(path: str) -> str:
    return path.split(".", maxsplit=1)[0]


def _paths(where: Mapping[str, Any]) -> list[str]:
    """List the paths that a filter names, and the operators that may name any."""
    found: list[str] = []
    for name, test in where.items():
        found += [path for item in test for path in _paths(item)] if name in LOGIC else [name]
    return found


def _grouped(key: Key, measures: Mapping[str, Measure], params: Mapping[str, Any]) -> Stages:
    """Build the stages that group documents, and tell what is measured."""
    numbered = _numbered(measures)
    some: Stages = [{"$match": {"_id": {"$ne": None}}}] if key.some else []
    if key.coarser is not None and all(measure.merges for measure in measures.values()):
        first, again = _twice(key.first, key.coarser("$_id"), key, numbered, params)
        return [first, *some, *again]
    group = {"_id": key.first if key.coarser is None else key.whole}
    for named, _, measure in numbered:
        group |= named.fields(measure.whole(params))
    finals = {name: measure.final_of_whole(named) for named, name, measure in numbered}
    return [{"$group": group}, *some, {"$project": {"_id": 0, **key.shown, **finals}}]


def _numbered(measures: Mapping[str, Measure], prefix: str = "m") -> list[tuple[_Named, str, Measure]]:
    """Give each measure fields of its own in a group."""
    return [(_Named(f"{prefix}{place}"), name, measure) for place, (name, measure) in enumerate(measures.items())]


def _twice(
    first_key: Any, again_key: Any, key: Key, numbered: Sequence[tuple[_Named, str, Measure]], params: Mapping[str, Any]
) -> tuple[Stage, Stages]:
    """Build the stage that groups documents, and the stages that group those groups and tell what is measured."""
    first: Stage = {"_id": first_key}
    again: Stage = {"_id": again_key}
    whole: Stage = {}
    for named, _, measure in numbered:
        first |= named.fields(measure.partial(params))
        again |= named.fields(measure.merge(named))
        whole |= named.fields(measure.merged(named))
    finals = {name: measure.final(named) for named, name, measure in numbered}
    made: Stages = [{"$set": whole}] if whole else []
    return {"$group": first}, [{"$group": again}, *made, {"$project": {"_id": 0, **key.shown, **finals}}]


@dataclass(frozen=True)
class _Named:
    """The fields of one measure in a group."""

    prefix: str

    def __call__(self, end: str) -> str:
        """Return the expression that reads one of them."""
        return f"${self.prefix}{end}"

    def fields(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values by the names of the fields."""
        return {f"{self.prefix}{end}": value for end, value in values.items()}


def _named_sums(key: Key, measure: Any, params: Mapping[str, Any]) -> Stages:
    """Build the stages that add up the numbers of maps, name by name."""
    value: Value = _Named("value")
    [(end, accumulator)] = measure.partial(params).items()
    pairs = accumulator["$push"]
    stages: Stages = [
        {"$project": {"_id": 0, "key": {"$ifNull": [key.first, None]}, "pair": pairs}},
        {"$unwind": "$pair"},
        {"$group": {"_id": {"key": "$key", "name": "$pair.k"}, "sum": {"$sum": "$pair.v"}}},
    ]
    if key.some:
        stages.append({"$match": {"_id.key": {"$ne": None}}})
    if key.coarser is not None:
        coarser = {"key": key.coarser("$_id.key"), "name": "$_id.name"}
        stages.append({"$group": {"_id": coarser, "sum": {"$sum": "$sum"}}})
    stages.append({"$group": {"_id": "$_id.key", f"value{end}": {"$push": {"k": "$_id.name", "v": "$sum"}}}})
    stages.append({"$project": {"_id": 0, **key.shown, "value": measure.final(value)}})
    return stages


def _after(branch: Measured, params: Mapping[str, Any]) -> Stages:
    """Build what comes after the rows are there: their order, and what is joined onto them."""
    if isinstance(branch, GroupBy):
        parts: Sequence[JoinPart] = branch.row_joins
        return [*_first_rows(branch), *joined_stages(parts, params)]
    if isinstance(branch, TimeBuckets):
        return [{"$sort": {"bucket": 1}}]
    return []


def _first_rows(branch: GroupBy) -> Stages:
    """Build the stages that sort rows and cut them.

    The server sorts a list by its least item, and two of them not at all. So what may be one is sorted by as a document
    that holds it: as one value.
    """
    limit: Stages = [{"$limit": branch.limit}] if branch.limit is not None else []
    plain = {name for name, measure in branch.measures.items() if isinstance(measure, _NUMBERS)}
    if not isinstance(branch.keys, str):
        plain.add("key")
    held = {name: f"v{place}" for place, (name, _) in enumerate(branch.order) if name not in plain}
    order = {f"{REPLY}.{held[name]}" if name in held else name: direction for name, direction in branch.order}
    if not held:
        return [{"$sort": order}, *limit]
    values = {place: {"v": f"${name}"} for name, place in held.items()}
    return [{"$set": {REPLY: values}}, {"$sort": order}, *limit, {"$unset": REPLY}]


# Ranges ------------------------------------------------------------------------------------------------------


def _range(branch: Histogram) -> Any:
    """Build the place of the range that a value lies in; null if there is none.

    The ranges are halved until one is left, so that a value is compared with few bounds.
    """
    value = f"${branch.path}"
    below: Any = {"$cond": [{"$eq": [value, NAN]}, None, BELOW]} if branch.outside else None
    above: Any = len(branch.bounds) - 1 if branch.outside else None
    places: list[Any] = [below, *range(len(branch.bounds) - 1), above]

    def search(low: int, high: int) -> Any:
        """Build the choice among the places from `low` up to `high`; the bound before a place has its number."""
        if high - low == 1:
            return places[low]
        middle = (low + high) // 2
        # (a bound is a number or a date, which is data wherever it stands)
        return {"$cond": [{"$lt": [value, branch.bounds[middle - 1]]}, search(low, middle), search(middle, high)]}

    kind = {"$eq": [{"$type": value}, "date"]} if branch.of_dates else {"$isNumber": value}
    return {"$cond": [kind, search(0, len(places)), None]}


def _chosen_ranges(branch: Histogram, measures: Mapping[str, Measure], params: Mapping[str, Any]) -> Stages:
    value = f"${branch.path}"
    numbered = _numbered(measures)
    output: dict[str, Any] = {}
    for named, _, measure in numbered:
        output |= named.fields(measure.whole(params))
    return [
        {"$match": {"$expr": {"$and": [{"$isNumber": value}, {"$gt": [value, NAN]}]}}},
        {"$bucketAuto": {"groupBy": value, "buckets": branch.buckets, "output": output}},
        {
            "$project": {
                "_id": 0,
                "low": "$_id.min",
                "high": "$_id.max",
                **{name: measure.final_of_whole(named) for named, name, measure in numbered},
            }
        },
    ]
