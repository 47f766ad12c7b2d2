"""The guard against queries in a loop, with every driver, and the shapes that it counts."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from bson import SON, ObjectId, encode
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, DeleteOne, InsertOne, MongoClient, UpdateOne
from pymongo.monitoring import CommandStartedEvent

from mongopatterns.errors import RepeatedCommands, UsageError
from mongopatterns.shapes import shape_of
from mongopatterns.testing import CommandWatcher, EmbeddedMongo, n_plus_one_guard, race, race_threads
from mongopatterns.testing import _guard as implementation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from pymongo.collection import Collection


@pytest.fixture
def client(mongopatterns_server: EmbeddedMongo) -> Iterator[MongoClient[dict[str, Any]]]:
    """Provide a synchronous client that is watched."""
    with MongoClient[dict[str, Any]](mongopatterns_server.uri, event_listeners=[CommandWatcher()]) as client:
        yield client


@pytest.fixture(params=["pymongo", "motor"])
async def aclient(mongopatterns_server: EmbeddedMongo, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """Provide an asynchronous client that is watched, of either driver."""
    if request.param == "pymongo":
        async with AsyncMongoClient[dict[str, Any]](
            mongopatterns_server.uri, event_listeners=[CommandWatcher()]
        ) as client:
            yield client
    else:
        motor: Any = AsyncIOMotorClient(mongopatterns_server.uri, event_listeners=[CommandWatcher()])
        yield motor
        motor.close()


def find_each(users: Collection[dict[str, Any]], count: int) -> None:
    """Query in a loop."""
    for i in range(count):
        users.find_one({"_id": i})


async def find_each_async(users: Any, count: int) -> None:
    """Query in a loop."""
    for i in range(count):
        await users.find_one({"_id": i})


# ------------------------------------------------------------------------------------------- what is found


def test_a_query_in_a_loop(client: MongoClient[dict[str, Any]], mongopatterns_db_name: str) -> None:
    """A find that is sent once per item raises, with its shape and its count in the message and as data."""
    users = client[mongopatterns_db_name]["users"]
    with pytest.raises(RepeatedCommands) as caught, n_plus_one_guard(client, repeats=3):
        find_each(users, 5)
    shape = f"find {mongopatterns_db_name}.users filter={{_id: ?}}"
    assert caught.value.counts == {shape: 5}
    assert f"5 x {shape}" in str(caught.value)
    assert "more than 3 times" in str(caught.value)
    assert isinstance(caught.value, AssertionError)


async def test_a_query_in_an_asynchronous_loop(aclient: Any, mongopatterns_db_name: str) -> None:
    """Awaited commands in the block are counted, of PyMongo's client and of Motor's, which sends from threads."""
    users = aclient[mongopatterns_db_name]["users"]
    with pytest.raises(RepeatedCommands) as caught, n_plus_one_guard(aclient, repeats=3):
        await find_each_async(users, 5)
    assert list(caught.value.counts.values()) == [5]


async def test_tasks_of_the_block_count(aclient: Any, mongopatterns_db_name: str) -> None:
    """Tasks that are started inside the block belong to it."""
    users = aclient[mongopatterns_db_name]["users"]
    with n_plus_one_guard(aclient, repeats=20) as guard:
        await asyncio.gather(*(users.find_one({"_id": i}) for i in range(5)))
        await race(lambda i: users.find_one({"_id": i}), times=5)
    assert list(guard.counts.values()) == [10]


async def test_other_tasks_do_not_count(aclient: Any, mongopatterns_db_name: str) -> None:
    """What another task sends while the block is open is not counted, and neither is what comes after it."""
    users = aclient[mongopatterns_db_name]["users"]
    opened, done = asyncio.Event(), asyncio.Event()

    async def other() -> None:
        await opened.wait()
        await find_each_async(users, 10)
        done.set()

    task = asyncio.create_task(other())
    with n_plus_one_guard(aclient) as guard:
        opened.set()
        await done.wait()
        await users.find_one({"_id": 1})
    await task
    await find_each_async(users, 10)
    assert list(guard.counts.values()) == [1]


def test_threads(client: MongoClient[dict[str, Any]], mongopatterns_db_name: str) -> None:
    """Threads with a copy of the context count, from several at once; others do not."""
    users = client[mongopatterns_db_name]["users"]
    with n_plus_one_guard(client, repeats=100) as guard:
        race_threads(lambda i: users.find_one({"_id": i}), times=40, concurrency=8).raise_errors()
        assert list(guard.counts.values()) == [40]
        other = threading.Thread(target=users.find_one, args=({"_id": 1},))
        if not getattr(other, "_context", None):  # Python 3.14 may hand the context on by itself.
            other.start()
            other.join()
    assert list(guard.counts.values()) == [40]


async def test_a_task_that_outlives_the_block(aclient: Any, mongopatterns_db_name: str) -> None:
    """A task that was started inside is no longer counted once the block is left."""
    users = aclient[mongopatterns_db_name]["users"]
    left = asyncio.Event()

    async def late() -> None:
        await left.wait()
        await find_each_async(users, 10)

    with n_plus_one_guard(aclient) as guard:
        task = asyncio.create_task(late())
        await users.find_one({"_id": 1})
    left.set()
    await task
    assert list(guard.counts.values()) == [1]


def test_nested_guards_both_count(client: MongoClient[dict[str, Any]], mongopatterns_db_name: str) -> None:
    """An inner guard counts its own block; the outer one counts that and the rest."""
    users = client[mongopatterns_db_name]["users"]
    with n_plus_one_guard(client, repeats=10) as outer:
        users.find_one({"_id": 1})
        with n_plus_one_guard(client, repeats=10) as inner:
            users.find_one({"_id": 2})
            users.find_one({"_id": 3})
        users.find_one({"_id": 4})
    assert list(inner.counts.values()) == [2]
    assert list(outer.counts.values()) == [4]


def test_only_its_own_client_counts(
    client: MongoClient[dict[str, Any]], mongopatterns_server: EmbeddedMongo, mongopatterns_db_name: str
) -> None:
    """Commands of another watched client are not counted."""
    with (
        MongoClient[dict[str, Any]](mongopatterns_server.uri, event_listeners=[CommandWatcher()]) as other,
        n_plus_one_guard(client) as guard,
    ):
        find_each(other[mongopatterns_db_name]["users"], 10)
    assert guard.counts == {}


def test_an_error_in_the_block_wins(client: MongoClient[dict[str, Any]], mongopatterns_db_name: str) -> None:
    """What the block raises reaches the caller, and not the guard's own error."""

    def block() -> None:
        find_each(client[mongopatterns_db_name]["users"], 5)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), n_plus_one_guard(client, repeats=1):
        block()


