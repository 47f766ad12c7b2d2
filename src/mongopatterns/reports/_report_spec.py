"""A report: frozen definitions, checked when they are made. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Generic, Literal, TypeAlias

from typing_extensions import TypeVar

from mongopatterns.errors import UsageError
from mongopatterns.indexes import Index
from mongopatterns.reports._branches import Branch, PageOf
from mongopatterns.specs import check_collection, check_stages

__all__ = ["ReportPage", "ReportSpec", "Total"]

RowT = TypeVar("RowT", default=dict[str, Any])

Relation: TypeAlias = Literal["exact", "at_least", "about"]


@dataclass(frozen=True)
class Total:
    """How many documents there are behind a page.

    Attributes:
        value: The number.
        relation: `"exact"`; `"at_least"`, where counting stopped; or `"about"`, where the server was asked what it
            knows of the collection.
    """

    value: int
    relation: Relation


@dataclass(frozen=True)
class ReportPage(Generic[RowT]):
    """A page of documents.

    Attributes:
        items: The documents.
        next: The cursor to the page behind it; None if there is nothing more.
        previous: The cursor to the page before it; None if there is none.
        total: How many there are on all pages; None if they were not counted.
    """

    items: list[RowT]
    next: str | None
    previous: str | None
    total: Total | None = None


@dataclass(frozen=True)
class ReportSpec:
    """Define what is told of the documents of a collection.

    Attributes:
        collection: The collection's name.
        branches: The parts of the report, by name.
        source: Stages of the caller's own that come first, before the filter of a call: what the server takes only
            there (`$search`, `$geoNear`), or what makes the documents that are told of (`$unwind`, `$set`). They are
            code: no value of a user may become a path or an operator in them.

    Raises:
        UsageError: If there is no branch, or something else than a branch; or `source` is no list of stages.
    """

    collection: str
    _: KW_ONLY
    branches: Mapping[str, Branch] = field(hash=False)
    source: Sequence[Mapping[str, Any]] = field(default=(), hash=False)

    def __post_init__(self) -> None:
        check_collection(self.collection)
        if not isinstance(self.branches, Mapping) or not self.branches:
            raise UsageError("branches", f"expected branches by name, got {self.branches!r:.100}")
        for name, branch in self.branches.items():
            if not isinstance(name, str) or not name:
                raise UsageError("branches", f"expected a name as text, got {name!r:.100}")
            if not isinstance(branch, Branch):
                raise UsageError("branches", f"{name!r}: expected a branch such as Totals(...), got {branch!r:.100}")
        object.__setattr__(self, "branches", dict(self.branches))
        object.__setattr__(self, "source", check_stages("source", self.source))

    @property
    def params(self) -> frozenset[str]:
        """The names of the values that each call has to give."""
        return frozenset[str]().union(*(branch.params for branch in self.branches.values()))

    @property
    def models(self) -> dict[str, type[Any]]:
        """What the rows of branches are decoded into."""
        return {name: branch.model for name, branch in self.branches.items() if branch.model is not None}

    @property
    def pages(self) -> dict[str, PageOf]:
        """The branches that are pages."""
        return {name: branch for name, branch in self.branches.items() if isinstance(branch, PageOf)}

    def indexes(self) -> tuple[Index, ...]:
        """Return the indexes without which a page would sort all documents; those of filters `explain` names."""
        found = (index for page in self.pages.values() for index in page.pager(self.collection, self.source).indexes())
        return tuple(dict.fromkeys(found))
