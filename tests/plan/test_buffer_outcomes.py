"""What an answer means for each item of a batch, and what is sent next. No server."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DuplicateKeyError,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
    WriteError,
)

from mongopatterns import DeploymentError, OutcomeUnknown
from mongopatterns.buffer._items import DELETE, INSERT, REPLACE, UPDATE, Item, Target
from mongopatterns.buffer._outcomes import AlreadyDone, Failed, at_least_once, exactly_once
from mongopatterns.buffer._queue import Batch, Queue
from mongopatterns.expressions import ANY_UUID

TARGET = Target("db.c", None, ANY_UUID)
OTHER = Target("db.other", None, ANY_UUID)
DUPLICATE: dict[str, Any] = {"code": 11000, "errmsg": "E11000 duplicate key", "keyPattern": {"_id": 1}}


def update(key: Any, number: int = 1) -> Item:
    return Item(TARGET, UPDATE, key, {"$inc": {"n": number}}, 10)


def insert(key: Any) -> Item:
    return Item(TARGET, INSERT, key, b"", 10)


def batch_of(*items: Item) -> Batch[Item]:
    queue: Queue[Item] = Queue(100, 10**6, 100, 10**6)
    for place, item in enumerate(items):
        item.place = place
        queue.reserve(item)
        queue.add(item)
    queue.hurry()
    batch = queue.cut()
    assert batch is not None
    batch.id = "id"
    return batch


def sent(sends: Any) -> list[Any]:
    return [(step.first.key, step.body) for send in sends for step in send.steps]


def run(steps: Any, *answers: Any) -> list[Any]:
    """Give answers one after the other; return what was sent for each."""
    found, turn = [], next(steps, None)
    for answer in answers:
        assert turn is not None
        found.append(sent(getattr(turn, "sends", turn)))
        try:
            turn = steps.send(answer)
        except StopIteration:
            turn = None
    assert turn is None
    return found


def after(steps: Any, answer: Any) -> Any:
    """Give an answer; return what comes next, or None."""
    try:
        return steps.send(answer)
    except StopIteration:
        return None


def errors(items: Any) -> list[type]:
    assert all(item.done for item in items)
    return [type(item.error) for item in items]


OK: Any = type(None)


def refused(place: int, **told: Any) -> BulkWriteError:
    return BulkWriteError({"writeErrors": [{"index": place, "code": 121, "errmsg": "no", **told}]})


def test_all_is_well() -> None:
    """Each is done."""
    items = [insert(1), update(2)]
    assert len(run(at_least_once(batch_of(*items)), [None, None])) == 1
    assert errors(items) == [OK, OK]


def test_one_is_refused() -> None:
    """It alone has an error, of its own kind."""
    items = [insert(1), insert(2), update(3), update(4)]
    run(at_least_once(batch_of(*items)), [refused(1, **DUPLICATE), refused(0)])
    assert errors(items) == [OK, DuplicateKeyError, WriteError, OK]


def test_an_answer_is_about_one_command() -> None:
    """What the server says of the updates is not said of the documents that were stored before."""
    items = [update(1), insert(2), Item(TARGET, DELETE, 3, None, 10), Item(TARGET, REPLACE, 4, {"_id": 4}, 10)]
    [turn] = run(at_least_once(batch_of(*items)), [None, OperationFailure("no", 13), None])
    assert [key for key, _ in turn] == [2, 1, 4, 3]
    assert errors(items) == [OperationFailure, OK, OK, OperationFailure]


def test_what_was_merged_and_refused_is_sent_by_itself() -> None:
    """One after the other, before what comes next for the document."""
    items = [update(1, 1), update(1, 2), update(1, 3), update(1, -1)]
    found = run(at_least_once(batch_of(*items)), [refused(0)], [None], [refused(0)], [None], [None])
    bodies = [body["$inc"]["n"] for turn in found for _, body in turn]
    assert bodies == [6, 1, 2, 3, -1]
    assert errors(items) == [OK, WriteError, OK, OK]


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (AutoReconnect("x"), OutcomeUnknown),
        (NetworkTimeout("x"), OutcomeUnknown),
        (ServerSelectionTimeoutError("x"), ServerSelectionTimeoutError),
        (OperationFailure("not authorized", 13), OperationFailure),
        (BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64, "errmsg": "late"}]}), OutcomeUnknown),
    ],
)
def test_what_concerns_all_of_a_command(error: Exception, meaning: type) -> None:
    """Each item has an error of its own: what is not known is said to be so, and is not sent again."""
    items = [insert(1), insert(2)]
    assert len(run(at_least_once(batch_of(*items)), [error])) == 1
    assert errors(items) == [meaning, meaning]
    assert items[0].error is not items[1].error


def test_a_transaction_leaves_out_what_is_refused() -> None:
    """And is done again with the rest; what was merged is taken apart; documents come first, whatever their order."""
    items = [update(3, 1), update(3, 2), insert(1), insert(2)]
    batch = batch_of(*items)
    steps = exactly_once(batch, 30)
    attempt = next(steps)
    documents, _ = attempt.sends
    assert [step.first.key for send in attempt.sends for step in send.steps] == [1, 2, 3]
    attempt = steps.send(Failed(refused(1, **DUPLICATE), documents))
    assert batch.entry() == {"_id": "id", "n": 4, "refused": [3]}
    updates = attempt.sends[1]
    attempt = steps.send(Failed(refused(0), updates))
    assert sent(attempt.sends) == [(3, {"$inc": {"n": 1}}), (3, {"$inc": {"n": 2}}), (1, b"")]
    with pytest.raises(StopIteration):
        steps.send(None)
    assert errors(items) == [OK, OK, OK, DuplicateKeyError]


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (OperationFailure("not authorized", 13), OperationFailure),
        (BulkWriteError({"writeErrors": [{"code": 13, "errmsg": "not authorized"}]}), BulkWriteError),
        (ValueError("a hook has failed"), ValueError),
    ],
)
def test_a_transaction_leaves_out_a_command_that_is_refused(error: Exception, meaning: type) -> None:
    """All of it, where nothing is said of one operation; everything else is done."""
    items = [insert(1), update(2), update(3)]
    steps = exactly_once(batch_of(*items), 30)
    attempt = next(steps)
    attempt = steps.send(Failed(error, attempt.sends[1]))
    assert [step.first.key for send in attempt.sends for step in send.steps] == [1]
    with pytest.raises(StopIteration):
        steps.send(None)
    assert errors(items) == [OK, meaning, meaning]


def test_a_transaction_is_tried_again() -> None:
    """As long as there is time, and once more; then nobody knows."""
    items = [insert(1)]
    steps = exactly_once(batch_of(*items), 30)
    found = []
    attempt: Any = next(steps)
    while attempt is not None:
        found.append((attempt.seconds, attempt.pause > 0))
        attempt = after(steps, Failed(AutoReconnect("x"), None, 12.0))
    assert [round(seconds) for seconds, _ in found] == [30, 18, 10, 10, 10]
    assert [pause for _, pause in found] == [False, True, True, True, True]
    assert errors(items) == [OutcomeUnknown]


def test_what_is_on_disk_is_tried_until_it_is_done() -> None:
    """However long that takes."""
    items = [insert(1)]
    steps = exactly_once(batch_of(*items), 1, insistent=True)
    next(steps)
    for _ in range(50):
        steps.send(Failed(AutoReconnect("x"), None, 10.0))
    with pytest.raises(StopIteration):
        steps.send(None)
    assert errors(items) == [OK]


def test_what_the_ledger_knows_is_done() -> None:
    """But for what was refused then."""
    items = [insert(1), insert(2)]
    run(exactly_once(batch_of(*items), 30), Failed(AlreadyDone([1])))
    assert errors(items) == [OK, WriteError]


@pytest.mark.parametrize(("code", "text"), [(20, "replica set"), (263, "not possible"), (388, "lower max_bytes")])
def test_what_is_not_possible_in_a_transaction(code: int, text: str) -> None:
    """It says why, and what to do."""
    items = [insert(1)]
    run(exactly_once(batch_of(*items), 30), Failed(OperationFailure("Transaction numbers are only allowed on", code)))
    assert errors(items) == [DeploymentError]
    assert text in str(items[0].error)


def test_a_command_that_is_refused_takes_nothing_else_with_it() -> None:
    """It is about its collection: what is for others is sent again without it."""
    items = [insert(1), Item(OTHER, INSERT, 1, b"", 10), insert(2)]
    batch = batch_of(*items)
    call = exactly_once(batch, 30)
    attempt = next(call)
    other = next(send for send in attempt.sends if send.target is OTHER)
    again = call.send(Failed(OperationFailure("no", 13), other))
    assert [send.target for send in again.sends] == [TARGET]
    with pytest.raises(StopIteration):
        call.send(None)
    assert errors(items) == [OK, OperationFailure, OK]
