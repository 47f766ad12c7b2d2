"""How a client uses its connections, in numbers. Pure: told of what happened, it counts.

Connections are kept by their numbers and not counted up and down: whatever the driver does not report, such as a
checkout that was cancelled, moves no count below nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

from mongopatterns.errors import UsageError
from mongopatterns.histograms import Histogram
from mongopatterns.verdicts import as_json

THRESHOLDS: Final = (0.6, 0.8)
"""Where a pool deserves a look, and where it is about to make callers wait."""

DEFAULT_LIMIT: Final = 100
"""The driver's own `maxPoolSize`, which it does not report."""

_WORTH_A_WORD: Final = 2  # a pool of one is full, or empty
_SINKS: Final = 0.1  # so far below a threshold it is armed again: else it would fire at every swing around it


class HasPoolSize(Protocol):
    """A plan that says how large a pool may be, such as a `PoolPlan`."""

    @property
    def max_pool_size(self) -> int:
        """How many connections to one server."""
        ...


Address = tuple[str, int | None]


# Told --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PoolAlert:
    """Tell that a pool has reached a threshold.

    Attributes:
        server: The server, as `host:port`.
        threshold: The threshold, as a part of the limit.
        in_use: How many connections to it are in use.
        limit: How many there may be.
    """

    server: str
    threshold: float
    in_use: int
    limit: int

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes."""
        return asdict(self)

    def __str__(self) -> str:
        """Return a sentence without its full stop."""
        return f"{self.in_use} of {self.limit} connections to {self.server} are in use ({self.threshold:.0%} reached)"


@dataclass(frozen=True)
class ServerPool:
    """Tell how the connections to one server are used.

    Attributes:
        server: The server, as `host:port`.
        limit: How many there may be; None for as many as are asked for.
        in_use: How many are in use now.
        most_in_use: How many were in use at once, at most.
        open: How many are open now, in use or not.
        created: How many were opened so far.
        closed: How many were closed so far, by the driver's reason: `idle`, `stale`, `error`, `poolClosed`.
        cleared: How often the pool was cleared: after an error of the network, or when the server left.
        checked_out: How often a connection was taken.
        failed: How often none could be had, by the driver's reason: `timeout`, `connectionError`, `poolClosed`.
        wait_seconds: How long it took to be given one, all together.
        waits: How often it took at most so many seconds, by the bounds; longer ones under infinity.
    """

    server: str
    limit: int | None = None
    in_use: int = 0
    most_in_use: int = 0
    open: int = 0
    created: int = 0
    closed: Mapping[str, int] = field(default_factory=dict, hash=False)
    cleared: int = 0
    checked_out: int = 0
    failed: Mapping[str, int] = field(default_factory=dict, hash=False)
    wait_seconds: float = 0.0
    waits: Mapping[float, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class PoolSnapshot:
    """Tell how a client uses its connections, at one moment.

    Attributes:
        servers: The pool of each server, in the order of their names. A server that left stays, with nothing open.
    """

    servers: tuple[ServerPool, ...] = ()

    @property
    def in_use(self) -> int:
        """How many connections are in use, of all servers."""
        return sum(server.in_use for server in self.servers)

    @property
    def open(self) -> int:
        """How many connections are open, of all servers."""
        return sum(server.open for server in self.servers)

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes; the bounds of the histogram as text."""
        servers = [as_json(asdict(server)) for server in self.servers]
        return {"in_use": self.in_use, "open": self.open, "servers": servers}


# Counted -----------------------------------------------------------------------------------------------------


class _Server:
    """What is counted of one server."""

    def __init__(self, name: str, limit: int | None) -> None:
        self.name = name
        self.limit = limit
        self.open: set[int] = set()
        self.in_use: set[int] = set()
        self.most_in_use = self.created = self.cleared = self.checked_out = 0
        self.closed: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.waits = Histogram()
        self.reached: set[float] = set()

    def told(self) -> ServerPool:
        return ServerPool(
            server=self.name,
            limit=self.limit,
            in_use=len(self.in_use),
            most_in_use=self.most_in_use,
            open=len(self.open),
            created=self.created,
            closed=dict(self.closed),
            cleared=self.cleared,
            checked_out=self.checked_out,
            failed=dict(self.failed),
            wait_seconds=self.waits.seconds,
            waits=self.waits.counts(),
        )


