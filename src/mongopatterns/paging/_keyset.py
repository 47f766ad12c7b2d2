"""What comes after a document in an order: the filter that says so, exactly as the server sorts. Pure.

A document comes after another if it is equal to it in the first keys of the order and greater in the next one: a filter
for each key. In an `$or`, the server reads each from an index and merges them, so that nothing is sorted.

Greater is meant as the server sorts, across all types. A plain `$gt` is not: it finds values of the same type alone. So
one key is compared by `$expr`, which knows all types, and has two ways of its own: it tells null from what is missing,
which are one value to a sort, and are therefore named apart; and it looks at a list as a whole, where a sort looks
into it. A document with a list in its sort keys is therefore refused.

The server plans `$expr` slowly, though, and what is behind a value may take two filters. Where values have types of
which each is compared by itself, "not equal and not before" (`$not: {$lte}`) is one filter, read from the index: it
finds all that comes after, and what has another type besides, on either side. What is before has to be told then: the
documents come in order, so the first of them tells whether there is any.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bson import Binary, Decimal128, Int64, MaxKey, MinKey, ObjectId

from mongopatterns.expressions import literal
from mongopatterns.specs import Sort

Filter = dict[str, Any]

# Values of these types are data wherever they stand in an expression; the server reads them quicker without `$literal`.
_INERT: Final = frozenset({int, Int64, float, bool, Decimal128, ObjectId, dt.datetime, type(None)})

# The types whose values the server compares with each other, and with no others.
_NUMBER, _TEXT, _BYTES, _ID, _FLAG, _DATE = range(6)
_COMPARED: Final[Mapping[type, int]] = {
    int: _NUMBER,
    Int64: _NUMBER,
    float: _NUMBER,
    str: _TEXT,
    bytes: _BYTES,
    Binary: _BYTES,
    ObjectId: _ID,
    bool: _FLAG,
    dt.datetime: _DATE,
}


def near(order: Sort, values: Sequence[Any], where: Mapping[str, Any], *, inclusive: bool = False) -> Filter | None:
    """Build one filter for all that comes after a position, and for what has another type in its sort keys (`follows`).

    Args:
        order: The order.
        values: The position: a value for each of its keys.
        where: The other filter.
        inclusive: Whether the position itself belongs to it.

    Returns:
        The filter; None if a value is none that can be told from others.
    """
    parts: list[Filter] = []
    equal: Filter = {}
    for (path, direction), value in zip(order, values, strict=True):
        if type(value) not in _COMPARED or value != value:  # noqa: PLR0124  # (NaN)
            return None
        parts.append({**equal, path: {"$not": {"$lte" if direction == 1 else "$gte": value}}})
        equal |= _equal(path, value)
    if inclusive:
        parts.append(equal)
    if not parts:
        return None
    return {"$and": [where, {"$or": parts}]} if "$or" in where else {**where, "$or": parts}


def follows(first: Sequence[Any], values: Sequence[Any]) -> bool:
    """Tell whether the first document that `near` has found comes after the position, and with it all of them.

    Args:
        first: The values of its sort keys.
        values: The position.
    """
    for found, value in zip(first, values, strict=True):
        kind = _COMPARED[type(value)]
        if _COMPARED.get(type(found)) != kind or found != found:  # noqa: PLR0124  # (NaN)
            return False
        if found != value and kind != _TEXT:  # (texts may be equal to a collation)
            return True
    return True


def after(order: Sort, values: Sequence[Any], where: Mapping[str, Any], *, inclusive: bool = False) -> list[Filter]:
    """Build the filters for what comes after a position, of the documents that match another filter.

    No document matches two of them, and what the first one finds comes before what the second one finds, and so on.

    Args:
        order: The order.
        values: The position: a value for each of its keys; None for what is missing or null.
        where: The other filter. It is repeated in each of them: an index is chosen for each by itself.
        inclusive: Whether the position itself belongs to it.
    """
    found: list[list[Filter]] = []
    equal: list[Filter] = []
    for (path, direction), value in zip(order, values, strict=True):
        found += [[*equal, beyond] for beyond in reversed(_beyond(path, direction, value))]
        equal.append(_equal(path, value))
    if inclusive:
        found.append(equal)
    return [{"$and": [where, *terms] if where else terms} for terms in reversed(found)]


def merges(values: Sequence[Any]) -> bool:
    """Tell whether the server keeps the order when it merges what the filters of a position find.

    It compares the documents, and then null is more than what is missing, although an index and a sort hold them equal
    (seen on MongoDB 6.0). That is wrong where two of the filters find documents by the same null: if one of the keys
    before the last two is null.
    """
    return not any(value is None for value in values[:-2])


def _equal(path: str, value: Any) -> Filter:
    """Find what a sort does not tell from a value: of null also what is missing."""
    return {path: {"$eq": value}}


def _beyond(path: str, direction: int, value: Any) -> list[Filter]:
    """Find what a sort puts behind a value, one part after the other.

    What may be missing is found by null, and never by a comparison alone: the server reads a comparison from a sparse
    or a wildcard index as well, in which what is missing is not (seen on MongoDB 6.0).
    """
    least, most = isinstance(value, MinKey), isinstance(value, MaxKey)
    above, below = ({operator: [f"${path}", _constant(value)]} for operator in ("$gt", "$lt"))
    above_null = {"$gt": [f"${path}", None]}
    if direction == 1:
        if least:
            return [_equal(path, None), {"$expr": above_null}]
        return [] if most else [{"$expr": above}]
    if value is None:
        return [_equal(path, MinKey())]
    if least or path == "_id":  # (which is never missing)
        return [] if least else [{"$expr": below}]
    return [{"$expr": {"$and": [below, above_null]}}, {path: {"$in": [None, MinKey()]}}]


def _constant(value: Any) -> Any:
    return value if type(value) in _INERT else literal(value)
