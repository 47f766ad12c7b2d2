# Generated from tests/aio/test_schema.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""What a schema plans, applies and refuses, on a real server."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from bson import encode
from bson.binary import Binary
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from bson.son import SON
from pydantic import BaseModel, Field
from pymongo.errors import DuplicateKeyError, OperationFailure, WriteError

from mongopatterns import (
    CappedSetSpec,
    CascadeSpec,
    CollectionSpec,
    Index,
    LoaderSpec,
    ObjectIdStr,
    QuotaSpec,
    Schema,
    SchemaChangeKind,
    SchemaDrift,
    SchemaPlan,
    SchemaProgress,
    SchemaSpec,
    SearchIndex,
    TimeSeries,
    UsageError,
    Validator,
    Window,
)
from mongopatterns.testing import race_threads

READS = {"hello", "listCollections", "listIndexes", "count", "aggregate"}

ADULT = Validator({"$jsonSchema": {"bsonType": "object", "required": ["age"], "properties": {"age": {"minimum": 18}}}})

KINDS = [
    Index("a"),
    Index(("a", -1), "b", ("c.d", -1)),
    Index("a", unique=True),
    Index("a", "b", unique=True, where={"a": {"$type": "string"}}),
    Index("a", sparse=True),
    Index("a", unique=True, sparse=True),
    Index("a", hidden=True),
    Index("a", where={"b": {"$gt": 1, "$lt": 5}}),
    Index("a", where={"$and": [{"b": None}, {"c": {"$exists": True}}]}),
    Index("a", collation={"locale": "en"}),
    Index("a", collation={"locale": "fr_CA", "strength": 2}),
    Index("a", collation={"locale": "simple"}),
    Index.ttl("at"),
    Index.ttl("at", after=dt.timedelta(hours=1), where={"kind": "guest"}),
    Index(("a", "hashed")),
    Index(("a", "hashed"), "b"),
    Index(("a", "text")),
    Index("p", ("a", "text"), ("b", "text"), weights={"a": 5}, default_language="german"),
    Index(("$**", "text")),
    Index("$**"),
    Index("a.$**"),
    Index("$**", projection={"a": 1, "b.c": 1}),
    Index("$**", projection={"a": 0, "_id": 1}, where={"b": 1}),
    Index(("place", "2dsphere"), "b"),
    Index("a", name="by a"),
]
SERIES = dt.timedelta(days=90)
COLLECTIONS = [
    CollectionSpec("plain"),
    CollectionSpec("validated", validator=ADULT),
    CollectionSpec("warned", validator=Validator({"a": {"$type": "int"}}, level="moderate", action="warn")),
    CollectionSpec(
        "series", timeseries=TimeSeries("ts", "meta", "minutes", SERIES), indexes=[Index("meta.a", ("ts", -1))]
    ),
    CollectionSpec("bare_series", timeseries=TimeSeries("ts")),
    CollectionSpec("collated", collation={"locale": "de", "strength": 1}, indexes=[Index("a"), Index(("b", "text"))]),
    CollectionSpec("capped", capped_size=5000, capped_max=10),
    CollectionSpec("clustered", clustered=True, expire_after=3600),
    CollectionSpec("images", pre_and_post_images=True),
    CollectionSpec("passed", options={"storageEngine": {"wiredTiger": {"configString": "block_compressor=zlib"}}}),
]


def schema(db: Any, *specs: Any) -> Schema:
    return Schema(db, SchemaSpec(specs))


def listed(db: Any, name: str) -> dict[str, dict[str, Any]]:
    """List the indexes of a collection by name, without what says nothing."""
    answer = db.command({"listIndexes": name})
    rows = [{key: value for key, value in one.items() if key != "v"} for one in answer["cursor"]["firstBatch"]]
    return {one.pop("name"): one for one in rows if one["name"] != "_id_"}


def kinds(plan: SchemaPlan) -> list[str]:
    return [change.kind.value for change in plan.changes]


def codes(plan: SchemaPlan) -> list[str]:
    return [finding.code for finding in plan.findings]


# From nothing ----------------------------------------------------------------------------------------------------


def test_every_kind_of_index(db: Any, commands: Any) -> None:
    """Each kind of index and option is created, and is what the spec says: a second plan is empty."""
    specs = [CollectionSpec(f"c{number}", indexes=[index]) for number, index in enumerate(KINDS)]
    bound = schema(db, *specs)
    plan = bound.plan()
    assert kinds(plan) == ["create collection"] * len(KINDS) + ["create index"] * len(KINDS)
    done = bound.apply(plan)
    assert done.changes == plan.changes
    assert all(listed(db, spec.collection) for spec in specs)
    commands.clear()
    assert not bound.plan()
    assert bound.apply().changes == ()
    assert not bound.verify()
    assert set(commands.names) <= READS


@pytest.mark.parametrize("locale", ["da", "th", "vi", "fr_CA", "el", "de@collation=phonebook", "mt", "ja"])
def test_what_a_locale_brings_along_is_no_change(db: Any, locale: str) -> None:
    """What the server fills in by locale is what the spec says: a second plan is empty, and finds nothing unknown."""
    for number, more in enumerate(({}, {"strength": 3, "numericOrdering": True})):
        collation = {"locale": locale, **more}
        bound = schema(
            db,
            CollectionSpec(f"own{number}", indexes=[Index("a", unique=True, collation=collation)]),
            CollectionSpec(f"all{number}", collation=collation, indexes=[Index("a"), Index("b", collation=collation)]),
        )
        bound.apply()
        plan = bound.plan()
        assert (plan.changes, plan.findings) == ((), ())
        assert bound.apply().changes == ()


def test_every_kind_of_collection(db: Any, commands: Any) -> None:
    """Each option of a collection is what the spec says, and is found so."""
    bound = schema(db, *COLLECTIONS)
    bound.apply()
    commands.clear()
    assert not bound.plan()
    assert bound.apply().changes == ()
    assert set(commands.names) <= READS
    with pytest.raises(WriteError):
        db.validated.insert_one({"age": 17})
    assert listed(db, "collated").keys() == {"a_1", "b_text"}


