"""What finds one document among all: the fields of a unique key, and the key of a call as it is stored. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from bson import ObjectId

from mongopatterns.errors import UsageError
from mongopatterns.expressions import check_path, key_filter, key_value
from mongopatterns.indexes import Index
from mongopatterns.specs import check_collection, check_no_place, overlap

__all__ = ["DocumentSpec"]


@dataclass(frozen=True)
class DocumentSpec:
    """Define how the documents of a collection are told apart: by exactly the fields of one unique index.

    Attributes:
        collection: The collection's name.
        key: The field that finds a document, or the fields of one compound unique index in their order. Without
            that index (see `indexes`) two callers can make two documents for one key.
        key_type: `ObjectId` where ids may come as text of 24 hexadecimal digits; anything else is then refused.
            For one of several fields, a dict such as `{"question_id": ObjectId}`.

    Raises:
        UsageError: If a field is no path, overlaps another one or lies inside `_id`, or `key_type` does not fit.
    """

    collection: str
    _: KW_ONLY
    key: str | Sequence[str] = "_id"
    key_type: type[ObjectId] | Mapping[str, type[ObjectId]] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        check_collection(self.collection)
        if not isinstance(self.key, (str, Sequence)) or not self.key:
            raise UsageError("key", f"expected the path of a field, or several of them, got {self.key!r}")
        if not isinstance(self.key, str):
            object.__setattr__(self, "key", tuple(self.key))
        for place, path in enumerate(self.fields):
            check_path("key", path)
            check_no_place("key", path)
            if any(overlap(path, other) for other in self.fields[:place]):
                raise UsageError("key", f"{path!r} overlaps another field of the key")
        if self.fields != ("_id",) and any(overlap(path, "_id") for path in self.fields):
            raise UsageError("key", "_id is unique by itself: it is the key alone and as a whole, or no part of it")
        self._check_types()

    def _check_types(self) -> None:
        types = self.key_type
        if isinstance(types, Mapping):
            if unknown := [name for name in types if name not in self.fields]:
                raise UsageError("key_type", f"{unknown[0]!r} is no field of the key {self.fields}")
            object.__setattr__(self, "key_type", dict(types))
        for one in types.values() if isinstance(types, Mapping) else [types]:
            if one not in (None, ObjectId):
                raise UsageError("key_type", f"expected None or bson.ObjectId, got {one!r}")

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the key, in the order of the index."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    def indexes(self) -> tuple[Index, ...]:
        """Return the indexes that must exist: a unique one on exactly the fields of the key, unless that is `_id`."""
        return () if self.fields == ("_id",) else (Index(*self.fields, unique=True),)

    def values(self, key: object) -> dict[str, Any]:
        """Return the key of a call as it is stored, by field.

        Args:
            key: The value of a single field; for several a tuple in their order, or a dict by their names.

        Raises:
            UsageError: If it has another shape, or one of its values has no plain equality.
        """
        if len(self.fields) == 1:
            return {self.fields[0]: self._value("key", self.fields[0], key)}
        if isinstance(key, (tuple, list)) and len(key) == len(self.fields):
            key = dict(zip(self.fields, key, strict=True))
        if not isinstance(key, Mapping) or set(key) != set(self.fields):
            names = ", ".join(self.fields)
            raise UsageError("key", f"expected a tuple ({names}), or a dict of exactly these, got {key!r:.100}")
        return {name: self._value(f"key.{name}", name, key[name]) for name in self.fields}

    def _value(self, argument: str, name: str, value: object) -> Any:
        types = self.key_type
        return key_value(argument, value, types.get(name) if isinstance(types, Mapping) else types)


def filter_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Build the equality on exactly the fields of a checked key."""
    return {name: test for field_name, value in values.items() for name, test in key_filter(field_name, value).items()}
