"""What `upsert` does to a document, twice: as expressions for the server, and in memory for a document that is new.

A change puts one value at one path. The paths of a call form a tree (no path leads to another), and the tree is
merged into the document from its leaves up: what stands beside a path stays, and a parent that is missing or null is
made. Every leaf reads the document as it was before the call, so that the order of the changes means nothing.

A value travels once, as a variable of the command, and is read by name: what is built here depends on the kinds and
the paths of a call alone, and is the same for every call of that shape. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from typing import Any, Final

from bson import Decimal128, ObjectId

from mongopatterns.commands import holders_of
from mongopatterns.errors import UsageError
from mongopatterns.expressions import at_path, check_document, check_path, literal

_INT64: Final = 2**63
_LONGEST: Final = 2**31 - 1  # what `$slice` counts to

_NOTHING: Final = ("missing", "null")
_NUMBERS: Final = ("int", "long", "double", "decimal")
# What may stand at a path or in its way, and what it is called in a message.
_EXPECTED: Final = {"inc": (_NUMBERS, "a number"), "push_last": (("array",), "an array")}
_PARENT: Final = (("object",), "a document")

REFUSED: Final = 241
"""The code of the error by which the server refuses an update that does not fit: ConversionFailure."""

# What fails with that code, always, and with a short message: no type's name is a number. (It must look as if it
# read the document: the server computes constants beforehand.)
_REFUSE: Final = {"$toInt": {"$type": "$$ROOT"}}


@dataclass(frozen=True, slots=True)
class Given:
    """One change as the caller gave it.

    Attributes:
        kind: The argument that it came with.
        path: The dotted path.
        value: What is given; None for a time.
    """

    kind: str
    path: str
    value: Any

    @property
    def shape(self) -> tuple[str, str, bool]:
        """What the expressions depend on: the kind, the path, and whether an integer is added."""
        return self.kind, self.path, self.kind == "inc" and isinstance(self.value, int)

    def checked(self) -> Any:
        """Return the value as it travels: a copy that can be stored.

        Raises:
            UsageError: If it cannot be.
        """
        if self.kind == "inc":
            return _number(f"inc.{self.path}", self.value)
        return _value(self.kind, self.path, self.value)


@dataclass(frozen=True, slots=True)
class Change:
    """One change of all calls of a shape.

    Attributes:
        kind: The argument that it comes with.
        path: The dotted path.
        name: The variable that holds its value on the server.
        counts: Whether an integer is added: `$add` turns a sum past 64 bits into a double, and `$inc` refuses it.
        keep: How many entries of an array stay, counted from its end; None: all.
    """

    kind: str
    path: str
    name: str
    counts: bool = False
    keep: int | None = None

    def held(self, root: str) -> dict[str, Any]:
        """Build the number that is stored in the document `root`."""
        return {"$ifNull": [f"{root}.{self.path}", 0]}

    def sum(self, root: str) -> dict[str, Any]:
        """Build the sum of what is stored and what is added; an error where something else than a number is."""
        return {"$add": [self.held(root), f"$${self.name}"]}

    def expression(self, root: str) -> Any:
        """Build what is put at the path of the document `root`."""
        if self.kind == "inc":
            return self.sum(root)
        if self.kind != "push_last":
            return f"$${self.name}"
        held = {"$ifNull": [f"{root}.{self.path}", literal([])]}
        longer = {"$concatArrays": [held, [f"$${self.name}"]]}
        return longer if self.keep is None else {"$slice": [longer, -self.keep]}


def given_by(values: Mapping[str, object], push_last: object, keep: object, set_now: object) -> list[Given]:
    """List what a call changes.

    Args:
        values: The values of `set`, `set_on_insert` and `inc`, by argument.
        push_last: Entries by path.
        keep: How many entries stay.
        set_now: Paths of times.

    Raises:
        UsageError: If an argument is of another type, a path is no text, or `keep` has nothing to keep.
    """
    if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or not 0 < keep <= _LONGEST):
        raise UsageError("keep", f"expected a whole number from 1 to {_LONGEST}, or None, got {keep!r}")
    if keep is not None and push_last is None:
        raise UsageError("keep", "says how many entries of push_last stay: give push_last, or leave it out")
    if isinstance(set_now, (str, bytes, Mapping)) or not isinstance(set_now, Iterable):
        raise UsageError("set_now", f"expected a list of paths, got {set_now!r:.100}")
    given = [Given(kind, path, value) for kind, paths in values.items() for path, value in _by_path(kind, paths)]
    given += [Given("push_last", path, value) for path, value in _by_path("push_last", push_last)]
    return given + [Given("set_now", _text("set_now", path), None) for path in set_now]


def changes_of(shape: Iterable[tuple[str, str, bool]], keep: int | None, fields: Sequence[str]) -> list[Change]:
    """Build the changes of all calls of a shape.

    Args:
        shape: The `Given.shape` of each change.
        keep: How many entries stay.
        fields: The fields of the key.

    Raises:
        UsageError: If a path is none, or overlaps another one, the key or `_id`.
    """
    changes = [
        Change(
            kind,
            check_path(kind, path),
            "now" if kind == "set_now" else f"v{number}",
            counts,
            keep if kind == "push_last" else None,
        )
        for number, (kind, path, counts) in enumerate(shape)
    ]
    _refuse_overlaps(changes, fields)
    return changes


def _by_path(argument: str, paths: object) -> list[tuple[str, object]]:
    if not isinstance(paths, (Mapping, type(None))):
        raise UsageError(argument, f"expected a dict of values by path, got {paths!r:.100}")
    return [(_text(argument, path), value) for path, value in (paths or {}).items()]


def _text(argument: str, path: object) -> str:
    """Return a path as plain text, which is what calls of one shape are known by; `changes_of` checks the rest."""
    return path if type(path) is str else "".join(check_path(argument, path))


def _value(argument: str, path: str, value: object) -> Any:
    """Return a copy of a value that can be stored."""
    kind = type(value)
    if value is None or kind in (bool, float, ObjectId) or (isinstance(value, str) and kind is str and value.isascii()):
        return value  # (nearly every value, and quick to check)
    nested: Any = value
    for part in reversed(path.split(".")):
        nested = {part: nested}
    return at_path(check_document(argument, nested), path)  # (its messages name the whole path)


def _number(argument: str, value: object) -> int | float | Decimal128:
    """Return what is added as it travels: as it is. A Decimal is a Decimal128."""
    if isinstance(value, Decimal128):
        value = value.to_decimal()
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise UsageError(argument, f"expected an int, float or Decimal, got {value!r:.100}")
    if isinstance(value, int):
        if not -_INT64 <= value < _INT64:
            raise UsageError(argument, "does not fit into 64 bits")
        return value
    if not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
        raise UsageError(argument, f"expected a finite number, got {value!r}")
    try:
        return Decimal128(value) if isinstance(value, Decimal) else float(value)
    except DecimalException:
        raise UsageError(argument, "does not fit into a Decimal128, which has 34 digits") from None


def _refuse_overlaps(changes: Sequence[Change], fields: Sequence[str]) -> None:
    """Refuse two changes of one path, one inside another, and one of the key."""
    fixed = "the key or _id, which may not change"
    taken = dict.fromkeys(("_id", *fields), fixed)  # whose paths they are
    ways = {holder: fixed for path in fields for holder in holders_of(path)}  # what those lead through
    for change in changes:
        if change.kind == "set_on_insert" and change.path == "_id" and "_id" not in fields:
            continue
        through = holders_of(change.path)
        met = [taken[place] for place in (*through, change.path) if place in taken]
        if met or change.path in ways:
            raise UsageError(change.kind, f"{change.path!r} overlaps {(met or [ways[change.path]])[0]}")
        taken[change.path] = f"what {change.kind} changes"
        ways |= dict.fromkeys(through, taken[change.path])


# On the server -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Program:
    """What all calls of a shape do to a document, as expressions over it.

    Attributes:
        by_id: Whether `_id` is the key. Where it is not, a document that is being made has none yet, and gets that
            of the call. Where it is, such a document cannot be told from one that holds nothing but its `_id`.
        on_insert: The changes to a document that is being made.
        changes: The changes to any.
    """

    by_id: bool
    on_insert: Sequence[Change]
    changes: Sequence[Change]

    def refusing(self) -> Any:
        """Build the document after the call; an error of the code `REFUSED` where a change does not fit."""
        return self._if_it_fits("$$ROOT", _REFUSE)

    def leaving(self) -> Any:
        """Build the document after the call; the one before it where a change does not fit."""
        return self._if_it_fits("$$ROOT", "$$ROOT")

    def told(self, root: str) -> dict[str, Any]:
        """Build what a call tells of the document before it: what it found, and what it made of it."""
        found = [{"$type": f"{root}.{place}"} for place in self._places]
        # (`$add` is an error for what is no number, and moves a date)
        sums = [
            {"$cond": [{"$isNumber": change.held(root)}, {"$type": change.sum(root)}, None]}
            for change in self.changes
            if change.counts
        ]
        return {"found": found, "sums": sums, "document": self._if_it_fits(root, None)}

    def misfit(self, found: Sequence[str], sums: Sequence[str]) -> tuple[str, str] | None:
        """Return the path of what did not fit, and why, if the types that the server told do not."""
        stood = dict(zip(self._places, found, strict=True))
        for place, (types, expected) in self._places.items():
            if types and stood[place] not in (*_NOTHING, *types):
                return place, f"expected {expected}, found a value of type {stood[place]}"
        counted = [change.path for change in self.changes if change.counts]
        for path, kind in zip(counted, sums, strict=True):
            if kind == "double" != stood[path]:
                return path, "the sum would not fit into 64 bits"
        return None

    def _if_it_fits(self, root: str, otherwise: Any) -> Any:
        if not self.on_insert:
            return self._changed(root, otherwise)
        own = f"{root}._id"
        new: Any = {"$eq": [root, {"_id": own}]} if self.by_id else {"$eq": [{"$type": own}, "missing"]}
        begun = {"$cond": [new, {"$mergeObjects": [root, _fields(root, "", _tree(self.on_insert))]}, root]}
        return {"$let": {"vars": {"doc": begun}, "in": self._changed("$$doc", otherwise)}}

    def _changed(self, root: str, otherwise: Any) -> Any:
        parts: list[Any] = [root] if self.by_id else [{"_id": "$$id"}, root]  # (a stored `_id` goes over ours)
        if self.changes:
            parts.append(_fields(root, "", _tree(self.changes)))
        changed = {"$mergeObjects": parts} if len(parts) > 1 else root
        checks = self._checks(root)
        if not checks:
            return changed
        return {"$cond": [{"$and": checks} if len(checks) > 1 else checks[0], changed, otherwise]}

    @property
    def _places(self) -> dict[str, tuple[Sequence[str], str]]:
        """The paths and all that they lead through, with the types that fit there; none: any does."""
        places: dict[str, tuple[Sequence[str], str]] = {}
        for change in self.changes:
            places |= dict.fromkeys(holders_of(change.path), _PARENT)
            if change.kind in _EXPECTED:
                places[change.path] = _EXPECTED[change.kind]
        return places

    def _checks(self, root: str) -> list[dict[str, Any]]:
        """List what must be true: first the types, without which there is no sum."""
        checks: list[dict[str, Any]] = [
            {"$in": [{"$type": f"{root}.{place}"}, literal([*_NOTHING, *types])]}
            for place, (types, _) in self._places.items()
        ]
        # A sum is a double where an integer was only past 64 bits. Of the names of the types, `double` is the only
        # one that a sum can have and that sorts before that of what was stored: `int` or `long`, then.
        checks += [
            {"$gte": [{"$type": change.sum(root)}, {"$type": change.held(root)}]}
            for change in self.changes
            if change.counts
        ]
        return checks


def _tree(changes: Iterable[Change]) -> dict[str, Any]:
    """Arrange changes by the parts of their paths."""
    tree: dict[str, Any] = {}
    for change in changes:
        *way, last = change.path.split(".")
        node = tree
        for part in way:
            node = node.setdefault(part, {})
        node[last] = change
    return tree


def _fields(root: str, way: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Build the fields that a tree changes of what stands at `way` (which ends in a dot, or is empty) in `root`."""
    return {
        name: node.expression(root)
        if isinstance(node, Change)
        else {"$mergeObjects": [f"{root}.{way}{name}", _fields(root, f"{way}{name}.", node)]}
        for name, node in tree.items()
    }


# In memory ---------------------------------------------------------------------------------------------------


def made_of(document: Mapping[str, Any], changes: Iterable[Change], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a new document with the changes merged into it, as the server merges them.

    Args:
        document: What the document begins with.
        changes: What is merged into it.
        values: The values of the changes, by the names of their variables.
    """
    return _merged(document, _tree(changes), values)


def _merged(document: Mapping[str, Any], tree: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    changed = dict(document)
    for name, node in tree.items():
        if isinstance(node, Change):
            value = values[node.name]
            changed[name] = [value] if node.kind == "push_last" else value
        else:
            changed[name] = _merged(changed.get(name, {}), node, values)
    return changed


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document that an upsert starts from: the equalities of its filter, sorted by path."""
    document: dict[str, Any] = {}
    for path in sorted(values):
        put(document, path, values[path])
    return document


def put(document: dict[str, Any], path: str, value: Any) -> None:
    """Put a value at a path that leads through documents, or through nothing yet."""
    *way, last = path.split(".")
    for part in way:
        document = document.setdefault(part, {})
    document[last] = value