def test_specs_of_patterns_stand_for_their_indexes(db: Any) -> None:
    """What patterns need is created, once, wherever they need it; and a unique index serves whoever looks there."""
    bound = schema(
        db,
        QuotaSpec("users", path="quota", key_field="user_id", windows=[Window.hour(60)]),
        LoaderSpec("users", key_field="user_id"),
        LoaderSpec("users", key_field="email"),
        CappedSetSpec("parties", path="seats", member_key="user", cap=3),
        CascadeSpec("questions", children=[("responses", "_id", "question_id")]),
    )
    db.users.create_index("email", unique=True)
    bound.apply()
    assert listed(db, "users") == {
        "email_1": {"key": SON({"email": 1}), "unique": True},
        "user_id_1": {"key": SON({"user_id": 1}), "unique": True},
    }
    assert listed(db, "responses").keys() == {"question_id_1"}
    assert not bound.plan()


def test_what_only_finds_takes_nobody_an_index(db: Any) -> None:
    """What a pattern needs to find documents by stands beside what others keep unique, or leave out, on that key."""
    db.c.create_index("a", unique=True, name="active", partialFilterExpression={"active": True})
    bound = schema(db, LoaderSpec("c", key_field="a"))
    done = bound.apply(drop_unknown=["c.other"])
    assert kinds(done) == ["create index"]
    assert listed(db, "c").keys() == {"active", "a_1"}
    db.c.create_index([("a", 1), ("b", 1)])
    db.c.drop_index("a_1")
    assert codes(bound.verify()) == ["unknown-index"]


def test_what_does_more_on_the_same_keys_stays(db: Any) -> None:
    """An index on the keys of one of the spec that is unique, or compares otherwise, is told, and goes if named."""
    db.c.create_index("a", unique=True)
    db.c.create_index("a", name="english", collation={"locale": "en"})
    bound = schema(db, CollectionSpec("c", indexes=[Index("a", sparse=True)]))
    done = bound.apply()
    assert codes(done) == ["other-options", "other-options"]
    assert listed(db, "c").keys() == {"a_1", "english", "a_1_2"}
    assert not bound.plan()
    bound.apply(drop_unknown=["c.a_1"])
    assert listed(db, "c").keys() == {"english", "a_1_2"}


def test_what_is_not_said_of_a_collection_stays(db: Any) -> None:
    """An expiry, a granularity and an option that the spec does not name are left as they are."""
    db.create_collection("s", timeseries={"timeField": "ts", "granularity": "hours"}, expireAfterSeconds=60)
    db.create_collection("k", clusteredIndex={"key": {"_id": 1}, "unique": True}, expireAfterSeconds=60)
    specs = [CollectionSpec("s", timeseries=TimeSeries("ts")), CollectionSpec("k", clustered=True)]
    assert not schema(db, *specs).plan()


def test_options_are_compared_by_what_is_said(db: Any) -> None:
    """What the server adds to an option, or leaves out because it says nothing, is no change."""
    key = {"path": "a", "bsonType": "string", "keyId": Binary(bytes(16), 4)}
    several = [
        CollectionSpec("o", options={"indexOptionDefaults": {}}),
        CollectionSpec("p", options={"indexOptionDefaults": {"storageEngine": {"wiredTiger": {}}}}),
        CollectionSpec("q", options={"encryptedFields": {"fields": [key]}}),
        CollectionSpec("r", options={"encryptedFields": {"fields": []}}),
    ]
    schema(db, *several).apply()
    assert not schema(db, *several).plan()
    other = CollectionSpec("q", options={"encryptedFields": {"fields": [{**key, "path": "b"}]}})
    assert schema(db, other).plan().blocked


def test_paths_of_a_wildcard_index_in_any_form(db: Any) -> None:
    """The paths of a wildcard index may stand within each other, or have dots: they are the same paths."""
    db.create_collection("c")
    db.command("createIndexes", "c", indexes=[{"key": {"$**": 1}, "name": "w", "wildcardProjection": {"a": {"b": 1}}}])
    assert not schema(db, CollectionSpec("c", indexes=[Index("$**", projection={"a.b": 1})])).plan()


def test_a_collated_index_becomes_unique_by_its_collation(db: Any) -> None:
    """Values that are equal to an index, not to its collection, stand in its way, and vice versa."""
    collation = {"locale": "en", "strength": 2}
    db.c.create_index("a", collation=collation)
    db.c.insert_many([{"a": "X"}, {"a": "x"}])
    plan = schema(db, CollectionSpec("c", indexes=[Index("a", unique=True, collation=collation)])).plan()
    assert [change.kind.value for change in plan.blocked] == ["change index"]
    db.create_collection("d", collation=collation)
    db.d.create_index("a", collation={"locale": "simple"})
    db.d.insert_many([{"a": "X"}, {"a": "x"}])
    bound = schema(db, CollectionSpec("d", indexes=[Index("a", unique=True, collation={"locale": "simple"})]))
    assert kinds(bound.apply()) == ["change index"]


def test_what_planning_sends(db: Any, commands: Any) -> None:
    """One command says what the server is, one which collections there are, and one for each which indexes it has."""
    bound = schema(db, *(CollectionSpec(f"c{number}", indexes=[Index("a")]) for number in range(10)))
    bound.apply()
    commands.clear()
    bound.plan()
    assert sorted(commands.names) == ["hello", "listCollections", *["listIndexes"] * 10]
    assert commands.comments == {"mongopatterns.schema.plan"}
    commands.clear()
    bound.verify()
    assert len(commands.sent) == 12
    commands.clear()
    bound.plan(usage=True)
    assert commands.names.count("aggregate") == 10


def test_indexes_of_one_collection_are_built_together(db: Any, commands: Any) -> None:
    """One build reads the documents once, whatever number of indexes it makes."""
    db.c.insert_many([{"a": 1, "b": 1}])
    commands.clear()
    schema(db, CollectionSpec("c", indexes=[Index("a"), Index("b"), Index("a", "b")])).apply()
    sent = [command for name, command in commands.sent if name not in READS]
    (build,) = sent
    assert [one["name"] for one in build["indexes"]] == ["a_1", "b_1", "a_1_b_1"]
    assert build["comment"] == "mongopatterns.schema.apply"
    assert build["writeConcern"] == {"w": "majority"}


