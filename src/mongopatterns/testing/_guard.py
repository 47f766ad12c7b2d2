"""Find the query in the loop: count the commands that differ in their values alone, and say where they came from.

PyMongo takes listeners when a client is made, never later. So the client is made with a `CommandWatcher`,
which costs next to nothing, and a guard finds it there by the driver's public options. Which guard counts a
command is decided by the context (`contextvars`) that sends it: what other tasks and threads send is not
counted.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, defaultdict
from contextvars import ContextVar
from itertools import islice
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
from mongopatterns.shapes import shape_of
from mongopatterns.testing._call_sites import CallSites, readable
from mongopatterns.testing._race import check_count

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["CommandGuard", "CommandWatcher", "n_plus_one_guard"]

# A guard around a whole job must not eat the memory when its keys hold user names: further shapes are not
# counted.
_MAX_SHAPES: Final = 10_000
# How many operations are remembered, to know the further commands of one: those of the recent past, as an
# operation ends before many others have come and gone.
_MAX_OPERATIONS: Final = 1000
# One shape comes from few places; a generated program may have any number. Those of further ones are not told apart.
_MAX_SITES: Final = 20
_ELSEWHERE: Final = "elsewhere"
# What an error's message lists, and of each shape the places; the error's `counts` and `sites` have more.
_SHOWN: Final = 10
_SITES_SHOWN: Final = 3


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

    def __init__(self, client: object, watchers: frozenset[CommandWatcher], repeats: int) -> None:
        self._client: Final = client
        self._watchers: Final = watchers
        self._repeats: Final = repeats
        self._call_sites: CallSites | None = None
        self._counts: Final[Counter[str]] = Counter()
        self._sites: Final[defaultdict[str, Counter[str]]] = defaultdict(Counter)
        self._seen: Final[OrderedDict[tuple[int, str], None]] = OrderedDict()
        self._lock: Final = threading.Lock()

    @property
    def counts(self) -> dict[str, int]:
        """How often each shape was sent so far, by its description; the most frequent first."""
        with self._lock:
            return dict(self._counts.most_common())

    @property
    def sites(self) -> dict[str, dict[str, int]]:
        """Where each shape was sent from so far: `file:line in function`, and how often; the most frequent first."""
        with self._lock:
            return {shape: dict(self._sites[shape].most_common()) for shape, _ in self._counts.most_common()}

    def record(self, watcher: CommandWatcher, event: CommandStartedEvent) -> None:
        """Count a command, if it is the first of its shape in its operation. The watcher calls this."""
        call_sites = self._call_sites
        if call_sites is None or watcher not in self._watchers:
            return
        shape = shape_of(event.command_name, event.database_name, event.command)
        if shape is None:
            return
        with self._lock:
            if self._is_further((event.operation_id or event.request_id, shape)):
                return
        site = call_sites.find()
        with self._lock:
            if shape in self._counts or len(self._counts) < _MAX_SHAPES:
                self._counts[shape] += 1
                sites = self._sites[shape]
                sites[site if site in sites or len(sites) < _MAX_SITES else _ELSEWHERE] += 1

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
        if self._call_sites is not None:
            raise UsageError("guard", "its block is entered already: make one guard for each block")
        with self._lock:
            self._counts.clear()
            self._sites.clear()
            self._seen.clear()
        self._call_sites = CallSites(self._client)
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
        if self._call_sites is not None:
            self._call_sites.close()
            self._call_sites = None
        # No token: a fixture may leave the block in another context than the one that entered it.
        _guards.set(tuple(guard for guard in _guards.get() if guard is not self))
        if exc_type is not None:
            return
        repeated = {shape: count for shape, count in self.counts.items() if count > self._repeats}
        if repeated:
            sites = {shape: found for shape, found in self.sites.items() if shape in repeated}
            raise RepeatedCommands(_message(repeated, sites, self._repeats), repeated, sites)


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

    The error says where the commands came from: the line of your code that is nearest to the driver, past this
    package, ODMs and the standard library. It is "unknown" where Python cannot tell: for a method of the driver that
    is itself what a thread runs, and for Motor in another thread than the one that entered the block, or beside a
    profiler.

    Args:
        client: A client of PyMongo (synchronous or asynchronous) or Motor, made with
            `event_listeners=[CommandWatcher()]`.
        repeats: How often one shape may be sent, at least 1.

    Returns:
        The guard, for `with`; its `counts` and `sites` can be read in the block and after it. At its end it raises
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
    return CommandGuard(client, watchers, repeats)


def _message(repeated: dict[str, int], sites: dict[str, dict[str, int]], repeats: int) -> str:
    lines = [f"commands that differ in their values alone were sent more than {repeats} times:"]
    for shape, count in islice(repeated.items(), _SHOWN):
        lines.append(f"  {count} x {shape}")
        lines += [f"    {often} from {readable(site)}" for site, often in islice(sites[shape].items(), _SITES_SHOWN)]
        if len(sites[shape]) > _SITES_SHOWN:
            lines.append(f"    ... and from {len(sites[shape]) - _SITES_SHOWN} more places")
    if len(repeated) > _SHOWN:
        lines.append(f"  ... and {len(repeated) - _SHOWN} more shapes")
    lines.append("Fetch them together ($in, $lookup, a join) or write them in one bulk, or raise repeats=.")
    return "\n".join(lines)
