"""What is worked out over the documents of a group: frozen definitions, and an algebra for the server. Pure.

Every measure is told in three steps. *Partial*: accumulators over documents, whose values are all that has to be kept
of them. *Merge*: accumulators over such values, and an expression that makes one such value of them again. *Final*: the
expression for what a reader is told. Whatever is grouped twice (dates by the quarter of an hour and then by the day),
and whatever will be kept and added to later, is merged; what is grouped once may take a shorter way, where a measure
has one (`whole`).

The values of a measure lie in fields of a group that begin with its own prefix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from decimal import Decimal
from typing import Any, ClassVar, Final, TypeAlias

from bson import Decimal128

from mongopatterns.conditions import check_condition, condition
from mongopatterns.errors import UsageError
from mongopatterns.expressions import check_path, literal
from mongopatterns.fields import fresh
from mongopatterns.filters import Where
from mongopatterns.specs import check_no_place

__all__ = [
    "Avg",
    "CollectSet",
    "Count",
    "CountDistinct",
    "First",
    "Last",
    "Max",
    "Measure",
    "Min",
    "Ratio",
    "Sum",
    "SumMap",
    "TooMany",
]

Expression: TypeAlias = Any
Accumulators: TypeAlias = dict[str, dict[str, Expression]]
"""Accumulators of a `$group`, by the end of their fields' names."""

Value: TypeAlias = Callable[[str], str]
"""Gives the expression that reads a value, by the end of its field's name."""

_PLACES: Final = range(-20, 101)  # what the server's `$round` takes
_MOST_VALUES: Final = 1_000_000


class TooMany(Exception):  # it is caught and told with the branch that it happened in
    """More values were found than a measure may hold."""


@dataclass(frozen=True)
class Measure(ABC):
    """Work out one value of a group of documents: base of `Count`, `Sum`, `Avg` ...

    Attributes:
        where: A filter: other documents do not count. Of its operators it takes `$eq $ne $gt $gte $lt $lte $in $nin
            $exists $not $and $or $nor`. `Param("name")` stands for a value that each call gives.
    """

    _: KW_ONLY
    where: Mapping[str, Any] | None = field(default=None, hash=False)

    empty: ClassVar[Any] = None
    """What is told of no documents."""

    apart: ClassVar[bool] = False
    """Whether it is worked out in a pipeline of its own."""

    @property
    def merges(self) -> bool:
        """Whether to merge its values costs little."""
        return True

    def __post_init__(self) -> None:
        where = Where(self.where or {})
        check_condition("where", where)
        object.__setattr__(self, "where", None if self.where is None else fresh(dict(self.where)))
        object.__setattr__(self, "_filter", where)

    @property
    def filter(self) -> Where:
        """The filter, checked."""
        return self._filter  # type: ignore[attr-defined, no-any-return]  # no field: it follows from `where`

    @property
    def params(self) -> frozenset[str]:
        """The names of the values that a call has to give."""
        return self.filter.params

    @property
    def paths(self) -> frozenset[str]:
        """The paths that it reads, those of its filter aside."""
        return frozenset()

    @abstractmethod
    def partial(self, params: Mapping[str, Any]) -> Accumulators:
        """Build the accumulators over documents."""

    @abstractmethod
    def merge(self, value: Value) -> Accumulators:
        """Build the accumulators over such values."""

    def merged(self, value: Value) -> dict[str, Expression]:  # noqa: ARG002  # (what is merged is such a value already)
        """Build the expressions that make one such value of what was merged, where they are not that already."""
        return {}

    @abstractmethod
    def final(self, value: Value) -> Expression:
        """Build the expression for what is told."""

    def whole(self, params: Mapping[str, Any]) -> Accumulators:
        """Build the accumulators over documents where nothing is merged."""
        return self.partial(params)

    def final_of_whole(self, value: Value) -> Expression:
        """Build the expression for what is told, given those."""
        return self.final(value)

    def told(self, value: Any) -> Any:
        """Return what is told, given what the server says.

        Raises:
            TooMany: If it holds more values than it may.
        """
        return value

    def _only(self, params: Mapping[str, Any], value: Expression, otherwise: Expression = "$$REMOVE") -> Expression:
        """Build the expression for a value of the documents that count."""
        if not self.where:
            return value
        return {"$cond": [condition(self.filter, params), value, otherwise]}


