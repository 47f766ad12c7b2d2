"""What users of counters, quotas and rate limiters write down: definitions. Pure.

A definition is a frozen value, checked when it is made: whatever cannot work is refused before there is a
connection.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, Final, Literal, TypeAlias

from bson import Decimal128

from mongopatterns.amounts import Amount, Number, amount_value, plain
from mongopatterns.counters._verdicts import Decision, RateDecision
from mongopatterns.errors import UsageError
from mongopatterns.expressions import Field, at_path, check_path
from mongopatterns.indexes import Index
from mongopatterns.specs import KeyedSpec, check_no_place, overlap
from mongopatterns.windows import (
    Align,
    Anniversary,
    Calendar,
    Cycle,
    Fixed,
    Unit,
    check_length,
    check_zone,
    length_name,
)

_MAX_FACTOR: Final = 1000  # keeps every cap below 2**63, so that no bank leaves the integers
# A rate limiter counts in units times milliseconds. These keep its sums below 10**18, which are integers of 64 bits,
# and decimals with 16 places in the 34 digits of a Decimal128.
MAX_RATE: Final = 10**7
LONGEST_RATE: Final = dt.timedelta(days=366)
_RATE_PLACES: Final = 16
_LAST_PLACE: Final = Decimal(1).scaleb(-_RATE_PLACES)
_EXACT: Final = Context(prec=34)  # a caller's own decimal context plays no part
_LONGEST_DRAIN: Final = dt.timedelta(days=3660)


# Definitions -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Times:
    """Stand for a multiple of the window's limit, as the cap of a bank."""

    factor: Amount

    def __post_init__(self) -> None:
        amount_value("Times.factor", self.factor)
        if self.factor > _MAX_FACTOR:
            raise UsageError("Times.factor", f"expected at most {_MAX_FACTOR}, got {self.factor!r}")


@dataclass(frozen=True, slots=True)
class Rollover:
    """Bank what a window leaves unused.

    Every window that ends banks what it had left, idle ones too, until the bank holds `cap`. A call may then
    take what is left of the window and what is in its bank.

    Attributes:
        cap: The most that a bank holds: a number, a `Field` of the same document, or `Times(n)` limits.
        spend: Which of the two a call uses up first.
    """

    cap: Amount | Field | Times
    spend: Literal["bank_first", "window_first"] = "bank_first"

    def __post_init__(self) -> None:
        if not isinstance(self.cap, (Field, Times)):
            amount_value("Rollover.cap", self.cap, zero=True)
        if self.spend not in ("bank_first", "window_first"):
            raise UsageError("Rollover.spend", f"expected 'bank_first' or 'window_first', got {self.spend!r}")


