"""Pages of a collection: frozen definitions, checked when they are made. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any, Final, Generic

from typing_extensions import TypeVar

from mongopatterns.errors import UsageError
from mongopatterns.expressions import check_path
from mongopatterns.fields import Fields, fresh
from mongopatterns.indexes import Index
from mongopatterns.joins._join_spec import JoinPart, check_joins, walk
from mongopatterns.specs import Sort, check_collection, check_no_place, check_sort, check_stages
from mongopatterns.verdicts import as_json

__all__ = ["Page", "PagerSpec"]

RowT = TypeVar("RowT", default=dict[str, Any])

MAX_LIMIT: Final = 10_000
"""How many documents a page has at most."""


@dataclass(frozen=True)
class Page(Generic[RowT]):
    """A page of documents.

    Attributes:
        items: The documents.
        next: The cursor to what comes after them in the order of the pages; None if there is nothing more.
        previous: The cursor to what comes before them; None if there is nothing.
    """

    items: list[RowT]
    next: str | None
    previous: str | None

    def __len__(self) -> int:
        """Return how many documents there are."""
        return len(self.items)

    def __iter__(self) -> Iterator[RowT]:
        """Give the documents."""
        return iter(self.items)

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes: ids as text, dates as ISO 8601."""
        return {"items": as_json(self.items), "next": self.next, "previous": self.previous}


@dataclass(frozen=True)
class PagerSpec:
    """Define the pages of a collection.

    Attributes:
        collection: The collection's name.
        sort: The order, as pairs of a path and 1 or -1. `_id` decides between documents that are equal in it, in the
            direction of the last pair.
        limit: How many documents a page has, unless a call says otherwise: up to 10,000.
        reading_order: Whether the documents of a page are given in the opposite order: of a chat that is sorted by the
            newest, a page then reads from top to bottom. `next` still leads to what comes later in `sort`.
        filter_by: The paths that the filter of every call compares with one value: they come first in the index.
        fields: What is given of the documents, unless a call says otherwise: a list of paths, to which `_id` is added,
            or an inclusion; None: everything.
        joins: What is joined onto the documents of a page.
        source: Stages of the caller's own that make the documents, before the filter of a call; each must have an
            `_id` that no other has. They are code: no value of a user may become a path or an operator in them.
        collation: How text is compared, as PyMongo takes it, such as `{"locale": "de", "strength": 2}`; None: by its
            characters, whatever the collection's own collation is.

    Raises:
        UsageError: If an argument is none of these.
    """

    collection: str
    _: KW_ONLY
    sort: Sequence[tuple[str, int]]
    limit: int = 50
    reading_order: bool = False
    filter_by: Sequence[str] = ()
    fields: Sequence[str] | Mapping[str, int] | None = field(default=None, hash=False)
    joins: Sequence[JoinPart] = ()
    source: Sequence[Mapping[str, Any]] = field(default=(), hash=False)
    collation: Mapping[str, Any] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        check_collection(self.collection)
        sort = check_sort("sort", self.sort)
        if not sort:
            raise UsageError("sort", "by what? Such as [('created_at', -1)]")
        for path, _ in sort:
            check_no_place("sort", path)
        object.__setattr__(self, "sort", sort)
        check_limit(self.limit)
        if isinstance(self.filter_by, str) or not isinstance(self.filter_by, Sequence):
            raise UsageError("filter_by", f"expected a list of paths, got {self.filter_by!r:.100}")
        for path in self.filter_by:
            check_path("filter_by", path)
        object.__setattr__(self, "filter_by", tuple(self.filter_by))
        object.__setattr__(self, "joins", check_joins(self.joins))
        object.__setattr__(self, "source", check_stages("source", self.source))
        object.__setattr__(self, "_given", Fields.of("fields", self.fields))
        object.__setattr__(self, "fields", fresh(self.fields))
        if self.collation is not None:
            if not isinstance(self.collation, Mapping) or not isinstance(self.collation.get("locale"), str):
                raise UsageError("collation", f"expected a dict with a locale, got {self.collation!r:.100}")
            object.__setattr__(self, "collation", dict(self.collation))

    @property
    def given(self) -> Fields | None:
        """The fields, checked."""
        return self._given  # type: ignore[attr-defined, no-any-return]  # no field: it follows from `fields`

    @property
    def parts(self) -> tuple[JoinPart, ...]:
        """The joins, checked."""
        return self.joins  # type: ignore[return-value]

    @cached_property
    def params(self) -> frozenset[str]:
        """The names of the values that each call has to give."""
        return frozenset(name for part in walk(self.parts) for name in part.filter.params)

    @cached_property
    def order(self) -> Sort:
        """The order in full: no two documents are equal in it."""
        sort: Sort = self.sort  # type: ignore[assignment]  # (checked)
        paths = [path for path, _ in sort]
        if "_id" in paths:  # (what comes behind it decides nothing)
            return sort[: paths.index("_id") + 1]
        return (*sort, ("_id", sort[-1][1]))

    def indexes(self) -> tuple[Index, ...]:
        """Return the index by which a page is read without a sort, and from its first document on."""
        found = None if self.source else wanted(self.filter_by, self.order, self.collation)
        return () if found is None else (found,)


def wanted(equal: Sequence[str], order: Sort, collation: Mapping[str, Any] | None) -> Index | None:
    """Return the index for an order, behind paths that are compared with one value; None where every one is there."""
    leading = [path for path in dict.fromkeys(equal) if path != "_id"]
    rest = [(path, direction) for path, direction in order if path not in leading]
    if "_id" in equal or (not leading and [path for path, _ in rest] == ["_id"]):
        return None
    return Index(*leading, *rest, collation=collation)


def check_limit(limit: object, argument: str = "limit") -> int:
    """Return how many documents a page has.

    Raises:
        UsageError: If it is no whole number from 1 to 10,000.
    """
    if type(limit) is not int or not 1 <= limit <= MAX_LIMIT:
        raise UsageError(argument, f"expected a whole number from 1 to {MAX_LIMIT}, got {limit!r:.100}")
    return limit
