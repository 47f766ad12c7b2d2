"""What unique codes are defined by, what is sent, and what the answers mean. Pure: no client, clock or randomness.

A code is text in a document of the caller's. A unique partial index holds the codes of the documents that are live,
and of no others: the server refuses a code that another live document has, and a document that stops being live
leaves its code to others. So a code is never looked up before it is claimed: it is written, and if the index refuses
it, another one is written.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Final

from bson import Decimal128, ObjectId, decode, encode
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo.errors import DuplicateKeyError

from mongopatterns.commands import REPLY, FindOneAndUpdate, holders_of
from mongopatterns.errors import Conflict, DocumentNotFound, StateError, UsageError
from mongopatterns.expressions import (
    ANY_UUID,
    at_path,
    bson_identity,
    check_path,
    check_time,
    key_filter,
    key_value,
    literal,
    merge_at,
)
from mongopatterns.indexes import Index
from mongopatterns.specs import KeyedSpec, overlap

ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
"""Digits and capitals without those that are mistaken for others: 0 and O, 1 and I and L."""

_LONGEST: Final = 64
_LONGEST_GIVEN: Final = 200
_LEAST_ROOM: Final = 64  # with fewer codes, even a few documents meet taken ones all the time
_MOST_TRIES: Final = 100
_SCALARS: Final = (str, bool, int, float, Decimal128, ObjectId, dt.datetime, type(None))
_EMPTY: Final = ("missing", "null")


@dataclass(frozen=True)
class UniqueCodeSpec(KeyedSpec):
    """Define a short code that no two live documents of a collection share.

    Attributes:
        collection: The collection's name.
        path: The dotted path of the code.
        live: What a document says that is live, by dotted path: a plain value, or None for null or missing. Without
            it every document is. Only live documents have codes of their own.
        length: How many characters a code has, from 1 to 64.
        alphabet: The characters of a code, each once: at least two, without white space. Together with `length` it
            must give room for 64 codes. The default has no 0, O, 1, I and L.
        tries: How many codes a call tries before it gives up, from 1 to 100.
        key_field: The field by which `assign` finds a document; it must be `_id` or uniquely indexed.
        key_type: `ObjectId` to accept ids as text.

    Raises:
        UsageError: On any value that cannot work, when the spec is made.
    """

    _: KW_ONLY
    live: Mapping[str, Any] | None = field(default=None, hash=False)
    length: int = 6
    alphabet: str = ALPHABET
    tries: int = 10
    create: Mapping[str, Any] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "live", self._checked_live())
        _check_whole("length", self.length, 1, _LONGEST)
        _check_whole("tries", self.tries, 1, _MOST_TRIES)
        letters = self.alphabet
        if not isinstance(letters, str) or len(letters) < 2 or len(set(letters)) < len(letters):  # noqa: PLR2004
            raise UsageError("alphabet", f"expected at least two characters, each once, got {letters!r:.100}")
        if not letters.isprintable() or " " in letters:
            raise UsageError("alphabet", f"{letters!r:.100} holds white space, or what cannot be printed")
        if self.room < _LEAST_ROOM:
            problem = f"{self.length} of {len(letters)} characters make {self.room} codes: fewer than {_LEAST_ROOM}"
            raise UsageError("length", problem)

    def _checked_live(self) -> dict[str, Any]:
        if not isinstance(self.live, (Mapping, type(None))):
            raise UsageError("live", f"expected a dict of values by path, got {self.live!r:.100}")
        live: dict[str, Any] = {}
        for name, value in (self.live or {}).items():
            path = check_path("live", name)
            if any(overlap(path, taken) for taken in (self.path, *live)):
                raise UsageError("live", f"{path!r} overlaps the path of the code, or another condition")
            if not isinstance(value, _SCALARS):
                raise UsageError(f"live.{path}", f"expected a plain value or None, got {value!r:.100}")
            if value is not None:
                key_value(f"live.{path}", value)
            if isinstance(value, dt.datetime):
                check_time(f"live.{path}", value)
            live[path] = value
        return live

    @property
    def room(self) -> int:
        """How many codes there are."""
        return int(len(self.alphabet) ** self.length)

    @property
    def claimed(self) -> dict[str, Any]:
        """The filter of the documents whose code is theirs alone: those of the unique index."""
        return {**(self.live or {}), self.path: {"$type": "string"}}

    def indexes(self) -> tuple[Index, ...]:
        """Return the indexes that must exist: a unique one on `key_field`, unless that is `_id`, and that of the codes.

        The latter holds live documents with a code and no others.
        """
        return (*super().indexes(), Index(self.path, unique=True, where=self.claimed))


@dataclass(frozen=True, slots=True)
class InsertOne:
    """A new document, in the terms of the driver's `insert_one`."""

    document: dict[str, Any]
    comment: str


@dataclass(frozen=True, slots=True)
class Find:
    """A read of one document, in the terms of the driver's `find_one`."""

    filter: dict[str, Any]
    projection: dict[str, Any] | None
    comment: str