def test_counts_during_the_block(client: MongoClient[dict[str, Any]], mongopatterns_db_name: str) -> None:
    """`counts` can be read while the block runs, the most frequent first, and starts anew with a new block."""
    users = client[mongopatterns_db_name]["users"]
    guard = n_plus_one_guard(client)
    with guard:
        assert guard.counts == {}
        users.insert_one({})
        assert list(guard.counts.values()) == [1]
        find_each(users, 2)
        assert list(guard.counts.values()) == [2, 1]
        with pytest.raises(UsageError, match="entered already"), guard:
            pytest.fail("the block was entered")
    with guard:
        assert guard.counts == {}


def test_exactly_repeats_is_allowed(client: MongoClient[dict[str, Any]], mongopatterns_db_name: str) -> None:
    """A shape may be sent `repeats` times; one more raises."""
    users = client[mongopatterns_db_name]["users"]
    with n_plus_one_guard(client, repeats=2):
        find_each(users, 2)
    with pytest.raises(RepeatedCommands), n_plus_one_guard(client, repeats=2):
        find_each(users, 3)


def test_all_counted_commands(client: MongoClient[dict[str, Any]], mongopatterns_db_name: str) -> None:
    """Reads and writes are counted under their names; `getMore` and commands of the administration are not."""
    things = client[mongopatterns_db_name]["things"]
    with n_plus_one_guard(client) as guard:
        things.insert_many([{"_id": i} for i in range(10)])
        assert len(list(things.find({}, batch_size=2))) == 10
        list(things.aggregate([{"$match": {"_id": 1}}], batchSize=1))
        things.estimated_document_count()
        things.distinct("_id")
        things.update_one({"_id": 1}, {"$set": {"a": 1}})
        things.delete_one({"_id": 1})
        things.find_one_and_update({"_id": 2}, {"$set": {"a": 1}})
        things.create_index("a")
        client.admin.command("ping")
        things.drop()
    names = sorted(shape.split()[0] for shape in guard.counts)
    assert names == [
        "aggregate", "count", "delete", "distinct", "find", "findAndModify", "insert", "update",
    ]  # fmt: skip