def test_planning_changes_nothing(db: Any, commands: Any) -> None:
    """A plan over a database where everything is wrong sends nothing but reads."""
    db.users.insert_many([{"a": 1}, {"a": 1}])
    db.users.create_index("b", name="old")
    bound = schema(
        db, CollectionSpec("users", indexes=[Index("a", unique=True), Index("b", sparse=True)], validator=ADULT)
    )
    commands.clear()
    plan = bound.plan(drop_unknown=True, usage=True)
    assert len(plan.changes) == 5
    assert set(commands.names) <= READS
    stages = [next(iter(stage)) for name, one in commands.sent if name == "aggregate" for stage in one["pipeline"]]
    assert not {"$out", "$merge"} & set(stages)
    with pytest.raises(SchemaDrift, match=r"\+ create index +users +Index\('b', sparse=True\)") as drift:
        bound.verify()
    assert len(drift.value.plan.changes) == 5


# What stands in the way ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("starts", ["empty", "plain"])
def test_equal_values_block_a_unique_index(db: Any, starts: str) -> None:
    """Values that several documents have are counted and shown, nothing is applied, and merging makes way."""
    db.users.insert_many([{"_id": one, "mail": f"m{one // 2}", "at": one} for one in range(10)])
    db.users.insert_many([{"_id": "new", "mail": "m0", "at": 99}])
    if starts == "plain":
        db.users.create_index("mail")
    unique = Index("mail", unique=True)
    bound = schema(db, CollectionSpec("users", indexes=[unique, Index("at")]))
    plan = bound.plan()
    (blocked,) = plan.blocked
    assert blocked.blocked is not None
    assert blocked.blocked.code == "duplicates"
    assert blocked.blocked.evidence.startswith(
        "5 values of Index('mail') in more than one document: mail='m0' in 3 documents (0, 'new'); mail='m1' in 2"
    )
    before = listed(db, "users")
    for given in (plan, None):
        with pytest.raises(SchemaDrift) as drift:
            bound.apply(given)
        assert [change.identity for change in drift.value.plan.blocked] == [blocked.identity]
    assert listed(db, "users") == before
    merged = bound.merge_duplicates("users", unique, keep=[("at", -1)])
    assert merged
    assert sorted(map(str, [one["_id"] for one in merged.removed])) == ["0", "1", "2", "4", "6", "8"]
    bound.apply()
    with pytest.raises(DuplicateKeyError):
        db.users.insert_one({"mail": "m0"})


@pytest.mark.parametrize(
    ("index", "documents", "number"),
    [
        (Index("a", unique=True), [{}, {}, {"a": None}], 1),
        (Index("a", unique=True, sparse=True), [{}, {}, {"a": None}], 0),
        (Index("a", unique=True, sparse=True), [{"a": None}, {}, {"a": None}], 1),
        (Index("a", unique=True, where={"a": {"$type": "string"}}), [{}, {}, {"a": "x"}], 0),
        (Index("a", unique=True, where={"a": {"$type": "string"}}), [{"a": "x"}, {"a": "x"}], 1),
        (Index("a", unique=True), [{"a": [1, 2, 2]}, {"a": [3]}], 0),
        (Index("a", unique=True), [{"a": [1, 2]}, {"a": 2}], 1),
        (Index("a.b", unique=True), [{"a": [{"b": 1}, {"b": 2}]}, {"a": {"b": 2}}], 1),
        (Index("a.b", unique=True), [{"a": {"c": 1}}, {}], 1),
        (Index("a", unique=True), [{"a": "x"}, {"a": "X"}], 0),
        (
            Index("a", unique=True, collation={"locale": "en", "strength": 2}),
            [{"_id": "bob", "a": "x"}, {"_id": "Bob", "a": ["X", "x"]}],
            1,
        ),
        (Index("a", unique=True, collation={"locale": "en", "strength": 2}), [{"a": ["x", "X"]}], 0),
        (Index("a", unique=True, collation={"locale": "en", "strength": 2}), [{"a": "x"}, {"a": "X"}], 1),
        (Index("a", "b", unique=True), [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 1}], 0),
        (Index("a", "b", unique=True), [{"a": 1, "b": [1, 2]}, {"a": 1, "b": 2.0}], 1),
        (Index("a.b", "a.c", unique=True), [{"a": [{"b": 1, "c": 1}, {"b": 2, "c": 2}]}, {"a": {"b": 1, "c": 2}}], 0),
    ],
)
def test_what_is_equal_is_what_the_server_finds_equal(
    db: Any, index: Index, documents: list[dict[str, Any]], number: int
) -> None:
    """Values are counted as the index has them: missing ones, lists, parts, and by its collation."""
    db.c.insert_many(documents)
    plan = schema(db, CollectionSpec("c", indexes=[index])).plan()
    found = [finding.evidence for finding in plan.findings if finding.code == "duplicates"]
    assert len(found) == min(number, 1)
    assert all(evidence.startswith(f"{number} value") for evidence in found)
    if number:
        with pytest.raises(DuplicateKeyError):
            db.c.create_index(index.keys, **index.options)
    else:
        db.c.create_index(index.keys, **index.options)


def test_a_missing_field_gets_the_advice_of_a_partial_index(db: Any) -> None:
    """Where null is what several documents share, the remedy says how to have the index all the same."""
    db.c.insert_many([{}, {}])
    plan = schema(db, CollectionSpec("c", indexes=[Index("a", unique=True)])).plan()
    assert "where={'a': {'$type': 'string'}}" in plan.findings[0].remedy


def test_unfit_documents_block_a_strict_validator(db: Any) -> None:
    """Documents that do not fit are counted and named; a moderate validator lets them be, and says so."""
    db.users.insert_many([{"_id": one, "age": one} for one in range(15, 25)])
    bound = schema(db, CollectionSpec("users", validator=ADULT))
    plan = bound.plan()
    (blocked,) = plan.blocked
    assert blocked.blocked is not None
    assert blocked.blocked.evidence == "3 documents do not fit the validator: 15, 16, 17"
    with pytest.raises(SchemaDrift):
        bound.apply()
    mild = schema(db, CollectionSpec("users", validator=Validator(ADULT.expression, level="moderate")))
    done = mild.apply()
    assert [(one.code, one.severity.value) for one in done.findings] == [("violations", "warning")]
    db.users.update_one({"_id": 15}, {"$set": {"seen": True}})
    with pytest.raises(WriteError):
        db.users.insert_one({"age": 15})
    db.users.delete_many({"age": {"$lt": 18}})
    bound.apply()
    assert not bound.plan()


class Plan(str, Enum):
    FREE = "free"
    PAID = "paid"


