"""Tokens of what is held: any key goes into one and comes out again, and nothing else is taken for one."""

from __future__ import annotations

import base64
import datetime as dt
import uuid
from typing import Any

import pytest
from bson import ObjectId, encode
from hypothesis import given
from hypothesis import strategies as st

from mongopatterns import UsageError
from mongopatterns.expressions import ANY_UUID
from mongopatterns.holders import Holder

KEYS: list[Any] = [
    "alice",
    "$name",
    7,
    2.5,
    True,
    ObjectId(),
    uuid.uuid4(),
    b"bytes",
    dt.datetime(2026, 3, 4, tzinfo=dt.timezone.utc),
    {"tenant": 1, "user": "u"},
]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: type(key).__name__)
def test_a_token_names_the_same_thing_again(key: Any) -> None:
    """Every kind of key survives the way through text, with its type."""
    holder = Holder("c.q", key, ObjectId())
    again = Holder.of("token", holder.token(ANY_UUID), "c.q", ANY_UUID, thing="reservation")
    assert again == holder
    assert type(again.key) is type(key)


@pytest.mark.parametrize(
    "token",
    [
        None,
        5,
        b"abc",
        "",
        "nonsense",
        "é",
        "AAAA",
        "A" * 10_000,
        base64.urlsafe_b64encode(encode({"p": "c.q", "k": 1})).decode(),
        base64.urlsafe_b64encode(encode({"p": "c.q", "k": None, "i": ObjectId(bytes(12))})).decode(),
        base64.urlsafe_b64encode(encode({"p": "c.q", "k": 1, "i": "id"})).decode(),
        base64.urlsafe_b64encode(encode({"p": "c.q", "k": 1, "i": ObjectId(bytes(12)), "x": 1})).decode(),
    ],
)
def test_what_is_no_token_is_refused(token: Any) -> None:
    """Whatever was not made by `token` is a UsageError that names the argument."""
    with pytest.raises(UsageError, match=r"^token: expected the token of a reservation"):
        Holder.of("token", token, "c.q", ANY_UUID, thing="reservation")


def test_a_token_of_another_place_is_refused() -> None:
    """A token is read only where it was made, and the message names both places."""
    token = Holder("c.q", "alice", ObjectId()).token(ANY_UUID)
    for thing in ("reservation", "slot"):
        with pytest.raises(UsageError, match=rf"^token: is of a {thing} in 'c\.q', and this is 'c\.other'$"):
            Holder.of("token", token, "c.other", ANY_UUID, thing=thing)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(noise: bytes) -> None:
    """Noise is refused, and nothing else happens."""
    try:
        token = base64.urlsafe_b64encode(noise).decode()
        holder = Holder.of("token", token, "c.q", ANY_UUID, thing="slot")
    except UsageError:
        return
    assert isinstance(holder.id, ObjectId)
