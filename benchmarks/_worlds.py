"""Where calls are made and timed: the asynchronous driver or the synchronous one, with some callers at once.

Both worlds are driven from plain code: the asynchronous one runs its event loop for the length of a turn, the
synchronous one has a thread per caller, and none where there is one caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Barrier
from typing import Any, Final, Literal, Protocol, TypeAlias

from pymongo import AsyncMongoClient, MongoClient

Tally: TypeAlias = Callable[[Any, Collection[Any]], int]  # the sum of what a (synchronous) database stores for keys

_END: Final = object()


@dataclass(frozen=True, slots=True)
class World:
    """A driver, and how many callers use it at once."""

    driver: Literal["async", "sync"]
    callers: int

    def __str__(self) -> str:
        many = "callers" if self.driver == "async" else "threads"
        return f"{self.driver}, {'1 caller' if self.callers == 1 else f'{self.callers} {many}'}"

    @contextlib.contextmanager
    def open(self, uri: str) -> Generator[Stage]:
        """Provide a client with an empty database for the length of a `with` block."""
        make = (_AsyncStage if self.driver == "async" else _SyncStage)(uri, self.callers)
        # Garbage is collected before each turn, so that no turn pays for the one before it. That takes tens of
        # milliseconds if all that was ever imported is looked at again.
        gc.collect()
        gc.freeze()
        try:
            with contextlib.closing(make):
                yield make
        finally:
            gc.unfreeze()


class Stage(Protocol):
    """One client and one database, on which both sides are called.

    Attributes:
        uri: Where it is, for a side that can only make a client of its own.
        database: The database.
        exits: What is to be closed before the stage is.
    """

    uri: str
    database: Any
    exits: contextlib.ExitStack

    def call(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """Make one call and return its answer."""
        ...

    def together(self, function: Callable[..., Any], calls: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Make all calls at once and return their answers, in the order of the calls."""
        ...

    def audit(self) -> AbstractContextManager[Any]:
        """Provide the database to look at what is stored, on a client of its own that is gone afterwards."""
        ...

    def time(self, function: Callable[..., Any], keys: Iterable[Any]) -> float:
        """Return the seconds that one call per key took; whichever caller is free makes the next one."""
        ...


class _Stage:
    """What both have."""

    database: Any

    def __init__(self, uri: str, callers: int) -> None:
        self.uri = uri
        self.exits = contextlib.ExitStack()
        self._callers = callers
        self._name = f"benchmark_{secrets.token_hex(8)}"

    @contextlib.contextmanager
    def audit(self) -> Generator[Any]:
        with MongoClient[dict[str, Any]](self.uri) as client:
            yield client[self._name]


class _SyncStage(_Stage):
    def __init__(self, uri: str, callers: int) -> None:
        super().__init__(uri, callers)
        self._client: MongoClient[dict[str, Any]] = MongoClient(uri)
        self.database = self._client[self._name]
        self._threads = ThreadPoolExecutor(callers)  # they live from turn to turn, as those of a web server do

    def call(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        return function(**arguments)

    def together(self, function: Callable[..., Any], calls: Sequence[Mapping[str, Any]]) -> list[Any]:
        with ThreadPoolExecutor(len(calls)) as threads:
            ready = Barrier(len(calls))

            def one(arguments: Mapping[str, Any]) -> Any:
                ready.wait()
                return function(**arguments)

            return list(threads.map(one, calls))

    def time(self, function: Callable[..., Any], keys: Iterable[Any]) -> float:
        gc.collect()
        return self._alone(function, keys) if self._callers == 1 else self._race(function, keys)

    @staticmethod
    def _alone(function: Callable[..., Any], keys: Iterable[Any]) -> float:
        started = time.perf_counter()
        for key in keys:
            function(key)
        return time.perf_counter() - started

    def _race(self, function: Callable[..., Any], keys: Iterable[Any]) -> float:
        shared: SimpleQueue[Any] = SimpleQueue()
        for key in keys:
            shared.put(key)
        for _ in range(self._callers):
            shared.put(_END)
        started: list[float] = []
        ready = Barrier(self._callers, action=lambda: started.append(time.perf_counter()))

        def caller() -> float:
            ready.wait()
            for key in iter(shared.get, _END):  # whoever is free takes the next one
                function(key)
            return time.perf_counter()

        # This thread may be the last one to get a turn: the clock is read by those that work.
        running = [self._threads.submit(caller) for _ in range(self._callers)]
        return max(future.result() for future in running) - started[0]

    def close(self) -> None:
        self._threads.shutdown()
        self.exits.close()
        self._client.drop_database(self._name)
        self._client.close()


class _AsyncStage(_Stage):
    def __init__(self, uri: str, callers: int) -> None:
        super().__init__(uri, callers)
        self._loop = asyncio.new_event_loop()
        self._client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri)
        self.database = self._client[self._name]

    def call(self, function: Callable[..., Awaitable[Any]], arguments: Mapping[str, Any]) -> Any:
        return self._loop.run_until_complete(function(**arguments))

    def together(self, function: Callable[..., Awaitable[Any]], calls: Sequence[Mapping[str, Any]]) -> list[Any]:
        async def gathered() -> list[Any]:
            return await asyncio.gather(*(function(**arguments) for arguments in calls))

        return self._loop.run_until_complete(gathered())

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
        self.exits.close()
        self._loop.run_until_complete(self._client.drop_database(self._name))
        self._loop.run_until_complete(self._client.close())
        self._loop.close()
