# Generated from tests/aio/test_loader.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""What a loader promises, on a real server."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any

import pymongo
import pytest
from bson import Binary, Decimal128, Int64, ObjectId, UuidRepresentation
from bson.codec_options import CodecOptions
from bson.son import SON
from pydantic import BaseModel, ValidationError
from pymongo.errors import ExecutionTimeout, NetworkTimeout, OperationFailure

from mongopatterns import Loader, LoaderSpec, UsageError
from mongopatterns._driver_sync import settle
from mongopatterns.testing import race_threads

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)

USERS = LoaderSpec("users")
BY_EMAIL = LoaderSpec("users", key_field="email", fields=["name"])
BY_SLUG = LoaderSpec("pages", key_field="page.slug")


def fill(db: Any, number: int) -> list[dict[str, Any]]:
    """Store users, and return them."""
    users = [{"_id": n, "name": f"user {n}", "email": f"u{n}@x", "tags": [n]} for n in range(number)]
    db.users.insert_many(users)
    return users


# Loading -----------------------------------------------------------------------------------------------------


def test_load_reads_one_document(db: Any, commands: Any) -> None:
    """A key gives its document, or None; each call is one plain read, marked as ours."""
    users = fill(db, 3)
    commands.clear()
    loader = Loader(db, USERS)
    assert loader.load(1) == users[1]
    assert loader.load(7) is None
    assert commands.names == ["find", "find"]
    assert commands.comments == {"mongopatterns.loader.load"}
    assert commands.sent[0][1]["filter"] == {"_id": 1}


def test_load_many_keeps_order_and_repetitions(db: Any, commands: Any) -> None:
    """Documents come in the order of the keys, None for each that is missing, in one command."""
    users = fill(db, 10)
    commands.clear()
    loader = Loader(db, USERS)
    keys = [7, 3, 99, 3, 0, "3", 7.0]
    assert loader.load_many(keys) == [users[7], users[3], None, users[3], users[0], None, users[7]]
    assert loader.load_many([]) == []
    assert commands.names == ["find"]
    assert sorted(commands.sent[0][1]["filter"]["_id"]["$in"], key=str) == [0, 3, "3", 7, 99]


def test_a_collection_will_do(db: Any) -> None:
    """A loader is bound to a database or to a collection of any name."""
    db.people.insert_one({"_id": 1})
    assert Loader(db.people, USERS).load(1) == {"_id": 1}


def test_a_large_batch_takes_one_command(db: Any, commands: Any) -> None:
    """A thousand documents come in the first answer: the driver does not go back for the rest."""
    users = fill(db, 1000)
    commands.clear()
    loader = Loader(db, USERS)
    assert loader.load_many(range(1000)) == users
    assert loader.load_many(range(500, 1500)) == users[500:] + [None] * 500
    assert commands.names == ["find", "find"]


def test_batches_are_bounded(db: Any, commands: Any) -> None:
    """More keys than `max_batch` are sent as several commands, and the answer is the same."""
    users = fill(db, 25)
    commands.clear()
    loader = Loader(db, LoaderSpec("users", max_batch=10))
    assert loader.load_many(range(24, -1, -1)) == users[::-1]
    assert commands.names == ["find"] * 3
    assert [len(command["filter"]["_id"]["$in"]) for _, command in commands.sent] == [10, 10, 5]


def test_long_keys_are_bounded_in_bytes(db: Any, commands: Any) -> None:
    """Keys of many megabytes are spread over commands that the server takes."""
    keys = [*(str(n) * 1_000_000 for n in range(1, 10)), "small"]
    db.users.insert_many([{"_id": key} for key in keys])
    commands.clear()
    found = Loader(db, USERS).load_many(keys * 2)
    assert [document and document["_id"] for document in found] == keys * 2
    assert [len(command["filter"]["_id"]["$in"]) for name, command in commands.sent if name == "find"] == [7, 3]


