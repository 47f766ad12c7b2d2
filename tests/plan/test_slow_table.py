"""Slow commands by their shapes: bounded, added up, and without a single value."""

from __future__ import annotations

import datetime as dt
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo import monitoring
from pymongo.errors import DuplicateKeyError

from mongopatterns import SlowCommand, SlowQueries, UsageError
from mongopatterns.client import _slow_queries
from mongopatterns.client._slow_table import MOST_TAILS, SlowTable, Tails, describe

SERVER = ("localhost", 27017)
SECRET = "hunter2"


def slow(shape: str, seconds: float = 1.0, comment: str | None = None, *, failed: bool = False) -> SlowCommand:
    return SlowCommand(shape, "find", "app", "users", seconds, failed, comment)


def run(
    queries: SlowQueries, command: dict[str, Any], seconds: float = 1.0, *, reply: Any = None, number: int = 1
) -> None:
    """Report a command as the driver does; one without a reply has failed."""
    name, took = next(iter(command)), dt.timedelta(microseconds=round(seconds * 1_000_000))
    queries.started(monitoring.CommandStartedEvent(command, "app", number, SERVER, number))
    about: Any = (name, number, SERVER, number)
    if reply is None:
        error = {"errmsg": f"E11000 dup key: {SECRET}", "code": 11000}
        queries.failed(monitoring.CommandFailedEvent(took, error, *about, database_name="app"))
    else:
        queries.succeeded(monitoring.CommandSucceededEvent(took, reply, *about, database_name="app"))


def test_commands_of_one_shape_are_added_up() -> None:
    """How many, how many failed, how long together, how long at worst; and the comment of the worst."""
    table = SlowTable(10)
    table.add(slow("a", 1.0, "one"))
    table.add(slow("a", 3.0, "two", failed=True))
    table.add(slow("a", 2.0, "three"))
    (shape,) = table.snapshot().shapes
    assert (shape.count, shape.failed, shape.seconds, shape.worst, shape.comment) == (3, 1, 6.0, 3.0, "two")
    assert (shape.command, shape.database, shape.collection) == ("find", "app", "users")


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 10)), max_size=100), st.integers(1, 5))
def test_the_table_is_bounded_and_loses_no_count(commands: list[tuple[int, float]], keep: int) -> None:
    """However many shapes there are, a few are kept, and nothing that was slow is left out of the sum."""
    table = SlowTable(keep)
    for shape, seconds in commands:
        table.add(slow(f"s{shape}", seconds))
    told = table.snapshot()
    assert len(told.shapes) <= keep
    assert sum(shape.count for shape in told.shapes) + told.others == len(commands)
    total = sum(shape.seconds for shape in told.shapes) + told.others_seconds
    assert total == pytest.approx(sum(seconds for _, seconds in commands))
    assert [shape.seconds for shape in told.shapes] == sorted((shape.seconds for shape in told.shapes), reverse=True)


def test_what_takes_the_most_time_is_not_driven_out() -> None:
    """A new shape takes the place of the one that took the least."""
    table = SlowTable(2)
    table.add(slow("worst", 100.0))
    for number in range(50):
        table.add(slow(f"rare{number}", 0.1))
    assert [shape.shape for shape in table.snapshot().shapes] == ["worst", "rare49"]
    assert table.snapshot().others == 49


