"""What counters and quotas send, and what the answers mean. Pure: no client, no clock, no randomness.

A quota's state is one small document under the spec's path, inside the caller's own document:

```
{"at": <server time of the last grant>, "by": <token of the call that was granted>,
 "hour": {"end": <when the window ends>, "used": 3, "bank": 20}, "day": {...}}
```

A window is known by its *end*. As long as the server's clock is before it nothing moves, so a clock that steps
back, or a zone whose midnight comes twice, cannot reopen a window. Past it, one expression rolls the window on,
banks what each elapsed window left, and charges the call, in the same write.

The pipeline of a spec is constant, built and encoded once: the values of a call travel as the command's own
variables (`let`). The reply is projected to the state and the numbers that were decided from. What was granted is
read from the stored token and never from the projection: when the driver repeats a write whose answer was lost,
the server answers with the stored document as it is.

A refused call writes nothing, so the state that it tells may be older than its windows. They are brought to the
reply's time in memory (`_reading`), by the rules of the pipeline (`_rolled`); the two are tested against each
other.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from bson import Decimal128, ObjectId, encode
from bson.raw_bson import RawBSONDocument

from mongopatterns.amounts import (
    MAX_AMOUNT,
    Amount,
    Number,
    add,
    amount_value,
    multiply,
    plain,
    plain_number,
)
from mongopatterns.errors import DocumentNotFound, LimitExceeded, StateError, UsageError
from mongopatterns.expressions import (
    ANY_UUID,
    Field,
    at_path,
    bson_identity,
    check_document,
    check_path,
    check_time,
    key_filter,
    key_value,
    literal,
    merge_at,
)
from mongopatterns.indexes import Index
from mongopatterns.windows import (
    Unit,
    check_zone,
    end_of,
    later_end,
    window_end,
    windows_apart,
    windows_between,
)

_MAX_FACTOR: Final = 1000  # keeps every cap below 2**63, so that no bank leaves the integers
_REPLY: Final = "_mongopatterns"  # the one field of a projected reply; a stored image lacks it


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
        if self.key_type not in (None, ObjectId):
            raise UsageError("key_type", f"expected None or bson.ObjectId, got {self.key_type!r}")
        if self.create is not None:
            create = check_document("create", self.create)
            for taken in ("_id", self.key_field):
                if at_path(create, taken) is not None:
                    raise UsageError("create", f"{taken!r} comes from the key of the call: leave it out")
            object.__setattr__(self, "create", create)

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
        windows = tuple(self.windows)
        units = [window.unit for window in windows if isinstance(window, Window)]
        if not windows or len(units) < len(windows):
            raise UsageError("windows", "expected at least one Window, such as Window.hour(60)")
        if len(set(units)) < len(units):
            raise UsageError("windows", "two windows of the same unit: keep the smaller limit")
        object.__setattr__(self, "windows", windows)
        for number in _fields(self):
            if _overlap(self.path, number.path):
                raise UsageError("windows", f"Field({number.path!r}) overlaps the quota's own state at {self.path!r}")
        if at_path(self.create, self.path) is not None:
            raise UsageError("create", f"{self.path!r} holds the quota's state: leave it out")


def _overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _fields(spec: QuotaSpec) -> list[Field]:
    """List the numbers that are read from the document."""
    numbers = [window.limit for window in spec.windows]
    numbers += [
        window.rollover.cap for window in spec.windows if window.rollover and isinstance(window.rollover.cap, Field)
    ]
    return [number for number in numbers if isinstance(number, Field)]


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
        resets_at: Per window: when it ends, by the server's calendar, in UTC.
        retry_after: Seconds until the amount would fit if nobody else takes it; None if it is allowed, or never
            will fit.
    """

    key: Any
    amount: Number
    allowed: bool
    limited_by: str | None
    exceeded: tuple[str, ...]
    limit: dict[str, Number | None]
    used: dict[str, Number]
    banked: dict[str, Number]
    remaining: dict[str, Number | None]
    resets_at: dict[str, dt.datetime]
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