class User(BaseModel):
    id: ObjectIdStr = Field(alias="_id")
    mail: str = Field(max_length=100, pattern=r"^\S+@\S+$")
    born: dt.date | None = None
    plan: Plan = Plan.FREE
    balance: Decimal = Decimal(0)
    tags: list[str] = []
    score: float = Field(0.5, gt=0)


def test_a_validator_from_a_model_is_found_as_it_was_set(db: Any) -> None:
    """What a model says is stored and compared as it is: a second plan is empty."""
    bound = schema(db, CollectionSpec("users", validator=Validator.from_model(User, level="moderate")))
    bound.apply()
    assert not bound.plan()
    with pytest.raises(WriteError):
        db.users.insert_one({"mail": 5})


def test_what_is_found_between_planning_and_applying(db: Any) -> None:
    """A plan that has become wrong meanwhile ends as a drift with the new plan; the index is as it was."""
    db.c.create_index("a")
    bound = schema(db, CollectionSpec("c", indexes=[Index("a", unique=True)]))
    plan = bound.plan()
    assert not plan.blocked
    db.c.insert_many([{"a": 1}, {"a": 1}])
    with pytest.raises(SchemaDrift) as drift:
        bound.apply(plan)
    assert drift.value.plan.blocked
    assert listed(db, "c") == {"a_1": {"key": SON({"a": 1})}}
    db.c.insert_one({"a": 1})  # (the server was told to take equal values again)


def test_what_cannot_be_changed(db: Any) -> None:
    """Options that no server changes are blocked, with what to do instead; so are a view and another kind."""
    db.create_collection("c", collation={"locale": "en"})
    db.create_collection("view", viewOn="c", pipeline=[])
    db.create_collection("series", timeseries={"timeField": "ts", "granularity": "hours"})
    db.create_collection("capped", capped=True, size=4096)
    wrong = [
        CollectionSpec("c", collation={"locale": "de"}),
        CollectionSpec("view", indexes=[Index("a")]),
        CollectionSpec("series", timeseries=TimeSeries("ts", granularity="minutes")),
        CollectionSpec("capped", indexes=[Index.ttl("at")]),
    ]
    plan = schema(db, *wrong).plan()
    assert len(plan.blocked) == len(plan.changes) == 4
    assert all(change.blocked is not None and change.blocked.remedy for change in plan.changes)
    assert schema(db, CollectionSpec("series", validator=ADULT)).plan().blocked
    with pytest.raises(SchemaDrift):
        schema(db, *wrong).apply()
    (change,) = schema(db, QuotaSpec("series", path="q", key_field="u", windows=[Window.hour(1)])).plan().changes
    assert change.blocked is not None
    assert "cannot be unique" in change.blocked.evidence
    assert not schema(db, CollectionSpec("series")).plan()


# What is changed -------------------------------------------------------------------------------------------------


def test_options_are_changed_in_place(db: Any, commands: Any) -> None:
    """What the server changes without a build is changed so: expiry, hiding, uniqueness, granularity, sizes, images."""
    old = schema(
        db,
        CollectionSpec("c", indexes=[Index.ttl("at", after=60), Index("h"), Index("u"), Index("t")]),
        CollectionSpec("series", timeseries=TimeSeries("ts", granularity="seconds", expire_after=60)),
        CollectionSpec("capped", capped_size=4096),
        CollectionSpec("clustered", clustered=True),
        CollectionSpec("images", pre_and_post_images=True),
        CollectionSpec("validated", validator=ADULT),
    )
    old.apply()
    new = schema(
        db,
        CollectionSpec(
            "c",
            indexes=[
                Index.ttl("at", after=90),
                Index("h", hidden=True),
                Index("u", unique=True),
                Index.ttl("t", after=5),
            ],
        ),
        CollectionSpec("series", timeseries=TimeSeries("ts", granularity="hours")),
        CollectionSpec("capped", capped_size=8192, capped_max=5),
        CollectionSpec("clustered", clustered=True, expire_after=10),
        CollectionSpec("images", pre_and_post_images=False),
        CollectionSpec("validated", validator=Validator({"a": 1}, action="warn")),
    )
    commands.clear()
    done = new.apply()
    assert {name for name in commands.names if name not in READS} == {"collMod"}
    assert set(kinds(done)) == {"change collection", "change index"}
    assert listed(db, "c") == {
        "at_1": {"key": SON({"at": 1}), "expireAfterSeconds": 90},
        "h_1": {"key": SON({"h": 1}), "hidden": True},
        "u_1": {"key": SON({"u": 1}), "unique": True},
        "t_1": {"key": SON({"t": 1}), "expireAfterSeconds": 5},
    }
    assert not new.plan()


def test_a_replaced_index_is_there_until_the_new_one_is(db: Any, commands: Any) -> None:
    """The new one is built under a name of its own, then the old one is hidden, and then dropped."""
    db.c.insert_one({"a": 1})
    db.c.create_index("a")
    db.c.create_index("b", name="theirs")
    bound = schema(db, CollectionSpec("c", indexes=[Index("a", where={"b": 1})]))
    commands.clear()
    done = bound.apply()
    sent = [
        (name, command.get("index") or command["indexes"][0]["name"])
        for name, command in commands.sent
        if name not in READS
    ]
    assert sent == [
        ("createIndexes", "a_1_2"),
        ("collMod", {"name": "a_1", "hidden": True}),
        ("dropIndexes", "a_1"),
    ]
    assert kinds(done) == ["create index", "hide index", "drop index"]
    assert "built beside 'a_1', which it replaces" in done.changes[0].risk
    assert "not used on this server since" in done.changes[2].risk
    assert listed(db, "c").keys() == {"a_1_2", "theirs"}


