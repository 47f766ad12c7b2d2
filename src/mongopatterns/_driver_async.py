"""What differs between the worlds, asynchronous side: PyMongo's async API and Motor through one seam.

The hand-written sibling is `_driver_sync.py`; both offer the same names.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

from pymongo.errors import PyMongoError

from mongopatterns._driver import collection_of, deadline, refuse_old_server, suspects_old_server
from mongopatterns.typing import AsyncCollectionLike, AsyncDatabaseLike, Durability

T = TypeVar("T")

_HELLO_SECONDS = 5

Target = AsyncDatabaseLike[Any] | AsyncCollectionLike[Any]


def bind(target: Target, name: str, durability: Durability) -> AsyncCollectionLike[dict[str, Any]]:
    """Return the collection to work on (see `collection_of`)."""
    collection: AsyncCollectionLike[dict[str, Any]] = collection_of(target, name, durability, asynchronous=True)
    return collection


async def settle(value: T | Awaitable[T]) -> T:
    """Wait for what the driver handed back, if it is something to wait for: PyMongo and Motor differ here."""
    if inspect.isawaitable(value):
        return await value
    return value


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