def _check_value_path(path: object) -> str:
    checked = check_path("path", path)
    check_no_place("path", checked)
    return checked


@dataclass(frozen=True)
class Count(Measure):
    """Count documents. Of none, 0.

    Attributes:
        where: As of every `Measure`.
    """

    empty: ClassVar[Any] = 0

    def partial(self, params: Mapping[str, Any]) -> Accumulators:
        """Build the accumulators over documents."""
        return {"": {"$sum": self._only(params, 1, 0)}}

    def merge(self, value: Value) -> Accumulators:
        """Build the accumulators over such values."""
        return {"": {"$sum": value("")}}

    def final(self, value: Value) -> Expression:
        """Build the expression for what is told."""
        return value("")


@dataclass(frozen=True)
class _OfPath(Measure):
    """What measures of the values at a path share."""

    path: str = ""  # (it has no default: `__post_init__` refuses none)
    _: KW_ONLY

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_value_path(self.path)

    @property
    def paths(self) -> frozenset[str]:
        """The path that it reads."""
        return frozenset((self.path,))


@dataclass(frozen=True)
class _Number(_OfPath):
    """What measures that may be scaled and rounded share."""

    _: KW_ONLY
    scale: int | float | Decimal = 1
    round: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_scale(self.scale)
        _check_round(self.round)

    def _shown(self, value: Expression) -> Expression:
        return _scaled(value, self.scale, self.round)


def _check_scale(scale: object) -> None:
    if isinstance(scale, bool) or not isinstance(scale, (int, float, Decimal)):
        raise UsageError("scale", f"expected a number to multiply by, such as 1/60, got {scale!r:.100}")
    if not Decimal(scale).is_finite() or not -(2**63) <= scale < 2**63:
        raise UsageError("scale", f"expected a finite number of 64 bits, got {scale!r:.100}")


def _check_round(places: object) -> None:
    if places is not None and (type(places) is not int or places not in _PLACES):
        raise UsageError("round", f"expected a number of decimal places up to {_PLACES[-1]}, got {places!r:.100}")


def _scaled(value: Expression, scale: float | Decimal, places: int | None) -> Expression:
    if scale != 1:
        value = {"$multiply": [value, Decimal128(scale) if isinstance(scale, Decimal) else scale]}
    return value if places is None else {"$round": [value, places]}


@dataclass(frozen=True)
class Sum(_Number):
    """Add up numbers; what is no number counts as 0. Of none, 0.

    The sum has the type that the server's `$sum` gives; integers past 64 bits become a double.

    Attributes:
        path: The dotted path of the number.
        where: As of every `Measure`.
        scale: What the sum is multiplied by.
        round: Decimal places, halves to the even digit, as the server rounds.
    """

    empty: ClassVar[Any] = 0

    def partial(self, params: Mapping[str, Any]) -> Accumulators:
        """Build the accumulators over documents."""
        return {"": {"$sum": self._only(params, f"${self.path}")}}

    def merge(self, value: Value) -> Accumulators:
        """Build the accumulators over such values."""
        return {"": {"$sum": value("")}}

    def final(self, value: Value) -> Expression:
        """Build the expression for what is told."""
        return self._shown(value(""))


@dataclass(frozen=True)
class Avg(_Number):
    """Take the mean of numbers; what is no number does not count. Of none, None.

    Attributes:
        path: The dotted path of the number.
        where: As of every `Measure`.
        scale: What the mean is multiplied by.
        round: Decimal places, halves to the even digit, as the server rounds.
    """

    def partial(self, params: Mapping[str, Any]) -> Accumulators:
        """Build the accumulators over documents: a mean of means would be wrong, so sum and number are kept."""
        value = f"${self.path}"
        counts = self._only(params, {"$cond": [{"$isNumber": value}, 1, 0]}, 0)
        return {"": {"$sum": self._only(params, value)}, "n": {"$sum": counts}}

    def merge(self, value: Value) -> Accumulators:
        """Build the accumulators over such values."""
        return {"": {"$sum": value("")}, "n": {"$sum": value("n")}}

    def final(self, value: Value) -> Expression:
        """Build the expression for what is told."""
        return self._shown({"$cond": [{"$eq": [value("n"), 0]}, None, {"$divide": [value(""), value("n")]}]})

    def whole(self, params: Mapping[str, Any]) -> Accumulators:
        """Build the server's own accumulator, which is quicker."""
        return {"": {"$avg": self._only(params, f"${self.path}")}}

    def final_of_whole(self, value: Value) -> Expression:
        """Build the expression for what is told."""
        return self._shown(value(""))