def test_what_is_replaced_may_stay_hidden(db: Any) -> None:
    """With drop=False the old one is hidden and stays, and the next call that drops finishes it."""
    db.c.create_index("a")
    bound = schema(db, CollectionSpec("c", indexes=[Index("a", sparse=True)]))
    bound.apply(drop=False)
    assert listed(db, "c")["a_1"] == {"key": SON({"a": 1}), "hidden": True}
    plan = bound.plan()
    assert kinds(plan) == ["drop index"]
    assert bound.apply(plan, drop=False).changes == ()
    bound.apply(plan)
    assert listed(db, "c").keys() == {"a_1_2"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Index.ttl("a", after=5), Index("a")),
        (Index(("a", "text")), Index(("a", "text"), weights={"a": 3})),
        (Index(("a", "text")), Index(("b", "text"), where={"c": 1})),
        (Index(("a", "text")), Index("p", ("a", "text"), default_language="german")),
    ],
)
def test_where_the_server_takes_no_second_one_the_old_one_goes_first(db: Any, old: Index, new: Index) -> None:
    """Indexes that cannot stand side by side are replaced, and the plan says what that risks."""
    schema(db, CollectionSpec("c", indexes=[old])).apply()
    bound = schema(db, CollectionSpec("c", indexes=[new]))
    plan = bound.plan()
    assert kinds(plan) == ["replace index"]
    assert "goes first: until the new one is built, queries read more" in plan.changes[0].risk
    bound.apply(plan)
    assert len(listed(db, "c")) == 1
    assert not bound.plan()


def test_a_unique_index_that_deletes_is_replaced_by_one_that_does_not(db: Any) -> None:
    """The old one goes first, and the plan says what is taken until the new one is there."""
    db.c.create_index("a", unique=True, expireAfterSeconds=5)
    bound = schema(db, CollectionSpec("c", indexes=[Index("a", unique=True)]))
    plan = bound.plan()
    assert kinds(plan) == ["replace index"]
    assert "nothing is deleted by it any more, and equal values are taken" in plan.changes[0].risk
    bound.apply(plan)
    (index,) = listed(db, "c").values()
    assert index == {"key": SON({"a": 1}), "unique": True}


def test_an_index_is_known_by_what_it_does(db: Any) -> None:
    """An index under any name is the one of the spec; a name that the spec gives and that is another is told."""
    db.c.create_index(
        [("a", 1)], name="whatever", partialFilterExpression={"c": {"$eq": 1.0}, "b": {"$lt": 5, "$gt": 1}}
    )
    index = Index("a", where={"$and": [{"b": {"$gt": 1}}, {"b": {"$lt": 5}}], "c": 1}, name="mine")
    plan = schema(db, CollectionSpec("c", indexes=[index])).plan()
    assert not plan
    assert codes(plan) == ["index-name"]


def test_indexes_of_others_stay(db: Any) -> None:
    """What no spec names is told and stays, unless it is to go: all of it, or what is named."""
    db.c.create_index("x")
    db.c.create_index("y")
    db.others.create_index("z")
    bound = schema(db, CollectionSpec("c", indexes=[Index("a")]))
    done = bound.apply()
    assert codes(done) == ["unknown-index", "unknown-index"]
    assert listed(db, "c").keys() == {"a_1", "x_1", "y_1"}
    bound.apply(drop_unknown=["c.x_1"])
    assert listed(db, "c").keys() == {"a_1", "y_1"}
    plan = bound.plan(drop_unknown=True)
    bound.apply(plan)
    assert listed(db, "c").keys() == {"a_1"}
    assert listed(db, "others").keys() == {"z_1"}


def test_advice(db: Any) -> None:
    """Indexes that begin another, that no query uses, and that may refuse a second null are named, and left."""
    spec = CollectionSpec(
        "c",
        indexes=[Index("a"), Index("a", "b"), Index("used"), Index("mail", unique=True)],
        validator=Validator(
            {"$jsonSchema": {"properties": {"mail": {"bsonType": ["string", "null"]}}, "required": ["mail"]}}
        ),
    )
    bound = schema(db, spec)
    bound.apply()
    db.c.find_one({"used": 1})
    plan = bound.plan(usage=True)
    assert not plan
    found = {(finding.code, finding.evidence.partition(" ")[0]) for finding in plan.findings}
    assert found == {
        ("redundant-index", "Index('a')"),
        ("unique-nullable", "Index('mail')"),
        ("unused-index", "Index('a')"),
        ("unused-index", "Index('a',"),
    }


def test_a_search_index_is_told_to_be_unavailable(db: Any) -> None:
    """Where the server has no Atlas Search, a plan says so and changes nothing; everything else is applied."""
    bound = schema(db, CollectionSpec("c", indexes=[Index("a")], search_indexes=[SearchIndex()]))
    done = bound.apply()
    assert codes(done) == ["search-unavailable"]
    assert kinds(done) == ["create collection", "create index"]
    assert codes(bound.verify()) == ["search-unavailable"]


# Others, and interruptions ---------------------------------------------------------------------------------------

BEFORE = SchemaSpec(
    [
        CollectionSpec("c", indexes=[Index("a"), Index.ttl("at", after=5), Index(("t", "text")), Index("u")]),
        CollectionSpec("series", timeseries=TimeSeries("ts")),
    ]
)
AFTER = SchemaSpec(
    [
        CollectionSpec(
            "c",
            indexes=[
                Index("a", sparse=True),
                Index("at"),
                Index(("t", "text"), weights={"t": 2}),
                Index("u", unique=True),
                Index("n", unique=True),
            ],
            validator=ADULT,
        ),
        CollectionSpec("series", timeseries=TimeSeries("ts", granularity="hours", expire_after=60)),
        CollectionSpec("new", indexes=[Index("a"), Index(("b", "hashed"))]),
        CollectionSpec("capped", capped_size=4096),
    ]
)


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("starts", ["empty", "changed"])
def test_many_apply_at_once(db: Any, starts: str, planned: bool) -> None:
    """Of many that apply the same schema, or one plan, at the same moment all succeed: the database is what it says."""
    if starts == "changed":
        Schema(db, BEFORE).apply()
    db.c.insert_many([{"age": 18 + one, "u": one, "n": one} for one in range(50)])
    plan = Schema(db, AFTER).plan() if planned else None

    def apply(_: int) -> bool:
        Schema(db, AFTER).apply(plan)
        return True

    report = race_threads(apply, times=12, concurrency=6)
    report.raise_errors()
    Schema(db, AFTER).verify()
    assert len(listed(db, "c")) == 5


def test_a_plan_that_is_interrupted_is_finished_by_the_next(db: Any) -> None:
    """Wherever a call ends, the next one does what is left, and both together what one would have done."""
    total = None
    number = 0
    while total is None or number < total:
        number += 1
        for name in ("c", "series", "new", "capped"):
            db.drop_collection(name)
        Schema(db, BEFORE).apply()

        def stop(progress: SchemaProgress, last: int = number) -> None:
            if progress.state == "done" and progress.number >= last:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            Schema(db, AFTER).apply(on_progress=stop)
        left = Schema(db, AFTER).plan()
        total = total or number + len(left.changes)
        Schema(db, AFTER).apply()
        Schema(db, AFTER).verify()
        assert len(listed(db, "c")) == 5
    assert total > 8


