"""Find the query in the loop: count the commands that differ in their values alone.

PyMongo takes listeners when a client is made, never later. So the client is made with a `CommandWatcher`,
which costs next to nothing, and a guard finds it there by the driver's public options. Which guard counts a
command is decided by the context (`contextvars`) that sends it: what other tasks and threads send is not
counted.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, cast

from pymongo.client_options import ClientOptions
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)
from typing_extensions import Self, override

from mongopatterns.errors import RepeatedCommands, UsageError
from mongopatterns.testing._race import check_count
from mongopatterns.testing._shapes import shape_of

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["CommandGuard", "CommandWatcher", "n_plus_one_guard"]

# A guard around a whole job must not eat the memory when its keys hold user names: further shapes are not
# counted.
_MAX_SHAPES: Final = 10_000
# How many operations are remembered, to know the further commands of one: those of the recent past, as an
# operation ends before many others have come and gone.
_MAX_OPERATIONS: Final = 1000
# What an error's message lists; the error's `counts` has all.
_SHOWN: Final = 10


class CommandWatcher(CommandListener):
    """Let guards see the commands of a client: `MongoClient(uri, event_listeners=[CommandWatcher()])`.

    For PyMongo's synchronous and asynchronous client and for Motor's. Outside of a guard it does nothing. A
    guard counts the commands of every client that has the same watcher: give each its own.
    """

    @override
    def started(self, event: CommandStartedEvent) -> None:
        """Tell the guards around the call about its command."""
        for guard in _guards.get():
            guard.record(self, event)

    @override
    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Do nothing: it was counted when it started."""

    @override
    def failed(self, event: CommandFailedEvent) -> None:
        """Do nothing: it was counted when it started."""


class CommandGuard:
    """Count the commands of one client in a `with` block: see `n_plus_one_guard`, which makes it."""

    def __init__(self, watchers: frozenset[CommandWatcher], repeats: int) -> None:
        self._watchers: Final = watchers
        self._repeats: Final = repeats
        self._counts: Final[Counter[str]] = Counter()
        self._seen: Final[OrderedDict[tuple[int, str], None]] = OrderedDict()
        self._lock: Final = threading.Lock()
        self._open = False

    @property
    def counts(self) -> dict[str, int]:
        """How often each shape was sent so far, by its description; the most frequent first."""
        with self._lock:
            return dict(self._counts.most_common())

    def record(self, watcher: CommandWatcher, event: CommandStartedEvent) -> None:
        """Count a command, if it is the first of its shape in its operation. The watcher calls this."""
        if not self._open or watcher not in self._watchers:
            return
        shape = shape_of(event.command_name, event.database_name, event.command)
        if shape is None:
            return
        with self._lock:
            if self._is_further((event.operation_id or event.request_id, shape)):
                return
            if shape in self._counts or len(self._counts) < _MAX_SHAPES:
                self._counts[shape] += 1

    def _is_further(self, operation: tuple[int, str]) -> bool:
        """Tell whether an operation has sent a command of this shape before, and remember that it has."""
        if operation in self._seen:
            self._seen.move_to_end(operation)
            return True
        self._seen[operation] = None
        if len(self._seen) > _MAX_OPERATIONS:
            self._seen.popitem(last=False)
        return False

    def __enter__(self) -> Self:
        """Start to count, from nothing.

        Raises:
            UsageError: The block of this guard is entered already.
        """
        if self._open:
            raise UsageError("guard", "its block is entered already: make one guard for each block")
        with self._lock:
            self._counts.clear()
            self._seen.clear()
        self._open = True
        _guards.set((*_guards.get(), self))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop counting, and judge.

        Raises:
            RepeatedCommands: A shape was sent too often, and nothing was raised in the block.
        """
        self._open = False
        # No token: a fixture may leave the block in another context than the one that entered it.
        _guards.set(tuple(guard for guard in _guards.get() if guard is not self))
        if exc_type is not None:
            return
        repeated = {shape: count for shape, count in self.counts.items() if count > self._repeats}
        if repeated:
            raise RepeatedCommands(_message(repeated, self._repeats), repeated)


_guards: ContextVar[tuple[CommandGuard, ...]] = ContextVar("mongopatterns_guards", default=())


def n_plus_one_guard(client: Any, repeats: int = 3) -> CommandGuard:
    """Fail a test in which one command is sent again and again for different values.

    ```python
    client = AsyncMongoClient(uri, event_listeners=[CommandWatcher()])

    with n_plus_one_guard(client, repeats=3):
        await list_orders_with_customers(client)
    ```

    Commands are the same when they have one shape: the same command on the same collection, with the same
    keys and operators and any values. Counted are find, aggregate, count, distinct, insert, update, delete,
    findAndModify and bulkWrite; a `getMore` is part of its query.

    One operation of the driver counts once for each shape, however many commands it takes: the batches of an
    `insert_many`, the turns of an ordered bulk of several kinds, and what the driver sends again by itself.
    That last needs a driver whose events name the operation of a retry, as PyMongo's newer versions do; with
    others a retry counts again.

    Only what the block itself sends is counted, with the tasks that it starts and the threads that have a
    copy of its context (`asyncio.to_thread`, `race_threads`). Guards may be nested: each one counts. At most
    10,000 shapes are told apart; further ones are not counted.

    Args:
        client: A client of PyMongo (synchronous or asynchronous) or Motor, made with
            `event_listeners=[CommandWatcher()]`.
        repeats: How often one shape may be sent, at least 1.

    Returns:
        The guard, for `with`; its `counts` can be read in the block and after it. At its end it raises
        `RepeatedCommands` when a shape came more than `repeats` times. An error raised in the block wins.

    Raises:
        UsageError: The client has no `CommandWatcher`, or is no client, or `repeats` is below 1.
    """
    check_count("repeats", repeats)
    options = getattr(client, "options", None)
    if not isinstance(options, ClientOptions):
        raise UsageError("client", f"is a client of PyMongo or Motor, not a {type(client).__name__}")
    listeners = cast("list[object]", options.event_listeners)
    watchers = frozenset(listener for listener in listeners if isinstance(listener, CommandWatcher))
    if not watchers:
        raise UsageError(
            "client",
            "nothing watches its commands. PyMongo takes listeners only when a client is made: make it with "
            "event_listeners=[mongopatterns.testing.CommandWatcher()]",
        )
    return CommandGuard(watchers, repeats)


def _message(repeated: dict[str, int], repeats: int) -> str:
    lines = [f"commands that differ in their values alone were sent more than {repeats} times:"]
    lines += [f"  {count} x {shape}" for shape, count in list(repeated.items())[:_SHOWN]]
    if len(repeated) > _SHOWN:
        lines.append(f"  ... and {len(repeated) - _SHOWN} more shapes")
    lines.append("Fetch them together ($in, $lookup, a join) or write them in one bulk, or raise repeats=.")
    return "\n".join(lines)