@dataclass(frozen=True)
class _Extreme(_Number):
    """The least or the greatest value."""

    operator: ClassVar[str]

    def partial(self, params: Mapping[str, Any]) -> Accumulators:
        """Build the accumulators over documents."""
        return {"": {self.operator: self._only(params, f"${self.path}")}}

    def merge(self, value: Value) -> Accumulators:
        """Build the accumulators over such values."""
        return {"": {self.operator: value("")}}

    def final(self, value: Value) -> Expression:
        """Build the expression for what is told."""
        shown = self._shown(value(""))
        return shown if shown == value("") else {"$cond": [{"$isNumber": value("")}, shown, value("")]}


@dataclass(frozen=True)
class Min(_Extreme):
    """Take the least value, in the server's order of values; null and what is missing do not count. Of none, None.

    Attributes:
        path: The dotted path of the value: a number, a date, text ...
        where: As of every `Measure`.
        scale: What a number is multiplied by.
        round: Decimal places of a number.
    """

    operator: ClassVar[str] = "$min"


@dataclass(frozen=True)
class Max(_Extreme):
    """Take the greatest value, in the server's order of values; null and what is missing do not count. Of none, None.

    Attributes:
        path: The dotted path of the value: a number, a date, text ...
        where: As of every `Measure`.
        scale: What a number is multiplied by.
        round: Decimal places of a number.
    """

    operator: ClassVar[str] = "$max"


@dataclass(frozen=True)
class _Values(_OfPath):
    """What measures of distinct values share."""

    @property
    def merges(self) -> bool:
        """Whether to merge its values costs little: sets are held twice, and united one by one."""
        return False

    def partial(self, params: Mapping[str, Any]) -> Accumulators:
        """Build the accumulators over documents."""
        return {"": {"$addToSet": self._only(params, {"$ifNull": [f"${self.path}", "$$REMOVE"]})}}

    def merge(self, value: Value) -> Accumulators:
        """Build the accumulators over such values."""
        return {"": {"$push": value("")}}

    def merged(self, value: Value) -> dict[str, Expression]:
        """Build the expressions that make one such value of what was merged."""
        union = {"$setUnion": ["$$value", "$$this"]}
        return {"": {"$reduce": {"input": value(""), "initialValue": [], "in": union}}}


def _check_limit(limit: object) -> None:
    if type(limit) is not int or not 1 <= limit <= _MOST_VALUES:
        raise UsageError("limit", f"expected a whole number from 1 to {_MOST_VALUES}, got {limit!r:.100}")


@dataclass(frozen=True)
class CountDistinct(_Values):
    """Count different values, as the server compares them; null and what is missing do not count. Of none, 0.

    The server holds the values of a group in memory while it counts. Past its 100 MB for a group the report is refused
    (`ResultTooLarge`): it is never a wrong number.

    Attributes:
        path: The dotted path of the value; a list is one value.
        where: As of every `Measure`.
    """

    empty: ClassVar[Any] = 0

    def final(self, value: Value) -> Expression:
        """Build the expression for what is told."""
        return {"$size": value("")}


@dataclass(frozen=True)
class CollectSet(_Values):
    """List different values in the server's order; null and what is missing do not count. Of none, an empty list.

    A group with more than `limit` is refused (`ResultTooLarge`).

    Attributes:
        path: The dotted path of the value; a list is one value.
        where: As of every `Measure`.
        limit: How many different values a group has at most.
    """

    _: KW_ONLY
    limit: int = 1_000

    empty: ClassVar[Any] = []  # it is copied for each row

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_limit(self.limit)

    def final(self, value: Value) -> Expression:
        """Build the expression for what is told: of too many, how many they are."""
        size = {"$size": value("")}
        return {"$cond": [{"$gt": [size, self.limit]}, size, value("")]}

    def told(self, value: Any) -> Any:
        """Return the values.

        Raises:
            TooMany: If they are more than the limit.
        """
        if isinstance(value, int):
            raise TooMany(f"{value:,} different values of {self.path!r}, more than limit={self.limit:,}")
        return value


