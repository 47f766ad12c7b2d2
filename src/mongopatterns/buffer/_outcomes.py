"""What comes of a batch: what is sent one after the other, and what each answer means for each item. Pure.

A batch is a generator of what is to be sent, as a call of a join is of reads: a shell sends, and hands the answers
back.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from bson.raw_bson import RawBSONDocument
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
    WriteError,
)

from mongopatterns._grouping import own_copy, unknown
from mongopatterns.buffer._items import DELETE, INSERT, REPLACE, UPDATE, Item, Target
from mongopatterns.buffer._queue import Batch, Step, Wave, operation
from mongopatterns.calls import Call
from mongopatterns.errors import DeploymentError, may_have_applied

ItemT = TypeVar("ItemT", bound=Item)

_AGAIN: Final = 10.0  # seconds that an attempt has at the least
_PAUSE: Final = 0.1  # seconds between attempts, besides the pauses that the driver makes
_REFUSED: Final = "the server refused it when it was sent by a process that is gone, and with it the reason"
_DUPLICATE: Final = 11000
_COMMANDS: Final = {INSERT: "insert", UPDATE: "update", REPLACE: "update", DELETE: "delete"}
_NO_TRANSACTIONS: Final = 20
_NOT_IN_TRANSACTION: Final = 263
_TOO_LARGE: Final = 388


@dataclass(frozen=True)
class Send(Generic[ItemT]):
    """Operations of one command, on one collection, no two of them on one document: they are sent without order.

    Attributes:
        target: The collection.
        steps: The operations.
    """

    target: Target
    steps: list[Step[ItemT]]

    def call(self) -> tuple[str, list[Any]]:
        """Return the driver's method, and what it is given; for documents there is a quicker one."""
        if self.steps[0].first.kind == INSERT:
            return "insert_many", [RawBSONDocument(step.first.body) for step in self.steps]
        return "bulk_write", [operation(step) for step in self.steps]


def sends_of(wave: Wave[ItemT]) -> list[Send[ItemT]]:
    """Return the commands of a wave: an answer is about one command, and tells nothing of another one."""
    sends: list[Send[ItemT]] = []
    for target, steps in wave.items():
        commands: dict[str, list[Step[ItemT]]] = {}
        for step in steps:
            commands.setdefault(_COMMANDS[step.first.kind], []).append(step)
        sends += [Send(target, commands[name]) for name in ("insert", "update", "delete") if name in commands]
    return sends


Answer = BaseException | None


def at_least_once(batch: Batch[ItemT]) -> Generator[list[Send[ItemT]], list[Answer], None]:
    """Send a batch wave after wave, and settle its items.

    Yields:
        What is sent at the same time. The answer to each is the error of it, or None.
    """
    for wave in batch.waves:
        yield from _send(wave)


def _send(wave: Wave[ItemT]) -> Generator[list[Send[ItemT]], list[Answer], None]:
    sends = sends_of(wave)
    answers = yield sends
    refused: Wave[ItemT] = {}
    for send, answer in zip(sends, answers, strict=True):
        if found := _settle(send, answer):
            refused.setdefault(send.target, []).extend(found)
    # What was merged and refused is told by itself what is wrong with it.
    most = max((len(step.items) for steps in refused.values() for step in steps), default=0)
    for place in range(most):
        alone: Wave[ItemT] = {
            target: [step.items[place] for step in steps if place < len(step.items)]
            for target, steps in refused.items()
        }
        yield from _send({target: steps for target, steps in alone.items() if steps})


