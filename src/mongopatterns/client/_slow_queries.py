"""What the driver tells about its commands: those that were slow are described, and added up."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from typing_extensions import override

from mongopatterns.client._callback import call_back
from mongopatterns.client._slow_table import SlowCommand, SlowSnapshot, SlowTable, Tails, check_threshold, describe
from mongopatterns.client._turns import Turns

__all__ = ["SlowQueries"]

# A command is kept while it is under way, one for each connection. Older drivers do not report the end of one that was
# cancelled: of what is left behind so, the oldest goes.
_MOST_RUNNING: Final = 1000


class SlowQueries(CommandListener):
    """Find slow commands: `MongoClient(uri, event_listeners=[SlowQueries(threshold=0.1)])`.

    For PyMongo's synchronous and asynchronous client and for Motor's; PyMongo takes listeners when a client is made,
    never later. Commands that failed are slow as others are: one that timed out is the slowest of all. How long a
    change stream or a tailable cursor waits for something to happen is not counted.

    A command is described by its shape, in which every value is replaced by `?`; values, replies and errors are not
    kept. Names are: of databases, collections and fields, also of fields that are named after users, and whatever looks
    like a field path in an expression; and comments.

    In a forked child it begins anew.

    Args:
        threshold: From how many seconds a command is slow, to and fro included.
        on_slow: Called with a `SlowCommand` for each. It runs where the driver sends its commands, so it has to be
            quick: log, count, or hand over. What it raises is logged by `mongopatterns.client`, and goes no further.
        keep: How many shapes are kept.

    Raises:
        UsageError: If the threshold or `keep` cannot work.
    """

    def __init__(
        self, *, threshold: float = 0.1, on_slow: Callable[[SlowCommand], Any] | None = None, keep: int = 200
    ) -> None:
        self._threshold: Final = check_threshold(threshold)
        self._on_slow: Final = on_slow
        self._keep: Final = keep
        self._watching = self._new()

    def snapshot(self) -> SlowSnapshot:
        """Return what was slow so far. Nothing is asked of the server."""
        watching = self._here()
        return watching.turns.read(watching.table.snapshot)

    @override
    def started(self, event: CommandStartedEvent) -> None:
        """Remember the command until it ends."""
        watching = self._here()
        with watching.lock:
            watching.running[event.connection_id, event.request_id] = event.command
            if len(watching.running) > _MOST_RUNNING:
                watching.running.popitem(last=False)

    @override
    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Count the command if it was slow."""
        self._end(event, event.reply)

    @override
    def failed(self, event: CommandFailedEvent) -> None:
        """Count the command if it was slow."""
        self._end(event, None)

    def _end(self, event: CommandSucceededEvent | CommandFailedEvent, reply: Mapping[str, Any] | None) -> None:
        watching = self._here()
        name, server, seconds = event.command_name, event.connection_id, event.duration_micros / 1_000_000
        with watching.lock:
            command = watching.running.pop((server, event.request_id), None)
            if command is None:
                return
            if reply is not None:
                watching.tails.note(name, server, command, reply)
            if seconds < self._threshold or watching.tails.is_idle(name, server, command):
                return
        slow = describe(name, event.database_name, command, seconds, failed=reply is None)
        watching.turns.change(lambda: watching.table.add(slow))
        call_back("on_slow", self._on_slow, slow)

    def _here(self) -> _Watching:
        """Return what is kept in this process: a fork may have copied a lock that somebody held."""
        watching = self._watching
        if watching.process != os.getpid():
            watching = self._watching = self._new()
        return watching

    def _new(self) -> _Watching:
        return _Watching(SlowTable(self._keep))


class _Watching:
    """What is kept in one process.

    The lock is for what can be done in the middle of itself, as by a signal handler; the table takes turns.
    """

    def __init__(self, table: SlowTable) -> None:
        self.process: Final = os.getpid()
        self.lock: Final = threading.RLock()
        self.running: Final[OrderedDict[tuple[Any, int], Mapping[str, Any]]] = OrderedDict()
        self.tails: Final = Tails()
        self.turns: Final = Turns()
        self.table: Final = table
