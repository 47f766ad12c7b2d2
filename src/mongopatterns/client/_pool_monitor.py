"""What the driver tells about its connections, handed to what counts it: from any thread, for every driver."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from pymongo.monitoring import (
    ConnectionCheckedInEvent,
    ConnectionCheckedOutEvent,
    ConnectionCheckOutFailedEvent,
    ConnectionCheckOutStartedEvent,
    ConnectionClosedEvent,
    ConnectionCreatedEvent,
    ConnectionPoolListener,
    ConnectionReadyEvent,
    PoolClearedEvent,
    PoolClosedEvent,
    PoolCreatedEvent,
    PoolReadyEvent,
)
from typing_extensions import override

from mongopatterns.client._callback import call_back
from mongopatterns.client._pool_counts import THRESHOLDS, HasPoolSize, PoolAlert, PoolCounts, PoolSnapshot
from mongopatterns.client._turns import Turns

__all__ = ["PoolMonitor"]


class PoolMonitor(ConnectionPoolListener):
    """Count how a client uses its connections: `MongoClient(uri, event_listeners=[PoolMonitor()])`.

    For PyMongo's synchronous and asynchronous client and for Motor's; PyMongo takes listeners when a client is made,
    never later. Give each client its own: each numbers its connections from 1, and they are told apart by that. In a
    forked child it begins anew.

    Args:
        budget: How many connections to one server are 100 %: a number, or a `PoolPlan`. None for the client's own
            `maxPoolSize`.
        thresholds: Parts of the budget in use that are reported, each above 0 and at most 1; of several that are
            reached at once, the highest. A pool of one connection is full whenever it is used, and is not reported.
        on_threshold: Called with a `PoolAlert` when a threshold is reached; again only after the pool sank a tenth of
            the budget below it. It runs where the driver takes a connection, so it has to be quick: log, count, or hand
            over. What it raises is logged by `mongopatterns.client`, and goes no further.

    Raises:
        UsageError: If the budget or a threshold cannot work.
    """

    def __init__(
        self,
        *,
        budget: int | HasPoolSize | None = None,
        thresholds: tuple[float, ...] = THRESHOLDS,
        on_threshold: Callable[[PoolAlert], Any] | None = None,
    ) -> None:
        self._budget: Final = budget
        self._thresholds: Final = thresholds
        self._on_threshold: Final = on_threshold
        self._counting = self._new()

    def snapshot(self) -> PoolSnapshot:
        """Return the numbers as they are now. Nothing is asked of the server."""
        counting = self._here()
        return counting.turns.read(counting.counts.snapshot)

    @override
    def pool_created(self, event: PoolCreatedEvent) -> None:
        """Note how large a pool may be."""
        self._count(lambda counting: counting.counts.made(event.address, event.options))

    @override
    def pool_ready(self, event: PoolReadyEvent) -> None:
        """Do nothing: a pool that can be used again shows by its connections."""

    @override
    def pool_cleared(self, event: PoolClearedEvent) -> None:
        """Count it."""
        self._count(lambda counting: counting.counts.emptied(event.address))

    @override
    def pool_closed(self, event: PoolClosedEvent) -> None:
        """Do nothing: its connections are closed one by one."""

    @override
    def connection_created(self, event: ConnectionCreatedEvent) -> None:
        """Count it."""
        self._count(lambda counting: counting.counts.opened(event.address, event.connection_id))

    @override
    def connection_ready(self, event: ConnectionReadyEvent) -> None:
        """Do nothing: it was counted when it was created."""

    @override
    def connection_closed(self, event: ConnectionClosedEvent) -> None:
        """Count it, by its reason."""
        self._count(lambda counting: counting.counts.shut(event.address, event.connection_id, event.reason))

    @override
    def connection_check_out_started(self, event: ConnectionCheckOutStartedEvent) -> None:
        """Do nothing: how it ends is counted."""

    @override
    def connection_check_out_failed(self, event: ConnectionCheckOutFailedEvent) -> None:
        """Count it, by its reason."""
        self._count(lambda counting: counting.counts.refused(event.address, event.reason))

    @override
    def connection_checked_out(self, event: ConnectionCheckedOutEvent) -> None:
        """Count it and how long it took, and tell of a threshold that it reached."""
        self._count(lambda counting: counting.take(event))

    @override
    def connection_checked_in(self, event: ConnectionCheckedInEvent) -> None:
        """Count it."""
        self._count(lambda counting: counting.counts.returned(event.address, event.connection_id))

    def _count(self, count: Callable[[_Counting], object]) -> None:
        """Count something in its turn, and tell of the thresholds that were reached by what was counted."""
        counting = self._here()
        if not counting.turns.change(lambda: count(counting)):
            return  # it is counted, and told of, by what it interrupts
        while counting.alerts:
            try:
                alert = counting.alerts.popleft()
            except IndexError:  # pragma: no cover  # another thread tells of it meanwhile
                return
            call_back("on_threshold", self._on_threshold, alert)

    def _here(self) -> _Counting:
        """Return what is counted in this process: a fork may have copied a lock that somebody held."""
        counting = self._counting
        if counting.process != os.getpid():
            counting = self._counting = self._new()
        return counting

    def _new(self) -> _Counting:
        return _Counting(PoolCounts(self._budget, self._thresholds))


class _Counting:
    """What is counted in one process, in turns, and the thresholds that are still to be told of."""

    def __init__(self, counts: PoolCounts) -> None:
        self.process: Final = os.getpid()
        self.turns: Final = Turns()
        self.counts: Final = counts
        self.alerts: Final[deque[PoolAlert]] = deque()

    def take(self, event: ConnectionCheckedOutEvent) -> None:
        alert = self.counts.taken(event.address, event.connection_id, event.duration or 0.0)
        if alert is not None:
            self.alerts.append(alert)
