"""Documents as the caller's own types, Pydantic models, dataclasses and typed dicts, and such types as documents."""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from decimal import Decimal, DecimalException
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from re import Pattern
from typing import Annotated, Any, Final
from uuid import UUID

from bson import Binary, Decimal128, ObjectId

from mongopatterns.errors import UsageError

__all__ = [
    "WRITTEN_AS_TEXT",
    "ObjectIdStr",
    "StoredDecimal",
    "core_schema_of",
    "decode_all",
    "decode_page",
    "decode_parts",
    "object_id_text",
    "stored",
    "to_document",
]

WRITTEN_AS_TEXT: Final = (
    *(IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network),
    PurePath,
)
"""What is stored as its text, beside Pydantic's URLs."""


# Read --------------------------------------------------------------------------------------------------------


class ObjectIdStr(str):
    """Stand for an ObjectId in a Pydantic model: it takes ObjectIds and their text, and is text.

    Example:
        `class Party(BaseModel): id: ObjectIdStr = Field(alias="_id")`
    """

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Tell Pydantic what is valid; it is imported only by those who use it."""
        from pydantic_core import core_schema  # noqa: PLC0415

        text = core_schema.str_schema(pattern="^[0-9a-fA-F]{24}$", regex_engine="rust-regex")
        return core_schema.no_info_before_validator_function(object_id_text, text)


def object_id_text(value: object) -> object:
    """Return the text of an ObjectId; anything else as it is."""
    return str(value) if isinstance(value, ObjectId) else value


class _TakesDecimal128:
    """Let a Decimal of a Pydantic model take the Decimal128 that a driver reads."""

    __slots__ = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema  # noqa: PLC0415

        return core_schema.no_info_before_validator_function(_as_decimal, handler(source))


def _as_decimal(value: object) -> object:
    return value.to_decimal() if isinstance(value, Decimal128) else value


StoredDecimal = Annotated[Decimal, _TakesDecimal128()]
"""A Decimal in a Pydantic model that is read back from the Decimal128 as which `to_document` stores it.

Example:
    `class Order(BaseModel): total: StoredDecimal`, or `Annotated[StoredDecimal, Field(ge=0)]`
