"""What is accepted: one operation on one document, checked and measured before anybody waits for it. Pure.

An operation names its document by a key, so that it is known which operations meet: those of one key are kept in their
order (see `_queue`). What is accepted was copied: nobody else can change it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from types import NoneType
from typing import Any, Final, TypeVar
from uuid import UUID

from bson import Binary, Code, DBRef, Decimal128, Int64, ObjectId, decode, encode
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError, InvalidDocument
from bson.raw_bson import RawBSONDocument
from typing_extensions import Self

from mongopatterns.amounts import amount_value
from mongopatterns.errors import UsageError
from mongopatterns.expressions import bson_identity, check_path, copied, key_filter, key_value
from mongopatterns.specs import overlap

MAX_DOCUMENT: Final = 16 * 1024 * 1024
"""How many bytes a document has at most."""

MAX_LEVELS: Final = 180
"""How many levels a document has at most: itself, and the documents and lists in each other."""

# The server refuses a whole command, and all that is in it, if anything in it has more than 200 levels. An update has
# more than what it stores, for its operators: so many are sent, and if that is too much, it is refused by itself.
_MOST_SENT: Final = 200
_SHALLOW: Final = 7 * MAX_LEVELS  # bytes: a document or a list in another one has its type, name, length and end
_LEAVES: Final = frozenset({str, int, float, bool, NoneType, datetime, ObjectId, bytes, Int64, Decimal128, UUID})
_PLAIN_HOLDERS: Final = frozenset({dict, list})
_STAGES: Final = ("$addFields", "$set", "$project", "$unset", "$replaceRoot", "$replaceWith")
_HOLDERS: Final = b"\x03\x04\x0f"  # the types of documents, of lists, and of code with a document
_ANY: Final[CodecOptions[Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)

_SMALL: Final = 10**9
_SHORT: Final = 1000
_MOST_KNOWN: Final = 1024

# About how many bytes of BSON an increment has besides its key and its paths, and for each path besides its name.
_FRAME: Final = 60
_PER_PATH: Final = 20

INSERT: Final = "insert"
UPDATE: Final = "update"
REPLACE: Final = "replace"
DELETE: Final = "delete"


class Target:
    """A collection that is written to.

    Attributes:
        name: `database.collection`.
        collection: The driver's object, which only a shell looks at.
        codec_options: How values are stored.
    """

    __slots__ = ("codec_options", "collection", "name")

    def __init__(self, name: str, collection: Any, codec_options: CodecOptions[Any]) -> None:
        self.name: str = name
        self.collection: Any = collection
        self.codec_options: CodecOptions[Any] = codec_options


class Item:
    """One operation, from its acceptance to its acknowledgement.

    Attributes:
        target: The collection.
        kind: What is done.
        field: The field by which the document is found.
        key: Its value.
        identity: What is equal for two keys exactly when they are one key to the server.
        body: The document as BSON of an insert, the update, the replacement; None of a deletion.
        upsert: Whether a document that is not there is made.
        size: The bytes that are sent, about.
        number: For how many room was kept before it.
        place: Where it lies in the journal; None without one.
        error: Why it is not stored; None if it is, or if that is not known yet.
        done: Whether it is known what came of it.
        waiters: Who waits for it; None if nobody ever did.
    """

    __slots__ = (
        "body",
        "done",
        "error",
        "field",
        "identity",
        "key",
        "kind",
        "number",
        "place",
        "size",
        "target",
        "upsert",
        "waiters",
    )

    def __init__(
        self, target: Target, kind: str, key: Any, body: Any, size: int, *, field: str = "_id", upsert: bool = False
    ) -> None:
        self.target: Target = target
        self.kind: str = kind
        self.field: str = field
        self.key: Any = key
        # (bytes know their hash, and no other key has bytes for its identity)
        known = key if type(key) is str else key.binary if type(key) is ObjectId else None
        self.identity: Any = bson_identity(key, target.codec_options) if known is None else known
        self.body: Any = body
        self.upsert: bool = upsert
        self.size: int = size
        self.number: int = 0
        self.place: int | None = None
        self.error: BaseException | None = None
        self.done: bool = False
        self.waiters: Any = None

    @property
    def first(self) -> Self:
        """Itself: an item is the smallest step of a batch (see `_queue`)."""
        return self

    @property
    def items(self) -> tuple[Self]:
        """Itself alone."""
        return (self,)

    @property
    def filter(self) -> dict[str, Any]:
        """The equality that finds the document."""
        return key_filter(self.field, self.key)

    def settle(self, error: BaseException | None) -> None:
        """Say what came of it, if that was not said before."""
        if not self.done:
            self.done = True
            self.error = error


ItemT = TypeVar("ItemT", bound=Item)


def insert(kind: type[ItemT], target: Target, document: Mapping[str, Any], new_id: Callable[[], Any]) -> ItemT:
    """Check a document that is to be stored.

    Args:
        kind: The class of the item.
        target: The collection.
        document: What is stored.
        new_id: Makes the `_id` that it gets if it has none.

    Raises:
        UsageError: If it is no document, cannot be stored, or is too large.
    """
    if type(document) is not dict:  # (nearly every document is one, and quick to check)
        _check_mapping("document", document)
        if isinstance(document, RawBSONDocument):
            _decoded("document", bytes(document.raw))
            if "_id" not in document:
                raise UsageError("document", "a RawBSONDocument needs an _id of its own")
    if "_id" not in document:
        document = {"_id": new_id(), **document}
    body = _encoded("document", document, target)
    return kind(target, INSERT, document["_id"], body, len(body))


def increment(
    kind: type[ItemT],
    target: Target,
    key: Any,
    amounts: Mapping[str, Any],
    *,
    set_now: Sequence[str],
    key_field: str,
    upsert: bool,
) -> ItemT:
    """Check amounts that are to be added: `{path: amount}`, negative ones too.

    Raises:
        UsageError: If a path or an amount is none, two paths meet, or nothing is left to be done.
    """
    if (type(amounts) is not dict and not isinstance(amounts, Mapping)) or not amounts:
        raise UsageError("amounts", f"expected a dict of amounts by path, got {amounts!r:.100}")
    if set_now != ():
        _check_paths("set_now", set_now)
    key = _checked_key(key, key_field, upsert=upsert)
    paths = key_field, tuple(amounts), tuple(set_now)
    size = _known.get(paths) or _size_of_paths(*paths)
    # (Nearly every amount is a small number, and quick to check.)
    body: dict[str, Any] = {
        "$inc": {
            path: amount if type(amount) is int and 0 < amount < _SMALL else _amount(path, amount)
            for path, amount in amounts.items()
        }
    }
    if set_now:
        body["$currentDate"] = dict.fromkeys(set_now, True)
    # (What is counted is storable, and so is text in ASCII: it need not be encoded to be measured.)
    plain = type(key) is str and len(key) < _SHORT and key.isascii()
    size += len(key) if plain else len(_encoded("key", {key_field: key}, target))
    return kind(target, UPDATE, key, body, size, field=key_field, upsert=upsert)


def update(kind: type[ItemT], target: Target, key: Any, update_: Any, *, key_field: str, upsert: bool) -> ItemT:
    """Check an update: operators as PyMongo takes them, or a pipeline.

    Raises:
        UsageError: If it is none, cannot be sent, or would change the key.
    """
    key = _checked_key(key, key_field, upsert=upsert)
    if isinstance(update_, Mapping):
        if not update_ or not all(isinstance(name, str) and name.startswith("$") for name in update_):
            raise UsageError("update", "expected operators such as {'$set': {...}}; a whole document is for replace()")
        for operator, fields in update_.items():
            for path in fields if isinstance(fields, Mapping) else ():
                if isinstance(path, str) and overlap(path, key_field) and operator != "$setOnInsert":
                    raise UsageError("update", f"{path!r} is the key, which an update does not change")
    elif not isinstance(update_, (list, tuple)) or not update_:
        raise UsageError("update", f"expected operators or a pipeline, got {type(update_).__name__}")
    else:
        for stage in update_:
            # (the server refuses all that is sent with it)
            if not isinstance(stage, Mapping) or len(stage) != 1 or next(iter(stage)) not in _STAGES:
                raise UsageError("update", f"{stage!r:.100} is no stage: each is one of {', '.join(_STAGES)}")
    return _keyed(kind, target, UPDATE, key, _copied("update", update_), key_field=key_field, upsert=upsert)


def replace(
    kind: type[ItemT], target: Target, key: Any, document: Mapping[str, Any], *, key_field: str, upsert: bool
) -> ItemT:
    """Check a document that takes the place of another one.

    Raises:
        UsageError: If it is no document, has another key, or cannot be stored.
    """
    key = _checked_key(key, key_field, upsert=upsert)
    _check_mapping("document", document)
    document = _copied("document", document)
    if any(str(name).startswith("$") for name in document):
        raise UsageError("document", "operators are for update()")
    item = _keyed(kind, target, REPLACE, key, document, key_field=key_field, upsert=upsert)
    if key_field in document:
        if bson_identity(document[key_field], target.codec_options) != item.identity:
            raise UsageError("document", f"its {key_field!r} is {document[key_field]!r:.100}, and the key {key!r:.100}")
    elif key_field != "_id":
        raise UsageError("document", f"it has no {key_field!r}, by which it is found")
    return item


def delete(kind: type[ItemT], target: Target, key: Any, *, key_field: str) -> ItemT:
    """Check a deletion.

    Raises:
        UsageError: If the key is none.
    """
    key = _checked_key(key, key_field, upsert=False)
    return _keyed(kind, target, DELETE, key, None, key_field=key_field, upsert=False)


def _keyed(kind: type[ItemT], target: Target, what: str, key: Any, body: Any, *, key_field: str, upsert: bool) -> ItemT:
    if type(key) is not str and type(key) is not ObjectId:
        _encoded("key", {key_field: key}, target)
    name, most = ("update", _MOST_SENT) if what == UPDATE else ("document", MAX_LEVELS)
    size = len(_encoded(name, {"q": {key_field: key}, "u": body}, target, most + 1))
    return kind(target, what, key, body, size, field=key_field, upsert=upsert)


def _checked_key(key: Any, key_field: str, *, upsert: bool) -> Any:
    if key_field != "_id":
        check_path("key_field", key_field)
    if upsert is not True and upsert is not False:
        raise UsageError("upsert", f"expected True or False, got {upsert!r:.100}")
    return key_value("key", key)


def _check_paths(argument: str, paths: object) -> None:
    if not isinstance(paths, (list, tuple)):
        raise UsageError(argument, f"expected a list of paths, got {paths!r:.100}")
    for path in paths:
        if type(path) is not str:  # (it could not be looked up)
            check_path(argument, path)


_known: Final[dict[tuple[str, tuple[Any, ...], tuple[Any, ...]], int]] = {}
"""About how many bytes an increment of paths has that were checked: most applications have few, again and again."""


def _size_of_paths(key_field: str, amounts: tuple[Any, ...], set_now: tuple[Any, ...]) -> int:
    """Check paths, and return about how many bytes an increment of them has."""
    every = (*amounts, *set_now)
    for path in amounts:
        check_path("amounts", path)
    for place, path in enumerate(every):
        argument = "amounts" if place < len(amounts) else "set_now"
        if overlap(path, key_field):
            raise UsageError(argument, f"{path!r:.100} is the key, which an increment does not change")
        if met := [other for other in every[:place] if overlap(path, other)]:
            raise UsageError(argument, f"{path!r:.100} and {met[0]!r:.100} overlap")
    size = _FRAME + sum(len(path.encode()) + _PER_PATH for path in every)
    if size > MAX_DOCUMENT:
        raise UsageError("amounts", f"have {size:,} bytes, and a document has at most {MAX_DOCUMENT:,}")
    if size <= _SHORT:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[key_field, amounts, set_now] = size
    return size


def _check_mapping(argument: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise UsageError(argument, f"expected a dict, got {type(value).__name__}")


def _amount(path: str, amount: Any) -> Any:
    """Return an amount as it travels: whole numbers as integers, all others as Decimal128."""
    argument = f"amounts[{path!r:.100}]"
    if isinstance(amount, Decimal):  # (whose minus would round)
        negative = amount.is_signed()
        size: Any = amount.copy_abs()
    else:
        negative = isinstance(amount, (int, float)) and not isinstance(amount, bool) and amount < 0
        size = -amount if negative else amount
    value = amount_value(argument, size, zero=True)
    if not negative:
        return value
    return -value if isinstance(value, int) else type(value)(value.to_decimal().copy_negate())


def _copied(argument: str, value: Any) -> Any:
    try:
        return copied(value)
    except RecursionError:
        raise UsageError(
            argument, f"is nested too deeply, or holds itself: a document has at most {MAX_LEVELS} levels"
        ) from None
    except BSONError as error:  # (of a RawBSONDocument in it)
        raise UsageError(argument, f"cannot be stored: {error}") from None


def _decoded(argument: str, body: bytes) -> dict[str, Any]:
    try:
        return decode(body, codec_options=_ANY)
    except (BSONError, ValueError, RecursionError) as error:
        raise UsageError(argument, f"cannot be stored: {error}") from None


def _encoded(argument: str, document: Mapping[str, Any], target: Target, most: int = MAX_LEVELS) -> bytes:
    try:
        body = encode(document, codec_options=target.codec_options)
    except (InvalidDocument, OverflowError, UnicodeError, ValueError, RecursionError) as error:
        raise UsageError(argument, f"cannot be stored: {error}") from None
    if len(body) > MAX_DOCUMENT:
        raise UsageError(argument, f"has {len(body):,} bytes, and a document has at most {MAX_DOCUMENT:,}")
    if len(body) > _SHALLOW and _is_too_deep(argument, document, body, most):
        raise UsageError(argument, f"is nested too deeply: a document has at most {MAX_LEVELS} levels")
    return body


def _is_too_deep(argument: str, document: Mapping[str, Any], body: bytes, most: int) -> bool:
    """Tell whether there are more levels: few documents have so many bytes that may begin one, which is quick to tell.

    Those are looked at, and if they hold what is not plain, as they are encoded.
    """
    if sum(map(body.count, _HOLDERS)) < most:
        return False
    level: list[Any] = [document]
    for _ in range(most):
        if not _PLAIN_HOLDERS.issuperset(map(type, level)):
            break
        level = [
            each
            for holder in level
            for each in (holder.values() if type(holder) is dict else holder)
            if type(each) not in _LEAVES
        ]
        if not level:
            return False
    return _levels(_decoded(argument, body)) > most


def _levels(document: dict[str, Any]) -> int:
    """Count how deep a document is."""
    found, level = 0, [document]
    while level:
        found += 1
        level = [each for holder in level for each in _held(holder)]
    return found


def _held(holder: Any) -> Iterable[Any]:
    """Give the documents and lists that one has."""
    for each in holder if type(holder) is list else holder.values():
        if type(each) is dict or type(each) is list:
            yield each
        elif type(each) is DBRef:
            yield each.as_doc()
        elif type(each) is Code and each.scope is not None:
            yield each.scope


def record(item: Item) -> dict[str, Any]:
    """Return all that is needed to do it later (`restored`), as one document."""
    body = Binary(item.body) if item.kind == INSERT else item.body
    return {
        "to": item.target.name,
        "do": item.kind,
        "by": item.field,
        "key": item.key,
        "body": body,
        "upsert": item.upsert,
    }


def restored(kind: type[ItemT], target: Target, told: Mapping[str, Any]) -> ItemT:
    """Return an item from its record."""
    body = bytes(told["body"]) if told["do"] == INSERT else told["body"]
    size = len(body) if isinstance(body, bytes) else len(encode({"u": body}, codec_options=target.codec_options))
    return kind(target, told["do"], told["key"], body, size, field=told["by"], upsert=told["upsert"])
