# Generated from tests/aio/test_join_more.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""How a join is carried out: commands, indexes, the choice of the way, transactions, time limits, models, bad input."""

from __future__ import annotations

import copy
import datetime as dt
import warnings
from dataclasses import dataclass
from typing import Any

import pytest
from bson import ObjectId
from pydantic import BaseModel, Field, ValidationError
from pymongo.errors import ExecutionTimeout, NetworkTimeout, OperationFailure
from typing_extensions import TypedDict

from mongopatterns import (
    CountOf,
    Exists,
    Join,
    JoinSpec,
    Many,
    MissingIndex,
    MissingIndexWarning,
    ObjectIdStr,
    One,
    Param,
    SumOf,
    UsageError,
    ValueOf,
)
from mongopatterns._driver_sync import settle
from mongopatterns.testing import race_threads

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
BY_ID = [("_id", 1)]
EVERY = pytest.mark.parametrize("strategy", ["batch", "lookup", "auto"])
REFRESH = 600  # seconds

ALL = JoinSpec(
    "p",
    joins=[
        One("f", local="_id", foreign="k", as_="one"),
        Many("g", local="_id", foreign="k", as_="many"),
        CountOf("f", local="_id", foreign="k", as_="count"),
        Exists("g", local="_id", foreign="k", as_="exists"),
        SumOf("g", local="_id", foreign="k", as_="sum", amount="v"),
    ],
)
MANY = JoinSpec("p", joins=[Many("f", local="_id", foreign="k")])


class Clock:
    """Stand for the monotonic clock of the calls."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("mongopatterns.joins._join_sync.monotonic", clock)
    return clock


def fill(db: Any, **collections: list[dict[str, Any]]) -> None:
    for name, documents in collections.items():
        db[name].insert_many(copy.deepcopy(documents))


def bind(db: Any, *joins: Any, strategy: str = "auto", on_missing_index: str = "ignore") -> Join:
    spec = JoinSpec("p", joins=joins)
    return Join(db, spec, strategy=strategy, on_missing_index=on_missing_index)  # type: ignore[arg-type]


# Commands ------------------------------------------------------------------------------------------------------


def test_a_call_is_a_command_for_the_parents_and_one_for_each_join(db: Any, commands: Any) -> None:
    """However many the rows: one command each by batches, one for all by lookups, and each says whose it is."""
    fill(db, p=[{"_id": n} for n in range(300)], f=[{"_id": n, "k": n % 150} for n in range(300)], g=[{"k": 1}])
    batch = Join(db, ALL, strategy="batch", on_missing_index="ignore")
    commands.clear()
    assert len(batch.find(sort=BY_ID)) == 300
    assert commands.names == ["find", "find", "find", "aggregate", "aggregate", "aggregate"]
    assert all(comment.startswith("mongopatterns.join") for comment in commands.comments)
    commands.clear()
    in_hand = [{"_id": n} for n in range(300)]
    batch.attach(in_hand)
    assert commands.names == ["find", "find", "aggregate", "aggregate", "aggregate"]
    commands.clear()
    batch.count()
    assert commands.names == ["aggregate"]
    lookup = Join(db, ALL, strategy="lookup", on_missing_index="ignore")
    commands.clear()
    assert len(lookup.find(limit=50)) == 50
    lookup.count(joined={"count": 2})
    assert commands.names == ["aggregate", "aggregate"]
    assert all(comment.startswith("mongopatterns.join") for comment in commands.comments)


def test_nothing_is_asked_for_nobody(db: Any, commands: Any) -> None:
    """Without parents, or keys, or documents to join onto, no command is sent for a join."""
    nested = Many(
        "f",
        local="a",
        foreign="k",
        joins=[One("g", local="a", foreign="k"), CountOf("g", local="a", foreign="k", as_="n")],
    )
    join = bind(db, nested, CountOf("g", local="a", foreign="k"), strategy="batch")
    assert join.find() == []
    assert commands.names == ["find"]
    fill(db, p=[{"_id": 1}, {"_id": 2, "a": None}, {"_id": 3, "a": []}])
    commands.clear()
    rows = join.find(sort=BY_ID, fields=["_id"])
    assert rows == [{"_id": n, "f": [], "g": 0} for n in (1, 2, 3)]
    assert join.attach([]) == []
    assert commands.names == ["find"]
    fill(db, f=[{"_id": 1, "k": 5}])
    db.p.insert_one({"_id": 4, "a": 5})
    commands.clear()
    rows = join.find({"_id": 4})
    assert rows == [{"_id": 4, "a": 5, "f": [{"_id": 1, "k": 5, "g": None, "n": 0}], "g": 0}]
    assert commands.names == ["find", "find", "aggregate"]


def test_an_answer_is_one_round_trip(db: Any, commands: Any) -> None:
    """Many joined documents come in one answer, without `getMore`."""
    fill(db, p=[{"_id": 1}], f=[{"k": 1} for _ in range(1000)])
    join = bind(db, Many("f", local="_id", foreign="k"), SumOf("f", local="_id", foreign="k", amount="k", as_="n"))
    commands.clear()
    (row,) = join.find()
    assert (len(row["f"]), row["n"]) == (1000, 1000)
    assert commands.names == ["find", "find", "aggregate"]


@pytest.mark.parametrize("bound", ["MAX_KEYS", "MAX_BYTES"])
def test_many_keys_are_asked_for_in_turn(db: Any, commands: Any, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """More keys than fit into a command go into several, a parent's always into one; the rows are the same."""
    keys: list[Any] = [
        "a" * 50,
        "b" * 50,
        "c" * 50,
        "d" * 50,
        1,
        True,
        None,
        ["a" * 50, "c" * 50],
        list(range(9)),
        [],
        "b" * 50,
    ]
    fill(
        db,
        p=[{"_id": n, "a": key} for n, key in enumerate(keys)],
        f=[{"_id": n, "k": key, "v": n, "d": []} for n, key in enumerate([*keys, *keys]) if key is not None],
    )
    options = {"local": "a", "foreign": "k"}
    joins = [
        One("f", as_="one", sort=[("v", -1)], **options),
        Many("f", as_="many", joins=[CountOf("p", local="k", foreign="a", as_="n")], **options),
        SumOf("f", as_="sum", amount="v", **options),
    ]
    join = bind(db, *joins, strategy="batch")
    whole = join.find(sort=BY_ID)
    monkeypatch.setattr(f"mongopatterns.joins._join_batch.{bound}", 3 if bound == "MAX_KEYS" else 400)
    commands.clear()
    assert join.find(sort=BY_ID) == whole
    asked = [
        command["filter"]["k"]["$in"] for name, command in commands.sent if name == "find" and "k" in command["filter"]
    ]
    assert len(asked) > 4
    if bound == "MAX_KEYS":
        assert all(len(each) <= 3 or set(each) >= set(range(2, 9)) for each in asked)
    rows = join.attach([{"_id": 1}, {"_id": 2, "a": "a" * 50}, {"_id": 3}])
    assert [len(row["many"]) for row in rows] == [0, 4, 0]


