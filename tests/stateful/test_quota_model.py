"""Quota against a plain model in memory: random specs, times, amounts and calls, on the real server.

The model is written from the promises, with Python's own calendar, and shares no code with the package.
"""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from mongopatterns import Field, Quota, QuotaSpec, Rollover, Times, Window

UTC = dt.timezone.utc
UNITS = ("hour", "day", "week", "month")
# Instants around clock changes, month ends and a leap day, where the calendar is hardest.
STARTS = [
    "2026-03-28T20:15",
    "2026-10-24T20:15",
    "2024-02-28T22:40",
    "2025-12-31T21:00",
    "2026-06-10T11:59",
    "2026-11-01T03:30",
]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Sydney", "America/St_Johns"]


def start_of(instant: dt.datetime, unit: str, zone: ZoneInfo) -> dt.datetime:
    """Return the start of the window, found by walking back from the instant over the local clock."""
    local = instant.astimezone(zone)
    if unit == "hour":
        return instant - dt.timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    day = local.date()
    if unit == "week":
        day -= dt.timedelta(days=day.weekday())
    if unit == "month":
        day = day.replace(day=1)
    return dt.datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def end_of(instant: dt.datetime, unit: str, zone: ZoneInfo) -> dt.datetime:
    """Return the end of the window: the first later start, found by walking forward."""
    step = dt.timedelta(minutes=30) if unit == "hour" else dt.timedelta(hours=12)
    start, probe = start_of(instant, unit, zone), instant
    while (later := start_of(probe, unit, zone)) <= start:
        probe += step
    return later


@dataclass
class ModelWindow:
    unit: str
    limit: Fraction | None
    cap: Fraction | None  # None: no rollover
    window_first: bool
    end: dt.datetime | None = None
    used: Fraction = Fraction(0)
    bank: Fraction = Fraction(0)

    def roll(self, now: dt.datetime, zone: ZoneInfo) -> None:
        """End every window that is over, one after the other, banking what each had left."""
        if self.end is None:
            self.end = end_of(now, self.unit, zone)
        while self.end <= now:
            if self.cap is not None and self.limit is not None:
                self.bank = min(self.cap, self.bank + max(Fraction(0), self.limit - self.used))
            self.used = Fraction(0)
            self.end = end_of(self.end, self.unit, zone)

    @property
    def left(self) -> Fraction | None:
        return None if self.limit is None else max(Fraction(0), self.limit - self.used)

    @property
    def room(self) -> Fraction | None:
        return None if self.left is None else self.left + self.bank

    def charge(self, amount: Fraction) -> None:
        from_bank = min(self.bank, amount)
        if self.window_first:
            from_bank = min(self.bank, max(Fraction(0), amount - (self.left or 0)))
        self.bank -= from_bank
        self.used += amount - from_bank


@dataclass
class Model:
    zone: ZoneInfo
    windows: list[ModelWindow]
    stored: dict[str, list[ModelWindow]] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)

    def store(self, key: str, windows: list[ModelWindow]) -> None:
        self.stored[key] = windows
        self.created.add(key)

    def at(self, key: str, now: dt.datetime) -> list[ModelWindow]:
        """Return the key's windows as they stand; only a grant stores them."""
        windows = [ModelWindow(**vars(window)) for window in self.stored.get(key, self.windows)]
        for window in windows:
            window.roll(now, self.zone)
        return windows


amounts = st.one_of(
    st.integers(1, 12), st.sampled_from([0.1, 0.25, 2.5, 1e-9, 7.3]), st.decimals("0.01", "9.99", places=2)
)
numbers = st.one_of(st.integers(0, 20), st.sampled_from([0.3, 7.5, 12.1]))


