"""The index that a pattern needs, as a plain value: pure, so that specs can name their indexes without a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mongopatterns.errors import UsageError
from mongopatterns.expressions import check_path

__all__ = ["Index"]

_LONGEST = 2**31 - 1


@dataclass(frozen=True, slots=True, init=False)
class Index:
    """Name the keys and options of one index.

    Create it with any driver: `collection.create_index(index.keys, **index.options)`.

    Attributes:
        keys: Pairs of a field path and 1 (ascending) or -1 (descending).
        unique: Whether no two documents may share the keys' values.
        expire_after: Seconds after the date in the field when the server deletes the document; None: never.
        where: The filter that a document must match to be in the index; None: every document is.
        collation: How the index compares text; None: as its collection does.
    """

    keys: tuple[tuple[str, int], ...]
    unique: bool
    expire_after: int | None
    where: Mapping[str, Any] | None = field(hash=False)
    collation: Mapping[str, Any] | None = field(hash=False)

    def __init__(
        self,
        *keys: str | tuple[str, int],
        unique: bool = False,
        where: Mapping[str, Any] | None = None,
        collation: Mapping[str, Any] | None = None,
    ) -> None:
        pairs = tuple((key, 1) if isinstance(key, str) else key for key in keys)
        for path, _ in pairs:
            check_path("Index.keys", path)
        object.__setattr__(self, "keys", pairs)
        object.__setattr__(self, "unique", unique)
        object.__setattr__(self, "expire_after", None)
        object.__setattr__(self, "where", where)
        object.__setattr__(self, "collation", collation)

    @classmethod
    def ttl(cls, path: str, *, after: int = 0) -> Index:
        """Name the index by which the server deletes documents, `after` seconds past the date at `path`.

        Raises:
            UsageError: If `after` is no whole number from 0 to 2**31 - 1.
        """
        if isinstance(after, bool) or not isinstance(after, int) or not 0 <= after <= _LONGEST:
            raise UsageError("Index.ttl", f"expected after= in whole seconds from 0 to {_LONGEST}, got {after!r}")
        index = cls(path)
        object.__setattr__(index, "expire_after", after)
        return index

    def __str__(self) -> str:
        """Return the index as it is written, without its options."""
        keys = (repr(path) if direction == 1 else repr((path, direction)) for path, direction in self.keys)
        return f"Index({', '.join(keys)})"

    @property
    def options(self) -> dict[str, Any]:
        """The options as `create_index` takes them."""
        expire = {} if self.expire_after is None else {"expireAfterSeconds": self.expire_after}
        partial = {} if self.where is None else {"partialFilterExpression": dict(self.where)}
        collation = {} if self.collation is None else {"collation": dict(self.collation)}
        return {**({"unique": True} if self.unique else {}), **expire, **partial, **collation}
