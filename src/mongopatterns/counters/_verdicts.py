"""What callers of counters, quotas and rate limiters are told: frozen verdicts. Pure.

A verdict knows at once whether the call was allowed. All else is worked out from the reply when somebody asks for
it: most callers never do, and thousands of them may share one reply.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from mongopatterns.amounts import Number
from mongopatterns.errors import LimitExceeded
from mongopatterns.verdicts import Verdict
from mongopatterns.windows import nominal_seconds


class LazyVerdict(Verdict):
    """A frozen dataclass whose fields may be worked out when they are first read."""

    allowed: bool

    @classmethod
    def told(cls, allowed: bool, tell: Callable[..., Mapping[str, Any]], *about: Any) -> Self:  # noqa: FBT001
        """Make a verdict whose other fields come from `tell(*about)`, called when one of them is asked for."""
        verdict = object.__new__(cls)
        # (past the frozen fields, in one go)
        verdict.__dict__.update(allowed=allowed, _tell=(tell, about))
        return verdict

    @classmethod
    def granted_in_turn(cls, tell: Callable[[bool, int], Mapping[str, Any]], number: int) -> list[Self]:
        """Make the verdicts of `number` equal calls that were granted one after the other.

        Their other fields come from `tell(True, place)`, places counted from 1.
        """
        verdicts: list[Self] = []
        for place in range(1, number + 1):
            # (as in `told`, item by item: a good part of what a group costs this process is making its verdicts)
            verdict = object.__new__(cls)
            state = verdict.__dict__
            state["allowed"] = True
            state["_tell"] = (tell, (True, place))
            verdicts.append(verdict)
        return verdicts

    if not TYPE_CHECKING:  # so that a type checker still finds what is misspelt

        def __getattr__(self, name: str) -> Any:
            """Work out the fields, once."""
            state = self.__dict__
            unread = state.get("_tell")
            if unread is not None:
                tell, about = unread
                state.update(tell(*about))
                state.pop("_tell", None)
            if name in state:  # (another thread may have been quicker)
                return state[name]
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        """Give what a copy or a pickle holds: every field, worked out."""
        return {part.name: getattr(self, part.name) for part in fields(self)}  # type: ignore[arg-type]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what another one gave."""
        self.__dict__.update(state)

    def __bool__(self) -> bool:
        """Return `allowed`."""
        return self.allowed


@dataclass(frozen=True)
class Decision(LazyVerdict):
    """Tell what a quota decided. True when the call may go ahead.

    Attributes:
        key: The key that was asked for.
        amount: What was asked for.
        allowed: Whether it was granted (`peek`: whether it would be).
        limited_by: The window that refused it; of several the one that takes longest to have room.
        exceeded: The windows without room for the amount; after a call that charges whether or not there is
            room, those that are past their limit.
        limit: Per window: its limit, or None where it only meters.
        used: Per window: what was charged to the window itself, this call included if it was granted.
        banked: Per window: what its bank holds, and what was given by `grant` (`extra`).
        remaining: Per window: what a call could still take, bank included; None where it only meters.
        resets_at: Per window: when it ends, in UTC, as the server stored it or tells it. Only a refused call has
            windows that are not stored yet: it dates those by this process's zone rules, and by its clock if
            there is no document. A window that has not begun (`align="first_use"`) is dated as if it began now.
        retry_after: Seconds until the amount would fit if nobody else takes it; None if it is allowed, or never
            will fit.
        at: The server's time of the verdict; None if nobody told it.
        extra: What was given by `grant` and is left. It is used up last, by what the windows have no room for.
        held: What is reserved at this time.
        meters: The totals of the spec's meters.
        dropped: After a refund, per window: what could be given back neither to it nor to its bank.
        repeated: Whether the call's `once=` id had been granted before, so that nothing was charged again.
    """

    key: Any
    amount: Number
    allowed: bool
    limited_by: str | None
    exceeded: tuple[str, ...]
    limit: dict[str, Number | None] = field(hash=False)
    used: dict[str, Number] = field(hash=False)
    banked: dict[str, Number] = field(hash=False)
    remaining: dict[str, Number | None] = field(hash=False)
    resets_at: dict[str, dt.datetime] = field(hash=False)
    retry_after: float | None
    # Factories, and not plain defaults: those would be found on the class before anything is worked out.
    at: dt.datetime | None = field(default_factory=lambda: None)
    extra: Number = field(default_factory=int)
    held: Number = field(default_factory=int)
    meters: dict[str, Number] = field(default_factory=dict, hash=False)
    dropped: dict[str, Number] = field(default_factory=dict, hash=False)
    repeated: bool = field(default_factory=bool)

    def require(self) -> Decision:
        """Return the verdict itself if it allows the call.

        Raises:
            LimitExceeded: If it does not; the verdict is its `decision`.
        """
        if self.allowed:
            return self
        window = self.limited_by
        left = (
            ""
            if window is None
            else f": the {window} admits {self.limit[window]} and has {self.remaining[window]} left"
        )
        raise LimitExceeded(
            f"no room for {self.amount} more for {self.key!r}{left}; {_wait(self.retry_after)}",
            key=self.key,
            decision=self,
        )

    def headers(self) -> dict[str, str]:
        """Return the HTTP fields that tell a client its limits: `RateLimit-Policy`, `RateLimit`, `Retry-After`.

        Windows that only meter are left out, and numbers are rounded down to whole ones (waiting times up), as
        the fields are defined (IETF draft "RateLimit header fields for HTTP"). `Retry-After` is there only if the
        call was refused and will fit later.
        """
        limits = {window: limit for window, limit in self.limit.items() if limit is not None}
        return _headers(
            limits,
            {window: self.remaining[window] or 0 for window in limits},
            {window: _seconds(self.at, self.resets_at.get(window)) for window in limits},
            self.retry_after,
        )


