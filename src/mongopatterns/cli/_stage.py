"""What a version is played with and what came of it, whichever the driver."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from typing_extensions import override

from mongopatterns.cli._rows import Row

# The two kinds of database stand beside each other for `_stage_async.py` and its generated twin.
__all__ = ["SELECTION_MS", "AsyncDatabase", "CommandCount", "Database", "DriverName", "Setting", "Take"]

T = TypeVar("T")

DriverName: TypeAlias = Literal["pymongo", "motor", "sync"]

# PyMongo's own default; more is needed only when more calls are under way.
_POOL: Final = 100
# A server that was there a moment ago is given up after this many milliseconds.
SELECTION_MS: Final = 5_000
# How many times as many calls a crowd is: 256 tasks, or 64 threads, which cost more, for the default of 32.
_CROWD_OF_TASKS: Final = 8
_CROWD_OF_THREADS: Final = 2


@dataclass(frozen=True)
class Setting:
    """Where and how versions are played: the same for all of them.

    Attributes:
        uri: The server.
        database: The name of the database with the rows.
        flights: The flights that were loaded.
        concurrency: How many calls are under way at once.
        driver: Whose client to use.
        connections: How many the client may open; None for as many as it likes by itself, or as are needed.
    """

    uri: str
    database: str
    flights: Sequence[Row]
    concurrency: int
    driver: DriverName
    connections: int | None = None

    def crowded(self) -> Setting:
        """Return the same with many more calls at once, and no more connections.

        With a connection for each call of a crowd, a version that sends a command for each is slower: more
        commands at once are in each other's way on the server. It is to have its best case.
        """
        times = _CROWD_OF_THREADS if self.driver == "sync" else _CROWD_OF_TASKS
        return replace(self, concurrency=times * self.concurrency, connections=self.concurrency)

    def client_options(self, *listeners: CommandListener) -> dict[str, Any]:
        """Return the options of the client, whatever its class."""
        return {
            "tz_aware": True,
            "maxPoolSize": self.connections or max(_POOL, self.concurrency),
            "serverSelectionTimeoutMS": SELECTION_MS,
            "event_listeners": listeners,
        }


@dataclass(frozen=True)
class Take(Generic[T]):
    """One version that was played.

    Attributes:
        told: What it returned: what its callers were told.
        seconds: How long it took.
        commands: How many commands its client sent.
    """

    told: T
    seconds: float
    commands: int


class CommandCount(CommandListener):
    """Count the commands of a client."""

    def __init__(self) -> None:
        self.total: int = 0
        self._lock = threading.Lock()

    @override
    def started(self, event: CommandStartedEvent) -> None:
        """Count it."""
        with self._lock:
            self.total += 1

    @override
    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Do nothing: it was counted when it started."""

    @override
    def failed(self, event: CommandFailedEvent) -> None:
        """Do nothing: it was counted when it started."""
