"""The pipelines that decide on a rate limiter's state on the server. Pure.

The three algorithms are one inequality: a hit is admitted if what still counts (the *load*) and its cost are not
more than the limit. Each says what the load is, and how the state is rolled on to `$$now`:

* `fixed`: `{end, n}`. A window begins with the first hit after the last one, and `n` counts.
* `sliding`: `{end, n, prev}`. Windows run on from the first hit; the window before counts for the part of it that
  still overlaps the past period: `prev * (end - now) / per + n`.
* `token_bucket`: `{level, per}`. A hit raises the level by its cost, and it drains at the rate from `at` on.

Nothing is divided: the last two are multiplied by the milliseconds of the period, so that all numbers are integers
below 2**62 (or decimals of at most 34 digits, where costs or limits are fractions).

A clock that steps back, as a new primary's may, gives nothing back: a window is known by its end and never opens
again, and a bucket does not drain before the time that it was last drained to.

What is computed here is read in memory by `_limiter_state`; the two are tested against each other.
"""

from __future__ import annotations

import datetime as dt
import math
from abc import ABC, abstractmethod
from fractions import Fraction
from typing import Any, Final, Literal, TypeAlias

from bson import Decimal128

from mongopatterns.amounts import Number, multiply, plain
from mongopatterns.counters._commands import StatePlan, how_many
from mongopatterns.counters._specs import LONGEST_RATE, MAX_RATE, RateLimiterSpec
from mongopatterns.expressions import literal, merge_at

Call: TypeAlias = Literal["hit", "together"]

MARGIN: Final = dt.timedelta(minutes=5)
"""How long a document outlives its meaning: a new primary's clock may lie behind, and the hits still count there."""

FIRST: Final = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
LAST: Final = dt.datetime(9500, 1, 1, tzinfo=dt.timezone.utc)
"""Between these lies every date of a state: what is added to it is still a date, for the server and for Python."""