def test_keys_that_are_not_unique_give_the_first_by_id(db: Any) -> None:
    """Of several documents with one key it is always the one with the least `_id`, as the server orders them."""
    db.users.insert_many(
        [
            {"_id": "b", "email": "a@x", "name": "text"},
            {"_id": 5.5, "email": "a@x", "name": "number"},
            {"_id": ObjectId(), "email": "a@x", "name": "id"},
            {"_id": 9, "email": ["c@x", "a@x"], "name": "list"},
        ]
    )
    loader = Loader(db, BY_EMAIL)
    for _ in range(3):
        found = loader.load_many(["a@x", "b@x", "c@x"])
        assert [document and document["name"] for document in found] == ["number", None, "list"]
    assert loader.load("a@x") == {"_id": 5.5, "name": "number"}


def test_keys_inside_the_document(db: Any) -> None:
    """A dotted path is read as the server reads it: through lists of documents, and into a list at its end."""
    db.pages.insert_many(
        [
            {"_id": 1, "page": {"slug": "home"}},
            {"_id": 2, "page": [{"slug": "news"}, {"slug": ["blog", "log"]}, "slug"]},
            {"_id": 3, "page.slug": "dotted"},
            {"_id": 4, "page": {"slug": {"de": "start"}}},
        ]
    )
    loader = Loader(db, BY_SLUG)
    found = loader.load_many(["home", "news", "blog", "dotted", {"de": "start"}, "de"])
    assert [document and document["_id"] for document in found] == [1, 2, 2, None, 4, None]
    part = Loader(db, LoaderSpec("pages", key_field="page.slug", fields={"_id": 0, "x": 1}))
    assert part.load_many(["home", "log", "x"]) == [{}, {}, None]


def test_fields_are_all_that_travels(db: Any, commands: Any) -> None:
    """Only the fields that were asked for come, and a megabyte beside them stays where it is."""
    db.users.insert_one({"_id": 1, "email": "a@x", "name": "Ann", "blob": b"x" * 1_000_000})
    commands.clear()
    assert Loader(db, BY_EMAIL).load("a@x") == {"_id": 1, "name": "Ann"}
    both = LoaderSpec("users", fields={"name": 1, "email": 1, "_id": 0})
    assert Loader(db, both).load(1) == {"email": "a@x", "name": "Ann"}
    assert max(commands.reply_bytes) < 500


def test_the_options_of_the_client_do_not_matter(db: Any, commands: Any) -> None:
    """Reads go to the primary and give plain dicts with aware dates, whatever options the database came with."""
    db.users.insert_one({"_id": 1, "at": NOON, "d": {"e": [{"f": NOON}]}})
    options: CodecOptions[Any] = CodecOptions(document_class=SON, tz_aware=False)
    odd = db.client.get_database(
        db.name, codec_options=options, read_preference=pymongo.ReadPreference.SECONDARY_PREFERRED
    )
    document = Loader(odd, USERS).load(1)
    assert document == {"_id": 1, "at": NOON, "d": {"e": [{"f": NOON}]}}
    assert document is not None
    assert (type(document), type(document["d"]), type(document["d"]["e"][0])) == (dict, dict, dict)
    assert commands.sent[-1][1].get("$readPreference", {"mode": "primary"})["mode"] == "primary"


# Keys --------------------------------------------------------------------------------------------------------


def test_keys_are_equal_as_the_server_says(db: Any) -> None:
    """Numbers of all types are one key, True is another, and a text is never an id."""
    some = ObjectId()
    stored = [1, True, "1", 0.5, some, b"1", NOON, {"a": 1, "b": [2]}, {"b": [2], "a": 1}, "True", 2**53]
    db.users.insert_many([{"_id": value, "n": n} for n, value in enumerate(stored)])
    asked: list[tuple[Any, int | None]] = [
        (1.0, 0),
        (Decimal128("1.00"), 0),
        (Int64(1), 0),
        (True, 1),
        ("1", 2),
        (Decimal128("0.5"), 3),
        (some, 4),
        (str(some), None),
        (Binary(b"1", 0), 5),
        (Binary(b"1", 5), None),
        (NOON.astimezone(dt.timezone(dt.timedelta(hours=3))), 6),
        (NOON.replace(tzinfo=None), 6),
        ({"a": 1.0, "b": [Decimal128("2")]}, 7),
        ({"b": [2], "a": True}, None),
        (SON([("b", (2,)), ("a", 1)]), 8),
        (False, None),
        (0, None),
        (float(2**53), 10),
        (2**53 + 1, None),
    ]
    loader = Loader(db, USERS)
    for keys in (asked, asked[::-1], *([one] for one in asked)):
        found = loader.load_many([key for key, _ in keys])
        assert [document and document["n"] for document in found] == [n for _, n in keys]


