"""What is sent, in the terms of the driver's own calls: plans build these values, and shells send them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from bson import decode
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from mongopatterns.errors import UsageError
from mongopatterns.expressions import bson_identity, literal, nested
from mongopatterns.specs import KeyedSpec

REPLY: Final = "_mongopatterns"
"""The one field of a projected reply."""

NOT_TOLD: Final = frozenset({13, 26, 166, 8000})
"""What is answered to those who may not ask about a collection (13; by Atlas 8000), and where there is none (26) or a
view (166)."""

_ALL: Final = 2**31 - 1  # what no first answer holds


@dataclass(frozen=True, slots=True)
class FindOneAndUpdate:
    """One guarded write, in the terms of the driver's `find_one_and_update`."""

    filter: dict[str, Any]
    update: Any
    projection: Any
    upsert: bool
    comment: str
    let: dict[str, Any] | None = None
    before: bool = False
    """Whether the reply tells of the document before the write, and not after it."""

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of the driver's call."""
        arguments: dict[str, Any] = {
            "filter": self.filter,
            "update": self.update,
            "projection": self.projection,
            "upsert": self.upsert,
            "return_document": not self.before,
            "comment": self.comment,
        }
        if self.let is not None:
            arguments["let"] = self.let
        return arguments

    def explained(self) -> dict[str, Any]:
        """Return the same in plain values, to be read: what was encoded once is decoded."""
        return {name: _plain(value) for name, value in self.arguments().items()}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return decode(value.raw) if isinstance(value, RawBSONDocument) else value


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One read, in the terms of the driver's `aggregate`."""

    pipeline: list[dict[str, Any]]
    let: dict[str, Any]
    comment: str


@dataclass(frozen=True, slots=True)
class Read:
    """One read, in the terms of the driver: `collection.method(**arguments)` gives a cursor.

    Attributes:
        collection: The name of the collection.
        method: What is called.
        arguments: What it is called with.
        apart: Whether it asks about a collection and not for documents: never within a transaction, which forbids it,
            and it may be refused.
        at: The cluster time that it reads at; None: whatever is there.
    """

    collection: str
    method: str
    arguments: dict[str, Any]
    apart: bool = False
    at: Any = None

    def call(self, session: Any) -> dict[str, Any]:
        """Return the arguments of the call."""
        return {**self.arguments, "session": None if self.apart else session}

    def at_once(self) -> Read:
        """Return the same read with as many documents in the first answer as it holds: no round trip for the rest."""
        return self.in_batches(_ALL)

    def in_batches(self, documents: int) -> Read:
        """Return the same read with so many documents in an answer."""
        size = "batch_size" if self.method == "find" else "batchSize"
        return Read(self.collection, self.method, {**self.arguments, size: documents}, self.apart, self.at)


def lane_of(key: Any, codec_options: CodecOptions[Any]) -> Any:
    """Return what is equal for two keys exactly when they are one key to the server."""
    return key if type(key) is str else bson_identity(key, codec_options)


def identities(keys: Sequence[Any], stored: Sequence[Any], codec_options: CodecOptions[Any]) -> dict[Any, Any]:
    """Return the identity of each key of an answer, in the order asked.

    Args:
        keys: As the caller asks for them.
        stored: The same as they are stored.
        codec_options: How the collection writes them.

    Raises:
        UsageError: If one cannot be a key of a dict, or two of them are one key to a dict and two to the server.
    """
    wanted: dict[Any, Any] = {}
    for key, value in zip(keys, stored, strict=True):
        identity = bson_identity(value, codec_options)
        try:
            known = wanted.setdefault(key, identity)
        except TypeError:
            raise UsageError("keys", "a document cannot be a key of the answer: ask for it alone") from None
        if known != identity:
            raise UsageError("keys", f"{key!r} equals another key in Python, and not on the server: ask for it alone")
    return wanted


def holders_of(path: str) -> list[str]:
    """List the paths of the documents that a path leads through."""
    parts = path.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def created(spec: KeyedSpec) -> dict[str, Any]:
    """Build the document of a call: one without any field of its own gets those of `create`."""
    # An upsert starts from the filter's own equality, and from nothing else.
    bare = nested(spec.key_field, f"${spec.key_field}")
    return {"$cond": [{"$eq": ["$$ROOT", bare]}, {"$mergeObjects": [literal(spec.create), "$$ROOT"]}, "$$ROOT"]}
