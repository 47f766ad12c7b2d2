"""What a plan says: changes with their cost and risk, and findings. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from mongopatterns.findings import Finding
from mongopatterns.indexes import Index
from mongopatterns.verdicts import as_json

__all__ = ["SchemaChange", "SchemaChangeKind", "SchemaPlan", "SchemaProgress"]


class SchemaChangeKind(str, Enum):
    """What a change does."""

    CREATE_COLLECTION = "create collection"
    """The collection is not there, and is created."""
    CHANGE_COLLECTION = "change collection"
    """An option or the validator is changed in place."""
    REPLACE_INDEX = "replace index"
    """The old index goes first, because the server does not take the new one beside it."""
    CHANGE_INDEX = "change index"
    """The index is changed in place."""
    CREATE_INDEX = "create index"
    """The index is built; beside the one that it replaces, if there is one."""
    CREATE_SEARCH_INDEX = "create search index"
    """Atlas is asked for it, and builds it in its own time."""
    CHANGE_SEARCH_INDEX = "change search index"
    """Atlas is asked for it, and goes on with the old one until the new one is built."""
    HIDE_INDEX = "hide index"
    """Queries use it no more, and it can be shown again at once."""
    DROP_INDEX = "drop index"
    """The index is deleted."""


_SIGNS = {"create": "+", "change": "~", "replace": "~", "hide": "-", "drop": "-"}


@dataclass(frozen=True)
class Duplicates:
    """Ask which values that an index is to keep unique are there more than once."""

    index: Index
    collation: Mapping[str, Any] | None = field(hash=False)


@dataclass(frozen=True)
class Violations:
    """Ask which documents a validator would not take."""

    expression: Mapping[str, Any] = field(hash=False)
    blocks: bool


@dataclass(frozen=True)
class SchemaChange:
    """One step from what a database is to what it should be.

    Attributes:
        kind: What it does.
        collection: In which collection.
        what: To what, as it is written in a spec.
        cost: What it costs the server.
        risk: What may go wrong, or be different afterwards; empty if there is nothing to fear.
        commands: What is sent for it, one after the other.
        blocked: Why it cannot be done; None: it can.
        was: What is changed in place, as it is; empty for other changes.
    """

    kind: SchemaChangeKind
    collection: str
    what: str
    cost: str
    risk: str = ""
    commands: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    blocked: Finding | None = None
    was: str = ""
    undo: tuple[Mapping[str, Any], ...] = field(default=(), hash=False, repr=False, compare=False)
    check: Duplicates | Violations | None = field(default=None, hash=False, repr=False, compare=False)

    @property
    def identity(self) -> tuple[str, str, str]:
        """What is equal for two changes that do the same."""
        return self.kind.value, self.collection, self.what

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes."""
        return {
            "kind": self.kind.value,
            "collection": self.collection,
            "what": self.what,
            "was": self.was,
            "cost": self.cost,
            "risk": self.risk,
            "commands": as_json([dict(command) for command in self.commands]),
            "blocked": None if self.blocked is None else self.blocked.to_dict(),
        }


@dataclass(frozen=True)
class SchemaPlan:
    """Tell what has to change so that a database is what its spec says. True if anything has to.

    Printed, it is a list of changes with what they cost and risk, and of findings.

    Attributes:
        database: The database's name.
        changes: What has to change, in the order in which it is done.
        findings: What was found beside it: advice, and what stands in the way of blocked changes.
        drop_unknown: Which indexes that no spec names are dropped (see `AsyncSchema.plan`).
    """

    database: str
    changes: tuple[SchemaChange, ...]
    findings: tuple[Finding, ...] = ()
    drop_unknown: bool | tuple[str, ...] = False

    def __bool__(self) -> bool:
        """Return whether anything has to change."""
        return bool(self.changes)

    @property
    def blocked(self) -> tuple[SchemaChange, ...]:
        """The changes that cannot be done."""
        return tuple(change for change in self.changes if change.blocked is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes."""
        return {
            "database": self.database,
            "changes": [change.to_dict() for change in self.changes],
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def __str__(self) -> str:
        """Return the plan for a reader."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        number, blocked = len(self.changes), len(self.blocked)
        changes = {0: "nothing to change", 1: "1 change"}.get(number, f"{number} changes")
        yield f"{self.database}: {changes}{f', {blocked} blocked' if blocked else ''}"
        kinds = max((len(change.kind.value) for change in self.changes), default=0)
        names = max((len(change.collection) for change in self.changes), default=0)
        for change in self.changes:
            sign = "!" if change.blocked else _SIGNS[change.kind.value.split()[0]]
            was = f"  (now: {change.was})" if change.was else ""
            yield f"{sign} {change.kind.value:{kinds}}  {change.collection:{names}}  {change.what}{was}"
            if change.blocked:
                yield f"    blocked: {change.blocked.evidence}. {change.blocked.remedy}."
                continue
            yield f"    cost: {change.cost}"
            if change.risk:
                yield f"    risk: {change.risk}"
        blocking = {change.blocked for change in self.changes}
        yield from (str(finding) for finding in self.findings if finding not in blocking)


@dataclass(frozen=True)
class SchemaProgress:
    """Tell how far `apply` has come.

    Attributes:
        change: The change that it is about.
        number: Its number, from 1.
        total: How many there are.
        state: `"started"`, `"running"` or `"done"`.
        done: While an index is built, the part of a pass that is done, from 0 to 1: documents are read, then keys are
            stored. Of indexes that are built together, it is told of the first.
    """

    change: SchemaChange
    number: int
    total: int
    state: str
    done: float | None = None