@dataclass(frozen=True, slots=True)
class Window:
    """Limit what one window of time admits. Made by `Window.hour`, `.day`, `.week`, `.month` and `.every`.

    Attributes:
        unit: What it is a window of. Weeks begin on Monday.
        limit: What it admits: a number, a `Field` of the same document, or None to meter without a limit.
        rollover: Whether and how unused allowance is banked.
        align: Where it begins: `"calendar"`, or `"first_use"`: with the first charge after the last window has
            ended. None leaves that to the quota.
        length: How long it is, if it is no unit of the calendar.
    """

    unit: Unit | Literal["every"]
    limit: Amount | Field | None
    rollover: Rollover | None = None
    align: Align | None = None
    length: dt.timedelta | None = None

    def __post_init__(self) -> None:
        if self.unit not in ("hour", "day", "week", "month", "every"):
            raise UsageError("Window.unit", f"expected 'hour', 'day', 'week', 'month' or 'every', got {self.unit!r}")
        if (self.unit == "every") != (self.length is not None):
            raise UsageError("Window.length", "a length belongs to Window.every, and to no other window")
        if self.length is not None:
            check_length("Window.every", self.length)
        if self.limit is not None and not isinstance(self.limit, Field):
            amount_value("Window.limit", self.limit, zero=True)
        if self.rollover is not None and not isinstance(self.rollover, Rollover):
            raise UsageError("Window.rollover", f"expected a Rollover, got {self.rollover!r}")
        if self.limit is None and self.rollover is not None:
            raise UsageError("Window.rollover", "a window without a limit has nothing to bank: drop one of the two")
        if self.align is not None:
            _check_align("Window.align", self.align)

    @classmethod
    def hour(
        cls, limit: Amount | Field | None, *, rollover: Rollover | None = None, align: Align | None = None
    ) -> Window:
        """Define a window of one hour, from the full hour of the quota's zone."""
        return cls("hour", limit, rollover, align)

    @classmethod
    def day(
        cls, limit: Amount | Field | None, *, rollover: Rollover | None = None, align: Align | None = None
    ) -> Window:
        """Define a window of one calendar day, from local midnight (23 or 25 hours when the clocks change)."""
        return cls("day", limit, rollover, align)

    @classmethod
    def week(
        cls, limit: Amount | Field | None, *, rollover: Rollover | None = None, align: Align | None = None
    ) -> Window:
        """Define a window of one calendar week, from Monday's local midnight."""
        return cls("week", limit, rollover, align)

    @classmethod
    def month(
        cls, limit: Amount | Field | None, *, rollover: Rollover | None = None, align: Align | None = None
    ) -> Window:
        """Define a window of one calendar month, from the first day's local midnight."""
        return cls("month", limit, rollover, align)

    @classmethod
    def every(
        cls,
        length: dt.timedelta,
        limit: Amount | Field | None,
        *,
        rollover: Rollover | None = None,
        align: Align | None = None,
    ) -> Window:
        """Define a window of any length, counted from the beginning of 1970 in UTC, or from its first use.

        Its name in verdicts is its length, in the largest unit that it is whole in: `15m`, `36h`, `90s`.

        Args:
            length: Whole milliseconds, from 1 ms to 3,660 days.
            limit: What it admits.
            rollover: Whether and how unused allowance is banked.
            align: Where it begins.
        """
        return cls("every", limit, rollover, align, length)

    @property
    def name(self) -> str:
        """What it is called in verdicts and in the stored state."""
        return self.unit if self.length is None else length_name(self.length)

    def cycle(self, timezone: str, align: Align) -> Cycle:
        """Return how its windows follow one another in a quota of that zone and alignment."""
        from_first_use = (self.align or align) == "first_use"
        if self.length is not None:
            return Fixed(self.length, from_first_use)
        unit: Any = self.unit
        if not from_first_use:
            return Calendar(unit, timezone)
        return Fixed(dt.timedelta(hours=1), from_first_use=True) if unit == "hour" else Anniversary(unit, timezone)


def _check_align(argument: str, align: object) -> None:
    if align not in ("calendar", "first_use"):
        raise UsageError(argument, f"expected 'calendar' or 'first_use', got {align!r}")