HOSTILE = ["$name", "$$ROOT", "a.b", "", "__proto__", '{"$gt": ""}', ".*", "ключ", "\0", "a\0b", "\u2028", "null"]


def test_hostile_keys_are_data(db: Any) -> None:
    """No text is read as a path, a pattern or an operator, and each finds its own document only."""
    db.users.insert_many([{"_id": {"k": key} if n % 2 else key, "n": n} for n, key in enumerate(HOSTILE)])
    keys: list[Any] = [{"k": key} if n % 2 else key for n, key in enumerate(HOSTILE)]
    loader = Loader(db, USERS)
    found = loader.load_many(keys)
    assert [document and document["n"] for document in found] == list(range(len(HOSTILE)))
    assert loader.load_many([{"k": key} if n % 2 == 0 else key for n, key in enumerate(HOSTILE)]) == [None] * len(
        HOSTILE
    )


@pytest.mark.parametrize("key", [None, {"$gt": ""}, {"$ne": None}, ["a"], float("nan"), {"a": {"$exists": True}}])
def test_what_could_be_a_condition_is_refused(db: Any, commands: Any, key: Any) -> None:
    """A dict out of a request that looks like an operator is no key, and nothing is sent."""
    loader = Loader(db, USERS)
    with pytest.raises(UsageError, match=r"^key"):
        loader.load(key)
    with pytest.raises(UsageError, match=r"^keys\[1\]"):
        loader.load_many(["a", key])
    assert commands.names == []


def test_ids_may_come_as_text(db: Any) -> None:
    """With `key_type=ObjectId`, text of 24 hexadecimal digits is the id; anything else is refused."""
    some = ObjectId()
    db.users.insert_one({"_id": some})
    loader = Loader(db, LoaderSpec("users", key_type=ObjectId))
    assert loader.load_many([str(some), some, str(some).upper()]) == [{"_id": some}] * 3
    with pytest.raises(UsageError, match="not an ObjectId"):
        loader.load("me")


def test_uuids_follow_the_client(db: Any) -> None:
    """A UUID is looked for as the bound database stores it."""
    key = uuid.uuid4()
    for representation in (UuidRepresentation.STANDARD, UuidRepresentation.JAVA_LEGACY):
        options: CodecOptions[Any] = CodecOptions(uuid_representation=representation)
        odd = db.client.get_database(db.name, codec_options=options)
        odd.users.insert_one({"_id": key})
        assert Loader(odd, USERS).load_many([key, uuid.uuid4()]) == [{"_id": key}, None]
        odd.users.delete_many({})


def test_dates_that_python_cannot_tell_apart(db: Any) -> None:
    """A document whose key is a date past the year 9999 is no stand-in for the last date that Python knows."""
    last = dt.datetime.max.replace(tzinfo=UTC)
    db.command("insert", "users", documents=[{"_id": 1, "k": last + dt.timedelta(0)}])
    db.users.update_one({"_id": 1}, [{"$set": {"k": {"$add": ["$k", 1000]}}}])
    loader = Loader(db, LoaderSpec("users", key_field="k"))
    assert loader.load_many([last, NOON]) == [None, None]
    document = Loader(db, USERS).load(1)
    assert document is not None
    assert document["k"].year == 9999


def test_a_collation_finds_nothing_else(db: Any) -> None:
    """In a collection that is blind to case a key still finds its own document, and only that one."""
    db.create_collection("users", collation={"locale": "en", "strength": 1})
    db.users.insert_many([{"_id": 1, "email": "Ann"}, {"_id": 2, "email": "ann"}])
    loader = Loader(db, LoaderSpec("users", key_field="email"))
    found = loader.load_many(["ann", "ANN", "Ann"])
    assert [document and document["_id"] for document in found] == [2, None, 1]
    assert loader.load("ann") == {"_id": 2, "email": "ann"}