MAX_LEVEL: Final = MAX_RATE * (LONGEST_RATE // dt.timedelta(milliseconds=1))
"""What the level of a bucket can be: the largest burst, times the milliseconds of the longest period."""

_LONGEST_ELAPSED: Final = 10**15  # milliseconds: more than between any two times

_MARGIN_MS: Final = MARGIN // dt.timedelta(milliseconds=1)


class Terms(ABC):
    """The expressions of one algorithm.

    Attributes:
        scale: What the load is multiplied by.
        full: What the load must not exceed.
    """

    numbers: tuple[str, ...]
    """The fields of the state that count."""

    most = MAX_RATE
    """The most that one of them can hold."""

    def __init__(self, spec: RateLimiterSpec) -> None:
        self.per = spec.rate.milliseconds
        self.scale = 1 if spec.algorithm == "fixed" else self.per
        self.full = _constant(multiply(spec.at_once, self.scale))

    def whole(self) -> list[dict[str, Any]]:
        """List what must hold of the stored fields, if there are any."""
        stored = [f"$$state.{name}" for name in self.numbers]
        return [
            *({"$gte": [number, 0]} for number in stored),  # NaN and null sort before 0
            # Text, dates and true sort after all numbers. (Alone, a list would give its own largest item.)
            {"$lte": [{"$max": [0, *stored]}, self.most]},
            *map(_is_no_double, stored),
        ]

    @abstractmethod
    def rolled(self) -> Any:
        """Build what `$$w` is bound to: the state as it stands at `$$now`."""

    @abstractmethod
    def load(self) -> Any:
        """Build what counts at `$$now`, scaled."""

    @abstractmethod
    def charged(self, cost: Any) -> dict[str, Any]:
        """Build the fields of the state after `cost` is admitted."""

    @abstractmethod
    def forgotten(self, cost: Any) -> Any:
        """Build the time from which the state after `cost` is admitted means no more than none, and the margin."""

    def weight(self, cost: Any) -> Any:
        """Build what a cost adds to the load."""
        return cost if self.scale == 1 else {"$multiply": [cost, self.scale]}


class _Windows(Terms):
    """What the two algorithms with windows share."""

    def whole(self) -> list[dict[str, Any]]:
        return [*_is_date("$$state.end"), *super().whole()]

    def charged(self, cost: Any) -> dict[str, Any]:
        return {"end": "$$w.end", "n": {"$add": ["$$w.n", cost]}}


class FixedTerms(_Windows):
    """Windows that begin with a hit."""

    numbers = ("n",)

    def whole(self) -> list[dict[str, Any]]:
        return [*super().whole(), {"$eq": [{"$type": "$$state.prev"}, "missing"]}]

    def rolled(self) -> Any:
        fresh = {"end": {"$add": ["$$now", self.per]}, "n": 0}
        return {"$cond": [{"$gt": ["$$state.end", "$$now"]}, "$$state", fresh]}

    def load(self) -> Any:
        return "$$w.n"

    def forgotten(self, cost: Any) -> Any:  # noqa: ARG002  # whatever it was
        return {"$add": ["$$w.end", _MARGIN_MS]}


class SlidingTerms(_Windows):
    """Windows that follow one another, and the share of the last one that still counts."""

    numbers = ("n", "prev")

    def rolled(self) -> Any:
        following = {"$add": ["$$state.end", self.per]}
        running = {"case": {"$gt": ["$$state.end", "$$now"]}, "then": "$$state"}
        next_one = {
            "case": {"$gt": [following, "$$now"]},
            "then": {"end": following, "n": 0, "prev": "$$state.n"},
        }
        fresh = {"end": {"$add": ["$$now", self.per]}, "n": 0, "prev": 0}
        return {"$switch": {"branches": [running, next_one], "default": fresh}}

    def load(self) -> Any:
        # (more than a period is left of a window only where the clock has stepped back, or the period was longer)
        overlap = {"$min": [self.per, {"$subtract": ["$$w.end", "$$now"]}]}
        return {"$add": [{"$multiply": ["$$w.prev", overlap]}, {"$multiply": ["$$w.n", self.per]}]}

    def charged(self, cost: Any) -> dict[str, Any]:
        return {**super().charged(cost), "prev": "$$w.prev"}

    def forgotten(self, cost: Any) -> Any:  # noqa: ARG002  # whatever it was
        return {"$add": ["$$w.end", self.per + _MARGIN_MS]}


class BucketTerms(Terms):
    """A level that drains at the rate."""

    numbers = ("level",)
    most = MAX_LEVEL

    def __init__(self, spec: RateLimiterSpec) -> None:
        super().__init__(spec)
        limit = plain(spec.rate.limit)
        self.limit = _constant(limit)
        # As long as the fullest bucket drains, so that the product stays an integer of 64 bits.
        self.longest = min(math.ceil(Fraction(MAX_LEVEL) / Fraction(limit)), _LONGEST_ELAPSED)

    def whole(self) -> list[dict[str, Any]]:
        return [
            *_is_date("$$state.at"),
            *super().whole(),
            {"$gte": ["$$state.per", 1]},
            {"$lte": ["$$state.per", MAX_LEVEL // MAX_RATE]},
            _is_no_double("$$state.per"),
        ]

    def rolled(self) -> Any:
        elapsed = {"$min": [self.longest, {"$max": [0, {"$subtract": ["$$now", "$$state.at"]}]}]}
        return {"$max": [0, {"$subtract": [self._level(), {"$multiply": [elapsed, self.limit]}]}]}

    def _level(self) -> Any:
        """Build the stored level in the scale of this period: rounded up, where it was stored for another one."""
        exact = {"$divide": [{"$multiply": [{"$toDecimal": "$$state.level"}, self.per]}, "$$state.per"]}
        rescaled = {"$toLong": {"$min": [MAX_LEVEL, {"$ceil": exact}]}}
        same = {"$eq": [{"$ifNull": ["$$state.per", self.per]}, self.per]}
        return {"$cond": [same, "$$state.level", rescaled]}

    def load(self) -> Any:
        return "$$w"

    def charged(self, cost: Any) -> dict[str, Any]:
        return {"at": self._drained_to, "level": {"$add": ["$$w", self.weight(cost)]}, "per": self.per}

    @property
    def _drained_to(self) -> dict[str, Any]:
        return {"$max": ["$$state.at", "$$now"]}

    def forgotten(self, cost: Any) -> Any:
        drains = {"$ceil": {"$divide": [{"$add": ["$$w", self.weight(cost)]}, self.limit]}}
        return {"$add": [self._drained_to, drains, _MARGIN_MS]}


TERMS: Final[dict[str, type[Terms]]] = {"fixed": FixedTerms, "sliding": SlidingTerms, "token_bucket": BucketTerms}


class LimiterPipeline:
    """Build the pipelines of one rate limiter."""

    def __init__(self, plan: StatePlan[RateLimiterSpec]) -> None:
        self._plan = plan
        self._spec = plan.spec
        self._terms = TERMS[plan.spec.algorithm](plan.spec)

    def build(self, call: Call) -> list[dict[str, Any]]:
        """Build the pipeline of a call."""
        decided = self._hit() if call == "hit" else self._together()
        decided = {"$let": {"vars": {"w": self._terms.rolled()}, "in": decided}}
        decided = {"$cond": [{"$and": self._valid()}, decided, "$$ROOT"]}
        state = f"{self._plan.doc}.{self._spec.path}"
        bound = {"$let": {"vars": {"state": state}, "in": decided}}
        return [{"$replaceWith": self._plan.with_doc(bound)}]

    def _valid(self) -> list[dict[str, Any]]:
        """List what must hold of the stored values; where it does not, nothing is computed and nothing written.

        What `_limiter_state` checks in memory, in few expressions: the server parses them anew for every command.
        """
        empty = {"$lte": ["$$state", literal({})]}  # of documents and what sorts before them only {} and nothing
        checks = [*self._plan.held_in_documents, {"$or": [empty, {"$and": self._terms.whole()}]}]
        if self._spec.ttl_field is not None:
            kind = {"$type": f"{self._plan.doc}.{self._spec.ttl_field}"}
            checks.append({"$in": [kind, literal(["missing", "null", "date"])]})
        return checks

    def _hit(self) -> dict[str, Any]:
        load = {"$add": [self._terms.load(), self._terms.weight("$$cost")]}
        return {"$cond": [{"$lte": [load, self._terms.full]}, self._merged("$$cost"), "$$ROOT"]}

    def _together(self) -> dict[str, Any]:
        """Decide on many hits in their order: `$$runs` of equal ones, `{a: cost, c: how many}`.

        Of equal hits the first ones are admitted, as many as fit: a refusal changes nothing, so that all after it
        are refused as well.
        """
        taken = {"$add": ["$$value.taken", {"$multiply": ["$$k", "$$this.a"]}]}
        step: dict[str, Any] = {"taken": taken, "k": {"$concatArrays": ["$$value.k", ["$$k"]]}}
        each = {"$let": {"vars": {"k": self._how_many()}, "in": step}}
        start: dict[str, Any] = {"taken": 0, "k": literal([])}
        out = {"$reduce": {"input": "$$runs", "initialValue": start, "in": each}}
        merged = self._merged("$$out.taken", note={"k": "$$out.k"})
        decided: dict[str, Any] = {"$cond": [{"$gt": ["$$out.taken", 0]}, merged, "$$ROOT"]}
        decided = {"$let": {"vars": {"out": out}, "in": decided}}
        room = {"$subtract": [self._terms.full, self._terms.load()]}
        return {"$let": {"vars": {"room": room}, "in": decided}}

    def _how_many(self) -> dict[str, Any]:
        """Build how many hits of `$$this.a` there is room for, at most `$$this.c`."""
        free = {"$subtract": ["$$room", self._terms.weight("$$value.taken")]}
        return how_many(free, self._terms.weight("$$this.a"))

    def _merged(self, cost: str, **more: Any) -> dict[str, Any]:
        """Build the document with the state after `cost` is admitted, and with the time when it may be deleted."""
        state = {"at": "$$now", "by": "$$token", **self._terms.charged(cost), **more}
        merged = merge_at(self._plan.doc, self._spec.path, state)
        if self._spec.ttl_field is not None:
            stored = f"{self._plan.doc}.{self._spec.ttl_field}"
            merged["$mergeObjects"].append({self._spec.ttl_field: {"$max": [stored, self._terms.forgotten(cost)]}})
        return merged


def _is_date(value: str) -> list[dict[str, Any]]:
    """List the checks that a value is a date that can be computed with: only dates sort between two dates."""
    return [{"$gte": [value, FIRST]}, {"$lte": [value, LAST]}]


def _is_no_double(value: str) -> dict[str, Any]:
    """Build the check of a number that other code may have stored: a double would make every sum one."""
    return {"$ne": [{"$type": value}, "double"]}


def _constant(number: Number) -> int | Decimal128:
    return number if isinstance(number, int) else Decimal128(number)
