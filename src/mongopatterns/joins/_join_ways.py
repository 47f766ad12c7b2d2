"""Which way each part of a join goes, and what is known of the collections that decides it. Pure.

*Batch* asks for what belongs to all parents at once. It reads all of it: of a thousand messages per room also those
that are cut off afterwards. *Lookup* lets the server pick the first ones of each parent, by an index; that costs the
server about as much for each parent as some documents more would cost everybody, and without an index it reads the
whole collection once for every parent. So `auto` batches, unless the parents have so many documents each that picking
pays, or nothing but a lookup will do.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from mongopatterns.commands import Read
from mongopatterns.errors import MissingIndex, MissingIndexWarning, UsageError
from mongopatterns.findings import Finding, Severity
from mongopatterns.joins._foreign_indexes import serves_sort, unique_on, usable, wanted
from mongopatterns.joins._join_batch import Documents
from mongopatterns.joins._join_spec import JoinPart, Many, One, in_full, walk

Strategy: TypeAlias = Literal["auto", "batch", "lookup"]
OnMissingIndex: TypeAlias = Literal["warn", "raise", "ignore"]

REFRESH: Final = 600.0
"""Seconds for which what was found out about a collection is taken as it was."""

# By how many documents of a parent, on average, a batch may read more than it gives before a lookup is quicker: it
# costs the server as much for each parent as some documents that are read for nothing, fewer the larger they are.
# Where a filter compares with one value, nobody knows how many are left of them. A wrong lookup is slower by a factor,
# a wrong batch by as many documents as there are.
_SPARE: Final = 4
_SPARE_IF_FILTERED: Final = 200

# What `find` takes in a filter, and a pipeline does not.
_FIND_ONLY: Final = frozenset({"$where", "$near", "$nearSphere"})


@dataclass(frozen=True)
class JoinChoice:
    """The way that one join goes.

    Attributes:
        name: The field of the row that gets it.
        collection: What is joined.
        strategy: `"batch"` or `"lookup"`.
        why: The reason.
        index: The name of the index that leads to what is joined; None if there is none, or nobody looked.
    """

    name: str
    collection: str
    strategy: str
    why: str
    index: str | None


@dataclass(frozen=True)
class _Known:
    """What is known of a collection.

    Attributes:
        indexes: Its indexes; None if nobody may know them.
        count: How many documents it has, about; None if nobody knows.
        clock: When that was found out.
    """

    indexes: Documents | None
    count: int | None
    clock: float


class Ways:
    """Find out about collections, and choose.

    Args:
        collection: The collection of the parents.
        parts: The joins.
        strategy: What was asked for.
        on_missing_index: What is done about a join that no index serves.
    """

    def __init__(
        self, collection: str, parts: Sequence[JoinPart], strategy: Strategy, on_missing_index: OnMissingIndex
    ) -> None:
        for argument, value, known in (
            ("strategy", strategy, Strategy),
            ("on_missing_index", on_missing_index, OnMissingIndex),
        ):
            if value not in get_args(known):
                raise UsageError(argument, f"expected one of {list(get_args(known))}, got {value!r:.100}")
        self.strategy = strategy
        self._collection = collection
        self._parts = parts
        self._on_missing_index = on_missing_index
        # Where it is to be decided whether a lookup pays, it matters how many documents there are.
        cut = [part.collection for part in parts if _limit(part) is not None] if strategy == "auto" else []
        self._counted = {collection, *cut} if cut else set()
        names = cut if on_missing_index == "ignore" else [part.collection for part in walk(parts)]
        self._asked: list[str] = list(dict.fromkeys([*names, *([collection] if cut else [])]))
        self._known: dict[str, _Known] = {}
        self._findings: list[Finding] | None = None
        self._reported: set[Finding] = set()

    def checked(self, clock: float) -> Generator[Read, Any, None]:
        """Find out what somebody needs to know, and say once what is missing.

        Raises:
            MissingIndex: If that was asked for.
        """
        yield from self.look(clock)
        if self._on_missing_index == "raise" and self.findings():
            yield from self.look(clock, again=True)  # somebody may have mended it by now
        for finding in self.findings() if self._on_missing_index != "ignore" else ():
            if self._on_missing_index == "raise":
                raise MissingIndex(finding)
            if finding not in self._reported:
                self._reported.add(finding)
                warnings.warn(MissingIndexWarning(finding), stacklevel=_depth_of_caller())

    def look(self, clock: float, *, again: bool = False) -> Generator[Read, Any, None]:
        """Ask about the collections about which nobody asked lately; or about all but those of this very time."""
        for name in self._asked:
            known = self._known.get(name)
            if known is None or clock - known.clock > (0 if again else REFRESH):
                indexes = yield Read(name, "list_indexes", {}, apart=True)
                count = None
                if name in self._counted:
                    stages: list[dict[str, Any]] = [{"$collStats": {"count": {}}}]
                    count = _total((yield Read(name, "aggregate", {"pipeline": stages}, apart=True)))
                self._known[name] = _Known(indexes, count, clock)
                self._findings = None

    def chosen(self, needed: Sequence[bool], query: Mapping[str, Any]) -> list[JoinChoice]:
        """Choose the way of every join.

        Args:
            needed: Which of them must be there before the rows can be filtered.
            query: The filter of the parents.
        """
        return [
            JoinChoice(part.as_, part.collection, *self._way(part, query, filtered=filtered), self._index(part))
            for part, filtered in zip(self._parts, needed, strict=True)
        ]

    def findings(self) -> list[Finding]:
        """Find the joins that no index serves, of those whose collection is there and tells its indexes."""
        if self._findings is None:
            bare: dict[tuple[str, str], list[JoinPart]] = {}
            for part in walk(self._parts):
                if self._indexes(part.collection) and part.foreign != "_id" and self._index(part) is None:
                    bare.setdefault((part.collection, part.foreign), []).append(part)
            self._findings = [_finding(parts) for parts in bare.values()]
        return self._findings

    def _way(self, part: JoinPart, query: Mapping[str, Any], *, filtered: bool) -> tuple[str, str]:
        """Choose the way of a join, and say why."""
        if filtered:
            return "lookup", "rows are filtered by what it joins"
        if self.strategy != "auto":
            return self.strategy, "asked for"
        limit = _limit(part)
        if limit is None or self._is_unique(part):
            return "batch", "one command for all parents"
        each = self._documents_each(part)
        spare = _SPARE_IF_FILTERED if part.filter.equal else _SPARE
        reasons = {
            "no index is known that leads to each parent's documents: they are read at once": self._index(part) is None,
            "a parent has few documents, as far as is known: they are read at once": each <= limit + spare,
            "the filter is one for find, and not for a pipeline": _names_any(query, _FIND_ONLY),
            "the server would look up by a collation of the parents' collection": self._has_collation(),
        }
        against = [reason for reason, holds in reasons.items() if holds]
        if against:
            return "batch", against[0]
        ordered = serves_sort(
            self._indexes(part.collection) or (), part.foreign, in_full(part), part.filter.equal, part.where
        )
        order = "in their order" if ordered else "which the server sorts"
        return "lookup", f"a parent has about {each:,.0f} documents, and an index leads to them, {order}"

    def _has_collation(self) -> bool:
        """Tell whether the parents' collection has a collation of its own, which all its indexes then have."""
        return any("collation" in index for index in self._indexes(self._collection) or ())

    def _documents_each(self, part: JoinPart) -> float:
        """Tell how many documents a parent has, on average; 0 if nobody knows."""
        joined, parents = self._known.get(part.collection), self._known.get(self._collection)
        if joined is None or parents is None or joined.count is None or not parents.count:
            return 0
        return joined.count / parents.count

    def _is_unique(self, part: JoinPart) -> bool:
        """Tell whether a key finds one document at most."""
        indexes = self._indexes(part.collection)
        return part.foreign == "_id" or bool(indexes and unique_on(indexes, part.foreign, part.where))

    def _index(self, part: JoinPart) -> str | None:
        """Name the index that leads to what a join asks for."""
        indexes = self._indexes(part.collection)
        return usable(indexes, part.foreign, part.filter.equal, part.where) if indexes else None

    def _indexes(self, collection: str) -> Documents | None:
        known = self._known.get(collection)
        return known.indexes if known else None


