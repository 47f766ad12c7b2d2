"""How a rate limiter stands: its state, checked and brought to a time in memory, by the rules of `_limiter_pipeline`.

Pure. A refused hit writes nothing, so the state that it tells may be older than its window; and of many hits that
were decided in one write, each is told how the limiter stood after itself.

Times are milliseconds since 1970 here, and numbers are exact: whole ones, or fractions.
"""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction
from typing import Any, Final, TypeAlias

from bson.decimal128 import create_decimal128_context
from typing_extensions import Self

from mongopatterns.amounts import Number, plain
from mongopatterns.counters._commands import count
from mongopatterns.counters._limiter_pipeline import FIRST, LAST, MAX_LEVEL
from mongopatterns.counters._specs import MAX_RATE, RateLimiterSpec
from mongopatterns.errors import StateError

Exact: TypeAlias = int | Fraction

_MS: Final = dt.timedelta(milliseconds=1)
_LATEST: Final = dt.datetime(9999, 12, 31, tzinfo=dt.timezone.utc)
_EXPECTED: Final = {
    "fixed": "{end: a date, n: an integer or decimal from 0 to 10**7}, and no prev",
    "sliding": "{end: a date, n and prev: integers or decimals from 0 to 10**7}",
    "token_bucket": "{at: a date, level and per: integers or decimals}",
}


def exact(number: Number) -> Exact:
    """Return what Python computes with exactly."""
    return number if isinstance(number, int) else Fraction(number)


def milliseconds(time: dt.datetime) -> int:
    """Return the milliseconds since 1970."""
    return (time - FIRST) // _MS


def date(time: int) -> dt.datetime:
    """Return the date that is so many milliseconds after 1970 began; the last one where Python has none."""
    try:
        return FIRST + time * _MS
    except OverflowError:
        return _LATEST


@dataclass(frozen=True, slots=True)
class Rules:
    """What a limiter says, in exact numbers.

    Attributes:
        limit: What the rate admits in its period.
        at_once: The most that is admitted at once.
        per: The milliseconds of the period.
        scale: What loads are multiplied by.
    """

    limit: Exact
    at_once: Exact
    per: int
    scale: int