# Indexes -------------------------------------------------------------------------------------------------------


@EVERY
def test_indexes_are_looked_up_once_in_a_while(db: Any, commands: Any, clock: Clock, strategy: str) -> None:
    """The first call asks for the indexes of the joined collections, and one after ten minutes again."""
    fill(db, p=[{"_id": 1}], f=[{"k": 1}], g=[{"k": 1}])
    for name in "fg":
        db[name].create_index("k")
    join = Join(db, ALL, strategy=strategy)  # type: ignore[arg-type]
    commands.clear()
    join.find()
    asked = [command["listIndexes"] for name, command in commands.sent if name == "listIndexes"]
    assert sorted(asked) == ["f", "g"]
    commands.clear()
    clock.now += REFRESH - 1
    join.find()
    join.find_one()
    join.count()
    join.attach([{"_id": 1}])
    join.aggregate([])
    join.explain()
    assert list(join.stream())
    assert "listIndexes" not in commands.names
    clock.now += 2
    join.find()
    assert commands.names.count("listIndexes") == 2


def test_indexes_are_not_looked_up_for_nobody(db: Any, commands: Any) -> None:
    """Who wants no word about indexes, and has chosen the way, sends no command for them."""
    for strategy in ("batch", "lookup"):
        join = bind(db, Many("f", local="_id", foreign="k", limit=1), strategy=strategy)
        join.find()
        join.attach([{"_id": 1}])
    bind(db, Many("f", local="_id", foreign="k")).find()
    assert "listIndexes" not in commands.names