COMMANDS: list[dict[str, Any]] = [
    {"find": "users", "filter": {"password": SECRET}},
    {"aggregate": "users", "pipeline": [{"$match": {"password": f"${SECRET}"}}]},
    {"aggregate": "users", "pipeline": [{"$search": {"text": {"query": f"${SECRET}"}}}]},
    {"insert": "users", "documents": [{"password": SECRET}]},
    {"update": "users", "updates": [{"q": {"_id": SECRET}, "u": {"$set": {"password": SECRET}}}]},
    {"findAndModify": "users", "query": {"_id": SECRET}, "update": [{"$set": {"p": {"$literal": SECRET}}}]},
    {"distinct": "users", "key": "name", "query": {"password": SECRET}},
    {"bulkWrite": 1, "ops": [{"insert": 0, "document": {"p": SECRET}}], "nsInfo": [{"ns": "app.users"}]},
    {"createUser": SECRET, "pwd": SECRET},
    {"dropUser": SECRET},
    {"saslStart": 1, "payload": SECRET},
    {"eval": SECRET},
    {"getMore": 7, "collection": "users", "lsid": SECRET},
    {"explain": {"find": "users", "filter": {"password": SECRET}}},
    {"find": "users", "filter": {}, "comment": {"user": SECRET}},
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: next(iter(command)))
def test_nothing_of_a_value_is_kept(command: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Not in what is told, not in what a callback is given, not in a log, not in the listener: not of failures too."""
    given_out: list[SlowCommand] = []

    def broken(slow: SlowCommand) -> None:
        given_out.append(slow)
        raise ValueError("broken")

    queries = SlowQueries(threshold=0, on_slow=broken)
    with caplog.at_level(logging.DEBUG):
        run(queries, command, reply={"cursor": {"firstBatch": [{"p": SECRET}], "id": 0}})
        run(queries, command)
    assert len(given_out) == 2
    everything = [queries, vars(queries), vars(queries._watching), queries._watching.running, queries._watching.tails]
    everything += [queries.snapshot(), queries.snapshot().to_dict(), given_out, [str(one) for one in given_out]]
    everything += [[one.to_dict() for one in given_out], caplog.text]
    everything += [vars(queries._watching.table), vars(queries._watching.tails)]
    assert SECRET not in repr(everything)
    assert json.dumps(queries.snapshot().to_dict())


def test_a_callback_that_fails_is_logged_without_the_servers_error(caplog: pytest.LogCaptureFixture) -> None:
    """The driver tells of a failed command while it handles the error, which repeats values: that is cut off."""

    def look_up() -> None:
        raise LookupError("first")

    def broken(_: SlowCommand) -> None:
        try:
            look_up()
        except LookupError as error:
            raise ValueError("broken") from error

    def insert() -> None:
        raise DuplicateKeyError(f'E11000 duplicate key error dup key: {{ mail: "{SECRET}" }}')

    queries = SlowQueries(threshold=0, on_slow=broken)
    try:
        insert()
    except DuplicateKeyError:
        run(queries, {"insert": "users", "documents": [{"mail": SECRET}]})
    assert SECRET not in caplog.text
    assert "DuplicateKeyError" not in caplog.text
    assert "LookupError: first" in caplog.text
    assert "ValueError: broken" in caplog.text


@pytest.mark.parametrize(
    ("command", "shape", "collection"),
    [
        ({"find": "users", "filter": {"a": 1}}, "find app.users filter={a: ?}", "users"),
        ({"aggregate": 1, "pipeline": []}, "aggregate app.1 pipeline=[]", None),
        ({"find": {"mail": "ann@example.org"}}, "find app.?", None),
        ({"getMore": 7, "collection": "users"}, "getMore app.users", "users"),
        ({"createIndexes": "users", "indexes": []}, "createIndexes app.users", "users"),
        ({"dropUser": "bob"}, "dropUser app", None),
        ({"ping": 1}, "ping app", None),
    ],
)
def test_a_command_is_named_with_its_collection(command: dict[str, Any], shape: str, collection: str | None) -> None:
    """Where its first value is a collection's name; of others it may be anybody's."""
    told = describe(next(iter(command)), "app", command, 1.0, failed=False)
    assert (told.shape, told.collection, told.database) == (shape, collection, "app")


def test_quick_commands_are_not_counted_and_slow_failures_are() -> None:
    """The threshold is the same for both; a failure has its own number."""
    queries = SlowQueries(threshold=0.1)
    command = {"find": "users", "filter": {"a": 1}, "comment": "x" * 500}
    run(queries, command, 0.099, reply={"ok": 1})
    run(queries, command, 0.099)
    assert queries.snapshot().shapes == ()
    run(queries, command, 0.1, reply={"ok": 1})
    run(queries, command, 30.0)
    (shape,) = queries.snapshot().shapes
    assert (shape.count, shape.failed, shape.worst) == (2, 1, 30.0)
    assert shape.comment == "x" * 200


@pytest.mark.parametrize(
    "opening",
    [
        {"aggregate": "users", "pipeline": [{"$changeStream": {}}]},
        {"find": "log", "filter": {}, "tailable": True, "awaitData": True},
    ],
)
def test_waiting_for_something_to_happen_is_not_slow(opening: dict[str, Any]) -> None:
    """The `getMore` of a change stream or a tailable cursor is idle; that of any other cursor is slow."""
    queries = SlowQueries(threshold=0.1)
    run(queries, opening, 0.01, reply={"ok": 1})  # as of a change stream on a server that is too old
    run(queries, opening, 0.01, reply={"cursor": {"id": 7, "firstBatch": []}})
    run(queries, {"getMore": 7, "collection": "users"}, reply={"cursor": {"id": 7, "nextBatch": []}})
    assert queries.snapshot().shapes == ()
    run(queries, {"getMore": 8, "collection": "users"}, reply={"cursor": {"id": 8, "nextBatch": []}})
    assert [shape.shape for shape in queries.snapshot().shapes] == ["getMore app.users"]


def test_waiting_cursors_and_commands_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What never ends, as far as the driver reports it, is forgotten, the oldest first."""
    tails = Tails()
    opening = {"aggregate": "users", "pipeline": [{"$changeStream": {}}]}
    for number in range(1, MOST_TAILS + 3):
        tails.note("aggregate", SERVER, opening, {"cursor": {"id": number}})
    assert not tails.is_idle("getMore", SERVER, {"getMore": 2})
    assert tails.is_idle("getMore", SERVER, {"getMore": 3})
    monkeypatch.setattr(_slow_queries, "_MOST_RUNNING", 3)
    queries = SlowQueries(threshold=0)
    for number in range(10):
        queries.started(monitoring.CommandStartedEvent({"ping": 1}, "app", number, SERVER, number))
    assert len(queries._watching.running) == 3
    run(queries, {"ping": 1}, reply={"ok": 1}, number=99)
    late = monitoring.CommandSucceededEvent(dt.timedelta(microseconds=10), {"ok": 1}, "ping", 1, SERVER, 1)
    queries.succeeded(late)
    assert sum(shape.count for shape in queries.snapshot().shapes) == 1


@pytest.mark.parametrize("bad", [-1, True, float("nan"), "1", None])
def test_a_threshold_that_cannot_work_is_refused(bad: Any) -> None:
    """The argument is named."""
    with pytest.raises(UsageError, match="threshold"):
        SlowQueries(threshold=bad)


@pytest.mark.parametrize("bad", [0, True, 1.5, None])
def test_a_bound_that_cannot_work_is_refused(bad: Any) -> None:
    """The argument is named."""
    with pytest.raises(UsageError, match="keep"):
        SlowQueries(keep=bad)
