"""The parts of a report: frozen definitions, checked when they are made. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any, ClassVar, Final, Literal, TypeAlias, get_args

from bson import Decimal128

from mongopatterns.errors import UsageError
from mongopatterns.expressions import check_path, check_time
from mongopatterns.fields import fresh
from mongopatterns.filters import Where
from mongopatterns.joins._join_spec import JoinPart, check_joins, walk
from mongopatterns.paging._pager_spec import PagerSpec
from mongopatterns.reports._measures import CollectSet, Count, Measure
from mongopatterns.specs import Sort, check_no_place, check_sort, check_stages
from mongopatterns.windows import check_zone

__all__ = [
    "Branch",
    "Capped",
    "CountMode",
    "Distinct",
    "GroupBy",
    "Histogram",
    "PageOf",
    "Percentiles",
    "Raw",
    "TimeBuckets",
    "TimeUnit",
    "Top",
    "Totals",
]

TimeUnit: TypeAlias = Literal["hour", "day", "week", "month", "quarter", "year"]
"""How long a bucket of time is; a week begins on Monday."""

_MOST_ROWS: Final = 100_000
_MOST_BOUNDARIES: Final = 1_000
_LEAST_BOUNDARIES: Final = 2


@dataclass(frozen=True)
class Capped:
    """Count up to a number, which is quick, and say then that there are at least so many.

    Attributes:
        at: The number.
    """

    at: int

    def __post_init__(self) -> None:
        _check_limit("Capped.at", self.at)


CountMode: TypeAlias = Literal["none", "exact", "estimated"] | Capped
"""How the rows behind a page are counted."""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One part of a report: base of `Totals`, `GroupBy`, `TimeBuckets` ...

    Attributes:
        where: A filter for the documents of this branch, besides that of the report. `Param("name")` stands for a
            value that each call gives.
        joins: What is joined onto each document before it is measured (`One`, `Many` ...); `where`, keys and measures
            may name what was joined. The server joins onto every document that the report reads.
        model: What rows are decoded into: a Pydantic model, a dataclass or a typed dict.
    """

    where: Mapping[str, Any] | None = field(default=None, hash=False)
    joins: Sequence[JoinPart] = ()
    model: type[Any] | None = None

    def __post_init__(self) -> None:
        where = Where(self.where or {})
        object.__setattr__(self, "where", None if self.where is None else fresh(dict(self.where)))
        object.__setattr__(self, "_filter", where)
        object.__setattr__(self, "joins", check_joins(self.joins))

    @property
    def filter(self) -> Where:
        """The filter, checked."""
        return self._filter  # type: ignore[attr-defined, no-any-return]  # no field: it follows from `where`

    @property
    def parts(self) -> tuple[JoinPart, ...]:
        """The joins, checked."""
        return self.joins  # type: ignore[return-value]

    @property
    def params(self) -> frozenset[str]:
        """The names of the values that a call has to give."""
        return self.filter.params | _params_of(self.parts)


def _params_of(parts: Sequence[JoinPart]) -> frozenset[str]:
    return frozenset(name for part in walk(parts) for name in part.filter.params)


@dataclass(frozen=True, kw_only=True)
class Measured(Branch):
    """A branch that measures: what those have in common.

    Attributes:
        reserved: Names of a row that no measure can have.
    """

    measures: Mapping[str, Measure] = field(default_factory=dict, hash=False)

    reserved: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "measures", _check_measures(self.measures, self.reserved))

    @property
    def params(self) -> frozenset[str]:
        """The names of the values that a call has to give."""
        return super().params.union(*(measure.params for measure in self.measures.values()))


def _check_measures(measures: object, reserved: frozenset[str]) -> dict[str, Measure]:
    if not isinstance(measures, Mapping) or not measures:
        raise UsageError("measures", f"expected measures by name, such as {{'n': Count()}}, got {measures!r:.100}")
    for name, measure in measures.items():
        _check_name("measures", name)
        if name in reserved:
            raise UsageError("measures", f"{name!r} is a name of every row: give the measure another one")
        if not isinstance(measure, Measure):
            raise UsageError("measures", f"{name!r}: expected a measure such as Count(), got {measure!r:.100}")
    return dict(measures)


