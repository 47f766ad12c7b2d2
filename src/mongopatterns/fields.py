"""Which fields of a document are given, and how others are fetched beside them to be read. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mongopatterns.commands import REPLY
from mongopatterns.errors import UsageError
from mongopatterns.expressions import check_path
from mongopatterns.paths import Leaves, leaves, leaves_expression, value_at
from mongopatterns.specs import overlap


def fresh(value: Any) -> Any:
    """Copy what can be changed of a document."""
    if isinstance(value, dict):
        return {name: fresh(item) if isinstance(item, (dict, list, tuple)) else item for name, item in value.items()}
    return [fresh(item) for item in value] if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True)
class Fields:
    """The fields that a caller wants to see.

    Attributes:
        paths: Their dotted paths, `_id` aside.
        with_id: Whether `_id` is among them.
    """

    paths: tuple[str, ...]
    with_id: bool

    @classmethod
    def of(cls, argument: str, fields: object) -> Fields | None:
        """Check what a caller gave: a list of paths, an inclusion as PyMongo takes it, or None for everything.

        Raises:
            UsageError: If it is something else, a path is none or lies within another, or nothing is left.
        """
        if fields is None:
            return None
        if isinstance(fields, (str, bytes)) or not isinstance(fields, (Mapping, Sequence, set, frozenset)):
            raise UsageError(argument, f"expected a list of field paths, got {fields!r:.100}")
        flags = fields if isinstance(fields, Mapping) else dict.fromkeys(fields, 1)
        for path, flag in flags.items():
            check_path(argument, path)
            if flag not in (0, 1) or (not flag and path != "_id"):
                raise UsageError(argument, f"{path!r}: name what is given, with 1; only _id may be left out, with 0")
        paths = tuple(path for path in flags if path != "_id")
        with_id = bool(flags.get("_id", 1))
        for place, path in enumerate(paths):
            if inside := [other for other in paths[:place] if overlap(path, other)]:
                raise UsageError(argument, f"{path!r} and {inside[0]!r} overlap: name the outer one alone")
            if path.startswith("_id."):
                raise UsageError(argument, f"{path!r} is a part of _id, which is given as a whole or not at all")
        if not paths and not with_id:
            raise UsageError(argument, "nothing is left to be given: name at least one field")
        return cls(paths, with_id)

    def projection(self, besides: Iterable[str] = ()) -> dict[str, Any]:
        """Return it as the server takes it, with whole fields besides, which stand for all that is below them."""
        added = tuple(besides)
        kept = [path for path in self.paths if path.split(".")[0] not in added]
        return {"_id": int(self.with_id), **dict.fromkeys((*kept, *added), 1)}


class Shape:
    """What is fetched of a document: the fields that are given, and the values that are read and taken away.

    Args:
        fields: What is given; None: everything.
        read: The paths whose leaves are read.
        values: The paths whose values are read, as an expression of the server gives them.

    Attributes:
        projection: What is fetched; None: everything.
    """

    def __init__(self, fields: Fields | None, read: Iterable[str], values: Iterable[str] = ()) -> None:
        self.projection: dict[str, Any] | None = None
        self._extra: dict[str, str] = {}
        self._hidden: list[str] = []
        if fields is None:
            return
        self.projection = fields.projection()
        expressions: dict[str, Any] = {}
        for path in dict.fromkeys(read):
            if path == "_id" or path.startswith("_id."):
                if not fields.with_id:
                    self.projection["_id"] = 1
                    self._hidden.append("_id")
            elif any(f"{path}.".startswith(f"{given}.") for given in fields.paths):
                pass
            elif "." not in path and not any(overlap(path, given) for given in fields.paths):
                self.projection[path] = 1
                self._hidden.append(path)
            else:  # it lies beside what is given, or around it: it could not be taken away again
                self._extra[path] = f"k{len(expressions)}"
                expressions[self._extra[path]] = leaves_expression(path)
        for path in values:
            if not any(f"{path}.".startswith(f"{given}.") for given in (*fields.paths, *(("_id",) * fields.with_id))):
                self._extra[f"${path}"] = f"v{len(expressions)}"
                expressions[self._extra[f"${path}"]] = f"${path}"
        if expressions:
            self.projection[REPLY] = expressions
            self._hidden.append(REPLY)

    def read(self, path: str, documents: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Read a path of documents that were fetched.

        Returns:
            For each document the value at the path; of a path with several parts, or one that is fetched beside
            others, the list of its leaves, as `Leaves`.
        """
        if name := self._extra.get(path):
            return [Leaves(document[REPLY][name]) for document in documents]
        if "." not in path:
            return [document.get(path) for document in documents]
        parts = path.split(".")
        return [Leaves(leaves(document, parts)) for document in documents]

    def value(self, path: str, document: Mapping[str, Any]) -> Any:
        """Read the value at a path of a document that was fetched; None if there is none."""
        return self.values(path, [document])[0]

    def values(self, path: str, documents: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Read the value at a path of documents that were fetched; None if there is none."""
        if name := self._extra.get(f"${path}"):
            return [document[REPLY].get(name) for document in documents]
        if "." not in path:
            return [document.get(path) for document in documents]
        return [value_at(document, path) for document in documents]

    def clean(self, documents: Iterable[dict[str, Any]]) -> None:
        """Take away what was fetched only to be read."""
        for name in self._hidden:
            for document in documents:
                document.pop(name, None)