class QuotaMachine(RuleBasedStateMachine):
    database: Any  # a function: Hypothesis looks for attributes, and a database has every one

    @initialize(data=st.data(), zone=st.sampled_from(ZONES), start=st.sampled_from(STARTS))
    def define(self, data: st.DataObject, zone: str, start: str) -> None:
        """Draw a spec and write the same thing down for the model."""
        self.now = dt.datetime.fromisoformat(start).replace(tzinfo=UTC)
        self.document: dict[str, Any] = {}
        windows, models = [], []
        for unit in data.draw(st.lists(st.sampled_from(UNITS), min_size=1, max_size=3, unique=True)):
            limit = data.draw(numbers)
            unlimited = data.draw(st.booleans()) and data.draw(st.booleans())
            banks = not unlimited and data.draw(st.booleans())
            cap = data.draw(numbers)
            spend: Any = data.draw(st.sampled_from(["bank_first", "window_first"]))
            rollover = Rollover(self._given(data, f"cap_{unit}", cap), spend=spend) if banks else None
            cap_value = Fraction(str(cap))
            if rollover and data.draw(st.booleans()):
                rollover, cap_value = Rollover(Times(1.5), spend=spend), Fraction(str(limit)) * Fraction(3, 2)
            given = None if unlimited else self._given(data, f"limit_{unit}", limit)
            windows.append(Window(unit, given, rollover))  # type: ignore[arg-type]
            exact = None if unlimited else Fraction(str(limit))
            models.append(ModelWindow(unit, exact, cap_value if banks else None, spend != "bank_first"))
        name = secrets.token_hex(6)
        spec = QuotaSpec(name, path="state.q", timezone=zone, windows=windows, create=self.document)
        db = self.database()
        self.quota = Quota(db, spec)
        self.collection = db[name]
        self.model = Model(ZoneInfo(zone), models)

    def _given(self, data: st.DataObject, path: str, value: Any) -> Any:
        """Give a number as it is, from the document, or as the default of a field that is not there."""
        how = data.draw(st.sampled_from(["number", "field", "default"]))
        if how == "field":
            self.document[path] = value
            return Field(path)
        return Field(path, default=value) if how == "default" else value

    @rule(
        seconds=st.one_of(st.integers(0, 900), st.integers(0, 7200), st.integers(0, 90000), st.integers(0, 40 * 86400)),
        milliseconds=st.integers(0, 999),
    )
    def time_passes(self, seconds: int, milliseconds: int) -> None:
        self.now += dt.timedelta(seconds=seconds, milliseconds=milliseconds)

    @rule(unit=st.sampled_from(UNITS), before=st.booleans())
    def time_reaches_a_boundary(self, unit: str, before: bool) -> None:
        self.now = max(self.now, end_of(self.now, unit, self.model.zone) - dt.timedelta(milliseconds=before))

    @rule(key=st.sampled_from("ab"), amount=amounts)
    def consume(self, key: str, amount: Any) -> None:
        """A grant is a grant in both, charges the same, and a refusal names the windows without room."""
        asked = Fraction(str(amount))
        windows = self.model.at(key, self.now)
        full = [window.unit for window in windows if window.room is not None and asked > window.room]
        decision = self.quota.consume(key, amount, now=self.now)
        assert bool(decision) is (not full)
        if full:
            assert list(decision.exceeded) == full
            assert decision.limited_by in full
        else:
            for window in windows:
                window.charge(asked)
            self.model.store(key, windows)
        self.agree(decision, windows)

    @rule(key=st.sampled_from("ab"), amount=amounts)
    def record(self, key: str, amount: Any) -> None:
        """What is recorded is charged in both, and the windows past their limit are named."""
        windows = self.model.at(key, self.now)
        for window in windows:
            window.charge(Fraction(str(amount)))
        self.model.store(key, windows)
        decision = self.quota.record(key, amount, now=self.now)
        assert decision
        assert list(decision.exceeded) == [w.unit for w in windows if w.limit is not None and w.used > w.limit]
        self.agree(decision, windows)

    @rule(key=st.sampled_from("ab"), amount=amounts)
    def peek(self, key: str, amount: Any) -> None:
        """Peek tells what both would say."""
        windows = self.model.at(key, self.now)
        decision = self.quota.peek(key, amount, now=self.now)
        assert bool(decision) is all(window.room is None or Fraction(str(amount)) <= window.room for window in windows)
        self.agree(decision, windows)

    @rule(key=st.sampled_from("ab"), amount=amounts)
    def wait_as_told(self, key: str, amount: Any) -> None:
        """After retry_after seconds the refused amount fits, and a millisecond earlier it did not."""
        decision = self.quota.peek(key, amount, now=self.now)
        if decision.retry_after is None or decision.retry_after > 60 * 86400:
            return
        then = self.now + dt.timedelta(seconds=decision.retry_after)
        assert self.quota.peek(key, amount, now=then)
        assert not self.quota.peek(key, amount, now=then - dt.timedelta(milliseconds=1))

    @rule(key=st.sampled_from("ab"))
    def reset(self, key: str) -> None:
        assert self.quota.reset(key) is (self.model.stored.pop(key, None) is not None)

    def agree(self, decision: Any, windows: list[ModelWindow]) -> None:
        for window in windows:
            assert Fraction(decision.used[window.unit]) == window.used
            assert Fraction(decision.banked[window.unit]) == window.bank
            assert decision.resets_at[window.unit] == window.end
            remaining = decision.remaining[window.unit]
            assert (None if remaining is None else Fraction(remaining)) == window.room

    @invariant()
    def only_granted_keys_are_stored(self) -> None:
        """No document exists but those of granted calls, and no state but what was granted since the last reset."""
        if hasattr(self, "collection"):
            assert self.collection.count_documents({}) == len(self.model.created)
            assert self.collection.count_documents({"state.q": {"$exists": True}}) == len(self.model.stored)


@pytest.mark.parametrize("examples", [60])
def test_a_quota_does_what_a_plain_model_does(mongopatterns_db: Any, examples: int) -> None:
    """Over random specs, times, amounts and calls, every verdict and every stored number equals the model's."""
    machine = type("Machine", (QuotaMachine,), {"database": staticmethod(lambda: mongopatterns_db)})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
