"""A buffer against the driver: any operations on few documents end as if they had been sent one by one, in order.

And each is told what it would have been told then, but for updates that are only wrong for a moment: an update that the
next one mends may be acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateOne
from pymongo.errors import BulkWriteError

from mongopatterns import WriteBuffer

EXAMPLES = settings.default.max_examples  # many more with --hypothesis-profile=deep

KEYS = st.integers(0, 2)
PATHS = st.sampled_from(["a", "b", "c", "d.x", "d.y", "d", "t"])
SMALL = st.integers(-3, 3).filter(bool)


def one_operator(operator: str, values: Any) -> Any:
    return st.dictionaries(PATHS, values, min_size=1, max_size=2).map(lambda fields: {operator: fields})


updates = st.one_of(
    one_operator("$set", st.integers(0, 3) | st.just("text")),
    one_operator("$max", st.integers(-5, 5)),
    one_operator("$min", st.integers(-5, 5)),
    one_operator("$inc", SMALL),
    one_operator("$mul", st.integers(2, 3)),
    one_operator("$unset", st.just("")),
    one_operator("$push", st.integers(0, 3)),
    st.just({"$set": {"a": 7}, "$inc": {"b": 1}}),
    st.just([{"$set": {"p": {"$add": [{"$ifNull": ["$p", 0]}, 1]}}}]),
)
documents = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 3) | st.just("text"), max_size=2)
operations = st.one_of(
    st.tuples(st.just("insert"), KEYS, documents, st.none()),
    st.tuples(st.just("replace"), KEYS, documents, st.booleans()),
    st.tuples(st.just("update"), KEYS, updates, st.booleans()),
    st.tuples(st.just("update"), KEYS, updates, st.booleans()),
    st.tuples(st.just("increment"), KEYS, st.dictionaries(PATHS, SMALL, min_size=1, max_size=1), st.booleans()),
    st.tuples(st.just("increment"), KEYS, st.dictionaries(PATHS, SMALL, min_size=1, max_size=1), st.booleans()),
    st.tuples(st.just("delete"), KEYS, st.none(), st.none()),
)
quick = settings(
    max_examples=EXAMPLES * 3 // 4,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def by_hand(collection: Any, operation: Any) -> bool:
    """Send one operation; tell whether the server took it."""
    kind, key, what, upsert = operation
    written: Any
    if kind == "insert":
        written = InsertOne({"_id": key, **what})
    elif kind == "replace":
        written = ReplaceOne({"_id": key}, dict(what), upsert=upsert)
    elif kind == "update":
        written = UpdateOne({"_id": key}, what, upsert=upsert)
    elif kind == "increment":
        written = UpdateOne({"_id": key}, {"$inc": what}, upsert=upsert)
    else:
        written = DeleteOne({"_id": key})
    try:
        collection.bulk_write([written])
    except BulkWriteError:
        return False
    return True


def put(buffer: WriteBuffer, collection: Any, operation: Any) -> Any:
    kind, key, what, upsert = operation
    if kind == "insert":
        return buffer.insert(collection, {"_id": key, **what})
    if kind == "delete":
        return buffer.delete(collection, key)
    method: Callable[..., Any] = getattr(buffer, kind)
    return method(collection, key, what, upsert=upsert)


def plain(documents: Any) -> list[dict[str, Any]]:
    return sorted(documents, key=lambda each: int(each["_id"]))


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
@quick
@given(drawn=st.lists(operations, min_size=1, max_size=14), cuts=st.tuples(st.integers(1, 6), st.integers(1, 14)))
def test_any_operations_end_as_one_by_one(
    mongopatterns_client: Any, mongopatterns_db: Any, delivery: Any, drawn: Any, cuts: tuple[int, int]
) -> None:
    """Whatever is merged, and wherever batches are cut."""
    size, flush = cuts
    ours, theirs = mongopatterns_db.ours, mongopatterns_db.theirs
    for collection in (ours, theirs):
        collection.delete_many({})
    letters: list[Any] = []
    with WriteBuffer(
        mongopatterns_client, max_items=size, max_delay=60, delivery=delivery, on_dead_letter=letters.append
    ) as buffer:
        acks = []
        for place, operation in enumerate(drawn, start=1):
            acks.append(put(buffer, ours, operation))
            if place % flush == 0:
                buffer.flush()
    taken = [by_hand(theirs, operation) for operation in drawn]
    assert plain(ours.find()) == plain(theirs.find())
    assert all(ack.done for ack in acks)
    told = [ack.error is None for ack in acks]
    assert all(ours_ or not theirs_ for ours_, theirs_ in zip(told, taken, strict=True))
    assert len(letters) == told.count(False)