def test_a_missing_index_is_told_once(db: Any, clock: Clock) -> None:
    """A call warns at the caller's line of an index that is missing and how it is made; later calls do not."""
    fill(db, f=[{"k": 1}], g=[{"k": 1}])
    joins = [
        Many("f", local="_id", foreign="k", where={"kind": "x", "user": Param("user")}, sort=[("at", -1)]),
        CountOf("f", local="_id", foreign="k", as_="n", where={"kind": "x", "user": Param("user")}),
        One("g", local="_id", foreign="_id", joins=[One("f", local="_id", foreign="deep.k", as_="inner")]),
        One("nowhere", local="_id", foreign="k"),
    ]
    join = bind(db, *joins, on_missing_index="warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        join.find(params={"user": 1})
    told = [str(each.message) for each in caught]
    assert all(each.category is MissingIndexWarning for each in caught)
    assert {each.filename for each in caught} == {__file__}
    assert len(told) == len(set(told))
    assert any("f.k" in each and "Index('k', 'kind', 'user', ('at', -1))" in each for each in told)
    assert any("f.deep.k" in each and "Index('deep.k')" in each for each in told)
    assert not any("nowhere" in each or "g." in each for each in told)
    for finding in (each.message.finding for each in caught):  # type: ignore[union-attr]
        assert finding.code == "missing-index"
        assert finding.remedy
    join.find(params={"user": 1})
    join.attach([], params={"user": 1})
    clock.now += REFRESH + 1
    join.find(params={"user": 1})


def test_a_missing_index_is_an_error_if_so_wanted(db: Any, commands: Any, clock: Clock) -> None:
    """With "raise" nothing is read without an index, by any call; once it is made and seen, everything is."""
    fill(db, p=[{"_id": 1}], f=[{"_id": 1, "k": 1}])
    join = Join(db, MANY, on_missing_index="raise")
    commands.clear()
    for _ in range(2):
        with pytest.raises(MissingIndex, match=r"f\.k.*Index\('k'\)") as caught:
            join.find()
        assert caught.value.finding.subject == "f.k"
        with pytest.raises(MissingIndex):
            join.attach([{"_id": 1}])
        with pytest.raises(MissingIndex):
            join.aggregate([])
        with pytest.raises(MissingIndex):
            next(join.stream())
    assert set(commands.names) == {"listIndexes"}
    for collection, indexes in MANY.indexes().items():
        for index in indexes:
            db[collection].create_index(index.keys, **index.options)
    clock.now += REFRESH + 1
    assert len(join.find()) == 1
    assert join.explain().findings == ()


def test_indexes_that_serve_are_enough(db: Any) -> None:
    """Any index that leads to the keys will do, such as one with more paths; those that the spec names do."""
    fill(db, f=[{"k": 1}])
    db.f.create_index([("k", -1), ("more", 1)])
    Join(db, MANY, on_missing_index="raise").find()
    Join(db, MANY).find()


def test_a_user_who_may_not_see_indexes(db: Any, mongopatterns_server: Any) -> None:
    """Who may not list indexes is joined for all the same, without a warning; other errors are errors."""
    fill(db, p=[{"_id": 1}], f=[{"_id": 1, "k": 1}])
    join = bind(db, Many("f", local="_id", foreign="k", limit=1), on_missing_index="raise")
    refused = {"failCommands": ["listIndexes"], "errorCode": 13, "namespace": f"{db.name}.f"}
    with mongopatterns_server.fail_point("failCommand", data=refused):
        assert join.find() == [{"_id": 1, "f": [{"_id": 1, "k": 1}]}]
        explanation = join.explain()
        assert explanation.findings == ()
        assert [(choice.strategy, choice.index) for choice in explanation.joins] == [("batch", None)]
    broken = {**refused, "errorCode": 8}
    other = bind(db, Many("f", local="_id", foreign="k"), on_missing_index="warn")
    with mongopatterns_server.fail_point("failCommand", data=broken), pytest.raises(OperationFailure):
        other.find()
    with pytest.warns(MissingIndexWarning):
        other.find()


def test_an_error_of_a_join_is_an_error(db: Any, mongopatterns_server: Any) -> None:
    """Not being allowed to read what is joined is no reason to join nothing."""
    fill(db, p=[{"_id": 1}], f=[{"_id": 1, "k": 1}])
    refused = {"failCommands": ["find", "aggregate"], "errorCode": 13, "namespace": f"{db.name}.f"}
    join = bind(db, Many("f", local="_id", foreign="k"))
    with mongopatterns_server.fail_point("failCommand", data=refused), pytest.raises(OperationFailure) as caught:
        join.find()
    assert caught.value.code == 13


# The way -------------------------------------------------------------------------------------------------------


def test_auto_looks_up_where_it_pays(db: Any) -> None:
    """Only what an index leads to, and of which the first are wanted, is looked up; and what filters rows is."""
    fill(db, p=[{"_id": 1}], f=[{"k": 1} for _ in range(30)], g=[{"k": 1} for _ in range(30)])
    db.f.create_index("k")
    db.f.create_index("once", unique=True, sparse=True)
    joins = {
        "one": One("f", local="_id", foreign="k", as_="one"),
        "one sorted": One("f", local="_id", foreign="k", as_="one sorted", sort=[("at", -1)]),
        "one sorted, no index": One("g", local="_id", foreign="k", as_="one sorted, no index", sort=[("at", -1)]),
        "one by id": One("f", local="_id", foreign="_id", as_="one by id", sort=[("at", -1)]),
        "many": Many("f", local="_id", foreign="k", as_="many", sort=[("at", -1)]),
        "many cut": Many("f", local="_id", foreign="k", as_="many cut", limit=2),
        "many cut, no index": Many("g", local="_id", foreign="k", as_="many cut, no index", limit=2),
        "count": CountOf("f", local="_id", foreign="k", as_="count"),
    }
    cut = {"one sorted", "many cut"}
    join = bind(db, *joins.values())
    ways = {choice.name: choice for choice in join.explain().joins}
    assert list(ways) == list(joins)
    assert {name for name, choice in ways.items() if choice.strategy == "lookup"} == cut
    assert {choice.strategy for choice in ways.values()} == {"lookup", "batch"}
    assert all(choice.why for choice in ways.values())
    assert ways["many cut"].index == "k_1"
    assert ways["many cut, no index"].index is None
    assert [ways[name].collection for name in ("one", "many cut, no index")] == ["f", "g"]
    filtered = {choice.name: choice for choice in join.explain(joined={"count": 1}).joins}
    assert {name for name, choice in filtered.items() if choice.strategy == "lookup"} == {*cut, "count"}


def test_explain_tells_what_would_be_done(db: Any, commands: Any) -> None:
    """It asks about collections alone, warns of nothing, and what it tells is what `find` then sends."""
    fill(db, p=[{"_id": 1, "a": 5}], f=[{"k": 5} for _ in range(300)], g=[{"k": 5}])
    db.f.create_index("k")
    joins = [
        Many("f", local="a", foreign="k", limit=1, where={"user": Param("user")}),
        CountOf("g", local="a", foreign="k"),
    ]
    page: dict[str, Any] = {"params": {"user": "u"}, "sort": [("_id", -1)], "skip": 1, "limit": 3, "fields": ["a"]}
    join = bind(db, *joins, on_missing_index="warn")
    commands.clear()
    explained = join.explain({"a": 5}, **page)
    asked = [sent["pipeline"] for name, sent in commands.sent if name != "listIndexes"]
    assert asked == [[{"$collStats": {"count": {}}}]] * 2
    assert [(finding.code, finding.subject) for finding in explained.findings] == [("missing-index", "g.k")]
    assert [(collection, method) for collection, method, _ in explained.commands] == [
        ("p", "aggregate"),
        ("g", "aggregate"),
    ]
    commands.clear()
    with pytest.warns(MissingIndexWarning, match="g.k"):
        join.find({"a": 5}, **page)
    (_, sent), *_ = commands.sent
    assert sent["pipeline"] == explained.commands[0][2]["pipeline"]


def test_the_first_rows_are_found_by_an_index(db: Any, commands: Any) -> None:
    """Where auto looks up, the server does not send all that belongs to a parent: the answer is small."""
    fill(db, p=[{"_id": 1}], f=[{"k": 1, "n": n, "text": "x" * 1000} for n in range(500)])
    db.f.create_index([("k", 1), ("n", -1)])
    join = bind(db, One("f", local="_id", foreign="k", sort=[("n", -1)]))
    commands.clear()
    (row,) = join.find()
    assert row["f"]["n"] == 499
    assert sum(commands.reply_bytes) < 10_000


def test_calls_side_by_side(db: Any) -> None:
    """One object serves many calls at a time."""
    fill(db, p=[{"_id": n} for n in range(20)], f=[{"_id": n, "k": n} for n in range(20)])
    join = bind(db, Many("f", local="_id", foreign="k", limit=1))
    raced = race_threads(lambda n: join.find({"_id": n}), times=20)
    raced.raise_errors()
    assert raced.outcomes == [[{"_id": n, "f": [{"_id": n, "k": n}]}] for n in range(20)]


# Sessions and time ---------------------------------------------------------------------------------------------


@EVERY
def test_a_call_reads_within_a_transaction(client: Any, db: Any, commands: Any, strategy: str) -> None:
    """What a transaction wrote is joined within it and nowhere else; indexes are not listed in it."""
    fill(db, p=[{"_id": 1}], f=[{"_id": 1, "k": 1}])
    db.f.create_index("k")
    part = Many("f", local="_id", foreign="k", limit=9)
    join = bind(db, part, strategy=strategy, on_missing_index="warn")
    commands.clear()
    with settle(client.start_session()) as session:
        settle(session.start_transaction())
        db.p.insert_one({"_id": 2}, session=session)
        db.f.insert_one({"_id": 2, "k": 2}, session=session)
        wanted = [{"_id": 1, "f": [{"_id": 1, "k": 1}]}, {"_id": 2, "f": [{"_id": 2, "k": 2}]}]
        assert join.find(sort=BY_ID, session=session) == wanted
        assert join.find_one({"_id": 2}, session=session) == wanted[1]
        assert join.attach([{"_id": 2}], session=session) == wanted[1:]
        assert join.aggregate([{"$sort": {"_id": 1}}], session=session) == wanted
        assert join.count(session=session) == 2
        assert list(join.stream(sort=BY_ID, session=session)) == wanted
        assert join.find(sort=BY_ID) == wanted[:1]
        session.abort_transaction()
    assert join.find(sort=BY_ID) == wanted[:1]
    listed = [command for name, command in commands.sent if name == "listIndexes"]
    assert sorted(command["listIndexes"] for command in listed) == (["f", "p"] if strategy == "auto" else ["f"])
    assert all("txnNumber" not in command for command in listed)


@EVERY
def test_a_call_keeps_its_time(db: Any, mongopatterns_server: Any, strategy: str) -> None:
    """A timeout bounds the whole call; a bad one is refused."""
    fill(db, p=[{"_id": 1}], f=[{"_id": 1, "k": 1}])
    join = bind(db, Many("f", local="_id", foreign="k"), strategy=strategy)
    block = {"failCommands": ["find", "aggregate"], "blockConnection": True, "blockTimeMS": 2000}
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=block),
        pytest.raises((NetworkTimeout, ExecutionTimeout)),
    ):
        join.find(timeout=0.2)
    assert len(join.find(timeout=60)) == 1
    for wrong in (0, -1, "1", True):
        with pytest.raises(UsageError, match="timeout"):
            join.find(timeout=wrong)  # type: ignore[arg-type]