def test_a_plan_is_what_is_done(db: Any) -> None:
    """Of a plan that was looked at, what is done meanwhile is left out, and what has come up since is refused."""
    bound = schema(db, CollectionSpec("c", indexes=[Index("a"), Index("b")]))
    plan = bound.plan()
    db.c.create_index("a")
    done = bound.apply(plan)
    assert [change.what for change in done.changes] == ["Index('b')"]
    db.c.drop_index("a_1")
    db.c.create_index("a", expireAfterSeconds=5)
    with pytest.raises(SchemaDrift) as drift:
        bound.apply(plan)
    assert kinds(drift.value.plan) == ["replace index"]
    assert "expireAfterSeconds" in listed(db, "c")["a_1"]


def test_progress(db: Any) -> None:
    """Each change is told when it starts and when it is done, with its number; a listener that waits is waited for."""
    db.c.insert_one({"a": 1})
    told: list[SchemaProgress] = []

    def listen(progress: SchemaProgress) -> None:
        told.append(progress)

    done = schema(db, CollectionSpec("c", indexes=[Index("a"), Index("b")]), CollectionSpec("d")).apply(
        on_progress=listen
    )
    seen = [(one.change, one.number, one.total, one.state) for one in told if one.state != "running"]
    first, second, third = done.changes
    assert first.kind is SchemaChangeKind.CREATE_COLLECTION
    assert seen == [
        (first, 1, 3, "started"),
        (first, 1, 3, "done"),
        (second, 2, 3, "started"),
        (third, 3, 3, "started"),
        (second, 2, 3, "done"),
        (third, 3, 3, "done"),
    ]


def test_merging_stops_at_its_limit(db: Any) -> None:
    """No more documents go than the limit, the verdict says that there are more, and the next call goes on."""
    db.c.insert_many([{"_id": one, "a": one % 3, "tags": [one % 2]} for one in range(30)])
    index = Index("a", unique=True)
    bound = schema(db, CollectionSpec("c", indexes=[index]))
    first = bound.merge_duplicates("c", index, keep=[("_id", 1)], limit=20)
    assert not first
    assert len(first.removed) == 20
    second = bound.merge_duplicates("c", index, keep=[("_id", 1)])
    assert second
    assert [one["_id"] for one in db.c.find().sort("_id", 1).to_list(None)] == [0, 1, 2]
    assert {one["_id"] for one in (*first.removed, *second.removed)} == set(range(3, 30))
    assert second.to_dict()["complete"]


