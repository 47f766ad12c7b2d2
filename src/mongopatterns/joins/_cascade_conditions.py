"""The conditions that a cascade sends, and how many values fit into one command. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from bson import Code, Int64, ObjectId, encode

from mongopatterns.expressions import ANY_UUID, literal
from mongopatterns.joins._cascade_commands import Document
from mongopatterns.joins._keys import KeyForm, match

MAX_KEYS: Final = 100_000
MAX_BYTES: Final = 4_000_000
"""How many values, and how many bytes of them, a command has at most, beside its filter."""

BOTH_CASES: Final = {"$regex": "^(?=.*[a-f])(?=.*[A-F])[0-9a-fA-F]{24}$"}
"""Text of an ObjectId that mixes lower and upper case: it could be spelled in too many ways to ask for each."""

_INT64: Final = 2**63
_INTEGER: Final = re.compile("0|-?[1-9][0-9]{0,18}")
_HEX: Final = re.compile("[0-9a-f]{24}")  # as the server writes them

T = TypeVar("T")


# Conditions --------------------------------------------------------------------------------------------------


def only(path: str, plain: Iterable[Any], found: Any, allowed: list[Any]) -> Document:
    """Build the condition that a document has nothing at a path but what is allowed.

    Args:
        path: The path.
        plain: What may stand there where no list is on the path. That alone is quick: the server builds the set of
            what is allowed anew for each document.
        found: The expression of all that the path leads to.
        allowed: What that may be.
    """
    parts = path.split(".")
    lists = [{".".join(parts[:depth]): {"$type": "array"}} for depth in range(1, len(parts) + 1)]
    return {
        "$or": [
            {"$and": [{"$nor": lists}, match(path, plain)]},
            {"$expr": {"$setIsSubset": [found, literal(allowed)]}},
        ]
    }


def beyond(last: Any) -> Document:
    """Build the condition for ids after one, of whatever type: outside of an expression, types do not mix."""
    return {"$expr": {"$gt": ["$_id", literal(last)]}}


def all_of(*conditions: Mapping[str, Any]) -> Document:
    given = [condition for condition in conditions if condition]
    return dict(given[0]) if len(given) == 1 else {"$and": given} if given else {}


def spellings(value: Any, form: KeyForm | None) -> list[Any]:
    """Return what a parent may hold at `local` that turns into a value; of some values, nothing does.

    (Of the texts that turn into an ObjectId, those that mix lower and upper case are left out: see `BOTH_CASES`.)
    """
    if form is None:
        return [value]
    if form == "objectid":
        return [value, str(value), str(value).upper()] if isinstance(value, ObjectId) else []
    if not isinstance(value, str) or isinstance(value, Code):
        return []
    found: list[Any] = [value]
    if _HEX.fullmatch(value):
        found.append(ObjectId(value))
    if _INTEGER.fullmatch(value) and -_INT64 <= int(value) < _INT64:
        found.append(Int64(value))
    return found


# What fits ---------------------------------------------------------------------------------------------------


def distinct(values: Iterable[Any]) -> list[Any]:
    return list({encode({"": value}, codec_options=ANY_UUID): value for value in values}.values())


def chunks(items: Iterable[T], sent: Callable[[T], Iterable[Any]]) -> Iterator[list[T]]:
    """Cut a list into parts that fit into a command each.

    Args:
        items: The list.
        sent: Gives the values that are sent on behalf of an item.
    """
    part: list[T] = []
    many, size = 0, 0
    for item in items:
        values = list(sent(item))
        weight = sum(map(_weight, values))
        if part and (many + len(values) > MAX_KEYS or size + weight > MAX_BYTES):
            yield part
            part, many, size = [], 0, 0
        part.append(item)
        many += len(values)
        size += weight
    if part:
        yield part


def _weight(value: Any) -> int:
    """Tell how many bytes a value takes in a list, or a few more."""
    return 32 if isinstance(value, ObjectId) else len(encode({"": value}, codec_options=ANY_UUID)) + 8
