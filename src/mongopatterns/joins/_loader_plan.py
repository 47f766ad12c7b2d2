"""What a loader sends, and whose each document of the answer is. Pure: no client, no clock, no randomness.

A key goes through three forms. As the caller gives it; as it is sent, in a `$in` of at most `max_batch` keys and
`MAX_BYTES`; and as an *identity*, which is equal for two keys exactly when they are one key to the server, and by which
documents find back to whoever asked.

Documents are kept as bytes, and each caller gets one that was decoded for it: that costs less than a copy. The one that
was decoded to find out whose it is goes to the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, NamedTuple

from bson import Int64, ObjectId, decode, encode
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import InvalidDocument
from bson.raw_bson import RawBSONDocument

from mongopatterns._grouping import check_bound
from mongopatterns.errors import UsageError
from mongopatterns.expressions import bson_identity, check_path, key_filter, key_value
from mongopatterns.fields import Fields, Shape
from mongopatterns.indexes import Index
from mongopatterns.joins._keys import found_by
from mongopatterns.order import in_order
from mongopatterns.specs import check_collection, check_no_place

__all__ = ["Find", "Key", "LoaderPlan", "LoaderSpec"]

MAX_BYTES: Final = 8_000_000
"""How many bytes the keys of one command have at most, unless it is a single key: half of what a command may have."""

_ID_SIZE: Final = 12 + 9  # of an ObjectId as an item of a list, which has its place for a name: up to seven digits
_LARGEST: Final = 16 * 2**20  # a document has no more, and its key is a part of it
# Types of which no two values are equal in Python alone, or to the server alone, however they are decoded.
_SIMPLE: Final = frozenset({str, ObjectId, int, Int64, type(None)})
_DEEPEST: Final = 180  # what the server stores; a command that nests deeper fails as a whole


@dataclass(frozen=True)
class LoaderSpec:
    """Define by which field the documents of a collection are loaded.

    Attributes:
        collection: The collection's name.
        key_field: The dotted path of the key. It should be unique, and must be indexed (see `indexes`).
        key_type: `ObjectId` where keys may come as text of 24 hexadecimal digits; anything else is then refused.
        fields: The dotted paths that are wanted, besides `_id`; or an inclusion such as `{"name": 1, "_id": 0}`. None:
            whole documents.
        max_batch: How many keys one command asks for at most; more are sent as several, one after the other.
        max_cache: How many documents a scope keeps at most.

    Raises:
        UsageError: If a path is none, or a bound is no whole number from 1.
    """

    collection: str
    _: KW_ONLY
    key_field: str = "_id"
    key_type: type[ObjectId] | None = None
    fields: Sequence[str] | Mapping[str, Any] | None = field(default=None, hash=False)
    max_batch: int = 1000
    max_cache: int = 10_000

    def __post_init__(self) -> None:
        check_collection(self.collection)
        check_path("key_field", self.key_field)
        check_no_place("key_field", self.key_field)
        if self.key_type not in (None, ObjectId):
            raise UsageError("key_type", f"expected None or bson.ObjectId, got {self.key_type!r}")
        Fields.of("fields", self.fields)
        if self.fields is not None:  # a copy that nobody else can change
            given = self.fields
            object.__setattr__(self, "fields", dict(given) if isinstance(given, Mapping) else tuple(given))
        check_bound("max_batch", self.max_batch)
        check_bound("max_cache", self.max_cache)

    def indexes(self) -> tuple[Index, ...]:
        """Return the index that must exist: one on `key_field` (a unique one does as well), unless that is `_id`."""
        return () if self.key_field == "_id" else (Index(self.key_field),)


class Key(NamedTuple):
    """A key that was asked for.

    Attributes:
        identity: What is equal for two keys exactly when they are one key to the server.
        value: As it is sent.
        size: How many bytes it has.
    """

    identity: Any
    value: Any
    size: int


@dataclass(frozen=True, slots=True)
class Find:
    """One read, in the terms of the driver's `find`.

    Attributes:
        keys: The identities of the keys that it asks for.
        filter: The keys as they are sent.
        projection: What is fetched; None: everything.
        comment: Who asks.
    """

    keys: frozenset[Any]
    filter: dict[str, Any]
    projection: dict[str, Any] | None
    comment: str = "mongopatterns.loader.load"

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of the driver's call."""
        # One more than there are keys: the server then knows that it has given all, and needs no second round trip.
        size = len(self.keys) + 1
        return {"filter": self.filter, "projection": self.projection, "batch_size": size, "comment": self.comment}


class Found:
    """A document that was found: as bytes, and at first as a document that nobody has yet.

    Args:
        raw: The bytes.
        document: The same, decoded.
    """

    __slots__ = ("_raw", "_spare")

    def __init__(self, raw: bytes, document: dict[str, Any]) -> None:
        self._raw = raw
        self._spare = [document]

    def document(self, codec_options: CodecOptions[Any]) -> dict[str, Any]:
        """Return a document that nobody else has."""
        try:
            return self._spare.pop()  # (of several threads, one succeeds)
        except IndexError:
            return decode(self._raw, codec_options)


