"""Updates of one document that follow each other, as one update with the same end. Pure.

What is merged ends as if it had been sent one after the other, but for the order of fields that are new to the
document, and but for an update that the server refuses: then each is sent by itself, and each is told its own error.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Context, Decimal, Inexact
from functools import lru_cache
from typing import Any, Final, TypeAlias

from bson import Decimal128, Int64
from bson.decimal128 import create_decimal128_context

from mongopatterns.buffer._items import UPDATE, Item
from mongopatterns.specs import overlap

Paths: TypeAlias = dict[str, tuple[str, Any]]
"""What an update does: the operator and the value of each path."""

_INT64: Final = 2**63
_LONGEST: Final = 256  # characters of a path; what is known of paths is kept
_MOST_PATHS: Final = 200
"""With more, an update is not merged with another: each path is compared with each."""
_WHOLE: Final = (int, Int64)
_EXACT: Final[Context] = create_decimal128_context()
_EXACT.traps[Inexact] = True


class _Apart(Exception):
    """Two updates have to be sent one after the other; it is caught here."""


def mergeable(one: Item, other: Item) -> bool:
    """Tell whether two items, the one right before the other, may be tried."""
    return one.kind == other.kind == UPDATE and one.upsert is other.upsert


def paths_of(update: Any) -> Paths | None:
    """Return the operator and the value of each path of an update; None if it is none that is ever merged."""
    if type(update) is not dict:
        return None
    found: Paths = {}
    for operator, fields in update.items():
        if operator not in _COMBINED or type(fields) is not dict:
            return None
        for path, value in fields.items():
            if path in found or len(path) > _LONGEST or not _is_plain(path):
                return None
            found[path] = operator, value
    return found


@lru_cache(maxsize=4096)
def _is_plain(path: str) -> bool:
    """Tell whether a path means one field: a place in a list is another field if the list is none."""
    return "$" not in path and not any(part.isdigit() for part in path.split("."))


def merged(before: Paths, after: Paths) -> Paths | None:
    """Return what two updates do that follow each other; None if no single one is proven to do the same."""
    found = before.copy()
    try:
        for path, (operator, value) in after.items():
            known = before.get(path)
            if known is None:
                if len(found) >= _MOST_PATHS or any(overlap(path, other) for other in before):
                    return None
                found[path] = operator, value
            elif known[0] == operator:
                found[path] = operator, _COMBINED[operator](known[1], value)
            else:
                return None
    except _Apart:
        return None
    return found


def growth(before: Paths, after: Paths, size: int) -> int:
    """Return by how many bytes an update grows at most, by one of this size that is merged into it.

    Numbers and dates take the place of others; what is set may be of any size.
    """
    for path, (operator, _) in after.items():
        if operator == "$set" or path not in before:
            return size
    return 0


def update_of(paths: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Return the update that does this."""
    found: dict[str, dict[str, Any]] = {}
    for path, (operator, value) in paths.items():
        found.setdefault(operator, {})[path] = value
    return found


def _sum(one: Any, other: Any) -> Any:
    """Add two numbers exactly; of one sign, so that a limit that both meet is met on the way as well."""
    if type(one) in _WHOLE and type(other) in _WHOLE:
        total = one + other
        if (one < 0) != (other < 0) or not -_INT64 <= total < _INT64:
            raise _Apart
        return total if type(one) is int and type(other) is int else Int64(total)
    exact = [_decimal(value) for value in (one, other)]
    if exact[0].is_signed() != exact[1].is_signed():
        raise _Apart
    try:
        return Decimal128(_EXACT.add(*exact))
    except ArithmeticError:
        raise _Apart from None


def _decimal(value: Any) -> Decimal:
    if type(value) in _WHOLE:
        return Decimal(value)
    if isinstance(value, Decimal128) and value.to_decimal().is_finite():
        return value.to_decimal()
    raise _Apart  # (what doubles add up to depends on the order)


def _least(one: Any, other: Any) -> Any:
    _check_order(one, other)
    return min(one, other)


def _most(one: Any, other: Any) -> Any:
    _check_order(one, other)
    return max(one, other)


def _check_order(one: Any, other: Any) -> None:
    """Let through what Python and the server compare alike; text is compared by a collation that is not known here."""
    whole = type(one) in _WHOLE and type(other) in _WHOLE
    dates = type(one) is type(other) is dt.datetime and (one.tzinfo is None) is (other.tzinfo is None)
    if not (whole or dates):
        raise _Apart


def _same(one: Any, other: Any) -> Any:
    if one != other:
        raise _Apart
    return one


_COMBINED: Final = {
    "$inc": _sum,
    "$set": lambda _, value: value,
    "$min": _least,
    "$max": _most,
    "$currentDate": _same,
}