@dataclass(frozen=True)
class _Placed(_OfPath):
    """The value of the document that comes first or last."""

    _: KW_ONLY
    by: str = ""

    operator: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_path("by", self.by)
        check_no_place("by", self.by)

    @property
    def paths(self) -> frozenset[str]:
        """The paths that it reads."""
        return frozenset((self.path, self.by))

    def partial(self, params: Mapping[str, Any]) -> Accumulators:
        """Build the accumulators over documents.

        Documents are compared field by field, so that the least of these has the least `by`, and of several the least
        `_id`: no sort is needed.
        """
        by = f"${self.by}"
        candidate = {"by": by, "id": {"$ifNull": ["$_id", None]}, "value": {"$ifNull": [f"${self.path}", None]}}
        placed = {"$cond": [{"$gt": [by, None]}, candidate, None]}
        return {"": {self.operator: self._only(params, placed)}}

    def merge(self, value: Value) -> Accumulators:
        """Build the accumulators over such values."""
        return {"": {self.operator: value("")}}

    def final(self, value: Value) -> Expression:
        """Build the expression for what is told."""
        return {"$ifNull": [f"{value('')}.value", None]}


@dataclass(frozen=True)
class First(_Placed):
    """Take the value of the document in which `by` is least; of several, the one with the least `_id`. Of none, None.

    Documents without a value at `by` do not count.

    Attributes:
        path: The dotted path of the value.
        by: The dotted path of what orders the documents, such as a date.
        where: As of every `Measure`.
    """

    operator: ClassVar[str] = "$min"


@dataclass(frozen=True)
class Last(_Placed):
    """Take the value of the document in which `by` is greatest; of several, the one with the greatest `_id`.

    Of no documents, None. Documents without a value at `by` do not count.

    Attributes:
        path: The dotted path of the value.
        by: The dotted path of what orders the documents, such as a date.
        where: As of every `Measure`.
    """

    operator: ClassVar[str] = "$max"


@dataclass(frozen=True)
class SumMap(_OfPath):
    """Add up the numbers of a field that maps names to numbers, name by name. Of none, an empty dict.

    A name with no number does not count. A group with more than `limit` names is refused (`ResultTooLarge`).

    Attributes:
        path: The dotted path of the map, such as `counts` in `{"counts": {"like": 2, "love": 1}}`.
        where: As of every `Measure`.
        limit: How many names a group has at most.
    """

    _: KW_ONLY
    limit: int = 1_000

    empty: ClassVar[Any] = {}  # it is copied for each row
    apart: ClassVar[bool] = True  # (an accumulator would have to hold the maps of all documents)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_limit(self.limit)

    @property
    def pairs(self) -> Expression:
        """The expression for the names and numbers of one document."""
        path = f"${self.path}"
        listed = {"$objectToArray": {"$cond": [{"$eq": [{"$type": path}, "object"]}, path, literal({})]}}
        return {"$filter": {"input": listed, "cond": {"$isNumber": "$$this.v"}}}

    def partial(self, params: Mapping[str, Any]) -> Accumulators:
        """Build the accumulators over documents: lists of pairs, to be merged."""
        return {"": {"$push": self._only(params, self.pairs)}}

    def merge(self, value: Value) -> Accumulators:
        """Build the accumulators over such values."""
        return {"": {"$push": value("")}}

    def merged(self, value: Value) -> dict[str, Expression]:
        """Build the expression that makes one list of pairs of several."""
        pairs = {"$reduce": {"input": value(""), "initialValue": [], "in": {"$concatArrays": ["$$value", "$$this"]}}}
        same = {"$filter": {"input": "$$pairs", "as": "pair", "cond": {"$eq": ["$$pair.k", "$$name"]}}}
        added = {"k": "$$name", "v": {"$sum": {"$map": {"input": same, "as": "pair", "in": "$$pair.v"}}}}
        names = {"$setUnion": ["$$pairs.k", []]}
        return {"": {"$let": {"vars": {"pairs": pairs}, "in": {"$map": {"input": names, "as": "name", "in": added}}}}}

    def final(self, value: Value) -> Expression:
        """Build the expression for what is told: of too many, how many they are."""
        size = {"$size": value("")}
        return {"$cond": [{"$gt": [size, self.limit]}, size, value("")]}

    def told(self, value: Any) -> Any:
        """Return the sums by name.

        Raises:
            TooMany: If they are more than the limit.
        """
        if isinstance(value, int):
            raise TooMany(f"{value:,} names in {self.path!r}, more than limit={self.limit:,}")
        return {pair["k"]: pair["v"] for pair in sorted(value, key=lambda pair: pair["k"])}


