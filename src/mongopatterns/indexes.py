"""The index that a pattern needs, as a plain value: pure, so that specs can name their indexes without a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mongopatterns.expressions import check_path

__all__ = ["Index"]


@dataclass(frozen=True, slots=True, init=False)
class Index:
    """Name the keys and options of one index.

    Create it with any driver: `collection.create_index(index.keys, **index.options)`.

    Attributes:
        keys: Pairs of a field path and 1 (ascending) or -1 (descending).
        unique: Whether no two documents may share the keys' values.
    """

    keys: tuple[tuple[str, int], ...]
    unique: bool

    def __init__(self, *keys: str | tuple[str, int], unique: bool = False) -> None:
        pairs = tuple((key, 1) if isinstance(key, str) else key for key in keys)
        for path, _ in pairs:
            check_path("Index.keys", path)
        object.__setattr__(self, "keys", pairs)
        object.__setattr__(self, "unique", unique)

    @property
    def options(self) -> dict[str, Any]:
        """The options as `create_index` takes them."""
        return {"unique": True} if self.unique else {}
