"""How many connections each process may have, so that all of them together stay below what a server takes. Pure.

A limit is one of each server, whatever the number of servers: Atlas counts by node, and so does a server's own
`maxIncomingConnections`. On one server a client holds its pool and what watches the server: two connections with
streaming, one without. The pools of all members may be full at once (after an election the old primary's connections
stay until they are idle for too long), but they are full on different servers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field
from enum import Enum
from typing import Any, Final, get_args

from mongopatterns.client._profiles import Monitoring, Profile
from mongopatterns.errors import UsageError

MONITORS: Final[Mapping[Monitoring, int]] = {"stream": 2, "poll": 1}
"""Connections beside the pool: one that asks how a server is, and with streaming one that measures the way to it."""

_KEPT_BY_ATLAS: Final = 10
_RESERVED_PART: Final = 10  # one in ten
_THRESHOLDS: Final = (60, 80)
_MOST: Final = 1_000_000


class Tier(Enum):
    """Name a tier of Atlas. Of others, and of classes with other limits, such as low-CPU, say `limit=`.

    Attributes:
        connections: How many connections each node takes.
        new_per_second: How many new ones it takes in a second; None where no such bound is published.
    """

    M0 = "M0"
    FLEX = "Flex"
    M10 = "M10"
    M20 = "M20"
    M30 = "M30"
    M40 = "M40"
    M50 = "M50"
    M60 = "M60"

    @property
    def connections(self) -> int:
        """How many connections each node takes."""
        return _TIERS[self][0]

    @property
    def new_per_second(self) -> int | None:
        """How many new connections each node takes in a second; None where no such bound is published."""
        return _TIERS[self][1]


_TIERS: Final[Mapping[Tier, tuple[int, int | None]]] = {
    Tier.M0: (500, None),
    Tier.FLEX: (500, None),
    Tier.M10: (1_500, 15),
    Tier.M20: (3_000, 15),
    Tier.M30: (3_000, None),
    Tier.M40: (6_000, None),
    Tier.M50: (16_000, None),
    Tier.M60: (32_000, None),
}


@dataclass(frozen=True)
class PoolPlan:
    """Tell how large each pool may be, and what follows of that.

    Attributes:
        max_pool_size: The `maxPoolSize` of each client.
        monitoring: How each client watches the servers.
        worst_case_connections: How many connections all processes together have to one server, at most.
        limit: How many one server takes.
        reserve: How many of these are left to others.
        processes: How many processes there are.
        pools_per_process: How many clients each of them has.
        total_connections: How many connections there are to all members together, at most: what a proxy or a gateway
            between them has to carry.
        seconds_to_open: How long it takes to open `worst_case_connections`, where the tier bounds new connections by
            the second: after a deployment of all processes at once. None where it does not.
        alert_at: At how many connections to one server somebody should look: by per cent of the limit, 60 and 80.
        why: How the numbers were found, line by line.
    """

    max_pool_size: int
    monitoring: Monitoring
    worst_case_connections: int
    limit: int
    reserve: int
    processes: int
    pools_per_process: int
    total_connections: int
    seconds_to_open: float | None
    alert_at: Mapping[int, int] = field(hash=False)
    why: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes."""
        return {**asdict(self), "why": list(self.why)}

    def __str__(self) -> str:
        """Return how the numbers were found."""
        return "\n".join(self.why)