# Scopes ------------------------------------------------------------------------------------------------------


def test_a_scope_reads_each_document_once(db: Any, commands: Any) -> None:
    """In a scope a document, and that there is none, is asked for once; outside, and in the next scope, anew."""
    users = fill(db, 5)
    commands.clear()
    loader = Loader(db, USERS)
    with loader.scope() as scope:
        assert scope.load_many([1, 2, 9]) == [users[1], users[2], None]
        assert scope.load_many([9.0, 2, Decimal128("1")]) == [None, users[2], users[1]]
        assert scope.load(1) == users[1]
        assert commands.names == ["find"]
        assert scope.load_many([1, 3, 4, 9]) == [users[1], users[3], users[4], None]
        assert commands.sent[-1][1]["filter"] == {"_id": {"$in": [3, 4]}}
        db.users.update_one({"_id": 1}, {"$set": {"name": "new"}})
        assert scope.load(1) == users[1]
        fresh = loader.load(1)
        assert fresh is not None
        assert fresh["name"] == "new"
    with loader.scope() as scope:
        assert scope.load(1) == fresh
    assert commands.names == ["find", "find", "update", "find", "find"]


def test_a_scope_that_is_over_keeps_nothing(db: Any, commands: Any) -> None:
    """After its block a scope is a loader without a memory."""
    users = fill(db, 2)
    loader = Loader(db, USERS)
    with loader.scope() as scope:
        scope.load(1)
    commands.clear()
    assert [scope.load(1), scope.load(1)] == [users[1]] * 2
    assert commands.names == ["find", "find"]


def test_a_scope_needs_no_block(db: Any, commands: Any) -> None:
    """A scope lives as long as somebody has it; two scopes know nothing of each other."""
    users = fill(db, 2)
    commands.clear()
    loader = Loader(db, USERS)
    one, other = loader.scope(), loader.scope()
    for scope in (one, one, other, other, one.scope()):
        assert scope.load(1) == users[1]
    assert commands.names == ["find"] * 3


def test_clear_has_the_next_load_read_again(db: Any, commands: Any) -> None:
    """After `clear` what was written is seen, by any key that is the same to the server; other keys stay."""
    users = fill(db, 3)
    scope = Loader(db, USERS).scope()
    scope.load_many([1, 2])
    db.users.delete_one({"_id": 1})
    scope.clear(1.0)
    scope.clear("never asked for")
    commands.clear()
    assert scope.load_many([1, 2]) == [None, users[2]]
    assert commands.sent[0][1]["filter"] == {"_id": 1}
    Loader(db, USERS).clear(1)
    with pytest.raises(UsageError):
        scope.clear(None)


def test_a_scope_is_bounded(db: Any, commands: Any) -> None:
    """At most `max_cache` documents are kept: those that were asked for last."""
    fill(db, 10)
    scope = Loader(db, LoaderSpec("users", max_cache=3)).scope()
    scope.load_many([0, 1, 2])
    scope.load(0)
    scope.load(5)
    commands.clear()
    scope.load_many([0, 2, 5])
    assert commands.names == []
    scope.load(1)
    assert commands.names == ["find"]
    assert [document and document["_id"] for document in scope.load_many(range(10))] == list(range(10))


def test_nobody_shares_a_document(db: Any) -> None:
    """What one caller changes in its document, no other caller sees, in a scope and out of it."""
    users = fill(db, 2)
    loader = Loader(db, USERS)
    for each in (loader, loader.scope()):
        one, two = each.load_many([1, 1])
        assert one is not None
        one["tags"].append("changed")
        one["name"] = "changed"
        assert two == users[1]
        assert each.load(1) == users[1]


def test_many_callers_at_once(db: Any) -> None:
    """Under a crowd on one scope everybody gets what was asked for, and nobody an error."""
    users = fill(db, 40)
    scope = Loader(db, LoaderSpec("users", max_cache=15, max_batch=7)).scope()

    def call(index: int) -> bool:
        keys = [(index * step) % 50 for step in (1, 3, 7)]
        if index % 9 == 0:
            scope.clear(keys[0])
        return scope.load_many(keys) == [users[key] if key < 40 else None for key in keys]

    report = race_threads(call, times=300, concurrency=30)
    report.raise_errors()
    assert report.count(True) == 300


