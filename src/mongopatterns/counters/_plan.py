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
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from bson import Decimal128, MinKey, ObjectId, encode
from bson.codec_options import CodecOptions
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
    subtract,
)
from mongopatterns.counters._specs import CounterSpec, Decision, QuotaSpec, Times, Window
from mongopatterns.errors import DocumentNotFound, StateError, UsageError
from mongopatterns.expressions import (
    ANY_UUID,
    Field,
    at_path,
    bson_identity,
    check_time,
    key_filter,
    key_value,
    literal,
    merge_at,
)
from mongopatterns.windows import Unit, end_of, idle_windows, later_end, window_end, windows_between

_REPLY: Final = "_mongopatterns"  # the one field of a projected reply
# What a window or a bank may hold: one more amount on top is still an integer of 64 bits.
_MAX_STORED: Final = 2**62


# Commands ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FindOneAndUpdate:
    """One guarded write, in the terms of the driver's `find_one_and_update`."""

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


@dataclass(frozen=True, slots=True)
class CounterValues:
    """A question for many numbers: the identity of each key in the order asked, and what is sent."""

    wanted: dict[Any, Any]
    filter: dict[str, Any]
    projection: dict[str, Any]


# Counter -----------------------------------------------------------------------------------------------------


class CounterPlan:
    """Build a counter's commands and read their replies."""

    def __init__(self, spec: CounterSpec, collection: str) -> None:
        if not isinstance(spec, CounterSpec):
            raise UsageError("spec", f"expected a CounterSpec, got {type(spec).__name__}")
        self.spec = spec
        self.collection = collection
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

    def values(self, keys: Iterable[Any]) -> CounterValues:
        """Build the filter and the projection that read the numbers of all `keys`."""
        if isinstance(keys, (str, bytes, Mapping)) or not isinstance(keys, Iterable):
            raise UsageError("keys", f"expected a list of keys, got {keys!r}")
        asked = list(keys)
        stored = [key_value("keys", key, self.spec.key_type) for key in asked]
        try:
            wanted = {key: bson_identity(value) for key, value in zip(asked, stored, strict=True)}
        except TypeError:
            raise UsageError("keys", "a document cannot be a key of the answer: ask for its value alone") from None
        if len(wanted) < len({bson_identity(value) for value in stored}):
            raise UsageError("keys", "True and 1 are two keys to the server and one to a dict: ask for one at a time")
        projection = {"_id": 0, self.spec.path: 1, self.spec.key_field: 1}
        return CounterValues(wanted, {self.spec.key_field: {"$in": stored}}, projection)

    def total(self, key: object, reply: Mapping[str, Any] | None, *, written: bool = False) -> Number:
        """Read the number of one key: 0 where there is none yet.

        Raises:
            DocumentNotFound: If a write matched nothing and may not create.
            StateError: If what stands at the path is not a finite number.
        """
        if reply is None and written:
            raise DocumentNotFound(self.collection, key)
        stored = at_path(reply, self.spec.path)
        if stored is None and not written:
            return 0
        number = plain_number(stored)
        if number is None:
            raise StateError(self.collection, key, self.spec.path, f"expected a finite number, found {stored!r:.100}")
        return number

    def totals(self, asked: CounterValues, documents: Iterable[Mapping[str, Any]]) -> dict[Any, Number]:
        """Give every asked key its number, in the order asked, with keys matched as the server compares them.

        Raises:
            StateError: If a document matched by something else than equality of its one key (a collation of the
                collection, an array), or holds something else than a finite number.
        """
        found: dict[Any, Number] = {}
        known = set(asked.wanted.values())
        for document in documents:
            key = at_path(document, self.spec.key_field)
            identity = bson_identity(key)
            if identity not in known:
                problem = "matches a key that was asked for, and is another one: ask for one value at a time"
                raise StateError(self.collection, key, self.spec.key_field, problem)
            found[identity] = self.total(key, document)
        return {key: found.get(identity, 0) for key, identity in asked.wanted.items()}