def _finding(parts: Sequence[JoinPart]) -> Finding:
    """Tell of joins on one path that no index serves; the index with the most keys serves them all."""
    first = parts[0]
    indexes = [wanted(part.foreign, part.filter.equal, part.order) for part in parts]
    best = max((index for index in indexes if index), key=lambda index: len(index.keys))
    names = ", ".join(part.as_ for part in parts)
    return Finding(
        code="missing-index",
        severity=Severity.WARNING,
        subject=f"{first.collection}.{first.foreign}",
        evidence=f"no index leads to it: joining {names} reads all of {first.collection!r}",
        remedy=f"Create {best}",
    )


def _limit(part: JoinPart) -> int | None:
    """Tell how many documents of a parent are given, where others are cut off."""
    if isinstance(part, Many):
        return part.limit
    return 1 if isinstance(part, One) and part.order else None


def _total(found: Documents | None) -> int | None:
    """Add up what the shards of a collection count; None if nobody may know."""
    return sum(shard["count"] for shard in found) if found else None


def _names_any(value: Any, operators: frozenset[str]) -> bool:
    if isinstance(value, Mapping):
        return not operators.isdisjoint(value) or any(_names_any(item, operators) for item in value.values())
    return isinstance(value, (list, tuple)) and any(_names_any(item, operators) for item in value)


def _depth_of_caller() -> int:
    """Tell how many frames above a warning the code stands that is not ours."""
    frame, depth = sys._getframe(1), 1  # noqa: SLF001  # what `warnings` itself uses
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("mongopatterns."):
        frame, depth = frame.f_back, depth + 1
    return depth
