"""Cursors: what is written comes back, and nothing else is taken for a cursor. No server."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import math
import pickle
import uuid
from typing import Any

import pytest
from bson import Binary, Code, DatetimeMS, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, encode
from bson.codec_options import CodecOptions, DatetimeConversion

from mongopatterns import InvalidCursor, UsageError
from mongopatterns.expressions import ANY_UUID
from mongopatterns.paging._cursors import MAX_LENGTH, VERSION, Cursors, Position, fingerprint, ordered

UTC = dt.timezone.utc
MARK = fingerprint({"filter": {}})
SECRET = "a secret of more than sixteen bytes"
OTHER = b"another secret, also long enough"
OPTIONS: CodecOptions[Any] = CodecOptions(
    tz_aware=True, uuid_representation=4, datetime_conversion=DatetimeConversion.DATETIME_CLAMP
)
VALUES: list[Any] = [
    None,
    1,
    Int64(2**53 + 1),
    1.5,
    math.inf,
    Decimal128("0.10"),
    "",
    "$set",
    "ä\0😀",
    {"b": 1, "a": {"$gt": [1, {}]}},
    b"x",
    Binary(b"x", 5),
    uuid.UUID(int=7),
    ObjectId("0123456789abcdef01234567"),
    True,
    dt.datetime(2026, 3, 4, 12, 0, 0, 1000, tzinfo=UTC),
    DatetimeMS(10**16),
    Timestamp(1, 2),
    Regex("^a", "i"),
    DBRef("users", 7, a={"b": 1}),
    Code("f"),
    MinKey(),
    MaxKey(),
]


def written(values: Any = (1, "a"), secret: Any = None, **options: Any) -> str:
    text = Cursors(secret, OPTIONS).write(Position(tuple(values), **options), MARK)
    assert text is not None
    return text


def made(values: Any, flags: int = 0, version: int = VERSION, secret: bytes = b"") -> str:
    """Make a cursor by hand, as somebody who knows how may, if there is no secret."""
    body = bytes([version, flags]) + MARK + (values if isinstance(values, bytes) else encode({"v": values}))
    seal = (hmac.new(secret, body, hashlib.sha256) if secret else hashlib.sha256(body)).digest()[:16]
    return base64.urlsafe_b64encode(body + seal).rstrip(b"=").decode()


def reason(cursor: Any, secret: Any = None, mark: bytes = MARK, keys: int = 2) -> str:
    with pytest.raises(InvalidCursor) as caught:
        Cursors(secret, OPTIONS).read(cursor, mark, keys)
    return caught.value.reason


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{value!s:.12}")
@pytest.mark.parametrize("secret", [None, SECRET])
def test_a_position_comes_back(value: Any, secret: Any) -> None:
    """Every value comes back as it was, to the byte, with both flags; a cursor is text for a URL."""
    for backward in (False, True):
        for inclusive in (False, True):
            text = written((value, 1), secret, backward=backward, inclusive=inclusive)
            assert set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
            found = Cursors(secret, OPTIONS).read(text, MARK, 2)
            assert (found.backward, found.inclusive) == (backward, inclusive)
            assert encode({"": list(found.values)}, codec_options=ANY_UUID) == encode(
                {"": [value, 1]}, codec_options=ANY_UUID
            )


@pytest.mark.parametrize("secret", [None, SECRET])
def test_every_changed_bit_is_noticed(secret: Any) -> None:
    """A cursor with one bit turned over, anywhere, is refused: in what it stands for, and in its text."""
    text = written(secret=secret)
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        found = reason(base64.urlsafe_b64encode(bytes(changed)).rstrip(b"=").decode(), secret)
        assert found == ("version" if bit < 8 else "signature")
    for place in range(len(text)):
        for turn in range(7):
            other = text[:place] + chr(ord(text[place]) ^ 1 << turn) + text[place + 1 :]
            assert reason(other, secret) in ("malformed", "version", "signature")


@pytest.mark.parametrize("secret", [None, SECRET])
def test_parts_and_more_are_noticed(secret: Any) -> None:
    """No part of a cursor is one, from either end, and nothing may be added to it."""
    text = written(secret=secret)
    for place in range(len(text)):
        assert reason(text[:place], secret) in ("malformed", "signature")
    for place in range(1, len(text)):
        assert reason(text[place:], secret) in ("malformed", "version", "signature")
    for more in ("A", "=", "==", "\n", " ", "AAAA", "."):
        assert reason(text + more, secret) in ("malformed", "signature")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        " ",
        "x",
        "null",
        "ä" * 40,
        "\ud800" * 40,
        "+/" * 40,
        "A" * MAX_LENGTH,
        "A" * (MAX_LENGTH + 1),
        "A" * 10_000_000,
        b"AAAA",
        5,
        True,
        ["a"],
        {"$ne": None},
        object(),
    ],
    ids=lambda cursor: f"{type(cursor).__name__}-{cursor!r:.12}",
)
def test_what_is_no_cursor_is_refused(cursor: Any) -> None:
    """Anything that a client may send is an error that says so in a few words, and names the argument."""
    with pytest.raises(InvalidCursor, match=r"^cursor: ") as caught:
        Cursors(None, OPTIONS).read(cursor, MARK, 2)
    assert caught.value.reason in ("malformed", "version")
    assert len(str(caught.value)) < 200


def test_the_standard_alphabet_is_refused() -> None:
    """The text of a cursor is one and only: the same bytes in another alphabet are no cursor."""
    text = written([b"\xfb\xff" * 30, 1])
    assert set("-_") & set(text)
    assert reason(text.replace("-", "+").replace("_", "/")) == "malformed"


def test_what_it_belongs_to_is_checked() -> None:
    """A cursor of another filter, of another number of keys, version or secret says which."""
    assert reason(written(), mark=fingerprint({"filter": {"a": 1}})) == "filter"
    assert reason(written(), keys=3) == "malformed"
    assert reason(made([1, 2], version=2)) == "version"
    assert reason(written(secret=SECRET), OTHER) == "signature"
    assert reason(written(), SECRET) == "signature"
    assert reason(written(secret=SECRET)) == "signature"


def test_secrets_are_changed_one_after_the_other() -> None:
    """The first of several secrets seals, and what any of them sealed is accepted."""
    old, new = written(secret=SECRET), written(secret=[OTHER, SECRET])
    both = Cursors([OTHER, SECRET], OPTIONS)
    assert both.read(old, MARK, 2) == both.read(new, MARK, 2) == Position((1, "a"))
    assert reason(new, SECRET) == "signature"
    assert Cursors(OTHER, OPTIONS).read(new, MARK, 2) == Position((1, "a"))


def deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        (b"", 0),
        (b"\x05\0\0\0\0", 0),
        (encode({"w": [1, 2]}), 0),
        (encode({"v": 5}), 0),
        (encode({"v": [1, 2]})[:-3], 0),
        ([[1], 2], 0),
        ([1, []], 0),
        ([1], 0),
        ([1, 2, 3], 0),
        ([deep(101), 2], 0),
        ([deep(600), 2], 0),
        ([DBRef("users", deep(100)), 2], 0),
        ([1, 2], 4),
        ([1, 2], 255),
    ],
    ids=lambda value: f"{value!r:.30}",
)
def test_a_cursor_of_ones_own_holds_a_position_or_nothing(values: Any, flags: int) -> None:
    """Without a secret anybody can seal; what is sealed must still be a position that the order can have."""
    assert reason(made(values, flags)) == "malformed"
    assert Cursors(None, OPTIONS).read(made([1, {"$gt": 1}], 3), MARK, 2) == Position((1, {"$gt": 1}), True, True)


def test_what_does_not_fit_is_told() -> None:
    """A position that is too long, or nested too deep to be asked for, makes no cursor; one that just fits is read."""
    cursors = Cursors(None, OPTIONS)
    assert cursors.write(Position(("x" * 1_000_000, 1)), MARK) is None
    assert cursors.write(Position((deep(101), 1)), MARK) is None
    fits = next(text for size in range(6200, 0, -1) if (text := cursors.write(Position(("x" * size, 1)), MARK)))
    assert MAX_LENGTH - 4 < len(fits) <= MAX_LENGTH
    assert cursors.read(fits, MARK, 2).values[1] == 1


@pytest.mark.parametrize("secret", ["", b"", "short", b"x" * 15, 5, [], [SECRET, "short"], [5], {"a": 1}, (None,)])
def test_bad_secrets_are_refused(secret: Any) -> None:
    """A secret is text or bytes of 16 bytes or more, or a list of them."""
    with pytest.raises(UsageError, match=r"^secret: "):
        Cursors(secret)


def test_what_means_the_same_is_the_same() -> None:
    """The order of names in a filter is nothing; the order within a value that is compared is something."""

    def mark(where: Any) -> bytes:
        return fingerprint(ordered(where))

    assert mark({"a": 1, "b": {"$gt": 1, "$lt": 2}}) == mark({"b": {"$lt": 2, "$gt": 1}, "a": 1})
    assert mark({"$or": [{"a": 1, "b": 2}]}) == mark({"$or": [{"b": 2, "a": 1}]})
    assert mark({"a": {"x": 1, "y": 2}}) != mark({"a": {"y": 2, "x": 1}})
    assert mark({"a": {"$eq": {"x": 1, "y": 2}}}) != mark({"a": {"$eq": {"y": 2, "x": 1}}})
    assert mark({"$or": [{"a": 1}, {"b": 1}]}) != mark({"$or": [{"b": 1}, {"a": 1}]})
    different = [{}, {"a": 1}, {"a": "1"}, {"a": True}, {"a": None}, {"b": 1}, {"a": [1]}, {"a": {"$eq": 1}}]
    assert len({mark(where) for where in different}) == len(different)


def test_the_error_crosses_a_process() -> None:
    """Its reason and its words come along."""
    error = pickle.loads(pickle.dumps(InvalidCursor("version", "too old")))
    assert (error.reason, error.argument, str(error)) == ("version", "cursor", "cursor: too old")
