"""What users of counters and quotas write down, and what they are told: definitions and verdicts. Pure.

A definition is a frozen value, checked when it is made: whatever cannot work is refused before there is a
connection.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal

from bson import ObjectId

from mongopatterns.amounts import Amount, Number, amount_value
from mongopatterns.errors import LimitExceeded, UsageError
from mongopatterns.expressions import Field, at_path, check_document, check_path
from mongopatterns.indexes import Index
from mongopatterns.windows import Unit, check_zone

_MAX_FACTOR: Final = 1000  # keeps every cap below 2**63, so that no bank leaves the integers


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
    """Limit what one calendar window admits. Made by `Window.hour`, `.day`, `.week` and `.month`.

    Attributes:
        unit: The window's length, and its name in verdicts. Weeks begin on Monday.
        limit: What it admits: a number, a `Field` of the same document, or None to meter without a limit.
        rollover: Whether and how unused allowance is banked.
    """

    unit: Unit
    limit: Amount | Field | None
    rollover: Rollover | None = None

    def __post_init__(self) -> None:
        if self.unit not in ("hour", "day", "week", "month"):
            raise UsageError("Window.unit", f"expected 'hour', 'day', 'week' or 'month', got {self.unit!r}")
        if self.limit is not None and not isinstance(self.limit, Field):
            amount_value("Window.limit", self.limit, zero=True)
        if self.rollover is not None and not isinstance(self.rollover, Rollover):
            raise UsageError("Window.rollover", f"expected a Rollover, got {self.rollover!r}")
        if self.limit is None and self.rollover is not None:
            raise UsageError("Window.rollover", "a window without a limit has nothing to bank: drop one of the two")

    @classmethod
    def hour(cls, limit: Amount | Field | None, *, rollover: Rollover | None = None) -> Window:
        """Define a window of one hour, from the full hour of the quota's zone."""
        return cls("hour", limit, rollover)

    @classmethod
    def day(cls, limit: Amount | Field | None, *, rollover: Rollover | None = None) -> Window:
        """Define a window of one calendar day, from local midnight (23 or 25 hours when the clocks change)."""
        return cls("day", limit, rollover)

    @classmethod
    def week(cls, limit: Amount | Field | None, *, rollover: Rollover | None = None) -> Window:
        """Define a window of one calendar week, from Monday's local midnight."""
        return cls("week", limit, rollover)

    @classmethod
    def month(cls, limit: Amount | Field | None, *, rollover: Rollover | None = None) -> Window:
        """Define a window of one calendar month, from the first day's local midnight."""
        return cls("month", limit, rollover)


@dataclass(frozen=True)
class _KeyedSpec:
    """What every spec of this folder says: where the number lives and how its document is found."""

    collection: str
    _: KW_ONLY
    path: str
    key_field: str = "_id"
    key_type: type[ObjectId] | None = None
    create: Mapping[str, Any] | None = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.collection, str) or not self.collection:
            raise UsageError("collection", f"expected the collection's name, got {self.collection!r}")
        check_path("path", self.path)
        check_path("key_field", self.key_field)
        for reserved in ("_id", self.key_field):
            if _overlap(self.path, reserved):
                raise UsageError("path", f"{self.path!r} overlaps {reserved!r}, which may not change")
        if any(part.isdigit() for part in self.path.split(".")):
            raise UsageError("path", f"{self.path!r} has a part of digits, which would index into an array")
        if self.key_type not in (None, ObjectId):
            raise UsageError("key_type", f"expected None or bson.ObjectId, got {self.key_type!r}")
        if self.create is not None:
            create = check_document("create", self.create)
            for taken in ("_id", self.key_field.split(".")[0]):
                if taken in create:
                    raise UsageError("create", f"{taken!r} comes from the key of the call: leave it out")
            self._check_created(create, self.path)
            if at_path(create, self.path) is not None:
                raise UsageError("create", f"{self.path!r} is written by the calls: leave it out")
            object.__setattr__(self, "create", create)

    def _check_created(self, create: Mapping[str, Any], path: str) -> None:
        """Refuse a value of `create` that a path leads through and that is no document."""
        parts = path.split(".")
        for depth in range(1, len(parts)):
            parent = ".".join(parts[:depth])
            if not isinstance(at_path(create, parent), (Mapping, type(None))):
                raise UsageError("create", f"{parent!r} must be a document: {path!r} leads through it")

    def indexes(self) -> tuple[Index, ...]:
        """Return the indexes that must exist: a unique one on `key_field`, unless that is `_id`."""
        return () if self.key_field == "_id" else (Index(self.key_field, unique=True),)


