"""Who holds what was given out for a while: written down as text that any process can read. Pure.

Reservations and slots are held this way; whatever else is acquired, renewed and released can be.
"""

from __future__ import annotations

import base64
import binascii
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bson import ObjectId, decode, encode
from bson.codec_options import CodecOptions
from bson.errors import BSONError

from mongopatterns.errors import UsageError

__all__ = ["Holder"]


@dataclass(frozen=True, slots=True)
class Holder:
    """Name one thing that is held.

    Attributes:
        place: What knows of it: a collection, and the path of a state in its documents.
        key: The key of the document that knows of it, as it is stored.
        id: Which one of that document.
    """

    place: str
    key: Any
    id: ObjectId

    def token(self, options: CodecOptions[Any]) -> str:
        """Return it as text of letters, digits, `-`, `_` and `=`. It is no secret: the key can be read from it.

        Args:
            options: How the collection writes its keys.
        """
        document = {"p": self.place, "k": self.key, "i": self.id}
        return base64.urlsafe_b64encode(encode(document, codec_options=options)).decode()

    @classmethod
    def of(cls, argument: str, token: object, place: str, options: CodecOptions[Any], *, thing: str) -> Holder:
        """Read a token.

        Args:
            argument: The caller's name for the argument, for the message.
            token: What `token` gave.
            place: Where it must be from.
            options: How the collection writes its keys.
            thing: What is held, for the message.

        Raises:
            UsageError: If it is none, or from another place.
        """
        document: dict[str, Any] = {}
        if isinstance(token, str):
            # A key goes back as it came: a date with its zone, a UUID in the collection's representation.
            plain = options.with_options(document_class=dict, tz_aware=True)
            with suppress(ValueError, binascii.Error, BSONError):
                document = decode(base64.b64decode(token, altchars=b"-_", validate=True), codec_options=plain)
        if set(document) == {"p", "k", "i"} and document["k"] is not None and isinstance(document["i"], ObjectId):
            if document["p"] == place:
                return cls(place, document["k"], document["i"])
            raise UsageError(argument, f"is of a {thing} in {document['p']!r:.100}, and this is {place!r}")
        raise UsageError(argument, f"expected the token of a {thing}, got {token!r:.100}")