def _check_name(argument: str, name: object) -> str:
    checked = check_path(argument, name)
    if "." in checked or checked == "_id":
        raise UsageError(argument, f"{name!r} cannot be a name of a row: use text without dots, and not _id")
    return checked


def _check_limit(argument: str, limit: object) -> None:
    if type(limit) is not int or not 1 <= limit <= _MOST_ROWS:
        raise UsageError(argument, f"expected a whole number from 1 to {_MOST_ROWS}, got {limit!r:.100}")


@dataclass(frozen=True)
class Totals(Measured):
    """Measure all documents: one row, a dict.

    Attributes:
        measures: The measures, by name.
        where, joins, model: As of every `Branch`.
    """

    measures: Mapping[str, Measure] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class GroupBy(Measured):
    """Measure the documents of each value of a key: a list of rows, `{"key": value, **measures}`.

    Values are compared by the server: 1 and 1.0 are one key. null and what is missing are one key, None. A list is one
    value. Of several fields the key is a dict.

    Attributes:
        by: The path of the key; a list of paths, whose names it has; or a dict of paths by name.
        measures: The measures, by name.
        sort: The order of the rows, as pairs of `"key"`, or the name of a measure, and 1 or -1; rows that are equal in
            it come by their key. By default they come by their key.
        limit: How many rows at most, the first ones; None: all.
        row_joins: What is joined onto the finished rows, such as the name of a user:
            `One("users", local="key", foreign="_id", as_="user", fields=["name"])`. The server joins onto the rows
            that are given alone.
        where, joins, model: As of every `Branch`.
    """

    by: str | Sequence[str] | Mapping[str, str] = field(default="", hash=False)
    _: KW_ONLY
    measures: Mapping[str, Measure] = field(default_factory=dict, hash=False)
    sort: Sequence[tuple[str, int]] | None = None
    limit: int | None = None
    row_joins: Sequence[JoinPart] = ()

    reserved: ClassVar[frozenset[str]] = frozenset({"key"})

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "by", _check_keys(self.by))
        object.__setattr__(self, "sort", _check_row_sort(self.sort, self.reserved | self.measures.keys()))
        apart = {name for name, measure in self.measures.items() if measure.apart}  # (its values are no part of a row)
        if maps := [name for name, _ in self.sort or () if name in apart]:
            raise UsageError("sort", f"{maps[0]!r} is a map of sums, by which nothing is sorted")
        if sets := [name for name, _ in self.sort or () if isinstance(self.measures.get(name), CollectSet)]:
            raise UsageError("sort", f"{sets[0]!r} is a set, by which nothing is sorted")
        if self.limit is not None:
            _check_limit("limit", self.limit)
        object.__setattr__(self, "row_joins", _check_row_joins(self.row_joins, {"key", *self.measures}))
        if maps := [part.local for part in self.row_joins if part.local.split(".")[0] in apart]:
            raise UsageError("row_joins", f"local={maps[0]!r} is a map of sums, by which nothing is joined")

    @property
    def keys(self) -> dict[str, str] | str:
        """The path of the key, or the paths by name."""
        return self.by  # type: ignore[return-value]  # (checked)

    @property
    def order(self) -> Sort:
        """The order of the rows, in full."""
        given: Sort = self.sort or ()  # type: ignore[assignment]  # (checked)
        return given if "key" in dict(given) else (*given, ("key", 1))

    @property
    def params(self) -> frozenset[str]:
        """The names of the values that a call has to give."""
        return super().params | _params_of(self.row_joins)