# Values --------------------------------------------------------------------------------------------------------


class Response(BaseModel):
    """What is joined, as a model."""

    id: ObjectIdStr = Field(alias="_id")
    at: dt.datetime


class Question(BaseModel):
    """A row, as a model."""

    id: int = Field(alias="_id")
    response: Response | None
    all: list[Response]
    count: int
    status: str


@dataclass
class Joined:
    """What is joined, as a dataclass."""

    at: dt.datetime


@dataclass
class Row:
    """A row, as a dataclass."""

    response: Joined | None
    all: list[Joined]
    count: int


class Typed(TypedDict):
    """A row, as a typed dict."""

    count: int


@EVERY
def test_rows_become_models(db: Any, strategy: str) -> None:
    """Rows are decoded with what is joined into models, dataclasses and typed dicts; what does not fit is an error."""
    made = ObjectId()
    fill(db, p=[{"_id": 1}, {"_id": 2}], f=[{"_id": made, "k": 1, "at": NOON}])
    options = {"local": "_id", "foreign": "k"}
    joins = [One("f", as_="response", **options), Many("f", as_="all", **options), CountOf("f", as_="count", **options)]
    spec = JoinSpec("p", joins=joins, computed={"status": ValueOf("response.status", default="none")})
    join = Join(db, spec, strategy=strategy, on_missing_index="ignore")  # type: ignore[arg-type]
    first, second = join.find(sort=BY_ID, model=Question)
    response = Response(_id=str(made), at=NOON)
    assert first == Question(_id=1, response=response, all=[response], count=1, status="none")
    assert second == Question(_id=2, response=None, all=[], count=0, status="none")
    row = Row(response=Joined(at=NOON), all=[Joined(at=NOON)], count=1)
    assert join.find_one({"_id": 1}, model=Row) == row
    assert join.attach([{"_id": 1}], model=Row) == [row]
    assert join.aggregate([{"$match": {"_id": 1}}], model=Row) == [row]
    assert list(join.stream({"_id": 1}, model=Row)) == [row]
    assert join.find(sort=BY_ID, model=Typed) == [{"count": 1}, {"count": 0}]
    assert join.find_one({"_id": 7}, model=Question) is None
    db.f.update_one({}, {"$set": {"at": "never"}})
    with pytest.raises(ValidationError):
        join.find(model=Question)
    with pytest.raises(UsageError, match="model"):
        join.find(model=5)  # type: ignore[arg-type]


