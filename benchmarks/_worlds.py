"""Where calls are made and timed: the asynchronous driver or the synchronous one, with some callers at once.

Both worlds are driven from plain code: the asynchronous one runs its event loop for the length of a turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pymongo import AsyncMongoClient, MongoClient


@dataclass(frozen=True, slots=True)
class World:
    """A driver, and how many callers use it at once."""

    driver: Literal["async", "sync"]
    callers: int

    def __str__(self) -> str:
        return f"{self.driver}, {self.callers} {'caller' if self.callers == 1 else 'callers'}"

    @contextlib.contextmanager
    def open(self, uri: str) -> Generator[Stage]:
        """Provide a client with an empty database for the length of a `with` block."""
        make = _AsyncStage(uri, self.callers) if self.driver == "async" else _SyncStage(uri)
        try:
            yield make
        finally:
            make.close()


class Stage(Protocol):
    """One client and one database, on which both sides are called."""

    database: Any

    def call(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """Make one call and return its answer."""
        ...

    def time(self, function: Callable[..., Any], keys: Iterable[Any]) -> float:
        """Return the seconds that one call per key took."""
        ...


class _SyncStage:
    def __init__(self, uri: str) -> None:
        self._client: MongoClient[dict[str, Any]] = MongoClient(uri)
        self.database = self._client[_database_name()]

    def call(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        return function(**arguments)

    def time(self, function: Callable[..., Any], keys: Iterable[Any]) -> float:
        gc.collect()
        started = time.perf_counter()
        for key in keys:
            function(key)
        return time.perf_counter() - started

    def close(self) -> None:
        self._client.drop_database(self.database.name)
        self._client.close()


class _AsyncStage:
    def __init__(self, uri: str, callers: int) -> None:
        self._callers = callers
        self._loop = asyncio.new_event_loop()
        self._client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri)
        self.database = self._client[_database_name()]

    def call(self, function: Callable[..., Awaitable[Any]], arguments: Mapping[str, Any]) -> Any:
        return self._loop.run_until_complete(function(**arguments))

    def time(self, function: Callable[..., Awaitable[Any]], keys: Iterable[Any]) -> float:
        gc.collect()
        return self._loop.run_until_complete(self._race(function, keys))

    async def _race(self, function: Callable[..., Awaitable[Any]], keys: Iterable[Any]) -> float:
        shared = iter(keys)

        async def caller() -> None:
            for key in shared:  # whoever is free takes the next one
                await function(key)

        started = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(self._callers)))
        return time.perf_counter() - started

    def close(self) -> None:
        self._loop.run_until_complete(self._client.drop_database(self.database.name))
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


def _database_name() -> str:
    return f"benchmark_{secrets.token_hex(8)}"
