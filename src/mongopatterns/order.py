"""The server's order of values, in memory. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, decode, encode
from bson.codec_options import CodecOptions
from bson.datetime_ms import DatetimeMS

__all__ = ["in_order", "rank"]


def in_order(documents: list[dict[str, Any]], codec_options: CodecOptions[Any]) -> list[dict[str, Any]]:
    """Return the documents in the server's order of their `_id`s."""
    kinds = {type(document.get("_id")) for document in documents}
    if kinds == {ObjectId}:
        return sorted(documents, key=lambda document: document["_id"].binary)
    if kinds in ({str}, {int}):
        return sorted(documents, key=lambda document: document["_id"])
    return sorted(documents, key=lambda document: rank(document.get("_id"), codec_options))


def rank(value: Any, codec_options: CodecOptions[Any]) -> tuple[Any, ...]:
    """Return what sorts as the server sorts values: by type, and within a type by value.

    The order is that of the manual's page on the comparison of BSON types, for the types that a reply holds.
    """
    if type(value) not in _ORDER:  # a UUID, which is stored as bytes; and what code in hand may hold
        value = decode(encode({"": value}, codec_options=codec_options))[""]
    place, within = _ORDER[type(value)]
    return (place, *within(value, codec_options))


def _number(value: Any, _: object) -> tuple[Any, ...]:
    exact = value.to_decimal() if isinstance(value, Decimal128) else value
    return (0,) if Decimal(exact).is_nan() else (1, exact)  # (NaN is the least number)


def _document(value: Any, codec_options: CodecOptions[Any]) -> tuple[Any, ...]:
    # Types are compared before names, and names before values.
    ranked = [(name, rank(item, codec_options)) for name, item in value.items()]
    return (tuple((rank[0], name, rank[1:]) for name, rank in ranked),)


def _list(value: Any, codec_options: CodecOptions[Any]) -> tuple[Any, ...]:
    return (tuple(rank(item, codec_options) for item in value),)


_ORDER: Final[Mapping[type, tuple[int, Callable[[Any, CodecOptions[Any]], tuple[Any, ...]]]]] = {
    MinKey: (0, lambda *_: ()),
    type(None): (1, lambda *_: ()),
    int: (2, _number),
    Int64: (2, _number),
    float: (2, _number),
    Decimal128: (2, _number),
    str: (3, lambda value, _: (value,)),
    dict: (4, _document),
    DBRef: (4, lambda value, options: _document(value.as_doc(), options)),
    list: (5, _list),
    bytes: (6, lambda value, _: (len(value), 0, value)),
    Binary: (6, lambda value, _: (len(value), value.subtype, bytes(value))),
    ObjectId: (7, lambda value, _: (value.binary,)),
    bool: (8, lambda value, _: (value,)),
    dt.datetime: (9, lambda value, _: (int(DatetimeMS(value)),)),
    DatetimeMS: (9, lambda value, _: (int(value),)),
    Timestamp: (10, lambda value, _: (value.time, value.inc)),
    Regex: (11, lambda value, _: (value.pattern, value.flags)),
    Code: (12, lambda value, _: (str(value),)),
    MaxKey: (13, lambda *_: ()),
}
