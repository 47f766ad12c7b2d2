# Generated from src/mongopatterns/counters/_combining_async.py by tools/generate_sync.py.
# Do not edit: change the source and run "make generate".
"""How calls of this folder travel: alone, or with others that arrive on their key while a request is in flight."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from mongopatterns._group_sync import Groups
from mongopatterns.counters._commands import Ask

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Alone(Protocol[T_co]):
    """Send one call by itself."""

    def __call__(
        self,
        ask: Ask,
        timeout: float | None,
        *,
        session: Any = None,
        now: dt.datetime | None = None,
        once: str | None = None,
    ) -> T_co:
        """Send it, and read its answer."""
        ...


class Together(Protocol[T_co]):
    """Send several calls of one key in one command."""

    def __call__(self, asks: Sequence[Ask], timeout: float | None) -> Sequence[T_co]:
        """Send them, and read the answer of each, in their order."""
        ...


class Combining(Generic[T]):
    """Send calls alone, or together.

    Args:
        alone: Sends one call by itself.
        together: Sends several calls of one key.
        lane: Returns what is equal for two keys that are one to the server.
        combine: Whether calls may travel together. Those with a session, a time or an id of their own never do.
        name: What is closed by `close`, for messages.
    """

    def __init__(
        self,
        alone: Alone[T],
        together: Together[T],
        lane: Callable[[Any], Any],
        *,
        combine: bool,
        name: str,
    ) -> None:
        self._alone = alone
        self._lane = lane
        self._groups: Groups[Ask, T] | None = Groups(alone, together, name=name) if combine else None

    def send(
        self, ask: Ask, session: Any, timeout: float | None, now: dt.datetime | None = None, once: str | None = None
    ) -> T:
        """Send a call, and return its answer."""
        if self._groups is None or session is not None or now is not None or once is not None:
            return self._alone(ask, timeout, session=session, now=now, once=once)
        lane = ask.key if type(ask.key) is str else self._lane(ask.key)  # (nearly every key is one, and its own lane)
        return self._groups.submit(lane, ask, timeout)

    def close(self) -> None:
        """Wait for the calls that are under way, and take no further ones that could travel together."""
        if self._groups is not None:
            self._groups.close()
