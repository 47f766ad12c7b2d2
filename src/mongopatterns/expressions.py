"""Safe building blocks of what is sent to the server: pure, and the only place where user values meet syntax.

In an aggregation pipeline every value is an expression: the text `"$price"` reads a field, the dict
`{"$add": [1, 2]}` computes. A value that comes from a caller must therefore go in under `$literal`, and a path
that comes from a caller must be one that cannot mean anything else. The functions here do both, so that no
pattern writes a `$literal`, checks a path or spells a calendar window by itself.

Two groups: *values* (paths, keys, documents: checked on the way in) and *documents* (read or write one path
without touching its neighbours). Numbers are in `amounts`, calendar windows in `windows`.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from bson import Code, DBRef, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp, encode
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from bson.errors import InvalidDocument

from mongopatterns.amounts import Amount, amount_value
from mongopatterns.errors import UsageError

__all__ = [
    "ANY_UUID",
    "Field",
    "at_path",
    "aware",
    "bson_identity",
    "check_document",
    "check_path",
    "check_time",
    "copied",
    "is_among",
    "key_filter",
    "key_value",
    "literal",
    "merge_at",
    "nested",
]

ANY_UUID: CodecOptions[dict[str, Any]] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
"""Codec options under which a UUID can be encoded at all; the driver's default refuses to choose."""

_MAX_DEPTH = 32  # each part nests a pipeline two levels deeper, and the server reads at most 200
_YEARS = range(1970, 9000)  # what both sides can date, with room for the windows around it
_INT64 = 2**63
_DEEPEST = 180  # what the server stores