"""


def decode_all(documents: Sequence[Mapping[str, Any]], model: type[Any] | None) -> list[Any]:
    """Return the documents as instances of `model`, or as they are.

    Raises:
        UsageError: If `model` is no type that Pydantic can make, or names one that is not defined; also if there are
            no documents.
        pydantic.ValidationError: If a document does not fit the model.
    """
    if model is None:
        return list(documents)
    adapt: Any = _adapter
    try:
        hash(model)
    except TypeError:  # (such as an annotated type with a list among its notes)
        adapt = _adapter.__wrapped__
    validate = adapt(model)
    return [validate(dict(document)) for document in documents]


def decode_parts(parts: Mapping[str, Any], models: Mapping[str, type[Any]]) -> dict[str, Any]:
    """Return named parts, each of them a row, a list of rows, or a page with `items`, with rows of their models."""
    return {name: _decoded(part, models.get(name)) for name, part in parts.items()}


def _decoded(part: Any, model: type[Any] | None) -> Any:
    if model is None:
        return part
    if isinstance(part, Mapping):
        return decode_all([part], model)[0]
    if isinstance(part, list):
        return decode_all(part, model)
    return decode_page(part, model)


def decode_page(page: Any, model: type[Any] | None) -> Any:
    """Return a page with `items` as instances of `model`, or as they are."""
    return page if model is None else replace(page, items=decode_all(page.items, model))


@lru_cache(maxsize=256)
def _adapter(model: Any) -> Any:
    return _type_adapter(model).validate_python


def core_schema_of(model: Any) -> Any:
    """Return what Pydantic knows of a model, a dataclass or a typed dict.

    Raises:
        UsageError: If `model` is no type that Pydantic can make, or names one that is not defined.
    """
    return _type_adapter(model).core_schema


def _type_adapter(model: Any) -> Any:
    from pydantic import PydanticUserError, TypeAdapter  # noqa: PLC0415  # slow to import, and few need it

    try:
        if isinstance(model, (str, Mapping)):  # (Pydantic would look for a type of that name here, or for a schema)
            raise TypeError(f"got {model!r:.100}")  # noqa: TRY301
        adapter: Any = TypeAdapter(model)
        # Without this, an adapter of a type with a part that is not defined yet fails at the first document.
        if not getattr(adapter, "pydantic_complete", True):
            adapter.rebuild(raise_errors=True)
    except (PydanticUserError, TypeError, NameError) as error:  # (a part that is not defined is a NameError)
        raise UsageError("model", f"expected a Pydantic model, a dataclass or a typed dict: {error}") from None
    return adapter


# Written -----------------------------------------------------------------------------------------------------


def to_document(model: Any) -> dict[str, Any]:
    """Return a model as the document that is stored: by its aliases, and of types that every driver can encode.

    It is `model.model_dump(by_alias=True)`, in which a Decimal becomes a Decimal128, an enum its value, a datetime one
    of whole milliseconds (as it will be read), a date the midnight in UTC at which it begins, a time of day its ISO
    text, a timedelta its seconds, a UUID the standard binary form, a set or a tuple a list, and a path, an IP address
    or a URL its text. Keys of dicts become text. So a validator that is made from the model takes the document. An
    `_id` that is None is left out, so that the driver makes one: the server would store null, and take it once.

    Args:
        model: A Pydantic model or a dataclass; or a dict, such as a dump with options of your own.

    Raises:
        UsageError: If a datetime is naive: the driver would store it as if it were UTC. If a value has no such form, or
            would not be exact: a Decimal of more than 34 digits, a secret, an object of another class.
    """
    document = _stored_document(_dumped(model), "")
    if document.get("_id", 0) is None:
        del document["_id"]
    return document


def _dumped(model: Any) -> Mapping[Any, Any]:
    if isinstance(model, Mapping):
        return model
    if not isinstance(model, type) and callable(dump := getattr(model, "model_dump", None)):
        dumped: Any = dump(by_alias=True)
    elif not isinstance(model, type) and is_dataclass(model):
        dumped = _type_adapter(type(model)).dump_python(model, by_alias=True)
    else:
        raise UsageError("model", f"expected a Pydantic model, a dataclass or a dict, got {model!r:.100}")
    if not isinstance(dumped, Mapping):
        raise UsageError("model", f"is dumped as a {type(dumped).__name__}, and a document is a dict of fields")
    return dumped


def stored(value: Any, path: str = "") -> Any:  # noqa: C901, PLR0911  # one for each kind of value
    """Return a value as it is stored.

    Raises:
        UsageError: If it has no form that every driver can encode.
    """
    if value is None or isinstance(value, (bool, ObjectId)):
        return value
    if isinstance(value, Enum):  # (before numbers and text, which an enum may be as well)
        return stored(value.value, path)
    if isinstance(value, Mapping):
        return _stored_document(value, path)
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return [stored(item, f"{path}.{place}") for place, item in enumerate(value)]
    for kind, convert in _CONVERTED.items():
        if isinstance(value, kind):
            return convert(value, path)
    home = type(value).__module__.split(".")[0]
    if home == "bson" or isinstance(value, Pattern):
        return value
    if isinstance(value, WRITTEN_AS_TEXT) or (home.startswith("pydantic") and hasattr(value, "unicode_string")):
        return str(value)
    if not isinstance(value, type) and (hasattr(value, "model_dump") or is_dataclass(value)):
        return _stored_document(_dumped(value), path)
    if hasattr(value, "get_secret_value"):
        raise _unstorable(path, "is a secret: store a hash of it, or give the field a serializer")
    raise _unstorable(path, f"is a {type(value).__name__}, which no driver encodes: give the field a serializer")


def _stored_document(document: Mapping[Any, Any], path: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, item in document.items():
        name = key if type(key) is str else _stored_key(key, path)
        if name in fields:
            raise _unstorable(path, f"has two keys that are written {name!r}")
        fields[name] = stored(item, f"{path}.{name}" if path else name)
    return fields


def _stored_key(key: Any, path: str) -> str:
    value = key.value if isinstance(key, Enum) else key
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, (str, int, ObjectId, UUID)) and not isinstance(value, bool):
        return str(value)
    raise _unstorable(path, f"has the key {key!r:.100}, and keys of a document are text")


def _unstorable(path: str, problem: str) -> UsageError:
    return UsageError("model", f"{path or 'the document'} {problem}")


def _stored_moment(value: dt.datetime, path: str) -> dt.datetime:
    if value.utcoffset() is None:
        problem = "is a naive datetime, which would be stored as if it were UTC"
        raise _unstorable(path, f"{problem}: give it a zone, and annotate the field with pydantic.AwareDatetime")
    return value.replace(microsecond=value.microsecond // 1000 * 1000)  # (as the driver does)


def _stored_date(value: dt.date, path: str) -> dt.datetime:
    del path
    return dt.datetime.combine(value, dt.time.min, dt.timezone.utc)


def _stored_number(value: int, path: str) -> int:
    if not -_INT64 <= value < _INT64:
        raise _unstorable(path, f"is {value}, which does not fit into 64 bits")
    return value


def _stored_decimal(value: Decimal, path: str) -> Decimal128:
    try:
        return Decimal128(value)
    except DecimalException:
        raise _unstorable(path, f"is {value}, which Decimal128 cannot hold exactly: round it to 34 digits") from None


_INT64: Final = 2**63
_CONVERTED: Final[dict[type[Any], Callable[[Any, str], Any]]] = {
    str: lambda value, _: value,
    int: _stored_number,
    float: lambda value, _: value,
    dt.datetime: _stored_moment,
    dt.date: _stored_date,
    dt.time: lambda value, _: value.isoformat(),
    dt.timedelta: lambda value, _: value.total_seconds(),
    Decimal: _stored_decimal,
    UUID: lambda value, _: Binary.from_uuid(value),
    bytes: lambda value, _: value,
    bytearray: lambda value, _: bytes(value),
}
