"""The table of guarantees: a row for each primitive, and in it the indexes and round trips that the code has."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.monitoring import CommandListener

import mongopatterns
from mongopatterns import (
    CappedSet,
    CappedSetSpec,
    Cascade,
    CascadeSpec,
    CollectionSpec,
    Count,
    Counter,
    CounterSpec,
    Deployment,
    Documents,
    DocumentSpec,
    Health,
    Join,
    JoinSpec,
    KeyedSet,
    KeyedSetSpec,
    Loader,
    LoaderSpec,
    One,
    Pager,
    PagerSpec,
    Quota,
    QuotaSpec,
    Rate,
    RateLimiter,
    RateLimiterSpec,
    Report,
    ReportSpec,
    Schema,
    SchemaSpec,
    Slots,
    SlotsSpec,
    Totals,
    UniqueCode,
    UniqueCodeSpec,
    Window,
    WriteBuffer,
)
from mongopatterns.testing import EmbeddedMongo

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "guarantees.md"
# What has two flavours and no row: it is what a buffer answers, and is bound to nothing.
NO_PRIMITIVES = {"Ack"}

SPECS: dict[str, Callable[..., Any]] = {
    "Counter": lambda **key: CounterSpec("counters", path="n", **key),
    "Quota": lambda **key: QuotaSpec("quotas", path="quota", windows=[Window.hour(9)], **key),
    "RateLimiter": lambda **key: RateLimiterSpec("limits", Rate(9, per=60), **key),
    "CappedSet": lambda **key: CappedSetSpec("rooms", path="seats", member_key="user", cap=9, create={}, **key),
    "KeyedSet": lambda **key: KeyedSetSpec("messages", path="likes", max_keys=9, max_members=9, create={}, **key),
    "UniqueCode": lambda **key: UniqueCodeSpec("codes", path="code", length=6, **key),
    "Loader": lambda **key: LoaderSpec("users", **key),
}
SLOTS = SlotsSpec("slots", cap=9, ttl=60)
DOCUMENTS = DocumentSpec("documents", key=("question", "user"))
JOIN = JoinSpec("users", joins=[One("plans", as_="plan", local="plan_id", foreign="_id")])
CASCADE = CascadeSpec("users", children=[("posts", "_id", "user_id")])
PAGER = PagerSpec("users", sort=[("name", 1)])
REPORT = ReportSpec("users", branches={"all": Totals({"n": Count()})})

# A usual call of each, once for what has to be made and once to be counted; and how often its "for each" happens.
CALLS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "Counter": (lambda db: Counter(db, SPECS["Counter"]()).add("a"), 0),
    "Quota": (lambda db: Quota(db, SPECS["Quota"]()).consume("a"), 0),
    "RateLimiter": (lambda db: RateLimiter(db, SPECS["RateLimiter"]()).hit("a"), 0),
    "CappedSet": (lambda db: CappedSet(db, SPECS["CappedSet"]()).join("a", {"user": "u"}), 0),
    "Slots": (lambda db: Slots(db, SLOTS).acquire("a"), 0),
    "KeyedSet": (lambda db: KeyedSet(db, SPECS["KeyedSet"]()).add("a", "like", "u"), 0),
    "UniqueCode": (lambda db: UniqueCode(db, SPECS["UniqueCode"]()).insert({}), 0),
    "Documents": (lambda db: Documents(db, DOCUMENTS).get_or_create((1, "u"), {}), 0),
    "Join": (lambda db: Join(db, JOIN, strategy="batch", on_missing_index="ignore").find(), 1),
    "Loader": (lambda db: Loader(db, SPECS["Loader"]()).load_many(["a", "b"]), 0),
    "Cascade": (lambda db: Cascade(db, CASCADE).delete({"_id": "b"}), 1),
    "Pager": (lambda db: Pager(db, PAGER).page(), 0),
    "Report": (lambda db: Report(db, REPORT).run(), 0),
    "Schema": (lambda db: Schema(db, SchemaSpec([CollectionSpec("users")])).verify(), 1),
    "Deployment": (lambda db: Deployment(db.client).check(), 0),
    "Health": (lambda db: Health(db.client).ready(), 0),
}


def tables() -> list[list[dict[str, str]]]:
    """Read the tables of the page, each as its rows."""
    found = []
    for text in re.findall(r"(?:^\|.*\n)+", PAGE.read_text(encoding="utf-8"), re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()]
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def named(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


TABLE = {named(row["primitive"])[0]: row for row in tables()[0]}
PRIMITIVES = {
    name for name in mongopatterns.__all__ if f"Async{name}" in mongopatterns.__all__ and name not in NO_PRIMITIVES
}


def test_every_primitive_has_one_row() -> None:
    """What has two flavours and is bound has a row in the table, and nothing else has; no cell is empty."""
    assert [named(row["primitive"]) for row in tables()[0]] == [[name] for name in TABLE]
    assert TABLE.keys() == PRIMITIVES
    assert all(row.values() for row in TABLE.values())


def test_every_primitive_that_acts_on_documents_says_what_callers_get() -> None:
    """The second table has the same primitives, without those that only look at the server."""
    listed = [name for row in tables()[1] for name in named(row["primitive"])]
    assert sorted(listed) == sorted(PRIMITIVES - {"Deployment", "Health"})
    assert all(cell for row in tables()[1] for cell in row.values())


def kinds(indexes: Any) -> set[str]:
    """Name what is special about indexes, as the table does."""
    words = {"unique": "unique", "expireAfterSeconds": "TTL", "partialFilterExpression": "partial"}
    return {words[option] for index in indexes for option in index.options if option in words}


def said(name: str) -> set[str]:
    return set(re.findall("unique|TTL|partial", TABLE[name]["index needed"]))


@pytest.mark.parametrize("name", sorted(SPECS))
def test_the_index_of_a_keyed_primitive_is_what_the_spec_says(name: str) -> None:
    """Kinds of indexes agree with `spec.indexes()`, and the footnote stands where `_id` needs none."""
    by_field = SPECS[name](key_field="number").indexes()
    assert said(name) == kinds(by_field)
    assert any(index.keys == (("number", 1),) for index in by_field)
    by_id = SPECS[name]().indexes()
    assert ("¹" in TABLE[name]["index needed"]) == (len(by_id) == len(by_field) - 1)


@pytest.mark.parametrize(
    ("name", "indexes"),
    [
        ("Slots", SLOTS.indexes()),
        ("Documents", DOCUMENTS.indexes()),
        ("Join", JOIN.indexes().get("plans", ())),
        ("Cascade", CASCADE.indexes()["posts"]),
        ("Pager", PAGER.indexes()),
        ("Report", REPORT.indexes()),
    ],
)
def test_the_index_of_any_other_primitive_is_what_the_spec_says(name: str, indexes: Any) -> None:
    """Kinds of indexes agree with `spec.indexes()` where no single field is the key."""
    assert said(name) == kinds(indexes)


def test_the_index_of_a_buffer_is_that_of_its_ledger() -> None:
    """A buffer makes its ledger's TTL index known; that of the key of a write is the collection's own."""
    with (
        MongoClient[dict[str, Any]](connect=False) as client,
        WriteBuffer(client, delivery="exactly_once") as buffer,
    ):
        assert kinds(index for indexes in buffer.indexes().values() for index in indexes) == {"TTL"}
    assert said("WriteBuffer") == {"unique", "TTL"}


@pytest.mark.parametrize("name", ["Schema", "Deployment", "Health"])
def test_what_has_no_spec_needs_no_index(name: str) -> None:
    """The rest names no index of its own."""
    assert TABLE[name]["index needed"] == "none"


class _Commands(CommandListener):
    """Keep the names of the commands of a client."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, event: Any) -> None:
        self.names.append(event.command_name)

    def succeeded(self, event: Any) -> None:
        """Nothing: a command is counted when it starts."""

    failed = succeeded


