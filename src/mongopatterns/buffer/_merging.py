"""Updates of one document that follow each other, as one update with the same end. Pure.

What is merged ends as if it had been sent one after the other, but for the order of fields that are new to the
document, and but for an update that the server refuses: then each is sent by itself, and each is told its own error.
"""

from __future__ import annotations

import datetime as dt
from decimal import Context, Decimal, Inexact
from functools import lru_cache
from typing import Any, Final, Generic, TypeAlias, TypeVar

from bson import Decimal128, Int64
from bson.decimal128 import create_decimal128_context

from mongopatterns.buffer._items import UPDATE, Item
from mongopatterns.specs import overlap

ItemT = TypeVar("ItemT", bound=Item)

Change: TypeAlias = tuple[str, str, Any]
"""What an update is to do: an operator, a path and a value."""

_INT64: Final = 2**63
_LONGEST: Final = 256  # characters of a path; what is known of paths is kept
_MOST_PATHS: Final = 200
"""With more, an update is not merged with another: each path is compared with each."""
_WHOLE: Final = (int, Int64)
_EXACT: Final[Context] = create_decimal128_context()
_EXACT.traps[Inexact] = True


class _Apart(Exception):
    """Two updates have to be sent one after the other; it is caught here."""


class Merged(Generic[ItemT]):
    """Several updates of one document that are sent as one.

    Attributes:
        items: What it stands for, in order.
        size: The bytes that are sent, about.
        body: The update that is sent.
    """

    __slots__ = ("_operators", "body", "items", "size")

    def __init__(self, item: ItemT, operators: dict[str, str]) -> None:
        self.items = [item]
        self.size = item.size
        self.body: dict[str, Any] = {operator: {**fields} for operator, fields in item.body.items() if fields}
        self._operators = operators  # by path

    @classmethod
    def of(cls, item: ItemT) -> Merged[ItemT] | None:
        """Begin with an item; None if it is none that is ever merged."""
        if item.kind != UPDATE or type(item.body) is not dict:
            return None
        operators: dict[str, str] = {}
        for operator, fields in item.body.items():
            if operator not in _COMBINED or type(fields) is not dict:
                return None
            for path in fields:
                if path in operators or not _is_plain(path):
                    return None
                operators[path] = operator
        return cls(item, operators) if operators else None

    @property
    def first(self) -> ItemT:
        """The item that tells what is done, and to what."""
        return self.items[0]

    def absorbs(self, item: ItemT, most_bytes: int) -> bool:
        """Take in the item that follows, if one update is proven to do the same, and has no more bytes than that.

        Numbers and dates take the place of others; what is set may be of any size.
        """
        if item.kind != UPDATE or item.upsert is not self.items[0].upsert or type(item.body) is not dict:
            return False
        try:
            changes, grows = self._changes(item.body)
        except _Apart:
            return False
        size = self.size + item.size if grows else self.size
        if size > most_bytes:
            return False
        for operator, path, value in changes:
            self._operators[path] = operator
            self.body.setdefault(operator, {})[path] = value
        self.size = size
        self.items.append(item)
        return True

    def _changes(self, update: dict[str, Any]) -> tuple[list[Change], bool]:
        """Return what becomes of the update by one that follows, and whether it may have more bytes then."""
        found: list[Change] = []
        grows = False
        for operator, fields in update.items():
            combine = _COMBINED.get(operator)
            if combine is None or type(fields) is not dict:
                raise _Apart
            for path, value in fields.items():
                known = self._operators.get(path)
                if known == operator:
                    grows = grows or operator == "$set"
                    found.append((operator, path, combine(self.body[operator][path], value)))
                elif known is None and self._has_room(path, found):
                    grows = True
                    found.append((operator, path, value))
                else:
                    raise _Apart
        return found, grows

    def _has_room(self, path: str, found: list[Change]) -> bool:
        """Tell whether a path that is new meets no other."""
        return (
            len(self._operators) + len(found) < _MOST_PATHS
            and _is_plain(path)
            and not any(path == other for _, other, _ in found)
            and not any(overlap(path, other) for other in self._operators)
        )


def _is_plain(path: str) -> bool:
    """Tell whether a path, and no very long one, means one field: a place in a list is another if the list is none."""
    return len(path) <= _LONGEST and _means_one_field(path)


@lru_cache(maxsize=4096)
def _means_one_field(path: str) -> bool:
    return "$" not in path and not any(part.isdigit() for part in path.split("."))


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
"""How two values of one path are combined, by operator."""