@dataclass(frozen=True)
class CounterSpec(KeyedSpec):
    """Define a counter: one number per key.

    Attributes:
        collection: The collection's name.
        path: The dotted path of the number in its document.
        key_field: The field that holds the key; it must be `_id` or uniquely indexed.
        key_type: `ObjectId` to accept ids as text.
        create: Further fields of a document made by its first `add`; None never to make one.
        meters: Dotted paths of further numbers, which an `add` may raise in the same write.
        set_now: Dotted paths that every `add` sets to the server's time. Each is a reading of its own (`$currentDate`):
            two paths may be a millisecond apart.
        stripes: Over how many documents each key is spread. More than 1 is for a key that many servers write at
            once: their writes then seldom meet, and `value` adds the stripes up.
        once_kept: How many `once=` ids of a key are remembered (in `<path>_once`).

    Raises:
        UsageError: On any value that cannot work, when the spec is made.
    """

    _: KW_ONLY
    meters: Sequence[str] = ()
    set_now: Sequence[str] = ()
    stripes: int = 1
    once_kept: int = 32

    def __post_init__(self) -> None:
        KeyedSpec.__post_init__(self)
        if self.create and self.path.split(".")[0] in self.create:
            raise UsageError("create", f"{self.path.split('.')[0]!r} holds the counter: leave it out")
        object.__setattr__(self, "meters", _names("meters", self.meters))
        object.__setattr__(self, "set_now", _names("set_now", self.set_now))
        if overlap(self.once_path, self.key_field):
            raise UsageError("path", f"{self.once_path!r}, where ids are kept, overlaps {self.key_field!r}")
        if self.create and self.once_path in self.create:
            raise UsageError("create", f"{self.once_path!r} holds the ids of once=: leave it out")
        taken = ["_id", self.key_field, self.path, self.once_path]
        for argument, paths in (("meters", self.meters), ("set_now", self.set_now)):
            for path in paths:
                check_path(argument, path)
                if clash := next((other for other in taken if overlap(path, other)), None):
                    raise UsageError(argument, f"{path!r} overlaps {clash!r}: give each number a place of its own")
                check_no_place(argument, path)
                if self.create and path.split(".")[0] in self.create:
                    raise UsageError("create", f"{path.split('.')[0]!r} is written by the calls: leave it out")
                taken.append(path)
        _check_count("stripes", self.stripes, 1, 1000)
        if self.stripes > 1 and (self.key_field != "_id" or self.key_type is not None or self.create is None):
            raise UsageError(
                "stripes",
                "the stripes of a key are documents of their own: they need key_field='_id', "
                "no key_type, and create={}",
            )
        _check_count("once_kept", self.once_kept, 1, 1000)

    @property
    def once_path(self) -> str:
        """Where the ids of `once=` are kept."""
        return f"{self.path}_once"

    def read(self, document: Mapping[str, Any]) -> Number:
        """Read the number from a document in hand (of one stripe, if there are several); 0 if there is none.

        Raises:
            StateError: If what is stored is not a finite number.
        """
        from mongopatterns.counters._counter_plan import CounterPlan  # noqa: PLC0415  # it reads this module

        return CounterPlan(self, self.collection).total(at_path(document, self.key_field), document)


