"""One client for all who ask for the same one, in one process and one event loop; closed when the last one leaves.

A client belongs to the process that made it, because a fork copies its sockets, and to one event loop. So a forked
child and another loop are given clients of their own, and whoever brings one along is told.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from threading import Event, RLock, get_ident
from typing import Any, Final, NamedTuple

from mongopatterns.errors import UsageError

__all__ = ["Lease", "Shared", "guarded"]


class Lease:
    """One user's part in a client."""

    def __init__(self, client: Any, place: _Place) -> None:
        self.client: Final = client
        self.place: Final = place
        self.process: Final = os.getpid()


class _Place(NamedTuple):
    """Where a client is: in which loop (None: in threads), and by which arguments."""

    loop: Any
    key: Hashable


class _Entry:
    """A client, or the place of one that is being made; and how many use it, or wait for it."""

    def __init__(self) -> None:
        self.maker: Final = get_ident()
        self.made: Final = Event()
        self.client: Any = None
        self.error: BaseException | None = None
        self.users: Final[list[None]] = []  # (what is added to a list cannot be interrupted, as a sum can)


class Shared:
    """Keep the clients of this process.

    A finalizer, or the handler of a signal, may enter and leave in the middle of what its own thread does here: the
    lock lets it, and each step finds what is there after it.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._entries: dict[_Place, _Entry] = {}
        self._inherited: list[dict[_Place, _Entry]] = []

    def take(self, key: Hashable, loop: Any, make: Callable[[], Any]) -> Lease:
        """Return a part in the client of these arguments, which is made if it is the first.

        Making one may take its time (names are looked up), and only those who want the same one wait for it. If it
        cannot be made, all of them are told why, and the next one tries again.

        Raises:
            UsageError: If it is asked for in the middle of its being made, by the same thread.
        """
        place = _Place(loop, key)
        while True:
            mine = _Entry()
            with self._lock:
                self._forget_closed_loops()
                entry = self._entries.setdefault(place, mine)
                if entry is not mine and entry.maker == get_ident() and not entry.made.is_set():
                    raise UsageError("shared_client", "it is entered while it is made, by the thread that makes it")
                entry.users.append(None)
                if self._entries.get(place) is not entry:
                    continue  # pragma: no cover  # the last one left it, between two of these lines
            if entry is mine:
                self._make(place, entry, make)
            else:
                self._wait(place, entry)
            if entry.error is None:
                return Lease(entry.client, place)
            if isinstance(entry.error, Exception):
                raise entry.error
            # Whoever made it was stopped, which is no concern of those who waited.

    def give_back(self, lease: Lease, loop: Any) -> Any:
        """Return a part; close the client if it was the last one, and return what the driver says to that.

        Raises:
            UsageError: If it was taken in another process or another event loop. The client is left alone.
        """
        refuse_other_process(lease.process)
        if lease.place.loop is not loop:
            raise UsageError("shared_client", "it is left in another event loop than it was entered in")
        return self._leave(lease.place, self._entries[lease.place])

    def __len__(self) -> int:
        """Return how many clients are open."""
        with self._lock:
            return len(self._entries)

    def after_fork(self) -> None:
        """Begin anew in a child: what the parent has is the parent's, and is neither used nor closed here."""
        self._lock = RLock()  # a thread that is not there any more may have held it
        self._inherited.append(self._entries)
        self._entries = {}

    def _make(self, place: _Place, entry: _Entry, make: Callable[[], Any]) -> None:
        try:
            entry.client = make()
        except BaseException as error:
            entry.error = error
            with self._lock:
                if self._entries.get(place) is entry:  # pragma: no branch  # the loop may have ended meanwhile
                    del self._entries[place]
            raise
        finally:
            entry.made.set()

    def _wait(self, place: _Place, entry: _Entry) -> None:
        try:
            entry.made.wait()
        except BaseException:  # a signal; the others need not wait for who is stopped
            self._leave(place, entry)
            raise

    def _leave(self, place: _Place, entry: _Entry) -> Any:
        with self._lock:
            entry.users.pop()
            if entry.users or self._entries.get(place) is not entry or self._entries.pop(place, None) is not entry:
                return None
        return entry.client.close()

    def _forget_closed_loops(self) -> None:
        """Drop clients whose loop ended before they were left: nobody can close them any more."""
        for place in list(self._entries):
            if place.loop is not None and place.loop.is_closed():
                self._entries.pop(place, None)


def refuse_other_process(process: int) -> None:
    """Refuse to go on with what another process began.

    Raises:
        UsageError: If this is another one.
    """
    if os.getpid() != process:
        problem = f"the client belongs to the process {process}, of which this one, {os.getpid()}, is a fork"
        raise UsageError("shared_client", f"{problem}: enter it in the child, which is given a client of its own")


def guarded(selector: Callable[[Sequence[Any]], Sequence[Any]] | None) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return a selector of servers that refuses to work in a forked child: the driver asks it before it picks one.

    Args:
        selector: The caller's own, which is asked then.
    """
    process = os.getpid()

    def select(servers: Sequence[Any]) -> Sequence[Any]:
        refuse_other_process(process)
        return servers if selector is None else selector(servers)

    return select


SHARED: Final = Shared()
"""The clients of this process."""

if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=SHARED.after_fork)
