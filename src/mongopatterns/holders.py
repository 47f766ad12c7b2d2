"""Who holds what was given out for a while: written down as text that any process can read. Pure.

Reservations are held this way; whatever else is acquired, renewed and released can be.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from bson import ObjectId, decode, encode
from bson.errors import BSONError

from mongopatterns.errors import UsageError
from mongopatterns.expressions import ANY_UUID

__all__ = ["Holder"]

_AWARE = ANY_UUID.with_options(tz_aware=True)
_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class Holder:
    """Name one thing that is held.

    Attributes:
        key: The key of the document that knows of it, as it is stored.
        id: Which one of that document.
    """

    key: Any
    id: ObjectId

    @property
    def token(self) -> str:
        """The holder as text of letters, digits, `-`, `_` and `=`. It is no secret: the key can be read from it."""
        return base64.urlsafe_b64encode(encode({"k": self.key, "i": self.id}, codec_options=ANY_UUID)).decode()

    @classmethod
    def of(cls, argument: str, token: object) -> Holder:
        """Read a token.

        Args:
            argument: The caller's name for the argument, for the message.
            token: What `token` gave.

        Raises:
            UsageError: If it is none.
        """
        if isinstance(token, str) and len(token) <= _LONGEST:
            try:
                document = decode(base64.b64decode(token, altchars=b"-_", validate=True), codec_options=_AWARE)
            except (ValueError, binascii.Error, BSONError):
                document = {}
            if set(document) == {"k", "i"} and document["k"] is not None and isinstance(document["i"], ObjectId):
                return cls(document["k"], document["i"])
        raise UsageError(argument, f"expected the token of a reservation, got {token!r:.100}")