class LoaderPlan:
    """Build what a loader sends, and read what comes back.

    Args:
        spec: What is loaded.
        codec_options: How the collection reads and writes.

    Attributes:
        raw_options: How the answer is to be read: as bytes.
    """

    def __init__(self, spec: LoaderSpec, codec_options: CodecOptions[Any]) -> None:
        self.spec = spec
        self.raw_options: CodecOptions[Any] = codec_options.with_options(
            document_class=RawBSONDocument, datetime_conversion=DatetimeConversion.DATETIME_MS
        )
        self._codec_options = codec_options
        # (`_id` decides which one of several documents is the first)
        self._shape = Shape(Fields.of("fields", spec.fields), [spec.key_field, "_id"])

    def key(self, argument: str, key: object) -> Key:
        """Return a key that was asked for.

        Everything that could make a command fail is found here, as a command is sent for many.

        Raises:
            UsageError: If it has no plain equality, or cannot be stored.
        """
        if type(key) is not ObjectId:  # (nearly every key is one, and needs no look)
            if isinstance(key, Mapping):
                _check_depth(argument, key)
            key = key_value(argument, key, self.spec.key_type)
        return Key(key, key, _ID_SIZE) if type(key) is ObjectId else self._key(argument, key)

    def _key(self, argument: str, value: Any) -> Key:
        try:
            encoded = encode({"": value}, codec_options=self._codec_options)
        except (InvalidDocument, ValueError, OverflowError) as error:  # (a UUID of which the client does not say how)
            raise UsageError(argument, f"cannot be stored: {error}") from None
        if len(encoded) > _LARGEST:
            raise UsageError(argument, f"has {len(encoded)} bytes, which is more than any document has")
        # A document is compared as it is read.
        read = RawBSONDocument(encoded, self.raw_options)[""] if isinstance(value, dict) else value
        return Key(bson_identity(read, self._codec_options), value, len(encoded) + 2)  # (the name has up to 7 digits)

    def keys(self, keys: Iterable[object]) -> list[Key]:
        """Return keys that were asked for.

        Raises:
            UsageError: If they are no list, or one of them has no plain equality or cannot be stored.
        """
        if isinstance(keys, (str, bytes, Mapping)) or not isinstance(keys, Iterable):
            raise UsageError("keys", f"expected a list of keys, got {type(keys).__name__}")
        return [self.key(f"keys[{place}]", key) for place, key in enumerate(keys)]

    def commands(self, calls: Mapping[Any, Key]) -> list[Find]:
        """Return what is sent for keys, by their identities."""
        return [self._find(chunk) for chunk in self._chunks(calls.values())]

    def _chunks(self, keys: Iterable[Key]) -> Iterator[list[Key]]:
        chunk: list[Key] = []
        size = 0
        for key in keys:
            if chunk and (len(chunk) == self.spec.max_batch or size + key.size > MAX_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append(key)
            size += key.size
        if chunk:
            yield chunk

    def _find(self, keys: Sequence[Key]) -> Find:
        name = self.spec.key_field
        # (the server has a shorter way to one `_id`)
        one = len(keys) == 1
        wanted = key_filter(name, keys[0].value) if one else {name: {"$in": [key.value for key in keys]}}
        return Find(frozenset(key.identity for key in keys), wanted, self._shape.projection)

    def found(self, commands: Iterable[Find], replies: Iterable[Sequence[RawBSONDocument]]) -> dict[Any, Found | None]:
        """Return what was found for each key, None where there is nothing.

        Of several documents of one key it is the first by `_id`. A command tells about its own keys only: of the
        others it may have seen some of their documents.
        """
        told: dict[Any, Found | None] = {}
        for command, reply in zip(commands, replies, strict=True):
            documents = [decode(document.raw, self._codec_options) for document in reply]
            read = self._shape.read(self.spec.key_field, documents)
            if not _SIMPLE.issuperset(map(type, read)):
                # As they are stored: Python cannot tell dates past the year 9999 apart, for one.
                read = self._shape.read(self.spec.key_field, reply)
            places = found_by(read, self._codec_options)
            found = [Found(bytes(raw.raw), document) for raw, document in zip(reply, documents, strict=True)]
            for identity in command.keys:
                place = self._first(documents, places.get(identity, ()))
                told[identity] = None if place is None else found[place]  # (two keys may lead to one document)
        return told

    def _first(self, documents: Sequence[dict[str, Any]], places: Sequence[int]) -> int | None:
        if len(places) <= 1:
            return places[0] if places else None
        first = in_order([documents[place] for place in places], self._codec_options)[0]
        return next(place for place in places if documents[place] is first)

    def documents(self, keys: Iterable[Key], found: Mapping[Any, Found | None]) -> list[dict[str, Any] | None]:
        """Return a document of its own for each key, in their order; None where there is none."""
        documents = [
            None if (one := found[key.identity]) is None else one.document(self._codec_options) for key in keys
        ]
        self._shape.clean([document for document in documents if document is not None])
        return documents


def _check_depth(argument: str, key: Mapping[str, Any]) -> None:
    """Refuse a document that no server stores, before anything walks down into it."""
    level: list[Any] = [key]
    for _ in range(_DEEPEST):
        level = [
            item
            for value in level
            for item in (value.values() if isinstance(value, Mapping) else value)
            if isinstance(item, (Mapping, list, tuple))
        ]
        if not level:
            return
    raise UsageError(argument, f"is nested more than {_DEEPEST} levels deep")