# Values ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    """Stand for a number that is read from the same document, in the same write.

    Attributes:
        path: The dotted path of the number.
        default: What a missing or null field counts as. Without a default such a document is an error
            (`StateError`): a limit that is forgotten never means "unlimited".
    """

    path: str
    default: Amount | None = None

    def __post_init__(self) -> None:
        check_path("Field.path", self.path)
        if self.default is not None:
            amount_value("Field.default", self.default, zero=True)


def literal(value: object) -> dict[str, Any]:
    """Make `value` data: the server reads nothing in it as a path or an operator."""
    return {"$literal": value}


def is_among(text: Any, texts: Any) -> dict[str, Any]:
    """Build whether a text is one of several, character by character.

    `$in` alone compares by the collation that the collection was made with, to which `a` may be `A`. It goes first
    because it is quick: what is equal by characters is equal by every collation.

    Args:
        text: The expression of the text.
        texts: The expression of a list, which may hold anything.
    """
    equal = {"$filter": {"input": texts, "cond": {"$eq": ["$$this", text]}}}
    # (of equal length, and one begins with the other)
    length = {"$eq": [{"$strLenBytes": "$$this"}, {"$strLenBytes": text}]}
    same = {"$and": [length, {"$eq": [{"$indexOfBytes": ["$$this", text]}, 0]}]}
    return {"$and": [{"$in": [text, texts]}, {"$anyElementTrue": [{"$map": {"input": equal, "in": same}}]}]}


def check_path(argument: str, path: object) -> str:
    """Return `path` if it is a dotted field path that can be nothing else.

    Args:
        argument: The caller's name for the argument, for the message.
        path: Text such as `quota.minutes`.

    Raises:
        UsageError: If it is not text, or a part of it is empty, begins with `$` or holds a NUL.
    """
    if not isinstance(path, str):
        raise UsageError(argument, f"expected a field path as text, got {type(path).__name__}")
    parts = path.split(".")
    if len(parts) > _MAX_DEPTH:
        raise UsageError(argument, f"a path has at most {_MAX_DEPTH} parts, got {len(parts)}")
    for part in parts:
        if not part:
            raise UsageError(argument, f"{path!r} has an empty part: write it like 'quota.minutes'")
        if part.startswith("$"):
            raise UsageError(argument, f"{path!r} has a part that begins with '$', which is an operator's name")
        if "\0" in part:
            raise UsageError(argument, f"{path!r} holds a NUL character")
    _check_storable(argument, path)
    return path


def check_document(argument: str, value: object) -> dict[str, Any]:
    """Return a copy of `value` if it can be stored as a document's fields.

    Raises:
        UsageError: If it is not a mapping, or a name in it is not text, is empty, begins with `$`, or holds a
            dot or a NUL; or if it is nested deeper than the server stores.
    """
    if not isinstance(value, Mapping):
        raise UsageError(argument, f"expected a dict of fields, got {type(value).__name__}")
    fields: dict[str, Any] = _check_value(argument, value, 1)
    return fields


def _check_value(argument: str, value: Any, depth: int) -> Any:
    """Copy what may hold documents, and check those."""
    if not isinstance(value, (Mapping, list, tuple)):
        return value
    if depth > _DEEPEST:
        name = argument.partition(".")[0]
        raise UsageError(name, f"is nested deeper than the {_DEEPEST} levels that the server stores")
    if not isinstance(value, Mapping):
        return [_check_value(argument, item, depth + 1) for item in value]
    fields: dict[str, Any] = {}
    for name, item in value.items():
        if not isinstance(name, str) or not name or name.startswith("$") or "." in name or "\0" in name:
            raise UsageError(argument, f"{name!r} cannot be a field name: use text without '.', NUL or a leading '$'")
        fields[name] = _check_value(f"{argument}.{name}", item, depth + 1)
    _check_storable(argument, fields)
    return fields


def check_time(argument: str, value: dt.datetime) -> dt.datetime:
    """Return `value` in UTC if it is an aware datetime.

    Raises:
        UsageError: If it is naive, no datetime, or not from 1970 to 8999.
    """
    if not isinstance(value, dt.datetime):
        raise UsageError(argument, f"expected an aware datetime, got {type(value).__name__}")
    if value.utcoffset() is None:
        raise UsageError(argument, f"{value!r} is naive: give it a time zone, such as tzinfo=timezone.utc")
    if value.year not in _YEARS:
        raise UsageError(argument, f"expected a year from {_YEARS[0]} to {_YEARS[-1]}, got {value!r}")
    return value.astimezone(dt.timezone.utc)


def key_value(argument: str, key: object, key_type: type[ObjectId] | None = None) -> Any:
    """Return the key as it is stored.

    Args:
        argument: The caller's name for the argument, for the message.
        key: Any value with one equality: text, numbers, ObjectId, UUID, dates, bytes, documents.
        key_type: `ObjectId` turns text of 24 hexadecimal digits into ObjectIds.

    Raises:
        UsageError: If the key is None, NaN, a list or a pattern, which have no plain equality; if it cannot be
            stored; or if it is no ObjectId where `key_type` asks for one.
    """
    if type(key) is str and key_type is None:  # nearly every key, and quick to check
        _check_storable(argument, key)
        return key
    if key_type is ObjectId:
        if isinstance(key, (ObjectId, str)) and ObjectId.is_valid(key):  # ObjectId(None) would make a new one
            return ObjectId(key)
        raise UsageError(argument, f"{key!r} is not an ObjectId: expected one, or 24 hexadecimal digits")
    if key is None:
        raise UsageError(argument, "None is not a key: it would match every document without the field")
    if isinstance(key, (list, tuple, set, frozenset, re.Pattern, Regex, Code, DBRef, MinKey, MaxKey, Timestamp)):
        raise UsageError(argument, f"a {type(key).__name__} cannot be a key: use one value, or a document of values")
    if isinstance(key, float) and math.isnan(key):
        raise UsageError(argument, "NaN is not a key")
    if isinstance(key, int) and not -_INT64 <= key < _INT64:
        raise UsageError(argument, f"{key} does not fit into 64 bits")
    if isinstance(key, Mapping):
        return check_document(argument, key)
    if not isinstance(key, (int, ObjectId)):
        _check_storable(argument, key)
    return key


def _check_storable(argument: str, value: object) -> None:
    try:
        if isinstance(value, str):  # (quicker than BSON, for the type that nearly every key has)
            _ = value.isascii() or value.encode()
        else:
            encode({"": value}, codec_options=ANY_UUID)
    except (InvalidDocument, OverflowError, UnicodeError) as error:
        raise UsageError(argument, f"cannot be stored: {error}") from None


def bson_identity(value: object, codec_options: CodecOptions[Any] = ANY_UUID) -> Any:
    """Return a hashable stand-in that is equal for two values exactly when the server finds them equal.

    A UUID is what clients with these `codec_options` store it as.

    Python's `==` is no help: it says `1 == True` and `Decimal128("1") != 1`, and the server says the opposite.
    """
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, (str, ObjectId)) and not isinstance(value, Code):  # nearly every key
        return value
    if isinstance(value, Decimal128):
        value = value.to_decimal()
    if isinstance(value, (int, float, Decimal)):  # (Python, too, compares a float as the binary fraction that it is)
        return ("NaN",) if not isinstance(value, int) and Decimal(value).is_nan() else value
    if isinstance(value, Mapping):
        return "document", tuple((name, bson_identity(item, codec_options)) for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return "array", tuple(bson_identity(item, codec_options) for item in value)
    return "other", encode({"": value}, codec_options=codec_options)


def key_filter(key_field: str, key: Any) -> dict[str, Any]:
    """Build the equality on exactly the unique key, which is what lets an upsert race without false duplicates.

    The server repeats an upsert that lost a race by itself only if its filter is nothing but equalities on the
    fields of the unique index (`shouldRetryDuplicateKeyException` in `mongodb/mongo`,
    `src/mongo/db/exec/update_stage.cpp`).
    """
    # A scalar goes in bare: `{"_id": {"$eq": x}}` leaves the server's fast path for _id.
    return {key_field: {"$eq": key} if isinstance(key, Mapping) else key}


# Documents ---------------------------------------------------------------------------------------------------


def at_path(document: object, path: str) -> Any:
    """Read a dotted path of a document in memory; None where it is missing or leads through something else."""
    for part in path.split("."):
        if not isinstance(document, Mapping):
            return None
        document = document.get(part)
    return document


def nested(path: str, value: Any) -> dict[str, Any]:
    """Build a document that holds nothing but a value at a dotted path."""
    for part in reversed(path.split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]  # a path has at least one part


def aware(value: Any) -> Any:
    """Give every date in a value its zone, UTC: a document in hand may come from a client that leaves it out."""
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=dt.timezone.utc) if value.tzinfo is None else value.astimezone(dt.timezone.utc)
    if isinstance(value, Mapping):
        return {name: aware(item) for name, item in value.items()}
    return [aware(item) for item in value] if isinstance(value, list) else value


def copied(value: Any) -> Any:
    """Copy the documents and lists in a value, so that nobody else can change them; documents become dicts."""
    if isinstance(value, Mapping):
        return {name: copied(item) for name, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, (list, tuple)) else value


def merge_at(document: str, path: str, value: object) -> dict[str, Any]:
    """Build the expression for `document` with `value` at `path`; whatever stands beside the path stays.

    Args:
        document: The expression of the document, such as `$$ROOT`. Each parent on the path must be a document,
            null or missing there: the server refuses the write otherwise.
        path: A checked path.
        value: The expression to put there.
    """
    parts = path.split(".")
    for depth in range(len(parts) - 1, -1, -1):
        parent = ".".join((document, *parts[:depth]))
        value = {"$mergeObjects": [parent, {parts[depth]: value}]}
    return value  # type: ignore[return-value]  # a path has at least one part