@dataclass(frozen=True)
class PoolBudget:
    """Say how many connections there may be, and who shares them. `plan` tells each client's part.

    `tier` or `limit`, one of the two: how many connections *one server* takes. Of a replica set the busiest member
    counts, of a sharded cluster the busiest mongos.

    Attributes:
        tier: The tier of Atlas.
        limit: How many connections one server takes, where it is no tier: `net.maxIncomingConnections`, or what is
            left to this application.
        processes: How many processes run at once at most: all services, all machines. A deployment that starts new
            ones before it ends the old has both.
        pools_per_process: How many clients each process has, such as one for requests and one for reports.
        members: How many servers there are. It makes no pool smaller, for each has its own limit; it gives
            `PoolPlan.total_connections`.
        monitoring: How clients watch the servers; None for what the profile says. `"poll"` saves one connection for
            each client on each server.
        reserve: How many connections of a server are left to others: shells, backups, what Atlas keeps for itself (10
            on each node), processes that end slowly. None for a tenth, and 10 at least.

    Raises:
        UsageError: If it is not one of `tier` and `limit`, or a value cannot work.
    """

    _: KW_ONLY
    tier: Tier | None = None
    limit: int | None = None
    processes: int
    pools_per_process: int = 1
    members: int = 3
    monitoring: Monitoring | None = None
    reserve: int | None = None

    def __post_init__(self) -> None:
        if (self.tier is None) is (self.limit is None):
            raise UsageError("tier", "say tier= or limit=, one of the two")
        if self.tier is not None and not isinstance(self.tier, Tier):
            raise UsageError("tier", f"expected one of {', '.join(f'Tier.{t.name}' for t in Tier)}, got {self.tier!r}")
        for argument in ("limit", "processes", "pools_per_process", "members"):
            _check_number(argument, getattr(self, argument), 1, optional=argument == "limit")
        _check_number("reserve", self.reserve, 0, optional=True)
        if self.monitoring is not None and self.monitoring not in get_args(Monitoring):
            raise UsageError("monitoring", f"expected 'stream', 'poll' or None, got {self.monitoring!r:.100}")

    def plan(self, profile: Profile) -> PoolPlan:
        """Work out how large each pool may be: as large as the profile wants it, or as fits.

        Args:
            profile: What a client wants. Where clients are of several profiles, each is planned with its own, and the
                sum fits: no part is larger than an equal share.

        Returns:
            The plan. `worst_case_connections` is at most the limit less the reserve.

        Raises:
            UsageError: If not even pools of one connection fit: the message says what would make it fit.
        """
        if not isinstance(profile, Profile):
            raise UsageError("profile", f"expected a Profile such as Profile.WEB, got {profile!r:.100}")
        monitoring = self.monitoring or profile.serverMonitoringMode
        limit = self._limit
        reserve = self._reserve_of(limit)
        clients = self.processes * self.pools_per_process
        fits = (limit - reserve) // clients - MONITORS[monitoring]
        if fits < 1:
            raise UsageError("budget", self._too_small(monitoring))
        size = min(fits, profile.maxPoolSize)
        worst = clients * (size + MONITORS[monitoring])
        rate = self.tier.new_per_second if self.tier else None
        return PoolPlan(
            max_pool_size=size,
            monitoring=monitoring,
            worst_case_connections=worst,
            limit=limit,
            reserve=reserve,
            processes=self.processes,
            pools_per_process=self.pools_per_process,
            total_connections=worst * self.members,
            seconds_to_open=round(worst / rate, 1) if rate else None,
            alert_at=_alerts(limit),
            why=tuple(self._why(profile, size, monitoring, worst, rate)),
        )

    @property
    def _limit(self) -> int:
        return self.tier.connections if self.tier else self.limit or 0

    def _reserve_of(self, limit: int) -> int:
        return max(limit // _RESERVED_PART, _KEPT_BY_ATLAS) if self.reserve is None else self.reserve

    def _why(self, profile: Profile, size: int, monitoring: Monitoring, worst: int, rate: int | None) -> list[str]:
        limit, monitors = self._limit, MONITORS[monitoring]
        reserve = self._reserve_of(limit)
        clients = self.processes * self.pools_per_process
        where = f"each node of {self.tier.value}" if self.tier else "one server"
        who = f"{_number(self.processes, 'process', 'processes')} x {_number(self.pools_per_process, 'client')}"
        bound = f"as {profile.name!r} wants it"
        if size < profile.maxPoolSize:
            bound = f"one more each would not fit, and {profile.maxPoolSize} are wanted"
        alerts = [f"{count} connections ({part} %)" for part, count in _alerts(limit).items()]
        lines = [
            f"{where} takes {limit} connections, of which {reserve} are left to others",
            f"{who} x (a pool of {size} + {_number(monitors, 'monitor')}) = {worst} connections to a server at most",
            f"maxPoolSize={size}: {bound}",
            f"look at it when a server has {' or '.join(alerts)}",
        ]
        if rate:
            lines.append(
                f"opening all of them takes {worst / rate:.0f} s ({rate} new ones a second on each node), of which the "
                f"monitors take {clients * monitors / rate:.0f} s: start processes one after the other"
            )
        return lines

    def _too_small(self, monitoring: Monitoring) -> str:
        """Say what would make it fit, each by itself."""
        limit = self._limit
        reserve = self._reserve_of(limit)
        usable, least = limit - reserve, 1 + MONITORS[monitoring]
        clients = self.processes * self.pools_per_process
        where = f"{self.tier.value} takes {limit}" if self.tier else f"{limit} are allowed"
        levers = []
        if processes := max(usable, 0) // (self.pools_per_process * least):
            levers.append(f"at most {_number(processes, 'process', 'processes')}")
        if pools := max(usable, 0) // (self.processes * least):
            levers.append(f"pools_per_process={pools}")
        if monitoring == "stream" and usable // clients > MONITORS["poll"]:
            levers.append("monitoring='poll'")
        if self.reserve and limit >= clients * least:
            levers.append(f"a reserve of at most {limit - clients * least}")
        larger = [tier for tier in Tier if self.tier and self._holds(tier.connections, clients * least)]
        if larger:
            levers.append(f"tier {larger[0].value}")
        else:
            levers.append(f"a limit of at least {self._least_limit(clients * least)}")
        asked = f"{self.processes} x {self.pools_per_process} clients need {clients * least} connections to each server"
        return f"{asked}, and {where}, {reserve} of them in reserve. What would fit: {', or '.join(levers)}"

    def _holds(self, limit: int, needed: int) -> bool:
        return limit - self._reserve_of(limit) >= needed

    def _least_limit(self, needed: int) -> int:
        limit = needed + self._reserve_of(0)
        while not self._holds(limit, needed):  # the reserve grows by a tenth of what is added: a few rounds
            limit = needed + self._reserve_of(limit)
        return limit


def _alerts(limit: int) -> dict[int, int]:
    return {part: math.ceil(limit * part / 100) for part in _THRESHOLDS}


def _number(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def _check_number(argument: str, value: object, lowest: int, *, optional: bool) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= _MOST:
        raise UsageError(argument, f"expected a whole number from {lowest} to {_MOST}, got {value!r:.100}")