def _check_keys(by: object) -> str | dict[str, str]:
    if isinstance(by, str):
        _check_key_path(by)
        return by
    if isinstance(by, Mapping):
        paths = dict(by)
    elif isinstance(by, Sequence) and all(isinstance(path, str) for path in by):
        if dotted := [path for path in by if "." in path]:
            name = dotted[0].rpartition(".")[2]
            raise UsageError("by", f"{dotted[0]!r} needs a name: give a dict such as {{{name!r}: {dotted[0]!r}}}")
        paths = {path: path for path in by}
        if len(paths) < len(by):
            raise UsageError("by", f"names a path twice: {by!r:.100}")
    else:
        raise UsageError("by", f"expected a path, a list of paths, or a dict of paths by name, got {by!r:.100}")
    if not paths:
        raise UsageError("by", "expected at least one path; Totals has no key")
    for name, path in paths.items():
        _check_name("by", name)
        _check_key_path(path)
    return paths


def _check_key_path(path: object) -> None:
    check_no_place("by", check_path("by", path))


def _check_row_sort(sort: object, names: frozenset[str]) -> Sort | None:
    checked = check_sort("sort", sort)
    if unknown := [name for name, _ in checked or () if name not in names]:
        raise UsageError("sort", f"{unknown[0]!r} is no name of a row: it has {sorted(names)}")
    return checked


def _check_row_joins(joins: object, taken: set[str]) -> tuple[JoinPart, ...]:
    parts = check_joins(joins, "row_joins")
    for part in parts:
        if part.as_ in taken:
            raise UsageError("row_joins", f"{part.as_!r} is a name of every row: give the join another as_=")
        if part.local.split(".")[0] not in taken:
            raise UsageError("row_joins", f"local={part.local!r} names nothing of a row, which has {sorted(taken)}")
    return parts


@dataclass(frozen=True)
class Top(GroupBy):
    """Measure the documents of each value of a key, and give the first ones by a measure.

    Attributes:
        by: As of `GroupBy`.
        measures: The measures, by name.
        sort: What comes first, as pairs of the name of a measure, or `"key"`, and 1 or -1; ties come by their key.
        limit: How many rows at most.
        row_joins: As of `GroupBy`.
        where, joins, model: As of every `Branch`.
    """

    _: KW_ONLY
    limit: int | None = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sort:
            raise UsageError("sort", "what comes first? Such as [('minutes', -1)]; GroupBy has no first ones")
        if self.limit is None:
            raise UsageError("limit", "how many? GroupBy gives all")


@dataclass(frozen=True)
class TimeBuckets(Measured):
    """Measure the documents of each hour, day ... of a date: a list of rows, `{"bucket": start, **measures}`.

    Buckets follow the calendar of a zone: a day is 23 or 25 hours long where clocks change, and an hour begins at the
    full hour of the local clock. `bucket` is the instant at which one begins, with its zone, UTC. Documents without a
    date at the path are in none.

    Attributes:
        path: The dotted path of the date.
        unit: `"hour"`, `"day"`, `"week"` (from Monday), `"month"`, `"quarter"` or `"year"`.
        timezone: An IANA zone.
        fill: Whether buckets without documents are given, too: between the first and the last one that have some,
            and from and to the bounds that the filter (or `where`) sets to the path by `$gte`, `$gt`, `$lt`, `$lte`.
            At most 50,000 buckets.
        measures: The measures, by name.
        where, joins, model: As of every `Branch`.
    """

    path: str = ""
    _: KW_ONLY
    unit: TimeUnit = "day"
    timezone: str = "UTC"
    fill: bool = True
    measures: Mapping[str, Measure] = field(default_factory=dict, hash=False)

    reserved: ClassVar[frozenset[str]] = frozenset({"bucket"})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_no_place("path", check_path("path", self.path))
        if self.unit not in get_args(TimeUnit):
            raise UsageError("unit", f"expected one of {list(get_args(TimeUnit))}, got {self.unit!r:.100}")
        check_zone("timezone", self.timezone)