@EVERY
def test_dates_have_their_zone(db: Any, strategy: str) -> None:
    """Dates of parents and of what is joined are aware; those of documents in hand are keys with or without zone."""
    fill(db, p=[{"_id": 1, "at": NOON}], f=[{"_id": 1, "k": NOON}])
    joins = [One("f", local="at", foreign="k"), CountOf("f", local="at", foreign="k", as_="n")]
    join = bind(db, *joins, strategy=strategy)
    assert join.find() == [{"_id": 1, "at": NOON, "f": {"_id": 1, "k": NOON}, "n": 1}]
    naive = NOON.replace(tzinfo=None)
    elsewhere = NOON.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=30)))
    for at in (naive, elsewhere, NOON.replace(microsecond=999)):
        (row,) = join.attach([{"at": at}])
        assert (row["f"], row["n"]) == ({"_id": 1, "k": NOON}, 1)


@EVERY
def test_names_that_look_like_something_else(db: Any, strategy: str) -> None:
    """Collections, fields and rows may have names of any kind that a path can have."""
    hostile = "a b-$x", "ключ", "__proto__", "constructor", "'; --"
    for n, name in enumerate(hostile):
        fill(db, **{f"c{n}": [{"_id": 1, name: {name: 5}}], f"d{n}. é": [{"_id": 1, name: [{name: 5, "v": 2}]}]})
        path = f"{name}.{name}"
        joins = [
            One(f"d{n}. é", local=path, foreign=path, as_=name, fields=[path]),
            SumOf(f"d{n}. é", local=path, foreign=path, as_=f"{name}!", amount=f"{name}.v"),
            Many(f"d{n}. é", local=path, foreign=path, as_="n", sort=[(path, -1)], where={path: 5}, limit=1),
        ]
        spec = JoinSpec(f"c{n}", joins=joins, computed={f"{name}?": ValueOf(f"{path}.{name}")})
        join = Join(db, spec, strategy=strategy, on_missing_index="ignore")  # type: ignore[arg-type]
        joined = {"_id": 1, name: [{name: 5}]}
        whole = {"_id": 1, name: [{name: 5, "v": 2}]}
        assert join.find() == [{"_id": 1, name: joined, f"{name}!": 0, "n": [whole], f"{name}?": [5]}]


