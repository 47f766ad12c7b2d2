"""What differs between the worlds, synchronous side: PyMongo.

The hand-written sibling is `_driver_async.py`; both offer the same names.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from time import sleep
from types import TracebackType
from typing import Any, TypeVar

from pymongo.errors import PyMongoError

from mongopatterns._driver import check_client as _check_client
from mongopatterns._driver import collection_of, deadline, refuse_old_server, suspects_old_server
from mongopatterns.commands import Read
from mongopatterns.typing import CollectionLike, DatabaseLike, Durability

T = TypeVar("T")

_HELLO_SECONDS = 5

Lock = threading.Lock

Target = DatabaseLike[Any] | CollectionLike[Any]


def bind(
    target: Target, name: str, durability: Durability, read_preference: Any = None
) -> CollectionLike[dict[str, Any]]:
    """Return the collection to work on (see `collection_of`)."""
    collection: CollectionLike[dict[str, Any]] = collection_of(
        target, name, durability, read_preference, asynchronous=False
    )
    return collection


def check_client(client: object) -> None:
    """Refuse what is no client of this world (see `_driver.check_client`)."""
    _check_client(client, asynchronous=False)


def current_loop() -> Any:
    """Return the event loop that this runs in: threads have none."""
    return None


def settle(value: T) -> T:
    """Return what the driver handed back: here it is always the thing itself."""
    return value


def to_the_end(value: T) -> T:
    """Return what the driver handed back: here it is over."""
    return value


def documents(collection: Any, read: Read, session: Any) -> list[dict[str, Any]]:
    """Read all that a read gives; of a command its one reply."""
    if read.method == "command":
        asked = {**read.call(session), "read_preference": collection.read_preference}
        return [collection.database.command(**asked)]
    cursor = settle(getattr(collection, read.method)(**read.call(session)))
    found: list[dict[str, Any]] = cursor.to_list(None)
    return found


def together(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Make calls at the same time, and return what they return, in order.

    Threads are begun for it and are over when it returns. If a call fails, its error is raised when all are over.

    Where no thread can be begun, calls are made one after the other: while the interpreter ends, for one. (Then an
    executor takes nothing at all, and one that fails to begin a thread may or may not make the call.)
    """
    if len(calls) == 1:
        return [calls[0]()]
    made: list[Future[T]] = [Future() for _ in calls]
    threads: list[threading.Thread] = []
    try:
        for call_, told in zip(calls, made, strict=True):
            # (in a copy of the context, in which the driver keeps the deadline)
            thread = threading.Thread(target=copy_context().run, args=(_make, call_, told))
            try:
                thread.start()
            except RuntimeError:
                _make(call_, told)
            else:
                threads.append(thread)
        return [told.result() for told in made]
    finally:
        for thread in threads:
            thread.join()


def _make(call_: Callable[[], T], told: Future[T]) -> None:
    try:
        told.set_result(call_())
    except BaseException as error:  # noqa: BLE001  # it is raised where it is asked for
        told.set_exception(error)


def transaction(session: Any, work: Callable[[Any], T], *options: Any) -> T:
    """Do something in a transaction, again until it is known to be committed."""
    result: T = session.with_transaction(work, *options)
    return result


def in_thread(function: Callable[[], T]) -> T:
    """Call a function that may take its time: here, in the caller's own thread."""
    return function()


def pause(seconds: float) -> None:
    """Wait."""
    sleep(seconds)


class call:  # noqa: N801  # reads as the statement that it is: `with call(...)`
    """Send one command: bound its time, and say so plainly if the server is too old to know it."""

    def __init__(self, collection: CollectionLike[Any], timeout: float | None) -> None:
        self._collection: Any = collection
        self._deadline = deadline(timeout)

    def __enter__(self) -> None:
        """Start the clock."""
        self._deadline.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the clock; ask an answer that smells of an old server for its version."""
        self._deadline.__exit__(kind, error, trace)
        if error is not None and suspects_old_server(error):
            hello: dict[str, Any] = {}
            with suppress(PyMongoError), deadline(_HELLO_SECONDS):
                hello = self._collection.database.command("hello")
            refuse_old_server(hello, error)
