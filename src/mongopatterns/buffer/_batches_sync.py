# Generated from src/mongopatterns/buffer/_batches_async.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""How batches are sent on an asynchronous driver: what the plan says, one after the other or at the same time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Final

from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.write_concern import WriteConcern

from mongopatterns import _driver_sync as driver
from mongopatterns._driver import deadline, utc_now
from mongopatterns.buffer._buffer_plan import BufferPlan
from mongopatterns.buffer._outcomes import AlreadyDone, Attempt, Failed, Send, is_passing
from mongopatterns.buffer._queue import Batch

__all__ = ["Batches"]

_COMMENT: Final = "mongopatterns.buffer.write"
_MAJORITY: Final = WriteConcern("majority")


class Batches:
    """Send batches, and settle all that is in them.

    Args:
        plan: What is sent, and what an answer means.
        client: The driver's client.
        ledger: Where the ids of batches are written, in the same transaction.
    """

    def __init__(self, plan: BufferPlan[Any], client: Any, ledger: Any) -> None:
        self._plan = plan
        self._client = client
        self._ledger = ledger

    def send(self, batch: Batch[Any]) -> None:
        """Send a batch: one that has an id is a transaction."""
        (self._at_least_once if batch.id is None else self._exactly_once)(batch)

    def _at_least_once(self, batch: Batch[Any]) -> None:
        """Send what does not meet at the same time."""
        call, answers = self._plan.at_least_once(batch), None
        while sends := self._plan.again(call, answers):
            answers = driver.together([partial(self._tried, send) for send in sends])

    def _tried(self, send: Send[Any]) -> BaseException | None:
        try:
            with deadline(self._plan.bounds.retry_for):
                self._write(send, None)
        except Exception as error:  # noqa: BLE001  # it is the answer
            return error
        return None

    def _exactly_once(self, batch: Batch[Any]) -> None:
        """Send everything in one transaction, as often as the plan says."""
        call, answer = self._plan.exactly_once(batch), None
        while attempt := self._plan.again(call, answer):
            driver.pause(attempt.pause)
            answer = self._committed(batch, attempt)

    def _committed(self, batch: Batch[Any], attempt: Attempt[Any]) -> Failed[Any] | None:
        """Do everything in one transaction; return why it was not done."""

        def write(session: Any) -> None:
            sends = attempt.begin()
            try:
                self._ledger.insert_one({**batch.entry(), "at": utc_now()}, session=session)
            except DuplicateKeyError as error:
                raise AlreadyDone from error
            while send := self._plan.again(sends, None):
                self._write(send, session)

        started = monotonic()
        try:
            with deadline(attempt.seconds):
                self._in_transaction(write)
        except AlreadyDone:
            return attempt.failed(self._known(batch), monotonic() - started)
        except Exception as error:  # noqa: BLE001  # it is the answer
            return attempt.failed(error, monotonic() - started)
        return None

    def _in_transaction(self, write: Callable[[Any], Any]) -> None:
        with driver.settle(self._client.start_session()) as session:
            session.with_transaction(write, write_concern=_MAJORITY)

    def _known(self, batch: Batch[Any]) -> Exception:
        """Ask the ledger what was refused of a batch that it knows."""
        try:
            with deadline(self._plan.bounds.retry_for):
                entry = self._ledger.find_one({"_id": batch.id}) or {}
        except PyMongoError as error:
            return error if is_passing(error) else AlreadyDone(unread=error)
        return AlreadyDone(entry.get("refused", ()))

    def _write(self, send: Send[Any], session: Any) -> None:
        method, given = send.call()
        # In a transaction the first error ends everything: what came after it would only tell that.
        ordered = session is not None
        getattr(send.target.collection, method)(given, ordered=ordered, session=session, comment=_COMMENT)