@dataclass(frozen=True)
class Histogram(Measured):
    """Measure the documents of each range of a value: a list of rows, `{"low": , "high": , **measures}`.

    Give one of `boundaries` and `buckets`. Documents whose value is of another kind (no number; no date) are in none.

    Attributes:
        path: The dotted path of the value.
        boundaries: The bounds of the ranges, rising, all numbers or all dates: a range has its lower bound in it, and
            not its upper one. Every range has a row, whether or not there are documents in it.
        outside: Whether there are two rows more, for what is below the first bound (`low` is None) and for what is not
            below the last (`high` is None).
        buckets: How many ranges at most the server is to choose, with about as many numbers in each. The last one has
            its upper bound in it.
        measures: The measures, by name; by default `{"n": Count()}`.
        where, joins, model: As of every `Branch`.
    """

    path: str = ""
    _: KW_ONLY
    boundaries: Sequence[int | float | Decimal | dt.datetime] | None = None
    buckets: int | None = None
    outside: bool = False
    measures: Mapping[str, Measure] = field(default_factory=lambda: {"n": Count()}, hash=False)

    reserved: ClassVar[frozenset[str]] = frozenset({"low", "high"})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_no_place("path", check_path("path", self.path))
        if (self.boundaries is None) == (self.buckets is None):
            raise UsageError("boundaries", "give one of boundaries= and buckets=")
        if self.boundaries is not None:
            object.__setattr__(self, "boundaries", _check_boundaries(self.boundaries))
        if self.buckets is not None:
            if type(self.buckets) is not int or not 1 <= self.buckets <= _MOST_BOUNDARIES:
                raise UsageError(
                    "buckets", f"expected a number from 1 to {_MOST_BOUNDARIES}, got {self.buckets!r:.100}"
                )
            if self.outside:
                raise UsageError("outside", "nothing is outside of the ranges that the server chooses")
            if apart := [name for name, measure in self.measures.items() if measure.apart]:
                raise UsageError("measures", f"{apart[0]!r} needs ranges that are known before: give boundaries=")

    @property
    def bounds(self) -> tuple[Any, ...]:
        """The bounds, as they are sent."""
        bounds: Sequence[Any] = self.boundaries or ()
        return tuple(Decimal128(bound) if isinstance(bound, Decimal) else bound for bound in bounds)

    @property
    def of_dates(self) -> bool:
        """Whether the ranges are of dates."""
        return bool(self.boundaries) and isinstance(self.boundaries[0], dt.datetime)  # type: ignore[index]


def _check_boundaries(boundaries: object) -> tuple[Any, ...]:
    if isinstance(boundaries, (str, bytes)) or not isinstance(boundaries, Sequence):
        raise UsageError("boundaries", f"expected rising numbers or dates, got {boundaries!r:.100}")
    if not _LEAST_BOUNDARIES <= len(boundaries) <= _MOST_BOUNDARIES:
        raise UsageError("boundaries", f"expected 2 to {_MOST_BOUNDARIES} of them, got {len(boundaries)}")
    dates = isinstance(boundaries[0], dt.datetime)
    checked: list[Any] = []
    for bound in boundaries:
        if dates:
            checked.append(check_time("boundaries", bound))
        elif isinstance(bound, bool) or not isinstance(bound, (int, float, Decimal)) or not Decimal(bound).is_finite():
            raise UsageError("boundaries", f"expected finite numbers, or dates alone, got {bound!r:.100}")
        else:
            checked.append(bound)
    if not all(low < high for low, high in pairwise(checked)):
        raise UsageError("boundaries", "they must rise, and none may be there twice")
    return tuple(checked)


