"""What is merged, and what is not: updates of one document that follow each other. No server."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from bson import Decimal128, Int64

from mongopatterns.buffer._items import UPDATE, Item, Target
from mongopatterns.buffer._merging import Merged
from mongopatterns.expressions import ANY_UUID

COLLECTION = Target("db.c", None, ANY_UUID)
EARLY, LATE = (dt.datetime(2026, month, 1, tzinfo=dt.timezone.utc) for month in (1, 2))


def together(one: Any, other: Any) -> Any:
    """Merge two updates; None if they are sent one after the other."""
    first, second = (Item(COLLECTION, UPDATE, 1, update, 10) for update in (one, other))
    both = Merged.of(first)
    return both.body if both and both.absorbs(second, 100) else None


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ({"$inc": {"n": 1}}, {"$inc": {"n": 2}}, {"$inc": {"n": 3}}),
        ({"$inc": {"n": -1}}, {"$inc": {"n": -2, "m": 1}}, {"$inc": {"n": -3, "m": 1}}),
        ({"$inc": {"n": Int64(1)}}, {"$inc": {"n": 2}}, {"$inc": {"n": 3}}),
        ({"$inc": {"n": Decimal128("0.1")}}, {"$inc": {"n": 2}}, {"$inc": {"n": Decimal128("2.1")}}),
        ({"$set": {"a": 1, "b": 2}}, {"$set": {"b": 3}}, {"$set": {"a": 1, "b": 3}}),
        ({"$set": {"a.x": 1}}, {"$set": {"a.y": 2}}, {"$set": {"a.x": 1, "a.y": 2}}),
        ({"$set": {"a": 1}}, {"$inc": {"n": 1}}, {"$set": {"a": 1}, "$inc": {"n": 1}}),
        ({"$max": {"a": 1}}, {"$max": {"a": 5}}, {"$max": {"a": 5}}),
        ({"$min": {"a": LATE}}, {"$min": {"a": EARLY}}, {"$min": {"a": EARLY}}),
        ({"$currentDate": {"t": True}}, {"$currentDate": {"t": True}}, {"$currentDate": {"t": True}}),
    ],
)
def test_what_is_merged(one: Any, other: Any, both: Any) -> None:
    """One update that does the same as the two."""
    assert together(one, other) == both


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"$inc": {"n": 1}}, {"$inc": {"n": -1}}),  # (a limit may lie between)
        ({"$inc": {"n": 2**63 - 1}}, {"$inc": {"n": 1}}),
        ({"$inc": {"n": 0.1}}, {"$inc": {"n": 0.2}}),  # (what doubles add up to depends on the order)
        ({"$inc": {"n": Decimal128("1E+33")}}, {"$inc": {"n": Decimal128("0.1")}}),  # (not exact)
        ({"$inc": {"n": Decimal128("NaN")}}, {"$inc": {"n": Decimal128("1")}}),
        ({"$inc": {"n": 1}}, {"$set": {"n": 1}}),
        ({"$set": {"a": {}}}, {"$set": {"a.b": 1}}),
        ({"$set": {"a.0": 1}}, {"$set": {"b": 1}}),
        ({"$set": {"a.$[]": 1}}, {"$set": {"b": 1}}),
        ({"$max": {"a": "x"}}, {"$max": {"a": "y"}}),  # (text is compared by a collation)
        ({"$max": {"a": 1}}, {"$max": {"a": EARLY}}),
        ({"$max": {"a": 1.0}}, {"$max": {"a": 2}}),
        ({"$max": {"a": EARLY}}, {"$max": {"a": LATE.replace(tzinfo=None)}}),
        ({"$inc": {"n": Decimal128("1.5")}}, {"$inc": {"n": -1}}),
        ({"$push": {"a": 1}}, {"$push": {"a": 1}}),
        ({"$inc": {"n": 1}}, {"$push": {"a": 1}}),
        ({"$set": {"a": 1}}, [{"$set": {"a": 1}}]),
        ({"$set": {"a": 1}}, {"$set": {"b": 1}, "$inc": {"b": 1}}),
        ({"$unset": {"a": ""}}, {"$set": {"b": 1}}),
        ({"$currentDate": {"t": True}}, {"$currentDate": {"t": {"$type": "timestamp"}}}),
        ({"$set": {"a": 1}, "$inc": {"a": 1}}, {"$set": {"b": 1}}),
        ([{"$set": {"a": 1}}], {"$set": {"a": 1}}),
        ({"$set": "x"}, {"$set": {"a": 1}}),
    ],
)
def test_what_is_sent_one_after_the_other(one: Any, other: Any) -> None:
    """Whatever is not proven to do the same."""
    assert together(one, other) is None


def test_what_is_merged_is_a_copy() -> None:
    """The updates themselves stay as they are: each may have to be sent by itself."""
    one, other = {"$inc": {"n": 1}}, {"$inc": {"n": 2}}
    together(one, other)
    assert (one, other) == ({"$inc": {"n": 1}}, {"$inc": {"n": 2}})
