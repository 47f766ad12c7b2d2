"""Random schemas on the real server: what is applied is what is there, whatever was there before.

Every combination of options that can be defined is one that the server takes: a definition that it refuses fails here.
"""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.errors import OperationFailure, WriteError

from mongopatterns import CollectionSpec, Index, Schema, SchemaDrift, SchemaSpec, TimeSeries, UsageError, Validator
from mongopatterns.schema import SchemaChangeKind

EXAMPLES = settings.default.max_examples  # many more with --hypothesis-profile=deep

# A list under a hashed key, two lists in one document of a compound index, a place that is none.
UNFIT_VALUES = {16766, 171, 16755}

paths = st.sampled_from(["a", "b", "a.c", "t", "$**", "a.$**"])
kinds = st.sampled_from([1, 1, 1, -1, "hashed", "text", "2dsphere"])
filters = st.sampled_from(
    [
        {"a": {"$type": "string"}},
        {"a": {"$gt": 1, "$lt": 5}},
        {"a": {"$lt": 5, "$gt": 1.0}},
        {"b": None},
        {"$and": [{"b": {"$eq": None}}]},
        {"b": {"$exists": True}, "a": 1},
    ]
)
collations = st.sampled_from(
    [
        {"locale": "en"},
        {"locale": "en", "strength": 2},
        {"locale": "fr_CA"},
        {"locale": "da"},
        {"locale": "th", "numericOrdering": True},
        {"locale": "simple"},
    ]
)


def often(value: Any, strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.just(value), st.just(value), strategy)


@st.composite
def indexes(draw: st.DrawFn) -> Index | None:
    """Draw an index; None where it cannot be defined."""
    keys = draw(st.lists(st.tuples(paths, kinds), min_size=1, max_size=3))
    try:
        if draw(st.integers(0, 4)) == 0:
            return Index.ttl(keys[0][0], after=draw(st.sampled_from([100, 200])), where=draw(often(None, filters)))
        return Index(
            *keys,
            unique=draw(often(False, st.just(True))),
            sparse=draw(often(False, st.just(True))),
            hidden=draw(often(False, st.just(True))),
            where=draw(often(None, filters)),
            collation=draw(often(None, collations)),
            weights=draw(often(None, st.just({keys[0][0]: 3}))),
            default_language=draw(often(None, st.sampled_from(["german", "none"]))),
            projection=draw(often(None, st.sampled_from([{"a": 1}, {"b": 0, "_id": 1}]))),
            name=draw(often(None, st.sampled_from(["mine", "other"]))),
        )
    except UsageError:
        return None


validators = st.builds(
    Validator,
    st.sampled_from(
        [
            {"$jsonSchema": {"bsonType": "object", "required": ["a"]}},
            {"a": {"$type": "int"}},
            {"$expr": {"$gte": ["$a", 0]}},
        ]
    ),
    level=st.sampled_from(["strict", "moderate"]),
    action=st.sampled_from(["error", "warn"]),
)


@st.composite
def collections(draw: st.DrawFn, name: str) -> CollectionSpec | None:
    """Draw a collection; None where it cannot be defined."""
    several = [index for index in draw(st.lists(indexes(), max_size=4)) if index is not None]
    try:
        if draw(st.integers(0, 5)) == 0:
            granularity: Any = draw(st.sampled_from(["seconds", "minutes", "hours"]))
            expiry = draw(st.sampled_from([None, 3600, dt.timedelta(days=1)]))
            return CollectionSpec(name, indexes=several, timeseries=TimeSeries("t", "a", granularity, expiry))
        return CollectionSpec(
            name,
            indexes=several,
            validator=draw(often(None, validators)),
            collation=draw(often(None, collations)),
            capped_size=draw(often(None, st.sampled_from([5000, 8192]))),
            clustered=draw(often(False, st.just(True))),
            pre_and_post_images=draw(often(None, st.booleans())),
        )
    except UsageError:
        return None


@st.composite
def schemas(draw: st.DrawFn) -> SchemaSpec:
    drawn = [draw(collections(name)) for name in ("one", "two")]
    return SchemaSpec([one for one in drawn if one is not None])


def documents(draw: Any, spec: CollectionSpec) -> list[dict[str, Any]]:
    """Draw documents, some of which are the same but for their id."""
    values = st.sampled_from([None, 0, 1, 1.0, "x", "X", [1, 2], [], {"c": 1}, {"c": [1, 3]}, [{"c": 1}, {"c": 2}]])
    found = st.dictionaries(st.sampled_from("ab"), values, max_size=2)
    return draw(st.lists(found, max_size=3))  # type: ignore[no-any-return]


@given(data=st.data())
@settings(max_examples=EXAMPLES * 3 // 10, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_schema_over_any_other(mongopatterns_db: Any, data: st.DataObject) -> None:
    """After applying, nothing is left to change; a second schema over it ends so too, or says what stands in its way.

    What stands in its way changes nothing: not an index, and not an option.
    """
    for name in ("one", "two"):
        mongopatterns_db.drop_collection(name)
    first, second = data.draw(schemas()), data.draw(schemas())
    schema = Schema(mongopatterns_db, first)
    done = schema.apply()
    assert not done.blocked
    assert not schema.plan(), str(schema.plan())
    assert schema.apply().changes == ()

    for spec in first.collections:
        if spec.timeseries is None:
            for document in documents(data.draw, spec):
                with suppress(WriteError):  # what the first schema refuses is not there
                    mongopatterns_db[spec.collection].insert_one(document)

    schema = Schema(mongopatterns_db, second)
    plan = schema.plan()
    before = state(mongopatterns_db)
    if plan.blocked:
        with pytest.raises(SchemaDrift) as drift:
            schema.apply(plan)
        assert all(change.blocked.remedy for change in drift.value.plan.blocked)
        assert state(mongopatterns_db) == before
        return
    try:
        schema.apply(plan)
    except OperationFailure as error:
        assert error.code in UNFIT_VALUES  # noqa: PT017  # (whatever else the server refuses is refused by the spec)
        assert schema.plan()
        return
    assert not schema.plan(), f"{plan}\n\nleft:\n{schema.plan()}"
    schema.verify()
    dropped = {change.commands[-1]["index"] for change in plan.changes if change.kind is SchemaChangeKind.DROP_INDEX}
    assert not [change for change in plan.changes if "what it kept unique" in change.risk]
    for name, index in before[1] - state(mongopatterns_db)[1]:
        replaced = any(change.kind is SchemaChangeKind.REPLACE_INDEX for change in plan.changes)
        assert index in dropped or replaced, f"{name}.{index} is gone, and no change says so"


def state(db: Any) -> tuple[Any, set[tuple[str, str]]]:
    """Return the options of the collections, and the names of their indexes."""
    listed = {one["name"]: one["options"] for one in db.list_collections() if "system." not in one["name"]}
    return listed, {(name, index["name"]) for name in listed for index in db[name].list_indexes()}