# Bad input -----------------------------------------------------------------------------------------------------

WRONG: list[tuple[str, Any]] = [
    ("filter", "x"),
    ("filter", [("a", 1)]),
    ("joined", "x"),
    ("joined", [1]),
    ("sort", "n"),
    ("sort", {"n": 1}),
    ("sort", [("n",)]),
    ("sort", [("n", 2)]),
    ("sort", [("n", True)]),
    ("sort", [("", 1)]),
    ("sort", [("$n", 1)]),
    ("sort", [("n", 1), ("n", -1)]),
    ("sort", ["n"]),
    ("sort", 5),
    ("skip", -1),
    ("skip", "1"),
    ("skip", True),
    ("skip", 1.0),
    ("skip", None),
    ("limit", -1),
    ("limit", 2**63),
    ("limit", True),
    ("limit", None),
    ("fields", "n"),
    ("fields", {"n": 0}),
    ("fields", {"n": {"$slice": 1}}),
    ("fields", ["$n"]),
    ("fields", ["a", "a.b"]),
    ("fields", {"_id": 0}),
    ("fields", []),
    ("fields", 5),
    ("fields", [5]),
    ("params", 5),
    ("params", {"x": 1}),
]


@pytest.mark.parametrize(("argument", "value"), WRONG, ids=str)
def test_bad_arguments_are_named(db: Any, commands: Any, argument: str, value: Any) -> None:
    """A bad argument is refused by name, before anything is sent."""
    join = bind(db, Many("f", local="_id", foreign="k"), on_missing_index="warn")
    if argument == "fields" and value == []:
        assert join.find(fields=[]) == []  # `_id` alone, as PyMongo takes it
        return
    with pytest.raises(UsageError, match=f"^{argument}:"):
        join.find(**{argument: value})
    with pytest.raises(UsageError, match=f"^{argument}:"):
        join.explain(**{argument: value})
    if argument != "limit":
        with pytest.raises(UsageError, match=f"^{argument}:"):
            join.find_one(**{argument: value})
    if argument not in ("limit", "skip"):
        with pytest.raises(UsageError, match=f"^{argument}:"):
            next(join.stream(**{argument: value}))
    assert commands.sent == []


