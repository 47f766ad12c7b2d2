"""What every definition on the caller's documents says: where it lives, and how its document is found. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, TypeAlias, TypeVar

from bson import ObjectId

from mongopatterns.errors import UsageError
from mongopatterns.expressions import at_path, check_document, check_path, copied
from mongopatterns.indexes import Index

SpecT = TypeVar("SpecT")

Sort: TypeAlias = tuple[tuple[str, int], ...]
"""An order: pairs of a path and 1 (ascending) or -1 (descending)."""


@dataclass(frozen=True)
class KeyedSpec:
    """Name a path in the documents of a collection, and the field that finds the one document of a call."""

    collection: str
    _: KW_ONLY
    path: str
    key_field: str = "_id"
    key_type: type[ObjectId] | None = None
    create: Mapping[str, Any] | None = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_collection(self.collection)
        check_path("path", self.path)
        check_path("key_field", self.key_field)
        for reserved in ("_id", self.key_field):
            if overlap(self.path, reserved):
                raise UsageError("path", f"{self.path!r} overlaps {reserved!r}, which may not change")
        check_no_place("path", self.path)
        if self.key_type not in (None, ObjectId):
            raise UsageError("key_type", f"expected None or bson.ObjectId, got {self.key_type!r}")
        if self.create is not None:
            create = check_document("create", self.create)
            for taken in ("_id", self.key_field.split(".")[0]):
                if taken in create:
                    raise UsageError("create", f"{taken!r} comes from the key of the call: leave it out")
            self._check_created(create, self.path)
            if at_path(create, self.path) is not None:
                raise UsageError("create", f"{self.path!r} is written by the calls: leave it out")
            object.__setattr__(self, "create", create)

    def _check_created(self, create: Mapping[str, Any], path: str) -> None:
        """Refuse a value of `create` that a path leads through and that is no document."""
        parts = path.split(".")
        for depth in range(1, len(parts)):
            parent = ".".join(parts[:depth])
            if not isinstance(at_path(create, parent), (Mapping, type(None))):
                raise UsageError("create", f"{parent!r} must be a document: {path!r} leads through it")

    def indexes(self) -> tuple[Index, ...]:
        """Return the indexes that must exist: a unique one on `key_field`, unless that is `_id`."""
        return () if self.key_field == "_id" else (Index(self.key_field, unique=True),)


def check_spec(spec: object, kind: type[SpecT]) -> SpecT:
    """Return the definition that a primitive is made with.

    Raises:
        UsageError: If it is none, or that of another primitive.
    """
    if not isinstance(spec, kind):
        raise UsageError("spec", f"expected a {kind.__name__}, got {type(spec).__name__}")
    return spec


def overlap(one: str, other: str) -> bool:
    """Tell whether one of two paths leads to the other, or they are the same."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def check_collection(name: object) -> None:
    """Refuse what is no name of a collection.

    Raises:
        UsageError: If it is not text, or empty.
    """
    if not isinstance(name, str) or not name:
        raise UsageError("collection", f"expected the collection's name, got {name!r:.100}")


def check_no_place(argument: str, path: str) -> None:
    """Refuse a path that may mean a place in an array.

    Raises:
        UsageError: If a part of it is made of digits.
    """
    if any(part.isdigit() for part in path.split(".")):
        raise UsageError(argument, f"{path!r} has a part of digits, which would index into an array")


def check_sort(argument: str, sort: object) -> Sort | None:
    """Return an order as pairs of a path and 1 or -1.

    Raises:
        UsageError: If it is none, or names a path twice.
    """
    if sort is None:
        return None
    if isinstance(sort, (str, bytes)) or not isinstance(sort, Sequence):
        raise UsageError(argument, f"expected pairs such as [('created_at', -1)], got {sort!r:.100}")
    checked: dict[str, int] = {}
    for pair in sort:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:  # noqa: PLR2004  # a pair
            raise UsageError(argument, f"expected pairs such as ('created_at', -1), got {pair!r:.100}")
        path, direction = pair
        check_path(argument, path)
        if type(direction) is not int or direction not in (1, -1):
            raise UsageError(argument, f"the direction of {path!r} is 1 or -1, not {direction!r:.100}")
        if path in checked:
            raise UsageError(argument, f"{path!r} is named twice")
        checked[path] = direction
    return tuple(checked.items())


def check_stages(argument: str, stages: object, *, least: int = 0) -> tuple[dict[str, Any], ...]:
    """Return stages of a caller's own, as a copy.

    Raises:
        UsageError: If they are no list of stages that read.
    """
    if isinstance(stages, (Mapping, str, bytes)) or not isinstance(stages, Sequence) or len(stages) < least:
        raise UsageError(argument, f"expected a list of stages such as [{{'$match': ...}}], got {stages!r:.100}")
    for stage in stages:
        if not isinstance(stage, Mapping) or len(stage) != 1 or not str(next(iter(stage))).startswith("$"):
            raise UsageError(argument, f"expected stages such as {{'$match': ...}}, got {stage!r:.100}")
        if {"$out", "$merge"} & stage.keys():
            raise UsageError(argument, f"{next(iter(stage))} writes, and what is read here does not")
    return tuple(copied(stage) for stage in stages)
