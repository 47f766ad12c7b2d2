"""One client for all who ask for the same one, in one process and one event loop; closed when the last one leaves.

A client belongs to the process that made it, because a fork copies its sockets, and to one event loop. So a forked
child and another loop are given clients of their own, and whoever brings one along is told.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from threading import Lock
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
    """A client and how many use it."""

    def __init__(self, client: Any) -> None:
        self.client: Final = client
        self.users = 0


class Shared:
    """Keep the clients of this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: dict[_Place, _Entry] = {}
        self._inherited: list[dict[_Place, _Entry]] = []

    def take(self, key: Hashable, loop: Any, make: Callable[[], Any]) -> Lease:
        """Return a part in the client of these arguments, which is made if it is the first."""
        place = _Place(loop, key)
        with self._lock:
            self._forget_closed_loops()
            entry = self._entries.get(place)
            if entry is None:
                entry = self._entries[place] = _Entry(make())
            entry.users += 1
            return Lease(entry.client, place)

    def give_back(self, lease: Lease, loop: Any) -> Any:
        """Return a part; close the client if it was the last one, and return what the driver says to that.

        Raises:
            UsageError: If it was taken in another process or another event loop. The client is left alone.
        """
        refuse_other_process(lease.process)
        if lease.place.loop is not loop:
            raise UsageError("shared_client", "it is left in another event loop than it was entered in")
        with self._lock:
            entry = self._entries[lease.place]
            entry.users -= 1
            if entry.users:
                return None
            del self._entries[lease.place]
        return entry.client.close()

    def __len__(self) -> int:
        """Return how many clients are open."""
        with self._lock:
            return len(self._entries)

    def after_fork(self) -> None:
        """Begin anew in a child: what the parent has is the parent's, and is neither used nor closed here."""
        self._lock = Lock()  # a thread that is not there any more may have held it
        self._inherited.append(self._entries)
        self._entries = {}

    def _forget_closed_loops(self) -> None:
        """Drop clients whose loop ended before they were left: nobody can close them any more."""
        for place in [place for place in self._entries if place.loop is not None and place.loop.is_closed()]:
            del self._entries[place]


def refuse_other_process(process: int) -> None:
    """Refuse to go on with what another process began.

    Raises:
        UsageError: If this is another one.
    """
    if os.getpid() != process:
        problem = f"the client belongs to the process {process}, of which this one, {os.getpid()}, is a fork"
        raise UsageError("shared_client", f"{problem}: enter it in the child, which is given a client of its own")


def guarded(selector: Callable[[Sequence[Any]], Sequence[Any]] | None) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return a selector of servers that refuses to work in a forked child: the driver asks it before each call.

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
