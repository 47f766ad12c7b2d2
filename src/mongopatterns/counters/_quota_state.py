"""How a quota stands: its state, checked and brought to a time in memory, by the rules of `_quota_pipeline`. Pure.

A refused call writes nothing, so the state that it tells may be older than its windows; and of many calls that
were decided in one write, each is told how the quota stood after itself.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

from bson import Decimal128, MinKey, ObjectId

from mongopatterns.amounts import MAX_AMOUNT, Number, add, multiply, plain, plain_number, subtract
from mongopatterns.counters._commands import MAX_STORED, count
from mongopatterns.counters._specs import QuotaSpec, Times, Window
from mongopatterns.errors import StateError
from mongopatterns.expressions import Field
from mongopatterns.windows import Cycle

_ZERO: Final = dt.timedelta(0)


@dataclass(frozen=True, slots=True)
class Reading:
    """One window as it stands at a time.

    Attributes:
        end: When it ends; None if nobody told the time.
        used: What was charged to it.
        bank: What its bank holds.
        limit: Its limit.
        cap: The most that its bank can hold by waiting.
        banked_until: The time from which windows are counted that bank what they have left; None if nobody told.
        idle: How many of them have ended since, and are in the bank.
    """

    end: dt.datetime | None
    used: Number
    bank: Number
    limit: Number | None
    cap: Number
    banked_until: dt.datetime | None
    idle: int = 0

    @property
    def left(self) -> Number:
        """What is left of the window itself."""
        return max(0, subtract(self.limit or 0, self.used))

    @property
    def room(self) -> Number:
        """What a call could take, if there is a limit."""
        return add(self.left, self.bank)

    def charged(self, amount: Number, *, window_first: bool) -> Reading:
        """Return the window after `amount` is charged: each unit once, to the bank or to the window."""
        wanted = max(0, subtract(amount, self.left)) if window_first else amount
        banked = min(self.bank, wanted)
        used = add(self.used, subtract(amount, banked))
        return replace(self, used=used, bank=subtract(self.bank, banked))


@dataclass(frozen=True, slots=True)
class Standing:
    """How a quota stands at a time.

    Attributes:
        now: The time; None if nobody told one.
        windows: Each window by its name.
        extra: What was given by `grant` and is left.
        holds: What is reserved, and until when.
        meters: The totals of the meters.
    """

    now: dt.datetime | None
    windows: Mapping[str, Reading]
    extra: Number
    holds: Sequence[tuple[dt.datetime, Number]]
    meters: Mapping[str, Number]

    @property
    def held(self) -> Number:
        """What is reserved."""
        return add(*(amount for _, amount in self.holds))

    @property
    def remaining(self) -> dict[str, Number | None]:
        """What a call could still take, by window."""
        free = subtract(self.extra, self.held) if self.holds else self.extra
        return {
            name: None if reading.limit is None else max(0, add(reading.room, free))
            for name, reading in self.windows.items()
        }

    def charged(self, amount: Number, meters: Mapping[str, Number], spec: QuotaSpec) -> Standing:
        """Return the standing after `amount` is charged to every window."""
        rooms = [reading.room for reading in self.windows.values() if reading.limit is not None]
        spent = max(0, min(self.extra, subtract(amount, min(rooms)))) if rooms else 0
        windows = {
            window.name: self.windows[window.name].charged(
                amount, window_first=bool(window.rollover and window.rollover.spend == "window_first")
            )
            for window in spec.windows
        }
        totals = {name: add(total, meters.get(name, 0)) for name, total in self.meters.items()}
        return replace(self, windows=windows, extra=subtract(self.extra, spent), meters=totals)

    def before(self, amount: Number, meters: Mapping[str, Number], note: Mapping[str, Any]) -> Standing:
        """Return the standing before `amount` was charged, with the help of what the write has noted."""
        windows = {}
        for name, reading in self.windows.items():
            bank = plain(note["bank"][name]) if name in note.get("bank", ()) else reading.bank
            to_window = subtract(amount, subtract(bank, reading.bank))
            windows[name] = replace(reading, used=subtract(reading.used, to_window), bank=bank)
        totals = {name: subtract(total, meters.get(name, 0)) for name, total in self.meters.items()}
        extra = plain(note["left"]) if "left" in note else self.extra
        return replace(self, windows=windows, extra=extra, meters=totals)

    # When there will be room ...................................................................................

    def wait(self, name: str, asked: Number, cycle: Cycle) -> float | None:
        """Return the seconds until the window would have room for `asked` if nobody else came; None if never.

        Reservations end by themselves: what is held then is free again, if nobody settles before.
        """
        waits = []
        for free_at, held in self._held_from():
            start = 0.0 if free_at is None or self.now is None else max(0.0, (free_at - self.now).total_seconds())
            short = subtract(add(asked, held), self.extra)
            if (wait := self._window_wait(self.windows[name], short, cycle, free_at)) is not None:
                waits.append(max(start, wait))
        return min(waits, default=None)

    def _held_from(self) -> list[tuple[dt.datetime | None, Number]]:
        """List how much is held from now on, and from each time on at which a reservation ends."""
        steps: list[tuple[dt.datetime | None, Number]] = [(None, held := self.held)]
        for until, amount in sorted(self.holds, key=lambda hold: hold[0]):
            held = subtract(held, amount)
            steps.append((until, held))
        return steps

    def _window_wait(self, reading: Reading, asked: Number, cycle: Cycle, free_at: dt.datetime | None) -> float | None:
        # (what a bank holds above its cap, because the cap was lowered, is gone when the window has ended)
        ended = free_at is not None and reading.end is not None and free_at >= reading.end
        if asked <= reading.room and not ended:
            return 0.0
        limit = reading.limit or 0
        bank = min(reading.cap, add(reading.bank, reading.left))
        most = add(limit, max(bank, reading.cap if limit else 0))
        if asked > most or reading.banked_until is None or self.now is None:
            return None
        # The next window brings its limit and what is banked by then; each one after it banks a limit more.
        short = subtract(asked, add(limit, bank))
        idle = 0 if short <= 0 else math.ceil(Fraction(short) / Fraction(limit))
        try:
            then = cycle.later(reading.banked_until, reading.idle + idle)
        except (OverflowError, ValueError):  # past the year 9999
            return None
        return max(_ZERO, then - self.now).total_seconds()


class StateReader:
    """Read the states of one quota: check them as the pipeline does, and bring them to a time."""

    def __init__(self, spec: QuotaSpec, collection: str) -> None:
        self._spec = spec
        self._collection = collection
        self.cycles: dict[str, Cycle] = {
            window.name: window.cycle(spec.timezone, spec.align) for window in spec.windows
        }
        self._constants = self._constant_limits()
        self._banks = any(window.rollover for window in spec.windows)

    def standing(
        self,
        key: object,
        state: Mapping[str, Any] | None,
        fields: Sequence[Any],
        now: dt.datetime | None,
        *,
        ends: Mapping[str, dt.datetime] | None = None,
        charged: bool = False,
    ) -> Standing:
        """Check a state as the pipeline checks it, and bring every window to `now`.

        Args:
            key: The key, for errors.
            state: What stands at the path.
            fields: The numbers of the document that limits are read from, in the order of the spec's `fields`.
            now: The time; None to tell the windows as they are stored.
            ends: When the windows that hold `now` end, if the server told it.
            charged: Whether the state holds a charge on top of what the pipeline checked.

        Raises:
            StateError: If the pipeline had to refuse it; nothing was written then.
        """
        path = self._spec.path
        numbers = self._numbers(key, fields)
        most = MAX_STORED + MAX_AMOUNT * 1000 if charged else MAX_STORED
        state = state or {}
        readings: dict[str, Reading] = {}
        for window in self._spec.windows:
            stored = state.get(window.name)
            if isinstance(stored, MinKey):  # to the server's order, nothing
                stored = None
            known = None if stored is None else _stored_window(stored, window, most, banks=self._banks)
            if stored is not None and known is None:
                problem = "expected {end: a date, used: an integer or decimal from 0 to 2**62}"
                raise self._error(key, f"{path}.{window.name}", f"{problem}, found {stored!r:.100}")
            readings[window.name] = self._reading(window, known, numbers, now, (ends or {}).get(window.name))
        granted = self._document(key, state, "extra")
        extra = self._count(key, granted, "extra", "left", most)
        self._count(key, granted, "extra", "lent", most)
        totals = self._document(key, state, "meters") if self._spec.meters else {}
        meters = {name: self._count(key, totals, "meters", name, most) for name in self._spec.meters}
        return Standing(now, readings, extra, self._holds(key, state.get("holds"), now), meters)

    def _error(self, key: object, path: str, problem: str) -> StateError:
        return StateError(self._collection, key, path, problem)

    def _numbers(self, key: object, fields: Sequence[Any]) -> dict[Field, Number]:
        numbers = {}
        for number, stored in zip(self._spec.fields, fields, strict=True):
            value = field_number(number, stored)
            if value is None:
                problem = f"expected a number from 0 to {MAX_AMOUNT}, or a Field with a default; found {stored!r:.100}"
                raise self._error(key, number.path, problem)
            numbers[number] = value
        return numbers

    def _document(self, key: object, state: Mapping[str, Any], place: str) -> Mapping[str, Any]:
        stored = state.get(place)
        if not isinstance(stored, (dict, type(None))):
            raise self._error(key, f"{self._spec.path}.{place}", f"expected a document, found {stored!r:.100}")
        return stored or {}

    def _count(self, key: object, holder: Mapping[str, Any], place: str, name: str, most: int) -> Number:
        path = f"{self._spec.path}.{place}"
        stored = holder.get(name)
        if stored is None or isinstance(stored, MinKey):
            return 0
        number = count(stored, most)
        if number is None:
            raise self._error(
                key, f"{path}.{name}", f"expected an integer or decimal from 0 to 2**62, found {stored!r:.100}"
            )
        return number

    def _holds(self, key: object, stored: object, now: dt.datetime | None) -> list[tuple[dt.datetime, Number]]:
        if stored is None:
            return []
        path = f"{self._spec.path}.holds"
        if not isinstance(stored, list):
            raise self._error(key, path, f"expected a list of reservations, found {stored!r:.100}")
        holds = []
        for hold in stored:
            told = hold if isinstance(hold, dict) else {}
            until, number = told.get("until"), count(told.get("n"), MAX_AMOUNT)
            if not isinstance(until, dt.datetime) or number is None or not isinstance(told.get("id"), ObjectId):
                raise self._error(key, path, f"expected reservations {{id, n, until}}, found {hold!r:.100}")
            if now is None or until > now:
                holds.append((until, number))
        return holds

    def _reading(
        self,
        window: Window,
        stored: tuple[dt.datetime, Number, Number] | None,
        numbers: Mapping[Field, Number],
        now: dt.datetime | None,
        end: dt.datetime | None,
    ) -> Reading:
        """Bring one window to `now`, as the pipeline does on the server.

        A window that nobody has charged yet ends where the server says (`end`); a charge does not ask, and such
        a window of a refused call is dated by this process's calendar.
        """
        limit, cap = self._constants.get(window.name) or (_limit_of(window, numbers), _cap_of(window, numbers))
        cycle = self.cycles[window.name]
        if stored is None:  # what was never charged banks nothing by waiting
            end = end or (None if now is None else cycle.end_of(now))
            return Reading(end, 0, 0, limit, 0, end)
        stored_end, used, bank = stored
        if now is None or stored_end > now:
            return Reading(stored_end, used, bank, limit, cap, stored_end)
        end = end or cycle.end_of(now)
        if limit is None or window.rollover is None:
            return Reading(end, 0, 0, limit, cap, end)
        idle = cycle.idle_until(stored_end, now)
        bank = min(cap, add(bank, max(0, subtract(limit, used)), multiply(limit, idle)))
        if cycle.from_first_use:  # the next one to bank ends a whole number of windows after the last that was used
            return Reading(end, 0, bank, limit, cap, stored_end, idle + 1)
        return Reading(end, 0, bank, limit, cap, end)

    def _constant_limits(self) -> dict[str, tuple[Number | None, Number]]:
        """Give the limit and the cap of each window that reads neither from the document."""
        given = {window: (window.limit, window.rollover and window.rollover.cap) for window in self._spec.windows}
        return {
            window.name: (_limit_of(window, {}), _cap_of(window, {}))
            for window in self._spec.windows
            if not any(isinstance(number, Field) for number in given[window])
        }


def fresh_room(spec: QuotaSpec, numbers: Mapping[Field, Number | None]) -> Number | float | None:
    """Return the most that a key without a document would be granted; None if one of its limits is not known.

    Args:
        spec: The quota.
        numbers: What the new document would hold where limits are read from.
    """
    known = {number: value for number, value in numbers.items() if value is not None}
    if len(known) < len(numbers):
        return None
    limits = (_limit_of(window, known) for window in spec.windows)
    return min((limit for limit in limits if limit is not None), default=math.inf)


def field_number(number: Field, stored: object) -> Number | None:
    """Read a number of the document as the pipeline does; None if it is none that can be used."""
    if stored is None:
        return None if number.default is None else plain(number.default)
    if isinstance(stored, float) and math.isfinite(stored) and not stored.is_integer():
        stored = Decimal128(f"{stored:.15g}")
    value = plain_number(stored)
    return None if value is None or not 0 <= value <= MAX_AMOUNT else value


def _limit_of(window: Window, numbers: Mapping[Field, Number]) -> Number | None:
    if isinstance(window.limit, Field):
        return numbers[window.limit]
    return None if window.limit is None else plain(window.limit)


def _cap_of(window: Window, numbers: Mapping[Field, Number]) -> Number:
    cap = window.rollover.cap if window.rollover else 0
    if isinstance(cap, Times):
        return multiply(_limit_of(window, numbers) or 0, plain(cap.factor))
    return numbers[cap] if isinstance(cap, Field) else plain(cap)


def _stored_window(
    stored: object, window: Window, most: int, *, banks: bool
) -> tuple[dt.datetime, Number, Number] | None:
    """Read the end of a stored window, what was used and what is banked; None if the pipeline would refuse it."""
    if not isinstance(stored, dict) or not isinstance(end := stored.get("end"), dt.datetime):
        return None
    used = count(stored.get("used"), most)
    bank = stored.get("bank") if banks else None
    banked = 0 if bank is None else count(bank, most)
    return None if used is None or banked is None else (end, used, banked if window.rollover else 0)