def test_what_is_no_list_of_documents_or_stages(db: Any, commands: Any) -> None:
    """Documents in hand are a list of documents, and stages one of stages."""
    join = bind(db, Many("f", local="_id", foreign="k"), on_missing_index="warn")
    for wrong in ({"_id": 1}, 5, None, "x", [5], [None], [[("_id", 1)]], iter([{"_id": 1}])):
        with pytest.raises(UsageError, match=r"^documents:"):
            join.attach(wrong)  # type: ignore[arg-type]
    for wrong in ({"$match": {}}, 5, None, "x", ["x"]):
        with pytest.raises(UsageError, match=r"^stages:"):
            join.aggregate(wrong)  # type: ignore[arg-type]
    assert commands.sent == []


@EVERY
def test_stages_that_write_are_refused(db: Any, commands: Any, strategy: str) -> None:
    """A join reads: stages of the caller's own that write are bad input, whatever way it goes."""
    join = bind(db, Many("f", local="_id", foreign="k"), strategy=strategy)
    for stage in ({"$out": "other"}, {"$merge": {"into": "other"}}):
        with pytest.raises(UsageError, match=r"^stages: \$(out|merge) writes"):
            join.aggregate([{"$match": {}}, stage])
    assert commands.sent == []


def test_values_that_cannot_be_stored_are_refused(db: Any) -> None:
    """A parameter that BSON does not know is bad input like any other, and is named."""
    join = bind(db, Many("f", local="_id", foreign="k", where={"n": Param("n")}))
    fill(db, p=[{"_id": 1}])
    for wrong in (object(), {1, 2}, 2**64, "\ud800"):
        with pytest.raises(UsageError, match=r"^params:.*'n'"):
            join.find(params={"n": wrong})


def test_what_a_join_is_made_of(db: Any) -> None:
    """Strategy, word about indexes, spec and target are checked when the join is made."""
    made: dict[str, Any] = {"target": db, "spec": MANY}
    wrong: list[tuple[str, Any]] = [("strategy", "fast"), ("strategy", None), ("on_missing_index", "error")]
    wrong += [("spec", "p"), ("spec", MANY.joins), ("target", db.client), ("target", "db"), ("target", None)]
    for argument, value in wrong:
        with pytest.raises(UsageError, match=f"^{argument}:"):
            Join(**{**made, argument: value})


@EVERY
def test_a_collection_may_be_the_target(db: Any, strategy: str) -> None:
    """The collection of the parents may be given, under whatever name it has; the others are in its database."""
    joins = [Many("f", local="_id", foreign="k"), One("p", local="parent", foreign="_id", as_="parent")]
    fill(db, p2026=[{"_id": 1}, {"_id": 2, "parent": 1}], f=[{"_id": 1, "k": 1}])
    join = Join(db.p2026, JoinSpec("p", joins=joins), strategy=strategy, on_missing_index="ignore")  # type: ignore[arg-type]
    assert join.find(sort=BY_ID) == [
        {"_id": 1, "f": [{"_id": 1, "k": 1}], "parent": None},
        {"_id": 2, "f": [], "parent": {"_id": 1}},
    ]