def _settle(send: Send[ItemT], answer: Answer) -> list[Step[ItemT]]:
    """Settle what was sent; return the merged operations that the server has refused."""
    if answer is None:
        for step in send.steps:
            for item in step.items:
                item.settle(None)
        return []
    if not isinstance(answer, BulkWriteError):
        _fail(send.steps, _meaning(answer))
        return []
    details: Mapping[str, Any] = answer.details or {}
    errors = {error["index"]: error for error in details.get("writeErrors", ())}
    concerns: Sequence[Mapping[str, Any]] = details.get("writeConcernErrors", ())
    rest = unknown(_of_concern(concerns[0])) if concerns else None
    refused: list[Step[ItemT]] = []
    for place, step in enumerate(send.steps):
        error = errors.get(place)
        if error is None:
            _fail([step], rest)
        elif len(step.items) > 1:
            refused.append(step)
        else:
            step.first.settle(of_write(error))
    return refused


def _fail(steps: Sequence[Step[ItemT]], error: Answer) -> None:
    for step in steps:
        for item in step.items:
            item.settle(error and own_copy(error))


def _meaning(error: BaseException) -> BaseException:
    """Say what an error of a whole command means for each operation in it."""
    return unknown(error) if may_have_applied(error) else error


def of_write(error: Mapping[str, Any]) -> WriteError:
    """Return the driver's error of one operation of several."""
    kind = DuplicateKeyError if error.get("code") == _DUPLICATE else WriteError
    return kind(str(error.get("errmsg", "")), error.get("code"), {**error})


def _of_concern(error: Mapping[str, Any]) -> WriteConcernError:
    return WriteConcernError(str(error.get("errmsg", "")), error.get("code"), {**error})


def stored_before(item: Item) -> bool:
    """Tell whether a document is there already that was, perhaps, stored before: by its own `_id`."""
    error = item.error
    return item.kind == INSERT and isinstance(error, DuplicateKeyError) and _is_of_id(error.details or {})


def _is_of_id(details: Mapping[str, Any]) -> bool:
    return list(details.get("keyPattern", ())) == ["_id"]


# Exactly once ----------------------------------------------------------------------------------------------------


class Attempt(Generic[ItemT]):
    """A transaction: what is sent in it, one after the other, besides the id of the batch.

    Attributes:
        sends: What is sent.
        seconds: How long it may take.
        pause: Seconds to wait before.
        sent: How many of them were begun.
    """

    def __init__(self, sends: list[Send[ItemT]], seconds: float, pause: float) -> None:
        self.sends = sends
        self.seconds = seconds
        self.pause = pause
        self.sent = 0

    def begin(self) -> Call[Send[ItemT]]:
        """Begin to send, perhaps once more."""
        return Call(self._each())

    def _each(self) -> Generator[Send[ItemT], Any, None]:
        for place, send in enumerate(self.sends, start=1):
            self.sent = place
            yield send
        self.sent = 0

    def failed(self, error: BaseException, seconds: float) -> Failed[ItemT]:
        """Say why it was not done."""
        return Failed(error, self.sends[self.sent - 1] if self.sent else None, seconds)


@dataclass(frozen=True)
class Failed(Generic[ItemT]):
    """A transaction that was aborted.

    Attributes:
        error: Why.
        send: What was sent when it happened; None if it was something else.
        seconds: How long it took.
    """

    error: BaseException
    send: Send[ItemT] | None = None
    seconds: float = 0.0


class AlreadyDone(Exception):  # it is no error
    """The ledger knows the batch: it was committed before.

    Attributes:
        refused: The places in the journal of what the server had refused then.
        unread: Why nobody knows what that was.
    """

    def __init__(self, refused: Sequence[int] = (), unread: BaseException | None = None) -> None:
        super().__init__()
        self.refused = refused
        self.unread = unread

    def meaning(self, item: Item) -> BaseException | None:
        """Say what it means for an item of the batch: why it is not stored, or may not be."""
        if self.unread is not None:
            return unknown(self.unread)
        return WriteError(_REFUSED) if item.place is not None and item.place in self.refused else None