# Errors, time, sessions --------------------------------------------------------------------------------------

REFUSED = {"failCommands": ["find"], "errorCode": 11601}


def test_errors_are_not_kept(db: Any, mongopatterns_server: Any) -> None:
    """The server's refusal reaches the caller as the driver raised it; the next load asks again."""
    users = fill(db, 2)
    scope = Loader(db, USERS).scope()
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=REFUSED),
        pytest.raises(OperationFailure) as caught,
    ):
        scope.load_many([0, 1])
    assert caught.value.code == 11601
    assert scope.load_many([0, 1]) == users


def test_a_lost_connection_is_repaired(db: Any, mongopatterns_server: Any) -> None:
    """A read whose connection breaks is repeated by the driver, and nobody sees it."""
    users = fill(db, 2)
    data = {"failCommands": ["find"], "closeConnection": True}
    with mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=data):
        assert Loader(db, USERS).load_many([0, 1]) == users


def test_timeout_bounds_the_whole_call(db: Any, mongopatterns_server: Any) -> None:
    """A server that does not answer in time raises the driver's timeout; what was late is not kept as an error."""
    users = fill(db, 2)
    scope = Loader(db, USERS).scope()
    block = {"failCommands": ["find"], "blockConnection": True, "blockTimeMS": 600}
    with (
        mongopatterns_server.fail_point("failCommand", mode={"times": 1}, data=block),
        pytest.raises((NetworkTimeout, ExecutionTimeout)) as caught,
    ):
        scope.load(0, timeout=0.2)
    assert caught.value.timeout
    assert scope.load(0, timeout=5) == users[0]
    for timeout in (0, -1, "5", True):
        with pytest.raises(UsageError, match="timeout"):
            scope.load(0, timeout=timeout)  # type: ignore[arg-type]


def test_a_session_reads_by_itself(client: Any, db: Any, commands: Any) -> None:
    """In a transaction a load sees what the transaction sees; nothing of it is kept, and nothing kept is used."""
    users = fill(db, 2)
    scope = Loader(db, USERS).scope()
    scope.load(0)
    with settle(client.start_session()) as session:
        settle(session.start_transaction())
        db.users.update_one({"_id": 0}, {"$set": {"name": "inside"}}, session=session)
        inside = scope.load(0, session=session)
        assert inside == {**users[0], "name": "inside"}
        assert scope.load_many([0, 1], session=session) == [inside, users[1]]
        assert scope.load(0) == users[0]
        commands.clear()
        assert scope.load_many([], session=session) == []
        assert scope.load(1) == users[1]
        assert commands.names == ["find"]
        session.abort_transaction()
    assert scope.load(0) == users[0]


# Models, guards ----------------------------------------------------------------------------------------------


class User(BaseModel):
    name: str


@dataclass
class Tagged:
    tags: list[int]


def test_documents_come_as_the_callers_own_types(db: Any) -> None:
    """`model` gives instances, None stays None, and what does not fit is an error of that call alone."""
    users = fill(db, 3)
    db.users.insert_one({"_id": "bad"})
    scope = Loader(db, USERS).scope()
    assert scope.load(1, model=User) == User(name="user 1")
    assert scope.load(99, model=User) is None
    assert scope.load_many([2, 99, 2], model=Tagged) == [Tagged([2]), None, Tagged([2])]
    with pytest.raises(ValidationError):
        scope.load_many([1, "bad"], model=User)
    with pytest.raises(UsageError, match="model"):
        scope.load(1, model="User")  # type: ignore[call-overload]
    assert scope.load_many([1, "bad"]) == [users[1], {"_id": "bad"}]


def test_explain_sends_nothing(db: Any, commands: Any) -> None:
    """What would be sent can be read."""
    loader = Loader(db, LoaderSpec("users", max_batch=2, fields=["name"]))
    told = loader.explain([1, 2, 1.0, 3])
    assert [each["filter"] for each in told] == [{"_id": {"$in": [1, 2]}}, {"_id": 3}]
    assert told[0]["projection"] == {"_id": 1, "name": 1}
    assert commands.names == []