@dataclass(frozen=True)
class RateDecision(LazyVerdict):
    """Tell what a rate limiter decided. True when the call may go ahead.

    Attributes:
        key: The key that was asked for.
        cost: What the hit costs.
        allowed: Whether it was admitted (`peek`: whether it would be).
        limit: The most that is ever admitted at once: the rate's limit, or the burst.
        remaining: What could still be taken now, rounded down to a whole number.
        resets_at: When nothing of what was admitted counts any more, in UTC.
        retry_after: Seconds until the cost would fit if nobody else takes it; None if it is allowed, or never
            will fit.
        at: The server's time of the verdict (of this process, where a refused key has no document).
        policy: The name of the limit: the length of its period; of a token bucket, the time in which its burst fills
            up again.
    """

    key: Any
    cost: Number
    allowed: bool
    limit: Number
    remaining: int
    resets_at: dt.datetime
    retry_after: float | None
    at: dt.datetime
    policy: str

    def require(self) -> RateDecision:
        """Return the verdict itself if it allows the call.

        Raises:
            LimitExceeded: If it does not; the verdict is its `decision`.
        """
        if self.allowed:
            return self
        raise LimitExceeded(
            f"no room for {self.cost} more for {self.key!r}: at most {self.limit} in {self.policy}, "
            f"{self.remaining} left; {_wait(self.retry_after)}",
            key=self.key,
            decision=self,
        )

    def headers(self) -> dict[str, str]:
        """Return the HTTP fields that tell a client its limit: `RateLimit-Policy`, `RateLimit`, `Retry-After`.

        `Retry-After` is there only if the call was refused and will fit later.
        """
        return _headers(
            {self.policy: self.limit},
            {self.policy: self.remaining},
            {self.policy: _seconds(self.at, self.resets_at)},
            self.retry_after,
        )


@dataclass(frozen=True)
class Reservation(Verdict):
    """Tell what came of `reserve`. True when the amount is held.

    Attributes:
        token: What `settle` and `release` take, in this process or another; None if there was no room.
        expires_at: When the hold ends by itself, in UTC; None if there was no room.
        decision: How the quota stands, the hold included.
    """

    token: str | None
    expires_at: dt.datetime | None
    decision: Decision

    def __bool__(self) -> bool:
        """Return whether the amount is held."""
        return self.token is not None

    def require(self) -> Reservation:
        """Return the reservation itself if the amount is held.

        Raises:
            LimitExceeded: If it is not.
        """
        self.decision.require()
        return self


class SettleOutcome(str, Enum):
    """What came of `settle`."""

    SETTLED = "settled"
    """The hold was there: it is gone, and what was used is charged."""
    LATE = "late"
    """The hold had expired: what was used is charged all the same, whether or not there was room."""
    ALREADY = "already"
    """There is no such hold: it was settled or released before (or given up long ago). Nothing was charged."""


@dataclass(frozen=True)
class Settlement(Verdict):
    """Tell what came of `settle`. True when something was charged by this call.

    Attributes:
        outcome: See `SettleOutcome`.
        reserved: What had been held; 0 if there was no such hold.
        decision: How the quota stands now; its `exceeded` names the windows past their limit.
    """

    outcome: SettleOutcome
    reserved: Number
    decision: Decision

    def __bool__(self) -> bool:
        """Return whether this call charged what was used."""
        return self.outcome is not SettleOutcome.ALREADY


def _headers(
    limits: Mapping[str, Number],
    remaining: Mapping[str, Number],
    resets: Mapping[str, int | None],
    retry_after: float | None,
) -> dict[str, str]:
    policies, states = [], []
    for name, limit in limits.items():
        lasts, reset = nominal_seconds(name), resets[name]
        policies.append(f'"{name}";q={math.floor(limit)}' + (f";w={lasts}" if lasts else ""))
        left = max(0, math.floor(remaining[name]))
        states.append(f'"{name}";r={left}' + ("" if reset is None else f";t={reset}"))
    headers = {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)} if policies else {}
    if retry_after is not None:
        headers["Retry-After"] = str(math.ceil(retry_after))
    return headers


def _seconds(now: dt.datetime | None, then: dt.datetime | None) -> int | None:
    return None if now is None or then is None else max(0, math.ceil((then - now).total_seconds()))


def _wait(retry_after: float | None) -> str:
    return "it will not fit later either" if retry_after is None else f"retry in {math.ceil(retry_after)} s"