@dataclass(frozen=True)
class Percentiles(Branch):
    """Find the values below which given parts of the numbers at a path lie: one row, `{"p50": , "p99": }`.

    The server's `$percentile` finds them, approximately: it needs MongoDB 7.0. An older server is refused
    (`DeploymentError`), because exact ones would need all values sorted in its memory.

    Attributes:
        path: The dotted path of the number; what is no number does not count.
        p: The parts, from 0 to 1.
        where, joins, model: As of every `Branch`.
    """

    path: str = ""
    _: KW_ONLY
    p: Sequence[float] = (0.5, 0.9, 0.99)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_no_place("path", check_path("path", self.path))
        if isinstance(self.p, (str, bytes)) or not isinstance(self.p, Sequence) or not self.p:
            raise UsageError("p", f"expected parts such as (0.5, 0.99), got {self.p!r:.100}")
        for part in self.p:
            if isinstance(part, bool) or not isinstance(part, (int, float)) or not 0 <= part <= 1:
                raise UsageError("p", f"expected parts from 0 to 1, got {part!r:.100}")
        object.__setattr__(self, "p", tuple(float(part) for part in self.p))
        if len(set(self.names)) < len(self.p):
            raise UsageError("p", "names a part twice")

    @property
    def names(self) -> list[str]:
        """The names in the row: `p50`, `p99.9`."""
        return [f"p{round(part * 100, 10):g}" for part in self.p]


@dataclass(frozen=True)
class Distinct(Branch):
    """List the different values at a path, in the server's order: of a list, the items.

    null and what is missing are left out.

    Attributes:
        path: The dotted path of the value.
        limit: How many there may be; a branch with more is refused (`ResultTooLarge`).
        where, joins: As of every `Branch`; there are no rows to decode.
    """

    path: str = ""
    _: KW_ONLY
    limit: int = 1_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_no_place("path", check_path("path", self.path))
        _check_limit("limit", self.limit)
        if self.model is not None:
            raise UsageError("model", "values are given as they are: there are no rows to decode")


@dataclass(frozen=True)
class PageOf(Branch):
    """Give a page of the documents themselves, and cursors to the next and the previous one: see `PagerSpec`.

    The page is a `ReportPage`. A cursor is given back to the report: `run(..., cursors={"page": page.next})`.

    Attributes:
        sort: The order, as pairs of a path and 1 or -1; `_id` decides between equals.
        limit: How many documents at most.
        fields: What is given of them: a list of paths, to which `_id` is added, or an inclusion; None: everything.
        count: Whether the documents of the report (and of `where`) are counted: `"none"`; `"exact"`; `Capped(1000)`, up
            to a number; or `"estimated"`, from what the server knows of the collection, where there is no filter (with
            one, or with `consistent=True`, they are counted exactly).
        reading_order: Whether the documents of a page come in the opposite order, as of a chat.
        where, joins, model: As of every `Branch`; joins are made onto the documents of the page alone.
    """

    sort: Sequence[tuple[str, int]] = ()
    _: KW_ONLY
    limit: int = 20
    fields: Sequence[str] | Mapping[str, int] | None = field(default=None, hash=False)
    count: CountMode = "none"
    reading_order: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count not in ("none", "exact", "estimated") and not isinstance(self.count, Capped):
            raise UsageError("count", f"expected 'none', 'exact', 'estimated' or Capped(n), got {self.count!r:.100}")
        pager = self.pager("documents")  # (its checks are those of a pager)
        object.__setattr__(self, "sort", pager.sort)
        object.__setattr__(self, "fields", pager.fields)

    def pager(self, collection: str, source: Sequence[Mapping[str, Any]] = ()) -> PagerSpec:
        """Return the definition of the pages."""
        return PagerSpec(
            collection,
            source=source,
            sort=self.sort,
            limit=self.limit,
            fields=self.fields,
            joins=self.joins,
            reading_order=self.reading_order,
        )


@dataclass(frozen=True)
class Raw(Branch):
    """Run stages of the caller's own: the list of what they give.

    Attributes:
        stages: The stages. They are code: no value of a user may become a path or an operator in them.
        where, joins, model: As of every `Branch`; both come before the stages.
    """

    stages: Sequence[Mapping[str, Any]] = field(default=(), hash=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "stages", check_stages("stages", self.stages, least=1))

    @property
    def operators(self) -> Iterator[str]:
        """The names of the stages."""
        return (name for stage in self.stages for name in stage)