@dataclass(frozen=True)
class CounterSpec(_KeyedSpec):
    """Define a counter: one number per key.

    Attributes:
        collection: The collection's name.
        path: The dotted path of the number in its document.
        key_field: The field that holds the key; it must be `_id` or uniquely indexed.
        key_type: `ObjectId` to accept ids as text.
        create: Further fields of a document made by its first `add`; None never to make one.

    Raises:
        UsageError: On any value that cannot work, when the spec is made.
    """

    def __post_init__(self) -> None:
        _KeyedSpec.__post_init__(self)
        if self.create and self.path.split(".")[0] in self.create:
            raise UsageError("create", f"{self.path.split('.')[0]!r} holds the counter: leave it out")


@dataclass(frozen=True)
class QuotaSpec(_KeyedSpec):
    """Define a quota: calendar windows that must all have room.

    Attributes:
        collection: The collection's name.
        path: The dotted path of the quota's state, in a document of its own or in one of yours.
        windows: The windows, each unit at most once.
        timezone: The IANA zone whose calendar counts.
        key_field: The field that holds the key; it must be `_id` or uniquely indexed.
        key_type: `ObjectId` to accept ids as text.
        create: Further fields of a document made by its first grant, limits read by `Field` among them; None
            never to make a document.

    Raises:
        UsageError: On any value that cannot work, when the spec is made.
    """

    _: KW_ONLY
    windows: Sequence[Window] = field(hash=False)
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        _KeyedSpec.__post_init__(self)
        check_zone("timezone", self.timezone)
        if isinstance(self.windows, Window) or not isinstance(self.windows, Sequence):
            raise UsageError("windows", f"expected a list of Window, got {self.windows!r}")
        windows = tuple(self.windows)
        units = [window.unit for window in windows if isinstance(window, Window)]
        if not windows or len(units) < len(windows):
            raise UsageError("windows", "expected at least one Window, such as Window.hour(60)")
        if len(set(units)) < len(units):
            raise UsageError("windows", "two windows of the same unit: keep the smaller limit")
        object.__setattr__(self, "windows", windows)
        for number in self.fields:
            if _overlap(self.path, number.path):
                raise UsageError("windows", f"Field({number.path!r}) overlaps the quota's own state at {self.path!r}")
            self._check_created(self.create or {}, number.path)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The numbers that are read from the document."""
        limits = [window.limit for window in self.windows]
        caps = [window.rollover.cap for window in self.windows if window.rollover]
        return tuple(number for number in (*limits, *caps) if isinstance(number, Field))


def _overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


# Verdicts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decision:
    """Tell what a quota decided. True when the call may go ahead.

    Attributes:
        key: The key that was asked for.
        amount: What was asked for.
        allowed: Whether it was granted (`peek`: whether it would be).
        limited_by: The window that refused it; of several the one that takes longest to have room.
        exceeded: The windows without room for the amount; after `record` those that are past their limit.
        limit: Per window: its limit, or None where it only meters.
        used: Per window: what was charged to the window itself, this call included if it was granted.
        banked: Per window: what its bank holds (0 without rollover).
        remaining: Per window: what a call could still take, bank included; None where it only meters.
        resets_at: Per window: when it ends, in UTC, as the server stored it or tells it. Only a refused call has
            windows that are not stored yet: it dates those by this process's zone rules, and by its clock if
            there is no document.
        retry_after: Seconds until the amount would fit if nobody else takes it; None if it is allowed, or never
            will fit.
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

    def __bool__(self) -> bool:
        """Return `allowed`."""
        return self.allowed

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
        wait = "it will not fit later either" if self.retry_after is None else f"retry in {self.retry_after:.0f} s"
        raise LimitExceeded(
            f"no room for {self.amount} more for {self.key!r}{left}; {wait}", key=self.key, decision=self
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes: numbers (fractions as floats), ISO 8601 text, the key as text or number."""
        return {
            "key": self.key if isinstance(self.key, (str, int)) else str(self.key),
            "amount": _json(self.amount),
            "allowed": self.allowed,
            "limited_by": self.limited_by,
            "exceeded": list(self.exceeded),
            "limit": {window: _json(value) for window, value in self.limit.items()},
            "used": {window: _json(value) for window, value in self.used.items()},
            "banked": {window: _json(value) for window, value in self.banked.items()},
            "remaining": {window: _json(value) for window, value in self.remaining.items()},
            "resets_at": {window: value.isoformat() for window, value in self.resets_at.items()},
            "retry_after": self.retry_after,
        }


def _json(value: Number | None) -> int | float | None:
    return float(value) if isinstance(value, Decimal) else value