def test_a_bulk_is_one_command(client: MongoClient[dict[str, Any]], mongopatterns_db_name: str) -> None:
    """A bulk write of many like statements is one command per kind, whatever its length."""
    things = client[mongopatterns_db_name]["things"]
    with n_plus_one_guard(client, repeats=1) as guard:
        things.bulk_write(
            [
                *(InsertOne({"_id": i}) for i in range(5)),
                *(UpdateOne({"_id": i}, {"$inc": {"n": i}}) for i in range(5)),
                *(DeleteOne({"_id": i}) for i in range(5)),
            ]
        )
    name = mongopatterns_db_name
    assert guard.counts == {
        f"insert {name}.things": 1,
        f"update {name}.things updates=[{{q: {{_id: ?}}, u: {{$inc: {{n: ?}}}}}}]": 1,
        f"delete {name}.things deletes=[{{q: {{_id: ?}}}}]": 1,
    }


class Recorder(CommandWatcher):
    """A watcher that also keeps the events of the commands of a name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.events: list[CommandStartedEvent] = []

    def started(self, event: CommandStartedEvent) -> None:
        super().started(event)
        if event.command_name == self.name:
            self.events.append(event)


def test_the_batches_of_an_insert_are_one_operation(
    mongopatterns_server: EmbeddedMongo, mongopatterns_db_name: str
) -> None:
    """An `insert_many` that the driver splits by its size counts once; two of them count twice."""
    recorder = Recorder("insert")
    # More than the 48 MB of one message, in documents that a small cache can take one by one.
    large = bytes(512 * 1024)
    with (
        MongoClient[dict[str, Any]](mongopatterns_server.uri, event_listeners=[recorder]) as client,
        n_plus_one_guard(client, repeats=2) as guard,
    ):
        client[mongopatterns_db_name]["things"].insert_many([{"large": large} for _ in range(110)])
        assert len(recorder.events) > 1
        assert list(guard.counts.values()) == [1]
        client[mongopatterns_db_name]["things"].insert_many([{}])
    assert list(guard.counts.values()) == [2]


def test_the_turns_of_an_ordered_bulk_are_one_operation(
    client: MongoClient[dict[str, Any]], mongopatterns_db_name: str
) -> None:
    """A bulk whose kinds take turns is sent as a command for each turn, and counts once for each shape."""
    things = client[mongopatterns_db_name]["things"]
    with n_plus_one_guard(client, repeats=1) as guard:
        things.bulk_write([write for i in range(5) for write in (InsertOne({"_id": i}), DeleteOne({"_id": i}))])
    assert sorted(guard.counts.values()) == [1, 1]


def test_a_retry_of_the_driver_is_one_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the driver sends again by itself counts once, where its events name the operation."""
    monkeypatch.delenv("MONGOPATTERNS_TEST_URI", raising=False)
    recorder = Recorder("find")
    with (
        EmbeddedMongo() as server,
        MongoClient[dict[str, Any]](server.uri, event_listeners=[recorder]) as client,
        n_plus_one_guard(client) as guard,
        server.fail_point("failCommand", mode={"times": 1}, data={"failCommands": ["find"], "closeConnection": True}),
    ):
        client["test"]["things"].find_one({"_id": 1})
    assert len(recorder.events) == 2
    assert list(guard.counts.values()) == [len({event.operation_id for event in recorder.events})]


def find_event(request: int, operation: int | None) -> CommandStartedEvent:
    return CommandStartedEvent({"find": "c", "filter": {"a": 1}}, "db", request, ("localhost", 1), operation)


