"""Cursors: positions in an order as text that a client carries, and cannot change without being noticed. Pure.

A cursor is base64url of a version, flags, a fingerprint of what it belongs to, the values of the position as BSON, and
a seal over all of it: an HMAC-SHA256 under the secret if there is one, else a plain SHA-256. That finds damage; but
whoever wants to can then make another cursor, and so choose where a page begins. The filter is the caller's, and not in
it.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bson import DBRef, ObjectId, decode, encode
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from mongopatterns.errors import InvalidCursor, UsageError
from mongopatterns.expressions import ANY_UUID
from mongopatterns.filters import LOGIC

VERSION: Final = 1
MAX_LENGTH: Final = 8192
"""How many characters a cursor has at most."""

MAX_DEPTH: Final = 100
"""How deep a value of a position may be nested: the server reads filters down to 200, stores documents of 180."""

# What most values are: nothing lies in them.
_FLAT: Final = frozenset({int, float, str, bool, ObjectId, dt.datetime, type(None)})
_BACKWARD: Final = 1
_INCLUSIVE: Final = 2
_PRINT: Final = 12
_SEAL: Final = 16
_HEAD: Final = 2 + _PRINT
_LEAST_SECRET: Final = 16


@dataclass(frozen=True)
class Position:
    """Where a page begins.

    Attributes:
        values: The values of a document's sort keys.
        backward: Whether the page lies before it.
        inclusive: Whether the document itself belongs to the page.
    """

    values: tuple[Any, ...]
    backward: bool = False
    inclusive: bool = False


class Cursors:
    """Write and read cursors.

    Args:
        secret: Text or bytes that cursors are sealed with, or a list of them: the first seals, all are accepted. None:
            a plain hash.
        codec_options: How values are stored.

    Raises:
        UsageError: If a secret is shorter than 16 bytes.
    """

    def __init__(self, secret: object = None, codec_options: CodecOptions[Any] = ANY_UUID) -> None:
        self._secrets = _check_secret(secret)
        # (a date that Python has no year for must come back as it is, and not as the nearest that it has)
        self._codec_options = codec_options.with_options(datetime_conversion=DatetimeConversion.DATETIME_AUTO)

    def write(self, position: Position, fingerprint: bytes) -> str | None:
        """Return a cursor; None if it would be longer than 8,192 characters, or its values are nested too deep."""
        if not _FLAT.issuperset(map(type, position.values)) and any(map(_too_deep, position.values)):
            return None
        flags = _BACKWARD * position.backward | _INCLUSIVE * position.inclusive
        values = encode({"v": position.values}, codec_options=self._codec_options)
        body = bytes([VERSION, flags]) + fingerprint + values
        text = _text(body + _seal(self._secrets[0], body))
        return text if len(text) <= MAX_LENGTH else None

    def read(self, cursor: object, fingerprint: bytes, keys: int) -> Position:
        """Return the position that a cursor holds.

        Args:
            cursor: What a client gave.
            fingerprint: Of what it has to belong to.
            keys: How many sort keys there are.

        Raises:
            InvalidCursor: If it is none, was changed, or belongs to something else.
        """
        if not isinstance(cursor, str) or not 0 < len(cursor) <= MAX_LENGTH:
            given = f"{len(cursor):,} characters" if isinstance(cursor, str) else type(cursor).__name__
            raise InvalidCursor("malformed", f"expected the text of a cursor, got {given}")
        try:
            sealed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except (binascii.Error, ValueError):
            raise InvalidCursor("malformed", "it is not the text of a cursor") from None
        # (several texts may stand for the same bytes: one of them is the cursor)
        if len(sealed) <= _HEAD + _SEAL or _text(sealed) != cursor:
            raise InvalidCursor("malformed", "it is not the text of a cursor")
        body, seal = sealed[:-_SEAL], sealed[-_SEAL:]
        if body[0] != VERSION:
            raise InvalidCursor("version", "it was written by another version: begin with the first page")
        if not any(hmac.compare_digest(_seal(secret, body), seal) for secret in self._secrets):
            raise InvalidCursor("signature", "it was changed, or sealed with another secret")
        if body[2:_HEAD] != fingerprint:
            raise InvalidCursor("filter", "it belongs to another sort or filter: begin with the first page")
        try:
            values = decode(body[_HEAD:], codec_options=self._codec_options)["v"]
        except (BSONError, KeyError, RecursionError):
            raise InvalidCursor("malformed", "it holds no position") from None
        # (without a secret, whoever knows this page may have written it: no list is a place, see `_keyset`)
        known = isinstance(values, list) and len(values) == keys and body[1] <= (_BACKWARD | _INCLUSIVE)
        flat = known and _FLAT.issuperset(map(type, values))
        if not known or (not flat and any(isinstance(value, list) or _too_deep(value) for value in values)):
            raise InvalidCursor("malformed", "it holds no position")
        return Position(tuple(values), bool(body[1] & _BACKWARD), bool(body[1] & _INCLUSIVE))


def fingerprint(parts: Mapping[str, Any], codec_options: CodecOptions[Any] = ANY_UUID) -> bytes:
    """Return what tells one collection, sort and filter from another.

    Raises:
        bson.errors.InvalidDocument: If a part cannot be sent.
    """
    return hashlib.sha256(encode(parts, codec_options=codec_options)).digest()[:_PRINT]


def ordered(where: Mapping[str, Any]) -> dict[str, Any]:
    """Return a filter with its names in order, where the order means nothing: not within a value, where it does."""
    return {name: _ordered(name, where[name]) for name in sorted(where, key=str)}


def _ordered(name: str, test: Any) -> Any:
    if name in LOGIC and isinstance(test, (list, tuple)):
        return [ordered(each) if isinstance(each, Mapping) else each for each in test]
    if isinstance(test, Mapping) and test and all(str(operator).startswith("$") for operator in test):
        return {operator: test[operator] for operator in sorted(test, key=str)}
    return test


def _too_deep(value: Any, left: int = MAX_DEPTH) -> bool:
    """Tell whether documents lie in each other deeper than a filter may hold them."""
    if type(value) in _FLAT:
        return False
    if isinstance(value, DBRef):
        value = value.as_doc()
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return not left or any(_too_deep(each, left - 1) for each in inner)


def _text(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def _seal(secret: bytes, body: bytes) -> bytes:
    sealed = hmac.digest(secret, body, "sha256") if secret else hashlib.sha256(body).digest()
    return sealed[:_SEAL]


def _check_secret(secret: object) -> tuple[bytes, ...]:
    if secret is None:
        return (b"",)
    given = [secret] if isinstance(secret, (str, bytes)) else secret
    if not isinstance(given, Sequence) or not given:
        raise UsageError("secret", "expected text, bytes, or a list of them")
    found = []
    for each in given:
        if not isinstance(each, (str, bytes)):
            raise UsageError("secret", "expected text, bytes, or a list of them")
        key = each.encode() if isinstance(each, str) else each
        if len(key) < _LEAST_SECRET:
            raise UsageError("secret", f"expected at least {_LEAST_SECRET} bytes, such as secrets.token_bytes(32)")
        found.append(key)
    return tuple(found)
