"""What comes after a document in an order: the filter that says so, exactly as the server sorts. Pure.

A document comes after another if it is equal to it in the first keys of the order and greater in the next one: a filter
for each key. In an `$or`, the server reads each from an index and merges them, so that nothing is sorted.

Greater is meant as the server sorts, across all types. A plain `$gt` is not: it finds values of the same type alone. So
one key is compared by `$expr`, which knows all types, and has two ways of its own: it tells null from what is missing,
which are one value to a sort, and are therefore named apart; and it looks at a list as a whole, where a sort looks
into it. A document with a list in its sort keys is therefore refused.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bson import Decimal128, Int64, MaxKey, MinKey, ObjectId

from mongopatterns.expressions import literal
from mongopatterns.specs import Sort

Filter = dict[str, Any]

# Values of these types are data wherever they stand in an expression; the server reads them quicker without `$literal`.
_INERT: Final = frozenset({int, Int64, float, bool, Decimal128, ObjectId, dt.datetime, type(None)})


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