# Quota -------------------------------------------------------------------------------------------------------


class _Reading(NamedTuple):
    """One window as it stands at the server's time."""

    end: dt.datetime
    used: Number
    bank: Number
    limit: Number | None
    cap: Number


class QuotaPlan:
    """Build a quota's commands and read their replies."""

    def __init__(self, spec: QuotaSpec, collection: str, codec_options: CodecOptions[Any] = ANY_UUID) -> None:
        if not isinstance(spec, QuotaSpec):
            raise UsageError("spec", f"expected a QuotaSpec, got {type(spec).__name__}")
        self.spec = spec
        self.collection = collection
        self._codec_options = codec_options
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
        ends = {unit: window_end("$$now", window.unit, spec.timezone) for unit, window in self.windows.items()}
        reply = self._reply(ends=ends)
        pipeline: list[dict[str, Any]] = [
            {"$match": key_filter(spec.key_field, key_value("key", key, spec.key_type))},
            {"$limit": 1},
        ]
        if spec.create is None:
            pipeline.append({"$project": reply})
        else:
            # $facet answers with one document even where nothing matches, so that a key without a document
            # costs no second command and is dated by the server all the same.
            created = [literal(at_path(spec.create, number.path)) for number in spec.fields]
            fresh = {_REPLY: {"now": "$$now", "state": None, "fields": created, "ends": ends}}
            pipeline += [
                {"$facet": {"found": [{"$project": reply}]}},
                {"$replaceWith": {"$ifNull": [{"$first": "$found"}, fresh]}},
            ]
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
        numbers = {number: _field_number(number, at_path(create, number.path)) for number in self.spec.fields}
        known = [number for number in numbers.values() if number is not None]
        if len(known) < len(numbers):
            return None
        limits = (self._limit_of(window, numbers) for window in self.windows.values())
        return min((limit for limit in limits if limit is not None), default=math.inf)

    # The pipeline ..............................................................................................

    @cached_property
    def _consume_update(self) -> list[RawBSONDocument]:
        return [self._encoded(stage) for stage in self._pipeline(guarded=True)]

    @cached_property
    def _record_update(self) -> list[RawBSONDocument]:
        return [self._encoded(stage) for stage in self._pipeline(guarded=False)]

    @cached_property
    def _projection(self) -> RawBSONDocument:
        return self._encoded(self._reply())

    def _encoded(self, document: dict[str, Any]) -> RawBSONDocument:
        return RawBSONDocument(encode(document, codec_options=self._codec_options))

    def _pipeline(self, *, guarded: bool) -> list[dict[str, Any]]:
        windows = {unit: self._charged(window) for unit, window in self.windows.items()}
        state = {"$mergeObjects": ["$$state", {"at": "$$now", "by": "$$token", **windows}]}
        granted = merge_at(self._doc, self.spec.path, state)
        room = [_has_room(window) for window in self.windows.values() if window.limit is not None]
        decided = {"$cond": [{"$and": room}, granted, "$$ROOT"]} if guarded and room else granted
        rolled = {unit: self._rolled(window) for unit, window in self.windows.items()}
        checked = {"$cond": [{"$and": self._valid()}, {"$let": {"vars": rolled, "in": decided}}, "$$ROOT"]}
        return [{"$replaceWith": self._with_doc(self._with_numbers(checked))}]

    def _reply(self, **more: Any) -> dict[str, Any]:
        """Build the projection of a reply: the state and the numbers it was decided from, and nothing else."""
        doc = self._doc
        told: dict[str, Any] = {"now": "$$now", "state": f"{doc}.{self.spec.path}", **more}
        if parents := _parents(self.spec.path):
            told["parents"] = [{"$type": f"{doc}.{parent}"} for parent in parents]
        if self.spec.fields:
            told["fields"] = [f"{doc}.{number.path}" for number in self.spec.fields]
        return {"_id": 0, _REPLY: self._with_doc(told)}

    @property
    def _doc(self) -> str:
        """Name the document of the call."""
        return "$$doc" if self.spec.create else "$$ROOT"

    def _with_doc(self, inner: dict[str, Any]) -> dict[str, Any]:
        """Bind `$$doc` if the spec has `create`: a document without any field of its own gets those."""
        spec = self.spec
        if not spec.create:
            return inner
        # An upsert starts from the filter's own equality, and from nothing else.
        bare = _nested(spec.key_field, f"${spec.key_field}")
        created = {"$mergeObjects": [literal(spec.create), "$$ROOT"]}
        doc = {"$cond": [{"$eq": ["$$ROOT", bare]}, created, "$$ROOT"]}
        return {"$let": {"vars": {"doc": doc}, "in": inner}}

    def _with_numbers(self, inner: dict[str, Any]) -> dict[str, Any]:
        """Bind `$$state` and the numbers read from the document."""
        numbers = {}
        for window in self.windows.values():
            if isinstance(window.limit, Field):
                numbers[f"{window.unit}_limit"] = self._read_number(window.limit)
            if window.rollover and isinstance(window.rollover.cap, Field):
                numbers[f"{window.unit}_cap"] = self._read_number(window.rollover.cap)
        return {"$let": {"vars": {"state": f"{self._doc}.{self.spec.path}", **numbers}, "in": inner}}

    def _read_number(self, number: Field) -> dict[str, Any]:
        """Build a number of the document; a double becomes the decimal of its 15 digits, so that 0.3 is 0.3."""
        stored: Any = f"{self._doc}.{number.path}"
        if number.default is not None:
            stored = {"$ifNull": [stored, _travel(number.default)]}
        exact = {"$cond": [{"$eq": [{"$type": "$$n"}, "double"]}, {"$toDecimal": "$$n"}, "$$n"]}
        return {"$let": {"vars": {"n": stored}, "in": exact}}

    def _valid(self) -> list[dict[str, Any]]:
        """List what must hold of the stored values; where it does not, nothing is computed and nothing written.

        What `_readings` checks in memory, in few expressions: the server parses them anew for every command (and
        a `$literal` list as one).
        """
        holders = [f"{self._doc}.{parent}" for parent in _parents(self.spec.path)]
        checks: list[dict[str, Any]] = [
            {"$in": [{"$type": holder}, literal(["missing", "null", "object"])]} for holder in (*holders, "$$state")
        ]
        counts: list[Any] = [0]
        numbers: list[Any] = [0]
        for unit, window in self.windows.items():
            stored = f"$$state.{unit}"
            whole = [{"$eq": [{"$type": f"{stored}.end"}, "date"]}, {"$gt": [f"{stored}.used", None]}]
            checks.append({"$or": [_absent(stored), {"$and": whole}]})
            counts.append(f"{stored}.used")
            if window.rollover:
                counts.append(f"{stored}.bank")
            if isinstance(window.limit, Field):
                numbers.append(f"$${unit}_limit")
            if window.rollover and isinstance(window.rollover.cap, Field):
                numbers.append(f"$${unit}_cap")
        checks += _in_range(counts, _MAX_STORED)
        # A double that is stored (by other code) would make every sum one.
        checks.append({"$not": [{"$in": ["double", [{"$type": count} for count in counts[1:]]]}]})
        if numbers[1:]:
            checks += _in_range(numbers, MAX_AMOUNT)
            checks += [{"$gt": [number, None]} for number in numbers[1:]]
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
                raise DocumentNotFound(self.collection, call.key)
            told = {"now": call.now or clock, **self._told_by(self.spec.create)}
        elif "_id" in reply:
            # The driver repeated a write that had been applied: this is the document as it was stored then, and
            # not a projected reply, which has no _id.
            told = self._told_by(reply)
            told["now"] = told["state"]["at"]
        else:
            told = reply[_REPLY]
        state = told.get("state")  # left out of the reply where there is none
        granted = isinstance(state, dict) and state.get("by") == call.token
        readings = self._readings(call.key, told, charged=granted)
        return self._decision(call.key, call.amount, told["now"], readings, granted=granted)

    def look(self, key: object, amount: Amount, replies: Sequence[Mapping[str, Any]]) -> Decision:
        """Read the verdict of a `peek`: what would be decided about `amount` now.

        Raises:
            DocumentNotFound: If there is no document and the spec says `create=None`.
            StateError: If the stored state or a limit is not what the spec describes.
        """
        stored_key = key_value("key", key, self.spec.key_type)
        if not replies:
            raise DocumentNotFound(self.collection, stored_key)
        told = replies[0][_REPLY]
        readings = self._readings(stored_key, told, charged=False)
        return self._decision(stored_key, amount_value("amount", amount), told["now"], readings, granted=None)

    def _told_by(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Read from a whole document what a projected reply would tell, its time aside."""
        fields = [at_path(document, number.path) for number in self.spec.fields]
        return {"state": at_path(document, self.spec.path), "fields": fields}

    def _readings(self, key: object, told: Mapping[str, Any], *, charged: bool) -> dict[str, _Reading]:
        """Check what a reply tells as the pipeline checks it, and bring every window to the reply's time.

        Args:
            key: The key, for errors.
            told: What the reply tells.
            charged: Whether the state holds this call's charge, on top of what the pipeline checked.

        Raises:
            StateError: If the pipeline had to refuse it; nothing was written then.
        """
        collection, path = self.collection, self.spec.path
        for parent, kind in zip(_parents(path), told.get("parents", ()), strict=False):
            if kind not in ("missing", "null", "object"):
                raise StateError(collection, key, parent, f"expected a document, found a value of type {kind}")
        state = told.get("state")
        if state is not None and not isinstance(state, dict):
            raise StateError(collection, key, path, f"expected a quota's state, found {state!r:.100}")
        numbers = {}
        for number, stored in zip(self.spec.fields, told.get("fields", ()), strict=True):
            value = _field_number(number, stored)
            if value is None:
                problem = f"expected a number from 0 to {MAX_AMOUNT}, or a Field with a default; found {stored!r:.100}"
                raise StateError(collection, key, number.path, problem)
            numbers[number] = value
        most = _MAX_STORED + MAX_AMOUNT if charged else _MAX_STORED
        readings: dict[str, _Reading] = {}
        for unit, window in self.windows.items():
            stored = None if state is None else state.get(unit)
            if isinstance(stored, MinKey):  # to the server's order, nothing
                stored = None
            known = None if stored is None else _stored_window(stored, window, most)
            if stored is not None and known is None:
                problem = "expected {end: a date, used: an integer or decimal from 0 to 2**62}"
                raise StateError(collection, key, f"{path}.{unit}", f"{problem}, found {stored!r:.100}")
            end = told["ends"][unit] if "ends" in told else None
            readings[unit] = self._reading(window, known, numbers, told["now"], end)
        return readings

    def _reading(
        self,
        window: Window,
        stored: tuple[dt.datetime, Number, Number] | None,
        numbers: Mapping[Field, Number],
        now: dt.datetime,
        end: dt.datetime | None,
    ) -> _Reading:
        """Bring one window to `now`, as `_rolled` does on the server.

        A window that nobody has charged yet ends where the server says (`end`); a charge does not ask, and
        such a window of a refused call is dated by this process's calendar.
        """
        limit, cap = self._constants.get(window.unit) or (
            self._limit_of(window, numbers),
            self._cap_of(window, numbers),
        )
        zone = ZoneInfo(self.spec.timezone)
        if stored is None:  # what was never charged banks nothing by waiting
            return _Reading(end or end_of(now, window.unit, zone), 0, 0, limit, cap=0)
        stored_end, used, bank = stored
        if stored_end > now:
            return _Reading(stored_end, used, bank, limit, cap)
        end = end or end_of(now, window.unit, zone)
        if limit is not None and window.rollover:
            idle = idle_windows(stored_end, end, now, window.unit, zone)
            bank = min(cap, add(bank, max(0, subtract(limit, used)), multiply(limit, idle)))
        return _Reading(end, 0, bank, limit, cap)

    @cached_property
    def _constants(self) -> dict[str, tuple[Number | None, Number]]:
        """The limit and the cap of each window that reads neither from the document."""
        given = {unit: (window.limit, window.rollover and window.rollover.cap) for unit, window in self.windows.items()}
        return {
            unit: (self._limit_of(window, {}), self._cap_of(window, {}))
            for unit, window in self.windows.items()
            if not any(isinstance(number, Field) for number in given[unit])
        }

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
        bank = min(reading.cap, add(reading.bank, max(0, subtract(limit, reading.used))))
        if asked > add(limit, max(bank, reading.cap if limit else 0)):
            return None
        # The next window brings its limit and what is banked by then; each one after it banks a limit more.
        short = subtract(asked, add(limit, bank))
        idle = 0 if short <= 0 else math.ceil(Fraction(short) / Fraction(limit))
        try:
            end = later_end(reading.end, unit, ZoneInfo(self.spec.timezone), idle)
        except (OverflowError, ValueError):  # past the year 9999
            return None
        return max(0.0, (end - now).total_seconds())


# Expressions of a window .....................................................................................


def _absent(value: str) -> dict[str, Any]:
    return {"$lte": [value, None]}  # only missing values and MinKey sort before null


def _in_range(numbers: list[Any], most: int) -> list[dict[str, Any]]:
    """Check that nothing sorts before 0 (as NaN does) or after `most` (as text and dates do); null and missing may."""
    return [{"$gte": [{"$min": numbers}, 0]}, {"$lte": [{"$max": numbers}, most]}]


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


def _has_room(window: Window) -> dict[str, Any]:
    if window.rollover:
        return {"$lte": ["$$amount", {"$add": [_left(window), f"$${window.unit}.bank"]}]}
    return {"$lte": [{"$add": [f"$${window.unit}.used", "$$amount"]}, _limit(window)]}


def _parents(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _nested(path: str, value: object) -> Any:
    for part in reversed(path.split(".")):
        value = {part: value}
    return value


# Reading in memory ...........................................................................................


def _remaining(reading: _Reading) -> Number | None:
    if reading.limit is None:
        return None
    return add(max(0, subtract(reading.limit, reading.used)), reading.bank)


def _field_number(number: Field, stored: object) -> Number | None:
    """Read a number of the document as `_read_number` does; None if it is none that can be used."""
    if stored is None:
        return None if number.default is None else plain(number.default)
    if isinstance(stored, float) and math.isfinite(stored) and not stored.is_integer():
        stored = Decimal128(f"{stored:.15g}")
    value = plain_number(stored)
    return None if value is None or not 0 <= value <= MAX_AMOUNT else value


def _stored_window(stored: object, window: Window, most: int) -> tuple[dt.datetime, Number, Number] | None:
    """Read the end of a stored window, what was used and what is banked; None if `_valid` would refuse it."""
    if not isinstance(stored, dict) or not isinstance(end := stored.get("end"), dt.datetime):
        return None
    used = _count(stored.get("used"), most)
    bank = stored.get("bank") if window.rollover else None
    banked = 0 if bank is None else _count(bank, most)
    return None if used is None or banked is None else (end, used, banked)


def _count(stored: object, most: int) -> Number | None:
    number = None if isinstance(stored, float) else plain_number(stored)
    return None if number is None or not 0 <= number <= most else number
