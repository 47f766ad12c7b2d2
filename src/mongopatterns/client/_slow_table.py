"""Slow commands, told apart by their shapes. Pure.

A shape has a command's keys and operators and none of its values (`mongopatterns.shapes`). Nothing here keeps a
command, a reply or an error: what a caller is given was taken from the shape.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from mongopatterns.errors import UsageError
from mongopatterns.shapes import shape_of

MOST_TAILS: Final = 1000
"""How many cursors that wait for something to happen are remembered: a process has a few."""

_LONGEST_COMMENT: Final = 200

# Commands whose first value is the name of a collection. Of others it may be anything.
_ON_COLLECTIONS: Final = frozenset(
    {"aggregate", "count", "delete", "distinct", "find", "findAndModify", "insert", "update"}
    | {
        "collMod",
        "collStats",
        "compact",
        "create",
        "createIndexes",
        "drop",
        "dropIndexes",
        "killCursors",
        "listIndexes",
    }
    | {"mapReduce", "validate"}
)


# Told --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SlowCommand:
    """Tell of one slow command, without its values.

    Attributes:
        shape: The command, its collection, and the structure of what it asks, every value replaced by `?`.
        command: The command's name.
        database: The database.
        collection: The collection; None for a command without one.
        seconds: How long it took, to and fro included.
        failed: Whether it ended with an error.
        comment: Its comment, if that is text: it is shown as it was given.
    """

    shape: str
    command: str
    database: str
    collection: str | None
    seconds: float
    failed: bool
    comment: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes."""
        return asdict(self)

    def __str__(self) -> str:
        """Return one line for a log."""
        how = "failed after" if self.failed else "took"
        comment = "" if self.comment is None else f" ({self.comment})"
        return f"{how} {self.seconds:.3f} s: {self.shape}{comment}"


@dataclass(frozen=True)
class SlowShape:
    """Tell of the slow commands of one shape.

    Attributes:
        shape: The command, its collection, and the structure of what it asks, every value replaced by `?`.
        command: The command's name.
        database: The database.
        collection: The collection; None for a command without one.
        count: How many were slow.
        failed: How many of these ended with an error.
        seconds: How long they took, all together.
        worst: How long the slowest took.
        comment: The comment of the slowest, if that is text.
    """

    shape: str
    command: str
    database: str
    collection: str | None
    count: int
    failed: int
    seconds: float
    worst: float
    comment: str | None


@dataclass(frozen=True)
class SlowSnapshot:
    """Tell which commands were slow.

    Attributes:
        shapes: The shapes, those that took the most time first.
        others: How many slow commands belong to shapes that are not kept any more.
        others_seconds: How long these took.
    """

    shapes: tuple[SlowShape, ...] = ()
    others: int = 0
    others_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes."""
        return asdict(self)


# Kept --------------------------------------------------------------------------------------------------------


class SlowTable:
    """Add up slow commands by their shapes.

    Args:
        keep: How many shapes are kept. A further one takes the place of the one that took the least time.

    Raises:
        UsageError: If that is no number from 1.
    """

    def __init__(self, keep: int) -> None:
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise UsageError("keep", f"expected a whole number from 1, got {keep!r:.100}")
        self._keep = keep
        self._shapes: dict[str, SlowShape] = {}
        self._others = 0
        self._others_seconds = 0.0

    def add(self, slow: SlowCommand) -> None:
        """Count one."""
        known = self._shapes.get(slow.shape)
        if known is None:
            if len(self._shapes) >= self._keep:
                self._drop()
            known = SlowShape(slow.shape, slow.command, slow.database, slow.collection, 0, 0, 0.0, -1.0, None)
        worse = slow.seconds > known.worst
        self._shapes[slow.shape] = SlowShape(
            slow.shape,
            slow.command,
            slow.database,
            slow.collection,
            count=known.count + 1,
            failed=known.failed + slow.failed,
            seconds=known.seconds + slow.seconds,
            worst=slow.seconds if worse else known.worst,
            comment=slow.comment if worse else known.comment,
        )

    def snapshot(self) -> SlowSnapshot:
        """Return what was counted."""
        shapes = sorted(self._shapes.values(), key=lambda shape: (-shape.seconds, shape.shape))
        return SlowSnapshot(tuple(shapes), self._others, self._others_seconds)

    def _drop(self) -> None:
        least = min(self._shapes.values(), key=lambda shape: shape.seconds)
        del self._shapes[least.shape]
        self._others += least.count
        self._others_seconds += least.seconds


def describe(name: str, database: str, command: Mapping[str, Any], seconds: float, *, failed: bool) -> SlowCommand:
    """Describe a command without its values."""
    collection = _collection(name, command)
    shape = shape_of(name, database, command)
    if shape is None:
        shape = f"{name} {database}" if collection is None else f"{name} {database}.{collection}"
    comment = command.get("comment")
    text = comment[:_LONGEST_COMMENT] if isinstance(comment, str) else None
    return SlowCommand(shape, name, database, collection, seconds, failed, text)


def _collection(name: str, command: Mapping[str, Any]) -> str | None:
    if name == "getMore":
        found = command.get("collection")
    elif name in _ON_COLLECTIONS:
        found = command.get(name)
    else:
        found = None
    return found if isinstance(found, str) else None


class Tails:
    """Know the cursors that wait for something to happen: their `getMore` is idle, and not slow."""

    def __init__(self) -> None:
        self._cursors: OrderedDict[tuple[Any, int], None] = OrderedDict()

    def note(self, name: str, server: Any, command: Mapping[str, Any], reply: Mapping[str, Any]) -> None:
        """Remember the cursor of a change stream, or of a tailable find."""
        if not _waits(name, command):
            return
        cursor = reply.get("cursor")
        if isinstance(cursor, Mapping) and cursor.get("id"):
            self._cursors[server, cursor["id"]] = None
            if len(self._cursors) > MOST_TAILS:
                self._cursors.popitem(last=False)

    def is_idle(self, name: str, server: Any, command: Mapping[str, Any]) -> bool:
        """Tell whether a command only waits."""
        return name == "getMore" and (server, command.get("getMore")) in self._cursors


def _waits(name: str, command: Mapping[str, Any]) -> bool:
    if name == "find":
        return bool(command.get("tailable"))
    if name != "aggregate":
        return False
    pipeline = command.get("pipeline")
    first = pipeline[0] if isinstance(pipeline, (list, tuple)) and pipeline else None
    return isinstance(first, Mapping) and "$changeStream" in first


def check_threshold(threshold: object) -> float:
    """Return a bound in seconds.

    Raises:
        UsageError: If it is none.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not threshold >= 0:
        raise UsageError("threshold", f"expected seconds from 0, got {threshold!r:.100}")
    return float(threshold)