def test_commands_of_one_operation_count_once(
    client: MongoClient[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One operation counts once as long as it is remembered, and one without a number by its request."""
    monkeypatch.setattr(implementation, "_MAX_OPERATIONS", 3)
    watcher = next(each for each in client.options.event_listeners if isinstance(each, CommandWatcher))
    with n_plus_one_guard(client, repeats=100) as guard:
        for request in range(10):
            watcher.started(find_event(request, 7))
        assert guard.counts == {"find db.c filter={a: ?}": 1}
        for request in range(100, 110):
            watcher.started(find_event(request, None))
        assert guard.counts == {"find db.c filter={a: ?}": 11}
        assert len(guard._seen) == 3


async def test_a_fixture_may_hold_the_guard(aclient: Any, mongopatterns_db_name: str) -> None:
    """The block may be left in another context than the one that entered it, as fixtures do."""
    guard = n_plus_one_guard(aclient)
    guard.__enter__()
    await aclient[mongopatterns_db_name]["users"].find_one({})

    async def leave() -> None:
        guard.__exit__(None, None, None)

    await asyncio.create_task(leave())
    await aclient[mongopatterns_db_name]["users"].find_one({})
    assert list(guard.counts.values()) == [1]


def test_a_block_that_is_left_twice_ends_once(client: MongoClient[dict[str, Any]], mongopatterns_db_name: str) -> None:
    """Leaving a block again judges again and ends nothing else: a guard around it goes on as before."""
    users = client[mongopatterns_db_name]["users"]
    with n_plus_one_guard(client, repeats=5) as outer:
        with n_plus_one_guard(client, repeats=1) as inner:
            users.find_one({"_id": 1})
        inner.__exit__(None, None, None)
        users.find_one({"_id": 2})
    assert list(inner.counts.values()) == [1]
    assert list(outer.counts.values()) == [2]
    assert [len(places) for places in outer.sites.values()] == [2]


def test_the_number_of_shapes_is_bounded(
    client: MongoClient[dict[str, Any]], mongopatterns_db_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys made of user input do not fill the memory: beyond the bound new shapes are not counted."""
    monkeypatch.setattr(implementation, "_MAX_SHAPES", 5)
    with n_plus_one_guard(client, repeats=5) as guard:
        for i in (*range(20), 0):
            client[mongopatterns_db_name]["users"].find_one({f"user{i}": 1})
    assert len(guard.counts) == 5
    assert max(guard.counts.values()) == 2


def test_a_long_message_is_cut(client: MongoClient[dict[str, Any]], mongopatterns_db_name: str) -> None:
    """A message lists the worst shapes; the error's `counts` has all."""
    users = client[mongopatterns_db_name]["users"]
    with pytest.raises(RepeatedCommands) as caught, n_plus_one_guard(client, repeats=1):
        _ = [users.find_one({f"user{i}": 1}) for i in (*range(12), *range(12))]
    assert len(caught.value.counts) == 12
    assert "and 2 more shapes" in str(caught.value)


# ------------------------------------------------------------------------------------------------- misuse


def test_a_client_without_a_watcher(mongopatterns_server: EmbeddedMongo) -> None:
    """A client that nothing watches is a usage error that says how to make it."""
    with (
        MongoClient[dict[str, Any]](mongopatterns_server.uri) as unwatched,
        pytest.raises(UsageError, match=r"event_listeners=\[mongopatterns\.testing\.CommandWatcher\(\)\]"),
    ):
        n_plus_one_guard(unwatched)


async def test_something_that_is_no_client(aclient: Any, client: MongoClient[dict[str, Any]]) -> None:
    """A database or a collection in the place of a client is a usage error, of every driver."""
    for wrong in (None, "client", client["test"], aclient["test"], aclient["test"]["users"]):
        with pytest.raises(UsageError, match="client of PyMongo or Motor"):
            n_plus_one_guard(wrong)


@pytest.mark.parametrize("repeats", [0, -1, 1.5, None, True])
def test_repeats_is_a_whole_number_from_one(client: MongoClient[dict[str, Any]], repeats: Any) -> None:
    """Another number of repeats is a usage error."""
    with pytest.raises(UsageError, match="repeats"):
        n_plus_one_guard(client, repeats=repeats)


# ------------------------------------------------------------------------------------------------- shapes


def find(query: Any, **more: Any) -> str | None:
    return shape_of("find", "db", {"find": "c", "filter": query, **more})


def aggregate(*stages: Any) -> str | None:
    return shape_of("aggregate", "db", {"aggregate": "c", "pipeline": list(stages)})


def test_values_are_no_part_of_a_shape() -> None:
    """Values of any kind, sessions, comments, limits and the order of keys make no difference."""
    assert find({"a": 1, "b": "x"}) == find(SON([("b", None), ("a", ObjectId())]))
    assert find({"a": 1}) == find({"a": 2}, comment="x", lsid={"id": 1}, txnNumber=3, limit=1, batchSize=5)
    assert find({"a": "$b"}) == find({"a": 1})
    assert "secret" not in str(find({"a": "secret", "b": ["secret"], "c": {"$regex": "secret"}}))


def test_keys_and_operators_are_the_shape() -> None:
    """Other keys, operators, sorts, projections or collections are other shapes."""
    shapes = [
        find({"a": 1}),
        find({"b": 1}),
        find({"a": {"$gt": 1}}),
        find({"a": {"$in": [1]}}),
        find({"a": {"x": 1}}),
        find({"a": 1}, sort={"a": 1}),
        find({"a": 1}, projection={"a": 1}),
        shape_of("find", "db", {"find": "other", "filter": {"a": 1}}),
        shape_of("find", "other", {"find": "c", "filter": {"a": 1}}),
        shape_of("distinct", "db", {"distinct": "c", "key": "a", "query": {}}),
        shape_of("distinct", "db", {"distinct": "c", "key": "b", "query": {}}),
    ]
    assert len(set(shapes)) == len(shapes)


def test_lists_of_any_length_have_one_shape() -> None:
    """`$in` of none, one or many values is the same; so are bulks, and branches that look alike."""
    assert find({"a": {"$in": []}}) == find({"a": {"$in": [1]}}) == find({"a": {"$in": list(range(1000))}})
    assert find({"$or": [{"a": 1}]}) == find({"$or": [{"a": 1}, {"a": 2}]})
    assert find({"$or": [{"a": 1}]}) != find({"$or": [{"a": 1}, {"b": 2}]})


def test_stages_are_the_shape_of_a_pipeline() -> None:
    """Stages and their order, field paths and joined collections are structure; literals are values."""
    assert aggregate({"$match": {"a": 1}}, {"$limit": 1}) == aggregate({"$match": {"a": 2}}, {"$limit": 9})
    assert aggregate({"$match": {}}, {"$limit": 1}) != aggregate({"$limit": 1}, {"$match": {}})
    assert aggregate({"$group": {"_id": "$a"}}) != aggregate({"$group": {"_id": "$b"}})
    assert aggregate({"$match": {"a": "$x"}}) == aggregate({"$match": {"a": "$y"}})
    assert aggregate({"$match": {"$expr": {"$eq": ["$a", 1]}}}) == aggregate({"$match": {"$expr": {"$eq": ["$a", 2]}}})
    assert aggregate({"$match": {"$expr": {"$eq": ["$a", 1]}}}) != aggregate({"$match": {"$expr": {"$eq": ["$b", 1]}}})
    assert aggregate({"$set": {"a": {"$literal": {"$x": "$y"}}}}) == aggregate({"$set": {"a": {"$literal": [1]}}})
    assert aggregate({"$lookup": {"from": "a", "as": "x"}}) != aggregate({"$lookup": {"from": "b", "as": "x"}})
    assert aggregate({"$lookup": {"from": "a", "pipeline": [{"$match": {"a": 1}}]}}) == aggregate(
        {"$lookup": {"from": "a", "pipeline": [{"$match": {"a": "name"}}]}}
    )
    assert aggregate({"$facet": {"f": [{"$match": {"a": "x"}}]}}) == aggregate(
        {"$facet": {"f": [{"$match": {"a": "y"}}]}}
    )
    assert aggregate({"$merge": "a"}) != aggregate({"$merge": "b"})


@pytest.mark.parametrize(
    "stage",
    [
        lambda i: {"$lookup": {"from": "a", "let": {"u": str(i)}, "pipeline": [], "as": "x"}},
        lambda i: {"$lookup": {"from": "a", "let": {"u": {"$concat": ["$a", str(i)]}}, "as": "x"}},
        lambda i: {"$graphLookup": {"from": "a", "startWith": f"user{i}", "as": "x"}},
        lambda i: {"$graphLookup": {"from": "a", "restrictSearchWithMatch": {"name": f"user{i}"}, "as": "x"}},
        lambda i: {"$merge": {"into": "a", "let": {"u": str(i)}, "whenMatched": [{"$set": {"a": str(i)}}]}},
    ],
)
def test_values_in_a_stage_of_names(stage: Callable[[int], dict[str, Any]]) -> None:
    """Variables, starting points and conditions of a stage that joins or merges are no part of its shape."""
    assert len({aggregate(stage(i)) for i in range(20)}) == 1


def test_structure_in_a_stage_of_names() -> None:
    """Field paths, conditions' keys and actions of a stage that joins or merges are part of its shape."""
    shapes = [
        aggregate({"$graphLookup": {"from": "a", "startWith": "$x"}}),
        aggregate({"$graphLookup": {"from": "a", "startWith": "$y"}}),
        aggregate({"$graphLookup": {"from": "a", "restrictSearchWithMatch": {"x": 1}}}),
        aggregate({"$graphLookup": {"from": "a", "restrictSearchWithMatch": {"y": 1}}}),
        aggregate({"$lookup": {"from": "a", "let": {"u": "$x"}}}),
        aggregate({"$lookup": {"from": "a", "let": {"u": "$y"}}}),
        aggregate({"$merge": {"into": "a", "whenMatched": "replace"}}),
        aggregate({"$merge": {"into": "a", "whenMatched": "fail"}}),
        aggregate({"$merge": {"into": "a", "whenMatched": [{"$set": {"a": "$b"}}]}}),
    ]
    assert len(set(shapes)) == len(shapes)


def test_a_bulk_of_the_client_is_counted() -> None:
    """`bulkWrite`, the bulk of server 8.0, is described by its operations and their collections."""

    def bulk(*ops: dict[str, Any]) -> str | None:
        spaces = [{"ns": "db.a"}, {"ns": "db.b"}]
        return shape_of("bulkWrite", "admin", {"bulkWrite": 1, "ops": list(ops), "nsInfo": spaces})

    one = {"update": 1, "filter": {"_id": 1}, "updateMods": {"$set": {"n": "x"}}, "multi": False}
    assert bulk({"insert": 0, "document": {"a": 1}}) == "bulkWrite ops=[{insert db.a}]"
    assert bulk(one) == bulk(one, {**one, "filter": {"_id": 2}})
    assert bulk(one) == "bulkWrite ops=[{update db.b q: {_id: ?} u: {$set: {n: ?}}}]"
    assert bulk({"delete": 0, "filter": {"_id": 1}}) != bulk({"delete": 1, "filter": {"_id": 1}})
    assert bulk({"delete": 9}) == "bulkWrite ops=[{delete ?}]"


def test_updates_of_every_kind() -> None:
    """An update by operators, by a pipeline or by a replacement is described without its values."""

    def update(u: Any) -> str | None:
        return shape_of("update", "db", {"update": "c", "updates": [{"q": {"_id": 1}, "u": u}]})

    assert update({"$set": {"a": 1}}) == update({"$set": {"a": "x"}})
    assert update({"$set": {"a": 1}}) != update({"$inc": {"a": 1}})
    assert update([{"$set": {"a": {"$add": ["$a", 1]}}}]) == update([{"$set": {"a": {"$add": ["$a", 2]}}}])
    assert update([{"$set": {"a": "$a"}}]) != update([{"$set": {"a": "$b"}}])
    modify = {"findAndModify": "c", "query": {"_id": 1}}
    assert shape_of("findAndModify", "db", {**modify, "remove": True}) == "findAndModify db.c query={_id: ?}"
    assert (
        shape_of("findAndModify", "db", {**modify, "update": [{"$unset": "a"}], "new": True})
        == "findAndModify db.c query={_id: ?} update=[{$unset: ?}]"
    )


@pytest.mark.parametrize("name", ["getMore", "hello", "ping", "createIndexes", "saslStart", "endSessions"])
def test_other_commands_have_no_shape(name: str) -> None:
    """Cursors' further batches and commands of the administration are not counted."""
    assert shape_of(name, "admin", {name: 1}) is None


def test_a_shape_is_bounded() -> None:
    """Deep, long and wide documents make neither long shapes nor errors."""
    deep: dict[str, Any] = {}
    for _ in range(150):
        deep = {"a": deep, "b": [deep]} if len(str(deep)) < 1000 else {"a": deep}
    for query in (deep, {f"field{i}": i for i in range(10_000)}, {"$or": [{f"f{i}": 1} for i in range(10_000)]}):
        assert len(str(find(query))) <= 1003
    assert aggregate({"$facet": {"f": "no pipeline"}}) == "aggregate db.c pipeline=[{$facet: {f: ?}}]"
    assert aggregate("no stage") == "aggregate db.c pipeline=[?]"


def test_raw_documents_have_shapes() -> None:
    """A command that is made of raw BSON has the shape of what it contains."""
    assert find(RawBSONDocument(encode({"a": {"$gt": 1}}))) == find({"a": {"$gt": 2}})