@pytest.mark.parametrize(
    ("index", "documents", "left"),
    [
        (Index("a", unique=True), [{}, {"a": None}, {"a": 1}], [0, 2]),
        (Index("a", unique=True, sparse=True), [{}, {"a": None}, {}, {"a": None}], [0, 1, 2]),
        (Index("a", unique=True, where={"b": 1}), [{"a": 1}, {"a": 1, "b": 1}, {"a": 1, "b": 1}], [0, 1]),
        (
            Index("a", unique=True, collation={"locale": "en", "strength": 2}),
            [{"a": "x"}, {"a": "X"}, {"a": "y"}],
            [0, 2],
        ),
        (Index("a", "b.c", unique=True), [{"a": 1, "b": {"c": 1}}, {"a": 1, "b": [{"c": 1}]}, {"a": 1}], [0, 2]),
        (
            Index("a", unique=True),
            [{"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 2.0}}, {"a": {"c": 2, "b": 1}}],
            [0, 2],
        ),
    ],
)
def test_merging_takes_what_the_index_would_refuse(
    db: Any, index: Index, documents: list[dict[str, Any]], left: list[int]
) -> None:
    """What goes is what the index could not have beside what stays, and nothing else; then it can be built."""
    db.c.insert_many([{"_id": number, **one} for number, one in enumerate(documents)])
    schema(db, CollectionSpec("c", indexes=[index])).merge_duplicates("c", index, keep=[("_id", 1)])
    assert [one["_id"] for one in db.c.find().sort("_id", 1).to_list(None)] == left
    db.c.create_index(index.keys, **index.options)


def test_merging_in_lists(db: Any) -> None:
    """A document that shares one of several values goes once, and one of each value stays."""
    db.c.insert_many([{"_id": 1, "a": [1, 2]}, {"_id": 2, "a": [2, 3]}, {"_id": 3, "a": 3}, {"_id": 4}, {"_id": 5}])
    index = Index("a", unique=True)
    schema(db, CollectionSpec("c", indexes=[index])).merge_duplicates("c", index, keep=[("_id", 1)])
    left = [one["_id"] for one in db.c.find().sort("_id", 1).to_list(None)]
    assert left in ([1, 3, 4], [1, 4])
    db.c.create_index("a", unique=True)


LOOSE = Index("a", unique=True, collation={"locale": "en", "strength": 2})


@pytest.mark.parametrize(
    ("index", "keep", "documents", "left"),
    [
        # ids that the index's collation finds equal
        (LOOSE, ("r", -1), [{"_id": "bob", "a": "x", "r": 1}, {"_id": "Bob", "a": "X", "r": 0}], ["bob"]),
        (LOOSE, ("r", -1), [{"_id": "bob", "a": "x", "r": 0}, {"_id": "Bob", "a": "X", "r": 1}], ["Bob"]),
        (LOOSE, ("r", -1), [{"_id": one, "a": "x", "r": n} for n, one in enumerate(["zed", "Bob", "bob"])], ["bob"]),
        # nothing goes for what goes itself
        (
            Index("a", unique=True),
            ("r", 1),
            [{"_id": 1, "a": ["y", "x"], "r": 1}, {"_id": 2, "a": ["y"], "r": 2}, {"_id": 3, "a": ["x"], "r": 0}],
            [2, 3],
        ),
        (
            Index("a", unique=True),
            ("r", 1),
            [{"_id": 1, "a": ["x", "y"], "r": 1}, {"_id": 2, "a": ["x"], "r": 2}, {"_id": 3, "a": ["y"], "r": 0}],
            [2, 3],
        ),
        # a value that no filter finds, null of a list
        (Index("a.b.c", unique=True), ("_id", 1), [{"_id": 0, "a": {"b": [1]}}, {"_id": 1, "a": {"b": [1]}}], [0]),
        # a list has what is equal once; fields that are called as those of the pipeline
        (LOOSE, ("d.n", 1), [{"_id": 0, "a": ["x", "X"], "d": [{"n": 2}, {"n": 3}]}], [0]),
        (LOOSE, ("d.n", 1), [{"_id": n, "a": "x", "d": [{"n": one}], "k0": 1} for n, one in enumerate([3, 2])], [1]),
        (
            Index("a", unique=True, where={"b.c": 1}),
            ("_id", -1),
            [{"_id": n, "a": 1, "b": {"c": n}} for n in (0, 1)],
            [0, 1],
        ),
    ],
)
def test_which_documents_stay(
    db: Any, index: Index, keep: tuple[str, int], documents: list[dict[str, Any]], left: list[Any]
) -> None:
    """Documents are told apart as the collection does, and none goes for one that goes itself."""
    db.c.insert_many(documents)
    bound = schema(db, CollectionSpec("c", indexes=[index]))
    assert bool(bound.plan().blocked) == (len(left) < len(documents))
    merged = bound.merge_duplicates("c", index, keep=[keep])
    assert merged
    assert [one["_id"] for one in db.c.find().to_list(None)] == left
    assert len(merged.removed) == len(documents) - len(left)
    assert not bound.plan().blocked
    bound.apply()


def test_merging_in_a_collection_with_a_collation(db: Any) -> None:
    """Under an index of another collation than the collection's, documents are found to the letter."""
    collation = {"locale": "en", "strength": 2}
    db.create_collection("c", collation=collation)
    db.c.insert_many([{"_id": "x", "a": "v"}, {"_id": "y", "a": "v"}, {"_id": "z", "a": "V"}])
    index = Index("a", unique=True, collation={"locale": "simple"})
    bound = schema(db, CollectionSpec("c", collation=collation))
    assert [one["_id"] for one in bound.merge_duplicates("c", index, keep=[("_id", -1)]).removed] == ["x"]
    merged = bound.merge_duplicates("c", Index("a", unique=True), keep=[("_id", 1)])
    assert [one["_id"] for one in merged.removed] == ["z"]


def test_no_value_is_lost_to_writes_that_change_the_order(db: Any) -> None:
    """While writers turn the order around, a merger removes nothing for what it takes away itself."""
    index = Index("a", unique=True)
    for _ in range(4):
        db.c.delete_many({})
        db.c.insert_many([{"_id": one, "a": one // 2, "r": one % 2} for one in range(40)])

        def turn_or_merge(number: int) -> None:
            if number == 0:
                schema(db, CollectionSpec("c")).merge_duplicates("c", index, keep=[("r", 1)])
                return
            for _ in range(8):
                db.c.update_many({}, [{"$set": {"r": {"$subtract": [1, "$r"]}}}])

        race_threads(turn_or_merge, times=2).raise_errors()
        assert sorted(db.c.distinct("a")) == list(range(20))


@pytest.mark.parametrize("change", [{"$set": {"a": 2}}, {"$set": {"r": 9}}, None])
def test_nothing_goes_for_what_is_not_there_any_more(db: Any, change: dict[str, Any] | None) -> None:
    """If what should stay is removed, or has another value or rank, after it was read, the other one stays."""
    db.c.insert_many([{"_id": 0, "a": 1, "r": 0}, {"_id": 1, "a": 1, "r": 1}])
    bound = schema(db, CollectionSpec("c"))
    call = bound._plan.merge_duplicates("c", Index("a", unique=True), keep=[("r", 1)], limit=1)
    (read,) = bound._plan.again(call, None)
    pairs = [bound._send(read)]
    (db.c.delete_one({"_id": 0}) if change is None else db.c.update_one({"_id": 0}, change))
    looks = bound._plan.again(call, pairs)
    again = bound._plan.again(call, [bound._send(look) for look in looks])
    call.steps.close()
    assert [next(iter(step.command)) for step in again] == ["aggregate"]
    assert db.c.find_one({"_id": 1}) is not None


def test_mergers_that_keep_the_same_work_at_once(db: Any) -> None:
    """Several calls with the same order, while nobody else writes, leave one document of each value: the first."""
    db.c.insert_many([{"_id": one, "a": [one // 3, 100 + one // 4], "r": -one} for one in range(60)])

    def merge(_: int) -> Any:
        return schema(db, CollectionSpec("c")).merge_duplicates("c", index, keep=[("r", 1)])

    index = Index("a", unique=True)
    report = race_threads(merge, times=3)
    report.raise_errors()
    left = {one["_id"] for one in db.c.find()}
    first: set[int] = set()
    taken: set[int] = set()
    for one in reversed(range(60)):
        if not taken & {one // 3, 100 + one // 4}:
            taken |= {one // 3, 100 + one // 4}
            first.add(one)
    assert left == first
    db.c.create_index("a", unique=True)


def test_what_goes_for_what_another_takes_away_is_stored_again(db: Any, client: Any) -> None:
    """To the letter: also what no driver reads, such as a date past the last year of Python, and a type of old."""
    raw = (
        encode({"_id": 1, "a": 1})[:-1]
        + b"\x09d\x00"
        + (2**60).to_bytes(8, "little")
        + b"\x0es\x00\x02\x00\x00\x00x\x00\x00"
    )
    raw = len(raw).to_bytes(4, "little") + raw[4:]
    db.c.insert_one({"_id": 0, "a": 1})
    db.c.insert_one(RawBSONDocument(raw))
    bound = schema(db, CollectionSpec("c"))
    call = bound._plan.merge_duplicates("c", Index("a", unique=True), keep=[("_id", 1)], limit=1)
    answers = None
    while (steps := bound._plan.again(call, answers)) and "findAndModify" not in steps[0].command:
        answers = [bound._send(step) for step in steps]
    answers = [bound._send(step) for step in steps]
    db.c.delete_one({"_id": 0})  # (as another call does that keeps the other one)
    while steps := bound._plan.again(call, answers):
        answers = [bound._send(step) for step in steps]
    assert call.result
    assert call.result.removed == ()
    stored = db.c.with_options(codec_options=CodecOptions(document_class=RawBSONDocument))
    assert stored.find_one({"_id": 1}).raw == raw


def removed_for_what_is_gone(db: Any, document: dict[str, Any]) -> tuple[Schema, Any, list[Any]]:
    """Let a merger remove a document for one that another call takes away: return what it is answered to its look."""
    db.c.insert_many([{"_id": 0, "a": 1}, document])
    bound = schema(db, CollectionSpec("c"))
    call = bound._plan.merge_duplicates("c", Index("a", unique=True), keep=[("_id", 1)], limit=1)
    answers = None
    while (steps := bound._plan.again(call, answers)) and "findAndModify" not in steps[0].command:
        answers = [bound._send(step) for step in steps]
    looks = bound._plan.again(call, [bound._send(step) for step in steps])
    db.c.delete_one({"_id": 0})
    return bound, call, [bound._send(look) for look in looks]


def test_what_others_have_stored_meanwhile_is_theirs(db: Any) -> None:
    """If another document has the `_id` of one that is to be stored again, it stays as it is."""
    bound, call, answers = removed_for_what_is_gone(db, {"_id": 1, "a": 1})
    db.c.insert_one({"_id": 1, "a": 1, "theirs": True})
    while steps := bound._plan.again(call, answers):
        answers = [bound._send(step) for step in steps]
    assert call.result.removed == ()
    assert db.c.find().to_list(None) == [{"_id": 1, "a": 1, "theirs": True}]


def test_what_cannot_be_stored_again_is_an_error(db: Any) -> None:
    """If an index that was built meanwhile does not take the document, the caller is told what the server says."""
    bound, call, answers = removed_for_what_is_gone(db, {"_id": 1, "a": 1, "place": "nowhere"})
    db.c.create_index([("place", "2dsphere")])
    (storing,) = bound._plan.again(call, answers)
    assert storing.command["insert"] == "c"
    with pytest.raises(OperationFailure, match="geo keys") as refused:
        bound._plan.again(call, [bound._send(storing)])
    assert refused.value.code == refused.value.details["code"]
    assert [each["place"] for each in refused.value.details["removed"]] == ["nowhere"]
    assert db.c.count_documents({}) == 0


def test_documents_that_are_too_large_for_one_answer(db: Any, commands: Any) -> None:
    """What does not fit into an answer is read in further rounds, and no cursor is left open."""
    filler = "x" * 2_000_000
    for number in range(12):
        db.c.insert_one({"_id": number, "a": 1, "filler": filler})
    index = Index("a", unique=True, where={"a": 1})
    commands.clear()
    merged = schema(db, CollectionSpec("c")).merge_duplicates("c", index, keep=[("_id", 1)])
    assert merged
    assert sorted(one["_id"] for one in merged.removed) == list(range(1, 12))
    assert db.c.distinct("_id") == [0]
    assert "killCursors" in commands.names
    stages = [{"$currentOp": {"allUsers": True, "idleCursors": True}}, {"$match": {"ns": f"{db.name}.c"}}]
    answer = db.client.admin.command({"aggregate": 1, "pipeline": stages, "cursor": {}})
    assert [one for one in answer["cursor"]["firstBatch"] if one["type"] == "idleCursor"] == []


def test_mergers_that_keep_what_others_remove_lose_nothing(db: Any) -> None:
    """Two calls with opposite orders at once: of each value at least one document is left."""
    index = Index("a", unique=True)
    for _ in range(4):
        db.c.delete_many({})
        db.c.insert_many([{"_id": one, "a": one // 2, "r": one % 2} for one in range(200)])

        def merge(number: int) -> Any:
            return schema(db, CollectionSpec("c")).merge_duplicates("c", index, keep=[("r", 1 - 2 * number)])

        report = race_threads(merge, times=2)
        report.raise_errors()
        assert sorted(db.c.distinct("a")) == list(range(100))
        told = [one["_id"] for merged in report.outcomes for one in merged.removed]
        left = {one["_id"] for one in db.c.find()}
        assert len(told) == len(set(told))
        assert not left & set(told)
        assert left | set(told) == set(range(200))


def test_merging_ends_where_nothing_can_go(db: Any) -> None:
    """If what was read is never what is there, the call ends and says that there are more."""
    index = Index("a", unique=True)
    db.c.insert_many([{"_id": 0, "a": 1}, {"_id": 1, "a": 1}])
    bound = schema(db, CollectionSpec("c"))
    call = bound._plan.merge_duplicates("c", index, keep=[("_id", 1)], limit=10)
    answers, rounds = None, 0
    while steps := bound._plan.again(call, answers):
        rounds += 1
        db.c.update_many({}, {"$inc": {"a": 1}})
        answers = [bound._send(step) for step in steps]
    assert not call.result
    assert call.result.removed == ()
    assert rounds < 10
    assert db.c.count_documents({}) == 2


# Misuse ----------------------------------------------------------------------------------------------------------


def test_misuse(db: Any, commands: Any) -> None:
    """What is wrong whenever it runs is refused before anything is sent."""
    bound = schema(db, CollectionSpec("c"))
    with pytest.raises(UsageError, match="spec"):
        Schema(db, [CollectionSpec("c")])  # type: ignore[arg-type]
    for target in (db.client, db["c"]):
        with pytest.raises(UsageError, match="target"):
            Schema(target, SchemaSpec([]))
    for options in ({"drop_unknown": "c.a_1"}, {"drop_unknown": ["a_1"]}):
        with pytest.raises(UsageError, match="drop_unknown"):
            bound.plan(**options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="plan"):
        bound.apply({})  # type: ignore[arg-type]
    for arguments, problem in (
        (("d", Index("a")), "not of this schema"),
        (("c", "a"), "expected Index"),
    ):
        with pytest.raises(UsageError, match=problem):
            bound.merge_duplicates(*arguments, keep=[("_id", 1)])  # type: ignore[arg-type]
    for options in ({"keep": []}, {"keep": [("a", 1)], "limit": 0}):
        with pytest.raises(UsageError, match="|".join(options)):
            bound.merge_duplicates("c", Index("a"), **options)  # type: ignore[arg-type]
    assert commands.names == []
    plan = bound.plan()
    with pytest.raises(UsageError, match=re.escape("give drop_unknown= to plan()")):
        bound.apply(plan, drop_unknown=True)