@dataclass(frozen=True)
class QuotaSpec(KeyedSpec):
    """Define a quota: windows of time that must all have room.

    Attributes:
        collection: The collection's name.
        path: The dotted path of the quota's state, in a document of its own or in one of yours.
        windows: The windows, each name at most once.
        timezone: The IANA zone whose calendar counts.
        align: Where windows begin that do not say so themselves: with the calendar's, or with their first use.
        meters: Names of further numbers that a charge may raise in the same write: totals for as long as the
            state lives, kept in it.
        key_field: The field that holds the key; it must be `_id` or uniquely indexed.
        key_type: `ObjectId` to accept ids as text.
        create: Further fields of a document made by its first grant, limits read by `Field` among them; None
            never to make a document.
        once_kept: How many `once=` ids of a key are remembered.

    Raises:
        UsageError: On any value that cannot work, when the spec is made.
    """

    _: KW_ONLY
    windows: Sequence[Window] = field(hash=False)
    timezone: str = "UTC"
    align: Align = "calendar"
    meters: Sequence[str] = ()
    once_kept: int = 32

    def __post_init__(self) -> None:
        KeyedSpec.__post_init__(self)
        check_zone("timezone", self.timezone)
        _check_align("align", self.align)
        if isinstance(self.windows, Window) or not isinstance(self.windows, Sequence):
            raise UsageError("windows", f"expected a list of Window, got {self.windows!r}")
        windows = tuple(self.windows)
        names = [window.name for window in windows if isinstance(window, Window)]
        if not windows or len(names) < len(windows):
            raise UsageError("windows", "expected at least one Window, such as Window.hour(60)")
        if len(set(names)) < len(names):
            raise UsageError("windows", "two windows of the same unit: keep the smaller limit")
        object.__setattr__(self, "windows", windows)
        for number in self.fields:
            if overlap(self.path, number.path):
                raise UsageError("windows", f"Field({number.path!r}) overlaps the quota's own state at {self.path!r}")
            self._check_created(self.create or {}, number.path)
        object.__setattr__(self, "meters", _names("meters", self.meters))
        for name in self.meters:
            if "." in check_path("meters", name):
                raise UsageError("meters", f"{name!r} has a dot: a meter is a name inside the quota's state")
        _check_count("once_kept", self.once_kept, 1, 1000)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The numbers that are read from the document."""
        limits = [window.limit for window in self.windows]
        caps = [window.rollover.cap for window in self.windows if window.rollover]
        return tuple(number for number in (*limits, *caps) if isinstance(number, Field))

    def read(self, document: Mapping[str, Any], amount: Amount = 1, *, now: dt.datetime | None = None) -> Decision:
        """Read the state from a document in hand, such as a change stream's: sends nothing.

        Args:
            document: The document, with the key field, the state and the fields that limits are read from.
            amount: What `allowed` is about, as in `peek`.
            now: The time to bring the windows to. Without it they are told as of the last write; of a document
                without a state, `resets_at` is empty.

        Raises:
            UsageError: On a bad amount or time.
            StateError: If the stored state, or a limit, is not what the spec describes.
        """
        from mongopatterns.counters._quota_plan import QuotaPlan  # noqa: PLC0415  # it reads this module

        return QuotaPlan(self, self.collection).read(document, amount, now=now)


def cost_value(argument: str, cost: object) -> int | Decimal128:
    """Turn what a hit costs, or a rate admits, into what travels: as `amount_value`, with at most 16 places.

    Raises:
        UsageError: If it is no number greater than 0, too large, or a Decimal with more places.
    """
    value = amount_value(argument, cost)
    if isinstance(value, int):
        return value
    exact = value.to_decimal()
    rounded = exact.quantize(_LAST_PLACE, context=_EXACT)
    if not rounded or (rounded != exact and not isinstance(cost, float)):
        raise UsageError(argument, f"expected at most {_RATE_PLACES} decimal places, got {cost!r}")
    number = plain(rounded)
    return number if isinstance(number, int) else Decimal128(number)


@dataclass(frozen=True, slots=True)
class Rate:
    """Say how much is allowed in how long.

    Attributes:
        limit: How much: greater than 0, at most 10**7, with at most 16 decimal places. Kept as an int or Decimal.
        per: In how long: seconds, or a timedelta; whole milliseconds, at most 366 days.
    """

    limit: Amount
    per: float | dt.timedelta

    def __post_init__(self) -> None:
        limit = plain(cost_value("Rate.limit", self.limit))
        if limit > MAX_RATE:
            raise UsageError("Rate.limit", f"expected at most {MAX_RATE}, got {self.limit!r}")
        object.__setattr__(self, "limit", limit)
        per = self.per
        if not isinstance(per, dt.timedelta):
            amount_value("Rate.per", per)
            if per > LONGEST_RATE.total_seconds():
                raise UsageError("Rate.per", f"expected at most {LONGEST_RATE.days} days, got {per!r} seconds")
            per = dt.timedelta(seconds=float(per))
        if check_length("Rate.per", per) > LONGEST_RATE:
            raise UsageError("Rate.per", f"expected at most {LONGEST_RATE.days} days, got {per!r}")
        object.__setattr__(self, "per", per)

    @property
    def milliseconds(self) -> int:
        """The length of time in milliseconds."""
        per: Any = self.per
        return int(per // dt.timedelta(milliseconds=1))


Algorithm: TypeAlias = Literal["fixed", "sliding", "token_bucket"]
"""How a rate limiter decides."""


@dataclass(frozen=True)
class RateLimiterSpec(KeyedSpec):
    """Define a rate limiter: one small document per key, which the server deletes when it means nothing any more.

    A changed definition works on what is stored. What was admitted counts against the new limit; a window that runs
    keeps its end, and the next one has the new length; the level of a bucket stays the same number of hits, and
    drains at the new rate. Documents expire as it was when they were last written. The state of another algorithm is
    a `StateError` until it is reset.

    Attributes:
        collection: The collection's name.
        rate: How much is allowed in how long.
        algorithm: How it is decided:
            `"fixed"`: a window begins with the first hit, admits the limit, and the next begins with the first
            hit after it;
            `"sliding"`: windows follow one another from the first hit on, and what the last one admitted counts
            for as much as it still overlaps the past period, as if its hits had been spread evenly;
            `"token_bucket"`: `burst` at once, and then the rate, without any window. (Also called GCRA.)
        burst: What a token bucket admits at once after a rest; the rate's limit unless said.
        path: The dotted path of the state.
        key_field: The field that holds the key; it must be `_id` or uniquely indexed.
        key_type: `ObjectId` to accept ids as text.
        create: Further fields of a document made by its first hit; None never to make one.
        ttl_field: The field by which the server deletes documents that have expired, by the TTL index among
            `indexes()`: the time from which nothing counts, and five minutes, because the clock of a new primary may
            lie behind. A later date that stands there stays; anything but a date is a `StateError`. None where the
            state lives in documents of yours, which must stay.

    Raises:
        UsageError: On any value that cannot work, when the spec is made.
    """

    rate: Rate
    _: KW_ONLY
    algorithm: Algorithm = "sliding"
    burst: Amount | None = None
    path: str = "rate"
    ttl_field: str | None = "expires_at"

    def __post_init__(self) -> None:
        KeyedSpec.__post_init__(self)
        if not isinstance(self.rate, Rate):
            raise UsageError("rate", f"expected a Rate, such as Rate(100, per=60), got {self.rate!r}")
        if self.algorithm not in ("fixed", "sliding", "token_bucket"):
            raise UsageError("algorithm", f"expected 'fixed', 'sliding' or 'token_bucket', got {self.algorithm!r}")
        if self.burst is not None:
            self._check_burst(self.burst)
        drain = Fraction(self.at_once) / Fraction(self.rate.limit) * self.rate.milliseconds
        if drain > _LONGEST_DRAIN // dt.timedelta(milliseconds=1):
            raise UsageError(
                "burst", f"a full bucket takes more than {_LONGEST_DRAIN.days} days to refill at that rate"
            )
        if self.ttl_field is not None:
            self._check_ttl_field(self.ttl_field)

    def _check_burst(self, burst: Amount) -> None:
        if self.algorithm != "token_bucket":
            raise UsageError("burst", f"belongs to 'token_bucket', and the algorithm is {self.algorithm!r}")
        number = plain(cost_value("burst", burst))
        if number > MAX_RATE:
            raise UsageError("burst", f"expected at most {MAX_RATE}, got {burst!r}")
        object.__setattr__(self, "burst", number)

    def _check_ttl_field(self, name: object) -> None:
        if self.create is None:
            problem = "documents that are not made here (create=None) must not be deleted here: say ttl_field=None"
            raise UsageError("ttl_field", problem)
        if not isinstance(name, str) or "." in check_path("ttl_field", name):
            raise UsageError("ttl_field", f"expected the name of a field of the document, got {name!r}")
        if any(overlap(name, taken) for taken in ("_id", self.key_field, self.path)):
            raise UsageError("ttl_field", f"{name!r} overlaps the key or the state")
        if self.create and name in self.create:
            raise UsageError("create", f"{name!r} is written by the calls: leave it out")

    @property
    def at_once(self) -> Number:
        """The most that is admitted at once: the burst of a token bucket, or the rate's limit."""
        return plain(self.rate.limit if self.burst is None else self.burst)

    def indexes(self) -> tuple[Index, ...]:
        """Return the indexes that must exist: a unique one on `key_field`, and the one that deletes documents."""
        unique = KeyedSpec.indexes(self)
        return unique if self.ttl_field is None else (*unique, Index.ttl(self.ttl_field))

    def read(self, document: Mapping[str, Any], cost: Amount = 1, *, now: dt.datetime | None = None) -> RateDecision:
        """Read the state from a document in hand: sends nothing.

        Args:
            document: The document, with the key field and the state.
            cost: What `allowed` is about, as in `peek`.
            now: The time to tell it for; that of the last hit without it.

        Raises:
            UsageError: On a bad cost or time, or without `now` if the document has no state.
            StateError: If the stored state is not what the spec describes.
        """
        from mongopatterns.counters._limiter_plan import LimiterPlan  # noqa: PLC0415  # it reads this module

        return LimiterPlan(self, self.collection).read(document, cost, now=now)


def _names(argument: str, names: object) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise UsageError(argument, f"expected a list of names, got {names!r}")
    if len(set(names)) < len(names):
        raise UsageError(argument, f"{names!r} names one of them twice")
    return tuple(names)


def _check_count(argument: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UsageError(argument, f"expected a whole number from {least} to {most}, got {value!r}")
