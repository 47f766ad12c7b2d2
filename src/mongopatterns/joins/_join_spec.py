"""What is joined onto the documents of a collection: frozen definitions, checked when they are made. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, get_args

from mongopatterns.commands import REPLY
from mongopatterns.errors import UsageError
from mongopatterns.expressions import check_path
from mongopatterns.fields import Fields, fresh
from mongopatterns.filters import Param, Where
from mongopatterns.indexes import Index
from mongopatterns.joins._foreign_indexes import wanted
from mongopatterns.joins._keys import KeyForm
from mongopatterns.specs import Sort, check_collection, check_no_place, check_sort

__all__ = ["CountOf", "Exists", "JoinPart", "JoinSpec", "Many", "One", "Param", "SumOf", "ValueOf"]

_DEPTH: Final = 2
_LONGEST: Final = 2**31 - 1


@dataclass(frozen=True)
class JoinPart:
    """Say which documents of another collection belong to a document: base of `One`, `Many`, `CountOf` ...

    A document of `collection` belongs to a parent if a value at `foreign` equals one at `local`, as the server
    compares values: 1 and 1.0 are equal, 1 and True are not, and text never equals an ObjectId. A list stands for its
    items on both sides. null, and what is missing, equals nothing.

    Attributes:
        collection: The name of the collection that is joined.
        local: The dotted path of the keys in the parent.
        foreign: The dotted path of what they are compared with. It needs an index (see `JoinSpec.indexes`).
        as_: The field of the row that gets what is joined, in place of what it held; by default the collection's
            name.
        local_as: What the keys are turned into first: `"string"` makes text of ObjectIds and integers,
            `"objectid"` ObjectIds of text of 24 hexadecimal digits. What cannot be turned joins nothing.
        where: A filter for the documents that are joined. `Param("name")` stands for a value that each call gives.

    Raises:
        UsageError: If a path is none, or has a part of digits; a name cannot be a field; or the filter cannot be used
            in a join.
    """

    collection: str
    _: KW_ONLY
    local: str
    foreign: str
    as_: str = ""
    local_as: KeyForm | None = None
    where: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_collection(self.collection)
        for argument, path in (("local", self.local), ("foreign", self.foreign)):
            check_path(argument, path)
            check_no_place(argument, path)
        if not self.as_:
            object.__setattr__(self, "as_", self.collection)
        _check_name("as_", self.as_)
        if self.local_as is not None and self.local_as not in get_args(KeyForm):
            raise UsageError("local_as", f"expected 'string', 'objectid' or None, got {self.local_as!r}")
        object.__setattr__(self, "where", fresh(self.where))  # a copy, which nobody else can change
        object.__setattr__(self, "_filter", Where(self.where))

    @property
    def filter(self) -> Where:
        """The filter, checked."""
        return self._filter  # type: ignore[attr-defined, no-any-return]  # no field: it follows from `where`

    @property
    def order(self) -> Sort:
        """The order that is asked for; none if the order of `_id` will do."""
        return ()

    @property
    def inner(self) -> tuple[JoinPart, ...]:
        """What is joined onto the joined documents."""
        return ()


@dataclass(frozen=True, kw_only=True)
class _Documents(JoinPart):
    """What `One` and `Many` share: documents are given, in an order, whole or in part."""

    fields: Sequence[str] | Mapping[str, int] | None = field(default=None, hash=False)
    sort: Sequence[tuple[str, int]] | None = None
    joins: Sequence[JoinPart] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sort", check_sort("sort", self.sort))
        object.__setattr__(self, "joins", check_joins(self.joins))
        object.__setattr__(self, "_given", Fields.of("fields", self.fields))
        object.__setattr__(self, "fields", fresh(self.fields))

    @property
    def given(self) -> Fields | None:
        """The fields, checked."""
        return self._given  # type: ignore[attr-defined, no-any-return]  # no field: it follows from `fields`

    @property
    def order(self) -> Sort:
        return self.sort or ()  # type: ignore[return-value]  # (checked: a tuple of pairs)

    @property
    def inner(self) -> tuple[JoinPart, ...]:
        return self.joins  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True)
class One(_Documents):
    """Join the first document that belongs to a parent.

    Attributes:
        collection, local, foreign, as_, local_as, where: As of every `JoinPart`.
        fields: What of them is given: a list of dotted paths, to which `_id` is added, or PyMongo's inclusion such as
            `{"name": 1, "_id": 0}`; None: everything.
        sort: Their order, as pairs of a path and 1 or -1; documents that are equal in it come in the order of `_id`.
        joins: What is joined onto them in turn; nothing is joined onto that.
        default: What stands for it where there is none; every row gets its own copy.
    """

    default: Any = field(default=None, hash=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "default", fresh(self.default))


@dataclass(frozen=True, kw_only=True)
class Many(_Documents):
    """Join the list of all documents that belong to a parent.

    Attributes:
        collection, local, foreign, as_, local_as, where: As of every `JoinPart`.
        fields: What of them is given: a list of dotted paths, to which `_id` is added, or PyMongo's inclusion such as
            `{"name": 1, "_id": 0}`; None: everything.
        sort: Their order, as pairs of a path and 1 or -1; documents that are equal in it come in the order of `_id`.
        joins: What is joined onto them in turn; nothing is joined onto that.
        limit: How many of them at most, the first ones, for each parent.
    """

    limit: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limit is not None and (type(self.limit) is not int or not 1 <= self.limit <= _LONGEST):
            raise UsageError("limit", f"expected a whole number from 1, or None, got {self.limit!r}")


@dataclass(frozen=True)
class CountOf(JoinPart):
    """Join how many documents belong to a parent: see `JoinPart` for what it takes."""


@dataclass(frozen=True)
class Exists(JoinPart):
    """Join whether any document belongs to a parent: see `JoinPart` for what it takes."""


@dataclass(frozen=True, kw_only=True)
class SumOf(JoinPart):
    """Join the sum of a number over the documents that belong to a parent; what is no number counts as 0.

    The sum has the type that the server's `$sum` gives. One that leaves 64 bits, be it on the way, is a double.

    Attributes:
        collection, local, foreign, as_, local_as, where: As of every `JoinPart`.
        amount: The dotted path of the number.
    """

    amount: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_path("amount", self.amount)


@dataclass(frozen=True)
class ValueOf:
    """Compute the value at a path of the finished row.

    Attributes:
        path: The dotted path, which may lead into what was joined.
        default: What stands for a value that is missing or null.
    """

    path: str
    default: Any = field(default=None, hash=False)

    def __post_init__(self) -> None:
        check_path("ValueOf.path", self.path)
        object.__setattr__(self, "default", fresh(self.default))

    @property
    def root(self) -> str:
        """The field of the row that the path begins with."""
        return self.path.split(".")[0]


@dataclass(frozen=True)
class JoinSpec:
    """Define what is joined onto the documents of a collection.

    Attributes:
        collection: The name of the collection of the parents.
        joins: What is joined.
        computed: Fields that are computed when all is joined, by name, such as
            `{"status": ValueOf("response.status", default="not_answered")}`.

    Raises:
        UsageError: If two of them have one name, or joins are nested more than two deep.
    """

    collection: str
    _: KW_ONLY
    joins: Sequence[JoinPart]
    computed: Mapping[str, ValueOf] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_collection(self.collection)
        joins = check_joins(self.joins)
        if not joins:
            raise UsageError("joins", "expected at least one of One, Many, CountOf, Exists, SumOf")
        if _depth(joins) > _DEPTH:
            raise UsageError("joins", f"are nested at most {_DEPTH} deep: join the rest with a second JoinSpec")
        if not isinstance(self.computed, Mapping):
            raise UsageError("computed", f"expected a dict of ValueOf by name, got {self.computed!r:.100}")
        for name, value in self.computed.items():
            _check_name("computed", name)
            if not isinstance(value, ValueOf):
                raise UsageError("computed", f"{name!r}: expected ValueOf('path', default=...), got {value!r:.100}")
            if name in (part.as_ for part in joins):
                raise UsageError("computed", f"{name!r} is the name of a join")
            if value.root != name and value.root in self.computed:
                raise UsageError("computed", f"{name!r} reads {value.path!r}, which is computed itself")
        object.__setattr__(self, "joins", joins)
        object.__setattr__(self, "computed", dict(self.computed))

    @property
    def parts(self) -> tuple[JoinPart, ...]:
        """The joins, checked."""
        return self.joins  # type: ignore[return-value]

    @property
    def params(self) -> frozenset[str]:
        """The names of the values that each call has to give."""
        return frozenset(name for part in walk(self.parts) for name in part.filter.params)

    def indexes(self) -> dict[str, tuple[Index, ...]]:
        """Return the indexes without which the server would read whole collections, by collection."""
        found: dict[str, dict[Index, None]] = {}
        for part in walk(self.parts):
            if (index := wanted(part.foreign, part.filter.equal, part.order)) is not None:
                found.setdefault(part.collection, {})[index] = None
        return {collection: tuple(_longest(indexes)) for collection, indexes in found.items()}


def _longest(indexes: Iterable[Index]) -> list[Index]:
    """Leave out the indexes that another one begins with."""
    kept = list(indexes)
    return [
        one for one in kept if not any(other is not one and other.keys[: len(one.keys)] == one.keys for other in kept)
    ]


def walk(parts: Sequence[JoinPart]) -> Iterator[JoinPart]:
    """Give the joins, each before those that are nested in it."""
    for part in parts:
        yield part
        yield from walk(part.inner)


def in_full(part: JoinPart) -> list[tuple[str, int]]:
    """Return the order of what is joined: that which is asked for, and then that of `_id`."""
    ties = () if "_id" in dict(part.order) else (("_id", 1),)
    return [*part.order, *ties]


def check_joins(joins: object, argument: str = "joins") -> tuple[JoinPart, ...]:
    """Return joins as a tuple.

    Raises:
        UsageError: If they are no list of joins, or two of them give one field.
    """
    if isinstance(joins, JoinPart) or not isinstance(joins, Sequence):
        raise UsageError(argument, f"expected a list of One, Many, CountOf, Exists or SumOf, got {joins!r:.100}")
    names: set[str] = set()
    for part in joins:
        if not isinstance(part, JoinPart):
            raise UsageError(argument, f"expected One, Many, CountOf, Exists or SumOf, got {part!r:.100}")
        if part.as_ in names:
            raise UsageError("as_", f"two joins give {part.as_!r}: give one of them another as_=")
        names.add(part.as_)
    return tuple(joins)


def _depth(parts: Sequence[JoinPart]) -> int:
    return max((1 + _depth(part.inner) for part in parts), default=0)


def _check_name(argument: str, name: object) -> None:
    check_path(argument, name)
    if "." in str(name):
        raise UsageError(argument, f"{name!r} has a dot: it is one field at the top of the row")
    if name in ("_id", REPLY):
        raise UsageError(argument, f"{name!r} is taken: give it another name")