@pytest.fixture
def commands() -> _Commands:
    return _Commands()


@pytest.fixture
def db(commands: _Commands, mongopatterns_server: EmbeddedMongo, mongopatterns_db_name: str) -> Iterator[Any]:
    """Provide a database with what the calls read, whose commands are kept."""
    with MongoClient[dict[str, Any]](mongopatterns_server.uri, event_listeners=[commands]) as client:
        db = client[mongopatterns_db_name]
        db.users.insert_many([{"_id": "a", "name": "Ann", "plan_id": 1}, {"_id": "b", "name": "Bob", "plan_id": 1}])
        db.plans.insert_one({"_id": 1})
        for spec in (SLOTS, DOCUMENTS, SPECS["UniqueCode"]()):
            for index in spec.indexes():
                db[spec.collection].create_index(index.keys, **index.options)
        yield db


def cost(cell: str, each: int) -> int:
    """Read "2, and 1 for each ..." as a number."""
    first, *more = re.findall(r"\d+", cell)
    return int(first) + each * sum(int(number) for number in more[:each])


@pytest.mark.parametrize("name", sorted(PRIMITIVES - {"WriteBuffer"}))
def test_a_call_takes_the_round_trips_of_the_table(name: str, db: Any, commands: _Commands) -> None:
    """A usual call sends as many commands as the table says, when there is nothing to be made first."""
    call, each = CALLS[name]
    if name != "Cascade":
        call(db)
    commands.names.clear()
    call(db)
    assert len(commands.names) == cost(TABLE[name]["round trips"], each), commands.names


def test_a_call_of_a_buffer_takes_none_and_a_batch_one(db: Any, commands: _Commands) -> None:
    """Inserts of one collection are accepted without a command, and sent in one."""
    assert TABLE["WriteBuffer"]["round trips"] == "0; a batch 1 or 2 for each collection"
    with WriteBuffer(db.client, max_delay=60) as buffer:
        commands.names.clear()
        for number in range(3):
            buffer.insert(db.events, {"_id": number})
        assert commands.names == []
        buffer.flush()
        assert commands.names == ["insert"]