def exactly_once(
    batch: Batch[ItemT], retry_for: float, *, insistent: bool = False
) -> Generator[Attempt[ItemT], Failed[ItemT] | None, None]:
    """Send a batch in a transaction, and settle its items; what is refused is left out, and the rest sent again.

    Whether it is committed or not, under the same id it is not done twice: so it is tried again where the server could
    not be asked, or did not answer. (The driver tries again by itself; Motor does not, where a commit fails.)

    Args:
        batch: What is sent.
        retry_for: Seconds for which it is tried again; one more attempt is made when they are over.
        insistent: Whether it is tried again and again: it is on disk, and nobody else will.

    Yields:
        What is done in one transaction. The answer is None if it is committed, or why it is not.
    """
    waves = [{target: list(steps) for target, steps in wave.items()} for wave in batch.waves]
    left, pause, last = retry_for, 0.0, False
    while sends := [send for wave in waves for send in sends_of(wave)]:
        failed = yield Attempt(sends, max(left, _AGAIN), pause)
        if failed is None:
            failed = Failed(AlreadyDone())
        if isinstance(failed.error, AlreadyDone):
            for item in (item for send in sends for step in send.steps for item in step.items):
                item.settle(failed.error.meaning(item))
            return
        pause = 0.0
        if is_passing(failed.error) and (insistent or not last):
            last = left <= 0
            left -= failed.seconds + _PAUSE
            pause = _PAUSE
            continue
        if is_passing(failed.error) or failed.send is None:
            error = unknown(failed.error) if is_passing(failed.error) else _in_transaction(failed.error)
            _fail([step for send in sends for step in send.steps], error)
            return
        step, error = _culprit(failed.send, failed.error)
        if step is None:  # the command was refused: that is about its collection
            waves = _without(waves, failed.send.steps)
            _fail(failed.send.steps, _in_transaction(error))
        elif len(step.items) == 1:
            waves = _without(waves, [step])
            step.first.settle(_in_transaction(error))
        else:  # what was merged and refused is told by itself what is wrong with it
            waves = _apart(waves, step)


def is_passing(error: BaseException) -> bool:
    """Tell whether an error says nothing of the operations: the server could not be asked, or did not answer."""
    passing = isinstance(error, PyMongoError) and error.has_error_label("TransientTransactionError")
    return passing or isinstance(error, ConnectionFailure) or may_have_applied(error)


def _culprit(send: Send[ItemT], error: BaseException) -> tuple[Step[ItemT] | None, BaseException]:
    """Tell which operation the server has refused, and why."""
    if isinstance(error, BulkWriteError):
        told = (error.details or {}).get("writeErrors") or [{}]
        if "index" in told[0]:
            return send.steps[told[0]["index"]], of_write(told[0])
    return None, error


def _without(waves: Any, gone: Sequence[Step[ItemT]]) -> Any:
    out = set(gone)
    return [{target: [step for step in steps if step not in out] for target, steps in wave.items()} for wave in waves]


def _apart(waves: Any, step: Step[ItemT]) -> Any:
    """Put the items of an operation in its place, each in a wave of its own."""
    place = next(place for place, wave in enumerate(waves) if step in wave.get(step.first.target, ()))
    alone = [{step.first.target: [item]} for item in step.items]
    return [*waves[:place], *alone, *_without(waves[place:], [step])]


def _in_transaction(error: BaseException) -> BaseException:
    """Say what is not possible in a transaction."""
    if not isinstance(error, OperationFailure):
        return error
    code = error.code
    if code == _NO_TRANSACTIONS and "Transaction numbers" in str(error):
        told = DeploymentError(
            "delivery='exactly_once' needs transactions, which a single server has not: use a replica set, or "
            "delivery='at_least_once'"
        )
    elif code == _NOT_IN_TRANSACTION:
        why = (error.details or {}).get("errmsg", error)  # (its text has the whole reply)
        told = DeploymentError(f"delivery='exactly_once' writes in a transaction, where this is not possible: {why}")
    elif code == _TOO_LARGE:
        told = DeploymentError("the batch, one transaction, is too large for the server's cache: lower max_bytes=")
    else:
        return error
    told.__cause__ = error
    return told
