"""What the call of a schema asks its shell for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from mongopatterns.calls import Call
from mongopatterns.schema._changes import SchemaProgress

__all__ = ["AS_STORED", "Nested", "Pause", "Round", "Send", "Step", "Steps", "Tell", "reply"]

T = TypeVar("T")

AS_STORED: Final[CodecOptions[Any]] = CodecOptions(document_class=RawBSONDocument)
"""How a reply is read whose documents stay as they are stored."""


@dataclass(frozen=True, slots=True)
class Send:
    """A command. The answer is the reply, or the `OperationFailure` with which the server refused it.

    Attributes:
        command: As the driver's `command` takes it.
        database: The database that it is sent to; empty: that of the schema.
        raw: Whether documents of the reply stay as they are stored, so that they can be stored again to the letter.
    """

    command: Mapping[str, Any]
    database: str = ""
    raw: bool = False


def reply(answer: Any) -> Mapping[str, Any]:
    """Return the reply to a command.

    Raises:
        OperationFailure: If the server refused it.
    """
    if isinstance(answer, OperationFailure):
        raise answer
    return answer  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the caller how far it has come."""

    call: Callable[[SchemaProgress], Any]
    progress: SchemaProgress


@dataclass(frozen=True, slots=True)
class Nested:
    """Carry something out that takes several rounds; the answer is what comes of it."""

    call: Callable[[], Call[Any]]


Step: TypeAlias = Send | Pause | Tell | Nested
Round: TypeAlias = list[Step]
Steps: TypeAlias = Generator[Round, list[Any], T]