@dataclass(frozen=True, slots=True)
class Standing(ABC):
    """How a limiter stands at a time.

    Attributes:
        rules: What it says.
        now: The time.
    """

    rules: Rules
    now: int

    @property
    @abstractmethod
    def load(self) -> Exact:
        """What counts now, scaled."""

    @property
    @abstractmethod
    def clear_at(self) -> int:
        """When nothing counts any more."""

    @abstractmethod
    def after(self, cost: Exact) -> Self:
        """Return the standing after `cost` more is admitted (or before, if it is negative)."""

    @abstractmethod
    def fits_at(self, cost: Exact) -> int:
        """Return the first millisecond from now on at which the cost, which does not fit now, will."""

    @property
    def free(self) -> Exact:
        """What there is room for, scaled."""
        return self.rules.at_once * self.rules.scale - self.load

    @property
    def remaining(self) -> int:
        """What could still be taken, rounded down."""
        return max(0, int(self.free // self.rules.scale))

    def fits(self, cost: Exact) -> bool:
        """Tell whether there is room."""
        return cost * self.rules.scale <= self.free

    def wait(self, cost: Exact) -> float | None:
        """Return the seconds until the cost fits if nobody else takes it; None if it does, or never will."""
        if cost > self.rules.at_once or self.fits(cost):
            return None
        return (self.fits_at(cost) - self.now) / 1000


@dataclass(frozen=True, slots=True)
class FixedStanding(Standing):
    """A window that began with a hit."""

    end: int
    n: Exact

    @classmethod
    def at(cls, rules: Rules, now: int, state: Mapping[str, Number]) -> Self:
        """Bring a state to a time."""
        if state and state["end"] > now:
            return cls(rules, now, int(state["end"]), exact(state["n"]))
        return cls(rules, now, now + rules.per, 0)

    @property
    def load(self) -> Exact:
        return self.n

    @property
    def clear_at(self) -> int:
        return self.end if self.n else self.now

    def after(self, cost: Exact) -> Self:
        return replace(self, n=self.n + cost)

    def fits_at(self, cost: Exact) -> int:  # noqa: ARG002  # whatever it was
        return self.end


@dataclass(frozen=True, slots=True)
class SlidingStanding(Standing):
    """A window, and what is left of the one before."""

    end: int
    n: Exact
    prev: Exact

    @classmethod
    def at(cls, rules: Rules, now: int, state: Mapping[str, Number]) -> Self:
        """Bring a state to a time."""
        if state and state["end"] > now:
            return cls(rules, now, int(state["end"]), exact(state["n"]), exact(state["prev"]))
        if state and state["end"] + rules.per > now:
            return cls(rules, now, int(state["end"]) + rules.per, 0, exact(state["n"]))
        return cls(rules, now, now + rules.per, 0, 0)

    @property
    def load(self) -> Exact:
        per = self.rules.per
        return self.prev * min(per, self.end - self.now) + self.n * per

    @property
    def clear_at(self) -> int:
        return self.end + self.rules.per if self.n else self.end if self.prev else self.now

    def after(self, cost: Exact) -> Self:
        return replace(self, n=self.n + cost)

    def fits_at(self, cost: Exact) -> int:
        per, room = self.rules.per, self.rules.limit - cost
        if self.n <= room:  # as soon as little enough of the last window overlaps
            return self.end - int((room - self.n) * per // self.prev)
        return self.end + per - int(room * per // self.n)  # only when this one is the last


@dataclass(frozen=True, slots=True)
class BucketStanding(Standing):
    """A level that drains.

    Attributes:
        rules: What the limiter says.
        now: The time.
        start: From when on it drains: now, unless the clock has stepped back.
        level: The level at that time, scaled.
    """

    start: int
    level: Exact

    @classmethod
    def at(cls, rules: Rules, now: int, state: Mapping[str, Number]) -> Self:
        """Bring a state to a time."""
        if not state:
            return cls(rules, now, now, 0)
        at = int(state["at"])
        start, level = max(now, at), _rescaled(state["level"], state["per"], rules.per)
        return cls(rules, now, start, max(0, level - (start - at) * rules.limit))

    @property
    def load(self) -> Exact:
        return self.level

    @property
    def clear_at(self) -> int:
        return self.start + _times(self.level, self.rules.limit) if self.level else self.now

    def after(self, cost: Exact) -> Self:
        return replace(self, level=self.level + cost * self.rules.per)

    def fits_at(self, cost: Exact) -> int:
        return self.start + _times(cost * self.rules.per - self.free, self.rules.limit)


_STANDINGS: Final[dict[str, Callable[[Rules, int, Mapping[str, Number]], Standing]]] = {
    "fixed": FixedStanding.at,
    "sliding": SlidingStanding.at,
    "token_bucket": BucketStanding.at,
}


class StateReader:
    """Read the states of one limiter: check them as the pipeline does, and bring them to a time."""

    def __init__(self, spec: RateLimiterSpec, collection: str) -> None:
        self._spec = spec
        self._collection = collection
        per = spec.rate.milliseconds
        limit, at_once = exact(plain(spec.rate.limit)), exact(spec.at_once)
        self._rules = Rules(limit, at_once, per, 1 if spec.algorithm == "fixed" else per)

    def standing(self, key: object, state: Mapping[str, Any] | None, now: dt.datetime) -> Standing:
        """Check a state as the pipeline checks it, and bring it to `now`.

        Raises:
            StateError: If the pipeline had to refuse it; nothing was written then.
        """
        known: dict[str, Number] | None = {}
        if state:
            known = _FIELDS[self._spec.algorithm](state)
        if known is None:
            raise StateError(self._collection, key, self._spec.path, self._problem(state or {}))
        return _STANDINGS[self._spec.algorithm](self._rules, milliseconds(now), known)

    def _problem(self, state: Mapping[str, Any]) -> str:
        mine = self._spec.algorithm
        for other, fields in _FIELDS.items():
            if other != mine and fields(state) is not None:
                return (
                    f"expected the state of a rate limiter of the algorithm {mine!r}, found one of {other!r}: "
                    "give each its own path, or reset the key"
                )
        return f"expected {_EXPECTED[mine]}; found {state!r:.200}"


def _window(state: Mapping[str, Any], *counts: str) -> dict[str, Number] | None:
    known = {name: count(state.get(name), MAX_RATE) for name in counts}
    return _complete({"end": _time(state.get("end")), **known})


def _fixed(state: Mapping[str, Any]) -> dict[str, Number] | None:
    return None if "prev" in state else _window(state, "n")


def _sliding(state: Mapping[str, Any]) -> dict[str, Number] | None:
    return _window(state, "n", "prev")


def _bucket(state: Mapping[str, Any]) -> dict[str, Number] | None:
    level, per = count(state.get("level"), MAX_LEVEL), count(state.get("per"), MAX_LEVEL // MAX_RATE)
    return _complete({"at": _time(state.get("at")), "level": level, "per": per if per and per >= 1 else None})


_FIELDS: Final = {"fixed": _fixed, "sliding": _sliding, "token_bucket": _bucket}


def _complete(fields: Mapping[str, Number | None]) -> dict[str, Number] | None:
    known = {name: number for name, number in fields.items() if number is not None}
    return known if len(known) == len(fields) else None


def _time(stored: object) -> int | None:
    return milliseconds(stored) if isinstance(stored, dt.datetime) and FIRST <= stored <= LAST else None


def _times(number: Exact, other: Exact) -> int:
    """Return how many times `other` goes into a number, rounded up."""
    return -int(-number // other)


def _rescaled(level: Number, stored: Number, per: int) -> Exact:
    """Return a level that was stored for another period in the scale of this one: in the server's arithmetic."""
    if stored == per:
        return exact(level)
    context = create_decimal128_context()
    quotient = context.divide(context.multiply(Decimal(level), Decimal(per)), Decimal(stored))
    return min(MAX_LEVEL, int(quotient.to_integral_value(ROUND_CEILING)))
