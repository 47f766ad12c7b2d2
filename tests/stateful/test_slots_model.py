"""Slots against a plain model in memory: random caps, times, owners and calls, on the real server.

The model is a list of who holds what until when, and is written from the promises: it shares no code with the
package. Which of the free slots a call is given is the server's choice, so the model takes it from the verdict, and
asserts that it was free.
"""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from mongopatterns import SlotOutcome, Slots, SlotsSpec

EXAMPLES = settings.default.max_examples  # many more with --hypothesis-profile=deep

UTC = dt.timezone.utc
START = dt.datetime(2026, 3, 4, 12, tzinfo=UTC)
MS = dt.timedelta(milliseconds=1)
BEHIND = 4 * 60_000  # how far a clock may lie behind, in milliseconds: less than the five minutes that are promised


@dataclass
class Held:
    """What the model knows of one grant; `until` is None for ever, and `over` once it was released or replaced."""

    owner: Any
    slot: int
    token: str
    since: int
    until: int | None
    data: dict[str, Any] = field(default_factory=dict)
    over: bool = False

    def lives(self, now: int) -> bool:
        return not self.over and (self.until is None or now < self.until)


owners = st.sampled_from(["a", "a", "b", "$c", 7])
caps = st.none() | st.integers(0, 6)


class SlotsMachine(RuleBasedStateMachine):
    database: Any  # a function: Hypothesis looks for attributes, and a database has every one

    @initialize(cap=st.integers(1, 5), ttl=st.sampled_from([None, 1, 1000, 30_000, 7_000_000]))
    def define(self, cap: int, ttl: int | None) -> None:
        """Draw a spec, and bind it in two places, as two processes would."""
        spec = SlotsSpec(secrets.token_hex(6), cap=cap, ttl=None if ttl is None else ttl / 1000, forget_after=None)
        self.collection = self.database()[spec.collection]
        for index in spec.indexes():
            self.collection.create_index(index.keys, **index.options)
        self.bound = [Slots(self.database(), spec), Slots(self.collection, spec)]
        self.spec, self.ttl = spec, ttl
        self.latest = self.now = 0
        self.grants: list[Held] = []

    @property
    def time(self) -> dt.datetime:
        return START + self.now * MS

    def slots(self, which: int = 0) -> Slots:
        return self.bound[which]

    def living(self, owner: Any) -> list[Held]:
        return [held for held in self.grants if held.owner == owner and held.lives(self.now)]

    @rule(tenths=st.sampled_from([1, 5, 9, 10, 11, 30]), more=st.integers(-1, 1))
    def time_passes(self, tenths: int, more: int) -> None:
        self.now = self.latest = max(self.latest, self.now + tenths * (self.ttl or 1000) // 10 + more)

    @rule(back=st.integers(0, BEHIND))
    def another_clock_decides(self, back: int) -> None:
        self.now = self.latest - back

    @rule(owner=owners, cap=caps, data=st.none() | st.dictionaries(st.sampled_from("ab"), st.booleans(), max_size=2))
    def acquire(self, owner: Any, cap: int | None, data: dict[str, Any] | None) -> None:
        """A call is full exactly if all slots below the cap are held, and else gets one of those that are free."""
        most = self.spec.cap if cap is None else cap
        taken = {held.slot for held in self.living(owner) if held.slot < most}
        slot = self.slots().acquire(owner, cap=cap, data=data, now=self.time)
        assert (slot.owner, slot.cap) == (owner, most)
        if len(taken) >= most:
            assert slot.outcome is SlotOutcome.FULL
            return
        assert slot.outcome is SlotOutcome.ACQUIRED
        assert slot.slot in set(range(most)) - taken
        until = None if self.ttl is None else self.now + self.ttl
        assert slot.since == self.time
        assert slot.expires_at == (None if until is None else START + until * MS)
        for held in self.grants:
            if (held.owner, held.slot) == (owner, slot.slot):
                held.over = True
        self.grants.append(Held(owner, slot.slot or 0, str(slot.token), self.now, until, data or {}))

    @rule(owner=owners, number=st.integers(1, 7))
    def fill(self, owner: Any, number: int) -> None:
        for _ in range(number):
            self.acquire(owner, None, None)

    @rule(pick=st.integers(0, 30), which=st.integers(0, 1))
    def renew(self, pick: int, which: int) -> None:
        """What is held is held on to, from anywhere; what is not is lost."""
        if not self.grants or self.ttl is None:
            return
        held = self.grants[-1 - pick % len(self.grants)]
        slot = self.slots(which).renew(held.token, now=self.time)
        assert slot.outcome is (SlotOutcome.RENEWED if held.lives(self.now) else SlotOutcome.LOST)
        assert (slot.owner, slot.slot) == (held.owner, held.slot)
        if slot:
            held.until = self.now + self.ttl
            assert (slot.token, slot.expires_at) == (held.token, START + held.until * MS)

    @rule(pick=st.integers(0, 30), which=st.integers(0, 1))
    def release(self, pick: int, which: int) -> None:
        """What is held is free, at once; what is not is lost, and whoever holds the slot now keeps it."""
        if not self.grants:
            return
        held = self.grants[-1 - pick % len(self.grants)]
        slot = self.slots(which).release(held.token, now=self.time)
        assert slot.outcome is (SlotOutcome.RELEASED if held.lives(self.now) else SlotOutcome.LOST)
        if slot:
            held.over = True

    @rule()
    def the_last_moment_comes(self) -> None:
        """Go to the very end of a slot, or to the millisecond before it, and act."""
        ends = [held.until for held in self.grants if not held.over and held.until is not None]
        ends = [end for end in ends if end > self.latest]
        if not ends:
            return
        for self.now in (min(ends) - 1, min(ends)):
            self.latest = max(self.latest, self.now)
            for owner in {held.owner for held in self.grants}:
                self.acquire(owner, None, None)

    @rule()
    def the_server_deletes_what_has_expired(self) -> None:
        """As its TTL index does: what has been free for five minutes by the latest clock."""
        free = START + (self.latest - 300_000) * MS
        self.collection.delete_many({"until": {"$lte": free}})

    @rule(token=st.builds(ObjectId))
    def somebody_guesses(self, token: ObjectId) -> None:
        """A token of a holder that never was moves nothing."""
        if self.grants:
            plan = self.slots()._plan
            guess = plan._token(self.grants[-1].owner, self.grants[-1].slot, token)
            assert self.slots().release(guess, now=self.time).outcome is SlotOutcome.LOST

    @invariant()
    def both_tell_the_same(self) -> None:
        """Who holds what, and how many, is what the model says; no slot exists twice."""
        if not hasattr(self, "grants"):
            return
        for owner in {held.owner for held in self.grants}:
            living = sorted(self.living(owner), key=lambda held: held.slot)
            assert len({held.slot for held in living}) == len(living)
            told = self.slots(1).holders(owner, now=self.time)
            assert [(held.slot, held.token, held.data) for held in told] == [
                (held.slot, held.token, held.data) for held in living
            ]
            assert [held.since for held in told] == [START + held.since * MS for held in living]
            assert self.slots(1).size(owner, now=self.time) == len(living)


def test_slots_do_what_a_plain_model_does(mongopatterns_db: Any) -> None:
    """Over random caps, times, owners and calls, every verdict equals the model's."""
    machine = type("Machine", (SlotsMachine,), {"database": staticmethod(lambda: mongopatterns_db)})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=EXAMPLES * 2 // 5,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
