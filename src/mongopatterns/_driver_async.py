"""What differs between the worlds, asynchronous side: PyMongo's async API and Motor through one seam.

The hand-written sibling is `_driver_sync.py`; both offer the same names.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar

from pymongo.errors import PyMongoError

from mongopatterns._driver import check_client as _check_client
from mongopatterns._driver import collection_of, deadline, refuse_old_server, suspects_old_server
from mongopatterns.commands import Read
from mongopatterns.typing import AsyncCollectionLike, AsyncDatabaseLike, Durability

T = TypeVar("T")

_HELLO_SECONDS = 5
_COMMIT_SECONDS = 120  # as PyMongo's `with_transaction`

Lock = asyncio.Lock

Target = AsyncDatabaseLike[Any] | AsyncCollectionLike[Any]


def bind(
    target: Target, name: str, durability: Durability, read_preference: Any = None
) -> AsyncCollectionLike[dict[str, Any]]:
    """Return the collection to work on (see `collection_of`)."""
    collection: AsyncCollectionLike[dict[str, Any]] = collection_of(
        target, name, durability, read_preference, asynchronous=True
    )
    return collection


def check_client(client: object) -> None:
    """Refuse what is no client of this world (see `_driver.check_client`)."""
    _check_client(client, asynchronous=True)


def current_loop() -> Any:
    """Return the event loop that this runs in."""
    return asyncio.get_running_loop()


async def settle(value: T | Awaitable[T]) -> T:
    """Wait for what the driver handed back, if it is something to wait for: PyMongo and Motor differ here."""
    if inspect.isawaitable(value):
        return await value
    return value


async def to_the_end(value: T | Awaitable[T]) -> T:
    """Wait as `settle` does, and do not stop in the middle of it: a cancellation counts when it is over."""
    task = asyncio.ensure_future(settle(value))
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:  # noqa: PERF203  # each has to be waited for
            cancelled = error
    if cancelled is not None:
        raise cancelled from task.exception()
    return task.result()


async def documents(collection: Any, read: Read, session: Any) -> list[dict[str, Any]]:
    """Read all that a read gives; of a command its one reply."""
    if read.method == "command":
        asked = {**read.call(session), "read_preference": collection.read_preference}
        return [await collection.database.command(**asked)]
    cursor = await settle(getattr(collection, read.method)(**read.call(session)))
    found: list[dict[str, Any]] = await cursor.to_list(None)
    return found


async def together(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Make calls at the same time, and return what they return, in order.

    The first that fails cancels the others, which are over when its error is raised.
    """
    if len(calls) == 1:
        return [await calls[0]()]
    tasks = [asyncio.ensure_future(call()) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def transaction(session: Any, work: Callable[[Any], Awaitable[T]], *options: Any) -> T:
    """Do something in a transaction, again until it is known to be committed.

    That is what `with_transaction` does. Motor's commits where it leaves a context of its own, and repeats no commit.
    """
    results: list[T] = []

    async def noted(session: Any) -> T:
        results[:] = [await work(session)]
        return results[0]

    give_up, unknown = monotonic() + _COMMIT_SECONDS, False
    while True:
        try:
            if not unknown:
                result: T = await session.with_transaction(noted, *options)
                return result
            await session.commit_transaction()
        except PyMongoError as error:  # noqa: PERF203  # each attempt has an error of its own
            unknown = error.has_error_label("UnknownTransactionCommitResult")
            again = unknown or error.has_error_label("TransientTransactionError")
            if not again or error.timeout or monotonic() >= give_up:
                raise
        else:
            return results[0]


async def in_thread(function: Callable[[], T]) -> T:
    """Call a function that may take its time, in a thread of its own."""
    return await asyncio.to_thread(function)


async def pause(seconds: float) -> None:
    """Wait."""
    await asyncio.sleep(seconds)


class call:  # noqa: N801  # reads as the statement that it is: `with call(...)`
    """Send one command: bound its time, and say so plainly if the server is too old to know it."""

    def __init__(self, collection: AsyncCollectionLike[Any], timeout: float | None) -> None:
        self._collection: Any = collection
        self._deadline = deadline(timeout)

    async def __aenter__(self) -> None:
        """Start the clock."""
        self._deadline.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the clock; ask an answer that smells of an old server for its version."""
        self._deadline.__exit__(kind, error, trace)
        if error is not None and suspects_old_server(error):
            hello: dict[str, Any] = {}
            with suppress(PyMongoError), deadline(_HELLO_SECONDS):
                hello = await self._collection.database.command("hello")
            refuse_old_server(hello, error)