class PoolCounts:
    """Count what happens to the connections of one client.

    Args:
        budget: How many connections to one server there may be, or a plan that says so; None for what each pool says.
        thresholds: Parts of it that are worth a word.

    Raises:
        UsageError: If one of these cannot work.
    """

    def __init__(self, budget: int | HasPoolSize | None, thresholds: tuple[float, ...]) -> None:
        self._budget = _check_budget(budget)
        self._thresholds = _check_thresholds(thresholds)
        self._servers: dict[Address, _Server] = {}

    def made(self, address: Address, options: Mapping[str, Any]) -> None:
        """Note a pool, and how large it may be."""
        server = self._of(address)
        if self._budget is None:
            size = options.get("maxPoolSize", DEFAULT_LIMIT)
            server.limit = int(size) if size and math.isfinite(size) else None

    def opened(self, address: Address, number: int) -> None:
        """Count a connection."""
        server = self._of(address)
        server.created += 1
        server.open.add(number)

    def shut(self, address: Address, number: int, reason: str) -> None:
        """Count a connection that is no more."""
        server = self._of(address)
        server.closed[reason] += 1
        server.open.discard(number)
        self.returned(address, number)

    def emptied(self, address: Address) -> None:
        """Count that a pool was cleared."""
        self._of(address).cleared += 1

    def refused(self, address: Address, reason: str) -> None:
        """Count a caller who got no connection."""
        self._of(address).failed[reason] += 1

    def taken(self, address: Address, number: int, seconds: float) -> PoolAlert | None:
        """Count a caller who got one, and return the highest threshold that is reached by that."""
        server = self._of(address)
        server.checked_out += 1
        server.waits.add(seconds)
        server.in_use.add(number)
        in_use, limit = len(server.in_use), server.limit
        server.most_in_use = max(server.most_in_use, in_use)
        if limit is None or limit < _WORTH_A_WORD:
            return None
        reached = [part for part in self._thresholds if part not in server.reached and in_use / limit >= part]
        server.reached.update(reached)
        return PoolAlert(server.name, reached[-1], in_use, limit) if reached else None

    def returned(self, address: Address, number: int) -> None:
        """Count a connection that is free again."""
        server = self._of(address)
        server.in_use.discard(number)
        if server.reached and server.limit:
            share = len(server.in_use) / server.limit
            server.reached = {part for part in server.reached if share > max(part - _SINKS, 0)}

    def snapshot(self) -> PoolSnapshot:
        """Return the numbers as they are now."""
        return PoolSnapshot(tuple(sorted((each.told() for each in self._servers.values()), key=lambda it: it.server)))

    def _of(self, address: Address) -> _Server:
        server = self._servers.get(address)
        if server is None:
            host, port = address
            name = host if port is None else f"{host}:{port}"
            server = self._servers[address] = _Server(name, self._budget)
        return server


def _check_budget(budget: object) -> int | None:
    size = getattr(budget, "max_pool_size", budget)
    if size is None and budget is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise UsageError("budget", f"expected a whole number from 1, a PoolPlan or None, got {budget!r:.100}")
    return size


def _check_thresholds(thresholds: object) -> tuple[float, ...]:
    problem = f"expected parts of the budget from 0 to 1, such as (0.6, 0.8), got {thresholds!r:.100}"
    if not isinstance(thresholds, (tuple, list)):
        raise UsageError("thresholds", problem)
    for part in thresholds:
        if isinstance(part, bool) or not isinstance(part, (int, float)) or not 0 < part <= 1:
            raise UsageError("thresholds", problem)
    return tuple(sorted(set(thresholds)))