# Commands ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FindOneAndUpdate:
    """One guarded write: the arguments of the driver's `find_one_and_update`, the sort of reply aside."""

    filter: dict[str, Any]
    update: Any
    projection: Any
    upsert: bool
    comment: str
    let: dict[str, Any] | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of the driver's call; the reply is the document after the write."""
        arguments: dict[str, Any] = {
            "filter": self.filter,
            "update": self.update,
            "projection": self.projection,
            "upsert": self.upsert,
            "return_document": True,
            "comment": self.comment,
        }
        if self.let is not None:
            arguments["let"] = self.let
        return arguments


@dataclass(frozen=True, slots=True)
class Consumption:
    """One call that charges a quota: what is sent, and what is needed to read the answer."""

    key: Any
    amount: int | Decimal128
    token: ObjectId
    now: dt.datetime | None
    command: FindOneAndUpdate


# Counter -----------------------------------------------------------------------------------------------------


class CounterPlan:
    """Build a counter's commands and read their replies."""

    def __init__(self, spec: CounterSpec) -> None:
        self.spec = spec
        self.projection = {"_id": 0, spec.path: 1}

    def add(self, key: object, amount: Amount) -> FindOneAndUpdate:
        """Add `amount` in one write, which makes the document if the spec allows it."""
        spec = self.spec
        update: dict[str, Any] = {"$inc": {spec.path: amount_value("amount", amount)}}
        if spec.create:
            update["$setOnInsert"] = spec.create
        return FindOneAndUpdate(
            filter=self.filter(key),
            update=update,
            projection=self.projection,
            upsert=spec.create is not None,
            comment="mongopatterns.counter.add",
        )

    def filter(self, key: object) -> dict[str, Any]:
        """Match the one document of `key`."""
        return key_filter(self.spec.key_field, key_value("key", key, self.spec.key_type))

    def values(self, keys: Iterable[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Build the filter and the projection that read the numbers of all `keys`."""
        if isinstance(keys, (str, bytes, Mapping)):
            raise UsageError("keys", f"expected a list of keys, got {keys!r}")
        asked = list(keys)
        wanted = [key_value("keys", key, self.spec.key_type) for key in asked]
        try:
            told_apart = len(set(asked)) >= len({bson_identity(key) for key in wanted})
        except TypeError:
            raise UsageError("keys", "a document cannot be a key of the answer: ask for its value alone") from None
        if not told_apart:
            raise UsageError("keys", "True and 1 are two keys to the server and one to a dict: ask for one at a time")
        return {self.spec.key_field: {"$in": wanted}}, {"_id": 0, self.spec.path: 1, self.spec.key_field: 1}

    def total(self, key: object, reply: Mapping[str, Any] | None, *, written: bool = False) -> Number:
        """Read the number of one key: 0 where there is none yet.

        Raises:
            DocumentNotFound: If a write matched nothing and may not create.
            StateError: If what stands at the path is not a finite number.
        """
        if reply is None and written:
            raise DocumentNotFound(self.spec.collection, key)
        stored = at_path(reply, self.spec.path)
        if stored is None and not written:
            return 0
        number = plain_number(stored)
        if number is None:
            raise StateError(self.spec.collection, key, self.spec.path, f"expected a finite number, found {stored!r}")
        return number

    def totals(self, keys: Sequence[Any], documents: Iterable[Mapping[str, Any]]) -> dict[Any, Number]:
        """Give every asked key its number, in the order asked, with keys matched as the server compares them."""
        spec = self.spec
        found = {bson_identity(at_path(document, spec.key_field)): document for document in documents}
        return {key: self.total(key, found.get(bson_identity(key_value("keys", key, spec.key_type)))) for key in keys}


# Quota -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reading:
    """One window as it stands at the server's time."""

    end: dt.datetime
    used: Number
    bank: Number
    limit: Number | None
    cap: Number


class QuotaPlan:
    """Build a quota's commands and read their replies."""

    def __init__(self, spec: QuotaSpec) -> None:
        self.spec = spec
        self.windows: dict[str, Window] = {window.unit: window for window in spec.windows}

    # What is sent ..............................................................................................

    def consume(self, key: object, amount: Amount, *, token: ObjectId, now: dt.datetime | None) -> Consumption:
        """Charge `amount` to every window if all have room; else write nothing."""
        charge = amount_value("amount", amount)
        # A refused upsert would still leave a document behind: it is asked for only where a fresh one has room.
        admits = self._fresh_room is not None and plain(charge) <= self._fresh_room
        return self._charge("consume", key, charge, token, now, update=self._consume_update, upsert=admits)

    def record(self, key: object, amount: Amount, *, token: ObjectId, now: dt.datetime | None) -> Consumption:
        """Charge `amount` to every window, whether or not there is room."""
        charge = amount_value("amount", amount)
        known = self._fresh_room is not None
        return self._charge("record", key, charge, token, now, update=self._record_update, upsert=known)

    def _charge(
        self,
        call: str,
        key: object,
        amount: int | Decimal128,
        token: ObjectId,
        now: dt.datetime | None,
        *,
        update: list[RawBSONDocument],
        upsert: bool,
    ) -> Consumption:
        stored_key = key_value("key", key, self.spec.key_type)
        time = None if now is None else check_time("now", now)
        command = FindOneAndUpdate(
            filter=key_filter(self.spec.key_field, stored_key),
            update=update,
            projection=self._projection,
            upsert=upsert and self.spec.create is not None,
            comment=f"mongopatterns.quota.{call}",
            let={"now": time or "$$NOW", "amount": amount, "token": token},
        )
        return Consumption(stored_key, amount, token, time, command)

    def peek(self, key: object, *, now: dt.datetime | None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Build the pipeline, and its variables, that reads the windows as they stand at the server's time."""
        spec = self.spec
        roots = {path.split(".")[0] for path in (spec.path, *(number.path for number in _fields(spec)))}
        ends = {unit: window_end("$$now", window.unit, spec.timezone) for unit, window in self.windows.items()}
        pipeline: list[dict[str, Any]] = [
            {"$match": key_filter(spec.key_field, key_value("key", key, spec.key_type))},
            {"$limit": 1},
        ]
        if spec.create is not None:
            # $facet answers with one document even where nothing matches, so that a key without a document
            # costs no second command and is dated by the server all the same.
            pipeline += [
                {"$facet": {"found": [{"$project": dict.fromkeys((spec.key_field, *sorted(roots)), 1)}]}},
                {"$replaceWith": {"$ifNull": [{"$first": "$found"}, literal(spec.create)]}},
            ]
        pipeline.append({"$project": self._reply(ends=ends)})
        return pipeline, {"now": "$$NOW" if now is None else check_time("now", now)}

    def reset(self, key: object) -> tuple[dict[str, Any], dict[str, Any]]:
        """Build the filter and the update that forget the state."""
        stored_key = key_value("key", key, self.spec.key_type)
        return key_filter(self.spec.key_field, stored_key), {"$unset": {self.spec.path: ""}}

    def explain(self, key: object, amount: Amount) -> dict[str, Any]:
        """Return the arguments of `find_one_and_update` as `consume` sends them, in plain values."""
        command = self.consume(key, amount, token=ObjectId("0" * 24), now=None).command
        arguments = {**command.arguments(), "update": self._pipeline(guarded=True)}
        return {**arguments, "projection": self._reply()}

    # What a fresh document would say ...........................................................................

    @cached_property
    def _fresh_room(self) -> Number | float | None:
        """The most that a key without a document would be granted; None if one of its limits is not known."""
        create = self.spec.create
        numbers = {number: _field_number(number, at_path(create, number.path)) for number in _fields(self.spec)}
        known = [number for number in numbers.values() if number is not None]
        if len(known) < len(numbers):
            return None
        limits = (self._limit_of(window, numbers) for window in self.windows.values())
        return min((limit for limit in limits if limit is not None), default=math.inf)

    # The pipeline ..............................................................................................

    @cached_property
    def _consume_update(self) -> list[RawBSONDocument]:
        return [_encoded(stage) for stage in self._pipeline(guarded=True)]

    @cached_property
    def _record_update(self) -> list[RawBSONDocument]:
        return [_encoded(stage) for stage in self._pipeline(guarded=False)]

    @cached_property
    def _projection(self) -> RawBSONDocument:
        return _encoded(self._reply())

    def _pipeline(self, *, guarded: bool) -> list[dict[str, Any]]:
        windows = {unit: self._charged(window) for unit, window in self.windows.items()}
        state = {"$mergeObjects": ["$$state", {"at": "$$now", "by": "$$token", **windows}]}
        granted = merge_at("$$doc", self.spec.path, state)
        room = [
            {"$lte": ["$$amount", _available(window)]} for window in self.windows.values() if window.limit is not None
        ]
        decided = {"$cond": [{"$and": room}, granted, "$$ROOT"]} if guarded and room else granted
        rolled = {unit: self._rolled(window) for unit, window in self.windows.items()}
        checked = {"$cond": [{"$and": self._valid()}, {"$let": {"vars": rolled, "in": decided}}, "$$ROOT"]}
        return [{"$replaceWith": self._scope(checked)}]

    def _reply(self, **more: Any) -> dict[str, Any]:
        """Build the projection of a reply: the state and the numbers it was decided from, and nothing else."""
        told = {
            "now": "$$now",
            "state": f"$$doc.{self.spec.path}",
            "parents": [{"$type": f"$$doc.{parent}"} for parent in _parents(self.spec.path)],
            "fields": [f"$$doc.{number.path}" for number in _fields(self.spec)],
            **more,
        }
        return {"_id": 0, _REPLY: {"$let": {"vars": {"doc": self._doc()}, "in": told}}}

    def _doc(self) -> Any:
        """Build the document of the call: a document without any field of its own gets those of a new one."""
        spec = self.spec
        if not spec.create:
            return "$$ROOT"
        # An upsert starts from the filter's own equality, and from nothing else.
        bare = _nested(spec.key_field, f"${spec.key_field}")
        created = {"$mergeObjects": [literal(spec.create), "$$ROOT"]}
        return {"$cond": [{"$eq": ["$$ROOT", bare]}, created, "$$ROOT"]}

    def _scope(self, inner: object) -> dict[str, Any]:
        """Bind `$$doc`, `$$state` and the numbers read from the document."""
        numbers = {}
        for window in self.windows.values():
            if isinstance(window.limit, Field):
                numbers[f"{window.unit}_limit"] = _read_number(window.limit)
            if window.rollover and isinstance(window.rollover.cap, Field):
                numbers[f"{window.unit}_cap"] = _read_number(window.rollover.cap)
        bound = {"$let": {"vars": {"state": f"$$doc.{self.spec.path}", **numbers}, "in": inner}}
        return {"$let": {"vars": {"doc": self._doc()}, "in": bound}}

    def _valid(self) -> list[dict[str, Any]]:
        """List what must hold of the stored values; where it does not, nothing is computed and nothing written."""
        holders = [f"$$doc.{parent}" for parent in _parents(self.spec.path)]
        checks: list[dict[str, Any]] = [
            {"$in": [{"$type": holder}, ["missing", "null", "object"]]} for holder in (*holders, "$$state")
        ]
        for unit, window in self.windows.items():
            stored = f"$$state.{unit}"
            whole = [{"$eq": [{"$type": f"{stored}.end"}, "date"]}, *_is_count(f"{stored}.used")]
            if window.rollover:
                whole += _is_count({"$ifNull": [f"{stored}.bank", 0]})
            checks.append({"$or": [_absent(stored), {"$and": whole}]})
            if isinstance(window.limit, Field):
                checks += _is_count(f"$${unit}_limit", MAX_AMOUNT)
            if window.rollover and isinstance(window.rollover.cap, Field):
                checks += _is_count(f"$${unit}_cap", MAX_AMOUNT)
        return checks

    def _rolled(self, window: Window) -> dict[str, Any]:
        """Build one window as it stands at `$$now`: as stored before its end, rolled on from there."""
        stored, zone = f"$$state.{window.unit}", self.spec.timezone
        same: dict[str, Any] = {"end": f"{stored}.end", "used": f"{stored}.used"}
        new: dict[str, Any] = {"end": window_end("$$now", window.unit, zone), "used": 0}
        if window.rollover:
            bank, limit = {"$ifNull": [f"{stored}.bank", 0]}, _limit(window)
            idle = windows_between(f"{stored}.end", "$$now", window.unit, zone)
            left = {"$max": [0, {"$subtract": [limit, f"{stored}.used"]}]}
            banked = {"$min": [_cap(window), {"$add": [bank, left, {"$multiply": [limit, idle]}]}]}
            same["bank"] = bank
            new["bank"] = {"$cond": [_absent(stored), 0, banked]}
        return {"$cond": [{"$gt": [f"{stored}.end", "$$now"]}, same, new]}

    def _charged(self, window: Window) -> dict[str, Any]:
        """Build one rolled window after the call is charged: each unit once, to the bank or to the window."""
        rolled = f"$${window.unit}"
        if window.rollover is None:
            return {"end": f"{rolled}.end", "used": {"$add": [f"{rolled}.used", "$$amount"]}}
        wanted: Any = "$$amount"
        if window.rollover.spend == "window_first":
            wanted = {"$max": [0, {"$subtract": ["$$amount", _left(window)]}]}
        charged = {
            "end": f"{rolled}.end",
            "used": {"$add": [f"{rolled}.used", {"$subtract": ["$$amount", "$$banked"]}]},
            "bank": {"$subtract": [f"{rolled}.bank", "$$banked"]},
        }
        return {"$let": {"vars": {"banked": {"$min": [f"{rolled}.bank", wanted]}}, "in": charged}}

    # What came back ............................................................................................

    def decide(self, call: Consumption, reply: Mapping[str, Any] | None, *, clock: dt.datetime) -> Decision:
        """Read the verdict of a charge.

        Args:
            call: What was sent.
            reply: The document after the write, projected or as stored; None if none matched.
            clock: This process's time: it dates the windows of a key that has no document, and decides nothing.

        Raises:
            DocumentNotFound: If there is no document and the spec says `create=None`.
            StateError: If the stored state or a limit is not what the spec describes.
        """
        if reply is None:
            if self.spec.create is None:
                raise DocumentNotFound(self.spec.collection, call.key)
            told = {"now": call.now or clock, **self._told_by(self.spec.create)}
        elif _REPLY in reply:
            told = reply[_REPLY]
        else:
            # The driver repeated a write that had been applied: this is the document as it was stored then.
            told = self._told_by(reply)
            told["now"] = told["state"]["at"]
        readings = self._readings(call.key, told)
        granted = isinstance(told.get("state"), Mapping) and told["state"].get("by") == call.token
        return self._decision(call.key, call.amount, told["now"], readings, granted=granted)

    def look(self, key: object, amount: Amount, replies: Sequence[Mapping[str, Any]]) -> Decision:
        """Read the verdict of a `peek`: what would be decided about `amount` now.

        Raises:
            DocumentNotFound: If there is no document and the spec says `create=None`.
            StateError: If the stored state or a limit is not what the spec describes.
        """
        stored_key = key_value("key", key, self.spec.key_type)
        if not replies:
            raise DocumentNotFound(self.spec.collection, stored_key)
        told = replies[0][_REPLY]
        readings = self._readings(stored_key, told)
        return self._decision(stored_key, amount_value("amount", amount), told["now"], readings, granted=None)

    def _told_by(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Read from a whole document what a projected reply would tell, its time aside."""
        fields = [at_path(document, number.path) for number in _fields(self.spec)]
        return {"state": at_path(document, self.spec.path), "fields": fields}

    def _readings(self, key: object, told: Mapping[str, Any]) -> dict[str, _Reading]:
        """Check what a reply tells as the pipeline checks it, and bring every window to the reply's time.

        Raises:
            StateError: If the pipeline had to refuse it; nothing was written then.
        """
        collection, path = self.spec.collection, self.spec.path
        for parent, kind in zip(_parents(path), told.get("parents", ()), strict=False):
            if kind not in ("missing", "null", "object"):
                raise StateError(collection, key, parent, f"expected a document, found a value of type {kind}")
        state = told.get("state")
        if state is not None and not isinstance(state, Mapping):
            raise StateError(collection, key, path, f"expected a quota's state, found {state!r:.100}")
        numbers = {}
        for number, stored in zip(_fields(self.spec), told["fields"], strict=True):
            value = _field_number(number, stored)
            if value is None:
                problem = f"expected a number from 0 to {MAX_AMOUNT}, or a Field with a default; found {stored!r:.100}"
                raise StateError(collection, key, number.path, problem)
            numbers[number] = value
        readings: dict[str, _Reading] = {}
        for unit, window in self.windows.items():
            stored = None if state is None else state.get(unit)
            if stored is not None and not _is_window(stored, window):
                problem = f"expected {{end: a date, used: a number of at least 0}}, found {stored!r:.100}"
                raise StateError(collection, key, f"{path}.{unit}", problem)
            end = told["ends"][unit] if "ends" in told else None
            readings[unit] = self._reading(window, stored, numbers, told["now"], end)
        return readings

    def _reading(
        self,
        window: Window,
        stored: Mapping[str, Any] | None,
        numbers: Mapping[Field, Number],
        now: dt.datetime,
        end: dt.datetime | None,
    ) -> _Reading:
        """Bring one window to `now`, as `_rolled` does on the server.

        A window that nobody has charged yet ends where the server says (`end`); a charge does not ask, and
        such a window of a refused call is dated by this process's calendar.
        """
        limit, cap = self._limit_of(window, numbers), self._cap_of(window, numbers)
        banks = window.rollover is not None
        bank = plain(stored.get("bank") or 0) if stored and banks else 0
        if stored and stored["end"] > now:
            return _Reading(stored["end"], plain(stored["used"]), bank, limit, cap)
        zone = ZoneInfo(self.spec.timezone)
        end = end or end_of(now, window.unit, zone)
        if stored and banks:
            idle = windows_apart(stored["end"], end, window.unit, zone) - 1
            left = max(0, add(limit or 0, -plain(stored["used"])))
            bank = min(cap, add(bank, left, multiply(limit or 0, max(0, idle))))
        # What was never charged is not stored, and banks nothing by waiting.
        return _Reading(end, 0, bank, limit, cap if stored else 0)

    @staticmethod
    def _limit_of(window: Window, numbers: Mapping[Field, Number | None]) -> Number | None:
        if isinstance(window.limit, Field):
            return numbers[window.limit]
        return None if window.limit is None else plain(window.limit)

    @classmethod
    def _cap_of(cls, window: Window, numbers: Mapping[Field, Number]) -> Number:
        cap = window.rollover.cap if window.rollover else 0
        if isinstance(cap, Times):
            return multiply(cls._limit_of(window, numbers) or 0, plain(cap.factor))
        return numbers[cap] if isinstance(cap, Field) else plain(cap)

    def _decision(
        self,
        key: object,
        amount: int | Decimal128,
        now: dt.datetime,
        readings: Mapping[str, _Reading],
        *,
        granted: bool | None,
    ) -> Decision:
        asked = plain(amount)
        remaining = {unit: _remaining(reading) for unit, reading in readings.items()}
        if granted:
            exceeded = tuple(
                unit for unit, reading in readings.items() if reading.limit is not None and reading.used > reading.limit
            )
        else:
            exceeded = tuple(unit for unit, left in remaining.items() if left is not None and asked > left)
        allowed = not exceeded if granted is None else granted
        limited_by: str | None = None
        retry_after: float | None = None
        if not allowed and exceeded:
            waits = {unit: self._wait(self.windows[unit].unit, readings[unit], asked, now) for unit in exceeded}
            limited_by = max(exceeded, key=lambda unit: float("inf") if (wait := waits[unit]) is None else wait)
            retry_after = waits[limited_by]
        return Decision(
            key=key,
            amount=asked,
            allowed=allowed,
            limited_by=limited_by,
            exceeded=exceeded,
            limit={unit: reading.limit for unit, reading in readings.items()},
            used={unit: reading.used for unit, reading in readings.items()},
            banked={unit: reading.bank for unit, reading in readings.items()},
            remaining=remaining,
            resets_at={unit: reading.end for unit, reading in readings.items()},
            retry_after=retry_after,
        )

    def _wait(self, unit: Unit, reading: _Reading, asked: Number, now: dt.datetime) -> float | None:
        """Return the seconds until an idle window would have room, or None if it never will."""
        limit = reading.limit or 0
        bank = min(reading.cap, add(reading.bank, max(0, add(limit, -reading.used))))
        if asked > add(limit, max(bank, reading.cap if limit else 0)):
            return None
        # The next window brings its limit and what is banked by then; each one after it banks a limit more.
        short = add(asked, -add(limit, bank))
        idle = 0 if short <= 0 else math.ceil(Decimal(short) / Decimal(limit))
        try:
            end = later_end(reading.end, unit, ZoneInfo(self.spec.timezone), idle)
        except (OverflowError, ValueError):  # past the year 9999
            return None
        return max(0.0, (end - now).total_seconds())


# Expressions of a window .....................................................................................


def _absent(value: str) -> dict[str, Any]:
    return {"$eq": [{"$ifNull": [value, None]}, None]}


def _is_count(value: object, most: float = float("inf")) -> list[dict[str, Any]]:
    """Check for a number of at least 0 and below infinity by order alone: text and dates sort after all numbers."""
    return [{"$gte": [value, 0]}, {"$lte" if most < float("inf") else "$lt": [value, most]}]


def _travel(number: Amount) -> int | Decimal128:
    return amount_value("number", number, zero=True)


def _limit(window: Window) -> Any:
    if isinstance(window.limit, Field):
        return f"$${window.unit}_limit"
    return None if window.limit is None else _travel(window.limit)


def _cap(window: Window) -> Any:
    cap = window.rollover.cap if window.rollover else 0
    if isinstance(cap, Times):
        return {"$multiply": [_travel(cap.factor), _limit(window)]}
    return f"$${window.unit}_cap" if isinstance(cap, Field) else _travel(cap)


def _left(window: Window) -> dict[str, Any]:
    return {"$max": [0, {"$subtract": [_limit(window), f"$${window.unit}.used"]}]}


def _available(window: Window) -> dict[str, Any]:
    return {"$add": [_left(window), f"$${window.unit}.bank"]} if window.rollover else _left(window)


def _read_number(number: Field) -> dict[str, Any]:
    """Read a number of the document; a double becomes the decimal that its 15 digits spell, so that 0.3 is 0.3."""
    stored: Any = f"$$doc.{number.path}"
    if number.default is not None:
        stored = {"$ifNull": [stored, _travel(number.default)]}
    exact = {"$cond": [{"$eq": [{"$type": "$$n"}, "double"]}, {"$toDecimal": "$$n"}, "$$n"]}
    return {"$let": {"vars": {"n": stored}, "in": exact}}


def _parents(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _nested(path: str, value: object) -> Any:
    for part in reversed(path.split(".")):
        value = {part: value}
    return value


def _encoded(document: dict[str, Any]) -> RawBSONDocument:
    return RawBSONDocument(encode(document, codec_options=ANY_UUID))


# Reading in memory ...........................................................................................


def _remaining(reading: _Reading) -> Number | None:
    if reading.limit is None:
        return None
    return add(max(0, add(reading.limit, -reading.used)), reading.bank)


def _field_number(number: Field, stored: object) -> Number | None:
    """Read a number of the document as `_read_number` does; None if it is none that can be used."""
    if stored is None:
        return None if number.default is None else plain(number.default)
    if isinstance(stored, float) and not stored.is_integer():
        stored = Decimal(f"{stored:.15g}") if math.isfinite(stored) else None
    value = plain_number(stored)
    return None if value is None or not 0 <= value <= MAX_AMOUNT else value


def _is_window(stored: object, window: Window) -> bool:
    if not isinstance(stored, Mapping) or not isinstance(stored.get("end"), dt.datetime):
        return False
    numbers = [plain_number(stored.get("used"))]
    if window.rollover and stored.get("bank") is not None:
        numbers.append(plain_number(stored["bank"]))
    return all(number is not None and number >= 0 for number in numbers)