@dataclass(frozen=True)
class Ratio(Measure):
    """Divide one measure by another. None where the divisor is 0, or there is none.

    Attributes:
        of: What is divided: `Count`, `Sum`, `Avg` or `CountDistinct`.
        by: What it is divided by: the same.
        scale: What the quotient is multiplied by, such as 100.
        round: Decimal places, halves to the even digit, as the server rounds.
    """

    of: Measure = Count()  # (it is frozen; both are always given)
    by: Measure = Count()
    _: KW_ONLY
    scale: int | float | Decimal = 1
    round: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.where is not None:
            raise UsageError("where", "a Ratio has none: give it to the measures that are divided")
        for argument, part in (("of", self.of), ("by", self.by)):
            if not isinstance(part, (Count, Sum, Avg, CountDistinct)):
                raise UsageError(argument, f"expected Count, Sum, Avg or CountDistinct, got {part!r:.100}")
        _check_scale(self.scale)
        _check_round(self.round)

    @property
    def _parts(self) -> Sequence[tuple[str, Measure]]:
        return (("a", self.of), ("b", self.by))

    @property
    def merges(self) -> bool:
        """Whether to merge its values costs little."""
        return self.of.merges and self.by.merges

    @property
    def params(self) -> frozenset[str]:
        """The names of the values that a call has to give."""
        return self.of.params | self.by.params

    @property
    def paths(self) -> frozenset[str]:
        """The paths that it reads."""
        return self.of.paths | self.by.paths

    def partial(self, params: Mapping[str, Any]) -> Accumulators:
        """Build the accumulators over documents."""
        return {f"{end}{rest}": acc for end, part in self._parts for rest, acc in part.partial(params).items()}

    def merge(self, value: Value) -> Accumulators:
        """Build the accumulators over such values."""
        return {
            f"{end}{rest}": acc for end, part in self._parts for rest, acc in part.merge(_within(value, end)).items()
        }

    def merged(self, value: Value) -> dict[str, Expression]:
        """Build the expressions that make one such value of what was merged."""
        return {
            f"{end}{rest}": made for end, part in self._parts for rest, made in part.merged(_within(value, end)).items()
        }

    def final(self, value: Value) -> Expression:
        """Build the expression for what is told."""
        return self._quotient(self.of.final(_within(value, "a")), self.by.final(_within(value, "b")))

    def whole(self, params: Mapping[str, Any]) -> Accumulators:
        """Build the accumulators over documents where nothing is merged."""
        return {f"{end}{rest}": acc for end, part in self._parts for rest, acc in part.whole(params).items()}

    def final_of_whole(self, value: Value) -> Expression:
        """Build the expression for what is told, given those."""
        return self._quotient(self.of.final_of_whole(_within(value, "a")), self.by.final_of_whole(_within(value, "b")))

    def _quotient(self, above: Expression, below: Expression) -> Expression:
        variables = {"above": above, "below": below}
        none = {"$or": [{"$eq": ["$$below", 0]}, {"$eq": ["$$below", None]}]}
        quotient = _scaled({"$divide": ["$$above", "$$below"]}, self.scale, self.round)
        return {"$let": {"vars": variables, "in": {"$cond": [none, None, quotient]}}}


def _within(value: Value, end: str) -> Value:
    return lambda rest: value(f"{end}{rest}")