@dataclass(frozen=True, slots=True)
class Claim:
    """An `insert` or an `assign` under way.

    Attributes:
        key: The key of the document: of one that is inserted, its `_id`.
        asked: The code that the caller wants; None for any.
        most: How many codes are tried.
        document: What is inserted, as it is stored; None for `assign`.
        tried: How many codes were tried.
        code: The one that is being tried.
        command: What is sent for it.
        result: What the caller is told; None until it is decided.
    """

    key: Any
    asked: str | None
    most: int
    document: dict[str, Any] | None = None
    tried: int = 0
    code: str = ""
    command: Any = None
    result: Any = None


class UniqueCodePlan:
    """Build the commands of unique codes and read their replies."""

    def __init__(self, spec: UniqueCodeSpec, collection: str, codec_options: CodecOptions[Any] = ANY_UUID) -> None:
        self.spec = spec
        self.collection = collection
        self._codec_options = codec_options
        self._holders = holders_of(spec.path)
        in_documents = [{"$in": [{"$type": f"${holder}"}, literal([*_EMPTY, "object"])]} for holder in self._holders]
        empty = {"$in": [{"$type": f"${spec.path}"}, literal(list(_EMPTY))]}
        may = {"$and": [empty, *in_documents, *self._is_live]}
        update = {"$replaceWith": {"$cond": [may, merge_at("$$ROOT", spec.path, "$$code"), "$$ROOT"]}}
        told = {
            "code": f"${spec.path}",
            "live": {"$and": self._is_live},
            "kinds": [{"$type": f"${holder}"} for holder in self._holders],
        }
        self._update = [RawBSONDocument(encode(update, codec_options=codec_options))]
        self._projection = RawBSONDocument(encode({"_id": 0, REPLY: told}, codec_options=codec_options))

    @property
    def _is_live(self) -> list[dict[str, Any]]:
        """List the conditions of `live` as expressions."""
        return [
            {"$in": [{"$type": f"${path}"}, literal(list(_EMPTY))]}
            if value is None
            else {"$eq": [f"${path}", literal(value)]}
            for path, value in (self.spec.live or {}).items()
        ]

    # What is asked .............................................................................................

    def insert(self, document: object, *, code: object, fresh: ObjectId, session: Any = None) -> Claim:
        """Check a document that is to be stored with a code.

        Args:
            document: The caller's.
            code: The code that it is to have; None for any.
            fresh: Its `_id`, if it has none.
            session: The caller's.

        Raises:
            UsageError: If it cannot be stored, is not live, or has a code; if its `_id` has no plain equality; or if
                the code is none.
        """
        if not isinstance(document, Mapping):
            raise UsageError("document", f"expected a document, got {type(document).__name__}")
        spec, given = self.spec, self._as_stored({"_id": fresh, **document})
        key_value("document._id", given["_id"])
        for holder in self._holders:
            if not isinstance(at_path(given, holder), (Mapping, type(None))):
                raise UsageError("document", f"{holder!r} must be a document: the code is stored in it")
        if at_path(given, spec.path) is not None:
            raise UsageError("document", f"it has something at {spec.path!r} already: claim a given code by code=")
        for path, wanted in (spec.live or {}).items():
            if bson_identity(_plain_at(given, path)) != bson_identity(wanted):
                problem = f"it is not live, so that no code would be its own: {path!r} must be {wanted!r}"
                raise UsageError("document", problem)
        return Claim(given["_id"], _given(code), self._tries(session), given)

    def assign(self, key: object, *, code: object, session: Any = None) -> Claim:
        """Check the key of a document that is to have a code."""
        return Claim(key_value("key", key, self.spec.key_type), _given(code), self._tries(session))

    def _as_stored(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of a document as it is stored: dates to the millisecond, tuples as lists.

        Raises:
            UsageError: If it cannot be stored: a value is of a type or size that BSON has not, a name is no text or
                holds a NUL, or it holds itself.
        """
        options = self._codec_options
        exact = options.with_options(datetime_conversion=DatetimeConversion.DATETIME_AUTO)  # (dates of any year stay)
        try:
            return decode(encode(document, codec_options=options), codec_options=exact)
        except (BSONError, OverflowError, RecursionError, TypeError, ValueError) as error:
            raise UsageError("document", f"cannot be stored: {error}") from None

    def _as_read(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a stored document as a read would give it."""
        return decode(encode(document, codec_options=self._codec_options), codec_options=self._codec_options)

    def _tries(self, session: Any) -> int:
        """Return how many codes are tried: in a transaction one, as the first that is refused ends it."""
        return 1 if getattr(session, "in_transaction", False) else self.spec.tries

    def find(self, code: object, *, fields: Sequence[str] | None) -> Find:
        """Build the read of the live document with a code."""
        if not isinstance(code, str):
            raise UsageError("code", f"expected text, got {type(code).__name__}")
        key_value("code", code)
        projection: dict[str, Any] | None = None
        if fields is not None:
            if isinstance(fields, str) or not isinstance(fields, Sequence):
                raise UsageError("fields", f"expected a list of paths, got {fields!r:.100}")
            projection = {"_id": 1}
            for path in fields:
                check_path("fields", path)
                if any(overlap(path, other) and path != other for other in projection):
                    raise UsageError("fields", f"{path!r} overlaps another one of them")
                projection[path] = 1
        # (said with `$type`, which is what the index says too: else the server could not use it)
        query = {**self.spec.claimed, self.spec.path: {"$eq": code, "$type": "string"}}
        return Find(query, projection, "mongopatterns.unique_code.find")

    # What is sent, and what came back ..........................................................................

    def again(self, claim: Claim, drawn: str) -> Claim | None:
        """Return the next try, with a code of its own; None when it is decided.

        Args:
            claim: The call.
            drawn: A random code, for a caller who wants none in particular.
        """
        if claim.result is not None:
            return None
        code = drawn if claim.asked is None else claim.asked
        command: InsertOne | FindOneAndUpdate
        if claim.document is not None:
            command = InsertOne(_with(claim.document, self.spec.path, code), "mongopatterns.unique_code.insert")
        else:
            command = FindOneAndUpdate(
                filter=key_filter(self.spec.key_field, claim.key),
                update=self._update,
                projection=self._projection,
                upsert=False,
                comment="mongopatterns.unique_code.assign",
                let={"code": literal(code)},
            )
        return replace(claim, tried=claim.tried + 1, code=code, command=command)

    def told(self, claim: Claim, answer: Any) -> Claim:
        """Take note of what came of a try, which may be the error of a duplicate key.

        Raises:
            Conflict: If the code is taken, and no other is to be tried (its `key` is the code); if the document is
                not live, or has another code than the one asked for (its `key` is that of the document).
            DocumentNotFound: If there is no document to assign a code to.
            StateError: If what stands in the place of the code is no text.
            DuplicateKeyError: If another unique index refused the document.
        """
        if isinstance(answer, DuplicateKeyError):
            if (answer.details or {}).get("keyPattern") != {self.spec.path: 1}:
                raise answer
            if claim.asked is None and claim.tried < claim.most:
                return claim
            raise self._taken(claim) from answer
        inserted = claim.document is not None
        result = self._as_read(claim.command.document) if inserted else self._assigned(claim, answer)
        return replace(claim, result=result)

    def _assigned(self, claim: Claim, reply: Mapping[str, Any] | None) -> str:
        """Read the code that stands."""
        if reply is None:
            raise DocumentNotFound(self.collection, claim.key)
        if "_id" in reply:  # the driver repeated the write: the stored document itself, which has the code of this try
            return claim.code
        told, path = reply[REPLY], self.spec.path
        for holder, kind in zip(self._holders, told["kinds"], strict=True):
            if kind not in (*_EMPTY, "object"):
                raise StateError(self.collection, claim.key, holder, f"expected a document, found a value of {kind}")
        code = told.get("code")
        if not isinstance(code, (str, type(None))):
            raise StateError(self.collection, claim.key, path, f"expected a code as text, found {code!r:.100}")
        if code is None or not told["live"]:
            raise Conflict(f"the document {claim.key!r} is not live, and so has no code of its own", key=claim.key)
        if claim.asked not in (None, code):
            raise Conflict(f"the document {claim.key!r} has the code {code!r} already", key=claim.key)
        return code

    def _taken(self, claim: Claim) -> Conflict:
        """Say that the code, or each of those that were tried, is taken: the `key` is the code, of many the last."""
        if claim.asked is not None:
            return Conflict(f"the code {claim.asked!r} is taken", key=claim.code)
        if claim.most < self.spec.tries:
            problem = f"the code {claim.code!r} is taken, and that has ended the transaction: run it again"
            return Conflict(problem, key=claim.code)
        room = self.spec.room
        # As many tries as this all fail with a chance of 5 % if this share of the codes is in use.
        share = 0.05 ** (1 / claim.tried)
        return Conflict(
            f"all of {claim.tried} random codes are taken: of {room} codes more than {share:.0%} are likely in use. "
            "Make codes longer (length=), or let documents stop being live",
            key=claim.code,
        )


def _given(code: object) -> str | None:
    """Return the code that a caller wants, if any."""
    if code is None:
        return None
    if not isinstance(code, str) or not 0 < len(code) <= _LONGEST_GIVEN or not code.isprintable():
        problem = f"expected 1 to {_LONGEST_GIVEN} printable characters, or None for a random code, got {code!r:.100}"
        raise UsageError("code", problem)
    return code


def _plain_at(document: Mapping[str, Any], path: str) -> Any:
    """Read what decides whether a document is live.

    Raises:
        UsageError: If there is a list at the path or on the way, of which any item would count.
    """
    for place in (*holders_of(path), path):
        if isinstance(at_path(document, place), (list, tuple)):
            raise UsageError("document", f"{place!r} is a list, and decides whether the document is live")
    return at_path(document, path)


def _with(document: Mapping[str, Any], path: str, code: str) -> dict[str, Any]:
    """Return a copy with a code, down to where that stands."""
    name, _, rest = path.partition(".")
    return {**document, name: _with(document.get(name) or {}, rest, code) if rest else code}


def _check_whole(argument: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UsageError(argument, f"expected a whole number from {least} to {most}, got {value!r}")
