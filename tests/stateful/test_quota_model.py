"""Quota against a plain model in memory: random specs, times, amounts and calls, on the real server.

The model is written from the promises, with fractions and Python's own calendar, and shares no code with the package.
"""

from __future__ import annotations

import calendar
import datetime as dt
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import chain, count
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from bson import ObjectId
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from mongopatterns import (
    DocumentNotFound,
    Field,
    Quota,
    QuotaSpec,
    Rollover,
    SettleOutcome,
    StateError,
    Times,
    Window,
)

EXAMPLES = settings.default.max_examples  # many more with --hypothesis-profile=deep

UTC = dt.timezone.utc
UNITS = ("hour", "day", "week", "month")
SECOND, MINUTE, HOUR, DAY = (
    dt.timedelta(seconds=1),
    dt.timedelta(minutes=1),
    dt.timedelta(hours=1),
    dt.timedelta(days=1),
)
MS = dt.timedelta(milliseconds=1)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC)
# Instants around clock changes, month ends and a leap day, where the calendar is hardest.
STARTS = [
    "2026-03-28T20:15",
    "2026-10-24T20:15",
    "2024-02-28T22:40",
    "2025-12-31T21:00",
    "2026-06-10T11:59",
    "2026-11-01T03:30",
    "2026-01-31T18:20",
]
# Their rules of these years are the same in every edition of the last ten years. (In Santiago midnight is skipped,
# in the Azores it comes twice.)
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Sydney",
    "America/St_Johns",
    "America/Santiago",
    "Atlantic/Azores",
]
LENGTHS = [MS, 777 * MS, 90 * SECOND, 15 * MINUTE, HOUR, 36 * HOUR, 7 * DAY, 30 * DAY]
ZERO = Fraction(0)


# The model: when windows end ---------------------------------------------------------------------------------


@cache
def start_of_day(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    """Return when a day begins: at the last of its midnights, or where it has none, at its first instant."""
    noon = dt.datetime(day.year, day.month, day.day, 12, tzinfo=zone).astimezone(UTC)
    wall = {noon - quarters * 15 * MINUTE: None for quarters in range(24 * 4)}
    local = {instant: instant.astimezone(zone) for instant in wall}
    midnights = [instant for instant, time in local.items() if time.date() == day and time.time() == dt.time.min]
    return max(midnights, default=min(instant for instant, time in local.items() if time.date() == day))


@dataclass(frozen=True)
class ByCalendar:
    """Hours from the full hour of the local clock; days, weeks (from Monday) and months from local midnight."""

    unit: str
    zone: ZoneInfo
    first_use = False

    def end(self, now: dt.datetime) -> dt.datetime:
        local = now.astimezone(self.zone)
        if self.unit == "hour":
            return now + HOUR - (local - local.replace(minute=0, second=0, microsecond=0))
        day = local.date()
        if self.unit == "day":
            following = day + DAY
        elif self.unit == "week":
            following = day + (7 - day.weekday()) * DAY
        else:
            following = (day.replace(day=28) + 4 * DAY).replace(day=1)
        return start_of_day(following, self.zone)

    def after(self, end: dt.datetime, passed: int = 0) -> Iterator[dt.datetime]:
        """Give the ends of the windows that follow, from so many on."""
        for number in count():
            end = self.end(end)
            if number >= passed:
                yield end

    def idle(self, end: dt.datetime, now: dt.datetime) -> int:
        """Count the windows that began and ended from the end of one to now."""
        return next(number for number, later in enumerate(self.after(end)) if later > now)


@dataclass(frozen=True)
class ByLength:
    """Windows of one length: from the beginning of 1970 in UTC, or from their first use."""

    length: dt.timedelta
    first_use: bool

    def end(self, now: dt.datetime) -> dt.datetime:
        return now + self.length if self.first_use else EPOCH + ((now - EPOCH) // self.length + 1) * self.length

    def after(self, end: dt.datetime, passed: int = 0) -> Iterator[dt.datetime]:
        return (end + number * self.length for number in count(passed + 1))

    def idle(self, end: dt.datetime, now: dt.datetime) -> int:
        return (now - end) // self.length


@dataclass(frozen=True)
class ByAnniversary:
    """Days, weeks and months from their first use to the same local time; months that are too short end earlier."""

    unit: str
    zone: ZoneInfo
    first_use = True

    def end(self, now: dt.datetime) -> dt.datetime:
        return next(self.after(now))

    def after(self, end: dt.datetime, passed: int = 0) -> Iterator[dt.datetime]:
        local = end.astimezone(self.zone)
        for number in count(passed + 1):
            if self.unit == "month":
                year, month = divmod(local.year * 12 + local.month - 1 + number, 12)
                last = calendar.monthrange(year, month + 1)[1]
                then = local.replace(year=year, month=month + 1, day=min(local.day, last))
            else:
                then = local + number * (DAY if self.unit == "day" else 7 * DAY)
            yield then.astimezone(UTC)

    def idle(self, end: dt.datetime, now: dt.datetime) -> int:
        return next(number for number, later in enumerate(self.after(end)) if later > now)


Periods = ByCalendar | ByLength | ByAnniversary


# The model: windows, and the account of a key ----------------------------------------------------------------


@dataclass(frozen=True)
class Given:
    """A number of the definition: as it is, or from the document, or the default of a field that is not there."""

    value: Fraction
    path: str | None = None

    def of(self, document: Mapping[str, Fraction]) -> Fraction:
        return document.get(self.path, self.value) if self.path else self.value


@dataclass(frozen=True)
class ModelWindow:
    """A window of a key. `end` is None until something is charged to it."""

    name: str
    periods: Periods
    limit: Fraction | None
    cap: Fraction | None  # None: nothing is banked
    window_first: bool
    end: dt.datetime | None = None
    used: Fraction = ZERO
    bank: Fraction = ZERO

    def at(self, now: dt.datetime) -> ModelWindow:
        """Return it as it stands: begun now, or as it was, or after all that has ended since was banked."""
        if self.end is None:
            return replace(self, end=self.periods.end(now))
        if self.end > now:  # also where the clock has gone back: nothing moves before the end
            return self
        bank = ZERO
        if self.cap is not None and self.limit is not None:
            bank = min(self.cap, self.bank + self.left + self.limit * self.periods.idle(self.end, now))
        return replace(self, end=self.periods.end(now), used=ZERO, bank=bank)

    @property
    def left(self) -> Fraction:
        return max(ZERO, (self.limit or ZERO) - self.used)

    @property
    def room(self) -> Fraction:
        return self.left + self.bank

    def charged(self, amount: Fraction) -> ModelWindow:
        """Charge each unit once: to the bank, or to the window."""
        from_window = min(amount, self.left) if self.window_first else max(ZERO, amount - self.bank)
        from_bank = min(self.bank, amount - from_window)
        return replace(self, used=self.used + amount - from_bank, bank=self.bank - from_bank)

    def refunded(self, amount: Fraction) -> tuple[ModelWindow, Fraction]:
        """Give back to the window, beyond that to the bank while it is below its cap, and tell what is dropped."""
        back = min(self.used, amount)
        over = amount - back
        to_bank = ZERO if self.cap is None else min(over, max(ZERO, self.cap - self.bank))
        return replace(self, used=self.used - back, bank=self.bank + to_bank), over - to_bank

    def rooms(self, now: dt.datetime) -> Iterator[tuple[dt.datetime, Fraction]]:
        """Give when its room changes if nobody charges it, and to what, until it changes no more."""
        here = self.at(now)
        yield now, here.room
        if self.end is None or self.limit is None:
            return
        if self.end > now:
            ends, bank, left = chain([self.end], self.periods.after(self.end)), self.bank, self.left
        else:
            # (A window that follows its first use goes on from its end until somebody charges it.)
            passed = self.periods.idle(self.end, now)
            ends, bank, left = self.periods.after(self.end, passed), here.bank, self.limit
        for end in ends:
            bank = ZERO if self.cap is None else min(self.cap, bank + left)
            left = self.limit
            yield end, left + bank
            if not self.limit or not self.cap or bank == self.cap:
                return


@dataclass(frozen=True)
class Hold:
    token: str
    amount: Fraction
    until: dt.datetime


@dataclass(frozen=True)
class Account:
    """What is stored of a key."""

    windows: tuple[ModelWindow, ...]
    extra: Fraction = ZERO
    lent: Fraction = ZERO  # what was paid from grants
    lent_until: dt.datetime | None = None  # when the first of the windows that it was paid for ends
    holds: tuple[Hold, ...] = ()
    meters: Mapping[str, Fraction] = field(default_factory=dict)
    ids: tuple[tuple[str, str | None], ...] = ()

    def at(self, now: dt.datetime) -> Account:
        return replace(self, windows=tuple(window.at(now) for window in self.windows))

    def held(self, now: dt.datetime) -> Fraction:
        return sum((hold.amount for hold in self.holds if hold.until > now), ZERO)

    def rooms(self) -> list[Fraction]:
        return [window.room for window in self.windows if window.limit is not None]

    def full(self, amount: Fraction, now: dt.datetime) -> list[str]:
        """List the windows that have no room."""
        free = self.extra - self.held(now)
        windows = self.at(now).windows
        return [window.name for window in windows if window.limit is not None and amount > window.room + free]

    def charged(self, amount: Fraction, meters: Mapping[str, Fraction], now: dt.datetime) -> Account:
        """Charge all windows; a grant pays what they have no room for."""
        here = self.at(now)
        short = max(ZERO, amount - min(here.rooms(), default=amount))
        paid = min(self.extra, short)
        charged = replace(
            here,
            windows=tuple(window.charged(amount) for window in here.windows),
            meters={name: total + meters.get(name, ZERO) for name, total in self.meters.items()},
        )
        if not paid:
            return charged
        ends = [window.end for window in here.windows if window.limit is not None and window.end is not None]
        return replace(charged, extra=self.extra - paid, lent=self.lent_at(now) + paid, lent_until=min(ends))

    def lent_at(self, now: dt.datetime) -> Fraction:
        """Return what was paid from grants in the windows that are running."""
        return self.lent if self.lent_until is not None and self.lent_until > now else ZERO

    def given_back(self, amount: Fraction, now: dt.datetime) -> tuple[Account, dict[str, Fraction]]:
        """Give back: first what nobody had paid for, then what a grant had paid, then what the windows had."""
        here, lent = self.at(now), self.lent_at(now)
        given = {window.name: window.refunded(amount) for window in here.windows}
        after = replace(here, windows=tuple(window for window, _ in given.values()))
        past = max((window.used - window.limit for window in here.windows if window.limit is not None), default=ZERO)
        unpaid = max(ZERO, past - lent)
        back = min(lent, max(ZERO, amount - min(after.rooms(), default=amount) - unpaid))
        if lent:
            after = replace(after, extra=self.extra + back, lent=lent - back)
        return after, {name: lost for name, (_, lost) in given.items() if lost}

    def wait(self, name: str, amount: Fraction, now: dt.datetime) -> dt.timedelta | None:
        """Return how long it takes until one window has room, by looking at every time at which there is more."""
        (window,) = (window for window in self.windows if window.name == name)
        rooms = dict(window.rooms(now))
        for then in sorted({*rooms, *(hold.until for hold in self.holds if hold.until > now)}):
            room = rooms[max(time for time in rooms if time <= then)]
            if amount <= room + self.extra - self.held(then):
                return then - now
        return None


@dataclass
class Verdict:
    """What the model says that a call is told."""

    account: Account
    now: dt.datetime
    amount: Fraction
    allowed: bool
    exceeded: list[str] = field(default_factory=list)
    dropped: dict[str, Fraction] = field(default_factory=dict)
    repeated: bool = False


@dataclass
class Model:
    """The quota: what every call does to the account of a key."""

    windows: Callable[[Mapping[str, Fraction]], tuple[ModelWindow, ...]]
    meters: tuple[str, ...]
    once_kept: int
    created: dict[str, Fraction] | None  # the numbers of a new document; None: none is made
    documents: dict[str, dict[str, Fraction]] = field(default_factory=dict)
    stored: dict[str, Account] = field(default_factory=dict)

    def numbers(self, key: str) -> Mapping[str, Fraction]:
        return self.documents.get(key, self.created or {})

    def account(self, key: str) -> Account:
        """Return the account with the limits that its document has now; an empty one if there is none."""
        fresh = self.windows(self.numbers(key))
        if key not in self.stored:
            return Account(fresh, meters=dict.fromkeys(self.meters, ZERO))
        account = self.stored[key]
        windows = tuple(
            replace(new, end=old.end, used=old.used, bank=old.bank)
            for new, old in zip(fresh, account.windows, strict=True)
        )
        return replace(account, windows=windows)

    def store(self, key: str, account: Account, once: tuple[str, str | None] = ("", None)) -> None:
        """Keep what a call has made of the account, and its id: a charge, a refund and a grant may share one."""
        if once[1] is not None:
            account = replace(account, ids=(*account.ids, once)[-self.once_kept :])
        self.documents.setdefault(key, dict(self.created or {}))
        self.stored[key] = account

    def repeats(self, key: str, once: tuple[str, str | None]) -> bool:
        return once[1] is not None and once in self.account(key).ids

    @staticmethod
    def past(account: Account, now: dt.datetime) -> list[str]:
        return [w.name for w in account.at(now).windows if w.limit is not None and w.used > w.limit]

    def consume(
        self, key: str, amount: Fraction, meters: Mapping[str, Fraction], now: dt.datetime, once: str | None = None
    ) -> Verdict:
        account = self.account(key)
        if self.repeats(key, ("charge", once)):
            return Verdict(account, now, amount, allowed=True, repeated=True)
        if full := account.full(amount, now):
            return Verdict(account, now, amount, allowed=False, exceeded=full)
        self.store(key, account := account.charged(amount, meters, now), ("charge", once))
        return Verdict(account, now, amount, allowed=True)

    def record(
        self, key: str, amount: Fraction, meters: Mapping[str, Fraction], now: dt.datetime, once: str | None = None
    ) -> Verdict:
        account = self.account(key)
        repeated = self.repeats(key, ("charge", once))
        if not repeated:
            self.store(key, account := account.charged(amount, meters, now), ("charge", once))
        return Verdict(account, now, amount, allowed=True, exceeded=self.past(account, now), repeated=repeated)

    def grant(self, key: str, amount: Fraction, now: dt.datetime, once: str | None = None) -> Verdict:
        account = self.account(key)
        repeated = self.repeats(key, ("grant", once))
        if not repeated:
            self.store(key, account := replace(account, extra=account.extra + amount), ("grant", once))
        return Verdict(account, now, amount, allowed=True, exceeded=self.past(account, now), repeated=repeated)

    def refund(
        self, key: str, amount: Fraction, meters: Mapping[str, Fraction], now: dt.datetime, once: str | None = None
    ) -> Verdict:
        account, dropped, repeated = self.account(key), {}, self.repeats(key, ("refund", once))
        if key not in self.stored:
            dropped = {window.name: amount for window in account.windows}
        elif not repeated:
            account, dropped = account.given_back(amount, now)
            left = {name: max(ZERO, had - meters.get(name, ZERO)) for name, had in account.meters.items()}
            account = replace(account, meters=left)
            self.store(key, account, ("refund", once))
        exceeded = self.past(account, now)
        return Verdict(account, now, amount, allowed=True, exceeded=exceeded, dropped=dropped, repeated=repeated)

    def reserve(self, key: str, amount: Fraction, now: dt.datetime) -> Verdict:
        account = self.account(key)
        full = account.full(amount, now)
        return Verdict(account, now, amount, allowed=not full, exceeded=full)

    def hold(self, key: str, hold: Hold) -> Account:
        account = self.account(key)
        self.store(key, account := replace(account, holds=(*account.holds, hold)))
        return account

    def settle(
        self, key: str, token: str, amount: Fraction, meters: Mapping[str, Fraction], now: dt.datetime
    ) -> tuple[Verdict, Hold | None]:
        account = self.account(key)
        hold = next((hold for hold in account.holds if hold.token == token), None)
        if hold is not None:
            rest = tuple(other for other in account.holds if other is not hold)
            # (where nothing was used, nothing is charged: no window begins with it)
            charged = account.charged(amount, meters, now) if amount or meters else account
            self.store(key, account := replace(charged, holds=rest))
        return Verdict(account, now, amount, allowed=True, exceeded=self.past(account, now)), hold

    def release(self, key: str, token: str) -> bool:
        account = self.account(key)
        rest = tuple(hold for hold in account.holds if hold.token != token)
        if len(rest) == len(account.holds):
            return False
        self.store(key, replace(account, holds=rest))
        return True

    def set_state(
        self, key: str, used: Mapping[str, Fraction], banked: Mapping[str, Fraction], now: dt.datetime
    ) -> Verdict:
        account = self.account(key)
        windows = tuple(
            replace(window, used=used.get(window.name, window.used), bank=banked.get(window.name, window.bank))
            for window in account.at(now).windows
        )
        self.store(key, account := replace(account, windows=windows))
        return Verdict(account, now, ZERO, allowed=True, exceeded=self.past(account, now))

    def together(
        self, key: str, calls: list[tuple[str, Fraction, Mapping[str, Fraction]]], now: dt.datetime
    ) -> list[Verdict]:
        """Do calls in their order. They are one write: if it is made, all its windows have begun for all of them."""
        before = self.stored.get(key)
        verdicts = [getattr(self, name)(key, amount, meters, now) for name, amount, meters in calls]
        if any(verdicts_allowed := [verdict.allowed for verdict in verdicts]):
            first = verdicts_allowed.index(True)
            for verdict in verdicts[:first]:
                verdict.account = verdict.account.at(now)
        assert before is self.stored.get(key) or any(verdicts_allowed)
        return verdicts


# The machine -------------------------------------------------------------------------------------------------


def exact(amount: Any) -> Fraction:
    return Fraction(str(amount))


AMOUNTS: list[Any] = [*range(1, 13), 0.1, 0.25, 2.5, 1e-9, 7.3, Decimal("0.01"), Decimal("3.70"), Decimal("9.99")]
NUMBERS: list[Any] = [10, 12.1, 20, 5, 7.5, 30, 2, 1, 0.3, 0]
METERED: list[dict[str, Any]] = [{}, {"cost": 0}, {"cost": 0.02}, {"tokens": 3.5}, {"cost": 1, "tokens": 2}]
BOTH = [False, True]
KEYS = "aab"
IDS = [None, None, *"wxyz"]
PLACES = range(10)
SHARES = [None, 1, 2, 4]
# What each step draws its arguments from.
STEPS: dict[str, dict[str, Any]] = {
    "time_moves": {
        "how": ["passes", "window", "window", "reservation", "reservation", "back"],
        "span": [900, 7200, 90_000, 40 * 86_400],
        "share": range(1001),
        "place": PLACES,
        "before": BOTH,
        "then": ["charge", "settle", "release"],
    },
    "charge": {
        "key": KEYS,
        "amount": AMOUNTS,
        "meters": METERED,
        "once": IDS,
        "name": ["consume", "consume", "record"],
    },
    "charge_what_is_left": {"key": KEYS, "over": [0, 0, "1e-18", 1], "meters": METERED},
    "grant": {"key": KEYS, "amount": AMOUNTS, "once": IDS},
    "refund": {"key": KEYS, "amount": AMOUNTS, "meters": METERED, "once": IDS, "last": BOTH},
    "reserve": {"key": KEYS, "amount": AMOUNTS, "share": SHARES, "ttl": [0.001, 1, 600, 4000, 4000, 200_000]},
    "settle": {
        "place": PLACES,
        "part": [None, 0, 0.5, 1, 1.5],
        "other": AMOUNTS,
        "meters": METERED,
        "exactly": BOTH,
    },
    "set_state": {"key": KEYS, "how": ["limit", "some", "all"], "place": PLACES},
    "together": {"key": KEYS, "one_amount": BOTH, "share": SHARES},
    "peek": {"key": KEYS, "amount": AMOUNTS},
    "reset": {"key": KEYS, "place": PLACES},
}


class World:
    """A quota, its model, and a random generator that says what happens."""

    def __init__(self, database: Any, random: Random) -> None:
        self.random = random
        self.pick: Callable[[Any], Any] = random.choice
        self.did: list[str] = []
        self.define(database, self.pick(ZONES), self.pick(STARTS), creates=self.pick([True, True, True, False]))

    def step(self) -> None:
        """Do something, and note it."""
        name = self.pick(list(STEPS))
        arguments = {argument: self.pick(options) for argument, options in STEPS[name].items()}
        self.did.append(f"{name}({', '.join(f'{argument}={given!r}' for argument, given in arguments.items())})")
        getattr(self, name)(**arguments)
        self.only_granted_keys_are_stored()

    def define(self, db: Any, zone: str, start: str, *, creates: bool) -> None:
        """Draw a spec and write the same thing down for the model."""
        self.now = dt.datetime.fromisoformat(start).replace(tzinfo=UTC)
        self.numbers: dict[str, Any] = {}
        self.reservations: list[tuple[str, str, Fraction]] = []
        self.last: dict[str, Any] = {}
        align: Any = self.pick(["calendar", "first_use"])
        drawn = [
            self._window(of, align, ZoneInfo(zone))
            for of in self.random.sample([*UNITS, *LENGTHS], self.pick([1, 1, 2, 3]))
        ]
        self.meters = self.pick([(), ("cost", "tokens")])
        self.kept = self.pick([1, 2, 32])
        name = secrets.token_hex(6)
        document = {"limits": self.numbers} if self.numbers else {}
        spec = QuotaSpec(
            name,
            path="state.q",
            timezone=zone,
            align=align,
            windows=[window for window, _ in drawn],
            meters=self.meters,
            once_kept=self.kept,
            create=document if creates else None,
        )
        self.quota = Quota(db, spec)
        self.plan: Any = self.quota._plan
        self.collection = self.quota._collection
        self.names = [window.name for window in spec.windows]
        given = {f"limits.{path}": exact(number) for path, number in self.numbers.items()}
        self.model = Model(
            lambda document: tuple(make(document) for _, make in drawn),
            self.meters,
            self.kept,
            given if creates else None,
        )
        if not creates:
            self.collection.insert_one({"_id": "a", **document})
            self.model.documents["a"] = given

    def _window(self, of: Any, align: str, zone: ZoneInfo) -> tuple[Window, Any]:
        own: Any = self.pick([None, None, "calendar", "first_use"])
        first_use = (own or align) == "first_use"
        name = of if isinstance(of, str) else f"every{of // MS}"
        limit, cap = self.pick(NUMBERS), self.pick(NUMBERS)
        unlimited = self.pick([False, False, False, True])
        banks = not unlimited and self.pick(BOTH)
        spend: Any = self.pick(["bank_first", "window_first"])
        limit_given, limit_model = self._given(f"limit_{name}", limit)
        cap_given, cap_model = self._given(f"cap_{name}", cap)
        times = self.pick(BOTH)
        rollover = Rollover(Times(1.5) if times else cap_given, spend=spend) if banks else None
        limit_given = None if unlimited else limit_given
        if isinstance(of, str):
            window = getattr(Window, of)(limit_given, rollover=rollover, align=own)
            hours = first_use and of == "hour"
            periods: Periods = ByAnniversary(of, zone) if first_use else ByCalendar(of, zone)
            periods = ByLength(HOUR, first_use=True) if hours else periods
        else:
            window = Window.every(of, limit_given, rollover=rollover, align=own)
            periods = ByLength(of, first_use)

        def make(document: Mapping[str, Fraction]) -> ModelWindow:
            has = None if unlimited else limit_model.of(document)
            most = None
            if banks:
                most = (has or ZERO) * Fraction(3, 2) if times else cap_model.of(document)
            return ModelWindow(window.name, periods, has, most, spend != "bank_first")

        return window, make

    def _given(self, path: str, value: Any) -> tuple[Any, Given]:
        """Give a number as it is, from the document, or as the default of a field that is not there."""
        how = self.pick(["number", "field", "default"])
        if how == "field":
            self.numbers[path] = value
            return Field(f"limits.{path}"), Given(exact(value), f"limits.{path}")
        if how == "default":
            return Field(f"defaults.{path}", default=value), Given(exact(value), f"defaults.{path}")
        return value, Given(exact(value))

    # Time and the document .....................................................................................

    def time_moves(self, how: str, span: int, share: int, place: int, before: bool, then: str) -> None:  # noqa: PLR0917
        """Let time pass, or reach the end of something or the millisecond before, or step back with a new primary."""
        if how == "passes":
            self.now += dt.timedelta(milliseconds=span * share)
        elif how == "back":
            self.now -= dt.timedelta(milliseconds=min(span * share, 90_000_000))
            self.charged("consume", "a", 1, {}, None)
        elif how == "window":
            windows = self.model.account("a").at(self.now).windows
            self.now = max(self.now, windows[place % len(windows)].end - before * MS)  # type: ignore[operator]
            if then == "charge":
                self.charge_what_is_left("a", 0, {})
        else:
            self.a_reservation_ends(place, before * MS, then)

    def a_reservation_ends(self, place: int, early: dt.timedelta, then: str) -> None:
        """Go to the end of a reservation, where a call at once makes the difference."""
        holds = [(key, hold) for key, account in self.model.stored.items() for hold in account.holds]
        if not holds:
            return
        key, hold = holds[place % len(holds)]
        self.now = max(self.now, hold.until - early)
        place = [token for _, token, _ in self.reservations].index(hold.token)
        if then == "charge":
            self.charge_what_is_left(key, 0, {})
        else:
            self.settle(place, None if then == "release" else 1, 1, {}, exactly=False)

    # Calls .....................................................................................................

    def missing(self, key: str, call: Callable[[], Any]) -> bool:
        """Tell whether there is no document and none may be made, and require that the call says so."""
        if self.model.created is not None or key in self.model.documents:
            return False
        with pytest.raises(DocumentNotFound):
            call()
        return True

    def asked(self, meters: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Fraction]]:
        given = {name: more for name, more in meters.items() if name in self.meters}
        return given, {name: exact(more) for name, more in given.items()}

    def charge(self, key: str, amount: Any, meters: Any, once: str | None, name: str) -> None:
        """A charge is granted by both or by none, and both tell the same."""
        self.charged(name, key, amount, meters, once)

    def charge_what_is_left(self, key: str, over: Any, meters: Any) -> None:
        """All that is left is granted, and the least bit more is not."""
        if amount := self.left(key, 1, exact(over)):
            self.charged("consume", key, amount, meters, None)

    def left(self, key: str, share: int, over: Fraction = ZERO) -> Decimal | None:
        """Return a share of what could be taken, if it is an amount."""
        account = self.model.account(key)
        rooms = account.at(self.now).rooms()
        amount = (min(rooms) + account.extra - account.held(self.now)) / share + over if rooms else ZERO
        whole = amount * 10**18
        return Decimal(whole.numerator).scaleb(-18) if amount > 0 and whole.denominator == 1 else None

    def charged(self, name: str, key: str, amount: Any, meters: Any, once: str | None) -> None:
        given, counted = self.asked(meters)
        ask = self.plan.ask(name, key, amount, given)
        call = self.plan.write(ask, token=ObjectId(), now=self.now, once=once)
        decide = self.plan.decide
        if self.missing(key, lambda: decide(call, self.send(call), clock=self.now)):
            return
        decision = decide(call, self.send(call), clock=self.now)
        expected = getattr(self.model, name)(key, exact(amount), counted, self.now, once)
        self.last[key] = amount
        self.agree(decision, expected)
        if expected.allowed and not expected.repeated:
            self.agree(decide(call, self.image(key), clock=self.now), expected)

    def grant(self, key: str, amount: Any, once: str | None) -> None:
        """What is given is there on top of every limit."""
        if not self.model.account(key).rooms():
            return
        if self.missing(key, lambda: self.quota.grant(key, amount, once=once, now=self.now)):
            return
        decision = self.quota.grant(key, amount, once=once, now=self.now)
        self.agree(decision, self.model.grant(key, exact(amount), self.now, once))

    def refund(self, key: str, amount: Any, meters: Any, once: str | None, last: bool) -> None:
        """What is given back goes where the model says, and what is dropped is told."""
        amount = self.last.get(key, amount) if last else amount
        given, counted = self.asked(meters)
        call = self.plan.write(self.plan.ask("refund", key, amount, given), token=ObjectId(), now=self.now, once=once)
        refunded = self.plan.refunded
        if self.missing(key, lambda: refunded(call, self.send(call), clock=self.now)):
            return
        stored = key in self.model.stored
        decision = refunded(call, self.send(call), clock=self.now)
        expected = self.model.refund(key, exact(amount), counted, self.now, once)
        self.agree(decision, expected)
        if stored and not expected.repeated:
            self.agree(refunded(call, self.image(key), clock=self.now), expected)

    def reserve(self, key: str, amount: Any, share: int | None, ttl: float) -> None:
        """What is held is held until it ends, is settled or released."""
        amount = (share and self.left(key, share)) or amount
        ask, lasts = self.plan.reserve(key, amount, ttl)
        call = self.plan.write(ask, token=ObjectId(), now=self.now, ttl=lasts)
        reserved = self.plan.reserved
        if self.missing(key, lambda: reserved(call, self.send(call), clock=self.now)):
            return
        told = reserved(call, self.send(call), clock=self.now)
        expected = self.model.reserve(key, exact(amount), self.now)
        assert bool(told) is expected.allowed
        if not told:
            assert (told.token, told.expires_at) == (None, None)
            self.agree(told.decision, expected)
            return
        until = self.now + dt.timedelta(seconds=ttl)
        expected.account = self.model.hold(key, Hold(told.token, exact(amount), until))
        again = reserved(call, self.image(key), clock=self.now)
        for reservation in (told, again):
            assert (reservation.token, reservation.expires_at) == (told.token, until)
            self.agree(reservation.decision, expected)
        self.reservations.append((key, told.token, exact(amount)))

    def settle(self, place: int, part: float | None, other: Any, meters: Any, exactly: bool) -> None:
        """What was used is charged once: nothing, less than was held, as much, or more; a release charges nothing."""
        if not self.reservations:
            return
        key, token, held = self.reservations[place % len(self.reservations)]
        if part is None:
            assert self.quota.release(token, now=self.now) is self.model.release(key, token)
            return
        used = float(held) * part if held.denominator in (1, 2, 4) and not exactly else other * (part > 0)
        given, counted = self.asked(meters)
        ask, hold = self.plan.hold("settle", token, used, given)
        call = self.plan.write(ask, token=ObjectId(), now=self.now, hold=hold)
        told = self.plan.settled(call, self.send(call), clock=self.now)
        expected, known = self.model.settle(key, token, exact(used), counted, self.now)
        outcome = SettleOutcome.ALREADY
        if known:
            outcome = SettleOutcome.SETTLED if known.until > self.now else SettleOutcome.LATE
        answers = [told, self.plan.settled(call, self.image(key), clock=self.now)] if known else [told]
        for settlement in answers:
            assert settlement.outcome is outcome
            assert bool(settlement) is bool(known)
            assert Fraction(settlement.reserved) == (known.amount if known else 0)
            self.agree(settlement.decision, expected)

    def set_state(self, key: str, how: str, place: int) -> None:
        """The windows hold what they were said to hold, and nothing else changes. Limits may change."""
        if how == "limit":
            if self.numbers and key in self.model.documents:
                path, number = "limits." + sorted(self.numbers)[place % len(self.numbers)], self.pick(NUMBERS)
                self.collection.update_one({"_id": key}, {"$set": {path: number}})
                self.model.documents[key] = {**self.model.documents[key], path: exact(number)}
            return
        banking = [window.name for window in self.model.account(key).windows if window.cap is not None]
        used = {name: self.pick(NUMBERS) for name in self.names if how == "all" or self.pick(BOTH)}
        banked = {name: self.pick(NUMBERS) for name in banking if self.pick(BOTH)}
        if not used and not banked:
            return
        if self.missing(key, lambda: self.quota.set_state(key, used=used, banked=banked, now=self.now)):
            return
        decision = self.quota.set_state(key, used=used, banked=banked, now=self.now)
        expected = self.model.set_state(
            key,
            {name: exact(number) for name, number in used.items()},
            {name: exact(number) for name, number in banked.items()},
            self.now,
        )
        self.agree(decision, expected)

    def together(self, key: str, share: int | None, one_amount: bool) -> None:
        """Of calls that share a write each is told what it would be told alone, in their order."""
        alike = (share and self.left(key, share)) or self.pick(AMOUNTS)
        asks: list[Any] = []
        counted: list[tuple[str, Fraction, Mapping[str, Fraction]]] = []
        for _ in range(self.pick(range(1, 6))):
            name, number = self.pick(["consume", "consume", "record"]), self.pick(range(1, 5))
            given, more = self.asked({} if one_amount else self.pick(METERED))
            amount = alike if one_amount or self.pick(BOTH) else self.pick(AMOUNTS)
            asks += [self.plan.ask(name, key, amount, given)] * number
            counted += [(name, exact(amount), more)] * number
        decide = self.plan.decide_all
        whole, met = self.pick(BOTH), self.plan._plain
        if whole:
            self.plan._plain = True  # (as a plan begins, which has not met what the document may hold by now)
        call = self.dated((self.plan.group if whole else self.plan.together)(asks, token=ObjectId()))
        if self.missing(key, lambda: decide(call, self.send(call), clock=self.now)):
            self.plan._plain = met
            return
        reply = self.send(call)
        if again := self.plan.again(call, reply):
            call = self.dated(again)
            reply = self.send(call)
        self.plan._plain = self.plan._plain and met
        decisions = decide(call, reply, clock=self.now)
        expected = self.model.together(key, counted, self.now)
        answers = [decisions]
        if any(verdict.allowed for verdict in expected):
            answers.append(decide(call, self.image(key), clock=self.now))
        for answer in answers:
            assert len(answer) == len(expected)
            for decision, verdict in zip(answer, expected, strict=True):
                self.agree(decision, verdict)

    def peek(self, key: str, amount: Any) -> None:
        """Peek, peek_many and a read of the document in hand tell what the model says."""
        if self.missing(key, lambda: self.quota.peek(key, amount, now=self.now)):
            assert self.quota.peek_many([key], amount, now=self.now) == {}
            return
        account = self.model.account(key)
        full = account.full(exact(amount), self.now)
        expected = Verdict(account, self.now, exact(amount), not full, full)
        self.agree(self.quota.peek(key, amount, now=self.now), expected)
        self.agree(self.quota.peek_many(["b", key, "a"], amount, now=self.now)[key], expected)
        if (document := self.collection.find_one({"_id": key})) is not None:
            self.agree(self.quota.spec.read(document, amount, now=self.now), expected)

        self.wait_as_told(key, amount)

    def wait_as_told(self, key: str, amount: Any) -> None:
        """After retry_after seconds the refused amount fits, and a millisecond earlier it did not."""
        if any(window.cap is not None and window.bank > window.cap for window in self.model.account(key).windows):
            return  # (a bank above a cap that was lowered shrinks when its window ends: room may go by waiting)
        decision = self.quota.peek(key, amount, now=self.now)
        if decision.retry_after is None:
            return
        then = self.now + dt.timedelta(seconds=decision.retry_after)
        assert self.quota.peek(key, amount, now=then)
        assert not self.quota.peek(key, amount, now=then - MS)

    def reset(self, key: str, place: int) -> None:
        """What is forgotten is forgotten once."""
        if place % 3:  # (not too often: with it goes all that was done before)
            return
        self.touched = True
        assert self.quota.reset(key) is (self.model.stored.pop(key, None) is not None)

    # Agreement .................................................................................................

    def dated(self, call: Any) -> Any:
        """Put the time of the test into a group by hand: groups follow the server's clock."""
        return replace(call, command=replace(call.command, let={**call.command.let, "now": self.now}))

    def send(self, call: Any) -> Any:
        return self.collection.find_one_and_update(**call.command.arguments())

    def image(self, key: str) -> Any:
        """Return the document as it is stored: what the server answers to a driver's repetition of a write."""
        return self.collection.find_one({"_id": key})

    def agree(self, decision: Any, expected: Verdict) -> None:
        account, now = expected.account, expected.now
        self.touched = True
        windows = {window.name: window for window in account.at(now).windows}
        free = account.extra - account.held(now)
        assert bool(decision) is expected.allowed
        assert decision.at == now
        assert Fraction(decision.amount) == expected.amount
        assert decision.repeated is expected.repeated, (decision, account)
        assert {name: Fraction(number) for name, number in decision.dropped.items()} == expected.dropped
        assert Fraction(decision.extra) == account.extra
        assert Fraction(decision.held) == account.held(now)
        assert {name: Fraction(number) for name, number in decision.meters.items()} == account.meters
        assert list(decision.exceeded) == expected.exceeded
        assert list(decision.used) == list(decision.remaining) == list(windows)
        for name, window in windows.items():
            limited = window.limit is not None
            assert decision.limit[name] == (window.limit if limited else None)
            assert Fraction(decision.used[name]) == window.used
            assert Fraction(decision.banked[name]) == window.bank + (account.extra if limited else 0)
            assert decision.resets_at[name] == window.end
            remaining = decision.remaining[name]
            assert (None if remaining is None else Fraction(remaining)) == (
                max(ZERO, window.room + free) if limited else None
            )
        if expected.allowed:
            assert (decision.limited_by, decision.retry_after) == (None, None)
            return
        waits = {name: account.wait(name, expected.amount, now) for name in expected.exceeded}
        longest = None if None in waits.values() else max(waits.values())  # type: ignore[type-var]
        assert waits[decision.limited_by] == longest
        assert decision.retry_after == (None if longest is None else longest.total_seconds()), (now, account, waits)

    def only_granted_keys_are_stored(self) -> None:
        """No document exists but those of granted calls, and no state but what was granted since the last reset."""
        if getattr(self, "touched", False):
            self.touched = False
            assert self.collection.count_documents({}) == len(self.model.documents)
            assert self.collection.count_documents({"state.q": {"$exists": True}}) == len(self.model.stored)


class QuotaMachine(RuleBasedStateMachine):
    """The same under Hypothesis, which shortens what fails."""

    database: Any  # a function: Hypothesis looks for attributes, and a database has every one

    @initialize(random=st.randoms())
    def define(self, random: Random) -> None:
        self.world = World(self.database(), random)

    @rule(random=st.randoms())
    def step(self, random: Random) -> None:
        self.world.random, self.world.pick = random, random.choice
        self.world.step()


def test_a_quota_does_what_a_plain_model_does(mongopatterns_db: Any) -> None:
    """Over random specs, times, amounts and calls, every verdict and every stored number equals the model's."""
    machine = type("Machine", (QuotaMachine,), {"database": staticmethod(lambda: mongopatterns_db)})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=EXAMPLES // 10,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )


@settings(
    max_examples=EXAMPLES * 3 // 25, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(seed=st.integers(0, 2**64))
def test_a_quota_does_so_for_long(mongopatterns_db: Any, seed: int) -> None:
    """The same over long walks, whose steps are all equally likely; a failure tells the seed and what was done."""
    walk(mongopatterns_db, seed)


def walk(database: Any, seed: int) -> None:
    world = World(database, Random(seed))  # the seed is Hypothesis's
    for _ in range(80):
        try:
            world.step()
        except Exception as error:
            raise AssertionError("\n".join([f"seed {seed}:", *world.did])) from error


# What the machine leaves out ----------------------------------------------------------------------------------

NOON = dt.datetime(2026, 3, 4, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize("later", [0 * HOUR, HOUR])
def test_a_refund_of_what_was_never_paid_gives_no_grant(mongopatterns_db: Any, later: dt.timedelta) -> None:
    """What was recorded past the windows and past the grant, and is given back, does not fill the grant again."""
    quota = Quota(mongopatterns_db, QuotaSpec("q", path="q", windows=[Window.hour(10)]))
    quota.grant("k", 5, now=NOON)
    assert quota.consume("k", 15, now=NOON).extra == 0
    before = quota.peek("k", now=NOON + later).remaining
    quota.record("k", 15, now=NOON + later)
    assert quota.refund("k", 15, now=NOON + later).extra == 0
    assert quota.peek("k", now=NOON + later).remaining == before


def test_a_wait_of_months_counts_from_the_first_anniversary(mongopatterns_db: Any) -> None:
    """When a month from the 31st has ended unused, `retry_after` names the 31st again, and not the 28th."""
    month = Window.month(10, rollover=Rollover(cap=100))
    quota = Quota(mongopatterns_db, QuotaSpec("q", path="q", align="first_use", windows=[month]))
    quota.consume("k", 10, now=dt.datetime(2025, 12, 31, 12, tzinfo=UTC))
    now = dt.datetime(2026, 2, 1, tzinfo=UTC)
    wait = quota.peek("k", 25, now=now).retry_after
    assert wait is not None
    then = now + dt.timedelta(seconds=wait)
    assert quota.peek("k", 25, now=then)
    assert not quota.peek("k", 25, now=then - MS)


def test_a_state_is_not_replaced_where_a_limit_is_none(mongopatterns_db: Any) -> None:
    """`set_state` raises StateError where a limit is no number, and then nothing was changed: grants are kept."""
    limit = Field("limit")
    quota = Quota(mongopatterns_db, QuotaSpec("q", path="q", windows=[Window.hour(limit)], create={"limit": 10}))
    quota.grant("k", 5, now=NOON)
    mongopatterns_db.q.update_one({"_id": "k"}, {"$set": {"limit": "many"}})
    before = mongopatterns_db.q.find_one()
    with pytest.raises(StateError):
        quota.set_state("k", used={"hour": 3}, now=NOON).to_dict()
    assert mongopatterns_db.q.find_one() == before


def test_a_bank_above_its_cap_is_not_waited_for(mongopatterns_db: Any) -> None:
    """A bank above its cap shrinks when its window ends: a reservation that ends after that leaves no room."""
    hour = Window.hour(1, rollover=Rollover(cap=2))
    quota = Quota(mongopatterns_db, QuotaSpec("q", path="q", windows=[hour]))
    quota.set_state("k", banked={"hour": 20}, now=NOON)
    assert quota.reserve("k", 15, ttl=2 * 3600, now=NOON)
    decision = quota.peek("k", 10, now=NOON)
    assert not decision
    assert not quota.peek("k", 10, now=NOON + 2 * HOUR)
    assert decision.retry_after is None
